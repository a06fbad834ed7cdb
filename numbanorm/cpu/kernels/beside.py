"""Groups of one run each that are walked side by side: their sums; and their output, in one loop with the sums of those
that come next.
"""

from ...maths import accumulators, welford
from ...walk.slots import BIAS, LOW, OUT, WEIGHT, X
from .compiling import inline
from .constants import AHEAD_BYTES, SHARED, SIDE, TRUST, TURN_BYTES, TURN_RUN
from .intrinsics import (
    itemsize,
    load_int,
    load_near,
    load_one,
    load_same,
    made_like,
    prefetch,
    store_near,
    store_one,
)
from .lanes import LOOKS_AHEAD, WIDTH, convert, every_other, first, halved, splat, total
from .runs import folded, in_precision
from .walk import LIKE64, STREAM, ZERO, is_asked_for, near_mean, scale_and_sum, sum_near, sum_run

EIGHT = 8  # groups whose totals are made side by side


@inline
def run_pivot(x, at, count, center):
    """As a pivot, `near_mean` of the `count` elements side by side at `at`; 0 where `center` is 0."""
    pivot = 0.0
    if center != 0:
        pivot = near_mean(x, at, count)
    return pivot


@inline
def add_total(g, batch, sums, kept, room):
    """Keep the totals of the sums of group g of `batch`; those of EIGHT are halved side by side, with what is `kept` of
    the groups before, in registers. Returns what to keep for the next group.

    Sums that are put down for later lie where loads of x may have to wait for them: rows of 96 took a fifth longer.
    """
    if g - g % EIGHT + EIGHT > batch:
        store_one(room[1], g, total(sums[0]))
        store_one(room[2], g, total(sums[1]))
        return kept
    one, two, four = kept
    both = halved(sums[0], sums[1], 16)
    if g % 2 == 0:
        return both, two, four
    both = halved(one, both, 8)
    if g % 4 == 1:
        return one, both, four
    both = halved(two, both, 4)
    if g % EIGHT == 3:
        return one, two, both
    both = halved(four, both, 2)
    store_near(room[1], 8 * (g + 1 - EIGHT), every_other(both, 0))  # and, behind, what is overwritten, or room
    store_near(room[2], 8 * (g + 1 - EIGHT), every_other(both, 1))
    return kept


@inline
def _is_asked_for_early(table, size):
    """Whether a run of so many bytes is asked for two runs before: processors look ahead too late in short ones."""
    if LOOKS_AHEAD:
        return False
    return size <= AHEAD_BYTES or (size <= 2 * AHEAD_BYTES and load_int(table, STREAM) != 0)


@inline
def sums_beside(x, narrow, table, at, side, batch, size, center, room):
    """Pivots and sums, by way of float32, of `batch` groups, `side` bytes apart, of one run each.

    With AVX-512 a pivot is taken before the run in front of it is added up, whose sums need not wait for it then. With
    AVX2 that leads the processor, which reads ahead, out of the order of memory: rows of 192 to 1600 took 1.1 to 1.3
    times as long outside the second-level cache.
    """
    zero, following = splat(0.0), 0.0
    if LOOKS_AHEAD:
        following = run_pivot(x, at, size, center)
    asked = _is_asked_for_early(table, size * itemsize(x))
    kept = zero, zero, zero
    for g in range(batch):
        near = at + g * side
        if LOOKS_AHEAD:
            pivot = following
        else:
            pivot = run_pivot(x, near, size, center)
        if asked:
            for line in range(0, size * itemsize(x), 64):
                prefetch(x, near + 2 * side + line)
        if LOOKS_AHEAD and g + 1 < batch:
            following = run_pivot(x, near + side, size, center)
        store_one(room[0], g, pivot)
        kept = add_total(g, batch, sum_near(x, near, size, convert(pivot, narrow), (zero, zero)), kept, room)


@inline
def about_zero(batch, center, room):
    """Keep no sums of `batch` groups where `center` is 0: their means are not looked for."""
    if center == 0:
        for g in range(0, batch, WIDTH):
            store_near(room[1], 8 * g, splat(0.0))


