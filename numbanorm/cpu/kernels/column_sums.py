"""Sums down the rows of columns side by side, and the states that they leave: for `columns` and `segment_columns`.

A part of the rows is added up in float32 where output is made in it, about a pivot for each column, or for each group
of several side by side: see `_near_part` and `_near_groups`. All else is added up in float64, in blocks of ROW_BLOCK
that share a pivot, their first row, and blocks are merged in order.
"""

from ...maths import accumulators, welford
from ...maths.accumulators import added, push
from ...walk.slots import GROUP, HIGH, LOW, REPEATS, ROWS, SIZE, X
from .compiling import inline
from .constants import (
    COLUMN_TRUST,
    GROUP_COLUMNS,
    GROUP_ROWS,
    NEAR_BYTES,
    NEAR_ROWS,
    PIECE_ROWS,
    ROW_BLOCK,
    SAMPLE,
    STRIP_BYTES,
    STRIP_ROWS,
    STRIP_STEP,
    WAY_BYTES,
)
from .intrinsics import (
    counted_like,
    exact_in_float64,
    itemsize,
    load_first,
    load_int,
    load_near,
    load_one,
    stack,
    store_first,
    store_int,
    store_near,
    touch,
    viewed,
)
from .lanes import UNROLL, WIDTH, convert, first, splat, total
from .walk import LIKE32, LIKE64, PART_SIZE, STREAM, ZERO, inner_offset, settle_far, sum_run, sum_whole


@inline
def _part_rows(table, part):
    """First and last row, counted through the inner loops, of a part."""
    size = load_int(table, PART_SIZE)
    return part * size, min(part * size + size, load_int(table, REPEATS) * load_int(table, ROWS + SIZE))


@inline
def _part_count(table, part):
    """Rows of a part."""
    start, stop = _part_rows(table, part)
    return float(stop - start)


@inline
def _sums(x, whole, at, step, row_step, rows, width, pivot, sums):
    """Add x - pivot and its square, down `rows` rows of `width` columns, at most WIDTH, to a pair of sums."""
    row = 0
    if width == WIDTH and step == itemsize(x):
        if whole is not None:
            return added(sums, sum_whole(x, whole, at, itemsize(x), row_step, rows, pivot))
        if UNROLL:
            others = splat(0.0), splat(0.0)
            while row + 2 <= rows:
                sums = push(sums, load_near(x, at + row * row_step, LIKE64) - pivot)
                others = push(others, load_near(x, at + (row + 1) * row_step, LIKE64) - pivot)
                row += 2
            sums = added(sums, others)
        while row < rows:
            sums = push(sums, load_near(x, at + row * row_step, LIKE64) - pivot)
            row += 1
    while row < rows:
        sums = push(sums, load_first(x, at + row * row_step, step, width, LIKE64) - pivot)
        row += 1
    return sums


