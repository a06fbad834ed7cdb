"""Kernels that keep the innermost run: channels last, tables by column, and groups too short to fill the lanes.

Each takes tasks [first, last) of a schedule; see `walk` for its table. A task is a tile of columns side by side. Rows
are added up in blocks of ROW_BLOCK that share a pivot, their first row, and blocks are merged in order. A tile is
high x low columns, and where one of the two loops is reduced, its columns are merged into groups at the end; if that
is `high`, the first `low` columns hold the states of the groups from then on.

Few channels are walked with many pixels side by side, as `high`. The pixels that do not fill a row, the REST of each
repeat, are added when a tile is settled, and written as a shorter row behind the last.
"""

from ...maths import accumulators, welford
from ...maths.accumulators import push
from ...walk.slots import BIAS, GROUP, HIGH, LOW, OUT, REPEATS, ROWS, SIZE, WEIGHT, X
from .column_sums import _merge_part, _part_count, _part_moments, _part_rows
from .compiling import inline, kernel
from .constants import FEW_ROWS, FOURS, MAX_COLUMNS, PEEL_COLUMNS, PERIOD, PHASES
from .intrinsics import (
    absent,
    behind,
    exact_in_float64,
    is_present,
    itemsize,
    load,
    load_first,
    load_int,
    load_near,
    load_one,
    load_same,
    made_in_float32,
    made_like,
    stack,
    store_first,
    store_near,
    store_one,
    stream_fence,
    stream_head,
    summed_like,
    viewed,
)
from .lanes import WIDTH, convert, first, splat, total
from .team import MERGE, OUTPUT, chunk_tasks, end_phase, next_task
from .walk import (
    FOLD,
    LIKE64,
    PARTS,
    REST,
    STREAM,
    TILE,
    ZERO,
    added_to_std,
    given_statistics,
    inner_offset,
    inner_place,
    moved,
    outer_place,
    scale_cyclic,
    scale_near,
    scale_run,
    stream_edge,
    stream_end,
    sum_run,
)

# Numbers in each of a task's arrays: lanes may reach past the last one, and coefficients begin up to WIDTH late; behind
# the lanes is one more state of each of few groups.
ROOM = MAX_COLUMNS + 3 * WIDTH


@inline
def _tiles(table):
    """How many tiles the columns make."""
    tile = load_int(table, TILE)
    return (load_int(table, HIGH + SIZE) * load_int(table, LOW + SIZE) + tile - 1) // tile


