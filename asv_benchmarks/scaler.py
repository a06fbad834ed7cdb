"""numbanorm.sklearn.StandardScaler beside scikit-learn's own: fit, partial_fit and transform of a table, in turn.

Values have mean 1e6 and standard deviation 1. The errors are those of the variances of one fit. `X.copy()`, measured in
turn with them, is the least that a result in new memory can take.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from harness.machine import machine, set_threads, threads_of, warning
from harness.report import Cells, check_marks, short, show, write_table
from harness.terminal import open_console, progress
from harness.timing import interleaved
from sklearn.preprocessing import StandardScaler

import numbanorm as nbn
import numbanorm.sklearn

TABLE = "table of scalers"
OWN, PEER, COPY = "numbanorm", "scikit-learn", "X.copy()"
SCALERS = {OWN: numbanorm.sklearn.StandardScaler, PEER: StandardScaler}
NEW = ("transform", "inverse_transform")  # whose result is in new memory, and all they make
WORK = ("fit", "partial_fit", "transform", "fit_transform", "inverse_transform", "transform, copy=False")


@dataclass(frozen=True)
class Table:
    """A table of so many rows."""

    rows: int = 1_000_000
    columns: int = 50
    dtype: str = "float64"
    holes: bool = False

    @property
    def name(self) -> str:
        """Say what is scaled."""
        return f"{self.rows:,} × {self.columns}, {self.dtype}{', 1% NaN' if self.holes else ''}"

    def values(self) -> np.ndarray:
        """Return the table."""
        rng = np.random.default_rng(0)
        x = 1e6 + rng.standard_normal((self.rows, self.columns))
        if self.holes:
            x[rng.random(x.shape) < 0.01] = np.nan
        return x.astype(self.dtype)


TABLES = (Table(), Table(dtype="float32"), Table(holes=True))


def call_of(scaler: Any, work: str, x: np.ndarray) -> Callable[[], Any]:
    """Return what is timed: a piece of work by a scaler that has been fitted."""
    scaler.fit(x)
    if work == "transform, copy=False":  # the same table again and again: numbers stay in range, and times the same
        return lambda: scaler.transform(x, copy=False)
    return lambda: getattr(scaler, work)(x)


def error(scaler: Any, x: np.ndarray) -> float:
    """The largest relative error of a variance, against extended precision."""
    right = [np.nanvar(column.astype(np.longdouble)) for column in x.T]
    return float(np.max(np.abs(scaler.fit(x).var_ / np.array(right) - 1)))


def measure(table: Table, threads: int, seconds: float) -> list[Cells]:
    """Measure one table: a row for each piece of work."""
    x, rows = table.values(), []
    errors = {name: f"{error(scaler(), x):.0e}" for name, scaler in SCALERS.items()}
    for work in WORK:
        own = x.copy() if "copy" in work else x
        calls = {name: call_of(scaler(), work, own) for name, scaler in SCALERS.items()}
        times = interleaved(calls | ({COPY: own.copy} if work in NEW else {}), seconds)
        cells = {"work": work, "table": table.name, "threads": str(threads), "numbanorm, ms": f"{1e3 * times[OWN]:.3g}"}
        cells[f"× {PEER}"] = short(times.ratio(PEER, OWN).median)
        cells[f"× {COPY}"] = short(times.ratio(COPY, OWN).median) if work in NEW else "-"
        fits = "fit" in work
        cells |= {f"error of {name}": off if fits else "-" for name, off in errors.items()}
        rows.append(cells)
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=threads_of, default=[nbn.get_num_threads()], metavar="N[,N]")
    parser.add_argument("--seconds", type=float, default=6.0, help="for each row (default: 6)")
    parser.add_argument("--share", type=int, default=1, metavar="N", help="an N-th of the rows: to see that it runs")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="put the table between the marks of this file")
    args = parser.parse_args(arguments)
    check_marks(args.markdown, TABLE)
    console = open_console()
    where = machine(" and ".join(map(str, args.threads)), (OWN, PEER))
    console.print(f"{where}\n{warning(args.threads[-1])}")
    cells = []
    with progress(console) as bar:
        for table, threads in bar.track([(table, n) for table in TABLES for n in args.threads], description=""):
            set_threads(threads)
            cells += measure(replace(table, rows=max(2, table.rows // args.share)), threads, args.seconds)
    show(cells, console)
    write_table(args.markdown, where, cells, TABLE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