@inline
def all_hold(n, batch, center, room):
    """Whether the sums of `batch` groups have the digits of float32: see `accumulators.hold`."""
    missed = splat(0.0)
    for g in range(0, batch, WIDTH):
        s = load_near(room[1], 8 * g, LIKE64)
        if center == 0:
            s = splat(0.0)
        serve = accumulators.hold(n, load_near(room[0], 8 * g, LIKE64), (s, load_near(room[2], 8 * g, LIKE64)), TRUST)
        missed = missed + first(1.0 - serve, min(WIDTH, batch - g))
    return total(missed) == 0.0


@inline
def wide_beside(x, at, step, side, batch, size, room):
    """Sums in float64, about the pivots, of `batch` groups, `side` bytes apart, of one run each."""
    zero = splat(0.0)
    kept = zero, zero, zero
    for g in range(batch):
        sums = sum_run(x, at + g * side, step, size, load_one(room[0], 8 * g), (zero, zero))
        kept = add_total(g, batch, sums, kept, room)


@inline(forceinline=False)
def wide_in_order(x, at, step, side, batch, size, room):
    """`wide_beside` that takes the pivots, too: past the cache, each is read when its group is.

    Inlined, it made other loops slower.
    """
    zero = splat(0.0)
    kept = zero, zero, zero
    for g in range(batch):
        near = at + g * side
        pivot = welford.finite_or_zero(load_one(x, near))
        store_one(room[0], g, pivot)
        kept = add_total(g, batch, sum_run(x, near, step, size, pivot, (zero, zero)), kept, room)


@inline
def most_in_turn(x, out, w, b, table, entry, size):
    """How many groups of `size` elements, one run each, side by side on the loop at `entry`, are written together, in
    one loop with the sums of as many that come next; 0 if their output is not made so. With AVX-512 such a loop was
    slower: 0.6 to 0.8, in C.
    """
    xs, os = load_int(table, LOW + X), load_int(table, LOW + OUT)
    ws, bs = load_int(table, LOW + WEIGHT), load_int(table, LOW + BIAS)
    near = xs == itemsize(x) and os == itemsize(out) and ws == itemsize(w) and bs == itemsize(b)  # or these are absent
    pieces = size >= 2 * SHARED and not folded(table)  # see `_at_a_time`
    even = load_int(table, entry + OUT) % os == 0
    if not (is_asked_for(x) and near and even) or size < TURN_RUN or pieces or load_int(table, STREAM) == 0:
        return ZERO
    return min(max(TURN_BYTES // (size * xs), ZERO + 2), SIDE)


@inline
def write_and_sum(x, narrow, out, w, b, table, place, entry, runs, size, center, coefficients, edge, room):
    """`write_runs` of `runs` runs, and `sums_beside` of as many behind them, in the same loop."""
    if narrow is not None:
        xo, oo, wo, bo, _ = place
        x_step, out_step = load_int(table, entry + X), load_int(table, entry + OUT)
        w_step, b_step = load_int(table, entry + WEIGHT), load_int(table, entry + BIAS)
        like, zero = made_like(x, out), splat(0.0)
        highs, scales, offsets, _, _, _ = in_precision(coefficients, like)
        kept = zero, zero, zero
        for g in range(runs):
            rx, ro, k = xo + g * x_step, oo + g * out_step, itemsize(highs) * g
            rw, rb = wo + g * w_step, bo + g * b_step
            near = rx + runs * x_step
            pivot = run_pivot(x, near, size, center)
            store_one(room[0], g, pivot)
            a, c, d = load_same(highs, k, like), load_same(scales, k, like), load_same(offsets, k, like)
            ahead = near, x_step, convert(pivot, narrow)
            sums = scale_and_sum(x, rx, out, ro, w, rw, b, rb, size, a, c, d, like, edge, ahead)
            kept = add_total(g, runs, sums, kept, room)
