"""What is written in place is the caller's own memory, or refused before anything is touched."""

import array
import ctypes

import numpy as np
import pytest

import numbanorm as nbn

pytestmark = pytest.mark.usefixtures("numpy_engine")

X = np.random.default_rng(0).normal(3, 2, (8, 4))


class Copied:
    """As h5py's, zarr's and dask's arrays: NumPy gets a copy, each time."""

    def __init__(self, values):
        self.values = values
        self.dtype, self.shape = values.dtype, values.shape

    def __array__(self, dtype=None, copy=None):
        return self.values.copy()


class CopiedByInterface(Copied):
    """A copy by the array interface, such as an image's."""

    @property
    def __array_interface__(self):
        self.last = self.values.copy()
        return self.last.__array_interface__


class ListWithDtype(list):
    dtype = np.dtype(float)


class Lent:
    """An object that hands out its memory."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return self.values


class ReadOnly(Lent):
    def __array__(self, dtype=None, copy=None):
        seen = self.values[:]
        seen.flags.writeable = False
        return seen


def pandas_series(values):
    return pytest.importorskip("pandas").Series(values)


def polars_series(values):
    return pytest.importorskip("polars").Series(values)


COPIES = {
    "a copy": Copied,
    "a copy by the interface": CopiedByInterface,
    "a list": list,
    "a list with a dtype": lambda values: ListWithDtype(values.tolist()),
    "a tuple": tuple,
    "read-only": ReadOnly,
    "bytes": lambda values: memoryview(values.tobytes()).cast("d"),
    "a pandas Series": pandas_series,
    "a polars Series": polars_series,
    "a number": lambda values: np.float64(0),
}


@pytest.mark.parametrize("name", COPIES)
@pytest.mark.parametrize("place", ["running_mean", "running_var", "out"])
def test_what_numpy_copies_or_only_reads_is_refused(name, place):
    wrong, mean, var = COPIES[name](np.full(4, 0.5)), np.zeros(4), np.ones(4)
    calls = {
        "running_mean": lambda: nbn.batch_norm(X, wrong, var, training=True),
        "running_var": lambda: nbn.instance_norm(X[:, :, None] * [1, 2], mean, wrong),
        "out": lambda: nbn.normalize(X[0], out=wrong),
    }
    before = X.copy()
    with pytest.raises(TypeError, match=rf"^{place} must be an array.* got {type(wrong).__name__}.*; pass an ndarray"):
        calls[place]()
    np.testing.assert_array_equal([mean, var], [[0] * 4, [1] * 4])
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize("name", ["a copy", "a list with a dtype", "read-only", "a pandas Series", "a polars Series"])
def test_statistics_that_are_only_read_may_be_copies(name):
    stats = [COPIES[name](values) for values in (X.mean(0), X.var(0))]
    np.testing.assert_allclose(nbn.batch_norm(X, *stats, eps=0), (X - X.mean(0)) / X.std(0))


OWN = {
    "an ndarray": lambda values: values,
    "a subclass": lambda values: values.view(np.matrix).A1.view(np.recarray),
    "a memoryview": memoryview,
    "an array of Python's": lambda values: array.array("d", values),
    "an array of ctypes": lambda values: (ctypes.c_double * values.size)(*values),
    "an object that lends": Lent,
    "an array of xarray": lambda values: pytest.importorskip("xarray").DataArray(values),
    "a tensor": lambda values: pytest.importorskip("torch").tensor(values),
}


@pytest.mark.parametrize("name", OWN)
def test_what_lends_its_memory_is_written(name):
    mean, var = OWN[name](np.zeros(4)), OWN[name](np.ones(4))
    nbn.batch_norm(X, mean, var, training=True, momentum=1.0)
    np.testing.assert_allclose(np.asarray(mean), X.mean(0))
    np.testing.assert_allclose(np.asarray(var), X.var(0, ddof=1))
    out = OWN[name](np.zeros(4))
    assert nbn.normalize(X[0], eps=0, out=out) is out
    np.testing.assert_allclose(np.asarray(out), (X[0] - X[0].mean()) / X[0].std())


def test_a_mapped_file_is_written(tmp_path):
    mean = np.memmap(tmp_path / "mean", float, "w+", shape=4)
    nbn.batch_norm(X, mean, np.memmap(tmp_path / "var", float, "w+", shape=4), training=True, momentum=1.0)
    mean.flush()
    np.testing.assert_allclose(np.fromfile(tmp_path / "mean"), X.mean(0))
    fixed = np.memmap(tmp_path / "mean", float, "r", shape=4)
    with pytest.raises(ValueError, match=r"^running_mean is read-only"):
        nbn.batch_norm(X, fixed, np.ones(4), training=True)


def test_statistics_that_share_their_own_elements_are_refused():
    shared = np.lib.stride_tricks.as_strided(np.zeros(1), (4,), (0,))
    with pytest.raises(ValueError, match=r"^running_mean overlaps itself"):
        nbn.batch_norm(X, shared, np.ones(4), training=True)
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match=r"^running_var overlaps itself"):
        nbn.batch_norm(torch.tensor(X), torch.zeros(4), torch.ones(1).expand(4), training=True)


def test_a_series_is_not_told_to_pass_a_copy():
    series = pytest.importorskip("pandas").Series(np.zeros(4))
    with pytest.raises(TypeError, match=r"^running_mean must be an array, got Series") as caught:
        nbn.batch_norm(X, series, np.ones(4), training=True)
    assert "copy from it afterwards" in str(caught.value)
