"""Kernels that keep the innermost loop: channels last, tables by column, windows, runs too short for a team.

Threads of a block lie `across` columns, a vector of them each, and take every so many rows. Each column has its own
state; where a group has several columns, `merging` merges them afterwards. If all rows of a block stay in registers,
or are kept in shared memory, they are read once, else a second time, last things first.
"""

import numpy as np
from numba import cuda

from ...maths import accumulators, welford
from ...walk.slots import BIAS, GROUP, HIGH, LOW, OUT, SIZE, WEIGHT, X
from .constants import ITEMSIZES, NEAR, NONE, is_wide
from .machine import block_index, device, divide, folder, load_int, one_loader, storer, sync, thread_index
from .output import make_affine, make_coefficients, make_finish
from .scalars import NO_SPREAD, given_statistics
from .states import keep_state, left, make_count, make_state, make_tiles
from .walk import MERGED, PART_SIZE, PARTS, ROW_COUNT, TASKS, UNITS, moved, outer_place, parted, row_place


def make_columns(code):
    """A function column_place(table, place, column): a place, moved to a column of its task, but for the group."""
    near, span, weight, bias = code.near, code.span, code.weight, code.bias
    of_x, of_out, of_weight, of_bias = (ITEMSIZES.get(kind, 0) for kind in code.kinds[:4])

    @device
    def column_place(table, place, column):
        i = column
        if not span:
            size = load_int(table, LOW + SIZE)
            high = divide(column, size)
            i -= high * size
            place = moved(table, place, HIGH, high)
        x, out, w, b, k = place
        x += i * (of_x if near else load_int(table, LOW + X))
        out += i * (of_out if near else load_int(table, LOW + OUT))
        if weight != NONE:
            w += i * (of_weight if weight == NEAR else load_int(table, LOW + WEIGHT))
        if bias != NONE:
            b += i * (of_bias if bias == NEAR else load_int(table, LOW + BIAS))
        return x, out, w, b, k

    return column_place


def make_column_task(code):
    """A function task_of(table): a thread's lane among those beside it, its row of threads, and its task, some columns.

    Of the task there are whether it is one at all, the place where its groups begin, its first column, the place of
    that column's state among those of parts, and the rows from its first to the one behind its last.
    """
    across, vector = code.threads, code.vector

    @device
    def task_of(table):
        lane, row = thread_index() % across, thread_index() // across
        tiles, parts, units = load_int(table, TASKS), load_int(table, PARTS), load_int(table, UNITS)
        above = divide(block_index(), tiles)
        unit = (block_index() - above * tiles) * across + lane
        outer, part = parted(above, parts)
        active = unit < units
        unit = min(unit, units - 1)
        begin, column, part_size = outer_place(table, outer), unit * vector, load_int(table, PART_SIZE)
        partial = (above * units + unit) * vector
        start = part * part_size
        stop = min(start + part_size, load_int(table, ROW_COUNT)) if active else start
        return lane, row, active, begin, column, partial, start, stop

    return task_of


@device
def group_of(table, column):
    """How far a column's group, and the first element of that group, are from those of the first column."""
    size = load_int(table, LOW + SIZE)
    high = divide(column, size)
    low, above, below = column - high * size, load_int(table, HIGH + GROUP), load_int(table, LOW + GROUP)
    first = (high * load_int(table, HIGH + X) if above != 0 else 0) + (
        low * load_int(table, LOW + X) if below != 0 else 0
    )
    return high * above + low * below, first


