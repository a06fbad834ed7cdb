"""Going backward where the innermost run is reduced: layer norm, and norms with channels first."""

from ...maths import gradient, welford
from ...walk.slots import BIAS as GRAD
from ...walk.slots import GROUP, LOOP, LOOPS, LOW, OUT, OUTER, ROWS, SIZE, WEIGHT, X
from .backward_walk import (
    BATCH,
    CENTERED,
    CHAIN,
    CUT,
    CUT_SLOT,
    FOLD,
    FUSED,
    LOW_CUTS,
    LOW_PART,
    LOW_SLOT,
    NUM_ABOVE,
    NUM_LOW,
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
    is_narrow,
    lanes_of_x,
    lie_near,
    piece,
    precision_of,
    run_place,
    sum_across,
    sum_and_scale,
    sum_and_scale_rows,
    unfit_lanes,
    weight_index,
    write_run,
)
from .compiling import inline, kernel
from .constants import SIDE
from .intrinsics import (
    behind,
    itemsize,
    load,
    load_first,
    load_int,
    load_near,
    load_one,
    load_same,
    neutral_one,
    stack,
    store_first,
    store_near,
    store_one,
    stream_fence,
    stream_head,
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
    write_line,
)

DOWN = 16  # groups that share weights and are walked side by side: so many values a lane of float32 adds up, as `CHAIN`
PIECE = 2048  # elements of a run whose weights are added up in the first-level cache
# Arrays that are walked together begin 704 bytes apart, modulo 4096: a load that follows a store to the same place of
# another page waits for it.
PIECE_ROOM = PIECE + 11 * WIDTH
SQUARE = SIDE * WIDTH


@inline
def _down_side(x, xo, x_side, d, do, d_side, groups, count, room, g, dw, db, index, like):
    """Add dy * t and dy of `groups` runs, side by side in memory or not, to the sums of `count` weights."""
    highs, slopes, offsets = room
    item, xs, ds, i = itemsize(highs), itemsize(x), itemsize(d), ZERO
    zero = splat(convert(0.0, like))
    while i + WIDTH <= count:
        s, q = zero, zero
        for k in range(groups):
            at = item * (g + k)
            dy, value = load_near(d, do + k * d_side + i * ds, like), load_near(x, xo + k * x_side + i * xs, like)
            high, slope, offset = load_same(highs, at, like), load_same(slopes, at, like), load_same(offsets, at, like)
            s, q = gradient.push((s, q), dy, welford.standardize(value, high, slope, offset))
        j = 8 * (index + i)
        store_near(db, j, load_near(db, j, LIKE64) + convert(s, LIKE64))
        store_near(dw, j, load_near(dw, j, LIKE64) + convert(q, LIKE64))
        i += WIDTH
    if i < count:
        _down_far(
            x,
            xo + i * xs,
            x_side,
            xs,
            d,
            do + i * ds,
            d_side,
            ds,
            groups,
            count - i,
            room,
            g,
            dw,
            db,
            index + i,
            1,
            like,
        )


@inline
def _down_far(x, xo, x_side, xs, d, do, d_side, ds, groups, count, room, g, dw, db, index, step, like):
    """The same with any steps."""
    highs, slopes, offsets = room
    item = itemsize(highs)
    for i in range(0, count, WIDTH):
        part = min(WIDTH, count - i)
        s, q = splat(convert(0.0, like)), splat(convert(0.0, like))
        for k in range(groups):
            at = item * (g + k)
            dy = load_first(d, do + k * d_side + i * ds, ds, part, like)
            value = load_first(x, xo + k * x_side + i * xs, xs, part, like)
            high, slope, offset = load_same(highs, at, like), load_same(slopes, at, like), load_same(offsets, at, like)
            s, q = gradient.push((s, q), dy, welford.standardize(value, high, slope, offset))
        add_lanes(db, index + i * step, step, part, convert(s, LIKE64))
        add_lanes(dw, index + i * step, step, part, convert(q, LIKE64))


