"""Output of runs that lie side by side: their coefficients, up to MANY of them at a time, and then the runs.

A run is written as ((x - high) * scale + offset) * weight + bias. One weight and bias for a run are folded into scale
and offset. Coefficients are made in float64 and kept in the precision that serves x; a run whose coefficients do not
fit float32 is made in float64, alone, so that it does not matter which runs are written together.
"""

from ...maths import welford
from ...walk.slots import BIAS, LOW, OUT, WEIGHT, X
from .compiling import inline
from .constants import JOINED, PEEL, SIDE
from .intrinsics import (
    absent,
    itemsize,
    load_first,
    load_int,
    load_one,
    load_same,
    made_like,
    stack,
    store_near,
    viewed,
)
from .lanes import WIDTH, convert, first, total
from .walk import LIKE64, NO, STREAM, ZERO, ends_of, scale_joined, scale_near, scale_run

MANY = 1024  # runs whose coefficients are kept for further samples: 12 KB of float32 in the first-level cache
ENDS = 2 * WIDTH


@inline
def folded(table):
    """Whether weight and bias are one number for each run."""
    return load_int(table, LOW + WEIGHT) == 0 and load_int(table, LOW + BIAS) == 0


@inline
def set_coefficients(x, out, w, b, table, place, entry, runs, at, mean, inverse, room):
    """Keep the coefficients of `runs` runs, at most WIDTH, at `at` and behind, from lanes of their means and inverse
    standard deviations. The runs are side by side on the loop at `entry`, the first at `place`. Returns how many of
    them do not fit float32.
    """
    like = made_like(x, out)
    highs, scales, offsets, fits, means, inverses = in_precision(room, like)
    _, _, wo, bo, _ = place
    fit = welford.fits_float32(mean, inverse)
    slope = inverse
    high = convert(mean, like)
    behind = (convert(high, LIKE64) - mean) * slope
    if folded(table):
        weight = load_first(w, wo, load_int(table, entry + WEIGHT), runs, 1.0)
        slope = slope * weight
        fit = fit * welford.fits_float32(0.0, slope)
        behind = behind * weight + load_first(b, bo, load_int(table, entry + BIAS), runs, LIKE64)
    item = itemsize(highs)
    store_near(highs, item * at, high)
    store_near(scales, item * at, convert(slope, like))
    store_near(offsets, item * at, convert(behind, like))
    store_near(fits, 8 * at, fit)
    store_near(means, 8 * at, mean)
    store_near(inverses, 8 * at, inverse)
    return total(first(1.0 - fit, runs))


@inline
def write_runs(x, out, w, b, table, place, entry, runs, size, at, unfit, room, edge, ask):
    """Write `runs` runs of `size` elements, side by side on the loop at `entry`, the first at `place`, with the
    coefficients at `at` and behind, of which `unfit` or none do not fit float32. To `ask` for x: see `walk.scale_near`.
    """
    xo, oo, wo, bo, _ = place
    xs, os = load_int(table, LOW + X), load_int(table, LOW + OUT)
    ws, bs = load_int(table, LOW + WEIGHT), load_int(table, LOW + BIAS)
    like = made_like(x, out)
    highs, scales, offsets, fits, means, inverses = in_precision(room, like)
    x_step, out_step = load_int(table, entry + X), load_int(table, entry + OUT)
    w_step, b_step = load_int(table, entry + WEIGHT), load_int(table, entry + BIAS)
    stream, fold, none, item = load_int(table, STREAM) != 0, folded(table), absent(), itemsize(highs)
    near = xs == itemsize(x) and os == itemsize(out)
    weighted = near and not fold and ws == itemsize(w) and bs == itemsize(b)
    together = unfit == 0.0 and runs > 1 and WIDTH <= size <= JOINED and not (stream and size % WIDTH == 0)
    together = together and x_step == size * itemsize(x) and out_step == size * itemsize(out)
    peel, numbers = runs * size >= PEEL, (highs, scales, offsets)
    if near and fold and together:
        nothing = none, ZERO, none
        scale_joined(x, xo, out, oo, size, runs, nothing, nothing, numbers, at, like, stream, peel, edge, ask)
    elif weighted and together and w_step == 0 and b_step == 0:
        w_ends, b_ends = stack(ENDS, like), stack(ENDS, like)
        ends_of(w, wo, size, convert(1.0, like), w_ends)
        ends_of(b, bo, size, like, b_ends)
        weights, biases = (w, wo, w_ends), (b, bo, b_ends)
        scale_joined(x, xo, out, oo, size, runs, weights, biases, numbers, at, like, stream, peel, edge, ask)
    elif near and fold:
        for g in range(runs):
            rx, ro, k = xo + g * x_step, oo + g * out_step, item * (at + g)
            if unfit == 0.0 or load_one(fits, 8 * (at + g)) != 0.0:
                a, c, d = load_same(highs, k, like), load_same(scales, k, like), load_same(offsets, k, like)
                scale_near(x, rx, out, ro, none, ZERO, none, ZERO, size, a, c, d, like, stream, size >= PEEL, edge, ask)
    elif weighted:
        for g in range(runs):
            rx, ro, rw, rb = xo + g * x_step, oo + g * out_step, wo + g * w_step, bo + g * b_step
            k = item * (at + g)
            if unfit == 0.0 or load_one(fits, 8 * (at + g)) != 0.0:
                a, c, d = load_same(highs, k, like), load_same(scales, k, like), load_same(offsets, k, like)
                scale_near(x, rx, out, ro, w, rw, b, rb, size, a, c, d, like, stream, size >= PEEL, edge, ask)
    done = (near and fold) or weighted
    if done and unfit == 0.0:
        return
    for g in range(runs):  # with any steps, and what float32 does not serve
        rx, ro, rw, rb, k = xo + g * x_step, oo + g * out_step, wo + g * w_step, bo + g * b_step, item * (at + g)
        if load_one(fits, 8 * (at + g)) == 0.0:
            a, c = load_one(means, 8 * (at + g)), load_one(inverses, 8 * (at + g))
            scale_run(x, rx, xs, out, ro, os, w, rw, ws, b, rb, bs, size, a, c, 0.0, NO, LIKE64)
        elif not done:
            a, c, d = load_same(highs, k, like), load_same(scales, k, like), load_same(offsets, k, like)
            scale_run(x, rx, xs, out, ro, os, w, rw, ws, b, rb, bs, size, a, c, d, fold, like)


@inline
def in_precision(room, like):
    """The first three arrays as such of the precision in which output is made."""
    highs, scales, offsets, fits, means, inverses = room
    return viewed(highs, 0, like), viewed(scales, 0, like), viewed(offsets, 0, like), fits, means, inverses


@inline
def room_for_few():
    """Arrays for the coefficients of SIDE runs."""
    numbers = stack(SIDE, LIKE64), stack(SIDE, LIKE64), stack(SIDE, LIKE64)
    return numbers[0], numbers[1], numbers[2], stack(SIDE, LIKE64), stack(SIDE, LIKE64), stack(SIDE, LIKE64)


@inline
def room_for_many():
    """Arrays for the coefficients of MANY runs."""
    numbers = stack(MANY, LIKE64), stack(MANY, LIKE64), stack(MANY, LIKE64)
    return numbers[0], numbers[1], numbers[2], stack(MANY, LIKE64), stack(MANY, LIKE64), stack(MANY, LIKE64)
