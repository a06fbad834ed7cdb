"""Chosen and weighted elements (where=, weights=, skipna=), against the oracle."""

import tracemalloc
from dataclasses import replace
from functools import partial

import numpy as np
import oracle
import planned
import pytest
from everyday import SWAPPED, every, examples, weights_for, wide
from hypothesis import given
from hypothesis import strategies as st
from oracle import NASTY, assert_within, exact_weighted_moments
from strategies import BFLOAT16, DTYPES, ORDERS, RANDOM, arrange, arrays, groupings, is_float

import numbanorm as nbn
from numbanorm.cpu import chosen as planning

SMALL = replace(planning.TUNING, serial_work=100, wanted_tasks=4, part_elements=16, tile=16, short_run=4, least_rows=2)
TABLES = {  # to walk the same arrays in every way
    "as it is": planning.TUNING,
    "many parts": SMALL,
    "rows": replace(SMALL, short_run=0, few_columns=1 << 40, wide=0),
    "columns": replace(SMALL, short_run=1 << 40, few_columns=0, wide=0),
    "rows side by side": replace(SMALL, short_run=1 << 40, wide=64, wide_rows=2),
    "runs side by side": replace(SMALL, short_run=0, neighbours_run=16, neighbours_rows=1),
    "both": replace(SMALL, short_run=0, neighbours_run=16, neighbours_rows=1, wide=64, wide_rows=2),
}
KINDS = ["where", "weights", "skipna"]

planned_by = partial(planned.planned_by, planning)


def of_own_shape(rng, shape):
    """A shape that broadcasts to another: often the whole, else fewer axes, or some of size 1."""
    if rng.random() < 0.5:
        return shape
    own = shape[rng.integers(len(shape) + 1) :]
    return tuple(1 if rng.random() < 0.4 else n for n in own)


def some_mask(rng, shape):
    mask = rng.random(shape) < rng.choice([0.0, 0.02, 0.5, 0.9, 1.0])
    return arrange(rng, np.asarray(mask), rng.choice(ORDERS))


def some_weights(rng, shape, dtype=np.float64):
    weights = rng.integers(0, 4, shape) if rng.random() < 0.5 else rng.random(shape) * (rng.random(shape) < 0.8)
    return arrange(rng, np.asarray(weights).astype(dtype), rng.choice(ORDERS))


@st.composite
def chosen(draw, dtypes, special=True):
    """An array, its grouping, what chooses of it, how it is walked."""
    grouping = draw(groupings())
    x = np.array(draw(arrays(grouping.shape, dtypes, special)), order="K")
    rng, order = draw(RANDOM), draw(st.sampled_from(ORDERS))
    if x.size and is_float(x.dtype) and rng.random() < 0.5:
        x[rng.random(x.shape) < rng.choice([0.1, 0.95])] = np.nan
    x = arrange(rng, x, order)
    names = rng.permutation(KINDS)[: rng.integers(1, 4)]
    how = {}
    if "where" in names:
        how["where"] = some_mask(rng, of_own_shape(rng, x.shape))
    if "weights" in names:
        how["weights"] = some_weights(rng, of_own_shape(rng, x.shape))
    if "skipna" in names:
        how["skipna"] = True
    return grouping, x, how, TABLES[rng.choice(list(TABLES))], int(rng.integers(1, 5))


def check(m, x, layout, how):
    ids, num_groups = oracle.groups(layout, x.shape)
    counts = oracle.counts_of(x, **how)
    with np.errstate(all="ignore"):
        expected = oracle.weighted_moments(x, ids, num_groups, counts)
        count, mean, m2 = (state.reshape(layout.group_shape(x.shape)) for state in expected)
        var = m2 / count
    elements = max(x.size, 1)
    assert m.shape == layout.group_shape(x.shape)
    np.testing.assert_allclose(m.count, count, rtol=1e-13 if "weights" in how else 0)
    there = np.where(counts > 0, oracle.wide(x), np.where(np.isnan(expected[1]), 0.0, expected[1])[ids])
    reach = oracle.mean_tolerance(there, ids, num_groups, expected[1]).reshape(mean.shape)
    assert_within(m.mean, mean, reach * (4 + np.log2(elements) / 2))
    # Four times m2 may be in the sums of squares: two bits.
    assert_within(m.m2, m2, 4 * (oracle.variance_tolerance(np.float64, elements, mean, var)) * m2)


