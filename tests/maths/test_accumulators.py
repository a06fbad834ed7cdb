"""Sums and states: exact in fractions, and as good as rounding allows in floats.

The functions are plain Python here. In fractions they must give the statistics of the values to the last digit: what
is left for the float tests is rounding, and numbers that are not finite.
"""

import importlib
import itertools
import math
from fractions import Fraction

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import EPS64, exact_moments

from numbanorm.cpu.engine import ENGINE
from numbanorm.maths import accumulators, coefficients

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
        result = accumulators.merge(*result, 1.0, value, value - value)
    return result


def same(a, b):
    return all(x == y or (math.isnan(x) and math.isnan(y)) for x, y in zip(a, b, strict=True))


@given(SAMPLES, SAMPLES)
def test_merge_is_exact_in_fractions(a, b):
    assert accumulators.merge(*state(a), *state(b)) == state(a + b)


@given(SAMPLES, WHOLE)
def test_settle_is_exact_in_fractions(values, pivot):
    n, mean, m2 = state(values)
    s, q = sum(v - pivot for v in values), sum((v - pivot) ** 2 for v in values)
    assert accumulators.settle(Fraction(n), pivot, (s, q)) == (mean, m2)


@given(SAMPLES, SAMPLES, WHOLE)
def test_sums_are_pushed_and_added(a, b, pivot):
    """Two chains of differences, and what both of them hold."""
    chains = []
    for values in (a, b):
        sums = Fraction(0), Fraction(0)
        for value in values:
            sums = accumulators.push(sums, value - pivot)
        assert sums == (sum(v - pivot for v in values), sum((v - pivot) ** 2 for v in values))
        chains.append(sums)
    n, mean, m2 = state(a + b)
    assert accumulators.settle(n, pivot, accumulators.added(*chains)) == (mean, m2)


@given(FLOATS, FLOATS)
def test_merge_rounds_little(a, b):
    n, mean, m2 = map(float, state(a + b))
    largest = max(map(abs, a + b))
    got = accumulators.merge(*map(float, state(a)), *map(float, state(b)))
    assert got[0] == n
    assert abs(got[1] - mean) <= 4 * EPS64 * largest
    assert abs(got[2] - m2) <= 8 * EPS64 * (m2 + n * largest * m2**0.5 + n * EPS64 * largest**2)


@given(FLOATS, FLOATS, FLOATS)
def test_merge_is_associative_up_to_rounding(a, b, c):
    a, b, c = (tuple(map(float, state(values))) for values in (a, b, c))
    left, right = (
        accumulators.merge(*accumulators.merge(*a, *b), *c),
        accumulators.merge(*a, *accumulators.merge(*b, *c)),
    )
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
        assert same(accumulators.merge(*empty, *other), other)
        if other[0]:
            assert same(accumulators.merge(*other, *empty), other)


@given(NUMBERS, st.lists(st.integers(1, 1 << 40), min_size=2, max_size=9))
def test_constants_are_exact(value, counts):
    """Equal values have m2 = 0 and their own mean, however they are cut and merged."""
    merged = 0.0, 0.0, 0.0
    for count in counts:
        merged = accumulators.merge(*merged, float(count), *accumulators.settle(float(count), value, (0.0, 0.0)))
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
    assert same(accumulators.settle(float(len(values)), 0.0, (s, q)), (mean, NAN))


@given(NUMBERS, NUMBERS)
def test_a_sum_and_what_rounding_left_behind(a, b):
    whole, rest = accumulators.two_sum(a, b)
    assert whole == a + b
    assert Fraction(whole) + Fraction(rest) == Fraction(a) + Fraction(b)


@pytest.mark.parametrize(("a", "b"), [(INF, 1.0), (1.0, -INF), (INF, -INF), (NAN, 1.0), (1.7e308, 1.7e308)])
def test_what_is_left_of_a_sum_that_is_not_finite(a, b):
    assert same(accumulators.two_sum(a, b), (a + b, NAN))


TWO_PARTS = st.tuples(st.integers(1, 9).map(float), st.floats(-1e9, 1e9), st.floats(0, 1e3), st.floats(-0.5, 0.5))


