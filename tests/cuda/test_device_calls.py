"""Calls on a GPU that were made before: right again, and refused again. On the host call/test_known.py does it."""

import gc
import warnings
import weakref
from contextlib import contextmanager

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="needs the package numba-cuda")
from exported import Exported, Shaped
from known_calls import CALLS, C, images, some_vectors
from strategies import BFLOAT16

import numbanorm as nbn
from numbanorm.call import known as calls
from numbanorm.call.known import forget
from numbanorm.cuda import launcher, repeat


@pytest.fixture(autouse=True)
def forgotten():
    forget()
    yield
    forget()


@pytest.fixture
def vectors(rng):
    return some_vectors(rng)


class Library:
    """How tests use one: send an array, whose memory stays that of the host, and see what is in another."""

    def __init__(self, send, get, set_stream=None):
        self.send, self.get, self.set_stream = send, get, set_stream


@pytest.fixture(params=["interface", "torch", "cupy"])
def library(request, simulated):
    if request.param == "interface":
        return Library(Shaped, lambda x: x.array.copy() if isinstance(x, Shaped) else x.copy_to_host())
    stand_in = request.getfixturevalue(f"{request.param}_like")

    def set_stream(stream):
        stand_in.stream = stream

    if request.param == "cupy":
        return Library(stand_in.send, lambda x: x.get(), set_stream)
    import torch

    return Library(
        lambda a: stand_in(torch.from_numpy(a)), lambda x: x.as_subclass(torch.Tensor).numpy().copy(), set_stream
    )


@pytest.fixture
def known_only(monkeypatch):
    """Forbid calls that are not known."""

    @contextmanager
    def forbidden():
        def checked(*args, **keywords):
            raise AssertionError("not known")

        with monkeypatch.context() as patched:
            patched.setattr(calls, "transform", checked)
            yield

    return forbidden


def of(array, library):
    """Vectors as the table of calls takes them: by row."""
    return [library.send(row.copy()) for row in array]


GPU_CALLS = {
    **{name: call for name, call in CALLS.items() if name not in ("normalize", "layer, list", "batch, counted")},
    "normalize": lambda x, v, **o: nbn.normalize(x, "n (g c) h w -> n g", g=2, **o),
    "layer, list": lambda x, v, **o: nbn.layer_norm(x, [x.shape[3]], **o),
}


@pytest.mark.parametrize("name", GPU_CALLS)
def test_known_calls_give_what_new_ones_give(name, library, known_only, rng, vectors):
    call, first, second = GPU_CALLS[name], images(rng), images(rng)
    fresh, known = of(vectors, library), of(vectors, library)
    expected = library.get(call(library.send(second.copy()), fresh))
    forget()
    call(library.send(first), of(vectors, library))
    assert len(calls._known) == 1
    x = library.send(second)
    with known_only():
        result = call(x, known)
    assert isinstance(x, Exported) or type(result) is type(x)
    np.testing.assert_array_equal(library.get(result), expected)
    np.testing.assert_array_equal(library.get(x), second)
    for ours, theirs in zip(known, fresh, strict=True):
        np.testing.assert_array_equal(library.get(ours), library.get(theirs))


@pytest.mark.parametrize("dtype", ["f8", "f2", "i4", BFLOAT16], ids=str)
def test_every_dtype(dtype, gpu, known_only, rng):
    x = gpu.send((8 * rng.standard_normal((3, 40))).astype(dtype))
    expected = gpu.get(nbn.layer_norm(x, 40))
    with known_only():
        result = gpu.get(nbn.layer_norm(x, 40))
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)


CHANGES = {
    "shape": lambda x: x[:3],
    "dtype": lambda x: x.astype(np.float64),
    "integers": lambda x: (4 * x).astype(np.int16),
    "strides": lambda x: x.transpose(0, 1, 3, 2),
    "channels last": lambda x: np.ascontiguousarray(np.moveaxis(x, 1, -1)).transpose(0, 3, 1, 2),
    "address": lambda x: shifted(x, 1),
}


def shifted(array, elements):
    """A copy whose address is aligned to its elements, but not to 16 bytes."""
    room = np.empty(array.size + 32, array.dtype)
    start = -room.ctypes.data % 64 // array.itemsize + elements
    copy = room[start : start + array.size].reshape(array.shape)
    copy[...] = array
    return copy


FEW = ("layer", "batch, running")
PAIRS = [("interface", name) for name in GPU_CALLS] + [(of, name) for of in ("torch", "cupy") for name in FEW]


