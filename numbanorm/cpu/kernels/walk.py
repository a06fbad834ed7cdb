"""What both kernel families share: finding places by a schedule's table (see `walk.slots`), and loops over one run."""

import math

import numpy as np

from ...maths import welford
from ...maths.accumulators import added, push
from ...walk.slots import BASE, BIAS, GROUP, INNER, LOOP, LOOPS, OUT, OUTER, SETTINGS, SIZE, WEIGHT, X
from .compiling import inline
from .intrinsics import (
    coefficient,
    is_present,
    itemsize,
    load,
    load_first,
    load_int,
    load_one,
    store,
    store_first,
    store_one,
    store_stream,
    stream_head,
)
from .lanes import UNROLL, WIDTH, convert, first, splat

PARTS, PART_SIZE, TILE, STREAM, FOLD = range(SETTINGS, SETTINGS + 5)  # of a table, beside those of `walk.slots`

LIKE32, LIKE64 = np.float32(-0.0), np.float64(-0.0)  # name a precision; as a bias, leave every number as it is
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
def _sum_run(x, offset, step, count, pivot, sums):
    i = 0
    if UNROLL:  # a second pair of sums, to hide the latency of the additions
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
        d = load_first(x, offset + i * step, step, count - i, LIKE64) - pivot
        sums = push(sums, first(d, count - i))
    return sums


@inline
def sum_run(x, offset, step, count, pivot, sums):
    """Add x - pivot and its square, over a run of `count` elements, to a pair of sums in lanes."""
    if step == itemsize(x):
        return _sum_run(x, offset, itemsize(x), count, pivot, sums)
    return _sum_run(x, offset, step, count, pivot, sums)


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
def _scale_run(x, xo, xs, out, oo, os, w, wo, ws, b, bo, bs, count, high, scale, offset, like, stream, peel):
    i, one = ZERO, convert(1.0, like)
    part = 0
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
            store_first(out, oo + i * os, os, part, y)
            i += part
        while i + WIDTH <= count:
            y = _scale_lanes(load(x, xo + i * xs, xs, like), w, wo, ws, b, bo, bs, i, high, scale, offset, like)
            if stream:
                store_stream(out, oo + i * os, y)
            else:
                store(out, oo + i * os, os, y)
            i += WIDTH
        if i >= count:
            break
        if again:
            store(out, oo + end * os, os, _scale_lanes(last, w, wo, ws, b, bo, bs, end, high, scale, offset, like))
            break
        part = count - i


@inline
def scale_run(x, xo, xs, out, oo, os, w, wo, ws, b, bo, bs, count, high, scale, offset, like):
    """Write out = ((x - high) * scale + offset) * w + b over a run of `count` elements, in the precision of `like`.

    xo, oo, wo, bo are byte offsets, xs, os, ws, bs steps. high, scale and offset are numbers, lanes of one number, or
    pointers to one for each element (readable up to a multiple of WIDTH). An absent w or b counts as 1 or 0.
    """
    _scale_run(x, xo, xs, out, oo, os, w, wo, ws, b, bo, bs, count, high, scale, offset, like, NO, NO)


@inline
def scale_near(x, xo, out, oo, w, wo, b, bo, count, high, scale, offset, like, stream, peel):
    """`scale_run` of contiguous runs: the steps are constants. `stream`: write past the cache; `peel`: write whole
    lines of it.
    """
    xs, os, ws, bs = itemsize(x), itemsize(out), itemsize(w), itemsize(b)
    _scale_run(x, xo, xs, out, oo, os, w, wo, ws, b, bo, bs, count, high, scale, offset, like, stream, peel)


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
