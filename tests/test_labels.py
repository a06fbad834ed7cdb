"""Groups that are split by labels, against the oracle."""

from dataclasses import replace
from fractions import Fraction
from functools import partial

import numpy as np
import oracle
import planned
import pytest
from everyday import every, examples, weights_for, wide
from hypothesis import given
from hypothesis import strategies as st
from oracle import NASTY, assert_within, exact_moments
from strategies import DTYPES, INTEGERS, ORDERS, RANDOM, arrange, arrays, groupings

import numbanorm as nbn
from numbanorm.cpu import labels as planning

SMALL = replace(
    planning.TUNING, serial_work=100, wanted_tasks=4, part_elements=16, state_elements=1, least_parts=2, tile=32
)
TABLES = {  # to walk the same arrays in every way
    "as it is": planning.TUNING,
    "many parts": SMALL,
    "far apart": replace(SMALL, near_bytes=0),
    "ranges": replace(SMALL, least_parts=1 << 40, samples=50),
    "long runs": replace(SMALL, short_run=1 << 40),
}

planned_by = partial(planned.planned_by, planning)


def some_labels(rng, size, num_labels):
    """Labels in order or at random, in runs or apart, few of them with most elements, some left out."""
    labels = rng.integers(0, num_labels, size)
    how = rng.choice(["random", "sorted", "runs", "skewed", "one", "falling"])
    if how == "skewed":
        labels = np.minimum(labels, rng.integers(0, num_labels, size) // (1 + rng.integers(0, num_labels, size)))
    elif how == "runs":
        labels = np.repeat(labels, rng.integers(1, 200))[:size]
    elif how == "one":
        labels = np.full(size, rng.integers(num_labels))
    elif how != "random":
        labels = np.sort(labels)[:: 1 if how == "sorted" else -1]
    return np.where(rng.random(size) < rng.choice([0, 0, 0.2]), -1 - rng.integers(0, 3, size), labels)


def reduced_shape(layout, shape):
    """The shape of what is reduced, by hand: an axis for each of x of which anything is."""
    sizes = {}
    for factor in layout.resolve(shape).factors:
        if not factor.group_stride:
            sizes[factor.axis] = sizes.get(factor.axis, 1) * factor.size
    return tuple(sizes.values())


def running_sum(count):
    """What n values that are added up one after the other may cost, relative to their m2.

    That is relative to their squares about a pivot, for 16 values the first of them: those may be n times m2.
    """
    first = np.minimum(count, 16)
    return (first * first + count - first) * oracle.EPS64 / 2


def check(m, x, layout, labels, num_labels):
    expected = oracle.labelled_moments(x, layout, labels, num_labels)
    ids, num_groups = oracle.labelled_groups(layout, x.shape, labels, num_labels)
    count, mean, m2 = expected
    assert m.shape == (num_labels, *layout.group_shape(x.shape))
    np.testing.assert_array_equal(m.count, count)
    with_left_out = np.append(mean.ravel(), 0.0)
    reach = oracle.mean_tolerance(x, ids, num_groups, with_left_out)[:-1].reshape(mean.shape)
    # Values are added one after the other: of repeated ones, each addition may round in the same direction.
    assert_within(m.mean, mean, reach * (4 + np.log2(np.maximum(count, 1)) / 2))
    with np.errstate(invalid="ignore"):
        var = m2 / count
    allowed = oracle.variance_tolerance(x.dtype, count, mean, var) + running_sum(count)
    assert_within(m.m2, m2, np.where(m2 > 0, allowed, 0.0) * m2)


@st.composite
def labelled(draw, dtypes, special=True):
    """An array, a grouping that reduces something, labels that fit, how many there are, and how it is walked."""
    grouping = draw(groupings().filter(lambda g: reduced_shape(g.as_layout(), g.shape)))
    x = draw(arrays(grouping.shape, dtypes, special))
    rng = draw(RANDOM)
    wanted = reduced_shape(grouping.as_layout(), grouping.shape)
    own = [1 if rng.random() < 0.1 else n for n in wanted[rng.integers(len(wanted)) if rng.random() < 0.1 else 0 :]]
    num_labels = int(rng.choice([1, 2, 3, 5, 17, 100, 300]))
    dtype = rng.choice(INTEGERS)
    labels = some_labels(rng, int(np.prod(own)), min(num_labels, np.iinfo(dtype).max))
    labels = (np.maximum(labels, 0) if dtype.kind == "u" else labels).reshape(own)
    labels = arrange(rng, labels.astype(dtype.newbyteorder() if rng.random() < 0.1 else dtype), rng.choice(ORDERS))
    threads = int(rng.integers(1, 5))
    return grouping, x, labels, num_labels, TABLES[rng.choice(list(TABLES))], threads


@wide
@examples(500)
@given(data=st.data())
def test_any_labels_of_any_grouping_of_any_array(data, dtypes):
    grouping, x, labels, num_labels, tuning, threads = data.draw(labelled(dtypes))
    layout = grouping.as_layout()
    with planned_by(tuning, threads):
        m = nbn.moments(x, grouping.layout, labels=labels, num_labels=num_labels, **grouping.keywords)
    check(m, x, layout, np.broadcast_to(labels, reduced_shape(layout, x.shape)), num_labels)


@examples(100)
@given(data=st.data())
def test_the_same_bits_for_any_number_of_threads(data):
    grouping, x, labels, num_labels, tuning, _ = data.draw(labelled([np.dtype("float64"), np.dtype("float32")]))
    layout, found = grouping.as_layout(), []
    for threads in (1, 2, 3, 4):
        with planned_by(tuning, threads):
            m = nbn.moments(x, layout, labels=labels, num_labels=num_labels)
        found.append((m.count.tobytes(), m.mean.tobytes(), m.m2.tobytes()))
    assert len(set(found)) == 1


@pytest.mark.parametrize("tuning", TABLES)
def test_the_same_bits_where_labels_are_in_order_here_and_there(tuning, rng):
    """Runs of a label are added up in another way than labels at random, whoever adds them."""
    parts, found = rng.integers(0, 20, (20, 1024)), []
    x, labels = (
        rng.standard_normal(parts.size),
        np.concatenate([np.sort(p) if k % 4 < 2 else p for k, p in enumerate(parts)]),
    )
    for threads in (1, 2, 3, 4):
        with planned_by(TABLES[tuning], threads):
            m = nbn.moments(x, labels=labels, num_labels=20)
        found.append((m.count.tobytes(), m.mean.tobytes(), m.m2.tobytes()))
    assert len(set(found)) == 1


@pytest.mark.parametrize("dtype", every(DTYPES))
@pytest.mark.parametrize("axis", [0, 1, None])
def test_every_dtype(dtype, axis, rng):
    x = rng.integers(0, 2 if dtype.kind == "b" else 100, (300, 70)).astype(dtype)
    layout = nbn.Layout.axes((0, 1) if axis is None else axis)
    shape = reduced_shape(layout, x.shape)
    labels = rng.integers(-1, 9, shape)
    check(nbn.moments(x, axis=axis, labels=labels, num_labels=9), x, layout, labels, 9)


@pytest.mark.parametrize("threads_used", [1, 4])
@pytest.mark.parametrize("order", ["random", "sorted"])
@pytest.mark.parametrize(
    ("features", "num_labels"),
    [(1, 2), (1, 300), (1, 40_000), (5, 3), (5, 8000), (40, 9), (40, 1000), (600, 2), (600, 50)],
)
def test_many_rows(num_labels, order, features, threads_used, rng):
    """More than one thread takes, as one table of states or as many."""
    x = 1e6 + rng.standard_normal((300_000 // features, features))
    labels = rng.integers(-1, num_labels, len(x))
    labels = np.sort(labels) if order == "sorted" else labels
    with planned_by(planning.TUNING, threads_used):
        m = nbn.moments(x, axis=0, labels=labels, num_labels=num_labels)
    check(m, x, nbn.Layout.axes(0), labels, num_labels)


@pytest.mark.parametrize("tuning", TABLES)
@pytest.mark.parametrize("order", ["random", "sorted"])
@pytest.mark.parametrize("numbers", [name for name in NASTY if name != "steps"])  # whose mean is far from all
def test_all_digits_are_kept(numbers, order, tuning, rng):
    labels = rng.integers(0, 7, 6000)
    labels = np.sort(labels) if order == "sorted" else labels
    x = NASTY[numbers](np.arange(6000.0))
    for features in (1, 3):
        table = x[:, None] + np.zeros(features)
        with planned_by(TABLES[tuning], 2):
            m = nbn.moments(table, axis=0, labels=labels)
        for label in range(7):
            _, mean, m2 = exact_moments(x[labels == label])
            within = 2.3e-16 * np.abs(x[labels == label]).max()
            np.testing.assert_allclose(m.mean[label], float(mean), rtol=0, atol=within)
            np.testing.assert_allclose(m.m2[label], float(m2), rtol=5e-14)


@pytest.mark.parametrize("dtype", every(["uint8", "uint16", "float64"], ["uint16"]))
@pytest.mark.parametrize("features", [1, 3, 9])
def test_squares_of_integers_lose_nothing(features, dtype, rng):
    """However many: squares of distances from a pivot with 53 bits would all be rounded in one direction."""
    x = rng.integers(0, 256 if dtype == "uint8" else 65536, (60_000, features)).astype(dtype)
    labels = rng.integers(-1, 2, len(x))
    with planned_by(replace(planning.TUNING, part_elements=1 << 40), 2):
        m = nbn.moments(x, axis=0, labels=labels)
    for label in range(2):
        for feature in range(features):
            *_, m2 = exact_moments(x[labels == label, feature])
            assert abs(Fraction(m.m2[label, feature]) / m2 - 1) < 4 * oracle.EPS64


@pytest.mark.parametrize("value", [0.1, 1e300, -1e-310, 2.0**70])
def test_equal_values_have_no_spread(value, rng):
    for labels in (rng.integers(0, 5, 200_000), np.sort(rng.integers(0, 5, 200_000))):
        m = nbn.moments(np.full(labels.size, value), labels=labels)
        np.testing.assert_array_equal(m.mean, value)
        np.testing.assert_array_equal(m.m2, 0.0)


def test_nan_and_infinities_stay_with_their_label():
    inf, nan = np.inf, np.nan
    x = np.array([inf, 1, 2, -inf, 1, inf, -inf, 3, nan, 1, 4, 4])
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4])
    for reps in (1, 30):
        m = nbn.moments(np.repeat(x, reps), labels=np.repeat(labels, reps))
        np.testing.assert_array_equal(m.mean, [inf, -inf, nan, nan, 4])
        np.testing.assert_array_equal(m.m2, [nan, nan, nan, nan, 0])
        np.testing.assert_array_equal(m.count, reps * np.array([3, 2, 3, 2, 2]))


def test_labels_count_as_far_as_they_reach():
    x = np.arange(6.0)
    assert nbn.moments(x, labels=[0, 1, 0, 3, 1, -7]).shape == (4,)
    assert nbn.moments(x, labels=[0, 1, 0, 3, 1, -7], num_labels=6).shape == (6,)
    assert nbn.moments(x, labels=[-1] * 6).shape == (0,)
    m = nbn.moments(x, labels=[-1] * 6, num_labels=2)
    np.testing.assert_array_equal(m.count, [0, 0])
    np.testing.assert_array_equal(m.mean, [np.nan, np.nan])


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)], ids=str)
def test_empty_arrays(shape):
    labels = np.arange(shape[0])
    m = nbn.moments(np.ones(shape), axis=0, labels=labels)
    assert m.shape == (shape[0], shape[1])
    assert nbn.moments(np.ones(shape), axis=0, labels=labels, num_labels=5).shape == (5, shape[1])


