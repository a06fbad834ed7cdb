"""A tour of numbanorm on real data: statistics, a picture, accuracy, and speed beside NumPy and torch.

It standardizes tables by column, normalizes photographs per image, per channel and per patch, runs the normalization
layers of real networks in their true shapes, and compares every result with a plain one in float64. The exit status is
1 if a result is further from that than rounding explains.
"""

import argparse
import datetime
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numba
import numpy as np
from layers import LAYERS, Arrays, Layer, of_data
from pictures import draw, photographs
from plain import numpy_norm, oracle
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from sklearn import datasets
from timing import interleaved, plain_copy

import numbanorm as nbn

try:
    import torch
except ImportError:  # the comparison with torch is left out
    torch = None

LIMIT = 4.0  # units of rounding: a result is rounded at most eight times, by half a unit each
QUICK = 4_000_000  # elements: --quick leaves larger layers out
NOTE = (
    "Times in ms. × NumPy, × torch: their time by numbanorm's. copies: numbanorm's time by that of a plain copy.\n"
    "off by: the largest difference from float64. NumPy works in place (plain.py)."
)


@dataclass(frozen=True)
class Row:
    """What was measured of one layer."""

    layer: Layer
    off: float  # numbanorm's largest difference from float64 ...
    units: dict[str, float]  # ... and each contender's in units of rounding (see plain.oracle)
    seconds: dict[str, float]  # a call of each contender
    first_call: float  # seconds of numbanorm's first call, compilation included

    def ratio(self, name: str) -> float:
        """Return how many times longer than numbanorm another takes."""
        return self.seconds[name] / self.seconds["numbanorm"]


def tables() -> list[Layer]:
    """Return scikit-learn's tables, standardized by column; eps=0, as some columns vary by less than 1e-2."""
    loaders = {
        "wine": datasets.load_wine,
        "breast cancer": datasets.load_breast_cancer,
        "diabetes": datasets.load_diabetes,
        "digits": datasets.load_digits,
    }
    found = {name: load().data for name, load in loaders.items()}
    return [of_data(f"{name}, by column", x, "row col -> col", x.shape, (0,), eps=0) for name, x in found.items()]


