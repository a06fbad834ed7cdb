"""The same norms composed of torch's own operations, in float64: what derivatives beyond the first are made of.

`tests/torch` holds the kernels to this, and this to torch. Every axis in `dims` is reduced; weight, bias and stored
statistics broadcast as they do for kernels.
"""

from __future__ import annotations

from typing import Any

import torch

from .norm import Rule


def forward(x: Any, weight: Any, bias: Any, stored: Any, dims: tuple[int, ...], rule: Rule) -> Any:
    """The output, in x's dtype: of any number of derivatives, forward and backward."""
    t, _, _ = _standard(x.double(), stored, dims, rule)
    if weight is not None:
        t = t * weight.double()
    if bias is not None:
        t = t + bias.double()
    return t.to(x.dtype)


def backward(
    grad: Any, x: Any, weight: Any, stored: Any, dims: tuple[int, ...], rule: Rule
) -> tuple[Any, Any | None, Any | None]:
    """Gradients of x, weight, and a bias of the weight's shape: see `numbanorm.normalize_backward` for the formula."""
    dy = grad.double()
    t, inverse, curve = _standard(x.double(), stored, dims, rule)
    scaled = dy if weight is None else dy * weight.double()
    dx = scaled * inverse
    if stored is None and dims:
        count = _count(x, dims)
        if rule.center:
            dx = dx - inverse * scaled.mean(dims, keepdim=True)
        dx = dx - curve * t * ((scaled * t).sum(dims, keepdim=True) / (count - rule.ddof))
    if weight is None:
        return dx.to(x.dtype), None, None
    sums = ((dy * t).sum_to_size(weight.shape), dy.sum_to_size(weight.shape))
    return dx.to(x.dtype), *(one.to(weight.dtype) for one in sums)


def _standard(x: Any, stored: Any, dims: tuple[int, ...], rule: Rule) -> tuple[Any, Any, Any]:
    """(x - mean) / std, 1 / std, and how much the deviation gives way for (x - mean) / std: 1 / std without eps."""
    if stored is not None:
        mean, var = (_at(one.double(), dims, x.dim()) for one in stored)
    elif dims:
        mean = x.mean(dims, keepdim=True) if rule.center else 0.0
        var = (x - mean).square().sum(dims, keepdim=True) / (_count(x, dims) - rule.ddof)
    else:  # every element is a group, of which torch's own functions would make one of all
        mean = x if rule.center else 0.0
        var = (x - mean).square()
    if rule.eps_on_std:
        std = _root(var)
        inverse = _inverse(std + rule.eps)
        return (x - mean) * inverse, inverse, _inverse(std)
    inverse = _inverse(_root(var + rule.eps))
    return (x - mean) * inverse, inverse, inverse


def _at(statistic: Any, dims: tuple[int, ...], ndim: int) -> Any:
    """A statistic of every group, to be broadcast against x."""
    kept = [axis for axis in range(ndim) if axis not in dims]
    sizes = dict(zip(kept, statistic.shape, strict=True))
    return statistic.reshape([sizes.get(axis, 1) for axis in range(ndim)])


def _count(x: Any, dims: tuple[int, ...]) -> Any:
    count = 1
    for axis in dims:
        count = count * x.shape[axis]
    return count


def _root(value: Any) -> Any:
    """The square root, of which 0 has no slope: where all values of a group are equal, none comes from there."""
    flat = value == 0
    return torch.where(flat, 0.0, torch.where(flat, 1.0, value).sqrt())


def _inverse(value: Any) -> Any:
    """One over a value; of 0 it is 0."""
    flat = value == 0
    return torch.where(flat, 0.0, 1.0 / torch.where(flat, 1.0, value))