@wide
@examples(500)
@given(data=st.data())
def test_any_choice_from_any_grouping_of_any_array(data, dtypes):
    grouping, x, how, tuning, threads = data.draw(chosen(dtypes))
    with planned_by(tuning, threads):
        m = nbn.moments(x, grouping.layout, **how, **grouping.keywords)
    check(m, x, grouping.as_layout(), how)


@examples(100)
@given(data=st.data())
def test_the_same_bits_for_any_number_of_threads(data):
    grouping, x, how, tuning, _ = data.draw(chosen([np.dtype("float64"), np.dtype("float32")]))
    found = set()
    for threads in (1, 2, 3, 4):
        with planned_by(tuning, threads):
            m = nbn.moments(x, grouping.as_layout(), **how)
        found.add((m.count.tobytes(), m.mean.tobytes(), m.m2.tobytes()))
    assert len(found) == 1


@pytest.mark.parametrize("axis", [0, 1, 2, (0, 2), (0, 1), (1, 2), None])
@pytest.mark.parametrize("names", ["where", "weights", "skipna", "where weights", "where weights skipna"])
def test_more_than_one_thread_takes(names, axis, threads, rng):
    x = 1e6 + rng.standard_normal((90, 70, 60))
    x[rng.random(x.shape) < 0.2] = np.nan if "skipna" in names else 3e6
    how = {"where": rng.random(x.shape) < 0.7, "weights": rng.random(x.shape), "skipna": True}
    how = {name: how[name] for name in names.split()}
    found = []
    for number in (1, 2, threads):
        nbn.set_num_threads(number)
        found.append(nbn.moments(x, axis=axis, **how))
        assert found[0] == found[-1]
    check(found[0], x, nbn.Layout.axes(axis if axis is not None else (0, 1, 2)), how)


@pytest.mark.parametrize("shape", [(40, 50, 49), (3, 33, 7, 49), (64, 3, 20), (33, 21, 96), (100, 1, 9)])
def test_short_runs_of_neighbouring_groups(shape, threads, rng):
    x = 1e6 + rng.standard_normal(shape)
    x[rng.random(shape) < 0.1] = np.nan
    how = {"where": rng.random(shape) < 0.7, "weights": rng.random(shape), "skipna": True}
    axis, found = (*range(x.ndim - 2), x.ndim - 1), []
    for number in (1, threads):
        nbn.set_num_threads(number)
        found.append(nbn.moments(x, axis=axis, **how))
    assert found[0] == found[1]
    check(found[0], x, nbn.Layout.axes(axis), how)
    how |= {"weights_are": "reliability"}
    beside = nbn.moments(x, axis=axis, **how)
    for name in ("where", "weights"):
        how[name] = np.moveaxis(how[name], -2, 0).reshape(shape[-2], -1)
    alone = nbn.moments(np.moveaxis(x, -2, 0).reshape(shape[-2], -1), axis=1, **how)
    np.testing.assert_allclose(beside.count, alone.count, rtol=1e-13)
    np.testing.assert_allclose(beside.var(ddof=1), alone.var(ddof=1), rtol=1e-12)


@pytest.mark.parametrize("dtype", every(DTYPES, [np.dtype("float32"), BFLOAT16, np.dtype("int8"), SWAPPED]))
@pytest.mark.parametrize("axis", [0, 1, None])
def test_every_dtype(dtype, axis, rng):
    x = rng.integers(0, 2 if dtype.kind == "b" else 100, (300, 70)).astype(dtype)
    how = {"where": rng.random(x.shape) < 0.5}
    check(nbn.moments(x, axis=axis, **how), x, nbn.Layout.axes((0, 1) if axis is None else axis), how)


