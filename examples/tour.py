"""A tour of numbanorm on real data: statistics, a picture, accuracy, and speed beside NumPy and torch.

It standardizes tables by column, normalizes photographs per image, per channel and per patch, runs the normalization
layers of real networks in their true shapes, and compares every result with a plain one in float64. The exit status is
1 if a result is further from that than rounding explains. asv_benchmarks/compare.py measures more layers, and longer.
"""

import argparse
import math
import sys
from pathlib import Path

import numpy as np
from pictures import draw, photographs
from real import Real, photo_norms, tables

import numbanorm as nbn

sys.path.insert(0, str(Path(__file__).parents[1] / "asv_benchmarks"))
from harness.case import by
from harness.cases import CASES
from harness.contenders import OWN
from harness.machine import machine, set_threads, warning
from harness.measure import Row, measure_all
from harness.report import Cells, accuracy, left_out, note, show, summary, table_cells
from harness.terminal import open_console

QUICK = 1_000_000  # elements: --quick leaves larger layers out


def spread(values: np.ndarray) -> str:
    """Write the smallest and the largest value: 0.1 … 3."""
    return f"{values.min():.2g} … {values.max():.2g}"


def statistics_cells(case: Real, row: Row) -> Cells:
    """Write the statistics of the groups of real data before and after."""
    x = case.values
    y = nbn.normalize(x, case.pattern, eps=case.eps, **case.sizes)
    before, after = (nbn.moments(array, case.pattern, **case.sizes) for array in (x, y))
    return {
        "data": case.name,
        "shape": by(case.shape),
        "groups": str(before.mean.size),
        "mean": spread(before.mean),
        "std": spread(before.std()),
        "mean after": f"±{np.abs(after.mean).max():.0e}",
        "std after": spread(after.std()),
        "off by": f"{row.off[OWN]:.0e}",
    }


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small layers only")
    most = nbn.get_num_threads()
    number = {"type": int, "default": most, "choices": range(1, most + 1), "metavar": "N"}
    parser.add_argument("--threads", **number, help=f"of each contender (default: {most})")
    parser.add_argument("--output", type=Path, default=Path("build/tour"), metavar="DIR", help="for the picture")
    return parser.parse_args()


def main() -> int:
    """Run the tour; 1 if a result is wrong."""
    args = arguments()
    set_threads(args.threads)
    console = open_console()
    console.print(machine(args.threads))
    if busy := warning():
        console.print(f"[yellow]{busy}[/yellow]")

    photos = photographs()
    of_tables, of_photos = tables(), photo_norms(photos)
    console.print("\n[bold]Real data, before and after[/bold] (smallest … largest of all groups)")
    real = [*of_tables, *of_photos]
    checked = measure_all(real, [args.threads], None, console, [OWN])
    show([statistics_cells(*pair) for pair in zip(real, checked, strict=True)], console)
    pictures = {
        f"{case.name.split(', ')[1]}\n{case.pattern}": nbn.normalize(photos, case.pattern, **case.sizes)
        for case in of_photos
    }
    draw({"before": photos, **pictures}, args.output / "photographs.png")
    console.print(f"The photographs before and after: {args.output / 'photographs.png'}")

    layers = [of_tables[1], *of_photos, *(case for case in CASES if case.readme)]
    if args.quick:
        layers = [layer for layer in layers if math.prod(layer.shape) <= QUICK]
    console.print(f"\n[bold]Speed[/bold]: {len(layers)} layers, the median of calls made in turn")
    rows = measure_all(layers, [args.threads], 0.2 if args.quick else 1.0, console)
    for line in left_out(rows):
        console.print(line, style="red", markup=False)
    show(table_cells(rows), console)
    console.print("\n".join((note(rows), *summary(rows))))

    first_calls = sum(row.first_call for row in (*checked, *rows))
    console.print(f"Compilation and first calls: {first_calls:.1f} s.\n{accuracy(rows)}")
    if any(row.failed for row in (*checked, *rows)):
        console.print("[bold red]numbanorm is wrong, or did not run.[/bold red]")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
