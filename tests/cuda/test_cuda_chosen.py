"""Chosen and weighted elements on a GPU (where=, weights=, skipna=), against the oracle of those on the host."""

import everyday
import numpy as np
import oracle
import pytest

pytest.importorskip("numba_cuda", reason="needs the package numba-cuda")
from device_kernels import CASES, COLUMNS, LAYER, Memory
from hypothesis import given
from hypothesis import strategies as st
from oracle import assert_within
from strategies import BFLOAT16, FLOATS, RANDOM, arrays, groupings, is_float

import numbanorm as nbn
from numbanorm.arrays.take import view
from numbanorm.cuda import launcher

CHOICES = ["where", "weights", "skipna", "where weights", "where skipna", "weights skipna", "where weights skipna"]


@pytest.fixture
def memory(gpu):
    return Memory(gpu)


def some_choice(rng, names, shape, of_mask=None, of_weights=None, dtype=np.float64):
    """What chooses of an array: a mask, and weights of which some are 0, of these shapes."""
    of_weights = shape if of_weights is None else of_weights
    weights = rng.integers(1, 5, of_weights) if rng.random() < 0.5 else rng.random(of_weights)
    weights = np.asarray(weights * (rng.random(of_weights) < 0.8)).astype(dtype)
    every = {"where": np.asarray(rng.random(shape if of_mask is None else of_mask) < 0.7), "weights": weights}
    return {name: every.get(name, True) for name in names.split()}


def with_holes(rng, x, how):
    """NaN, infinities and large numbers where nothing counts; NaN elsewhere if it is skipped."""
    x = np.array(x, order="K")
    if is_float(x.dtype):
        out = oracle.counts_of(x, **{**how, "skipna": False}) == 0
        if "skipna" in how:
            x[rng.random(x.shape) < 0.1] = np.nan
        x[out] = rng.choice([np.nan, np.inf, -np.inf, 6e4], x.shape)[out]
    return x


def sent(memory, how):
    return {name: v if v is True else memory.send(np.asarray(v)) for name, v in how.items()}


def moments(memory, x, layout, how, **options):
    """Count, mean, m2 and rest, on the host."""
    m = nbn.moments(memory.send(x), layout, **sent(memory, how), **options)
    return [memory.get(view(state)) for state in (m.count, m.mean, m.m2, m._rest)]


def check(states, x, layout, how):
    """States against the definition, as those of the host are held to it: all sums are in float64."""
    ids, groups = oracle.groups(layout, x.shape)
    counts = oracle.counts_of(x, **how)
    with np.errstate(all="ignore"):
        expected = oracle.weighted_moments(x, ids, groups, counts)
        count, mean, m2 = (state.reshape(layout.group_shape(x.shape)) for state in expected)
        var = m2 / count
    elements = max(x.size, 1)
    assert states[0].shape == layout.group_shape(x.shape)
    np.testing.assert_allclose(states[0], count, rtol=1e-13 if "weights" in how else 0)
    there = np.where(counts > 0, oracle.wide(x), np.where(np.isnan(expected[1]), 0.0, expected[1])[ids])
    reach = oracle.mean_tolerance(there, ids, groups, expected[1]).reshape(mean.shape)
    assert_within(states[1], mean, reach * (4 + np.log2(elements) / 2))
    assert_within(states[2], m2, 4 * oracle.variance_tolerance(np.float64, elements, mean, var) * m2)
    assert np.isfinite(states[3]).all()


