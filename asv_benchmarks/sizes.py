"""How the speed of every norm depends on size, dtype and number of threads. All calls write into a given output.

share:    share of the speed of the fastest copy, from 64 KB to 1 GB
elements: time for each element, from 16 MB to 4 GB (as far as half of memory holds input and output)
dtypes:   float16, bfloat16 and float64 beside float32
threads:  from one thread to all, on arrays that fit the caches
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from harness.case import Arrays, Call, Case, dtype_of
from harness.contenders import CONTENDERS, OWN
from harness.copying import copies, reading
from harness.machine import cache_bytes, machine, set_threads, warning
from harness.measure import reads_twice
from harness.report import Cells, markdown, marks, short, show, write_markdown
from harness.terminal import open_console, progress
from harness.timing import interleaved
from rich.progress import Progress

import numbanorm as nbn

KB, MB, GB = 1 << 10, 1 << 20, 1 << 30
UNIT = 16384  # elements, 64 KB of float32: every array is a whole number of them


def families(units: int) -> dict[str, Case]:
    """Return a case of every norm with so many UNITs of elements, in shapes like those of networks."""
    n, first, last = units, (units, 64, 16, 16), (units, 16, 16, 64)
    return {
        "layer norm": Case("size", "layer_norm", (16 * n, 1024), last=True),
        "RMS norm": Case("size", "rms_norm", (16 * n, 1024), last=True),
        "instance norm": Case("size", "instance_norm", (n, 16, 32, 32)),
        "group norm": Case("size", "group_norm", first, groups=8),
        "group norm, channels last": Case("size", "group_norm", last, groups=8, last=True),
        "batch norm, evaluation": Case("size", "batch_norm_eval", first),
        "batch norm, training": Case("size", "batch_norm", (16, n, 32, 32)),
        "batch norm, training, channels last": Case("size", "batch_norm", last, last=True),
    }


def arrays(case: Case) -> tuple[Arrays, np.ndarray]:
    """Return a case's arrays and an output. x repeats its beginning: gigabytes of random numbers would take minutes."""
    x = np.empty(case.shape, dtype_of(case.dtype))
    begin = np.random.default_rng(0).standard_normal(UNIT, np.float32) * np.float32(2) + np.float32(1)
    x.reshape(-1, UNIT)[...] = begin.astype(x.dtype)
    out = np.empty_like(x)
    out.fill(0)  # its pages come into being now
    return case.arrays(x), out


def call_into(case: Case, a: Arrays, out: np.ndarray) -> Call:
    """Return numbanorm's call that writes to `out`."""
    call = CONTENDERS[case.norm][OWN](case, a, out)
    assert call is not None
    return call


