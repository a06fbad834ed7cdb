"""Statistics of chosen and weighted elements of groups that are split by labels: `labels` and `chosen` in one.

Labels and loops are those of `labels`, the mask and the weights the operands of `chosen`. A state is (n, p, s, q), see
`maths.weighted`, with the sum of squared weights behind it where that is wanted. Every group has an n of its own, since
what counts differs between groups side by side.

What counts is listed first, without a branch, and then added to the states (`sums`); or, in rows of a few values
without weights, what does not count is added to spare states. Long runs of equal labels are added up in lanes, as
blocks of `chosen` are. Many groups side by side (`columns`) are lanes. As in `labels`, the values of a label come in
the order of x.
"""

import math

import numpy as np

from ...maths.chosen import far_off
from ...maths.pivoted import merged_pair, moved_pivot, settled
from ...maths.weighted import together, turned
from ...maths.welford import multiply_add, where
from ...walk.slots import GROUP, SIZE
from .choosing import any_turns, is_chosen, turns
from .chosen import are_near, beyond, counts, no_sums, operands_at, pushed, run_sums, steps_of
from .compiling import inline, kernel
from .intrinsics import (
    integers_at,
    itemsize,
    load,
    load_first,
    load_int,
    load_near,
    load_one,
    neutral_one,
    numbers_at,
    prefetch,
    stack,
    store_int,
    store_near,
    store_one,
)
from .label_table import (
    BLOCK_WORDS,
    BLOCKS,
    CHUNK,
    COLUMN,
    COUNTS,
    CUTS,
    ELEMENTS,
    FAR,
    GROUPS,
    HEAD,
    NUM_LABELS,
    PADDED,
    PAIRS,
    PART_SIZE,
    PARTS,
    RANGES,
    ROW,
    RUN,
    SCAN,
    SEGMENT,
    SET,
    SPARE,
    STATES,
    TILE,
    TILES,
)
from .labels import AHEAD, INT64, LEAST_RUN, is_skipped, kept_place, read_labels, segment
from .lanes import WIDTH, splat, total
from .walk import LIKE64, ZERO

LIST = 512  # values that are listed: with their labels and weights, 12 KB of the first-level cache
YES = np.bool_(True)


# -- one value after the other -----------------------------------------------------------------------------------------
@inline(forceinline=False)
def turn(states, at, n, p, s, q, value, weight):
    """Add a value where that is rare: the pivot moves."""
    n, p, s, q = turned(n, p, s, q, value, weight, 1.0)
    store_one(states, at, n)
    store_one(states, at + 1, p)
    store_one(states, at + 2, s)
    store_one(states, at + 3, q)


@inline
def add_one(states, at, value, weight, squares):
    """Add a value that counts to the state at a number of the table."""
    n, p = load_one(states, 8 * at), load_one(states, 8 * at + 8)
    s, q = load_one(states, 8 * at + 16), load_one(states, 8 * at + 24)
    if squares:
        store_one(states, at + 4, multiply_add(weight, weight, load_one(states, 8 * at + 32)))
    d, more = value - p, n + weight
    share = weight * d
    if turns(n, more):
        turn(states, at, n, p, s, q, value, weight)
    else:
        store_one(states, at, more)
        store_one(states, at + 2, s + share)
        store_one(states, at + 3, multiply_add(share, d, q))


@inline
def note(x, m, w, place, index, may, lists, found, skips):
    """List a value, with the index of its state and its weight; returns how many there are, if it counts."""
    xo, mo, wo = place
    value, weight = load_one(x, xo), neutral_one(w, wo, 1.0)
    may = may & is_chosen(m, mo)
    store_int(lists[0], found, index)
    store_one(lists[1], found, value)
    if itemsize(w) != 0:
        store_one(lists[2], found, where(0.0 > weight, math.nan, weight))
        may = may & (weight != 0.0)
    if skips:
        may = may & (value == value)
    return found + np.int64(may)


