"""Kernels over groups that are split by labels: see `label_table` for what they are told, `cpu.labels` for the plan.

Labels are read in segments of up to SEGMENT, as int64 numbers on the stack. Each value is added to the state of its
label in a table (`sums`); or, where groups lie side by side, a row of values to a row of states (`columns`). Each part
of the elements has a table of its own, and `merge` merges them in order. Or there is one table, and each task owns a
range of labels. Either way the values of a label come in the order of x, so the bits do not depend on the threads.
"""

import numpy as np

from ...maths.accumulators import push
from ...maths.chosen import united
from ...maths.pivoted import merged_pair, moved_pivot, settled, turns_at
from ...maths.welford import finite_or_zero, inverse_std, scale_and_shift, spread_of, standardize, where
from ...walk.slots import BIAS, GROUP, LOOP, OUT, SIZE, WEIGHT, X
from .compiling import inline, kernel
from .intrinsics import (
    bytes_of,
    copy_integers,
    highest_of,
    integers_at,
    itemsize,
    load,
    load_first,
    load_int,
    load_integer,
    load_near,
    load_one,
    lowest_of,
    neutral_one,
    numbers_at,
    prefetch,
    stack,
    store,
    store_first,
    store_int,
    store_near,
    store_one,
    store_stream,
    stream_fence,
    stream_head,
)
from .label_table import (
    BASE,
    BLOCK_WORDS,
    BLOCKS,
    CHUNK,
    CODE,
    COEFFICIENTS,
    COLUMN,
    COUNTS,
    CUTS,
    DIRECT,
    ELEMENTS,
    END,
    FAR,
    GROUPS,
    HEAD,
    KEPT,
    LABELS,
    LOOPS,
    NUM_LABELS,
    PADDED,
    PAIRS,
    PART_SIZE,
    PARTS,
    RANGES,
    REDUCED,
    REST,
    ROW,
    RUN,
    SCAN,
    SEGMENT,
    SET,
    STATES,
    STRAYS,
    STREAM,
    TILE,
    TILES,
)
from .lanes import UNROLL, WIDTH, first, splat, total
from .walk import LIKE64, ZERO, located, moved

ROOM = SEGMENT + WIDTH  # of numbers that are read in vectors from anywhere
AHEAD = 16  # labels: as long before a state is needed it is asked for
SAMPLED = 4  # of so many labels one is compared with the one before ...
NEAREST = 64  # ... of so many: those farther off are still on their way from memory
NARROW = 4 if UNROLL else WIDTH  # columns from which they are added in lanes; masked, AVX2 takes up to twice as long
LEAST_RUN = 16  # equal labels that are added up in lanes
MOST = np.int64(2**63 - 1)
NONE = np.int64(-1)
INT8, INT16, INT32, INT64 = np.int8(0), np.int16(0), np.int32(0), np.int64(0)  # name a type
UINT8, UINT16, UINT32, UINT64 = np.uint8(0), np.uint16(0), np.uint32(0), np.uint64(0)


# -- walking -----------------------------------------------------------------------------------------------------------
@inline
def kept_place(table, index):
    """The place at an index of the outer loops over groups."""
    base = (
        load_int(table, BASE),
        load_int(table, BASE + 1),
        load_int(table, BASE + 2),
        load_int(table, BASE + 3),
        load_int(table, BASE + 4),
    )
    return located(table, base, LOOPS + ZERO, load_int(table, KEPT), index)


@inline
def segment(table, place, i, stop):
    """How many elements from the i-th of a group on can be read at once, and the place of the first; instead of the
    group's index it has the offset of the labels.
    """
    run = load_int(table, RUN + SIZE)
    repeat = i // run
    at = i - repeat * run
    n = min(min(run - at, stop - i), SEGMENT - i % SEGMENT)  # never across two blocks of SCAN
    x, out, weight, bias, _ = place
    place = x, out, weight, bias, load_int(table, BASE + 5)
    place = located(table, place, LOOPS + load_int(table, KEPT) * LOOP, load_int(table, REDUCED), repeat)
    return n, moved(table, place, RUN, at)