@inline
def _row_coefficients(g, narrow, like):
    """What the output of a group is made of, in lanes."""
    highs, slopes, offsets, cs, es = narrow
    at = itemsize(highs) * g
    high, slope, offset = load_same(highs, at, like), load_same(slopes, at, like), load_same(offsets, at, like)
    return high, slope, offset, load_same(cs, at, like), load_same(es, at, like)


@inline
def _lanes_of_row(dy, value, weight, coefs, sums):
    """Lanes of output, and the sums of their weights with what they add."""
    high, slope, offset, c, e = coefs
    y = gradient.descend(dy, slope * weight, value, high, c, e)
    return y, gradient.push(sums, dy, welford.standardize(value, high, slope, offset))


@inline
def _part_of_row(x, xo, d, do, out, oo, part, weight, coefs, sums, like):
    """The same of the first `part` lanes."""
    high, slope, offset, c, e = coefs
    dy, value = load_first(d, do, itemsize(d), part, like), load_first(x, xo, itemsize(x), part, like)
    store_first(out, oo, itemsize(out), part, gradient.descend(dy, slope * weight, value, high, c, e))
    t = first(welford.standardize(value, high, slope, offset), part)
    return gradient.push(sums, first(dy, part), t)


@inline
def _rows_together(x, xo, x_side, d, do, d_side, out, oo, out_side, w, wo, two, count, g, chains, stream, narrow, like):
    """Output of a group or of two that share weights, and sums of these, which are kept in `chains` for a while. More
    at once would meet in the same sets of the cache where runs are as long as a power of two.
    """
    xs, ds, os, ws = itemsize(x), itemsize(d), itemsize(out), itemsize(w)
    one, i, part, item = convert(1.0, like), ZERO, ZERO, itemsize(chains[0])
    near = _row_coefficients(g, narrow, like)
    far = near
    if two:
        far = _row_coefficients(g + 1, narrow, like)
    if stream:
        part = min(stream_head(out, oo), count)
        stream = part >= 0 and (not two or out_side % (WIDTH * os) == 0)
    while True:
        if part > 0:
            weight = load_first(w, wo + i * ws, ws, part, one)
            sums = load_near(chains[0], item * i, like), load_near(chains[1], item * i, like)
            xi, di, oi = xo + i * xs, do + i * ds, oo + i * os
            sums = _part_of_row(x, xi, d, di, out, oi, part, weight, near, sums, like)
            if two:
                far_x, far_d, far_out = xi + x_side, di + d_side, oi + out_side
                sums = _part_of_row(x, far_x, d, far_d, out, far_out, part, weight, far, sums, like)
            store_near(chains[0], item * i, sums[0])
            store_near(chains[1], item * i, sums[1])
            i += part
        while i + WIDTH <= count:
            weight = load(w, wo + i * ws, ws, one)
            sums = load_near(chains[0], item * i, like), load_near(chains[1], item * i, like)
            xi, di, oi = xo + i * xs, do + i * ds, oo + i * os
            dy, value = load_near(d, di, like), load_near(x, xi, like)
            if two:  # read before anything is written: addresses may differ by a multiple of a page
                far_dy, far_value = load_near(d, di + d_side, like), load_near(x, xi + x_side, like)
                y, sums = _lanes_of_row(dy, value, weight, near, sums)
                far_y, sums = _lanes_of_row(far_dy, far_value, weight, far, sums)
                write_line(out, oi, y, stream)
                write_line(out, oi + out_side, far_y, stream)
            else:
                y, sums = _lanes_of_row(dy, value, weight, near, sums)
                write_line(out, oi, y, stream)
            store_near(chains[0], item * i, sums[0])
            store_near(chains[1], item * i, sums[1])
            i += WIDTH
        if i >= count:
            break
        part = count - i


