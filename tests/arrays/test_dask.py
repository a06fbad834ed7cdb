"""Dask arrays stay lazy, and give what the same array in memory gives, whatever its chunks, scheduler and workers."""

import pickle
import subprocess
import sys
import threading

import numpy as np
import oracle
import pytest
from everyday import every
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import groupings

import numbanorm as nbn
from numbanorm.cpu import threads as our_threads

dask = pytest.importorskip("dask", minversion="2025.1")
da = pytest.importorskip("dask.array")

FAR = 1e8  # a mean far from the spread, where merges of rounded means lose digits


@pytest.fixture(autouse=True)
def few_workers():
    with dask.config.set(scheduler="threads", num_workers=2):
        yield


@pytest.fixture
def x(rng):
    return FAR + 1e-2 * rng.standard_normal((50, 12, 6))


@pytest.fixture
def lazy(x):
    return da.from_array(x, chunks=(7, 5, 4))


def same(m, expected):
    assert type(m) is nbn.Moments
    assert m.shape == expected.shape
    np.testing.assert_allclose(m.count, expected.count, rtol=1e-13)
    np.testing.assert_allclose(m.mean, expected.mean, rtol=1e-15, atol=1e-13)
    np.testing.assert_allclose(m.m2, expected.m2, rtol=1e-11, atol=1e-300)


LAYOUTS = [
    ({}, ()),
    ({"axis": 0}, (12, 6)),
    ({"axis": (0, 2)}, (12,)),
    ({"layout": "n c t -> t 1 n"}, (6, 1, 50)),
    ({"layout": "n c t -> (t n)"}, (300,)),
    ({"layout": "n (g c) t -> n g", "g": 3}, (50, 3)),
    ({"layout": "n (g c) t -> c", "g": 3}, (4,)),
    ({"layout": "(a b) c t -> b a", "b": 5}, (5, 10)),
    ({"layout": nbn.Layout.group(4)}, (50, 4)),
    ({"layout": nbn.Layout.layer(2)}, (50,)),
]


# lazy -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layout", "shape"), LAYOUTS)
def test_moments_are_lazy_and_compute_in_one_go(layout, shape, x, lazy):
    m = nbn.moments(lazy, **layout)
    assert isinstance(m, nbn.Moments) and dask.is_dask_collection(m)
    assert m.shape == shape
    expected = nbn.moments(x, **layout)
    same(m.compute(), expected)
    together = dask.compute(m, m.mean, m.var(ddof=1), m.std(), m.count, m.m2)
    same(together[0], expected)
    for part in together[1:]:
        assert np.shape(part) == shape
    np.testing.assert_allclose(together[2], expected.var(ddof=1), rtol=1e-11)
    np.testing.assert_allclose(together[3], expected.std(), rtol=1e-11)
    assert all(isinstance(a, da.Array) for a in (m.mean, m.count, m.m2, m.var(), m.std()))


@pytest.mark.parametrize(("layout", "shape"), LAYOUTS)
def test_normalized_arrays_are_lazy(layout, shape, x, lazy):
    weight, bias = np.linspace(1, 2, 6), 0.5
    y, m = nbn.normalize(lazy, weight=weight, bias=bias, eps=1e-6, return_moments=True, **layout)
    assert isinstance(y, da.Array)
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    expected = nbn.normalize(x, weight=weight, bias=bias, eps=1e-6, **layout)
    within = {"rtol": 0, "atol": 3 * np.spacing(FAR) / 1e-2 * 2}  # the mean's last digit, against the spread
    computed, moments = dask.compute(y, m)
    np.testing.assert_allclose(computed, expected, **within)
    same(moments, nbn.moments(x, **layout))
    for made in (m, moments):
        again = nbn.normalize(lazy, weight=weight, bias=bias, eps=1e-6, moments=made, **layout)
        np.testing.assert_allclose(again.compute(), expected, **within)