@inline
def _corner(table, place, column):
    """The place of a tile's first column."""
    low = load_int(table, LOW + SIZE)
    return moved(table, moved(table, place, HIGH + ZERO, column // low), LOW + ZERO, column % low)


@inline
def _tile(table, index, tile):
    """Where a tile at an index of the outer loops is: its corner, first column, and its high and low sizes."""
    size, high, low = load_int(table, TILE), load_int(table, HIGH + SIZE), load_int(table, LOW + SIZE)
    column = tile * size
    width = min(size, high * low - column)
    corner = _corner(table, outer_place(table, index), column)
    if high == 1:
        return corner, column, 1, width
    return corner, column, width // low, low


@inline
def _bases(x, table, origin, high, low, center, bases):
    """For each column of a tile, its group's first element: means are merged as distances from it."""
    high_step, low_step = load_int(table, HIGH + X), load_int(table, LOW + X)
    own = high
    if high > 1 and load_int(table, LOW + GROUP) != 0:
        own = 1
    elif load_int(table, HIGH + SIZE) > 1:
        low_step = 0
    for a in range(own):
        for i in range(0, low, WIDTH):
            width = min(WIDTH, low - i)
            base = splat(0.0)
            if center != 0:
                base = welford.base_or_zero(
                    load_first(x, origin + a * high_step + i * low_step, low_step, width, LIKE64)
                )
            store_near(bases, 8 * (a * low + i), base)
    if own < high:
        _repeat(bases, low, high * low, LIKE64)


@inline
def _repeat(numbers, count, columns, like):
    """Repeat the first `count` numbers of an array, up to so many columns."""
    item = itemsize(numbers)
    while count < columns:
        more = min(count, columns - count)
        for i in range(0, more, WIDTH):  # lanes that reach too far are overwritten by the next round, or are room
            store_near(numbers, item * (count + i), load_near(numbers, item * i, like))
        count += more


@inline
def _merge_low(n, high, low, center, mean, m2):
    """Merge the `low` columns of each of `high` groups, of n values each; returns the values of a group.

    All columns count the same, so the merge is the moments of the means: Chan's formula for many equal sets.
    """
    size, step = float(low), itemsize(mean)
    for group in range(high):
        at = group * low * step
        pivot = 0.0
        if center != 0:
            pivot = welford.finite_or_zero(load_one(mean, at))
        zero = splat(0.0)
        s, _ = sum_run(mean, at, step, low, pivot, (zero, zero))
        pivot += welford.finite_or_zero(total(s) / size)
        s, q = sum_run(mean, at, step, low, pivot, (zero, zero))
        mu, between = accumulators.settle(size, pivot, (total(s), total(q)))
        if mu - mu != 0.0:  # means so far apart that their distances overflow
            mu = 0.0
            for member in range(low):
                mu += load_one(mean, at + member * step) / size
        within, _ = sum_run(m2, at, step, low, 0.0, (zero, zero))
        inside = total(within) + n * between
        for member in range(group * low, group * low + low):
            store_one(mean, member, mu)
            store_one(m2, member, inside)
    return n * size


@inline
def _merge_high(n, high, low, mean, m2):
    """Merge the `high` columns of each of `low` groups, of n values each, into the first of them; returns the values of
    a group. One half is merged with the other, and so on; columns without a partner wait behind all lanes.
    """
    odd, at = 0.0, high * low + WIDTH
    odd_mean, odd_m2 = viewed(mean, at, LIKE64), viewed(m2, at, LIKE64)
    while high > 1:
        half = high // 2 * low
        if high % 2 != 0:
            odd = _merge_part(
                low, odd, odd_mean, odd_m2, n, viewed(mean, 2 * half, LIKE64), viewed(m2, 2 * half, LIKE64)
            )
        n = _merge_part(half, n, mean, m2, n, viewed(mean, half, LIKE64), viewed(m2, half, LIKE64))
        high //= 2
    return _merge_part(low, n, mean, m2, odd, odd_mean, odd_m2)


@inline
def _add_rest(x, table, origin, high, low, n, center, bases, mean, m2, room):
    """Merge the rest of each repeat into the states of `low` groups of n values each; returns their new count."""
    rest, step, means, m2s = load_int(table, REST), load_int(table, LOW + X), room[0], room[1]
    if rest == 0:
        return n
    for repeat in range(load_int(table, REPEATS)):
        at = origin + inner_offset(table, repeat) + load_int(table, ROWS + SIZE) * load_int(table, ROWS + X)
        for i in range(0, rest * low, WIDTH):  # a state of one value for each column
            value = load_first(x, at + i * step, step, min(WIDTH, rest * low - i), LIKE64)
            mean_1 = value - load_near(bases, 8 * i, LIKE64)
            square = mean_1 - mean_1  # 0, or NaN of what is not finite
            if center == 0:
                mean_1, square = splat(0.0), value * value
            store_near(means, 8 * i, mean_1)
            store_near(m2s, 8 * i, square)
        nb = _merge_high(1.0, rest, low, means, m2s)
        n = _merge_part(low, n, mean, m2, nb, means, m2s)
    return n


@inline
def _merge_columns(x, table, origin, n, high, low, center, bases, mean, m2, room):
    """Merge the columns of each group of a tile, if it is one of several columns; returns the values of a group."""
    if load_int(table, HIGH + SIZE) == 1:
        return n
    if load_int(table, LOW + GROUP) == 0:
        return _merge_low(n, high, low, center, mean, m2)
    n = _merge_high(n, high, low, mean, m2)
    return _add_rest(x, table, origin, high, low, n, center, bases, mean, m2, room)


@inline
def _own_columns(table, high, low):
    """How many of a tile's columns hold the states of groups: one of each group if `high` is reduced, else all."""
    return low if load_int(table, LOW + GROUP) != 0 else high * low


@inline
def _write_states(table, group, high, low, n, mean, m2, rest, counts, means, m2s, rests):
    """Write the states of a tile's groups to the arrays of all groups."""
    high_group, low_group = load_int(table, HIGH + GROUP), load_int(table, LOW + GROUP)
    if not is_present(counts):
        return
    for a in range(high if high_group != 0 else 1):
        for b in range(low if low_group != 0 else 1):
            k = group + a * high_group + b * low_group
            store_one(counts, k, n)
            store_one(means, k, load_one(mean, 8 * (a * low + b)))
            store_one(m2s, k, load_one(m2, 8 * (a * low + b)))
            if is_present(rests):
                store_one(rests, k, welford.finite_or_zero(load_one(rest, 8 * (a * low + b))))


@inline
def _settle_tile(x, table, corner, tile, n, center, bases, mean, m2, counts, means, m2s, rests, room):
    """From distances of columns to states of groups: merged, made whole, written if asked. Returns a group's count. If
    there are `rests`, what rounding takes from the means is in the place of their bases.
    """
    high, low = tile
    n = _merge_columns(x, table, corner[0], n, high, low, center, bases, mean, m2, room)
    for i in range(0, _own_columns(table, high, low), WIDTH):
        distance, base = load_near(mean, 8 * i, LIKE64), load_near(bases, 8 * i, LIKE64)
        store_near(mean, 8 * i, distance + base)
        if is_present(rests):
            store_near(bases, 8 * i, accumulators.two_sum(base, distance)[1])
    _write_states(table, corner[4], high, low, n, mean, m2, bases, counts, means, m2s, rests)
    return n


@inline
def _has_few_rows(x, table):
    """Whether `_few_rows` serves: groups of so few elements that what is done once a group takes most of the time."""
    once = load_int(table, HIGH + SIZE) == 1 and load_int(table, REPEATS) == 1 and load_int(table, PARTS) == 1
    return exact_in_float64(x) and once and load_int(table, ROWS + SIZE) <= FEW_ROWS


@inline
def _few_rows(x, table, origin, columns, center, mean, m2, rest, rests):
    """States of the groups of a tile, each a column of a few rows: as by `_part_moments` and `_settle_tile`, but with
    the sums of WIDTH columns in registers from beginning to end.
    """
    rows, row_step, step = load_int(table, ROWS + SIZE), load_int(table, ROWS + X), load_int(table, LOW + X)
    for i in range(0, columns, WIDTH):
        at, width = origin + i * step, min(WIDTH, columns - i)
        sums, pivot, base = (splat(0.0), splat(0.0)), splat(0.0), splat(0.0)
        for row in range(rows):
            if width == WIDTH:
                value = load(x, at + row * row_step, step, LIKE64)
            else:
                value = load_first(x, at + row * row_step, step, width, LIKE64)
            if row == 0 and center != 0:
                pivot, base = welford.finite_or_zero(value), welford.base_or_zero(value)
            sums = push(sums, value - pivot)
        s, q = sums
        if center == 0:
            s = splat(0.0)
        mean_1, m2_1 = accumulators.settle(float(rows), pivot - base, (s, q))
        store_near(mean, 8 * i, mean_1 + base)
        store_near(m2, 8 * i, m2_1)
        if is_present(rests):
            store_near(rest, 8 * i, accumulators.two_sum(base, mean_1)[1])
    return float(rows)


@inline
def _read_states(table, group, tile, spread, states, mean, inverse, room):
    """Read the mean and the inverse standard deviation of every column of a tile that holds a state; see `apply`.

    A group's are worked out once: for WIDTH groups at a time, and put to all columns of each.
    """
    high, low = tile
    high_group, low_group = load_int(table, HIGH + GROUP), load_int(table, LOW + GROUP)
    counts, means, m2s = states
    if low_group != 0:
        for i in range(0, low, WIDTH):
            width = min(WIDTH, low - i)
            mu, scale = given_statistics(group + i * low_group, low_group, width, spread, counts, means, m2s)
            store_near(mean, 8 * i, mu)
            store_near(inverse, 8 * i, scale)
        return
    for a in range(0, high, WIDTH):
        width = min(WIDTH, high - a)
        mu, scale = given_statistics(group + a * high_group, high_group, width, spread, counts, means, m2s)
        store_near(room[0], 0, mu)
        store_near(room[1], 0, scale)
        for member in range(width):
            mu, scale = load_same(room[0], 8 * member, LIKE64), load_same(room[1], 8 * member, LIKE64)
            for i in range(0, low, WIDTH):
                place = 8 * ((a + member) * low + i)
                store_near(mean, place, mu)
                store_near(inverse, place, scale)


@inline
def _period(columns):
    """After how many elements coefficients begin anew where rows are one: several rows, for a longer inner loop."""
    return columns * max(1, PERIOD // columns)


@inline
def _coefficients(table, corner, tile, most, fold, w, b, mean, inverse, like, room):
    """Turn the mean and inverse standard deviation of a tile's columns into the coefficients of `walk.scale_run`,
    weight and bias folded in where `fold` says so: into the arrays of `room`, and anew up to `most` of
    them. Returns 0.0 if all fit float32.
    """
    _, _, wo, bo, _ = corner
    outer, inner = tile
    high, scale, offset = room
    ws, bs = load_int(table, LOW + WEIGHT), load_int(table, LOW + BIAS)
    state = inner if _own_columns(table, outer, inner) == outer * inner else 0  # step from a state to the next
    alike = 1  # how many times the same coefficients are needed, one behind the other
    if state == 0 and (not fold or (load_int(table, HIGH + WEIGHT) == 0 and load_int(table, HIGH + BIAS) == 0)):
        alike = outer
    unfit = splat(0.0)
    for a in range(0, outer, alike):
        for i in range(0, inner, WIDTH):
            width = min(WIDTH, inner - i)
            at, k = a * inner + i, a * state + i
            mu, slope = load_near(mean, 8 * k, LIKE64), load_near(inverse, 8 * k, LIKE64)
            unfit = unfit + first(1.0 - welford.fits_float32(mu, slope), width)
            rounded = convert(mu, like)
            behind = (convert(rounded, LIKE64) - mu) * slope
            if fold:
                wi = wo + a * load_int(table, HIGH + WEIGHT) + i * ws
                bi = bo + a * load_int(table, HIGH + BIAS) + i * bs
                weight = load_first(w, wi, ws, width, 1.0)
                slope = slope * weight
                unfit = unfit + first(1.0 - welford.fits_float32(0.0, slope), width)
                behind = behind * weight + load_first(b, bi, bs, width, LIKE64)
            item = itemsize(high)  # lanes that reach too far are overwritten by the next, or are room
            store_near(high, item * at, rounded)
            store_near(scale, item * at, convert(slope, like))
            store_near(offset, item * at, convert(behind, like))
    count = outer * inner // alike
    _repeat(high, count, most, like)
    _repeat(scale, count, most, like)
    _repeat(offset, count, most, like)
    return total(unfit)


@inline
def _scale_near(x, out, table, corner, start, stop, columns, coefficients, like, edge):
    """Write rows [start, stop) of a tile, without gaps and with weight and bias folded into the coefficients."""
    high, scale, offset = coefficients
    rows, none = load_int(table, ROWS + SIZE), absent()
    stream, peel = load_int(table, STREAM) != 0, columns >= PEEL_COLUMNS
    while start < stop:
        repeat, row = start // rows, start % rows
        last = min(rows, row + stop - start)
        start += last - row
        rx, ro, _, _, _ = _row(table, corner, repeat, row)
        while row < last:
            numbers = high, scale, offset
            scale_near(x, rx, out, ro, none, ZERO, none, ZERO, columns, *numbers, like, stream, peel, edge, None)
            rx += load_int(table, ROWS + X)
            ro += load_int(table, ROWS + OUT)
            row += 1


@inline
def _scale_as_one(x, out, table, corner, start, stop, columns, coefficients, like):
    """The same where rows, and the rest, lie behind one another: the coefficients begin anew with every row."""
    high, scale, offset = coefficients
    rows, stream, period = load_int(table, ROWS + SIZE), load_int(table, STREAM) != 0, _period(columns)
    fours = period == columns and columns <= FOURS
    while start < stop:
        repeat, row = start // rows, start % rows
        last = min(rows, row + stop - start)
        count = (last - row) * columns
        if last == rows:
            count += _rest_columns(table)
        rx, ro, _, _, _ = _row(table, corner, repeat, row)
        scale_cyclic(x, rx, out, ro, count, period, fours, high, scale, offset, like, stream)
        start += last - row


@inline
def _rows_are_one(x, out, table, columns):
    """Whether `_scale_as_one` serves: where several rows were made one, but also where there are few channels."""
    near = load_int(table, ROWS + X) == columns * itemsize(x) and load_int(table, ROWS + OUT) == columns * itemsize(out)
    return near and columns % WIDTH == 0


@inline
def _scale_far(x, out, w, b, table, corner, start, stop, columns, coefficients, like):
    """Write rows [start, stop) of a tile, of any steps and with any weights."""
    high, scale, offset = coefficients
    rows, fold = load_int(table, ROWS + SIZE), load_int(table, FOLD) != 0
    xs, os = load_int(table, LOW + X), load_int(table, LOW + OUT)
    ws, bs = load_int(table, LOW + WEIGHT), load_int(table, LOW + BIAS)
    rest, behind_last = _rest_columns(table), False
    index = start
    while index < stop:
        row = index % rows
        count = rest if behind_last else columns
        rx, ro, rw, rb, _ = _row(table, corner, index // rows, rows if behind_last else row)
        scale_run(x, rx, xs, out, ro, os, w, rw, ws, b, rb, bs, count, high, scale, offset, fold, like)
        behind_last = rest > 0 and row == rows - 1 and not behind_last
        if not behind_last:
            index += 1


@inline
def _scale_unfit(x, out, w, b, table, corner, start, stop, tile, mean, inverse):
    """The same in float64, where coefficients do not fit float32, which are made anew for each row: so rare is it that
    little code counts for more than speed.
    """
    fold, behind_last = load_int(table, FOLD) != 0, False
    rows, rest = load_int(table, ROWS + SIZE), load_int(table, REST)
    xs, os = load_int(table, LOW + X), load_int(table, LOW + OUT)
    ws, bs = load_int(table, LOW + WEIGHT), load_int(table, LOW + BIAS)
    inner, state = tile[1], 0 if load_int(table, LOW + GROUP) != 0 else tile[1]
    high_w, high_b = inner * ws, inner * bs
    if fold:
        high_w, high_b = load_int(table, HIGH + WEIGHT), load_int(table, HIGH + BIAS)
    index = start
    while index < stop:
        row = index % rows
        rx, ro, rw, rb, _ = _row(table, corner, index // rows, rows if behind_last else row)
        for a in range(rest if behind_last else tile[0]):
            for i in range(0, inner, WIDTH):
                width, k, c = min(WIDTH, inner - i), 8 * (a * state + i), a * inner + i
                mu, slope = load_near(mean, k, LIKE64), load_near(inverse, k, LIKE64)
                offset = (mu - mu) * slope
                weight = load_first(w, rw + a * high_w + i * ws, ws, width, 1.0)
                bias = load_first(b, rb + a * high_b + i * bs, bs, width, LIKE64)
                if fold:
                    slope, offset = slope * weight, offset * weight + bias
                    weight, bias = splat(1.0), splat(LIKE64)
                value = welford.standardize(load_first(x, rx + c * xs, xs, width, LIKE64), mu, slope, offset)
                store_first(out, ro + c * os, os, width, welford.scale_and_shift(value, weight, bias))
        behind_last = rest > 0 and row == rows - 1 and not behind_last
        if not behind_last:
            index += 1


@inline
def _rest_columns(table):
    """Columns of the shorter row behind the last, 0 if there is none."""
    return load_int(table, REST) * load_int(table, LOW + SIZE)


@inline
def _row(table, corner, repeat, row):
    """The place of a row of a tile."""
    return moved(table, inner_place(table, corner, repeat), ROWS + ZERO, row)


@inline
def _finish_tile(x, out, w, b, table, corner, rows, tile, mean, inverse, room, edge):
    """Write some rows of a tile, given the mean and inverse standard deviation of its columns."""
    fold, like = load_int(table, FOLD) != 0, made_like(x, out)
    columns = tile[0] * tile[1]
    near = fold and load_int(table, LOW + X) == itemsize(x) and load_int(table, LOW + OUT) == itemsize(out)
    one = near and _rows_are_one(x, out, table, columns)
    # Where output reaches a line of the cache, the coefficients do too: no load of them crosses one either.
    skip = -stream_head(out, corner[1]) % WIDTH if one or columns >= PEEL_COLUMNS else 0
    kept = viewed(room[0], skip, like), viewed(room[1], skip, like), viewed(room[2], skip, like)
    most = _period(columns) + WIDTH if one else columns  # beyond the row: see `scale_cyclic`
    unfit = _coefficients(table, corner, tile, most, fold, w, b, mean, inverse, like, kept)
    if unfit == 0.0 or not made_in_float32(x, out):
        if one:
            _scale_as_one(x, out, table, corner, rows[0], rows[1], columns, kept, like)
        elif near:
            _scale_near(x, out, table, corner, rows[0], rows[1], columns, kept, like, edge)
        else:
            _scale_far(x, out, w, b, table, corner, rows[0], rows[1], columns, kept, like)
        return
    _scale_unfit(x, out, w, b, table, corner, rows[0], rows[1], tile, mean, inverse)


@inline
def _numbers():
    """An array of a number for each column of a tile."""
    return stack(ROOM, LIKE64)


@inline
def _room():
    """The arrays of `_block_sums`, and then of `_finish_tile`."""
    return _numbers(), _numbers(), _numbers()


@inline
def _reduce_task(task, table, x, narrow, center, arrays, room):
    """States of the columns of a tile, or of a part of it, into the first two arrays; returns how many values each
    holds, the tile's corner, high and low sizes, and its place among the states by part and column.
    """
    mu, q, bases = arrays
    columns = load_int(table, HIGH + SIZE) * load_int(table, LOW + SIZE)
    parts, tiles = load_int(table, PARTS), _tiles(table)
    outer, part = task // tiles // parts, task // tiles % parts
    corner, column, high, low = _tile(table, outer, task % tiles)
    _bases(x, table, corner[0], high, low, center, bases)
    n = _part_moments(x, narrow, table, corner[0], part, high * low, center, room, bases, mu, q)
    return n, corner, high, low, (outer * parts + part) * columns + column


@inline
def _keep_part(at, columns, arrays, mean, m2):
    """Write the states of a part's columns where `_merge_task` looks for them."""
    mu, q, _ = arrays
    for i in range(0, columns, WIDTH):
        width, place = min(WIDTH, columns - i), 8 * (at + i)
        store_first(mean, place, 8, width, load_near(mu, 8 * i, LIKE64))
        store_first(m2, place, 8, width, load_near(q, 8 * i, LIKE64))


@inline
def _merge_task(task, table, x, center, arrays, means, m2s, count, mean, m2, rest, room):
    """Merge the states of a tile's parts, part after part, into the states by group."""
    mu, q, bases = arrays
    columns = load_int(table, HIGH + SIZE) * load_int(table, LOW + SIZE)
    parts, tiles = load_int(table, PARTS), _tiles(table)
    outer = task // tiles
    corner, column, high, low = _tile(table, outer, task % tiles)
    n = 0.0
    for i in range(0, high * low, WIDTH):
        width, at = min(WIDTH, high * low - i), 8 * (outer * parts * columns + column + i)
        mean_a, m2_a = load_first(means, at, 8, width, LIKE64), load_first(m2s, at, 8, width, LIKE64)
        n = _part_count(table, ZERO)
        for part in range(1, parts):
            k = at + 8 * part * columns
            mean_b, m2_b = load_first(means, k, 8, width, LIKE64), load_first(m2s, k, 8, width, LIKE64)
            n, mean_a, m2_a = accumulators.merge(n, mean_a, m2_a, _part_count(table, part), mean_b, m2_b)
        store_near(mu, 8 * i, mean_a)
        store_near(q, 8 * i, m2_a)
    _bases(x, table, corner[0], high, low, center, bases)
    _settle_tile(x, table, corner, (high, low), n, center, bases, mu, q, count, mean, m2, rest, room)


@inline
def _write_tasks(first_task, last_task, table, x, out, w, b, spread, arrays, room, count, mean, m2):
    """Output of some parts of tiles, from the states of the groups; without counts, m2 is the variance."""
    mu, inverse, _ = arrays
    parts, tiles, edge = load_int(table, PARTS), _tiles(table), stream_edge(out)
    task = first_task
    while task < last_task:
        tile, part = task // parts, task % parts
        done = min(parts - part, last_task - task)  # neighbouring parts have their coefficients in common
        corner, _, high, low = _tile(table, tile // tiles, tile % tiles)
        _read_states(table, corner[4], (high, low), spread, (count, mean, m2), mu, inverse, room)
        rows = _part_rows(table, part)[0], _part_rows(table, part + done - 1)[1]
        _finish_tile(x, out, w, b, table, corner, rows, (high, low), mu, inverse, room, edge)
        task += done
    stream_end(out, edge)
    stream_fence()


@kernel
def moments(first, last, table, frame):
    """States by group, or where there are parts, by part and column."""
    x, center, arrays, room = frame.x, frame.center, _room(), _room()
    (mu, q, bases), states = arrays, (frame.count, frame.mean, frame.m2, frame.rest)
    for task in range(first, last):
        if _has_few_rows(x, table):
            tiles = _tiles(table)
            corner, _, _, low = _tile(table, task // tiles, task % tiles)
            n = _few_rows(x, table, corner[0], low, center, mu, q, bases, frame.rest)
            _write_states(table, corner[4], 1, low, n, mu, q, bases, *states)
            continue
        n, corner, high, low, at = _reduce_task(task, table, x, None, center, arrays, room)
        if load_int(table, PARTS) == 1:
            _settle_tile(x, table, corner, (high, low), n, center, bases, mu, q, *states, room)
        else:
            _keep_part(at, high * low, arrays, frame.part_mean, frame.part_m2)


@kernel
def merge(first, last, table, frame):
    """Merge the parts' states that `moments` left; a task is a tile."""
    x, center, arrays, room = frame.x, frame.center, _room(), _room()
    states = frame.count, frame.mean, frame.m2, frame.rest
    for task in range(first, last):
        _merge_task(task, table, x, center, arrays, frame.part_mean, frame.part_m2, *states, room)


@kernel
def normalize(first_task, last_task, table, frame):
    """Each tile in one go: statistics, part after part, then output while the tile is in the cache.

    Writes the states if asked.
    """
    x, out, w, b, spread, center = frame.x, frame.out, frame.weight, frame.bias, added_to_std(frame), frame.center
    states = frame.count, frame.mean, frame.m2, frame.rest
    parts, tiles, edge = load_int(table, PARTS), _tiles(table), stream_edge(out)
    mu, q, mean_b, m2_b, bases = _numbers(), _numbers(), _numbers(), _numbers(), _numbers()
    room, narrow = _room(), summed_like(x, out)
    for task in range(first_task, last_task):
        corner, _, high, low = _tile(table, task // tiles, task % tiles)
        if _has_few_rows(x, table):
            n = _few_rows(x, table, corner[0], low, center, mu, q, bases, frame.rest)
            _write_states(table, corner[4], high, low, n, mu, q, bases, *states)
        else:
            _bases(x, table, corner[0], high, low, center, bases)
            n = 0.0
            for part in range(parts):
                nb = _part_moments(x, narrow, table, corner[0], part, high * low, center, room, bases, mean_b, m2_b)
                n = _merge_part(high * low, n, mu, q, nb, mean_b, m2_b)
            n = _settle_tile(x, table, corner, (high, low), n, center, bases, mu, q, *states, room)
        for i in range(0, _own_columns(table, high, low), WIDTH):
            store_near(q, 8 * i, welford.inverse_std(load_near(q, 8 * i, LIKE64), n, spread))
        rows = load_int(table, REPEATS) * load_int(table, ROWS + SIZE)
        _finish_tile(x, out, w, b, table, corner, (0, rows), (high, low), mu, q, room, edge)
    stream_end(out, edge)
    stream_fence()


@kernel
def apply(first, last, table, frame):
    """Output of each part of each tile, from given states of the groups; without counts, m2 is the variance."""
    x, out, w, b, spread = frame.x, frame.out, frame.weight, frame.bias, added_to_std(frame)
    _write_tasks(first, last, table, x, out, w, b, spread, _room(), _room(), frame.count, frame.mean, frame.m2)


@kernel
def normalize_split(first, last, table, frame):
    """Few large groups, by several workers: states of the parts, their merge, output; see `team`.

    The tables of the merge and of the output lie behind the first.
    """
    x, out, w, b, spread, center = frame.x, frame.out, frame.weight, frame.bias, added_to_std(frame), frame.center
    count, mean, m2 = behind(frame.count, 0), behind(frame.mean, 0), behind(frame.m2, 0)
    part_mean, part_m2, board = frame.part_mean, frame.part_m2, frame.board
    arrays, room, narrow = _room(), _room(), summed_like(x, out)
    merging, writing = behind(table, load_int(board, MERGE)), behind(table, load_int(board, OUTPUT))
    for worker in range(first, last):
        for phase in range(PHASES):
            share, ended = worker, ZERO
            while True:
                share, task = next_task(board, phase, worker, share)
                if task < 0:
                    break
                if phase == 0:
                    _, _, high, low, at = _reduce_task(task, table, x, narrow, center, arrays, room)
                    _keep_part(at, high * low, arrays, part_mean, part_m2)
                elif phase == 1:
                    states = count, mean, m2, frame.rest
                    _merge_task(task, merging, x, center, arrays, part_mean, part_m2, *states, room)
                else:
                    begin, end = chunk_tasks(board, task)
                    _write_tasks(begin, end, writing, x, out, w, b, spread, arrays, room, count, mean, m2)
                ended += 1
            end_phase(board, phase, ended)
