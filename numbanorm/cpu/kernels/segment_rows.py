"""Segments whose innermost run is reduced: see `segments` for how they are found, `rows` for how each is walked.

Short segments that are one run each are settled WIDTH at a time, one in each lane, as are the groups of a segment that
lie side by side. Which sums are taken, and in which order, depends on a segment's own length only.
"""

import math

import numpy as np

from ...maths import accumulators, welford
from ...walk.slots import GROUP, LOW, OUT, SIZE, X
from .compiling import inline, kernel
from .constants import BLOCK, NEAR_RUN, SIDE
from .intrinsics import (
    behind,
    exact_in_float64,
    is_present,
    itemsize,
    load_first,
    load_int,
    load_near,
    load_one,
    made_like,
    neutral_one,
    stack,
    store_first,
    store_int,
    store_near,
    store_one,
    stream_fence,
    stream_head,
    summed_like,
)
from .lanes import WIDTH, convert, joined, splat, total
from .rows import (
    _block_sums,
    _finish_groups,
    _made_whole,
    _moments,
    _near_sums_of_run,
    _neighbours,
    _room,
    _side,
    _state_arrays,
    _write_states,
)
from .runs import folded, in_precision, room_for_few, set_coefficients, write_runs
from .segment_table import SHORT, SIZE_OF_ROW, UNITS, WHOLE
from .segment_table import TILE as TILE_OF_SEGMENT
from .segments import INT64, cut, opened, resize, shifted, task_of, tasks_of
from .walk import (
    LIKE64,
    STREAM,
    TILE,
    ZERO,
    _finish,
    _keep,
    added_to_std,
    coefficients_of,
    given_statistics,
    load_group,
    outer_place,
    stream_edge,
    stream_end,
    sum_run,
    write_line,
)

PLACES = 6  # numbers of a run: its place, and its size
ALL_PLACES = PLACES * WIDTH
ONE, MOST = np.int64(1), np.int64(2**62)  # MOST: behind all rows


@inline
def _keep_place(places, g, place, size):
    x, out, weight, bias, group = place
    at = g * PLACES
    store_int(places, at, x)
    store_int(places, at + 1, out)
    store_int(places, at + 2, weight)
    store_int(places, at + 3, bias)
    store_int(places, at + 4, group)
    store_int(places, at + 5, size)


@inline
def _kept_place(places, g):
    at = g * PLACES
    place = (
        load_int(places, at),
        load_int(places, at + 1),
        load_int(places, at + 2),
        load_int(places, at + 3),
        load_int(places, at + 4),
    )
    return place, load_int(places, at + 5)


@inline
def _short_runs(info, table, offsets, unit, last, begin, end, places):
    """How many segments from `unit` on are short runs, up to WIDTH and before `last`, or have no element; their places
    in rows [begin, end) of x.
    """
    runs, base = ZERO, outer_place(table, ZERO)
    most = min(last - unit, WIDTH) if load_int(info, SHORT) != 0 else ZERO
    while runs < most:
        segment = unit + runs
        start, stop = max(load_int(offsets, segment), begin), min(load_int(offsets, segment + 1), end)
        size = max(stop - start, ZERO) * load_int(info, SIZE_OF_ROW)
        if size > BLOCK:
            break
        _keep_place(places, runs, shifted(info, base, segment, start, stop), size)
        runs += 1
    return runs


@inline
def _sums_of_one(x, narrow, origin, step, size, center):
    """Pivot and sums of a run as `rows` takes them, without looking at the table, and whether they serve."""
    pivot, zero, serves = 0.0, splat(0.0), 0.0
    sums = zero, zero
    if narrow is not None:
        if size >= NEAR_RUN and step == itemsize(x):
            return _near_sums_of_run(x, narrow, origin, size, center)
    if exact_in_float64(x):
        if center != 0:
            pivot = welford.finite_or_zero(load_one(x, origin))
        sums = sum_run(x, origin, step, size, pivot, (zero, zero))
        serves = 1.0
    return pivot, total(sums[0]) if center != 0 else 0.0, total(sums[1]), serves


