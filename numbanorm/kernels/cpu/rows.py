"""Kernels that reduce the innermost run: layer norm, instance norm, batch norm with channels first.

Each takes tasks [first, last) of a schedule; see `walk` for its table. A group is walked as one sequence of elements,
cut into blocks of BLOCK: the sums of a block share a pivot, its first element, and blocks are merged in order.
"""

from ...schedule import BLOCK, SHORT_GROUP
from .. import welford
from .cache import inline, kernel
from .intrinsics import (
    absent,
    exact_in_float64,
    load,
    load_first,
    load_int,
    load_one,
    made_in_float32,
    neutral_one,
    stack,
    store,
    store_first,
    store_one,
    stream_fence,
)
from .lanes import WIDTH, convert, splat, total
from .walk import (
    BIAS,
    GROUP,
    LIKE32,
    LIKE64,
    LOOP,
    LOOPS,
    LOW,
    OUT,
    OUTER,
    PART_SIZE,
    PARTS,
    REPEATS,
    ROWS,
    SIZE,
    STREAM,
    WEIGHT,
    X,
    load_group,
    locate_inner,
    locate_outer,
    scale_run,
    sum_run,
)


@inline
def _group_size(table):
    """Elements of a group."""
    return load_int(table, REPEATS) * load_int(table, ROWS + SIZE) * load_int(table, LOW + SIZE)


@inline
def _position(table, start):
    """Inner repeat, row and place in the run of element `start` of a group."""
    if start == 0:
        return 0, 0, 0
    size, rows = load_int(table, LOW + SIZE), load_int(table, ROWS + SIZE)
    run = start // size
    return run // rows, run % rows, start % size


@inline
def _sums(x, table, origin, start, stop, pivot):
    """Sums of x - pivot and of its square over elements [start, stop) of the group that begins at `origin`."""
    size, step = load_int(table, LOW + SIZE), load_int(table, LOW + X)
    rows, row_step = load_int(table, ROWS + SIZE), load_int(table, ROWS + X)
    repeat, row, i = _position(table, start)
    left = stop - start
    s, q = splat(0.0), splat(0.0)
    while left > 0:
        offset = origin + locate_inner(table, repeat)[0]
        while row < rows and left > 0:
            count = min(size - i, left)
            s, q = sum_run(x, offset + row * row_step + i * step, step, count, pivot, s, q)
            left -= count
            i = 0
            row += 1
        row = 0
        repeat += 1
    return total(s), total(q)


@inline
def _base(x, origin, center):
    """A group's first element: means are merged as distances from it, so that a large mean costs no digits."""
    base = 0.0
    if center != 0:
        base = welford.finite_or_zero(load_one(x, origin))
    return base


@inline
def _pivoted_sums(x, table, origin, start, stop, center):
    """Pivot of elements [start, stop) of a group, and their sums about it; about zero where `center` is 0."""
    pivot = 0.0
    if center != 0:
        repeat, row, i = _position(table, start)
        at = locate_inner(table, repeat)[0] + row * load_int(table, ROWS + X) + i * load_int(table, LOW + X)
        pivot = welford.finite_or_zero(load_one(x, origin + at))
    again = center != 0 and not exact_in_float64(x)
    while True:
        s, q = _sums(x, table, origin, start, stop, pivot)
        if not again:
            break
        again = False  # once more about the mean: the block is still in the cache
        pivot += welford.finite_or_zero(s / float(stop - start))
    if center == 0:
        s = 0.0
    return pivot, s, q


@inline
def _block_moments(x, table, origin, start, stop, center, base):
    n = float(stop - start)
    pivot, s, q = _pivoted_sums(x, table, origin, start, stop, center)
    mean, m2 = welford.settle(n, pivot - base, s, q)
    return n, mean, m2


@inline
def _part_moments(x, table, origin, part, center):
    """State of one part of a group, its mean as the distance from the group's `_base`."""
    size = load_int(table, PART_SIZE)
    start = part * size
    last = min(start + size, _group_size(table))
    base = _base(x, origin, center)
    n, mean, m2 = 0.0, 0.0, 0.0
    while start < last:
        stop = min(start + BLOCK, last)
        nb, mean_b, m2_b = _block_moments(x, table, origin, start, stop, center, base)
        n, mean, m2 = welford.merge(n, mean, m2, nb, mean_b, m2_b)
        start = stop
    return n, mean, m2


