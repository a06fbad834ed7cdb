"""Going backward through the norms of the last axes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from ..arrays.annotations import AnyArray, ArrayLike
from ..layout import as_ints
from ..norms import layer
from ..statistics import Moments
from .known import gradients


def layer_norm_backward(
    grad: ArrayLike,
    x: ArrayLike,
    normalized_shape: int | Sequence[int],
    weight: ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    axis: int | Sequence[int] | None = None,
    moments: Moments[Any] | None = None,
) -> tuple[AnyArray, AnyArray | None, AnyArray | None]:
    """Gradients of `layer_norm` for x, weight and bias.

    Parameters
    ----------
    grad : array_like
        Gradient of a loss for the result: of x's shape and any float dtype.
    x : array_like
        What was normalized, of floats.
    normalized_shape : int or sequence of int
        Shape of what was normalized together.
    weight : array_like, optional
        Scale of shape `normalized_shape`.
    eps, axis
        As in `layer_norm`.
    moments : Moments, optional
        Statistics of x's own groups, as the forward call gives them with ``return_moments=True``. By default they are
        made again.

    Returns
    -------
    dx : array
        Gradient for x: its type, shape, memory order and dtype.
    dweight, dbias : array or None
        Gradients for weight and bias, of shape `normalized_shape` and the weight's dtype; None without a weight.

    Raises
    ------
    ValueError, TypeError
        As the forward function and `normalize_backward`.

    Notes
    -----
    J. L. Ba, J. R. Kiros and G. E. Hinton, arXiv:1607.06450; the formula is that of `normalize_backward`.

    Examples
    --------
    >>> import numbanorm as nbn
    >>> import numpy as np
    >>> x = np.array([[1.0, 2.0, 6.0], [0.0, 4.0, 5.0]])
    >>> y, m = nbn.layer_norm(x, 3, np.ones(3), return_moments=True)
    >>> dx, dweight, dbias = nbn.layer_norm_backward(y, x, 3, np.ones(3), moments=m)
    >>> dweight.round(3), dbias.round(3)
    (array([2.786, 0.429, 2.786]), array([-2.315,  0.   ,  2.315]))
    """
    sizes = layer._items(normalized_shape)
    if axis is None:
        return gradients(grad, x, weight, moments, eps, layer._last_axes, sizes)
    axes = as_ints(axis, "axis")
    settings = (*sizes, None, *axes)
    return gradients(grad, x, weight, moments, eps, layer._some_axes, settings, in_order=partial(_in_order, axes))


def rms_norm_backward(
    grad: ArrayLike,
    x: ArrayLike,
    normalized_shape: int | Sequence[int],
    weight: ArrayLike | None = None,
    eps: float | None = None,
    *,
    moments: Moments[Any] | None = None,
) -> tuple[AnyArray, AnyArray | None]:
    """Gradients of `rms_norm` for x and weight.

    Parameters
    ----------
    grad : array_like
        Gradient of a loss for the result: of x's shape and any float dtype.
    x : array_like
        What was normalized, of floats.
    normalized_shape : int or sequence of int
        Shape of what was normalized together.
    weight : array_like, optional
        Scale of shape `normalized_shape`.
    eps : float, optional
        As in `rms_norm`.
    moments : Moments, optional
        Statistics of x's own groups, as the forward call gives them with ``return_moments=True``. By default they are
        made again.

    Returns
    -------
    dx : array
        Gradient for x: its type, shape, memory order and dtype.
    dweight : array or None
        Gradient for the weight, of its shape and dtype; None without a weight.

    Raises
    ------
    ValueError, TypeError
        As the forward function and `normalize_backward`.

    Notes
    -----
    B. Zhang and R. Sennrich, arXiv:1910.07467. With r = 1 / sqrt(mean(x**2) + eps)::

        dx = r * (weight * grad - x * r * mean(weight * grad * x * r))        dweight = sum(grad * x * r)

    Examples
    --------
    >>> import numbanorm as nbn
    >>> import numpy as np
    >>> x = np.array([[3.0, 4.0, 0.0, 0.0]])
    >>> dx, dweight = nbn.rms_norm_backward(np.ones_like(x), x, 4, np.ones(4))
    >>> dx.round(3), dweight.round(3)
    (array([[ 0.064, -0.048,  0.4  ,  0.4  ]]), array([1.2, 1.6, 0. , 0. ]))
    """
    eps = layer._default_eps(x) if eps is None else eps
    sizes = layer._items(normalized_shape)
    return gradients(grad, x, weight, moments, eps, layer._last_axes_about_zero, sizes)[:2]


def _in_order(axes: tuple[int, ...], total: Any, x: Any) -> Any:
    """Sums by weight, shaped to broadcast against x, in the order of axes of `normalized_shape`."""
    if total is None:
        return total
    places = [a % x.ndim for a in axes]
    kept = total.reshape(tuple(x.shape[a] for a in sorted(places)))
    return kept.transpose([sorted(places).index(a) for a in places])
