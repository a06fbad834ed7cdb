"""Outputs and gradients of numbanorm.torch.functional beside torch.nn.functional, in eager mode."""

import pytest

torch = pytest.importorskip("torch")

import norms_of_torch as cases  # noqa: E402
from everyday import exhaustive  # noqa: E402
from norms_of_torch import AFFINE, NORMS, arguments, check_close, numbers, outcome  # noqa: E402
from torch.autograd import gradcheck, gradgradcheck  # noqa: E402
from torch.nn import functional as theirs  # noqa: E402

from numbanorm.torch import functional as ours  # noqa: E402

ORDERS = [torch.contiguous_format, torch.channels_last]


def everything(test):
    test = pytest.mark.parametrize("order", ORDERS, ids=["first", "last"])(test)
    return pytest.mark.parametrize("affine", AFFINE)(pytest.mark.parametrize("name", NORMS)(test))


@everything
def test_outputs_and_gradients_are_torchs(name, affine, order):
    given = arguments(name, affine, memory_format=order)
    check_close(outcome(NORMS[name][0], given), outcome(NORMS[name][1], given), rtol=1e-9, atol=1e-11)


# Bounds of batch renormalization are constants for gradients, so these are not the output's.
@pytest.mark.parametrize("fast", [True, pytest.param(False, marks=pytest.mark.exhaustive)], ids=["projected", "whole"])
@pytest.mark.parametrize("order", ORDERS, ids=["first", "last"])
@pytest.mark.parametrize("affine", AFFINE)
@pytest.mark.parametrize("name", [name for name in NORMS if name != "batch renorm"])
def test_derivatives_are_those_of_the_output(name, affine, order, fast):
    given = [None if a is None else a.requires_grad_() for a in arguments(name, affine, memory_format=order)]
    assert gradcheck(NORMS[name][0], given, fast_mode=fast)
    assert gradgradcheck(NORMS[name][0], given, fast_mode=fast)


@pytest.mark.parametrize("name", NORMS)
def test_second_derivatives_are_torchs(name):
    def second(norm):
        leaves = [one.requires_grad_() for one in arguments(name) if one is not None]
        y = norm(*leaves)
        first = torch.autograd.grad(y, leaves, numbers(*y.shape, seed=9), create_graph=True)
        loss = sum((one * numbers(*one.shape, seed=5)).sum() for one in first)
        return torch.autograd.grad(loss, leaves[:2])

    check_close(second(NORMS[name][0]), second(NORMS[name][1]), rtol=1e-8, atol=1e-10)


def test_third_derivatives_are_those_of_the_definition():
    """Those of torch's own layer norm are not."""

    def defined(x):
        return (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()

    def third(norm):
        x = arguments("layer")[0].requires_grad_()
        value = norm(x).pow(3).sum()
        for _ in range(3):
            (slope,) = torch.autograd.grad(value, x, create_graph=True)
            value = (slope * numbers(*slope.shape, seed=5)).sum()
        return (slope.detach(),)

    check_close(third(NORMS["layer"][0]), third(defined), rtol=1e-7, atol=1e-9)


EVERYDAY = {(name, torch.float32) for name in NORMS} | {("layer", torch.bfloat16), ("group", torch.bfloat16)}
NARROW = [
    pytest.param(name, dtype, marks=() if (name, dtype) in EVERYDAY else exhaustive)
    for name in NORMS
    for dtype in (torch.float32, torch.bfloat16, torch.float16)
]


@pytest.mark.parametrize(("name", "dtype"), NARROW)
def test_narrow_dtypes_with_parameters_of_float32(name, dtype):
    given = arguments(name, dtype=dtype, parameters=torch.float32)
    exact = [None if one is None else one.double() for one in given]
    found = outcome(NORMS[name][0], given, numbers(*cases.SHAPE, seed=9, dtype=dtype))
    expected = outcome(NORMS[name][1], exact, numbers(*cases.SHAPE, seed=9, dtype=dtype).double())
    of = [dtype, *(one.dtype for one in given if one is not None)]
    assert [one.dtype for one in found] == of
    unit = torch.finfo(dtype).eps
    for one, other in zip(found, expected, strict=True):
        # Gradients of parameters are sums of 18 products, which cancel.
        torch.testing.assert_close(one.double(), other, rtol=2 * unit, atol=(4 if one.dim() == 4 else 16) * unit)


@pytest.mark.parametrize("name", ["layer", "batch", "group"])
def test_statistics_keep_their_digits_far_from_zero(name):
    """float32 with a mean a thousand times the deviation: torch, which rounds statistics, loses three digits."""
    given = arguments(name, dtype=torch.float32)
    given[0] = (given[0] + 1000.0).detach()
    found, expected = outcome(NORMS[name][0], given), outcome(NORMS[name][1], [one.double() for one in given])
    for one, other in zip(found[1:], expected[1:], strict=True):
        assert (one - other).abs().max() <= 8 * 2**-24 * other.abs().max()


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("grad", [False, True])
def test_memory_formats_are_kept(name, grad):
    x, *others = arguments(name, dtype=torch.float32)
    for one in (
        x,
        x.contiguous(memory_format=torch.channels_last),
        x.transpose(0, 3).contiguous().transpose(0, 3),
        numbers(*cases.SHAPE[:3], 6, dtype=torch.float32)[..., ::2],
        numbers(1, *cases.SHAPE[1:], dtype=torch.float32).expand(cases.SHAPE),
    ):
        leaf = one.detach().requires_grad_(grad)
        y = NORMS[name][0](leaf, *others)
        assert y.stride() == torch.empty_like(one).stride()
        torch.testing.assert_close(y, NORMS[name][1](one, *others), rtol=1e-4, atol=1e-5)
        if grad:
            y.backward(torch.ones(()).expand(y.shape))
            assert leaf.grad.shape == one.shape


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3), (2, 4, 3, 3), (2, 4, 2, 3, 2)])
def test_running_statistics_move_as_torchs(shape, grad):
    x = numbers(*shape, dtype=torch.float32).requires_grad_(grad)
    for one, other, least in ((ours.batch_norm, theirs.batch_norm, 2), (ours.instance_norm, theirs.instance_norm, 3)):
        if len(shape) < least:
            continue
        found, expected = (tuple(a.float() for a in cases.stored()) for _ in range(2))
        y, t = one(x, *found, None, None, True, 0.3), other(x, *expected, None, None, True, 0.3)
        torch.testing.assert_close(y, t)
        check_close(found, expected)


