"""Chosen and weighted elements (where=, weights=, skipna=) of labels and of segments, against the oracle."""

import tracemalloc
from contextlib import ExitStack
from fractions import Fraction
from itertools import pairwise

import numpy as np
import oracle
import pytest
import test_chosen
import test_labels
import test_segments
from everyday import examples, exhaustive, wide
from hypothesis import given
from hypothesis import strategies as st
from oracle import NASTY, assert_within, exact_weighted_moments
from strategies import DTYPES, FLOATS, ORDERS, RANDOM, arrange, is_float
from test_chosen import KINDS, of_own_shape, some_mask, some_weights
from test_labels import labelled, reduced_shape
from test_segments import ragged

import numbanorm as nbn

EACH = ["where", "weights", "skipna", "where weights skipna"]  # names of what chooses
some = pytest.mark.parametrize(
    "names", [pytest.param(names, marks=exhaustive if names in EACH[1:3] else ()) for names in EACH]
)


def with_holes(rng, x, order):
    """The array, with some NaN where it can have them."""
    x = np.array(x, order="K")
    if x.size and is_float(x.dtype) and rng.random() < 0.6:
        x[rng.random(x.shape) < rng.choice([0.1, 0.95])] = np.nan
    return arrange(rng, x, order)


def some_choice(rng, shape):
    """A mask, weights, or NaN that are left out, alone or together."""
    names = rng.permutation(KINDS)[: rng.integers(1, 4)]
    how = {}
    if "where" in names:
        how["where"] = some_mask(rng, of_own_shape(rng, shape))
    if "weights" in names:
        how["weights"] = some_weights(rng, of_own_shape(rng, shape))
    if "skipna" in names:
        how["skipna"] = True
    return how


def chosen_by(names, rng, x, share=0.7):
    """A choice of each element by itself."""
    how = {"where": rng.random(x.shape) < share, "weights": rng.random(x.shape), "skipna": True}
    return {name: how[name] for name in names.split()}


@st.composite
def of_labels(draw, dtypes):
    """An array, its layout, what chooses of it, labels, how many there are, and how all that is walked."""
    grouping, x, labels, num_labels, tuning, threads = draw(labelled(dtypes))
    rng = draw(RANDOM)
    x = with_holes(rng, x, rng.choice(ORDERS))
    how = some_choice(rng, x.shape)
    return x, grouping.as_layout(), how, labels, num_labels, (test_labels.planned_by, tuning, threads)


@st.composite
def of_segments(draw, dtypes):
    """The same of segments, without labels."""
    x, layout, tuning, threads, rng = draw(ragged(dtypes))
    x = with_holes(rng, x, rng.choice(ORDERS))
    walked = test_chosen.TABLES[rng.choice(list(test_chosen.TABLES))]
    return x, layout, some_choice(rng, x.shape), tuning, walked, threads


def planned(tuning, walked, threads):
    """Segments shared out by one tuning, and walked by another."""
    stack = ExitStack()
    stack.enter_context(test_segments.planned_by(tuning, threads))
    stack.enter_context(test_chosen.planned_by(walked, threads))
    return stack


def expected_of(x, ids, num_groups, how):
    with np.errstate(all="ignore"):
        return oracle.weighted_moments(x, ids, num_groups, oracle.counts_of(x, **how))


def check(m, x, ids, num_groups, how):
    """Moments of the first groups, as many as there are."""
    counts = oracle.counts_of(x, **how)
    expected = expected_of(x, ids, num_groups, how)
    number = m.mean.size
    count, mean, m2 = (state[:number].reshape(m.shape) for state in expected)
    with np.errstate(all="ignore"):
        var = m2 / count
    elements = max(x.size, 1)
    np.testing.assert_allclose(m.count, count, rtol=1e-13 if "weights" in how else 0)
    there = np.where(counts > 0, oracle.wide(x), np.where(np.isnan(expected[1]), 0.0, expected[1])[ids])
    reach = oracle.mean_tolerance(there, ids, num_groups, expected[1])[:number].reshape(mean.shape)
    assert_within(m.mean, mean, reach * (4 + np.log2(elements) / 2))
    # Some sixteen times m2 may be in the sums of squares, of values that are added one after the other.
    allowed = 4 * oracle.variance_tolerance(np.float64, elements, mean, var) + test_labels.running_sum(elements)
    assert_within(m.m2, m2, np.where(m2 > 0, allowed, 0.0) * m2)


def check_labelled(m, x, layout, how, labels, num_labels):
    full = np.broadcast_to(labels, reduced_shape(layout, x.shape))
    assert m.shape == (num_labels, *layout.group_shape(x.shape))
    check(m, x, *oracle.labelled_groups(layout, x.shape, full, num_labels), how)


