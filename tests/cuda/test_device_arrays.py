"""Arrays on a GPU: what is taken and refused, what comes back, and every norm with them."""

import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import oracle
import pytest
from everyday import every
from exported import Exported, Typed
from hypothesis import given
from oracle import assert_within
from strategies import BFLOAT16, RANDOM

import numbanorm as nbn
from numbanorm.arrays import libraries
from numbanorm.arrays.forms import result_dtype
from numbanorm.arrays.give import empty, give, result_like, send, to_host
from numbanorm.arrays.memory import DeviceArray, check_same_device, same_memory
from numbanorm.arrays.take import take, view
from numbanorm.call.choose import engine_of

KINDS = [np.dtype(code) for code in ("f8", "f4", "f2", "i1", "i4", "u8", "?")]


def described(array, **changes):
    """An ndarray's memory as if it were that of a GPU."""
    about = array.ctypes.data, array.shape, array.strides, array.dtype
    return replace(DeviceArray(*about, "numba", 0, 0, array), **changes)


# DeviceArray ----------------------------------------------------------------------------------------------------------


@given(RANDOM)
def test_reshape_moves_no_element(rng):
    base = np.zeros(tuple(rng.integers(1, 4, 4)))
    x = base[tuple(slice(None, None, int(s)) for s in rng.choice([-2, -1, 1, 2], 4))]
    x = x.transpose(rng.permutation(4))[: rng.integers(0, 3)]
    ours = described(x)
    plain = [n for n in x.shape if n != 1]
    for shape in [tuple(plain), (1, *x.shape, 1), (x.size,), (1, x.size)]:
        moved = x.reshape(shape)
        try:
            got = ours.reshape(list(shape))
        except ValueError as error:
            assert "copy" in str(error)
            assert not x.flags.c_contiguous
            continue
        assert got.shape == shape
        assert np.shares_memory(moved, x) or x.size == 0
        wanted = [s for s, n in zip(moved.strides, shape, strict=True) if n > 1]
        assert x.size == 0 or [s for s, n in zip(got.strides, shape, strict=True) if n > 1] == wanted
    assert ours.contiguous == x.flags.c_contiguous


def test_what_a_device_array_knows():
    x = np.zeros((3, 4, 5), np.float32)[:, ::2]
    ours = described(x)
    assert (ours.size, ours.ndim, ours.itemsize, ours.nbytes) == (x.size, 3, 4, x.nbytes)
    assert (ours.T.shape, ours.T.strides) == (x.T.shape, x.T.strides)
    moved = ours.transpose((1, 0, 2))
    assert (moved.shape, moved.strides) == (x.swapaxes(0, 1).shape, x.swapaxes(0, 1).strides)
    with pytest.raises(ValueError, match="number of elements"):
        ours.reshape((7,))


# taking and giving ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*KINDS, BFLOAT16], ids=str)
def test_numba_arrays_are_taken(dtype, gpu):
    x = gpu.send(np.zeros((3, 4), dtype))[1:, ::2]
    array, library = take(x)
    assert library == array.library == "numba"
    assert (array.shape, array.strides, array.dtype) == ((2, 2), (4 * dtype.itemsize, 2 * dtype.itemsize), dtype)
    assert (array.device, array.stream, array.writeable) == (0, 0, True)
    assert array.owner is x
    assert view(array) is array
    if gpu.simulated:
        assert array.pointer == x._ary.ctypes.data


@pytest.mark.parametrize("stream", [None, 1, 2, 0x7F00])
@pytest.mark.parametrize("read_only", [False, True])
def test_the_interface_is_taken(stream, read_only, simulated):
    plain = np.zeros((3, 4), np.float32)
    for x in (plain, plain.T, plain[::2, ::-1]):
        array, library = take(Exported(x, stream=stream, data=(x.ctypes.data, read_only)))
        assert library == "numba"
        assert (array.pointer, array.shape, array.strides) == (x.ctypes.data, x.shape, x.strides)
        assert (array.stream, array.writeable) == (stream or 0, not read_only)
    older = Exported(plain, version=2)
    assert view(older).stream == 0


