"""The engine of an array: the one place that asks where arrays lie."""

from functools import cache

from ..arrays.memory import Array, DeviceArray
from ..cpu import forks
from ..cpu.engine import ENGINE as CPU
from ..engine.compiler import require_compiler
from ..engine.interface import Engine


def engine_of(array: Array) -> Engine:
    """The engine that runs where an array lies."""
    return _cuda() if isinstance(array, DeviceArray) else CPU


@cache
def _cuda() -> Engine:
    """The engine for GPUs: with it comes numba.cuda, so it is imported at the first call."""
    with forks.importing:
        require_compiler()
        from ..cuda.engine import ENGINE

        return ENGINE