def test_labels_go_in_front_of_the_groups(rng):
    x = rng.standard_normal((4, 6, 5, 5))
    labels = rng.integers(0, 3, (3, 5, 5))
    m = nbn.moments(x, "n (g c) h w -> g n", g=2, labels=labels)
    assert m.shape == (3, 2, 4)
    np.testing.assert_allclose(m.mean[1, 1, 2], x[2, 3:][labels == 1].mean(), rtol=1e-13)


def test_moments_by_label_merge(rng):
    x, labels = 1e5 + rng.standard_normal(5000), rng.integers(0, 20, 5000)
    parts = [nbn.moments(x[i::3], labels=labels[i::3], num_labels=20) for i in range(3)]
    check(sum(parts), x, nbn.Layout.axes(0), labels, 20)


def test_labels_of_other_libraries(rng):
    pd, torch = pytest.importorskip("pandas"), pytest.importorskip("torch")
    x, labels = rng.standard_normal(50), rng.integers(0, 4, 50)
    expected = nbn.moments(x, labels=labels)
    for others in (pd.Series(labels), torch.from_numpy(labels), labels.tolist(), tuple(labels.tolist())):
        assert nbn.moments(x, labels=others) == expected
    assert nbn.moments(torch.from_numpy(x), labels=torch.from_numpy(labels)) == expected


