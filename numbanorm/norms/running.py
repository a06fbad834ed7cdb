"""Running statistics as callers give them, checked before anything is touched."""

from typing import Any

from ..arrays.memory import Array, check_same_device, overlap
from ..arrays.take import take_written, view
from ..call.arguments import check_momentum
from ..call.running import Running, take_counter
from .channels import Shape, no_vector


def take_running(x: Any, running: tuple[Any, Any, Any, Any], channels: Shape, update: bool) -> Running | None:
    """Check running mean, running variance, momentum and the counter of batches; None if there are no arrays."""
    mean, var, momentum, counter = running
    if mean is None and var is None:
        check_momentum(momentum)
        if counter is not None and update:
            raise ValueError(
                "num_batches_tracked counts batches of running statistics; pass running_mean and running_var"
            )
        return None
    if mean is None or var is None:
        given, missing = ("running_mean", "running_var") if var is None else ("running_var", "running_mean")
        raise ValueError(f"{given} is given and {missing} is not; they belong together: pass both or neither")
    arrays: list[Array] = []
    for value, name in ((mean, "running_mean"), (var, "running_var")):
        array = take_written(value, name) if update else view(value, name)
        if array.shape != (channels.channels,):
            raise ValueError(no_vector(name, array.shape, channels))
        if update and array.dtype.kind in "iub":
            raise TypeError(f"{name} has dtype {array.dtype}, which cannot hold statistics; pass a float array")
        arrays.append(array)
    array = view(x)
    check_same_device(array, {"running_mean": arrays[0], "running_var": arrays[1]})
    share = check_momentum(momentum)
    if not update:
        return Running(arrays[0], arrays[1], share, False)
    _check_memory(array, arrays[0], arrays[1])
    taken = take_counter(counter, share, array, {"running_mean": arrays[0], "running_var": arrays[1]})
    return Running(arrays[0], arrays[1], share, True, taken, (mean, var, counter))


def required(running: Running | None, mend: str) -> Running:
    """Refuse to go on without running statistics; `mend` says what else one may have meant."""
    if running is None:
        raise ValueError(f"running_mean and running_var are None, but they are needed here: pass both, {mend}")
    return running


def _check_memory(x: Array, mean: Array, var: Array) -> None:
    """Refuse arrays that cannot be updated in place."""
    for array, name in ((mean, "running_mean"), (var, "running_var")):
        if overlap(array, x):
            raise ValueError(f"{name} is part of x, which is only read; pass an array apart from it")
    if overlap(mean, var):
        raise ValueError("running_mean and running_var share memory; pass two arrays")
