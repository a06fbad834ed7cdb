"""What both families of kernels that go backward share: settings, sums along a run, and its output."""

import numpy as np

from ...maths import gradient, welford
from ...walk.slots import BASE, ROWS, SIZE
from .compiling import as_parts, inline
from .constants import EDGE_RUN
from .intrinsics import (
    coefficient,
    itemsize,
    load,
    load_first,
    load_int,
    load_near,
    load_one,
    made_like,
    store,
    store_first,
    store_near,
    store_one,
    store_stream,
    stream_head,
)
from .lanes import WIDTH, convert, first, splat, total
from .walk import (
    LIKE64,
    NO,
    ZERO,
    _keep,
    inner_place,
    moved,
    write_line,
)

# The board: into how many pieces a schedule is cut, and how large they are: the outer loops but the innermost (rows
# family) or all of them (columns), the innermost outer loop or the columns, the runs of a group, and the run; and how
# far a step along each of these cuts leads among the slots of weights.
CUTS, SLICES, RUN_CUTS, LOW_CUTS, CUT, SLICE, RUN, LOW_PART = range(8)
CUT_SLOT, SLICE_SLOT, RUN_SLOT, LOW_SLOT = range(8, 12)
# How many indices there are to be cut in these four; weights of a slot; groups side by side; whether one weight serves
# all runs of a group or a column, whether high and low are one run, whether output goes past the cache; whether the
# mean is taken from x, and the spread, and whether output may be written with the sums, of which it is not made; and
# what a launch does: sums, and output.
NUM_ABOVE, NUM_SIDE, NUM_RUNS, NUM_LOW, WEIGHTS, BATCH, FOLD, JOINED, STREAM = range(12, 21)
CENTERED, OWN, FUSED, SUMS, WRITES = range(21, 26)


CHAIN = 16  # values that a lane of float32 adds up, half of them in each of two chains, before it goes on in float64
YES = np.bool_(True)

as_parts((gradient.push, gradient.slopes, gradient.line, gradient.descend))


@inline
def _terms(x, xo, xs, d, do, ds, w, wo, ws, weighted, i, high, slope, offset, like):
    """What is added up for lanes of elements from i on: the gradient, weighted or not, and x normalized."""
    dy = load(d, do + i * ds, ds, like)
    if weighted:
        dy = dy * load(w, wo + i * ws, ws, convert(1.0, like))
    t = load(x, xo + i * xs, xs, like)
    return dy, welford.standardize(
        t, coefficient(high, i, like), coefficient(slope, i, like), coefficient(offset, i, like)
    )


@inline
def scale_lanes(out, oo, i, dy, scale, stream):
    """Write lanes of dy * scale at element i, if there is an output."""
    if out is not None:
        write_line(out, oo + i * itemsize(out), dy * scale, stream)


@inline
def _scale_last(out, oo, d, do, part, count, scale, like):
    """The same of the last `part` lanes of a run; of whole lanes, with some before them, where there are so many."""
    if out is not None:
        if count >= WIDTH:
            i = count - WIDTH
            store_near(out, oo + i * itemsize(out), load_near(d, do + i * itemsize(d), like) * scale)
        else:
            store_first(out, oo, itemsize(out), part, load_first(d, do, itemsize(d), part, like) * scale)


