"""Statistics of chosen and weighted elements of segments: see `segments` for how they are found, `chosen` for all else.

A unit is a group of a segment, or a tile of groups side by side. As elsewhere a long segment is cut into parts by its
own length, and these are merged in order, whether one task adds them all up or several do.
"""

import math

from ...maths.chosen import united
from ...walk.slots import GROUP, LOW
from .chosen import (
    COLUMNS,
    PART_SIZE,
    PARTIAL,
    SQUARES,
    TILE,
    TOGETHER,
    columns_states,
    load_state,
    rooms,
    rows_state,
)
from .chosen import GROUPS as ALL_GROUPS
from .compiling import inline, kernel
from .intrinsics import load_int, load_one, store_one
from .lanes import WIDTH
from .segment_table import UNITS, WHOLE
from .segments import cut, opened, resize, shifted, task_of, tasks_of
from .walk import ZERO, moved, outer_place

LEAST_TOGETHER = 8  # rows that are several together, from which on their states are worth merging
NOTHING = 0.0, 0.0, 0.0, 0.0, 0.0  # the state of nothing: (n, high, low, m2, v), v being the sum of squared weights


@inline
def entered(info, table, offsets, unit):
    """Make the table that of a unit's segment; returns the place of its first group, how many lie side by side, how
    many elements (or rows of columns) each has, and in how many parts they are.
    """
    units, tile, wide = load_int(info, UNITS), load_int(table, TILE), load_int(table, COLUMNS)
    segment, index, column = unit, ZERO, ZERO
    if units > 1:  # a division takes as long as a few elements
        segment = unit // units
        index = unit - segment * units
    if wide > tile:
        tiles = (wide + tile - 1) // tile
        column = index % tiles * tile
        index = index // tiles
    begin, end = load_int(offsets, segment), load_int(offsets, segment + 1)
    size = resize(info, table, end - begin)
    parts = cut(info, table, size)
    place = shifted(info, outer_place(table, index), segment, begin, end)
    return moved(table, place, LOW + ZERO, column), min(tile, wide - column), size, parts


