"""What allocating a result costs: layer norm into a fresh np.empty, as numbanorm allocates, and into a given output.

Results are freed at once, as in a loop that only looks at each, or kept until there are 256 MB of them, as the
activations of a network are. Only the call is timed; memory that is kept is given back between turns.
"""

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from harness.machine import machine, set_threads, threads_of, warning
from harness.report import Cells, check_marks, short, show, write_table
from harness.terminal import open_console, progress
from harness.timing import ratio_of

import numbanorm as nbn
from numbanorm.arrays.huge import page_bytes

MB = 1 << 20
SIZES = (4, 8, 16, 24, 32, 40, 64, 256)
KEPT = 256  # MB
TABLE = "table of allocation"


def turn(call: Callable[[], object], keep: bool, number: int) -> tuple[float, float]:
    """Call so many times; return seconds of a call, the median, and the pages that were made for one."""
    call()  # its memory is freed, and is there for the next if results are freed
    kept, times, before = [], [], resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(number):
        start = time.perf_counter()
        result = call()
        if keep:
            kept.append(result)
        del result
        times.append(time.perf_counter() - start)
    pages = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    return statistics.median(times), pages / number


def measure(size: int, threads: int, keep: bool, rounds: int) -> Cells:
    """Measure one size, in turn (A B C C B A)."""
    x = np.random.default_rng(0).standard_normal((size * MB // 4096, 1024), np.float32)
    given = np.zeros_like(x)
    calls = {
        "np.empty": lambda: nbn.layer_norm(x, 1024, out=np.empty_like(x)),
        "numbanorm": lambda: nbn.layer_norm(x, 1024),
        "out=": lambda: nbn.layer_norm(x, 1024, out=given),
    }
    number = max(2, min(20, KEPT // size))
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name in (*calls, *reversed(calls)):
            found[name].append(turn(calls[name], keep, number))
    seconds = {name: [of for of, _ in turns] for name, turns in found.items()}
    against = {name: ratio_of(zip(seconds["np.empty"], seconds[name], strict=True)) for name in ("numbanorm", "out=")}
    return {
        "result": f"{size} MB, {'kept' if keep else 'freed'}",
        "threads": str(threads),
        "np.empty, ms": f"{1e3 * statistics.median(seconds['np.empty']):.3g}",
        "pages made": f"{statistics.median(pages for _, pages in found['np.empty']):.0f}",
        "as allocated here": short(against["numbanorm"].median),
        "95%": f"{short(against['numbanorm'].low)} to {short(against['numbanorm'].high)}",
        "pages": f"{statistics.median(pages for _, pages in found['numbanorm']):.0f}",
        "out=": short(against["out="].median),
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=threads_of, default=[nbn.get_num_threads()], metavar="N[,N]")
    parser.add_argument("--rounds", type=int, default=20, help="of turns, for each row (default: 20)")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="MB")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="put the table between the marks of this file")
    args = parser.parse_args(arguments)
    check_marks(args.markdown, TABLE)
    console = open_console()
    where = machine(" and ".join(map(str, args.threads)))
    console.print(f"{where}\n{warning(args.threads[-1])}")
    console.print(f"Huge pages have {page_bytes()} bytes." if page_bytes() else "There are no huge pages to be had.")
    work = [(size, number, keep) for keep in (False, True) for size in args.sizes for number in args.threads]
    cells = []
    with progress(console) as bar:
        for size, number, keep in bar.track(work, description=""):
            set_threads(number)
            cells.append(measure(size, number, keep, args.rounds))
    show(cells, console)
    text = (
        "Layer norm of float32, 1024 to a row: the time of a call into a fresh `np.empty`, the pages that are made for "
        "it, and how many times as fast it is as numbanorm allocates, and into a given output."
    )
    write_table(args.markdown, where, cells, TABLE, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
