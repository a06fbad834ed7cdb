"""Going backward through the norms by channel."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays.annotations import AnyArray, ArrayLike
from ..call.arguments import check_eps, check_flag, check_number
from ..call.backward import (
    add_to,
    check_operands,
    check_parameter,
    combined,
    give_gradients,
    give_like,
    go_backward,
    required_parameter,
)
from ..call.choose import engine_of, on_host
from ..call.run import Prepared
from ..call.run import moments as states_from
from ..norms import batch, group, instance
from ..norms.channels import Channels
from ..statistics import Moments
from .known import gradients, states_of

_NO_RUNNING = (None, None, 0.1, None)


def batch_norm_backward(
    grad: ArrayLike,
    x: ArrayLike,
    running_mean: ArrayLike | None = None,
    running_var: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    training: bool = False,
    eps: float = 1e-5,
    *,
    moments: Moments[Any] | None = None,
    channel_axis: int = 1,
) -> tuple[AnyArray, AnyArray | None, AnyArray | None]:
    """Gradients of `batch_norm` for x, weight and bias.

    Parameters
    ----------
    grad : array_like
        Gradient of a loss for the result: of x's shape and any float dtype.
    x : array_like
        What was normalized, of floats.
    running_mean, running_var : array_like, optional
        Stored statistics, which are read, and constants, without `training`; else they do not matter.
    weight : array_like, optional
        Scale of shape (C,).
    training : bool
        Whether x was normalized by the batch's own statistics.
    eps, channel_axis
        As in `batch_norm`.
    moments : Moments, optional
        Statistics of x's own groups, as the forward call gives them with ``return_moments=True``. By default they are
        made again.

    Returns
    -------
    dx : array
        Gradient for x: its type, shape, memory order and dtype.
    dweight, dbias : array or None
        Gradients for weight and bias, of shape (C,) and the weight's dtype; None without a weight.

    Raises
    ------
    ValueError, TypeError
        As the forward function and `normalize_backward`.

    Notes
    -----
    S. Ioffe and C. Szegedy, arXiv:1502.03167, section 3; the formula is that of `normalize_backward`. By stored
    statistics dx is grad * weight / sqrt(running_var + eps).

    Examples
    --------
    >>> import numbanorm as nbn
    >>> import numpy as np
    >>> x = np.array([[1.0, 10.0], [2.0, 30.0], [6.0, 20.0]])
    >>> grad = np.array([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    >>> dx, dweight, dbias = nbn.batch_norm_backward(grad, x, weight=np.ones(2), training=True)
    >>> dx.round(3)
    array([[ 0.176,  0.02 ],
           [-0.22 ,  0.02 ],
           [ 0.044, -0.041]])
    >>> dweight.round(3), dbias
    (array([-0.926, -1.225]), array([1., 1.]))
    """
    own = training is True or check_flag(training, "training")
    if own:
        return gradients(grad, x, weight, moments, eps, _by_batch, (channel_axis,))
    return gradients(grad, x, weight, moments, eps, batch._evaluation, (channel_axis,), (running_mean, running_var))


def instance_norm_backward(
    grad: ArrayLike,
    x: ArrayLike,
    running_mean: ArrayLike | None = None,
    running_var: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    use_input_stats: bool = True,
    eps: float = 1e-5,
    *,
    moments: Moments[Any] | None = None,
    channel_axis: int = 1,
) -> tuple[AnyArray, AnyArray | None, AnyArray | None]:
    """Gradients of `instance_norm` for x, weight and bias.

    Parameters
    ----------
    grad : array_like
        Gradient of a loss for the result: of x's shape and any float dtype.
    x : array_like
        What was normalized, of floats.
    running_mean, running_var : array_like, optional
        Stored statistics, which are read, and constants, without `use_input_stats`; else they do not matter.
    weight : array_like, optional
        Scale of shape (C,).
    use_input_stats : bool
        Whether x was normalized by each instance's own statistics.
    eps, channel_axis
        As in `instance_norm`.
    moments : Moments, optional
        Statistics of x's own groups, as the forward call gives them with ``return_moments=True``. By default they are
        made again.

    Returns
    -------
    dx : array
        Gradient for x: its type, shape, memory order and dtype.
    dweight, dbias : array or None
        Gradients for weight and bias, of shape (C,) and the weight's dtype; None without a weight.

    Raises
    ------
    ValueError, TypeError
        As the forward function and `normalize_backward`.

    Notes
    -----
    D. Ulyanov, A. Vedaldi and V. Lempitsky, arXiv:1607.08022; the formula is that of `normalize_backward`.

    Examples
    --------
    >>> import numbanorm as nbn
    >>> import numpy as np
    >>> x = np.array([[[1.0, 2.0, 6.0]]])
    >>> nbn.instance_norm_backward(np.array([[[1.0, 0.0, 0.0]]]), x)[0].round(3)
    array([[[ 0.176, -0.22 ,  0.044]]])
    """
    own = use_input_stats is True or check_flag(use_input_stats, "use_input_stats")
    if own:
        return gradients(grad, x, weight, moments, eps, _by_instance, (channel_axis,))
    return gradients(grad, x, weight, moments, eps, instance._by_stored, (channel_axis,), (running_mean, running_var))


def group_norm_backward(
    grad: ArrayLike,
    x: ArrayLike,
    num_groups: int,
    weight: ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    moments: Moments[Any] | None = None,
    channel_axis: int = 1,
) -> tuple[AnyArray, AnyArray | None, AnyArray | None]:
    """Gradients of `group_norm` for x, weight and bias.

    Parameters
    ----------
    grad : array_like
        Gradient of a loss for the result: of x's shape and any float dtype.
    x : array_like
        What was normalized, of floats.
    num_groups : int
        How many groups.
    weight : array_like, optional
        Scale of shape (C,).
    eps, channel_axis
        As in `group_norm`.
    moments : Moments, optional
        Statistics of x's own groups, as the forward call gives them with ``return_moments=True``. By default they are
        made again.

    Returns
    -------
    dx : array
        Gradient for x: its type, shape, memory order and dtype.
    dweight, dbias : array or None
        Gradients for weight and bias, of shape (C,) and the weight's dtype; None without a weight.

    Raises
    ------
    ValueError, TypeError
        As the forward function and `normalize_backward`.

    Notes
    -----
    Y. Wu and K. He, arXiv:1803.08494; the formula is that of `normalize_backward`.

    Examples
    --------
    >>> import numbanorm as nbn
    >>> import numpy as np
    >>> x = np.array([[[1.0], [2.0], [6.0], [7.0]]])
    >>> dx, dweight, dbias = nbn.group_norm_backward(np.ones_like(x), x, 2, np.array([1.0, 2.0, 3.0, 4.0]), eps=0.5)
    >>> dx.round(3).ravel()
    array([-0.385,  0.385, -0.385,  0.385])
    """
    return gradients(grad, x, weight, moments, eps, group._groups, (num_groups, channel_axis))


def batch_renorm_backward(
    grad: ArrayLike,
    x: ArrayLike,
    running_mean: ArrayLike,
    running_var: ArrayLike,
    weight: ArrayLike | None = None,
    training: bool = False,
    eps: float = 1e-5,
    *,
    r_max: float = 3.0,
    d_max: float = 5.0,
    moments: Moments[Any] | None = None,
    channel_axis: int = 1,
) -> tuple[AnyArray, AnyArray | None, AnyArray | None]:
    """Gradients of `batch_renorm` for x, weight and bias, where r and d are constants, as the paper has it.

    Parameters
    ----------
    grad : array_like
        Gradient of a loss for the result: of x's shape and any float dtype.
    x : array_like
        What was normalized, of floats.
    running_mean, running_var : array_like
        Stored statistics of shape (C,) **before** the forward call moved them: r and d are made of those. Copy them
        first.
    weight : array_like, optional
        Scale of shape (C,).
    training : bool
        Whether x was normalized by the batch's statistics.
    eps, r_max, d_max, channel_axis
        As in `batch_renorm`.
    moments : Moments, optional
        Statistics of x's own groups, as the forward call gives them with ``return_moments=True``. By default they are
        made again.

    Returns
    -------
    dx : array
        Gradient for x: its type, shape, memory order and dtype.
    dweight, dbias : array or None
        Gradients for weight and bias, of shape (C,) and the weight's dtype; None without a weight.

    Raises
    ------
    ValueError, TypeError
        As the forward function and `normalize_backward`.

    Notes
    -----
    S. Ioffe, arXiv:1702.03275, section 3: with t = (x - mean) / std the result is (t * r + d) * weight + bias, so dx is
    that of batch norm with the weight r * weight, and dweight = r * sum(grad * t) + d * sum(grad).

    Examples
    --------
    >>> import numbanorm as nbn
    >>> import numpy as np
    >>> x, mean, var = np.array([[1.0], [2.0], [6.0]]), np.array([2.0]), np.array([1.0])
    >>> nbn.batch_renorm_backward(np.array([[1.0], [0.0], [0.0]]), x, mean, var, training=True)[0].round(3).ravel()
    array([ 0.381, -0.476,  0.095])
    """
    if not check_number(r_max, "r_max") >= 1 or not check_number(d_max, "d_max") >= 0:
        raise ValueError(f"r_max must be at least 1 and d_max not negative, got {r_max} and {d_max}")
    if not (training is True or check_flag(training, "training")):
        return batch_norm_backward(grad, x, running_mean, running_var, weight, eps=eps, channel_axis=channel_axis)
    taken = check_operands(grad, x)
    parameter = check_parameter(weight, taken.x)
    array, running = parameter and parameter.array, (running_mean, running_var, 0.1, None)
    stored = batch._evaluation(taken.x, array, None, running, channel_axis).running
    ours, eps = _by_batch(taken.x, array, None, channel_axis), check_eps(eps)
    states = states_of(moments) or states_from(engine_of(taken.x), ours.layout, taken.x)[:3]
    numbers = (stored.mean, stored.var, 1.0, -0.0, eps, float(r_max), float(d_max))  # type: ignore[union-attr]
    r, d = engine_of(taken.x).pointwise("renorm", 2, *states, *numbers)
    scale = r.reshape((r.size, *(1,) * (taken.x.ndim - 1 - channel_axis % taken.x.ndim)))
    ours = ours._replace(weight=scale if ours.weight is None else combined(scale, ours.weight))
    dx, dweight, dbias = go_backward(taken, ours, states, eps)
    dweight = combined(r, dweight.reshape((r.size,)), d, dbias.reshape((r.size,)))
    return give_gradients(taken, (dx, dweight, dbias), parameter)


def batch_instance_norm_backward(
    grad: ArrayLike,
    x: ArrayLike,
    rho: ArrayLike,
    weight: ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    channel_axis: int = 1,
) -> tuple[AnyArray, AnyArray, AnyArray | None, AnyArray | None]:
    """Gradients of `batch_instance_norm` for x, rho, weight and bias.

    Parameters
    ----------
    grad : array_like
        Gradient of a loss for the result: of x's shape and any float dtype.
    x : array_like
        What was normalized, of floats.
    rho : array_like
        Share of batch norm for each channel, of shape (C,) and floats.
    weight : array_like, optional
        Scale of shape (C,).
    eps, channel_axis
        As in `batch_instance_norm`.

    Returns
    -------
    dx : array
        Gradient for x: its type, shape, memory order and dtype.
    drho : array
        Gradient for rho, of its shape and dtype.
    dweight, dbias : array or None
        Gradients for weight and bias, of shape (C,) and the weight's dtype; None without a weight.

    Raises
    ------
    ValueError, TypeError
        As the forward function and `normalize_backward`.

    Notes
    -----
    H. Nam and H.-E. Kim, arXiv:1805.07925. With x normalized by the batch, t, and by the instance, s, the result is
    (rho * t + (1 - rho) * s) * weight + bias. dx is the sum of what goes back through either norm, with the weights
    rho * weight and (1 - rho) * weight; of x's size there is one array more for it. ::

        drho = weight * (sum(grad * t) - sum(grad * s))
        dweight = rho * sum(grad * t) + (1 - rho) * sum(grad * s)

    Examples
    --------
    >>> import numbanorm as nbn
    >>> import numpy as np
    >>> x = np.array([[[1.0, 3.0]], [[5.0, 7.0]]])
    >>> dx, drho, _, _ = nbn.batch_instance_norm_backward(np.ones_like(x) * [2.0, 1.0], x, np.array([0.5]))
    >>> drho.round(3)
    array([1.106])
    """
    taken = check_operands(grad, x)
    parameter, share = check_parameter(weight, taken.x), required_parameter(rho, taken.x, "rho")
    array = parameter and parameter.array
    whole = _by_batch(taken.x, array, None, channel_axis)
    parts = _by_instance(taken.x, array, None, channel_axis)
    along: Any = Channels.of(taken.x, channel_axis, None, None).vector(rho, "rho")
    part, rest = combined(1.0, along), combined(1.0, 1.0, -1.0, along)
    if on_host(taken.x) and not np.all((part >= 0) & (part <= 1)):
        raise ValueError(f"rho must be within 0 to 1, got values from {part.min()} to {part.max()}; clip it")
    factor = 1.0 if whole.weight is None else whole.weight
    dx, by_batch, dbias = go_backward(taken, whole._replace(weight=combined(part, factor)), None, eps)
    more, by_instance, _ = go_backward(taken, parts._replace(weight=combined(rest, factor)), None, eps)
    add_to(dx, more)
    drho = combined(factor, combined(1.0, by_batch, -1.0, by_instance))
    dweight = combined(part, by_batch, rest, by_instance)
    dx, dweight, dbias = give_gradients(taken, (dx, dweight, dbias), parameter)
    return dx, give_like(drho, share), dweight, dbias


def _by_batch(x: Any, weight: Any, bias: Any, channel_axis: Any) -> Prepared:
    """By the batch's own statistics; running ones are not moved."""
    return batch._training(x, weight, bias, _NO_RUNNING, channel_axis)


def _by_instance(x: Any, weight: Any, bias: Any, channel_axis: Any) -> Prepared:
    """The same for each instance's own."""
    return instance._by_instance(x, weight, bias, _NO_RUNNING, channel_axis)
