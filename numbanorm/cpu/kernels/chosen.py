"""Statistics of chosen and weighted elements; `cpu.chosen` has the plan.

A frame's `bias` is the mask and its `weight` the weights, either of which may be left out. So loops step through them
as through those of a norm, whatever their strides. What is left out is selected away behind the subtraction of the
pivot, so that its value does not matter, and there is no branch for it. The kernels read x once, about the mean so far
(or the first value chosen); a block whose mean is far from there is added up once more, while it is in the cache.

There are two families, as of all statistics: `rows` reduce the innermost run, `columns` keep it; or, where as many
neighbouring columns as the loop `high` has steps are one group, they are merged at the end. Each is compiled with NaN
skipped or not, and with the sum of squared weights or not. A mask or weights that are not there are left out when a
kernel is compiled. A weight that is negative or no finite number makes the sum of the weights NaN or infinite.
"""

import math

import numpy as np

from ...maths.chosen import far_off, united
from ...maths.pivoted import settled
from ...maths.welford import finite_or_zero, multiply_add, where
from ...walk.slots import BIAS, GROUP, HIGH, INNER, LOOP, LOOPS, LOW, OUTER, REPEATS, ROWS, SETTINGS, SIZE, WEIGHT, X
from .choosing import chosen, chosen_first, is_chosen
from .compiling import inline, kernel
from .constants import BLOCK, ROW_BLOCK
from .intrinsics import (
    itemsize,
    load,
    load_first,
    load_int,
    load_near,
    load_one,
    neutral_one,
    stack,
    store_near,
    store_one,
)
from .lanes import WIDTH, first, splat, total
from .walk import LIKE64, ZERO, located, moved, outer_place

# Of a table: parts and their size (elements or rows), columns of a task and in all, how many states the parts have, and
# how many the groups; whether squares of the weights are wanted; how many rows lie side by side as one, where columns
# are few.
PARTS, PART_SIZE, TILE, COLUMNS, PARTIAL, GROUPS, SQUARES, TOGETHER = range(SETTINGS, SETTINGS + 8)

ONE = np.float64(1.0)
MAX_TILE = 1024  # columns of a task: rows that are cut are read more slowly
ROOM = MAX_TILE + WIDTH  # lanes may reach past the last column
STRIP = 4  # rows that are read side by side: of x, mask and weights, as many streams as processors look ahead in
LOOK = 64  # elements among which a first pivot is looked for one by one ...
LOOK_DOWN = 8  # ... and rows, before all are added up about zero: perhaps nothing counts


# -- elements ----------------------------------------------------------------------------------------------------------
@inline
def pushed(x, m, w, place, steps, count, skips, squares, pivot, sums):
    """Add WIDTH elements, or the first `count` if that is not 0, to the sums (n, s, q, v); v: of squared weights."""
    xo, mo, wo = place
    xs, ms, ws = steps
    n, s, q, v = sums
    if count == 0:
        value, there = load(x, xo, xs, LIKE64), chosen(m, mo, ms)
    else:
        value, there = load_first(x, xo, xs, count, LIKE64), chosen_first(m, mo, ms, count)
    if itemsize(w) == 0:
        d = where(there, value - pivot, 0.0)
        one = where(there, 1.0, 0.0)
        if skips:
            d, one = where(value == value, d, 0.0), where(value == value, one, 0.0)
        return n + one, s + d, multiply_add(d, d, q), v
    if count == 0:
        weight = load(w, wo, ws, ONE)
    else:
        weight = load_first(w, wo, ws, count, ONE)
    weight = where(there, weight, 0.0)
    if skips:
        weight = where(value == value, weight, 0.0)
    d = where(weight > 0.0, value - pivot, 0.0)
    share = weight * d
    if squares:
        v = multiply_add(weight, weight, v)
    return n + where(0.0 > weight, math.nan, weight), s + share, multiply_add(share, d, q), v


@inline
def counts(x, m, w, place):
    """Whether one element is a finite number that counts."""
    xo, mo, wo = place
    value = load_one(x, xo)
    return is_chosen(m, mo) and value - value == 0.0 and neutral_one(w, wo, 1.0) > 0.0


@inline
def operands_at(place):
    """Offsets of x, the mask and the weights."""
    x, _, weight, bias, _ = place
    return x, bias, weight