@inline
def _read(address, offset, step, n, labels, like):
    j = ZERO
    if step == bytes_of(like):
        while j + WIDTH <= n:
            copy_integers(address, offset + j * step, labels, j, like)
            j += WIDTH
    while j < n:
        store_int(labels, j, load_integer(address, offset + j * step, like))
        j += 1


@inline
def read_labels(table, offset, n, room):
    """Labels of whatever type as int64: where they are, or else copied to `room`."""
    if load_int(table, DIRECT) != 0:
        return integers_at(load_int(table, LABELS) + offset)
    copy_labels(table, offset, n, room)
    return room


@inline
def copy_labels(table, offset, n, labels):
    """Read n labels of whatever type."""
    address, step, code = load_int(table, LABELS), load_int(table, RUN + GROUP), load_int(table, CODE)
    if code == 8:
        _read(address, offset, step, n, labels, INT64)
    elif code == 4:
        _read(address, offset, step, n, labels, INT32)
    elif code == 2:
        _read(address, offset, step, n, labels, INT16)
    elif code == 1:
        _read(address, offset, step, n, labels, INT8)
    elif code == -1:
        _read(address, offset, step, n, labels, UINT8)
    elif code == -2:
        _read(address, offset, step, n, labels, UINT16)
    elif code == -4:
        _read(address, offset, step, n, labels, UINT32)
    else:
        _read(address, offset, step, n, labels, UINT64)


@inline
def sampled(labels, n):
    """How many of a sample of the first labels equal the one before, and how many there are in the sample."""
    equal, seen = ZERO, ZERO
    for j in range(SAMPLED, min(n, NEAREST), SAMPLED):
        equal += np.int64(load_int(labels, j) == load_int(labels, j - 1))
        seen += 1
    return equal, seen


@inline
def are_runs(equal, seen):
    """Whether most labels equal the one before, as a sample of them tells."""
    return (seen > 0) & (4 * equal >= 3 * seen)


@kernel
def scan(first_task, last_task, table, frame):
    """The lowest and highest label of each block, and whether most equal the one before, as a sample of them tells."""
    blocks, elements = integers_at(load_int(table, BLOCKS)), load_int(table, ELEMENTS)
    room = stack(SEGMENT, INT64)
    place = kept_place(table, ZERO)
    for task in range(first_task, last_task):
        low, high, equal, seen, i = MOST, NONE, ZERO, ZERO, task * SCAN
        stop = min(elements, i + SCAN)
        while i < stop:
            n, (_, _, _, _, offset) = segment(table, place, i, stop)
            labels = read_labels(table, offset, n, room)
            j = ZERO
            while j + WIDTH <= n:
                high = max(high, highest_of(labels, j))
                low = min(low, lowest_of(labels, j))
                j += WIDTH
            while j < n:
                label = load_int(labels, j)
                high = max(high, label)
                low = min(low, label)
                j += 1
            some, of = sampled(labels, n)
            equal += some
            seen += of
            i += n
        store_int(blocks, BLOCK_WORDS * task, low)
        store_int(blocks, BLOCK_WORDS * task + 1, high)
        store_int(blocks, BLOCK_WORDS * task + 2, np.int64(are_runs(equal, seen)))