@pytest.mark.parametrize("dtype", every(DTYPES, [np.dtype("float16"), np.dtype("int8")]))
def test_weights_of_every_dtype(dtype, rng):
    x = rng.standard_normal((50, 40))
    weights = rng.integers(0, 2 if dtype.kind == "b" else 9, x.shape).astype(dtype)
    for axis in (0, 1):
        check(nbn.moments(x, axis=axis, weights=weights), x, nbn.Layout.axes(axis), {"weights": weights})


# digits ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tuning", TABLES)
@pytest.mark.parametrize("names", ["where", "weights", "skipna", "where weights skipna"])
@pytest.mark.parametrize("numbers", NASTY)
def test_all_digits_are_kept(numbers, names, tuning, rng):
    x = NASTY[numbers](np.arange(6000.0))
    how = {"where": rng.random(6000) < 0.6, "weights": rng.random(6000), "skipna": True}
    how = {name: how[name] for name in names.split()}
    if "skipna" in how:
        x[rng.random(6000) < 0.3] = np.nan
        x[:40] = np.nan
    total, mean, m2 = exact_weighted_moments(np.nan_to_num(x), oracle.counts_of(x, **how))
    for table, choice in (
        (x, how),
        (np.repeat(x[:, None], 3, axis=1), {k: v if v is True else v[:, None] for k, v in how.items()}),
        (np.repeat(x[:, None], 20, axis=1), {k: v if v is True else v[:, None] for k, v in how.items()}),
    ):
        with planned_by(TABLES[tuning], 2):
            m = nbn.moments(table, axis=0, **choice)
        np.testing.assert_allclose(m.count, float(total), rtol=1e-14)
        np.testing.assert_allclose(m.mean, float(mean), rtol=0, atol=6e-16 * np.nanmax(np.abs(x)))
        np.testing.assert_allclose(m.m2, float(m2), rtol=1e-14)


@pytest.mark.parametrize("value", [0.1, 1e300, -1e-310, 2.0**70])
def test_equal_values_have_no_spread(value, rng):
    shape = (5000, 40)
    x = np.where(rng.random(shape) < 0.5, value, np.nan)
    weights = rng.random(shape)
    where = ~np.isnan(x)
    for axis in (0, 1, None):
        for how in ({"skipna": True}, {"where": where}, {"skipna": True, "weights": weights}):
            m = nbn.moments(x, axis=axis, **how)
            np.testing.assert_array_equal(m.mean, value)
            np.testing.assert_array_equal(m.m2, 0.0)


