"""Kernels that reduce the innermost run: layer norm, instance norm, batch and group norm with channels first.

A team of threads takes a group, or a part of one, vector after vector. If all of it stays in registers, its statistics
are exact two-pass ones, and it is read once; else each thread merges the states of what it holds at a time, and what
is no longer in registers is taken from shared memory, if it is kept there, or read a second time, last things first.
"""

import numpy as np
from numba import cuda

from ...maths import accumulators, welford
from ...walk.slots import BIAS, LOW, OUT, SIZE, WEIGHT, X
from .constants import FAR, ITEMSIZES, NEAR, NONE, ONE, is_wide
from .machine import block_index, device, divide, folder, load_int, one_loader, storer, thread_index
from .output import make_affine, make_coefficients, make_finish
from .scalars import NO_SPREAD, given_statistics
from .states import (
    ROOM,
    keep_state,
    left,
    make_count,
    make_merge_team,
    make_state,
    make_sum_team,
    make_sums,
    make_tiles,
)
from .walk import PART_SIZE, PARTS, TASKS, UNITS, outer_place, parted, row_place


def make_place(code):
    """A function unit_place(table, place, unit): where a vector of the group lies that begins at `place`.

    Steps that are known are constants, so that a thread's addresses differ by constants, too.
    """
    vector, near, decode = code.vector, code.near, code.decode
    of_x, of_out, of_weight, of_bias = (ITEMSIZES.get(kind, 0) for kind in code.kinds[:4])
    weight, bias = code.weight, code.bias
    # Asked here: whether a number is in a tuple, a kernel would look up for every vector.
    along_weight, along_bias = weight in (NEAR, FAR), bias in (NEAR, FAR)

    @device
    def unit_place(table, place, unit):
        i = unit * vector
        if decode:
            size = load_int(table, LOW + SIZE)
            row = divide(i, size)
            place = row_place(table, place, row)
            i -= row * size
        x, out, w, b, k = place
        x += i * (of_x if near else load_int(table, LOW + X))
        out += i * (of_out if near else load_int(table, LOW + OUT))
        if along_weight:
            w += i * (of_weight if weight == NEAR else load_int(table, LOW + WEIGHT))
        if along_bias:
            b += i * (of_bias if bias == NEAR else load_int(table, LOW + BIAS))
        return x, out, w, b, k

    return unit_place


def make_row_task(code):
    """A function task_of(table): a thread's lane in its team, and the team's task, which is a group or a part of one.

    Of the task there are its number, whether it is one at all, the number of parts of its group, the place where the
    group begins, and the units from the task's first to the one behind its last.
    """
    threads, teams = code.threads, code.block // code.threads

    @device
    def task_of(table):
        thread, tasks, parts = thread_index(), load_int(table, TASKS), load_int(table, PARTS)
        lane, task = thread % threads, block_index() * teams + thread // threads
        active = task < tasks
        task = min(task, tasks - 1)  # threads that are left over come along, for their warp, with nothing to do
        group, part = parted(task, parts)
        part_size, place = load_int(table, PART_SIZE), outer_place(table, group)
        start = part * part_size
        stop = min(start + part_size, load_int(table, UNITS)) if active else start
        return lane, task, active, parts, place, start, stop

    return task_of


def make_statistics(code, unit_place, load_tile):
    """A function statistics(table, place, x, start, stop, lane, center, values, room): a task's (n, mean, m2)."""
    wide, vector, threads, whole = code.wide, code.vector, code.threads, code.whole
    based = is_wide(code.kinds.x)
    units = code.values // vector
    real = np.float64 if wide else np.float32
    one, (begin_sums, finish_sums) = one_loader(code.kinds.x), make_sums(wide, vector, units, vector)
    state, merge_team = make_state(wide, vector, units, vector), make_merge_team(threads)
    sum_team, sum_both = make_sum_team(threads)

    @device
    def exact(table, place, x, start, stop, lane, center, base, values, room):
        """Two passes over registers, the second about the mean of the whole task."""
        n, pivot, about = np.float64((stop - start) * vector), real(0.0), real(0.0)
        per = 1.0 / n
        valid = load_tile(table, place, x, start, start, stop, lane, values)
        if center != 0:
            pivot = real(welford.finite_or_zero(one(x + unit_place(table, place, start)[0])))
        s, reach = begin_sums(values, 0, valid, pivot)
        if center != 0:
            s = sum_team(s, room, 0)
            about = real(welford.finite_or_zero(np.float64(pivot) + s * per))
            reach = max(reach, abs(np.float64(about) - np.float64(pivot)))
        s, q = finish_sums(values, 0, valid, about, reach)
        s, q = sum_both(s, q, room, 1)
        if center == 0:
            s = 0.0
        mean, m2 = accumulators.shifted(s * per, np.float64(about) - base, (s, q))
        return n, mean, m2

    @device
    def merged(table, place, x, start, stop, lane, center, base, values, room):
        """What each thread holds at a time, and then the threads."""
        n, mean, m2 = 0.0, 0.0, 0.0
        for begin in range(start, stop, threads * units):
            valid = load_tile(table, place, x, start, begin, stop, lane, values)
            if valid > 0:
                nb = np.float64(valid * vector)
                mean_b, m2_b = state(values, 0, valid, 1.0 / nb, center, base)
                n, mean, m2 = accumulators.merge(n, mean, m2, nb, mean_b, m2_b)
        return merge_team(n, mean, m2, room)

    @device
    def statistics(table, place, x, start, stop, lane, center, values, room):
        base = 0.0  # means are taken from the group's first element on, so that a large one costs no digits
        if based and center != 0:
            base = welford.base_or_zero(one(x + unit_place(table, place, 0)[0]))
        if whole:
            n, mean, m2 = exact(table, place, x, start, stop, lane, center, base, values, room)
        else:
            n, mean, m2 = merged(table, place, x, start, stop, lane, center, base, values, room)
        return n, mean, m2, base

    return statistics


