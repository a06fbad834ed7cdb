"""Going backward where the innermost run is kept: channels last, tables by column, runs too short for lanes."""

from ...maths import gradient, welford
from ...walk.slots import BIAS as GRAD
from ...walk.slots import GROUP, HIGH, LOOPS, LOW, OUT, OUTER, ROWS, SIZE, WEIGHT, X
from .backward_walk import (
    BATCH,
    CENTERED,
    CHAIN,
    CUT,
    CUT_SLOT,
    FOLD,
    FUSED,
    JOINED,
    NUM_ABOVE,
    NUM_RUNS,
    NUM_SIDE,
    OWN,
    RUN,
    RUN_CUTS,
    RUN_SLOT,
    SLICE,
    SLICE_SLOT,
    SLICES,
    STREAM,
    SUMS,
    WEIGHTS,
    WRITES,
    YES,
    add_lanes,
    add_one,
    base_place,
    lanes_of_x,
    lie_near,
    piece,
    precision_of,
    run_place,
    scale_lanes,
    sum_across,
    unfit_lanes,
    weight_index,
    write_run,
)
from .compiling import inline, kernel
from .intrinsics import (
    behind,
    coefficient,
    itemsize,
    load,
    load_first,
    load_int,
    load_near,
    load_one,
    stack,
    store_first,
    store_near,
    store_one,
    stream_fence,
    stream_head,
    viewed,
)
from .lanes import WIDTH, convert, first, splat, total
from .walk import (
    LIKE64,
    NO,
    ZERO,
    added_to_std,
    given_statistics,
    located,
    moved,
    stream_edge,
    stream_end,
)

DOWN_ROWS = 16  # rows of columns that are added up side by side, or in a chain of float32
STRIP = 2  # the same where rows lie so far apart that more meet in the same sets of the cache
FEWEST = 6 * WIDTH  # columns of a tile, from where on the sums of its rows, each of which takes a total, go beside
MAX_TILE = 1024  # columns of a task
ROOM = MAX_TILE + 11 * WIDTH  # see `backward_rows.PIECE_ROOM`


@inline
def _scale_first(out, oo, i, part, dy, scale):
    """Write the first `part` lanes of dy * scale at element i, if there is an output."""
    if out is not None:
        store_first(out, oo + i * itemsize(out), itemsize(out), part, dy * scale)


@inline
def _down(
    x,
    xo,
    x_row,
    xs,
    d,
    do,
    d_row,
    ds,
    w,
    wo,
    w_row,
    ws,
    weighted,
    rows,
    count,
    coefs,
    skip,
    s,
    q,
    like,
    out,
    oo,
    out_row,
    scales,
):
    """Add dy and dy * t of `rows` rows of `count` columns, dy * w for dy if `weighted`, to s and q from `skip` on.

    Unless `out` is None, dy * scale is written, side by side.
    """
    highs, slopes, offsets = coefs
    one, zero = convert(1.0, like), splat(convert(0.0, like))
    for i in range(0, count, WIDTH):
        part, k = min(WIDTH, count - i), skip + i
        h, slope, o = coefficient(highs, k, like), coefficient(slopes, k, like), coefficient(offsets, k, like)
        a, b, scale = zero, zero, coefficient(scales, k, like)
        if part == WIDTH:
            for r in range(rows):
                dy = load(d, do + r * d_row + i * ds, ds, like)
                scale_lanes(out, oo + r * out_row, i, dy, scale, NO)
                if weighted:
                    dy = dy * load(w, wo + r * w_row + i * ws, ws, one)
                t = welford.standardize(load(x, xo + r * x_row + i * xs, xs, like), h, slope, o)
                a, b = gradient.push((a, b), dy, t)
        else:
            for r in range(rows):
                dy = first(load_first(d, do + r * d_row + i * ds, ds, part, like), part)
                _scale_first(out, oo + r * out_row, i, part, dy, scale)
                if weighted:
                    dy = first(dy * load_first(w, wo + r * w_row + i * ws, ws, part, one), part)
                t = load_first(x, xo + r * x_row + i * xs, xs, part, like)
                t = first(welford.standardize(t, h, slope, o), part)
                a, b = gradient.push((a, b), dy, t)
        store_near(s, 8 * k, load_near(s, 8 * k, LIKE64) + convert(a, LIKE64))
        store_near(q, 8 * k, load_near(q, 8 * k, LIKE64) + convert(b, LIKE64))


