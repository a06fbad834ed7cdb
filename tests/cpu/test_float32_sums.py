"""Variances that norms make of float32 and narrower data, on data that are hard for sums in float32.

The data are groups, one a row of an array, and every arrangement puts the same groups into memory in another way, as
one call: kinds of data lie side by side, so that a group whose neighbours are odd is seen as well.
"""

from itertools import pairwise

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import EPS32, EPS64, assert_within, wide
from strategies import RANDOM

import numbanorm as nbn
from numbanorm.cpu.kernels.constants import BLOCK, LANES, ROW_BLOCK

exhaustive = pytest.mark.exhaustive

# how groups lie in memory ---------------------------------------------------------------------------------------------


def rows(groups):
    return groups, (1,)


def columns(groups):
    return np.ascontiguousarray(groups.T), (0,)


def runs(groups, size=49):
    """Batch norm, channels first: a group in short runs, those of all groups before the next."""
    cut = groups.reshape(len(groups), -1, size)
    return np.ascontiguousarray(cut.transpose(1, 0, 2)), (0, 2)


def long_runs(groups):
    return runs(groups, 150)


def members(groups, size=20):
    """Group norm, channels last: a group has several columns, which share a pivot."""
    cut = groups.reshape(len(groups), -1, size)
    return np.ascontiguousarray(cut.transpose(1, 0, 2)), (0, 2)


def few_members(groups):
    return members(groups, 4)


def lone_columns(groups):
    """Every group with room around it: lanes that no group fills."""
    x = np.full((groups.shape[1], len(groups), 3), np.nan, groups.dtype)
    x[:, :, 1] = groups.T
    return x[:, :, 1], (0,)


ARRANGED = {
    "rows": rows,
    "columns": columns,
    "runs": runs,
    "long runs": long_runs,
    "members": members,
    "few members": few_members,
    "lone columns": lone_columns,
}
arranged = pytest.mark.parametrize("arrange", ARRANGED.values(), ids=ARRANGED)
both = pytest.mark.parametrize("arrange", [rows, columns], ids=["rows", "columns"])
with_members = pytest.mark.parametrize("arrange", [rows, columns, members], ids=["rows", "columns", "members"])