def photo_norms(photos: np.ndarray, p: int = 48) -> list[Layer]:
    """Return photographs (n, h, w, c) normalized per image, per channel and per patch of p by p pixels."""
    n, h, w, c = photos.shape
    patches = (n, h // p, p, w // p, p, c)
    pattern = "n (h p) (w q) c -> n h w"
    return [
        of_data("photographs, per image", photos, "n h w c -> n", photos.shape, (1, 2, 3), eps=1e-5),
        of_data("photographs, per channel", photos, "n h w c -> n c", photos.shape, (1, 2), eps=1e-5),
        of_data("photographs, per patch", photos, pattern, patches, (2, 4, 5), eps=1e-5, p=p, q=p),
    ]


def measure(layer: Layer, seconds: float) -> Row:
    """Compare one layer with the oracle, then (seconds > 0) time it beside NumPy, torch and a plain copy."""
    a = layer.arrays()
    truth = oracle(layer, a)
    start = time.perf_counter()
    y = layer.numbanorm(a)
    first_call = time.perf_counter() - start
    off, units = float(np.abs(y - truth.y).max()), {"numbanorm": max(truth.units(y), truth.running_units(a))}
    if not seconds:
        return Row(layer, off, units, {}, first_call)
    others: dict[str, Callable[[], np.ndarray]] = {"NumPy": lambda: numpy_norm(layer, a)}
    if torch:
        tensors = Arrays(**{name: None if v is None else torch.from_numpy(v) for name, v in vars(a).items()})
        others["torch"] = lambda: layer.torch(torch, tensors)
    units |= {name: truth.units(np.asarray(call())) for name, call in others.items()}
    calls = {"numbanorm": lambda: layer.numbanorm(a), **others, "copy": lambda: plain_copy(a.x)}
    return Row(layer, off, units, interleaved(calls, seconds), first_call)


def measure_all(layers: Sequence[Layer], seconds: float, console: Console) -> list[Row]:
    """Measure one layer after the other, with a progress bar if there is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    rows = []
    quiet = not console.is_terminal
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True, disable=quiet) as progress:
        task = progress.add_task("", total=len(layers))
        for layer in layers:
            progress.update(task, description=f"compile and measure: {layer.name:36}")
            rows.append(measure(layer, seconds))
            progress.advance(task)
    return rows


# the report -----------------------------------------------------------------------------------------------------


def machine(threads: int) -> str:
    """Say on what was measured, in two lines."""
    cpu, info = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if info.exists():
        models = [line.split(": ", 1)[1] for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = models[0] if models else cpu
    packages = ("numbanorm", "numpy", "numba", "torch") if torch else ("numbanorm", "numpy", "numba")
    return (
        f"{cpu}, {os.cpu_count()} cores, {threads} threads, {platform.system()}, {datetime.date.today()}\n"
        f"Python {platform.python_version()}, {', '.join(f'{name} {version(name)}' for name in packages)}"
    )


def by(shape: tuple[int, ...]) -> str:
    """Write a shape: 32×64×7×7."""
    return "×".join(map(str, shape))


def spread(values: np.ndarray) -> str:
    """Write the smallest and the largest value: 0.1 … 3."""
    return f"{values.min():.2g} … {values.max():.2g}"


def short(ratio: float) -> str:
    """Write a ratio: 0.92, 8.31, 41."""
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"


Cells = dict[str, str]


def statistics_cells(row: Row) -> Cells:
    """Write the statistics of the groups of real data before and after."""
    layer, a = row.layer, row.layer.arrays()
    before = nbn.moments(a.x, layer.pattern, **layer.sizes)
    after = nbn.moments(layer.numbanorm(a), layer.pattern, **layer.sizes)
    return {
        "data": layer.name,
        "shape": by(layer.shape),
        "groups": str(before.mean.size),
        "mean": spread(before.mean),
        "std": spread(before.std()),
        "mean after": f"±{np.abs(after.mean).max():.0e}",
        "std after": spread(after.std()),
        "off by": f"{row.off:.0e}",
    }


def speed_cells(row: Row) -> Cells:
    """Write the times of a layer in milliseconds, and how they compare."""
    others = ("NumPy", "torch") if torch else ("NumPy",)
    return {
        "layer": row.layer.name,
        "shape": by(row.layer.shape),
        **{name: f"{row.seconds[name] * 1e3:.3g}" for name in ("numbanorm", *others)},
        **{f"× {name}": short(row.ratio(name)) for name in others},
        "copies": short(1 / row.ratio("copy")),
        "off by": f"{row.off:.0e}",
    }


def show(rows: Sequence[Cells], console: Console) -> None:
    """Print a table."""
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    for number, heading in enumerate(rows[0]):
        table.add_column(heading, justify="left" if number < 2 else "right", no_wrap=number != 0)
    for row in rows:
        table.add_row(*row.values())
    console.print(table)


def markdown(rows: Sequence[Cells]) -> str:
    """Write a table as Markdown."""
    head = list(rows[0])
    lines = [head, [":--" if number < 2 else "--:" for number in range(len(head))], *(row.values() for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def summary(rows: Sequence[Row]) -> str:
    """Say by how much numbanorm is faster: geometric mean, worst row, rows won."""
    lines = []
    for name in ("NumPy", "torch") if torch else ("NumPy",):
        ratios = [row.ratio(name) for row in rows]
        worst = min(rows, key=lambda row: row.ratio(name))
        lines.append(
            f"Beside {name}: {statistics.geometric_mean(ratios):.1f} times as fast (geometric mean), "
            f"faster on {sum(ratio > 1 for ratio in ratios)} of {len(rows)} rows; "
            f"worst {worst.ratio(name):.2f}, {worst.layer.name} {by(worst.layer.shape)}."
        )
    return "\n".join(lines)


def accuracy(rows: Sequence[Row]) -> str:
    """Say how far each contender is from float64."""
    parts = []
    for name in rows[0].units:
        worst = max(rows, key=lambda row: row.units[name])
        parts.append(f"{name} {worst.units[name]:.3g} ({worst.layer.name})")
    return f"Largest difference from float64, in units of rounding: {', '.join(parts)}."


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small layers only")
    most = nbn.get_num_threads()
    number = {"type": int, "default": most, "choices": range(1, most + 1), "metavar": "N"}
    parser.add_argument("--threads", **number, help=f"of each contender (default: {most})")
    parser.add_argument("--output", type=Path, default=Path("build/tour"), metavar="DIR", help="for the picture")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table of times into this file")
    return parser.parse_args()


def main() -> int:
    """Run the tour; 1 if a result is wrong."""
    args = arguments()
    nbn.set_num_threads(args.threads)
    numba.set_num_threads(args.threads)  # for the plain copy
    if torch:
        torch.set_num_threads(args.threads)
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(machine(args.threads))
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > 0.5:
        console.print(f"[yellow]The machine is busy (load {load:.1f}): times will be too long, unevenly.[/yellow]")

    photos = photographs()
    of_tables, of_photos = tables(), photo_norms(photos)
    console.print("\n[bold]Real data, before and after[/bold] (smallest … largest of all groups)")
    checked = measure_all([*of_tables, *of_photos], 0, console)
    show([statistics_cells(row) for row in checked], console)
    pictures = {f"{layer.name.split(', ')[1]}\n{layer.pattern}": layer.numbanorm(layer.arrays()) for layer in of_photos}
    draw({"before": photos, **pictures}, args.output / "photographs.png")
    console.print(f"The photographs before and after: {args.output / 'photographs.png'}")

    layers = [of_tables[1], *of_photos, *LAYERS]
    if args.quick:
        layers = [layer for layer in layers if np.prod(layer.shape) <= QUICK]
    console.print(f"\n[bold]Speed[/bold]: {len(layers)} layers, the median of calls made in turn")
    rows = measure_all(layers, 0.1 if args.quick else 1.0, console)
    cells = [speed_cells(row) for row in rows]
    show(cells, console)
    console.print(f"{NOTE}\n{summary(rows)}")
    if args.markdown:
        text = (machine(args.threads), "", markdown(cells), NOTE, "", summary(rows), "", accuracy(rows), "")
        args.markdown.write_text("\n".join(text), "utf-8")

    first_calls = sum(row.first_call for row in (*checked, *rows))
    console.print(f"Compilation and first calls: {first_calls:.1f} s.")
    console.print(accuracy(rows))
    if max(row.units["numbanorm"] for row in (*checked, *rows)) > LIMIT:
        console.print(f"[bold red]numbanorm is off by more than {LIMIT:g} units: wrong.[/bold red]")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