@inline
def _group_coefficients(at, step, batch, states, spread, like, narrow, wide):
    """Keep what normalizes `batch` groups; returns how many of these numbers do not fit the precision."""
    counts, means, m2s = states
    highs, slopes, offsets = narrow[0], narrow[1], narrow[2]
    item, unfit = itemsize(highs), 0.0
    for g in range(0, batch, WIDTH):
        k, width = at[4] + g * step, min(WIDTH, batch - g)
        mean, inverse = given_statistics(k, step, width, spread, counts, means, m2s)
        n, m2 = load_first(counts, 8 * k, 8 * step, width, LIKE64), load_first(m2s, 8 * k, 8 * step, width, LIKE64)
        flat, curve = gradient.slopes(m2, n, spread, inverse)
        high = convert(mean, like)
        store_near(highs, item * g, high)
        store_near(slopes, item * g, convert(inverse, like))
        store_near(offsets, item * g, convert((convert(high, LIKE64) - mean) * inverse, like))
        store_near(wide[0], 8 * g, mean)
        store_near(wide[1], 8 * g, inverse)
        store_near(wide[2], 8 * g, flat)
        store_near(wide[3], 8 * g, curve)
        unfit += unfit_lanes(like, mean, inverse, width)
    return unfit


@inline
def _scales_of_groups(at, batch, table, w, like, narrow, wide):
    """What the gradients of groups that have one weight each are multiplied by; whether all are of this precision."""
    step, item, unfit = load_int(table, LOOPS + (load_int(table, OUTER) - 1) * LOOP + WEIGHT), itemsize(narrow[3]), 0.0
    for g in range(0, batch, WIDTH):
        many = min(WIDTH, batch - g)
        scale = load_near(wide[1], 8 * g, LIKE64) * load_first(w, at[2] + g * step, step, many, convert(1.0, LIKE64))
        store_near(narrow[3], item * g, convert(scale, like))
        unfit += unfit_lanes(like, splat(0.0), scale, many)
    return unfit == 0.0