WAYS = {  # name: of the cases of all kernels, whose weights take the place of a mask's shape
    "many rows": [(), (300,), (6, 1), (6, 300)],
    "rows in parts": [(1400,)],
    "batch": [(9, 1, 4, 8)],
    "batch of odd runs": [(7, 7)],
    "groups": [(8, 1, 1), (3, 8, 4, 6)],
    "columns": [(40,), (30, 1), (30, 40)],
    "columns in parts": [(90, 1)],
    "columns, odd": [(50, 37)],
    "channels last": [(5, 1, 3, 5), (24, 1, 1)],
    "groups, channels last": [(3, 1, 20), (24, 20)],
    "interleaved groups": [(3, 24, 1)],
    "windows": [(12, 8, 1)],
    "tiny runs": [(90, 1)],
    "nothing reduced": [(3, 70)],
    "a number": [()],
    "six axes, rows": [(3, 9)],
    "six axes, columns": [(4, 1, 3, 1)],
}
EVERY = [(name, own, names) for name, shapes in WAYS.items() for own in shapes for names in CHOICES]
# The default run has all ways of a mask and weights through each kernel, and all choices of a few.
FEW = {("groups, channels last", (3, 1, 20))}


@pytest.mark.parametrize(
    ("name", "own", "names"),
    [
        pytest.param(*case, marks=() if case[2] == CHOICES[-1] or case[:2] in FEW else everyday.exhaustive)
        for case in EVERY
    ],
    ids=str,
)
def test_every_way(name, own, names, memory, rng):
    shape, order, layout, _ = CASES[name]
    order = order or range(len(shape))
    x = (5 + rng.standard_normal([shape[a] for a in order])).astype(np.float32).transpose(np.argsort(order))
    how = some_choice(rng, names, shape, own, own)
    x = with_holes(rng, x, how)
    check(moments(memory, x, layout, how), x, layout, how)


@pytest.mark.parametrize(
    "dtype", everyday.every([*FLOATS, "int8", "uint64", "bool"], [np.dtype("float64"), BFLOAT16, "int8"])
)
@pytest.mark.parametrize("layout", [LAYER, COLUMNS], ids=["rows", "columns"])
def test_every_dtype(layout, dtype, memory, rng):
    x = (rng.standard_normal((12, 24)) * 9).astype(dtype)
    how = some_choice(rng, "where weights skipna", x.shape)
    x = with_holes(rng, x, how)
    check(moments(memory, x, layout, how), x, layout, how)


@pytest.mark.parametrize("dtype", everyday.every([*FLOATS, "int8", "uint16", "int64", "bool"], [BFLOAT16, "int64"]))
@pytest.mark.parametrize("layout", [LAYER, COLUMNS], ids=["rows", "columns"])
def test_weights_of_every_dtype(layout, dtype, memory, rng):
    x = rng.standard_normal((12, 24)).astype(np.float32)
    weights = rng.integers(0, 2 if dtype == "bool" else 9, x.shape).astype(dtype)
    for given_ones in (weights, weights[:, ::-1], weights[:, :1]):
        how = {"weights": given_ones}
        check(moments(memory, x, layout, how), x, layout, how)


@pytest.mark.parametrize("layout", [LAYER, COLUMNS], ids=["rows", "columns"])
def test_masks_that_are_not_aligned(layout, memory, rng):
    """Flags beside a vector are read at once only where they begin at a multiple of its length."""
    x = rng.standard_normal((12, 24)).astype(np.float32)
    home = rng.random(12 * 24 + 8) < 0.6
    for where in (home[1 : 1 + x.size].reshape(x.shape), home[::2][:24], home[2:26], home[8:32]):
        check(moments(memory, x, layout, {"where": where}), x, layout, {"where": where})


@everyday.examples(100)
@given(st.data())
def test_any_choice_from_any_array(data):
    memory, rng = _given[0], data.draw(RANDOM)
    grouping = data.draw(groupings(max_size=300))
    x = np.array(data.draw(arrays(grouping.shape, dtypes=FLOATS)), order="K")
    own = [shape if rng.random() < 0.5 else of_own(rng, shape) for shape in (x.shape, x.shape)]
    how = some_choice(rng, rng.choice(CHOICES), x.shape, *own)
    x, layout = with_holes(rng, x, how), grouping.as_layout()
    check(moments(memory, x, layout, how), x, layout, how)


