"""torch's tensors: gradients and tangents are never dropped, writes are seen, and odd tensors are named."""

import warnings

import numpy as np
import pytest

import numbanorm as nbn
from numbanorm.arrays import torch as tensors
from numbanorm.arrays.take import take, view

torch = pytest.importorskip("torch")
forward_ad = torch.autograd.forward_ad

pytestmark = [
    pytest.mark.usefixtures("numpy_engine"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
]


def randn(*shape, **keywords):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), **keywords)


# gradients ------------------------------------------------------------------------------------------------------------

NOTHING_IS_RECORDED = {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode}


@pytest.mark.parametrize("mode", NOTHING_IS_RECORDED)
def test_a_modules_parameters_are_taken_where_nothing_is_recorded(mode):
    x = randn(4, 6)
    layer, batch, group = torch.nn.LayerNorm(6), torch.nn.BatchNorm1d(6).eval(), torch.nn.GroupNorm(2, 6)
    for parameter in (*layer.parameters(), *batch.parameters(), *group.parameters()):
        parameter.data = randn(6)
    with NOTHING_IS_RECORDED[mode]():
        results = {
            nbn.layer_norm(x, layer.normalized_shape, layer.weight, layer.bias): layer(x),
            nbn.batch_norm(x, batch.running_mean, batch.running_var, batch.weight, batch.bias): batch(x),
            nbn.group_norm(x, 2, group.weight, group.bias): group(x),
            nbn.rms_norm(x, 6, layer.weight): torch.nn.functional.rms_norm(x, (6,), layer.weight),
        }
        recorded = x.clone().requires_grad_()
        half = torch.nn.Parameter(randn(6).bfloat16())
        assert not nbn.normalize(recorded).requires_grad
        assert not nbn.layer_norm(x.bfloat16(), 6, half).requires_grad
        assert nbn.moments(recorded).mean == nbn.moments(x).mean
    for ours, theirs in results.items():
        assert not ours.requires_grad
        torch.testing.assert_close(ours, theirs)


def test_gradients_are_refused_where_they_are_recorded():
    x, weight = randn(4, 6), torch.nn.Parameter(randn(6))
    for name, call in {
        "x": lambda: nbn.normalize(x.clone().requires_grad_()),
        "weight": lambda: nbn.layer_norm(x, 6, weight),
        "bias": lambda: nbn.layer_norm(x, 6, weight.detach(), weight),
        "running_mean": lambda: nbn.batch_norm(x, weight, weight.detach().abs()),
        "out": lambda: nbn.normalize(x[0], out=weight),
    }.items():
        with pytest.raises(TypeError, match=rf"^{name} records gradients.*{name}\.detach\(\).*no_grad"):
            call()
        with torch.no_grad(), torch.enable_grad(), pytest.raises(TypeError, match=f"^{name} records gradients"):
            call()


# forward mode ---------------------------------------------------------------------------------------------------------


def test_tangents_are_refused_and_not_dropped():
    plain = randn(4, 6)
    six = randn(6).abs()
    with forward_ad.dual_level():
        x, dual = forward_ad.make_dual(plain, plain), forward_ad.make_dual(six, six)
        for name, call in {
            "x": lambda: nbn.normalize(x),
            "x ": lambda: nbn.moments(x.bfloat16()),
            "w": lambda: nbn.weight_standardize(x[:, :2]),
            "weight": lambda: nbn.layer_norm(plain, 6, dual),
            "bias": lambda: nbn.normalize(plain, bias=dual),
            "running_mean": lambda: nbn.batch_norm(plain, dual, six),
            "running_var": lambda: nbn.batch_norm(plain, six.clone(), dual, training=True),
            "out": lambda: nbn.normalize(plain, out=x),
            "g": lambda: nbn.weight_norm(plain, dual[:4]),
            "x  ": lambda: nbn.normalize([1.0, dual[0]]),
            "eps": lambda: nbn.normalize(plain, eps=dual[0]),
            "momentum": lambda: nbn.batch_norm(plain, six.clone(), six.clone(), training=True, momentum=dual[0]),
            "mean": lambda: nbn.Moments(six.detach(), dual, six),
            "x   ": lambda: nbn.normalize([[dual[0], dual[1]]]),
        }.items():
            for context in (torch.enable_grad, torch.no_grad):
                with context(), pytest.raises(TypeError, match=rf"^{name.strip()} has a tangent.*unpack_dual"):
                    call()
        torch.testing.assert_close(nbn.normalize(plain, eps=0).std(correction=0), torch.tensor(1.0))
        assert nbn.moments(forward_ad.unpack_dual(x).primal).count == 24
    assert nbn.moments(x).count == 24  # outside of the level there are none