@pytest.mark.parametrize(
    ("dtype", "code"), [(BFLOAT16, "<V2"), (BFLOAT16, "<f2"), ("bfloat16", "|V2"), ("some.bfloat16", "<u2")]
)
def test_bfloat16_is_read_where_the_array_says_so(dtype, code, simulated):
    array = view(Typed(np.zeros(3, BFLOAT16), dtype, typestr=code))
    assert array.dtype == BFLOAT16


HALVES = np.zeros(3, "f2")
REFUSED = {
    "a mask": (Exported(HALVES, mask=Exported(HALVES)), "mask"),
    "void": (Exported(HALVES, typestr="<V2"), "V2.*bfloat16"),
    "complex": (Exported(np.zeros(3, complex)), "complex128.*supported"),
    "strings": (Exported(np.zeros(3, "U1")), "U1.*supported"),
    "swapped": (Exported(np.zeros(3, np.dtype("f4").newbyteorder())), "swapped.*astype.*float32"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name, simulated):
    x, said = REFUSED[name]
    with pytest.raises(TypeError, match=rf"(?s)^weight .*{said}"):
        take(x, "weight")


@pytest.mark.parametrize("dtype", [*KINDS, BFLOAT16], ids=str)
def test_results_are_alike(dtype, simulated):
    plain = np.zeros((3, 4, 6), dtype)
    for x in (plain, np.asfortranarray(plain), plain.transpose(1, 2, 0), plain[:, ::-1], plain[..., ::2], plain[:0]):
        expected = result_like(x, result_dtype(x.dtype))
        array = view(Exported(x) if dtype != BFLOAT16 else Typed(x, dtype))
        result = result_like(array, result_dtype(array.dtype))
        assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
        assert x.size == 0 or result.strides == expected.strides
        given_back = give(result, "numba")
        assert type(given_back) is simulated.kind
        assert (tuple(given_back.shape), given_back.dtype) == (x.shape, expected.dtype)


def test_results_in_another_shape(gpu):
    made = empty(view(gpu.send(np.zeros(3))), (6,))
    assert give(made.reshape((2, 3)), "numba").shape == (2, 3)


def test_constants_and_copies(gpu):
    like = view(gpu.send(np.zeros((2, 3), np.float32)))
    sent = send(np.arange(3.0), like)
    np.testing.assert_array_equal(gpu.get(sent.owner), [0, 1, 2])
    np.testing.assert_array_equal(to_host(sent.owner), [0, 1, 2])
    engine, host = engine_of(like), np.zeros(3)
    number = np.array(2.5)
    assert gpu.get(engine.send(number, like).owner) == 2.5
    assert engine.send(sent, like) is sent
    assert engine_of(host).send(number, host) == 2.5
    (narrow,) = engine.pointwise("to_float64", 1, sent, dtype=np.dtype(np.float32))
    np.testing.assert_array_equal(gpu.get(narrow.owner), np.arange(3, dtype=np.float32))
    assert narrow.dtype == np.float32
    (wide,) = engine.pointwise("to_float64", 1, sent)
    np.testing.assert_array_equal(gpu.get(wide.owner), np.arange(3.0))
    assert not same_memory(wide, sent)


# other libraries: stand-ins over host memory, see conftest.py --------------------------------------------------------


def test_cupy(cupy_like, rng):
    cupy = cupy_like
    plain = rng.standard_normal((4, 6)).astype(np.float32)
    x = cupy.send(plain)
    array, library = take(x)
    assert (library, array.stream, array.pointer) == ("cupy", 0x70, plain.ctypes.data)
    y = nbn.layer_norm(x, 6)
    assert type(y) is cupy.ndarray
    np.testing.assert_allclose(y.get(), oracle.layer_norm(plain, (6,)), atol=1e-6)
    m = nbn.moments(x, axis=0)
    assert type(m.mean) is type(m.var()) is cupy.ndarray
    np.testing.assert_allclose(to_host(m.mean), plain.mean(0), atol=1e-6)
    normalized, sigma, u = nbn.spectral_norm(x, num_iterations=30)
    assert type(normalized) is type(sigma) is type(u) is cupy.ndarray
    np.testing.assert_allclose(sigma.get(), np.linalg.norm(plain.astype(float), 2), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "int8", "uint8", "int64", "bool"])
