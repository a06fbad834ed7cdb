"""Segments whose innermost run is kept, as features behind tokens: see `segments`, and `columns` for how one is walked.

A unit is a tile of the columns of one segment. A few columns are walked with several rows of x side by side, where a
segment has enough of them.
"""

import math

from ...maths import accumulators, welford
from ...walk.slots import BIAS, HIGH, OUT, REPEATS, ROWS, SIZE, WEIGHT, X
from .column_sums import _merge_part, _part_count, _part_moments
from .columns import (
    _bases,
    _few_rows,
    _finish_tile,
    _has_few_rows,
    _keep_part,
    _numbers,
    _own_columns,
    _read_states,
    _room,
    _settle_tile,
    _tile,
    _tiles,
    _write_states,
)
from .compiling import inline, kernel
from .intrinsics import is_present, load_first, load_int, load_near, store_int, store_near, stream_fence, summed_like
from .lanes import WIDTH, splat
from .segment_table import LEAST_ROWS, PIXELS, UNITS, WHOLE
from .segment_table import TILE as TILE_OF_SEGMENT
from .segments import cut, opened, resize, shifted, task_of, tasks_of
from .walk import LIKE64, REST, TILE, added_to_std, stream_edge, stream_end


@inline
def _side_by_side(info, table, rows):
    """Make the table one of so many rows of x, several side by side, as columns, where there are enough; returns how
    many rows of columns there are, through all repeats.
    """
    pixels, size = load_int(info, PIXELS), resize(info, table, rows)
    if pixels == 1:
        return size
    count = load_int(table, ROWS + SIZE)
    repeats = size // count if count > 0 else 0
    if count < LEAST_ROWS * pixels:
        pixels = 1
    store_int(table, REST, count % pixels)
    store_int(table, HIGH + SIZE, pixels)
    store_int(table, TILE, pixels * load_int(info, TILE_OF_SEGMENT))
    store_int(table, ROWS + SIZE, count // pixels)
    store_int(table, ROWS + X, pixels * load_int(table, HIGH + X))
    store_int(table, ROWS + OUT, pixels * load_int(table, HIGH + OUT))
    store_int(table, ROWS + WEIGHT, pixels * load_int(table, HIGH + WEIGHT))
    store_int(table, ROWS + BIAS, pixels * load_int(table, HIGH + BIAS))
    return repeats * (count // pixels)


@inline
def _corner(info, table, unit, begin, end):
    """Where a tile is, in rows [begin, end) of x: its corner, first column, high and low sizes."""
    units, tiles = load_int(info, UNITS), _tiles(table)
    segment, index = unit // units, unit % units
    corner, column, high, low = _tile(table, index // tiles, index % tiles)
    return shifted(info, corner, segment, begin, end), column, high, low


@inline
def _entered(info, table, offsets, segment):
    """Make the table that of a segment; returns its first row, the one behind the last, and in how many parts it is."""
    begin, end = load_int(offsets, segment), load_int(offsets, segment + 1)
    return begin, end, cut(info, table, _side_by_side(info, table, end - begin))


@inline(forceinline=False)
def _moments_of(x, narrow, table, origin, part, columns, center, room, bases, mean, m2):
    """`columns._part_moments`: once in a kernel, wherever it is called."""
    return _part_moments(x, narrow, table, origin, part, columns, center, room, bases, mean, m2)


@inline
def _reduce_parts(x, narrow, info, table, offsets, task, center, room, bases, mu, q, means, m2s):
    """States of some parts of the columns of a long segment, one after the other."""
    unit, _, first, last, at = task
    begin, end, _ = _entered(info, table, offsets, unit // load_int(info, UNITS))
    corner, _, high, low = _corner(info, table, unit, begin, end)
    _bases(x, table, corner[0], high, low, center, bases)
    for part in range(first, last):
        _moments_of(x, narrow, table, corner[0], part, high * low, center, room, bases, mu, q)
        _keep_part(at + part * high * low, high * low, (mu, q, bases), means, m2s)


@inline
def _reduce(x, narrow, info, table, offsets, unit, center, room, arrays, states):
    """States of the groups of a tile, in the first two arrays: its corner, high and low sizes, and a group's count."""
    mu, q, mean_b, m2_b, bases = arrays
    begin, end, parts = _entered(info, table, offsets, unit // load_int(info, UNITS))
    corner, _, high, low = _corner(info, table, unit, begin, end)
    n = 0.0
    if begin == end:
        for i in range(0, high * low, WIDTH):
            store_near(mu, 8 * i, splat(math.nan))
            store_near(q, 8 * i, splat(0.0))
            if is_present(states[3]):
                store_near(bases, 8 * i, splat(0.0))
        _write_states(table, corner[4], high, low, n, mu, q, bases, *states)
    elif _has_few_rows(x, table):
        n = _few_rows(x, table, corner[0], low, center, mu, q, bases, states[3])
        _write_states(table, corner[4], high, low, n, mu, q, bases, *states)
    else:
        _bases(x, table, corner[0], high, low, center, bases)
        for part in range(parts):
            nb = _moments_of(x, narrow, table, corner[0], part, high * low, center, room, bases, mean_b, m2_b)
            n = _merge_part(high * low, n, mu, q, nb, mean_b, m2_b)
        n = _settle_tile(x, table, corner, (high, low), n, center, bases, mu, q, *states, room)
    return corner, high, low, n


@kernel
def moments(first, last, info, frame):
    """States of the groups of some segments, or of parts of one."""
    x, center, states, room = frame.x, frame.center, (frame.count, frame.mean, frame.m2, frame.rest), _room()
    arrays = _numbers(), _numbers(), _numbers(), _numbers(), _numbers()
    table, offsets = opened(info)
    first, last = tasks_of(info, first, last)
    for index in range(first, last):
        task = task_of(info, index)
        unit, last_unit, begin, _, _ = task
        if begin != WHOLE:
            own = arrays[4], arrays[0], arrays[1]
            _reduce_parts(x, None, info, table, offsets, task, center, room, *own, frame.part_mean, frame.part_m2)
            continue
        while unit < last_unit:
            _reduce(x, None, info, table, offsets, unit, center, room, arrays, states)
            unit += 1


@kernel
def normalize(first, last, info, frame):
    """Segment after segment: statistics, then output while it is in the cache; or parts of one, to be merged. Writes
    the states if asked.
    """
    x, out, w, b, spread, center = frame.x, frame.out, frame.weight, frame.bias, added_to_std(frame), frame.center
    states, edge, room = (frame.count, frame.mean, frame.m2, frame.rest), stream_edge(out), _room()
    arrays = _numbers(), _numbers(), _numbers(), _numbers(), _numbers()
    mu, q, narrow = arrays[0], arrays[1], summed_like(x, out)
    table, offsets = opened(info)
    first, last = tasks_of(info, first, last)
    for index in range(first, last):
        task = task_of(info, index)
        unit, last_unit, begin, _, _ = task
        if begin != WHOLE:
            own = arrays[4], mu, q
            _reduce_parts(x, narrow, info, table, offsets, task, center, room, *own, frame.part_mean, frame.part_m2)
            continue
        while unit < last_unit:
            corner, high, low, n = _reduce(x, narrow, info, table, offsets, unit, center, room, arrays, states)
            if n > 0.0:
                for i in range(0, _own_columns(table, high, low), WIDTH):
                    store_near(q, 8 * i, welford.inverse_std(load_near(q, 8 * i, LIKE64), n, spread))
                rows = 0, load_int(table, REPEATS) * load_int(table, ROWS + SIZE)
                _finish_tile(x, out, w, b, table, corner, rows, (high, low), mu, q, room, edge)
            unit += 1
    stream_end(out, edge)
    stream_fence()


@kernel
def apply(first, last, info, frame):
    """Output of some rows of x, from given states of the groups; without counts, m2 is the variance."""
    x, out, w, b, spread = frame.x, frame.out, frame.weight, frame.bias, added_to_std(frame)
    states, edge, room = (frame.count, frame.mean, frame.m2), stream_edge(out), _room()
    mu, inverse = _numbers(), _numbers()
    table, offsets = opened(info)
    units = load_int(info, UNITS)
    first, last = tasks_of(info, first, last)
    for index in range(first, last):
        unit, last_unit, begin, end, _ = task_of(info, index)
        while unit < last_unit:
            segment = unit // units
            start, stop = max(load_int(offsets, segment), begin), min(load_int(offsets, segment + 1), end)
            if start < stop:
                _side_by_side(info, table, stop - start)
                corner, _, high, low = _corner(info, table, unit, start, stop)
                _read_states(table, corner[4], (high, low), spread, states, mu, inverse, room)
                rows = 0, load_int(table, REPEATS) * load_int(table, ROWS + SIZE)
                _finish_tile(x, out, w, b, table, corner, rows, (high, low), mu, inverse, room, edge)
            unit += 1
    stream_end(out, edge)
    stream_fence()


@kernel
def merge(first, last, info, frame):
    """Merge the states of the parts of a tile, one after the other."""
    x, center, room = frame.x, frame.center, _room()
    mu, q, bases = _numbers(), _numbers(), _numbers()
    table, offsets = opened(info)
    first, last = tasks_of(info, first, last)
    for index in range(first, last):
        unit, _, _, parts, at = task_of(info, index)
        begin, end, _ = _entered(info, table, offsets, unit // load_int(info, UNITS))
        corner, _, high, low = _corner(info, table, unit, begin, end)
        columns, n = high * low, 0.0
        for i in range(0, columns, WIDTH):
            width = min(WIDTH, columns - i)
            mean_a, m2_a, n = splat(0.0), splat(0.0), 0.0
            for part in range(parts):
                k = 8 * (at + part * columns + i)
                mean_b = load_first(frame.part_mean, k, 8, width, LIKE64)
                m2_b = load_first(frame.part_m2, k, 8, width, LIKE64)
                n, mean_a, m2_a = accumulators.merge(n, mean_a, m2_a, _part_count(table, part), mean_b, m2_b)
            store_near(mu, 8 * i, mean_a)
            store_near(q, 8 * i, m2_a)
        _bases(x, table, corner[0], high, low, center, bases)
        states = frame.count, frame.mean, frame.m2, frame.rest
        _settle_tile(x, table, corner, (high, low), n, center, bases, mu, q, *states, room)
