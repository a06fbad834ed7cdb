"""Group norm: sets of neighbouring channels, sample by sample."""

from __future__ import annotations

from typing import Any

from ..arrays.annotations import AnyArray, ArrayLike, like_x
from ..call.known import normalized
from ..call.run import Prepared
from ..layout import Layout, as_int, names_of_divisors
from ..statistics import kept
from .channels import Channels, Shape, other_axis


@like_x
def group_norm(
    x: ArrayLike,
    num_groups: int,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    channel_axis: int = 1,
    out: AnyArray | None = None,
    dtype: Any = None,
    return_moments: bool = False,
) -> AnyArray:
    """Group normalization: every sample's channels in `num_groups` sets of neighbours, each by its own statistics.

    Parameters
    ----------
    x : array_like
        Of two axes or more: samples, channels, and any others.
    num_groups : int
        How many groups; it divides the number of channels.
    weight, bias : array_like, optional
        Scale and shift of shape (C,).
    eps : float
        Added to the variance.
    channel_axis : int
        Axis of the channels; axis 0 is the samples.
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
        If num_groups does not divide the channels, a shape does not fit, all of x is one value a group, or eps is
        negative.
    TypeError
        If an array is of a kind or dtype that is not supported.

    Notes
    -----
    Y. Wu and K. He, arXiv:1803.08494. One group is layer norm over all but the samples; as many groups as channels
    is instance norm.

    Examples
    --------
    >>> import numbanorm as nbn
    >>> import numpy as np
    >>> x = np.array([[2.0, 3, 5, 7, 11, 13, 17, 19]]).reshape(1, 4, 1, 2)
    >>> nbn.group_norm(x, 2).round(3).ravel()
    array([-1.172, -0.651,  0.391,  1.432, -1.265, -0.632,  0.632,  1.265])
    """
    keep = kept(return_moments)
    return normalized(x, weight, bias, eps, out, _groups, (num_groups, channel_axis), dtype=dtype, keep=keep)


def _groups(x: Any, weight: Any, bias: Any, num_groups: Any, channel_axis: Any) -> Prepared:
    """The layout, if it leaves more than one value to normalize."""
    channels = Channels.of(x, channel_axis, weight, bias)
    num_groups = as_int(num_groups, "num_groups")
    _check_groups(num_groups, channels.x)
    layout, shape = Layout.group(num_groups, channels.x.axis), channels.x.shape
    layout.resolve(shape)
    if shape[0] * channels.x.channels // num_groups * channels.x.spatial == 1:
        raise ValueError(f"x of shape {shape} in {num_groups} groups has one value a group; use fewer groups")
    return Prepared(layout, channels.weight, channels.bias)


def _check_groups(num_groups: int, x: Shape) -> None:
    """Refuse a number of groups that does not divide the channels."""
    if num_groups < 1:
        raise ValueError(f"num_groups must be at least 1, got {num_groups}")
    if x.axis and x.channels % num_groups:
        last = x.shape[-1]
        elsewhere = other_axis(x, last) if last and last % num_groups == 0 else ""
        raise ValueError(
            f"num_groups={num_groups} does not divide the {x.channels} channels on axis {x.axis} of x of shape "
            f"{x.shape}; {names_of_divisors(x.channels)} would{elsewhere}"
        )