@inline
def steps_of(table, entry):
    """Steps of x, the mask and the weights along a loop."""
    return load_int(table, entry + X), load_int(table, entry + BIAS), load_int(table, entry + WEIGHT)


@inline
def are_near(x, m, w, steps):
    """Whether elements lie side by side in every operand."""
    return (steps[0] == itemsize(x)) & (steps[1] == itemsize(m)) & (steps[2] == itemsize(w))


@inline
def beyond(place, steps, i):
    """Offsets, i steps on."""
    return place[0] + i * steps[0], place[1] + i * steps[1], place[2] + i * steps[2]


@inline
def no_sums():
    """Lanes of sums of nothing."""
    return splat(0.0), splat(0.0), splat(0.0), splat(0.0)


# -- rows --------------------------------------------------------------------------------------------------------------
@inline
def run_sums(x, m, w, place, steps, count, skips, squares, pivot, sums):
    """Add a run of elements to sums in lanes."""
    i = ZERO
    while i + WIDTH <= count:
        sums = pushed(x, m, w, beyond(place, steps, i), steps, ZERO, skips, squares, pivot, sums)
        i += WIDTH
    if i < count:
        sums = pushed(x, m, w, beyond(place, steps, i), steps, count - i, skips, squares, pivot, sums)
    return sums


@inline
def piece(table, place, i, stop):
    """How many elements of a group from the i-th on lie in one run, and where."""
    size, rows = load_int(table, LOW + SIZE), load_int(table, ROWS + SIZE)
    run = repeat = ZERO
    if i >= size:  # a division takes as long as a few elements
        run = i // size
    if run >= rows:
        repeat = run // rows
    at = i - run * size
    place = located(table, place, LOOPS + load_int(table, OUTER) * LOOP, load_int(table, INNER), repeat)
    place = moved(table, moved(table, place, ROWS + ZERO, run - repeat * rows), LOW + ZERO, at)
    return min(size - at, stop - i), operands_at(place)


@inline
def block_sums(x, m, w, table, place, start, stop, skips, squares, pivot):
    """Sums (n, s, q, v) of the elements [start, stop) of a group."""
    steps, sums, i = steps_of(table, LOW + ZERO), no_sums(), start
    near = are_near(x, m, w, steps)
    while i < stop:
        count, at = piece(table, place, i, stop)
        if near:
            by = itemsize(x), itemsize(m), itemsize(w)
            sums = run_sums(x, m, w, at, by, count, skips, squares, pivot, sums)
        else:
            sums = run_sums(x, m, w, at, steps, count, skips, squares, pivot, sums)
        i += count
    n, s, q, v = sums
    return total(n), total(s), total(q), total(v)


@inline(forceinline=False)
def first_value(x, m, w, table, place, start, stop):
    """Whether a finite value among the elements [start, stop) counts, and the first of them; else 0."""
    steps, i = steps_of(table, LOW + ZERO), start
    while i < stop:
        count, at = piece(table, place, i, stop)
        for j in range(count):
            here = beyond(at, steps, j)
            if counts(x, m, w, here):
                return True, load_one(x, here[0])
        i += count
    return False, 0.0


@inline(forceinline=False)
def far_mean(x, m, w, table, place, start, stop, skips, n):
    """Mean of elements whose distances, or their squares, overflow; n: the sum of their weights."""
    steps, i, mean = steps_of(table, LOW + ZERO), start, 0.0
    while i < stop:
        count, at = piece(table, place, i, stop)
        for j in range(count):
            mean += share_of(x, m, w, beyond(at, steps, j), skips, n)
        i += count
    return mean


@inline
def share_of(x, m, w, place, skips, n):
    """What one element has of the mean."""
    xo, mo, wo = place
    value, weight = load_one(x, xo), neutral_one(w, wo, 1.0)
    out = not is_chosen(m, mo) or not weight > 0.0 or (skips and value != value)
    return 0.0 if out else value * (weight / n)


