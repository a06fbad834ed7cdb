"""States of what a thread holds in registers, and their merge across threads. The formulas are those of `welford`.

Sums run in float32 over the few values of one thread and go on in float64, unless the values are float64. What float32
cannot square is scaled by a power of two.
"""

import numpy as np


from .. import welford
from .machine import device, folder, shuffle, sync, thread_index
from .shapes import WARP

LEAST, MOST = 1e-25, 1e30  # sums of squares within these were safe in float32: nothing that matters was out of range
UP, DOWN, QUARTER = 2.0**100, 2.0**-98, 0.25  # else differences are scaled; huge ones already before they are taken
ROOM = 3 * WARP  # float64 that a block shares: one, two or three numbers of each warp


def make_totals(wide, chains, units, stride):
    """A function totals(values, first, valid, about): sums of d = value - about and of its square, in float64.

    They are taken over `chains` neighbours from `first` on, each with the first `valid` of the `units` values that lie
    `stride` apart. All loops have constant bounds, so that values stay in registers.
    """

    real = np.float64 if wide else np.float32
    zero, one, up, down, quarter = map(real, (0.0, 1.0, UP, DOWN, QUARTER))
    fold_units, fold_chains = folder(units), folder(chains)

    @device
    def add(unit, sums, values, first, valid, about):
        s, q = sums
        d = values[first + unit * stride] - about
        d = d if unit < valid else zero
        return s + d, q + d * d

    @device
    def add_scaled(unit, sums, values, first, valid, about, before, after):
        s, q = sums
        d = (values[first + unit * stride] * before - about * before) * after
        d = d if unit < valid else zero
        return s + d, q + d * d

    @device
    def add_chain(chain, sums, values, first, valid, about):
        s, q = fold_units(add, (zero, zero), (values, first + chain, valid, about))
        return sums[0] + np.float64(s), sums[1] + np.float64(q)

    @device
    def add_scaled_chain(chain, sums, values, first, valid, about, before, after):
        s, q = fold_units(add_scaled, (zero, zero), (values, first + chain, valid, about, before, after))
        return sums[0] + np.float64(s), sums[1] + np.float64(q)

    @device
    def totals(values, first, valid, about):
        s, q = fold_chains(add_chain, (0.0, 0.0), (values, first, valid, about))
        if not wide and not (q > LEAST and q < MOST):
            before, after, scale = (one, up, 1 / UP) if q <= LEAST else (quarter, down, 1 / (DOWN * QUARTER))
            s, q = fold_chains(add_scaled_chain, (0.0, 0.0), (values, first, valid, about, before, after))
            s, q = s * scale, q * scale * scale
        return s, q

    return totals


def make_state(wide, chains, units, stride):
    """A function state(values, first, valid, center, base): (n, mean - base, m2) of what `totals` sums."""
    real = np.float64 if wide else np.float32
    totals = make_totals(wide, chains, units, stride)

    @device
    def state(values, first, valid, center, base):
        if valid == 0:
            return 0.0, 0.0, 0.0
        n = np.float64(valid * chains)
        about = real(0.0)
        if center != 0:
            pivot = real(welford.finite_or_zero(values[first]))
            s, _ = totals(values, first, valid, pivot)
            about = real(welford.finite_or_zero(np.float64(pivot) + s / n))
        s, q = totals(values, first, valid, about)
        if center == 0:
            s = 0.0
        mean, m2 = welford.settle(n, np.float64(about) - base, s, q)
        return n, mean, m2

    return state


@device
def sum_lanes(value, threads):
    """Sum over a team within a warp, the same bits in each of its threads; `threads` is a power of two."""
    mask = 1
    while mask < threads:
        value += shuffle(value, mask)
        mask *= 2
    return value


@device
def merge_lanes(n, mean, m2, threads):
    """Merged state of a team within a warp, the same bits in each of its threads: the lower lane's always first."""
    mask = 1
    while mask < threads:
        nb, mean_b, m2_b = shuffle(n, mask), shuffle(mean, mask), shuffle(m2, mask)
        if thread_index() & mask:
            n, mean, m2, nb, mean_b, m2_b = nb, mean_b, m2_b, n, mean, m2
        n, mean, m2 = welford.merge(n, mean, m2, nb, mean_b, m2_b)
        mask *= 2
    return n, mean, m2


def make_sum_team(threads):
    """A function sum_team(value, room, slot): sum over a team; each call in a kernel takes another slot of 0 to 2."""
    warps = threads // WARP

    @device
    def sum_team(value, room, slot):
        if threads <= WARP:
            return sum_lanes(value, threads)
        thread = thread_index()
        value = sum_lanes(value, WARP)
        if thread % WARP == 0:
            room[slot * WARP + thread // WARP] = value
        sync()
        return sum_lanes(room[slot * WARP + thread % warps], warps)

    return sum_team


def make_merge_team(threads):
    """A function merge_team(n, mean, m2, room): merged state of a team, in each of its threads. Once in a kernel."""
    warps = threads // WARP

    @device
    def merge_team(n, mean, m2, room):
        if threads <= WARP:
            return merge_lanes(n, mean, m2, threads)
        thread = thread_index()
        n, mean, m2 = merge_lanes(n, mean, m2, WARP)
        if thread % WARP == 0:
            warp = thread // WARP
            room[warp], room[WARP + warp], room[2 * WARP + warp] = n, mean, m2
        sync()
        warp = thread % warps
        return merge_lanes(room[warp], room[WARP + warp], room[2 * WARP + warp], warps)

    return merge_team