@pytest.mark.parametrize("begin", [3, 9, 40, 70, 130, 1000])
@pytest.mark.parametrize("features", [1, 5, 20])
def test_columns_that_begin_to_count_late(features, begin, rng):
    x = np.full((2000, features), np.nan)
    x[begin:, ::2] = 0.1
    x[begin + 1 :, 1::2] = 1e8 + rng.standard_normal((1999 - begin, features // 2))
    x[begin + 1 : begin + 3, 1::2] = -1e12
    m = nbn.moments(x, axis=0, skipna=True)
    np.testing.assert_array_equal(m.count[::2], 2000 - begin)
    np.testing.assert_array_equal(m.mean[::2], 0.1)
    np.testing.assert_array_equal(m.m2[::2], 0.0)
    for column in range(1, features, 2):
        _, mean, m2 = exact_weighted_moments(x[begin + 1 :, column], np.ones(1999 - begin))
        np.testing.assert_allclose(m.mean[column], float(mean), rtol=0, atol=2.3e-4)
        np.testing.assert_allclose(m.m2[column], float(m2), rtol=1e-14)


def test_numbers_whose_distances_overflow(rng):
    for size, axis in [(size, axis) for size in (1.7e308, 1e200, 3e154) for axis in (0, 1, None)]:
        x = size * np.where(rng.random((500, 40)) < 0.5, 1.0, -1.0) * rng.random((500, 40))
        where = rng.random(x.shape) < 0.5
        m = nbn.moments(x, axis=axis, where=where)
        with np.errstate(over="ignore"):
            mean = np.where(where, x / where.sum(axis=axis, keepdims=True), 0).sum(axis=axis)
        np.testing.assert_allclose(m.mean, mean, rtol=0, atol=1e-13 * size)
        np.testing.assert_array_equal(m.m2, np.inf)


def test_nan_and_infinities_stay_in_their_group():
    inf, nan = np.inf, np.nan
    x = np.ones((6, 50))
    x[0, 3], x[1, 4], x[2, 3:5], x[3, 3:5], x[4, 7] = inf, -inf, [inf, -inf], [nan, inf], nan
    for table, axis in ((x, 1), (x.T.copy(), 0)):
        m = nbn.moments(table, axis=axis, where=np.ones_like(table, bool))
        np.testing.assert_array_equal(m.mean, [inf, -inf, nan, nan, nan, 1])
        np.testing.assert_array_equal(m.m2, [nan, nan, nan, nan, nan, 0])
        m = nbn.moments(table, axis=axis, skipna=True)
        np.testing.assert_array_equal(m.mean, [inf, -inf, nan, inf, 1, 1])
        np.testing.assert_array_equal(m.count, [50, 50, 50, 49, 49, 50])


# what it means --------------------------------------------------------------------------------------------------------


def test_what_is_left_out_does_not_matter(rng):
    x, where = rng.standard_normal((60, 70)), rng.random((60, 70)) < 0.5
    for axis in (0, 1, None):
        expected = nbn.moments(x, axis=axis, where=where)
        for other in (np.nan, np.inf, 1e300, -0.0):
            assert nbn.moments(np.where(where, x, other), axis=axis, where=where) == expected
            weights = np.where(where, 1.0, 0.0)
            weighted = nbn.moments(np.where(where, x, other), axis=axis, weights=weights)
            np.testing.assert_allclose(weighted.mean, expected.mean, rtol=0, atol=1e-15)


def test_weights_of_what_is_left_out_are_not_looked_at():
    x = np.array([1.0, 2.0, np.nan, 4.0])
    weights = np.array([1.0, -1.0, np.nan, 2.0])
    m = nbn.moments(x, weights=weights, where=[True, False, True, True], skipna=True)
    np.testing.assert_array_equal([m.count, m.mean, m.m2], [3.0, 3.0, 6.0])


def test_groups_without_an_element(rng):
    x = rng.standard_normal((4, 50))
    x[1] = np.nan
    where = np.ones((4, 1), bool)
    where[2] = False
    weights = np.ones((4, 1))
    weights[3] = 0.0
    m = nbn.moments(x, axis=1, where=where, weights=weights, skipna=True)
    np.testing.assert_array_equal(m.count, [50, 0, 0, 0])
    np.testing.assert_array_equal(np.isnan(m.mean), [False, True, True, True])
    np.testing.assert_array_equal(m.m2[1:], 0.0)
    np.testing.assert_array_equal(np.isnan(m.var()), [False, True, True, True])


def test_frequencies_are_repetitions(rng):
    x, weights = rng.standard_normal(40), rng.integers(0, 5, 40)
    m, repeated = nbn.moments(x, weights=weights), np.repeat(x, weights)
    assert m.count == repeated.size
    np.testing.assert_allclose(m.mean, repeated.mean(), rtol=0, atol=1e-15)
    for ddof in (0, 1):
        np.testing.assert_allclose(m.var(ddof=ddof), repeated.var(ddof=ddof), rtol=1e-14)
        np.testing.assert_allclose(m.var(ddof=ddof), np.cov(x, fweights=weights, ddof=ddof), rtol=1e-13)


@pytest.mark.parametrize("axis", [0, 1, None])
@pytest.mark.parametrize("tuning", TABLES)
def test_reliability_weights(axis, tuning, rng):
    x, weights = 5 + rng.standard_normal((300, 40)), rng.random((300, 40))
    x[rng.random(x.shape) < 0.1] = np.nan
    chosen, where = ~np.isnan(x), rng.random(x.shape) < 0.8
    for ddof in (0, 1):
        for mask in (None, where):
            with planned_by(TABLES[tuning], 2):
                m = nbn.moments(x, axis=axis, where=mask, weights=weights, skipna=True, weights_are="reliability")
            own = chosen if mask is None else chosen & mask
            rows = (
                [(x[own], weights[own])]
                if axis is None
                else [
                    (np.take(x, i, 1 - axis)[ok], np.take(weights, i, 1 - axis)[ok])
                    for i in range(x.shape[1 - axis])
                    for ok in [np.take(own, i, 1 - axis)]
                ]
            )
            expected = [np.cov(values, aweights=w, ddof=ddof) for values, w in rows]
            np.testing.assert_allclose(np.ravel(m.var(ddof=ddof)), expected, rtol=1e-12)
            sums = [w.sum() ** 2 / (w**2).sum() for _, w in rows]
            np.testing.assert_allclose(np.ravel(m.count), sums, rtol=1e-12)
            np.testing.assert_allclose(np.ravel(m.mean), [np.average(v, weights=w) for v, w in rows], rtol=1e-13)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_the_scale_of_weights_does_not_matter(scale, rng):
    x = np.where(np.arange(6000) < 10, 1e6, 0.0) + rng.standard_normal(6000)
    weights = rng.random(6000)
    expected = nbn.moments(x, weights=weights)
    for shape in ((6000, 1), (1, 6000), (100, 60)):
        m = nbn.moments(x.reshape(shape), weights=scale * weights.reshape(shape))
        np.testing.assert_allclose(m.mean, expected.mean, rtol=1e-13)
        np.testing.assert_allclose(m.var(), expected.var(), rtol=1e-13)


def test_moments_of_choices_merge(rng):
    x = 1e5 + rng.standard_normal(5000)
    x[rng.random(5000) < 0.5] = np.nan
    weights = rng.random(5000)
    parts = [nbn.moments(x[i::3], weights=weights[i::3], skipna=True) for i in range(3)]
    check(sum(parts), x, nbn.Layout.axes(0), {"weights": weights, "skipna": True})


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)], ids=str)
def test_empty_arrays(shape):
    m = nbn.moments(np.ones(shape), axis=0, where=True, weights=1.0, skipna=True)
    assert m.shape == (shape[1],)
    np.testing.assert_array_equal(m.count, 0.0)
    np.testing.assert_array_equal(m.mean, np.nan)


