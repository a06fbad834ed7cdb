"""Statistics with a mask, weights or holes beside the same without: how many times longer a call takes.

Of axes, labels and segments.

An eighth of the values does not count. Calls take turns; a number is the median over rounds.

    python asv_benchmarks/choices.py --threads 1,2
"""

import argparse
import sys
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from harness.machine import set_threads
from harness.timing import interleaved
from segments import lengths

import numbanorm as nbn

AXES = (  # of all axes but the first the sizes, and those that are reduced
    ((), (0,)),
    ((5000,), (1,)),
    ((2000,), (0,)),
    ((64, 28 * 28), (0, 2)),
    ((256, 14 * 14), (0, 2)),
    ((256, 7 * 7), (0, 2)),
    ((50, 50), (0, 2)),
)
LABELS = (
    (1, 1000, "random"),
    (1, 1000, "in order"),
    (1, 1_000_000, "random"),
    (7, 1000, "random"),
    (64, 1000, "random"),
)
SEGMENTS = ((1, 200, False), (64, 200, True), (64, 200, False), (1, 20, False))  # features, mean length, are they kept

Calls = dict[str, Callable[[], object]]


def calls(x: np.ndarray, layout: nbn.Layout, labels: dict[str, Any]) -> Calls:
    """Return what is timed, by name."""
    rng = np.random.default_rng(1)
    where, weights = rng.random(x.shape) < 7 / 8, rng.random(x.shape)
    holes = np.where(where, x, np.nan).astype(x.dtype)
    return {
        "plain": lambda: nbn.moments(x, layout, **labels),
        "where": lambda: nbn.moments(x, layout, where=where, **labels),
        "skipna": lambda: nbn.moments(holes, layout, skipna=True, **labels),
        "weights": lambda: nbn.moments(x, layout, weights=weights, **labels),
        "all three": lambda: nbn.moments(holes, layout, where=where, weights=weights, skipna=True, **labels),
    }


def of_axes(elements: int, sizes: tuple[int, ...], axes: tuple[int, ...], dtype: str) -> tuple[str, Calls]:
    """Return a case of axes that are reduced: its name, and what is timed."""
    shape = elements // prod(sizes), *sizes
    x = (100 + np.random.default_rng(0).standard_normal(shape)).astype(dtype)
    return f"{' x '.join(f'{n:,}' for n in shape)} along {axes}, {dtype}", calls(x, nbn.Layout.axes(axes), {})


def of_labels(elements: int, features: int, number: int, order: str) -> tuple[str, Calls]:
    """Return a case of labels: its name, and what is timed."""
    rng, rows = np.random.default_rng(0), elements // features
    found = rng.integers(0, number, rows)
    x = 1e6 + rng.standard_normal((rows, features))
    labels: dict[str, Any] = {"labels": np.sort(found) if order == "in order" else found, "num_labels": number}
    return f"{rows:,} x {features}, {number:,} labels, {order}", calls(x, nbn.Layout.axes(0), labels)


def of_segments(elements: int, features: int, mean: int, keep: bool, dtype: str) -> tuple[str, Calls]:
    """Return a case of segments with long-tailed lengths."""
    rows = elements // features // mean * mean
    layout = nbn.Layout.segments(np.cumsum([0, *lengths("long-tailed", rows, mean)]), axis=0 if keep else None)
    x = (100 + np.random.default_rng(0).standard_normal((rows, features))).astype(dtype)
    return f"segments of {mean} x {features}{' kept' if keep else ''}, {dtype}", calls(x, layout, {})


def main(arguments: list[str] | None = None) -> int:
    """Print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elements", type=int, default=10_000_000)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each case")
    options = parser.parse_args(arguments)
    for threads in map(int, options.threads.split(",")):
        set_threads(threads)
        cases: list[tuple[Callable[..., tuple[str, Calls]], tuple[Any, ...]]]
        cases = [(of_axes, (*case, dtype)) for case in AXES for dtype in ("float64", "float32")]
        cases += [(of_labels, case) for case in LABELS]
        cases += [(of_segments, (*case, dtype)) for case in SEGMENTS for dtype in ("float64", "float32")]
        for make, case in cases:
            name, timed = make(options.elements, *case)
            times = interleaved(timed, options.seconds)
            ratios = ", ".join(f"{one} {times.ratio(one, 'plain').median:.2f}" for one in timed if one != "plain")
            print(
                f"{threads} threads, {name}: {1e9 * times['plain'] / options.elements:.2f} ns a value; {ratios}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
