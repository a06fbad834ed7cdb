"""Calls of numbanorm's kernels on the memory of tensors: no gradients are recorded here."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch

from ..arrays.torch import count_version, from_torch
from ..call.backward import Operands, cast, go_backward, run_backward
from ..call.kept import normalized_kept
from ..call.known import normalized
from ..call.run import Prepared
from ..call.running import Running
from ..layout import Layout
from ..norms.channels import Shape
from ..norms.running import take_running
from .norm import Form, Rule

Stored = tuple[Any, Any]  # mean and variance that do not depend on x
_DTYPES = {  # that both have
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.float16: np.float16,
    torch.int64: np.int64,
}


def forward(
    x: Any,
    weight: Any,
    bias: Any,
    form: Form,
    rule: Rule,
    stored: Stored | None = None,
    running: tuple[Any, Any, float] | None = None,
    keep: bool = False,
    out: Any = None,
) -> tuple[Any, Any, Any]:
    """The output, and if `keep` mean and m2 of every group: ndarrays, or tensors on a GPU. Moves running statistics."""
    if not x.is_cpu:
        return _on_gpu().forward(x, weight, bias, form, rule, stored, running, keep, out)
    if out is None and not x.is_contiguous():  # of a tensor with gaps, torch and NumPy make different orders
        out = torch.empty_like(x)
    settings = form.layout, int(rule.center), rule.ddof, int(rule.eps_on_std), form.channels
    along, target = form.along, None if out is None else array_of(out)
    operands = (array_of(x), parameter_of(weight, along), parameter_of(bias, along), rule.eps, target)
    mean = m2 = None
    if stored is not None:
        statistics = (*(array_of(one) for one in stored), 0.1, None)
        made = normalized(*operands, _by_stored, settings, statistics)
    elif running is not None:
        moved = array_of(running[0]), array_of(running[1]), running[2]
        if keep:
            made, mean, m2 = normalized_kept(*operands, _own, settings, moved)
        else:
            made = normalized(*operands, _own, settings, (*moved, None))
        for one in running[:2]:
            count_version()(one)
    elif keep:
        made, mean, m2 = normalized_kept(*operands, _own, settings)
    else:
        made = normalized(*operands, _own_alone, settings)
    return (tensor_of(made) if out is None else out), mean, m2


def backward(
    grad: Any,
    x: Any,
    weight: Any,
    form: Form,
    rule: Rule,
    stored: Stored | None = None,
    states: tuple[Any, Any] | None = None,
) -> tuple[Any, Any, Any]:
    """Gradients of x, weight, and a bias of the weight's shape; None for these without a weight.

    Parameters
    ----------
    grad, x, weight, form, rule, stored
        As the forward call had them.
    states : tuple, optional
        Mean and m2, as the forward call gave them; else they are made again.
    """
    if not x.is_cpu:
        return _on_gpu().backward(grad, x, weight, form, rule, stored, states)
    values, scale = array_of(x), parameter_of(weight, form.along)
    taken = Operands(array_of(grad), values, "torch")
    ours = Prepared(form.layout, scale, None, None, rule.center, rule.ddof, rule.eps_on_std)
    if states is not None:
        mean = states[0]
        statistics = _count(mean.shape, values.size // mean.size if mean.size else 0), *states
        dx, *more = run_backward(taken, ours, statistics, rule.eps)
    else:
        given = None if stored is None else (None, *(array_of(one) for one in stored))
        dx, *more = go_backward(taken, ours, given, rule.eps, stored is None)
    if weight is None:
        return tensor_of(dx), None, None
    return tensor_of(dx), *(total_of(one, weight.shape, weight.dtype) for one in more)


def _on_gpu() -> Any:
    from . import on_gpu

    return on_gpu


def _own_alone(x: Any, weight: Any, bias: Any, *settings: Any) -> Prepared:
    """By the statistics of x."""
    layout, center, ddof, eps_on_std, _ = settings
    return Prepared(layout, weight, bias, None, bool(center), ddof, bool(eps_on_std))


def _own(x: Any, weight: Any, bias: Any, running: Any, *settings: Any) -> Prepared:
    """The same, towards which running statistics move if there are any."""
    if running is None:
        return _own_alone(x, weight, bias, *settings)
    running = (*running, None) if len(running) == 3 else running
    taken = take_running(x, running, Shape.of(x.shape, settings[-1]), update=True)
    return _own_alone(x, weight, bias, *settings)._replace(running=taken)


def _by_stored(x: Any, weight: Any, bias: Any, running: Any, *settings: Any) -> Prepared:
    """By given mean and variance."""
    taken = Running(running[0], running[1], None, False)
    return _own_alone(x, weight, bias, *settings)._replace(running=taken)


@lru_cache(maxsize=256)
def _count(shape: tuple[int, ...], size: int) -> Any:
    """How many values each group has; read only."""
    return np.full(shape, float(size))


def array_of(x: Any) -> Any:
    """The memory of a tensor, as NumPy sees it."""
    if x.dtype in _DTYPES and not x.is_neg():
        if not x.data_ptr() and x.numel():  # NumPy would make an array of its own
            raise RuntimeError(
                "The tensor has a non-zero number of elements, but its data is not allocated: its storage was freed"
            )
        return x.numpy()
    return from_torch(x, "x")


def tensor_of(array: Any) -> Any:
    """A tensor of an array's memory; or what is one."""
    if array is None or isinstance(array, torch.Tensor):
        return array
    if array.dtype.kind == "V":  # bfloat16; its name would take longer
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def parameter_of(parameter: Any, along: Any) -> Any:
    """Weight or bias, in a shape that broadcasts."""
    if parameter is None:
        return None
    array = array_of(parameter)
    return array if along is None else array.reshape(along)


def total_of(sums: Any, shape: Any, dtype: Any) -> Any:
    """Sums in float64, in a parameter's shape and dtype."""
    own = _DTYPES.get(dtype)
    if own is None:  # bfloat16
        made = torch.from_numpy(np.ascontiguousarray(sums)).to(dtype)
    else:
        made = torch.from_numpy(np.ascontiguousarray(cast(sums, own)))
    return made if made.shape == shape else made.reshape(shape)


@lru_cache(maxsize=1024)
def reducing(dims: tuple[int, ...]) -> Form:
    """The form of a norm whose axes are split already: see `Form.apart`."""
    return Form(Layout.axes(dims), (), dims, None)
