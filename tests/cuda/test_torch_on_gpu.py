"""numbanorm.torch on tensors that say they lie on a GPU: outputs and gradients are those of tensors of the host."""

from types import SimpleNamespace

import pytest

pytest.importorskip("numba_cuda", reason="needs the package numba-cuda")
torch = pytest.importorskip("torch")

from numbanorm.torch import convert, operators, short  # noqa: E402
from numbanorm.torch import functional as F  # noqa: E402
from numbanorm.torch import on_gpu as device  # noqa: E402

X, C, LAYER = (4, 6, 5), (6,), (6, 5)


def batch_norm(x, w, b, mean, var):
    return F.batch_norm(x, mean, var, w, b, training=True)


def evaluation(x, w, b, mean, var):
    return F.batch_norm(x, mean, var, w, b)


CALLS = {
    "layer norm": (lambda x, w, b, *_: F.layer_norm(x, LAYER, w, b), LAYER),
    "layer norm, plain": (lambda x, w, b, *_: F.layer_norm(x, LAYER), LAYER),
    "RMS norm": (lambda x, w, b, *_: F.rms_norm(x, LAYER, w), LAYER),
    "group norm": (lambda x, w, b, *_: F.group_norm(x, 3, w, b), C),
    "batch norm": (batch_norm, C),
    "batch norm, evaluation": (evaluation, C),
    "instance norm": (lambda x, w, b, *_: F.instance_norm(x, weight=w, bias=b), C),
    "weight norm": (lambda x, w, b, *_: F.weight_norm(x, w.reshape(1, 6, 1), 1), C),
    "weight standardization": (lambda x, w, b, *_: F.weight_standardize(x), C),
}


def made(call, of_weight, send):
    """Output, gradients and running statistics."""
    torch.manual_seed(0)
    x, grad = torch.randn(2, *X)
    w, b, mean = torch.randn(of_weight), torch.randn(of_weight), torch.randn(C)
    x, grad, w, b, mean, var = map(send, (x, grad, w, b, mean, torch.rand(C)))
    for one in (x, w, b):
        one.requires_grad_()
    y = call(x, w, b, mean, var)
    y.backward(grad)
    return [y.detach(), x.grad, w.grad, b.grad, mean, var]


@pytest.fixture
def on_gpu(torch_like, monkeypatch):
    """Tensors that say they lie on a GPU, and are taken for plain ones."""
    kind = type(torch_like(torch.ones(1)))
    monkeypatch.setattr(short, "PLAIN", short.PLAIN | {kind})
    monkeypatch.setattr(F, "has_torch_function_variadic", lambda *tensors: False)
    along = device._along

    def still_there(parameter, form):  # within torch's own functions, views of a subclass are plain tensors
        made = along(parameter, form)
        return None if made is None else torch_like(made)

    monkeypatch.setattr(device, "_along", still_there)
    return torch_like


def check(one, wanted):
    assert (one is None) == (wanted is None)
    if one is not None:
        torch.testing.assert_close(one.as_subclass(torch.Tensor), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CALLS)
def test_calls(name, on_gpu):
    call, of_weight = CALLS[name]
    expected = made(call, of_weight, lambda tensor: tensor.clone())
    there = made(call, of_weight, lambda tensor: on_gpu(tensor.clone()))
    for one, wanted in zip(there, expected, strict=True):
        check(one, wanted)


@pytest.mark.parametrize("stored", [False, True])
def test_kernels_of_the_registered_operators(stored, on_gpu):
    torch.manual_seed(0)
    x, grad, w, mean, var = torch.randn(X), torch.randn(X), torch.randn(6, 1), torch.randn(6, 1), torch.rand(6, 1)
    given, rule = ((mean, var) if stored else (None, None)), ([0, 2], 1e-5, True, 0, False)
    if stored:
        given = mean.reshape(6).double(), var.reshape(6).double()
    expected = operators._norm(x, w, w, *given, *rule)
    there = operators._norm(*(None if t is None else on_gpu(t) for t in (x, w, w, *given)), *rule)
    for one, wanted in zip(there, expected, strict=True):
        check(one, wanted)
    states = (None, None) if stored else expected[1:]
    expected = operators._norm_backward(grad, x, w, *given, *states, *rule)
    there = operators._norm_backward(*(None if t is None else on_gpu(t) for t in (grad, x, w, *given, *states)), *rule)
    for one, wanted in zip(there, expected, strict=True):
        check(one, wanted)


def test_no_gradients(on_gpu):
    x = torch.randn(X)
    for _ in range(2):  # the second call is a known one
        check(F.layer_norm(on_gpu(x), LAYER), F.layer_norm(x, LAYER))


def test_operators_have_kernels_for_cuda():
    for name in ("norm", "norm_backward"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"numbanorm::{name}", "CUDA")


@pytest.mark.parametrize("place", ["cuda", "xpu"])
def test_convert_swaps_what_lies_on_cuda(place, gpu, monkeypatch):
    norm = torch.nn.LayerNorm(4)
    model = torch.nn.Sequential(norm)
    device = torch.device(place, 0)
    monkeypatch.setattr(norm, "parameters", lambda: iter([SimpleNamespace(device=device)]))
    said = convert(model)
    assert bool(said.swapped) == (place == "cuda")
    if place == "xpu":
        assert "CPU and on CUDA" in str(said)


def test_convert_leaves_what_no_kernel_reaches(monkeypatch):
    from numbanorm.torch import swap

    norm = torch.nn.LayerNorm(4)
    monkeypatch.setattr(norm, "parameters", lambda: iter([SimpleNamespace(device=torch.device("cuda", 0))]))
    monkeypatch.setattr(swap, "why_no_cuda", lambda: ImportError("which needs the package numba-cuda"))
    said = convert(torch.nn.Sequential(norm))
    assert not said.swapped
    assert "numba-cuda" in str(said)