@inline
def _short_states(x, narrow, table, runs, center, room, counts, places):
    """Count, mean and m2 of short runs, in lanes."""
    pivots, sums, squares, _, _ = room
    step = load_int(table, LOW + X)
    for g in range(runs):
        (origin, _, _, _, _), size = _kept_place(places, g)
        store_one(counts, g, float(size))
        if size > 0:
            pivot, s, q, serves = _sums_of_one(x, narrow, origin, step, size, center)
            if serves != 0.0:
                store_one(pivots, g, pivot)
                store_one(sums, g, s)
                store_one(squares, g, q)
            else:
                store_int(table, LOW + SIZE, size)
                at = behind(pivots, g), behind(sums, g), behind(squares, g), room[3], room[4]
                _block_sums(x, narrow, table, origin, ZERO, 1, ZERO, size, center, at)
    n, both = load_near(counts, ZERO, LIKE64), (load_near(sums, ZERO, LIKE64), load_near(squares, ZERO, LIKE64))
    mean, m2 = accumulators.settle(n, load_near(pivots, ZERO, LIKE64), both)
    none = n == 0.0
    return n, welford.where(none, math.nan, mean), welford.where(none, 0.0, m2)


@inline
def _write_short(unit, runs, states, room, count, mean, m2, rest):
    """Write the states of neighbouring segments, if anybody wants them; `room`: as `_short_states` left it."""
    if is_present(count):
        n, mu, q = states
        store_first(count, 8 * unit, 8, runs, n)
        store_first(mean, 8 * unit, 8, runs, mu)
        store_first(m2, 8 * unit, 8, runs, q)
        if is_present(rest):
            low = accumulators.two_sum(load_near(room[0], ZERO, LIKE64), load_near(room[1], ZERO, LIKE64) / n)[1]
            store_near(room[0], ZERO, welford.finite_or_zero(low))
            for g in range(runs):
                store_one(rest, unit + g, load_one(room[0], 8 * g))


@inline
def _side_by_side(x, out, table):
    """Whether the elements of a run lie side by side, in x and in the output."""
    return load_int(table, LOW + X) == itemsize(x) and load_int(table, LOW + OUT) == itemsize(out)


@inline
def _lie_joined(x, out, runs, places):
    """Whether runs lie behind one another, in x and in the output; and how many elements they have."""
    (xo, oo, _, _, _), count = _kept_place(places, ZERO)
    are = runs > 0
    for g in range(1, runs):
        (x_next, out_next, _, _, _), size = _kept_place(places, g)
        are = are and x_next - xo == count * itemsize(x) and out_next - oo == count * itemsize(out)
        count += size
    return are, count