def of_own(rng, shape):
    own = shape[rng.integers(len(shape) + 1) :]
    return tuple(1 if rng.random() < 0.4 else n for n in own)


_given = []


@pytest.fixture(autouse=True)
def _for_hypothesis(request):
    """Hypothesis cannot take a fixture that lives for one test."""
    if request.node.name.startswith("test_any"):
        _given[:] = [request.getfixturevalue("memory")]


# digits ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", everyday.every(["where", "weights", "skipna", "where weights skipna"], CHOICES[-1:]))
@pytest.mark.parametrize("numbers", everyday.every(oracle.NASTY, ["steps of a tenth", "three integers", "steps"]))
def test_all_digits_are_kept(numbers, names, memory, rng):
    x = oracle.NASTY[numbers](np.arange(600.0))
    how = some_choice(rng, names, x.shape)
    if "skipna" in how:
        x[rng.random(600) < 0.3] = np.nan
        x[:40] = np.nan
    count, mean, m2 = oracle.exact_weighted_moments(np.nan_to_num(x), oracle.counts_of(x, **how))
    for columns, layout in ((1, nbn.Layout.axes(None)), (8, COLUMNS)):
        table = x if columns == 1 else np.repeat(x[:, None], columns, axis=1)
        choice = {k: v if v is True or columns == 1 else v[:, None] for k, v in how.items()}
        got = moments(memory, table, layout, choice)
        np.testing.assert_allclose(got[0], float(count), rtol=1e-14)
        np.testing.assert_allclose(got[1], float(mean), rtol=0, atol=6e-16 * np.nanmax(np.abs(x)))
        np.testing.assert_allclose(got[2], float(m2), rtol=1e-14)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_the_scale_of_weights_does_not_matter(scale, memory, rng):
    x = np.where(np.arange(300) < 10, 1e6, 0.0) + rng.standard_normal(300)
    weights = rng.random(300)
    for shape in ((75, 4), (1, 300)):
        layout, table = nbn.Layout.axes(None), x.reshape(shape)
        count, mean, m2, _ = moments(memory, table, layout, {"weights": scale * weights.reshape(shape)})
        expected = nbn.moments(x, weights=weights)
        np.testing.assert_allclose(mean, expected.mean, rtol=1e-13)
        np.testing.assert_allclose(m2 / count, expected.var(), rtol=1e-13)


def test_a_light_value_far_from_all_others_costs_no_digits(memory):
    """It is the first pivot, and the sum of squares about it hides all others."""
    x, weights = np.append(1e12, 0.1 * np.arange(299)), np.append(1e-30, np.ones(299))
    table = np.repeat(x[:, None], 8, axis=1)
    for given_one, layout, w in ((x[None], LAYER, weights), (table, COLUMNS, weights[:, None])):
        _, mean, m2, _ = moments(memory, given_one, layout, {"weights": w})
        _, *exact = oracle.exact_weighted_moments(x, weights)
        np.testing.assert_allclose(mean, float(exact[0]), rtol=1e-14)
        np.testing.assert_allclose(m2, float(exact[1]), rtol=1e-13)


@pytest.mark.parametrize("value", everyday.every([0.1, 1e300, -1e-310, 2.0**70], [0.1, 1e300]))
def test_equal_values_have_no_spread(value, memory, rng):
    x = np.where(rng.random((40, 16)) < 0.5, value, np.nan)
    x[0] = value
    for layout in (LAYER, COLUMNS):
        for how in ({"skipna": True}, {"where": ~np.isnan(x), "weights": rng.random(x.shape)}):
            x[:, 0] = value
            _, mean, m2, rest = moments(memory, x, layout, how)
            np.testing.assert_array_equal(mean, value)
            np.testing.assert_array_equal(m2, 0.0)
            np.testing.assert_array_equal(rest, 0.0)


