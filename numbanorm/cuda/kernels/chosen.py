"""Kernels of statistics of chosen and weighted elements; `cuda.chosen` has the plan.

A frame's `bias` is the mask and its `weight` the weights, either of which may be left out: places are those of norms. A
thread holds a tile of x, and of what each element counts: 0 is left out, by a selection behind the subtraction of the
pivot, so that its value does not matter. Sums are in float64, about the first value that counts; where the mean is too
far from there, the pivot moves, and the tile, which is in registers, is added once more. States (n, high, low, m2, v)
have the mean in two parts, since what counts may lie anywhere; v is the sum of squared weights, 0 if it is not wanted.

A weight that counts, and is negative or no finite number, makes all statistics of its group NaN, and its count NaN or
infinite.
"""

import math

import numpy as np
from numba import cuda

from ...maths import welford
from ...maths.accumulators import about
from ...maths.chosen import far_off, united
from ...maths.pivoted import moved_pivot, settled
from ...walk.slots import BIAS, GROUP, HIGH, LOW, SIZE, WEIGHT
from .columns import group_of, make_column_task, make_columns
from .constants import WARP, is_wide
from .machine import (
    block_index,
    device,
    divide,
    folder,
    load_int,
    loader,
    one_loader,
    one_storer,
    shuffle,
    sync,
    thread_index,
)
from .merging import kept_columns
from .output import make_parameter
from .rows import make_place, make_row_task
from .states import keep_state, left, make_count
from .walk import KINDS, MERGED, PARTS, ROW_COUNT, TASKS, outer_place, row_place

NUMBER = KINDS  # of a table: how many states there are, behind whose counts lie the sums of squared weights
PARTIAL, GROUPS = ROW_COUNT, KINDS  # of a merge: how many there are of parts, and of groups
NUMBERS = 5  # of a state
ROOM = NUMBERS * WARP  # float64 that a block of rows shares
_load, _store = one_loader("f8"), one_storer("f8")


def make(code):
    """The kernel for a code; its arguments are the addresses of a frame (see `walk.slots`)."""
    return (_make_rows if code.family == "rows" else _make_columns)(code)


# tiles ----------------------------------------------------------------------------------------------------------------


def _share_types(code):
    """Whether each element has a share of its own, how many numbers hold them, and of which type."""
    given = code.kinds.weight != "none" or code.kinds.bias != "none"
    wide = code.kinds.weight != "none" and is_wide(code.kinds.weight)
    return given, code.values if given else 1, np.float64 if wide else np.float32


