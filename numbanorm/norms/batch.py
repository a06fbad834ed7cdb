"""Norms by the statistics of a batch, with running ones beside them."""

from __future__ import annotations

from typing import Any

from ..arrays.annotations import AnyArray, ArrayLike, like_x
from ..arrays.memory import check_same_device
from ..arrays.take import view
from ..call.arguments import check_eps, check_flag, check_number
from ..call.choose import engine_of
from ..call.known import normalized
from ..call.run import Prepared, moments, transform
from ..layout import Layout
from ..statistics import kept
from .channels import Channels
from .running import required, take_running

_TO_START = "such as numpy.zeros(C) and numpy.ones(C) to begin with: this norm uses them in training, too"


@like_x
def batch_norm(
    x: ArrayLike,
    running_mean: AnyArray | None = None,
    running_var: AnyArray | None = None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
    *,
    channel_axis: int = 1,
    num_batches_tracked: AnyArray | None = None,
    out: AnyArray | None = None,
    dtype: Any = None,
    return_moments: bool = False,
) -> AnyArray:
    """Batch normalization: every channel by its statistics over the batch, or by stored ones.

    Parameters
    ----------
    x : array_like
        Of two axes or more, such as (N, C), (N, C, L), (N, C, H, W), or with channels on another axis.
    running_mean, running_var : array of float, optional
        Stored statistics of shape (C,). In training they are updated in place, both or neither;
        otherwise they normalize x.
    weight, bias : array_like, optional
        Scale and shift of shape (C,).
    training : bool
        Normalize by the batch's own statistics, and update the running ones.
    momentum : float or None
        Share of the new batch in the running statistics, 0 to 1: ``(1 - momentum) * old + momentum * new``. None: the
        mean over all batches so far, whose number `num_batches_tracked` knows.
    eps : float
        Added to the variance.
    channel_axis : int
        Axis of the channels: 1 as in torch, -1 for channels last.
    num_batches_tracked : array of int, optional
        Number of batches so far, of no axes: counted up in place wherever running statistics are updated.
    out : array, optional
        Where to write the result; x itself to work in place.
    dtype : dtype, optional
        Of the result: any float type. By default x's own, and float64 for integers and booleans.
    return_moments : bool
        Return ``(result, moments)``: the `Moments` of x's own groups, too.

    Returns
    -------
    array
        As x: its type, shape, memory order, device and dtype (float64 for integers and booleans).

    Raises
    ------
    ValueError
        If a shape does not fit, there is one value a channel in training, momentum is outside 0 to 1, or eps is
        negative.
    TypeError
        If an array is of a kind or dtype that is not supported.

    Notes
    -----
    S. Ioffe and C. Szegedy, arXiv:1502.03167. As in torch, x is normalized by the biased variance, and the running
    variance takes the unbiased one.

    Examples
    --------
    >>> import numbanorm as nbn
    >>> import numpy as np
    >>> x = np.array([[1.0, 10.0], [3.0, 30.0]])
    >>> mean, var = np.zeros(2), np.ones(2)
    >>> nbn.batch_norm(x, mean, var, training=True).round(3)
    array([[-1., -1.],
           [ 1.,  1.]])
    >>> mean, var
    (array([0.2, 2. ]), array([ 1.1, 20.9]))
    """
    stored = training is False or (training is not True and not check_flag(training, "training"))
    prepare, keep = _evaluation if stored else _training, kept(return_moments)
    running = running_mean, running_var, momentum, num_batches_tracked
    return normalized(x, weight, bias, eps, out, prepare, (channel_axis,), running, dtype, keep)


def _training(x: Any, weight: Any, bias: Any, running: Any, channel_axis: Any) -> Prepared:
    """By the batch's own statistics, towards which the running ones move."""
    channels = Channels.of(x, channel_axis, weight, bias)
    taken = take_running(x, running, channels.x, update=True)
    channels.x.check_training()
    return Prepared(Layout.batch(channels.x.axis), channels.weight, channels.bias, taken)


def _evaluation(x: Any, weight: Any, bias: Any, running: Any, channel_axis: Any) -> Prepared:
    """Every channel by its running statistics."""
    return by_running(x, weight, bias, running, channel_axis, "or training=True to use the batch's own statistics")