@inline
def rows_together(table, columns, size):
    """How many of so many rows of a few columns are one, as wide: whole vectors, and few of them if rows are few."""
    unit = WIDTH // min(columns & -columns, WIDTH)
    return max(min(load_int(table, TOGETHER), size // LEAST_TOGETHER // unit * unit), 1)


@inline
def joined(state, other):
    """State of two sets together, with sums of squared weights."""
    n, high, low, m2 = united(state[0], state[1], state[2], state[3], other[0], other[1], other[2], other[3])
    return n, high, low, m2, state[4] + other[4]


@inline
def keep(table, into, k, state, none):
    """Write a state; of nothing with the mean `none`."""
    count, mean, m2, rest, number = into
    store_one(count, k, state[0])
    store_one(mean, k, none if state[0] == 0.0 else state[1])
    store_one(m2, k, state[3])
    store_one(rest, k, state[2])
    if load_int(table, SQUARES) != 0:
        store_one(count, number + k, state[4])


@inline
def arrays_of(table, frame):
    """Where states of groups go, and those of parts; and how many of them there are."""
    whole = frame.count, frame.mean, frame.m2, frame.rest, load_int(table, ALL_GROUPS)
    return whole, (frame.part_count, frame.part_mean, frame.part_m2, frame.part_rest, load_int(table, PARTIAL))


@inline
def reduce_rows(first, last, info, frame, skips, squares):
    """States of the groups of some segments, or of parts of one."""
    x, m, w = frame.x, frame.bias, frame.weight
    table, offsets = opened(info)
    whole, of_parts = arrays_of(table, frame)
    first, last = tasks_of(info, first, last)
    for task in range(first, last):
        unit, last_unit, begin, end, at = task_of(info, task)
        while unit < last_unit:
            place, _, size, parts = entered(info, table, offsets, unit)
            state, part = NOTHING, max(begin, ZERO)
            while part < (parts if begin == WHOLE else end):
                start = part * load_int(table, PART_SIZE)
                stop = min(start + load_int(table, PART_SIZE), size)
                one = rows_state(x, m, w, table, place, start, stop, skips, squares)
                if begin == WHOLE:
                    state = joined(state, one)
                else:
                    keep(table, of_parts, at + part, one, 0.0)
                part += 1
            if begin == WHOLE:
                keep(table, whole, place[4], state, math.nan)
            unit += 1


@inline
def reduce_columns(first, last, info, frame, skips, squares):
    """States of the groups of some segments, which lie side by side, or of parts of one."""
    x, m, w = frame.x, frame.bias, frame.weight
    table, offsets = opened(info)
    whole, of_parts = arrays_of(table, frame)
    beside = load_int(table, LOW + GROUP)
    room, states = rooms()
    sums = rooms()[1]
    first, last = tasks_of(info, first, last)
    for task in range(first, last):
        unit, last_unit, begin, end, at = task_of(info, task)
        while unit < last_unit:
            place, columns, size, parts = entered(info, table, offsets, unit)
            together, part = rows_together(table, columns, min(size, load_int(table, PART_SIZE))), max(begin, ZERO)
            while part < (parts if begin == WHOLE else end):
                start = part * load_int(table, PART_SIZE)
                stop = min(start + load_int(table, PART_SIZE), size)
                columns_states(x, m, w, table, place, columns, start, stop, together, skips, squares, room, states)
                for column in range(columns):
                    one = load_state(states, column)
                    if begin != WHOLE:
                        keep(table, of_parts, at + part * columns + column, one, 0.0)
                        continue
                    if part > 0:
                        one = joined(load_state(sums, column), one)
                    if part + 1 == parts:
                        keep(table, whole, place[4] + column * beside, one, math.nan)
                    else:
                        store_one(sums[0], column, one[0])
                        store_one(sums[1], column, one[1])
                        store_one(sums[2], column, one[2])
                        store_one(sums[3], column, one[3])
                        store_one(sums[4], column, one[4])
                part += 1
            unit += 1


# -- kernels -----------------------------------------------------------------------------------------------------------
@kernel
def rows(first, last, info, frame):
    """States of groups of segments, or of parts of one."""
    reduce_rows(first, last, info, frame, False, False)


@kernel
def rows_skipna(first, last, info, frame):
    """The same, without NaN."""
    reduce_rows(first, last, info, frame, True, False)


@kernel
def rows_squares(first, last, info, frame):
    """The same, with the sum of squared weights."""
    reduce_rows(first, last, info, frame, False, True)


@kernel
def rows_skipna_squares(first, last, info, frame):
    """The same, without NaN, with the sum of squared weights."""
    reduce_rows(first, last, info, frame, True, True)


@kernel
def columns(first, last, info, frame):
    """States of groups of segments that lie side by side, or of parts of one."""
    reduce_columns(first, last, info, frame, False, False)


@kernel
def columns_skipna(first, last, info, frame):
    """The same, without NaN."""
    reduce_columns(first, last, info, frame, True, False)


@kernel
def columns_squares(first, last, info, frame):
    """The same, with the sum of squared weights."""
    reduce_columns(first, last, info, frame, False, True)


@kernel
def columns_skipna_squares(first, last, info, frame):
    """The same, without NaN, with the sum of squared weights."""
    reduce_columns(first, last, info, frame, True, True)


@kernel
def merge(first, last, info, frame):
    """Merge the states of the parts of a long segment's groups, in order; a task is a unit."""
    table, offsets = opened(info)
    whole, (count, mean, m2, rest, partial) = arrays_of(table, frame)
    beside = load_int(table, LOW + GROUP)
    first, last = tasks_of(info, first, last)
    for task in range(first, last):
        unit, _, _, parts, at = task_of(info, task)
        place, columns, _, _ = entered(info, table, offsets, unit)
        for column in range(columns):
            state = NOTHING
            for part in range(parts):
                k = 8 * (at + part * columns + column)
                v = 0.0
                if load_int(table, SQUARES) != 0:
                    v = load_one(count, k + 8 * partial)
                one = load_one(count, k), load_one(mean, k), load_one(rest, k), load_one(m2, k), v
                state = joined(state, one)
            keep(table, whole, place[4] + column * beside, state, math.nan)
