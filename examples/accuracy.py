"""How far the variance and the output of numbanorm, NumPy and torch are from the truth, on input that is hard.

Prints the table of docs/numerics.md, in Markdown. The truth is made of sums without rounding (math.fsum).
"""

import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import numbanorm as nbn

sys.path.insert(0, str(Path(__file__).parents[1] / "asv_benchmarks"))
from harness.machine import machine

try:
    import torch
except ImportError:  # its column stays empty
    torch = None

SIZE = 1 << 24


def true_variance(x: np.ndarray) -> float:
    """Return the variance, right to half an ulp of float64."""
    wide = x.astype(np.float64)
    deviation = wide - math.fsum(wide) / wide.size  # exact, or nearly so: what the mean is off by is taken out below
    return (math.fsum(deviation * deviation) - math.fsum(deviation) ** 2 / x.size) / x.size


def inputs() -> Iterator[tuple[str, np.ndarray]]:
    """Yield one hard array after another."""
    normal = np.random.default_rng(0).standard_normal(SIZE)
    large = (1e4 + normal).astype(np.float32)
    yield "float32, mean 0, std 1", normal.astype(np.float32)
    yield "float32, mean 1e4, std 1", large
    yield "float32, mean 1e4, std 1, sorted", np.sort(large)
    yield "float32, 1e4 and the next number, at random", np.where(normal > 0, 1e4, 1e4 + 2**-10).astype(np.float32)
    for distance in ("100", "1e6"):
        outliers = normal.astype(np.float32)
        outliers[::2048] = float(distance)
        yield f"float32, std 1, but the first of every 2048 is {distance}", outliers
    first = normal.astype(np.float32)
    first[0] = 1e8
    yield "float32, std 1, but the very first is 1e8", first
    yield "float32, std 1e30", (1e30 * normal).astype(np.float32)
    for mean in ("0", "1e4", "1e8"):
        yield f"float64, mean {mean}, std 1", float(mean) + normal
    yield "float64, mean 1e8, std 1, sorted", np.sort(1e8 + normal)


def variances() -> Iterator[list[str]]:
    """Yield the rows on variances: relative errors in ulp of the input's dtype."""
    for name, x in inputs():
        truth, ulp = true_variance(x), np.finfo(x.dtype).eps
        found = [float(nbn.moments(x).var()), float(variance_of_numpy(x))]
        if torch:
            found.append(float(torch.from_numpy(x).var(correction=0)))
        yield [f"variance, {name}", *(short(abs(value / truth - 1) / ulp) for value in found)]


def constants() -> Iterator[list[str]]:
    """Yield the row on a constant: the standard deviations themselves."""
    x = np.full(10_000_001, 0.1, np.float32)
    found = [float(nbn.moments(x).std()), float(variance_of_numpy(x)) ** 0.5]
    if torch:
        found.append(float(torch.from_numpy(x).std(correction=0)))
    yield ["standard deviation of 1e7 times 0.1 (itself, not in ulp)", *(f"{value:.2g}" for value in found)]


def outputs() -> Iterator[list[str]]:
    """Yield the rows on group norm: the largest error of the output in units of 2^-23."""
    normal = np.random.default_rng(0).standard_normal((2, 64, 32, 32))
    for mean in (100, 1000):
        for name, order in (("channels first", "C"), ("channels last in memory", "last")):
            x = (mean + normal).astype(np.float32)
            if order == "last":
                x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
            truth = plain_group_norm(x.astype(np.float64))
            calls: list[Callable[[], np.ndarray]] = [lambda x=x: nbn.group_norm(x, 8), lambda x=x: plain_group_norm(x)]
            if torch:
                calls.append(lambda x=x: torch.nn.functional.group_norm(torch.from_numpy(x), 8).numpy())
            errors = (np.abs(call() - truth).max() / np.finfo(np.float32).eps for call in calls)
            yield [f"group norm at mean {mean}, {name}", *map(short, errors)]


def plain_group_norm(x: np.ndarray) -> np.ndarray:
    """Normalize in eight groups with NumPy, in x's own precision."""
    groups = x.reshape(2, 8, -1)
    centered = groups - groups.mean(-1, keepdims=True)
    return (centered / np.sqrt(np.square(centered).mean(-1, keepdims=True) + x.dtype.type(1e-5))).reshape(x.shape)


def variance_of_numpy(x: np.ndarray) -> np.floating:
    """Return NumPy's variance in x's own precision; infinite where that overflows."""
    with np.errstate(over="ignore"):
        return x.var()


def short(error: float) -> str:
    """Write an error: <0.001, 0.38, 5.8, 1.3e+06."""
    if not math.isfinite(error):
        return str(error)
    return "<0.001" if error < 1e-3 else f"{error:.2g}"


def main() -> int:
    """Print the table."""
    print(machine(nbn.get_num_threads()).replace("\n", "  \n") + "\n")
    head = ["error in ulp", "numbanorm", "NumPy", *(["torch"] if torch else [])]
    print(f"| {' | '.join(head)} |\n| :-- |{' --: |' * (len(head) - 1)}", flush=True)
    for rows in (variances(), constants(), outputs()):
        for row in rows:
            print(f"| {' | '.join(row)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
