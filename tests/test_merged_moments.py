"""Moments in two parts: merged as often as you like, they keep the digits of one pass. Exact rationals are the judge.

A mean far from zero, against the spread, is where a mean of one part loses them: every merge would round it.
"""

import math
import pickle
from fractions import Fraction

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import EPS64, exact_moments

import numbanorm as nbn


def noise(rng, size, mean=1e8, spread=1e-2):
    return mean + spread * rng.standard_normal(size)


DATA = {
    "1e8 and noise of 1e-2": noise,
    "1e7 and steps of 0.1": lambda rng, size: 1e7 + 0.1 * np.arange(size, dtype=np.float64),
    "1e7 and steps of 0.1, at random": lambda rng, size: rng.permutation(1e7 + 0.1 * np.arange(size)),
    "1e9 and small numbers": lambda rng, size: 1e9 + rng.random(size),
    "1e15 and 0, 1 or 2": lambda rng, size: 1e15 + rng.integers(0, 3, size),
    "-1e8 and its neighbours": lambda rng, size: -1e8 * (1 + 2.0**-52 * rng.integers(-2, 3, size)),
    "about zero": lambda rng, size: rng.standard_normal(size),
    "the first far off": lambda rng, size: np.concatenate([[1e12], noise(rng, size - 1)]),
    "the last far off": lambda rng, size: np.concatenate([noise(rng, size - 1), [-1e12]]),
    "tiny": lambda rng, size: 1e-140 * noise(rng, size),
    "huge": lambda rng, size: 1e130 * noise(rng, size),
}


def check(m, values, merges):
    """Within the bound of docs/numerics.md: no mean in it, however often states were merged."""
    n, mean, m2 = exact_moments(values)
    reach, deviation = float(max(abs(Fraction(v) - mean) for v in (max(values), min(values)))), math.sqrt(m2 / n)
    off = (merges / 2 + 4) * EPS64 * reach
    assert m.count == n
    two_parts = Fraction(float(m.mean)) + Fraction(float(m._rest))
    assert abs(float(two_parts - mean)) <= off + EPS64**2 * abs(mean)
    assert abs(float(m._rest)) <= np.spacing(abs(float(m.mean))) / 2
    within = (merges + 8) * EPS64 + 2 * off / deviation + (off / deviation) ** 2
    assert abs(float(Fraction(float(m.m2)) / m2 - 1)) <= within


@pytest.mark.parametrize("merges", [16, 10_000])
@pytest.mark.parametrize("name", DATA)
def test_many_merges_lose_nothing(name, merges, rng):
    values = DATA[name](rng, 2 * merges)
    parts = nbn.moments(values.reshape(merges, -1), axis=1)
    check(sum(parts[i] for i in range(merges)), values, merges)


@pytest.mark.parametrize("name", DATA)
def test_a_tree_of_merges_loses_nothing(name, rng):
    values = DATA[name](rng, 4096)
    m = nbn.moments(values.reshape(1024, -1), axis=1)
    while len(m) > 1:
        m = m[::2] + m[1::2]
    check(m[0], values, 10)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(DATA)), st.data())
