"""The way that a call takes: straight to the kernels where it can, through torch's registry if somebody looks on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import forward_ad

from . import composed, kernels, operators, short
from .norm import Form, Rule

Running = tuple[Any, Any, float]  # running mean and variance, which are moved, and the momentum

_transforms = torch._C._functorch.peek_interpreter_stack
_all_transforms = torch._C._functorch.get_interpreter_stack
_dispatch_modes = torch._C._len_torch_dispatch_stack
_tracing = torch._C._get_tracing_state
_depth = torch._C._functorch.get_dynamic_layer_stack_depth  # of transforms: one that torch's compiler follows
_FORWARD_MODE = torch._C._functorch.TransformType.Jvp


def normalized(
    x: Any,
    weight: Any,
    bias: Any,
    form: Callable[..., Form],
    known_form: Callable[..., Form],
    settings: tuple[Any, ...],
    rule: Rule,
    stored: kernels.Stored | None = None,
    running: Running | None = None,
    call: Any = None,
) -> Any:
    """Normalize checked tensors: differentiable for x, weight and bias.

    Parameters
    ----------
    x, weight, bias : tensor
        As the caller gave them, of a norm's own shapes.
    form, known_form : function
        What makes a `Form` of `settings`, without a layout and with one.
    rule : Rule
        How statistics are used.
    stored : tuple, optional
        Mean and variance to use in place of x's own.
    running : tuple, optional
        Running statistics to move.
    call : tuple, optional
        What tells this call from others, beside its tensors: for `repeated`, when it comes again.
    """
    if torch.compiler.is_compiling() or not is_plain(x, weight, bias, *(stored or ()), *(running or ())[:2]):
        return _looked_at(x, weight, bias, form(*settings), rule, stored, running)
    known = known_form(*settings)
    if _records(x, weight, bias):
        made = _Eager.apply(x, weight, bias, *(stored or (None, None)), known, rule, running)
    else:
        made = kernels.forward(x, weight, bias, known, rule, stored, running)[0]
    if call is not None and (key := short.key_of(call, x, weight, bias, *(stored or running or (None, None))[:2])):
        short.remember(key, x, weight, bias, stored, known, rule)
    return made


def repeated(
    call: tuple[Any, ...],
    x: Any,
    weight: Any,
    bias: Any,
    eps: Any,
    mean: Any = None,
    var: Any = None,
    share: Any = None,
) -> Any:
    """Repeat a short call that passed all checks: the output; None for any other call, which wants a closer look.

    Parameters
    ----------
    call : tuple
        What tells it from others, beside its tensors.
    x, weight, bias, eps
        As the caller gave them. Without eps, it is what it was.
    mean, var : tensor, optional
        Stored statistics to use; or to move, by `share`.
    """
    if torch.compiler.is_compiling() or not is_plain() or not (eps is None or (type(eps) is float and eps >= 0)):
        return None
    if mean is not None and not _may_use(x, mean, var, share):
        return None
    try:
        found = short.find(short.key_of(call, x, weight, bias, mean, var))
    except TypeError:  # a list, say
        return None
    if found is None:
        return None
    if eps is None:
        eps = found.rule.eps
    try:
        if _records(x, weight, bias):
            return _apply_repeated(x, weight, bias, mean, var, found, eps, share)
        if share is None:
            return found.run(x, weight, bias, mean, var, eps)
        out, states = found.run_kept(x, weight, bias, eps)
        found.move((mean, var, share), states)
        return out
    except short.FreedError:
        return None


def _may_use(x: Any, mean: Any, var: Any, share: Any) -> bool:
    """Whether stored statistics may be used, or moved, by a quick look."""
    if type(x) not in short.PLAIN or type(mean) not in short.PLAIN or type(var) not in short.PLAIN:
        return False
    if mean.requires_grad or var.requires_grad:
        return False
    if share is None:
        return True
    if type(share) is not float or not 0.0 <= share <= 1.0 or (mean.is_inference() or var.is_inference()):
        return False
    (_, a), (b, c), (d, e) = sorted((t.data_ptr(), t.data_ptr() + t.numel() * t.element_size()) for t in (x, mean, var))
    return a <= b and c <= d and b < e


def _records(x: Any, weight: Any, bias: Any) -> bool:
    """Whether autograd follows this call."""
    return torch.is_grad_enabled() and (
        x.requires_grad or (weight is not None and weight.requires_grad) or (bias is not None and bias.requires_grad)
    )


def is_plain(*tensors: Any) -> bool:
    """Whether these are nothing but memory, on the host or a GPU, and nobody follows what is done with it."""
    for tensor in tensors:
        if tensor is not None and (type(tensor) not in short.PLAIN or not (tensor.is_cpu or tensor.is_cuda)):
            return False
    return _transforms() is None and not _dispatch_modes() and forward_ad._current_level < 0 and _tracing() is None


class _Eager(torch.autograd.Function):
    """Plain tensors with gradients, at the least cost: nothing but kernels, unless gradients are differentiated."""

    @staticmethod
    def forward(
        ctx: Any, x: Any, weight: Any, bias: Any, mean: Any, var: Any, form: Form, rule: Rule, running: Any
    ) -> Any:
        stored = None if mean is None else (mean, var)
        out, *states = kernels.forward(x, weight, bias, form, rule, stored, running, keep=stored is None)
        ctx.save_for_backward(x, weight, mean, var)
        ctx.states = states  # arrays of this call alone: nobody writes them
        ctx.form, ctx.rule, ctx.bias = form, rule, None if bias is None else (bias.shape, bias.dtype)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, weight, *stored = ctx.saved_tensors
        made = _gradients(grad, x, weight, ctx.bias, ctx.form, ctx.rule, stored, ctx.states)
        return *made, None, None, None, None, None


class _Repeated(torch.autograd.Function):
    """The same for calls that are known to be short."""

    @staticmethod
    def forward(
        ctx: Any, x: Any, weight: Any, bias: Any, mean: Any, var: Any, call: short.Call, eps: float, share: Any
    ) -> Any:
        ctx.call, ctx.eps, ctx.bias = call, eps, None if bias is None else (bias.shape, bias.dtype)
        if mean is not None and share is None:
            ctx.save_for_backward(x, weight, mean, var)
            return call.run(x, weight, bias, mean, var, eps)
        out, ctx.states = call.run_kept(x, weight, bias, eps)
        if share is not None:
            call.move((mean, var, share), ctx.states)
        ctx.save_for_backward(x, weight)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, weight, *stored = ctx.saved_tensors
        call, eps = ctx.call, ctx.eps
        if not stored and not torch.is_grad_enabled() and is_plain(grad, x, weight):
            made = call.back(grad, x, weight, ctx.bias, ctx.states, eps)
            if made is not None:
                return *made, None, None, None, None, None
        states, stored = (None, stored) if stored else (ctx.states[1:], (None, None))
        made = _gradients(grad, x, weight, ctx.bias, call.form, call.rule._replace(eps=eps), stored, states)
        return *made, None, None, None, None, None


_apply_repeated = super(torch.autograd.Function, _Repeated).apply  # without a look at transforms: there are none


def _gradients(
    grad: Any, x: Any, weight: Any, bias: Any, form: Form, rule: Rule, stored: Any, states: Any
) -> tuple[Any, Any, Any]:
    """Gradients of x, weight and bias, of which shape and dtype are given."""
    mean, var = stored
    stored = None if mean is None else (mean, var)
    if torch.is_grad_enabled() or not is_plain(grad, x, weight, mean, var):
        made = _differentiable(grad, x, weight, form, rule, stored)
    else:
        made = kernels.backward(grad, x, weight, form, rule, stored, None if stored else states)
    dx, dweight, dbias = made
    if bias is None:
        return dx, dweight, None
    shape, dtype = bias
    if weight is None or weight.shape != shape:
        dbias = _sum_along(grad, shape, form)
    return dx, dweight, dbias if dbias.dtype == dtype else dbias.to(dtype)


def _differentiable(grad: Any, x: Any, weight: Any, form: Form, rule: Rule, stored: Any) -> Any:
    """Gradients that have gradients of their own."""
    ndim = x.dim()
    scale = form.spread(weight, ndim)
    statistics = (stored or (None, None)) + (None, None)
    settings = (list(form.dims), *rule)
    dx, dweight, dbias = operators.Backward.apply(form.apart(grad), form.apart(x), scale, *statistics, *settings)
    if weight is None:
        return form.together(dx), None, None
    return form.together(dx), dweight.reshape(weight.shape), dbias.reshape(weight.shape)


def _sum_along(grad: Any, shape: Any, form: Form) -> Any:
    """The gradient of a bias without a weight, or of another shape."""
    if form.along is None:
        return grad.sum_to_size(shape)
    return grad.sum_to_size((*shape, *form.along[1:])).reshape(shape)


def _looked_at(x: Any, weight: Any, bias: Any, form: Form, rule: Rule, stored: Any, running: Running | None) -> Any:
    """By torch's registry of operators; within transforms that do not take these, by torch's own operations."""
    ndim, dims = x.dim(), form.dims
    apart, scale, shift = form.apart(x), form.spread(weight, ndim), form.spread(bias, ndim)
    # Transforms that are compiled find no gradient of an operator, and would drop that of an autograd.Function.
    if _depth() if torch.compiler.is_compiling() else _takes_tangents():
        if running is not None:
            with torch.no_grad():
                _move_by(running, *_states_of(apart, dims), form, apart)
        return form.together(composed.forward(apart, scale, shift, stored, dims, rule))
    inside = not torch.compiler.is_compiling() and _transforms() is not None
    operator = operators.Norm.apply if inside else operators.norm
    out, mean, m2 = operator(apart, scale, shift, *(stored or (None, None)), list(dims), *rule)
    if running is not None:
        with torch.no_grad():
            _move_by(running, mean, m2, form, apart)
    return form.together(out)


def _takes_tangents() -> bool:
    """Whether forward-mode differentiation goes on, in eager mode or as a transform."""
    if forward_ad._current_level >= 0:
        return True
    stack = _all_transforms() if _transforms() is not None else None
    return any(one.key() == _FORWARD_MODE for one in stack or ())


def _states_of(x: Any, dims: tuple[int, ...]) -> tuple[Any, Any]:
    """Mean and m2, by torch's own operations."""
    values = x.detach().double()
    return values.mean(dims), values.var(dims, correction=0) * _values(x, dims)


def _values(x: Any, dims: tuple[int, ...]) -> Any:
    """How many values a group has."""
    count = 1
    for axis in dims:
        count = count * x.shape[axis]
    return count


def _move_by(running: Running, mean: Any, m2: Any, form: Form, x: Any) -> None:
    """Move running statistics, as `numbanorm.batch_norm` does; by the mean over samples of their own."""
    var = m2 / (_values(x, form.dims) - 1)
    if mean.dim() == 2:
        mean, var = mean.mean(0), var.mean(0)
    move(running, mean, var)


def move(running: Running, mean: Any, var: Any) -> None:
    """Move running statistics in place towards mean and unbiased variance."""
    old_mean, old_var, momentum = running
    for old, new in ((old_mean, mean), (old_var, var)):
        old.copy_((1 - momentum) * old.double() + momentum * new)