@inline(forceinline=False)
def add_listed(w, lists, found, states, per, squares):
    """Add what is listed."""
    for k in range(found):
        prefetch(states, 8 * per * load_int(lists[0], min(k + AHEAD, found - 1)))
        weight = 1.0
        if itemsize(w) != 0:
            weight = load_one(lists[2], 8 * k)
        add_one(states, per * load_int(lists[0], k), load_one(lists[1], 8 * k), weight, squares)


@inline
def add_each(x, m, w, place, along, across, wide, n, labels, lists, states, per, low, high, skips, squares):
    """Add what counts of a segment, value by value."""
    found = ZERO
    if wide == 1:
        for begin in range(0, n, LIST):
            found = ZERO
            for j in range(begin, min(n, begin + LIST)):
                label = load_int(labels, j)
                may = (label >= low) & (label < high)
                found = note(x, m, w, beyond(place, along, j), label, may, lists, found, skips)
            add_listed(w, lists, found, states, per, squares)
        return
    for j in range(n):
        label, here = load_int(labels, j), beyond(place, along, j)
        if low <= label < high and (across[1] != 0 or is_chosen(m, here[1])):
            for column in range(wide):
                there = beyond(here, across, column)
                found = note(x, m, w, there, label * wide + column, YES, lists, found, skips)
        if found > LIST - WIDTH or j == n - 1:
            add_listed(w, lists, found, states, per, squares)
            found = ZERO


@inline
def add_rows(x, m, place, along, across, wide, n, labels, states, per, number, skips):
    """Add rows of a few values without weights to states that lie in the cache, each without a branch: what does not
    count to a spare state, which nobody reads.
    """
    for j in range(n):
        label, here, spare = load_int(labels, j), beyond(place, along, j), number * wide + j % SPARE
        if label >= 0 and (across[1] != 0 or is_chosen(m, here[1])):
            for column in range(wide):
                xo, mo, _ = beyond(here, across, column)
                value, may = load_one(x, xo), is_chosen(m, mo)
                if skips:
                    may = may & (value == value)
                add_one(states, per * where(may, label * wide + column, spare), value, 1.0, False)


# -- runs of equal labels ----------------------------------------------------------------------------------------------
@inline
def totals(x, m, w, place, steps, count, skips, squares, pivot):
    """Sums of a run about a pivot."""
    if are_near(x, m, w, steps):
        by = itemsize(x), itemsize(m), itemsize(w)
        sums = run_sums(x, m, w, place, by, count, skips, squares, pivot, no_sums())
    else:
        sums = run_sums(x, m, w, place, steps, count, skips, squares, pivot, no_sums())
    n, s, q, v = sums
    return total(n), total(s), total(q), total(v)


@inline(forceinline=False)
def add_run(x, m, w, place, steps, count, states, at, skips, squares):
    """Add a long run of values of one label, about its pivot; once more if their mean is far from there."""
    n, p = load_one(states, 8 * at), load_one(states, 8 * at + 8)
    s, q = load_one(states, 8 * at + 16), load_one(states, 8 * at + 24)
    pivot, j, again = p, ZERO, YES
    if n == 0.0:
        while j < count and not counts(x, m, w, beyond(place, steps, j)):
            j += 1
        if j < count:
            pivot = load_one(x, place[0] + j * steps[0])
    while True:
        nb, sb, qb, vb = totals(x, m, w, place, steps, count, skips, squares, pivot)
        if not again or far_off(nb, sb, qb) == 0.0:
            break
        pivot, again = moved_pivot(nb, pivot, sb, qb)[0], not YES
    if nb == 0.0:
        return
    more, p, s, q = together(n, p, s, q, nb, pivot, sb, qb)
    if turns(n, more):
        p, s, q = moved_pivot(more, p, s, q)
    store_one(states, at, more)
    store_one(states, at + 1, p)
    store_one(states, at + 2, s)
    store_one(states, at + 3, q)
    if squares:
        store_one(states, at + 4, load_one(states, 8 * at + 32) + vb)