@inline
def _write_joined(x, out, runs, places, count, coefs, like, stream, edge):
    """Write `count` elements of runs behind one another as one run: a vector takes coefficients of all that it lies in.

    Each run ends somewhere in a vector, which no processor foresees: so it is one branch a run that is taken wrong, and
    past the cache all lines are whole.
    """
    (xo, oo, _, _, _), end = _kept_place(places, ZERO)
    xs, os, one, none = itemsize(x), itemsize(out), splat(convert(1.0, like)), splat(like)
    i, k, part = ZERO, ZERO, ZERO
    if stream:
        part = min(stream_head(out, oo), count)
        stream = part >= 0
    while i < count:
        high, scale, offset = coefficients_of(coefs, k, like)
        if part <= 0:
            for _ in range((end - i) // WIDTH):
                y = _finish(load_near(x, xo + i * xs, like), ZERO, high, scale, offset, one, none, like)
                write_line(out, oo + i * os, y, stream)
                i += WIDTH
            part = min(WIDTH, count - i)
        while end < i + part:
            k += 1
            a, c, d = coefficients_of(coefs, k, like)
            high, scale, offset = joined(high, a, end - i), joined(scale, c, end - i), joined(offset, d, end - i)
            end += load_int(places, k * PLACES + 5)
        if part == WIDTH:
            y = _finish(load_near(x, xo + i * xs, like), ZERO, high, scale, offset, one, none, like)
            write_line(out, oo + i * os, y, stream)
        elif part > 0:
            y = _finish(load_first(x, xo + i * xs, xs, part, like), ZERO, high, scale, offset, one, none, like)
            if stream:
                _keep(out, oo + i * os, part, y, edge)
            else:
                store_first(out, oo + i * os, os, part, y)
        i += part
        part = ZERO


@inline
def _finish_short(x, out, w, b, table, runs, mean, inverse, coefficients, places, edge):
    """Write the output of short runs."""
    lead, _ = _kept_place(places, ZERO)
    unfit = set_coefficients(x, out, w, b, table, lead, LOW + ZERO, runs, ZERO, mean, inverse, coefficients)
    if unfit == 0.0 and folded(table) and _side_by_side(x, out, table):
        are_joined, count = _lie_joined(x, out, runs, places)
        if are_joined:
            like, stream = made_like(x, out), load_int(table, STREAM) != 0
            coefs = in_precision(coefficients, like)[:3]
            _write_joined(x, out, runs, places, count, coefs, like, stream, edge)
            return
    for g in range(runs):
        place, size = _kept_place(places, g)
        write_runs(x, out, w, b, table, place, LOW + ZERO, 1, size, g, unfit, coefficients, edge, None)


@inline
def _entered(info, table, offsets, segment):
    """Make the table that of a segment; returns its first row, the one behind the last, and in how many parts it is."""
    begin, end = load_int(offsets, segment), load_int(offsets, segment + 1)
    parts = cut(info, table, resize(info, table, end - begin))
    store_int(table, TILE, load_int(info, TILE_OF_SEGMENT) if parts == 1 else 1)
    return begin, end, parts


@inline
def _write_empty(table, group, batch, count, mean, m2, rest):
    """Write the states of groups without an element."""
    step = load_int(table, _side(table) + GROUP)
    for g in range(batch):
        store_one(count, group + g * step, 0.0)
        store_one(mean, group + g * step, math.nan)
        store_one(m2, group + g * step, 0.0)
        if is_present(rest):
            store_one(rest, group + g * step, 0.0)


@inline(forceinline=False)
def _moments_of(x, narrow, table, origin, side, batch, first_part, last_part, center, room, states):
    """`rows._moments`: once in a kernel, wherever it is called."""
    return _moments(x, narrow, table, origin, side, batch, first_part, last_part, center, room, states)


@inline
def _reduce_parts(x, narrow, info, table, offsets, task, center, room, states, counts, means, m2s):
    """States of some parts of a long group, one after the other."""
    unit, _, first, last, at = task
    units = load_int(info, UNITS)
    begin, end, _ = _entered(info, table, offsets, unit // units)
    place = shifted(info, outer_place(table, unit % units), unit // units, begin, end)
    for part in range(first, last):
        n = _moments_of(x, narrow, table, place[0], ZERO, ONE, part, part + 1, center, room, states)
        store_one(counts, at + part, n)
        store_one(means, at + part, load_one(states[0], 0))
        store_one(m2s, at + part, load_one(states[1], 0))


@inline
def _reduce(x, narrow, info, table, offsets, unit, last, center, room, states, count, mean, m2, rest):
    """States of neighbouring groups of one segment, from `unit` on: where they begin, how many they are, and how many
    values each has.
    """
    units = load_int(info, UNITS)
    segment, index = unit // units, unit % units
    begin, end, parts = _entered(info, table, offsets, segment)
    place = shifted(info, outer_place(table, index), segment, begin, end)
    batch = _neighbours(table, index, min(units, index + last - unit), load_int(table, TILE))
    n, side = 0.0, load_int(table, _side(table) + X)
    if begin == end:
        _write_empty(table, place[4], batch, count, mean, m2, rest)
    else:
        n = _moments_of(x, narrow, table, place[0], side, batch, ZERO, parts, center, room, states)
        _made_whole(batch, states, rest)
        _write_states(table, place[4], batch, n, states, count, mean, m2, rest)
    return place, batch, n


@inline
def _arrays():
    """The arrays that statistics take: see `rows`; and of short runs the counts and the places."""
    return _room(), _state_arrays(), stack(WIDTH, LIKE64), stack(ALL_PLACES, INT64)


@kernel
def moments(first, last, info, frame):
    """States of the groups of some segments, or of parts of one."""
    x, center, whole = frame.x, frame.center, (frame.count, frame.mean, frame.m2, frame.rest)
    table, offsets = opened(info)
    room, states, counts, places = _arrays()
    first, last = tasks_of(info, first, last)
    for index in range(first, last):
        task = task_of(info, index)
        unit, last_unit, begin, _, _ = task
        if begin != WHOLE:
            parts = frame.part_count, frame.part_mean, frame.part_m2
            _reduce_parts(x, None, info, table, offsets, task, center, room, states, *parts)
            continue
        while unit < last_unit:
            runs = _short_runs(info, table, offsets, unit, last_unit, ZERO, MOST, places)
            if runs > 0:
                short = _short_states(x, None, table, runs, center, room, counts, places)
                _write_short(unit, runs, short, room, *whole)
                unit += runs
            else:
                step = _reduce(x, None, info, table, offsets, unit, last_unit, center, room, states, *whole)
                unit += step[1]


@kernel
def normalize(first, last, info, frame):
    """Segment after segment: statistics, then output while it is in the cache; or parts of one, to be merged. Writes
    the states if asked.
    """
    x, out, w, b, spread, center = frame.x, frame.out, frame.weight, frame.bias, added_to_std(frame), frame.center
    whole = frame.count, frame.mean, frame.m2, frame.rest
    table, offsets = opened(info)
    narrow, edge, coefficients = summed_like(x, out), stream_edge(out), room_for_few()
    room, states, counts, places = _arrays()
    inverse = stack(SIDE, LIKE64)
    first, last = tasks_of(info, first, last)
    for index in range(first, last):
        task = task_of(info, index)
        unit, last_unit, begin, _, _ = task
        if begin != WHOLE:
            parts = frame.part_count, frame.part_mean, frame.part_m2
            _reduce_parts(x, narrow, info, table, offsets, task, center, room, states, *parts)
            continue
        while unit < last_unit:
            runs = _short_runs(info, table, offsets, unit, last_unit, ZERO, MOST, places)
            if runs > 0:
                n, mu, q = short = _short_states(x, narrow, table, runs, center, room, counts, places)
                _write_short(unit, runs, short, room, *whole)
                slope = welford.inverse_std(q, n, spread)
                _finish_short(x, out, w, b, table, runs, mu, slope, coefficients, places, edge)
                unit += runs
                continue
            place, batch, n = _reduce(x, narrow, info, table, offsets, unit, last_unit, center, room, states, *whole)
            if n > 0.0:
                for at in range(0, 8 * batch, 8 * WIDTH):
                    store_near(inverse, at, welford.inverse_std(load_near(states[1], at, LIKE64), n, spread))
                _finish_groups(x, out, w, b, table, place, batch, states[0], inverse, coefficients, edge, None, None)
            unit += batch
    stream_end(out, edge)
    stream_fence()


@kernel
def apply(first, last, info, frame):
    """Output of some rows of x, from given states of the groups; without counts, m2 is the variance."""
    x, out, w, b, spread = frame.x, frame.out, frame.weight, frame.bias, added_to_std(frame)
    count, mean, m2 = frame.count, frame.mean, frame.m2
    table, offsets = opened(info)
    edge, coefficients, places = stream_edge(out), room_for_few(), stack(ALL_PLACES, INT64)
    means, inverse = stack(SIDE, LIKE64), stack(SIDE, LIKE64)
    units = load_int(info, UNITS)
    first, last = tasks_of(info, first, last)
    for index in range(first, last):
        unit, last_unit, begin, end, _ = task_of(info, index)
        while unit < last_unit:
            runs = _short_runs(info, table, offsets, unit, last_unit, begin, end, places)
            if runs > 0:
                mu, slope = given_statistics(unit, ONE, runs, spread, count, mean, m2)
                _finish_short(x, out, w, b, table, runs, mu, slope, coefficients, places, edge)
                unit += runs
                continue
            segment, at = unit // units, unit % units
            start, stop = max(load_int(offsets, segment), begin), min(load_int(offsets, segment + 1), end)
            batch = ONE
            if start < stop:
                resize(info, table, stop - start)
                place = shifted(info, outer_place(table, at), segment, start, stop)
                batch = _neighbours(table, at, min(units, at + last_unit - unit), load_int(table, TILE))
                step = load_int(table, _side(table) + GROUP)
                for g in range(0, batch, WIDTH):
                    k, width = place[4] + g * step, min(WIDTH, batch - g)
                    mu, slope = given_statistics(k, step, width, spread, count, mean, m2)
                    store_near(means, 8 * g, mu)
                    store_near(inverse, 8 * g, slope)
                _finish_groups(x, out, w, b, table, place, batch, means, inverse, coefficients, edge, None, None)
            unit += batch
    stream_end(out, edge)
    stream_fence()


@kernel
def merge(first, last, info, frame):
    """Merge the states of a long group's parts, one after the other; means are distances from its first element."""
    x, center, count, mean, m2, rest = frame.x, frame.center, frame.count, frame.mean, frame.m2, frame.rest
    table, offsets = opened(info)
    units = load_int(info, UNITS)
    first, last = tasks_of(info, first, last)
    for index in range(first, last):
        unit, _, _, parts, at = task_of(info, index)
        n, mu, q = 0.0, 0.0, 0.0
        for part in range(at, at + parts):
            nb, mean_b, m2_b = load_group(frame.part_count, frame.part_mean, frame.part_m2, part)
            n, mu, q = accumulators.merge(n, mu, q, nb, mean_b, m2_b)
        begin, end, _ = _entered(info, table, offsets, unit // units)
        origin, _, _, _, k = shifted(info, outer_place(table, unit % units), unit // units, begin, end)
        low = 0.0
        if center != 0:
            base = welford.base_or_zero(neutral_one(x, origin, 0.0))
            low = accumulators.two_sum(base, mu)[1]
            mu += base
        store_one(count, k, n)
        store_one(mean, k, mu)
        store_one(m2, k, q)
        if is_present(rest):
            store_one(rest, k, welford.finite_or_zero(low))
