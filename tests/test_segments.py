"""Rows of different lengths, end to end, against the oracle."""

import gc
import pickle
import weakref
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import oracle
import planned
import pytest
from everyday import every, examples
from hypothesis import given
from hypothesis import strategies as st
from oracle import NASTY, assert_within, exact_moments
from strategies import DTYPES, INTEGERS, ORDERS, RANDOM, arrange, values

import numbanorm as nbn
from numbanorm.call.known import forget
from numbanorm.cpu import segments as planning

SMALL = replace(planning.TUNING, serial_work=0, part_elements=2048, unit_work=3)
TABLES = {  # to walk the same arrays in every way
    "as it is": planning.TUNING,
    "shared out": SMALL,
    "cut small": replace(SMALL, shares=40),
}
WIDE = [np.dtype("float64"), np.dtype("float32")]

planned_by = partial(planned.planned_by, planning)


def some_lengths(rng, most):
    """Lengths that add up to `most` rows: long-tailed, ascending, equal, one alone, many of them 0."""
    how = rng.choice(["tail", "ascending", "equal", "one", "tiny", "huge"])
    if how == "one":
        return np.array([most])
    if how == "equal":
        number = rng.integers(1, most + 2)
        return np.full(number, most // number)
    mean = most / rng.integers(1, 40) if how != "tiny" else 2
    lengths = np.minimum(np.round(rng.lognormal(np.log(mean), 1.2, rng.integers(1, 60))), most).astype(int)
    lengths[rng.random(lengths.size) < rng.choice([0, 0.3])] = 0
    if how == "huge":
        lengths[rng.integers(lengths.size)] = most
    lengths = np.diff(np.minimum(np.cumsum([0, *lengths]), most))
    return np.sort(lengths) if how == "ascending" else lengths


def offsets_of(lengths):
    return np.cumsum([0, *lengths])


FURTHER = {  # by the number of axes: ways to say what is kept of a segment
    1: [{}, {"axis": 0}, {"layout": "t -> "}, {"layout": "... -> "}],
    2: [
        {},
        {"axis": 0},
        {"axis": (0, -1)},
        {"layout": "t f -> f"},
        {"layout": nbn.Layout.batch()},
        {"layout": "g"},
        {"layout": "... f -> f"},
    ],
    3: [{}, {"axis": 0}, {"axis": (0, 1)}, {"axis": (0, 2)}, {"layout": "t a b -> b a"}, {"layout": "g"}],
    4: [{}, {"axis": 0}, {"axis": (0, 3)}, {"axis": (0, 2)}, {"layout": "t a ... -> a"}, {"layout": "g"}],
}


def split_first(rng, shape):
    """A pattern that keeps a part of the first further axis."""
    size = shape[1]
    parts = int(rng.choice([n for n in range(1, size + 1) if size % n == 0] or [1]))
    left = rng.choice(["(g c)", "(c g)"])
    return {"layout": f"t {left} ... -> g", "g": parts}


@st.composite
def ragged(draw, dtypes=WIDE, special=True, most=5000):
    """An array, a layout of segments along its axis 0, how it is walked, and on how many threads."""
    rng = draw(RANDOM)
    ndim = int(rng.choice([1, 2, 3, 4], p=[0.35, 0.4, 0.15, 0.1]))
    further = tuple(
        int(rng.choice([0, 1, 2, 3, 5, 8, 16, 17, 40, 64, 130], p=[0.01, *[0.099] * 10])) for _ in range(ndim - 1)
    )
    while np.prod(further) > 700:
        further = tuple(max(1, n // 2) for n in further)
    rows = int(rng.integers(1, max(2, most // max(1, int(np.prod(further))))))
    offsets = offsets_of(some_lengths(rng, rows))
    shape = (int(offsets[-1]), *further)
    how = FURTHER[ndim][rng.integers(len(FURTHER[ndim]))]
    how = split_first(rng, shape) if how == {"layout": "g"} else how
    layout = nbn.Layout.segments(offsets, **how)
    dtype = dtypes[rng.integers(len(dtypes))]
    x = values(rng, shape, dtype, rng.choice(["centred", "offset", "outlier", "constant"]))
    if special and x.size and dtype.kind == "f" and rng.random() < 0.1:
        for _ in range(3):
            x[tuple(rng.integers(x.shape))] = rng.choice([np.nan, np.inf, -np.inf])
    x = arrange(rng, x, rng.choice(ORDERS))
    return x, layout, TABLES[rng.choice(list(TABLES))], int(rng.integers(1, 5)), rng


def check(m, x, layout):
    ids, num_groups = oracle.groups(layout, x.shape)
    count, mean, m2 = oracle.moments(x, ids, num_groups)
    assert m.shape == layout.group_shape(x.shape)
    np.testing.assert_array_equal(m.count.ravel(), count)
    assert_within(m.mean.ravel(), mean, oracle.mean_tolerance(x, ids, num_groups, mean))
    with np.errstate(invalid="ignore"):
        var = m2 / count
    assert_within(m.m2.ravel(), m2, oracle.variance_tolerance(x.dtype, count, mean, var) * m2)


def check_output(got, x, layout, weight=None, bias=None, eps=1e-5):
    ids, num_groups = oracle.groups(layout, x.shape)
    with np.errstate(all="ignore"):
        expected = oracle.normalize(x, ids, num_groups, weight, bias, eps)
        allowed = oracle.output_tolerance(x, ids, num_groups, expected, weight, bias, eps)
    dtype = oracle.result_dtype(x.dtype)
    assert (got.dtype, got.shape, got.strides) == (dtype, x.shape, np.empty_like(x, dtype).strides)
    assert_within(oracle.within_range(got, dtype), oracle.within_range(expected, dtype), allowed)


# the layout -----------------------------------------------------------------------------------------------------------


@examples(100)
@given(ragged(special=False))
def test_groups_are_those_of_each_segment_alone(drawn):
    x, layout, _, _, _ = drawn
    ids, offsets = layout.group_ids(x.shape), layout.offsets
    shape = layout.group_shape(x.shape)
    assert shape[0] == len(offsets) - 1
    of_segment = int(np.prod(shape[1:], dtype=int))
    for i, (begin, end) in enumerate(pairwise(offsets)):
        own = layout.within.group_ids((end - begin, *x.shape[1:]))
        np.testing.assert_array_equal(ids[begin:end], own + i * of_segment)
    seen = layout.expand(np.arange(float(np.prod(shape))).reshape(shape), x.shape)
    np.testing.assert_array_equal(seen, ids)


def test_layouts_of_segments_are_equal_if_they_mean_the_same():
    layout = nbn.Layout.segments([0, 3, 3, 5], axis=0)
    same = [
        nbn.Layout.segments(np.array([0, 3, 3, 5], np.uint8), axis=(0,)),
        nbn.Layout.segments(range(0, 6), axis=0) and nbn.Layout.segments((0, 3, 3, 5), nbn.Layout.axes(0)),
        pickle.loads(pickle.dumps(layout)),
    ]
    for one in same:
        assert one == layout
        assert hash(one) == hash(layout)
    other = [
        nbn.Layout.segments([0, 3, 5], axis=0),
        nbn.Layout.segments([0, 2, 3, 5], axis=0),
        nbn.Layout.segments([0, 3, 3, 5]),
        nbn.Layout.axes(0),
        nbn.Layout("t f -> f"),
    ]
    for one in other:
        assert one != layout
        assert layout != one
    assert len({layout, *same, *other}) == 6
    assert nbn.Layout.segments([0, 4], "a b -> b") == nbn.Layout.segments([0, 4], "t f -> f")


def test_a_layout_of_segments_is_written_as_it_is_made():
    assert repr(nbn.Layout.segments([0, 3, 5])) == "Layout.segments([0, 3, 5])"
    assert repr(nbn.Layout.segments([0], axis=0)) == "Layout.segments([0], axis=0)"
    split = nbn.Layout.segments([0, 3, 5], "t (g c) -> g", g=2)
    assert repr(split) == "Layout.segments([0, 3, 5], 't (g c) -> g', g=2)"
    assert eval(repr(split), {"Layout": nbn.Layout}) == split
    many = nbn.Layout.segments(np.arange(0, 10_001, 10), nbn.Layout.batch())
    assert repr(many) == "Layout.segments([0, 10, 20, 30, ..., 10000], Layout.batch(channel_axis=1))"
    assert repr(pickle.loads(pickle.dumps(many))) == repr(many)


def test_offsets_are_copied():
    offsets = np.array([0, 2, 4])
    layout = nbn.Layout.segments(offsets)
    offsets[1] = 3
    np.testing.assert_array_equal(layout.group_ids((4,)), [0, 0, 1, 1])
    with pytest.raises(ValueError, match="read-only"):
        layout.offsets[1] = 3


@pytest.mark.parametrize("dtype", INTEGERS)
def test_offsets_of_any_integers(dtype):
    home = np.zeros(8, dtype)
    home[::2] = [0, 2, 2, 100]
    for offsets in (home[::2], home[::2].astype(dtype.newbyteorder()), home[::2].tolist(), tuple(home[::2].tolist())):
        assert nbn.Layout.segments(offsets) == nbn.Layout.segments([0, 2, 2, 100])


def test_a_layout_goes_with_its_offsets_when_nobody_holds_it(rng):
    """They may be as large as x, and seldom come again: nothing that remembers calls keeps them."""
    x = rng.standard_normal((1000, 3))
    layout = nbn.Layout.segments(range(0, 1001, 10), axis=0)
    nbn.normalize(x, layout, moments=nbn.normalize(x, layout, return_moments=True)[1])
    layout.expand(nbn.moments(x, layout).mean, x.shape), repr(layout), layout.group_ids(x.shape)
    offsets = weakref.ref(layout.offsets)
    gc.disable()
    try:
        del layout
        assert offsets() is None
    finally:
        gc.enable()


def test_values_of_other_libraries_are_expanded():
    torch = pytest.importorskip("torch")
    layout = nbn.Layout.segments(torch.tensor([0, 1, 3]), "t (g c) -> g", g=2)
    seen = layout.expand(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), (3, 4))
    assert type(seen) is torch.Tensor
    assert seen.tolist() == [[1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    with pytest.raises(ValueError, match=r"shape \(3, 2\).*groups of shape \(2, 2\)"):
        layout.expand(np.ones((3, 2)), (3, 4))


# statistics -----------------------------------------------------------------------------------------------------------


@examples(500)
@given(ragged())
def test_moments_of_any_segments_of_any_array(drawn):
    x, layout, tuning, threads, _ = drawn
    with planned_by(tuning, threads):
        check(nbn.moments(x, layout), x, layout)


@pytest.mark.parametrize("dtype", every(DTYPES, [np.dtype("float32"), np.dtype("int8")]))
@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.parametrize("features", every([1, 5, 40], [1, 40]))
def test_every_dtype(features, axis, dtype, rng):
    x = rng.integers(0, 2 if dtype.kind == "b" else 100, (900, features)).astype(dtype)
    layout = nbn.Layout.segments([0, 0, 1, 3, 40, 40, 700, 900], axis=axis)
    check(nbn.moments(x, layout), x, layout)
    y = nbn.normalize(x, layout)
    check_output(y, x, layout)
    with planned_by(SMALL, 3):
        check(nbn.moments(x, layout), x, layout)


def long_tailed(rng, rows, mean):
    lengths = np.round(rng.lognormal(np.log(mean) - 0.7, 1.2, 2 * rows // mean + 1)).astype(int)
    offsets = np.minimum(offsets_of(lengths), rows)
    return np.append(offsets[offsets < rows], rows)


@pytest.mark.parametrize("features", [1, 3, 64])
@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.parametrize("dtype", every(["float32", "float64"], ["float32"]))
@pytest.mark.parametrize(
    "lengths", every(["tail", "ascending", "one", "one long", "tiny"], ["tail", "one long", "tiny"])
)
def test_many_rows_on_several_threads(lengths, dtype, axis, features, threads, rng):
    """More than one thread takes, with segments that are cut and others that are not: the same bits for all."""
    rows = 150_000 // features
    offsets = long_tailed(rng, rows, 2 if lengths == "tiny" else 200)
    if lengths == "ascending":
        offsets = offsets_of(np.sort(np.diff(offsets)))
    elif lengths == "one":
        offsets = np.array([0, rows])
    elif lengths == "one long":
        offsets = np.append(offsets[offsets < rows // 3], [2 * rows // 3 + 5, rows])
    x = (1e3 + rng.standard_normal((rows, features))).astype(dtype)
    layout, found = nbn.Layout.segments(offsets, axis=axis), []
    for number in (1, 2, 3, threads):
        nbn.set_num_threads(number)
        y, m = nbn.normalize(x, layout, return_moments=True)
        apart = nbn.moments(x, layout)
        given_moments = nbn.normalize(x, layout, moments=m)
        found.append([bits(a) for a in (y, m.count, m.mean, m.m2, apart.mean, apart.m2, given_moments)])
        assert found[-1] == found[0]
    check(apart, x, layout)
    check_output(y, x, layout)


@examples(100)
@given(ragged(special=True))
def test_the_same_bits_for_any_number_of_threads(drawn):
    x, layout, tuning, _, _ = drawn
    found = []
    for threads in (1, 2, 3, 4):
        with planned_by(tuning, threads):
            y, m = nbn.normalize(x, layout, return_moments=True)
            apart = nbn.moments(x, layout)
        found.append([bits(a) for a in (y, m.count, m.mean, m.m2, apart.mean, apart.m2)])
    assert all(one == found[0] for one in found)


def bits(array):
    """The bytes of an array, in which every NaN is the same: its sign follows the order of operands in machine code."""
    return np.where(np.isnan(array), array.dtype.type(np.nan), array).tobytes()


@pytest.mark.parametrize("tuning", TABLES)
@pytest.mark.parametrize("numbers", ["steps of a tenth", "small steps at a billion", "a ramp", "three integers"])
def test_all_digits_are_kept(numbers, tuning):
    x, offsets = NASTY[numbers](np.arange(9000.0)), [0, 7, 30, 1500, 9000]
    for features in (1, 3):
        table = x[:, None] + np.zeros(features)
        with planned_by(TABLES[tuning], 2):
            m = nbn.moments(table, nbn.Layout.segments(offsets, axis=0))
        for i, (begin, end) in enumerate(pairwise(offsets)):
            _, mean, m2 = exact_moments(x[begin:end])
            np.testing.assert_allclose(m.mean[i], float(mean), rtol=0, atol=2.3e-16 * x[end - 1])
            np.testing.assert_allclose(m.m2[i], float(m2), rtol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", every([0.1, 1e30, -1e-30, 2.0**70], [0.1, 1e30]))
@pytest.mark.parametrize("axis", [None, 0])
def test_equal_values_have_no_spread(axis, value, dtype, rng):
    x = np.full((30_000, 3), value, dtype)
    layout = nbn.Layout.segments(long_tailed(rng, len(x), 100), axis=axis)
    y, m = nbn.normalize(x, layout, bias=0.25, eps=0, return_moments=True)
    some = m.count > 0
    np.testing.assert_array_equal(m.mean[some], x[0, 0])
    np.testing.assert_array_equal(m.m2, 0.0)
    np.testing.assert_array_equal(y, 0.25)


@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.parametrize("features", [1, 20])
def test_large_float32_numbers_do_not_overflow(features, axis, rng):
    x = (1e30 * rng.standard_normal((5000, features))).astype(np.float32)
    layout = nbn.Layout.segments([0, 3, 200, 5000], axis=axis)
    check(nbn.moments(x, layout), x, layout)
    check_output(nbn.normalize(x, layout), x, layout)


@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.parametrize("features", [1, 20])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinities_stay_in_their_segment(bad, features, axis, rng):
    x = rng.standard_normal((4000, features)).astype(np.float32)
    layout = nbn.Layout.segments([0, 5, 100, 101, 3000, 4000], axis=axis)
    clean = nbn.normalize(x, layout)
    for row in (0, 7, 100, 101, 2999):
        spoilt = x.copy()
        spoilt[row, 0] = bad
        y = nbn.normalize(spoilt, layout)
        touched = layout.group_ids(x.shape) == layout.group_ids(x.shape)[row, 0]
        assert np.isnan(y[touched]).all()
        np.testing.assert_array_equal(y[~touched], clean[~touched])
        check(nbn.moments(spoilt, layout), spoilt, layout)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("axis", [None, 0, (0, 1), (0, 2)])
def test_few_features_in_any_memory_order(axis, order, rng):
    """Rows of x that are walked side by side, with another reduced axis outside of them or inside."""
    shape = 900, 40, 3
    x = rng.standard_normal([shape[a] for a in order]).transpose(np.argsort(order)).astype(np.float32, order="K")
    layout = nbn.Layout.segments([0, 6, 6, 40, 73, 900], axis=axis)
    for tuning in TABLES.values():
        with planned_by(tuning, 3):
            check_output(nbn.normalize(x, layout), x, layout)
            check(nbn.moments(x, layout), x, layout)


def test_empty_segments_have_no_values():
    for axis in (None, 0):
        layout = nbn.Layout.segments([0, 0, 3, 3, 3], axis=axis)
        m = nbn.moments(np.arange(3.0) if axis is None else np.arange(6.0).reshape(3, 2), layout)
        np.testing.assert_array_equal(np.isnan(m.mean[[0, 2, 3]]), True)
        np.testing.assert_array_equal(m.count[[0, 2, 3]], 0)
        np.testing.assert_array_equal(m.m2[[0, 2, 3]], 0)
        assert not np.isnan(m.mean[1]).any()


@pytest.mark.parametrize("shape", [(0,), (0, 4), (4, 0), (0, 0)], ids=str)
@pytest.mark.parametrize("number", [0, 3])
def test_empty_arrays(number, shape):
    layout = nbn.Layout.segments([0, *[shape[0]] * max(number, shape[0] > 0)], axis=0)
    m = nbn.moments(np.ones(shape), layout)
    assert m.shape == layout.group_shape(shape)
    assert (m.count == 0).all()
    assert np.isnan(m.mean).all()
    assert nbn.normalize(np.ones(shape), layout).shape == shape


def test_moments_of_segments_merge(rng):
    x, layout = 1e5 + rng.standard_normal((500, 3)), nbn.Layout.segments([0, 20, 20, 500], axis=0)
    m = nbn.moments(x[:, :1], layout) + nbn.moments(x[:, 1:2], layout)
    check(m, x[:, :2], nbn.Layout.segments([0, 20, 20, 500])) if m.shape == (3,) else None
    alone = [nbn.moments(x[a:b], axis=0) for a, b in ((0, 20), (20, 20), (20, 500))]
    whole = nbn.moments(x, layout)
    for i, one in enumerate(alone):
        np.testing.assert_allclose(whole.mean[i], one.mean, rtol=1e-15)
        np.testing.assert_allclose(whole.m2[i], one.m2, rtol=1e-12)


# output ---------------------------------------------------------------------------------------------------------------


@examples(300)
@given(ragged(), st.sampled_from([1e-5, 0.0, 1.0]), st.booleans())
def test_output_of_any_segments(drawn, eps, weighted):
    x, layout, tuning, threads, rng = drawn
    weight = bias = None
    if weighted:
        weight, bias = (
            arrange(
                rng, rng.standard_normal([1 if rng.random() < 0.4 else n for n in x.shape[skip:]]).astype(x.dtype), "C"
            )
            for skip in rng.integers(0, x.ndim + 1, 2)
        )
    before = x.tobytes()
    with planned_by(tuning, threads):
        y, m = nbn.normalize(x, layout, weight, bias, eps=eps, return_moments=True)
        check_output(y, x, layout, weight, bias, eps)
        assert x.tobytes() == before
        again = nbn.normalize(x, layout, weight, bias, eps=eps, moments=m)
        allowed = oracle.output_tolerance(x, *oracle.groups(layout, x.shape), y, weight, bias, eps)
        assert_within(again, y, 2 * allowed)


@pytest.mark.parametrize("past", [True, False], ids=["past the cache", "in it"])
@pytest.mark.parametrize("dtype", every(["float32", "float64", "float16"], ["float32"]))
def test_short_segments_that_are_written_as_one(dtype, past, rng, monkeypatch):
    """A vector of output may lie in any number of them: each is as if it were alone, bit by bit."""
    lengths = np.concatenate([rng.choice([0, 1, 2, 3, 15, 16, 17, 40, 200, 700], 150), [5, 1, 1, 1, 1, 1, 3, 0, 0]])
    offsets = offsets_of(lengths)
    x = (rng.uniform(-3, 3, len(lengths)).repeat(lengths) + rng.standard_normal(offsets[-1])).astype(dtype)
    alone = [nbn.normalize(x[a:b], nbn.Layout.segments([0, b - a])) for a, b in pairwise(offsets)]
    expected = np.concatenate(alone)
    bound = 0 if past else 1 << 40
    monkeypatch.setattr(planning, "DENSE", replace(planning.DENSE, stream_bytes=bound, stream_halves=0))
    forget()
    with planned_by(SMALL, 2):
        for shift in (0, 1, 5):  # where the output begins, modulo a line of the cache
            raw = np.zeros(x.nbytes + 256, np.uint8)
            begin = -raw.ctypes.data % 64 + shift * x.itemsize
            out = raw[begin : begin + x.nbytes].view(dtype)
            nbn.normalize(x, nbn.Layout.segments(offsets), out=out)
            np.testing.assert_array_equal(out, expected)
            assert not raw[:begin].any() and not raw[begin + x.nbytes :].any()
        here = x.copy()
        np.testing.assert_array_equal(nbn.normalize(here, nbn.Layout.segments(offsets), out=here), expected)
        backwards = x[::-1]
        np.testing.assert_array_equal(
            nbn.normalize(backwards, nbn.Layout.segments(offsets[-1] - offsets[::-1])),
            np.concatenate(
                [nbn.normalize(x[a:b][::-1], nbn.Layout.segments([0, b - a])) for a, b in pairwise(offsets)][::-1]
            ),
        )


def test_output_in_place_and_elsewhere(rng):
    x, layout = rng.standard_normal((500, 6)).astype(np.float32), nbn.Layout.segments([0, 3, 200, 500])
    expected = nbn.normalize(x, layout)
    out = np.empty((500, 6), np.float64)
    assert nbn.normalize(x, layout, out=out) is out
    np.testing.assert_allclose(out, expected, rtol=3e-7, atol=1e-7)
    narrow = nbn.normalize(x, layout, dtype="float16")
    assert narrow.dtype == np.float16
    np.testing.assert_allclose(narrow, expected, rtol=1e-3, atol=1e-6)
    assert nbn.normalize(x, layout, out=x) is x
    np.testing.assert_array_equal(x, expected)
    home = np.zeros(12)
    with pytest.raises(ValueError, match="out overlaps x"):
        nbn.normalize(home[:8], nbn.Layout.segments([0, 8]), out=home[1:9])


def test_options_of_the_output(rng):
    x, offsets = rng.standard_normal((60, 5)), [0, 2, 40, 60]
    for axis in (None, 0):
        layout = nbn.Layout.segments(offsets, axis=axis)
        for how in ({"ddof": 1}, {"eps_on": "std"}, {"eps": 0.3, "ddof": 1, "eps_on": "std"}):
            y = nbn.normalize(x, layout, **how)
            for a, b in pairwise(offsets):
                np.testing.assert_allclose(y[a:b], nbn.normalize(x[a:b], axis=axis, **how), rtol=0, atol=1e-14)
    y = nbn.normalize(np.array([5.0, 1.0, 3.0]), nbn.Layout.segments([0, 1, 3]), eps=0, ddof=1)
    np.testing.assert_allclose(y, [np.nan, -(0.5**0.5), 0.5**0.5], rtol=1e-15)  # one value has no such variance


def test_statistics_of_another_array(rng):
    x, layout = rng.standard_normal((60, 3)), nbn.Layout.segments([0, 20, 20, 60], axis=0)
    m = nbn.Moments(np.full((3, 3), 4.0), np.ones((3, 3)), np.full((3, 3), 36.0))
    np.testing.assert_allclose(nbn.normalize(x, layout, moments=m, eps=0), (x - 1) / 3, rtol=1e-15, atol=1e-15)
    with pytest.raises(ValueError, match=r"group shape \(3,\).*\(3, 3\)"):
        nbn.normalize(x, layout, moments=nbn.Moments(*np.ones((3, 3))))


def test_calls_one_after_the_other_do_not_mix(rng):
    """What is remembered of a call belongs to its offsets."""
    x = rng.standard_normal(1000).astype(np.float32)
    for _ in range(3):
        for offsets in ([0, 10, 1000], [0, 500, 1000], [0, 500, 600, 1000]):
            layout = nbn.Layout.segments(offsets)
            check_output(nbn.normalize(x, layout), x, layout)
            check_output(nbn.normalize(x, layout, np.float32(2.0)), x, layout, 2.0)


# wrong input ----------------------------------------------------------------------------------------------------------

WRONG_OFFSETS = {
    "floats": ([0.0, 2.0], TypeError, ["integers", "float64"]),
    "flags": ([False, True], TypeError, ["integers", "bool"]),
    "text": ("0 2 4", TypeError, ["integers", "0 2 4"]),
    "names": (["a", "b"], TypeError, ["integers"]),
    "one number": (4, TypeError, ["sequence", "4"]),
    "nothing": (None, TypeError, ["sequence", "None"]),
    "by name": ({0: 1}, TypeError, ["sequence", "dict"]),
    "holes": ([0, None, 4], TypeError, ["integers", "object"]),
    "masked": (np.ma.masked_array([0, 2, 4]), TypeError, ["masked"]),
    "two axes": ([[0, 2, 4]], ValueError, [r"one axis", r"\(1, 3\)"]),
    "rows of different lengths": ([[0, 2], [4]], TypeError, ["integers"]),
    "no axis": (np.array(3), ValueError, ["one axis", r"\(\)"]),
    "empty": ([], ValueError, [r"pass \[0\]"]),
    "not from 0": ([2, 4, 6], ValueError, ["begin with 2", "cumsum", r"x\[2:\]", "offsets - 2"]),
    "negative": ([-1, 4, 6], ValueError, ["begin with -1"]),
    "falling": ([0, 4, 3, 6], ValueError, ["decrease from 4 to 3", "index 2", "cumsum"]),
    "too high": (np.array([0, 2**63], np.uint64), ValueError, [str(2**63)]),
    "too high for any": ([0, 2**70], TypeError, ["integers"]),
}


@pytest.mark.parametrize("wrong", WRONG_OFFSETS)
def test_wrong_offsets(wrong):
    offsets, error, said = WRONG_OFFSETS[wrong]
    with pytest.raises(error, match="offsets") as caught:
        nbn.Layout.segments(offsets)
    for words in said:
        assert caught.match(words)


WRONG_SPLITS = {
    "kept": ({"axis": 1}, ValueError, ["keeps it", r"axis=\(0, 1\)"]),
    "kept by a pattern": ({"layout": "t f -> t"}, ValueError, ["keeps it", "t f -> f"]),
    "kept by name": ({"layout": nbn.Layout.instance()}, ValueError, ["Layout.instance", "keeps it"]),
    "kept in part": ({"layout": "(a t) f -> a f", "a": 2}, ValueError, ["keeps it"]),
    "split": ({"layout": "(a t) f -> f", "a": 2}, ValueError, ["one name"]),
    "of a fixed length": ({"layout": "t f -> f", "t": 2}, ValueError, ["without a size"]),
    "twice": ({"layout": "t f -> f", "axis": 0}, ValueError, ["both say"]),
    "axes as a layout": ({"layout": (0, 1)}, TypeError, [r"axis=\(0, 1\)"]),
    "no layout": ({"layout": np.ones(3)}, TypeError, ["pattern or a Layout"]),
    "size without a pattern": ({"g": 2}, TypeError, ["'g'"]),
    "size beside a layout": ({"layout": nbn.Layout.axes(0), "g": 2}, TypeError, ["'g'"]),
    "segments": ({"layout": nbn.Layout.segments([0, 2])}, TypeError, ["segments within segments"]),
    "no number": ({"axis": 0.5}, TypeError, ["axis"]),
}


@pytest.mark.parametrize("wrong", WRONG_SPLITS)
def test_wrong_splits_of_a_segment(wrong):
    how, error, said = WRONG_SPLITS[wrong]
    with pytest.raises(error) as caught:
        nbn.Layout.segments([0, 2, 4], **how)
    for words in said:
        assert caught.match(words)


WRONG_ARRAYS = {
    "past the end": ((5, 2), {}, ["last offset is 6, past the end", r"\(5, 2\)"]),
    "short of the end": ((7, 2), {}, ["last offset is 6", "7 long", "append 7", r"x\[:6\]"]),
    "no axis": ((), {}, ["no axis"]),
    "kept here": ((6, 2), {"axis": -1}, ["keeps it"]),
    "other axes": ((6, 2, 3), {"layout": "t f -> f"}, ["2 axes"]),
    "not divided": ((6, 5), {"layout": "t (g c) -> g", "g": 2}, ["does not divide 5"]),
}


@pytest.mark.parametrize("wrong", WRONG_ARRAYS)
def test_arrays_that_segments_do_not_fit(wrong):
    shape, how, said = WRONG_ARRAYS[wrong]
    layout, x = nbn.Layout.segments([0, 2, 6], **how), np.ones(shape)
    calls = [
        lambda: nbn.moments(x, layout),
        lambda: nbn.normalize(x, layout, out=x),
        lambda: nbn.normalize(x, layout, moments=nbn.Moments(1.0, 2.0, 3.0)),
        lambda: layout.group_shape(shape),
        lambda: layout.group_ids(shape),
        lambda: layout.expand(1.0, shape),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="Layout") as caught:
            call()
        for words in said:
            assert caught.match(words)
    np.testing.assert_array_equal(x, 1.0)


def test_other_wrong_arguments():
    x, layout = np.ones((6, 2)), nbn.Layout.segments([0, 2, 6])
    with pytest.raises(ValueError, match="weight of shape"):
        nbn.normalize(x, layout, weight=np.ones(5))
    with pytest.raises(ValueError, match="ddof must not be negative"):
        nbn.normalize(x, layout, ddof=-1)
    with pytest.raises(ValueError, match="both say"):
        nbn.normalize(x, layout, axis=0)
    with pytest.raises(TypeError, match="got its sizes when it was made"):
        nbn.moments(x, layout, g=2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.uint64, np.int16])
def test_labels_of_segments_of_every_kind(dtype):
    x, layout, labels = np.arange(6.0), nbn.Layout.segments([0, 3, 6]), np.array([0, 1, 0, 1, 0, 1], dtype)
    for number in (None, 2):
        m = nbn.moments(x, layout, labels=labels, num_labels=number)
        np.testing.assert_array_equal(m.mean, [[1.0, 4.0], [1.0, 4.0]])
    assert nbn.moments(x[:0], nbn.Layout.segments([0]), labels=labels[:0]).shape == (0, 0)


def test_wrong_labels_of_segments():
    x, layout = np.ones((6, 2)), nbn.Layout.segments([0, 2, 6], axis=0)
    for call in (nbn.moments, lambda x, layout, **how: nbn.normalize(x, layout, out=x, **how)):
        for labels, error, said in (
            ([0, 1, 0, 1, 0], ValueError, r"labels have shape \(5,\).*of shape \(6,\)"),
            (np.zeros((6, 2), int), ValueError, "labels of each element need all axes reduced"),
            (np.zeros(6), TypeError, "labels must be integers"),
            ([0, 1, 0, 1, 0, 9], ValueError, "num_labels=2 allows 0 to 1"),
        ):
            with pytest.raises(error, match=said):
                call(x, layout, labels=labels, num_labels=2)
        with pytest.raises(ValueError, match=r"reach up to 10000000000.*np\.unique"):
            call(x, layout, labels=[0, 1, 0, 1, 0, 10**10])
        with pytest.raises(ValueError, match="past the end"):
            call(x[:5], layout, labels=[0, 1, 0, 1, 0])
    with pytest.raises(ValueError, match=r"shape \(3, 2, 2\).*\(2, 2, 2\)"):
        nbn.normalize(x, layout, labels=[0, 1] * 3, moments=nbn.moments(x, layout, labels=[0, 1] * 3, num_labels=3))
    np.testing.assert_array_equal(x, 1.0)


# torch's nested tensors -----------------------------------------------------------------------------------------------


@pytest.fixture
def jagged(rng):
    """A jagged tensor of shape (4, j, 6), and its rows."""
    torch = pytest.importorskip("torch")
    rows = [torch.from_numpy(rng.standard_normal((n, 6)).astype(np.float32)) for n in (3, 0, 50, 7)]
    return torch.nested.nested_tensor(rows, layout=torch.jagged), rows


NESTED = {  # by how a nested tensor is grouped: each of its rows
    "over steps": ({"axis": 1}, {"axis": 0}),
    "over all": ({"axis": (1, 2)}, {}),
    "pattern": ({"layout": "b t (g c) -> b g", "g": 2}, {"layout": "t (g c) -> g", "g": 2}),
    "last axes": ({"layout": nbn.Layout.layer(2)}, {}),
    "by sample and channel": ({"layout": nbn.Layout.instance(-1)}, {"axis": 0}),
    "several kept": ({"layout": "b ... f -> b f"}, {"axis": 0}),
}


@pytest.mark.parametrize("how", NESTED)
def test_nested_tensors_go_in_and_come_out(how, jagged):
    torch = pytest.importorskip("torch")
    x, rows = jagged
    of_nested, of_row = NESTED[how]
    weight, bias = torch.linspace(1, 2, 6), torch.linspace(-1, 1, 6)
    y, m = nbn.normalize(x, weight=weight, bias=bias, return_moments=True, **of_nested)
    assert type(y) is type(x)
    assert (y.layout, y.dtype, y.shape) == (x.layout, x.dtype, x.shape)
    assert (x + y).shape == x.shape  # torch takes their rows for equally long
    assert nbn.moments(x, **of_nested).shape == m.shape
    assert m.shape[0] == 4
    again = nbn.normalize(x, weight=weight, bias=bias, moments=m, **of_nested)
    for i, row in enumerate(rows):
        torch.testing.assert_close(again.unbind()[i], y.unbind()[i])
        if len(row):
            torch.testing.assert_close(y.unbind()[i], nbn.normalize(row, weight=weight, bias=bias, **of_row))
            np.testing.assert_allclose(m.mean[i], nbn.moments(row, **of_row).mean, rtol=1e-6, atol=1e-9)


def test_nested_tensors_with_segments(jagged):
    torch = pytest.importorskip("torch")
    x, _ = jagged
    layout = nbn.Layout.segments(x.offsets(), axis=0)
    y = nbn.normalize(x, layout)
    assert torch.equal(y.values(), nbn.normalize(x, axis=1).values())
    assert torch.equal(y.values(), nbn.normalize(x.values(), layout))
    assert nbn.moments(x, layout) == nbn.moments(x.values(), layout)
    narrow = nbn.normalize(x, layout, dtype=torch.bfloat16)
    assert narrow.dtype == torch.bfloat16
    assert narrow.shape == x.shape
    with pytest.raises(ValueError, match=r"rows of other lengths.*x\.offsets\(\)"):
        nbn.normalize(x, nbn.Layout.segments([0, 60]))


def test_nested_tensors_are_written_in_place(jagged):
    torch = pytest.importorskip("torch")
    x, rows = jagged
    expected = nbn.normalize(x, axis=1)
    out = torch.nested.nested_tensor(rows, layout=torch.jagged)
    assert nbn.normalize(x, axis=1, out=out) is out
    assert torch.equal(out.values(), expected.values())
    scaled = nbn.normalize(x, weight=x, axis=1)
    assert torch.allclose(scaled.values(), expected.values() * x.values(), rtol=1e-6, atol=1e-6)
    assert nbn.normalize(x, axis=1, out=x) is x
    assert torch.equal(x.values(), expected.values())
    other = torch.nested.nested_tensor(rows[::-1], layout=torch.jagged)
    with pytest.raises(ValueError, match="out holds rows of other lengths"):
        nbn.normalize(x, axis=1, out=other)


def test_nested_tensors_that_are_refused(jagged):
    torch = pytest.importorskip("torch")
    x, rows = jagged
    for call in (nbn.moments, nbn.normalize):
        for how in ({}, {"axis": (0, 1)}, {"layout": "b t f -> f b"}):
            with pytest.raises(TypeError, match=r"x is a NestedTensor.*axis 0.*x\.values\(\)"):
                call(x, **how)
        for how in ({"axis": 2}, {"axis": 0}, {"layout": nbn.Layout.layer()}):
            with pytest.raises(TypeError, match=r"rows of different lengths along axis 1.*x\.values\(\)"):
                call(x, **how)
        with pytest.raises(TypeError, match="along another axis than 1"):
            call(x.transpose(1, 2), axis=1)
        gaps = torch.nested.narrow(torch.ones(2, 9), 1, torch.tensor([0, 2]), torch.tensor([3, 4]), layout=torch.jagged)
        with pytest.raises(TypeError, match=r"gaps between its rows.*unbind"):
            call(gaps, axis=1)
        with pytest.raises(TypeError, match="records gradients"):
            call(torch.nested.nested_tensor(rows, layout=torch.jagged, requires_grad=True), axis=1)
    with pytest.raises(ValueError, match="b=3, but x has 4 rows"):
        nbn.moments(x, "b t f -> b", b=3)