def test_single_numbers():
    m = nbn.moments(3.0, where=True, weights=2.0)
    np.testing.assert_array_equal([m.count, m.mean, m.m2], [2.0, 3.0, 0.0])
    assert nbn.moments(3.0, where=False).count == 0
    assert nbn.moments(np.nan, skipna=True).count == 0


def test_integers_have_no_nan():
    assert nbn.moments(np.arange(10), skipna=True) == nbn.moments(np.arange(10))


def test_skipna_false_is_no_choice(rng):
    x = rng.standard_normal(30)
    assert nbn.moments(x, skipna=False, where=None, weights=None) == nbn.moments(x)
    labels = rng.integers(0, 3, 30)
    assert nbn.moments(x, labels=labels, skipna=np.False_) == nbn.moments(x, labels=labels)
    np.testing.assert_array_equal(nbn.normalize(x, labels=labels, skipna=np.False_), nbn.normalize(x, labels=labels))


def test_other_libraries(rng):
    pd, torch = pytest.importorskip("pandas"), pytest.importorskip("torch")
    x, where, weights = rng.standard_normal(50), rng.random(50) < 0.5, rng.random(50)
    expected = nbn.moments(x, where=where, weights=weights)
    for make in (pd.Series, torch.from_numpy, np.ndarray.tolist):
        assert nbn.moments(x, where=make(where), weights=make(weights)) == expected
    assert nbn.moments(torch.from_numpy(x), where=where, weights=weights) == expected


@examples(500)
@given(data=st.data())
def test_as_others_have_it(data):
    """NumPy, pandas and numbagg, on numbers without a large mean, for which they are right."""
    pd, numbagg = pytest.importorskip("pandas"), pytest.importorskip("numbagg")
    rng = data.draw(RANDOM)
    x = rng.standard_normal((rng.integers(2, 40), rng.integers(2, 40)))
    x[rng.random(x.shape) < 0.3] = np.nan
    x[:2] = rng.standard_normal((2, x.shape[1]))
    where = ~np.isnan(x)
    m = nbn.moments(x, axis=0, skipna=True)
    assert nbn.moments(x, axis=0, where=where) == m
    for var in (np.nanvar(x, axis=0, ddof=1), np.var(x, axis=0, ddof=1, where=where), pd.DataFrame(x).var()):
        np.testing.assert_allclose(m.var(ddof=1), var, rtol=1e-11)
    np.testing.assert_allclose(m.var(ddof=1), numbagg.nanvar(x.T, axis=1), rtol=1e-11)
    np.testing.assert_array_equal(m.count, pd.DataFrame(x).count())
    np.testing.assert_allclose(m.mean, np.nanmean(x, axis=0), rtol=1e-11, atol=1e-15)