# writing --------------------------------------------------------------------------------------------------------------


def in_training(x, mean, var):
    nbn.batch_norm(x, mean, var, training=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_autograd_sees_what_is_written(dtype):
    def fresh():
        x = randn(4, 6).to(dtype)
        w = torch.ones(4, 6, dtype=dtype, requires_grad=True)
        return x, w

    x, w = fresh()
    y = (x * w).sum()
    nbn.normalize(x, out=x)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()
    x, w = fresh()
    y = (x[:2] * w[:2]).sum()  # of a view, where all is written; and of all, where a view is
    nbn.normalize(x.clone(), out=x)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()
    x, w = fresh()
    y = (x * w).sum()
    nbn.normalize(x[1:3], out=x[1:3])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_every_write_moves_the_version_on_and_no_other_call_does():
    x, out = randn(4, 6), torch.empty(4, 6)
    mean, var, weight, bias = torch.zeros(6), torch.ones(6), torch.ones(6), torch.zeros(6)
    given = x, mean, var, weight, bias, out

    def versions():
        return [tensor._version for tensor in given]

    start = versions()
    nbn.batch_norm(x, mean, var, weight, bias)
    nbn.layer_norm(x, 6, weight, bias)
    nbn.batch_renorm(x, mean, var, weight, bias)
    nbn.moments(x)
    assert versions() == start
    for repeat in range(1, 4):  # in known calls, too
        nbn.batch_norm(x, mean, var, weight, bias, training=True, out=out)
        assert versions() == [start[0], *(start[i] + repeat for i in (1, 2)), *start[3:5], start[5] + repeat]
    nbn.instance_norm(x[..., None] * torch.ones(2), mean, var)
    nbn.batch_renorm(x, mean, var, training=True)
    assert versions()[1:3] == [start[1] + 5, start[2] + 5]
    with torch.no_grad():
        nbn.normalize(x, out=out)
    with torch.inference_mode():
        nbn.normalize(x, out=out)
    assert out._version == start[5] + 5


def test_a_refused_call_moves_no_version_on():
    x, mean, var, out = randn(4, 6), torch.zeros(6), torch.ones(6), torch.empty(4, 6)
    for wrong in ({"eps": -1.0}, {"momentum": 2.0}, {"weight": torch.ones(5)}, {"out": torch.empty(4, 5)}):
        with pytest.raises(ValueError):
            nbn.batch_norm(x, mean, var, **{"training": True, "out": out} | wrong)
    with pytest.raises(ValueError, match="broadcast"):
        nbn.normalize(x, weight=torch.ones(5), out=out)
    assert [tensor._version for tensor in (mean, var, out)] == [0, 0, 0]


def test_older_versions_of_torch_see_it_too(monkeypatch):
    monkeypatch.delattr(torch.autograd.graph, "increment_version")
    tensors.count_version.cache_clear()
    try:
        for x in (randn(4, 6), randn(4, 6).T[::2], torch.zeros(3, dtype=torch.int64), torch.tensor(1.0)):
            before = x.clone()
            tensors.count_version()(x)
            assert x._version == 1
            assert torch.equal(x, before)
        leaf = torch.zeros(3, requires_grad=True)
        tensors.count_version()(leaf)
        assert (leaf._version, leaf.requires_grad, leaf.grad_fn) == (1, True, None)
    finally:
        tensors.count_version.cache_clear()


def test_inference_tensors_are_written_in_inference_mode_alone():
    x = randn(4, 6)
    with torch.inference_mode():
        mean, var, out = torch.zeros(6), torch.ones(6), torch.empty(4, 6)
        nbn.batch_norm(x, mean, var, training=True, out=out)
        assert mean.any()
        assert not nbn.normalize(x).requires_grad
    before = mean.clone()
    plain = torch.zeros(6), torch.ones(6)
    for name, call in {
        "running_mean": lambda: in_training(x, mean, plain[1]),
        "running_var": lambda: in_training(x, plain[0], var),
        "out": lambda: nbn.normalize(x, out=out),
        "out ": lambda: nbn.normalize(out, out=out),
    }.items():
        for context in (torch.enable_grad, torch.no_grad):
            with context(), pytest.raises(TypeError, match=rf"^{name.strip()} is an inference tensor.*\.clone\(\)"):
                call()
    assert torch.equal(mean, before)
    assert not plain[0].any()
    assert nbn.batch_norm(out, mean, var).shape == (4, 6)  # which reads them only


def test_leaves_are_written_where_torch_writes_them():
    leaf = torch.zeros(4, 6, requires_grad=True)
    with torch.no_grad():
        nbn.normalize(randn(4, 6), out=leaf)
        view_of_leaf = leaf[:2]
    assert leaf.any()
    assert leaf._version == 1
    with pytest.raises(TypeError, match=r"^out records gradients"):
        nbn.normalize(randn(2, 6), out=view_of_leaf)


def negative(values):
    """A tensor whose values are those in memory, negated by a bit."""
    return torch.complex(torch.zeros_like(values), values).conj().imag


def test_tensors_with_the_negative_bit_are_read_and_not_written():
    plain = randn(4, 6)
    x = negative(-plain)
    assert x.is_neg()
    torch.testing.assert_close(nbn.normalize(x), nbn.normalize(plain))
    half = torch._neg_view(plain.bfloat16())
    torch.testing.assert_close(nbn.normalize(half), nbn.normalize(-plain.bfloat16()))
    mean, var = negative(torch.ones(6)), negative(-torch.ones(6))
    for name, call in {
        "running_mean": lambda: in_training(plain, mean, torch.ones(6)),
        "running_var": lambda: in_training(plain, torch.ones(6), var),
        "out": lambda: nbn.normalize(plain, out=x),
        "out ": lambda: nbn.normalize(x, out=x),
    }.items():
        with pytest.raises(TypeError, match=rf"^{name.strip()} is a view that negates.*resolve_neg\(\)"):
            call()
    torch.testing.assert_close(x, plain)
    assert (mean == -1).all()
    nbn.batch_norm(plain, mean, var)


# tensors of other kinds -----------------------------------------------------------------------------------------------


class Renamed(torch.Tensor):
    """A subclass that changes nothing."""


class WithOperations(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return super().__torch_function__(function, types, args, kwargs or {})


class Wrapper(torch.Tensor):
    @staticmethod
    def __new__(cls, values):
        return torch.Tensor._make_wrapper_subclass(cls, values.shape, dtype=values.dtype)

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise NotImplementedError


class Elsewhere(torch.Tensor):
    """A tensor on a device that is not here."""

    is_cpu = False
    device = torch.device("mps", 0)


def fake(device):
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        return torch.zeros(3, 3, device=device)


def without_memory():
    x = torch.zeros(3, 3)
    x.untyped_storage().resize_(0)
    return x


ODD = {
    "nested": (
        lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
        "a nested tensor, which holds rows of different lengths.*unbind",
    ),
    "jagged": (
        lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)], layout=torch.jagged),
        "a NestedTensor.*rows of different lengths.*unbind",
    ),
    "masked": (
        lambda: torch.masked.masked_tensor(torch.zeros(3, 3), torch.eye(3) > 0),
        "a MaskedTensor, which has a mask",
    ),
    "fake": (lambda: fake("cpu"), "a FakeTensor, which has a shape and no values"),
    "fake on a GPU": (lambda: fake("cuda"), "a FakeTensor, which has a shape and no values"),
    "a wrapper": (lambda: Wrapper(torch.zeros(3, 3)), "a Wrapper, which stands for other tensors"),
    "a subclass with operations": (
        lambda: torch.zeros(3, 3).as_subclass(WithOperations),
        r"a WithOperations, .*as_subclass\(torch.Tensor\)",
    ),
    "uninitialized": (lambda: torch.nn.LazyBatchNorm1d().weight, "an? UninitializedParameter.*call its module once"),
    "an uninitialized buffer": (
        lambda: torch.nn.LazyBatchNorm1d().running_mean,
        "UninitializedBuffer.*call its module",
    ),
    "sparse": (lambda: torch.eye(3).to_sparse(), r"torch.sparse_coo; pass w.to_dense\(\)"),
    "compressed": (lambda: torch.eye(3).to_sparse_csr(), r"torch.sparse_csr; pass w.to_dense\(\)"),
    "of mkldnn": (lambda: torch.eye(3).to_mkldnn(), r"torch._mkldnn; pass w.to_dense\(\)"),
    "quantized": (
        lambda: torch.quantize_per_tensor(torch.zeros(3, 3), 0.1, 0, torch.quint8),
        r"quantized \(torch.quint8\); pass w.dequantize\(\)",
    ),
    "meta": (lambda: torch.empty(3, 3, device="meta"), "lies on the device meta.*no values"),
    "on another device": (lambda: torch.zeros(3, 3).as_subclass(Elsewhere), r"lies on mps:0; pass w.cpu\(\)"),
    "complex": (lambda: torch.zeros(3, 3, dtype=torch.complex64), "complex64; supported.*w.real and w.imag"),
    "conjugated": (lambda: torch.zeros(3, 3, dtype=torch.complex128).conj(), "complex128; supported.*w.real"),
    "half complex": (lambda: torch.zeros(3, 3, dtype=torch.complex32), "complex32; supported.*w.real"),
    "float8": (lambda: torch.zeros(3, 3).to(torch.float8_e4m3fn), r"torch.float8_e4m3fn.*pass w.float\(\)"),
    "bits": (lambda: torch.empty(3, 3, dtype=torch.bits8), "torch.bits8"),
    "freed": (without_memory, "9 elements and no memory"),
    "zeros without memory": (lambda: torch._efficientzerotensor(3, 3), "9 elements and no memory"),
    "functional": (lambda: torch._to_functional_tensor(torch.zeros(3, 3)), "9 elements and no memory"),
}