@pytest.mark.parametrize("size", [1.7e308, 1e200])
def test_numbers_whose_distances_overflow(size, memory, rng):
    x = size * np.where(rng.random((50, 16)) < 0.5, 1.0, -1.0) * rng.random((50, 16))
    where = rng.random(x.shape) < 0.5
    for axis in (0, 1):
        _, mean, m2, _ = moments(memory, x, nbn.Layout.axes(axis), {"where": where})
        with np.errstate(over="ignore"):
            expected = np.where(where, x / where.sum(axis=axis, keepdims=True), 0).sum(axis=axis)
        np.testing.assert_allclose(mean, expected, rtol=0, atol=1e-13 * size)
        np.testing.assert_array_equal(m2, np.inf)


def test_nan_and_infinities_stay_in_their_group(memory):
    inf, nan = np.inf, np.nan
    x = np.ones((6, 50))
    x[0, 3], x[1, 4], x[2, 3:5], x[3, 3:5], x[4, 7] = inf, -inf, [inf, -inf], [nan, inf], nan
    for table, axis in ((x, 1), (x.T.copy(), 0)):
        layout = nbn.Layout.axes(axis)
        _, mean, m2, _ = moments(memory, table, layout, {"where": np.ones_like(table, bool)})
        np.testing.assert_array_equal(mean, [inf, -inf, nan, nan, nan, 1])
        np.testing.assert_array_equal(m2, [nan, nan, nan, nan, nan, 0])
        count, mean, _, _ = moments(memory, table, layout, {"skipna": True})
        np.testing.assert_array_equal(mean, [inf, -inf, nan, inf, 1, 1])
        np.testing.assert_array_equal(count, [50, 50, 50, 49, 49, 50])


# what it means --------------------------------------------------------------------------------------------------------


def test_groups_without_an_element(memory, rng):
    x = rng.standard_normal((4, 50))
    x[1] = np.nan
    where, weights = np.ones((4, 1), bool), np.ones((4, 1))
    where[2], weights[3] = False, 0.0
    for table, axis, turn in ((x, 1, np.asarray), (x.T.copy(), 0, np.transpose)):
        how = {"where": turn(where), "weights": turn(weights), "skipna": True}
        count, mean, m2, _ = moments(memory, table, nbn.Layout.axes(axis), how)
        np.testing.assert_array_equal(count, [50, 0, 0, 0])
        np.testing.assert_array_equal(np.isnan(mean), [False, True, True, True])
        np.testing.assert_array_equal(m2[1:], 0.0)
        y = memory.get(view(nbn.normalize(memory.send(table), axis=axis, **sent(memory, how))))
        np.testing.assert_array_equal(np.isnan(y), turn(np.repeat([[False], [True], [True], [True]], 50, axis=1)))


@pytest.mark.parametrize("axis", [0, 1, None])
def test_reliability_weights(axis, memory, rng):
    x, weights = 5 + rng.standard_normal((30, 16)), rng.random((30, 16))
    x[rng.random(x.shape) < 0.1] = np.nan
    how = {"weights": weights, "where": rng.random(x.shape) < 0.8, "skipna": True}
    layout = nbn.Layout.axes(axis)
    expected = nbn.moments(x, layout, **how, weights_are="reliability")
    m = nbn.moments(memory.send(x), layout, **sent(memory, how), weights_are="reliability")
    for name in ("count", "mean", "m2"):
        np.testing.assert_allclose(memory.get(view(getattr(m, name))), getattr(expected, name), rtol=1e-12)
    wide = memory.send(np.full(x.shape, 1e200))
    m = nbn.moments(memory.send(x), layout, weights=wide, skipna=True, weights_are="reliability")
    assert np.isnan(memory.get(view(m.count))).all()  # squares beyond float64: refused on the host


