"""The scalar mathematics: exact in fractions, and as good as rounding allows in floats.

The functions are plain Python here. In fractions they must give the statistics of the values to the last digit: what
is left for the float tests is rounding, and numbers that are not finite.
"""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import EPS32, EPS64

from numbanorm.maths import welford

INF, NAN = math.inf, math.nan
WHOLE = st.integers(-1000, 1000).map(Fraction)
SAMPLES = st.lists(WHOLE, min_size=1, max_size=8)
NUMBERS = st.floats(-1e6, 1e6).filter(lambda v: v == 0 or abs(v) > 1e-6)
FLOATS = st.lists(NUMBERS, min_size=1, max_size=20)


def state(values):
    """(n, mean, m2) by definition, in the arithmetic of the values; floats by way of fractions."""
    exact = [Fraction(v) for v in values]
    mean = sum(exact) / len(exact)
    return Fraction(len(exact)), mean, sum((v - mean) ** 2 for v in exact)


def fold(values):
    """The state of floats, merged one value at a time; that of one infinity has an m2 of NaN."""
    result = 0.0, 0.0, 0.0
    for value in values:
        result = welford.merge(*result, 1.0, value, value - value)
    return result


def same(a, b):
    return all(x == y or (math.isnan(x) and math.isnan(y)) for x, y in zip(a, b, strict=True))


@given(SAMPLES, SAMPLES)
def test_merge_is_exact_in_fractions(a, b):
    assert welford.merge(*state(a), *state(b)) == state(a + b)


@given(SAMPLES, WHOLE)
def test_settle_is_exact_in_fractions(values, pivot):
    n, mean, m2 = state(values)
    s, q = sum(v - pivot for v in values), sum((v - pivot) ** 2 for v in values)
    assert welford.settle(Fraction(n), pivot, s, q) == (mean, m2)


@given(FLOATS, FLOATS)
def test_merge_rounds_little(a, b):
    n, mean, m2 = map(float, state(a + b))
    largest = max(map(abs, a + b))
    got = welford.merge(*map(float, state(a)), *map(float, state(b)))
    assert got[0] == n
    assert abs(got[1] - mean) <= 4 * EPS64 * largest
    assert abs(got[2] - m2) <= 8 * EPS64 * (m2 + n * largest * m2**0.5 + n * EPS64 * largest**2)


@given(FLOATS, FLOATS, FLOATS)
def test_merge_is_associative_up_to_rounding(a, b, c):
    a, b, c = (tuple(map(float, state(values))) for values in (a, b, c))
    left, right = welford.merge(*welford.merge(*a, *b), *c), welford.merge(*a, *welford.merge(*b, *c))
    largest = max(abs(a[1]), abs(b[1]), abs(c[1]))
    assert left[0] == right[0]
    assert abs(left[1] - right[1]) <= 8 * EPS64 * largest
    assert abs(left[2] - right[2]) <= 32 * EPS64 * (left[2] + left[0] * largest * (left[2] / left[0]) ** 0.5)


@given(FLOATS)
def test_values_one_by_one_make_the_state(values):
    """Welford's update is the merge with a state of one value."""
    n, mean, m2 = map(float, state(values))
    got, largest = fold(values), max(map(abs, values))
    assert got[0] == n
    assert abs(got[1] - mean) <= 2 * n * EPS64 * largest
    assert abs(got[2] - m2) <= 8 * n * EPS64 * (m2 + largest * m2**0.5 * n**0.5 + n * EPS64 * largest**2)


@pytest.mark.parametrize("other", [(3.0, 5.0, 2.0), (1.0, INF, NAN), (2.0, NAN, NAN), (0.0, NAN, 0.0)], ids=str)
def test_an_empty_state_is_the_identity(other):
    for empty in [(0.0, NAN, 0.0), (0.0, 0.0, 0.0)]:
        assert same(welford.merge(*empty, *other), other)
        if other[0]:
            assert same(welford.merge(*other, *empty), other)