@pytest.mark.parametrize(("library", "name"), PAIRS, indirect=["library"])
@pytest.mark.parametrize("change", CHANGES)
def test_another_description_is_another_call(name, change, library, rng, vectors):
    call, x = GPU_CALLS[name], shifted(images(rng), 0)
    y = CHANGES[change](x)
    expected = library.get(call(library.send(y.copy() if change == "address" else y), of(vectors, library)))
    forget()
    call(library.send(x), of(vectors, library))
    result = library.get(call(library.send(y), of(vectors, library)))
    # Where vectors are narrower, sums run in another order.
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6 if change == "address" else 0)
    assert result.dtype == expected.dtype


def test_an_address_that_is_not_aligned_is_not_read_in_vectors(library, rng):
    x = images(rng, size=8)
    for known in (shifted(x, 0), shifted(x, 1)):  # the twins of the loads fail on one
        nbn.layer_norm(library.send(known), 8)
    assert len(calls._known) == 2
    weights = [shifted(np.ones(8, np.float32), n) for n in (0, 1)]
    for weight in weights:
        nbn.layer_norm(library.send(shifted(x, 0)), 8, library.send(weight))
    assert len(calls._known) == 4


@pytest.mark.parametrize("name", GPU_CALLS)
def test_known_calls_into_an_output(name, library, known_only, rng, vectors):
    call, first, second = GPU_CALLS[name], images(rng), images(rng)
    expected = library.get(call(library.send(second.copy()), of(vectors, library)))
    for known in (False, True):
        out = library.send(np.full_like(first, 7))
        x = library.send(second.copy())
        if known:
            with known_only():
                assert call(x, of(vectors, library), out=out) is out
        else:
            assert call(x, of(vectors, library), out=out) is out
        np.testing.assert_array_equal(library.get(out), expected)
    call(x, of(vectors, library), out=x)
    x = library.send(second.copy())
    with known_only():
        assert call(x, of(vectors, library), out=x) is x
    np.testing.assert_array_equal(library.get(x), expected)


def test_the_memory_of_an_output_is_checked_again(library, rng):
    x = images(rng)
    nbn.layer_norm(library.send(x), 4, out=library.send(np.empty_like(x)))
    room = np.zeros(2 * x.size, np.float32)
    start = -room.ctypes.data % 64 // 4
    here, later = (room[start + shift : start + shift + x.size].reshape(x.shape) for shift in (0, 16))
    for source, out in ((here, later), (later, here)):
        with pytest.raises(ValueError, match="out overlaps x"):
            nbn.layer_norm(library.send(source), 4, out=library.send(out))
    assert not room.any()


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_inputs_in_the_output_are_refused_again(norm, library, rng):
    x = images(rng, size=C)
    call = {
        "layer": lambda x, w, o: nbn.layer_norm(x, C, w, out=o),
        "batch": lambda x, w, o: nbn.batch_norm(x, w, library.send(np.ones(C, np.float32)), out=o),
    }[norm]
    call(library.send(x), library.send(np.ones(C, np.float32)), library.send(np.empty_like(x)))
    y, out = library.send(x.copy()), np.ones_like(x)
    call(y, library.send(np.ones(C, np.float32)), y)
    for source, target in ((library.send(x), library.send(out)), (y := library.send(out), y)):
        with pytest.raises(ValueError, match=r"out overlaps (weight|running_mean)"):
            call(source, library.send(out.reshape(-1)[:C]), target)
    assert (out == 1).all()


def test_a_read_only_output_is_refused_again(simulated, rng):
    x, out = images(rng), images(rng)
    nbn.layer_norm(Exported(x), 4, out=Exported(out))
    before = out.copy()
    with pytest.raises(ValueError, match="read-only"):
        nbn.layer_norm(Exported(x), 4, out=Exported(out, data=(out.ctypes.data, True)))
    np.testing.assert_array_equal(out, before)


@pytest.mark.parametrize("eps", [-1e-5, float("nan"), "1e-5"])
def test_eps_is_checked_again(eps, gpu, rng):
    x = gpu.send(images(rng))
    nbn.group_norm(x, 2)
    with pytest.raises((ValueError, TypeError), match="eps"):
        nbn.group_norm(x, 2, eps=eps)