@inline
def _down_by_row(
    x, xo, x_row, d, do, d_row, rows, count, coefs, skip, s, q, chains, like, strip, out, oo, out_row, scales, stream
):
    """The same by strips of rows, or row by row, as memory beyond the cache is read fastest; elements lie side by side.
    With `stream`, output goes past the cache, where it takes whole lanes.
    """
    highs, slopes, offsets = coefs
    xs, ds, item = itemsize(x), itemsize(d), itemsize(highs)
    for r in range(0, rows, strip):
        together = min(strip, rows - r)
        for i in range(0, count, WIDTH):
            part, k = min(WIDTH, count - i), skip + i
            h, slope, o = coefficient(highs, k, like), coefficient(slopes, k, like), coefficient(offsets, k, like)
            scale, a, b = coefficient(scales, k, like), splat(convert(0.0, like)), splat(convert(0.0, like))
            if r > 0:
                a, b = load_near(chains[0], item * k, like), load_near(chains[1], item * k, like)
            xi, di, oi = xo + i * xs, do + i * ds, oo
            for _ in range(together):
                if part == WIDTH:
                    dy, value = load_near(d, di, like), load_near(x, xi, like)
                    scale_lanes(out, oi, i, dy, scale, stream)
                    t = welford.standardize(value, h, slope, o)
                else:
                    dy, value = first(load_first(d, di, ds, part, like), part), load_first(x, xi, xs, part, like)
                    _scale_first(out, oi, i, part, dy, scale)
                    t = first(welford.standardize(value, h, slope, o), part)
                a, b = gradient.push((a, b), dy, t)
                xi, di, oi = xi + x_row, di + d_row, oi + out_row
            store_near(chains[0], item * k, a)
            store_near(chains[1], item * k, b)
        xo += together * x_row
        do += together * d_row
        oo += together * out_row
    _end_chains(chains, s, q, skip, count, like)


@inline
def _end_chains(chains, s, q, skip, count, like):
    """Add what was added up in the precision of `like` to the sums of columns."""
    item = itemsize(chains[0])
    for k in range(skip, skip + count, WIDTH):
        store_near(s, 8 * k, load_near(s, 8 * k, LIKE64) + convert(load_near(chains[0], item * k, like), LIKE64))
        store_near(q, 8 * k, load_near(q, 8 * k, LIKE64) + convert(load_near(chains[1], item * k, like), LIKE64))


@inline
def _push_row(x, xo, d, do, part, weight, coefs, sums, chains, like):
    """Add lanes of a row to its own sums, and weighted to those of the columns."""
    high, slope, offset = coefs
    if part == WIDTH:
        dy, t = load_near(d, do, like), welford.standardize(load_near(x, xo, like), high, slope, offset)
    else:
        dy = first(load_first(d, do, itemsize(d), part, like), part)
        t = first(welford.standardize(load_first(x, xo, itemsize(x), part, like), high, slope, offset), part)
    return gradient.push(sums, dy, t), gradient.push(chains, dy * weight, t)


