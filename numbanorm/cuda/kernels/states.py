"""States of what a thread holds in registers, and their merge across threads. The formulas are those of `welford`.

Sums run in float32 over the few values of one thread and go on in float64, unless the values are float64. What float32
cannot square is scaled by a power of two.
"""

import numpy as np

from ...maths import accumulators, welford
from .constants import ITEMSIZES, WARP
from .machine import device, folder, keeper, load_int, loader, one_storer, shuffle, sync, taker, thread_index
from .walk import MERGED

# Differences beyond these are multiplied by a power of two before they are squared in float32.
SMALL, LARGE, UP, DOWN = 2.0**-40, 2.0**40, 2.0**90, 2.0**-90
EIGHTH = 0.125  # what sums of values near the largest float32 are taken of, to stay finite
PIECE = 8  # values that are added up in float32 before they go on in float64: a rounding error of 5 ulp at most
ROOM = 3 * WARP  # float64 that a block shares: one, two or three numbers of each warp

_store = one_storer("f8")


def make_count(step, units):
    """A function count_units(first, stop): of `units` units from `first` on, `step` apart, those before `stop`.

    Step is a power of two. The number is an int32: on a GPU, a comparison of 64 bits is two instructions, and there is
    one for each vector, often for each element.
    """
    shift = step.bit_length() - 1

    @device
    def count_units(first, stop):
        return np.int32(max(0, min((stop - first + step - 1) >> shift, units)))

    return count_units


