"""Streams: moments of what is read in chunks are those of the whole, whatever the source, and none of it is lost."""

import gc
import os
import re
import sys
import threading
import tracemalloc
import weakref
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import exact_moments
from strategies import groupings

import numbanorm as nbn
from numbanorm import streams


def same(m, expected):
    """Equal but for the rounding of merges."""
    assert m.shape == expected.shape
    np.testing.assert_array_equal(m.count, expected.count)
    np.testing.assert_allclose(m.mean, expected.mean, rtol=1e-14, atol=1e-14 * np.abs(expected.std()).max(initial=0))
    np.testing.assert_allclose(m.m2, expected.m2, rtol=1e-12, atol=1e-300)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(streams, "BLOCK_BYTES", 512)


# any iterable ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [list, tuple, iter, lambda parts: (part for part in parts)])
def test_chunks_of_any_iterable_are_those_of_the_whole(kind, rng):
    x = rng.standard_normal((100, 3, 5)).astype(np.float32)
    parts = np.split(x, [7, 7, 50])
    for layout in ({"axis": (0, 2)}, {"layout": "n c t -> c"}, {"layout": nbn.Layout.batch()}, {}):
        same(nbn.stream(kind(parts), **layout), nbn.moments(x, **layout))
    same(nbn.stream(kind(parts), "n (g c) t -> g", g=3), nbn.moments(x, "n (g c) t -> g", g=3))


def test_the_stream_is_the_sum_of_its_chunks_in_order(rng):
    x = 1e8 + 1e-2 * rng.standard_normal((1000, 4))
    parts = np.split(x, 50)
    assert nbn.stream(parts, axis=0) == sum(nbn.moments(part, axis=0) for part in parts)


@given(st.data())
@settings(max_examples=60)
def test_any_chunking_in_any_order_keeps_every_digit(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    values = 1e8 + 1e-2 * rng.standard_normal(data.draw(st.integers(2, 400)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=20)))
    m = nbn.stream(data.draw(st.permutations(np.split(values, cuts))))
    n, mean, m2 = exact_moments(values)
    assert m.count == n
    assert abs(Fraction(float(m.mean)) + Fraction(float(m._rest)) - mean) < 1e-15
    assert abs(float(Fraction(float(m.m2)) / m2 - 1)) < 1e-13


def test_chunks_may_be_frames_tensors_and_lists():
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    x = np.array([[1.0, 2.0], [3.0, 5.0]])
    chunks = [pandas.DataFrame(x), polars.DataFrame(x), x.tolist(), x]
    same(nbn.stream(chunks, axis=0), nbn.moments(np.concatenate([x] * 4), axis=0))
    same(nbn.stream(pandas.DataFrame(x), axis=0), nbn.moments(x, axis=0))
    same(nbn.stream(pandas.Series(x[0]), axis=0), nbn.moments(x[0], axis=0))
    same(nbn.stream(polars.Series(x[0]), axis=0), nbn.moments(x[0], axis=0))


def test_chunks_of_torchs_loaders():
    torch = pytest.importorskip("torch")
    x = torch.arange(60.0).reshape(20, 3)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, torch.arange(20)), batch_size=6)
    same(nbn.stream((images for images, _ in loader), axis=0), nbn.moments(x.numpy(), axis=0))
    with pytest.raises(ValueError, match=r"chunk 0: .*list of 2 arrays.*chunk\[0\] for chunk in"):
        nbn.stream(loader, axis=0)
    same(nbn.stream(x, axis=0), nbn.moments(x.numpy(), axis=0))


def test_one_chunk_is_held_at_a_time(rng):
    alive = []

    def read():
        for _ in range(5):
            gc.collect(1)
            assert not any(ref() is not None for ref in alive)
            chunk = rng.standard_normal(1000)
            alive.append(weakref.ref(chunk))
            yield chunk
            del chunk

    nbn.stream(read())
    nbn.stream(read(), progress=True)


def test_a_buffer_may_be_filled_again():
    def read():
        buffer = np.empty(10_000)
        for i in range(20):
            buffer[:] = i
            yield buffer

    m = nbn.stream(read())
    assert (m.count, m.mean, m.var()) == (200_000, 9.5, 33.25)


