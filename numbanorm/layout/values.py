"""Values of groups, such as a mean of each, seen at the shape of an array."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .arguments import shown
from .grouping import Factor


def expanded(values: Any, factors: Sequence[Factor], group_shape: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    """Values of a group shape, seen at x's shape."""
    if 0 in group_shape:
        return values.reshape(shape)
    kept = sorted((f for f in factors if f.group_stride), key=lambda f: -f.group_stride)
    values = values.reshape([f.size for f in kept])
    order = [f for f in factors if f.group_stride]
    for i, factor in enumerate(order):  # every array has swapaxes
        j = kept.index(factor)
        values, kept[i], kept[j] = values.swapaxes(i, j), kept[j], kept[i]
    whole = {f.axis for f in factors} - {f.axis for f in order}  # axes of which nothing is kept
    values = values.reshape([f.size if f.group_stride else 1 for f in factors])
    values = _broadcast(values, [1 if f.axis in whole else f.size for f in factors])
    values = values.reshape([1 if axis in whole else n for axis, n in enumerate(shape)])
    return _broadcast(values, shape)


def as_values(values: Any) -> Any:
    """What may have a value for each group: an array that has NumPy's methods, or what NumPy makes one of."""
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError("values are a masked array, whose mask would be lost; pass values.filled(value)")
    if isinstance(values, np.ndarray):
        return np.asarray(values)
    if hasattr(values, "swapaxes") and (hasattr(values, "expand") or hasattr(values, "__array_function__")):
        return values
    if isinstance(values, int | float | list | tuple | np.generic) or hasattr(values, "__array__"):
        if not hasattr(values, "__cuda_array_interface__"):
            return np.asarray(values)
        raise TypeError(f"values are of a GPU's {type(values).__name__}, which cannot be expanded; copy it to the host")
    raise TypeError(f"values must be an array of one value a group, such as moments.mean, got {shown(values)}")


def _broadcast(values: Any, shape: Sequence[int]) -> Any:
    """A view of another shape, in which an axis of size 1 may be any length; of an ndarray it is read-only."""
    return values.expand(tuple(shape)) if hasattr(values, "expand") else np.broadcast_to(values, tuple(shape))