def make_tiles(code, step, place_of):
    """Two functions of a tile, which is what threads hold at a time. The arguments of both are (table, place, x, start,
    begin, stop, mine, values): of the units `start` to `stop` of a task, the tile from `begin` on; this thread has a
    vector of unit begin + mine, and of every `step` units after it. place_of(table, place, unit) finds them.

    The first, for statistics, returns how many vectors there are before `stop`. The second is for the output of a tile
    that is no longer in registers; all of a task's tiles but the last are such. If they are kept, it has them from
    shared memory, else from x.
    """
    kind, vector, block, kept = code.kinds.x, code.vector, code.block, code.kept
    units, size = code.values // vector, code.vector * ITEMSIZES[kind]
    load, keep, take, fold_units = loader(kind, vector), keeper(kind, vector), taker(kind, vector), folder(units)
    count_units = make_count(step, units)

    @device
    def slot(before, i):
        """Of a block's threads side by side, so that their accesses are too: each has its own slots."""
        return (before * (block // step) + i * block + thread_index()) * size

    @device
    def load_unit(i, valid, table, place, x, first, values):
        if i < valid:
            load(values, i * vector, x + place_of(table, place, first + i * step)[0])
        return valid

    @device
    def keep_unit(i, done, table, place, x, first, before, values):
        address = x + place_of(table, place, first + i * step)[0]
        keep(values, i * vector, address, slot(before, i))
        return done

    @device
    def take_unit(i, done, before, values):
        take(values, i * vector, slot(before, i))
        return done

    @device
    def load_tile(table, place, x, start, begin, stop, mine, values):
        return fold_units(load_unit, count_units(begin + mine, stop), (table, place, x, begin + mine, values))

    @device
    def keep_tile(table, place, x, start, begin, stop, mine, values):
        if begin + step * units < stop:
            fold_units(keep_unit, 0, (table, place, x, begin + mine, begin - start, values))
            return count_units(begin + mine, stop)
        return load_tile(table, place, x, start, begin, stop, mine, values)

    @device
    def take_tile(table, place, x, start, begin, stop, mine, values):
        fold_units(take_unit, 0, (begin - start, values))

    return (keep_tile, take_tile) if kept else (load_tile, load_tile)


def make_sums(wide, chains, units, stride):
    """Two functions of what a thread holds: `chains` neighbours from `first` on, each with the first `valid` of `units`
    values that lie `stride` apart. All loops have constant bounds, so that values stay in registers.

    begin(values, first, valid, pivot): sum of value - pivot, in float64, and the largest distance from it.
    finish(values, first, valid, about, reach): sums of d = value - about and of its square, in float64; no distance
    is larger than `reach`.
    """
    real = np.float64 if wide else np.float32
    zero, one, up, down, eighth = map(real, (0.0, 1.0, UP, DOWN, EIGHTH))
    fold_units, fold_chains = folder(units), folder(chains)
    pieces, rest = divmod(units, PIECE)
    fold_pieces, fold_piece, fold_rest = folder(pieces), folder(PIECE), folder(rest)

    @device
    def add_first(unit, sums, values, first, valid, begin):
        s, most = sums
        d = values[first + unit * stride] * eighth - begin
        d = d if unit < valid else zero
        return s + d, max(most, abs(d))

    @device
    def add_first_chain(chain, sums, values, first, valid, begin):
        s, most = fold_units(add_first, (zero, zero), (values, first + chain, valid, begin))
        return sums[0] + np.float64(s), max(sums[1], most)

    @device
    def begin(values, first, valid, pivot):
        s, most = fold_chains(add_first_chain, (0.0, zero), (values, first, valid, pivot * eighth))
        return s / EIGHTH, np.float64(most) / EIGHTH

    @device
    def add(i, sums, values, first, before, valid, about, factor):
        s, q = sums
        unit = before + i
        d = values[first + unit * stride] * factor - about
        d = d if unit < valid else zero
        return s + d, q + d * d

    @device
    def add_piece(piece, sums, values, first, valid, about, factor):
        s, q = fold_piece(add, (zero, zero), (values, first, piece * PIECE, valid, about, factor))
        return sums[0] + np.float64(s), sums[1] + np.float64(q)

    @device
    def add_chain(chain, sums, values, first, valid, about, factor):
        sums = fold_pieces(add_piece, sums, (values, first + chain, valid, about, factor))
        s, q = fold_rest(add, (zero, zero), (values, first + chain, pieces * PIECE, valid, about, factor))
        return sums[0] + np.float64(s), sums[1] + np.float64(q)

    @device
    def finish(values, first, valid, about, reach):
        factor, back = one, 1.0
        if not wide:
            if reach > 0.0 and reach < SMALL:  # equal values stay as they are, however large
                factor, back = up, DOWN
            elif reach > LARGE:
                factor, back = down, UP
        s, q = fold_chains(add_chain, (0.0, 0.0), (values, first, valid, about * factor, factor))
        return s * back, q * back * back

    return begin, finish


def make_state(wide, chains, units, stride):
    """A function state(values, first, valid, per, center, base): mean - base and m2 of what a thread holds, which are
    as many values as 1 / per.
    """
    real = np.float64 if wide else np.float32
    begin, finish = make_sums(wide, chains, units, stride)

    @device
    def state(values, first, valid, per, center, base):
        pivot = about = real(0.0)
        if center != 0:
            pivot = real(welford.finite_or_zero(values[first]))
        s, reach = begin(values, first, valid, pivot)
        if center != 0:
            about = real(welford.finite_or_zero(np.float64(pivot) + s * per))
            reach = max(reach, abs(np.float64(about) - np.float64(pivot)))
        s, q = finish(values, first, valid, about, reach)
        if center == 0:
            s = 0.0
        return accumulators.shifted(s * per, np.float64(about) - base, (s, q))

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
        n, mean, m2 = accumulators.merge(n, mean, m2, nb, mean_b, m2_b)
        mask *= 2
    return n, mean, m2


def make_sum_team(threads):
    """Two functions, sum_team(value, room, slot): sum over a team; and sum_both(a, b, room, slot): two of them, which
    wait for each other once. Each sum in a kernel takes another slot of 0 to 2.
    """
    warps = threads // WARP

    @device
    def give(value, room, slot):
        value = sum_lanes(value, WARP)
        if thread_index() % WARP == 0:
            room[slot * WARP + thread_index() // WARP] = value

    @device
    def take(room, slot):
        return sum_lanes(room[slot * WARP + thread_index() % warps], warps)

    @device
    def sum_team(value, room, slot):
        if threads <= WARP:
            return sum_lanes(value, threads)
        give(value, room, slot)
        sync()
        return take(room, slot)

    @device
    def sum_both(a, b, room, slot):
        if threads <= WARP:
            return sum_lanes(a, threads), sum_lanes(b, threads)
        give(a, room, slot)
        give(b, room, slot + 1)
        sync()
        return take(room, slot), take(room, slot + 1)

    return sum_team, sum_both


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


@device
def left(table, whole, parts):
    """Where kernels of statistics leave them: of whole groups, or of what is merged afterwards."""
    return parts if load_int(table, MERGED) != 0 else whole


@device
def keep_state(states, at, n, mean, m2, rest):
    """Write a state where the arrays have `at`; the rest, if there is an array for it."""
    _store(states[0] + 8 * at, n)
    _store(states[1] + 8 * at, mean)
    _store(states[2] + 8 * at, m2)
    if states[3] != 0:
        _store(states[3] + 8 * at, welford.finite_or_zero(rest))