def check_segments(m, x, layout, how):
    assert m.shape == layout.group_shape(x.shape)
    check(m, x, *oracle.groups(layout, x.shape), how)


def states_of(m):
    """All bytes of some moments, in which every NaN is the same."""
    return [test_segments.bits(np.asarray(state)) for state in (m.count, m.mean, m.m2, m._rest)]


# statistics -----------------------------------------------------------------------------------------------------------


@wide
@examples(500)
@given(data=st.data())
def test_any_choice_of_any_labels(data, dtypes):
    x, layout, how, labels, num_labels, (planned_by, *walked) = data.draw(of_labels(dtypes))
    with planned_by(*walked):
        m = nbn.moments(x, layout, labels=labels, num_labels=num_labels, **how)
    check_labelled(m, x, layout, how, labels, num_labels)


@wide
@examples(500)
@given(data=st.data())
def test_any_choice_of_any_segments(data, dtypes):
    x, layout, how, *walked = data.draw(of_segments(dtypes))
    with planned(*walked):
        m = nbn.moments(x, layout, **how)
    check_segments(m, x, layout, how)


@examples(100)
@given(of_labels(FLOATS[:2]))
def test_labels_have_the_same_bits_for_any_number_of_threads(drawn):
    x, layout, how, labels, num_labels, (planned_by, tuning, _) = drawn
    found = []
    for threads in (1, 2, 3, 4):
        with planned_by(tuning, threads):
            found.append(states_of(nbn.moments(x, layout, labels=labels, num_labels=num_labels, **how)))
        assert found[-1] == found[0]


@examples(100)
@given(of_segments(FLOATS[:2]))
def test_segments_have_the_same_bits_for_any_number_of_threads(drawn):
    x, layout, how, tuning, walked, _ = drawn
    found = []
    for threads in (1, 2, 3, 4):
        with planned(tuning, walked, threads):
            found.append(states_of(nbn.moments(x, layout, **how)))
        assert found[-1] == found[0]


