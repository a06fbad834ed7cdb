"""What both kernel families share: reading a schedule's table, and the loops over one run.

A table is int64 numbers (`Schedule.table`): how many outer and inner loops, the product of the inner sizes, parts,
part size, tile, streaming, folding, the five base offsets; then loops of six numbers each, size and the steps of x,
out, weight, bias and group: rows, high, low, the outer ones, the inner ones.
"""

import numpy as np

from ...maths import welford
from ..cache import inline
from .intrinsics import (
    coefficient,
    given,
    itemsize,
    load,
    load_first,
    load_int,
    load_one,
    store,
    store_first,
    store_stream,
    stream_head,
)
from .lanes import UNROLL, WIDTH, convert, first, multiply_add, splat

OUTER, INNER, REPEATS, PARTS, PART_SIZE, TILE, STREAM, FOLD, BASE = range(9)
BASE_GROUP = BASE + 4
ROWS, HIGH, LOW, LOOPS = 13, 19, 25, 31
SIZE, X, OUT, WEIGHT, BIAS, GROUP, LOOP = range(7)

LIKE32, LIKE64 = np.float32(-0.0), np.float64(-0.0)  # name a precision; as a bias, leave every number as it is


@inline
def locate(table, at, count, index):
    """Byte offsets of x, out, weight and bias, and the group, at `index` of `count` nested loops from entry `at`."""
    x, out, weight, bias, group = 0, 0, 0, 0, 0
    for loop in range(count - 1, -1, -1):
        entry = at + loop * LOOP
        step = index
        if loop > 0:
            size = load_int(table, entry + SIZE)
            index = step // size
            step -= index * size
        x += step * load_int(table, entry + X)
        out += step * load_int(table, entry + OUT)
        weight += step * load_int(table, entry + WEIGHT)
        bias += step * load_int(table, entry + BIAS)
        group += step * load_int(table, entry + GROUP)
    return x, out, weight, bias, group


@inline
def locate_outer(table, index):
    """The same for the outer loops, the base offsets included."""
    x, out, weight, bias, group = locate(table, LOOPS, load_int(table, OUTER), index)
    x += load_int(table, BASE)
    out += load_int(table, BASE + 1)
    weight += load_int(table, BASE + 2)
    bias += load_int(table, BASE + 3)
    return x, out, weight, bias, group + load_int(table, BASE_GROUP)


@inline
def locate_inner(table, index):
    """The same for the inner loops."""
    outer = load_int(table, OUTER)
    x, out, weight, bias, _ = locate(table, LOOPS + outer * LOOP, load_int(table, INNER), index)
    return x, out, weight, bias


@inline
def add_sums(s, q, d):
    """Sums of d and of its square, d added."""
    return s + d, multiply_add(d, d, q)


@inline
def _sum_run(x, offset, step, count, pivot, s, q):
    i = 0
    if UNROLL:  # a second pair of sums, to hide the latency of the additions
        s2, q2 = splat(0.0), splat(0.0)
        while i + 2 * WIDTH <= count:
            s, q = add_sums(s, q, load(x, offset + i * step, step, LIKE64) - pivot)
            s2, q2 = add_sums(s2, q2, load(x, offset + (i + WIDTH) * step, step, LIKE64) - pivot)
            i += 2 * WIDTH
        s, q = s + s2, q + q2
    while i + WIDTH <= count:
        s, q = add_sums(s, q, load(x, offset + i * step, step, LIKE64) - pivot)
        i += WIDTH
    if i < count:
        d = load_first(x, offset + i * step, step, count - i, LIKE64) - pivot
        s, q = add_sums(s, q, first(d, count - i))
    return s, q


@inline
def sum_run(x, offset, step, count, pivot, s, q):
    """Add x - pivot and its square, over a run of `count` elements, to the lanes s and q."""
    if step == itemsize(x):
        return _sum_run(x, offset, itemsize(x), count, pivot, s, q)
    return _sum_run(x, offset, step, count, pivot, s, q)


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
    i, one = 0, convert(1.0, like)
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
    _scale_run(x, xo, xs, out, oo, os, w, wo, ws, b, bo, bs, count, high, scale, offset, like, False, False)


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
def stored(group, step, width, eps, counts, means, m2s):
    """Mean and inverse standard deviation of `width` groups, at most WIDTH and `step` apart, from given states;
    without counts, m2 is the variance.
    """
    mean = load_first(means, group * itemsize(means), step * itemsize(means), width, LIKE64)
    m2 = load_first(m2s, group * itemsize(m2s), step * itemsize(m2s), width, LIKE64)
    if given(counts):
        return mean, welford.inverse_std(m2, load_first(counts, 8 * group, 8 * step, width, LIKE64), eps)
    return mean, welford.inverse_std(m2, 1.0, eps)
