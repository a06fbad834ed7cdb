"""Array types: what is taken and refused, without a copy; results alike; which outputs are safe to write."""

import sys

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import BFLOAT16, DTYPES, RANDOM

from numbanorm.arrays import memory
from numbanorm.arrays.forms import kind, result_dtype
from numbanorm.arrays.give import give, result_like
from numbanorm.arrays.take import take, take_out, view


def same_memory(a, b):
    return a.__array_interface__["data"][0] == b.__array_interface__["data"][0] and a.strides == b.strides


# take and give ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_arrays_are_taken_as_they_are(dtype):
    x = np.zeros((3, 4), dtype)[::-1, ::2]
    array, library = take(x)
    assert array is x
    assert view(x) is x
    assert library == "numpy"
    assert give(array, library) is x


def test_subclasses_become_plain_views(tmp_path):
    home = np.memmap(tmp_path / "x", np.float32, "w+", shape=(4, 5))
    for x in (home, home[::2, ::-1], np.zeros(3).view(np.recarray)):
        array, library = take(x)
        assert type(array) is np.ndarray
        assert same_memory(array, x)
        assert library == "numpy"


@pytest.mark.parametrize(
    ("x", "shape", "dtype"),
    [([1.0, 2.0], (2,), "f8"), (3, (), "i8"), (np.float32(2), (), "f4"), (((True,),), (1, 1), "?"), (2.5, (), "f8")],
    ids=str,
)
def test_what_numpy_makes_an_array_of(x, shape, dtype):
    array, library = take(x)
    assert (array.shape, array.dtype, library) == (shape, np.dtype(dtype), "numpy")


REFUSED = {
    "masked": (np.ma.masked_array([1.0, 2.0], [0, 1]), "masked.*filled"),
    "complex": (np.zeros(2, complex), "complex128.*supported.*astype"),
    "object": (np.array([1, None]), "object"),
    "str": (np.array(["a"]), "<U1"),
    "bytes": (np.array([b"a"]), "S1"),
    "datetime": (np.zeros(2, "M8[s]"), "datetime64"),
    "timedelta": (np.zeros(2, "m8[s]"), "timedelta64"),
    "longdouble": (np.zeros(2, np.longdouble), "supported"),
    "structured": (np.zeros(2, [("a", "f4")]), "supported"),
    "void": (np.zeros(2, "V2"), "supported"),
    "float8_e4m3": (np.zeros(2, ml_dtypes.float8_e4m3), "float8"),
    "float8_e5m2": (np.zeros(2, ml_dtypes.float8_e5m2), "float8"),
    "int4": (np.zeros(2, ml_dtypes.int4), "int4"),
    "words": ("abc", "text"),
    "None": (None, "is None"),
}
if np.dtype(np.longdouble).itemsize == 8:
    del REFUSED["longdouble"]


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    x, said = REFUSED[name]
    with pytest.raises(TypeError, match=rf"(?s)^weight .*{said}"):
        take(x, "weight")


def test_kinds():
    known = {
        "f8": "f8",
        "<f4": "f4",
        "f2": "f2",
        "i1": "i1",
        ">i1": "i1",
        ">f4": ">f4",
        ">u2": ">u2",
        "u8": "u8",
        "?": "b1",
    }
    if sys.byteorder == "big":
        pytest.skip("written for little-endian machines")
    assert {code: kind(np.dtype(code)) for code in known} == known
    assert kind(BFLOAT16) == "bf"


