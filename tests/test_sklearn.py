"""numbanorm.sklearn: scikit-learn's checks, its StandardScaler as the oracle, and where that one loses digits."""

import os
import pickle
import re
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import numbanorm as nbn

pytest.importorskip("sklearn", minversion="1.6")
import joblib
from everyday import examples, exhaustive
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler as ScikitLearns
from sklearn.utils.estimator_checks import parametrize_with_checks

from numbanorm.sklearn import GroupStandardScaler, StandardScaler

UNSEEN = "its random numbers name groups that fit has not seen, or none, which are refused"
REFUSED = dict.fromkeys(
    ["check_sample_weight_equivalence_on_dense_data", "check_estimators_pickle", "check_fit_idempotent"], UNSEEN
)


def expected_to_fail(estimator):
    return REFUSED if getattr(estimator, "handle_unknown", None) == "error" else {}


@parametrize_with_checks(
    [
        StandardScaler(),
        StandardScaler(with_mean=False),
        GroupStandardScaler(0, handle_unknown="global"),
        GroupStandardScaler(-1),
    ],
    expected_failed_checks=expected_to_fail,
)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


# StandardScaler beside scikit-learn's ---------------------------------------------------------------------------------


@st.composite
def tables(draw, most=30):
    """A table, of columns far from zero or not, constant or not, with NaN or not."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows, columns = draw(st.integers(1, most)), draw(st.integers(1, 4))
    x = rng.standard_normal((rows, columns)) * 10.0 ** rng.integers(-3, 4, columns) + rng.integers(-3, 4, columns)
    x[:, rng.random(columns) < 0.2] = 7.5
    if draw(st.booleans()):
        x[rng.random(x.shape) < 0.2] = np.nan
    return x.astype(draw(st.sampled_from([np.float64, np.float32])), order=draw(st.sampled_from("CF")))


def fitted_in_pieces(scaler, x, weights, cuts):
    pieces = np.split(np.arange(len(x)), cuts)
    for rows in pieces:
        if len(rows):
            scaler.partial_fit(x[rows], sample_weight=None if weights is None else weights[rows])
    return scaler


def assert_same(ours, theirs, rtol, atol=0.0):
    assert (ours is None) == (theirs is None)
    if ours is not None:
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)


@given(st.data())
@examples(100)
def test_equals_scikit_learns(data):
    x = data.draw(tables())
    weights = data.draw(st.sampled_from([None, np.random.default_rng(0).integers(1, 5, len(x)) / 2]))
    how = {"with_mean": data.draw(st.booleans()), "with_std": data.draw(st.booleans())}
    cuts = sorted(data.draw(st.lists(st.integers(0, len(x)), max_size=2)))
    with np.errstate(all="ignore"):
        ours = fitted_in_pieces(StandardScaler(**how), x, weights, cuts)
        theirs = fitted_in_pieces(ScikitLearns(**how), x, weights, cuts)
        # what follows a piece without any value of a column is NaN to scikit-learn; in one piece it is right
        if np.isnan(x).any() and cuts:
            theirs.fit(x, sample_weight=weights)
        expected = theirs.transform(x)
    rounding = np.finfo(x.dtype).eps
    for name in ("mean_", "var_", "scale_"):
        assert_same(getattr(ours, name), getattr(theirs, name), 1e-10, 1e-12)
    y = ours.transform(x)
    assert y.dtype == x.dtype and y.flags.f_contiguous == x.flags.f_contiguous
    far, apart = np.nanmax(np.abs(x), initial=1.0), 0.0
    if theirs.scale_ is not None:  # of pieces scikit-learn's loses what the mean has more digits than the deviation
        far /= np.nanmin(theirs.scale_, initial=1.0)
        apart = np.nanmax(np.abs(ours.scale_ / theirs.scale_ - 1.0), initial=0.0)
    near = 8 * rounding + 2 * apart
    np.testing.assert_allclose(y, expected, rtol=near, atol=near * far)
    np.testing.assert_allclose(ours.inverse_transform(y), x, rtol=16 * rounding, atol=16 * rounding * far)


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_samples_seen_are_counted_as_scikit_learn_counts_them(holes, weighted):
    x = np.arange(12.0).reshape(6, 2)
    x[2, 1] = np.nan if holes else 0
    weights = np.arange(1.0, 7.0) if weighted else None
    ours, theirs = StandardScaler(), ScikitLearns()
    for _ in range(2):
        ours.partial_fit(x, sample_weight=weights)
        theirs.partial_fit(x, sample_weight=weights)
        np.testing.assert_array_equal(ours.n_samples_seen_, theirs.n_samples_seen_)
        assert np.shape(ours.n_samples_seen_) == np.shape(theirs.n_samples_seen_) == ((2,) if holes else ())
        # as its documentation has it: version 1.9 gives floats
        assert np.asarray(ours.n_samples_seen_).dtype == (np.float64 if weighted else np.int64)


def test_is_one_of_scikit_learns_and_has_its_parameters():
    assert isinstance(StandardScaler(), ScikitLearns)
    assert StandardScaler().get_params() == ScikitLearns().get_params()
    assert not isinstance(GroupStandardScaler(0), ScikitLearns)


def far_from_zero(rows, rng):
    return 1e8 + 0.01 * rng.standard_normal((rows, 2))


def exact_std(column):
    """The standard deviation, from rational numbers."""
    values = [Fraction(float(v)) - 10**8 for v in column]
    mean = sum(values) / len(values)
    return float(sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5


def test_digits_are_kept_where_scikit_learn_loses_them(rng):
    x = far_from_zero(3000, rng)
    ours, theirs = StandardScaler(), ScikitLearns()
    for rows in np.split(x, 300):
        ours.partial_fit(rows)
        theirs.partial_fit(rows)
    right = np.array([exact_std(column) for column in x.T])
    assert np.abs(ours.var_**0.5 / right - 1).max() < 1e-14
    assert np.abs(theirs.var_**0.5 / right - 1).max() > 1e-9
    y = ours.transform(x)
    assert np.abs(y.mean(axis=0)).max() < 1e-12 and np.abs(y.std(axis=0) - 1).max() < 1e-12
    assert np.abs(theirs.transform(x).mean(axis=0)).max() > 1e-9


def test_many_rows_do_not_make_a_feature_constant(rng):
    x = far_from_zero(500_000, rng)[:, :1]
    assert ScikitLearns().fit(x).scale_[0] == 1.0  # the deviation is 0.01
    assert abs(StandardScaler().fit_transform(x).std() - 1) < 1e-12


@pytest.mark.parametrize("value", [0.0, 0.1, -1e8, 1e-300, 3e37])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_constant_features_have_scale_one_and_become_zero(value, dtype):
    x = np.full((1003, 3), value, dtype)
    scaler = StandardScaler().fit(x)
    assert (scaler.scale_ == 1).all() and (scaler.var_ == 0).all()
    assert (scaler.transform(x) == 0).all()
    np.testing.assert_array_equal(scaler.inverse_transform(scaler.transform(x)), x)


def test_what_differs_by_rounding_alone_is_constant():
    x = np.array([[0.3], [0.1 + 0.2], [0.3]])
    scaler = StandardScaler().fit(x)
    assert scaler.var_[0] > 0 and scaler.scale_[0] == 1
    assert StandardScaler().fit(x + np.array([[0.0], [1e-14], [0.0]])).scale_[0] < 1e-14


def test_a_feature_without_values_so_far_gets_them_later():
    scaler = StandardScaler().partial_fit([[np.nan], [np.nan]])
    assert np.isnan(scaler.mean_[0]) and scaler.n_samples_seen_ == 0
    assert np.isnan(scaler.transform([[1.0]])).all()
    scaler.partial_fit([[1.0], [3.0]])
    assert scaler.mean_[0] == 2 and scaler.var_[0] == 1


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_float_types_stay(dtype, rng):
    x = rng.standard_normal((50, 3)).astype(dtype)
    scaler = StandardScaler().fit(x)
    assert scaler.transform(x).dtype == dtype and scaler.inverse_transform(x).dtype == dtype
    assert scaler.mean_.dtype == scaler.scale_.dtype == np.float64
    expected = nbn.normalize(x, axis=0, eps=0)
    np.testing.assert_allclose(scaler.transform(x), expected, rtol=4 * float(np.finfo(dtype).eps), atol=1e-3)


def test_integers_become_float64():
    x = np.array([[1, 10], [3, 30]])
    assert StandardScaler().fit_transform(x).tolist() == [[-1.0, -1.0], [1.0, 1.0]]


@pytest.mark.parametrize("backwards", [False, True])
def test_without_a_copy_it_works_in_place(backwards, rng):
    x = rng.standard_normal((20, 3)) + 5
    scaler = StandardScaler(copy=False).fit(x)
    work = scaler.inverse_transform if backwards else scaler.transform
    expected, given = work(x.copy()), x.copy()
    assert work(x) is x
    np.testing.assert_array_equal(x, expected)
    y = work(given, copy=True)
    assert not np.shares_memory(y, given)
    np.testing.assert_array_equal(y, expected)


def test_what_is_read_only_is_not_written():
    x = np.arange(6.0).reshape(3, 2)
    expected = ScikitLearns().fit_transform(x)
    x.flags.writeable = False
    scaler = StandardScaler().fit(x)
    for copy in (True, False):
        np.testing.assert_allclose(scaler.transform(x, copy=copy), expected)
    np.testing.assert_array_equal(x, np.arange(6.0).reshape(3, 2))


@pytest.mark.parametrize("wrong", [np.inf, -np.inf])
@pytest.mark.parametrize("beside", [1.0, np.nan])
def test_infinities_are_refused_before_anything_is_written(wrong, beside):
    good = np.array([[1.0, 2.0], [3.0, 5.0], [4.0, 9.0]])
    x = np.array([[0.5, wrong], [beside, 3.0]])
    before = x.copy()
    scaler = StandardScaler(copy=False).fit(good)
    mean = scaler.mean_.copy()
    for call in (scaler.fit, scaler.partial_fit, scaler.transform, scaler.inverse_transform):
        with pytest.raises(ValueError, match="infinity"):
            call(x)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(scaler.mean_, mean)


def test_numbers_whose_sum_overflows_are_no_infinities():
    x = np.array([[1.5e308], [1.5e308], [1.5e308]])
    with np.errstate(all="ignore"):
        StandardScaler().fit(x)


@pytest.mark.parametrize("scaler", [StandardScaler(), GroupStandardScaler(0)])
@pytest.mark.parametrize(
    ("X", "weights", "error"),
    [
        (np.ones((3, 5)), [1.0, -1.0, 1.0], "weights"),
        (np.ones((3, 5)), [1.0, np.nan, 1.0], "NaN"),
        (np.ones((3, 5)), [1.0, 1.0], "sample_weight"),
        (np.array([[0.0, np.inf, 1.0], [0.0, 1.0, 1.0]]), None, "infinity"),
        (np.array([["a", "b", "c"]] * 2), None, "could not convert"),
        (np.ones(3), None, "2D"),
        (np.ones((2, 3), complex), None, "Complex"),
    ],
    ids=str,
)
def test_a_refused_fit_changes_nothing(scaler, X, weights, error, rng):
    x = np.hstack([np.zeros((9, 1)), rng.standard_normal((9, 3))])
    scaler = clone(scaler).fit(x)
    expected, before = scaler.transform(x), set(vars(scaler))
    with pytest.raises(ValueError, match=error):
        scaler.fit(X, sample_weight=weights)
    assert scaler.n_features_in_ == 4 and set(vars(scaler)) == before
    np.testing.assert_array_equal(scaler.transform(x), expected)


@pytest.mark.parametrize("scaler", [StandardScaler(), GroupStandardScaler(0)])
def test_masked_arrays_are_refused(scaler):
    x = np.ma.masked_equal([[0.0, 1.0], [0.0, -999.0], [0.0, 3.0]], -999)
    scaler = clone(scaler).fit(x.filled(np.nan))
    for call in (scaler.fit, scaler.partial_fit, scaler.transform):
        with pytest.raises(
            TypeError, match=re.escape("X is a masked array, whose mask would be ignored; pass X.filled()")
        ):
            call(x)
    for call in (scaler.fit, scaler.partial_fit):
        with pytest.raises(TypeError, match="sample_weight is a masked array"):
            call(x.filled(np.nan), sample_weight=np.ma.ones(3))
    with pytest.raises(TypeError, match="masked"):
        scaler.inverse_transform(x, [0, 0, 0])


def test_statistics_may_be_set_by_hand():
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    scaler = StandardScaler().fit(x)
    scaler.mean_, scaler.scale_ = np.array([1.0, 1.0]), np.array([1e-200, 1e200])
    assert scaler.transform(x).tolist() == [[0.0, 1e-200], [2e200, 3e-200]]
    bare = StandardScaler()
    bare.mean_, bare.scale_ = [1.0, 0.0], 2.0
    assert bare.transform(x).tolist() == [[0.0, 1.0], [1.0, 2.0]]
    assert bare.inverse_transform(x).tolist() == [[3.0, 4.0], [7.0, 8.0]]


def test_goes_on_from_statistics_of_scikit_learns(rng):
    x = rng.standard_normal((30, 3))
    x[3, 1] = np.nan
    scaler = StandardScaler()
    vars(scaler).update(vars(ScikitLearns().fit(x[:20])))
    scaler.partial_fit(x[20:])
    whole = ScikitLearns().fit(x)
    np.testing.assert_allclose(scaler.var_, whole.var_, rtol=1e-12)
    np.testing.assert_array_equal(scaler.n_samples_seen_, whole.n_samples_seen_)


def test_goes_on_from_statistics_that_were_set_by_hand():
    scaler = StandardScaler().fit([[1.0], [3.0]])
    scaler.mean_, scaler.var_, scaler.n_samples_seen_ = np.array([10.0]), np.array([4.0]), 2
    scaler.partial_fit([[8.0], [12.0]])
    assert scaler.mean_[0] == 10 and scaler.var_[0] == 4 and scaler.n_samples_seen_ == 4


def test_wrong_numbers_of_features_are_refused():
    scaler = StandardScaler().fit(np.ones((3, 2)))
    for call in (scaler.partial_fit, scaler.transform, scaler.inverse_transform):
        with pytest.raises(ValueError, match="X has 3 features, but StandardScaler is expecting 2 features as input"):
            call(np.ones((3, 3)))
    with pytest.raises(NotFittedError):
        StandardScaler().inverse_transform(np.ones((3, 2)))


def test_moments_of_a_scaler_are_those_of_the_core(rng):
    x = rng.standard_normal((500, 3))
    scaler = StandardScaler().partial_fit(x[:200]).partial_fit(x[200:])
    assert scaler.moments_ == nbn.moments(x[:200], axis=0) + nbn.moments(x[200:], axis=0)


# sparse ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [sparse.csr_array, sparse.csc_array, sparse.csr_matrix, sparse.coo_array])
@pytest.mark.parametrize("weighted", [False, True])
def test_sparse_is_what_it_is_dense(make, weighted, rng):
    x = rng.standard_normal((60, 5)) * (rng.random((60, 5)) < 0.3)
    x[:, 3], x[:, 4], x[7, 1] = 0.0, 2.0, np.nan
    weights = rng.integers(1, 4, 60) / 4 if weighted else None
    dense = StandardScaler(with_mean=False).fit(x, sample_weight=weights)
    scaler = StandardScaler(with_mean=False).fit(make(x), sample_weight=weights)
    for name in ("mean_", "var_", "scale_", "n_samples_seen_"):
        np.testing.assert_allclose(getattr(scaler, name), getattr(dense, name), rtol=1e-13)
    assert scaler.var_[3] == scaler.var_[4] == 0
    y = scaler.transform(make(x))
    assert sparse.issparse(y)
    np.testing.assert_allclose(y.toarray(), dense.transform(x), rtol=1e-15)
    np.testing.assert_allclose(scaler.inverse_transform(y).toarray(), x, rtol=1e-15)


def test_sparse_and_dense_pieces_go_together(rng):
    x = rng.standard_normal((40, 3)) * (rng.random((40, 3)) < 0.5)
    scaler = StandardScaler(with_mean=False).partial_fit(sparse.csr_array(x[:10])).partial_fit(x[10:25])
    scaler.partial_fit(sparse.csc_array(x[25:]))
    np.testing.assert_allclose(scaler.var_, x.var(axis=0), rtol=1e-14)
    assert scaler.n_samples_seen_ == 40


def test_elements_stored_in_pieces_are_added_up():
    x = sparse.csr_array((np.array([1.0, 2.0, 5.0]), np.array([0, 0, 0]), np.array([0, 2, 3])), shape=(2, 1))
    assert StandardScaler(with_mean=False).fit(x).mean_.tolist() == [4.0]
    assert x.nnz == 3


def test_sparse_that_would_become_dense_is_refused():
    x = sparse.csr_array(np.eye(3))
    scaler = StandardScaler().fit(np.eye(3))
    for call in (scaler.fit, scaler.partial_fit, scaler.transform, scaler.inverse_transform):
        with pytest.raises(ValueError, match="with_mean=False"):
            call(x)
    with pytest.raises(TypeError, match="dense"):
        GroupStandardScaler(0).fit(x)
    with pytest.raises(ValueError, match="infinity"):
        StandardScaler(with_mean=False).fit(x * np.inf)


# what estimators are used in ------------------------------------------------------------------------------------------


def test_names_of_features_go_in_and_out():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1.0, 3.0], "b": [5, 9]}, index=["x", "y"])
    scaler = StandardScaler().set_output(transform="pandas").fit(frame)
    assert list(scaler.get_feature_names_out()) == list(scaler.feature_names_in_) == ["a", "b"]
    y = scaler.transform(frame)
    pd.testing.assert_frame_equal(y, pd.DataFrame({"a": [-1.0, 1.0], "b": [-1.0, 1.0]}, index=["x", "y"]))
    pd.testing.assert_frame_equal(scaler.fit_transform(frame), y)
    with pytest.raises(ValueError, match="feature names"):
        scaler.transform(frame[["b", "a"]])


def test_missing_values_of_nullable_columns_are_missing():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": pd.array([1, None, 3], "Int64"), "b": pd.array([1.5, 2.5, None], "Float64")})
    scaler = StandardScaler().fit(frame)
    assert scaler.mean_.tolist() == [2.0, 2.0] and scaler.n_samples_seen_ == 2
    assert np.isnan(scaler.transform(frame)).sum() == 2


@pytest.mark.parametrize("copied", [clone, lambda s: pickle.loads(pickle.dumps(s))], ids=["clone", "pickle"])
def test_copies_of_scalers(copied, rng):
    x = np.hstack([rng.integers(0, 3, (30, 1)), rng.standard_normal((30, 2))])
    for scaler in (StandardScaler(with_std=False), GroupStandardScaler(0, handle_unknown="global")):
        again = copied(scaler.fit(x))
        if copied is clone:
            assert not hasattr(again, "moments_")
            again.fit(x)
        assert again.get_params() == scaler.get_params()
        again.partial_fit(x), scaler.partial_fit(x)
        assert again.moments_ == scaler.moments_
        np.testing.assert_array_equal(again.transform(x), scaler.transform(x))


def test_files_of_joblib(tmp_path, rng):
    x = far_from_zero(30, rng)
    scaler = StandardScaler().fit(x)
    joblib.dump(scaler, tmp_path / "scaler.joblib")
    np.testing.assert_array_equal(joblib.load(tmp_path / "scaler.joblib").transform(x), scaler.transform(x))


def test_callbacks_hear_of_a_fit():
    pytest.importorskip("sklearn", minversion="1.9")
    pytest.importorskip("sklearn.callback")

    class Listener:
        heard = ()

        def setup(self, estimator, context): ...

        def on_fit_task_begin(self, estimator, context, **given):
            self.heard += ("begin",)

        def on_fit_task_end(self, estimator, context, **given):
            self.heard += ("end",)

        def teardown(self, estimator, context):
            self.heard += ("teardown",)

    listener, theirs = Listener(), Listener()
    StandardScaler().set_callbacks(listener).fit(np.ones((2, 2)))
    ScikitLearns().set_callbacks(theirs).fit(np.ones((2, 2)))
    assert listener.heard == theirs.heard == ("begin", "end", "teardown")


ARRAY_API = """
import numpy as np, sklearn, torch
from numbanorm.sklearn import StandardScaler
x = torch.arange(12.0).reshape(6, 2) ** 2
plain = StandardScaler().fit(x.numpy())
sklearn.set_config(array_api_dispatch=True)
scaler = StandardScaler().fit(x.numpy()).fit(x[:3]).partial_fit(x[3:])
y = scaler.transform(x)
assert type(y) is type(scaler.mean_) is torch.Tensor, type(y)
assert np.allclose(y, plain.transform(x.numpy()), atol=1e-5)
assert np.allclose(scaler.inverse_transform(y), x, atol=1e-4)
assert not hasattr(scaler, "moments_")
assert type(plain.transform(x.numpy())) is np.ndarray
"""


@exhaustive
def test_arrays_of_other_libraries_are_scikit_learns_work_where_it_takes_them():
    pytest.importorskip("torch")
    environment = os.environ | {"SCIPY_ARRAY_API": "1"}
    subprocess.run([sys.executable, "-W", "ignore", "-c", ARRAY_API], env=environment, check=True)


# GroupStandardScaler --------------------------------------------------------------------------------------------------

NAMES = {
    "numbers": np.array([3.0, 7.0, 1.0]),
    "texts": np.array(["mia", "ben", "zoe"]),
    "objects": np.array(["mia", 7, (1, 2)], object)[:2],
    "dates": np.array(["2026-01-01", "2026-01-02", "2026-02-01"], "M8[D]"),
    "truths": np.array([True, False]),
}


def frame_of(column, x):
    pd = pytest.importorskip("pandas")
    return pd.DataFrame({"f0": x[:, 0], "who": column, **{f"f{j}": x[:, j] for j in range(1, x.shape[1])}})


@pytest.mark.parametrize("kind", NAMES)
@given(st.data())
@examples(40)
def test_each_group_is_scaled_as_if_it_were_alone(kind, data):
    x = data.draw(tables()).astype(np.float64)
    rng = np.random.default_rng(0)
    names = NAMES[kind]
    who = rng.integers(0, len(names), len(x))
    frame = frame_of(names[who], x)
    cut = data.draw(st.integers(0, len(x) - 1))
    scaler = GroupStandardScaler("who", with_mean=data.draw(st.booleans()))
    for rows in (frame[:cut], frame[cut:]):
        if len(rows):
            scaler.partial_fit(rows)
    y = scaler.transform(frame)
    for k in np.unique(who):
        mine = who == k
        alone = StandardScaler(with_mean=scaler.with_mean).fit(x[mine])
        expected = alone.transform(x[mine])
        far = np.nanmax(np.abs(x), initial=1.0) / np.nanmin(alone.scale_, initial=1.0)
        np.testing.assert_allclose(y[mine], expected, rtol=1e-12, atol=1e-14 * far)
    np.testing.assert_allclose(scaler.inverse_transform(y, frame["who"]), x, rtol=1e-12, atol=1e-11)


def test_the_columns_of_groups_are_no_features(rng):
    x = rng.standard_normal((12, 3))
    frame = frame_of(["a", "b"] * 6, x)
    scaler = GroupStandardScaler("who").set_output(transform="pandas")
    y = scaler.fit_transform(frame[::-1])
    assert list(y.columns) == ["f0", "f1", "f2"] and list(y.index) == list(frame.index)[::-1]
    assert scaler.n_features_in_ == 4 and scaler.groups_.tolist() == ["a", "b"]
    assert scaler.mean_.shape == scaler.var_.shape == scaler.scale_.shape == scaler.n_samples_seen_.shape == (2, 3)
    np.testing.assert_allclose(scaler.mean_[1], x[1::2].mean(axis=0), rtol=1e-12)


def test_frames_of_polars(rng):
    pl = pytest.importorskip("polars")
    x = rng.standard_normal((6, 2))
    frame = pl.DataFrame({"f0": x[:, 0], "who": ["a", "b", "a", "b", "a", "b"], "f1": x[:, 1]})
    y = GroupStandardScaler("who").set_output(transform="polars").fit_transform(frame)
    assert y.columns == ["f0", "f1"]
    np.testing.assert_allclose(y.to_numpy()[::2], ScikitLearns().fit_transform(x[::2]), rtol=1e-12)


@pytest.mark.parametrize("place", [0, 1, 3, -1])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_groups_by_the_place_of_their_column(place, dtype, rng):
    x, who = rng.integers(-9, 9, (40, 3)).astype(dtype), rng.integers(5, 8, 40)
    at = place % 4
    table = np.insert(x, at, who, axis=1)
    y = GroupStandardScaler(place).fit_transform(table)
    assert y.dtype == (dtype if dtype != np.int64 else np.float64) and y.shape == x.shape
    np.testing.assert_allclose(y, nbn.normalize(x, axis=0, labels=who, eps=0), rtol=1e-5, atol=1e-6)


def test_combinations_of_several_columns_are_groups(rng):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"site": ["n", "n", "s", "s"] * 3, "f": rng.standard_normal(12), "batch": [1, 2] * 6})
    scaler = GroupStandardScaler(["site", "batch"]).fit(frame)
    assert scaler.groups_.tolist() == [("n", 1), ("n", 2), ("s", 1), ("s", 2)]
    y = scaler.transform(frame)[:, 0]
    expected = frame.groupby(["site", "batch"])["f"].transform(lambda v: (v - v.mean()) / v.std(ddof=0))
    np.testing.assert_allclose(y, expected, rtol=1e-12)
    back = scaler.inverse_transform(y[:, None], frame[["site", "batch"]])
    np.testing.assert_allclose(back[:, 0], frame["f"], rtol=1e-12)
    by_place = GroupStandardScaler([0, 2]).fit_transform(frame)
    np.testing.assert_array_equal(by_place[:, 0], y)


def test_lists_whose_groups_are_texts():
    rows = [["a", 1.0], ["b", 10], ["a", 3.0], ["b", 30]]
    scaler = GroupStandardScaler(0).fit(rows)
    assert scaler.transform(rows).ravel().tolist() == [-1.0, -1.0, 1.0, 1.0]
    assert scaler.transform(np.array([["b", 20]], object)).tolist() == [[0.0]]


def test_unseen_groups_are_refused_or_scaled_by_all_rows():
    x = np.array([[1, 10.0], [1, 30.0], [2, 60.0], [2, 100.0]])
    new = np.array([[2, 80.0], [9, 50.0], [np.nan, 50.0], [7, 50.0]])
    with pytest.raises(
        ValueError, match=r"X has 3 rows, from row 1 on, of groups .* not seen in fit, 7.0, 9.0; fit on"
    ):
        GroupStandardScaler(0).fit(x).transform(new)
    with pytest.raises(ValueError, match=r"X has row 1 of groups that were not seen in fit, 9.0; .*'global'"):
        GroupStandardScaler(0).fit(x).transform(new[:2])
    with pytest.raises(ValueError, match=r"X has row 0 without a group; .*handle_unknown='global'"):
        GroupStandardScaler(0).fit(x).transform(new[2:3])
    scaler = GroupStandardScaler(0, handle_unknown="global").fit(x)
    expected = ScikitLearns().fit(x[:, 1:]).transform([[50.0]])[0, 0]
    assert scaler.transform(new).ravel().tolist() == [0.0, expected, expected, expected]
    np.testing.assert_allclose(scaler.inverse_transform(scaler.transform(new), new[:, 0]), new[:, 1:])


@pytest.mark.parametrize("missing", [None, float("nan"), "NA", "NaT"])
def test_rows_without_a_group_belong_to_nobody(missing):
    pd = pytest.importorskip("pandas")
    missing = getattr(pd, missing) if isinstance(missing, str) else missing
    who = np.array(["a", "a", missing, "b", "b", missing], object)
    frame = frame_of(who, np.arange(6.0).reshape(6, 1) ** 2)
    with pytest.raises(ValueError, match="X has 2 rows, from row 2 on, without a group; fill or drop them"):
        GroupStandardScaler("who").fit(frame)
    scaler = GroupStandardScaler("who", handle_unknown="global").fit(frame)
    assert scaler.groups_.tolist() == ["a", "b"] and scaler.n_samples_seen_.tolist() == [[2.0], [2.0]]
    assert scaler.global_moments_.count == 6 and scaler.global_moments_.mean == frame["f0"].mean()
    y = scaler.transform(frame)[:, 0]
    assert y[:2].tolist() == [-1.0, 1.0]
    np.testing.assert_allclose(y[[2, 5]], ScikitLearns().fit_transform(frame[["f0"]])[[2, 5], 0], rtol=1e-14)


def test_a_missing_part_of_a_combination_makes_it_missing():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": ["x", None, "x"], "b": [1.0, 1.0, np.nan], "f": [1.0, 2.0, 3.0]})
    scaler = GroupStandardScaler(["a", "b"], handle_unknown="global").fit(frame)
    assert scaler.groups_.tolist() == [("x", 1.0)] and scaler.global_moments_.count == 3


def test_no_row_with_a_group_leaves_the_statistics_of_all():
    x = np.array([[np.nan, 1.0], [np.nan, 3.0]])
    scaler = GroupStandardScaler(0, handle_unknown="global").fit(x)
    assert scaler.groups_.size == 0
    assert scaler.transform(x).tolist() == [[-1.0], [1.0]]
    assert scaler.partial_fit([[4, 10.0], [4, 30.0]]).transform([[4, 20.0]]).tolist() == [[0.0]]


def test_a_feature_of_which_a_group_has_nothing():
    x = np.array([[1, np.nan, 5.0], [1, np.nan, 7.0], [2, 10.0, 1.0], [2, 30.0, 3.0]])
    new = [[1, 25.0, 6.0]]
    assert np.isnan(GroupStandardScaler(0).fit(x).transform(new)).tolist() == [[True, False]]
    y = GroupStandardScaler(0, handle_unknown="global").fit(x).transform(new)
    assert y.tolist() == [[0.5, 0.0]]  # (25 - 20) / 10, of all rows


def test_a_group_of_one_row_is_constant():
    scaler = GroupStandardScaler(0).fit([[1, 5.0], [2, 6.0], [2, 8.0]])
    assert scaler.scale_.tolist() == [[1.0], [1.0]]
    assert scaler.transform([[1, 5.0], [1, 7.5]]).tolist() == [[0.0], [2.5]]


def test_pieces_in_any_order_give_the_same_groups(rng):
    x = np.column_stack([rng.integers(0, 9, 200), far_from_zero(200, rng)])
    whole = GroupStandardScaler(0).fit(x)
    for order in (slice(None), slice(None, None, -1)):
        scaler = GroupStandardScaler(0)
        for rows in np.split(x, 20)[order]:
            scaler.partial_fit(rows)
        np.testing.assert_array_equal(scaler.groups_, whole.groups_)
        np.testing.assert_array_equal(scaler.n_samples_seen_, whole.n_samples_seen_)
        np.testing.assert_allclose(scaler.scale_, whole.scale_, rtol=1e-13)
        y = scaler.transform(x)
        assert max(abs(y[x[:, 0] == k].mean()) for k in range(9)) < 1e-11


def test_groups_of_rows_with_weights(rng):
    who, x, times = rng.integers(0, 3, 30), rng.standard_normal((30, 2)), rng.integers(1, 4, 30)
    table = np.column_stack([who, x])
    scaler = GroupStandardScaler(0, handle_unknown="global").fit(table, sample_weight=times)
    repeated = GroupStandardScaler(0, handle_unknown="global").fit(np.repeat(table, times, axis=0))
    for name in ("mean_", "var_", "n_samples_seen_"):
        np.testing.assert_allclose(getattr(scaler, name), getattr(repeated, name), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(scaler.global_moments_.mean, repeated.global_moments_.mean, atol=1e-14)


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"groups": "user"}, ValueError, "X has no column 'user', which groups='user' names; it has .*'f0'"),
        ({"groups": 3}, ValueError, "X has no column 3, .* n_features=3, 0 to 2"),
        ({"groups": -4}, ValueError, "X has no column -4"),
        ({"groups": ["who", 1]}, ValueError, "each once"),
        ({"groups": []}, ValueError, "groups must name a column"),
        ({"groups": ["f0", "who", "f1"]}, ValueError, "all columns of X"),
        ({"groups": [1.5]}, TypeError, r"places or names of columns of X, got \[1.5\]"),
        ({"groups": [True]}, TypeError, "places or names"),
        ({"groups": 1.5}, ValueError, "groups"),
        ({"groups": "who", "handle_unknown": "ignore"}, ValueError, "must be 'error' or 'global', got 'ignore'"),
        ({"groups": "who", "with_mean": "yes"}, ValueError, "with_mean"),
        ({"groups": "f1"}, ValueError, "could not convert string to float"),
    ],
    ids=str,
)
def test_wrong_parameters_are_named(how, error, message):
    frame = frame_of(["a", "b"], np.ones((2, 2)))
    scaler = GroupStandardScaler(**how)
    before = set(vars(scaler))
    with pytest.raises(error, match=message):
        scaler.fit(frame)
    assert set(vars(scaler)) == before


def test_wrong_input_beside_groups():
    with pytest.raises(ValueError, match="groups='who' is the name of a column, but the columns of X have no names"):
        GroupStandardScaler("who").fit(np.ones((2, 2)))
    with pytest.raises(TypeError, match=r"groups cannot be told by \[1\]"):
        GroupStandardScaler("who").fit(frame_of([[1], [2]], np.ones((2, 2))))
    scaler = GroupStandardScaler(0).fit([[1, 5.0], [1, 6.0]])
    with pytest.raises(ValueError, match="X has 3 features, but GroupStandardScaler is expecting 2"):
        scaler.transform(np.ones((2, 3)))
    with pytest.raises(ValueError, match="X has 2 features, but GroupStandardScaler is expecting 1"):
        scaler.inverse_transform(np.ones((2, 2)), [1, 1])
    with pytest.raises(ValueError, match="a row for each of the 2 rows of X"):
        scaler.inverse_transform(np.ones((2, 1)), [1, 1, 1])
    with pytest.raises(ValueError, match="not seen in fit, 2"):
        scaler.inverse_transform(np.ones((2, 1)), [1, 2])
    with pytest.raises(NotFittedError):
        GroupStandardScaler(0).transform(np.ones((2, 3)))


def pulses(rng):
    """The pulse of people at rest and in motion: each person has a rest and a range of their own."""
    pd = pytest.importorskip("pandas")
    user, moving = np.repeat(np.arange(20), 20), np.tile([0, 1], 200)
    rest, more = rng.normal(70, 15, 20)[user], rng.normal(20, 3, 20)[user]
    pulse = rest + more * moving + rng.normal(0, 3, 400)
    return pd.DataFrame({"pulse": pulse, "user": [f"u{k}" for k in user]}), moving, user


def test_groups_go_through_pipelines_cross_validation_and_searches(rng):
    X, y, user = pulses(rng)
    by_user = make_pipeline(GroupStandardScaler("user", handle_unknown="global"), LogisticRegression())
    alike = make_pipeline(ColumnTransformer([("scale", StandardScaler(), ["pulse"])]), LogisticRegression())
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    assert cross_val_score(by_user, X, y, cv=folds).mean() > 0.95
    assert cross_val_score(alike, X, y, cv=folds).mean() < 0.85
    assert cross_val_score(by_user, X, y, cv=GroupKFold(2), groups=user).mean() > 0.6  # nobody was seen before
    search = GridSearchCV(by_user, {"groupstandardscaler__with_std": [True, False]}, cv=2).fit(X, y)
    assert search.predict(X).shape == y.shape
    within = ColumnTransformer([("scale", GroupStandardScaler("user"), ["user", "pulse"])])
    np.testing.assert_array_equal(within.fit_transform(X), GroupStandardScaler("user").fit_transform(X))


@pytest.mark.slow
def test_processes_of_joblib_give_the_same_scores(rng):
    X, y, _ = pulses(rng)
    model = make_pipeline(GroupStandardScaler("user", handle_unknown="global"), LogisticRegression())
    np.testing.assert_array_equal(cross_val_score(model, X, y, cv=2, n_jobs=2), cross_val_score(model, X, y, cv=2))
