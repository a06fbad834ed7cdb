"""What both kernel families share: finding places by a schedule's table (see `walk.slots`), and loops over one run."""

import math

import numpy as np

from ...maths import welford
from ...maths.accumulators import about, added, push
from ...walk.slots import BASE, BIAS, GROUP, INNER, LOOP, LOOPS, OUT, OUTER, SETTINGS, SIZE, WEIGHT, X
from .compiling import inline
from .constants import CHAIN, EDGE_RUN
from .intrinsics import (
    coefficient,
    counted_like,
    in_order,
    is_present,
    itemsize,
    load,
    load_first,
    load_int,
    load_near,
    load_one,
    load_same,
    made_like,
    opaque,
    prefetch,
    stack,
    store,
    store_first,
    store_int,
    store_near,
    store_one,
    store_stream,
    stream_head,
)
from .lanes import LOOKS_AHEAD, UNROLL, WIDTH, convert, first, joined, lead, splat, total, with_lead

PARTS, PART_SIZE, TILE, STREAM, FOLD, REST = range(SETTINGS, SETTINGS + 6)  # of a table, beside those of `walk.slots`

LIKE32, LIKE64 = np.float32(-0.0), np.float64(-0.0)  # name a precision; as a bias, leave every number as it is
TWO_LINES, FOUR_LINES = 2 * WIDTH, 4 * WIDTH
# Of an edge: where the line begins that is not full, and how many lanes of it are; where it lies; where the full line
# begins, and whether it waits to be written.
BEGIN, FILLED, NOW, FULL, WAITS, EDGE = range(6)
ZERO, NO = np.int64(0), np.bool_(False)  # of a plain type: a function that is called with a literal is compiled for it


# A place is the byte offsets of the operands, and the group's index, as one tuple.


@inline
def moved(table, place, entry, steps):
    """A place, that many steps on along the loop at `entry`."""
    x, out, weight, bias, group = place
    x += steps * load_int(table, entry + X)
    out += steps * load_int(table, entry + OUT)
    weight += steps * load_int(table, entry + WEIGHT)
    bias += steps * load_int(table, entry + BIAS)
    group += steps * load_int(table, entry + GROUP)
    return x, out, weight, bias, group


@inline
def located(table, place, at, count, index):
    """A place, at `index` of `count` nested loops from entry `at` on."""
    for loop in range(count - 1, -1, -1):
        entry = at + loop * LOOP
        step = index
        if loop > 0:
            size = load_int(table, entry + SIZE)
            index = step // size
            step -= index * size
        place = moved(table, place, entry, step)
    return place


@inline
def outer_place(table, index):
    """The place at an index of the outer loops."""
    base = (
        load_int(table, BASE),
        load_int(table, BASE + 1),
        load_int(table, BASE + 2),
        load_int(table, BASE + 3),
        load_int(table, BASE + 4),
    )
    return located(table, base, LOOPS + ZERO, load_int(table, OUTER), index)


@inline
def inner_place(table, place, index):
    """A place, at an index of the inner loops."""
    return located(table, place, LOOPS + load_int(table, OUTER) * LOOP, load_int(table, INNER), index)


@inline
def inner_offset(table, index):
    """How far the inner loops lead along x."""
    return inner_place(table, (ZERO, ZERO, ZERO, ZERO, ZERO), index)[0]


@inline
def sum_whole(x, whole, offset, step, vector_step, vectors, pivot):
    """Sums of x - pivot and of its square over `vectors` lanes of bytes, `vector_step` bytes apart; both about zero in
    lanes of int32 first, which thousands of squares fit. The pivot is whole, so that all sums are exact.
    """
    sums, others = (splat(whole), splat(whole)), (splat(whole), splat(whole))
    i = ZERO
    while i + 2 <= vectors:
        sums = push(sums, load(x, offset + i * vector_step, step, whole))
        others = push(others, load(x, offset + (i + 1) * vector_step, step, whole))
        i += 2
    if i < vectors:
        sums = push(sums, load(x, offset + i * vector_step, step, whole))
    s, q = added(sums, others)
    return about(float(vectors), pivot, (convert(s, LIKE64), convert(q, LIKE64)))