@inline
def block_state(x, m, w, table, place, start, stop, skips, squares, so_far):
    """State and sum of squared weights of the elements [start, stop), about the mean so far, if there is one."""
    known, pivot = so_far[0] != 0.0, finite_or_zero(so_far[1])
    if not known:
        known, pivot = first_value(x, m, w, table, place, start, min(stop, start + LOOK))
    again = True
    while True:
        n, s, q, v = block_sums(x, m, w, table, place, start, stop, skips, squares, pivot)
        if n > 0.0 and not known:
            _, pivot = first_value(x, m, w, table, place, start, stop)
            known = True
        elif again and far_off(n, s, q) != 0.0:
            again = False
            pivot += finite_or_zero(s / n)
        else:
            break
    if q - q != 0.0:
        pivot = far_mean(x, m, w, table, place, start, stop, skips, n)
        s, q = 0.0, pivot - pivot + math.inf
    high, low, m2 = settled(n, pivot, s, q)
    return n, high, low, m2, v


@inline
def whole_or_part(table, frame):
    """The arrays into which states of tasks go, and how many states each holds: of groups, or of their parts."""
    if load_int(table, PARTS) == 1:
        return frame.count, frame.mean, frame.m2, frame.rest, load_int(table, GROUPS)
    return frame.part_count, frame.part_mean, frame.part_m2, frame.part_rest, load_int(table, PARTIAL)


@inline
def keep_state(table, into, k, n, high, low, m2, v):
    """Write the state of a group, or of a part. Means of groups of nothing are NaN."""
    count, mean, squares, rest, number = into
    whole = load_int(table, PARTS) == 1
    store_one(count, k, n)
    store_one(mean, k, math.nan if whole and n == 0.0 else high)
    store_one(squares, k, m2)
    store_one(rest, k, low)
    if load_int(table, SQUARES) != 0:
        store_one(count, number + k, v)


@inline
def rows_state(x, m, w, table, place, start, last, skips, squares):
    """State of the elements [start, last) of a group, and their sum of squared weights: block by block."""
    n, high, low, m2, v = 0.0, 0.0, 0.0, 0.0, 0.0
    while start < last:
        stop = min(start + BLOCK, last)
        state = block_state(x, m, w, table, place, start, stop, skips, squares, (n, high))
        if n == 0.0:
            n, high, low, m2 = state[0], state[1], state[2], state[3]
            if n == 0.0:
                high, low, m2 = 0.0, 0.0, 0.0
        else:
            n, high, low, m2 = united(n, high, low, m2, state[0], state[1], state[2], state[3])
        v += state[4]
        start = stop
    return n, high, low, m2, v


@inline
def reduce_rows(first_task, last_task, table, frame, skips, squares):
    """States of groups, or of their parts; a task is one of them."""
    x, m, w, into = frame.x, frame.bias, frame.weight, whole_or_part(table, frame)
    parts, size = load_int(table, PARTS), load_int(table, PART_SIZE)
    elements = load_int(table, REPEATS) * load_int(table, ROWS + SIZE) * load_int(table, LOW + SIZE)
    for task in range(first_task, last_task):
        group, start = task, ZERO
        if parts > 1:
            group, start = task // parts, task % parts * size
        place = outer_place(table, group)
        last = min(start + size, elements)
        n, high, low, m2, v = rows_state(x, m, w, table, place, start, last, skips, squares)
        keep_state(table, into, place[4] if parts == 1 else task, n, high, low, m2, v)


# -- columns -----------------------------------------------------------------------------------------------------------
@inline
def down(x, m, w, place, across, step, rows, width, skips, squares, pivot, sums):
    """Add `rows` rows of up to WIDTH columns to sums in lanes."""
    row = ZERO
    if width == WIDTH and are_near(x, m, w, across):
        by = itemsize(x), itemsize(m), itemsize(w)
        while row < rows:
            sums = pushed(x, m, w, beyond(place, step, row), by, ZERO, skips, squares, pivot, sums)
            row += 1
    if width == WIDTH and across[0] == itemsize(x) and across[1] == 0 and across[2] == 0:  # one for the whole row
        by = itemsize(x), ZERO, ZERO
        while row < rows:
            sums = pushed(x, m, w, beyond(place, step, row), by, ZERO, skips, squares, pivot, sums)
            row += 1
    while row < rows:
        sums = pushed(x, m, w, beyond(place, step, row), across, width, skips, squares, pivot, sums)
        row += 1
    return sums


