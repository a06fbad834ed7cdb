"""moments() and Moments against the oracle."""

import copy
import pickle

import numpy as np
import oracle
import pytest
from everyday import dtypes, every, examples
from hypothesis import given
from hypothesis import strategies as st
from oracle import EPS32, assert_within
from strategies import BFLOAT16, DTYPES, arrays, groupings

import numbanorm as nbn


def check_moments(m, x, ids, num_groups, group_shape):
    count, mean, m2 = (a.reshape(group_shape) for a in oracle.moments(x, ids, num_groups))
    for name in ("count", "mean", "m2"):
        got = getattr(m, name)
        assert np.shape(got) == group_shape
        assert got.dtype == np.float64
    np.testing.assert_array_equal(m.count, count)
    of_mean = oracle.mean_tolerance(x, ids, num_groups, mean.ravel()).reshape(group_shape)
    assert_within(m.mean, mean, of_mean)
    with np.errstate(invalid="ignore"):
        var = m2 / count
    # a mean in float64 is off by half an ulp, and the oracle's variance by that squared
    allowed = oracle.variance_tolerance(x.dtype, count, mean, var) * var
    assert_within(m.m2, m2, allowed * count)
    assert_within(m.var(), var, allowed)


@dtypes
@examples(400)
@given(data=st.data())
def test_any_grouping_of_any_array(data, dtypes):
    grouping = data.draw(groupings())
    x = data.draw(arrays(grouping.shape, dtypes))
    ids = grouping.as_layout().group_ids(grouping.shape)
    m = nbn.moments(x, grouping.layout, **grouping.keywords)
    check_moments(m, x, ids, grouping.num_groups, grouping.group_shape)


@pytest.mark.parametrize("dtype", every(DTYPES))
@pytest.mark.parametrize(("shape", "pattern"), [((300, 70), "r c -> r"), ((300, 70), "r c -> c"), ((21000,), "n ->")])
def test_every_dtype(dtype, shape, pattern, rng):
    """Sums of small integers are exact in any dtype: so are the statistics, to a rounding."""
    x = rng.integers(0, 2 if dtype.kind == "b" else 100, shape).astype(dtype)
    layout = nbn.Layout(pattern)
    check_moments(nbn.moments(x, layout), x, *oracle.groups(layout, shape), layout.group_shape(shape))


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63), 2**53 + 1])
def test_large_integers(value):
    m = nbn.moments(np.array([value, value, value], np.int64))
    assert (m.mean, m.m2) == (float(value), 0.0)


@pytest.mark.parametrize("how", [{}, {"axis": None}, {"axis": (0, 1)}, {"layout": "... ->"}])
def test_one_group(how, rng):
    x = rng.standard_normal((30, 40))
    m = nbn.moments(x, **how)
    assert np.shape(m.mean) == np.shape(m.count) == np.shape(m.var()) == ()
    assert m.count == 1200
    np.testing.assert_allclose(m.mean, x.mean(), rtol=0, atol=1e-15)
    np.testing.assert_allclose(m.std(), x.std(), rtol=1e-14)


@pytest.mark.parametrize("ddof", [0, 1, 2, 0.5])
def test_ddof(ddof, rng):
    x = rng.standard_normal((5, 3))
    m = nbn.moments(x, axis=0)
    np.testing.assert_allclose(m.var(ddof), np.sum((x - x.mean(0)) ** 2, 0) / (5 - ddof), rtol=1e-14)
    np.testing.assert_array_equal(m.std(ddof=ddof), np.sqrt(m.var(ddof=ddof)))