@inline
def _rows_sums(at, batch, low, count, runs, table, board, x, d, out, w, dw, db, like, unfit, narrow, wide, lanes):
    """Sums of the groups over `runs` of theirs, of each the elements from `low` on: into wide[4] and wide[5]; and of
    the weights that a run shares. Returns whether output was written, too, as it may be where it is not made of sums.
    """
    side = LOOPS + (load_int(table, OUTER) - 1) * LOOP
    x_side, d_side, w_side = load_int(table, side + X), load_int(table, side + GRAD), load_int(table, side + WEIGHT)
    xs, ds, ws = load_int(table, LOW + X), load_int(table, LOW + GRAD), load_int(table, LOW + WEIGHT)
    near = xs == itemsize(x) and ds == itemsize(d)
    weighted, fold, trained = ws != 0, load_int(board, FOLD) != 0, load_int(board, WEIGHTS) != 0
    item, nothing = itemsize(narrow[0]), (splat(0.0), splat(0.0))
    if near and not (weighted or fold) and unfit == 0.0 and abs(load_int(table, ROWS + X)) <= abs(x_side):
        _sums_of_each_run(at, batch, low, count, runs, table, board, x, d, w, dw, db, like, narrow, wide, lanes)
        return NO
    for g in range(batch):
        store_one(wide[4], g, 0.0)
        store_one(wide[5], g, 0.0)
    first_run, run = runs[0], runs[0]
    size, chunk = load_int(table, ROWS + SIZE), 1
    x_row, d_row = load_int(table, ROWS + X), load_int(table, ROWS + GRAD)
    if near and fold and not weighted and unfit == 0.0:
        chunk = max(1, CHAIN // ((count + WIDTH - 1) // WIDTH))
    out_side, out_row = load_int(table, side + OUT), load_int(table, ROWS + OUT)
    whole = out_row % (WIDTH * itemsize(out)) == 0 and count % WIDTH == 0  # lines, if the first is one
    fused = load_int(board, FUSED) != 0 and near and load_int(table, LOW + OUT) == itemsize(out) and unfit == 0.0
    fused = fused and _scales_of_groups(at, batch, table, w, like, narrow, wide)
    while run < runs[1]:
        place = moved(table, run_place(table, at, run), LOW + ZERO, low)
        together = min(min(chunk, runs[1] - run), size - run % size)
        last = run + together == runs[1] or not (fold or weighted)
        fresh = run == first_run or not (fold or weighted)
        for g in range(batch):
            xo, wo, do = place[0] + g * x_side, place[2] + g * w_side, place[3] + g * d_side
            sums = nothing
            if not fresh:
                sums = load_near(lanes[0], 8 * WIDTH * g, LIKE64), load_near(lanes[1], 8 * WIDTH * g, LIKE64)
            if unfit != 0.0:
                mean, inverse = load_one(wide[0], 8 * g), load_one(wide[1], 8 * g)
                sums = sum_across(x, xo, xs, d, do, ds, w, wo, ws, weighted, count, mean, inverse, 0.0, LIKE64, sums)
            else:
                k = item * g
                h, s, o = load_same(narrow[0], k, like), load_same(narrow[1], k, like), load_same(narrow[2], k, like)
                oo, scale = place[1] + g * out_side, load_same(narrow[3], k, like)
                stream = load_int(board, STREAM) != 0 and stream_head(out, oo) == 0 and whole
                if fused and together > 1:
                    sums = sum_and_scale_rows(
                        x,
                        xo,
                        x_row,
                        d,
                        do,
                        d_row,
                        together,
                        count,
                        h,
                        s,
                        o,
                        like,
                        sums,
                        out,
                        oo,
                        out_row,
                        scale,
                        stream,
                    )
                elif fused:
                    xi, di = itemsize(x), itemsize(d)
                    sums = sum_and_scale(
                        x, xo, xi, d, do, di, w, wo, ws, NO, count, h, s, o, like, sums, out, oo, scale, stream
                    )
                elif together > 1:
                    sums = sum_and_scale_rows(
                        x, xo, x_row, d, do, d_row, together, count, h, s, o, like, sums, None, ZERO, ZERO, ZERO, NO
                    )
                elif near and not weighted:
                    xi, di = itemsize(x), itemsize(d)
                    sums = sum_across(x, xo, xi, d, do, di, w, wo, ws, NO, count, h, s, o, like, sums)
                elif near and ws == itemsize(w):
                    xi, di, wi = itemsize(x), itemsize(d), itemsize(w)
                    sums = sum_across(x, xo, xi, d, do, di, w, wo, wi, YES, count, h, s, o, like, sums)
                else:
                    sums = sum_across(x, xo, xs, d, do, ds, w, wo, ws, weighted, count, h, s, o, like, sums)
            if last:
                a, b, weight = total(sums[0]), total(sums[1]), 1.0
                if not weighted:
                    weight = neutral_one(w, wo, 1.0)
                    if trained:
                        add_one(db, weight_index(w, wo), a)
                        add_one(dw, weight_index(w, wo), b)
                add_one(wide[4], g, weight * a)
                add_one(wide[5], g, weight * b)
            else:
                store_near(lanes[0], 8 * WIDTH * g, sums[0])
                store_near(lanes[1], 8 * WIDTH * g, sums[1])
        run += together
    return fused


@inline
def _several_runs(table, group, run, last, w):
    """The place of a run, how many from it on are steps of one loop apart, and their weights, each having one."""
    size = load_int(table, ROWS + SIZE)
    many, place = min(min(WIDTH, last - run), size - run % size), run_place(table, group, run)
    return place, many, load_first(w, place[2], load_int(table, ROWS + WEIGHT), many, convert(1.0, LIKE64))


@inline
def _sums_of_each_run(at, batch, low, count, runs, table, board, x, d, w, dw, db, like, narrow, wide, lanes):
    """The same where each run has a weight of its own, as channels have: those of several runs are one vector."""
    side = LOOPS + (load_int(table, OUTER) - 1) * LOOP
    step = load_int(table, ROWS + WEIGHT)
    x_row, d_row, item = load_int(table, ROWS + X), load_int(table, ROWS + GRAD), itemsize(narrow[0])
    xs, ds, trained = itemsize(x), itemsize(d), load_int(board, WEIGHTS) != 0
    for g in range(batch):
        group, k, run = moved(table, at, side, g), item * g, runs[0]
        h, s, o = load_same(narrow[0], k, like), load_same(narrow[1], k, like), load_same(narrow[2], k, like)
        flat, curve = splat(0.0), splat(0.0)
        while run < runs[1]:
            place, many, weight = _several_runs(table, group, run, runs[1], w)
            xo, _, wo, do, _ = moved(table, place, LOW + ZERO, low)
            for one in range(many):
                xi, di = xo + one * x_row, do + one * d_row
                sums = splat(0.0), splat(0.0)
                a, b = sum_across(x, xi, xs, d, di, ds, w, wo, ZERO, NO, count, h, s, o, like, sums)
                store_one(lanes[0], one, total(a))
                store_one(lanes[1], one, total(b))
            a, b = first(load_near(lanes[0], ZERO, LIKE64), many), first(load_near(lanes[1], ZERO, LIKE64), many)
            flat, curve = flat + weight * a, curve + weight * b
            if trained and step != 0:
                apart = step // itemsize(w)
                add_lanes(db, weight_index(w, wo), apart, many, a)
                add_lanes(dw, weight_index(w, wo), apart, many, b)
            elif trained:
                add_one(db, weight_index(w, wo), total(a))
                add_one(dw, weight_index(w, wo), total(b))
            run += many
        store_one(wide[4], g, total(flat))
        store_one(wide[5], g, total(curve))


@inline
def _rows_lines(batch, board, like, narrow, wide):
    """From sums of groups, the rest of what output is made of; returns how many of these numbers do not fit."""
    cs, es, item, unfit = narrow[3], narrow[4], itemsize(narrow[3]), 0.0
    own, centered = load_int(board, OWN) != 0, load_int(board, CENTERED) != 0
    for g in range(0, batch, WIDTH):
        mean, flat, curve = (
            load_near(wide[0], 8 * g, LIKE64),
            load_near(wide[2], 8 * g, LIKE64),
            load_near(wide[3], 8 * g, LIKE64),
        )
        a, b = load_near(wide[4], 8 * g, LIKE64), load_near(wide[5], 8 * g, LIKE64)
        if not centered:
            a = splat(0.0)
        c, e, offset = splat(0.0), splat(0.0), splat(0.0)
        if own:
            c, e = gradient.line(mean, mean, flat, curve, a, b)
            _, offset = gradient.line(convert(convert(mean, like), LIKE64), mean, flat, curve, a, b)
        store_near(wide[4], 8 * g, c)
        store_near(wide[5], 8 * g, e)
        store_near(cs, item * g, convert(c, like))
        store_near(es, item * g, convert(offset, like))
        unfit += unfit_lanes(like, offset, c, min(WIDTH, batch - g))
    return unfit


@inline
def _rows_weights(at, batch, low, count, runs, table, x, d, w, dw, db, like, unfit, narrow, wide):
    """Sums of weights that step along runs."""
    side = LOOPS + (load_int(table, OUTER) - 1) * LOOP
    x_side, d_side, w_side = load_int(table, side + X), load_int(table, side + GRAD), load_int(table, side + WEIGHT)
    xs, ds, ws = load_int(table, LOW + X), load_int(table, LOW + GRAD), load_int(table, LOW + WEIGHT)
    near = xs == itemsize(x) and ds == itemsize(d) and ws == itemsize(w)
    room = narrow[0], narrow[1], narrow[2]
    alike = w_side == 0
    for run in range(runs[0], runs[1]):
        xo, _, wo, do, _ = moved(table, run_place(table, at, run), LOW + ZERO, low)
        g = ZERO
        while g < batch:
            groups = min(DOWN, batch - g) if alike else 1
            index = weight_index(w, wo + g * w_side)
            xg, dg = xo + g * x_side, do + g * d_side
            if unfit != 0.0:
                for k in range(g, g + groups):
                    store_one(wide[6], k, 0.0)
                exact = wide[0], wide[1], wide[6]
                step = ws // max(1, itemsize(w))
                _down_far(x, xg, x_side, xs, d, dg, d_side, ds, groups, count, exact, g, dw, db, index, step, LIKE64)
            elif near:
                _down_side(x, xg, x_side, d, dg, d_side, groups, count, room, g, dw, db, index, like)
            else:
                step = ws // max(1, itemsize(w))
                _down_far(x, xg, x_side, xs, d, dg, d_side, ds, groups, count, room, g, dw, db, index, step, like)
            g += groups


@inline
def _rows_descend(at, batch, low, count, runs, table, board, x, d, out, w, dw, db, like, narrow, chains):
    """Output and sums of weights of groups that share them, and whose elements lie side by side."""
    side = LOOPS + (load_int(table, OUTER) - 1) * LOOP
    x_side, d_side, out_side = load_int(table, side + X), load_int(table, side + GRAD), load_int(table, side + OUT)
    stream, item, zero = load_int(board, STREAM) != 0, itemsize(chains[0]), splat(convert(0.0, like))
    for run in range(runs[0], runs[1]):
        place = moved(table, run_place(table, at, run), LOW + ZERO, low)
        begin = ZERO
        while begin < count:
            size = min(count - begin, PIECE)
            xo, oo, wo, do, _ = moved(table, place, LOW + ZERO, begin)
            for i in range(0, size, WIDTH):
                store_near(chains[0], item * i, zero)
                store_near(chains[1], item * i, zero)
            g = ZERO
            while g < batch:
                xg, dg, og = xo + g * x_side, do + g * d_side, oo + g * out_side
                if g + 2 <= batch:
                    _rows_together(
                        x,
                        xg,
                        x_side,
                        d,
                        dg,
                        d_side,
                        out,
                        og,
                        out_side,
                        w,
                        wo,
                        YES,
                        size,
                        g,
                        chains,
                        stream,
                        narrow,
                        like,
                    )
                else:
                    _rows_together(
                        x,
                        xg,
                        x_side,
                        d,
                        dg,
                        d_side,
                        out,
                        og,
                        out_side,
                        w,
                        wo,
                        NO,
                        size,
                        g,
                        chains,
                        stream,
                        narrow,
                        like,
                    )
                g += 2
            index = weight_index(w, wo)
            for i in range(0, size, WIDTH):
                part = min(WIDTH, size - i)
                add_lanes(db, index + i, 1, part, convert(load_near(chains[0], item * i, like), LIKE64))
                add_lanes(dw, index + i, 1, part, convert(load_near(chains[1], item * i, like), LIKE64))
            begin += size


@inline
def _alike(table, x, d, out, w):
    """Whether neighbouring groups share weights, and all elements of a run lie side by side."""
    side = LOOPS + (load_int(table, OUTER) - 1) * LOOP
    near = lie_near(x, load_int(table, LOW + X), d, load_int(table, LOW + GRAD), out, load_int(table, LOW + OUT))
    return near and load_int(table, LOW + WEIGHT) == itemsize(w) and load_int(table, side + WEIGHT) == 0


@inline
def _rows_write(at, batch, low, count, runs, table, board, x, d, out, w, like, unfit, narrow, wide, edge):
    """Output of `batch` groups, run by run."""
    side = LOOPS + (load_int(table, OUTER) - 1) * LOOP
    x_side, d_side = load_int(table, side + X), load_int(table, side + GRAD)
    w_side, out_side = load_int(table, side + WEIGHT), load_int(table, side + OUT)
    xs, ds, os = load_int(table, LOW + X), load_int(table, LOW + GRAD), load_int(table, LOW + OUT)
    ws, stream = load_int(table, LOW + WEIGHT), load_int(board, STREAM) != 0
    near, weighted, item = lie_near(x, xs, d, ds, out, os), ws != 0, itemsize(narrow[0])
    if near and not weighted and unfit == 0.0 and abs(load_int(table, ROWS + X)) <= abs(x_side):
        if _scales_fit(at, batch, runs, table, w, like, wide):
            _write_each_run(at, batch, low, count, runs, table, x, d, out, w, like, stream, narrow, wide, edge)
            return
    xi, di, oi, wi, kept = itemsize(x), itemsize(d), itemsize(out), itemsize(w), lanes_of_x(board)
    for run in range(runs[0], runs[1]):
        place = moved(table, run_place(table, at, run), LOW + ZERO, low)
        for g in range(batch):
            xo, oo = place[0] + g * x_side, place[1] + g * out_side
            wo, do = place[2] + g * w_side, place[3] + g * d_side
            scale = load_one(wide[1], 8 * g)
            if not weighted:
                scale *= neutral_one(w, wo, 1.0)
            if unfit != 0.0 or (is_narrow(like) and welford.fits_float32(0.0, scale) == 0.0):
                coefs = load_one(wide[0], 8 * g), scale, load_one(wide[4], 8 * g), load_one(wide[5], 8 * g)
                write_run(x, xo, xs, d, do, ds, out, oo, os, w, wo, ws, weighted, count, coefs, kept, LIKE64, NO, edge)
                continue
            k, scale = item * g, convert(scale, like)
            h, c, e = load_same(narrow[0], k, like), load_same(narrow[3], k, like), load_same(narrow[4], k, like)
            now = h, scale, c, e
            if near and not weighted:
                write_run(x, xo, xi, d, do, di, out, oo, oi, w, wo, ws, NO, count, now, WIDTH, like, stream, edge)
            elif near and ws == wi:
                write_run(x, xo, xi, d, do, di, out, oo, oi, w, wo, wi, YES, count, now, WIDTH, like, stream, edge)
            else:
                write_run(x, xo, xs, d, do, ds, out, oo, os, w, wo, ws, weighted, count, now, kept, like, NO, edge)


@inline
def _scales_fit(at, batch, runs, table, w, like, wide):
    """Whether these all are numbers of this precision."""
    side, unfit = LOOPS + (load_int(table, OUTER) - 1) * LOOP, 0.0
    if is_narrow(like):
        for g in range(batch):
            group, run, inverse = moved(table, at, side, g), runs[0], splat(load_one(wide[1], 8 * g))
            while run < runs[1]:
                _, many, weight = _several_runs(table, group, run, runs[1], w)
                unfit += unfit_lanes(like, splat(0.0), inverse * weight, many)
                run += many
    return unfit == 0.0


@inline
def _write_each_run(at, batch, low, count, runs, table, x, d, out, w, like, stream, narrow, wide, edge):
    """Output of groups one after another, where no weight steps along a run and all steps of elements are small."""
    side, item = LOOPS + (load_int(table, OUTER) - 1) * LOOP, itemsize(narrow[0])
    x_row, d_row, out_row = load_int(table, ROWS + X), load_int(table, ROWS + GRAD), load_int(table, ROWS + OUT)
    xi, di, oi = itemsize(x), itemsize(d), itemsize(out)
    for g in range(batch):
        group, k, run, inverse = moved(table, at, side, g), item * g, runs[0], splat(load_one(wide[1], 8 * g))
        h, c, e = load_same(narrow[0], k, like), load_same(narrow[3], k, like), load_same(narrow[4], k, like)
        while run < runs[1]:
            place, many, weight = _several_runs(table, group, run, runs[1], w)
            store_near(narrow[1], ZERO, convert(inverse * weight, like))  # where nobody asks for slopes any more
            xo, oo, _, do, _ = moved(table, place, LOW + ZERO, low)
            for one in range(many):
                coefs = h, load_same(narrow[1], item * one, like), c, e
                xr, dr, outr = xo + one * x_row, do + one * d_row, oo + one * out_row
                write_run(
                    x, xr, xi, d, dr, di, out, outr, oi, w, ZERO, ZERO, NO, count, coefs, WIDTH, like, stream, edge
                )
            run += many


@inline
def _parts_in(index, batch, step, part, parts, sums, wide):
    """Put down the sums of a part of each of `batch` groups."""
    for g in range(batch):
        at = 2 * ((index + g * step) * parts + part)
        store_one(sums, at, load_one(wide[4], 8 * g))
        store_one(sums, at + 1, load_one(wide[5], 8 * g))


@inline
def _parts_out(index, batch, step, parts, sums, wide):
    """Add up the sums of all parts of each of `batch` groups, in order."""
    for g in range(batch):
        a, b = 0.0, 0.0
        begin = (index + g * step) * parts
        for at in range(16 * begin, 16 * (begin + parts), 16):
            a += load_one(sums, at)
            b += load_one(sums, at + 8)
        store_one(wide[4], g, a)
        store_one(wide[5], g, b)


@kernel
def rows(first, last, table, frame):
    """Blocks of groups, or parts of groups, whose innermost run is reduced: sums, output, or one after the other.

    Outer loops are kept, and there is at least one.
    """
    x, d, out, w, board, spread = frame.x, frame.bias, frame.out, frame.weight, frame.board, added_to_std(frame)
    states, sums = (frame.count, frame.mean, frame.m2), frame.part_count
    like, edge = precision_of(x, d, out), stream_edge(out)
    narrow = stack(SIDE, like), stack(SIDE, like), stack(SIDE, like), stack(SIDE, like), stack(SIDE, like)
    wide = (
        stack(SIDE, LIKE64),
        stack(SIDE, LIKE64),
        stack(SIDE, LIKE64),
        stack(SIDE, LIKE64),
        stack(SIDE, LIKE64),
        stack(SIDE, LIKE64),
        stack(SIDE, LIKE64),
    )
    lanes, chains = (stack(SQUARE, LIKE64), stack(SQUARE, LIKE64)), (stack(PIECE_ROOM, like), stack(PIECE_ROOM, like))
    outer = load_int(table, OUTER) - 1
    side = LOOPS + outer * LOOP
    step, weighted = load_int(table, side + GROUP), load_int(table, LOW + WEIGHT) != 0
    run_cuts, low_cuts = load_int(board, RUN_CUTS), load_int(board, LOW_CUTS)
    alike = _alike(table, x, d, out, w)
    for task in range(first, last):
        rest, low_cut = task // low_cuts, task % low_cuts
        rest, run_cut = rest // run_cuts, rest % run_cuts
        cut, slice_ = rest // load_int(board, SLICES), rest % load_int(board, SLICES)
        slot = cut * load_int(board, CUT_SLOT) + slice_ * load_int(board, SLICE_SLOT)
        slot += run_cut * load_int(board, RUN_SLOT) + low_cut * load_int(board, LOW_SLOT)
        dw = behind(frame.part_mean, slot * load_int(board, WEIGHTS))
        db = behind(frame.part_m2, slot * load_int(board, WEIGHTS))
        runs = piece(load_int(board, NUM_RUNS), load_int(board, RUN), run_cut)
        low, low_end = piece(load_int(board, NUM_LOW), load_int(board, LOW_PART), low_cut)
        begin, end = piece(load_int(board, NUM_ABOVE), load_int(board, CUT), cut)
        side_begin, side_end = piece(load_int(board, NUM_SIDE), load_int(board, SLICE), slice_)
        part, parts, count = run_cut * low_cuts + low_cut, run_cuts * low_cuts, low_end - low
        for above in range(begin, end):
            place = located(table, base_place(table), LOOPS + ZERO, outer, above)
            lead = side_begin
            while lead < side_end:
                batch = min(load_int(board, BATCH), side_end - lead)
                at = moved(table, place, side, lead)
                unfit, written = _group_coefficients(at, step, batch, states, spread, like, narrow, wide), NO
                if load_int(board, SUMS) != 0:
                    written = _rows_sums(
                        at,
                        batch,
                        low,
                        count,
                        runs,
                        table,
                        board,
                        x,
                        d,
                        out,
                        w,
                        dw,
                        db,
                        like,
                        unfit,
                        narrow,
                        wide,
                        lanes,
                    )
                    if load_int(board, WRITES) == 0:
                        _parts_in(at[4], batch, step, part, parts, sums, wide)
                if load_int(board, WRITES) != 0 and not written:
                    if load_int(board, SUMS) == 0 and load_int(board, OWN) != 0:
                        _parts_out(at[4], batch, step, parts, sums, wide)
                    unfit_lines = unfit + _rows_lines(batch, board, like, narrow, wide)
                    if weighted and alike and unfit_lines == 0.0:
                        _rows_descend(
                            at, batch, low, count, runs, table, board, x, d, out, w, dw, db, like, narrow, chains
                        )
                    else:
                        if weighted:
                            _rows_weights(
                                at, batch, low, count, runs, table, x, d, w, dw, db, like, unfit, narrow, wide
                            )
                        _rows_write(
                            at,
                            batch,
                            low,
                            count,
                            runs,
                            table,
                            board,
                            x,
                            d,
                            out,
                            w,
                            like,
                            unfit_lines,
                            narrow,
                            wide,
                            edge,
                        )
                lead += batch
    stream_end(out, edge)
    stream_fence()