@inline
def sum_and_scale(
    x, xo, xs, d, do, ds, w, wo, ws, weighted, count, high, slope, offset, like, sums, out, oo, scale, stream
):
    """Add dy and dy * t over a run of `count` elements to a pair of sums in lanes; `weighted`: with dy * w for dy.

    A few values are added up in the precision of `like` first. Steps are in bytes; high, slope and offset as for
    `welford.standardize`, numbers or pointers to one for each element. Unless `out` is None, dy * scale is written,
    side by side as dy is; past the cache if `stream`, where it takes whole lanes.
    """
    zero, i = splat(convert(0.0, like)), ZERO
    while i < count:
        a, b = (zero, zero), (zero, zero)
        end = min(count, i + CHAIN * WIDTH)
        while i + 2 * WIDTH <= end:
            dy, t = _terms(x, xo, xs, d, do, ds, w, wo, ws, weighted, i, high, slope, offset, like)
            scale_lanes(out, oo, i, dy, scale, stream)
            a = gradient.push(a, dy, t)
            dy, t = _terms(x, xo, xs, d, do, ds, w, wo, ws, weighted, i + WIDTH, high, slope, offset, like)
            scale_lanes(out, oo, i + WIDTH, dy, scale, stream)
            b = gradient.push(b, dy, t)
            i += 2 * WIDTH
        if i + WIDTH <= end:
            dy, t = _terms(x, xo, xs, d, do, ds, w, wo, ws, weighted, i, high, slope, offset, like)
            scale_lanes(out, oo, i, dy, scale, stream)
            a = gradient.push(a, dy, t)
            i += WIDTH
        if i < end:
            part = end - i
            dy = load_first(d, do + i * ds, ds, part, like)
            if weighted:
                dy = dy * load_first(w, wo + i * ws, ws, part, convert(1.0, like))
            value = load_first(x, xo + i * xs, xs, part, like)
            coefs = coefficient(high, i, like), coefficient(slope, i, like), coefficient(offset, i, like)
            t = first(welford.standardize(value, coefs[0], coefs[1], coefs[2]), part)
            b = gradient.push(b, first(dy, part), t)
            _scale_last(out, oo, d, do, part, count, scale, like)
            i = end
        sums = sums[0] + convert(a[0] + b[0], LIKE64), sums[1] + convert(a[1] + b[1], LIKE64)
    return sums


@inline
def sum_across(x, xo, xs, d, do, ds, w, wo, ws, weighted, count, high, slope, offset, like, sums):
    """The same without output."""
    return sum_and_scale(
        x, xo, xs, d, do, ds, w, wo, ws, weighted, count, high, slope, offset, like, sums, None, ZERO, ZERO, NO
    )


@inline
def sum_and_scale_rows(
    x, xo, x_row, d, do, d_row, rows, count, high, slope, offset, like, sums, out, oo, out_row, scale, stream
):
    """The same over a few short runs side by side, of CHAIN vectors in all at most, with output or None."""
    zero, xs, ds = splat(convert(0.0, like)), itemsize(x), itemsize(d)
    a, b = (zero, zero), (zero, zero)
    part = count % WIDTH
    whole = count - part
    for _ in range(rows):
        i = ZERO
        while i < whole:
            t = welford.standardize(load_near(x, xo + i * xs, like), high, slope, offset)
            dy = load_near(d, do + i * ds, like)
            a = gradient.push(a, dy, t)
            scale_lanes(out, oo, i, dy, scale, stream)
            i += WIDTH
        if part > 0:
            dy, value = load_first(d, do + i * ds, ds, part, like), load_first(x, xo + i * xs, xs, part, like)
            t = first(welford.standardize(value, high, slope, offset), part)
            b = gradient.push(b, first(dy, part), t)
            _scale_last(out, oo, d, do, part, count, scale, like)
        xo += x_row
        do += d_row
        oo += out_row
    return sums[0] + convert(a[0] + b[0], LIKE64), sums[1] + convert(a[1] + b[1], LIKE64)


