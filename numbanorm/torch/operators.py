"""Two operators of torch's registry, for whoever looks at operators and not at memory: compilers, exporters, tracers.

`numbanorm::norm` takes a tensor whose axes are split (`norm.Form.apart`), reduces those in `dims`, and gives output,
mean and m2; by stored statistics there are no states, and the last two are empty. `numbanorm::norm_backward` goes back.
Both are closed under `torch.vmap`: a batch is one more axis, which is kept.
"""

from __future__ import annotations

from typing import Any

import torch

from . import composed, kernels
from .norm import Rule

_RULE = "int[] dims, float eps, bool center, int ddof, bool eps_on_std"
LIBRARY = torch.library.Library("numbanorm", "DEF")
LIBRARY.define(
    f"norm(Tensor x, Tensor? weight, Tensor? bias, Tensor? mean, Tensor? var, {_RULE}) -> (Tensor, Tensor, Tensor)"
)
LIBRARY.define(
    "norm_backward(Tensor grad, Tensor x, Tensor? weight, Tensor? mean, Tensor? var, Tensor? states_mean, "
    f"Tensor? states_m2, {_RULE}) -> (Tensor, Tensor, Tensor)"
)


def _norm(x: Any, weight: Any, bias: Any, mean: Any, var: Any, dims: Any, *rule: Any) -> tuple[Any, Any, Any]:
    form, out = kernels.reducing(tuple(dims)), torch.empty_like(x)
    stored = None if mean is None else (mean, var)
    _, *states = kernels.forward(x, weight, bias, form, Rule(*rule), stored, keep=stored is None, out=out)
    return out, *(_filled(kernels.tensor_of(one)) for one in states)


def _norm_backward(
    grad: Any, x: Any, weight: Any, mean: Any, var: Any, first: Any, second: Any, dims: Any, *rule: Any
) -> tuple[Any, Any, Any]:
    stored = None if mean is None else (mean, var)
    states = None
    if first is not None:
        states = first.contiguous(), second.contiguous()  # vmap expands them
        states = tuple(one.numpy() for one in states) if x.is_cpu else states
    made = kernels.backward(grad, x, weight, kernels.reducing(tuple(dims)), Rule(*rule), stored, states)
    like = torch.empty_like(x)
    if made[0].stride() != like.stride():
        made = like.copy_(made[0]), *made[1:]
    return made[0], *(_filled(one, x.dtype) for one in made[1:])


def _filled(tensor: Any, dtype: Any = torch.float64) -> Any:
    """A tensor in the place of None, which operators do not return."""
    return torch.empty(0, dtype=dtype) if tensor is None else tensor


def _fake_norm(x: Any, weight: Any, bias: Any, mean: Any, var: Any, dims: Any, *rule: Any) -> tuple[Any, Any, Any]:
    kept = [size for axis, size in enumerate(x.shape) if axis not in dims]
    shape = kept if mean is None else [0]
    return torch.empty_like(x), *(x.new_empty(shape, dtype=torch.float64) for _ in range(2))


def _fake_norm_backward(grad: Any, x: Any, weight: Any, *others: Any) -> tuple[Any, Any, Any]:
    if weight is None:
        return torch.empty_like(x), x.new_empty([0]), x.new_empty([0])
    return torch.empty_like(x), *(weight.new_empty(weight.shape) for _ in range(2))


for _name, _kernel, _fake in (
    ("norm", _norm, _fake_norm),
    ("norm_backward", _norm_backward, _fake_norm_backward),
):
    for _place in ("CPU", "CUDA"):
        LIBRARY.impl(_name, _kernel, _place)
    torch.library.register_fake(f"numbanorm::{_name}", _fake, lib=LIBRARY)

norm: Any = torch.ops.numbanorm.norm.default
norm_backward: Any = torch.ops.numbanorm.norm_backward.default


# backward -------------------------------------------------------------------------------------------------------------


def _remember(ctx: Any, inputs: Any, output: Any) -> None:
    """What goes back through `norm` wants: x, weight, stored statistics or states."""
    x, weight, bias, mean, var, *ctx.rule = inputs
    _, first, second = output
    ctx.mark_non_differentiable(first, second)
    ctx.bias = None if bias is None else (bias.shape, bias.dtype)
    states = (first, second) if mean is None else (None, None)
    ctx.save_for_backward(x, weight, mean, var, *states)


def _back(ctx: Any, grad: Any, *_: Any) -> tuple[Any, ...]:
    return _gradients(norm_backward, ctx, grad)


def _gradients(operator: Any, ctx: Any, grad: Any) -> tuple[Any, ...]:
    """Gradients of all that `norm` takes."""
    x, weight, *others = ctx.saved_tensors
    dx, dweight, dbias = operator(grad, x, weight, *others, *ctx.rule)
    of_weight = None if weight is None else dweight
    of_bias = None
    if ctx.bias is not None:
        shape, dtype = ctx.bias
        same = weight is not None and weight.shape == shape
        of_bias = (dbias if same else grad.sum_to_size(shape)).to(dtype)
    return dx, of_weight, of_bias, None, None, *(None for _ in ctx.rule)


