"""Running statistics: the caller's arrays, checked first and updated in place at the end."""

import weakref
from functools import lru_cache
from typing import Any, Self

import numpy as np

from ..arrays.libraries import on_device
from ..arrays.memory import Array, DeviceArray, overlap, together, writeable
from ..arrays.take import view
from ..cpu import engine
from ..cpu.engine import HostArray, States, Stored
from ..normalization import check_number


class Running:
    """Running statistics: the caller's arrays, updated in place."""

    def __init__(self, mean: Array, var: Array, owner: Any) -> None:
        self.mean, self.var, self.owner = mean, var, owner

    @classmethod
    def take(cls, x: Any, mean: Any, var: Any, channels: int, update: bool) -> Self | None:
        """Check both arrays before anything is touched; None if there are none."""
        if mean is None and var is None:
            return None
        if mean is None or var is None:
            raise ValueError("running_mean and running_var belong together; pass both or neither")
        arrays = []
        for value, name in ((mean, "running_mean"), (var, "running_var")):
            if update and not hasattr(value, "dtype") and not on_device(value):
                raise TypeError(f"{name} is updated in place, so it must be an array, got {type(value).__name__}")
            array = view(value, name)
            if array.shape != (channels,):
                raise ValueError(
                    f"{name} has shape {array.shape}, but x has {channels} channels; pass shape ({channels},)"
                )
            if update and array.dtype.kind in "iub":
                raise TypeError(f"{name} has dtype {array.dtype}, which cannot hold statistics; pass a float array")
            arrays.append(array)
        made, array = cls(arrays[0], arrays[1], mean), view(x)
        together(array, made.arrays)
        if update:
            made.check_memory(array)
        return made

    def check_memory(self, x: Array) -> None:
        """Refuse arrays that cannot be updated in place."""
        for array, name in ((self.mean, "running_mean"), (self.var, "running_var")):
            if not writeable(array):
                raise ValueError(f"{name} is read-only, but training updates it; pass a copy")
            if overlap(array, x):
                raise ValueError(f"{name} is part of x, which is only read; pass an array apart from it")
        if overlap(self.mean, self.var):
            raise ValueError("running_mean and running_var share memory; pass two arrays")

    @property
    def arrays(self) -> dict[str, Array]:
        """Both arrays, by the names that callers know."""
        return {"running_mean": self.mean, "running_var": self.var}

    @property
    def stored(self) -> Stored:
        """Mean and variance as the kernels read them: wherever they lie, if without gaps."""
        return None, engine.packed(self.mean), engine.packed(self.var)

    def update(self, states: States, momentum: float | None) -> None:
        """Move towards the statistics of a new batch: of each channel, or the mean over each channel's instances."""
        if momentum is None:
            momentum = 1 / _batches_seen(self.owner)
        count, mean, m2 = states
        ddof = 1
        if mean.ndim == 2:
            (var,) = engine.pointwise("unbiased", 1, m2, count)
            mean, m2 = engine.mean_of_rows(mean), engine.mean_of_rows(var)
            count, ddof = _ones(mean), 0
        engine.move(self.mean, self.var, (count, mean, m2), momentum, ddof)


def _ones(like: Array) -> Array:
    if isinstance(like, DeviceArray):
        ones: Array = engine.pointwise("second", 1, like, 1.0)[0]
        return ones
    return _host_ones(like.size)


@lru_cache
def _host_ones(channels: int) -> HostArray:
    return np.ones(channels)


def check_momentum(momentum: float | None) -> float | None:
    """Momentum as a float within 0 to 1, or None for the cumulative mean."""
    if momentum is None:
        return None
    value = check_number(momentum, "momentum")
    if not 0 <= value <= 1:
        raise ValueError(f"momentum must be within 0 to 1, got {momentum}; it is the share of the new batch")
    return value


# How many batches went into a cumulative mean, beside the array that holds it: {id: (reference, batches)}.
_cumulative: dict[int, tuple[Any, int]] = {}


def _batches_seen(owner: Any) -> int:
    """Count one more batch for an array of running means; the count dies with the array."""
    key = id(owner)
    _, seen = _cumulative.get(key, (None, 0))
    _cumulative[key] = weakref.ref(owner, lambda _: _cumulative.pop(key, None)), seen + 1
    return seen + 1
