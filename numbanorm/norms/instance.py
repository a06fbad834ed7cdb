"""Norms by the statistics of each channel of each sample."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays.annotations import AnyArray, ArrayLike, like_x
from ..arrays.memory import check_same_device
from ..arrays.take import view
from ..call.arguments import check_eps, check_flag
from ..call.choose import engine_of
from ..call.known import normalized
from ..call.run import Prepared, merge_last, moments, transform
from ..layout import Layout
from ..statistics import kept
from .batch import by_running
from .channels import Channels
from .running import take_running


@like_x
def instance_norm(
    x: ArrayLike,
    running_mean: AnyArray | None = None,
    running_var: AnyArray | None = None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    use_input_stats: bool = True,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
    *,
    channel_axis: int = 1,
    num_batches_tracked: AnyArray | None = None,
    out: AnyArray | None = None,
    dtype: Any = None,
    return_moments: bool = False,
) -> AnyArray:
    """Instance normalization: every channel of every sample by its own statistics.

    Parameters
    ----------
    x : array_like
        Of three axes or more: samples, channels and at least one more.
    running_mean, running_var : array of float, optional
        Stored statistics of shape (C,): updated in place by the mean over the samples, or used where
        `use_input_stats` is False.
    weight, bias : array_like, optional
        Scale and shift of shape (C,).
    use_input_stats : bool
        False: normalize by the stored statistics instead.
    momentum : float or None
        As in `batch_norm`.
    eps : float
        Added to the variance.
    channel_axis : int
        Axis of the channels; axis 0 is the samples.
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
        If a shape does not fit, there is one value a channel and sample, momentum is outside 0 to 1, or eps is
        negative.
    TypeError
        If an array is of a kind or dtype that is not supported.

    Notes
    -----
    D. Ulyanov, A. Vedaldi and V. Lempitsky, arXiv:1607.08022.

    Examples
    --------
    >>> import numbanorm as nbn
    >>> import numpy as np
    >>> x = np.array([[[1.0, 2.0, 3.0], [40.0, 50.0, 60.0]]])
    >>> nbn.instance_norm(x).round(3)
    array([[[-1.225,  0.   ,  1.225],
            [-1.225,  0.   ,  1.225]]])
    """
    own = use_input_stats is True or (use_input_stats is not False and check_flag(use_input_stats, "use_input_stats"))
    prepare, keep = _by_instance if own else _by_stored, kept(return_moments)
    running = running_mean, running_var, momentum, num_batches_tracked
    return normalized(x, weight, bias, eps, out, prepare, (channel_axis,), running, dtype, keep)


def _by_instance(x: Any, weight: Any, bias: Any, running: Any, channel_axis: Any) -> Prepared:
    """By own statistics; the running ones move towards their mean over the samples."""
    channels = Channels.of(x, channel_axis, weight, bias)
    taken = take_running(x, running, channels.x, update=True)
    layout = Layout.instance(channels.x.axis)
    layout.resolve(channels.x.shape)
    if channels.x.spatial == 1:
        raise ValueError(
            f"x of shape {channels.x.shape} has one value for each channel of each sample: nothing is left to "
            "normalize; give it a further axis"
        )
    return Prepared(layout, channels.weight, channels.bias, taken)


def _by_stored(x: Any, weight: Any, bias: Any, running: Any, channel_axis: Any) -> Prepared:
    """Every channel by its running statistics."""
    return by_running(x, weight, bias, running, channel_axis, "or use_input_stats=True to use each instance's own")


@like_x
def batch_instance_norm(
    x: ArrayLike,
    rho: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    channel_axis: int = 1,
    out: AnyArray | None = None,
    dtype: Any = None,
    return_moments: bool = False,
) -> AnyArray:
    """Batch-instance normalization: a blend of batch norm and instance norm, by channel.

    Parameters
    ----------
    x : array_like
        Of three axes or more: samples, channels and at least one more.
    rho : array_like
        Share of batch norm for each channel, of shape (C,), within 0 to 1; on a GPU that is not checked, as nothing
        waits for its values.
    weight, bias : array_like, optional
        Scale and shift of shape (C,).
    eps : float
        Added to both variances.
    channel_axis : int
        Axis of the channels; axis 0 is the samples.
    out : array, optional
        Where to write the result; x itself to work in place.
    dtype : dtype, optional
        Of the result: any float type. By default x's own, and float64 for integers and booleans.
    return_moments : bool
        Return ``(result, moments)``: the `Moments` of each sample and channel, too; those of the batch are
        their merge.

    Returns
    -------
    array
        As x.

    Raises
    ------
    ValueError
        If a shape does not fit, or a rho is outside 0 to 1.
    TypeError
        If an array is of a kind or dtype that is not supported.

    Notes
    -----
    H. Nam and H.-E. Kim, arXiv:1805.07925: ``(rho * x_batch + (1 - rho) * x_instance) * weight + bias``. The batch's
    statistics are merged from those of the instances, so x is read once for both.

    Examples
    --------
    >>> import numbanorm as nbn
    >>> import numpy as np
    >>> x = np.array([[[1.0, 3.0]], [[5.0, 7.0]]])
    >>> nbn.batch_instance_norm(x, [1.0]).round(3).ravel()
    array([-1.342, -0.447,  0.447,  1.342])
    >>> nbn.batch_instance_norm(x, [0.0]).round(3).ravel()
    array([-1.,  1., -1.,  1.])
    """
    channels, keep = Channels.of(x, channel_axis, weight, bias), kept(return_moments)
    layout = Layout.instance(channels.x.axis)
    layout.resolve(channels.x.shape)
    eps, array = check_eps(eps), view(x)
    engine, share = engine_of(array), channels.vector(rho, "rho").reshape((channels.x.channels,))
    check_same_device(array, {"rho": share, "weight": channels.weight, "bias": channels.bias})
    values = engine.peek(share)
    if values is not None and not np.all((values >= 0) & (values <= 1)):
        raise ValueError(f"rho must be within 0 to 1, got values from {values.min()} to {values.max()}; clip it")
    count, mean, m2, rest = moments(engine, layout, array)
    whole = merge_last(engine, (count.T, mean.T, m2.T))
    slope, shift, one = engine.pointwise("blend", 3, count, mean, m2, *whole, share, *channels.factors, eps)
    slope, shift = channels.by_sample(slope), channels.by_sample(shift)
    result = transform(x, layout, slope, shift, eps=0.0, statistics=(None, mean, one), out=out, dtype=dtype)[0]
    return result if keep is None else (result, keep(count, mean, m2, rest))  # type: ignore[return-value]
