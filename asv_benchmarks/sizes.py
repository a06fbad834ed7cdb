"""How the speed of every norm depends on size, dtype and number of threads. All calls write into a given output.

share:    share of the speed of the fastest copy, from 64 KB to 1 GB; beside an earlier version's with --beside
elements: time for each element, from 16 MB to 4 GB (as far as half of memory holds input and output)
dtypes:   float16, bfloat16 and float64 beside float32
threads:  from one thread to all, on arrays that fit the caches
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
from harness.case import Arrays, Call, Case, Shape, dtype_of
from harness.contenders import CONTENDERS, OWN
from harness.copying import copies, reading
from harness.gate.versions import load, written
from harness.libraries import own
from harness.machine import cache_bytes, machine, set_threads, threads_of, warning
from harness.measure import reads_twice
from harness.report import Cells, check_marks, short, show, write_table
from harness.terminal import open_console, progress
from harness.timing import interleaved
from rich.progress import Progress

import numbanorm as nbn

KB, MB, GB = 1 << 10, 1 << 20, 1 << 30
UNIT = 16384  # elements, 64 KB of float32: every array is a whole number of them


def spread(units: int, inner: int, most: int, batch: int = 1) -> Shape:
    """Return a shape (N, m, inner) of so many UNITs: the least N from `batch` on with which m is at most `most`."""
    outer = max(batch, -(-units * UNIT // (inner * most)))
    return outer, max(1, round(units * UNIT / (inner * outer))), inner


def families(units: int) -> dict[str, Case]:
    """Return a case of every norm with so many UNITs of elements, in shapes like those of networks.

    The pixels of an image are one axis where their two are walked as one.
    """
    n, first, last = units, (units, 64, 16, 16), (units, 16, 16, 64)
    groups = min(n, 32)  # of 64 KB: four channels of 64 by 64
    return {
        "layer norm, 768": Case("size", "layer_norm", spread(n, 768, 512), last=True),
        "layer norm": Case("size", "layer_norm", (16 * n, 1024), last=True),
        "RMS norm": Case("size", "rms_norm", (16 * n, 1024), last=True),
        "instance norm": Case("size", "instance_norm", (n, 16, 32, 32)),
        "layer norm, 2048": Case("size", "layer_norm", (8 * n, 2048), last=True),
        "layer norm, 4096": Case("size", "layer_norm", (4 * n, 4096), last=True),
        "group norm": Case("size", "group_norm", first, groups=8),
        "group norm, groups of 64 KB": Case("size", "group_norm", (n // groups, 4 * groups, 4096), groups=groups),
        "group norm, channels last": Case("size", "group_norm", last, groups=8, last=True),
        "group norm, 320 channels last": Case("size", "group_norm", spread(n, 320, 64 * 64), groups=32, last=True),
        "batch norm, evaluation": Case("size", "batch_norm_eval", first),
        "batch norm, training": Case("size", "batch_norm", (16, n, 32, 32)),
        "batch norm, training, 56×56": Case("size", "batch_norm", spread(n, 56 * 56, 256)),
        "batch norm, training, 14×14": Case("size", "batch_norm", spread(n, 14 * 14, 1024, 8)),
        "batch norm, training, 7×7": Case("size", "batch_norm", spread(n, 7 * 7, 2048, 8)),
        "batch norm, training, channels last": Case("size", "batch_norm", last, last=True),
        "batch norm, training, 256 channels last": Case("size", "batch_norm", spread(n, 256, 56 * 56), last=True),
        "RGB, channels last": Case("size", "instance_norm", spread(n, 3, 224 * 224), last=True),
        "RGB, channels last, uint8 to float32": Case(
            "size", "instance_norm", spread(n, 3, 224 * 224), last=True, dtype="uint8"
        ),
    }


USUAL = (  # one of each norm, and of each order of memory
    "layer norm",
    "RMS norm",
    "instance norm",
    "group norm",
    "group norm, channels last",
    "batch norm, evaluation",
    "batch norm, training",
    "batch norm, training, channels last",
)


def arrays(case: Case) -> tuple[Arrays, np.ndarray]:
    """Return a case's arrays and an output. x repeats its beginning: gigabytes of random numbers would take minutes."""
    x = np.empty(case.shape, dtype_of(case.dtype))
    out = np.empty_like(x, np.float32 if x.dtype.kind == "u" else None)
    begin = np.random.default_rng(0).standard_normal(UNIT, np.float32) * np.float32(2) + np.float32(1)
    if x.dtype.kind == "u":
        begin = np.clip(40 * begin, 0, 255)  # an image
    begin, flat = begin.astype(x.dtype), x.reshape(-1)
    for start in range(0, x.size, UNIT):
        part = flat[start : start + UNIT]
        part[...] = begin[: part.size]
    out.fill(0)  # its pages come into being now
    return case.arrays(x), out