def make(code):
    """The kernel for a code; its arguments are the addresses and numbers of a frame (see `walk.slots`)."""
    wide, vector, threads = code.wide, code.vector, code.threads
    units, values_size = code.values // vector, code.values
    take_statistics, write_output, whole = code.statistics, code.output, code.whole
    once = not code.decode and code.weight in (NONE, ONE) and code.bias in (NONE, ONE)
    stride = threads * units
    real = np.float64 if wide else np.float32
    store = storer(code.kinds.out if write_output else "f8", vector)
    load_affine = make_affine(code)
    fold_units, fold_vector = folder(units), folder(vector)
    finish, coefficients, unit_place = make_finish(wide), make_coefficients(wide), make_place(code)

    load_tile, load_again = make_tiles(code, threads, unit_place)
    count_units = make_count(threads, units)
    statistics, task_of = make_statistics(code, unit_place, load_tile), make_row_task(code)

    @device
    def finish_one(e, done, at, values, coefficients, weights, biases, result):
        result[e] = finish(values[at + e], coefficients, weights[e], biases[e])
        return done

    @device
    def write_unit(i, valid, table, place, out, w, b, first, values, coefficients, weights, biases, result):
        if i < valid:
            at = unit_place(table, place, first + i * threads)
            if not once:
                load_affine(table, at, w, b, weights, biases)
            fold_vector(finish_one, 0, (i * vector, values, coefficients, weights, biases, result))
            store(out + at[1], result, 0)
        return valid

    @device
    def run(table, x, out, weight, bias, spread, center, states, partial_states):
        room = cuda.shared.array(ROOM, np.float64)
        values, result = cuda.local.array(values_size, real), cuda.local.array(vector, real)
        weights = cuda.local.array(vector, real)
        biases = cuda.local.array(vector, real)
        lane, task, active, parts, place, start, stop = task_of(table)
        k = place[4]
        if take_statistics:
            n, mu, q, base = statistics(table, place, x, start, stop, lane, center, values, room)
            inverse, low = welford.inverse_std(q, n, spread), 0.0
            if parts == 1:
                mu, low = accumulators.two_sum(base, mu)
            if states[0] != 0 and lane == 0 and active:
                keep_state(left(table, states, partial_states), k if parts == 1 else task, n, mu, q, low)
        else:
            mu, inverse = given_statistics(table, states, k, spread)
        if write_output:
            numbers = coefficients(mu, inverse)
            if once:
                load_affine(table, place, weight, bias, weights, biases)
            tiles = divide(stop - start + stride - 1, stride)
            for tile in range(tiles - 1, -1, -1):
                begin = start + tile * stride
                if not take_statistics or (not whole and tile < tiles - 1):
                    load_again(table, place, x, start, begin, stop, lane, values)
                first = begin + lane
                arrays = values, numbers, weights, biases, result
                fold_units(write_unit, count_units(first, stop), (table, place, out, weight, bias, first, *arrays))

    def kernel(table, x, out, weight, bias, eps, eps_on_std, ddof, center, count, mean, m2):
        spread = welford.spread_of(eps, eps_on_std != 0, ddof)
        run(table, x, out, weight, bias, spread, center, (count, mean, m2, 0), (count, mean, m2, 0))

    def moments(table, x, center, count, mean, m2, rest, part_count, part_mean, part_m2):
        run(table, x, 0, 0, 0, NO_SPREAD, center, (count, mean, m2, rest), (part_count, part_mean, part_m2, 0))

    return kernel if write_output else moments