def test_an_iterable_is_read_in_the_callers_thread():
    def read():
        for _ in range(3):
            assert threading.current_thread() is threading.main_thread()
            yield np.ones(3)

    assert nbn.stream(read()).count == 9


def test_no_chunks_say_no_groups():
    assert nbn.stream([], start=nbn.Moments.empty(3)) == nbn.Moments.empty(3)
    spent = iter([np.ones(3)])
    nbn.stream(spent)
    for chunks in ([], iter(()), spent):
        with pytest.raises(ValueError, match=r"no chunks.*start=Moments.empty"):
            nbn.stream(chunks, axis=0)


# arrays that are cut by slices ----------------------------------------------------------------------------------------


class Dataset:
    """As one of h5py's or zarr's: read by slices, stored in chunks, counting what is read and by which thread."""

    def __init__(self, values, chunks=None, fails_at=None):
        self.values, self.chunks, self.fails_at = values, chunks, fails_at
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim
        self.read, self.threads, self.largest = [], set(), 0

    def __getitem__(self, block):
        if len(self.read) == self.fails_at:
            raise OSError("the disk is gone")
        self.read.append(block)
        self.threads.add(threading.current_thread().name)
        values = self.values[block].copy()
        self.largest = max(self.largest, values.nbytes)
        return values


@given(groupings(max_size=2000), st.data())
@settings(max_examples=60)
def test_blocks_of_any_array_are_those_of_the_whole(grouping, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    x, layout = rng.standard_normal(grouping.shape), grouping.as_layout()
    chunks = tuple(int(rng.integers(1, n + 1)) if n else 1 for n in x.shape)
    before, streams.BLOCK_BYTES = streams.BLOCK_BYTES, int(rng.choice([8, 64, 512, 4096]))
    try:
        for source in (Dataset(x, data.draw(st.sampled_from([None, chunks]))), x, np.array(x, order="F")):
            same(nbn.stream(source, layout), nbn.moments(x, layout))
    finally:
        streams.BLOCK_BYTES = before


def test_blocks_do_not_depend_on_an_equal_layout_that_came_before(rng):
    x, first, second = rng.standard_normal((6, 12)), "n (a b c) -> a", "n (a d) -> a"
    for shape, sizes in (((2, 2, 3), (2, 6)), ((3, 1, 4), (3, 4))):
        one = nbn.Layout(first, **dict(zip("abc", shape, strict=True)))
        other = nbn.Layout(second, **dict(zip("ad", sizes, strict=True)))
        assert one == other
        for layout in (one, other, one):
            same(nbn.stream(x, layout), nbn.moments(x, layout))


@pytest.mark.usefixtures("small_blocks")
def test_every_element_is_read_once_in_blocks_of_whole_chunks(rng):
    data = Dataset(rng.standard_normal((30, 20)), chunks=(4, 5))
    same(nbn.stream(data, axis=0), nbn.moments(data.values, axis=0))
    seen = np.zeros(data.shape, int)
    for block in data.read:
        seen[block] += 1
        assert all(part.start % size == 0 for part, size in zip(block, data.chunks, strict=True))
    assert (seen == 1).all()
    assert data.largest <= 512
    assert len(data.read) > 5


@pytest.mark.usefixtures("small_blocks")
def test_a_dataset_is_read_by_a_thread_ahead(rng):
    data = Dataset(rng.standard_normal((100, 20)))
    nbn.stream(data, axis=0)
    assert {name.split("_")[0] for name in data.threads} == {"numbanorm-reader"}


@pytest.mark.usefixtures("small_blocks")
def test_reading_goes_on_while_a_block_is_added_up(monkeypatch):
    """The second block is asked for before the first was added up."""
    data, asked = Dataset(np.arange(1000.0)), threading.Event()
    read, add = data.__getitem__, streams._Blocks.add

    def reading(self, block):
        if block[0].start:
            asked.set()
        return read(block)

    def adding(self, chunk):
        assert asked.wait(60)
        add(self, chunk)

    monkeypatch.setattr(Dataset, "__getitem__", reading)
    monkeypatch.setattr(streams._Blocks, "add", adding)
    assert nbn.stream(data).count == 1000


def test_a_large_dataset_is_read_in_bounded_memory(monkeypatch):
    class Zeros(Dataset):
        def __getitem__(self, block):
            return np.zeros([part.stop - part.start for part in block], np.float32)

    monkeypatch.setattr(streams, "BLOCK_BYTES", 1 << 20)
    data = Zeros(np.broadcast_to(np.float32(0), (1 << 19, 64)))  # 128 MB, if it were there
    nbn.stream(Dataset(np.zeros((4, 64), np.float32)), axis=0)  # compiles
    tracemalloc.start()
    try:
        m = nbn.stream(data, axis=0)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (m.count == 1 << 19).all()
    assert most < 4 * streams.BLOCK_BYTES


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_mapped_files(order, rng, tmp_path):
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (300, 40), fortran_order=order == "F")
    x[:] = rng.standard_normal(x.shape)
    for layout in ("r c -> c", "r c -> r", "(a b) c -> b", "r (g c) -> g"):
        sizes = {"b": 3} if "b" in layout else {"g": 4} if "g" in layout else {}
        mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
        same(nbn.stream(mapped, layout, **sizes), nbn.moments(np.array(x), layout, **sizes))