def test_nothing_is_computed_before_it_is_asked_for():
    def fail(block):
        raise AssertionError("it was computed")

    x = da.ones((20, 6), chunks=5).map_blocks(fail, dtype=float, meta=np.empty((0, 0)))
    m = nbn.moments(x, "n (g c) -> n g", g=2)
    y, m2 = nbn.normalize(x, axis=0, return_moments=True)
    made = [m.var(), m + m, sum([m, m]), m[0], m.merge_axis(0), repr(m), str(y), m2.std()]
    nbn.normalize(x, axis=0, moments=m2, skipna=True)
    nbn.layer_norm(x, 6), nbn.batch_norm(x, training=True), nbn.rms_norm(x, 6), nbn.group_norm(x, 3)
    assert len(made) == 8


@given(groupings(max_size=2000), st.data())
@settings(max_examples=40)
def test_any_layout_on_any_chunks(grouping, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    x, layout = rng.standard_normal(grouping.shape), grouping.as_layout()
    chunks = tuple(int(rng.integers(1, n + 1)) if n else 0 for n in x.shape)
    lazy = da.from_array(x, chunks=chunks)
    with dask.config.set(scheduler="synchronous"):
        same(nbn.moments(lazy, layout).compute(), nbn.moments(x, layout))
        y = nbn.normalize(lazy, layout, eps=1e-3)
        np.testing.assert_allclose(y.compute(), nbn.normalize(x, layout, eps=1e-3), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", every(["float32", "float16", "int16", "bool"], ["float32", "bool"]))
def test_dtypes_are_those_of_arrays_in_memory(dtype, rng):
    x = (100 * rng.random((40, 6))).astype(dtype)
    lazy = da.from_array(x, chunks=(9, 4))
    for wanted in ({}, {"dtype": "float32"}):
        y, expected = nbn.normalize(lazy, axis=0, **wanted), nbn.normalize(x, axis=0, **wanted)
        assert y.dtype == expected.dtype == y.compute().dtype
        np.testing.assert_allclose(y.compute(), expected, rtol=2e-3 if dtype == "float16" else 2e-6, atol=1e-6)


# the same bits --------------------------------------------------------------------------------------------------------


def test_one_chunking_gives_the_same_bits_on_every_scheduler(lazy, threads):
    m, y = nbn.moments(lazy, axis=0), nbn.normalize(lazy, axis=(0, 2))
    first = dask.compute(m, y, scheduler="synchronous")
    for workers in (1, 2, 8):
        nbn.set_num_threads(min(workers, threads))
        again = dask.compute(m, y, scheduler="threads", num_workers=workers)
        assert again[0] == first[0]
        np.testing.assert_array_equal(again[1], first[1])


def test_the_tree_does_not_depend_on_dasks_settings(x):
    lazy = da.from_array(x, chunks=(1, 2, 3))
    expected = nbn.moments(lazy).compute()
    with dask.config.set({"split_every": 2, "optimization.fuse.active": False}):
        assert nbn.moments(lazy).compute() == expected


def test_many_chunks_lose_no_digits(rng):
    values = FAR + 1e-2 * rng.standard_normal(3000)
    m = nbn.moments(da.from_array(values, chunks=3)).compute()
    n, mean, m2 = oracle.exact_moments(values)
    assert (m.count, m.mean) == (n, float(mean))
    assert abs(m.m2 / float(m2) - 1) < 1e-13


def test_a_task_uses_one_thread_and_others_what_they_did(x, threads):
    nbn.set_num_threads(threads)
    seen = {}

    def look(block):
        seen[threading.get_ident()] = nbn.get_num_threads()
        return block

    assert nbn.get_num_threads() == threads
    with our_threads.one_thread():
        with our_threads.one_thread():
            assert nbn.get_num_threads() == 1
        assert nbn.get_num_threads() == 1
        other = threading.Thread(target=look, args=(0,))
        other.start()
        other.join()
    assert list(seen.values()) == [threads]
    assert nbn.get_num_threads() == threads
    with pytest.raises(ValueError), our_threads.one_thread():
        raise ValueError
    assert nbn.get_num_threads() == threads


def test_kernels_in_a_task_are_launched_on_one_thread(monkeypatch, threads):
    from numbanorm.cpu import launcher

    nbn.set_num_threads(threads)
    asked, launch = [], launcher.launch

    def launched(address, tasks, number, *others):
        asked.append(number)
        launch(address, tasks, number, *others)

    monkeypatch.setattr(launcher, "launch", launched)
    x = np.ones((4, 300_000), np.float32)
    nbn.moments(x)
    assert set(asked) == {threads}
    asked.clear()
    nbn.normalize(da.from_array(x, chunks=(2, -1))).compute()
    nbn.moments(da.from_array(x, chunks=(2, -1))).compute()
    assert set(asked) == {1}


def test_x_is_read_twice_and_not_kept_for_the_output():
    """In memory there is never more than a few of its 64 chunks."""
    alive, most, lock, reads = 0, 0, threading.Lock(), 0

    class Counted(np.ndarray):
        def __del__(self):
            nonlocal alive
            if self.base is None:
                with lock:
                    alive -= 1

    def read(block):
        nonlocal alive, most, reads
        with lock:
            alive, reads = alive + 1, reads + 1
            most = max(most, alive)
        made = np.ndarray.__new__(Counted, (1000,))
        made[:] = np.arange(1000) + block[0]
        return made

    x = da.arange(64, chunks=1).map_blocks(read, chunks=(1000,), dtype=float, meta=np.empty(0))
    reads = alive = most = 0
    assert abs(float(nbn.normalize(x).sum().compute())) < 1e-6
    assert reads == 128
    assert most < 16


def test_groups_within_chunks_are_normalized_in_one_read(x):
    count = []

    def read(block):
        count.append(1)
        return block

    lazy = da.from_array(x, chunks=(10, 12, 6)).map_blocks(read, dtype=float, meta=np.empty((0, 0, 0)))
    count.clear()
    y = nbn.layer_norm(lazy, (12, 6)).compute()
    assert len(count) == 5
    np.testing.assert_array_equal(y, nbn.layer_norm(x, (12, 6)))


# what counts, and for whom --------------------------------------------------------------------------------------------


def choices(x, rng):
    mask, weights = rng.random(x.shape) < 0.7, rng.random(x.shape[1:])
    holes = np.where(rng.random(x.shape) < 0.2, np.nan, x)
    return {
        "where": (x, {"where": mask}),
        "where by column": (x, {"where": mask[0, :, :1]}),
        "weights": (x, {"weights": weights}),
        "reliability": (x, {"weights": weights, "weights_are": "reliability"}),
        "skipna": (holes, {"skipna": True}),
        "all": (holes, {"skipna": True, "where": mask, "weights": weights}),
    }


@pytest.mark.parametrize("name", ["where", "where by column", "weights", "reliability", "skipna", "all"])
@pytest.mark.parametrize("layout", [{}, {"axis": 0}, {"layout": "n (g c) t -> g n", "g": 3}, {"axis": (1, 2)}])
def test_what_counts_is_chosen_chunk_by_chunk(name, layout, x, rng):
    values, choice = choices(x, rng)[name]
    expected = nbn.moments(values, **choice, **layout)
    y = nbn.normalize(values, **choice, **layout, eps=0, ddof=1)
    for lazily in (lambda a: a, lambda a: da.from_array(a, chunks=3) if isinstance(a, np.ndarray) else a):
        given = {key: lazily(value) for key, value in choice.items()}
        lazy = da.from_array(values, chunks=(7, 5, 4))
        same(nbn.moments(lazy, **given, **layout).compute(), expected)
        got = nbn.normalize(lazy, **given, **layout, eps=0, ddof=1).compute()
        np.testing.assert_allclose(got, y, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "layout",
    [{}, {"axis": 0}, {"axis": (0, 2)}, {"layout": "n (g c) t -> g", "g": 3}, {"layout": "(a b) c t -> b c", "b": 5}],
)
def test_labels_split_groups_chunk_by_chunk(layout, x, rng):
    reduced = {"axis": {0: (50,), (0, 2): (50, 6)}.get(layout.get("axis"), x.shape)}["axis"]
    reduced = {"g": (50, 4, 6), "b": (10, 6)}.get("g" if "g" in layout else "b" if "b" in layout else "", reduced)
    labels = rng.integers(-1, 4, reduced)
    expected = nbn.moments(x, labels=labels, num_labels=5, **layout)
    y = nbn.normalize(x, labels=labels, num_labels=5, eps=0, ddof=1, **layout)
    lazy = da.from_array(x, chunks=(7, 5, 4))
    for split in (labels, da.from_array(labels, chunks=3)):
        m = nbn.moments(lazy, labels=split, num_labels=5, **layout)
        assert m.shape == expected.shape
        same(m.compute(), expected)
        got = nbn.normalize(lazy, labels=split, num_labels=5, eps=0, ddof=1, **layout)
        np.testing.assert_allclose(got.compute(), y, rtol=0, atol=1e-5)
        by_given = nbn.normalize(lazy, labels=split, num_labels=5, eps=0, ddof=1, moments=m, **layout)
        np.testing.assert_allclose(by_given.compute(), y, rtol=0, atol=1e-5)
    for others in (labels, np.maximum(labels, 0).astype(np.uint32), np.full_like(labels, -5)):
        assert nbn.moments(lazy, labels=others, **layout).shape == nbn.moments(x, labels=others, **layout).shape


@pytest.mark.parametrize("name", ["where", "where by column", "weights", "reliability", "skipna", "all"])
def test_labels_split_what_counts_chunk_by_chunk(name, x, rng):
    values, choice = choices(x, rng)[name]
    labels = rng.integers(-1, 4, 50)
    expected = nbn.moments(values, **choice, axis=0, labels=labels, num_labels=5)
    y = nbn.normalize(values, **choice, axis=0, labels=labels, num_labels=5, eps=0, ddof=1)
    for chunks in ((7, 5, 4), (50, 5, 4)):
        lazy = da.from_array(values, chunks=chunks)
        for split in (labels, da.from_array(labels, chunks=3)):
            m = nbn.moments(lazy, **choice, axis=0, labels=split, num_labels=5)
            same(m.compute(), expected)
            got = nbn.normalize(lazy, **choice, axis=0, labels=split, num_labels=5, eps=0, ddof=1)
            np.testing.assert_allclose(got.compute(), y, rtol=0, atol=1e-5)


# norms by name --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [(7, 5, 4), (50, 12, 6), (4, 12, 6)])
def test_norms_by_name_stay_lazy(chunks, rng):
    x = rng.standard_normal((50, 12, 6)).astype(np.float32)
    lazy, weight, bias = (
        da.from_array(x, chunks=chunks),
        np.linspace(1, 2, 12, dtype=np.float32),
        np.ones(12, np.float32),
    )
    mean, var = rng.standard_normal(12), 1 + rng.random(12)
    for call in [
        lambda x: nbn.batch_norm(x, None, None, weight, bias, training=True),
        lambda x: nbn.batch_norm(x, mean, var, weight, bias),
        lambda x: nbn.layer_norm(x, (12, 6)),
        lambda x: nbn.layer_norm(x, 6, weight[:6], bias[:6]),
        lambda x: nbn.group_norm(x, 3, weight, bias),
        lambda x: nbn.instance_norm(x, weight=weight),
        lambda x: nbn.rms_norm(x, (12, 6)),
    ]:
        y = call(lazy)
        assert isinstance(y, da.Array) and y.dtype == np.float32
        np.testing.assert_allclose(y.compute(), call(x), rtol=0, atol=3e-6)
    y, m = nbn.group_norm(lazy, 3, return_moments=True)
    same(m.compute(), nbn.moments(x, nbn.Layout.group(3)))


def test_running_statistics_are_not_updated_later():
    x = da.ones((8, 3), chunks=4)
    mean, var = np.zeros(3), np.ones(3)
    with pytest.raises(TypeError, match="running statistics are updated in place now"):
        nbn.batch_norm(x, mean, var, training=True)
    assert (mean == 0).all() and (var == 1).all()


# lazy Moments ---------------------------------------------------------------------------------------------------------


def test_lazy_moments_merge_with_each_other_and_with_plain_ones(x, lazy):
    m, plain = nbn.moments(lazy, axis=(0, 2)), nbn.moments(x + 5, axis=(0, 2))
    whole = nbn.moments(x, axis=(0, 2)) + plain
    for merged in (m + plain, plain + m, m.merge(plain), sum([m, plain]), m + nbn.moments(lazy + 5, axis=(0, 2))):
        assert dask.is_dask_collection(merged)
        same(merged.compute(), whole)
    same((m + nbn.Moments.empty(12)).compute(), nbn.moments(x, axis=(0, 2)))
    with pytest.raises(ValueError, match=r"\(3,\).*\(12,\)"):
        m + nbn.Moments.empty(3)
    with pytest.raises(TypeError):
        m + 1
    with pytest.raises(TypeError, match="not updated in place"):
        m.update(x)


def test_lazy_moments_of_some_groups_and_of_coarser_ones(x, lazy, tmp_path):
    m, expected = nbn.moments(lazy, axis=2), nbn.moments(x, axis=2)
    same(m[3].compute(), expected[3])
    same(m[::7, 2:5].compute(), expected[::7, 2:5])
    for axis in (0, 1, -1, (0, 1)):
        same(m.merge_axis(axis).compute(), expected.merge_axis(axis))
    with pytest.raises(ValueError, match="out of range"):
        m.merge_axis(2)
    m.save(tmp_path / "m")
    same(nbn.Moments.load(tmp_path / "m"), expected)
    assert m == m.compute()
    same(pickle.loads(pickle.dumps(m)).compute(), expected)
    same(m.persist().compute(), expected)
    assert dask.is_dask_collection(m.persist()) and len(m) == 50
    assert "50, 12" in repr(m)


def test_equal_calls_have_equal_names(lazy):
    assert dask.base.tokenize(nbn.moments(lazy, axis=0)) == dask.base.tokenize(nbn.moments(lazy, axis=0))
    assert dask.base.tokenize(nbn.moments(lazy, axis=0)) != dask.base.tokenize(nbn.moments(lazy, axis=1))
    assert nbn.normalize(lazy, axis=0).name == nbn.normalize(lazy, axis=0).name
    assert nbn.normalize(lazy, axis=0).name != nbn.normalize(lazy, axis=0, eps=1.0).name


# chunks of unknown sizes, of none, of others --------------------------------------------------------------------------


def test_chunks_of_unknown_sizes(x, rng):
    lazy, keep = da.from_array(x, chunks=(7, 5, 4)), rng.random(50) < 0.5
    some, known = lazy[da.from_array(keep, chunks=7)], x[keep]
    assert np.isnan(some.shape[0])
    for layout in ({}, {"axis": 0}, {"axis": (1, 2)}, {"layout": "n (g c) t -> g", "g": 3}, {"layout": "n c t -> t n"}):
        same(nbn.moments(some, **layout).compute(), nbn.moments(known, **layout))
        y = nbn.normalize(some, eps=0, **layout).compute()
        np.testing.assert_allclose(y, nbn.normalize(known, eps=0, **layout), rtol=0, atol=1e-5)
    same(nbn.moments(some, axis=0, where=some > FAR).compute(), nbn.moments(known, axis=0, where=known > FAR))
    same(
        nbn.moments(some, axis=0, weights=np.arange(6.0)).compute(), nbn.moments(known, axis=0, weights=np.arange(6.0))
    )
    for call in (
        lambda: nbn.moments(some, "(a b) c t -> a", b=2),
        lambda: nbn.moments(some, "n c t -> (n c)"),
        lambda: nbn.moments(some, axis=0, where=np.ones(x.shape, bool)),
        lambda: nbn.moments(some, axis=0, labels=np.zeros(50, int)),
        lambda: nbn.moments(some, axis=0, where=lazy[:30] > 0),
        lambda: nbn.layer_norm(some, 6),
    ):
        with pytest.raises(ValueError, match="compute_chunk_sizes"):
            call()


@pytest.mark.parametrize("shape", [(0, 3), (4, 0), (0, 0)])
def test_arrays_without_elements(shape):
    x = da.zeros(shape, chunks=2)
    for axis in (0, 1, None):
        assert nbn.moments(x, axis=axis).compute() == nbn.moments(np.zeros(shape), axis=axis)
        assert nbn.normalize(x, axis=axis).compute().shape == shape


def test_arrays_without_axes(x, lazy):
    """Their chunks may be numbers of NumPy's."""
    assert nbn.moments(lazy[0, 0, 0]).compute() == nbn.moments(x[0, 0, 0])
    assert nbn.normalize(lazy[0, 0, 0]).compute() == 0
    assert nbn.moments(lazy.sum()).compute().count == 1


def test_empty_chunks_among_others(x):
    lazy = da.from_array(x, chunks=((0, 20, 0, 30), (12, 0), 6))
    same(nbn.moments(lazy, axis=0).compute(), nbn.moments(x, axis=0))
    np.testing.assert_allclose(nbn.normalize(lazy, axis=0).compute(), nbn.normalize(x, axis=0), rtol=0, atol=1e-5)


def test_arrays_of_xarray_around_dasks_keep_labels_and_stay_lazy(x):
    xarray = pytest.importorskip("xarray")
    coords = {"site": list("abcdefghijkl")}
    array = xarray.DataArray(
        da.from_array(x, chunks=(7, 5, 4)), coords, ["time", "site", "level"], "salinity", {"unit": "1"}
    )
    y = nbn.normalize(array, axis=0)
    assert isinstance(y.data, da.Array)
    assert (y.name, y.attrs, y.dims, set(y.coords)) == ("salinity", {"unit": "1"}, array.dims, {"site"})
    np.testing.assert_allclose(y.compute(), nbn.normalize(x, axis=0), rtol=0, atol=1e-5)
    same(nbn.moments(array, axis=0, where=array > FAR).compute(), nbn.moments(x, axis=0, where=x > FAR))


def test_arrays_of_xarray_in_a_file_are_read_once(x):
    xarray = pytest.importorskip("xarray")
    reads = []

    class Backend(xarray.backends.BackendArray):
        shape, dtype = x.shape, x.dtype

        def __getitem__(self, key):
            return xarray.core.indexing.explicit_indexing_adapter(
                key, x.shape, xarray.core.indexing.IndexingSupport.BASIC, lambda key: reads.append(key) or x[key]
            )

    data = xarray.core.indexing.LazilyIndexedArray(Backend())
    same(nbn.moments(xarray.Variable(("n", "c", "t"), data), axis=0), nbn.moments(x, axis=0))
    assert len(reads) == 1


# what is refused, before anything is computed -------------------------------------------------------------------------


def test_wrong_arguments_are_refused_as_those_of_arrays_in_memory(x, lazy):
    labels = np.zeros(50, int)
    for wrong, error in [
        ({"layout": "n c -> c"}, ValueError),
        ({"layout": "n (g c) t -> g", "g": 5}, ValueError),
        ({"axis": 3}, ValueError),
        ({"dim": 0}, TypeError),
        ({"axis": 0, "where": np.ones((50, 11, 6), bool)}, ValueError),
        ({"axis": 0, "where": np.ones(6)}, TypeError),
        ({"axis": 0, "weights": np.ones(7)}, ValueError),
        ({"axis": 0, "weights_are": "reliability"}, TypeError),
        ({"axis": 0, "labels": labels[:-1]}, ValueError),
        ({"axis": 0, "labels": labels + 0.5}, TypeError),
        ({"axis": 0, "labels": labels + 3, "num_labels": 2}, ValueError),
        ({"axis": 0, "num_labels": 2}, TypeError),
    ]:
        for call in (nbn.moments, nbn.normalize):
            with pytest.raises(error) as of_array:
                call(x, **wrong)
            with pytest.raises(error) as of_lazy:
                call(lazy, **wrong)
            assert str(of_lazy.value).split(";")[0] == str(of_array.value).split(";")[0]


def test_what_lazy_arrays_cannot_do_is_refused(x, lazy):
    for call, error, said in [
        (lambda: nbn.normalize(lazy, out=np.empty(x.shape)), TypeError, "nothing to write to out="),
        (lambda: nbn.normalize(lazy, eps=-1), ValueError, "eps must not be negative"),
        (lambda: nbn.normalize(lazy, axis=0, ddof=50), ValueError, "ddof=50 needs groups of more than 50"),
        (lambda: nbn.normalize(lazy, weight=np.ones(5)), ValueError, "weight"),
        (lambda: nbn.normalize(lazy, dtype=int), TypeError, "float type"),
        (lambda: nbn.normalize(lazy, axis=0, moments=nbn.Moments.empty(3)), ValueError, r"\(3,\).*\(12, 6\)"),
        (lambda: nbn.normalize(lazy, axis=0, moments=3.0), TypeError, "moments must be Moments"),
        (lambda: nbn.moments(lazy, nbn.Layout.segments([0, 20, 50])), TypeError, "segments.*labels"),
        (lambda: nbn.moments(lazy, axis=0, labels=da.zeros(50, dtype=int)), ValueError, "pass num_labels="),
        (lambda: nbn.moments(lazy.astype(complex)), TypeError, "complex"),
        (lambda: nbn.moments(da.ma.masked_equal(lazy, 0)), TypeError, "masked"),
        (lambda: nbn.group_norm(lazy, 5), ValueError, "num_groups=5 does not divide the 12 channels"),
    ]:
        with pytest.raises(error, match=said):
            call()


def test_what_only_chunks_show_is_refused_when_they_are_computed(lazy):
    with pytest.raises(ValueError, match="weights must be finite and not negative"):
        nbn.moments(lazy, weights=da.full((6,), -1.0)).compute()
    with pytest.raises(ValueError, match="num_labels=2 allows 0 to 1"):
        nbn.moments(lazy, axis=0, labels=da.full((50,), 7), num_labels=2).compute()


def test_another_version_on_a_worker_is_named(lazy, monkeypatch):
    from numbanorm.dask import tasks

    m = nbn.moments(lazy)
    monkeypatch.setattr(tasks, "__version__", "9.9")
    with pytest.raises(RuntimeError, match=f"has numbanorm 9.9, and the graph was made by numbanorm {nbn.__version__}"):
        m.compute()


WITHOUT = """
import pickle, sys

class Hidden:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, *where):
        return None if name.split(".")[0] == "numbanorm" else self.finder.find_spec(name, *where)

sys.meta_path[:] = map(Hidden, sys.meta_path)
task = pickle.load(sys.stdin.buffer)
assert "numbanorm" not in sys.modules
try:
    task(1, 2)
except ModuleNotFoundError as error:
    print(error)
"""


def test_a_task_is_read_without_numbanorm_and_says_that_it_is_missing(lazy):
    from numbanorm.dask import tasks
    from numbanorm.dask.sent import Sent

    made = pickle.dumps(Sent(tasks.states, tasks.Work(None)))
    done = subprocess.run([sys.executable, "-c", WITHOUT], input=made, capture_output=True, check=True)
    assert done.stdout.split(b"\n")[0].strip() == b"No module named 'numbanorm'"


def test_a_task_of_another_version_is_refused_before_it_is_unpacked(monkeypatch):
    from numbanorm.dask import sent, tasks

    monkeypatch.setattr(sent, "__version__", "0.0.9")
    made = pickle.dumps(sent.Sent(tasks.states, tasks.Work(None)))
    monkeypatch.undo()
    task = pickle.loads(made)
    task.packed = b"what this version cannot read"
    with pytest.raises(RuntimeError, match=r"has numbanorm .*, and the graph was made by numbanorm 0.0.9; install one"):
        task(1)


def test_tasks_that_travel_twice_stay_what_they_are(lazy):
    from numbanorm.dask import sent, tasks

    first = sent.Sent(tasks.states, tasks.Work(None, 3))
    again = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(first))))
    assert (again.task, again.version) == (first.task, first.version) and pickle.loads(again.packed) == first.work
    assert dask.base.tokenize(first) == dask.base.tokenize(sent.Sent(tasks.states, tasks.Work(None, 3)))
    assert dask.base.tokenize(first) != dask.base.tokenize(sent.Sent(tasks.states, tasks.Work(None, 4)))
    assert nbn.moments(lazy, axis=0).states.name == nbn.moments(lazy, axis=0).states.name