def by_running(x: Any, weight: Any, bias: Any, running: Any, channel_axis: Any, mend: str) -> Prepared:
    """Every channel by its running statistics; `mend` says what one may have meant where there are none."""
    channels = Channels.of(x, channel_axis, weight, bias)
    taken = required(take_running(x, running, channels.x, update=False), mend)
    return Prepared(Layout.batch(channels.x.axis), channels.weight, channels.bias, taken)


@like_x
def batch_renorm(
    x: ArrayLike,
    running_mean: AnyArray,
    running_var: AnyArray,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
    *,
    r_max: float = 3.0,
    d_max: float = 5.0,
    channel_axis: int = 1,
    num_batches_tracked: AnyArray | None = None,
    out: AnyArray | None = None,
    dtype: Any = None,
    return_moments: bool = False,
) -> AnyArray:
    """Batch renormalization: batch norm whose training output follows the running statistics, within bounds.

    Parameters
    ----------
    x : array_like
        Of two axes or more.
    running_mean, running_var : array of float
        Stored statistics of shape (C,), updated in place in training.
    weight, bias : array_like, optional
        Scale and shift of shape (C,).
    training : bool
        Use the batch's statistics, corrected towards the running ones; otherwise the running ones, as batch norm.
    momentum : float or None
        As in `batch_norm`.
    eps : float
        Added to both variances.
    r_max : float
        Bound of the ratio of standard deviations, at least 1. 1 with d_max=0 is batch norm.
    d_max : float
        Bound of the distance of the means, in running standard deviations; not negative.
    channel_axis : int
        Axis of the channels.
    num_batches_tracked : array of int, optional
        Number of batches so far, of no axes: counted up in place wherever running statistics are updated.
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
        If a shape does not fit, there is one value a channel in training, or a bound is out of range.
    TypeError
        If an array is of a kind or dtype that is not supported.

    Notes
    -----
    S. Ioffe, arXiv:1702.03275: ``(x - mean) / std * r + d`` with ``r = clip(std / running_std, 1 / r_max, r_max)`` and
    ``d = clip((mean - running_mean) / running_std, -d_max, d_max)``. The paper starts with r_max=1, d_max=0 and
    raises them to 3 and 5. The running variance is updated as in `batch_norm`, after its use.

    Examples
    --------
    >>> import numbanorm as nbn
    >>> import numpy as np
    >>> x = np.array([[1.0], [3.0]])
    >>> nbn.batch_renorm(x, np.array([1.0]), np.array([1.0]), training=True, eps=0)
    array([[0.],
           [2.]])
    """
    if not check_number(r_max, "r_max") >= 1:
        raise ValueError(f"r_max must be at least 1, got {r_max}")
    if not check_number(d_max, "d_max") >= 0:
        raise ValueError(f"d_max must not be negative, got {d_max}")
    running, keep = (running_mean, running_var, momentum, num_batches_tracked), kept(return_moments)
    if training is False or not check_flag(training, "training"):
        return normalized(x, weight, bias, eps, out, _renorm_evaluation, (channel_axis,), running, dtype, keep)
    channels = Channels.of(x, channel_axis, weight, bias)
    taken = take_running(x, running, channels.x, update=True)
    eps, taken, array = check_eps(eps), required(taken, _TO_START), view(x)
    channels.x.check_training()
    check_same_device(array, {"weight": channels.weight, "bias": channels.bias})
    engine, layout = engine_of(array), Layout.batch(channels.x.axis)
    states = moments(engine, layout, array)
    own = states[:3]
    bounds = eps, float(r_max), float(d_max)
    scale, shift = engine.pointwise("renorm", 2, *own, taken.mean, taken.var, *channels.factors, *bounds)
    scale, shift = channels.along(scale), channels.along(shift)
    result = transform(x, layout, scale, shift, eps=eps, statistics=own, running=taken, out=out, dtype=dtype)[0]
    return result if keep is None else (result, keep(*states))  # type: ignore[return-value]


def _renorm_evaluation(x: Any, weight: Any, bias: Any, running: Any, channel_axis: Any) -> Prepared:
    """Every channel by its running statistics, without which this norm does nothing."""
    return by_running(x, weight, bias, running, channel_axis, _TO_START)