def test_any_splitting_in_any_order(name, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    values = DATA[name](rng, data.draw(st.integers(2, 300)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=12)))
    parts = [nbn.moments(part) for part in np.split(values, cuts)]
    merged = []
    for _ in range(2):
        parts = data.draw(st.permutations(parts))
        while len(parts) > 1:  # two neighbours of any place
            i = data.draw(st.integers(0, len(parts) - 2))
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        merged.append(parts[0])
        parts = [nbn.moments(part) for part in np.split(values, cuts)]
    if exact_moments(values)[2] == 0:
        assert all(m.m2 == 0 and m.mean == values[0] and m._rest == 0 for m in merged)
        return
    for m in [*merged, nbn.moments(values)]:
        check(m, values, len(cuts) + 1)


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "uint8"])
@pytest.mark.parametrize("axis", [0, 1, None, (0, 2)])
def test_both_parts_of_the_means_of_arrays(axis, dtype, rng):
    """Of every family of kernels, small and in parts: their sum has the digits of the distances."""
    for shape in [(6, 50, 40), (3, 70, 7), (40, 3, 5000), (2, 300_000, 3), (5, 3, 3)]:
        scale = 40 if np.dtype(dtype).kind in "iu" else 1e-2
        x = (scale * rng.random(shape) + (1e6 if dtype != "uint8" else 9)).astype(dtype)
        layout = nbn.Layout.axes(axis)
        m = nbn.moments(x, axis=axis)
        ids, groups = oracle.groups(layout, shape)
        some = set(rng.integers(0, groups, 3).tolist())
        for group in some:
            members = x[ids == group]
            _, mean, _ = exact_moments(members)
            reach = float(max(abs(Fraction(float(v)) - mean) for v in (members.max(), members.min())))
            two_parts = Fraction(float(m.mean.ravel()[group])) + Fraction(float(m._rest.ravel()[group]))
            assert abs(float(two_parts - mean)) <= 40 * EPS64 * reach


def test_equal_values_stay_exact(rng):
    for value in (0.1, 1e8 + 0.1, -1e300, 5e-324, 1.7e308):
        parts = nbn.moments(np.full((50, 7), value), axis=1)
        merged = sum(parts[i] for i in range(50))
        assert (merged.count, merged.mean, merged.m2, merged._rest) == (350, value, 0, 0)


@pytest.mark.parametrize(
    ("values", "mean"),
    [([np.inf, 1e8], np.inf), ([1e8, -np.inf], -np.inf), ([np.inf, -np.inf], np.nan), ([np.nan, 1e8], np.nan)],
)
def test_what_is_not_finite_has_no_second_part(values, mean):
    for m in (nbn.moments(values), nbn.moments(values[:1]) + nbn.moments(values[1:])):
        np.testing.assert_array_equal((m.mean, m._rest), (mean, 0))
        assert np.isnan(m.m2)


def test_means_too_far_apart_for_a_difference_merge():
    a, b = nbn.moments([1.7e308, 1.7e308]), nbn.moments([-1.7e308])
    for m in (a + b, b + a):
        np.testing.assert_allclose(m.mean, 1.7e308 / 3, rtol=1e-14)
        assert (m.m2, m._rest) == (np.inf, 0)


def test_the_shown_mean_is_rounded_once(rng):
    """Of 1000 values, added up one by one, the mean is the float64 next to the exact one."""
    values = noise(rng, (40, 1000))
    m = sum(nbn.moments(column[:, None], axis=1) for column in values.T)
    for row, mean in zip(values, m.mean, strict=True):
        assert mean == float(exact_moments(row)[1])


# the second part goes wherever the first one does -----------------------------------------------------------------


@pytest.fixture
def halves(rng):
    values = noise(rng, (5, 400))
    first, second = (nbn.moments(half, axis=1) for half in np.split(values, 2, axis=1))
    assert (first._rest != 0).any()
    return first, second


def test_copies_and_files_keep_both_parts(halves, tmp_path):
    first, second = halves
    first.save(tmp_path / "moments.npz")
    for same in (pickle.loads(pickle.dumps(first)), nbn.Moments.load(tmp_path / "moments.npz"), first[:]):
        assert same == first
        assert same + second == first + second
    assert first[2] + second[2] == (first + second)[2]
    assert nbn.Moments.empty(5) + first == first == first + nbn.Moments.empty(5)


def test_moments_that_differ_in_the_second_part_are_not_equal(halves):
    first, _ = halves
    shown = nbn.Moments(first.count, first.mean, first.m2)
    assert shown != first
    assert repr(shown) == repr(first)
    assert nbn.moments([1.0, 3.0]) == nbn.Moments(2.0, 2.0, 2.0)  # there is none