@pytest.mark.parametrize("name", ODD)
def test_tensors_of_other_kinds_are_refused_by_name_with_the_mend(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some kinds warn that they are young
        x, said = ODD[name][0](), ODD[name][1]
        for context in (torch.enable_grad, torch.no_grad):
            with context(), pytest.raises(TypeError, match=f"(?s)^w .*{said}"):
                take(x, "w")
        plain, six = torch.zeros(4, 3), torch.ones(3)
        for argument, call in {
            "x": lambda: nbn.layer_norm(x, 3),
            "x ": lambda: nbn.batch_norm(x, training=True),
            "x  ": lambda: nbn.normalize(x, axis=0),
            "weight": lambda: nbn.layer_norm(plain, 3, x),
            "running_mean": lambda: nbn.batch_norm(plain, x, six, training=True),
            "running_var": lambda: nbn.batch_norm(plain, six, x),
            "out": lambda: nbn.normalize(plain, out=x),
        }.items():
            with pytest.raises(TypeError, match=f"^{argument.strip()} "):
                call()


def test_subclasses_that_change_nothing_are_taken():
    plain = randn(4, 6)
    for x in (plain.as_subclass(Renamed), torch.nn.Parameter(plain, requires_grad=False), torch.nn.Buffer(plain)):
        assert view(x).ctypes.data == plain.data_ptr()
        torch.testing.assert_close(nbn.normalize(x), nbn.normalize(plain))
    assert take(torch.zeros(0, 3))[0].shape == (0, 3)
    assert np.shares_memory(view(plain), plain.numpy())


@pytest.mark.parametrize("transform", ["vmap", "grad", "jvp", "vjp", "functionalize", "vmap of grad", "an older vmap"])
def test_tensors_within_transforms_are_refused(transform):
    def normalized(x):
        said = {
            "functionalize": "has 6 elements and no memory",
            "an older vmap": "is a tensor whose memory torch does not show",
        }.get(transform, r"is a tensor within a transform of torch.func \(vmap.*outside")
        with pytest.raises(TypeError, match=f"^x {said}"):
            nbn.normalize(x)
        with torch.no_grad(), pytest.raises(TypeError, match=f"^weight {said}"):
            nbn.layer_norm(plain, 6, x)
        return (x * x).sum()

    func, x, plain = torch.func, randn(3, 6), np.zeros((2, 6))
    calls = {
        "vmap": lambda: func.vmap(normalized)(x),
        "grad": lambda: func.grad(normalized)(x[0]),
        "jvp": lambda: func.jvp(normalized, (x[0],), (x[1],)),
        "vjp": lambda: func.vjp(normalized, x[0]),
        "functionalize": lambda: func.functionalize(normalized)(x[0]),
        "vmap of grad": lambda: func.vmap(func.grad(normalized))(x),
        "an older vmap": lambda: torch._vmap_internals._vmap(normalized)(x),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        calls[transform]()