# output ---------------------------------------------------------------------------------------------------------------


def check_output(got, x, layout, labels, num_labels, weight=None, bias=None, eps=1e-5):
    """Within the rounding where there is a label, exactly x where it is negative."""
    ids, num_groups = oracle.labelled_groups(layout, x.shape, labels, num_labels)
    left_out = ids == num_groups - 1
    with np.errstate(all="ignore"):
        expected = oracle.normalize(x, ids, num_groups, weight, bias, eps)
        allowed = oracle.output_tolerance(x, ids, num_groups, expected, weight, bias, eps)
        scaled = expected - (0.0 if bias is None else oracle.wide(bias))
        allowed = allowed + np.abs(scaled) * running_sum(oracle.moments(x, ids, num_groups)[0])[ids] / 2
    dtype = oracle.result_dtype(x.dtype)
    assert (got.dtype, got.shape, got.strides) == (dtype, x.shape, np.empty_like(x, dtype).strides)
    expected, allowed = np.where(left_out, oracle.wide(x), expected), np.where(left_out, 0.0, allowed)
    assert_within(oracle.within_range(got, dtype), oracle.within_range(expected, dtype), allowed)


@wide
@examples(300)
@given(data=st.data())
def test_output_of_any_labels(data, dtypes):
    grouping, x, labels, num_labels, tuning, threads = data.draw(labelled(dtypes))
    layout = grouping.as_layout()
    weight, bias = data.draw(weights_for(x, dtypes))
    eps = data.draw(st.sampled_from([1e-5, 0.0, 1.0]))
    how = {"eps": eps, "labels": labels, "num_labels": num_labels, **grouping.keywords}
    before = x.copy()
    with planned_by(tuning, threads):
        got, m = nbn.normalize(x, grouping.layout, weight, bias, return_moments=True, **how)
        assert m == nbn.moments(x, layout, labels=labels, num_labels=num_labels)
    full = np.broadcast_to(labels, reduced_shape(layout, x.shape))
    check_output(got, x, layout, full, num_labels, weight, bias, eps)
    assert x.tobytes() == before.tobytes()