@some
@pytest.mark.parametrize("order", ["random", "sorted"])
@pytest.mark.parametrize(
    ("features", "num_labels"), [(1, 3), (1, 20_000), (5, 3), (5, 2000), (40, 9), (40, 300), (600, 20)]
)
def test_many_rows_of_labels(num_labels, features, order, names, threads, rng):
    """More than one thread takes, as one table of states or as many."""
    x = 1e6 + rng.standard_normal((200_000 // features, features))
    x[rng.random(x.shape) < 0.2] = np.nan if "skipna" in names else 3e6
    labels = rng.integers(-1, num_labels, len(x))
    labels = np.sort(labels) if order == "sorted" else labels
    how, found = chosen_by(names, rng, x), []
    for number in (1, 2, threads):
        nbn.set_num_threads(number)
        found.append(nbn.moments(x, axis=0, labels=labels, num_labels=num_labels, **how))
        assert states_of(found[-1]) == states_of(found[0])
    check_labelled(found[0], x, nbn.Layout.axes(0), how, labels, num_labels)


@some
@pytest.mark.parametrize("lengths", ["tail", "one long", "tiny"])
@pytest.mark.parametrize(("features", "axis"), [(1, None), (3, 0), (64, 0), (64, None)])
def test_many_rows_of_segments(features, axis, lengths, names, threads, rng):
    rows = 200_000 // features
    rows //= 10 if lengths == "tiny" else 1  # the oracle takes its time with each segment
    offsets = test_segments.long_tailed(rng, rows, 2 if lengths == "tiny" else 200)
    if lengths == "one long":
        offsets = np.append(offsets[offsets < rows // 3], [2 * rows // 3 + 5, rows])
    x = 1e6 + rng.standard_normal((rows, features))
    x[rng.random(x.shape) < 0.2] = np.nan if "skipna" in names else 3e6
    how, found = chosen_by(names, rng, x), []
    layout = nbn.Layout.segments(offsets, axis=axis)
    for number in (1, 2, threads):
        nbn.set_num_threads(number)
        found.append(nbn.moments(x, layout, **how))
        assert states_of(found[-1]) == states_of(found[0])
    check_segments(found[0], x, layout, how)


@pytest.mark.parametrize("dtype", [pytest.param(d, id=str(d), marks=exhaustive) for d in DTYPES])
def test_every_dtype(dtype, rng):
    x = rng.integers(0, 2 if dtype.kind == "b" else 100, (300, 70)).astype(dtype)
    labels, how = rng.integers(-1, 9, 300), {"where": rng.random(x.shape) < 0.5}
    for axis in (None, 0):
        layout = nbn.Layout.segments([0, 0, 1, 40, 300], axis=axis)
        check_segments(nbn.moments(x, layout, **how), x, layout, how)
    for features in (3, 70):
        some, own = x[:, :features], {"where": how["where"][:, :features]}
        m = nbn.moments(some, axis=0, labels=labels, num_labels=9, **own)
        check_labelled(m, some, nbn.Layout.axes(0), own, labels, 9)


# digits ---------------------------------------------------------------------------------------------------------------


def groups_of(kind, number, rng):
    """Seven groups of rows, as labels or as segments: the group of each row, and the arguments that say so."""
    labels = rng.integers(0, 7, number)
    if kind == "random labels":
        return labels, lambda axis: {"labels": labels, "axis": axis}
    labels = np.sort(labels)
    if kind == "labels in order":
        return labels, lambda axis: {"labels": labels, "axis": axis}
    offsets = np.searchsorted(labels, range(8))
    return labels, lambda axis: {"layout": nbn.Layout.segments(offsets, axis=axis)}


GROUPS = ["random labels", "labels in order", "segments"]
groups = pytest.mark.parametrize("kind", GROUPS)


@groups
@some
@pytest.mark.parametrize("numbers", NASTY)
def test_all_digits_are_kept(numbers, names, kind, rng):
    x = NASTY[numbers](np.arange(6000.0))
    group, asked = groups_of(kind, 6000, rng)
    how = {"where": rng.random(6000) < 0.6, "weights": 4.0 ** rng.integers(-20, 20, 6000), "skipna": True}
    how = {name: how[name] for name in names.split()}
    if "skipna" in how:
        x[rng.random(6000) < 0.3] = np.nan
        x[:40] = np.nan
    counts = oracle.counts_of(x, **how)
    expected = [exact_weighted_moments(np.nan_to_num(x[group == one]), counts[group == one]) for one in range(7)]
    for features in (1, 3, 20):
        table = np.repeat(x[:, None], features, axis=1)
        choice = {name: v if v is True else v[:, None] for name, v in how.items()}
        m = nbn.moments(table, **choice, **asked(0))
        for one, (total, mean, m2) in enumerate(expected):
            np.testing.assert_allclose(m.count[one], float(total), rtol=1e-14)
            np.testing.assert_allclose(m.mean[one], float(mean), rtol=0, atol=6e-16 * np.nanmax(np.abs(x)))
            np.testing.assert_allclose(m.m2[one], float(m2), rtol=5e-14)


@groups
def test_weights_that_grow_beyond_all_before(kind, rng):
    """A pivot that was a light value far off is soon left."""
    group, asked = groups_of(kind, 4000, rng)
    x, weights = rng.standard_normal(4000), np.ones(4000)
    for one in range(7):
        first = np.flatnonzero(group == one)[:3]
        x[first], weights[first] = [1e8, -3e7, 1e8 + 1], [1e-280, 1e-200, 1e-100]
    for features in (1, 20):
        table = np.repeat(x[:, None], features, axis=1)
        m = nbn.moments(table, weights=weights[:, None], **asked(0))
        for one in range(7):
            _, mean, m2 = exact_weighted_moments(x[group == one], weights[group == one])
            np.testing.assert_allclose(m.mean[one], float(mean), rtol=0, atol=1e-14)
            np.testing.assert_allclose(m.m2[one], float(m2), rtol=5e-14)


@groups
@pytest.mark.parametrize("value", [0.1, 1e300, -1e-310, 2.0**70])
def test_equal_values_have_no_spread(value, kind, rng):
    _, asked = groups_of(kind, 5000, rng)
    for features in (1, 5, 40):
        x = np.where(rng.random((5000, features)) < 0.5, value, np.nan)
        for how in ({"skipna": True}, {"where": ~np.isnan(x)}, {"skipna": True, "weights": rng.random(x.shape)}):
            m = nbn.moments(x, **how, **asked(0))
            np.testing.assert_array_equal(m.mean, value)
            np.testing.assert_array_equal(m.m2, 0.0)


@pytest.mark.parametrize("features", [1, 3, 20])
def test_squares_of_integers_lose_nothing(features, rng):
    x = rng.integers(0, 65536, (20_000, features)).astype(float)
    where = rng.random(x.shape) < 0.8
    for labels in (rng.integers(0, 2, len(x)), np.sort(rng.integers(0, 2, len(x)))):
        m = nbn.moments(x, axis=0, labels=labels, where=where)
        for label in range(2):
            for feature in range(min(features, 3)):
                own = (labels == label) & where[:, feature]
                _, _, m2 = exact_weighted_moments(x[own, feature], np.ones(own.sum()))
                assert abs(Fraction(m.m2[label, feature]) / m2 - 1) < 4 * oracle.EPS64


# what it means --------------------------------------------------------------------------------------------------------


@groups
@pytest.mark.parametrize("names", ["where", "weights"])
def test_what_is_left_out_does_not_matter(names, kind, rng):
    _, asked = groups_of(kind, 3000, rng)
    for features in (1, 5, 40):
        x = rng.standard_normal((3000, features))
        how = {"where": rng.random(x.shape) < 0.5, "weights": rng.random(x.shape)}
        how["weights"] *= rng.random(x.shape) < 0.5
        how = {name: how[name] for name in names.split()}
        counts = oracle.counts_of(x, **how) > 0
        expected = states_of(nbn.moments(x, **how, **asked(0)))
        for other in (np.nan, np.inf, 1e300, -0.0):
            assert states_of(nbn.moments(np.where(counts, x, other), **how, **asked(0))) == expected
        y = nbn.normalize(x, **how, **asked(0))
        other = nbn.normalize(np.where(counts, x, np.inf), **how, **asked(0))
        np.testing.assert_array_equal(other[counts], y[counts])


@groups
def test_nan_and_infinities_stay_in_their_group(kind, rng):
    group, asked = groups_of(kind, 3000, rng)
    for features in (1, 5, 40):
        x = rng.standard_normal((3000, features))
        clean = nbn.moments(x, where=np.True_, **asked(0))
        first = np.flatnonzero(group == 3)
        for bad, mean in (([np.inf], np.inf), ([-np.inf], -np.inf), ([np.inf, -np.inf], np.nan), ([np.nan], np.nan)):
            spoilt = x.copy()
            spoilt[first[7 : 7 + len(bad)], 0] = bad
            m = nbn.moments(spoilt, where=np.True_, **asked(0))
            np.testing.assert_array_equal([m.mean[3, 0], m.m2[3, 0]], [mean, np.nan])
            others = np.ones(m.shape, bool)
            others[3, 0] = False
            np.testing.assert_array_equal(m.mean[others], clean.mean[others])
            np.testing.assert_array_equal(m.m2[others], clean.m2[others])
            m = nbn.moments(spoilt, skipna=True, **asked(0))
            np.testing.assert_array_equal(m.mean[3, 0], np.inf if bad[0] == np.inf == mean else m.mean[3, 0])
            assert np.isfinite(m.mean[3, 0]) == np.isnan(bad).all()


@groups
@pytest.mark.parametrize("features", [1, 5, 40])
def test_groups_of_which_nothing_counts(features, kind, rng):
    group, asked = groups_of(kind, 900, rng)
    x = rng.standard_normal((900, features))
    x[group == 1] = np.nan
    where, weights = (group != 2)[:, None], (group != 3)[:, None].astype(float)
    how = {"where": where, "weights": weights, "skipna": True}
    m = nbn.moments(x, **how, **asked(0))
    none = np.isin(np.arange(7), [1, 2, 3])
    np.testing.assert_array_equal(m.count[none], 0)
    np.testing.assert_array_equal(np.isnan(m.mean), np.broadcast_to(none[:, None], m.shape))
    np.testing.assert_array_equal(m.m2[none], 0.0)
    y = nbn.normalize(x, **how, **asked(0))
    np.testing.assert_array_equal(np.isnan(y), np.broadcast_to(none[group][:, None], x.shape))


@groups
@pytest.mark.parametrize("features", [1, 5, 40])
def test_frequencies_are_repetitions(features, kind, rng):
    group, asked = groups_of(kind, 600, rng)
    x, weights = 10 + rng.standard_normal((600, features)), rng.integers(0, 5, 600)
    m = nbn.moments(x, weights=weights[:, None].astype(float), **asked(0))
    for one in range(7):
        repeated = np.repeat(x[group == one], weights[group == one], axis=0)
        np.testing.assert_array_equal(m.count[one], len(repeated))
        np.testing.assert_allclose(m.mean[one], repeated.mean(axis=0), rtol=1e-14)
        for ddof in (0, 1):
            np.testing.assert_allclose(m.var(ddof=ddof)[one], repeated.var(axis=0, ddof=ddof), rtol=1e-12)


@groups
@pytest.mark.parametrize("features", [1, 5, 40])
def test_reliability_weights(features, kind, rng):
    group, asked = groups_of(kind, 3000, rng)
    x, weights = 5 + rng.standard_normal((3000, features)), rng.random((3000, features))
    x[rng.random(x.shape) < 0.1] = np.nan
    for skips in (True, False):
        values = x if skips else np.nan_to_num(x)
        how = {"weights": weights, "skipna": skips, "weights_are": "reliability"}
        m = nbn.moments(values, **how, **asked(0))
        y = nbn.normalize(values, ddof=1, eps=0, **how, **asked(0))
        for one in range(7):
            for feature in range(min(features, 3)):
                own = (group == one) & ~np.isnan(values[:, feature])
                v, w = values[own, feature], weights[own, feature]
                np.testing.assert_allclose(m.count[one, feature], w.sum() ** 2 / (w**2).sum(), rtol=1e-12)
                np.testing.assert_allclose(m.mean[one, feature], np.average(v, weights=w), rtol=1e-13)
                for ddof in (0, 1):
                    var = np.cov(v, aweights=w, ddof=ddof)
                    np.testing.assert_allclose(m.var(ddof=ddof)[one, feature], var, rtol=1e-12)
                expected = (v - np.average(v, weights=w)) / np.sqrt(np.cov(v, aweights=w))
                np.testing.assert_allclose(y[own, feature], expected, rtol=0, atol=1e-11)


def test_moments_of_labelled_choices_merge(rng):
    x, labels, weights = 1e5 + rng.standard_normal(5000), rng.integers(0, 20, 5000), rng.random(5000)
    x[rng.random(5000) < 0.5] = np.nan
    parts = [
        nbn.moments(x[i::3], labels=labels[i::3], num_labels=20, weights=weights[i::3], skipna=True) for i in range(3)
    ]
    check_labelled(sum(parts), x, nbn.Layout.axes(0), {"weights": weights, "skipna": True}, labels, 20)


@examples(500)
@given(data=st.data())
def test_as_pandas_has_it(data):
    """Holes are left out there, too; on numbers without a large mean, for which it is right."""
    pd = pytest.importorskip("pandas")
    rng = data.draw(RANDOM)
    x = rng.standard_normal((rng.integers(2, 200), rng.integers(1, 20)))
    x[rng.random(x.shape) < 0.3] = np.nan
    labels = rng.integers(-1, 6, len(x))
    m = nbn.moments(x, axis=0, labels=labels, num_labels=6, skipna=True)
    grouped = pd.DataFrame(x).groupby(pd.Series(labels).where(labels >= 0))
    by_label = {name: getattr(grouped, name)().reindex(range(6)).to_numpy() for name in ("count", "mean", "var")}
    np.testing.assert_array_equal(m.count, np.nan_to_num(by_label["count"]))
    np.testing.assert_allclose(m.mean, by_label["mean"], rtol=1e-11, atol=1e-14)
    with np.errstate(all="ignore"):
        var = np.where(m.count > 1, m.m2 / (m.count - 1), np.nan)
    np.testing.assert_allclose(var, by_label["var"], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)], ids=str)
def test_empty_arrays(shape):
    x, how = np.ones(shape), {"where": True, "weights": 1.0, "skipna": True}
    labels = np.zeros(shape[0], int)
    for choice in (how, {"weights": 1.0, "weights_are": "reliability"}):
        m = nbn.moments(x, axis=0, labels=labels, num_labels=2, **choice)
        assert m.shape == (2, shape[1])
        np.testing.assert_array_equal(m.count, 0.0)
        np.testing.assert_array_equal(m.mean, np.nan)
        layout = nbn.Layout.segments([0, 0, shape[0]], axis=0)
        m = nbn.moments(x, layout, **choice)
        assert m.shape == (2, shape[1])
        np.testing.assert_array_equal(m.mean, np.nan)
        assert nbn.normalize(x, axis=0, labels=labels, **choice).shape == shape
        assert nbn.normalize(x, layout, **choice).shape == shape


def test_integers_have_no_nan(rng):
    x, labels = rng.integers(0, 9, 60).astype(np.int8), rng.integers(0, 3, 60)
    assert nbn.moments(x, labels=labels, skipna=True) == nbn.moments(x, labels=labels)
    layout = nbn.Layout.segments([0, 20, 60])
    assert nbn.moments(x, layout, skipna=True) == nbn.moments(x, layout)


# labels within segments -----------------------------------------------------------------------------------------------


SPLITS = [
    ((), {}),
    ((4,), {"axis": 0}),
    ((6,), {}),
    ((6,), {"layout": "t (g c) -> g", "g": 2}),
    ((5, 3), {"axis": (0, 2)}),
]


@pytest.mark.parametrize("names", ["", *EACH])
@pytest.mark.parametrize(("further", "how"), SPLITS, ids=str)
def test_labels_split_each_segment_by_itself(further, how, names, rng):
    x = 10 + rng.standard_normal((3000, *further))
    x[rng.random(x.shape) < 0.2] = np.nan if "skipna" in names else 30
    offsets = [0, 0, 40, 41, 900, 3000]
    layout, choice = nbn.Layout.segments(offsets, **how), chosen_by(names, rng, x)
    whole = reduced_shape(layout.within, x.shape)
    for labels in (
        rng.integers(-1, 4, whole),
        np.sort(rng.integers(-1, 4, whole), axis=0),
        rng.integers(0, 4, whole[1:]),
    ):
        asked = {"labels": labels, "num_labels": 5}
        m = nbn.moments(x, layout, **asked, **choice)
        y, same = nbn.normalize(x, layout, return_moments=True, **asked, **choice)
        assert m == same
        assert m.shape == (5, *layout.group_shape(x.shape))
        oracle.assert_same(y, nbn.normalize(x, layout, moments=m, **asked))
        for i, (begin, end) in enumerate(pairwise(offsets)):
            own = {name: v if v is True else v[begin:end] for name, v in choice.items()}
            own["labels"] = labels[begin:end] if labels.shape == whole else labels
            alone = nbn.moments(x[begin:end], layout.within, num_labels=5, **own)
            np.testing.assert_allclose(m.count[:, i], alone.count, rtol=1e-13)
            np.testing.assert_allclose(m.mean[:, i], alone.mean, rtol=1e-13)
            np.testing.assert_allclose(m.m2[:, i], alone.m2, rtol=1e-11, atol=1e-13)
            expected = nbn.normalize(x[begin:end], layout.within, num_labels=5, **own)
            np.testing.assert_allclose(y[begin:end], expected, rtol=0, atol=1e-11)


def test_labels_within_segments_without_elements():
    layout = nbn.Layout.segments([0, 0, 0], axis=0)
    m = nbn.moments(np.ones((0, 3)), layout, labels=np.zeros(0, int), num_labels=2)
    assert m.shape == (2, 2, 3)
    assert np.isnan(m.mean).all()
    assert nbn.moments(np.ones((0, 3)), nbn.Layout.segments([0]), labels=np.zeros((0, 3), int)).shape == (0, 0)
    assert nbn.moments(np.ones((4, 0)), nbn.Layout.segments([0, 4], axis=0), labels=[0, 0, 1, 1]).shape == (2, 1, 0)


def test_labels_of_nested_tensors(rng):
    torch = pytest.importorskip("torch")
    rows = [torch.from_numpy(rng.standard_normal((n, 2))) for n in (30, 5, 40)]
    marks = [torch.from_numpy(rng.integers(0, 3, len(row))) for row in rows]
    x, labels = (torch.nested.nested_tensor(a, layout=torch.jagged) for a in (rows, marks))
    for choice in ({}, {"where": x.values() > -1}):
        y, m = nbn.normalize(x, axis=1, labels=labels, return_moments=True, **choice)
        assert m == nbn.moments(x, axis=1, labels=labels.values(), **choice)
        layout = nbn.Layout.segments(x.offsets(), axis=0)
        expected = nbn.normalize(x.values(), layout, labels=labels.values(), **choice)
        assert type(y) is type(x)
        np.testing.assert_array_equal(y.values().numpy(), expected.numpy())


# output ---------------------------------------------------------------------------------------------------------------


@wide
@examples(300)
@given(data=st.data())
def test_output_of_any_labels(data, dtypes):
    """Everything with a label is normalized by the statistics of what counts; NaN stays NaN."""
    x, layout, how, labels, num_labels, (planned_by, *walked) = data.draw(of_labels(dtypes))
    before, asked = x.copy(), {"labels": labels, "num_labels": num_labels}
    with planned_by(*walked):
        got, m = nbn.normalize(x, layout, return_moments=True, **asked, **how)
        assert m == nbn.moments(x, layout, **asked, **how)
        oracle.assert_same(got, nbn.normalize(x, layout, moments=m, **asked))
    full = np.broadcast_to(labels, reduced_shape(layout, x.shape))
    ids, num_groups = oracle.labelled_groups(layout, x.shape, full, num_labels)
    expected = oracle.normalize(x, ids, num_groups, stats=expected_of(x, ids, num_groups, how))
    expected = np.where(ids == num_groups - 1, oracle.wide(x), expected)
    np.testing.assert_array_equal(np.isnan(oracle.wide(got)), np.isnan(expected))
    assert x.tobytes() == before.tobytes()


@wide
@examples(300)
@given(data=st.data())
def test_output_of_any_segments(data, dtypes):
    x, layout, how, *walked = data.draw(of_segments(dtypes))
    before = x.copy()
    with planned(*walked):
        got, m = nbn.normalize(x, layout, return_moments=True, **how)
        assert m == nbn.moments(x, layout, **how)
        oracle.assert_same(got, nbn.normalize(x, layout, moments=m))
    ids, num_groups = oracle.groups(layout, x.shape)
    expected = oracle.normalize(x, ids, num_groups, stats=expected_of(x, ids, num_groups, how))
    np.testing.assert_array_equal(np.isnan(oracle.wide(got)), np.isnan(expected))
    assert x.tobytes() == before.tobytes()


@groups
@pytest.mark.parametrize("names", EACH)
def test_output_within_rounding(names, kind, rng):
    group, asked = groups_of(kind, 900, rng)
    for features in (1, 5, 40):
        x = 50 + rng.standard_normal((900, features))
        x[rng.random(x.shape) < 0.2] = np.nan if "skipna" in names else 70
        how = chosen_by(names, rng, x)
        counts, expected = oracle.counts_of(x, **how), np.empty_like(x)
        for ddof in (0, 1):
            for one in range(7):
                own = group == one
                w, v = counts[own], np.nan_to_num(x[own])
                mean = (v * w).sum(axis=0) / w.sum(axis=0)
                var = ((v - mean) ** 2 * w).sum(axis=0) / (w.sum(axis=0) - ddof)
                expected[own] = (x[own] - mean) / np.sqrt(var + 1e-5)
            got = nbn.normalize(x, ddof=ddof, **how, **asked(0))
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


@groups
def test_too_few_values_for_ddof_become_nan(kind, rng):
    group, asked = groups_of(kind, 70, rng)
    x, where = rng.standard_normal(70), np.ones(70, bool)
    where[np.flatnonzero(group == 2)[1:]] = False
    y = nbn.normalize(x, where=where, ddof=1, **asked(0))
    np.testing.assert_array_equal(np.isnan(y), group == 2)
    assert not np.isnan(nbn.normalize(x, where=where, ddof=0, **asked(0))).any()


@groups
def test_output_in_place_and_elsewhere(kind, rng):
    _, asked = groups_of(kind, 300, rng)
    x = rng.standard_normal((300, 6)).astype(np.float32)
    where, weight = rng.random(x.shape) < 0.5, rng.standard_normal(6).astype(np.float32)
    given = {"where": where, "weight": weight, "bias": np.float32(0.5), **asked(0)}
    expected = nbn.normalize(x, **given)
    out = np.empty(x.shape)
    assert nbn.normalize(x, out=out, **given) is out
    np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-6)
    assert nbn.normalize(x, out=x, **given) is x
    np.testing.assert_array_equal(x, expected)


def test_other_libraries(rng):
    torch = pytest.importorskip("torch")
    x, labels, where = rng.standard_normal((30, 2)), rng.integers(0, 3, 30), rng.random((30, 2)) < 0.5
    expected = nbn.normalize(x, axis=0, labels=labels, where=where)
    y = nbn.normalize(torch.from_numpy(x), axis=0, labels=torch.from_numpy(labels), where=torch.from_numpy(where))
    assert type(y) is torch.Tensor
    np.testing.assert_array_equal(y.numpy(), expected)


def test_nested_tensors_go_in_and_come_out(rng):
    torch = pytest.importorskip("torch")
    rows = [torch.from_numpy(rng.standard_normal((n, 6))) for n in (3, 0, 50, 7)]
    for row in rows:
        row[torch.from_numpy(rng.random(row.shape) < 0.2)] = torch.nan
    weights = [torch.from_numpy(rng.random((len(row), 6))) for row in rows]
    x, w = (torch.nested.nested_tensor(a, layout=torch.jagged) for a in (rows, weights))
    for how in ({"skipna": True}, {"skipna": True, "weights": w}, {"skipna": True, "weights": w.values()}):
        of_rows = {**how, "weights": w.values()} if "weights" in how else how
        layout = nbn.Layout.segments(x.offsets(), axis=0)
        expected = nbn.normalize(x.values(), layout, **of_rows)
        y, m = nbn.normalize(x, axis=1, return_moments=True, **how)
        assert type(y) is type(x)
        assert m == nbn.moments(x.values(), layout, **of_rows) == nbn.moments(x, axis=1, **how)
        np.testing.assert_array_equal(y.values().numpy(), expected.numpy())
        out = torch.nested.nested_tensor(rows, layout=torch.jagged)
        assert nbn.normalize(x, axis=1, out=out, **how) is out
        np.testing.assert_array_equal(out.values().numpy(), expected.numpy())
    other = torch.nested.nested_tensor(weights[::-1], layout=torch.jagged)
    with pytest.raises(ValueError, match="weights holds rows of other lengths"):
        nbn.moments(x, axis=1, weights=other)


# wrong input ----------------------------------------------------------------------------------------------------------


@groups
def test_wrong_choices(kind, rng):
    _, asked = groups_of(kind, 60, rng)
    x = rng.standard_normal((60, 4))
    before = x.copy()
    wrong = [
        ({"where": np.ones(4)}, TypeError, "where must be boolean"),
        ({"where": np.ones(5, bool)}, ValueError, r"where of shape \(5,\)"),
        ({"where": np.ones(60, bool)}, ValueError, r"reshape\(\(60, 1\)\)"),
        ({"weights": np.array([1, 2, -0.5, 1])}, ValueError, r"\[0, 2\] is -0\.5"),
        ({"weights": np.array([1, np.nan, 1, 1])}, ValueError, r"\[0, 1\] is nan"),
        ({"weights": np.array([1, 1, 1, np.inf])}, ValueError, r"\[0, 3\] is inf"),
        ({"weights": np.full(4, 1.7e308)}, ValueError, "no finite sum"),
        ({"weights": 1e200, "weights_are": "reliability"}, ValueError, "squares beyond the range"),
        ({"weights": np.ones(5)}, ValueError, r"weights of shape \(5,\)"),
        ({"skipna": 1}, TypeError, "skipna must be True or False"),
    ]
    for call in (nbn.moments, lambda x, **how: nbn.normalize(x, out=x, **how)):
        for how, error, said in wrong:
            with pytest.raises(error, match=said):
                call(x, **how, **asked(0))
            np.testing.assert_array_equal(x, before)
    with pytest.raises(ValueError, match="moments= are statistics that were made before"):
        nbn.normalize(x, where=True, moments=nbn.moments(x, **asked(0)), **asked(0))
    home = np.zeros(130)
    for name in ("where", "weights"):
        given = home[:60].view(bool)[:60] if name == "where" else home[:60]
        with pytest.raises(ValueError, match=f"out overlaps {name}"):
            nbn.normalize(np.ones(60), **{name: given}, out=home[5:65], **asked(0))


@groups
def test_a_bad_weight_is_found_wherever_it_is(kind, threads, rng):
    _, asked = groups_of(kind, 3000, rng)
    for features in (1, 5, 100):
        x = rng.standard_normal((3000, features))
        for number in (1, threads):
            nbn.set_num_threads(number)
            for bad in (-1e-300, np.nan, np.inf):
                weights = np.ones(x.shape)
                weights[2990, -1] = bad
                with pytest.raises(ValueError, match=rf"\[2990, {features - 1}\]"):
                    nbn.moments(x, weights=weights, **asked(0))
                weights[weights != 1] = 0
                nbn.moments(x, weights=weights, **asked(0))


@pytest.mark.parametrize("how", [{"where": True}, {"weights": 1.0}, {"skipna": True}])
def test_wrong_labels_beside_a_choice(how):
    x = np.arange(24.0).reshape(6, 4)
    for call in (nbn.moments, lambda x, **how: nbn.normalize(x, out=x, **how)):
        with pytest.raises(ValueError, match=r"labels have shape \(5,\)"):
            call(x, axis=0, labels=np.zeros(5, int), **how)
        with pytest.raises(ValueError, match="num_labels=2 allows 0 to 1"):
            call(x, axis=0, labels=np.arange(6), num_labels=2, **how)
        with pytest.raises(TypeError, match="labels must be integers"):
            call(x, axis=0, labels=np.zeros(6), **how)
        with pytest.raises(TypeError, match="num_labels=3 without labels"):
            call(x, axis=0, num_labels=3, **how)
    with pytest.raises(ValueError, match="weight of shape"):
        nbn.normalize(x, axis=0, labels=np.zeros(6, int), weight=np.ones(5), out=x, **how)
    np.testing.assert_array_equal(x, np.arange(24.0).reshape(6, 4))


def test_nothing_of_the_size_of_x_is_made(rng):
    x, weights = rng.standard_normal((4000, 300)), rng.random((4000, 300))
    labels, layout = rng.integers(0, 3, 4000), nbn.Layout.segments([0, 40, 4000], axis=0)

    def run(how):
        nbn.moments(x, axis=0, labels=labels, num_labels=3, **how)
        nbn.moments(x, layout, **how)

    for how in ({"where": weights < 0.5}, {"weights": weights}, {"skipna": True}):
        run(how)
        tracemalloc.start()
        run(how)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1_200_000  # bytes; flags for each element would take that, and x takes 9.6 million


def test_segments_on_a_gpu_are_refused():
    pytest.importorskip("numba_cuda", reason="needs the package numba-cuda")
    from numbanorm.arrays.memory import DeviceArray

    on_gpu = DeviceArray(0, (4,), (8,), np.dtype(float), "numba", 0, 0, None)
    for call in (nbn.moments, nbn.normalize):
        with pytest.raises(TypeError, match="segments work on the host so far, but x lies on a GPU"):
            call(on_gpu, nbn.Layout.segments([0, 4]), skipna=True)
