"""Running statistics: the caller's arrays, updated in place once a batch was normalized."""

from typing import Any, NamedTuple

import numpy as np

from ..arrays.memory import Array, check_apart, check_same_device
from ..arrays.take import take_written
from ..engine.interface import Frame
from .choose import engine_of


class Running(NamedTuple):
    """Running statistics that were checked, to be updated or to be used."""

    mean: Array
    var: Array
    momentum: float | None  # None: the mean over all batches
    updated: bool
    counter: Array | None = None  # of the batches, updated too
    owners: tuple[Any, ...] = ()  # all of the caller's arrays that are updated

    @property
    def arrays(self) -> dict[str, Array | None]:
        """All arrays, by the names that callers know."""
        return {"running_mean": self.mean, "running_var": self.var, "num_batches_tracked": self.counter}


def update_running(frame: Any, momentum: float | None, counter: Array | None) -> None:
    """Move towards the statistics of a new batch: of each channel, or the mean over each channel's instances."""
    count, mean, m2, ddof = frame.count, frame.mean, frame.m2, 1
    engine = engine_of(mean)
    if mean.ndim == 2:
        (var,) = engine.pointwise("unbiased", 1, m2, count)
        mean, m2 = engine.mean_of_rows(mean), engine.mean_of_rows(var)
        (count,), ddof = engine.pointwise("full", 1, mean, 1.0), 0
    if counter is not None and (batches := engine.peek(counter)) is not None:
        batches += 1
        momentum, counter = (1 / int(batches) if momentum is None else momentum), None
    share = -1.0 if momentum is None else momentum  # negative: known to the counter
    moved = moving_frame(count, mean, m2, frame.running_mean, frame.running_var, counter, share, ddof)
    for step in engine.plan("update_running", None, moved).steps:
        engine.launch(step, moved)


def moving_frame(
    count: Any, mean: Any, m2: Any, running_mean: Any, running_var: Any, counter: Any, share: float, ddof: int
) -> Frame:
    """What `update_running` of an engine reads and writes."""
    # fmt: off
    return Frame._make((  # by position, for speed
        None, None, None, None, count, mean, m2, None, None, None, None, None, None,
        running_mean, running_var, counter, 0.0, 1, share, ddof, 0,
    ))
    # fmt: on


def may_count(counter: Any, *others: Any) -> bool:
    """Whether a counter on the host may be counted up, by a quick look."""
    if type(counter) is not np.ndarray or counter.shape != () or counter.dtype.kind not in "iu":
        return False
    apart = not any(other is not None and np.may_share_memory(counter, other) for other in others)
    return bool(apart and counter.flags.writeable and counter >= 0)


def take_counter(counter: Any, momentum: Any, x: Any, others: dict[str, Any]) -> Array | None:
    """Check a counter of batches that is to be counted up; it is needed where momentum is None."""
    if counter is None:
        if momentum is None:
            raise ValueError(
                "momentum=None takes the mean over all batches, whose number it needs: pass num_batches_tracked, such "
                "as np.zeros((), np.int64); it is counted up in place"
            )
        return None
    array: Array = take_written(counter, "num_batches_tracked", "an integer array of no axes")
    if array.dtype.kind not in "iu" or array.shape != ():
        raise TypeError(
            f"num_batches_tracked must be an integer array of no axes, such as np.zeros((), np.int64), "
            f"got {type(counter).__name__} of dtype {array.dtype}, shape {array.shape}"
        )
    check_same_device(x, {"num_batches_tracked": array})
    values = engine_of(array).peek(array)
    if values is None and array.dtype != "i8":
        raise TypeError(f"num_batches_tracked has dtype {array.dtype}; on a GPU it must be int64")
    if values is not None and values < 0:
        raise ValueError(f"num_batches_tracked is {values}; it counts batches, so it must not be negative")
    check_apart(array, "num_batches_tracked", {"x": x, **others})
    return array