@pytest.mark.parametrize("features", [1, 5, 40])
def test_output_of_many_rows(features, threads, rng):
    x = 1e8 + rng.standard_normal((300_000 // features, features))
    labels = rng.integers(-1, 50, len(x))
    found = []
    for number in (1, 2, threads):
        nbn.set_num_threads(number)
        found.append(nbn.normalize(x, axis=0, labels=labels))
        assert found[0].tobytes() == found[-1].tobytes()
    check_output(found[0], x, nbn.Layout.axes(0), labels, 50)


def test_output_in_place_and_elsewhere(rng):
    x, labels = rng.standard_normal((50, 6)).astype(np.float32), rng.integers(-1, 4, 50)
    expected = nbn.normalize(x, axis=0, labels=labels)
    out = np.empty((50, 6), np.float64)
    assert nbn.normalize(x, axis=0, labels=labels, out=out) is out
    np.testing.assert_allclose(out, expected, rtol=2e-7, atol=1e-7)
    assert nbn.normalize(x, axis=0, labels=labels, out=x) is x
    np.testing.assert_array_equal(x, expected)
    wide = nbn.normalize(np.arange(6), labels=[0, 0, 0, 1, 1, 1], dtype="float32")
    assert wide.dtype == np.float32


def test_what_is_left_out_is_copied_bit_by_bit():
    x = np.array([-0.0, np.inf, np.nan, 5e-324, 1.0, 3.0])
    y = nbn.normalize(x, labels=[-1, -1, -1, -1, 0, 0], weight=7.0, bias=2.0)
    assert y[:4].tobytes() == x[:4].tobytes()


def test_given_moments_of_labels(rng):
    x, labels = rng.standard_normal((60, 3)), rng.integers(0, 4, 60)
    m = nbn.moments(x, axis=0, labels=labels)
    got = nbn.normalize(x, axis=0, labels=labels, moments=m, eps=0.5)
    np.testing.assert_allclose(got, nbn.normalize(x, axis=0, labels=labels, eps=0.5), rtol=0, atol=1e-14)
    some = nbn.normalize(x[:5], axis=0, labels=labels[:5], num_labels=4, moments=m, eps=0.5)
    np.testing.assert_array_equal(some, got[:5])
    with pytest.raises(ValueError, match=r"shape \(4, 3\).*\(9, 3\)"):
        nbn.normalize(x, axis=0, labels=labels, num_labels=9, moments=m)
    with pytest.raises(TypeError, match="must be Moments"):
        nbn.normalize(x, axis=0, labels=labels, moments=3.0)


def test_options_of_the_output(rng):
    x, labels = rng.standard_normal(60), np.sort(rng.integers(0, 4, 60))
    for label in range(4):
        own = labels == label
        for how in ({"ddof": 1}, {"eps_on": "std"}, {"eps": 0.3, "ddof": 1, "eps_on": "std"}):
            whole, alone = nbn.normalize(x, labels=labels, **how), nbn.normalize(x[own], **how)
            np.testing.assert_allclose(whole[own], alone, rtol=0, atol=1e-14)
    y = nbn.normalize(np.array([5.0, 5.0, 8.0]), labels=[0, 0, 1], eps=0, ddof=1, bias=2.0)
    np.testing.assert_array_equal(y, [2.0, 2.0, np.nan])  # no variance with ddof=1


def test_torch_tensors_come_back(rng):
    torch = pytest.importorskip("torch")
    x, labels = rng.standard_normal((30, 2)).astype(np.float32), rng.integers(0, 3, 30)
    y = nbn.normalize(torch.from_numpy(x), axis=0, labels=torch.from_numpy(labels))
    assert type(y) is torch.Tensor
    np.testing.assert_array_equal(y.numpy(), nbn.normalize(x, axis=0, labels=labels))


# wrong input ----------------------------------------------------------------------------------------------------------

WRONG = {
    "floats": (np.zeros(6), TypeError, ["integers", "float64", "np.unique"]),
    "flags": (np.zeros(6, bool), TypeError, ["integers", "bool", "mask.astype"]),
    "names": (["a", "b", "c", "a", "b", "c"], TypeError, ["integers", "np.unique"]),
    "nothing": ({}, TypeError, ["labels"]),
    "masked": (np.ma.masked_array([0, 1, 0, 1, 0, 1]), TypeError, ["labels", "masked"]),
    "too few": (np.zeros(5, int), ValueError, [r"\(5,\)", r"\(6,\)"]),
    "too many axes": (np.zeros((6, 1), int), ValueError, [r"\(6, 1\)", r"reshape\(\(6,\)\)"]),
    "of each element": (np.zeros((6, 4), int), ValueError, [r"\(6, 4\)", "axis=None"]),
    "too high": (np.array([0, 1, 2, 3, 4, 9]), ValueError, ["9", "num_labels=5", "num_labels=10"]),
    "too high for int64": (np.array([0, 1, 2, 3, 4, 2**63], np.uint64), ValueError, ["num_labels=5"]),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_labels(wrong):
    labels, error, said = WRONG[wrong]
    x = np.arange(24.0).reshape(6, 4)
    before = x.copy()
    for call in (nbn.moments, lambda x, **how: nbn.normalize(x, out=x, **how)):
        with pytest.raises(error) as caught:
            call(x, axis=0, labels=labels, num_labels=5)
        for words in said:
            assert caught.match(words)
        np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("order", ["random", "in order"])
@pytest.mark.parametrize("shape, axis", [((70_000,), 0), ((9_000, 7), 0), ((9_000, 20), 0), ((3, 40_000), 1)])
def test_a_label_that_is_too_high_is_found_wherever_it_is(shape, axis, order, threads, rng):
    x = rng.standard_normal(shape)
    labels = rng.integers(-1 if order == "random" else 0, 9, shape[axis])
    if order == "in order":
        labels.sort()
    out = np.full(shape, 7.0)
    with planned_by(planning.TUNING, threads):
        for place in (0, 1, 1023, 1024, shape[axis] // 2, -1):
            for label in (9, 2**40, np.iinfo(np.int64).max):
                wrong = labels.copy()
                wrong[place] = label
                with pytest.raises(ValueError, match=f"labels reach up to {label}, but num_labels=9"):
                    nbn.moments(x, axis=axis, labels=wrong, num_labels=9)
                with pytest.raises(ValueError, match=f"num_labels={label + 1} or more"):
                    nbn.normalize(x, axis=axis, labels=wrong, num_labels=9, out=out)
        m = nbn.moments(x, axis=axis, labels=labels, num_labels=9)
    assert (out == 7.0).all()
    check(m, x, nbn.Layout.axes(axis), labels, 9)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint64])
@pytest.mark.parametrize("shape", [(60_000,), (9_000, 7), (9_000, 20)])
def test_no_range_of_labels_reaches_beyond_the_states(shape, dtype, rng):
    """Most labels are too high, and a sample of them says where the ranges of the threads are cut."""
    x, labels = rng.standard_normal(shape), rng.integers(0, 2**31 - 1, shape[0]).astype(dtype)
    with planned_by(replace(planning.TUNING, serial_work=100, least_parts=2**40), 4):
        with pytest.raises(ValueError, match=f"labels reach up to {labels.max()}, but num_labels=5 "):
            nbn.moments(x, axis=0, labels=labels, num_labels=5)
        m = nbn.moments(x, axis=0, labels=labels % 5, num_labels=5)
    check(m, x, nbn.Layout.axes(0), labels % 5, 5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("shape, axis", [((5_003,), 0), ((703, 7), 0), ((3, 1_501), 1), ((40, 33, 5), (0, 2))])
def test_output_past_the_cache_is_the_same(shape, axis, dtype, rng, monkeypatch):
    x, weight = rng.standard_normal(shape).astype(dtype), rng.standard_normal(shape).astype(dtype)
    labels = rng.integers(-1, 5, [n for k, n in enumerate(shape) if k in np.atleast_1d(axis)])
    expected = nbn.normalize(x, axis=axis, labels=labels, weight=weight)
    monkeypatch.setattr(planning, "TUNING_OF_OUTPUT", replace(planning.TUNING_OF_OUTPUT, stream_bytes=0))
    for begin in (0, 1, 5):
        room = np.full(x.size + 40, 3.0, dtype)
        out = room[begin : begin + x.size].reshape(shape)
        assert nbn.normalize(x, axis=axis, labels=labels, weight=weight, out=out) is out
        np.testing.assert_array_equal(out, expected)
        assert (room[:begin] == 3.0).all() and (room[begin + x.size :] == 3.0).all()
    strided = np.full((*shape, 2), 3.0, dtype)
    nbn.normalize(x, axis=axis, labels=labels, weight=weight, out=strided[..., 0])
    np.testing.assert_array_equal(strided[..., 0], expected)
    assert (strided[..., 1] == 3.0).all()


def test_other_wrong_arguments():
    x = np.ones((6, 4))
    with pytest.raises(ValueError, match=r"reduces no axis.*axis=0"):
        nbn.moments(x, axis=(), labels=0)
    with pytest.raises(TypeError, match="num_labels must be an int"):
        nbn.moments(x, axis=0, labels=np.zeros(6, int), num_labels=2.0)
    with pytest.raises(ValueError, match="num_labels must not be negative, got -1"):
        nbn.moments(x, axis=0, labels=np.zeros(6, int), num_labels=-1)
    with pytest.raises(TypeError, match="num_labels=3 without labels"):
        nbn.moments(x, axis=0, num_labels=3)
    with pytest.raises(TypeError, match="num_labels=3 without labels"):
        nbn.normalize(x, axis=0, num_labels=3)
    with pytest.raises(ValueError, match="weight of shape"):
        nbn.normalize(x, axis=0, labels=np.zeros(6, int), weight=np.ones(5))
    with pytest.raises(ValueError, match="ddof must not be negative"):
        nbn.normalize(x, axis=0, labels=np.zeros(6, int), ddof=-1)
    home = np.zeros(12, np.int64)
    with pytest.raises(ValueError, match="out overlaps labels"):
        nbn.normalize(np.ones(6), labels=home[:6], out=home[3:9].view(np.float64))
    with pytest.raises(ValueError, match=r"reach up to 10000000000.*np\.unique"):
        nbn.moments(x, axis=0, labels=np.array([0, 1, 2, 3, 4, 10**10]))