# output ---------------------------------------------------------------------------------------------------------------


@wide
@examples(300)
@given(data=st.data())
def test_output_of_any_choice(data, dtypes):
    """All elements are normalized by the statistics of those that count; NaN stays NaN."""
    grouping, x, how, tuning, threads = data.draw(chosen(dtypes))
    weight, bias = data.draw(weights_for(x, dtypes))
    eps = data.draw(st.sampled_from([1e-5, 0.0, 1.0]))
    before, layout = x.copy(), grouping.as_layout()
    with planned_by(tuning, threads):
        got, m = nbn.normalize(
            x, grouping.layout, weight, bias, eps=eps, return_moments=True, **how, **grouping.keywords
        )
        assert m == nbn.moments(x, layout, **how)
    given_ones = nbn.normalize(x, layout, weight, bias, eps=eps, moments=m)
    assert (got.dtype, got.strides) == (given_ones.dtype, given_ones.strides)
    oracle.assert_same(got, given_ones)
    ids, num_groups = oracle.groups(layout, x.shape)
    stats = oracle.weighted_moments(x, ids, num_groups, oracle.counts_of(x, **how))
    expected = oracle.normalize(x, ids, num_groups, weight, bias, eps, stats)
    np.testing.assert_array_equal(np.isnan(oracle.wide(got)), np.isnan(expected))
    assert x.tobytes() == before.tobytes()


@pytest.mark.parametrize("names", ["where", "weights", "skipna", "where weights skipna"])
def test_output_within_rounding(names, rng):
    x = 50 + rng.standard_normal((40, 30))
    x[rng.random(x.shape) < 0.2] = np.nan if "skipna" in names else 70
    how = {"where": rng.random(x.shape) < 0.6, "weights": rng.random(x.shape), "skipna": True}
    how = {name: how[name] for name in names.split()}
    counts = oracle.counts_of(x, **how)
    for axis in (0, 1, None):
        mean = np.sum(np.nan_to_num(x) * counts, axis=axis, keepdims=True) / counts.sum(axis=axis, keepdims=True)
        m2 = np.sum(np.nan_to_num(x - mean) ** 2 * counts, axis=axis, keepdims=True)
        for ddof in (0, 1):
            expected = (x - mean) / np.sqrt(m2 / (counts.sum(axis=axis, keepdims=True) - ddof) + 1e-5)
            got = nbn.normalize(x, axis=axis, ddof=ddof, **how)
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


def test_groups_without_an_element_become_nan(rng):
    x = rng.standard_normal((3, 20))
    where = np.ones((3, 1), bool)
    where[1] = False
    y = nbn.normalize(x, axis=1, where=where)
    np.testing.assert_array_equal(np.isnan(y).all(axis=1), [False, True, False])
    np.testing.assert_array_equal(np.isnan(y).any(axis=1), [False, True, False])


def test_too_few_values_for_ddof_become_nan():
    x = np.array([[5.0, 5.0, 8.0], [5.0, 6.0, 7.0]])
    y = nbn.normalize(x, axis=1, where=np.array([[True, False, False], [True, True, True]]), ddof=1, eps=0.1)
    np.testing.assert_array_equal(np.isnan(y), [[True] * 3, [False] * 3])
    assert np.isnan(nbn.normalize(x, axis=1, weights=0.1, ddof=1)).all()