@inline(forceinline=False)
def first_values(x, m, w, place, across, step, rows, width):
    """The first finite value of each column that counts; 0 where there is none."""
    found, row, missing = splat(math.nan), ZERO, 1.0
    while row < rows and missing != 0.0:
        xo, mo, wo = beyond(place, step, row)
        value = load_first(x, xo, across[0], width, LIKE64)
        weight = where(chosen_first(m, mo, across[1], width), load_first(w, wo, across[2], width, ONE), 0.0)
        value = where(weight > 0.0, where(value - value == 0.0, value, math.nan), math.nan)
        found = where(found == found, found, value)
        missing = total(first(where(found == found, splat(0.0), 1.0), width))
        row += 1
    return where(found == found, found, 0.0)


@inline(forceinline=False)
def settle_far(x, m, w, place, across, step, rows, width, skips, room, column):
    """Sums of columns whose distances, or their squares, overflow, or which hold infinities or NaN."""
    pivots, ns, ss, qs, _ = room
    for j in range(width):
        q, n, mean = load_one(qs, 8 * (column + j)), load_one(ns, 8 * (column + j)), 0.0
        if q - q != 0.0:
            for row in range(rows):
                mean += share_of(x, m, w, beyond(beyond(place, across, j), step, row), skips, n)
            store_one(pivots, column + j, mean)
            store_one(ss, column + j, 0.0)
            store_one(qs, column + j, mean - mean + math.inf)


@inline
def load_sums(room, at, squares):
    """Pivot and sums of columns."""
    n, s, q, v = no_sums()
    if squares:
        v = load_near(room[4], at, LIKE64)
    n, s, q = load_near(room[1], at, LIKE64), load_near(room[2], at, LIKE64), load_near(room[3], at, LIKE64)
    return load_near(room[0], at, LIKE64), (n, s, q, v)


@inline
def store_sums(room, at, sums, squares):
    """Keep sums of columns."""
    store_near(room[1], at, sums[0])
    store_near(room[2], at, sums[1])
    store_near(room[3], at, sums[2])
    if squares:
        store_near(room[4], at, sums[3])


@inline
def strips(x, m, w, place, across, step, rows, columns, fresh, skips, squares, room, states):
    """Sums of a block of rows, a few rows at a time, about the means so far, or the first values in a `fresh` part."""
    for row in range(0, rows, STRIP):
        for column in range(0, columns, WIDTH):
            width, at, k = min(WIDTH, columns - column), 8 * column, beyond(place, across, column)
            if row == 0:
                pivot, sums = finite_or_zero(load_near(states[1], at, LIKE64)), no_sums()
                if fresh:
                    pivot = first_values(x, m, w, k, across, step, min(rows, LOOK_DOWN), width)
                store_near(room[0], at, pivot)
            else:
                pivot, sums = load_sums(room, at, squares)
            there = beyond(k, step, row)
            sums = down(x, m, w, there, across, step, min(STRIP, rows - row), width, skips, squares, pivot, sums)
            store_sums(room, at, sums, squares)


@inline
def add_block(x, m, w, place, across, step, rows, columns, fresh, skips, squares, room, states):
    """Settle the sums of a block of rows, and merge them into the states of the columns."""
    for column in range(0, columns, WIDTH):
        width, at, k = min(WIDTH, columns - column), 8 * column, beyond(place, across, column)
        pivot, sums = load_sums(room, at, squares)
        known = fresh and total(first(where(pivot == 0.0, splat(1.0), 0.0), width)) == 0.0
        again = far_off(sums[0], sums[1], sums[2])
        if not known:  # equal values, too, may have squares that overflow about zero
            again = again + where(sums[2] - sums[2] == 0.0, splat(0.0), 1.0)
        while total(first(again, width)) != 0.0:  # once more, about the mean
            pivot = pivot + finite_or_zero(sums[1] / sums[0])
            if not known:  # of columns of which nothing counted so far, about the first value
                n = load_near(states[0], at, LIKE64)
                if total(first(where(n == 0.0, splat(1.0), 0.0), width)) != 0.0:
                    pivot = where(n == 0.0, first_values(x, m, w, k, across, step, rows, width), pivot)
            sums = down(x, m, w, k, across, step, rows, width, skips, squares, pivot, no_sums())
            store_near(room[0], at, pivot)
            store_sums(room, at, sums, squares)
            if known:
                break
            known = True
            again = far_off(sums[0], sums[1], sums[2])
        if total(first(sums[2] - sums[2], width)) != 0.0:
            settle_far(x, m, w, k, across, step, rows, width, skips, room, column)
            pivot, sums = load_sums(room, at, squares)
        n, s, q, v = sums
        high, low, m2 = settled(n, pivot, s, q)
        before = load_near(states[0], at, LIKE64), load_near(states[1], at, LIKE64)
        rest = load_near(states[2], at, LIKE64), load_near(states[3], at, LIKE64)
        n, high, low, m2 = united(before[0], before[1], rest[0], rest[1], n, high, low, m2)
        store_near(states[0], at, n)
        store_near(states[1], at, high)
        store_near(states[2], at, low)
        store_near(states[3], at, m2)
        if squares:
            store_near(states[4], at, load_near(states[4], at, LIKE64) + v)