@pytest.mark.usefixtures("small_blocks")
def test_datasets_of_hdf5(rng, tmp_path):
    h5py = pytest.importorskip("h5py")
    x = rng.standard_normal((50, 12, 7)).astype(np.float32)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["scalar"] = 3.0
        file["text"] = ["a", "b"]
        for data in (file.create_dataset("chunks", data=x, chunks=(8, 5, 7)), file.create_dataset("whole", data=x)):
            for layout in ("n c t -> c", "n c t -> n c", "n (g c) t -> g n"):
                sizes = {"g": 4} if "g" in layout else {}
                same(nbn.stream(data, layout, **sizes), nbn.moments(x, layout, **sizes))
        assert nbn.stream(file["scalar"]).mean == 3
        with pytest.raises(TypeError, match="dtype object"):
            nbn.stream(file["text"])


@pytest.mark.usefixtures("small_blocks")
def test_arrays_of_zarr(rng, tmp_path):
    zarr = pytest.importorskip("zarr", minversion="3")
    x = rng.standard_normal((50, 12)).astype(np.float32)
    plain = zarr.create_array(tmp_path / "plain", data=x, chunks=(8, 5))
    sharded = zarr.create_array(tmp_path / "sharded", data=x, chunks=(4, 3), shards=(16, 6))
    for data in (plain, sharded):
        for axis in (0, 1, None):
            same(nbn.stream(data, axis=axis), nbn.moments(x, axis=axis))


@pytest.mark.parametrize("how", ["cut off", "zeros in the middle"])
@pytest.mark.usefixtures("small_blocks")
def test_a_damaged_dataset_of_hdf5_is_named_and_what_was_read_is_kept(how, rng, tmp_path):
    h5py = pytest.importorskip("h5py")
    path, x = tmp_path / "x.h5", rng.standard_normal((50, 12))
    with h5py.File(path, "w") as file:
        # without a checksum, HDF5 itself cannot tell what is damaged, but reads zeros behind the end of a file
        file.create_dataset("x", data=x, chunks=(10, 12), fletcher32=how != "cut off")
    with h5py.File(path) as file:
        data = file["x"]
        if how == "cut off":
            os.truncate(path, data.id.get_chunk_info(3).byte_offset)
        else:
            with open(path, "r+b") as raw:
                raw.seek(data.id.get_chunk_info(3).byte_offset)
                raw.write(bytes(100))
        with pytest.raises((OSError, EOFError)) as caught:
            nbn.stream(data, axis=0)
        where, *kept = caught.value.__notes__
        assert str(path) in where and "could not be read" in where
        if how == "cut off":
            assert re.search(r"x.h5 is cut off: \d+ of \d+ bytes are left", str(caught.value))
        else:
            rows = int(re.search(r"block \[(\d+):\d+, 0:12\]", where)[1])
            assert rows == 30 and "rows 0 to 29" in kept[0]
            same(caught.value.moments, nbn.moments(x[:30], axis=0))


