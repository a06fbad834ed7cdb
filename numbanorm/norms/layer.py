"""Norms of the last axes: every sample and position by itself."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from ..arrays.annotations import AnyArray, ArrayLike, like_x
from ..arrays.forms import result_dtype
from ..arrays.memory import Array
from ..arrays.take import view
from ..call.known import normalized
from ..call.run import Prepared
from ..layout import Layout, as_int
from .channels import shape_of


@like_x
def layer_norm(
    x: ArrayLike,
    normalized_shape: int | Sequence[int],
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    out: AnyArray | None = None,
) -> AnyArray:
    """Layer normalization: the last axes by their statistics, every sample and position by itself.

    Parameters
    ----------
    x : array_like
        Its last axes have the shape `normalized_shape`.
    normalized_shape : int or sequence of int
        Shape of what is normalized together.
    weight, bias : array_like, optional
        Scale and shift of shape `normalized_shape`.
    eps : float
        Added to the variance.
    out : array, optional
        Where to write the result; x itself to work in place.

    Returns
    -------
    array
        As x.

    Raises
    ------
    ValueError
        If x does not end in `normalized_shape`, weight or bias has another shape, or eps is negative.
    TypeError
        If an array is of a kind or dtype that is not supported.

    Notes
    -----
    J. L. Ba, J. R. Kiros and G. E. Hinton, arXiv:1607.06450.

    Examples
    --------
    >>> import numbanorm as nbn
    >>> import numpy as np
    >>> nbn.layer_norm(np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 60.0]]), 3).round(3)
    array([[-1.225,  0.   ,  1.225],
           [-0.926, -0.463,  1.389]])
    """
    return normalized(x, weight, bias, eps, out, _last_axes, _items(normalized_shape))


@like_x
def rms_norm(
    x: ArrayLike,
    normalized_shape: int | Sequence[int],
    weight: ArrayLike | None = None,
    eps: float | None = None,
    *,
    out: AnyArray | None = None,
) -> AnyArray:
    """Root mean square normalization: x / sqrt(mean(x**2) + eps) * weight over the last axes.

    Parameters
    ----------
    x : array_like
        Its last axes have the shape `normalized_shape`.
    normalized_shape : int or sequence of int
        Shape of what is normalized together.
    weight : array_like, optional
        Scale of shape `normalized_shape`.
    eps : float, optional
        Added to the mean square; by default the machine epsilon of x's dtype, as in torch.
    out : array, optional
        Where to write the result; x itself to work in place.

    Returns
    -------
    array
        As x.

    Raises
    ------
    ValueError
        If x does not end in `normalized_shape`, weight has another shape, or eps is negative.
    TypeError
        If an array is of a kind or dtype that is not supported.

    Notes
    -----
    B. Zhang and R. Sennrich, arXiv:1910.07467.

    Examples
    --------
    >>> import numbanorm as nbn
    >>> import numpy as np
    >>> nbn.rms_norm(np.array([[3.0, 4.0, 0.0, 0.0]]), 4).round(3)
    array([[1.2, 1.6, 0. , 0. ]])
    """
    if eps is None:
        eps = _default_eps(x)
    return normalized(x, weight, None, eps, out, _last_axes_about_zero, _items(normalized_shape))


def _items(normalized_shape: Any) -> tuple[Any, ...]:
    """The sizes that a caller gives, as one number or several."""
    return (normalized_shape,) if hasattr(normalized_shape, "__index__") else tuple(normalized_shape)


def _last_axes(x: Any, weight: Any, bias: Any, *sizes: Any) -> Prepared:
    """The layout of the last axes, and weight and bias checked against their shape."""
    sizes = tuple(as_int(n, "normalized_shape") for n in sizes)
    shape = shape_of(x)
    if not sizes:
        raise ValueError(f"normalized_shape is empty; x has shape {shape}, give at least its last axis")
    if len(shape) < len(sizes) or shape[len(shape) - len(sizes) :] != sizes:
        raise ValueError(f"normalized_shape={sizes} is not the end of x's shape {shape}; pass its last axes")
    checked: list[Array | None] = []
    for value, name in ((weight, "weight"), (bias, "bias")):
        array = None if value is None else view(value, name)
        if array is not None and array.shape != sizes:
            raise ValueError(f"{name} has shape {array.shape}, but normalized_shape is {sizes}; pass that shape")
        checked.append(array)
    return Prepared(Layout.layer(len(sizes)), checked[0], checked[1])


def _last_axes_about_zero(x: Any, weight: Any, bias: Any, *sizes: Any) -> Prepared:
    """The same, without a mean."""
    return _last_axes(x, weight, bias, *sizes)._replace(center=False)


_eps_of: dict[Any, float] = {}  # by dtype, of any library


def _default_eps(x: Any) -> float:
    """Machine epsilon of the result for x."""
    try:
        return _eps_of[x.dtype]
    except (AttributeError, KeyError, TypeError):
        eps = _smallest_step(result_dtype(view(x).dtype))
    with suppress(AttributeError, TypeError):
        _eps_of[x.dtype] = eps
    return eps


def _smallest_step(dtype: np.dtype) -> float:
    return 2.0**-7 if dtype.name == "bfloat16" else float(np.finfo(dtype).eps)
