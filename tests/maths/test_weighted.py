"""Sums of weighted values about a pivot that moves, against exact fractions."""

from fractions import Fraction
from math import frexp, inf, isnan, nan

import numpy as np
import pytest
from everyday import examples
from hypothesis import given
from hypothesis import strategies as st
from oracle import exact_weighted_moments

from numbanorm.maths.pivoted import settled
from numbanorm.maths.weighted import moved_to, together, turned


def in_range(n):
    """The number of a sum's range: from one to the next they are 16 times as wide."""
    return (frexp(n)[1] + 1022) // 4 if n > 0 else -1


def added_up(values, weights):
    """The state of values that are added one after the other, as kernels do."""
    n, p, s, q = 0.0, 0.0, 0.0, 0.0
    for value, weight in zip(values, weights, strict=True):
        if weight == 0:
            continue
        if in_range(n) != in_range(n + weight):
            n, p, s, q = turned(n, p, s, q, value, weight, 1.0)
        else:
            share = weight * (value - p)
            n, s, q = n + weight, s + share, q + share * (value - p)
    return tuple(map(float, (n, p, s, q)))


def check(state, values, weights):
    n, p, s, q = state
    total, mean, m2 = exact_weighted_moments(values, weights)
    high, low, squares = settled(n, p, s, q)
    assert q <= 40 * float(m2) * (1 + 1e-9)  # five bits, and what rounding adds
    reach = max(abs(float(v) - float(mean)) for v in values)
    assert abs(Fraction(float(high)) + Fraction(float(low)) - mean) <= Fraction(1e-13) * Fraction(reach)
    assert n == pytest.approx(float(total), rel=1e-13)
    assert squares == pytest.approx(float(m2), rel=1e-12, abs=0)


WEIGHTS = {
    "equal": lambda rng, n: np.ones(n),
    "of all sizes": lambda rng, n: 4.0 ** rng.integers(-60, 60, n),
    "growing": lambda rng, n: 2.0 ** np.arange(n),
    "falling": lambda rng, n: 2.0 ** -np.arange(n),
    "often zero": lambda rng, n: rng.random(n) * (rng.random(n) < 0.5) + (np.arange(n) == 0),
}


@pytest.mark.parametrize("kind", WEIGHTS)
@examples(200)
@given(seed=st.integers(0, 10**6), far=st.sampled_from([0.0, 1e4, 1e8]))
def test_no_digits_are_lost_whatever_the_weights(kind, seed, far):
    rng = np.random.default_rng(seed)
    weights = WEIGHTS[kind](rng, int(rng.integers(2, 300)))
    values = 1e6 + rng.standard_normal(weights.size)
    values[: rng.integers(1, 4)] += far
    check(added_up(values, weights), values[weights > 0], weights[weights > 0])


@examples(200)
@given(st.integers(0, 10**6))
def test_two_sets_are_together_as_one(seed):
    rng = np.random.default_rng(seed)
    values = [1e8 * rng.integers(0, 2) + rng.standard_normal(n) for n in rng.integers(1, 60, 2)]
    weights = [4.0 ** rng.integers(-30, 30) * rng.random(v.size) + 1e-9 for v in values]
    both = together(*added_up(values[0], weights[0]), *added_up(values[1], weights[1]))
    both = tuple(map(float, both))
    total, mean, m2 = exact_weighted_moments(np.concatenate(values), np.concatenate(weights))
    high, _, squares = settled(*both)
    assert high == pytest.approx(float(mean), rel=1e-15, abs=1e-13)
    assert both[0] == pytest.approx(float(total), rel=1e-13)
    assert squares == pytest.approx(float(m2), rel=1e-11)


@pytest.mark.parametrize("value", [0.1, 1e300, -1e-310])
def test_equal_values_leave_nothing_in_the_sums(value):
    n, p, s, q = added_up([value] * 100, np.linspace(0.1, 50, 100))
    assert (p, s, q) == (value, 0.0, 0.0)
    assert moved_to(n, p, s, q, value) == (0.0, 0.0)


def test_what_is_not_finite_is_no_pivot():
    for value in (inf, -inf, nan):
        n, p, s, q = added_up([value, 1.0, 2.0, 70.0], [1.0, 2.0, 50.0, 1000.0])
        assert n == 1053.0
        assert np.isfinite(p)
        high, _, m2 = settled(n, p, s, q)
        np.testing.assert_equal(float(high), value)
        assert isnan(m2)
