"""Large results begin where a huge page begins, in x's memory order; small ones are as NumPy makes them."""

import pickle
import tracemalloc

import ml_dtypes
import numpy as np
import pytest

import numbanorm as nbn
from numbanorm.arrays import huge
from numbanorm.call import known

MB = 1 << 20
PAGE = 2 * MB


@pytest.fixture
def pages(monkeypatch):
    """Huge pages, wherever the tests run."""
    monkeypatch.setattr(huge, "page_bytes", lambda: PAGE)
    known.forget()
    yield
    known.forget()


@pytest.fixture
def system(monkeypatch, tmp_path):
    """Write what the system says of huge pages."""

    def says(enabled, page=PAGE):
        (tmp_path / "enabled").write_text(f"{enabled}\n")
        (tmp_path / "hpage_pmd_size").write_text(f"{page}\n")

    monkeypatch.setattr(huge, "SYSTEM", tmp_path)
    monkeypatch.delenv("NUMPY_MADVISE_HUGEPAGE", raising=False)
    huge.page_bytes.cache_clear()
    yield says
    huge.page_bytes.cache_clear()


def address(y):
    return y.__array_interface__["data"][0] if isinstance(y, np.ndarray) else y.data_ptr()


ORDERS = {
    "C": lambda x: x,
    "Fortran": np.asfortranarray,
    "channels last": lambda x: np.ascontiguousarray(x.transpose(0, 2, 1)).transpose(0, 2, 1),
    "reversed": lambda x: x[::-1, :, ::-1],
    "with gaps": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "dtype", ["float32", "float64", pytest.param(ml_dtypes.bfloat16, marks=pytest.mark.exhaustive)]
)
def test_a_large_result_begins_at_a_boundary_in_the_order_of_x(pages, rng, order, dtype):
    itemsize = np.dtype(dtype).itemsize
    x = ORDERS[order](rng.standard_normal((4, 256, 6 * MB // 1024 // itemsize)).astype(dtype))
    like = np.empty_like(x)
    expected = nbn.instance_norm(x, out=like)
    for _ in range(3):  # the first is checked, later ones are known
        y = nbn.instance_norm(x)
        assert address(y) % PAGE == 0
        assert (y.dtype, y.shape, y.strides) == (like.dtype, like.shape, like.strides)
        assert y.flags.writeable and y.nbytes == like.nbytes
        np.testing.assert_array_equal(y, expected)


def test_so_does_that_of_batch_norm_in_training_and_evaluation(pages, rng):
    x = rng.standard_normal((8, 64, 64, 64), np.float32)
    for training in (True, False):
        for _ in range(2):
            y = nbn.batch_norm(x, np.zeros(64, np.float32), np.ones(64, np.float32), training=training)
            assert address(y) % PAGE == 0


def test_what_counts_is_the_size_of_the_result(pages, rng):
    x = rng.integers(0, 256, (1024, 1024), np.uint8)  # 1 MB, of which float64 makes 8
    for _ in range(2):
        assert address(nbn.layer_norm(x, 1024)) % PAGE == 0
        assert nbn.layer_norm(x[:400], 1024).flags.owndata


@pytest.mark.parametrize("shape", [(), (0, 5), (3, 8), (1023, 1024)])
def test_a_small_result_owns_its_memory(pages, shape):
    for _ in range(2):
        assert nbn.normalize(np.ones(shape, np.float32)).flags.owndata


def test_a_tensor_begins_at_a_boundary_too(pages):
    torch = pytest.importorskip("torch")
    x = torch.randn(8, 64, 64, 64).to(memory_format=torch.channels_last)
    for _ in range(2):
        y = nbn.group_norm(x, 8)
        assert address(y) % PAGE == 0
        assert y.is_contiguous(memory_format=torch.channels_last)


def test_no_more_than_a_huge_page_is_asked_for_beside_the_result(pages, rng):
    x = rng.standard_normal((2048, 1024), np.float32)
    nbn.layer_norm(x, 1024)
    for call in (lambda: nbn.layer_norm(x, 1024), lambda: nbn.layer_norm(x, 1024, return_moments=True)[0]):
        tracemalloc.start()
        try:
            y = call()
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert y.nbytes <= most <= y.nbytes + PAGE + MB // 2


def test_a_result_is_pickled_and_copied_without_what_lies_around_it(pages, rng):
    y = nbn.layer_norm(rng.standard_normal((2048, 1024), np.float32), 1024)
    for protocol in (4, 5):
        data = pickle.dumps(y, protocol)
        assert len(data) < y.nbytes + 1000
        np.testing.assert_array_equal(pickle.loads(data), y)
    assert y.copy().flags.owndata


@pytest.mark.parametrize(
    ("nbytes", "wanted"),
    [
        (4 * MB - 4, False),
        (4 * MB, True),
        (30 * MB - 4, True),
        (30 * MB, False),  # with a huge page more, it would be mapped anew
        (32 * MB - 4, False),
        (32 * MB, True),
        (1 << 40, True),
    ],
)
def test_from_which_size_on(pages, nbytes, wanted):
    assert (huge.maker((nbytes // 4,), np.dtype("f4"), (4,)) is not None) == wanted


@pytest.mark.parametrize(
    ("enabled", "page", "variable", "expected"),
    [
        ("always [madvise] never", PAGE, None, PAGE),
        ("[always] madvise never", PAGE, None, PAGE),
        ("always madvise [never]", PAGE, None, 0),
        ("always [madvise] never", PAGE, "0", 0),  # NumPy does not ask
        ("always [madvise] never", PAGE, "1", PAGE),
        ("[always] madvise never", PAGE, "0", PAGE),  # nobody needs to ask
        ("always [madvise] never", 1 * MB, None, 1 * MB),
        ("always [madvise] never", 512 * MB, None, 0),
        ("always [madvise] never", "many", None, 0),
        ("", 0, None, 0),
    ],
)
def test_whether_there_are_huge_pages(system, monkeypatch, enabled, page, variable, expected):
    system(enabled, page)
    if variable is not None:
        monkeypatch.setenv("NUMPY_MADVISE_HUGEPAGE", variable)
    assert huge.page_bytes() == expected


def test_a_system_that_says_nothing_has_none(system):
    assert huge.page_bytes() == 0
    assert huge.maker((MB,), np.dtype("f8"), (8,)) is None


def test_without_huge_pages_a_large_result_owns_its_memory(system, rng):
    system("always madvise [never]")
    known.forget()
    x = rng.standard_normal((2048, 1024), np.float32)
    for _ in range(2):
        assert nbn.layer_norm(x, 1024).flags.owndata
    known.forget()