def powers(first: int, last: int, factor: int = 4) -> list[int]:
    """Return sizes from first to last bytes of float32, in UNITs."""
    sizes = []
    while first <= last:
        sizes.append(max(1, first // (4 * UNIT)))
        first *= factor
    return sizes


def fitting(units: Sequence[int]) -> list[int]:
    """Keep the sizes whose input and output fit half of memory."""
    half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2 if hasattr(os, "sysconf") else 4 * GB
    return [n for n in units if 8 * UNIT * n <= half]


def size_text(units: int) -> str:
    """Write a size: 64 KB, 4 MB, 1 GB."""
    size = 4 * UNIT * units
    for unit, name in ((GB, "GB"), (MB, "MB"), (KB, "KB")):
        if size >= unit:
            return f"{size / unit:g} {name}"
    return f"{size} B"


Measured = dict[str, dict[int, float]]  # {name of a norm: {units: number}}


def per_norm(units: Sequence[int], track: Callable, measure: Callable[[Case], float]) -> Measured:
    """Measure every norm at every size."""
    found: Measured = {}
    for name, n in track([(name, n) for name in families(1) for n in units]):
        found.setdefault(name, {})[n] = measure(families(n)[name])
    return found


def cells_of(found: Measured, write: Callable[[float], str] = short) -> list[Cells]:
    """Write one row for each norm, one column for each size."""
    return [{"norm": name, **{size_text(n): write(v) for n, v in by_size.items()}} for name, by_size in found.items()]


# what is measured -----------------------------------------------------------------------------------------------


def share(args: argparse.Namespace, track: Callable) -> tuple[list[Cells], str]:
    """Share of the speed of the fastest copy; where memory must be read twice, of a copy and a further read."""

    def measure(case: Case) -> float:
        a, out = arrays(case)
        ways = copies(a.x, out)
        reads = {"read": reading(a.x)} if reads_twice(case) else {}
        times = interleaved({OWN: call_into(case, a, out), **ways, **reads}, args.seconds)
        return (min(times[way] for way in ways) + sum(times[name] for name in reads)) / times[OWN]

    found = per_norm(fitting(powers(64 * KB, min(args.most, GB))), track, measure)
    if args.picture:
        from harness.picture import draw_share  # matplotlib takes a second to import

        sizes = {name: {4 * UNIT * n: value for n, value in row.items()} for name, row in found.items()}
        draw_share(sizes, machine(args.threads), cache_bytes(3), args.picture)
    return cells_of(found), (
        "Share of the speed of the fastest copy of the same bytes, by the size of x. Where x is larger than the last "
        "cache and a group than a core's, so that memory must be read twice (batch norm in training with channels "
        "last): share of the speed of a copy and a further read."
    )


def elements(args: argparse.Namespace, track: Callable) -> tuple[list[Cells], str]:
    """Time for each element."""

    def measure(case: Case) -> float:
        a, out = arrays(case)
        return interleaved({OWN: call_into(case, a, out)}, args.seconds)[OWN] / a.x.size * 1e12

    found = per_norm(fitting(powers(min(16 * MB, args.most), min(args.most, 4 * GB))), track, measure)
    cells = cells_of(found, lambda value: f"{value:.0f}")
    for row, by_size in zip(cells, found.values(), strict=True):
        row["largest / smallest"] = short(max(by_size.values()) / min(by_size.values()))
    return cells, "Picoseconds for each element of float32, by the size of x."


def dtypes(args: argparse.Namespace, track: Callable) -> tuple[list[Cells], str]:
    """Other dtypes beside float32, in turn."""
    n = max(1, min(64 * MB, args.most) // (4 * UNIT))
    cells = []
    for name in track(list(families(1))):
        made = {dtype: replace(families(n)[name], dtype=dtype) for dtype in OTHER_DTYPES}
        calls = {dtype: call_into(case, *arrays(case)) for dtype, case in made.items()}
        times = interleaved(calls, args.seconds)
        ratios = {dtype: short(times.ratio("float32", dtype).median) for dtype in calls if dtype != "float32"}
        cells.append({"norm": name, "float32, ms": f"{times['float32'] * 1e3:.3g}", **ratios})
    text = f"How many times as fast as float32 the other dtypes are, on {size_text(n)} of float32 and as many elements."
    return cells, text


OTHER_DTYPES = ("float32", "float16", "bfloat16", "float64")


def threads(args: argparse.Namespace, track: Callable) -> tuple[list[Cells], str]:
    """From one thread to all, in turn."""
    numbers = [n for n in (1, 2, 4, 8, 16, 32, 64) if n < args.threads] + [args.threads]
    units = [n for n in powers(MB, 8 * MB, 2) if n * 4 * UNIT <= args.most] or [1]
    cells = []
    for name, n in track([(name, n) for name in families(1) for n in units]):
        case = families(n)[name]
        call = call_into(case, *arrays(case))

        def with_threads(number: int, call: Call = call) -> None:
            nbn.set_num_threads(number)
            call()

        calls = {str(number): (lambda number=number: with_threads(number)) for number in numbers}
        times = interleaved(calls, args.seconds)
        ratios = {number: times.ratio("1", number).median for number in calls if number != "1"}
        faster = {f"{number} threads": short(ratio) for number, ratio in ratios.items()}
        ideal = short(ratios[str(args.threads)] / args.threads) if ratios else "1.00"
        cells.append(
            {"norm": name, "x": size_text(n), "1 thread, ms": f"{times['1'] * 1e3:.3g}", **faster, "of ideal": ideal}
        )
    return cells, "How many times as fast as one thread several are, on arrays that fit the caches."


WHAT = {"share": share, "elements": elements, "dtypes": dtypes, "threads": threads}


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", choices=[*WHAT, "all"])
    parser.add_argument("--threads", type=int, default=nbn.get_num_threads(), metavar="N", help="(default: all cores)")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each number measured (default: 1)")
    parser.add_argument("--most", type=int, default=4 * GB, metavar="BYTES", help="of the largest array")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="put the tables between the marks of this file")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the shares of copy speed")
    args = parser.parse_args()
    wanted = list(WHAT) if "all" in args.what else list(dict.fromkeys(args.what))
    try:  # before all the measuring
        for what in wanted:
            if args.markdown and args.markdown.exists():
                marks(args.markdown, f"table of {what}")
    except ValueError as error:
        parser.error(str(error))
    console = open_console()
    set_threads(args.threads)
    console.print(machine(args.threads))
    if busy := warning(args.threads):
        console.print(f"[yellow]{busy}[/yellow]")
    for what in wanted:
        set_threads(args.threads)
        with progress(console) as bar:

            def track(items: Iterable, bar: Progress = bar) -> Iterable:
                return bar.track(items, description="")

            cells, text = WHAT[what](args, track)
        console.print(f"\n[bold]{what}[/bold]: {text}")
        show(cells, console, names=1)
        if args.markdown:
            where = machine(args.threads).replace("\n", "  \n")
            write_markdown(args.markdown, f"{text}\n\n{where}\n\n{markdown(cells, names=1)}", f"table of {what}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
