"""Time numbanorm beside other libraries and a plain copy on the layers of real networks (cases.py).

Every contender is compared with float64 first. Then all run in turn, on the same values, with the same number of
threads. The exit status is 1 if a result of numbanorm is further from float64 than rounding explains.
"""

import argparse
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from harness.case import NORMS, Case
from harness.cases import CASES, select
from harness.contenders import DEFAULT, OWN, names
from harness.machine import machine, warning
from harness.measure import Row, measure_all
from harness.report import (
    accuracy,
    as_markdown,
    left_out,
    marks,
    note,
    show,
    summary,
    table_cells,
    write_json,
    write_markdown,
)
from harness.terminal import open_console

import numbanorm as nbn

QUICK = 4_000_000  # elements: --quick leaves larger cases out
MANY = 60  # rows: a picture of more than so many shows the README's


def threads_of(text: str) -> list[int]:
    """Read --threads: 1,4."""
    numbers = sorted({int(number) for number in text.split(",")})
    if not 1 <= numbers[0] <= numbers[-1] <= nbn.get_num_threads():
        raise argparse.ArgumentTypeError(f"between 1 and {nbn.get_num_threads()}, with commas between them")
    return numbers


def contender(text: str) -> str:
    """Read a name of --contenders, in capitals or not."""
    for name in ("all", *names()):
        if name.lower() == text.lower():
            return name
    raise argparse.ArgumentTypeError(f"no contender is named {text}; there are {', '.join(names())}")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_argument_group("which cases (default: all)")
    which.add_argument("--norm", nargs="+", choices=NORMS, help="of these norms")
    which.add_argument("--dtype", nargs="+", choices=sorted({case.dtype for case in CASES}), help="of these dtypes")
    which.add_argument("--name", metavar="TEXT", help="with this text in their label, such as resnet50 or 'last'")
    which.add_argument("--short", action="store_true", help="of the README's table")
    which.add_argument("--quick", action="store_true", help="of the README's table and small, timed briefly")
    which.add_argument("--smoke", action="store_true", help="all, at tiny sizes, run once: to see that they run")
    how = parser.add_argument_group("how")
    how.add_argument(
        "--contenders",
        nargs="+",
        type=contender,
        default=DEFAULT,
        metavar="NAME",
        help=f"beside numbanorm: {', '.join(names()[1:])}, or 'all' (default: {' '.join(DEFAULT[1:])})",
    )
    how.add_argument("--threads", type=threads_of, metavar="N[,N]", help="of each contender (default: all cores)")
    how.add_argument("--seconds", type=float, default=2.0, help="for each case and number of threads (default: 2)")
    to = parser.add_argument_group("where the results go, beside the terminal; Markdown goes between a file's marks")
    to.add_argument("--json", type=Path, metavar="FILE", help="everything")
    to.add_argument("--markdown", type=Path, metavar="FILE", help="the table")
    to.add_argument("--readme", type=Path, metavar="FILE", help="the README's rows of the table, most threads only")
    to.add_argument("--picture", type=Path, metavar="FILE", help=f"bars; of more than {MANY} rows, the README's")
    args = parser.parse_args()
    try:  # before all the measuring
        for path in (args.markdown, args.readme):
            if path and path.exists():
                marks(path)
    except ValueError as error:
        parser.error(str(error))
    args.threads = args.threads or [nbn.get_num_threads()]
    asked = names() if "all" in args.contenders else args.contenders
    args.contenders = list(dict.fromkeys((OWN, *asked)))
    return args


def chosen(args: argparse.Namespace) -> list[Case]:
    """Return the cases that the command line asks for, in the order of their norms."""
    cases = [
        case
        for case in select(CASES, args.norm, args.name)
        if (not args.dtype or case.dtype in args.dtype)
        and (case.readme or not (args.short or args.quick))
        and (not args.quick or math.prod(case.shape) <= QUICK)
    ]
    return list(dict.fromkeys(case.tiny() for case in cases)) if args.smoke else cases


def main() -> int:
    """Measure and report."""
    args = arguments()
    console = open_console()
    cases = chosen(args)
    if not cases:
        console.print("No case is like that.")
        return 3
    where = machine(" and ".join(map(str, args.threads)), args.contenders)
    console.print(where)
    if not args.smoke and (busy := warning()):
        console.print(f"[yellow]{busy}[/yellow]")

    start = time.perf_counter()
    seconds = 0.0 if args.smoke else 0.2 if args.quick else args.seconds
    rows = measure_all(cases, args.threads, seconds, console, args.contenders)
    for line in left_out(rows):
        console.print(line, style="yellow", markup=False)
    if not any(OWN in row.units for row in rows):
        console.print("[bold red]Nothing was measured.[/bold red]")
        return 3
    if not args.smoke:
        show(table_cells(rows), console)
        console.print("\n".join((note(rows), *summary(rows))))
    console.print(f"{len(rows)} rows in {time.perf_counter() - start:.0f} s. {accuracy(rows)}")
    write(args, where, rows)
    if any(row.failed for row in rows):
        console.print("[bold red]numbanorm is wrong, or did not run.[/bold red]")
        return 1
    return 0


def write(args: argparse.Namespace, where: str, rows: Sequence[Row]) -> None:
    """Write the files that the command line asks for."""
    most = [row for row in rows if row.threads == args.threads[-1]]
    most_threads = machine(args.threads[-1], args.contenders)
    short = [row for row in most if row.case.readme]
    if args.json:
        write_json(args.json, where, rows)
    if args.markdown:
        write_markdown(args.markdown, as_markdown(where, rows))
    if args.readme:
        write_markdown(args.readme, as_markdown(most_threads, short))
    if args.picture:
        from harness.picture import draw  # matplotlib takes a second to import

        draw(short if len(most) > MANY else most, most_threads, args.picture)


if __name__ == "__main__":
    sys.exit(main())