@pytest.mark.parametrize("compressors", [None, "auto"])
@pytest.mark.usefixtures("small_blocks")
def test_a_chunk_of_zarr_that_is_cut_off_is_named(compressors, rng, tmp_path):
    zarr = pytest.importorskip("zarr", minversion="3")
    x = rng.standard_normal((50, 12))
    data = zarr.create_array(tmp_path / "x", data=x, chunks=(10, 12), compressors=compressors)
    os.truncate(tmp_path / "x" / "c" / "3" / "0", 40)
    with pytest.raises((ValueError, RuntimeError)) as caught:
        nbn.stream(data, axis=0)
    where, _ = caught.value.__notes__
    assert "block [30:40, 0:12] of" in where and "could not be read" in where
    same(caught.value.moments, nbn.moments(x[:30], axis=0))


def test_arrays_without_elements_have_no_values():
    assert nbn.stream(np.zeros((0, 3)), axis=0) == nbn.Moments.empty(3)
    assert nbn.stream(np.zeros((2, 0)), axis=1) == nbn.Moments.empty(2)
    start = nbn.moments(np.ones((4, 3)), axis=0)
    assert nbn.stream(Dataset(np.zeros((0, 3))), axis=0, start=start) == start
    assert nbn.stream(np.float64(3)).mean == 3


# resumed --------------------------------------------------------------------------------------------------------------


def test_a_stream_goes_on_from_saved_moments(rng, tmp_path):
    x = 1e8 + 1e-2 * rng.standard_normal((90, 4))
    parts = np.split(x, 9)
    nbn.stream(parts[:5], axis=0).save(tmp_path / "m")
    start = nbn.Moments.load(tmp_path / "m")
    assert nbn.stream(parts[5:], axis=0, start=start) == nbn.stream(parts, axis=0)
    same(nbn.stream(x[50:], axis=0, start=start), nbn.moments(x, axis=0))
    assert start == nbn.Moments.load(tmp_path / "m")


@pytest.mark.usefixtures("small_blocks")
def test_blocks_with_some_of_the_groups_go_on_too(rng):
    x = rng.standard_normal((40, 30))
    for layout in ("r c -> c r", "(a b) c -> b c", "r (a b) -> a", "r c -> 1 (c r)"):
        sizes = {"b": 2} if "b" in layout else {}
        start = nbn.moments(x[::-1] + 5, layout, **sizes)
        same(nbn.stream(x, layout, start=start, **sizes), start + nbn.moments(x, layout, **sizes))


# what goes wrong: what was read is kept, and said ---------------------------------------------------------------------


@pytest.mark.parametrize("raised", [OSError("gone"), KeyboardInterrupt(), StopAsyncIteration(), ValueError("no page")])
def test_what_a_source_raises_goes_through_with_what_was_read(raised, rng):
    parts = list(rng.standard_normal((5, 20, 3)))

    def read():
        yield from parts[:3]
        raise raised

    with pytest.raises(type(raised)) as caught:
        nbn.stream(read(), axis=0)
    error = caught.value
    assert error is raised
    assert (error.moments, error.chunks_read) == (nbn.stream(parts[:3], axis=0), 3)
    assert "3 chunks were read" in error.__notes__[-1] and "start=error.moments" in error.__notes__[-1]
    assert nbn.stream(parts[3:], axis=0, start=error.moments) == nbn.stream(parts, axis=0)


@pytest.mark.usefixtures("small_blocks")
def test_what_reading_a_dataset_raises_goes_through_with_what_was_read(rng):
    data = Dataset(rng.standard_normal((100, 16)), fails_at=6)
    with pytest.raises(OSError, match="the disk is gone") as caught:
        nbn.stream(data, axis=0)
    error = caught.value
    assert error.chunks_read == 6
    done = int(error.moments.count[0])
    assert f"rows 0 to {done - 1} of axis 0" in error.__notes__[-1]
    same(error.moments, nbn.moments(data.values[:done], axis=0))
    same(nbn.stream([data.values[done:]], axis=0, start=error.moments), nbn.moments(data.values, axis=0))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("numbanorm-reader")]


def test_nothing_read_is_said_too():
    def read():
        raise OSError("gone")
        yield

    with pytest.raises(OSError, match="gone") as caught:
        nbn.stream(read())
    assert (caught.value.moments, caught.value.chunks_read) == (None, 0)
    start = nbn.moments(np.ones(3))
    with pytest.raises(OSError, match="gone") as caught:
        nbn.stream(read(), start=start)
    assert caught.value.moments == start