def test_output_in_place_and_elsewhere(rng):
    x, where = rng.standard_normal((50, 6)).astype(np.float32), rng.random((50, 6)) < 0.5
    expected = nbn.normalize(x, axis=0, where=where)
    out = np.empty((50, 6), np.float64)
    assert nbn.normalize(x, axis=0, where=where, out=out) is out
    np.testing.assert_allclose(out, expected, rtol=2e-7, atol=1e-7)
    assert nbn.normalize(x, axis=0, where=where, out=x) is x
    np.testing.assert_array_equal(x, expected)
    assert nbn.normalize(np.arange(6), where=np.arange(6) > 2, dtype="float32").dtype == np.float32


def test_torch_tensors_come_back(rng):
    torch = pytest.importorskip("torch")
    x, where = rng.standard_normal((30, 2)).astype(np.float32), rng.random((30, 2)) < 0.5
    y = nbn.normalize(torch.from_numpy(x), axis=0, where=torch.from_numpy(where))
    assert type(y) is torch.Tensor
    np.testing.assert_array_equal(y.numpy(), nbn.normalize(x, axis=0, where=where))


# wrong input ----------------------------------------------------------------------------------------------------------

X = np.arange(24.0).reshape(6, 4)
WRONG = {
    "a mask of numbers": ({"where": np.ones(4)}, TypeError, ["where", "boolean", "float64", "weights="]),
    "a mask of 0 and 1": ({"where": np.array([0, 1, 1, 0])}, TypeError, ["where must be boolean", "where != 0"]),
    "a mask of names": ({"where": ["a", "b", "c", "d"]}, TypeError, ["where"]),
    "a masked mask": ({"where": np.ma.masked_array([True] * 4)}, TypeError, ["where", "masked"]),
    "a mask of another size": ({"where": np.ones(5, bool)}, ValueError, [r"where of shape \(5,\)", r"\(6, 4\)"]),
    "a mask of rows": ({"where": np.ones(6, bool)}, ValueError, [r"where of shape \(6,\)", r"reshape\(\(6, 1\)\)"]),
    "a mask of too many axes": ({"where": np.ones((1, 6, 4), bool)}, ValueError, [r"where of shape \(1, 6, 4\)"]),
    "negative weights": ({"weights": np.array([1, 2, -0.5, 1])}, ValueError, [r"\[0, 2\]", r"-0\.5", "where="]),
    "weights that are NaN": ({"weights": np.array([1, 2, 3, np.nan])}, ValueError, [r"\[0, 3\]", "nan"]),
    "infinite weights": ({"weights": np.array([1, np.inf, 3, 1])}, ValueError, [r"\[0, 1\]", "inf"]),
    "one negative weight": ({"weights": -1}, ValueError, ["-1"]),
    "a negative integer": ({"weights": np.array([[1], [1], [1], [1], [-3], [1]])}, ValueError, [r"\[4, 0\]", "-3"]),
    "enormous weights": ({"weights": np.full(4, 1.7e308)}, ValueError, ["no finite sum", "divide"]),
    "enormous squares": (
        {"weights": 1e200, "weights_are": "reliability"},
        ValueError,
        ["squares beyond the range", "multiply"],
    ),
    "tiny squares": ({"weights": 1e-200, "weights_are": "reliability"}, ValueError, ["squares beyond the range"]),
    "complex weights": ({"weights": np.ones(4, complex)}, TypeError, ["weights", "complex"]),
    "weights that are text": ({"weights": "yes"}, TypeError, ["weights", "text"]),
    "weights of another size": ({"weights": np.ones(5)}, ValueError, [r"weights of shape \(5,\)", r"\(6, 4\)"]),
    "weights of rows": ({"weights": np.ones(6)}, ValueError, [r"reshape\(\(6, 1\)\)"]),
    "a number for a flag": ({"skipna": 1}, TypeError, ["skipna must be True or False", "1"]),
    "a word for a flag": ({"skipna": "omit"}, TypeError, ["skipna must be True or False", "omit"]),
    "other weights": ({"weights": 1.0, "weights_are": "analytic"}, ValueError, ["'frequency'", "'reliability'"]),
    "no weights": ({"weights_are": "reliability"}, TypeError, ["without weights"]),
    "a number of labels": ({"skipna": True, "num_labels": 3}, TypeError, ["num_labels=3", "without labels"]),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_choices(wrong):
    how, error, said = WRONG[wrong]
    for call in (nbn.moments, lambda x, **how: nbn.normalize(x, out=x, **how)):
        x = X.copy()
        with pytest.raises(error) as caught:
            call(x, axis=0, **how)
        for words in said:
            assert caught.match(words)
        np.testing.assert_array_equal(x, X)


def test_a_bad_weight_is_found_wherever_it_is(threads, rng):
    x = rng.standard_normal((3000, 100))
    for number in (1, threads):
        nbn.set_num_threads(number)
        for axis in (0, 1, None):
            for bad in (-1e-300, np.nan, np.inf):
                weights = np.ones(x.shape)
                weights[2999, 77] = bad
                with pytest.raises(ValueError, match=r"\[2999, 77\]"):
                    nbn.moments(x, axis=axis, weights=weights)


def test_what_does_not_go_together(rng):
    x = X.copy()
    m = nbn.moments(x, axis=0)
    for how in ({"where": True}, {"weights": 1.0}):
        with pytest.raises(ValueError, match=r"moments= are statistics that were made before"):
            nbn.normalize(x, axis=0, moments=m, out=x, **how)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(nbn.normalize(x, axis=0, moments=m, skipna=True), nbn.normalize(x, axis=0, moments=m))
    with pytest.raises(ValueError, match="ddof must not be negative"):
        nbn.normalize(x, axis=0, where=True, ddof=-1)
    home = np.zeros(9)
    with pytest.raises(ValueError, match="out overlaps weights"):
        nbn.normalize(np.ones(6), weights=home[:6], out=home[3:])
    with pytest.raises(ValueError, match="weight of shape"):
        nbn.normalize(x, axis=0, skipna=True, weight=np.ones(5), out=x)
    with pytest.raises(ValueError, match="eps must not be negative"):
        nbn.normalize(x, axis=0, skipna=True, eps=-1, out=x)
    np.testing.assert_array_equal(x, X)


def test_wrong_arguments_of_empty_arrays():
    x = np.ones((0, 4))
    with pytest.raises(ValueError, match=r"where of shape \(5,\)"):
        nbn.moments(x, axis=0, where=np.ones(5, bool))
    assert nbn.normalize(x, axis=0, where=True).shape == (0, 4)


def test_host_and_gpu_are_not_mixed():
    from numbanorm.arrays.memory import DeviceArray

    flags = DeviceArray(0, (4,), (1,), np.dtype(bool), "numba", 0, 0, None)
    for name in ("where", "weights"):
        for call in (nbn.moments, nbn.normalize):
            with pytest.raises(TypeError, match=rf"{name} lies on GPU 0, but x lies on the host"):
                call(np.ones(4), **{name: flags})


def test_nothing_of_the_size_of_x_is_made(rng):
    x, weights = rng.standard_normal((4000, 300)), rng.random((4000, 300))
    where = weights < 0.5

    def run(how):
        for axis in (0, 1):
            nbn.moments(x, axis=axis, **how)
        nbn.moments(x.T[::-1], **{name: v if v is True else v.T[::-1] for name, v in how.items()})

    for how in ({"where": where}, {"weights": weights}, {"skipna": True}, {"where": where, "weights": weights}):
        run(how)
        tracemalloc.start()
        run(how)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 400_000  # bytes; flags for each element would take 1.2 million


def test_other_names_for_it():
    for name, meant in (("mask", "where="), ("nan_policy", "skipna=True"), ("fweights", "weights=")):
        with pytest.raises(TypeError, match=meant):
            nbn.moments(X, axis=0, **{name: 1})


def test_reliability_weights_of_one_group_make_arrays_without_axes(rng):
    x, weights = rng.standard_normal(50), rng.random(50)
    m = nbn.moments(x, weights=weights, weights_are="reliability")
    assert all(type(state) is np.ndarray and state.shape == () for state in (m.count, m.mean, m.m2))
    np.testing.assert_allclose(m.var(ddof=1), np.cov(x, aweights=weights))
    y = nbn.normalize(x, weights=weights, weights_are="reliability", ddof=1, eps=0)
    np.testing.assert_allclose(y, (x - np.average(x, weights=weights)) / np.sqrt(np.cov(x, aweights=weights)))
