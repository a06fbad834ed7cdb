"""Running statistics: the caller's arrays, updated in place once a batch was normalized."""

import weakref
from typing import Any, NamedTuple

from ..arrays.memory import Array
from ..engine.interface import Frame
from .choose import engine_of


class Running(NamedTuple):
    """Running statistics that were checked, to be updated or to be used."""

    mean: Array
    var: Array
    momentum: float | None  # None: the mean over all batches
    updated: bool
    owner: Any  # the caller's array of running means

    @property
    def arrays(self) -> dict[str, Array]:
        """Both arrays, by the names that callers know."""
        return {"running_mean": self.mean, "running_var": self.var}


def update_running(frame: Any, momentum: float | None, owner: Any) -> None:
    """Move towards the statistics of a new batch: of each channel, or the mean over each channel's instances."""
    if momentum is None:
        momentum = 1 / _batches_seen(owner)
    count, mean, m2, ddof = frame.count, frame.mean, frame.m2, 1
    engine = engine_of(mean)
    if mean.ndim == 2:
        (var,) = engine.pointwise("unbiased", 1, m2, count)
        mean, m2 = engine.mean_of_rows(mean), engine.mean_of_rows(var)
        (count,), ddof = engine.pointwise("full", 1, mean, 1.0), 0
    running = {"running_mean": frame.running_mean, "running_var": frame.running_var}
    moved = Frame(count=count, mean=mean, m2=m2, **running, momentum=momentum, ddof=ddof)
    for step in engine.plan("update_running", None, moved).steps:
        engine.launch(step, moved)


# How many batches went into a cumulative mean, beside the array that holds it: {id: (reference, batches)}.
_cumulative: dict[int, tuple[Any, int]] = {}


def _batches_seen(owner: Any) -> int:
    """Count one more batch for an array of running means; the count dies with the array."""
    key = id(owner)
    _, seen = _cumulative.get(key, (None, 0))
    _cumulative[key] = weakref.ref(owner, lambda _: _cumulative.pop(key, None)), seen + 1
    return seen + 1