def test_numbanorm_does_not_import_dask():
    code = "import sys, numbanorm as n, numpy as np; n.moments(np.ones(3)); sys.exit('dask' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# other processes ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_worker_processes_give_the_same_bits(cluster, x, lazy):
    m, y = nbn.moments(lazy, "n (g c) t -> g", g=3), nbn.normalize(lazy, axis=0)
    here = dask.compute(m, y, scheduler="synchronous")
    there = cluster.gather(cluster.compute([m, y]))
    assert there[0] == here[0]
    np.testing.assert_array_equal(there[1], here[1])
    persisted = cluster.persist(m)
    assert cluster.compute(persisted).result() == here[0]


def _hide_numbanorm():
    """Make a worker process one where numbanorm is not installed."""
    import sys

    class Hidden:
        def __init__(self, finder):
            self.finder = finder

        def find_spec(self, name, *where):
            return None if name.split(".")[0] == "numbanorm" else self.finder.find_spec(name, *where)

    sys.meta_path[:] = map(Hidden, sys.meta_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "numbanorm"]:  # this file has imported it
        del sys.modules[name]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_worker_without_numbanorm_is_told_and_nothing_hangs(lazy):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.run(_hide_numbanorm)
        for made in (nbn.moments(lazy, axis=0), nbn.normalize(lazy, axis=0), nbn.moments(lazy, axis=0).std()):
            with pytest.raises(ModuleNotFoundError, match="No module named 'numbanorm'"):
                client.compute(made).result(timeout=30)


def _slow_chunk(block):
    import time

    time.sleep(0.2)
    return block


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_worker_killed_in_the_middle_changes_nothing(cluster, x):
    import os
    import signal
    import time

    lazy = da.from_array(x, chunks=(2, -1, -1)).map_blocks(_slow_chunk, dtype=float, meta=np.empty((0, 0, 0)))
    m = nbn.moments(lazy, axis=0)
    expected = m.compute(scheduler="threads", num_workers=8)
    pids = cluster.run(os.getpid)
    coming = cluster.compute(m)
    while not any(
        cluster.run_on_scheduler(lambda dask_scheduler: [len(w.has_what) for w in dask_scheduler.workers.values()])
    ):
        time.sleep(0.05)
    os.kill(next(iter(pids.values())), signal.SIGKILL)
    assert coming.result(timeout=120) == expected