@inline
def unite(number, groups, apart, step, states):
    """Merge the states of `number` columns of each group, which are `step` columns from one to the next, in order. From
    one group to the next it is `apart` columns; the merged states lie side by side.
    """
    for group in range(0, groups, WIDTH):
        width = min(WIDTH, groups - group)
        zero = splat(0.0)
        n, high, low, m2, v = zero, zero, zero, zero, zero
        for column in range(number):
            state = state_lanes(states, 8 * (group * apart + column * step), 8 * apart, width)
            n, high, low, m2 = united(n, high, low, m2, state[0], state[1], state[2], state[3])
            v = v + state[4]
        store_near(states[0], 8 * group, n)  # lanes that reach too far are written over what has been merged
        store_near(states[1], 8 * group, high)
        store_near(states[2], 8 * group, low)
        store_near(states[3], 8 * group, m2)
        store_near(states[4], 8 * group, v)


@inline
def state_lanes(states, at, step, width):
    """States of `width` columns, `step` bytes apart."""
    n, high = load_first(states[0], at, step, width, LIKE64), load_first(states[1], at, step, width, LIKE64)
    low, m2 = load_first(states[2], at, step, width, LIKE64), load_first(states[3], at, step, width, LIKE64)
    return n, high, low, m2, load_first(states[4], at, step, width, LIKE64)


@inline
def load_state(states, column):
    """State of a column, and its sum of squared weights."""
    at = 8 * column
    n, high, low = load_one(states[0], at), load_one(states[1], at), load_one(states[2], at)
    return n, high, low, load_one(states[3], at), load_one(states[4], at)


@inline
def rooms():
    """Arrays for pivots and sums of columns, and for their states."""
    room = stack(ROOM, LIKE64), stack(ROOM, LIKE64), stack(ROOM, LIKE64), stack(ROOM, LIKE64), stack(ROOM, LIKE64)
    states = stack(ROOM, LIKE64), stack(ROOM, LIKE64), stack(ROOM, LIKE64), stack(ROOM, LIKE64), stack(ROOM, LIKE64)
    return room, states