def make_statistics(code, load_rows):
    """A function statistics(table, place, x, start, stop, center, values, means, m2s, bases, room): the states of a
    thread's columns, all rows of the block merged: their count, and the rest in the arrays of one for each column.
    """
    wide, vector, across = code.wide, code.vector, code.threads
    rows, down, based = code.values // vector, code.block // across, is_wide(code.kinds.x)
    state, one = make_state(wide, 1, rows, vector), one_loader(code.kinds.x)
    fold_vector = folder(vector)

    @device
    def begin(v, done, table, x, column, center, means, m2s, bases):
        means[v], m2s[v], bases[v] = 0.0, 0.0, 0.0
        if based and center != 0:  # means are taken from the group's first element on: a large one costs no digits
            bases[v] = welford.base_or_zero(one(x + group_of(table, column + v)[1]))
        return done

    @device
    def add(v, done, n, per, share_a, share_b, valid, center, values, means, m2s, bases):
        mean_b, m2_b = state(values, v, valid, per, center, bases[v])
        mean, m2 = accumulators.blended(n, share_a, means[v], m2s[v], share_b, mean_b, m2_b)
        means[v], m2s[v] = welford.where(n == 0.0, mean_b, mean), welford.where(n == 0.0, m2_b, m2)
        return done

    @device
    def give(v, done, at, means, m2s, room):
        room[at + 1 + 2 * v], room[at + 2 + 2 * v] = means[v], m2s[v]
        return done

    @device
    def take(v, done, n, at, means, m2s, room):
        mean_b, m2_b = room[at + 1 + 2 * v], room[at + 2 + 2 * v]
        _, means[v], m2s[v] = accumulators.merge(n, means[v], m2s[v], room[at], mean_b, m2_b)
        return done

    @device
    def take_all(v, done, at, means, m2s, room):
        means[v], m2s[v] = room[at + 1 + 2 * v], room[at + 2 + 2 * v]
        return done

    @device
    def statistics(table, place, first, column, x, start, stop, center, values, means, m2s, bases, room):
        lane, row, size = thread_index() % across, thread_index() // across, 1 + 2 * vector
        fold_vector(begin, 0, (table, first, column, center, means, m2s, bases))
        n = 0.0
        for at in range(start, stop, down * rows):
            valid = load_rows(table, place, x, start, at, stop, row, values)
            if valid > 0:
                nb = np.float64(valid)
                counts = n, 1.0 / nb, n / (n + nb), nb / (n + nb)  # divided by once for all columns
                fold_vector(add, 0, (*counts, valid, center, values, means, m2s, bases))
                n += nb
        half = down // 2
        while half > 0:  # the upper half of the rows of threads gives its states to the lower half
            if half <= row < 2 * half:
                at = ((row - half) * across + lane) * size
                room[at] = n
                fold_vector(give, 0, (at, means, m2s, room))
            sync()
            if row < half:
                at = (row * across + lane) * size
                fold_vector(take, 0, (n, at, means, m2s, room))
                n += room[at]
            sync()
            half //= 2
        if row == 0:
            room[lane * size] = n
            fold_vector(give, 0, (lane * size, means, m2s, room))
        sync()
        fold_vector(take_all, 0, (lane * size, means, m2s, room))
        return room[lane * size]

    return statistics


def make_output(code):
    """A function write_rows(table, place, out, w, b, first, stop, values, ...): the output of what a thread holds."""
    wide, vector, across = code.wide, code.vector, code.threads
    rows, down, decode = code.values // vector, code.block // across, code.decode
    store = storer(code.kinds.out if code.output else "f8", vector)
    load_affine = make_affine(code)
    finish, fold_rows, fold_vector, count_rows = make_finish(wide), folder(rows), folder(vector), make_count(down, rows)

    @device
    def finish_one(v, done, at, values, factors, highs, scales, offsets, weights, biases, result):
        coefficients = factors[v], highs[v], scales[v], offsets[v]
        result[v] = finish(values[at + v], coefficients, weights[v], biases[v])
        return done

    @device
    def write_row(i, valid, table, place, out, w, b, first, values, numbers, weights, biases, result):
        factors, highs, scales, offsets = numbers
        if i < valid:
            at = row_place(table, place, first + i * down)
            if decode:
                load_affine(table, at, w, b, weights, biases)
            fold_vector(finish_one, 0, (i * vector, values, factors, highs, scales, offsets, weights, biases, result))
            store(out + at[1], result, 0)
        return valid

    @device
    def write_rows(table, place, out, w, b, first, stop, values, numbers, weights, biases, result):
        arrays = values, numbers, weights, biases, result
        fold_rows(write_row, count_rows(first, stop), (table, place, out, w, b, first, *arrays))

    return write_rows, load_affine