def moved(x: np.ndarray, out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what to copy, and where to, so that as many bytes move as from x to the output."""
    if x.nbytes == out.nbytes:
        return x, out
    half = (x.nbytes + out.nbytes) // 8 * 4  # whole words
    return np.zeros(half, np.uint8), out.reshape(-1).view(np.uint8)[:half]


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
    for name, n in track([(name, n) for name in USUAL for n in units]):
        found.setdefault(name, {})[n] = measure(families(n)[name])
    return found


def cells_of(found: Measured, write: Callable[[float], str] = short) -> list[Cells]:
    """Write one row for each norm, one column for each size."""
    return [{"norm": name, **{size_text(n): write(v) for n, v in by_size.items()}} for name, by_size in found.items()]


def use(number: int, args: argparse.Namespace) -> None:
    """Let all that is measured use so many threads."""
    set_threads(number)
    for module in args.versions.values():
        module.set_num_threads(number)


def where(args: argparse.Namespace) -> str:
    """Say on what was measured."""
    return machine(" and ".join(map(str, args.threads)))


def callable_by(versions: Mapping[str, ModuleType], case: Case, a: Arrays, out: np.ndarray) -> dict[str, Call]:
    """Return each version's call that writes to `out`; without an earlier version that cannot do it yet."""
    calls: dict[str, Call] = {}
    for title, module in versions.items():
        try:
            calls[title] = own.calls_of(module)[case.norm](case, a, out)
            calls[title]()
        except Exception:
            if title == OWN:
                raise
            calls.pop(title, None)
    return calls


# what is measured -----------------------------------------------------------------------------------------------


def share(args: argparse.Namespace, track: Callable) -> tuple[list[Cells], str]:
    """Share of the speed of the fastest copy; where memory must be read twice, of a copy and a further read."""
    units = fitting(powers(64 * KB, min(args.most, GB)))
    chosen = [name for name in families(1) if args.name.lower() in name.lower()]
    shares: dict[tuple[str, int], dict[str, dict[int, float]]] = {}  # {(norm, threads): {version: {size: share}}}
    starred = set()
    for name, n in track([(name, n) for name in chosen for n in units]):
        case = families(n)[name]
        a, out = arrays(case)
        calls = callable_by(args.versions, case, a, out)
        for number in args.threads:
            use(number, args)
            ways = copies(*moved(a.x, out))
            reads = {"read": reading(a.x)} if reads_twice(case) else {}
            first = next(iter(ways))  # each version then follows one copy and the other version
            times = interleaved({first: ways[first], **calls, **ways, **reads}, args.seconds)
            least = min(times[way] for way in ways) + sum(times[read] for read in reads)
            for title in args.versions:
                of_copy = least / times[title] if title in calls else float("nan")
                shares.setdefault((name, number), {}).setdefault(title, {})[n] = of_copy
        if reads:
            starred.add((name, n))
    if args.picture:
        from harness.picture import draw_shares  # matplotlib takes a second to import

        draw_shares(shares, 4 * UNIT, where(args), cache_bytes(3), args.picture)
    cells = []
    for (name, number), versions in shares.items():
        shown = {n: " → ".join(short(by_size[n]) for by_size in versions.values()) for n in units}
        sizes = {size_text(n): text + "*" * ((name, n) in starred) for n, text in shown.items()}
        cells.append({"norm": name, "threads": str(number), **sizes})
    both = f" Before is {args.title}; after the arrow, now." if len(args.versions) > 1 else ""
    return cells, (
        f"Share of the speed of the fastest copy of as many bytes, by the size of the output.{both} An asterisk: x is "
        "larger than the last cache and a group than a core's, so that memory must be read twice, and the share is of "
        "the speed of a copy and a further read."
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
    for name in track(USUAL):
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
    most = args.threads[-1]
    numbers = [n for n in (1, 2, 4, 8, 16, 32, 64) if n < most] + [most]
    units = [n for n in powers(MB, 8 * MB, 2) if n * 4 * UNIT <= args.most] or [1]
    cells = []
    for name, n in track([(name, n) for name in USUAL for n in units]):
        case = families(n)[name]
        call = call_into(case, *arrays(case))

        def with_threads(number: int, call: Call = call) -> None:
            nbn.set_num_threads(number)
            call()

        calls = {str(number): (lambda number=number: with_threads(number)) for number in numbers}
        times = interleaved(calls, args.seconds)
        ratios = {number: times.ratio("1", number).median for number in calls if number != "1"}
        faster = {f"{number} threads": short(ratio) for number, ratio in ratios.items()}
        ideal = short(ratios[str(most)] / most) if ratios else "1.00"
        cells.append(
            {"norm": name, "x": size_text(n), "1 thread, ms": f"{times['1'] * 1e3:.3g}", **faster, "of ideal": ideal}
        )
    return cells, "How many times as fast as one thread several are, on arrays that fit the caches."


WHAT = {"share": share, "elements": elements, "dtypes": dtypes, "threads": threads}


def arguments(folder: Path) -> argparse.Namespace:
    """Read the command line, and write the version before into a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", choices=[*WHAT, "all"])
    parser.add_argument("--threads", type=threads_of, default=[nbn.get_num_threads()], metavar="N[,N]", help=OF_THREADS)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each number measured (default: 1)")
    parser.add_argument("--most", type=int, default=4 * GB, metavar="BYTES", help="of the largest array")
    parser.add_argument("--name", default="", metavar="TEXT", help="share: of norms with this text in their name")
    parser.add_argument("--beside", metavar="BASE", help="share: of this commit, or folder with the package, too")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="put the tables between the marks of this file")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the shares of copy speed")
    args = parser.parse_args()
    args.what = list(WHAT) if "all" in args.what else list(dict.fromkeys(args.what))
    args.versions, args.title = {OWN: nbn}, ""
    try:  # before all the measuring
        for what in args.what:
            check_marks(args.markdown, f"table of {what}")
        if not any(args.name.lower() in name.lower() for name in families(1)):
            raise ValueError(f"no norm has {args.name!r} in its name; there are {'; '.join(families(1))}")
        if args.beside:
            args.title = written(args.beside, folder)
            args.versions = {"before": load(folder, "numbanorm_before"), OWN: nbn}
    except ValueError as error:
        parser.error(str(error))
    return args


OF_THREADS = "(default: all cores); share measures with each, the others with the last"


def main() -> int:
    """Measure and report."""
    with tempfile.TemporaryDirectory(prefix="numbanorm-sizes-") as folder:
        report(arguments(Path(folder)))
    return 0


def report(args: argparse.Namespace) -> None:
    """Measure what is asked for, show it, and write it to files."""
    console = open_console()
    console.print(where(args))
    if busy := warning(args.threads[-1]):
        console.print(f"[yellow]{busy}[/yellow]")
    for what in args.what:
        use(args.threads[-1], args)
        with progress(console) as bar:

            def track(items: Iterable, bar: Progress = bar) -> Iterable:
                return bar.track(items, description="")

            cells, text = WHAT[what](args, track)
        names = 2 if what == "share" else 1
        console.print(f"\n[bold]{what}[/bold]: {text}")
        show(cells, console, names)
        on = where(args) if what == "share" else machine(args.threads[-1])
        write_table(args.markdown, on, cells, f"table of {what}", text, names)


if __name__ == "__main__":
    sys.exit(main())
