"""The engine of an array: the one place that asks where arrays lie."""

from typing import Any

from ..arrays.memory import Array, DeviceArray
from ..cpu.engine import ENGINE as CPU
from ..cpu.forks import importing_numba
from ..engine.interface import Engine


def engine_of(array: Array) -> Engine:
    """The engine that runs where an array lies."""
    return CPU if on_host(array) else _cuda()


def on_host(array: Array) -> bool:
    """Whether an array lies on the host."""
    return not isinstance(array, DeviceArray)


@importing_numba
def _cuda() -> Engine:
    """The engine for GPUs: with it comes numba.cuda."""
    from ..cuda.engine import ENGINE

    return ENGINE


def labelled(array: Array) -> Any:
    """What makes calls on groups that are split by labels, `cpu.labels.Labelled`: there is none for a GPU yet.

    Raises
    ------
    TypeError
        For an array on a GPU.
    """
    if not on_host(array):
        raise TypeError("labels= works on the host so far, but x lies on a GPU; copy x and labels to the host first")
    return _labelled()


def of_chosen(array: Array) -> Any:
    """What makes statistics of chosen elements where an array lies: `moments` of `cpu.chosen` or of `cuda.chosen`."""
    return _of_chosen() if on_host(array) else _of_chosen_on_gpu()


@importing_numba
def _of_chosen() -> Any:
    from ..cpu.chosen import moments

    return moments


@importing_numba
def _of_chosen_on_gpu() -> Any:
    from ..cuda.chosen import moments

    return moments


@importing_numba
def _labelled() -> Any:
    from ..cpu.labels import Labelled

    return Labelled