@inline
def _look_ahead(x, at, size):
    """Read a byte of each line of `size` bytes."""
    for line in range((size + 63) // 64):
        touch(x, at + 64 * line)


@inline
def _block_sums(x, at, row_step, rows, more, step, columns, center, room):
    """Sums of a block of rows about a pivot for each column: into the arrays of `room`. `more` rows lie behind it.

    A block too large for the first-level cache is walked in strips of a few rows. A processor looks ahead where memory
    is read in order, not in strips: so while a strip is added up, a byte of each line of the next is read in order.
    """
    pivots, sums, squares = room
    nb = float(rows)
    strip = rows if rows * abs(row_step) <= NEAR_BYTES else STRIP_ROWS
    again = False  # the second time about the mean: the block is still in the cache
    while True:
        for row in range(0, rows, strip):
            ahead = at + (row + strip) * row_step
            whole = columns % WIDTH == 0 and row_step == columns * itemsize(x)  # nothing behind the strip is touched
            near = strip < rows and whole and row + 2 * strip <= rows + more
            for column in range(0, columns, WIDTH):
                width, place = min(WIDTH, columns - column), 8 * column
                if near:
                    _look_ahead(x, ahead + column * strip * itemsize(x), STRIP_ROWS * WIDTH * itemsize(x))
                corner = at + row * row_step + column * step
                s, q = splat(0.0), splat(0.0)
                if row > 0:
                    pivot = load_near(pivots, place, LIKE64)
                    s, q = load_near(sums, place, LIKE64), load_near(squares, place, LIKE64)
                elif again:
                    pivot = load_near(pivots, place, LIKE64)
                    pivot = pivot + welford.finite_or_zero(load_near(sums, place, LIKE64) / nb)
                elif center != 0:
                    pivot = welford.finite_or_zero(load_first(x, corner, step, width, LIKE64))
                else:
                    pivot = splat(0.0)
                s, q = _sums(x, counted_like(x), corner, step, row_step, min(strip, rows - row), width, pivot, (s, q))
                store_near(pivots, place, pivot)
                store_near(sums, place, s)
                store_near(squares, place, q)
        if again or center == 0 or exact_in_float64(x):
            break
        again = True
    if again:
        for column in range(0, columns, WIDTH):
            s = load_near(sums, 8 * column, LIKE64)
            if total(first(s - s, min(WIDTH, columns - column))) != 0.0:
                for one in range(column, min(column + WIDTH, columns)):
                    _settle_if_far(x, at + one * step, row_step, rows, one, room)


@inline
def _settle_if_far(x, at, row_step, rows, column, room):
    """Take a column's mean without its sum, if that has overflowed."""
    s, nb, mean = load_one(room[1], 8 * column), float(rows), 0.0
    if s - s != 0.0:
        for row in range(rows):
            mean += load_one(x, at + row * row_step) / nb
        settle_far(column, mean, room)


@inline
def _add_block(columns, n, nb, center, room, bases, mean, m2):
    """Merge a block's sums into the states of the columns, which hold n values each so far."""
    pivots, sums, squares = room
    for column in range(0, columns, WIDTH):
        place = 8 * column
        s = load_near(sums, place, LIKE64)
        if center == 0:
            s = splat(0.0)
        pivot = load_near(pivots, place, LIKE64) - load_near(bases, place, LIKE64)
        mean_b, m2_b = accumulators.settle(nb, pivot, (s, load_near(squares, place, LIKE64)))
        if n > 0.0:
            mean_a, m2_a = load_near(mean, place, LIKE64), load_near(m2, place, LIKE64)
            _, mean_b, m2_b = accumulators.merge(n, mean_a, m2_a, nb, mean_b, m2_b)
        store_near(mean, place, mean_b)
        store_near(m2, place, m2_b)


@inline
def _row_offset(table, index):
    """How far a row, counted through the inner loops, lies along x."""
    rows = load_int(table, ROWS + SIZE)
    return inner_offset(table, index // rows) + index % rows * load_int(table, ROWS + X)


@inline
def _block(table, origin, start, stop):
    """Where the block of rows begins that a part, whose rows end at `stop`, has at `start`; how many rows it has, and
    how many lie behind it.
    """
    rows = load_int(table, ROWS + SIZE)
    left = min(rows - start % rows, stop - start)
    count = left if left <= ROW_BLOCK + ROW_BLOCK // 4 else ROW_BLOCK  # no block of a few rows at the end
    return origin + _row_offset(table, start), count, left - count


@inline(forceinline=False)
def _wide_part(x, table, origin, part, columns, center, room, bases, mean, m2):
    """States of a tile's columns over one part of the rows; returns how many values each holds."""
    start, stop = _part_rows(table, part)
    row_step, step = load_int(table, ROWS + X), load_int(table, LOW + X)
    n = 0.0
    while start < stop:
        at, count, more = _block(table, origin, start, stop)
        _block_sums(x, at, row_step, count, more, step, columns, center, room)
        _add_block(columns, n, float(count), center, room, bases, mean, m2)
        n += float(count)
        start += count
    return n


@inline
def _row_of_piece(k, piece, apart):
    """A row of the k-th `piece` of rows: another one in each, or all might lie at the border of a picture."""
    return k * piece + k * (apart * 5 // 8) % apart


@inline
def _zeros(pivots, columns, narrow):
    """Keep zeros as pivots."""
    for place in range(0, 8 * columns, 8 * WIDTH):
        store_near(pivots, place, splat(convert(0.0, narrow)))


@inline
def _sample(x, narrow, table, origin, start, stop, columns, room):
    """Keep as a column's pivot the mean, in float32, of SAMPLE of its rows [start, stop); 0 if it is not finite.

    They are a few in each quarter, side by side, as memory is read fastest.
    """
    pivots, sums, item = viewed(room[0], ZERO, narrow), viewed(room[1], ZERO, narrow), itemsize(x)
    quarter = (stop - start) // 4
    apart = quarter - SAMPLE // 4 + 1
    for k in range(SAMPLE):
        lead, row = k // (SAMPLE // 4), k % (SAMPLE // 4)
        at = origin + _row_offset(table, start + _row_of_piece(lead, quarter, apart) + row)
        for i in range(0, columns, WIDTH):
            value, place = _some(x, at + i * item, columns - i, narrow), 8 * i
            if k == 0:
                store_near(pivots, place, value)
                store_near(sums, place, splat(convert(0.0, narrow)))
            else:
                value = value - load_near(pivots, place, narrow)
                store_near(sums, place, load_near(sums, place, narrow) + value)
    share = splat(convert(1.0 / SAMPLE, narrow))
    for place in range(0, 8 * columns, 8 * WIDTH):
        pivot = load_near(pivots, place, narrow) + load_near(sums, place, narrow) * share
        store_near(pivots, place, welford.finite_or_zero(pivot))


@inline
def _some(x, at, left, like):
    """WIDTH elements side by side, or the first `left`, as lanes."""
    if left >= WIDTH:
        value = load_near(x, at, like)
    else:
        value = load_first(x, at, itemsize(x), left, like)
    return value


@inline
def _push_rows(x, at, row_step, rows, left, pivot, sums):
    """Add x - pivot and its square, in float32, down `rows` rows of WIDTH columns, or of the first `left`, to a pair of
    sums: those of four rows, pairwise, at a time.
    """
    none = splat(LIKE32), splat(LIKE32)
    while rows > 0:
        if rows >= 4 and left >= WIDTH:
            a = push(none, load_near(x, at, LIKE32) - pivot)
            b = push(none, load_near(x, at + row_step, LIKE32) - pivot)
            a = push(a, load_near(x, at + 2 * row_step, LIKE32) - pivot)
            b = push(b, load_near(x, at + 3 * row_step, LIKE32) - pivot)
        else:
            a, b = none, none
            for row in range(min(rows, 4)):
                a, b = b, push(a, _some(x, at + row * row_step, left, LIKE32) - pivot)
        sums = added(sums, added(a, b))
        at += 4 * row_step
        rows -= 4
    return sums


@inline(forceinline=False)
def _near_sums(x, narrow, table, origin, start, stop, columns, room, held):
    """Sums of rows [start, stop) about the columns' pivots: PIECE_ROWS rows in float32 at a time, all else in float64.

    Rows that come from beyond the cache are read in strips of a few. A processor looks ahead where memory is read in
    order, not in strips: so while a strip is added up, a byte of each line of the next is read in order. Meanwhile the
    sums of the strips before are in the arrays `held`.
    """
    pivots, sums, squares = viewed(room[0], ZERO, narrow), room[1], room[2]
    s32, q32 = viewed(held[0], ZERO, narrow), viewed(held[1], ZERO, narrow)
    rows, row_step, item = load_int(table, ROWS + SIZE), load_int(table, ROWS + X), itemsize(x)
    for place in range(0, 8 * columns, 8 * WIDTH):
        store_near(sums, place, splat(0.0))
        store_near(squares, place, splat(0.0))
    ordered = load_int(table, STREAM) != 0 and row_step == columns * item and row_step <= STRIP_STEP
    strip = PIECE_ROWS
    if ordered:
        strip = STRIP_BYTES // item
    elif row_step % WAY_BYTES == 0:  # more rows would push each other out of the first-level cache
        strip = PIECE_ROWS // 2
    behind = (columns + WIDTH - 1) // WIDTH * WIDTH * strip // columns + 1  # rows of which a strip touches some
    while start < stop:
        count, done = min(rows - start % rows, stop - start), ZERO
        at = origin + _row_offset(table, start)
        start += count
        while count > 0:
            height = min(strip, count)
            ahead = at + height * row_step
            count -= height
            begins, done = done == 0, done + height
            ends = done == PIECE_ROWS or count == 0
            for i in range(0, columns, WIDTH):
                if ordered and count >= behind:
                    _look_ahead(x, ahead + i * strip * item, STRIP_BYTES * WIDTH)
                place, s, q = 8 * i, splat(LIKE32), splat(LIKE32)
                if not begins:
                    s, q = load_near(s32, place, narrow), load_near(q32, place, narrow)
                pivot = load_near(pivots, place, narrow)
                s, q = _push_rows(x, at + i * item, row_step, height, columns - i, pivot, (s, q))
                if ends:
                    store_near(sums, place, load_near(sums, place, LIKE64) + convert(s, LIKE64))
                    store_near(squares, place, load_near(squares, place, LIKE64) + convert(q, LIKE64))
                else:
                    store_near(s32, place, s)
                    store_near(q32, place, q)
            if ends:
                done = ZERO
            at = ahead


@inline
def _from(arrays, column):
    """The same three arrays, from a column on."""
    return viewed(arrays[0], column, LIKE64), viewed(arrays[1], column, LIKE64), viewed(arrays[2], column, LIKE64)


@inline
def _near_part(x, narrow, table, origin, part, columns, center, room, bases, mean, m2):
    """`_wide_part` by way of float32, about the mean of some rows; about its own mean where that is too far off, and in
    float64 where float32 does not serve. Each column is checked by its own sums, and replaced alone.
    """
    start, stop = _part_rows(table, part)
    n, item = float(stop - start), itemsize(x)
    pivots, sums, squares = viewed(room[0], ZERO, narrow), room[1], room[2]
    if center != 0:
        _sample(x, narrow, table, origin, start, stop, columns, room)
    else:
        _zeros(pivots, columns, narrow)
    _near_sums(x, narrow, table, origin, start, stop, columns, room, (mean, m2))
    for i in range(0, columns, WIDTH):
        width, turn, serve, place = min(WIDTH, columns - i), ZERO, splat(0.0), 8 * i
        mean_1, m2_1, base = splat(0.0), splat(0.0), load_near(bases, place, LIKE64)
        here, near = _from(room, i), _from((bases, mean, m2), i)
        while True:
            pivot = convert(load_near(pivots, place, narrow), LIKE64)
            s, q = load_near(sums, place, LIKE64), load_near(squares, place, LIKE64)
            about = s
            if center == 0:
                about = splat(0.0)
            holds = accumulators.hold(n, pivot, (about, q), COLUMN_TRUST)
            mean_b, m2_b = accumulators.settle(n, pivot - base, (about, q))
            mean_1, m2_1 = welford.where(serve > 0.0, mean_1, mean_b), welford.where(serve > 0.0, m2_1, m2_b)
            serve = welford.where(serve > 0.0, serve, holds)
            missed = total(first(1.0 - serve, width))
            other = total(first(welford.where(q > 0.0, 1.0 - serve, 0.0), width))  # not zeros, and not NaN
            if other == 0.0 or turn > 0 or center == 0:
                break
            shifted = pivot + welford.finite_or_zero(s / n)
            store_near(pivots, place, welford.finite_or_zero(convert(shifted, narrow)))
            _near_sums(x, narrow, table, origin + i * item, start, stop, width, here, (near[1], near[2]))
            turn += 1
        if missed != 0.0:
            _wide_part(x, table, origin + i * item, part, width, center, here, *near)
            mean_1 = welford.where(serve > 0.0, mean_1, load_near(mean, place, LIKE64))
            m2_1 = welford.where(serve > 0.0, m2_1, load_near(m2, place, LIKE64))
        store_near(mean, place, mean_1)
        store_near(m2, place, m2_1)
    return n


@inline
def _sample_groups(x, narrow, table, origin, start, stop, columns, low, room):
    """Keep as the pivot of `low` columns side by side, which are a group, the mean, in float32, of GROUP_ROWS of their
    rows [start, stop), one of each piece of them; 0 if it is not finite.
    """
    pivots, wide, item = viewed(room[0], ZERO, narrow), room[1], itemsize(x)
    places, piece = stack(GROUP_ROWS, ZERO), (stop - start) // GROUP_ROWS
    for k in range(GROUP_ROWS):
        store_int(places, k, origin + _row_offset(table, start + _row_of_piece(k, piece, piece)))
    share = convert(1.0 / float(GROUP_ROWS * low), narrow)
    for column in range(0, columns, low):
        base = convert(welford.finite_or_zero(load_one(x, load_int(places, 0) + column * item)), narrow)
        s = splat(convert(0.0, narrow))
        for k in range(GROUP_ROWS):
            at = load_int(places, k) + column * item
            for i in range(0, low, WIDTH):
                s = s + first(_some(x, at + i * item, low - i, narrow) - base, min(WIDTH, low - i))
        pivot = convert(welford.finite_or_zero(base + total(s) * share), LIKE64)
        for i in range(0, low, WIDTH):  # lanes that reach too far are overwritten by the next group, or are room
            store_near(wide, 8 * (column + i), splat(pivot))
    for place in range(0, 8 * columns, 8 * WIDTH):
        store_near(pivots, place, convert(load_near(wide, place, LIKE64), narrow))


@inline(forceinline=False)
def _group_again(x, narrow, table, origin, part, low, center, pivot, sums, bases, mean, m2):
    """States of the columns of a group, whose sums about `pivot` do not serve: of all of it about its own mean, as near
    as float32 has it, or if these do not serve, of each in float64.
    """
    (start, stop), item, (s, q) = _part_rows(table, part), itemsize(x), sums
    n = float((stop - start) * low)
    room = stack(WIDTH, LIKE64), stack(WIDTH, LIKE64), stack(WIDTH, LIKE64)
    others = stack(WIDTH, LIKE64), stack(WIDTH, LIKE64)
    if center != 0 and q > 0.0:
        near = convert(welford.finite_or_zero(pivot + s / n), narrow)
        s, q = 0.0, 0.0
        for i in range(0, low, WIDTH):
            width = min(WIDTH, low - i)
            store_near(viewed(room[0], ZERO, narrow), 0, splat(near))
            _near_sums(x, narrow, table, origin + i * item, start, stop, width, room, others)
            s += total(first(load_near(room[1], 0, LIKE64), width))
            q += total(first(load_near(room[2], 0, LIKE64), width))
        pivot = convert(near, LIKE64)
        if accumulators.hold(n, pivot, (s, q), COLUMN_TRUST) != 0.0:
            _keep_group(n, pivot, (s, q), low, bases, mean, m2)
            return
    for i in range(0, low, WIDTH):
        width = min(WIDTH, low - i)
        _wide_part(x, table, origin + i * item, part, width, center, room, viewed(bases, i, LIKE64), *others)
        store_first(mean, 8 * i, 8, width, load_near(others[0], 0, LIKE64))
        store_first(m2, 8 * i, 8, width, load_near(others[1], 0, LIKE64))


@inline
def _keep_group(n, pivot, sums, low, bases, mean, m2):
    """Keep for each of a group's columns the state that, merged, makes that of the group: its mean, and a share of m2.
    Lanes reach too far.
    """
    mean_1, m2_1 = accumulators.settle(n, pivot - load_one(bases, 0), sums)
    for place in range(0, 8 * low, 8 * WIDTH):
        store_near(mean, place, splat(mean_1))
        store_near(m2, place, splat(m2_1 / float(low)))


@inline
def _near_groups(x, narrow, table, origin, part, columns, center, room, bases, mean, m2):
    """`_near_part` where groups are many columns side by side: one pivot for all of a group, of fewer rows, and one
    check. Images of 8 x 8 to 32 x 32 took 1.1 to 1.35 times as long by column.
    """
    start, stop = _part_rows(table, part)
    low, zero = load_int(table, LOW + SIZE), splat(0.0)
    n, item = float((stop - start) * low), itemsize(x)
    pivots, sums, squares = viewed(room[0], ZERO, narrow), room[1], room[2]
    if center != 0:
        _sample_groups(x, narrow, table, origin, start, stop, columns, low, room)
    else:
        _zeros(pivots, columns, narrow)
    _near_sums(x, narrow, table, origin, start, stop, columns, room, (mean, m2))
    for column in range(0, columns, low):
        pivot = load_one(pivots, 8 * column - 4 * (column % WIDTH))  # lanes of float32 lie as far apart as of float64
        s, _ = sum_run(sums, 8 * column, 8, low, 0.0, (zero, zero))
        q, _ = sum_run(squares, 8 * column, 8, low, 0.0, (zero, zero))
        both = total(s), total(q)
        if center == 0:
            both = 0.0, both[1]
        near, mean_1, m2_1 = _from((bases, mean, m2), column)
        if accumulators.hold(n, pivot, both, COLUMN_TRUST) != 0.0:
            _keep_group(n, pivot, both, low, near, mean_1, m2_1)
        else:
            at = origin + column * item
            _group_again(x, narrow, table, at, part, low, center, pivot, both, near, mean_1, m2_1)
    return float(stop - start)


@inline
def _are_groups(table):
    """Whether groups are columns side by side, enough of them for `_near_groups`."""
    several = load_int(table, HIGH + SIZE) > 1 and load_int(table, LOW + GROUP) == 0
    return several and load_int(table, LOW + SIZE) >= GROUP_COLUMNS


@inline
def _part_moments(x, narrow, table, origin, part, columns, center, room, bases, mean, m2):
    """States of a tile's columns over one part of the rows; returns how many values each holds."""
    n = 0.0
    if narrow is not None:
        start, stop = _part_rows(table, part)
        rows = min(stop - start, load_int(table, ROWS + SIZE))
        if rows >= NEAR_ROWS and load_int(table, LOW + X) == itemsize(x):
            if _are_groups(table):
                n = _near_groups(x, narrow, table, origin, part, columns, center, room, bases, mean, m2)
            else:
                n = _near_part(x, narrow, table, origin, part, columns, center, room, bases, mean, m2)
    if n == 0.0:
        n = _wide_part(x, table, origin, part, columns, center, room, bases, mean, m2)
    return n


@inline
def _merge_part(columns, n, mean, m2, nb, means, m2s):
    """Merge the states of a part's columns into those of the parts before it."""
    for place in range(0, 8 * columns, 8 * WIDTH):
        mean_a, m2_a = load_near(mean, place, LIKE64), load_near(m2, place, LIKE64)
        mean_b, m2_b = load_near(means, place, LIKE64), load_near(m2s, place, LIKE64)
        _, mean_a, m2_a = accumulators.merge(n, mean_a, m2_a, nb, mean_b, m2_b)
        store_near(mean, place, mean_a)
        store_near(m2, place, m2_a)
    return n + nb