@inline
def _down_with_weights(x, xo, x_row, d, do, d_row, w, wo, w_row, many, count, coefs, skip, chains, begun, dw, db, like):
    """Add up four rows of columns, or one (`many`), that have a weight each: to chains of the columns, which go on if
    `begun`, and to the sums of these weights.
    """
    highs, slopes, offsets = coefs
    xs, ds, item, one, zero = itemsize(x), itemsize(d), itemsize(highs), convert(1.0, like), splat(convert(0.0, like))
    next_row = w_row if many == 4 else ZERO
    w0, w1 = load(w, wo, ZERO, one), load(w, wo + next_row, ZERO, one)
    w2, w3 = load(w, wo + 2 * next_row, ZERO, one), load(w, wo + 3 * next_row, ZERO, one)
    for begin in range(0, count, CHAIN * WIDTH):
        r0, r1, r2, r3 = (zero, zero), (zero, zero), (zero, zero), (zero, zero)
        for i in range(begin, min(count, begin + CHAIN * WIDTH), WIDTH):
            part, k, xi, di = min(WIDTH, count - i), skip + i, xo + i * xs, do + i * ds
            now = coefficient(highs, k, like), coefficient(slopes, k, like), coefficient(offsets, k, like)
            sums = zero, zero
            if begun:
                sums = load_near(chains[0], item * k, like), load_near(chains[1], item * k, like)
            r0, sums = _push_row(x, xi, d, di, part, w0, now, r0, sums, like)
            if many == 4:
                r1, sums = _push_row(x, xi + x_row, d, di + d_row, part, w1, now, r1, sums, like)
                r2, sums = _push_row(x, xi + 2 * x_row, d, di + 2 * d_row, part, w2, now, r2, sums, like)
                r3, sums = _push_row(x, xi + 3 * x_row, d, di + 3 * d_row, part, w3, now, r3, sums, like)
            store_near(chains[0], item * k, sums[0])
            store_near(chains[1], item * k, sums[1])
        _add_weights(w, wo, db, dw, r0)
        if many == 4:
            _add_weights(w, wo + w_row, db, dw, r1)
            _add_weights(w, wo + 2 * w_row, db, dw, r2)
            _add_weights(w, wo + 3 * w_row, db, dw, r3)


@inline
def _add_weights(w, wo, db, dw, sums):
    """Add the lanes of two sums to those of one weight."""
    add_one(db, weight_index(w, wo), total(convert(sums[0], LIKE64)))
    add_one(dw, weight_index(w, wo), total(convert(sums[1], LIKE64)))