@given(NUMBERS, st.lists(st.integers(1, 1 << 40), min_size=2, max_size=9))
def test_constants_are_exact(value, counts):
    """Equal values have m2 = 0 and their own mean, however they are cut and merged."""
    merged = 0.0, 0.0, 0.0
    for count in counts:
        merged = welford.merge(*merged, float(count), *welford.settle(float(count), value, 0.0, 0.0))
    assert merged == (sum(map(float, counts)), value, 0.0)


@pytest.mark.parametrize(
    ("values", "mean"),
    [([INF, 1.0], INF), ([1.0, INF], INF), ([-INF, 2.0, 3.0], -INF), ([INF, INF], INF), ([INF, -INF], NAN),
     ([1.0, INF, -INF], NAN), ([1.0, NAN], NAN), ([NAN, INF], NAN)],
    ids=str,
)  # fmt: skip
def test_infinities_add_up_as_in_a_sum(values, mean):
    assert same(fold(values), (len(values), mean, NAN))
    s, q = sum(values), sum(v * v for v in values)  # about a pivot of 0, as `finite_or_zero` chooses
    assert same(welford.settle(float(len(values)), 0.0, s, q), (mean, NAN))


def test_settle_never_gives_a_negative_m2():
    s, q = 3 * 0.1, 3 * (0.1 * 0.1)
    assert q - s * (s / 3) < 0  # what rounding makes of it
    assert welford.settle(3.0, 7.0, s, q)[1] == 0


@pytest.mark.parametrize(("value", "expected"), [(INF, 0.0), (-INF, 0.0), (NAN, 0.0), (-2.5, -2.5), (1e308, 1e308)])
def test_finite_or_zero(value, expected):
    assert welford.finite_or_zero(value) == expected


@given(st.floats(0, 1e300), st.integers(1, 1 << 30), st.sampled_from([1e-5, 1e-12, 1.0]))
def test_inverse_std(m2, n, eps):
    spread = Fraction(m2) / n + Fraction(eps)
    assert abs(Fraction(welford.inverse_std(m2, float(n), eps)) ** 2 * spread - 1) <= 6 * Fraction(EPS64)


def test_inverse_std_of_what_is_no_variance():
    assert math.isnan(welford.inverse_std(NAN, 3.0, 1e-5))
    assert welford.inverse_std(INF, 3.0, 1e-5) == 0


@given(st.floats(-1e7, 1e7), st.floats(-30, 30), st.floats(1e-3, 1e3))
def test_standardize_keeps_the_digits_of_a_large_mean(mean, distance, scale):
    """In float32, against the exact (x - mean) * scale of the same x: a few ulp, although mean has none to spare."""
    x, high = np.float32(mean + distance), np.float32(mean)
    offset = np.float32((float(high) - mean) * scale)
    got = float(welford.standardize(x, high, np.float32(scale), offset))
    exact = (Fraction(float(x)) - Fraction(mean)) * Fraction(scale)
    near = abs(float(x) - float(high)) + abs(float(high) - mean)
    assert abs(got - exact) <= 3 * EPS32 * near * scale + 1e-44


def test_scale_and_shift():
    assert welford.scale_and_shift(3.0, 2.0, -1.0) == 5.0
    assert math.copysign(1, welford.scale_and_shift(-0.0, 1.0, -0.0)) == -1  # -0.0 is the bias that changes nothing


@pytest.mark.parametrize(
    ("mean", "scale", "fits"),
    [(0.0, 1.0, 1.0), (1e37, 1e-25, 1.0), (1e39, 1.0, 0.0), (-1e39, 1.0, 0.0), (0.0, 1e37, 0.0), (0.0, 1e-37, 0.0),
     (0.0, -1.0, 1.0), (0.0, -1e37, 0.0), (0.0, 0.0, 1.0),
     (NAN, 1.0, 1.0), (0.0, NAN, 1.0), (INF, 1.0, 0.0), (0.0, INF, 0.0)],
)  # fmt: skip
def test_fits_float32(mean, scale, fits):
    assert welford.fits_float32(mean, scale) == fits