@inline
def columns_states(x, m, w, table, place, columns, start, last, together, skips, squares, room, states):
    """Make the states of columns over their rows [start, last), of which so many together are one, as wide; those that
    are left over at the end are rows by themselves.
    """
    rows, fresh = load_int(table, ROWS + SIZE), True
    across, (xs, ms, ws) = steps_of(table, LOW + ZERO), steps_of(table, ROWS + ZERO)
    for at in range(0, 8 * together * columns, 8 * WIDTH):
        for one in states:
            store_near(one, at, splat(0.0))
    while start < last:
        repeat = start // rows
        row = start - repeat * rows
        left = min(rows - row, last - start)
        many = together if left >= together else 1
        count = min(left // many, ROW_BLOCK)
        there = located(table, place, LOOPS + load_int(table, OUTER) * LOOP, load_int(table, INNER), repeat)
        there = operands_at(moved(table, there, ROWS + ZERO, row))
        step = many * xs, many * ms, many * ws
        strips(x, m, w, there, across, step, count, many * columns, fresh, skips, squares, room, states)
        add_block(x, m, w, there, across, step, count, many * columns, fresh, skips, squares, room, states)
        start += count * many
        fresh = False
    if together > 1:
        unite(together, columns, 1, columns, states)


@inline
def reduce_columns(first_task, last_task, table, frame, skips, squares):
    """States of groups side by side, or of their parts; a task is a tile of columns in a part.

    If columns are few, several rows are one, as wide. If runs of groups are short, their elements are columns.
    """
    x, m, w, into = frame.x, frame.bias, frame.weight, whole_or_part(table, frame)
    parts, size, together = load_int(table, PARTS), load_int(table, PART_SIZE), load_int(table, TOGETHER)
    tile, wide = load_int(table, TILE), load_int(table, COLUMNS)
    rows, beside, tiles = load_int(table, ROWS + SIZE), load_int(table, LOW + GROUP), (wide + tile - 1) // tile
    run = load_int(table, HIGH + SIZE)
    room, states = rooms()
    for task in range(first_task, last_task):
        unit, begin = task // tiles, task % tiles * tile
        columns = min(tile, wide - begin)
        whole = outer_place(table, unit // parts)
        place = moved(table, whole, LOW + ZERO, begin)
        start = unit % parts * size
        last = min(start + size, load_int(table, REPEATS) * rows)
        columns_states(x, m, w, table, place, columns, start, last, together, skips, squares, room, states)
        if run > 1:
            unite(run, columns // run, run, 1, states)
        for group in range(begin // run, (begin + columns) // run):
            n, high, low, m2, v = load_state(states, group - begin // run)
            k = whole[4] + group * beside if parts == 1 else unit * (wide // run) + group
            keep_state(table, into, k, n, high, low, m2, v)


# -- kernels -----------------------------------------------------------------------------------------------------------
@kernel
def rows(first_task, last_task, table, frame):
    """States of groups, or of their parts, of which each is a task."""
    reduce_rows(first_task, last_task, table, frame, False, False)


@kernel
def rows_skipna(first_task, last_task, table, frame):
    """The same, without NaN."""
    reduce_rows(first_task, last_task, table, frame, True, False)


@kernel
def rows_squares(first_task, last_task, table, frame):
    """The same, with the sum of squared weights."""
    reduce_rows(first_task, last_task, table, frame, False, True)


@kernel
def rows_skipna_squares(first_task, last_task, table, frame):
    """The same, without NaN, with the sum of squared weights."""
    reduce_rows(first_task, last_task, table, frame, True, True)


@kernel
def columns(first_task, last_task, table, frame):
    """States of groups side by side, or of their parts; a task is a tile of them."""
    reduce_columns(first_task, last_task, table, frame, False, False)


@kernel
def columns_skipna(first_task, last_task, table, frame):
    """The same, without NaN."""
    reduce_columns(first_task, last_task, table, frame, True, False)


@kernel
def columns_squares(first_task, last_task, table, frame):
    """The same, with the sum of squared weights."""
    reduce_columns(first_task, last_task, table, frame, False, True)


@kernel
def columns_skipna_squares(first_task, last_task, table, frame):
    """The same, without NaN, with the sum of squared weights."""
    reduce_columns(first_task, last_task, table, frame, True, True)


@kernel
def merge(first_task, last_task, table, frame):
    """Merge the states of the parts of groups, in order; a task is a group, or all that lie side by side."""
    counts_of, means, squares_of, rests = frame.part_count, frame.part_mean, frame.part_m2, frame.part_rest
    count, mean, m2, rest = frame.count, frame.mean, frame.m2, frame.rest
    partial, groups = load_int(table, PARTIAL), load_int(table, GROUPS)
    parts, wide, beside = load_int(table, PARTS), load_int(table, COLUMNS), load_int(table, LOW + GROUP)
    wide //= load_int(table, HIGH + SIZE)
    for task in range(first_task, last_task):
        group = outer_place(table, task)[4]
        for column in range(wide):
            n, high, low, q, v = 0.0, 0.0, 0.0, 0.0, 0.0
            for part in range(parts):
                k = 8 * ((task * parts + part) * wide + column)
                high_b, low_b = load_one(means, k), load_one(rests, k)
                n, high, low, q = united(
                    n, high, low, q, load_one(counts_of, k), high_b, low_b, load_one(squares_of, k)
                )
                if load_int(table, SQUARES) != 0:
                    v += load_one(counts_of, k + 8 * partial)
            at = group + column * beside
            store_one(count, at, n)
            store_one(mean, at, math.nan if n == 0.0 else high)
            store_one(m2, at, q)
            store_one(rest, at, low)
            if load_int(table, SQUARES) != 0:
                store_one(count, groups + at, v)
