"""normalize_backward(): gradients of normalize(), for any groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..arrays.annotations import AnyArray, ArrayLike
from ..call.arguments import EpsOn, as_layout, on_std
from ..call.run import Prepared
from ..layout import Layout, as_int
from ..statistics import Moments
from .known import gradients


def normalize_backward(
    grad: ArrayLike,
    x: ArrayLike,
    moments: Moments[Any] | None,
    layout: str | Layout | None = None,
    weight: ArrayLike | None = None,
    *,
    axis: int | Sequence[int] | None = None,
    eps: float = 1e-5,
    ddof: int = 0,
    eps_on: EpsOn = "var",
    **sizes: int,
) -> tuple[AnyArray, AnyArray | None, AnyArray | None]:
    """Gradients of `normalize` for x, weight and bias, from the gradient of its result.

    Parameters
    ----------
    grad : array_like
        Gradient of a loss for the result of `normalize`: of x's shape and any float dtype.
    x : array_like
        What was normalized, in float64, float32, float16 or bfloat16, of any strides.
    moments : Moments or None
        Statistics of x's own groups, as ``normalize(..., return_moments=True)`` gives them. None: they are made again,
        in one more pass over x.
    layout, axis, eps, ddof, eps_on, **sizes
        As they were given to `normalize`.
    weight : array_like, optional
        The weight that was given to `normalize`, of floats.

    Returns
    -------
    dx : array
        Gradient for x: its type, shape, memory order and dtype.
    dweight : array or None
        Gradient for the weight, of its shape and dtype; None without a weight.
    dbias : array or None
        Gradient for a bias of the weight's shape, in the weight's dtype; None without a weight. For a bias of another
        shape, add up `grad` over the axes along which it is the same.

    Raises
    ------
    ValueError
        If the layout does not fit x's shape, grad has another shape, weight does not broadcast, eps is negative, or
        moments are of other groups.
    TypeError
        If an array is masked or not of floats, moments are no `Moments`, or some arrays lie on the host and some on a
        GPU.

    Notes
    -----
    With t = (x - mean) * r and r = 1 / sqrt(var + eps), and means over the n elements of a group::

        dx = r * (weight * grad - mean(weight * grad) - t * mean(weight * grad * t))
        dweight = sum(grad * t)        dbias = sum(grad)        over all elements that share a weight

    as S. Ioffe and C. Szegedy, arXiv:1502.03167, section 3, have it for channels. With ddof, the second mean divides by
    n - ddof; with ``eps_on="std"``, r * t in that term is (x - mean) * r / std. Where all values of a group are equal,
    x has no gradient through the deviation. Sums are float64, in float32 by way of a few in float32; the order of every
    sum follows from shapes and strides, so threads change no bit.

    Examples
    --------
    >>> import numbanorm as nbn
    >>> import numpy as np
    >>> x = np.array([[1.0, 2.0, 6.0], [0.0, 4.0, 5.0]])
    >>> weight = np.array([1.0, 2.0, 3.0])
    >>> y, m = nbn.normalize(x, "n c -> n", weight, return_moments=True)
    >>> dx, dweight, dbias = nbn.normalize_backward(np.ones_like(x), x, m, "n c -> n", weight)
    >>> dx.round(3)
    array([[-0.132,  0.165, -0.033],
           [ 0.033, -0.165,  0.132]])
    >>> dweight.round(3), dbias
    (array([-2.315,  0.   ,  2.315]), array([2., 2., 2.]))
    """
    chosen = as_layout(layout, axis, sizes, normalize_backward)
    settings = chosen, as_int(ddof, "ddof"), int(on_std(eps_on))
    return gradients(grad, x, weight, moments, eps, _by_layout, settings)


def _by_layout(x: Any, weight: Any, bias: Any, layout: Layout, ddof: int, eps_on_std: int) -> Prepared:
    """By any groups; their fit is seen to where the call is planned."""
    return Prepared(layout, weight, bias, ddof=ddof, eps_on_std=bool(eps_on_std))
