"""The bound of docs/numerics.md, "Sums in float32", worked out, and those sums in NumPy on data made against them.

A model of one block: all lanes alike, and every piece of each lane, since only then no rounding makes up for another.
"""

import numpy as np
import pytest

from numbanorm.cpu.kernels.constants import CHAIN, COLUMN_TRUST, PIECE_ROWS, TRUST

ULP = 2.0**-23
numbers_of_chains = pytest.mark.parametrize("chains", [4, 2], ids=["AVX-512", "AVX2"])


def roundings(chains, length):
    """Of a square, and of a distance, by its place in a chain: the first sum is 0 + d, which rounds squares only."""
    levels = int(np.log2(chains))
    behind = np.arange(length, 0, -1)
    return behind + levels, np.minimum(behind, length - 1) + levels


def roundings_down(rows):
    """The same of columns: four rows, pairwise, are added to those before, and the first sum of a chain is exact."""
    fours = np.arange(rows) // 4
    behind = np.minimum(rows // 4 - fours, rows // 4 - 1)
    first = np.arange(rows) % 4 < 2  # whose squares are rounded before those of the second are added
    return behind + 2 + first, behind + 2


def largest(squares, distances):
    """The maximum of sum(squares * b**2) + 2 * sum(distances * b) over sum(b**2) = 1."""
    low, high = squares.max(), squares.max() + np.sqrt((distances**2).sum()) + 1  # of the multiplier of Lagrange
    for _ in range(50):
        middle = (low + high) / 2
        if ((distances / (middle - squares + 1e-300)) ** 2).sum() > 1:
            low = middle
        else:
            high = middle
    b = distances / (high - squares)
    b = b / np.sqrt((b**2).sum())
    return (squares * b**2 + 2 * distances * b).sum()


def bound(squares, distances, trust):
    """Of the relative error of a group's M2, in ulp of float32, by the roundings of squares and of distances."""
    length, worst = len(squares), 0.0
    for r in np.linspace(1e-6, 1 / trust, 7):
        for a in np.linspace(0, 1.2, 49):
            share = 1 - r + a**2
            sums = largest(squares, (np.sqrt(r) + a) * distances / np.sqrt(length))
            worst = max(worst, (2 * np.sqrt(share) + sums) / share)
    return worst / 2


def push(sums, value):
    """Sums of d and of its square in float32, a value of d added."""
    wide = value.astype(np.float64)
    return sums[0] + value, (wide * wide + sums[1]).astype(np.float32)


def sums_down(d):
    """Sums of d and of its square over rows, in float32: of four rows, pairwise, and then one after the other."""
    sums = np.zeros((2, len(d)), np.float32)
    for row in range(0, d.shape[1], 4):
        a, b = (push(push(np.zeros_like(sums), d[:, row + k]), d[:, row + 2 + k]) for k in (0, 1))
        sums = sums[0] + (a[0] + b[0]), sums[1] + (a[1] + b[1])
    return sums[0].astype(np.float64), sums[1].astype(np.float64)


def sums(d):
    """Sums of d and of its square over chains, and then over their places, in float32."""
    s, q = np.zeros((2, *d.shape[:2]), np.float32)
    for value in np.moveaxis(d, 2, 0):
        s, q = push((s, q), value)
    while s.shape[1] > 1:
        half = s.shape[1] // 2
        s, q = s[:, :half] + s[:, half:], q[:, :half] + q[:, half:]
    return s[:, 0].astype(np.float64), q[:, 0].astype(np.float64)


def made_against(rng, chains, length, count=20_000):
    """Large values first in every chain, then small ones of which each addition loses nearly half a last digit."""
    shape, one = (count, chains, length), (count, 1, 1)
    large = 1 + 2.0 ** -rng.integers(2, 23, one) * rng.random(shape)
    large *= np.where(rng.random(shape) < rng.random(one) / 2, -1, 1)
    small = 2.0 ** -rng.uniform(11.5, 13, one) * (1 + 2.0 ** -rng.integers(2, 20, one) * rng.random(shape))
    small *= np.where(rng.random(shape) < rng.choice([0, 0.5], one), -1, 1)
    pivot = rng.choice([0, 1], count) * rng.choice([-1, 1], count) * 2.0 ** -rng.uniform(0, 14, count)
    pivot = pivot.astype(np.float32)
    d = np.where(np.arange(length) < rng.integers(1, length + 1, one), large, small)
    return (pivot[:, None, None] + d).astype(np.float32), pivot


def settled(x, pivot, sums=sums):
    """What sums in float32 make of blocks: their s / n, q, M2 and the error of it in ulp; then the M2 and its error of
    a block together with its mirror image, so that the mean is 0.
    """
    n = x[0].size
    s, q = sums(x - pivot.reshape(-1, *(1 for _ in x.shape[1:])))
    shift = s / n
    m2 = q - s * shift
    both = m2 + n * (pivot + shift) ** 2
    wide = x.astype(np.float64).reshape(len(x), n)
    true = ((wide - wide.mean(1, keepdims=True)) ** 2).sum(1)
    return n * shift**2, q, (m2, np.abs(m2 / true - 1) / ULP), (both, np.abs(both / (wide**2).sum(1) - 1) / ULP)


@numbers_of_chains
def test_the_bound_is_8_ulp(chains):
    assert 6 < bound(*roundings(chains, CHAIN), TRUST) <= 8


def test_the_bound_of_columns_is_8_ulp():
    assert 6 < bound(*roundings_down(PIECE_ROWS), COLUMN_TRUST) <= 8


@numbers_of_chains
def test_data_made_against_the_sums_stay_within_the_bound(rng, chains):
    lost, q, alone, both = settled(*made_against(rng, chains, CHAIN))
    passed = TRUST * lost <= q
    worst = max(error[passed].max() for _, error in (alone, both))
    assert 2 < worst <= bound(*roundings(chains, CHAIN), TRUST)


def test_columns_made_against_the_sums_stay_within_the_bound(rng):
    """The large values in the first of the rows, or in the first of each four."""
    x, pivot = made_against(rng, 4, PIECE_ROWS // 4)
    turned = np.where(rng.random((len(x), 1)) < 0.5, x.reshape(len(x), -1), np.swapaxes(x, 1, 2).reshape(len(x), -1))
    lost, q, alone, both = settled(turned, pivot, sums_down)
    passed = COLUMN_TRUST * lost <= q
    worst = max(error[passed].max() for _, error in (alone, both))
    assert 2 < worst <= bound(*roundings_down(PIECE_ROWS), COLUMN_TRUST)


def test_longer_chains_or_no_check_would_break_it(rng):
    assert bound(*roundings(4, 8), 12) > 9
    assert bound(*roundings(4, 6), 5) > 9
    assert bound(*roundings_down(PIECE_ROWS), 4) > 8
    _, _, (_, error), _ = settled(*made_against(rng, 4, CHAIN))
    assert error.max() > 50