def test_what_cannot_be_taken_is_refused_again(torch_like, rng):
    import torch

    x, weight = torch.ones(2, 8), torch.ones(8)
    nbn.layer_norm(torch_like(x), 8, torch_like(weight))
    with pytest.raises(TypeError, match=r"^weight records gradients"):
        nbn.layer_norm(torch_like(x), 8, torch_like(weight.clone().requires_grad_()))
    with pytest.raises(TypeError, match=r"^weight lies on the host"):
        nbn.layer_norm(torch_like(x), 8, weight)
    negative = torch.complex(torch.zeros(2, 8), torch.arange(16.0).reshape(2, 8)).conj().imag
    result = nbn.layer_norm(torch_like(negative), 8, torch_like(weight))
    expected = torch.nn.functional.layer_norm(negative, (8,))
    torch.testing.assert_close(result.as_subclass(torch.Tensor), expected)


def test_parameters_are_taken_where_nothing_is_recorded_and_refused_elsewhere(torch_like, known_only, rng):
    import torch

    x, weight = torch_like(torch.from_numpy(rng.standard_normal((4, 8)))), torch.nn.Parameter(torch.ones(8).double())
    for nothing_is_recorded in (torch.no_grad, torch.inference_mode):
        with nothing_is_recorded():
            expected = nbn.layer_norm(x, 8, torch_like(weight))
            with known_only():
                result = nbn.layer_norm(x, 8, torch_like(weight))
        assert torch.equal(result, expected)
        assert not result.requires_grad
        with pytest.raises(TypeError, match=r"^weight records gradients"):
            nbn.layer_norm(x, 8, torch_like(weight))


def test_tangents_and_other_classes_are_refused_again(torch_like, rng):
    import torch

    class WithOperations(type(torch_like(torch.ones(1)))):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            return super().__torch_function__(function, types, args, kwargs or {})

    plain = torch.from_numpy(rng.standard_normal((4, 8)))
    nbn.layer_norm(torch_like(plain), 8)
    forward_ad = torch.autograd.forward_ad
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of its first dual number
        with forward_ad.dual_level():
            for context in (torch.enable_grad, torch.no_grad):
                with context(), pytest.raises(TypeError, match=r"^x has a tangent"):
                    nbn.layer_norm(torch_like(forward_ad.make_dual(plain, plain)), 8)
            nbn.layer_norm(torch_like(plain), 8)
    with pytest.raises(TypeError, match=r"^x is a WithOperations, .*as_subclass"):
        nbn.layer_norm(plain.as_subclass(WithOperations), 8)


def test_writes_are_counted_in_new_and_known_calls(torch_like, known_only, rng):
    import torch

    x, out = torch_like(torch.from_numpy(rng.standard_normal((4, 8)))), torch_like(torch.empty(4, 8).double())
    given = x, torch_like(torch.zeros(8)), torch_like(torch.ones(8)), torch_like(torch.ones(8)), out
    _, mean, var, weight, _ = given

    def versions():
        return [tensor._version for tensor in given]

    start = versions()
    for _ in range(2):
        nbn.batch_norm(x, mean, var, weight)
        nbn.batch_renorm(x, mean, var)
    assert versions() == start
    nbn.batch_norm(x, mean, var, weight, training=True, out=out)
    assert versions() == [start[0], start[1] + 1, start[2] + 1, start[3], start[4] + 1]
    with known_only():
        nbn.batch_norm(x, mean, var, weight, training=True, out=out)
    assert versions() == [start[0], start[1] + 2, start[2] + 2, start[3], start[4] + 2]
    nbn.batch_norm(x, mean, var, weight, out=out)
    with known_only():
        nbn.batch_norm(x, mean, var, weight, out=out)
    assert versions() == [start[0], start[1] + 2, start[2] + 2, start[3], start[4] + 4]
    ours = torch.ones(4, 8).double().requires_grad_()
    loss = (x.as_subclass(torch.Tensor) * ours).sum()
    nbn.layer_norm(x, 8, out=x)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_inference_tensors_are_refused_again(torch_like, rng):
    import torch

    x = torch_like(torch.from_numpy(rng.standard_normal((4, 8))))
    with torch.inference_mode():
        out, mean, var = (torch_like(torch.zeros(n).double()) for n in ((4, 8), 8, 8))
        for _ in range(2):
            nbn.layer_norm(x, 8, out=out)
            nbn.batch_norm(x, mean, var, training=True)
    fresh = [torch_like(torch.zeros(8).double()) for _ in range(2)]
    nbn.layer_norm(x, 8, out=torch_like(torch.zeros(4, 8).double()))
    nbn.batch_norm(x, *fresh, training=True)
    before = out.clone(), mean.clone()
    with pytest.raises(TypeError, match=r"^out is an inference tensor"):
        nbn.layer_norm(x, 8, out=out)
    with pytest.raises(TypeError, match=r"^running_mean is an inference tensor"):
        nbn.batch_norm(x, mean, fresh[1], training=True)
    with torch.no_grad(), pytest.raises(TypeError, match=r"^running_var is an inference tensor"):
        nbn.batch_norm(x, fresh[0], var, training=True)
    assert torch.equal(out, before[0])
    assert torch.equal(mean, before[1])