@pytest.mark.parametrize("bad", [-1e-300, -2.0, np.nan, np.inf])
def test_bad_weights_make_the_statistics_of_their_group_nan(bad, memory, rng):
    """On the host they are refused; here nobody waits to see them."""
    x, weights = rng.standard_normal((3, 40)), np.ones((3, 40))
    weights[1, 7] = bad
    for table, axis, w in ((x, 1, weights), (x.T.copy(), 0, weights.T.copy())):
        count, mean, m2, _ = moments(memory, table, nbn.Layout.axes(axis), {"weights": w})
        np.testing.assert_array_equal(np.isfinite(count), [True, False, True])
        np.testing.assert_array_equal(np.isnan(mean), [False, True, False])
        np.testing.assert_array_equal(np.isnan(m2), [False, True, False])
        y = memory.get(view(nbn.normalize(memory.send(table), axis=axis, weights=memory.send(w))))
        np.testing.assert_array_equal(np.isnan(y).any(axis=axis), [False, True, False])
        left_out = {"weights": w, "where": w == 1}
        assert np.isfinite(moments(memory, table, nbn.Layout.axes(axis), left_out)[2]).all()


def test_numbers_may_come_from_the_host(memory, rng):
    x = rng.standard_normal((4, 24))
    there = memory.send(x)
    expected = nbn.moments(x, axis=1)
    for how in ({"where": True}, {"weights": 2.0, "where": np.bool_(True)}, {"weights": memory.send(np.array(0.5))}):
        m = nbn.moments(there, axis=1, **how)
        np.testing.assert_allclose(memory.get(view(m.mean)), expected.mean, rtol=1e-13)
        np.testing.assert_allclose(memory.get(view(m.var())), expected.var(), rtol=1e-13)
    assert not memory.get(view(nbn.moments(there, axis=1, where=False).count)).any()


def test_integers_have_no_nan(memory, rng):
    x = memory.send(rng.integers(0, 9, (4, 24)))
    for axis in (0, 1):
        assert nbn.moments(x, axis=axis, skipna=True) == nbn.moments(x, axis=axis)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)], ids=str)
def test_empty_arrays(shape, memory):
    m = nbn.moments(memory.send(np.ones(shape)), axis=0, where=True, weights=1.0, skipna=True)
    assert m.shape == (shape[1],)
    assert not memory.get(view(m.count)).any()
    assert np.isnan(memory.get(view(m.mean))).all()


def test_moments_of_choices_merge(memory, rng):
    x, weights = 1e5 + rng.standard_normal((3, 60)), rng.random((3, 60))
    parts = [nbn.moments(memory.send(a), weights=memory.send(w)) for a, w in zip(x, weights, strict=True)]
    both = sum(parts)
    states = [memory.get(view(state)) for state in (both.count, both.mean, both.m2, both._rest)]
    check(states, x, nbn.Layout.axes(None), {"weights": weights})


# output ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ddof", everyday.every([0, 1], [1]))
@pytest.mark.parametrize("dtype", everyday.every(["float32", "float64"], ["float32"]))
@pytest.mark.parametrize("axis", [0, 1])
def test_output_is_that_of_given_statistics(axis, dtype, ddof, memory, gpu, rng):
    x = (50 + rng.standard_normal((16, 24))).astype(dtype)
    how = some_choice(rng, "where weights skipna", x.shape)
    x = with_holes(rng, x, how)
    there, given_ones, before = memory.send(x), sent(memory, how), x.copy()
    weight = memory.send(rng.standard_normal(24).astype(dtype))
    with gpu.working():
        y, m = nbn.normalize(there, None, weight, axis=axis, ddof=ddof, return_moments=True, **given_ones)
        assert nbn.moments(there, axis=axis, skipna=True).shape == m.shape
    expected = nbn.normalize(x, None, memory.get(weight), axis=axis, ddof=ddof, **how)
    got = memory.get(view(y))
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    np.testing.assert_allclose(got, expected, rtol=2e-6, atol=2e-6)
    np.testing.assert_array_equal(memory.get(there), before)
    again = nbn.normalize(there, None, weight, axis=axis, ddof=ddof, out=there, **given_ones)
    assert view(again).pointer == there.pointer
    np.testing.assert_array_equal(memory.get(there), got)


