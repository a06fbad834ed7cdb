"""A tour of numbanorm on real data: statistics, a picture, accuracy, and speed beside NumPy and torch.

It standardizes tables by column, normalizes photographs per image, per channel and per patch, runs the normalization
layers of real networks in their true shapes, and compares every result with a plain one in float64. The exit status is
1 if a result is further from that than rounding explains. asv_benchmarks/compare.py measures more layers, and longer.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from explain import worst_row
from pictures import draw, photographs
from real import Real, photo_norms, tables
from rich.console import Console

import numbanorm as nbn

sys.path.insert(0, str(Path(__file__).parents[1] / "asv_benchmarks"))
from harness.case import Case, by
from harness.cases import CASES
from harness.contenders import OWN
from harness.machine import machine, set_threads, warning
from harness.measure import Row, measure_all
from harness.report import Cells, accuracy, left_out, note, show, summary, table_cells
from harness.terminal import open_console

QUICK = 1_000_000  # elements: --quick leaves larger layers out


def spread(values: np.ndarray) -> str:
    """Write the smallest and the largest value: 0.1 … 3."""
    return f"{number(values.min())} … {number(values.max())}"


def number(value: float) -> str:
    """Write two digits, whole numbers whole, and of what is next to nothing one: 0.12, 880, 9e-17."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.0e}" if 0 < abs(value) < 1e-4 else f"{value:.2g}"


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
        "mean after": f"±{number(np.abs(after.mean).max())}",
        "std after": spread(after.std()),
        "off by": f"{row.off[OWN]:.0e}" if OWN in row.off else "-",
    }


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small layers only, timed briefly")
    most = nbn.get_num_threads()
    number = {"type": int, "default": most, "choices": range(1, most + 1), "metavar": "N"}
    parser.add_argument("--threads", **number, help=f"of each contender (default: {most})")
    parser.add_argument("--output", type=Path, default=Path("build/tour"), metavar="DIR", help="for the picture")
    return parser.parse_args()


def say(console: Console, text: str, *lines: str) -> None:
    """Print a paragraph, and lines that stand for themselves."""
    console.print(" ".join(text.split()), *lines, sep="\n", markup=False)


def show_real_data(console: Console, cases: Sequence[Real], threads: int) -> list[Row]:
    """Step 1."""
    console.print("\n[bold]1. Real data, before and after[/bold]")
    say(
        console,
        """A pattern says which values share a mean: "row col -> col" makes a group of each column, "n h w c -> n" one
        of each photograph. groups: how many there are. mean, std: the smallest … largest of their means and standard
        deviations, before and after. off by: the largest difference from the same in plain float64.""",
    )
    rows = measure_all(cases, [threads], None, console, [OWN])
    show([statistics_cells(*pair) for pair in zip(cases, rows, strict=True)], console)
    constant = [case.name for case in cases if nbn.moments(case.values, case.pattern, **case.sizes).std().min() == 0]
    say(
        console,
        """Afterwards every group has mean 0, but for rounding, and standard deviation 1, or a little less where eps
        matters, as its values hardly differ: what was a hundred times as large now counts as much as the rest.""",
        *[f'In "{name}" some groups are constant. They become 0, not NaN: their std stays 0.' for name in constant],
    )
    return rows


def show_photographs(console: Console, photos: np.ndarray, cases: Sequence[Real], path: Path) -> None:
    """Step 2."""
    pictures = {
        f"{case.name.split(', ')[1]}\n{case.pattern}": nbn.normalize(photos, case.pattern, **case.sizes)
        for case in cases
    }
    draw({"before": photos, **pictures}, path)
    console.print("\n[bold]2. The same photographs, by three patterns[/bold]")
    say(
        console,
        """Only the groups differ. Per image, all get the same brightness and contrast. Per channel, a tint goes too.
        Per patch of 48 by 48 pixels, shadows become as clear as lights, and the edges of patches show.""",
        f"Look at {path}",
    )


def show_speed(console: Console, cases: Sequence[Case], threads: int, seconds: float) -> list[Row]:
    """Step 3."""
    console.print(f"\n[bold]3. Speed[/bold], on {threads} thread{'s' * (threads > 1)}")
    say(
        console,
        f"""{len(cases)} layers: of real networks in their true shapes, and of the data above. Every result is checked.
        Then numbanorm, NumPy and torch are called in turn on the same array, so that what slows the machine slows all.
        A ratio (×) above 1 means that numbanorm is faster.""",
    )
    rows = measure_all(cases, [threads], seconds, console)
    for line in left_out(rows):
        console.print(line, style="red", markup=False)
    show(table_cells(rows), console)
    say(console, note(rows))
    console.print("\n[bold]In short[/bold]")
    for line in (*summary(rows), worst_row(rows)):
        console.print(line, markup=False)
    return rows


def show_accuracy(console: Console, checked: Sequence[Row], rows: Sequence[Row]) -> None:
    """Step 4."""
    console.print("\n[bold]4. Accuracy, and the price of the first call[/bold]")
    first_calls = sum(row.first_call for row in (*checked, *rows))
    say(
        console,
        f"""{accuracy(rows)} 1 is the spacing of two neighbouring numbers: about 1 is as good as it gets.
        Compiling, or loading what was compiled before, and first calls took {first_calls:.1f} s in all. What is
        compiled is kept: run the tour again, and see.""",
    )


def main() -> int:
    """Run the tour; 1 if a result is wrong."""
    args = arguments()
    set_threads(args.threads)
    console = open_console()
    console.print(machine(args.threads), markup=False)
    if busy := warning(args.threads):
        console.print(busy, style="yellow", markup=False)

    photos = photographs()
    of_tables, of_photos = tables(), photo_norms(photos)
    checked = show_real_data(console, [*of_tables, *of_photos], args.threads)
    show_photographs(console, photos, of_photos, args.output / "photographs.png")

    layers = [of_tables[1], *of_photos, *(case for case in CASES if case.readme)]
    if args.quick:
        layers = [layer for layer in layers if math.prod(layer.shape) <= QUICK]
    rows = show_speed(console, layers, args.threads, 0.2 if args.quick else 1.0)
    show_accuracy(console, checked, rows)
    if any(row.failed for row in (*checked, *rows)):
        console.print("[bold red]numbanorm is wrong, or did not run.[/bold red]")
        return 1
    console.print("\nNext: README.md has the functions, asv_benchmarks/compare.py more layers and libraries.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
