"""What tells one norm from another, and the form in which they are all the same: axes of a tensor are reduced.

Group norm splits the axis of channels first, into groups and the channels of each. Weight and bias broadcast.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from ..layout import Layout


class Rule(NamedTuple):
    """How statistics are taken and used: the same for every group."""

    eps: float
    center: bool = True  # False: about zero
    ddof: int = 0
    eps_on_std: bool = False


class Form(NamedTuple):
    """Which elements of a tensor share statistics, and how weight and bias lie along it."""

    layout: Any  # a Layout, of the tensor as it is; None where kernels are not called
    split: tuple[tuple[int, tuple[int, ...]], ...]  # axes and the sizes into which they are split, the last axis first
    dims: tuple[int, ...]  # reduced, once axes are split
    along: tuple[int, ...] | None  # shape of weight and bias, if it is not theirs
    channels: int | None = None  # the axis that running statistics are of

    def apart(self, x: Any) -> Any:
        """The tensor with its axes split: a view."""
        for axis, sizes in self.split:
            x = x.unflatten(axis, sizes)
        return x

    def together(self, x: Any) -> Any:
        """The same, put together again."""
        for axis, sizes in reversed(self.split):
            x = x.flatten(axis, axis + len(sizes) - 1)
        return x

    def spread(self, parameter: Any, ndim: int) -> Any:
        """Weight or bias, to be broadcast against the tensor with its axes split."""
        if parameter is None:
            return None
        if self.along is not None:
            parameter = parameter.reshape(self.along)
        fewer = ndim - parameter.dim()  # axes, which are missing on the left
        for axis, sizes in self.split:
            if axis >= fewer:
                whole = parameter.shape[axis - fewer] != 1
                parameter = parameter.unflatten(axis - fewer, sizes if whole else (1,) * len(sizes))
        return parameter


def by_channel(layout: Any, reduced: Sequence[int], ndim: int, split: tuple[Any, ...] = ()) -> Form:
    """A form with one weight for each channel, on axis 1."""
    return Form(layout, split, tuple(reduced), (-1, *(1,) * (ndim - 2)), 1)


def batch(ndim: int, layout: Any = None) -> Form:
    """Every channel, over the batch."""
    return by_channel(layout, [axis for axis in range(ndim) if axis != 1], ndim)


def instance(ndim: int, layout: Any = None) -> Form:
    """Every channel of every sample."""
    return by_channel(layout, range(2, ndim), ndim)


def group(ndim: int, groups: int, layout: Any = None) -> Form:
    """Sets of neighbouring channels of every sample."""
    return by_channel(layout, range(2, ndim + 1), ndim, ((1, (groups, -1)),))


def layer(ndim: int, axes: int, layout: Any = None) -> Form:
    """The last axes."""
    return Form(layout, (), tuple(range(ndim - axes, ndim)), None)


def over(axes: tuple[int, ...], layout: Any = None) -> Form:
    """Some axes, with weights that broadcast."""
    return Form(layout, (), axes, None)


# The same with their layouts, for kernels: objects that torch's compiler could not follow, and does not need.


@lru_cache(maxsize=1024)
def known_batch(ndim: int) -> Form:
    """`batch` for kernels."""
    return batch(ndim, Layout.batch(1))


@lru_cache(maxsize=1024)
def known_instance(ndim: int) -> Form:
    """`instance` for kernels."""
    return instance(ndim, Layout.instance(1))


@lru_cache(maxsize=1024)
def known_group(ndim: int, groups: int) -> Form:
    """`group` for kernels."""
    return group(ndim, groups, Layout.group(groups, 1))


@lru_cache(maxsize=1024)
def known_layer(ndim: int, axes: int) -> Form:
    """`layer` for kernels."""
    return layer(ndim, axes, Layout.layer(axes))


@lru_cache(maxsize=1024)
def known_over(axes: tuple[int, ...]) -> Form:
    """`over` for kernels."""
    return over(axes, Layout.axes(axes))


@lru_cache(maxsize=1024)
def of_layout(layout: Layout, shape: tuple[int, ...]) -> Form:
    """Any layout: every factor of an axis becomes an axis, kept or reduced."""
    factors: list[list[Any]] = [[] for _ in shape]
    for factor in layout.resolve(shape).factors:
        factors[factor.axis].append(factor)
    split, dims, place = [], [], 0
    for axis, parts in enumerate(factors):
        if len(parts) > 1:
            split.append((axis, tuple(part.size for part in parts)))
        for part in parts or [None]:
            if part is not None and not part.group_stride:
                dims.append(place)
            place += 1
    return Form(layout, tuple(reversed(split)), tuple(dims), None)


def of_parts(split: tuple[tuple[int, tuple[int, ...]], ...], dims: tuple[int, ...]) -> Form:
    """The same of what a layout came to, where kernels are not called."""
    return Form(None, split, dims, None)