@given(TWO_PARTS, TWO_PARTS)
def test_means_in_two_parts_merge_to_two_parts(a, b):
    """In fractions exactly by definition; in floats off by a rounding of the distance, not of the mean."""
    a, b = ((n, mean, m2, part * float(np.spacing(abs(mean)))) for n, mean, m2, part in (a, b))
    n, mean, m2, rest = coefficients.merged(*a, *b)
    (na, mean_a, m2_a, rest_a), (nb, mean_b, m2_b, rest_b) = (map(Fraction, state) for state in (a, b))
    delta = (mean_b + rest_b) - (mean_a + rest_a)
    unit = Fraction(EPS64)
    assert n == na + nb
    exact = mean_a + rest_a + delta * nb / (na + nb)
    allowed = 4 * unit * abs(delta) + 4 * unit**2 * (abs(mean_a) + abs(mean_b)) + Fraction(1, 10**300)
    assert abs(Fraction(mean) + Fraction(rest) - exact) <= allowed
    assert abs(rest) <= np.spacing(abs(mean)) / 2
    between = delta**2 * na * nb / (na + nb)
    assert abs(Fraction(m2) - (m2_a + m2_b + between)) <= 8 * unit * (m2_a + m2_b + between) + Fraction(1, 10**300)


def test_a_million_merges_do_not_drift(rng):
    """Values one by one: of M2 nothing is lost but what adding up a million squares loses."""
    importlib.import_module("numbanorm.cpu.kernels.lanes")  # with it come the kernels' `where` and `sqrt`
    merged = coefficients.merged

    @numba.njit(error_model="numpy")
    def fold(values):
        n, mean, m2, rest = 0.0, 0.0, 0.0, 0.0
        for value in values:
            n, mean, m2, rest = merged(n, mean, m2, rest, 1.0, value, 0.0, 0.0)
        return n, mean, m2, rest

    for values in (1e8 + 1e-2 * rng.standard_normal(1_000_000), 1e7 + 0.1 * np.arange(1_000_000.0)):
        n, mean, m2, rest = fold(values)
        count, exact, squares = exact_moments(values)
        deviation = math.sqrt(squares / count)
        assert n == count
        assert abs(Fraction(mean) + Fraction(rest) - exact) <= 1e-13 * deviation
        assert abs(Fraction(m2) / squares - 1) <= 1e-11


def test_settle_never_gives_a_negative_m2():
    s, q = 3 * 0.1, 3 * (0.1 * 0.1)
    assert q - s * (s / 3) < 0  # what rounding makes of it
    assert accumulators.settle(3.0, 7.0, (s, q))[1] == 0


# the merge without a branch -------------------------------------------------------------------------------------------

COUNTS = [0.0, 1.0, 2.0, 3.0, 2.0**53, 1e308, INF, NAN]
MEANS = [0.0, -0.0, 1.0, -1.0, 1 / 3, 1e-320, 1e154, -1e154, 1.7e308, -1.7e308, INF, -INF, NAN]
M2S = [0.0, 1.0, 1e-320, 1.7e308, INF, NAN]


def assert_same_bits(got, want):
    """The same numbers, but for the sign of 0; NaN is NaN."""
    for numbers, expected in zip(got, want, strict=True):
        np.testing.assert_array_equal(numbers, expected)


def merged_one_by_one(states):
    """`merge` of each pair of states, in NumPy's numbers, which divide by 0 as processors do."""
    with np.errstate(all="ignore"):
        return np.transpose([accumulators.merge(*map(np.float64, pair)) for pair in states.T])


def assert_merged_alike(states):
    """Of states whose means have no second part."""
    want, none = merged_one_by_one(states), np.zeros(states.shape[1])
    states = np.array([*states[:3], none, *states[3:], none])
    assert_same_bits(ENGINE.pointwise("merged", 4, *states)[:3], want)
    with np.errstate(all="ignore"):
        one_by_one = [coefficients.merged(*map(np.float64, pair)) for pair in states.T]
    assert_same_bits(np.transpose(one_by_one)[:3], want)


def test_both_merges_have_the_same_bits(rng):
    """Of all pairs of states with counts of 0, with infinities and NaN, and of many others."""
    states = np.array(list(itertools.product(COUNTS, MEANS, M2S)))
    a, b = (part.ravel() for part in np.meshgrid(range(len(states)), range(len(states))))
    some = rng.choice(len(a), 8000, replace=False)
    # All pairs of counts and means; of the rest a part.
    few = np.flatnonzero((states[a, 2] == 1.0) & (states[b, 2] == 0.0))
    chosen = np.concatenate([some, few])
    assert_merged_alike(np.concatenate([states[a[chosen]].T, states[b[chosen]].T]))
    n = 4000
    counts, m2s = rng.integers(0, 4, (2, n)) * rng.integers(1, 2**30, (2, n)), rng.exponential(size=(2, n))
    scale = 10.0 ** rng.integers(-150, 150, n)
    means = rng.standard_normal((2, n)) * scale
    assert_merged_alike(np.array([counts[0], means[0], m2s[0], counts[1], means[1], m2s[1]], np.float64))


@given(st.tuples(*[st.floats(min_value=0), st.floats(), st.floats(min_value=0)] * 2))
def test_both_merges_have_the_same_bits_for_any_numbers(numbers):
    assert_merged_alike(np.array(numbers)[:, None] + 0.0)  # no count is -0.0