def _make_load(code, step, place_of):
    """A function load_tile(table, place, addresses, first, stop, held): what a thread holds at a time, of every `step`
    units from `first` to `stop`; and how many there are. `held`: values, shares, room for a vector's weights and flags.
    """
    kind, vector, kinds = code.kinds.x, code.vector, code.kinds
    given, _, real = _share_types(code)
    load, zero = loader(kind, vector), real(0.0)
    load_weights = make_parameter(kinds.weight, code.weight, vector, real is np.float64, 1.0)
    load_flags = make_parameter(kinds.bias, code.bias, vector, False, 1.0)
    fold_units, fold_vector = folder(code.values // vector), folder(vector)
    count_units = make_count(step, code.values // vector)

    @device
    def choose(e, done, at, shares, weights, flags):
        shares[at + e] = weights[e] if flags[e] != 0 else zero
        return done

    @device
    def load_unit(i, valid, table, place, addresses, first, held):
        x, w, m = addresses
        values, shares, weights, flags = held
        if i < valid:
            at = place_of(table, place, first + i * step)
            load(values, i * vector, x + at[0])
            if given:
                load_weights(weights, w + at[2], load_int(table, LOW + WEIGHT))
                load_flags(flags, m + at[3], load_int(table, LOW + BIAS))
                fold_vector(choose, 0, (i * vector, shares, weights, flags))
        return valid

    @device
    def load_tile(table, place, addresses, first, stop, held):
        return fold_units(load_unit, count_units(first, stop), (table, place, addresses, first, held))

    return load_tile


def _make_add(code, chains):
    """A function add_tile(sums, first, valid, values, shares): sums (n, pivot, s, q, v), to which is added what a
    thread holds: `chains` neighbours from `first` on of each of the first `valid` units.
    """
    vector, weighted = code.vector, code.kinds.weight != "none"
    given, skips, squares = _share_types(code)[0], code.skips, code.squares
    fold_units, fold_chains = folder(code.values // vector), folder(chains)

    @device
    def counts(value, at, there, shares):
        if given:
            there = there and shares[at] != 0
        if skips:
            there = there and value == value
        return there

    @device
    def look(chain, found, at, there, values, shares):
        value = np.float64(values[at + chain])
        there = counts(value, at + chain, there, shares) and value - value == 0.0 and found != found
        return welford.where(there, value, found)

    @device
    def add(chain, sums, at, there, pivot, values, shares):
        n, s, q, v = sums
        value = np.float64(values[at + chain])
        there = counts(value, at + chain, there, shares)
        d = welford.where(there, value - pivot, 0.0)
        if not weighted:
            return n + welford.where(there, 1.0, 0.0), s + d, welford.multiply_add(d, d, q), v
        share = welford.where(there, np.float64(shares[at + chain]), 0.0)
        part = share * d
        if squares:
            v = welford.multiply_add(share, share, v)
        n += welford.where(0.0 > share, math.nan, share)
        return n, s + part, welford.multiply_add(part, d, q), v

    @device
    def add_far(chain, mean, at, there, n, values, shares):
        value, share = np.float64(values[at + chain]), 1.0
        if weighted:
            share = np.float64(shares[at + chain])
        return mean + welford.where(counts(value, at + chain, there, shares), value * (share / n), 0.0)

    @device
    def look_unit(unit, found, first, valid, values, shares):
        return fold_chains(look, found, (first + unit * vector, unit < valid, values, shares))

    @device
    def add_unit(unit, sums, first, valid, pivot, values, shares):
        return fold_chains(add, sums, (first + unit * vector, unit < valid, pivot, values, shares))

    @device
    def add_far_unit(unit, mean, first, valid, n, values, shares):
        return fold_chains(add_far, mean, (first + unit * vector, unit < valid, n, values, shares))

    @device
    def add_tile(before, first, valid, values, shares):
        n0, pivot, s0, q0, v0 = before
        if n0 == 0.0:
            pivot = welford.finite_or_zero(fold_units(look_unit, np.float64(math.nan), (first, valid, values, shares)))
        turns = 0
        while True:
            n, s, q, v = fold_units(add_unit, (n0, s0, q0, v0), (first, valid, pivot, values, shares))
            if turns == 2 or not (far_off(n, s, q) != 0.0 or q - q != 0.0):
                break
            near = moved_pivot(n, pivot, s, q)[0]
            s0, q0 = about(n0, near - pivot, (s0, q0))
            pivot, turns = near, turns + 1
        if q - q != 0.0:  # distances or their squares overflow, or there are infinities or NaN
            mean = welford.where(n0 == 0.0, 0.0, (pivot + s0 / n0) * (n0 / n))
            pivot = fold_units(add_far_unit, mean, (first, valid, n, values, shares))
            s, q = n * 0.0, pivot - pivot + math.inf
        return n, pivot, s, q, v

    return add_tile


# states ---------------------------------------------------------------------------------------------------------------


@device
def _together(state, other):
    """State of two sets together."""
    n, high, low, m2 = united(state[0], state[1], state[2], state[3], other[0], other[1], other[2], other[3])
    return n, high, low, m2, state[4] + other[4]


@device
def _of_nothing():
    zero = np.float64(0.0)
    return zero, zero, zero, zero, zero


@device
def _settled(sums):
    """The state that sums have led to."""
    n, pivot, s, q, v = sums
    high, low, m2 = settled(welford.where(n == 0.0, 1.0, n), pivot, s, q)
    return n, welford.where(n == 0.0, n, high), low, m2, v


@device
def _merge_lanes(state, threads):
    """Merged state of a team within a warp, the same bits in each of its threads: the lower lane's always first."""
    mask = 1
    while mask < threads:
        n, high, low = shuffle(state[0], mask), shuffle(state[1], mask), shuffle(state[2], mask)
        other = n, high, low, shuffle(state[3], mask), shuffle(state[4], mask)
        if thread_index() & mask:
            state, other = other, state
        state = _together(state, other)
        mask *= 2
    return state


@device
def _give(room, at, state):
    """Keep a state in shared memory."""
    room[at], room[at + 1], room[at + 2], room[at + 3], room[at + 4] = state


@device
def _take(room, at):
    """A state from shared memory."""
    return room[at], room[at + 1], room[at + 2], room[at + 3], room[at + 4]


def _make_merge_team(threads):
    """A function merge_team(state, room): merged state of a team, in each of its threads. Once in a kernel."""
    warps = threads // WARP

    @device
    def merge_team(state, room):
        if threads <= WARP:
            return _merge_lanes(state, threads)
        thread = thread_index()
        state = _merge_lanes(state, WARP)
        if thread % WARP == 0:
            _give(room, thread // WARP * NUMBERS, state)
        sync()
        return _merge_lanes(_take(room, thread % warps * NUMBERS), warps)

    return merge_team


@device
def _keep(whole, states, at, number, squares, state):
    """Write a state; means of groups of nothing are NaN, as are all statistics by weights without a finite sum."""
    n, high, low, m2, v = state
    if whole:
        finite = n - n == 0.0
        high = welford.where(n > 0.0, welford.where(finite, high, math.nan), math.nan)
        m2 = welford.where(finite, m2, math.nan)
    keep_state(states, at, n, high, m2, low)
    if squares:
        _store(states[0] + 8 * (number + at), v)


# kernels --------------------------------------------------------------------------------------------------------------


def _make_rows(code):
    """States of groups, or of their parts, whose innermost run is reduced: a team of threads for each."""
    vector, threads, squares = code.vector, code.threads, code.squares
    units, size = code.values // vector, code.values
    real, (_, shares_size, of_shares) = np.float64 if code.wide else np.float32, _share_types(code)
    load_tile, add_tile = _make_load(code, threads, make_place(code)), _make_add(code, vector)
    merge_team, task_of = _make_merge_team(threads), make_row_task(code)

    def kernel(table, x, weight, bias, count, mean, m2, rest, part_count, part_mean, part_m2, part_rest):
        room = cuda.shared.array(ROOM, np.float64)
        values = cuda.local.array(size, real)
        shares = cuda.local.array(shares_size, of_shares)
        weights = cuda.local.array(vector, of_shares)
        flags = cuda.local.array(vector, np.float32)
        lane, task, active, parts, place, start, stop = task_of(table)
        sums, held = _of_nothing(), (values, shares, weights, flags)
        for begin in range(start, stop, threads * units):
            valid = load_tile(table, place, (x, weight, bias), begin + lane, stop, held)
            sums = add_tile(sums, 0, valid, values, shares)
        state = merge_team(_settled(sums), room)
        if lane == 0 and active:
            states = left(table, (count, mean, m2, rest), (part_count, part_mean, part_m2, part_rest))
            at = place[4] if parts == 1 else task
            _keep(load_int(table, MERGED) == 0, states, at, load_int(table, NUMBER), squares, state)

    return kernel


def _make_columns(code):
    """States of columns, of all their rows or of parts: threads lie side by side, and take every so many rows."""
    vector, across, squares = code.vector, code.threads, code.squares
    rows, down, size = code.values // vector, code.block // code.threads, code.values
    real, (_, shares_size, of_shares) = np.float64 if code.wide else np.float32, _share_types(code)
    load_tile, add_tile = _make_load(code, down, row_place), _make_add(code, 1)
    column_place, task_of, fold_vector = make_columns(code), make_column_task(code), folder(vector)
    states_size, room_size = vector * NUMBERS, max(1, down // 2) * across * NUMBERS

    @device
    def begin_column(e, done, states):
        _give(states, e * NUMBERS, _of_nothing())
        return done

    @device
    def add_column(e, done, valid, values, shares, states):
        _give(states, e * NUMBERS, add_tile(_take(states, e * NUMBERS), e, valid, values, shares))
        return done

    @device
    def merge_column(e, done, states, room):
        """Of all rows of threads: the upper half of them gives its states to the lower half, again and again."""
        lane, row, half = thread_index() % across, thread_index() // across, down // 2
        state = _settled(_take(states, e * NUMBERS))
        while half > 0:
            if half <= row < 2 * half:
                _give(room, ((row - half) * across + lane) * NUMBERS, state)
            sync()
            if row < half:
                state = _together(state, _take(room, (row * across + lane) * NUMBERS))
            sync()
            half //= 2
        _give(states, e * NUMBERS, state)
        return done

    @device
    def keep_column(e, done, table, arrays, k, column, partial, whole, states):
        at = k + group_of(table, column + e)[0] if whole else partial + e
        _keep(whole, arrays, at, load_int(table, NUMBER), squares, _take(states, e * NUMBERS))
        return done

    def kernel(table, x, weight, bias, count, mean, m2, rest, part_count, part_mean, part_m2, part_rest):
        room = cuda.shared.array(room_size, np.float64)
        values = cuda.local.array(size, real)
        shares = cuda.local.array(shares_size, of_shares)
        weights = cuda.local.array(vector, of_shares)
        flags = cuda.local.array(vector, np.float32)
        states = cuda.local.array(states_size, np.float64)
        _, row, active, begin, column, partial, start, stop = task_of(table)
        place = column_place(table, begin, column)
        fold_vector(begin_column, 0, (states,))
        held = values, shares, weights, flags
        for at in range(start, stop, down * rows):
            valid = load_tile(table, place, (x, weight, bias), at + row, stop, held)
            fold_vector(add_column, 0, (valid, values, shares, states))
        fold_vector(merge_column, 0, (states, room))
        if active and row == 0:
            arrays = left(table, (count, mean, m2, rest), (part_count, part_mean, part_m2, part_rest))
            whole = load_int(table, MERGED) == 0
            fold_vector(keep_column, 0, (table, arrays, begin[4], column, partial, whole, states))

    return kernel


def make_merge(code):
    """A kernel that merges states, a warp for each group: of all parts, and of all columns that are reduced."""
    squares, groups_of_block = code.squares, code.block // WARP

    def kernel(table, part_count, part_mean, part_m2, part_rest, count, mean, m2, rest):
        task, tasks = block_index() * groups_of_block + thread_index() // WARP, load_int(table, TASKS)
        active = task < tasks
        task = min(task, tasks - 1)
        entry, step, reduced_step = kept_columns(table)
        columns = load_int(table, LOW + SIZE) * load_int(table, HIGH + SIZE)
        size = load_int(table, entry + SIZE)
        outer = divide(task, size)
        kept = task - outer * size
        reduced = divide(columns, size)
        parts, state = load_int(table, PARTS), _of_nothing()
        for member in range(thread_index() % WARP, parts * reduced, WARP):
            part = divide(member, reduced)
            at = (outer * parts + part) * columns + kept * step + (member - part * reduced) * reduced_step
            v = np.float64(0.0)
            if squares:
                v = _load(part_count + 8 * (load_int(table, PARTIAL) + at))
            at *= 8
            other = _load(part_count + at), _load(part_mean + at), _load(part_rest + at), _load(part_m2 + at), v
            state = _together(state, other)
        state = _merge_lanes(state, WARP)
        if thread_index() % WARP == 0 and active:
            at = outer_place(table, outer)[4] + kept * load_int(table, entry + GROUP)
            _keep(True, (count, mean, m2, rest), at, load_int(table, GROUPS), squares, state)

    return kernel
