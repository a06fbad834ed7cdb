"""Mean and variance by label beside pandas, numbagg and NumPy: times, and how far each variance is from the truth.

Values have mean 1e6 and standard deviation 1, so that a formula that loses digits shows it: an answer that is wrong is
no rival. `normalize` is held against a copy of x.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from harness.machine import machine, set_threads, threads_of, warning
from harness.report import Cells, check_marks, short, show, write_table
from harness.terminal import open_console, progress
from harness.timing import interleaved

import numbanorm as nbn

TABLE = "table of groups"
OWN, COPY = "numbanorm", "copy"
CONTENDERS = (OWN, "pandas", "numbagg", "NumPy", COPY)

Calls = Mapping[str, Callable[[], Any]]


@dataclass(frozen=True)
class Task:
    """So many rows of values, each with a label of so many."""

    rows: int
    columns: int
    labels: int
    order: str = "random"  # or "in order", or "skewed": a third has one label
    output: bool = False  # normalize, not moments

    @property
    def name(self) -> str:
        """Say what is grouped."""
        shape = f"{self.rows:,}" if self.columns == 1 else f"{self.rows:,} × {self.columns}"
        return f"{'normalize, ' if self.output else ''}{shape}, {self.labels:,} labels, {self.order}"

    def share(self, n: int) -> "Task":
        """Return the same task with an n-th of the rows and of the labels."""
        return replace(self, rows=max(1, self.rows // n), labels=max(2, self.labels // n))

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Return values and labels."""
        rng = np.random.default_rng(0)
        x = 1e6 + rng.standard_normal((self.rows, self.columns) if self.columns > 1 else self.rows)
        labels = rng.integers(0, self.labels, self.rows)
        if self.order == "skewed":
            labels[rng.random(self.rows) < 1 / 3] = self.labels // 2
        return x, np.sort(labels) if self.order == "in order" else labels


MILLION = 1_000_000
TASKS = (
    Task(10 * MILLION, 1, 1000),
    Task(10 * MILLION, 1, 1000, "in order"),
    Task(10 * MILLION, 1, 1000, "skewed"),
    Task(10 * MILLION, 1, MILLION),
    Task(10 * MILLION, 1, MILLION, "in order"),
    Task(MILLION, 7, 1000),
    Task(200_000, 64, 1000),
    Task(200_000, 64, 100_000),
    Task(10 * MILLION, 1, 1000, output=True),
    Task(10 * MILLION, 1, 1000, "in order", output=True),
)


def by_pandas(x: np.ndarray, labels: np.ndarray, number: int) -> Callable[[], Any]:
    """Only the variance, which is the faster way: asked for mean and variance pandas goes through x twice."""
    import pandas as pd

    frame = pd.DataFrame(x) if x.ndim > 1 else pd.Series(x)
    return lambda: frame.groupby(labels).var(ddof=0).reindex(range(number)).to_numpy()


def by_numbagg(x: np.ndarray, labels: np.ndarray, number: int) -> Callable[[], Any]:
    """Only the variance, too; values of a group lie along the last axis."""
    import numbagg

    values = x.T
    return lambda: numbagg.group_nanvar(values, labels, axis=-1, num_labels=number, ddof=0).T


def by_numpy(x: np.ndarray, labels: np.ndarray, number: int) -> Callable[[], Any]:
    """Two passes by bincount, column by column."""

    def variance(column: np.ndarray, count: np.ndarray) -> np.ndarray:
        mean = np.bincount(labels, column, number) / count
        return np.bincount(labels, (column - mean[labels]) ** 2, number) / count

    def call() -> np.ndarray:
        with np.errstate(all="ignore"):
            count = np.bincount(labels, minlength=number)
            return np.array([variance(column, count) for column in x.reshape(len(x), -1).T]).T

    return call


def truth(x: np.ndarray, labels: np.ndarray, number: int) -> np.ndarray:
    """The variances in extended precision, from sums over runs of equal labels."""
    order = np.argsort(labels, kind="stable")
    found, begins = np.unique(labels[order], return_index=True)
    lengths = np.diff(begins, append=labels.size)
    variances = np.full((number, *x.shape[1:]), np.nan)
    for column in range(1 if x.ndim == 1 else x.shape[1]):
        values = x.reshape(len(x), -1)[order, column].astype(np.longdouble)
        mean = np.add.reduceat(values, begins) / lengths
        values -= np.repeat(mean, lengths)
        variances.reshape(number, -1)[found, column] = np.add.reduceat(values * values, begins) / lengths
    return variances


def calls_of(task: Task, x: np.ndarray, labels: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Return what is timed, by contender; who is not installed is left out."""
    axis, number = (0 if x.ndim > 1 else None), task.labels
    if task.output:
        out = np.zeros_like(x)
        return {
            OWN: lambda: nbn.normalize(x, axis=axis, labels=labels, num_labels=number, out=out),
            COPY: lambda: np.copyto(out, x),
        }
    calls: dict[str, Callable[[], Any]] = {
        OWN: lambda: nbn.moments(x, axis=axis, labels=labels, num_labels=number).var()
    }
    for name, make in (("pandas", by_pandas), ("numbagg", by_numbagg), ("NumPy", by_numpy)):
        try:
            calls[name] = make(x, labels, number)
        except ImportError:
            continue
    return calls


def errors(calls: Calls, x: np.ndarray, labels: np.ndarray, number: int) -> dict[str, float]:
    """The largest relative error of a variance, of labels with at least two different values."""
    right = truth(x, labels, number)
    found = {}
    for name, call in calls.items():
        with np.errstate(all="ignore"):
            off = np.abs(np.asarray(call()).reshape(right.shape) / right - 1)
        found[name] = float(np.max(off[right > 0], initial=0.0))
    return found


def measure(task: Task, threads: int, seconds: float) -> Cells:
    """Measure one task."""
    x, labels = task.arrays()
    calls = calls_of(task, x, labels)
    off = {} if task.output else errors(calls, x, labels, task.labels)
    times = interleaved(calls, seconds)
    cells = {"values, labels": task.name, "threads": str(threads), "numbanorm, ms": f"{1e3 * times[OWN]:.3g}"}
    for name in CONTENDERS[1:]:
        cells[f"× {name}"] = short(times.ratio(name, OWN).median) if name in calls else "-"
    for name in CONTENDERS[:-1]:
        cells["error" if name == OWN else f"error of {name}"] = f"{off[name]:.0e}" if name in off else "-"
    return cells


def main(arguments: list[str] | None = None) -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=threads_of, default=[nbn.get_num_threads()], metavar="N[,N]")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each row (default: 4)")
    parser.add_argument(
        "--share", type=int, default=1, metavar="N", help="an N-th of the rows and labels: to see that it runs"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="put the table between the marks of this file")
    args = parser.parse_args(arguments)
    check_marks(args.markdown, TABLE)
    console = open_console()
    where = machine(" and ".join(map(str, args.threads)), CONTENDERS[:-1])
    console.print(f"{where}\n{warning(args.threads[-1])}")
    cells = []
    with progress(console) as bar:
        for task, threads in bar.track([(task, n) for task in TASKS for n in args.threads], description=""):
            set_threads(threads)
            cells.append(measure(task.share(args.share), threads, args.seconds))
    show(cells, console)
    write_table(args.markdown, where, cells, TABLE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