def test_too_few_values_for_ddof():
    m = nbn.moments(np.ones((1, 3)), axis=0)
    np.testing.assert_array_equal(m.var(), 0)
    np.testing.assert_array_equal(m.var(ddof=1), np.nan)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_empty_groups(shape):
    m = nbn.moments(np.ones(shape, np.float32), axis=0)
    np.testing.assert_array_equal(m.count, np.zeros(shape[1]))
    np.testing.assert_array_equal(m.mean, np.full(shape[1], np.nan))
    np.testing.assert_array_equal(m.m2, np.zeros(shape[1]))
    np.testing.assert_array_equal(m.var(), np.full(shape[1], np.nan))


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", BFLOAT16], ids=str)
def test_infinities_are_numpys(dtype):
    inf, nan = np.inf, np.nan
    x = np.array([[inf, 1, 2], [-inf, 1, 2], [inf, -inf, 2], [inf, inf, inf], [nan, 1, 2], [1, 1, 1]], dtype)
    m = nbn.moments(x, axis=1)
    np.testing.assert_array_equal(m.mean, [inf, -inf, nan, inf, nan, 1])
    np.testing.assert_array_equal(m.m2, [nan, nan, nan, nan, nan, 0])


# merging ----------------------------------------------------------------------------------------------------------


@dtypes
@examples(200)
@given(data=st.data())
def test_parts_merge_to_the_whole(data, dtypes):
    x = data.draw(arrays(data.draw(st.sampled_from([(40, 7), (3000, 2), (65, 33)])), dtypes, special=False))
    first, second = sorted(data.draw(st.tuples(*[st.integers(0, len(x))] * 2)))
    parts = [nbn.moments(part, "n c -> c") for part in (x[:first], x[first:second], x[second:])]
    check_merged = (parts[0] + parts[1]) + parts[2], parts[2].merge(parts[0].merge(parts[1]))
    for merged in check_merged:
        ids, num_groups = oracle.groups(nbn.Layout("n c -> c"), x.shape)
        check_moments(merged, x, ids, num_groups, (x.shape[1],))


def test_empty_is_neutral(rng):
    m = nbn.moments(rng.standard_normal((50, 3, 4)), axis=0)
    empty = nbn.Moments.empty((3, 4))
    np.testing.assert_array_equal(empty.count, np.zeros((3, 4)))
    for merged in (m + empty, empty + m, m.merge(empty), empty.merge(m)):
        for name in ("count", "mean", "m2"):
            np.testing.assert_array_equal(getattr(merged, name), getattr(m, name))
    both = empty + empty
    np.testing.assert_array_equal(both.mean, np.full((3, 4), np.nan))
    np.testing.assert_array_equal(both.count, np.zeros((3, 4)))


def test_merging_leaves_its_arguments(rng):
    a, b = (nbn.moments(rng.standard_normal((9, 2)), axis=0) for _ in range(2))
    before = [np.copy(getattr(m, name)) for m in (a, b) for name in ("count", "mean", "m2")]
    _ = a + b
    after = [getattr(m, name) for m in (a, b) for name in ("count", "mean", "m2")]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)


def test_equal_means_far_from_zero_merge_without_loss():
    constant = np.full(1000, 1e8 + 0.1)
    merged = sum((nbn.moments(constant) for _ in range(9)), nbn.moments(constant))
    assert (merged.count, merged.mean, merged.m2) == (10000, constant[0], 0)


def test_merging_different_shapes_is_refused():
    a, b = nbn.moments(np.ones((2, 3)), axis=0), nbn.moments(np.ones((2, 4)), axis=0)
    with pytest.raises(ValueError, match=r"(?=.*\(3,\)).*\(4,\)"):
        a.merge(b)
    with pytest.raises(TypeError):
        a + 1


def test_save_and_load(tmp_path, rng):
    m = nbn.moments(rng.standard_normal((9, 2, 3)).astype(np.float32), axis=0)
    m.save(tmp_path / "moments.npz")
    loaded = nbn.Moments.load(tmp_path / "moments.npz")
    for name in ("count", "mean", "m2"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(m, name), strict=True)
    again = loaded + nbn.moments(np.zeros((0, 2, 3)), axis=0)
    np.testing.assert_array_equal(again.m2, m.m2)