def test_a_chunk_of_other_groups_is_named():
    parts = [np.ones((4, 3)), np.ones((2, 3)), np.ones((5, 7))]
    with pytest.raises(ValueError, match=r"chunk 2, of shape \(5, 7\), has group shape \(7,\).*\(3,\)") as caught:
        nbn.stream(parts, axis=0)
    assert caught.value.moments == nbn.stream(parts[:2], axis=0)
    with pytest.raises(ValueError, match=r"chunk 0, of shape \(4, 3\).*start has \(5,\)"):
        nbn.stream(parts, axis=0, start=nbn.Moments.empty(5))
    with pytest.raises(ValueError, match=r"start has group shape \(5,\).*\(4, 3\).*\(3,\)"):
        nbn.stream(parts[0], axis=0, start=nbn.Moments.empty(5))


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        (np.ones((2, 3), complex), TypeError, "chunk 1: .*complex"),
        (np.ma.ones((2, 3)), TypeError, "chunk 1: .*masked"),
        (None, TypeError, "chunk 1: .*None"),
        ("text", TypeError, "chunk 1: .*text"),
        (np.ones(3), ValueError, "chunk 1: .*axes"),
        ([[1.0], [2.0, 3.0]], ValueError, "chunk 1: .*different lengths"),
    ],
)
def test_a_chunk_that_is_no_array_of_numbers_is_named(wrong, error, said):
    with pytest.raises(error, match=said) as caught:
        nbn.stream([np.ones((2, 3)), wrong], "n c -> c")
    assert caught.value.moments == nbn.moments(np.ones((2, 3)), axis=0)


@pytest.mark.parametrize("chunks", [None, 3.0, "text", b"bytes", {"a": np.ones(3)}, nbn.Moments.empty(3).save])
def test_what_is_no_iterable_of_arrays_is_refused(chunks):
    with pytest.raises(TypeError, match="chunks must be an iterable of arrays"):
        nbn.stream(chunks)


def test_wrong_arguments_are_refused_before_anything_is_read():
    def read():
        raise AssertionError("it was read")
        yield

    for wrong, error, said in [
        ({"start": np.zeros(3)}, TypeError, "start must be Moments"),
        ({"progress": "yes"}, TypeError, "progress must be True or False"),
        ({"layout": "n c -> d"}, ValueError, "d on the right"),
        ({"layout": "n c -> c", "axis": 0}, ValueError, "both say"),
        ({"dim": 0}, TypeError, "unexpected keyword argument 'dim'; write axis="),
    ]:
        with pytest.raises(error, match=said):
            nbn.stream(read(), **wrong)
    with pytest.raises(ValueError, match="out of range"):
        nbn.stream(Dataset(np.zeros((3, 4))), axis=2)
    with pytest.raises(TypeError, match="segments"):
        nbn.stream(Dataset(np.zeros((3, 4))), nbn.Layout.segments([0, 3]))


# progress -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("rich", [True, False])
def test_progress_is_shown_where_it_is_seen(known, rich, capfd, monkeypatch):
    if rich:
        pytest.importorskip("rich")
    else:
        monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    parts = [np.ones(3)] * 7
    assert nbn.stream(parts if known else iter(parts), progress=True).count == 21
    said = capfd.readouterr().err
    assert ("7/7" in said) is known
    assert "7" in said


def test_progress_without_a_terminal_is_a_few_lines(capfd, monkeypatch):
    nbn.stream([np.ones(3)] * 1000, progress=True)
    assert capfd.readouterr().err == "1000/1000 100% chunks read\n"
    nbn.stream(iter([np.ones(3)] * 10), progress=True)
    assert capfd.readouterr().err == "10 chunks read\n"
    monkeypatch.setattr(streams, "LINES_APART", -1)
    nbn.stream([np.ones(3)] * 2, progress=True)
    assert capfd.readouterr().err.splitlines()[:2] == ["1/2 50% chunks read", "2/2 100% chunks read"]


def test_nothing_is_shown_unless_asked(capfd):
    nbn.stream([np.ones(3)] * 3)
    assert capfd.readouterr().err == ""
