"""Lanes: every operator gives in each lane what it gives for numbers, and so does the scalar mathematics on them."""

from fractions import Fraction

import numpy as np
import pytest
from kernel_calls import compiled

from numbanorm.cpu.kernels.intrinsics import load, store
from numbanorm.cpu.kernels.lanes import WIDTH, convert, every_other, first, halved, joined, splat, total
from numbanorm.cpu.kernels.walk import LIKE32, LIKE64
from numbanorm.maths import accumulators, welford

SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-320, 1e308, -1e308, 1.0, -1.0, 1e-300]


def run(kernel, rows, x, y):
    """The rows that a kernel writes, one for each of its stores."""
    results = np.full((rows, WIDTH), 9.0)
    compiled(kernel, "f8", "f8", "f8")(x, y, results)
    return results


def operators_kernel(a, b, results):
    x, y, row = load(a, 0, 8, LIKE64), load(b, 0, 8, LIKE64), 8 * WIDTH
    store(results, 0 * row, 8, x + y)
    store(results, 1 * row, 8, x - 2.0)
    store(results, 2 * row, 8, 3 * x)
    store(results, 3 * row, 8, x / y)
    store(results, 4 * row, 8, 1.0 - x)
    store(results, 5 * row, 8, welford.where(x > y, x, 0.0))
    store(results, 6 * row, 8, welford.where(x == y, 1.0, y))
    store(results, 7 * row, 8, welford.where(0.0 > x, y, x))
    store(results, 8 * row, 8, welford.sqrt(x))
    store(results, 9 * row, 8, convert(convert(x, LIKE32), LIKE64))
    store(results, 10 * row, 8, splat(2.5))
    store(results, 11 * row, 8, first(x, 5))
    store(results, 12 * row, 8, splat(total(x)))
    store(results, 13 * row, 8, joined(x, y, 5))
    store(results, 14 * row, 8, every_other(x, 0))
    store(results, 15 * row, 8, every_other(x, 1))
    two = halved(x, y, 16)
    four = halved(two, two, 8)
    eight = halved(four, four, 4)
    store(results, 16 * row, 8, halved(eight, eight, 2))


def tree_sum(values):
    while len(values) > 1:
        values = values[: len(values) // 2] + values[len(values) // 2 :]
    return values


def operators(x, y):
    choose = np.where
    return [
        x + y, x - 2.0, 3 * x, x / y, 1.0 - x, choose(x > y, x, 0.0), choose(x == y, 1.0, y), choose(x < 0, y, x),
        np.sqrt(x), x.astype(np.float32).astype(np.float64), np.full(WIDTH, 2.5),
        choose(np.arange(WIDTH) < 5, x, 0.0), np.repeat(tree_sum(x), WIDTH),
        choose(np.arange(WIDTH) < 5, x, y), np.concatenate([x[::2], x[1::2]]), np.concatenate([x[1::2], x[::2]]),
        np.tile(np.concatenate([tree_sum(x), tree_sum(y)]), WIDTH // 2),
    ]  # fmt: skip


def maths_kernel(a, b, results):
    x, y, row = load(a, 0, 8, LIKE64), load(b, 0, 8, LIKE64), 8 * WIDTH
    _, mean, m2 = accumulators.merge(3.0, x, x * x, 4.0, y, y * y)
    store(results, 0 * row, 8, mean)
    store(results, 1 * row, 8, m2)
    mean, m2 = accumulators.settle(5.0, x, (y, x * y))
    store(results, 2 * row, 8, mean)
    store(results, 3 * row, 8, m2)
    store(results, 4 * row, 8, welford.finite_or_zero(x))
    store(results, 5 * row, 8, welford.standardize(x, y, 0.5, y))
    store(results, 6 * row, 8, welford.scale_and_shift(x, 0.5, y))
    store(results, 7 * row, 8, welford.fits_float32(x, y))
    store(results, 8 * row, 8, welford.move(x, y, 0.25))
    s, q = accumulators.added((x, y), (y, 0.5 * x))
    store(results, 9 * row, 8, s)
    store(results, 10 * row, 8, q)
    store(results, 11 * row, 8, welford.inverse_std(x * x, 3.0, (0.0, 0.0, 0.0)))
    store(results, 12 * row, 8, welford.base_or_zero(x))


def by_number(x, y):
    spread = x * x / 3.0  # Python's floats cannot be divided by 0, as `inverse_std` does before it chooses
    inverse = np.where(spread == 0, 0.0, 1 / np.sqrt(spread))
    rows = []
    for a, b in zip(x, y, strict=True):
        _, *merged = accumulators.merge(3.0, a, a * a, 4.0, b, b * b)
        settled = accumulators.settle(5.0, a, (b, a * b))
        rest = welford.standardize(a, b, 0.5, b), welford.scale_and_shift(a, 0.5, b), welford.fits_float32(a, b)
        chains = accumulators.added((a, b), (b, 0.5 * a))
        rows.append([*merged, *settled, welford.finite_or_zero(a), *rest, welford.move(a, b, 0.25), *chains])
    return [*np.transpose(rows), inverse, [welford.base_or_zero(a) for a in x]]


@pytest.mark.parametrize(("kernel", "definition"), [(operators_kernel, operators), (maths_kernel, by_number)])
def test_lanes_are_as_numbers(kernel, definition, rng):
    pairs = [scale * rng.standard_normal((2, WIDTH)) for scale in (1.0, 1e30, 1e-30, 1e155)]
    pairs += [rng.choice(SPECIAL, (2, WIDTH)) for _ in range(20)]
    for x, y in pairs:
        with np.errstate(all="ignore"):
            expected = definition(x, y)
        for row, (got, want) in enumerate(zip(run(kernel, len(expected), x, y), expected, strict=True)):
            np.testing.assert_array_equal(got, want, err_msg=f"row {row}")


def multiply_add_kernel(a, b, results):
    x, y = load(a, 0, 8, LIKE64), load(b, 0, 8, LIKE64)
    store(results, 0, 8, welford.multiply_add(x, y, x))


def test_multiply_add_rounds_once_or_twice(rng):
    """Once where the processor has an instruction for it, but in all lanes alike."""
    x, y = rng.standard_normal((2, WIDTH))
    once = [float(Fraction(a) * Fraction(b) + Fraction(a)) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    got = run(multiply_add_kernel, 1, x, y)[0].tolist()
    assert once != (x * y + x).tolist()
    assert got in (once, (x * y + x).tolist())


def push_kernel(a, b, results):
    x, y = load(a, 0, 8, LIKE64), load(b, 0, 8, LIKE64)
    s, q = accumulators.push((x, y), y)
    store(results, 0, 8, s)
    store(results, 8 * WIDTH, 8, q)


def test_sums_are_pushed_in_every_lane(rng):
    x, y = rng.standard_normal((2, WIDTH))
    s, q = run(push_kernel, 2, x, y)
    np.testing.assert_array_equal(s, x + y)
    np.testing.assert_allclose(q, y * y + y, rtol=1e-15)