def test_what_is_negated_is_not_written(torch_like, rng):
    import torch

    x, out = torch.from_numpy(rng.standard_normal((4, 8))), torch.zeros(4, 8).double()
    nbn.layer_norm(torch_like(x), 8, out=torch_like(out))
    with pytest.raises(TypeError, match=r"^out is a view that negates"):
        nbn.layer_norm(torch_like(x), 8, out=torch_like(torch._neg_view(out)))


def test_other_places_are_other_calls(gpu, rng):
    x, v = images(rng), np.ones(C, np.float32)
    nbn.batch_norm(gpu.send(x), gpu.send(v), gpu.send(v))
    nbn.batch_norm(x, v, v)
    for of_x, of_mean in ((gpu.send, np.copy), (np.copy, gpu.send)):
        with pytest.raises(TypeError, match=r"^running_mean lies on"):
            nbn.batch_norm(of_x(x), of_mean(v), of_mean(v))


def test_memory_is_checked_again(library, rng):
    x, mean, var = images(rng), np.zeros(C, np.float32), np.ones(C, np.float32)
    nbn.batch_norm(library.send(x.copy()), library.send(mean.copy()), library.send(var.copy()), training=True)
    inside = x.reshape(-1)[:C]
    before = x.copy()
    for a, b in ((inside, var), (var, inside), (var, var)):
        with pytest.raises(ValueError, match="running"):
            nbn.batch_norm(library.send(x), library.send(a), library.send(b), training=True)
    np.testing.assert_array_equal(x, before)
    with pytest.raises(ValueError, match="momentum"):
        nbn.batch_norm(library.send(x), library.send(mean), library.send(var), training=True, momentum=2)


@pytest.mark.parametrize("stored", [lambda v: v.astype(np.int32), lambda v: np.stack([v, v], 1)[:, 0]])
def test_running_statistics_that_are_copied_are_not_remembered(stored, simulated, rng):
    x, mean = simulated.send(images(rng)), stored(np.arange(1, C + 1, dtype=np.float32))
    results = []
    for _ in range(2):
        results.append(simulated.get(nbn.batch_norm(x, Exported(mean), Exported(mean))))
        assert not calls._known
    np.testing.assert_array_equal(*results)


def test_a_shape_of_torch_is_a_shape(torch_like, known_only):
    import torch

    x = torch_like(torch.arange(32.0).reshape(4, 8))
    plain = x.as_subclass(torch.Tensor)
    nbn.layer_norm(x, plain.shape[-1:])
    with known_only():
        result = nbn.layer_norm(x, plain.shape[-1:])
    expected = torch.nn.functional.layer_norm(plain, (8,))
    torch.testing.assert_close(result.as_subclass(torch.Tensor), expected)


def test_the_stream_is_that_of_this_call(library, monkeypatch, rng):
    if library.set_stream is None:
        pytest.skip("the simulator has no streams")
    streams, launch = [], launcher.launch

    def launched(step, device, stream, values):
        streams.append(stream)
        launch(step, device, stream, values)

    monkeypatch.setattr(launcher, "launch", launched)
    x = library.send(images(rng))
    for stream in (0x70, 0x90):
        library.set_stream(stream)
        nbn.layer_norm(x, 4)
    assert streams == [0x70, 0x90]


def test_no_array_is_kept(cupy_like, rng):
    x, weight, out = (cupy_like.send(images(rng, size=s)) for s in (6, 6, 6))
    nbn.normalize(x, axis=1, weight=weight, out=out)
    (call,) = calls._known.values()
    assert call.__module__ == repeat.__name__
    gone = [weakref.ref(a) for a in (x, weight, out)]
    del x, weight, out
    gc.collect()
    assert [ref() for ref in gone] == [None] * 3
