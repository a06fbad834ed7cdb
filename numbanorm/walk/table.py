"""The one writer of the tables that kernels read: see `slots` for their entries."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .families import SortedLoops
from .slots import NUM_SETTINGS


def write(loops: SortedLoops, *settings: int) -> NDArray[np.int64]:
    """Write a table: loops, each in its place, and what else an engine tells its kernels."""
    counts = len(loops.outer), len(loops.inner), prod(loop.size for loop in loops.inner)
    if len(settings) > NUM_SETTINGS:
        raise ValueError(f"a table has room for {NUM_SETTINGS} settings, got {len(settings)}: see walk.slots")
    spare = [0] * (NUM_SETTINGS - len(settings))
    fixed, free = (loops.rows, loops.high, loops.low), (*loops.outer, *loops.inner)
    return np.array([*counts, *loops.base, *_flat(fixed), *settings, *spare, *_flat(free)], np.int64)


def _flat(loops: Sequence[Sequence[int]]) -> list[Any]:
    return [number for loop in loops for number in loop]
