"""What kernels over segments have in common: rows of different lengths, end to end, each walked as an array of its own.

The table of a segment is one of `walk.slots`. All but a few sizes in it are the same for every segment.
"""

import numpy as np

from ...walk.slots import LOOPS, REPEATS
from .compiling import inline
from .intrinsics import integers_at, load_int, stack, store_int
from .segment_table import (
    BUNDLES,
    ENTRY,
    GROUPS,
    OFFSETS,
    PART_SIZE,
    REPEATS_OF_ROW,
    REVERSED,
    ROW,
    SIZE_OF_ROW,
    STEPS,
    TABLE,
    TABLE_SIZE,
    TASK,
    TASKS,
)
from .walk import PART_SIZE as SIZE_OF_PART
from .walk import PARTS, moved

INT64 = np.int64(0)  # names a type
ROOM = 512  # numbers of a table: an array has no more than 63 loops of two steps or more
assert ROOM >= LOOPS + 64 * 6


@inline
def opened(info):
    """The kernel's own table of a segment, and the offsets."""
    table, at = stack(ROOM, INT64), load_int(info, TABLE)
    for i in range(load_int(info, TABLE_SIZE)):
        store_int(table, i, load_int(info, at + i))
    return table, integers_at(load_int(info, OFFSETS))


@inline
def tasks_of(info, first, last):
    """First and last task of some bundles."""
    at = load_int(info, BUNDLES)
    return load_int(info, at + first), load_int(info, at + last)


@inline
def task_of(info, task):
    """What one task is: see `segment_table`."""
    at = load_int(info, TASKS) + task * TASK
    return (
        load_int(info, at),
        load_int(info, at + 1),
        load_int(info, at + 2),
        load_int(info, at + 3),
        load_int(info, at + 4),
    )


@inline
def resize(info, table, rows):
    """Make the table one of so many rows of x; returns how many elements (or rows of columns) a group has."""
    store_int(table, load_int(info, ENTRY), rows * load_int(info, STEPS))
    repeats = load_int(info, REPEATS_OF_ROW)
    if repeats > 0:
        store_int(table, REPEATS, rows * repeats)
    return rows * load_int(info, SIZE_OF_ROW)


@inline
def cut(info, table, size):
    """Cut a segment into parts, by its own length; returns how many there are."""
    part, parts = load_int(info, PART_SIZE), 1
    if size > part + part // 4:
        parts = (size + part - 1) // part
        store_int(table, SIZE_OF_PART, part)
    else:
        store_int(table, SIZE_OF_PART, size)
    store_int(table, PARTS, parts)
    return parts


@inline
def shifted(info, place, segment, begin, end):
    """A place of the table, in rows [begin, end) of x, which belong to a segment."""
    start = begin if load_int(info, REVERSED) == 0 else end - 1
    x, out, weight, bias, group = moved(info, place, ROW, start)
    return x, out, weight, bias, group + segment * load_int(info, GROUPS)