def test_too_few_values_for_ddof_become_nan(memory):
    x = np.array([[5.0, 5.0, 8.0], [5.0, 6.0, 7.0]])
    where = np.array([[True, False, False], [True, True, True]])
    y = nbn.normalize(memory.send(x), axis=1, where=memory.send(where), ddof=1, eps=0.1)
    np.testing.assert_array_equal(np.isnan(memory.get(view(y))), [[True] * 3, [False] * 3])


def test_every_launch_has_the_same_bits(memory, rng):
    x, how = rng.standard_normal((2, 300)).astype(np.float32), {"where": rng.random((2, 300)) < 0.5}
    first, again = (moments(memory, x, LAYER, how) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


# plans ----------------------------------------------------------------------------------------------------------------


def test_few_kernels_serve_many_calls(memory, monkeypatch, rng):
    """One for each family, width and kinds of operands, and a merge for all: shapes and strides are no part of them."""
    seen, launch = [], launcher.launch
    monkeypatch.setattr(launcher, "launch", lambda step, *rest: (seen.append(step.code), launch(step, *rest)))
    for shape in ((2, 200), (3, 240)):
        x, where = rng.standard_normal(shape), rng.random(shape) < 0.5
        moments(memory, x, LAYER, {"where": where})
    assert {code.variant.operation for code in seen} == {"chosen", "merge_chosen"}
    assert len(set(seen)) == 2


# wrong input ----------------------------------------------------------------------------------------------------------

WRONG = {
    "a mask on the host": ({"where": np.ones((6, 4), bool)}, TypeError, "where lies on the host"),
    "weights on the host": ({"weights": np.ones(4)}, TypeError, "weights lies on the host"),
    "a mask of numbers": ({"where": 1.0}, TypeError, "where must be boolean"),
    "labels": ({"skipna": True, "labels": np.zeros(6, int)}, TypeError, "labels="),
}
WRONG_THERE = {
    "a mask of numbers there": ({"where": np.ones(4)}, TypeError, "where must be boolean"),
    "another size": ({"where": np.ones(5, bool)}, ValueError, r"where of shape \(5,\)"),
    "weights of another size": ({"weights": np.ones(6)}, ValueError, r"weights of shape \(6,\).*reshape\(\(6, 1\)\)"),
}


@pytest.mark.parametrize("wrong", [*WRONG, *WRONG_THERE])
def test_wrong_choices(wrong, memory):
    how, error, said = (WRONG | WRONG_THERE)[wrong]
    given_ones = sent(memory, how) if wrong in WRONG_THERE else how
    before = np.arange(24.0).reshape(6, 4)
    for call in (nbn.moments, lambda x, **how: nbn.normalize(x, out=x, **how)):
        x = memory.send(before)
        with pytest.raises(error, match=said):
            call(x, axis=0, **given_ones)
        np.testing.assert_array_equal(memory.get(x), before)


def test_a_mask_on_the_gpu_for_an_array_on_the_host(memory):
    with pytest.raises(TypeError, match="where lies on GPU 0, but x lies on the host"):
        nbn.moments(np.ones(4), where=memory.send(np.ones(4, bool)))


def test_segments_are_refused(memory):
    layout = nbn.Layout.segments([0, 2, 6])
    with pytest.raises(TypeError, match="segments work on the host so far, but x lies on a GPU"):
        nbn.moments(memory.send(np.ones((6, 2))), layout, skipna=True)


def test_out_apart_from_what_chooses(memory):
    weights = memory.send(np.ones(6))
    with pytest.raises(ValueError, match="out overlaps weights"):
        nbn.normalize(memory.send(np.arange(6.0)), weights=weights, out=weights)