def test_files_of_older_versions_have_one_part(halves, tmp_path):
    first, second = halves
    np.savez(tmp_path / "old.npz", count=first.count, mean=first.mean, m2=first.m2)
    loaded = nbn.Moments.load(tmp_path / "old.npz")
    assert loaded == nbn.Moments(first.count, first.mean, first.m2)
    np.testing.assert_allclose((loaded + second).m2, (first + second).m2, rtol=1e-5)


def test_a_file_with_parts_of_other_shapes_is_refused(halves, tmp_path):
    first, _ = halves
    np.savez(tmp_path / "odd.npz", count=first.count, mean=first.mean, m2=first.m2, rest=first.m2[:2])
    with pytest.raises(ValueError, match=r"rest must have one shape.*\(2,\)"):
        nbn.Moments.load(tmp_path / "odd.npz")


# where the second part comes from -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DATA)
def test_labels_merge_as_any_other(name, rng):
    """Of chunks, as they come: whether a label is there or not."""
    values, labels = DATA[name](rng, 6000), rng.integers(0, 4, 6000)
    chunks = zip(np.split(values, 60), np.split(labels, 60), strict=True)
    merged = sum(nbn.moments(chunk, labels=of, num_labels=5) for chunk, of in chunks)
    for label in range(4):
        check(merged[label], values[labels == label], 60)
    assert (merged.count[4], merged._rest[4]) == (0, 0)


@pytest.mark.parametrize("dtype", ["float64", "float32", "int32"])
@pytest.mark.parametrize("shape", [(4, 3000), (3000, 4), (3, 70_000), (70_000, 3), (50, 40, 6)])
def test_labels_have_both_parts(shape, dtype, rng):
    x = (1e6 + 40 * rng.random(shape)).astype(dtype)
    for axis in (0, len(shape) - 1):
        labels = rng.integers(0, 3, shape[axis])
        m = nbn.moments(x, axis=axis, labels=labels, num_labels=3)
        for label in range(3):
            group = np.compress(labels == label, x, axis=axis)
            ids, groups = oracle.groups(nbn.Layout.axes(axis), group.shape)
            oracle.check_rest(m.mean[label], m._rest[label], group, ids, groups)


@pytest.mark.parametrize("choice", ["where", "weights", "skipna", "reliability"])
@pytest.mark.parametrize("shape", [(5, 700), (700, 5), (3, 90_000), (90_000, 3), (40, 3, 50)])
def test_what_is_chosen_has_both_parts(shape, choice, rng):
    x, mask = noise(rng, shape), rng.random(shape) < 0.7
    given = {
        "where": {"where": mask},
        "weights": {"weights": mask.astype(np.float32)},
        "reliability": {"weights": 1.0 * mask, "weights_are": "reliability"},
        "skipna": {"skipna": True},
    }[choice]
    for axis in range(len(shape)):
        m = nbn.moments(np.where(mask, x, np.nan), axis=axis, **given)
        layout = nbn.Layout.axes(axis)
        ids, groups = oracle.groups(layout, shape)
        for group in range(min(groups, 3)):
            values = x[mask & (ids == group)]
            if values.size:
                oracle.check_rest(m.mean.ravel()[group], m._rest.ravel()[group], values, np.zeros(values.shape, int), 1)


def test_chunks_of_what_is_chosen_merge(rng):
    x, mask = noise(rng, 6000), rng.random(6000) < 0.5
    merged = sum(nbn.moments(a, where=b) for a, b in zip(np.split(x, 300), np.split(mask, 300), strict=True))
    check(merged, x[mask], 300)


@pytest.mark.parametrize("lengths", [[1, 0, 5, 16, 17, 100, 2], [3000, 0, 1, 2500], [120_000, 3, 70_000]])
@pytest.mark.parametrize("features", [(), (4,), (40,), (2, 3)])
def test_segments_have_both_parts(features, lengths, rng):
    offsets = np.cumsum([0, *lengths])
    x = noise(rng, (offsets[-1], *features))
    for axis in {0, tuple(range(x.ndim))} if features else {0}:
        check_segments(x, nbn.Layout.segments(offsets, axis=axis))