def test_loading_another_file_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", weights=np.ones(3))
    with pytest.raises(ValueError, match=r"other\.npz"):
        nbn.Moments.load(tmp_path / "other.npz")


def test_float32_means_of_many_values(rng):
    """The mean of 5e6 uniforms, which a float32 sum loses."""
    x = rng.random(5_000_000, np.float32)
    assert abs(nbn.moments(x).mean - x.mean(dtype=np.float64)) < EPS32


# Moments as values ----------------------------------------------------------------------------------------------------


def test_moments_add_up_by_sum(rng):
    x = rng.standard_normal((6, 50, 4))
    total = sum(nbn.moments(part, axis=0) for part in x)
    expected = nbn.moments(x, axis=(0, 1))
    np.testing.assert_allclose(total.mean, expected.mean, rtol=1e-13)
    np.testing.assert_allclose(total.m2, expected.m2, rtol=1e-13)
    for other in (0.0, 1, None, "0", np.zeros(4)):
        with pytest.raises(TypeError):
            other + total


def test_moments_are_equal_if_all_their_states_are(rng):
    x = rng.standard_normal((5, 8))
    m = nbn.moments(x, axis=1)
    assert m == nbn.moments(x.copy(), axis=1)
    assert nbn.Moments.empty(3) == nbn.Moments.empty(3)
    assert m != nbn.moments(2 * x, axis=1)
    assert m != nbn.moments(x[:4], axis=1)
    assert m != nbn.Moments(m.count + 1, m.mean, m.m2)
    assert (m == 5) is False
    with pytest.raises(TypeError, match="unhashable"):
        hash(m)


def test_groups_of_moments(rng):
    x = rng.standard_normal((5, 3, 8))
    m = nbn.moments(x, axis=2)
    assert (m.shape, len(m)) == ((5, 3), 5)
    assert m[2] == nbn.moments(x[2], axis=1)
    assert m[1:3, ::2] == nbn.moments(x[1:3, ::2], axis=2)
    assert m[m.mean > 0].shape == (int(np.sum(m.mean > 0)),)
    assert [one.shape for one in m] == [(3,)] * 5
    assert m[-1, -1].var() == nbn.moments(x[-1, -1]).var()
    with pytest.raises(IndexError):
        m[5]
    whole = nbn.moments(x)
    assert whole.shape == ()
    with pytest.raises(TypeError, match="of one group"):
        len(whole)
    with pytest.raises(IndexError, match="of one group"):
        whole[0]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_moments_are_pickled_and_copied(protocol, rng):
    for m in (nbn.moments(rng.standard_normal((5, 3)), axis=0), nbn.moments(rng.standard_normal(4))):
        for other in (pickle.loads(pickle.dumps(m, protocol)), copy.copy(m), copy.deepcopy(m)):
            assert type(other) is nbn.Moments
            assert other == m


@pytest.mark.parametrize("name", ["count", "mean", "m2", "shape", "std_dev"])
def test_attributes_of_moments_stay(name, rng):
    m = nbn.moments(rng.standard_normal(4))
    with pytest.raises(AttributeError):
        setattr(m, name, np.zeros(()))


def test_moments_are_shown_shortly():
    assert repr(nbn.moments([1.0, 2.0, 3.0])) == "Moments(count=3., mean=2., std=0.816497)"
    shown = repr(nbn.moments([[1.0, 3.0], [5.0, 5.0]], axis=1))
    assert shown == "Moments(shape=(2,), count=2., mean=[2., 5.], std=[1., 0.])"
    unequal = nbn.Moments([2.0, 0.0], [1.0, np.nan], [2.0, 0.0])
    assert repr(unequal) == "Moments(shape=(2,), count=[2., 0.], mean=[ 1., nan], std=[ 1., nan])"
    many = repr(nbn.moments(np.arange(200_000.0).reshape(-1, 2), axis=1))
    assert len(many) < 200 and "..." in many and "\n" not in many