@inline
def _push_rest(x, at, step, left, pivot, sums, like):
    """`push` of fewer than WIDTH elements. One alone is pushed as a number, by a tenth of the instructions: pictures of
    odd sides, such as 7 x 7, often leave one.
    """
    if left == 1:
        s, q = push((lead(sums[0]), lead(sums[1])), convert(load_one(x, at), like) - pivot)
        return with_lead(sums[0], s), with_lead(sums[1], q)
    return push(sums, first(load_first(x, at, step, left, like) - pivot, left))


@inline
def _sum_run(x, whole, offset, step, count, pivot, sums):
    i = ZERO
    if whole is not None:
        sums = added(sums, sum_whole(x, whole, offset, step, WIDTH * step, count // WIDTH, pivot))
        i = count - count % WIDTH
    elif UNROLL:  # a second pair of sums, to hide the latency of the additions
        others = splat(0.0), splat(0.0)
        while i + 2 * WIDTH <= count:
            sums = push(sums, load(x, offset + i * step, step, LIKE64) - pivot)
            others = push(others, load(x, offset + (i + WIDTH) * step, step, LIKE64) - pivot)
            i += 2 * WIDTH
        sums = added(sums, others)
    while i + WIDTH <= count:
        sums = push(sums, load(x, offset + i * step, step, LIKE64) - pivot)
        i += WIDTH
    if i < count:
        sums = _push_rest(x, offset + i * step, step, count - i, pivot, sums, LIKE64)
    return sums


@inline
def sum_run(x, offset, step, count, pivot, sums):
    """Add x - pivot and its square, over a run of `count` elements, to a pair of sums in lanes."""
    if step == itemsize(x):
        return _sum_run(x, counted_like(x), offset, itemsize(x), count, pivot, sums)
    return _sum_run(x, counted_like(x), offset, step, count, pivot, sums)


@inline
def _sum_by_two(x, at, i, end, pivot, chains, sums):
    """Add elements [i, end) of those side by side at `at` to two chains of float32, which have room, and these to a
    pair of sums.
    """
    step, (a, b) = itemsize(x), chains
    while i + 2 * WIDTH <= end:
        a = push(a, load_near(x, at + i * step, LIKE32) - pivot)
        b = push(b, load_near(x, at + (i + WIDTH) * step, LIKE32) - pivot)
        i += 2 * WIDTH
    if i + WIDTH <= end:
        a = push(a, load_near(x, at + i * step, LIKE32) - pivot)
        i += WIDTH
    if i < end:
        b = _push_rest(x, at + i * step, step, end - i, pivot, b, LIKE32)
    s, q = added(a, b)
    return sums[0] + convert(s, LIKE64), sums[1] + convert(q, LIKE64)


@inline
def _sum_by_four(x, at, i, end, pivot, sums):
    """The same with four chains, which 32 registers hold."""
    step, none = itemsize(x), (splat(LIKE32), splat(LIKE32))
    a, b, c, d = none, none, none, none
    while i + 4 * WIDTH <= end:
        a = push(a, load_near(x, at + i * step, LIKE32) - pivot)
        b = push(b, load_near(x, at + (i + WIDTH) * step, LIKE32) - pivot)
        c = push(c, load_near(x, at + (i + 2 * WIDTH) * step, LIKE32) - pivot)
        d = push(d, load_near(x, at + (i + 3 * WIDTH) * step, LIKE32) - pivot)
        i += 4 * WIDTH
    if i + WIDTH <= end:
        b = push(b, load_near(x, at + i * step, LIKE32) - pivot)
        i += WIDTH
    if i + WIDTH <= end:
        c = push(c, load_near(x, at + i * step, LIKE32) - pivot)
        i += WIDTH
    if i + WIDTH <= end:
        a = push(a, load_near(x, at + i * step, LIKE32) - pivot)
        i += WIDTH
    if i < end:
        d = _push_rest(x, at + i * step, step, end - i, pivot, d, LIKE32)
    s, q = added(added(a, c), added(b, d))
    return sums[0] + convert(s, LIKE64), sums[1] + convert(q, LIKE64)


@inline
def sum_near(x, at, count, pivot, sums):
    """`sum_run` of elements side by side, by way of sums of a few in float32.

    A lane of float32 takes part in CHAIN additions at most, and in one or two that join the chains: docs/numerics.md
    counts them. Vectors that are left over go to chains that have room.
    """
    i, none = ZERO, (splat(LIKE32), splat(LIKE32))
    while i < count:
        if UNROLL:
            end = min(count, i + 4 * CHAIN * WIDTH)
            sums = _sum_by_four(x, at, i, end, pivot, sums)
        else:
            end = min(count, i + 2 * CHAIN * WIDTH)
            sums = _sum_by_two(x, at, i, end, pivot, (none, none), sums)
        i = end
    return sums


@inline
def sum_down(x, at, row_step, rows, count, pivot, sums):
    """`sum_near` of the first `count` elements of `rows` rows, at most CHAIN: each lane adds up one value of each row.

    Four vectors of a row are joined, as there. That reads several rows at once, each in the order of memory.
    """
    step, zero, i = itemsize(x), splat(convert(0.0, LIKE32)), ZERO
    while i < count:
        s, q = zero, zero
        end = min(count, i + 4 * WIDTH)
        while i + 2 * WIDTH <= end:
            a, b, k = (zero, zero), (zero, zero), at + i * step
            for _ in range(rows):
                a = push(a, load_near(x, k, LIKE32) - pivot)
                b = push(b, load_near(x, k + WIDTH * step, LIKE32) - pivot)
                k = opaque(k + row_step)
            s, q = added((s, q), added(a, b))
            i += 2 * WIDTH
        if i < end:
            a, b, k, left = (zero, zero), (zero, zero), at + i * step, end - i
            if left > WIDTH:
                left -= WIDTH
                for _ in range(rows):
                    a = push(a, load_near(x, k, LIKE32) - pivot)
                    b = _push_rest(x, k + WIDTH * step, step, left, pivot, b, LIKE32)
                    k = opaque(k + row_step)
            else:
                for _ in range(rows):
                    a = _push_rest(x, k, step, left, pivot, a, LIKE32)
                    k = opaque(k + row_step)
            s, q = added((s, q), added(a, b))
            i = end
        sums = sums[0] + convert(s, LIKE64), sums[1] + convert(q, LIKE64)
    return sums


@inline
def mean_of_four(x, at, step):
    """Mean, in float32, of four times WIDTH elements, `step` bytes from one to the next; 0 if it is not finite. That of
    equal elements is one of them: every sum is twice another.
    """
    s = load_near(x, at, LIKE32) + load_near(x, at + step, LIKE32)
    t = load_near(x, at + 2 * step, LIKE32) + load_near(x, at + 3 * step, LIKE32)
    return welford.finite_or_zero(convert(total(s + t) * convert(1.0 / (4 * WIDTH), LIKE32), LIKE64))


@inline
def near_mean(x, at, count):
    """`mean_of_four` of the first elements side by side, or one of them if there are fewer."""
    if count >= 4 * WIDTH:
        return mean_of_four(x, at, WIDTH * itemsize(x))
    return welford.finite_or_zero(convert(convert(load_one(x, at), LIKE32), LIKE64))


@inline
def _finish(x, i, high, scale, offset, weight, bias, like):
    """Scale and shift of lanes of x."""
    high, scale, offset = coefficient(high, i, like), coefficient(scale, i, like), coefficient(offset, i, like)
    return welford.scale_and_shift(welford.standardize(x, high, scale, offset), weight, bias)


@inline
def _scale_lanes(x, w, wo, ws, b, bo, bs, i, high, scale, offset, like):
    """Scale and shift of lanes of x, the elements of a run from i on."""
    weight, bias = load(w, wo + i * ws, ws, convert(1.0, like)), load(b, bo + i * bs, bs, like)
    return _finish(x, i, high, scale, offset, weight, bias, like)


@inline
def _keep(out, at, count, y, edge):
    """Write the first `count` lanes, fewer than all, at byte `at` past the cache: together with what is written next.

    They lie before or behind an address that streaming stores take. A line of the cache of which only a part is
    written would have to be read first, so that part waits in `edge` for the rest.
    """
    lines, numbers = edge
    item = itemsize(out)
    lane = (WIDTH - stream_head(out, at)) % WIDTH
    begin, filled = at - lane * item, load_int(numbers, FILLED)
    if filled > 0 and not (load_int(numbers, BEGIN) == begin and filled == lane):
        stream_end(out, edge)
        filled = ZERO
    if filled == 0 and lane > 0:
        store_first(out, at, item, count, y)
        return
    now = load_int(numbers, NOW)
    store_near(lines, (now + lane) * item, y)  # all lanes: what comes next is written over the others
    filled = lane + count
    if filled == WIDTH:
        _write_full(out, edge)
        store_int(numbers, FULL, begin)
        store_int(numbers, WAITS, ZERO + 1)
        store_int(numbers, NOW, TWO_LINES - now)
        filled = ZERO
    store_int(numbers, BEGIN, begin)
    store_int(numbers, FILLED, filled)


@inline
def stream_edge(out):
    """What runs that are written past the cache have in common: a line that is not full yet, and the full one before.

    A line becomes full by two stores. To read it right behind them would wait until both, and all stores before them,
    have left the core, so it is written when the next one is full. Each has room for two lines, since a part is kept by
    a store of all lanes. By a mask that would take AVX2 long; and Zen 4 took 100 ns where masked lanes lay in the next
    page. Where a stack lies decided that, so that a call was three times as fast or not, by the thread that made it.
    """
    numbers = stack(EDGE, ZERO)
    for i in range(EDGE):
        store_int(numbers, i, ZERO)
    return stack(FOUR_LINES, out), numbers


@inline
def _write_full(out, edge):
    """Write the line that was full before, if there is one."""
    lines, numbers = edge
    if load_int(numbers, WAITS) != 0:
        line = (TWO_LINES - load_int(numbers, NOW)) * itemsize(out)
        store_stream(out, load_int(numbers, FULL), load_near(lines, line, made_like(out, out)))
        store_int(numbers, WAITS, ZERO)


@inline
def stream_end(out, edge):
    """Write what waits."""
    lines, numbers = edge
    item, filled = itemsize(out), load_int(numbers, FILLED)
    _write_full(out, edge)
    if filled > 0:
        line = load_near(lines, load_int(numbers, NOW) * item, made_like(out, out))
        store_first(out, load_int(numbers, BEGIN), item, filled, line)
        store_int(numbers, FILLED, ZERO)


@inline
def _scale_beside_sums(x, xo, out, oo, w, wo, b, bo, i, count, high, scale, offset, like, ahead):
    """For `scale_and_sum`: write whole vectors of a run from i on, two for each two that are added up. Returns how far
    that went, and the sums.
    """
    near, apart, pivot = ahead
    xs, os, ws, bs = itemsize(x), itemsize(out), itemsize(w), itemsize(b)
    k, none, sums = ZERO, (splat(LIKE32), splat(LIKE32)), (splat(0.0), splat(0.0))
    while k < count:
        a, c, stop = none, none, min(count, k + 2 * CHAIN * WIDTH)
        while k + 2 * WIDTH <= stop and i + 2 * WIDTH <= count:
            value = load_near(x, xo + i * xs, like)
            y = _scale_lanes(value, w, wo, ws, b, bo, bs, i, high, scale, offset, like)
            store_stream(out, oo + i * os, y)
            prefetch(x, near + apart + k * xs)
            a = push(a, load_near(x, near + in_order(k) * xs, LIKE32) - pivot)
            i, k = in_order(i + WIDTH), k + WIDTH
            value = load_near(x, xo + i * xs, like)
            y = _scale_lanes(value, w, wo, ws, b, bo, bs, i, high, scale, offset, like)
            store_stream(out, oo + i * os, y)
            prefetch(x, near + apart + k * xs)
            c = push(c, load_near(x, near + in_order(k) * xs, LIKE32) - pivot)
            i, k = in_order(i + WIDTH), k + WIDTH
        sums = _sum_by_two(x, near, k, stop, pivot, (a, c), sums)
        k = stop
    return i, sums


@inline
def is_asked_for(x):
    """Whether it pays to ask for x ahead of time: numbers of 16 bits took 1.3 times as long so."""
    return not LOOKS_AHEAD and itemsize(x) == 4


@inline
def _ask(x, at, ask):
    """Ask for the line of x that lies `ask` bytes behind byte `at`, if that is a number: while output is written past
    the cache, for what is read next.
    """
    if ask is not None:
        if is_asked_for(x):
            prefetch(x, at + ask)


@inline
def _scale_run(
    x, xo, xs, out, oo, os, w, wo, ws, b, bo, bs, count, high, scale, offset, like, stream, peel, edge, ask, ahead
):
    i, one, sums, summed = ZERO, convert(1.0, like), (splat(0.0), splat(0.0)), False
    part = ZERO
    if stream or peel:
        part = min(stream_head(out, oo), count)
        stream = stream and part >= 0
    # The last lanes may be written twice, but not be read twice: x may be the output.
    again = count >= WIDTH and not stream
    end = count - WIDTH
    last = splat(convert(0.0, like))
    if again:
        last = load(x, xo + end * xs, xs, like)
    while True:
        if part > 0:  # fewer than WIDTH: before the first aligned address, and at the end
            value = load_first(x, xo + i * xs, xs, part, like)
            weight, bias = load_first(w, wo + i * ws, ws, part, one), load_first(b, bo + i * bs, bs, part, like)
            y = _finish(value, i, high, scale, offset, weight, bias, like)
            if stream and count >= EDGE_RUN:
                _keep(out, oo + i * os, part, y, edge)
            else:
                store_first(out, oo + i * os, os, part, y)
            i += part
        if ahead is not None and not summed:
            i, sums = _scale_beside_sums(x, xo, out, oo, w, wo, b, bo, i, count, high, scale, offset, like, ahead)
            summed = True
        while i + WIDTH <= count:
            y = _scale_lanes(load(x, xo + i * xs, xs, like), w, wo, ws, b, bo, bs, i, high, scale, offset, like)
            if stream:
                store_stream(out, oo + i * os, y)
                _ask(x, xo + i * xs, ask)
            else:
                store(out, oo + i * os, os, y)
            i += WIDTH
        if i >= count:
            break
        if again:
            store(out, oo + end * os, os, _scale_lanes(last, w, wo, ws, b, bo, bs, end, high, scale, offset, like))
            break
        part = count - i
    return sums


@inline
def scale_run(x, xo, xs, out, oo, os, w, wo, ws, b, bo, bs, count, high, scale, offset, fold, like):
    """Write out = ((x - high) * scale + offset) * w + b over a run of `count` elements, in the precision of `like`; w
    and b are left out where `fold` says so.

    xo, oo, wo, bo are byte offsets, xs, os, ws, bs steps. high, scale and offset are numbers, lanes of one number, or
    pointers to one for each element (readable up to a multiple of WIDTH). An absent w or b counts as 1 or 0.
    """
    i, one = ZERO, convert(1.0, like)
    weight, bias = splat(one), splat(like)
    while fold and i + WIDTH <= count:  # a loop of its own: a branch in the loop would take a tenth of its speed
        value = load(x, xo + i * xs, xs, like)
        store(out, oo + i * os, os, _finish(value, i, high, scale, offset, weight, bias, like))
        i += WIDTH
    while i + WIDTH <= count:
        value = load(x, xo + i * xs, xs, like)
        store(out, oo + i * os, os, _scale_lanes(value, w, wo, ws, b, bo, bs, i, high, scale, offset, like))
        i += WIDTH
    if i < count:
        part = count - i
        value = load_first(x, xo + i * xs, xs, part, like)
        if not fold:
            weight, bias = load_first(w, wo + i * ws, ws, part, one), load_first(b, bo + i * bs, bs, part, like)
        store_first(out, oo + i * os, os, part, _finish(value, i, high, scale, offset, weight, bias, like))


@inline
def scale_near(x, xo, out, oo, w, wo, b, bo, count, high, scale, offset, like, stream, peel, edge, ask):
    """`scale_run` of contiguous runs: the steps are constants. `stream`: write past the cache, see `stream_edge`, and
    ask for x so many bytes behind, see `_ask`; `peel`: write whole lines.
    """
    xs, os, ws, bs = itemsize(x), itemsize(out), itemsize(w), itemsize(b)
    _scale_run(
        x, xo, xs, out, oo, os, w, wo, ws, b, bo, bs, count, high, scale, offset, like, stream, peel, edge, ask, None
    )


@inline
def scale_and_sum(x, xo, out, oo, w, wo, b, bo, count, high, scale, offset, like, edge, ahead):
    """`scale_near` past the cache, and in the same loop `sum_near`, as without AVX-512, of as many elements `ahead`:
    where they are, how far it is from there to what is asked for, and a pivot. So memory is read while it is written,
    and not before. Returns the sums. Output can be written past the cache.
    """
    xs, os, ws, bs = itemsize(x), itemsize(out), itemsize(w), itemsize(b)
    return _scale_run(
        x, xo, xs, out, oo, os, w, wo, ws, b, bo, bs, count, high, scale, offset, like, True, False, edge, None, ahead
    )


@inline
def scale_cyclic(x, xo, out, oo, count, period, fours, high, scale, offset, like, stream):
    """`scale_near` without weights, of a run whose coefficients begin anew after `period` elements, whole lanes; they
    are there for WIDTH elements more. `fours`: four periods side by side read them once.
    """
    xs, os, i, k = itemsize(x), itemsize(out), ZERO, ZERO
    part = min(stream_head(out, oo), count)
    stream = stream and part >= 0
    while True:
        if part > 0:
            weight, bias = splat(convert(1.0, like)), splat(like)
            y = _finish(load_first(x, xo + i * xs, xs, part, like), k, high, scale, offset, weight, bias, like)
            store_first(out, oo + i * os, os, part, y)
            i += part
            k += part
        while fours and k < WIDTH and i + 4 * period <= count:
            for lane in range(k, k + period, WIDTH):
                a, c, d = coefficient(high, lane, like), coefficient(scale, lane, like), coefficient(offset, lane, like)
                for _ in range(4):
                    _write_cyclic(x, xo, out, oo, i, a, c, d, like, stream)
                    i += period
                i += WIDTH - 4 * period
            i += 3 * period
        while i + WIDTH <= count:
            begin, end = i - k, min(count - WIDTH, i - k + period - 1)
            while i <= end:
                a, c = coefficient(high, i - begin, like), coefficient(scale, i - begin, like)
                _write_cyclic(x, xo, out, oo, i, a, c, coefficient(offset, i - begin, like), like, stream)
                i += WIDTH
            k = i - begin
            if k >= period:
                k -= period
        if i >= count:
            break
        part = count - i


@inline
def write_line(out, at, y, stream):
    """Write lanes at byte `at`, past the cache or not."""
    if stream:
        store_stream(out, at, y)
    else:
        store_near(out, at, y)


@inline
def _write_cyclic(x, xo, out, oo, i, high, scale, offset, like, stream):
    """Write lanes of output, the elements of a run from i on, with these coefficients."""
    value = load_near(x, xo + i * itemsize(x), like)
    y = _finish(value, ZERO, high, scale, offset, splat(convert(1.0, like)), splat(like), like)
    write_line(out, oo + i * itemsize(out), y, stream)


@inline
def ends_of(w, wo, size, neutral, into):
    """Keep the last WIDTH of `size` elements side by side, and behind them the first."""
    ws = itemsize(w)
    store_near(into, ZERO, load(w, wo + (size - WIDTH) * ws, ws, neutral))
    store_near(into, WIDTH * itemsize(into), load(w, wo, ws, neutral))


@inline
def coefficients_of(coefficients, k, like):
    """Those of run k, in lanes."""
    at = k * itemsize(coefficients[0])
    highs, scales, offsets = coefficients
    return load_same(highs, at, like), load_same(scales, at, like), load_same(offsets, at, like)


@inline
def _joined_lanes(numbers, k, following, left, like):
    """Coefficients of a vector of which `left` lanes belong to run k and the others to the one that follows."""
    item = itemsize(numbers)
    return joined(load_same(numbers, item * k, like), load_same(numbers, item * following, like), left)


@inline
def scale_joined(x, xo, out, oo, size, runs, weights, biases, coefficients, k, like, stream, peel, edge, ask):
    """`scale_near` of `runs` runs behind one another, of `size` elements each, WIDTH at least. Their coefficients lie
    at element k of the arrays and behind. Weight and bias, which they share, are an array each, where it begins, and
    what `ends_of` leaves of it.

    They are written as one: a vector that lies in two runs takes coefficients of both.
    """
    w, wo, w_ends = weights
    b, bo, b_ends = biases
    highs, scales, offsets = coefficients
    xs, os, ws, bs, item = itemsize(x), itemsize(out), itemsize(w), itemsize(b), itemsize(highs)
    one = convert(1.0, like)
    i, at, count, last, part = ZERO, ZERO, runs * size, k + runs - 1, ZERO
    if stream or peel:
        part = min(stream_head(out, oo), count)
        stream = stream and part >= 0
    while True:
        if part <= 0:
            high, scale, offset = coefficients_of(coefficients, k, like)
            for _ in range(min(size - at, count - i) // WIDTH):
                value = load_near(x, xo + i * xs, like)
                y = _scale_lanes(value, w, wo, ws, b, bo, bs, at, high, scale, offset, like)
                write_line(out, oo + i * os, y, stream)
                if stream:
                    _ask(x, xo + i * xs, ask)
                i += WIDTH
                at += WIDTH
            part = min(WIDTH, count - i)
        if part > 0:
            left, following, into = size - at, min(k + 1, last), item * (at + WIDTH - size)
            high = _joined_lanes(highs, k, following, left, like)
            scale = _joined_lanes(scales, k, following, left, like)
            offset = _joined_lanes(offsets, k, following, left, like)
            if left >= WIDTH:
                weight, bias = load(w, wo + at * ws, ws, one), load(b, bo + at * bs, bs, like)
            else:
                weight, bias = load(w_ends, into, item, one), load(b_ends, into, item, like)
            if part == WIDTH:
                y = _finish(load_near(x, xo + i * xs, like), ZERO, high, scale, offset, weight, bias, like)
                write_line(out, oo + i * os, y, stream)
            else:
                y = _finish(load_first(x, xo + i * xs, xs, part, like), ZERO, high, scale, offset, weight, bias, like)
                if stream:
                    _keep(out, oo + i * os, part, y, edge)
                else:
                    store_first(out, oo + i * os, os, part, y)
            i += part
            at += part
        if i >= count:
            break
        if at >= size:
            at -= size
            k += 1
        part = ZERO


@inline
def load_group(count, mean, m2, group):
    """State of one group."""
    return load_one(count, 8 * group), load_one(mean, 8 * group), load_one(m2, 8 * group)


@inline
def given_statistics(group, step, width, spread, counts, means, m2s):
    """Mean and inverse standard deviation of `width` groups, at most WIDTH and `step` apart, from given states;
    without counts, m2 is the variance.
    """
    mean = load_first(means, group * itemsize(means), step * itemsize(means), width, LIKE64)
    m2 = load_first(m2s, group * itemsize(m2s), step * itemsize(m2s), width, LIKE64)
    if is_present(counts):
        return mean, welford.inverse_std(m2, load_first(counts, 8 * group, 8 * step, width, LIKE64), spread)
    return mean, welford.inverse_std(m2, 1.0, spread)


@inline
def added_to_std(frame):
    """What `welford.inverse_std` takes beside a group's state."""
    return welford.spread_of(frame.eps, frame.eps_on_std != 0, frame.ddof)


@inline
def settle_far(at, mean, room):
    """Sums of values of this mean that are so far apart, or infinite, that their squares overflow."""
    pivots, sums, squares = room[0], room[1], room[2]
    store_one(pivots, at, mean)
    store_one(sums, at, 0.0)
    store_one(squares, at, mean - mean + math.inf)