def fitting(groups, arrange):
    """As many of the values as the arrangement can take."""
    unit = {runs: 49, long_runs: 150, members: 20, few_members: 4}.get(arrange, 1)
    return groups[:, : groups.shape[1] // unit * unit]


# what is right --------------------------------------------------------------------------------------------------------


def normalized(groups, arrange, **options):
    """The output, group by group, and the moments that it was made with."""
    x, axis = arrange(groups)
    y, moments = nbn.normalize(x, axis=axis, eps=0, return_moments=True, **options)
    if arrange is not rows:
        y = np.moveaxis(y, 1, 0).reshape(groups.shape)
    return y, moments


def truth(groups):
    """Mean and M2 in float64, about each group's first value and then about the mean of what is left."""
    x = wide(groups)
    distance = x - x[:, :1]
    shift = distance.mean(1, keepdims=True)
    rest = distance - shift
    m2 = (rest**2).sum(1) - rest.sum(1) ** 2 / x.shape[1]
    return (x[:, :1] + shift)[:, 0], m2


def check(groups, arrange, dtype=None, unit=EPS32):
    """Within 8 ulp of the variance, 4 of a standard deviation for the mean, and 4 units of rounding for the output."""
    groups = fitting(groups, arrange)
    if groups.shape[1] == 0:
        return
    y, moments = normalized(groups, arrange, **({} if dtype is None else {"dtype": dtype}))
    mean, m2 = truth(groups)
    std = np.sqrt(m2 / groups.shape[1])
    assert_within(moments.m2, m2, 8 * EPS32 * m2)
    assert_within(moments.mean, mean, 4 * EPS32 * std + 2 * EPS64 * np.abs(mean))
    z = (wide(groups) - mean[:, None]) / np.where(std == 0, 1, std)[:, None]
    assert_within(y, z, 4 * unit * np.maximum(1, np.abs(z)))


# what is hard ---------------------------------------------------------------------------------------------------------


def noise(rng, n):
    return rng.standard_normal(n)


def stretch(rng, n, far, length=64):
    """Noise, of which one stretch lies elsewhere; where a pivot is looked for, or where not."""
    x, start = noise(rng, n), int(rng.integers(n))
    x[start : start + int(rng.integers(1, length + 1))] += far
    return x


def comb(rng, n, far):
    """Noise, of which every second, fourth ... value lies elsewhere, or every second, fourth ... vector."""
    x, period, unit = noise(rng, n), 2 ** int(rng.integers(1, 7)), int(rng.choice([1, LANES]))
    x[np.arange(n) // unit % period == rng.integers(period)] += far
    return x


def losing(rng, n):
    """Large values first in every chain, and then values of which an addition loses nearly half of what it can.

    A chain has every second or fourth vector, or row; a piece has 4 to 8 of each chain.
    """
    unit, period, first = (int(rng.choice(of)) for of in ([1, LANES], [8, 12, 16, 24, 32], [1, 2, 4, 8]))
    small = 2.0 ** -rng.choice([12.05, 12.3]) * (1 - 2.0**-10 * rng.random(n))
    large = (1 + 2.0**-12 * rng.random(n)) * rng.choice([1, -1], n, p=[0.8, 0.2])
    return np.where(np.arange(n) // unit % period < first, large, small) + rng.choice([0.0, 2.0**-5])


def two_neighbours(rng, n):
    return np.where(rng.random(n) < rng.random(), 1e4, np.nextafter(np.float32(1e4), np.float32(2e4)))


def tiny_or_huge(rng, n):
    return noise(rng, n) * 10.0 ** rng.uniform(-18, 18, n)


def plateaus(rng, n):
    """Long stretches of equal values, most of them 0."""
    lengths = rng.integers(1, 200, n)
    values = np.where(rng.random(n) < 0.6, 0, 100 + noise(rng, n))
    return np.repeat(values, lengths)[:n]


HARD = {
    "noise": noise,
    "noise far from 0": lambda rng, n: 1e4 + noise(rng, n),
    "sorted": lambda rng, n: np.sort(noise(rng, n)),
    "reversed": lambda rng, n: np.sort(1e3 + noise(rng, n))[::-1],
    "ramp": lambda rng, n: np.linspace(-1, 5, n) + 1e-3 * noise(rng, n),
    "waves": lambda rng, n: np.sin(np.arange(n) / rng.uniform(1, n)) + 0.02 * noise(rng, n),
    "walk": lambda rng, n: np.cumsum(noise(rng, n)),
    "ReLU": lambda rng, n: np.maximum(noise(rng, n), 0),
    "nine of ten 0": lambda rng, n: np.maximum(noise(rng, n) - 1.28, 0),
    "plateaus": plateaus,
    "signs": lambda rng, n: np.resize([1.0, -1.0], n) * (1 + 0.1 * rng.random(n)),
    "signs, large": lambda rng, n: np.resize([1e30, -1e30], n),
    "one outlier": lambda rng, n: stretch(rng, n, 1e6, 1),
    "a stretch a little off": lambda rng, n: stretch(rng, n, 1.5, 300),
    "a stretch elsewhere": lambda rng, n: stretch(rng, n, 1e4),
    "the first elsewhere": lambda rng, n: noise(rng, n) + np.where(np.arange(n) % BLOCK < 64, 1e4, 0),
    "the first rows elsewhere": lambda rng, n: noise(rng, n) + np.where(np.arange(n) % ROW_BLOCK < 32, 1e4, 0),
    "a comb a little off": lambda rng, n: comb(rng, n, 1.0),
    "a comb elsewhere": lambda rng, n: comb(rng, n, -1e4),
    "chains that lose": losing,
    "two neighbours": two_neighbours,
    "heavy tails": lambda rng, n: np.exp(3 * noise(rng, n)),
    "heavier tails": lambda rng, n: rng.standard_cauchy(n),
    "tiny or huge": tiny_or_huge,
    "1e30": lambda rng, n: 1e30 * noise(rng, n),
    "1e-30": lambda rng, n: 1e-30 * noise(rng, n),
    "1e-13": lambda rng, n: 10.0 ** rng.uniform(-15, -11) * noise(rng, n),
    "1e18": lambda rng, n: 10.0 ** rng.uniform(16, 19) * noise(rng, n),
    "subnormal": lambda rng, n: 1e-40 * noise(rng, n),
    "smallest": lambda rng, n: 1.4e-45 * rng.integers(-2, 3, n),
    "largest": lambda rng, n: 3.4e38 * rng.uniform(-1, 1, n),
    "ends": lambda rng, n: rng.choice([-3.4e38, 3.4e38], n),
    "constant": lambda rng, n: np.full(n, rng.choice([0.1, 1.0, -1e4 / 3, 3.3e38, 7e-41])),
    "zeros": lambda rng, n: np.zeros(n),
}


def groups_of(rng, n, names=tuple(HARD), times=2, dtype=np.float32):
    values = np.stack([HARD[name](rng, n) for _ in range(times) for name in names])
    largest = float(ml_dtypes.finfo(dtype).max)
    return np.clip(values, -largest, largest).astype(dtype)


SIZES = [1, 2, 15, 16, 17, 49, 63, 64, 65, 128, 196, 511, 512, 513, 784, 2047, 2048, 2049, 5000]


@arranged
@pytest.mark.parametrize("n", SIZES)
def test_every_kind_of_data_at_every_size(rng, arrange, n):
    check(groups_of(rng, n), arrange)


@pytest.mark.parametrize("value", [30.0, 1e4, 1e18, 3e38])
@pytest.mark.parametrize(
    ("arrange", "n"), [(rows, BLOCK + 70), (columns, 2 * ROW_BLOCK + 17), (members, 1500), (runs, 49 * 12)]
)
def test_an_outlier_at_every_place_of_a_block(rng, arrange, n, value):
    groups = rng.standard_normal((n, n), np.float32)
    np.fill_diagonal(groups, value)
    check(groups, arrange)


@pytest.mark.parametrize("far", [0.7, 2.0, 1e4])
@pytest.mark.parametrize(
    ("arrange", "n"), [(rows, BLOCK + 70), (columns, 3 * ROW_BLOCK + 17), (members, 1500), (runs, 49 * 12)]
)
@pytest.mark.parametrize("length", [16, 64])
def test_a_stretch_elsewhere_at_every_place_of_a_block(rng, arrange, n, length, far):
    groups = rng.standard_normal((n, n), np.float32)
    place = np.arange(n)
    groups[(place - place[:, None]) % n < length] += np.float32(far)
    check(groups, arrange)


def two_values(rng, mask):
    """Groups of two values. All lanes round alike then, and no rounding makes up for another."""
    low, high = rng.random((2, len(mask), 1)) * [[[1]], [[100]]]
    return np.where(mask, low, high).astype(np.float32)


@pytest.mark.parametrize("length", [16, 64, BLOCK])
@pytest.mark.parametrize(("arrange", "n"), [(rows, BLOCK + 70), (columns, 5 * ROW_BLOCK + 17), (runs, 49 * 12)])
def test_two_values_one_after_the_other(rng, arrange, n, length):
    """The second from any place of a block on, or for a stretch."""
    after = np.arange(n) - np.arange(n)[:, None]
    check(two_values(rng, (after >= 0) & (after < length)), arrange)


@pytest.mark.parametrize(("arrange", "n"), [(rows, BLOCK), (rows, 700), (columns, ROW_BLOCK + 16), (runs, 49 * 12)])
@pytest.mark.parametrize("unit", [1, LANES])
def test_two_values_in_turn(rng, arrange, n, unit):
    """One of them, perhaps, at all places of which the pivot is made."""
    place = np.arange(n) // unit
    masks = [place % period == phase for period in (2, 4, 8, 16, 32, 64) for phase in range(period)]
    check(two_values(rng, np.array(4 * masks)), arrange)


@both
def test_a_neighbouring_number_at_every_place_of_a_block(arrange):
    """The distance of two neighbours is all the spread there is."""
    n = 2 * ROW_BLOCK + 17
    values = np.array([1.0, 0.1, -1e4 / 3, 1e-3, 12345.678], np.float32)
    groups = np.repeat(values, n)[:, None] * np.ones(n, np.float32)
    place = np.arange(len(groups))
    groups[place, place % n] = np.nextafter(groups[place, place % n], np.float32(np.inf))
    check(groups, arrange)


@arranged
@pytest.mark.parametrize("n", [1, 49, 64, 100, 784, 2048, 2100, 5000])
def test_constants_are_exact(arrange, n):
    values = np.array([0, 0.1, 1, -1e4 / 3, 16777215, 1e30, 3.4e38, -3.4e38, 1e-30, 7e-41, 1.4e-45], np.float32)
    groups = fitting(np.repeat(values, n).reshape(-1, n), arrange)
    if groups.shape[1] == 0:
        return
    y, moments = normalized(groups, arrange)
    np.testing.assert_array_equal(moments.m2, 0)
    np.testing.assert_array_equal(moments.mean, values)
    np.testing.assert_array_equal(y, 0)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n", [49, 600, 2100])
@with_members
def test_what_is_not_finite_stays_in_its_group(rng, arrange, n, odd):
    groups = fitting(groups_of(rng, n), arrange)
    n = groups.shape[1]
    plain = normalized(groups, arrange)
    bad = rng.random(len(groups)) < 0.4
    at = rng.integers(0, n, bad.sum())
    at[::3] = np.resize([0, n // 2], at[::3].size)  # first, too
    groups[bad, at] = odd
    y, moments = normalized(groups, arrange)
    np.testing.assert_array_equal(moments.mean[bad], odd)
    assert np.isnan(moments.m2[bad]).all()
    assert np.isnan(y[bad]).all()
    for got, want in ((moments.mean, plain[1].mean), (moments.m2, plain[1].m2)):
        np.testing.assert_array_equal(got[~bad], want[~bad])
    check(groups[~bad], arrange)


@arranged
@pytest.mark.parametrize("n", [49 * 8, 2100, 5000])
def test_the_bits_of_a_state_depend_on_the_group_alone(rng, arrange, n):
    groups = fitting(groups_of(rng, n, times=1), arrange)
    groups = groups[: len(groups) // 16 * 16]  # columns of whole vectors: a part of one is summed in another order
    _, first = normalized(groups, arrange)
    order = rng.permutation(len(groups))
    _, second = normalized(groups[order], arrange)
    np.testing.assert_array_equal(second.m2, first.m2[order])
    np.testing.assert_array_equal(second.mean, first.mean[order])
    for other in (0, np.nan, 1e-30 * noise(rng, groups.shape[1]), 1e30 * noise(rng, groups.shape[1])):
        kept = rng.random(len(groups)) < 0.5
        _, third = normalized(np.where(kept[:, None], groups, np.float32(other)), arrange)
        np.testing.assert_array_equal(third.m2[kept], first.m2[kept])
        np.testing.assert_array_equal(third.mean[kept], first.mean[kept])


@pytest.mark.parametrize("names", [HARD, ["noise far from 0", "walk", "waves"]], ids=["many groups", "few"])
@both
def test_the_bits_do_not_depend_on_the_threads(rng, arrange, names, threads):
    """A few large groups are shared among threads part by part, by kernels of their own."""
    groups = groups_of(rng, 40_000, names, times=1)
    results = []
    for count in (1, 2, 3, threads):
        nbn.set_num_threads(count)
        results.append(normalized(groups, arrange))
    for (y, moments), (y2, moments2) in pairwise(results):
        np.testing.assert_array_equal(y, y2)
        np.testing.assert_array_equal(moments.m2, moments2.m2)
        np.testing.assert_array_equal(moments.mean, moments2.mean)
    check(groups, arrange)


HALF = ["float16", pytest.param("bfloat16", marks=exhaustive)]


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("n", [1, 17, 64, 513, 2049])
@both
def test_half_precision(rng, arrange, n, dtype):
    dtype = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    groups = groups_of(rng, n, dtype=dtype)
    check(groups, arrange, unit=float(ml_dtypes.finfo(dtype).eps) / 4 + EPS32)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
@pytest.mark.parametrize("n", [1, 17, 64, 513, 2049])
@pytest.mark.parametrize("arrange", [rows, pytest.param(columns, marks=exhaustive)], ids=["rows", "columns"])
@exhaustive
def test_integers_to_float32(rng, arrange, n, dtype):
    info = np.iinfo(dtype)
    groups = rng.integers(info.min, info.max, (40, n), dtype, endpoint=True)
    groups[:5] = info.max
    groups[5:10] = rng.choice([info.min, info.max], (5, n))
    groups[10:15] = np.sort(groups[10:15])
    groups[15:20, n // 2 :] = 0
    check(groups, arrange, dtype=np.float32)


@pytest.mark.parametrize("n", [1, 17, 64, 513, 2049, 5000])
def test_squares_of_rms_norm(rng, n):
    x = groups_of(rng, n)
    x = x[(np.abs(x) > 0).any(1)]
    with np.errstate(over="ignore"):
        rms = np.sqrt((wide(x) ** 2).mean(1, keepdims=True))
    want = wide(x) / rms
    assert_within(nbn.rms_norm(x, (n,), eps=0), want, 4 * EPS32 * np.maximum(1e-30, np.abs(want)))


@both
def test_running_statistics(rng, arrange):
    groups = groups_of(rng, 2100, [name for name in HARD if "largest" not in name and "ends" not in name])
    mean, m2 = truth(groups)
    fits = m2 / 2099 < 3e38
    groups, mean, var = groups[fits], mean[fits], m2[fits] / 2099
    x = np.ascontiguousarray(groups.T)  # (n, channels)
    if arrange is rows:
        x = np.ascontiguousarray(groups)[None]  # (1, channels, n)
    ours = np.zeros(len(groups), np.float32), np.zeros(len(groups), np.float32)
    nbn.batch_norm(x, *ours, training=True, momentum=1.0)
    tiny = 2.0**-149
    assert_within(ours[0], mean, 4 * EPS32 * np.sqrt(var) + EPS32 * np.abs(mean) + tiny)
    assert_within(ours[1], var, 9 * EPS32 * var + tiny)


@both
def test_moments_asked_for_themselves_are_summed_in_float64(rng, arrange):
    groups = groups_of(rng, 5000)
    x, axis = arrange(groups)
    mean, m2 = truth(groups)
    moments = nbn.moments(x, axis=axis)
    assert_within(moments.m2, m2, 0.01 * EPS32 * m2)
    assert_within(moments.mean, mean, 1e-12 * np.sqrt(m2 / 5000) + 2 * EPS64 * np.abs(mean))


@settings(max_examples=60)
@given(RANDOM, st.sampled_from(list(ARRANGED.values())), st.integers(1, 3000))
def test_mixtures(rng, arrange, n):
    """Of two kinds of data, mixed value by value or one after the other, moved and scaled."""
    groups = []
    for _ in range(20):
        one, other = (HARD[rng.choice(list(HARD))](rng, n).astype(np.float32) for _ in range(2))
        mask = np.arange(n) < rng.integers(n + 1) if rng.random() < 0.5 else rng.random(n) < rng.random()
        mixed = np.where(mask, one, np.roll(other, int(rng.integers(n))))
        exponent = 127 - np.frexp(max(1e-30, float(np.abs(mixed).max())))[1]
        groups.append(np.ldexp(mixed, int(rng.integers(-20, min(20, exponent) + 1))))
    check(np.stack(groups).astype(np.float32), arrange)


def test_the_data_are_hard_enough(rng):
    """Sums in float32 about the mean of the first values, even pairwise ones, are not within 8 ulp."""
    for name in ("the first elsewhere", "sorted", "reversed", "noise far from 0"):
        groups = groups_of(rng, BLOCK, [name], times=20)
        pivot = groups[:, :1] if name == "noise far from 0" else groups[:, :64].mean(1, keepdims=True)
        d = groups - pivot
        m2 = (d * d).sum(1) - d.sum(1) ** 2 / BLOCK
        assert np.abs(m2 / truth(groups)[1] - 1).max() > (EPS32 if "far" in name else 2 * EPS32)
