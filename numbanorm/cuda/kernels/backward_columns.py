"""Kernels that go backward where the innermost loop is kept: threads side by side, a vector of columns each, and the
rest of a block below. Each column has its own sums; where a set has several columns, they are added up afterwards.
"""

import numpy as np
from numba import cuda

from ...walk.slots import BIAS, HIGH, LOW, SIZE, WEIGHT
from .backward import OWN, load_f8, make_elements, make_line, make_terms, store_f8
from .columns import group_of, make_column_task, make_columns
from .machine import device, divide, folder, load_int, loader, storer, sync
from .states import make_count
from .walk import KINDS, MERGED, row_place


def make(code):
    """The kernel for a code: sums of columns, the gradient of x, or one after the other, as in `backward_rows`."""
    wide, vector, across, down = code.wide, code.vector, code.threads, code.block // code.threads
    rows, size, room_size = code.values // vector, code.values, max(1, down // 2) * across * 2 * vector
    sums, writes, whole = code.sums, code.output, code.whole
    inside, varying, by_operand = code.inside, code.varying, code.by_operand
    real, stride = np.float64 if wide else np.float32, down * rows
    zero = real(0.0)
    weights_size = size if inside else vector
    load, load_grad = loader(code.kinds.x, vector), make_elements(code.kinds.bias, code.bias, vector, wide)
    load_weight = make_elements("f4" if by_operand else code.kinds.weight, code.of_weight, vector, wide)
    store = storer(code.kinds.out if writes else "f8", vector)
    set_numbers, take, finish = make_terms(code)
    fold_rows, fold_vector, line = folder(rows), folder(vector), make_line(wide)
    column_place, task_of, count_rows = make_columns(code), make_column_task(code), make_count(down, rows)

    @device
    def set_of_group(v, done, table, mean, inverse, k, column, numbers):
        return set_numbers(v, done, mean, inverse, 8 * (k + group_of(table, column + v)[0]) - 8 * v, 8, numbers)

    @device
    def set_of_operand(v, done, table, mean, inverse, at, column, numbers):
        size = load_int(table, LOW + SIZE)
        high = divide(column + v, size)
        low = column + v - high * size
        at += high * load_int(table, HIGH + WEIGHT) + low * load_int(table, LOW + WEIGHT)
        return set_numbers(v, done, mean, inverse, at, 0, numbers)

    @device
    def load_row(i, valid, table, place, x, d, w, first, values, grads, weights):
        if i < valid:
            at = row_place(table, place, first + i * down)
            load(values, i * vector, x + at[0])
            load_grad(grads, i * vector, d + at[3], load_int(table, LOW + BIAS))
            if inside:
                load_weight(weights, i * vector, w + at[2], load_int(table, LOW + WEIGHT))
        return valid

    @device
    def clear(v, done, narrow):
        narrow[0][v], narrow[1][v] = zero, zero
        return done

    @device
    def take_one(v, done, there, at, values, grads, weights, numbers, narrow):
        of_weight = at if inside else 0
        narrow[0][v], narrow[1][v] = take(
            v, (narrow[0][v], narrow[1][v]), there, at, of_weight, values, grads, weights, numbers
        )
        return done

    @device
    def take_row(i, valid, table, begin, column, mean, inverse, first, values, grads, weights, numbers, narrow):
        there = i < valid
        if varying and there:
            at = row_place(table, begin, first + i * down)[2]
            fold_vector(set_of_operand, 0, (table, mean, inverse, at, column, numbers))
        fold_vector(take_one, 0, (there, i * vector, values, grads, weights, numbers, narrow))
        return valid

    @device
    def add(v, done, narrow, total):
        total[0][v] += np.float64(narrow[0][v])
        total[1][v] += np.float64(narrow[1][v])
        return done

    @device
    def begin_column(v, done, total):
        total[0][v], total[1][v] = 0.0, 0.0
        return done

    @device
    def give(v, done, at, total, room):
        room[at + 2 * v], room[at + 2 * v + 1] = total[0][v], total[1][v]
        return done

    @device
    def gather(v, done, at, total, room):
        total[0][v] += room[at + 2 * v]
        total[1][v] += room[at + 2 * v + 1]
        return done

    @device
    def get(v, done, at, total, room):
        total[0][v], total[1][v] = room[at + 2 * v], room[at + 2 * v + 1]
        return done

    @device
    def together(lane, row, total, room):
        """Sums of all rows of threads, in each of them if output is to follow: the upper half gives to the lower."""
        half = down // 2
        while half > 0:
            if half <= row < 2 * half:
                fold_vector(give, 0, (((row - half) * across + lane) * 2 * vector, total, room))
            sync()
            if row < half:
                fold_vector(gather, 0, ((row * across + lane) * 2 * vector, total, room))
            sync()
            half //= 2
        if writes:
            if row == 0:
                fold_vector(give, 0, (lane * 2 * vector, total, room))
            sync()
            fold_vector(get, 0, (lane * 2 * vector, total, room))

    @device
    def keep(v, done, table, a, b, k, column, partial, total):
        at = 8 * (partial + v if partial >= 0 else k + group_of(table, column + v)[0])
        store_f8(a + at, total[0][v])
        store_f8(b + at, total[1][v])
        return done

    @device
    def set_line(v, done, table, flags, flat, curve, a, b, k, column, total, weights, numbers, slopes, lines, shifts):
        at = 8 * (k + group_of(table, column + v)[0])
        slopes[v] = numbers[2][v] if inside else numbers[2][v] * weights[v]
        lines[v], shifts[v] = zero, zero
        if flags & OWN:
            if not sums:
                total[0][v], total[1][v] = load_f8(a + at), load_f8(b + at)
            of_group, factor = np.float64(weights[v]), np.float64(numbers[0][v])
            of_flat, of_curve = load_f8(flat + at), load_f8(curve + at)
            lines[v], shifts[v] = line(flags, of_flat, of_curve, total[0][v], total[1][v], of_group, factor)
        return done

    @device
    def write_one(v, done, at, values, grads, numbers, slopes, lines, shifts, result):
        result[v] = finish(values[at + v], grads[at + v], slopes[v], lines[v], shifts[v], numbers[0][v])
        return done

    @device
    def write_row(i, valid, table, place, out, first, values, grads, numbers, slopes, lines, shifts, result):
        if i < valid:
            fold_vector(write_one, 0, (i * vector, values, grads, numbers, slopes, lines, shifts, result))
            store(out + row_place(table, place, first + i * down)[1], result, 0)
        return valid

    @device
    def run(table, x, out, weight, grad, mean, inverse, flat, curve, a, b):
        room = cuda.shared.array(room_size, np.float64)
        values = cuda.local.array(size, real)
        grads = cuda.local.array(size, real)
        weights = cuda.local.array(weights_size, real)
        result = cuda.local.array(vector, real)
        factors = cuda.local.array(vector, real)
        highs = cuda.local.array(vector, real)
        scales = cuda.local.array(vector, real)
        offsets = cuda.local.array(vector, real)
        slopes = cuda.local.array(vector, real)
        lines = cuda.local.array(vector, real)
        shifts = cuda.local.array(vector, real)
        first_narrow = cuda.local.array(vector, real)
        second_narrow = cuda.local.array(vector, real)
        first_total = cuda.local.array(vector, np.float64)
        second_total = cuda.local.array(vector, np.float64)
        numbers, arrays = (factors, highs, scales, offsets), (values, grads, weights)
        narrow, total = (first_narrow, second_narrow), (first_total, second_total)
        lane, row, active, begin, column, own, start, stop = task_of(table)
        place, k, flags = column_place(table, begin, column), begin[4], load_int(table, KINDS)
        if not varying:
            if by_operand:
                fold_vector(set_of_operand, 0, (table, mean, inverse, begin[2], column, numbers))
            else:
                fold_vector(set_of_group, 0, (table, mean, inverse, k, column, numbers))
        if sums:
            fold_vector(begin_column, 0, (total,))
            for at in range(start, stop, stride):
                first = at + row
                valid = fold_rows(load_row, count_rows(first, stop), (table, place, x, grad, weight, first, *arrays))
                fold_vector(clear, 0, (narrow,))
                fold_rows(take_row, valid, (table, begin, column, mean, inverse, first, *arrays, numbers, narrow))
                fold_vector(add, 0, (narrow, total))
            together(lane, row, total, room)
            if a != 0 and row == 0 and active:
                partial = own if load_int(table, MERGED) != 0 else -1
                fold_vector(keep, 0, (table, a, b, k, column, partial, total))
        if writes:
            if not inside:
                load_weight(weights, 0, weight + place[2], load_int(table, LOW + WEIGHT))
            about = table, flags, flat, curve, a, b, k, column, total, weights, numbers, slopes, lines, shifts
            fold_vector(set_line, 0, about)
            for tile in range(divide(stop - start + stride - 1, stride) - 1, -1, -1):
                at = start + tile * stride
                first = at + row
                valid = count_rows(first, stop)
                if not sums or (not whole and at + stride < stop):
                    fold_rows(load_row, valid, (table, place, x, grad, weight, first, *arrays))
                    fold_rows(take_row, valid, (table, begin, column, mean, inverse, first, *arrays, numbers, narrow))
                of_output = out, first, values, grads, numbers, slopes, lines, shifts, result
                fold_rows(write_row, valid, (table, place, *of_output))

    def kernel(table, x, out, weight, grad, mean, inverse, flat, curve, a, b):
        run(table, x, out, weight, grad, mean, inverse, flat, curve, a, b)

    def totals(table, x, weight, grad, mean, inverse, a, b):
        run(table, x, 0, weight, grad, mean, inverse, 0, 0, a, b)

    return kernel if writes else totals