@inline
def is_skipped(blocks, i, low, high):
    """Whether the block of the i-th element has no label of a range."""
    block = BLOCK_WORDS * (i // SCAN)
    return load_int(blocks, block + 1) < low or load_int(blocks, block) >= high


# -- one group after the other ---------------------------------------------------------------------------------------
@inline(forceinline=False)
def turn(states, at, value):
    """What is rare once a value was added: it is the first, and the pivot; or the pivot moves."""
    n = load_int(states, at)
    p, s, q = load_one(states, 8 * at + 8), load_one(states, 8 * at + 16), load_one(states, 8 * at + 24)
    if n == 1:
        p = finite_or_zero(value)
        s, q = push((0.0, 0.0), value - p)
    else:
        p, s, q = moved_pivot(float(n), p, s, q)
    store_one(states, at + 1, p)
    store_one(states, at + 2, s)
    store_one(states, at + 3, q)


@inline
def add_one(states, at, value):
    """Add a value to the state at a number of the table: (n, p, s, q), see `maths.pivoted`."""
    n = load_int(states, at) + 1
    s, q = load_one(states, 8 * at + 16), load_one(states, 8 * at + 24)
    s, q = push((s, q), value - load_one(states, 8 * at + 8))
    store_int(states, at, n)
    store_one(states, at + 2, s)
    store_one(states, at + 3, q)
    if turns_at(n):
        turn(states, at, value)


@inline
def add_run(x, offset, step, count, states, at):
    """Add values of one label: in registers, or in lanes if they are many, from each move of the pivot to the next."""
    while count > 0:
        n, upto = load_int(states, at), 16
        while upto <= n:
            upto *= 16
        some = min(count, upto - n)
        p, s, q = load_one(states, 8 * at + 8), load_one(states, 8 * at + 16), load_one(states, 8 * at + 24)
        if n == 0:
            p = finite_or_zero(load_one(x, offset))
            store_one(states, at + 1, p)
        if some < LEAST_RUN:
            for j in range(some):
                s, q = push((s, q), load_one(x, offset + j * step) - p)
        else:
            sums, j = (splat(0.0), splat(0.0)), ZERO
            while j + WIDTH <= some:
                sums = push(sums, load(x, offset + j * step, step, LIKE64) - p)
                j += WIDTH
            if j < some:
                d = load_first(x, offset + j * step, step, some - j, LIKE64) - p
                sums = push(sums, first(d, some - j))
            s += total(sums[0])
            q += total(sums[1])
        n += some
        if n > 1 and turns_at(n):
            p, s, q = moved_pivot(float(n), p, s, q)
            store_one(states, at + 1, p)
        store_int(states, at, n)
        store_one(states, at + 2, s)
        store_one(states, at + 3, q)
        offset += some * step
        count -= some


@inline
def add_runs(x, offset, step, n, labels, states, low, high):
    """Add a segment of which most labels equal the one before; tell whether all were of the range."""
    j, all_of_it = ZERO, True
    while j < n:
        label, begin = load_int(labels, j), j
        j += 1
        while j < n and load_int(labels, j) == label:
            j += 1
        if low <= label < high:
            add_run(x, offset + begin * step, step, j - begin, states, 4 * label)
        else:
            all_of_it = False
    return all_of_it


@inline
def add_all(x, offset, step, n, labels, states, number, far):
    """Add a segment, value by value; those of labels that are negative, or too high, to a state behind all."""
    if far:
        for j in range(n):
            prefetch(states, 32 * load_int(labels, min(j + AHEAD, n - 1)))
            add_one(states, 4 * _within(load_int(labels, j), number), load_one(x, offset + j * step))
    else:
        for j in range(n):
            add_one(states, 4 * _within(load_int(labels, j), number), load_one(x, offset + j * step))


@inline
def _within(label, number):
    """A label that there is, or else the one behind all."""
    return label if np.uint64(label) < np.uint64(number) else number


@inline
def add_some(x, offset, step, n, labels, found, chosen, states, low, high):
    """Add what has a label of a range: first where that is, without a branch."""
    m = ZERO
    for j in range(n):
        label = load_int(labels, j)
        store_int(found, m, label)
        store_int(chosen, m, j)
        m += np.int64((label >= low) & (label < high))
    for j in range(m):
        prefetch(states, 32 * load_int(found, min(j + AHEAD, m - 1)))
        add_one(states, 4 * load_int(found, j), load_one(x, offset + load_int(chosen, j) * step))


@kernel
def sums(first_task, last_task, table, frame):
    """States of the labels of whole groups or of parts of them; a task is a part, or a range of its labels.

    A part tells whether it has strays, of which no state is made: labels that are negative or too high. Whether a
    segment is one of runs depends on its labels alone: sums of runs round in another way, and ranges depend on threads.
    """
    x, elements = frame.x, load_int(table, ELEMENTS)
    blocks, cuts = integers_at(load_int(table, BLOCKS)), integers_at(load_int(table, CUTS))
    parts, size, ranges = load_int(table, PARTS), load_int(table, PART_SIZE), load_int(table, RANGES)
    number, far = load_int(table, NUM_LABELS), load_int(table, FAR) != 0
    set_size, step, strays = load_int(table, SET), load_int(table, RUN + X), integers_at(load_int(table, STRAYS))
    room, chosen, found = stack(SEGMENT, INT64), stack(SEGMENT, INT64), stack(SEGMENT, INT64)
    for task in range(first_task, last_task):
        unit, share = task // ranges, task % ranges
        low, high = load_int(cuts, share), load_int(cuts, share + 1)
        place = kept_place(table, unit // parts)
        states = numbers_at(load_int(table, STATES) + 8 * unit * set_size)
        i, stray = unit % parts * size, False
        stop = min(elements, i + size)
        while i < stop:
            if ranges > 1 and is_skipped(blocks, i, low, high):
                i = (i // SCAN + 1) * SCAN
                continue
            n, (offset, _, _, _, of_labels) = segment(table, place, i, stop)
            labels = read_labels(table, of_labels, n, room)
            equal, seen = sampled(labels, n)
            if are_runs(equal, seen):
                stray |= not add_runs(x, offset, step, n, labels, states, low, high)
            elif ranges > 1:
                add_some(x, offset, step, n, labels, found, chosen, states, low, high)
            else:
                add_all(x, offset, step, n, labels, states, number, far)
            i += n
        if ranges == 1:
            store_int(strays, task, np.int64(stray or load_int(states, 4 * number) > 0))


# -- groups side by side ---------------------------------------------------------------------------------------------
@inline
def add_few(x, offset, step, wide, states, row, padded, n):
    """Add a row of a few values to a row of states: all pivots, then the two sums."""
    for column in range(wide):
        value, at = load_one(x, offset + column * step), row + column
        s, q = load_one(states, 8 * (at + padded)), load_one(states, 8 * (at + 2 * padded))
        s, q = push((s, q), value - load_one(states, 8 * at))
        store_one(states, at + padded, s)
        store_one(states, at + 2 * padded, q)
    if turns_at(n):
        for column in range(wide):
            turn_few(states, row + column, padded, n, load_one(x, offset + column * step))


@inline(forceinline=False)
def turn_few(states, at, padded, n, value):
    """As `turn`, in a row of states."""
    p, s, q = load_one(states, 8 * at), load_one(states, 8 * (at + padded)), load_one(states, 8 * (at + 2 * padded))
    if n == 1:
        p = finite_or_zero(value)
        s, q = push((0.0, 0.0), value - p)
    else:
        p, s, q = moved_pivot(float(n), p, s, q)
    store_one(states, at, p)
    store_one(states, at + padded, s)
    store_one(states, at + 2 * padded, q)


@inline
def _with_one_more(n, p, s, q, values):
    """States of lanes, each with a value more, its n-th."""
    if n == 1:
        p = finite_or_zero(values)
    s, q = push((s, q), values - p)
    if n > 1 and turns_at(n):
        p, s, q = moved_pivot(float(n), p, s, q)
    return p, s, q


@inline
def add_narrow(x, offset, step, wide, states, row, padded, n):
    """The same in lanes, of which there are fewer than a vector has."""
    of_p = 8 * row
    of_s, of_q = of_p + 8 * padded, of_p + 16 * padded
    p, s = load_first(states, of_p, 8, wide, LIKE64), load_first(states, of_s, 8, wide, LIKE64)
    q, values = load_first(states, of_q, 8, wide, LIKE64), load_first(x, offset, step, wide, LIKE64)
    p, s, q = _with_one_more(n, p, s, q, values)
    if turns_at(n):
        store_first(states, of_p, 8, wide, p)
    store_first(states, of_s, 8, wide, s)
    store_first(states, of_q, 8, wide, q)


@inline
def add_row(x, offset, step, begin, end, states, row, padded, n, bound):
    """The same of columns [begin, end), vector by vector: behind the last column a row has room for all of it."""
    for column in range(begin, end, WIDTH):
        width, at = min(WIDTH, end - column), offset + column * step
        if width == WIDTH or at + WIDTH * step <= bound:
            values = load(x, at, step, LIKE64)
        else:
            values = load_first(x, at, step, width, LIKE64)
        of_p = 8 * (row + column)
        of_s, of_q = of_p + 8 * padded, of_p + 16 * padded
        p, s, q = load_near(states, of_p, LIKE64), load_near(states, of_s, LIKE64), load_near(states, of_q, LIKE64)
        p, s, q = _with_one_more(n, p, s, q, values)
        if turns_at(n):
            store_near(states, of_p, p)
        store_near(states, of_s, s)
        store_near(states, of_q, q)


@kernel
def columns(first_task, last_task, table, frame):
    """States of the labels of groups side by side; a task is a tile of them in a part, or a range of its labels.

    Strays are those labels that are too high.
    """
    x, elements = frame.x, load_int(table, ELEMENTS)
    blocks, cuts = integers_at(load_int(table, BLOCKS)), integers_at(load_int(table, CUTS))
    parts, size, ranges = load_int(table, PARTS), load_int(table, PART_SIZE), load_int(table, RANGES)
    tile, tiles, wide = load_int(table, TILE), load_int(table, TILES), load_int(table, COLUMN + SIZE)
    number, set_size, row_size = load_int(table, NUM_LABELS), load_int(table, SET), load_int(table, ROW)
    padded, bound, step, down = load_int(table, PADDED), load_int(table, END), load_int(table, COLUMN + X), RUN + X
    far, strays = load_int(table, FAR) != 0, integers_at(load_int(table, STRAYS))
    room = stack(SEGMENT, INT64)
    for task in range(first_task, last_task):
        share = task % ranges
        unit = task // ranges // tiles
        begin = task // ranges % tiles * tile
        end = min(wide, begin + tile)
        low, high = load_int(cuts, share), load_int(cuts, share + 1)
        place = kept_place(table, unit // parts)
        states = numbers_at(load_int(table, STATES) + 8 * unit * set_size)
        counts = integers_at(load_int(table, COUNTS) + 8 * (task // ranges) * number)
        i, highest = unit % parts * size, NONE
        stop = min(elements, i + size)
        while i < stop:
            if ranges > 1 and is_skipped(blocks, i, low, high):
                i = (i // SCAN + 1) * SCAN
                continue
            n, (offset, _, _, _, of_labels) = segment(table, place, i, stop)
            labels = read_labels(table, of_labels, n, room)
            for j in range(n):
                if far:
                    ahead = 8 * (load_int(labels, min(j + 4, n - 1)) * row_size + begin)
                    prefetch(states, ahead)
                    prefetch(states, ahead + 8 * padded)
                    prefetch(states, ahead + 16 * padded)
                label = load_int(labels, j)
                highest = max(highest, label)
                if low <= label < high:
                    there = load_int(counts, label) + 1
                    store_int(counts, label, there)
                    at, row = offset + j * load_int(table, down), label * row_size
                    if wide < NARROW:
                        add_few(x, at, step, wide, states, row, padded, there)
                    elif wide < WIDTH:
                        add_narrow(x, at, step, wide, states, row, padded, there)
                    else:
                        add_row(x, at, step, begin, end, states, row, padded, there, bound)
            i += n
        if ranges == 1:
            store_int(strays, task, np.int64(highest >= number))


# -- states ----------------------------------------------------------------------------------------------------------
@inline
def _merged(states, row, set_size, parts):
    """State of a label of one group, from those of its parts in order, of which the first lies at `row`."""
    n, high, low, squares = 0.0, np.nan, 0.0, 0.0
    for _ in range(parts):
        there = float(load_int(states, row))
        if there > 0.0:
            at = 8 * row
            p, s, q = load_one(states, at + 8), load_one(states, at + 16), load_one(states, at + 24)
            n, high, low, squares = merged_pair(n, high, low, squares, there, *settled(there, p, s, q))
        row += set_size
    return n, high, low, squares


@inline
def _merged_row(table, states, counts, outer, label, column, width):
    """States of a label of `width` groups side by side, in lanes."""
    parts, padded, tiles = load_int(table, PARTS), 8 * load_int(table, PADDED), load_int(table, TILES)
    number, tile, set_size = load_int(table, NUM_LABELS), column // load_int(table, TILE), load_int(table, SET)
    zero = splat(0.0)
    n, high, low, squares = 0.0, zero, zero, zero
    for one in range(outer * parts, (outer + 1) * parts):
        there = float(load_int(counts, (one * tiles + tile) * number + label))
        if there > 0.0:
            at = 8 * (one * set_size + label * load_int(table, ROW) + column)
            p, s = load_first(states, at, 8, width, LIKE64), load_first(states, at + padded, 8, width, LIKE64)
            q = load_first(states, at + 2 * padded, 8, width, LIKE64)
            n, high, low, squares = united(n, high, low, squares, there, *settled(there, p, s, q))
    return n, where(n == 0.0, splat(np.nan), high), low, squares


@kernel
def merge(first_task, last_task, table, frame):
    """Settle and merge the states of all parts, in order: count, mean and m2 of each label and group."""
    count, mean, m2, rest = frame.count, frame.mean, frame.m2, numbers_at(load_int(table, REST))
    keeps_rest = load_int(table, REST) != 0
    states, counts = numbers_at(load_int(table, STATES)), integers_at(load_int(table, COUNTS))
    number, groups, parts = load_int(table, NUM_LABELS), load_int(table, GROUPS), load_int(table, PARTS)
    set_size, row_size, single = load_int(table, SET), load_int(table, ROW), load_int(table, HEAD) != 0
    wide, beside, chunk = load_int(table, COLUMN + SIZE), load_int(table, COLUMN + GROUP), load_int(table, CHUNK)
    for pair in range(first_task * chunk, min(last_task * chunk, load_int(table, PAIRS))):
        outer, label = pair // number, pair % number
        at = label * groups + kept_place(table, outer)[4]
        if single:
            row = outer * parts * set_size + label * row_size
            n, high, low, squares = _merged(states, row, set_size, parts)
            store_one(count, at, n)
            store_one(mean, at, high)
            store_one(m2, at, squares)
            if keeps_rest:
                store_one(rest, at, low)
        else:
            for column in range(0, wide, WIDTH):
                width = min(WIDTH, wide - column)
                n, highs, lows, all_squares = _merged_row(table, states, counts, outer, label, column, width)
                to, step = 8 * (at + column * beside), 8 * beside
                store_first(count, to, step, width, splat(n))
                store_first(mean, to, step, width, highs)
                store_first(m2, to, step, width, all_squares)
                if keeps_rest:
                    store_first(rest, to, step, width, lows)


# -- output ------------------------------------------------------------------------------------------------------------
@kernel
def coefficients(first_task, last_task, table, frame):
    """What makes output of an element of each label and group: the mean in two parts, and one over the deviation.

    The last row leaves elements as they are.
    """
    count, mean, m2, rest = frame.count, frame.mean, frame.m2, numbers_at(load_int(table, REST))
    made, groups, number = (
        numbers_at(load_int(table, COEFFICIENTS)),
        load_int(table, GROUPS),
        load_int(table, NUM_LABELS),
    )
    spread, ddof, chunk = (
        spread_of(frame.eps, frame.eps_on_std != 0, frame.ddof),
        float(frame.ddof),
        load_int(table, CHUNK),
    )
    has_rest, states = load_int(table, REST) != 0, number * groups
    for state in range(first_task * chunk, min(last_task * chunk, states + groups)):
        high, scale, offset = 0.0, 1.0, -0.0
        if state < states:
            n, high = load_one(count, 8 * state), load_one(mean, 8 * state)
            scale = inverse_std(load_one(m2, 8 * state), n, spread) if n > ddof else np.nan
            offset = -load_one(rest, 8 * state) * scale if has_rest else -0.0
        store_one(made, 4 * state, high)
        store_one(made, 4 * state + 1, scale)
        store_one(made, 4 * state + 2, offset)


@inline
def output_of(x, xo, w, wo, b, bo, label, made, at):
    """Output of the element of a label: standardized, scaled and shifted; or as it is if the label is negative."""
    value = standardize(load_one(x, xo), load_one(made, at), load_one(made, at + 8), load_one(made, at + 16))
    scaled = scale_and_shift(value, neutral_one(w, wo, 1.0), neutral_one(b, bo, -0.0))
    return where(label < 0, value, scaled)


@inline
def write_numbers(out, offset, step, n, numbers, stream):
    """Write numbers, so many bytes apart; `stream`: past the cache, as far as they are whole vectors of it."""
    j = ZERO
    if stream and step == itemsize(out):
        head = min(stream_head(out, offset), n)
        stream = head >= 0
        if head > 0:
            store_first(out, offset, step, head, load_near(numbers, ZERO, LIKE64))
            j = head
    else:
        stream = False
    while j + WIDTH <= n:
        lanes = load_near(numbers, 8 * j, LIKE64)
        if stream:
            store_stream(out, offset + j * step, lanes)
        else:
            store(out, offset + j * step, step, lanes)
        j += WIDTH
    if j < n:
        store_first(out, offset + j * step, step, n - j, load_near(numbers, 8 * j, LIKE64))


@kernel
def apply(first_task, last_task, table, frame):
    """Output by the coefficients of each label and group; a task is a part of the elements of outer groups."""
    x, out, w, b = frame.x, frame.out, frame.weight, frame.bias
    made, elements, far = (
        numbers_at(load_int(table, COEFFICIENTS)),
        load_int(table, ELEMENTS),
        load_int(table, FAR) != 0,
    )
    parts, size, number = load_int(table, PARTS), load_int(table, PART_SIZE), load_int(table, NUM_LABELS)
    groups, wide = load_int(table, GROUPS), load_int(table, COLUMN + SIZE)
    xs, os, ws, bs = (
        load_int(table, RUN + X),
        load_int(table, RUN + OUT),
        load_int(table, RUN + WEIGHT),
        load_int(table, RUN + BIAS),
    )
    xc, oc, wc, bc = (
        load_int(table, COLUMN + X),
        load_int(table, COLUMN + OUT),
        load_int(table, COLUMN + WEIGHT),
        load_int(table, COLUMN + BIAS),
    )
    beside, joined = load_int(table, COLUMN + GROUP), os == wide * oc
    room, numbers, stream = stack(SEGMENT, INT64), stack(ROOM, LIKE64), load_int(table, STREAM) != 0
    for task in range(first_task, last_task):
        place = kept_place(table, task // parts)
        group = place[4]
        i = task % parts * size
        stop = min(elements, i + size)
        while i < stop:
            n, (xo, oo, wo, bo, of_labels) = segment(table, place, i, stop)
            labels = read_labels(table, of_labels, n, room)
            if wide == 1:
                for j in range(n):
                    if far:
                        prefetch(made, 32 * (load_int(labels, min(j + AHEAD, n - 1)) * groups + group))
                    label = load_int(labels, j)
                    at = 32 * ((label if label >= 0 else number) * groups + group)
                    value = output_of(x, xo + j * xs, w, wo + j * ws, b, bo + j * bs, label, made, at)
                    store_one(numbers, j, value)
                write_numbers(out, oo, os, n, numbers, stream)
            else:
                filled, begin = ZERO, oo
                for j in range(n):
                    label = load_int(labels, j)
                    at = 32 * ((label if label >= 0 else number) * groups + group)
                    for column in range(wide):
                        if filled == SEGMENT:
                            write_numbers(out, begin, oc, filled, numbers, stream)
                            begin += filled * oc
                            filled = ZERO
                        value = output_of(
                            x,
                            xo + j * xs + column * xc,
                            w,
                            wo + j * ws + column * wc,
                            b,
                            bo + j * bs + column * bc,
                            label,
                            made,
                            at + 32 * column * beside,
                        )
                        store_one(numbers, filled, value)
                        filled += 1
                    if not joined:
                        write_numbers(out, begin, oc, filled, numbers, stream)
                        begin = oo + (j + 1) * os
                        filled = ZERO
                write_numbers(out, begin, oc, filled, numbers, stream)
            i += n
    stream_fence()
