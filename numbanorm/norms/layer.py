"""Norms of the last axes: every sample and position by itself."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from ..arrays.annotations import AnyArray, ArrayLike, like_x
from ..arrays.forms import result_dtype
from ..arrays.lazy import is_lazy
from ..arrays.memory import Array
from ..arrays.take import shape_of, view
from ..call.known import normalized
from ..call.run import Prepared
from ..layout import Layout, as_int, as_ints, shown
from ..statistics import kept


@like_x
def layer_norm(
    x: ArrayLike,
    normalized_shape: int | Sequence[int],
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    axis: int | Sequence[int] | None = None,
    out: AnyArray | None = None,
    dtype: Any = None,
    return_moments: bool = False,
) -> AnyArray:
    """Layer normalization: the last axes by their statistics, every sample and position by itself.

    Parameters
    ----------
    x : array_like
        Its last axes, or those that `axis` names, have the shape `normalized_shape`.
    normalized_shape : int or sequence of int
        Shape of what is normalized together.
    weight, bias : array_like, optional
        Scale and shift of shape `normalized_shape`.
    eps : float
        Added to the variance.
    axis : int or sequence of int, optional
        Which axes of x are normalized together, in the order of `normalized_shape`; such as 1 for channels that come
        first. By default the last ones.
    out : array, optional
        Where to write the result; x itself to work in place.
    dtype : dtype, optional
        Of the result: any float type. By default x's own, and float64 for integers and booleans.
    return_moments : bool
        Return ``(result, moments)``: the `Moments` of x's own groups, too.

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
    keep = kept(return_moments)
    if axis is None:
        return normalized(x, weight, bias, eps, out, _last_axes, _items(normalized_shape), dtype=dtype, keep=keep)
    settings = (*_items(normalized_shape), None, *as_ints(axis, "axis"))  # None ends the sizes
    return normalized(x, weight, bias, eps, out, _some_axes, settings, dtype=dtype, keep=keep)


@like_x
def rms_norm(
    x: ArrayLike,
    normalized_shape: int | Sequence[int],
    weight: ArrayLike | None = None,
    eps: float | None = None,
    *,
    out: AnyArray | None = None,
    dtype: Any = None,
    return_moments: bool = False,
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
        Added to the mean square; by default, as in torch, the machine epsilon of x's dtype, and that of float32 for
        float16 and bfloat16.
    out : array, optional
        Where to write the result; x itself to work in place.
    dtype : dtype, optional
        Of the result: any float type. By default x's own, and float64 for integers and booleans.
    return_moments : bool
        Return ``(result, moments)``: the `Moments` of x's own groups, too.

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
    settings, keep = _items(normalized_shape), kept(return_moments)
    return normalized(x, weight, None, eps, out, _last_axes_about_zero, settings, dtype=dtype, keep=keep)


def _items(normalized_shape: Any) -> tuple[Any, ...]:
    """The sizes that a caller gives, as one number or several."""
    kind = type(normalized_shape)
    if kind is tuple or kind is list:
        return tuple(normalized_shape)
    if kind is int:
        return (normalized_shape,)
    if isinstance(normalized_shape, set | frozenset):
        raise TypeError(f"normalized_shape must have an order, got {shown(normalized_shape)}; pass a tuple")
    return as_ints(normalized_shape, "normalized_shape")


def _last_axes(x: Any, weight: Any, bias: Any, *sizes: Any) -> Prepared:
    """The layout of the last axes, and weight and bias checked against their shape."""
    shape = shape_of(x)
    sizes = _checked_sizes(sizes, shape)
    if len(shape) < len(sizes) or shape[len(shape) - len(sizes) :] != sizes:
        raise ValueError(_no_end(sizes, shape))
    return Prepared(Layout.layer(len(sizes)), _of_shape(weight, "weight", sizes), _of_shape(bias, "bias", sizes))


def _some_axes(x: Any, weight: Any, bias: Any, *settings: Any) -> Prepared:
    """The same of any axes, which stand behind the sizes and None."""
    end, shape = settings.index(None), shape_of(x)
    sizes, axes = _checked_sizes(settings[:end], shape), settings[end + 1 :]
    layout = Layout.axes(axes)
    layout.resolve(shape)
    found = tuple(shape[a] for a in axes)
    if found != sizes:
        raise ValueError(
            f"normalized_shape={sizes} is not the size of x's axes {axes}: x has shape {shape}, so pass {found}"
        )
    weight, bias = _of_shape(weight, "weight", sizes), _of_shape(bias, "bias", sizes)
    return Prepared(layout, _along(weight, axes, shape), _along(bias, axes, shape))


def _along(array: Array | None, axes: tuple[int, ...], shape: tuple[int, ...]) -> Array | None:
    """Weight or bias of such axes of x, shaped to broadcast against x."""
    if array is None:
        return None
    places = [axis % len(shape) for axis in axes]
    spread = tuple(n if i in places else 1 for i, n in enumerate(shape))
    return array.transpose(sorted(range(len(axes)), key=places.__getitem__)).reshape(spread)


def _checked_sizes(sizes: tuple[Any, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """The sizes of `normalized_shape`, of which there is at least one."""
    if not sizes:
        raise ValueError(f"normalized_shape is empty; x has shape {shape}, give at least the size of its last axis")
    return tuple(as_int(n, "normalized_shape") for n in sizes)


def _of_shape(value: Any, name: str, sizes: tuple[int, ...]) -> Array | None:
    """Weight or bias, if it is there and has this shape."""
    array: Array | None = None if value is None else view(value, name)
    if array is not None and array.shape != sizes:
        mend = f"numpy.full({sizes}, {name}), one number for all" if array.ndim == 0 else "that shape"
        raise ValueError(f"{name} has shape {array.shape}, but normalized_shape is {sizes}; pass {mend}")
    return array


def _no_end(sizes: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """A message for sizes that x's shape does not end in."""
    number = min(len(sizes), len(shape))
    last = f"pass {shape[len(shape) - number :]}, the sizes of its last {number} axes" if number > 1 else ""
    last = last or (f"pass {shape[-1]}, the size of its last axis" if shape else "it has no axes")
    kind = "axes, not sizes" if any(n < 0 for n in sizes) else "not the end of x's shape"
    return f"normalized_shape={sizes} is {kind}: x has shape {shape}; {last}"


def _last_axes_about_zero(x: Any, weight: Any, bias: Any, *sizes: Any) -> Prepared:
    """The same, without a mean."""
    return _last_axes(x, weight, bias, *sizes)._replace(center=False)


_eps_of: dict[Any, float] = {}  # by dtype, of any library


def _default_eps(x: Any) -> float:
    """Machine epsilon of the result for x, or of float32 if that is narrower."""
    try:
        return _eps_of[x.dtype]
    except (AttributeError, KeyError, TypeError):
        dtype = result_dtype(x.dtype if is_lazy(x) else view(x).dtype)
        eps = float(np.finfo(np.float64 if dtype == np.float64 else np.float32).eps)
    with suppress(AttributeError, TypeError):
        _eps_of[x.dtype] = eps
    return eps