def test_torch_tensors_are_taken(dtype, torch_like):
    import torch

    x = torch_like(torch.zeros(4, 6, dtype=getattr(torch, dtype)).T[::2])
    array, library = take(x)
    assert (library, array.stream, array.device) == ("torch", 0x50, 0)
    assert array.dtype == (BFLOAT16 if dtype == "bfloat16" else np.dtype(dtype))
    assert (array.pointer, array.shape) == (x.data_ptr(), tuple(x.shape))
    assert [s // array.itemsize for s in array.strides] == list(x.stride())
    result = give(result_like(array, result_dtype(array.dtype)), library)
    inexact = x.dtype.is_floating_point
    assert (type(result), result.dtype) == (type(x), x.dtype if inexact else torch.float64)
    assert result.stride() == torch.empty_like(x).stride()


def test_torch(torch_like):
    import torch

    plain = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    x = torch_like(plain)
    y = nbn.layer_norm(x, 6)
    assert (type(y), y.dtype) == (type(x), torch.float32)
    torch.testing.assert_close(y.as_subclass(torch.Tensor), torch.nn.functional.layer_norm(plain, (6,)))
    m = nbn.moments(x, axis=0)
    assert type(m.mean) is type(m.var()) is type((m + m).m2) is type(x)
    normalized, sigma, u = nbn.spectral_norm(x)
    assert type(normalized) is type(sigma) is type(u) is type(x)
    assert (sigma.dtype, u.dtype, u.shape) == (torch.float64, torch.float32, (4,))
    mean, var = torch_like(torch.zeros(6)), torch_like(torch.ones(6))
    seen = torch_like(torch.zeros((), dtype=torch.int64))
    nbn.batch_norm(x, mean, var, training=True, momentum=None, num_batches_tracked=seen)
    torch.testing.assert_close(mean.as_subclass(torch.Tensor), plain.mean(0))
    assert int(seen) == 1


def test_torch_tensors_that_are_refused(torch_like):
    import torch

    for x, said in [
        (torch.zeros(3, requires_grad=True), "detach"),
        (torch.zeros(3, dtype=torch.complex64), "complex64.*supported"),
        (torch.zeros(3, dtype=torch.float8_e4m3fn), "float8"),
    ]:
        with pytest.raises(TypeError, match=f"^weight .*{said}"):
            take(torch_like(x), "weight")
    negative = torch_like(torch.complex(torch.zeros(3), torch.ones(3)).conj().imag)
    assert not view(negative).writeable


# where arrays lie -----------------------------------------------------------------------------------------------------

HOST = np.ones((2, 6, 5))
SIX = np.ones(6)
MIXED = {
    "weight": lambda send: nbn.normalize(send(HOST), axis=2, weight=np.ones(5)),
    "bias": lambda send: nbn.layer_norm(HOST, 5, None, send(np.ones(5))),
    "out": lambda send: nbn.layer_norm(send(HOST), 5, out=np.ones((2, 6, 5))),
    "moments.count": lambda send: nbn.normalize(send(HOST), axis=2, moments=nbn.moments(HOST, axis=2)),
    "running_mean": lambda send: nbn.batch_norm(send(HOST), SIX, SIX),
    "running_var": lambda send: nbn.batch_norm(send(HOST), send(SIX), SIX.copy(), training=True),
    "rho": lambda send: nbn.batch_instance_norm(send(HOST), SIX),
    "g": lambda send: nbn.weight_norm(send(HOST), np.ones(2)),
    "u": lambda send: nbn.spectral_norm(send(HOST), np.ones(2)),
    "other": lambda send: nbn.Moments.empty(()) + nbn.moments(send(HOST)),
    "m2": lambda send: nbn.Moments(send(SIX), send(SIX), SIX),
}


@pytest.mark.parametrize("name", MIXED)
def test_host_and_gpu_are_not_mixed(name, gpu):
    with pytest.raises(TypeError, match=rf"^{re.escape(name)} lies on (the host|GPU 0), but .* copy {name}"):
        MIXED[name](gpu.send)


def test_two_gpus_are_not_mixed():
    x = described(np.zeros(3))
    check_same_device(x, {"weight": None, "bias": x})
    with pytest.raises(ValueError, match=r"^bias lies on GPU 1, but x lies on GPU 0; copy"):
        check_same_device(x, {"bias": replace(x, device=1)})


@pytest.fixture
def unknown_cuda():
    """Let the search for CUDA be made anew, and again after the test."""
    libraries.why_no_cuda.cache_clear()
    yield
    libraries.why_no_cuda.cache_clear()


def test_without_numba_cuda(unknown_cuda, monkeypatch):
    monkeypatch.setattr(libraries, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"(?s)^x lies on a GPU \(Exported\).*numba-cuda.*cuda13.*cuda12"):
        nbn.layer_norm(Exported(np.ones(3)), 3)


def test_without_a_driver(gpu, unknown_cuda, monkeypatch):
    monkeypatch.setattr(gpu.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match=r"(?s)^x lies on a GPU.*driver.*cuda13"):
        nbn.layer_norm(Exported(np.ones(3)), 3)


def test_the_host_needs_no_cuda():
    code = """
import sys, numpy as np, numbanorm as n
n.batch_renorm(np.ones((3, 2)), np.ones(2), np.ones(2), training=True)
sys.exit("numba.cuda" in sys.modules or "numbanorm.cuda.engine" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# out ------------------------------------------------------------------------------------------------------------------


def test_segments_are_refused(simulated):
    x, layout = simulated.send(np.ones((6, 2), np.float32)), nbn.Layout.segments([0, 2, 6])
    for call in (nbn.moments, nbn.normalize, lambda x, layout: nbn.normalize(x, layout, out=x)):
        with pytest.raises(TypeError, match=r"segments work on the host.*on a GPU; copy x to the host"):
            call(x, layout)
    np.testing.assert_array_equal(simulated.get(x), 1.0)


def test_labels_are_refused(simulated):
    host = np.ones((6, 2), np.float32)
    x, labels = simulated.send(host), np.zeros(6, np.int64)
    for call in (nbn.moments, nbn.normalize, lambda x, **how: nbn.normalize(x, out=x, **how)):
        with pytest.raises(TypeError, match=r"labels= works on the host.*on a GPU; copy x and labels to the host"):
            call(x, axis=0, labels=labels)
        with pytest.raises(TypeError, match=r"labels.*GPU"):
            call(host, axis=0, labels=simulated.send(labels))
    np.testing.assert_array_equal(simulated.get(x), 1.0)


def test_outputs_that_are_refused(simulated):
    base = simulated.send(np.zeros((4, 10), np.float32))
    x, weight = base[:, :5], base[0, 5:]
    host = np.zeros((4, 5), np.float32)
    read_only = Exported(host, data=(host.ctypes.data, True))
    for error, said, out in [
        (TypeError, "int32.*float", simulated.send(np.zeros((4, 5), np.int32))),
        (ValueError, r"\(5, 4\).*\(4, 5\)", simulated.send(np.zeros((5, 4), np.float32))),
        (ValueError, "read-only", read_only),
        (ValueError, "itself", Exported(host, strides=(0, 4))),
        (ValueError, "overlaps x", base[:, 1:6]),
        (ValueError, "overlaps weight", base[:, 5:]),
    ]:
        with pytest.raises(error, match=said):
            nbn.layer_norm(x, 5, weight, out=out)


def test_out_and_in_place(place, rng):
    plain = rng.standard_normal((4, 6)).astype(np.float32)
    x, out = place.send(plain), place.send(np.zeros_like(plain))
    expected = oracle.layer_norm(plain, (6,))
    with place.working():
        assert nbn.layer_norm(x, 6, out=out) is out
        assert nbn.layer_norm(x, 6, out=x) is x
    np.testing.assert_array_equal(place.get(x), place.get(out))
    np.testing.assert_allclose(place.get(x), expected, atol=1e-6)


# every norm -----------------------------------------------------------------------------------------------------------

W, B = np.linspace(0.5, 2, 6), np.linspace(-1, 1, 6)
ROW = np.linspace(0.5, 2, 5)
NORMS = {
    "normalize": (
        lambda x, g: nbn.normalize(x, "n (k c) l -> n k", g(ROW), k=2),
        lambda x: oracle.group_norm(x, 2) * ROW,
    ),
    "normalize by a number": (
        lambda x, g: nbn.normalize(x, axis=2, weight=2.0),
        lambda x: oracle.layer_norm(x, (5,), 2),
    ),
    "layer_norm": (lambda x, g: nbn.layer_norm(x, 5, g(ROW)), lambda x: oracle.layer_norm(x, (5,), ROW)),
    "rms_norm": (lambda x, g: nbn.rms_norm(x, 5, g(ROW), 1e-5), lambda x: oracle.rms_norm(x, (5,), ROW)),
    "group_norm": (lambda x, g: nbn.group_norm(x, 3, g(W), g(B)), lambda x: oracle.group_norm(x, 3, W, B)),
    "instance_norm": (
        lambda x, g: nbn.instance_norm(x, weight=g(W), bias=g(B)),
        lambda x: oracle.instance_norm(x, W, B),
    ),
    "batch_norm": (
        lambda x, g: nbn.batch_norm(x, weight=g(W), bias=g(B), training=True),
        lambda x: oracle.batch_norm(x, W, B),
    ),
    "batch_norm, stored": (
        lambda x, g: nbn.batch_norm(x, g(B), g(W), g(W), g(B)),
        lambda x: oracle.batch_norm_stored(x, B, W, W, B),
    ),
    "batch_norm, stored with gaps": (
        lambda x, g: nbn.batch_norm(x, g(np.repeat(B, 2))[::2], g(np.repeat(W, 2))[::2]),
        lambda x: oracle.batch_norm_stored(x, B, W),
    ),
    "batch_renorm": (
        lambda x, g: nbn.batch_renorm(x, g(B), g(W), g(W), g(B), True, r_max=1.5, d_max=0.5),
        lambda x: oracle.batch_renorm(x, B, W, W, B, r_max=1.5, d_max=0.5),
    ),
    "batch_renorm, bare": (
        lambda x, g: nbn.batch_renorm(x, g(B), g(W), training=True),
        lambda x: oracle.batch_renorm(x, B, W),
    ),
    "batch_instance_norm": (
        lambda x, g: nbn.batch_instance_norm(x, g(np.linspace(0, 1, 6)), g(W), g(B)),
        lambda x: oracle.batch_instance_norm(x, np.linspace(0, 1, 6), W, B),
    ),
    "weight_norm": (lambda x, g: nbn.weight_norm(x, g(W), axis=1), lambda x: oracle.weight_norm(x, W, 1)),
    "weight_norm of all": (
        lambda x, g: nbn.weight_norm(x, 2.0, axis=None),
        lambda x: oracle.weight_norm(x, 2.0, None),
    ),
    "weight_standardize": (
        lambda x, g: nbn.weight_standardize(x, axis=1, ddof=1),
        lambda x: oracle.weight_standardize(x, 1, ddof=1),
    ),
    "spectral_norm": (
        lambda x, g: nbn.spectral_norm(x, g(W / np.linalg.norm(W)), axis=1, num_iterations=2)[0],
        lambda x: oracle.spectral_norm(x, W / np.linalg.norm(W), 1, 2)[0],
    ),
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", NORMS)
def test_norms(name, dtype, place, rng):
    run, definition = NORMS[name]
    plain = (1 + rng.standard_normal((2, 6, 5))).astype(dtype)
    expected = definition(plain)
    x = place.send(plain)
    with place.working():
        result = run(x, place.send)
    assert (tuple(result.shape), result.dtype) == (plain.shape, dtype)
    assert_within(place.get(result), expected, 32 * np.finfo(dtype).eps * np.abs(expected).max())
    np.testing.assert_array_equal(place.get(x), plain)


@pytest.mark.parametrize("dtype", every(["float16", BFLOAT16, "int32", "bool"], [BFLOAT16, "int32"]))
def test_other_dtypes(dtype, place, rng):
    plain = rng.integers(0, 2, (4, 6)).astype(dtype)
    result = place.get(nbn.layer_norm(place.send(plain), 6))
    expected = oracle.layer_norm(plain, (6,))
    assert result.dtype == oracle.result_dtype(dtype)
    assert_within(result, expected, 2 * float(oracle.ml_dtypes.finfo(result.dtype).eps) * np.abs(expected).max())


@pytest.mark.parametrize("shape", [(0, 6, 5), (2, 6, 0)])
def test_empty_arrays(shape, place):
    x = place.send(np.ones(shape, np.float32))
    mean, var = place.send(np.full(6, 2.0)), place.send(np.full(6, 3.0))
    for result in [nbn.batch_norm(x, mean, var, training=True), nbn.batch_instance_norm(x, place.send(SIX))]:
        assert tuple(result.shape) == shape
    np.testing.assert_array_equal(place.get(mean), 2)
    np.testing.assert_array_equal(place.get(nbn.moments(x, axis=(0, 2)).count), 0)


def test_an_unknown_library_gets_numbas_arrays(simulated, rng):
    plain = rng.standard_normal((4, 6)).astype(np.float32)
    x = Exported(plain)
    expected = oracle.layer_norm(plain, (6,))
    np.testing.assert_allclose(simulated.get(nbn.layer_norm(x, 6)), expected, atol=1e-6)
    assert simulated.get(nbn.batch_norm(x, training=True)).shape == (4, 6)
    assert simulated.get(nbn.normalize(x, axis=1, moments=nbn.moments(x, axis=1))).shape == (4, 6)
    assert nbn.layer_norm(x, 6, out=x) is x
    np.testing.assert_allclose(plain, expected, atol=1e-6)


def test_spectral_norm(gpu, rng):
    """sigma and u stay on the GPU, and another call goes on from there."""
    plain = rng.standard_normal((6, 4, 5)).astype(np.float32)
    w = gpu.send(plain)
    with gpu.working():
        _, _, u = nbn.spectral_norm(w)
        result, sigma, u = nbn.spectral_norm(w, u, num_iterations=4)
    _, expected, left = nbn.spectral_norm(plain, num_iterations=5)
    assert (tuple(sigma.shape), sigma.dtype, tuple(u.shape), u.dtype) == ((), np.float64, (6,), np.float32)
    np.testing.assert_allclose(gpu.get(sigma), expected, rtol=1e-6)
    np.testing.assert_allclose(gpu.get(u), left, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gpu.get(result), plain / expected, rtol=1e-5)


# running statistics and Moments ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.25, None])
@pytest.mark.parametrize("function", [nbn.batch_norm, nbn.instance_norm])
def test_running_statistics(function, momentum, gpu, rng):
    """They are updated in place, with any stride, as those on the host are."""
    host, there = (np.zeros(6), np.ones(6)), (gpu.send(np.zeros(12)), gpu.send(np.ones(12)))
    halves = tuple(a[::2] for a in there)
    settings = {"training": True} if function is nbn.batch_norm else {}
    counter, sent_counter = np.array(5), gpu.send(np.array(5))
    for _ in range(2):
        x = 3 + rng.standard_normal((3, 6, 5))
        function(x, *host, momentum=momentum, num_batches_tracked=counter, **settings)
        sent = gpu.send(x)
        with gpu.working():
            function(sent, *halves, momentum=momentum, num_batches_tracked=sent_counter, **settings)
    assert gpu.get(sent_counter) == counter == 7
    for ours, theirs, before in zip(there, host, (0, 1), strict=True):
        np.testing.assert_allclose(gpu.get(ours)[::2], theirs, rtol=1e-13)
        np.testing.assert_array_equal(gpu.get(ours)[1::2], before)


@pytest.mark.parametrize(("given", "wanted"), [("f4", "f8"), ("f8", "f4"), ("u1", "f4"), ("f4", "f2"), ("f2", "f4")])
@pytest.mark.parametrize("shape", [(3, 64), (4, 6, 50), (2, 3000)])
def test_results_of_another_float_type(given, wanted, shape, gpu, rng):
    x = (50 + 10 * rng.standard_normal(shape)).astype(given)
    for layout in ("n ... -> n", "n ... c -> c"):
        expected = nbn.normalize(x.astype(np.float64), layout, ddof=1, eps=0.5, eps_on="std")
        sent = gpu.send(x)
        with gpu.working():
            got = nbn.normalize(sent, layout, ddof=1, eps=0.5, eps_on="std", dtype=wanted)
        assert got.dtype == wanted
        unit = max(np.finfo(wanted).eps, 2.0**-52 if "f8" in (given, wanted) and given != "f2" else 2.0**-22)
        np.testing.assert_allclose(gpu.get(got).astype(np.float64), expected, rtol=unit, atol=8 * unit)


def test_counters_that_are_refused(simulated):
    x, mean, var = simulated.send(HOST), simulated.send(SIX), simulated.send(SIX + 1)
    for error, said, counter in [
        (TypeError, "on a GPU it must be int64", simulated.send(np.zeros((), np.int32))),
        (TypeError, "lies on the host", np.zeros((), np.int64)),
        (TypeError, "of no axes", simulated.send(np.zeros(1, np.int64))),
    ]:
        with pytest.raises(error, match=said):
            nbn.batch_norm(x, mean, var, training=True, num_batches_tracked=counter)


def test_running_statistics_that_are_refused(simulated):
    x, mean = simulated.send(HOST), simulated.send(SIX)
    for error, said, pair in [
        (ValueError, "share memory", (mean, mean)),
        (TypeError, "int", (mean, simulated.send(np.ones(6, int)))),
        (ValueError, "part of x", (mean, x[0, :, 0])),
        (ValueError, "read-only", (Exported(SIX, data=(SIX.ctypes.data, True)), mean)),
    ]:
        with pytest.raises(error, match=said):
            nbn.batch_norm(x, *pair, training=True)


def test_moments_stay_where_they_are(gpu, rng, tmp_path):
    plain = rng.standard_normal((8, 6)).astype(np.float32)
    x, expected = gpu.send(plain), nbn.moments(plain, axis=0)
    with gpu.working():
        m = nbn.moments(x[:3], axis=0) + nbn.moments(x[3:], axis=0)
        again = nbn.Moments(m.count, m.mean, m.m2)
        var, std = m.var(1), again.std()
        result, same = nbn.normalize(x, axis=0, moments=m, return_moments=True)
    assert same is m
    np.testing.assert_array_equal(gpu.get(m.count), 8)
    for got, wanted in [(m.mean, expected.mean), (var, expected.var(1)), (std, expected.std())]:
        np.testing.assert_allclose(gpu.get(got), wanted, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(gpu.get(result), nbn.normalize(plain, axis=0), atol=1e-6)
    np.testing.assert_allclose(gpu.get(nbn.normalize(x, axis=0, return_moments=True)[1].m2), expected.m2, rtol=1e-6)
    m.save(tmp_path / "m")
    loaded = nbn.Moments.load(tmp_path / "m")
    np.testing.assert_array_equal(loaded.mean, gpu.get(m.mean))


def test_moments_of_other_dtypes(gpu):
    counts, means = gpu.send(np.array([3, 1])), gpu.send(np.array([1.5, 2], np.float32))
    m = nbn.Moments(counts, means, means)
    assert m.count.dtype == m.mean.dtype == np.float64
    np.testing.assert_array_equal(gpu.get(m.var(1)), [0.75, np.nan])
    with pytest.raises(ValueError, match="one shape"):
        nbn.Moments(counts, means, gpu.send(np.zeros(3)))
    with pytest.raises(ValueError, match="group shape"):
        m.merge(nbn.moments(gpu.send(np.zeros(3))))


def test_moments_on_a_gpu_keep_means_in_two_parts(gpu, rng):
    """Merged, they are as exact as nearer to zero."""
    values = 1e8 + 1e-2 * rng.standard_normal((4, 96))
    total = sum(nbn.moments(gpu.send(part.copy()), axis=1) for part in np.split(values, 6, axis=1))
    mean, rest, m2 = (gpu.get(state) for state in (total.mean, total._rest, total.m2))
    oracle.check_rest(mean, rest, values, *oracle.groups(nbn.Layout.axes(1), values.shape))
    for got, row in zip(m2, values, strict=True):
        np.testing.assert_allclose(got, float(oracle.exact_moments(row)[2]), rtol=1e-14)