def check_segments(x, layout):
    m = nbn.moments(x, layout)
    ids = layout.group_ids(x.shape).ravel()
    for group in range(m.mean.size):
        values = x.ravel()[ids == group]
        high, low = m.mean.ravel()[group], m._rest.ravel()[group]
        assert (values.size == 0) == (m.count.ravel()[group] == 0)
        if values.size == 0:
            assert low == 0
        else:
            oracle.check_rest(high, low, values, np.zeros(values.shape, int), 1)


@pytest.mark.parametrize("shape", [(3, 4000), (700, 3), (2, 5, 700)])
def test_moments_beside_an_output_have_one_part(shape, rng):
    """They merge like any others; what that costs is a rounding of the mean at each of the ends."""
    x = noise(rng, shape)
    y, m = nbn.normalize(x, axis=0, eps=0.0, return_moments=True)
    both = nbn.moments(x, axis=0)
    assert m._rest is None
    np.testing.assert_array_equal((m.count, m.mean, m.m2), (both.count, both.mean, both.m2))
    for moments in (m, both):  # output of given moments is made of the first part
        np.testing.assert_array_equal(nbn.normalize(x, axis=0, eps=0.0, moments=moments), y)
    np.testing.assert_allclose((m + both).m2, 2 * both.m2, rtol=1e-9, atol=1e-16 * len(x))


def test_labelled_output_of_given_moments_is_that_of_its_own(rng):
    x, labels = noise(rng, (400, 3)), rng.integers(0, 5, 400)
    own, m = nbn.normalize(x, axis=0, labels=labels, return_moments=True)
    assert m == nbn.moments(x, axis=0, labels=labels)
    np.testing.assert_array_equal(nbn.normalize(x, axis=0, labels=labels, moments=m), own)


# groups that become one -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2, -1, (0, 2), (2, 1), [0, 1, 2], ()])
def test_merging_an_axis_is_reducing_it(axis, rng):
    x = noise(rng, (6, 5, 4, 30))
    fine = nbn.moments(x, axis=3)
    merged = fine.merge_axis(axis)
    axes = {a % 3 for a in np.atleast_1d(np.array(axis, int)).tolist()}
    ids, groups = oracle.groups(nbn.Layout.axes((*sorted(axes), 3)), x.shape)
    assert merged.shape == tuple(n for a, n in enumerate(fine.shape) if a not in axes)
    for group in range(groups):
        part = (state.reshape(-1)[group] for state in (merged.count, merged.mean, merged.m2, merged._rest))
        check(nbn.Moments._of(*part), x[ids == group], 6 * 5 * 4)


def test_per_image_moments_become_per_channel_ones(rng):
    x = rng.standard_normal((8, 3, 16)).astype(np.float32)
    merged, whole = nbn.moments(x, "n c t -> n c").merge_axis(0), nbn.moments(x, "n c t -> c")
    np.testing.assert_array_equal(merged.count, whole.count)
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-13)
    np.testing.assert_allclose(merged.m2, whole.m2, rtol=1e-13)


def test_merging_an_axis_leaves_out_what_has_no_values():
    m = nbn.Moments([0.0, 2.0, 0.0, 1.0], [np.nan, 3.0, np.nan, 6.0], [0.0, 2.0, 0.0, 0.0])
    assert m.merge_axis(0) == nbn.Moments(3.0, 4.0, 8.0)
    assert nbn.Moments.empty((3, 2)).merge_axis(0) == nbn.Moments.empty(2)
    assert nbn.Moments.empty((0, 2)).merge_axis(0) == nbn.Moments.empty(2)
    assert nbn.Moments.empty((0, 2)).merge_axis(1) == nbn.Moments.empty(0)
    assert nbn.Moments.empty(()).merge_axis(()) == nbn.Moments.empty(())