def make(code):
    """The kernel for a code; its arguments are the addresses and numbers of a frame (see `walk.slots`)."""
    wide, vector, across = code.wide, code.vector, code.threads
    rows, down, size = code.values // vector, code.block // across, code.values
    take_statistics, write_output, whole, once = code.statistics, code.output, code.whole, not code.decode
    stride, room_size = down * rows, max(1, down // 2) * across * (1 + 2 * vector)
    real = np.float64 if wide else np.float32
    fold_vector = folder(vector)
    column_place, coefficients = make_columns(code), make_coefficients(wide)

    load_rows, load_again = make_tiles(code, down, row_place)
    statistics, (write_rows, load_affine) = make_statistics(code, load_rows), make_output(code)
    task_of = make_column_task(code)

    @device
    def keep_states(v, done, table, k, column, partial, n, spread, given, states, means, inverses, bases):
        """States of groups, or of the columns of a part, to or from the caller's; m2 becomes the inverse."""
        k += group_of(table, column + v)[0]
        if take_statistics:
            q = inverses[v]
            inverses[v] = welford.inverse_std(q, n, spread)
            low = 0.0
            if partial < 0:
                means[v], low = accumulators.two_sum(bases[v], means[v])
            if given:
                keep_state(states, k if partial < 0 else partial + v, n, means[v], q, low)
        else:
            means[v], inverses[v] = given_statistics(table, states, k, spread)
        return done

    @device
    def set_coefficients(v, done, means, inverses, factors, highs, scales, offsets):
        factors[v], highs[v], scales[v], offsets[v] = coefficients(means[v], inverses[v])
        return done

    @device
    def run(table, x, out, weight, bias, spread, center, states, partial_states):
        values, result = cuda.local.array(size, real), cuda.local.array(vector, real)
        weights = cuda.local.array(vector, real)
        biases = cuda.local.array(vector, real)
        factors = cuda.local.array(vector, real)
        highs = cuda.local.array(vector, real)
        scales = cuda.local.array(vector, real)
        offsets = cuda.local.array(vector, real)
        means = cuda.local.array(vector, np.float64)
        inverses = cuda.local.array(vector, np.float64)
        bases = cuda.local.array(vector, np.float64)
        room = cuda.shared.array(room_size, np.float64)
        _, row, active, begin, column, own, start, stop = task_of(table)
        place = column_place(table, begin, column)
        n, partial = 0.0, -1
        if take_statistics:
            if load_int(table, MERGED) != 0:
                partial = own
            n = statistics(
                table, place, x + begin[0], column, x, start, stop, center, values, means, inverses, bases, room
            )
            states = left(table, states, partial_states)
        given = states[0] != 0 and active and row == 0
        fold_vector(
            keep_states, 0, (table, begin[4], column, partial, n, spread, given, states, means, inverses, bases)
        )
        if write_output:
            numbers = factors, highs, scales, offsets
            fold_vector(set_coefficients, 0, (means, inverses, factors, highs, scales, offsets))
            if once:
                load_affine(table, place, weight, bias, weights, biases)
            for tile in range(divide(stop - start + stride - 1, stride) - 1, -1, -1):
                at = start + tile * stride
                if not take_statistics or (not whole and at + stride < stop):
                    load_again(table, place, x, start, at, stop, row, values)
                write_rows(table, place, out, weight, bias, at + row, stop, values, numbers, weights, biases, result)

    def kernel(table, x, out, weight, bias, eps, eps_on_std, ddof, center, count, mean, m2):
        spread = welford.spread_of(eps, eps_on_std != 0, ddof)
        run(table, x, out, weight, bias, spread, center, (count, mean, m2, 0), (count, mean, m2, 0))

    def moments(table, x, center, count, mean, m2, rest, part_count, part_mean, part_m2):
        run(table, x, 0, 0, 0, NO_SPREAD, center, (count, mean, m2, rest), (part_count, part_mean, part_m2, 0))

    return kernel if write_output else moments
