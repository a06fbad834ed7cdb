"""The scalar mathematics: as good as rounding allows in floats, and numbers that are not finite.

The functions are plain Python here. `test_accumulators` has the moments.
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


@pytest.mark.parametrize(("value", "expected"), [(INF, 0.0), (-INF, 0.0), (NAN, 0.0), (-2.5, -2.5), (1e308, 1e308)])
def test_finite_or_zero(value, expected):
    assert welford.finite_or_zero(value) == expected


@given(st.floats(0, 1e300), st.integers(1, 1 << 30), st.sampled_from([1e-5, 1e-12, 1.0]))
def test_inverse_std(m2, n, eps):
    spread = Fraction(m2) / n + Fraction(eps)
    assert abs(Fraction(welford.inverse_std(m2, float(n), (eps, 0.0, 0.0))) ** 2 * spread - 1) <= 6 * Fraction(EPS64)


@given(st.floats(0, 1e300), st.integers(2, 1 << 30), st.sampled_from([1e-5, 1e-12, 1.0]), st.sampled_from([0, 1]))
def test_inverse_std_with_eps_added_to_the_deviation(m2, n, eps, ddof):
    spread = welford.spread_of(eps, True, ddof)
    expected = 1 / (math.sqrt(m2 / (n - ddof)) + eps)
    assert abs(welford.inverse_std(m2, float(n), spread) / expected - 1) <= 6 * EPS64
    assert welford.spread_of(eps, False, ddof) == (eps, 0.0, float(ddof))


@pytest.mark.parametrize(("value", "expected"), [(INF, 0.0), (NAN, 0.0), (-2.5, -2.5), (1e308, 0.0), (-1e270, -1e270)])
def test_base_or_zero(value, expected):
    assert welford.base_or_zero(value) == expected


def test_inverse_std_of_what_is_no_variance():
    assert math.isnan(welford.inverse_std(NAN, 3.0, (1e-5, 0.0, 0.0)))
    assert welford.inverse_std(INF, 3.0, (1e-5, 0.0, 0.0)) == 0


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


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(0, 1))
def test_move(old, new, share):
    exact = (1 - Fraction(share)) * Fraction(old) + Fraction(share) * Fraction(new)
    assert abs(welford.move(old, new, share) - exact) <= 2 * EPS64 * max(abs(old), abs(new))


def test_move_by_all_and_by_nothing():
    assert welford.move(2.0, 3.0, 1.0) == 3.0
    assert welford.move(2.0, 3.0, 0.0) == 2.0
    assert math.isnan(welford.move(2.0, NAN, 0.5))