@inline
def _column_coefficients(place, tile, table, board, w, states, spread, like, narrow, wide):
    """Keep what normalizes the columns of a tile, and their weights; returns how many numbers do not fit."""
    counts, means, m2s = states
    size, item, unfit = load_int(table, LOW + SIZE), itemsize(narrow[0]), 0.0
    step, w_step = load_int(table, LOW + GROUP), load_int(table, LOW + WEIGHT)
    column = tile[0]
    while column < tile[1]:
        _, _, wo, _, group = moved(table, moved(table, place, HIGH + ZERO, column // size), LOW + ZERO, column % size)
        width, k = min(min(WIDTH, size - column % size), tile[1] - column), column - tile[0]
        mean, inverse = given_statistics(group, step, width, spread, counts, means, m2s)
        n = load_first(counts, 8 * group, 8 * step, width, LIKE64)
        flat, curve = gradient.slopes(load_first(m2s, 8 * group, 8 * step, width, LIKE64), n, spread, inverse)
        weight = splat(1.0)
        if load_int(board, FOLD) != 0:
            weight = load_first(w, wo, w_step, width, 1.0)
        high = convert(mean, like)
        store_near(narrow[0], item * k, high)
        store_near(narrow[1], item * k, convert(inverse, like))
        store_near(narrow[2], item * k, convert((convert(high, LIKE64) - mean) * inverse, like))
        store_near(wide[0], 8 * k, mean)
        store_near(wide[1], 8 * k, inverse)
        store_near(wide[2], 8 * k, flat)
        store_near(wide[3], 8 * k, curve)
        store_near(wide[6], 8 * k, weight)
        store_near(wide[7], 8 * k, splat(0.0))
        store_near(narrow[5], item * k, convert(inverse * weight, like))  # for output that is written with the sums
        unfit += unfit_lanes(like, mean, inverse, width)
        if load_int(board, FUSED) != 0:
            unfit += unfit_lanes(like, splat(0.0), inverse * weight, width)
        column += width
    return unfit


@inline
def _segment(table, board, place, column, end):
    """The columns from `column` on that are one run: their place, and how many they are."""
    size = load_int(table, LOW + SIZE)
    if load_int(board, JOINED) != 0:
        return moved(table, place, LOW + ZERO, column), end - column
    at = moved(table, moved(table, place, HIGH + ZERO, column // size), LOW + ZERO, column % size)
    return at, min(size - column % size, end - column)


@inline
def _is_fused(table, board, x, d, out, unfit):
    """Whether output is written with the sums, of which it is not made."""
    xs, ds, os = load_int(table, LOW + X), load_int(table, LOW + GRAD), load_int(table, LOW + OUT)
    return load_int(board, FUSED) != 0 and lie_near(x, xs, d, ds, out, os) and unfit == 0.0


@inline
def _sums_of_rows(table, board, x, d, unfit):
    """Whether sums of weights, one a row, are taken with those of the columns."""
    near = load_int(table, LOW + X) == itemsize(x) and load_int(table, LOW + GRAD) == itemsize(d)
    taken = load_int(board, OWN) != 0 and load_int(board, FOLD) == 0 and load_int(board, SLICE) >= FEWEST
    return taken and near and load_int(table, LOW + WEIGHT) == 0 and unfit == 0.0


@inline
def _column_sums(place, tile, runs, table, board, x, d, out, w, dw, db, like, unfit, fused, narrow, wide):
    """Sums of a tile's columns over a range of rows: into wide[4] and wide[5]; if `fused`, their output; and those of
    weights that rows have, where `_sums_of_rows` says so.
    """
    s, q = wide[4], wide[5]
    for k in range(0, tile[1] - tile[0], WIDTH):
        store_near(s, 8 * k, splat(0.0))
        store_near(q, 8 * k, splat(0.0))
    x_row, d_row, w_row = load_int(table, ROWS + X), load_int(table, ROWS + GRAD), load_int(table, ROWS + WEIGHT)
    xs, ds, ws = load_int(table, LOW + X), load_int(table, LOW + GRAD), load_int(table, LOW + WEIGHT)
    near, weighted = xs == itemsize(x) and ds == itemsize(d), load_int(board, FOLD) == 0
    coefs, exact, size = (narrow[0], narrow[1], narrow[2]), (wide[0], wide[1], wide[7]), load_int(table, ROWS + SIZE)
    chains, of_rows = (narrow[3], narrow[4]), _sums_of_rows(table, board, x, d, unfit)
    xi, di, out_row, scales = itemsize(x), itemsize(d), load_int(table, ROWS + OUT), narrow[5]
    run, last = runs
    while run < last:
        rows = min(min(DOWN_ROWS, last - run), size - run % size)
        row = run_place(table, place, run)
        column = tile[0]
        while column < tile[1]:
            at, count = _segment(table, board, row, column, tile[1])
            xo, oo, wo, do, _ = at
            k, strip = column - tile[0], load_int(board, BATCH)
            # fmt: off
            if unfit != 0.0:
                _down(x, xo, x_row, xs, d, do, d_row, ds, w, wo, w_row, ws, weighted, rows, count, exact, k, s, q,
                      LIKE64, None, ZERO, ZERO, exact[0])
            elif fused and strip == 1:
                stream = load_int(board, STREAM) != 0 and stream_head(out, oo) == 0
                _down_by_row(x, xo, x_row, d, do, d_row, rows, count, coefs, k, s, q, chains, like, 1,
                             out, oo, out_row, scales, stream)
            elif fused and strip == STRIP:
                _down_by_row(x, xo, x_row, d, do, d_row, rows, count, coefs, k, s, q, chains, like, STRIP,
                             out, oo, out_row, scales, NO)
            elif fused:
                _down(x, xo, x_row, xi, d, do, d_row, di, w, wo, w_row, ws, NO, rows, count, coefs, k, s, q,
                      like, out, oo, out_row, scales)
            elif near and not weighted and strip == 1:
                _down_by_row(x, xo, x_row, d, do, d_row, rows, count, coefs, k, s, q, chains, like, 1,
                             None, ZERO, ZERO, scales, NO)
            elif near and not weighted and strip == STRIP:
                _down_by_row(x, xo, x_row, d, do, d_row, rows, count, coefs, k, s, q, chains, like, STRIP,
                             None, ZERO, ZERO, scales, NO)
            elif near and not weighted:
                _down(x, xo, x_row, xi, d, do, d_row, di, w, wo, w_row, ws, NO, rows, count, coefs, k, s, q,
                      like, None, ZERO, ZERO, scales)
            elif of_rows:
                fours = rows // 4 * 4
                for r in range(0, fours, 4):
                    _down_with_weights(x, xo + r * x_row, x_row, d, do + r * d_row, d_row, w, wo + r * w_row, w_row, 4,
                                       count, coefs, k, chains, r > 0, dw, db, like)
                for r in range(fours, rows):
                    _down_with_weights(x, xo + r * x_row, x_row, d, do + r * d_row, d_row, w, wo + r * w_row, w_row, 1,
                                       count, coefs, k, chains, r > 0, dw, db, like)
                _end_chains(chains, s, q, k, count, like)
            elif near and ws == 0:
                _down(x, xo, x_row, xi, d, do, d_row, di, w, wo, w_row, ZERO, YES, rows, count, coefs, k, s, q,
                      like, None, ZERO, ZERO, scales)
            else:
                _down(x, xo, x_row, xs, d, do, d_row, ds, w, wo, w_row, ws, weighted, rows, count, coefs, k, s, q,
                      like, None, ZERO, ZERO, scales)
            # fmt: on
            column += count
        run += rows


@inline
def _column_weights(place, tile, table, w, dw, db, wide):
    """Add the sums of columns to those of the weights that each of them has."""
    size, step = load_int(table, LOW + SIZE), load_int(table, LOW + WEIGHT)
    column = tile[0]
    while column < tile[1]:
        at = moved(table, moved(table, place, HIGH + ZERO, column // size), LOW + ZERO, column % size)
        count, index = min(size - column % size, tile[1] - column), weight_index(w, at[2])
        k, by = column - tile[0], step // max(1, itemsize(w))
        if by == 1:
            for i in range(0, count, WIDTH):
                part = min(WIDTH, count - i)
                add_lanes(db, index + i, 1, part, load_near(wide[4], 8 * (k + i), LIKE64))
                add_lanes(dw, index + i, 1, part, load_near(wide[5], 8 * (k + i), LIKE64))
        elif by == 0:
            a, b = splat(0.0), splat(0.0)
            for i in range(0, count, WIDTH):
                part = min(WIDTH, count - i)
                a = a + first(load_near(wide[4], 8 * (k + i), LIKE64), part)
                b = b + first(load_near(wide[5], 8 * (k + i), LIKE64), part)
            add_one(db, index, total(a))
            add_one(dw, index, total(b))
        else:
            for i in range(count):
                add_one(db, index + i * by, load_one(wide[4], 8 * (k + i)))
                add_one(dw, index + i * by, load_one(wide[5], 8 * (k + i)))
        column += count


@inline
def _over_columns(tile, table, wide):
    """Put the sums of each group's columns in the place of theirs, where one of high and low is reduced."""
    high, low = load_int(table, HIGH + SIZE), load_int(table, LOW + SIZE)
    high_reduced = high > 1 and load_int(table, HIGH + GROUP) == 0
    low_reduced = low > 1 and load_int(table, LOW + GROUP) == 0
    if not (high_reduced or low_reduced):
        return
    columns, group = tile[1] - tile[0], low if low_reduced else high
    if high_reduced and low_reduced:
        group = columns
    step = 1 if low_reduced else low
    for lead in range(columns // group):
        begin = lead * low if low_reduced else lead
        a, b = 0.0, 0.0
        for i in range(group):
            a += load_one(wide[4], 8 * (begin + i * step))
            b += load_one(wide[5], 8 * (begin + i * step))
        for i in range(group):
            store_one(wide[4], begin + i * step, a)
            store_one(wide[5], begin + i * step, b)


@inline
def _column_lines(tile, table, board, like, narrow, wide):
    """From sums of columns, what output is made of; returns how many of these numbers do not fit."""
    columns, item, unfit = tile[1] - tile[0], itemsize(narrow[0]), 0.0
    for k in range(0, 8 * columns, 8 * WIDTH):  # weights are 1 where they step along rows
        weight = load_near(wide[6], k, LIKE64)
        store_near(wide[4], k, load_near(wide[4], k, LIKE64) * weight)
        store_near(wide[5], k, load_near(wide[5], k, LIKE64) * weight)
    _over_columns(tile, table, wide)
    own, centered = load_int(board, OWN) != 0, load_int(board, CENTERED) != 0
    for k in range(0, columns, WIDTH):
        mean, flat, curve = (
            load_near(wide[0], 8 * k, LIKE64),
            load_near(wide[2], 8 * k, LIKE64),
            load_near(wide[3], 8 * k, LIKE64),
        )
        a, b = load_near(wide[4], 8 * k, LIKE64), load_near(wide[5], 8 * k, LIKE64)
        scale = load_near(wide[1], 8 * k, LIKE64) * load_near(wide[6], 8 * k, LIKE64)
        if not centered:
            a = splat(0.0)
        c, e, offset = splat(0.0), splat(0.0), splat(0.0)
        if own:
            c, e = gradient.line(mean, mean, flat, curve, a, b)
            _, offset = gradient.line(convert(convert(mean, like), LIKE64), mean, flat, curve, a, b)
        store_near(wide[4], 8 * k, c)
        store_near(wide[5], 8 * k, e)
        store_near(wide[6], 8 * k, scale)
        store_near(narrow[3], item * k, convert(scale, like))
        store_near(narrow[4], item * k, convert(c, like))
        store_near(narrow[5], item * k, convert(offset, like))
        width = min(WIDTH, columns - k)
        unfit += unfit_lanes(like, offset, c, width) + unfit_lanes(like, splat(0.0), scale, width)
    return unfit


@inline
def _row_weights(at, count, skip, table, x, d, w, dw, db, like, unfit, narrow, wide):
    """Sums of the weights of one row of columns: one for the row, or one for each column."""
    xs, ds, ws = load_int(table, LOW + X), load_int(table, LOW + GRAD), load_int(table, LOW + WEIGHT)
    xo, _, wo, do, _ = at
    index, nothing = weight_index(w, wo), (splat(0.0), splat(0.0))
    if ws == 0:
        if unfit != 0.0:
            h, s, o = viewed(wide[0], skip, LIKE64), viewed(wide[1], skip, LIKE64), viewed(wide[7], skip, LIKE64)
            sums = sum_across(x, xo, xs, d, do, ds, w, wo, ws, NO, count, h, s, o, LIKE64, nothing)
        else:
            h, s, o = viewed(narrow[0], skip, like), viewed(narrow[1], skip, like), viewed(narrow[2], skip, like)
            if xs == itemsize(x) and ds == itemsize(d):
                sums = sum_across(x, xo, itemsize(x), d, do, itemsize(d), w, wo, ws, NO, count, h, s, o, like, nothing)
            else:
                sums = sum_across(x, xo, xs, d, do, ds, w, wo, ws, NO, count, h, s, o, like, nothing)
        add_one(db, index, total(sums[0]))
        add_one(dw, index, total(sums[1]))
        return
    step = ws // max(1, itemsize(w))
    for i in range(0, count, WIDTH):
        part, k = min(WIDTH, count - i), skip + i
        dy = load_first(d, do + i * ds, ds, part, LIKE64)
        t = load_first(x, xo + i * xs, xs, part, LIKE64) - load_near(wide[0], 8 * k, LIKE64)
        add_lanes(db, index + i * step, step, part, dy)
        add_lanes(dw, index + i * step, step, part, dy * (t * load_near(wide[1], 8 * k, LIKE64)))


@inline
def _column_write(place, tile, runs, table, board, x, d, out, w, dw, db, like, unfit, unfit_lines, narrow, wide, edge):
    """Output of a tile's columns over a range of rows, row by row; and sums of weights that step along rows."""
    xs, ds, os = load_int(table, LOW + X), load_int(table, LOW + GRAD), load_int(table, LOW + OUT)
    ws, stream = load_int(table, LOW + WEIGHT), load_int(board, STREAM) != 0
    near, weighted = lie_near(x, xs, d, ds, out, os), load_int(board, FOLD) == 0
    x_item, d_item, out_item = itemsize(x), itemsize(d), itemsize(out)
    trained = weighted and load_int(board, WEIGHTS) != 0 and not _sums_of_rows(table, board, x, d, unfit)
    x_row, out_row = load_int(table, ROWS + X), load_int(table, ROWS + OUT)
    d_row, w_row = load_int(table, ROWS + GRAD), load_int(table, ROWS + WEIGHT)
    run, size, kept = runs[0], load_int(table, ROWS + SIZE), lanes_of_x(board)
    while run < runs[1]:
        rows = min(runs[1] - run, size - run % size)
        if load_int(board, JOINED) == 0:
            rows = min(rows, DOWN_ROWS)
        row = run_place(table, place, run)
        run += rows
        column = tile[0]
        while column < tile[1]:
            at, count = _segment(table, board, row, column, tile[1])
            xo, oo, wo, do, _ = at
            k = column - tile[0]
            column += count
            if trained:
                for r in range(rows):
                    near_row = moved(table, at, ROWS + ZERO, r)
                    _row_weights(near_row, count, k, table, x, d, w, dw, db, like, unfit, narrow, wide)
            if unfit + unfit_lines != 0.0:
                h, scale = viewed(wide[0], k, LIKE64), viewed(wide[6], k, LIKE64)
                coefs = h, scale, viewed(wide[4], k, LIKE64), viewed(wide[5], k, LIKE64)
                for r in range(rows):
                    xi, di, oi, wi = xo + r * x_row, do + r * d_row, oo + r * out_row, wo + r * w_row
                    write_run(
                        x, xi, xs, d, di, ds, out, oi, os, w, wi, ws, weighted, count, coefs, kept, LIKE64, NO, edge
                    )
                continue
            h, scale = viewed(narrow[0], k, like), viewed(narrow[3], k, like)
            now = h, scale, viewed(narrow[4], k, like), viewed(narrow[5], k, like)
            if near and not weighted:
                for r in range(rows):
                    xi, di, oi = xo + r * x_row, do + r * d_row, oo + r * out_row
                    write_run(
                        x,
                        xi,
                        x_item,
                        d,
                        di,
                        d_item,
                        out,
                        oi,
                        out_item,
                        w,
                        wo,
                        ws,
                        NO,
                        count,
                        now,
                        WIDTH,
                        like,
                        stream,
                        edge,
                    )
            elif near and ws == 0:
                for r in range(rows):
                    xi, di, oi, wi = xo + r * x_row, do + r * d_row, oo + r * out_row, wo + r * w_row
                    write_run(
                        x,
                        xi,
                        x_item,
                        d,
                        di,
                        d_item,
                        out,
                        oi,
                        out_item,
                        w,
                        wi,
                        ZERO,
                        YES,
                        count,
                        now,
                        WIDTH,
                        like,
                        stream,
                        edge,
                    )
            else:
                for r in range(rows):
                    xi, di, oi, wi = xo + r * x_row, do + r * d_row, oo + r * out_row, wo + r * w_row
                    write_run(x, xi, xs, d, di, ds, out, oi, os, w, wi, ws, weighted, count, now, kept, like, NO, edge)


@inline
def _column_parts(lead, columns, parts, tile, sums, wide):
    """Add up the sums of all parts of a tile's columns, in order; the first lies at `lead`."""
    for k in range(0, tile[1] - tile[0], WIDTH):
        width = min(WIDTH, tile[1] - tile[0] - k)
        a, b = splat(0.0), splat(0.0)
        for part in range(parts):
            at = 8 * (lead + part * 2 * columns + tile[0] + k)
            a = a + load_first(sums, at, 8, width, LIKE64)
            b = b + load_first(sums, at + 8 * columns, 8, width, LIKE64)
        store_near(wide[4], 8 * k, a)
        store_near(wide[5], 8 * k, b)


@kernel
def columns(first, last, table, frame):
    """Tiles of columns, or parts of their rows, side by side in lanes: sums, output, or one after the other."""
    x, d, out, w, board, spread = frame.x, frame.bias, frame.out, frame.weight, frame.board, added_to_std(frame)
    states, sums = (frame.count, frame.mean, frame.m2), frame.part_count
    like, edge = precision_of(x, d, out), stream_edge(out)
    narrow = (
        stack(ROOM, like),
        stack(ROOM, like),
        stack(ROOM, like),
        stack(ROOM, like),
        stack(ROOM, like),
        stack(ROOM, like),
    )
    wide = (
        stack(ROOM, LIKE64),
        stack(ROOM, LIKE64),
        stack(ROOM, LIKE64),
        stack(ROOM, LIKE64),
        stack(ROOM, LIKE64),
        stack(ROOM, LIKE64),
        stack(ROOM, LIKE64),
        stack(ROOM, LIKE64),
    )
    outer, parts, tiles = load_int(table, OUTER), load_int(board, RUN_CUTS), load_int(board, SLICES)
    number = load_int(board, NUM_SIDE)
    trained = load_int(board, WEIGHTS) != 0 and load_int(board, FOLD) != 0
    for task in range(first, last):
        rest, run_cut = task // parts, task % parts
        cut, slice_ = rest // tiles, rest % tiles
        slot = cut * load_int(board, CUT_SLOT) + slice_ * load_int(board, SLICE_SLOT)
        slot += run_cut * load_int(board, RUN_SLOT)
        dw = behind(frame.part_mean, slot * load_int(board, WEIGHTS))
        db = behind(frame.part_m2, slot * load_int(board, WEIGHTS))
        runs = piece(load_int(board, NUM_RUNS), load_int(board, RUN), run_cut)
        tile = piece(number, load_int(board, SLICE), slice_)
        begin, end = piece(load_int(board, NUM_ABOVE), load_int(board, CUT), cut)
        for index in range(begin, end):
            place = located(table, base_place(table), LOOPS + ZERO, outer, index)
            unfit = _column_coefficients(place, tile, table, board, w, states, spread, like, narrow, wide)
            lead = index * parts * 2 * number
            fused = _is_fused(table, board, x, d, out, unfit)
            if load_int(board, SUMS) != 0:
                _column_sums(place, tile, runs, table, board, x, d, out, w, dw, db, like, unfit, fused, narrow, wide)
                if load_int(board, WRITES) == 0:
                    at = 8 * (lead + run_cut * 2 * number + tile[0])
                    for k in range(0, tile[1] - tile[0], WIDTH):
                        width = min(WIDTH, tile[1] - tile[0] - k)
                        store_first(sums, at + 8 * k, 8, width, load_near(wide[4], 8 * k, LIKE64))
                        store_first(sums, at + 8 * (number + k), 8, width, load_near(wide[5], 8 * k, LIKE64))
            if load_int(board, WRITES) != 0:
                if load_int(board, SUMS) == 0 and (load_int(board, OWN) != 0 or trained):
                    _column_parts(lead, number, parts, tile, sums, wide)
                if trained and run_cut == 0:
                    _column_weights(place, tile, table, w, dw, db, wide)
                if fused:
                    continue
                unfit_lines = _column_lines(tile, table, board, like, narrow, wide)
                _column_write(
                    place, tile, runs, table, board, x, d, out, w, dw, db, like, unfit, unfit_lines, narrow, wide, edge
                )
    stream_end(out, edge)
    stream_fence()
