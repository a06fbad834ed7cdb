"""Segments beside a dense layer norm of as many bytes: rows of equal, long-tailed and ascending lengths.

All write into a given output, in turn; a number is how many times longer a call takes than the dense one, the median
over rounds.

    python asv_benchmarks/segments.py --threads 1,2 --mean 5,20,200 --features 1,64
"""

import argparse
import sys
from collections.abc import Callable

import numpy as np
from harness.machine import set_threads
from harness.timing import interleaved
from numpy.typing import NDArray

import numbanorm as nbn

Integers = NDArray[np.int64]


def lengths(kind: str, rows: int, mean: int) -> Integers:
    """Lengths that add up to `rows`, a multiple of `mean`: long-tailed ones are lognormal, with sigma 1."""
    number = rows // mean
    if kind == "equal":
        return np.full(number, mean)
    drawn = np.random.default_rng(0).lognormal(np.log(mean) - 0.5, 1.0, 2 * number)
    ends = np.minimum(np.cumsum(np.maximum(1, np.round(drawn))).astype(np.int64), rows)
    found = np.diff(np.concatenate(([0], ends[ends < rows], [rows])))
    return np.sort(found) if kind == "ascending" else found


def calls(
    elements: int, mean: int, features: int, keep: bool, dtype: str
) -> tuple[dict[str, Callable[[], object]], float]:
    """Return what is timed, by name, and how many elements each call normalizes."""
    rows = max(1, elements // features // mean) * mean
    x = 100 + np.random.default_rng(1).standard_normal((rows, features)).astype(dtype)
    x = x if features > 1 else x[:, 0].copy()
    out = np.empty_like(x)
    dense, dense_out = (a.reshape(rows // mean, mean, features) for a in (x, out))
    found: dict[str, Callable[[], object]] = {
        "dense": lambda: nbn.normalize(dense, axis=1 if keep else (1, 2), out=dense_out)
    }
    for kind in ("equal", "long-tailed", "ascending"):
        offsets = np.cumsum([0, *lengths(kind, rows, mean)])
        layout = nbn.Layout.segments(offsets, axis=0 if keep else None)
        found[kind] = lambda layout=layout: nbn.normalize(x, layout, out=out)
    return found, x.size


def main(arguments: list[str] | None = None) -> int:
    """Print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elements", type=int, default=10_000_000)
    parser.add_argument("--mean", default="200", help="average lengths")
    parser.add_argument("--features", default="1", help="behind each row; with a k, as in 64k, each is kept")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each case")
    options = parser.parse_args(arguments)
    for threads in map(int, options.threads.split(",")):
        set_threads(threads)
        for features in options.features.split(","):
            for mean in map(int, options.mean.split(",")):
                number, keep = int(features.rstrip("k")), features.endswith("k")
                timed, size = calls(options.elements, mean, number, keep, options.dtype)
                times = interleaved(timed, options.seconds)
                ratios = ", ".join(
                    f"{kind} {times.ratio(kind, 'dense').median:.2f}" for kind in timed if kind != "dense"
                )
                case = f"{threads} threads, mean {mean}, {number} features{' kept' if keep else ''}, {options.dtype}"
                print(f"{case}: dense {1e9 * times['dense'] / size:.3f} ns an element; {ratios}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