def _remember_backward(ctx: Any, inputs: Any, output: Any) -> None:
    grad, x, weight, mean, var, _, _, *ctx.rule = inputs
    ctx.save_for_backward(grad, x, weight, mean, var)


def _twice_back(ctx: Any, *grads: Any) -> tuple[Any, ...]:
    """Derivatives of gradients, which torch takes of the formula composed of its own operations."""
    grad, x, weight, mean, var = ctx.saved_tensors
    dims, rule, stored = tuple(ctx.rule[0]), Rule(*ctx.rule[1:]), None if mean is None else (mean, var)

    def first(*inputs: Any) -> Any:
        dy, values, *scale = inputs
        made = composed.backward(dy, values, scale[0] if scale else None, stored, dims, rule)
        return made if scale else made[:1]

    inputs = (grad, x) if weight is None else (grad, x, weight)
    of_all = torch.func.vjp(first, *inputs)[1](grads[:1] if weight is None else grads)
    return *of_all, *(None for _ in range(7 - len(of_all))), *(None for _ in ctx.rule)


torch.library.register_autograd("numbanorm::norm", _back, setup_context=_remember, lib=LIBRARY)
torch.library.register_autograd("numbanorm::norm_backward", _twice_back, setup_context=_remember_backward, lib=LIBRARY)


# vmap -----------------------------------------------------------------------------------------------------------------


def _batched(tensor: Any, at: int | None, size: int, ndim: int | None = None) -> Any:
    """A tensor with its batch in front, and as many axes behind it as x has, if it is to broadcast."""
    if tensor is None:
        return None
    tensor = tensor.expand(size, *tensor.shape) if at is None else tensor.movedim(at, 0)
    missing = 0 if ndim is None else ndim - (tensor.dim() - 1)
    return tensor.reshape(size, *(1,) * missing, *tensor.shape[1:]) if missing > 0 else tensor


def _vmap_norm(operator: Any, info: Any, at: Any, *inputs: Any) -> tuple[Any, Any]:
    x, weight, bias, mean, var, dims, *rule = inputs
    size, ndim = info.batch_size, x.dim() - (at[0] is not None)
    x = _batched(x, at[0], size)
    # What has no batch broadcasts as it is: its axes are counted from the end.
    scale, shift = (
        p if p is None or a is None else _batched(p, a, size, ndim) for p, a in ((weight, at[1]), (bias, at[2]))
    )
    stored = (_batched(mean, at[3], size), _batched(var, at[4], size))
    made = operator(x, scale, shift, *stored, [axis + 1 for axis in dims], *rule)
    return made, (0, *((0, 0) if mean is None else (None, None)))


def _vmap_norm_backward(operator: Any, info: Any, at: Any, *inputs: Any) -> tuple[Any, Any]:
    grad, x, weight, *statistics, dims = inputs[:8]
    size, ndim = info.batch_size, x.dim() - (at[1] is not None)
    grad, x = _batched(grad, at[0], size), _batched(x, at[1], size)
    scale = _batched(weight, at[2], size, ndim)
    others = [_batched(one, a, size) for one, a in zip(statistics, at[3:7], strict=True)]
    dx, *more = operator(grad, x, scale, *others, [axis + 1 for axis in dims], *inputs[8:])
    if weight is None:
        return (dx, *more), (0, None, None)
    shape = weight.shape if at[2] is None else weight.movedim(at[2], 0).shape[1:]
    return (dx, *(one.reshape(size, *shape) for one in more)), (0, 0, 0)


torch.library.register_vmap("numbanorm::norm", lambda *of: _vmap_norm(norm, *of), lib=LIBRARY)
torch.library.register_vmap(
    "numbanorm::norm_backward", lambda *of: _vmap_norm_backward(norm_backward, *of), lib=LIBRARY
)


# The same for transforms of torch.func, which do not go through what is registered with the operators.


class Backward(torch.autograd.Function):
    """`norm_backward`, differentiable."""

    @staticmethod
    def forward(*inputs: Any) -> Any:
        """Call the operator."""
        return norm_backward(*inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep what its own derivatives want."""
        _remember_backward(ctx, inputs, output)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Composed of torch's operations."""
        return _twice_back(ctx, *grads)

    @staticmethod
    def vmap(info: Any, at: Any, *inputs: Any) -> Any:
        """Keep one more axis."""
        return _vmap_norm_backward(Backward.apply, info, at, *inputs)


class Norm(torch.autograd.Function):
    """`norm`, differentiable."""

    @staticmethod
    def forward(*inputs: Any) -> Any:
        """Call the operator."""
        return norm(*inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep what its gradients want."""
        _remember(ctx, inputs, output)

    @staticmethod
    def backward(ctx: Any, grad: Any, *_: Any) -> Any:
        """Call the other operator."""
        return _gradients(Backward.apply, ctx, grad)

    @staticmethod
    def vmap(info: Any, at: Any, *inputs: Any) -> Any:
        """Keep one more axis."""
        return _vmap_norm(Norm.apply, info, at, *inputs)
