"""The one call that every norm makes to go backward. As in `call.known`, a call that was made before is repeated.

Whether a call is right, and how it runs, depends on its settings and on the shapes, strides and dtypes of its arrays.
On the host, a call that has passed all checks leaves a function here, under that description; what depends on values
is checked again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy import ndarray

from ..call.backward import Gradients, bind, check_operands, check_parameter, give_gradients, go_backward
from ..call.known import remember, typed
from ..call.run import Prepared, States, Statistics
from ..statistics import Moments

_known: dict[Any, Callable[..., Gradients | None]] = {}


def gradients(
    grad: Any,
    x: Any,
    weight: Any,
    moments: Any,
    eps: Any,
    prepare: Callable[..., Prepared],
    settings: tuple[Any, ...],
    stored: tuple[Any, Any] | None = None,
    in_order: Callable[[Any, Any], Any] | None = None,
) -> Gradients:
    """Gradients of x, weight and bias, as the caller has x and the weight; None for the last two without a weight.

    Parameters
    ----------
    grad, x, weight, moments, eps
        The norm's arguments, as the caller gave them.
    prepare : function
        The norm's own checks, as for `call.known.normalized`: prepare(x, weight, None, *settings).
    settings : tuple
        What else tells one call of the norm from another.
    stored : tuple, optional
        Running mean and variance that were used in place of x's own statistics; they stand before the settings then.
    in_order : function, optional
        What puts sums of weights, shaped to broadcast against x, which it takes too, in the weight's own shape.
    """
    key, statistics = _described(grad, x, weight, moments, prepare, settings, stored)
    if key is not None and type(eps) is float and eps >= 0:
        try:
            repeat = _known.get(key)
        except TypeError:  # a setting that cannot be hashed: wrong, or too rare to be remembered
            repeat = None
        if repeat is not None and (made := repeat(x, weight, grad, statistics, eps)) is not None:
            return made
    taken = check_operands(grad, x)
    statistics = states_of(moments)
    parameter = check_parameter(weight, taken.x)
    array = parameter and parameter.array
    if stored is None:
        ours = prepare(taken.x, array, None, *settings)
    else:
        if statistics is not None:
            raise ValueError("moments are of x, but stored statistics were used; leave them out")
        ours = prepare(taken.x, array, None, (*stored, 0.1, None), *settings)
        statistics = None, ours.running.mean, ours.running.var  # type: ignore[union-attr]
    made = go_backward(taken, ours, statistics, eps, stored is None)
    if in_order is not None:
        made = made[0], in_order(made[1], taken.x), in_order(made[2], taken.x)
    if key is not None and taken.x is x and taken.grad is grad and array is weight:
        if (repeat := bind(taken, ours, weight, stored is None)) is not None:
            remember(_known, key, repeat)
    return give_gradients(taken, made, parameter)


def states_of(moments: Any) -> States | None:
    """The states that a caller has, as kernels read them."""
    if moments is None:
        return None
    if not isinstance(moments, Moments):
        raise TypeError(
            f"moments must be Moments, got {type(moments).__name__}; pass those that the forward call returned, with "
            "return_moments=True"
        )
    return moments._states


def forget() -> None:
    """Let every call be checked anew, as in a new process."""
    _known.clear()


def _described(
    grad: Any, x: Any, weight: Any, moments: Any, prepare: Any, settings: tuple[Any, ...], stored: Any
) -> tuple[Any, Statistics | None]:
    """What decides whether a call of ndarrays is right and how it runs, and the statistics in it; else None."""
    if type(x) is not ndarray or type(grad) is not ndarray:
        return None, None
    of_weight = of_statistics = statistics = None
    if weight is not None:
        if type(weight) is not ndarray:
            return None, None
        of_weight = weight.shape, weight.strides, weight.dtype
    if stored is not None:
        mean, var = stored
        if moments is not None or type(mean) is not ndarray or type(var) is not ndarray:
            return None, None
        statistics = None, mean, var
        of_statistics = mean.shape, mean.strides, mean.dtype, var.shape, var.strides, var.dtype
    elif moments is not None:
        if type(moments) is not Moments or type(moments._mean) is not ndarray:
            return None, None
        statistics = count, mean, m2 = moments._count, moments._mean, moments._m2
        if not (count.flags.c_contiguous and mean.flags.c_contiguous and m2.flags.c_contiguous):
            return None, None
        of_statistics = mean.shape
    of_grad = grad.shape, grad.strides, grad.dtype
    return (prepare, typed(settings), x.shape, x.strides, x.dtype, of_grad, of_weight, of_statistics), statistics