# torch --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "int8", "uint8", "int64", "bool"])
def test_torch_tensors_share_their_memory(dtype):
    torch = pytest.importorskip("torch")
    x = torch.zeros(4, 6, dtype=getattr(torch, dtype)).T[::2]
    array, library = take(x)
    assert library == "torch"
    assert array.dtype == (BFLOAT16 if dtype == "bfloat16" else np.dtype(dtype))
    assert array.shape == tuple(x.shape)
    assert [s // array.itemsize for s in array.strides] == list(x.stride())
    assert array.ctypes.data == x.data_ptr()
    back = give(array, library)
    assert (back.dtype, back.data_ptr(), back.stride()) == (x.dtype, x.data_ptr(), x.stride())


def test_torch_tensors_that_are_refused():
    torch = pytest.importorskip("torch")
    refused = {
        "detach": torch.zeros(3, requires_grad=True),
        "meta": torch.empty(3, device="meta"),
        "dense": torch.zeros(3, 3).to_sparse(),
        "complex64": torch.zeros(3, dtype=torch.complex64),
        "float8": torch.zeros(3).to(torch.float8_e4m3fn),
    }
    for said, x in refused.items():
        with pytest.raises(TypeError, match=f"^bias .*{said}"):
            take(x, "bias")


def test_bfloat16_tensors_need_ml_dtypes(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(TypeError, match=r"ml_dtypes.*numbanorm\[bfloat16\]"):
        take(torch.zeros(3, dtype=torch.bfloat16))


# results --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_results_are_like_their_input(dtype):
    plain = np.zeros((3, 4, 5), dtype)
    for x in (plain, np.asfortranarray(plain), plain.transpose(1, 2, 0), plain[:, ::-1], plain[..., ::2]):
        result = result_like(x, result_dtype(x.dtype))
        inexact = x.dtype == BFLOAT16 or x.dtype.kind == "f"
        assert result.dtype == (x.dtype.newbyteorder("=") if inexact else np.float64)
        assert result.dtype.isnative
        assert result.shape == x.shape
        assert np.argsort(result.strides).tolist() == np.argsort(np.abs(x.strides)).tolist()
        assert sorted(result.strides)[0] == result.itemsize


# out ------------------------------------------------------------------------------------------------------------------


def addresses(a):
    """Every byte of an array, once for each element that has it."""
    offsets = np.zeros(a.shape, np.int64)
    for axis, (size, stride) in enumerate(zip(a.shape, a.strides, strict=True)):
        offsets += (np.arange(size) * stride).reshape([-1 if i == axis else 1 for i in range(a.ndim)])
    start = a.__array_interface__["data"][0]
    return (start + offsets.reshape(-1, 1) + np.arange(a.itemsize)).ravel()


HOME = np.zeros(4096, np.uint8)


def strided(rng):
    """An int16 array of any strides in HOME, perhaps overlapping itself."""
    shape = tuple(int(n) for n in rng.integers(1, 5, rng.integers(1, 4)))
    strides = tuple(int(s) for s in rng.integers(-12, 13, len(shape)))
    start = 2048 + int(rng.integers(-40, 40))
    return np.ndarray(shape, np.int16, HOME, start, strides)


@given(RANDOM)
def test_arrays_that_overlap_themselves_are_found(rng):
    a = strided(rng)
    own = addresses(a)
    if len(np.unique(own)) < len(own):
        assert memory.overlaps_itself(a)


@given(st.data())
def test_slices_never_overlap_themselves(data):
    rng = data.draw(RANDOM)
    shape = tuple(int(n) for n in rng.integers(1, 8, rng.integers(0, 5)))
    steps = tuple(slice(None, None, int(s)) for s in rng.choice([-3, -2, -1, 1, 2, 3], len(shape)))
    assert not memory.overlaps_itself(np.zeros(shape)[steps].transpose(rng.permutation(len(shape))))


@given(RANDOM)
def test_overlaps_are_found(rng):
    a, b = strided(rng), strided(rng)
    assert memory.overlap(a, b) == bool(np.intersect1d(addresses(a), addresses(b)).size)


def test_overlaps_that_are_hard_to_find_are_suspected(monkeypatch):
    def too_hard(*args, **keywords):
        raise np.exceptions.TooHardError("too hard")

    monkeypatch.setattr(np, "shares_memory", too_hard)
    base = np.zeros(100)
    assert memory.overlap(base[::2], base[1::2])
    assert not memory.overlap(base[:50], base[50:])


def out_for(x, out, **others):
    return take_out(out, x, result_dtype(x.dtype), others)


def test_outputs_that_are_taken():
    base = np.zeros((4, 10), np.float32)
    x = base[:, :5]
    swapped = np.zeros((4, 5), np.dtype(np.float32).newbyteorder())
    for out in (x, x[:], np.empty_like(x), base[:, 5:], base[:, 5:][::-1], np.zeros((5, 4), np.float32).T, swapped):
        assert same_memory(out_for(x, out, weight=None, bias=np.ones(5)), out)
    for integers in (np.zeros((4, 5), int), np.zeros((0, 5), bool)):
        out = np.zeros(integers.shape)
        assert out_for(integers, out) is out


def test_outputs_that_are_refused():
    base = np.zeros((4, 10), np.float32)
    x, weight = base[:, :5], base[0, 5:]
    read_only = np.zeros((4, 5), np.float32)
    read_only.flags.writeable = False
    as_strided = np.lib.stride_tricks.as_strided
    for error, said, out in [
        (TypeError, "out must be an array of dtype float32, got list", x.tolist()),
        (TypeError, "float64.*float32", np.zeros((4, 5))),
        (TypeError, "masked", np.ma.zeros((4, 5), np.float32)),
        (ValueError, r"\(5, 4\).*\(4, 5\)", np.zeros((5, 4), np.float32)),
        (ValueError, "read-only", read_only),
        (ValueError, "itself", as_strided(np.zeros(8, np.float32), (4, 5), (4, 4))),
        (ValueError, "itself", as_strided(np.zeros(5, np.float32), (4, 5), (0, 4))),
        (ValueError, "overlaps x", base[:, 1:6]),
        (ValueError, "overlaps x", x[::-1]),
        (ValueError, "overlaps x", x.view(np.dtype(np.float32).newbyteorder())),
        (ValueError, "overlaps weight", base[:, 5:]),
    ]:
        with pytest.raises(error, match=said):
            out_for(x, out, weight=weight)