def test_moved_statistics_count_as_written():
    """An evaluation that was recorded before cannot go back with other statistics."""
    x, mean, var = numbers(4, 3).requires_grad_(), torch.zeros(3).double(), torch.ones(3).double()
    y = ours.batch_norm(x, mean, var)
    ours.batch_norm(x, mean, var, training=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("written", ["input", "weight", "bias", "output"])
@pytest.mark.parametrize("name", [name for name in NORMS if name not in ("rms", "batch-instance")])
def test_what_was_saved_may_not_be_written_and_all_else_may(name, written):
    """As torch's: bias and output are not needed to go back; of the weight of batch renormalization, its product is."""
    given = [one.requires_grad_() for one in arguments(name)]
    places = dict(zip(("input", "weight", "bias"), (one * 1.0 for one in given), strict=True))
    places["output"] = NORMS[name][0](*places.values())
    places[written].mul_(2.0)
    if written == "input" or (written == "weight" and name != "batch renorm"):
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            places["output"].sum().backward()
    else:
        places["output"].sum().backward()


@pytest.mark.parametrize("name", NORMS)
def test_going_back_twice_needs_the_graph(name):
    given = [one.requires_grad_() for one in arguments(name) if one is not None]
    y = NORMS[name][0](*given).square().sum()
    y.backward(retain_graph=True)
    once = given[0].grad.clone()
    y.backward()
    assert torch.equal(given[0].grad, 2 * once)
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


def test_only_what_is_wanted_gets_a_gradient():
    x, weight, bias = numbers(4, 3), numbers(3, seed=1), numbers(3, seed=2).requires_grad_()
    ours.layer_norm(x, (3,), weight, bias).sum().backward()
    assert x.grad is None and weight.grad is None
    assert torch.equal(bias.grad, torch.full((3,), 4.0).double())


def test_without_gradients_nothing_is_recorded():
    x = numbers(4, 3).requires_grad_()
    with torch.no_grad():
        assert not ours.layer_norm(x, (3,)).requires_grad
    with torch.inference_mode():
        assert ours.layer_norm(x, (3,)).is_inference()


@pytest.mark.parametrize("name", NORMS)
def test_autocast_changes_nothing_as_with_torchs(name):
    given = arguments(name, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y = NORMS[name][0](*given)
    assert y.dtype == torch.float32
    assert torch.equal(y, NORMS[name][0](*given))


def test_empty_batches():
    assert ours.layer_norm(torch.zeros(0, 3), (3,)).shape == (0, 3)
    x, weight = torch.zeros(0, 3, requires_grad=True), torch.ones(3, requires_grad=True)
    mean, var = torch.zeros(3), torch.ones(3)
    ours.batch_norm(x, mean, var, weight, training=True).sum().backward()
    assert torch.equal(weight.grad, torch.zeros(3)) and torch.equal(mean, torch.zeros(3))


def test_gradients_of_subclasses_are_of_the_subclass():
    class Named(torch.Tensor):
        pass

    x = numbers(4, 3).as_subclass(Named)
    assert type(ours.layer_norm(x, (3,))) is Named


def test_equal_values_have_gradients_of_zero():
    x = torch.ones(2, 4, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(ours.layer_norm(x, (4,), eps=0.0).sum(), x, create_graph=True)
    assert torch.equal(first, torch.zeros_like(x))
    (second,) = torch.autograd.grad(first.square().sum(), x)
    assert torch.equal(second, torch.zeros_like(x))