@inline
def write_run(x, xo, xs, d, do, ds, out, oo, os, w, wo, ws, weighted, count, coefs, kept, like, stream, edge):
    """Write dy * scale * w + c * (x - high) + e over a run; `stream`: past the cache, as `walk.stream_edge` says.

    `coefs` are high, scale, c and e. Of each vector of x the first `kept` lanes count, all or none.
    """
    high, scale, c, e = coefs
    i, one = ZERO, convert(1.0, like)
    part = ZERO
    if stream:
        part = min(stream_head(out, oo), count)
        stream = part >= 0
    while True:
        if part > 0:
            slope = coefficient(scale, i, like)
            if weighted:
                slope = slope * load_first(w, wo + i * ws, ws, part, one)
            dy = load_first(d, do + i * ds, ds, part, like)
            value = first(load_first(x, xo + i * xs, xs, part, like), kept)
            last = coefficient(high, i, like), coefficient(c, i, like), coefficient(e, i, like)
            y = gradient.descend(dy, slope, value, last[0], last[1], last[2])
            if stream and count >= EDGE_RUN:
                _keep(out, oo + i * os, part, y, edge)
            else:
                store_first(out, oo + i * os, os, part, y)
            i += part
        while i + WIDTH <= count:
            slope = coefficient(scale, i, like)
            if weighted:
                slope = slope * load(w, wo + i * ws, ws, one)
            dy, value = load(d, do + i * ds, ds, like), first(load(x, xo + i * xs, xs, like), kept)
            last = coefficient(high, i, like), coefficient(c, i, like), coefficient(e, i, like)
            y = gradient.descend(dy, slope, value, last[0], last[1], last[2])
            if stream:
                store_stream(out, oo + i * os, y)
            else:
                store(out, oo + i * os, os, y)
            i += WIDTH
        if i >= count:
            break
        if stream or count < WIDTH:
            part = count - i
        else:  # the last lanes again, with those before them: a store of some lanes takes as long as several of all
            i = count - WIDTH


@inline
def lanes_of_x(board):
    """How many lanes of x output is made of: none where statistics are constants, for which x need not be finite."""
    return WIDTH if load_int(board, OWN) != 0 else 0


@inline
def lie_near(x, xs, d, ds, out, os):
    """Whether elements of a run lie side by side in all three arrays."""
    return xs == itemsize(x) and ds == itemsize(d) and os == itemsize(out)


@inline
def add_one(array, index, value):
    """Add to a float64 of an array."""
    store_one(array, index, load_one(array, 8 * index) + value)


@inline
def add_lanes(array, index, step, count, lanes):
    """Add the first `count` lanes to elements of an array of float64, so many elements apart."""
    if count >= WIDTH and step == 1:
        store_near(array, 8 * index, load_near(array, 8 * index, LIKE64) + lanes)
    else:
        now = load_first(array, 8 * index, 8 * step, count, LIKE64)
        store_first(array, 8 * index, 8 * step, count, now + lanes)


@inline
def piece(total_size, size, index):
    """Begin and end of a piece."""
    begin = index * size
    return begin, min(total_size, begin + size)


@inline
def base_place(table):
    """The place where all loops begin."""
    return (
        load_int(table, BASE),
        load_int(table, BASE + 1),
        load_int(table, BASE + 2),
        load_int(table, BASE + 3),
        load_int(table, BASE + 4),
    )


@inline
def run_place(table, place, run):
    """The place of a run of a group, or of a row of columns."""
    rows = load_int(table, ROWS + SIZE)
    if run < rows:  # a division takes as long as a few elements
        return moved(table, place, ROWS + ZERO, run)
    return moved(table, inner_place(table, place, run // rows), ROWS + ZERO, run % rows)


@inline
def precision_of(x, d, out):
    """A number of the precision in which sums are begun, and output is made."""
    return made_like(x, out) + made_like(d, out)


@inline
def is_narrow(like):
    """Whether that is float32."""
    return convert(convert(1e60, like), LIKE64) > 1e70


@inline
def unfit_lanes(like, first_value, second_value, count):
    """How many of the first lanes hold coefficients that do not fit this precision."""
    if is_narrow(like):
        return total(first(1.0 - welford.fits_float32(first_value, second_value), count))
    return 0.0


@inline
def weight_index(w, wo):
    """Place of a weight among all, from its offset: their copies have no gaps."""
    return wo // max(1, itemsize(w))