@inline
def _scale_group(x, out, w, b, table, place, part, mean, scale, like, rare):
    """Write one part of a group, given its mean and the inverse of its standard deviation."""
    xo, oo, wo, bo, _ = place
    size, rows = load_int(table, LOW + SIZE), load_int(table, ROWS + SIZE)
    xs, os = load_int(table, LOW + X), load_int(table, LOW + OUT)
    ws, bs = load_int(table, LOW + WEIGHT), load_int(table, LOW + BIAS)
    start = part * load_int(table, PART_SIZE)
    left = min(load_int(table, PART_SIZE), _group_size(table) - start)
    stream = load_int(table, STREAM) != 0
    high = convert(mean, like)
    repeat, row, i = _position(table, start)
    while left > 0:
        ix, io, iw, ib = locate_inner(table, repeat)
        while row < rows and left > 0:
            count = min(size - i, left)
            rx = xo + ix + row * load_int(table, ROWS + X) + i * xs
            ro = oo + io + row * load_int(table, ROWS + OUT) + i * os
            rw = wo + iw + row * load_int(table, ROWS + WEIGHT) + i * ws
            rb = bo + ib + row * load_int(table, ROWS + BIAS) + i * bs
            slope, bias = scale, -0.0
            if ws == 0 and bs == 0:
                slope, bias = scale * neutral_one(w, rw, 1.0), neutral_one(b, rb, -0.0)
            # One weight and bias for the run are folded into scale and offset.
            if ws == 0 and bs == 0 and welford.fits_float32(0.0, slope) == 1.0:
                a, c = convert(slope, like), convert((float(high) - mean) * slope + bias, like)
                none = absent()
                scale_run(x, rx, xs, out, ro, os, none, 0, 0, none, 0, 0, count, high, a, c, like, stream, rare)
            else:
                a, c = convert(scale, like), convert((float(high) - mean) * scale, like)
                scale_run(x, rx, xs, out, ro, os, w, rw, ws, b, rb, bs, count, high, a, c, like, stream, rare)
            left -= count
            i = 0
            row += 1
        row = 0
        repeat += 1


@inline
def _finish_group(x, out, w, b, table, place, part, mean, scale):
    """Write one part of a group in the narrowest precision that serves it."""
    slope = scale
    if load_int(table, LOW + WEIGHT) == 0:
        slope = scale * neutral_one(w, place[2], 1.0)
    if made_in_float32(x) and welford.fits_float32(mean, scale) * welford.fits_float32(0.0, slope) == 1.0:
        _scale_group(x, out, w, b, table, place, part, mean, scale, LIKE32, False)
    else:
        _scale_group(x, out, w, b, table, place, part, mean, scale, LIKE64, made_in_float32(x))


@inline
def _group_moments(x, table, origin, center):
    """State of a group, part after part."""
    n, mean, m2 = 0.0, 0.0, 0.0
    for part in range(load_int(table, PARTS)):
        nb, mean_b, m2_b = _part_moments(x, table, origin, part, center)
        n, mean, m2 = welford.merge(n, mean, m2, nb, mean_b, m2_b)
    return mean + _base(x, origin, center), m2


@inline
def _batch_moments(x, table, group, batch, center, mean, m2):
    """Mean and m2 of `batch` neighbouring groups; the divisions of short ones are done side by side, in lanes."""
    size = _group_size(table)
    if size > SHORT_GROUP:
        for i in range(batch):
            mu, q = _group_moments(x, table, locate_outer(table, group + i)[0], center)
            store_one(mean, i, mu)
            store_one(m2, i, q)
        return
    n = float(size)
    pivots = stack(WIDTH, LIKE64)
    for i in range(batch):
        pivot, s, q = _pivoted_sums(x, table, locate_outer(table, group + i)[0], 0, size, center)
        store_one(pivots, i, pivot)
        store_one(mean, i, s)
        store_one(m2, i, q)
    s, q = load(mean, 0, 8, LIKE64), load(m2, 0, 8, LIKE64)
    mu, q = welford.settle(n, load(pivots, 0, 8, LIKE64), s, q)
    store(mean, 0, 8, mu)
    store(m2, 0, 8, q)