@inline
def add_runs(x, m, w, place, along, n, labels, lists, states, per, low, high, skips, squares):
    """Add a segment of which most labels equal the one before."""
    j = ZERO
    while j < n:
        label, begin, found = load_int(labels, j), j, ZERO
        j += 1
        while j < n and load_int(labels, j) == label:
            j += 1
        if low <= label < high:
            if j - begin >= LEAST_RUN:
                here = beyond(place, along, begin)
                add_run(x, m, w, here, along, j - begin, states, per * label, skips, squares)
            else:
                for k in range(begin, j):
                    found = note(x, m, w, beyond(place, along, k), label, YES, lists, found, skips)
                add_listed(w, lists, found, states, per, squares)


@inline
def reduce_few(first_task, last_task, table, frame, skips, squares):
    """States of the labels of a group, or of a few side by side; a task is a part of them, or a range of its labels."""
    x, m, w, elements = frame.x, frame.bias, frame.weight, load_int(table, ELEMENTS)
    blocks, cuts = integers_at(load_int(table, BLOCKS)), integers_at(load_int(table, CUTS))
    parts, size, ranges = load_int(table, PARTS), load_int(table, PART_SIZE), load_int(table, RANGES)
    wide, set_size, per = load_int(table, COLUMN + SIZE), load_int(table, SET), load_int(table, HEAD)
    along, across = steps_of(table, RUN + ZERO), steps_of(table, COLUMN + ZERO)
    number, straight = load_int(table, NUM_LABELS), wide > 1 and ranges == 1 and load_int(table, FAR) == 0
    room, lists = stack(SEGMENT, INT64), (stack(LIST, INT64), stack(LIST, LIKE64), stack(LIST, LIKE64))
    for task in range(first_task, last_task):
        unit, share = task // ranges, task % ranges
        low, high = load_int(cuts, share), load_int(cuts, share + 1)
        place = kept_place(table, unit // parts)
        states = numbers_at(load_int(table, STATES) + 8 * unit * set_size)
        i = unit % parts * size
        stop = min(elements, i + size)
        while i < stop:
            if ranges > 1 and is_skipped(blocks, i, low, high):
                i = (i // SCAN + 1) * SCAN
                continue
            n, there = segment(table, place, i, stop)
            labels, at = read_labels(table, there[4], n, room), operands_at(there)
            if wide == 1 and load_int(blocks, BLOCK_WORDS * (i // SCAN) + 2) != 0:
                add_runs(x, m, w, at, along, n, labels, lists, states, per, low, high, skips, squares)
            elif itemsize(w) == 0 and straight:
                add_rows(x, m, at, along, across, wide, n, labels, states, per, number, skips)
            else:
                add_each(x, m, w, at, along, across, wide, n, labels, lists, states, per, low, high, skips, squares)
            i += n


# -- groups side by side -----------------------------------------------------------------------------------------------
@inline(forceinline=False)
def turn_lanes(x, m, w, place, steps, width, states, at, padded, skips):
    """As `turn`, of the groups in lanes, of which some move their pivots."""
    if width == WIDTH:
        value, width = load(x, place[0], steps[0], LIKE64), ZERO
    else:
        value = load_first(x, place[0], steps[0], width, LIKE64)
    weight = pushed(x, m, w, place, steps, width, skips, False, splat(0.0), no_sums())[0]
    of_p, of_s, of_q = at + 8 * padded, at + 16 * padded, at + 24 * padded
    n, p = load_near(states, at, LIKE64), load_near(states, of_p, LIKE64)
    s, q = load_near(states, of_s, LIKE64), load_near(states, of_q, LIKE64)
    moves = where(turns(n, n + weight), splat(1.0), 0.0)
    next_n, next_p, next_s, next_q = turned(n, p, s, q, value, weight, moves)
    store_near(states, at, next_n)
    store_near(states, of_p, next_p)
    store_near(states, of_s, next_s)
    store_near(states, of_q, next_q)


@inline
def add_lanes(x, m, w, place, steps, width, states, at, padded, skips, squares):
    """Add values of WIDTH columns, or of as many as `width`, to states in lanes, of which the first lies at a byte."""
    n, p, v = load_near(states, at, LIKE64), load_near(states, at + 8 * padded, LIKE64), splat(0.0)
    s, q = load_near(states, at + 16 * padded, LIKE64), load_near(states, at + 24 * padded, LIKE64)
    if squares:
        v = load_near(states, at + 32 * padded, LIKE64)
    count = ZERO if width == WIDTH else width
    more, s, q, v = pushed(x, m, w, place, steps, count, skips, squares, p, (n, s, q, v))
    if squares:
        store_near(states, at + 32 * padded, v)
    if any_turns(n, more):
        turn_lanes(x, m, w, place, steps, width, states, at, padded, skips)
    else:
        store_near(states, at, more)
        store_near(states, at + 16 * padded, s)
        store_near(states, at + 24 * padded, q)


@inline
def add_row(x, m, w, place, across, begin, end, states, row, padded, skips, squares):
    """Add the columns [begin, end) of a row of values to a row of states."""
    column = begin
    if are_near(x, m, w, across):
        by = itemsize(x), itemsize(m), itemsize(w)
        while column + WIDTH <= end:
            there, at = beyond(place, by, column), 8 * (row + column)
            add_lanes(x, m, w, there, by, WIDTH, states, at, padded, skips, squares)
            column += WIDTH
    elif across[0] == itemsize(x) and across[1] == 0 and across[2] == 0:  # one for the whole row
        if not is_chosen(m, place[1]):
            return
        by = itemsize(x), ZERO, ZERO
        while column + WIDTH <= end:
            there, at = beyond(place, by, column), 8 * (row + column)
            add_lanes(x, m, w, there, by, WIDTH, states, at, padded, skips, squares)
            column += WIDTH
    while column < end:
        there, at = beyond(place, across, column), 8 * (row + column)
        add_lanes(x, m, w, there, across, min(WIDTH, end - column), states, at, padded, skips, squares)
        column += WIDTH


@inline
def reduce_many(first_task, last_task, table, frame, skips, squares):
    """States of the labels of groups side by side; a task is a tile of them in a part, or a range of its labels."""
    x, m, w, elements = frame.x, frame.bias, frame.weight, load_int(table, ELEMENTS)
    blocks, cuts = integers_at(load_int(table, BLOCKS)), integers_at(load_int(table, CUTS))
    parts, size, ranges = load_int(table, PARTS), load_int(table, PART_SIZE), load_int(table, RANGES)
    tile, tiles, wide = load_int(table, TILE), load_int(table, TILES), load_int(table, COLUMN + SIZE)
    set_size, row_size, padded = load_int(table, SET), load_int(table, ROW), load_int(table, PADDED)
    along, across = steps_of(table, RUN + ZERO), steps_of(table, COLUMN + ZERO)
    room, far = stack(SEGMENT, INT64), load_int(table, FAR) != 0
    for task in range(first_task, last_task):
        share = task % ranges
        unit = task // ranges // tiles
        begin = task // ranges % tiles * tile
        end = min(wide, begin + tile)
        low, high = load_int(cuts, share), load_int(cuts, share + 1)
        place = kept_place(table, unit // parts)
        states = numbers_at(load_int(table, STATES) + 8 * unit * set_size)
        i = unit % parts * size
        stop = min(elements, i + size)
        while i < stop:
            if ranges > 1 and is_skipped(blocks, i, low, high):
                i = (i // SCAN + 1) * SCAN
                continue
            n, there = segment(table, place, i, stop)
            labels, at = read_labels(table, there[4], n, room), operands_at(there)
            for j in range(n):
                if far:
                    ahead = 8 * (load_int(labels, min(j + 4, n - 1)) * row_size + begin)
                    for field in range(4):
                        prefetch(states, ahead + 8 * field * padded)
                label = load_int(labels, j)
                if low <= label < high:
                    here, row = beyond(at, along, j), label * row_size
                    add_row(x, m, w, here, across, begin, end, states, row, padded, skips, squares)
            i += n


# -- kernels -----------------------------------------------------------------------------------------------------------
@kernel
def sums(first_task, last_task, table, frame):
    """States of the labels of a group, or of a few side by side, or of parts of them."""
    reduce_few(first_task, last_task, table, frame, False, False)


@kernel
def sums_skipna(first_task, last_task, table, frame):
    """The same, without NaN."""
    reduce_few(first_task, last_task, table, frame, True, False)


@kernel
def sums_squares(first_task, last_task, table, frame):
    """The same, with the sum of squared weights."""
    reduce_few(first_task, last_task, table, frame, False, True)


@kernel
def sums_skipna_squares(first_task, last_task, table, frame):
    """The same, without NaN, with the sum of squared weights."""
    reduce_few(first_task, last_task, table, frame, True, True)


@kernel
def columns(first_task, last_task, table, frame):
    """States of the labels of many groups side by side, or of parts of them."""
    reduce_many(first_task, last_task, table, frame, False, False)


@kernel
def columns_skipna(first_task, last_task, table, frame):
    """The same, without NaN."""
    reduce_many(first_task, last_task, table, frame, True, False)


@kernel
def columns_squares(first_task, last_task, table, frame):
    """The same, with the sum of squared weights."""
    reduce_many(first_task, last_task, table, frame, False, True)


@kernel
def columns_skipna_squares(first_task, last_task, table, frame):
    """The same, without NaN, with the sum of squared weights."""
    reduce_many(first_task, last_task, table, frame, True, True)


@kernel
def merge(first_task, last_task, table, frame):
    """Settle and merge the states of all parts, in order, as `labels.merge` does; and the sums of squared weights."""
    count, mean, m2, rest = frame.count, frame.mean, frame.m2, frame.rest
    states, of_squares = numbers_at(load_int(table, STATES)), numbers_at(load_int(table, COUNTS))
    squares = load_int(table, COUNTS) != 0
    number, groups, parts = load_int(table, NUM_LABELS), load_int(table, GROUPS), load_int(table, PARTS)
    set_size, row_size = load_int(table, SET), load_int(table, ROW)
    step, apart = load_int(table, HEAD), 8 * load_int(table, PADDED)
    wide, beside, chunk = load_int(table, COLUMN + SIZE), load_int(table, COLUMN + GROUP), load_int(table, CHUNK)
    for pair in range(first_task * chunk, min(last_task * chunk, load_int(table, PAIRS))):
        outer, label = pair // number, pair % number
        place = kept_place(table, outer)
        for column in range(wide):
            n, high, low, q, v = 0.0, np.nan, 0.0, 0.0, 0.0
            for one in range(outer * parts, (outer + 1) * parts):
                at = 8 * (one * set_size + label * row_size + column * step)
                nb = load_one(states, at)
                if nb != 0.0:
                    p, s, qb = (
                        load_one(states, at + apart),
                        load_one(states, at + 2 * apart),
                        load_one(states, at + 3 * apart),
                    )
                    high_b, low_b, m2_b = settled(nb, p, s, qb)
                    n, high, low, q = merged_pair(n, high, low, q, nb, high_b, low_b, m2_b)
                    if squares:
                        v += load_one(states, at + 4 * apart)
            at = label * groups + place[4] + column * beside
            store_one(count, at, n)
            store_one(mean, at, high)
            store_one(m2, at, q)
            store_one(rest, at, low)
            if squares:
                store_one(of_squares, at, v)