def test_merging_an_axis_of_moments_of_one_part(rng):
    _, m = nbn.normalize(rng.standard_normal((4, 5, 6)), axis=2, return_moments=True)
    assert m._rest is None
    merged = m.merge_axis(1)
    assert merged._rest is None
    np.testing.assert_allclose(merged.m2, sum(m[:, i] for i in range(5)).m2, rtol=1e-13)


@pytest.mark.parametrize("axis", [2, -3, (0, 0), (0, -2), 1.0, None, "n"])
def test_an_axis_that_is_not_there_is_refused(axis):
    m = nbn.Moments.empty((2, 3))
    with pytest.raises(TypeError if axis in (1.0, None, "n") else ValueError, match="axis"):
        m.merge_axis(axis)


def test_one_group_has_no_axis_to_merge():
    with pytest.raises(ValueError, match="no axis to merge"):
        nbn.Moments.empty(()).merge_axis(0)


def test_a_million_merges_do_not_drift(rng):
    """Of single values at 1e8, in a thousand chains; then of the chains, by one call. Exact rationals judge it."""
    values = noise(rng, 1_000_000)
    parts = nbn.Moments(np.ones(values.size), values, np.zeros(values.size))
    table = nbn.Moments(np.ones((1000, 1000)), values.reshape(1000, 1000), np.zeros((1000, 1000)))
    check(sum(table[i] for i in range(1000)).merge_axis(0), values, 2000)
    check(nbn.Moments._of(*parts._in_two[:3], np.zeros(values.size)).merge_axis(0), values, 1_000_000)


@pytest.mark.slow
def test_a_million_merges_one_by_one_do_not_drift(rng):
    from numbanorm.maths.coefficients import merged

    values, state = noise(rng, 1_000_000), (0.0, math.nan, 0.0, 0.0)
    for value in values.tolist():
        state = merged(*state, 1.0, value, 0.0, 0.0)
    check(nbn.Moments._of(*state), values, 1_000_000)


# more values, in place ------------------------------------------------------------------------------------------------


def test_update_merges_more_values_in(rng):
    x = noise(rng, (30, 4))
    m = nbn.Moments.empty(4)
    for chunk in np.split(x, 10):
        assert m.update(chunk, axis=0) is m
    assert m == sum((nbn.moments(chunk, axis=0) for chunk in np.split(x, 10)), nbn.Moments.empty(4))
    by_label, labels = nbn.Moments.empty((3, 4)), rng.integers(0, 3, 30)
    for part, of_part in zip(np.split(x, 3), np.split(labels, 3), strict=True):
        by_label.update(part, axis=0, labels=of_part, num_labels=3)
    np.testing.assert_array_equal(by_label.count[:, 0], np.bincount(labels, minlength=3))


def test_update_of_other_groups_is_refused_and_changes_nothing(rng):
    m = nbn.moments(noise(rng, (30, 4)), axis=0)
    before = m[:]
    with pytest.raises(ValueError, match=r"(?=.*\(4,\)).*\(5,\)"):
        m.update(np.ones((3, 5)), axis=0)
    with pytest.raises(ValueError, match="reliability"):
        m.update(np.ones((3, 4)), axis=0, weights=np.ones((3, 4)), weights_are="reliability")
    with pytest.raises(TypeError, match=r"\+"):
        m.update(m)
    with pytest.raises(TypeError, match="unexpected keyword"):
        m.update(np.ones((3, 4)), axis=0, dim=0)
    assert m == before


def test_update_leaves_moments_that_share_states_alone(rng):
    m = nbn.moments(noise(rng, (30, 4)), axis=0)
    copy, view = nbn.Moments(m.count, m.mean, m.m2), m[:2]
    before = view.mean.copy()
    m.update(np.ones((3, 4)), axis=0)
    np.testing.assert_array_equal(view.mean, before)
    assert (copy.count == 30).all()