@kernel
def moments(first, last, table, x, out, w, b, eps, center, count, mean, m2):
    """State of each (group, part): into `count`, `mean` and `m2` by group, or by task where there are several parts."""
    parts = load_int(table, PARTS)
    mu, q = stack(WIDTH, LIKE64), stack(WIDTH, LIKE64)
    if parts > 1:
        for task in range(first, last):
            origin = locate_outer(table, task // parts)[0]
            n, mean_b, m2_b = _part_moments(x, table, origin, task % parts, center)
            store_one(count, task, n)
            store_one(mean, task, mean_b)
            store_one(m2, task, m2_b)
        return
    n = float(_group_size(table))
    for group in range(first, last, WIDTH):
        batch = min(WIDTH, last - group)
        _batch_moments(x, table, group, batch, center, mu, q)
        for i in range(batch):
            k = locate_outer(table, group + i)[4]
            store_one(count, k, n)
            store_one(mean, k, load_one(mu, 8 * i))
            store_one(m2, k, load_one(q, 8 * i))


@kernel
def normalize(first, last, table, x, out, w, b, eps, center, count, mean, m2):
    """Each group in one go: statistics, then output while the group is in the cache. Writes the state if asked."""
    size = _group_size(table)
    n = float(size)
    step = WIDTH if size <= SHORT_GROUP else 1
    mu, q, scale = stack(WIDTH, LIKE64), stack(WIDTH, LIKE64), stack(WIDTH, LIKE64)
    for group in range(first, last, step):
        batch = min(step, last - group)
        _batch_moments(x, table, group, batch, center, mu, q)
        if step == 1:
            store_one(scale, 0, welford.inverse_std(load_one(q, 0), n, eps))
        else:
            store(scale, 0, 8, welford.inverse_std(load(q, 0, 8, LIKE64), n, eps))
        for i in range(batch):
            place = locate_outer(table, group + i)
            store_one(count, place[4], n)
            store_one(mean, place[4], load_one(mu, 8 * i))
            store_one(m2, place[4], load_one(q, 8 * i))
            for part in range(load_int(table, PARTS)):
                _finish_group(x, out, w, b, table, place, part, load_one(mu, 8 * i), load_one(scale, 8 * i))
    stream_fence()


@kernel
def apply(first, last, table, x, out, w, b, eps, center, count, mean, scale):
    """Output of each (run, part), given the mean and inverse standard deviation of every group.

    The schedule's outer loops are all loops but the run, in the order of memory.
    """
    parts, outer = load_int(table, PARTS), load_int(table, OUTER)
    side, step = 1, LOOPS
    if outer > 0:  # neighbours on the innermost of the outer loops are found by adding its steps
        step = LOOPS + (outer - 1) * LOOP
        side = load_int(table, step + SIZE)
    task = first
    while task < last:
        index, part = task // parts, task % parts
        xo, oo, wo, bo, k = locate_outer(table, index)
        count = min(side - index % side, last - task) if parts == 1 else 1
        for _ in range(count):
            _finish_group(x, out, w, b, table, (xo, oo, wo, bo, k), part, load_one(mean, 8 * k), load_one(scale, 8 * k))
            xo += load_int(table, step + X)
            oo += load_int(table, step + OUT)
            wo += load_int(table, step + WEIGHT)
            bo += load_int(table, step + BIAS)
            k += load_int(table, step + GROUP)
        task += count
    stream_fence()


@kernel
def invert(first, last, table, counts, m2s, scales, b, eps, center, count, mean, m2):
    """Inverse standard deviation of every group, from its count and m2."""
    for group in range(first, last, WIDTH):
        width = min(WIDTH, last - group)
        n, q = load_first(counts, 8 * group, 8, width, LIKE64), load_first(m2s, 8 * group, 8, width, LIKE64)
        store_first(scales, 8 * group, 8, width, welford.inverse_std(q, n, eps))


@kernel
def merge(first, last, table, counts, means, m2s, b, eps, center, count, mean, m2):
    """Merge the parts' states that `moments` left, part after part, into the states by group; a task is a group."""
    parts = load_int(table, PARTS)
    for group in range(first, last):
        n, mu, q = 0.0, 0.0, 0.0
        for part in range(group * parts, group * parts + parts):
            nb, mean_b, m2_b = load_group(counts, means, m2s, part)
            n, mu, q = welford.merge(n, mu, q, nb, mean_b, m2_b)
        origin, _, _, _, k = locate_outer(table, group)
        if center != 0:
            mu += welford.finite_or_zero(neutral_one(b, origin, 0.0))
        store_one(count, k, n)
        store_one(mean, k, mu)
        store_one(m2, k, q)
