"""Time numbanorm beside other libraries and a plain copy on the layers of real networks (cases.py).

Every contender is compared with float64 first. Then all run in turn, on the same values, with the same number of
threads, or on a GPU. The exit status is 1 if a result of numbanorm is further from float64 than rounding explains, or
a kernel of your own (see examples/variant.py) is wrong or raises an error; 2 if there is no GPU to measure on, 3 if
nothing was measured.
"""

import argparse
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.case import NORMS, Case
from harness.cases import FRONT, select
from harness.contenders import LIBRARIES, OWN, names
from harness.devices import DEVICES
from harness.gpu.device import NoGPU
from harness.machine import threads_of
from harness.measure import Row
from harness.report import accuracy, check_marks, in_order, left_out, show, write_json, write_markdown
from harness.terminal import open_console

QUICK = 4_000_000  # elements: --quick leaves larger cases out
DTYPES = {case.dtype for device in DEVICES.values() for case in device.cases}
MANY = 60  # rows: a picture of more than so many shows those of the short table


def contenders_of(asked: Sequence[str], known: Sequence[str]) -> list[str]:
    """Read --contenders, in capitals or not. numbanorm is always the first.

    Raises
    ------
    ValueError
        If nobody has such a name.
    """
    by_name = {name.lower(): [name] for name in known} | {"all": list(known)}
    for text in asked:
        if text.lower() not in by_name:
            raise ValueError(f"no contender is named {text}; there are {', '.join(known)}")
    return list(dict.fromkeys([OWN, *(name for text in asked for name in by_name[text.lower()])]))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_argument_group("which cases (default: all)")
    which.add_argument("--norm", nargs="+", choices=NORMS, help="of these norms")
    which.add_argument("--dtype", nargs="+", choices=sorted(DTYPES), help="of these dtypes")
    which.add_argument("--name", metavar="TEXT", help="with this text in their label, such as resnet50 or 'last'")
    which.add_argument("--short", action="store_true", help="of the short table, which docs/peers.md shows")
    which.add_argument("--quick", action="store_true", help="of the short table and small, timed briefly")
    which.add_argument("--backward", action="store_true", help="from the result's gradient to those of x and weights")
    which.add_argument("--smoke", action="store_true", help="all, at tiny sizes, run once: to see that they run")
    how = parser.add_argument_group("how")
    how.add_argument("--device", choices=DEVICES, default="cpu", help="the processor (default), or torch's current GPU")
    how.add_argument(
        "--contenders",
        nargs="+",
        metavar="NAME",
        help="beside numbanorm, or 'all'; "
        + "; ".join(
            f"{name}: {', '.join(names(d.contenders)[1:])} (default: {' '.join(d.usual[1:])})"
            for name, d in DEVICES.items()
        ),
    )
    how.add_argument("--threads", type=threads_of, metavar="N[,N]", help="of each contender (default: all cores)")
    how.add_argument("--seconds", type=float, default=2.0, help="for each case and number of threads (default: 2)")
    how.add_argument("--minutes", type=float, default=math.inf, help="for all: stop after the case in hand")
    to = parser.add_argument_group("where the results go, beside the terminal; Markdown goes between a file's marks")
    to.add_argument("--json", type=Path, metavar="FILE", help="everything")
    to.add_argument("--markdown", type=Path, metavar="FILE", help="the table")
    to.add_argument("--readme", type=Path, metavar="FILE", help="the README's rows of the table")
    to.add_argument("--picture", type=Path, metavar="FILE", help=f"bars; of more than {MANY} rows, the short table's")
    args = parser.parse_args()
    device = DEVICES[args.device]
    try:  # before all the measuring
        args.contenders = contenders_of(args.contenders or device.usual, names(device.contenders))
        for path in (args.markdown, args.readme):
            check_marks(path, device.section)
    except ValueError as error:
        parser.error(str(error))
    return args


def chosen(args: argparse.Namespace) -> list[Case]:
    """Return the cases that the command line asks for, in the order of their norms."""
    cases = [
        case
        for case in select(DEVICES[args.device].cases, args.norm, args.name)
        if (not args.dtype or case.dtype in args.dtype)
        and (case.readme or not (args.short or args.quick))
        and (not args.quick or math.prod(case.shape) <= QUICK)
    ]
    if args.backward:
        cases = [replace(case, backward=True) for case in cases if case.norm != "moments"]
    return list(dict.fromkeys(case.tiny() for case in cases)) if args.smoke else cases


def main() -> int:
    """Measure and report."""
    args = arguments()
    console = open_console()
    try:
        device = DEVICES[args.device](args.threads)
    except NoGPU as error:
        print(f"compare.py: nothing can be measured with --device {args.device}: {error}.", file=sys.stderr)
        return 2
    cases = chosen(args)
    if args.backward and args.device != "cpu":
        print("compare.py: nothing can be measured: --backward is for the processor.", file=sys.stderr)
        return 2
    if not cases:
        console.print("No case is like that.")
        return 3
    console.print(device.machine(args.contenders))
    if not args.smoke and (busy := device.warning()):
        console.print(f"[yellow]{busy}[/yellow]")

    start = time.perf_counter()
    seconds = 0.0 if args.smoke else 0.2 if args.quick else args.seconds
    rows = device.measure_all(cases, seconds, console, args.contenders, 60 * args.minutes)
    for line in left_out(rows):
        console.print(line, style="yellow", markup=False)
    if not any(OWN in row.units for row in rows):
        console.print("[bold red]Nothing was measured.[/bold red]")
        return 3
    if not args.smoke:
        show(device.report.table_cells(rows), console)
        console.print("\n".join((device.report.note(rows), *device.report.summary(rows))))
    console.print(f"{len(rows)} rows in {time.perf_counter() - start:.0f} s. {accuracy(rows)}")
    write(args, device, rows)
    if any(row.failed for row in rows):
        console.print("[bold red]numbanorm is wrong, or did not run.[/bold red]")
        return 1
    if broken := in_order(name for row in rows for name in row.broken if name not in (OWN, *LIBRARIES)):
        console.print(f"{', '.join(broken)}: wrong, or did not run.", style="bold red", markup=False)
        return 1
    return 0


def write(args: argparse.Namespace, device: Any, rows: Sequence[Row]) -> None:
    """Write the files that the command line asks for."""
    where, shortly = device.machine(args.contenders), device.machine(args.contenders, most=True)
    once = device.once(rows)
    short = [row for row in once if row.case.readme]
    if args.json:
        write_json(args.json, where, rows)
    if args.markdown:
        write_markdown(args.markdown, device.report.as_markdown(where, rows), device.section)
    if args.readme:
        front = [row for row in short if row.case in FRONT]
        write_markdown(args.readme, device.report.as_markdown(shortly, short, front), device.section)
    if args.picture:
        from harness.picture import draw  # matplotlib takes a second to import

        draw(short if len(once) > MANY else once, shortly, args.picture)


if __name__ == "__main__":
    sys.exit(main())
