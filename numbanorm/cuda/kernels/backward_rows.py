"""Kernels that go backward where the innermost loop is reduced: a team of threads for each group, cell or weight."""

import numpy as np
from numba import cuda

from ...walk.slots import BIAS, LOW, WEIGHT
from .backward import OWN, load_f8, make_elements, make_line, make_terms, store_f8
from .machine import device, divide, folder, load_int, loader, storer
from .rows import make_place, make_row_task
from .states import ROOM, make_count, make_sum_team
from .walk import KINDS, MERGED


def make(code):
    """The kernel for a code.

    It takes the sums of a group and writes the gradient of x, from registers or reading both again, last things first;
    or does one of the two.
    """
    wide, vector, threads = code.wide, code.vector, code.threads
    units, size = code.values // vector, code.values
    sums, writes, whole = code.sums, code.output, code.whole
    inside, varying, by_operand = code.inside, code.varying, code.by_operand
    real, stride = np.float64 if wide else np.float32, threads * units
    zero = real(0.0)
    weights_size = size if inside else vector
    load, load_grad = loader(code.kinds.x, vector), make_elements(code.kinds.bias, code.bias, vector, wide)
    load_weight = make_elements("f4" if by_operand else code.kinds.weight, code.of_weight, vector, wide)
    store = storer(code.kinds.out if writes else "f8", vector)
    set_numbers, take, finish = make_terms(code)
    fold_units, fold_vector, line = folder(units), folder(vector), make_line(wide)
    unit_place, task_of, (_, sum_both) = make_place(code), make_row_task(code), make_sum_team(threads)
    count_units = make_count(threads, units)

    @device
    def load_unit(i, valid, table, place, x, d, w, first, values, grads, weights):
        if i < valid:
            at = unit_place(table, place, first + i * threads)
            load(values, i * vector, x + at[0])
            load_grad(grads, i * vector, d + at[3], load_int(table, LOW + BIAS))
            if inside:
                load_weight(weights, i * vector, w + at[2], load_int(table, LOW + WEIGHT))
        return valid

    @device
    def take_unit(i, total, table, place, mean, inverse, first, valid, values, grads, weights, numbers):
        there = i < valid
        if varying and there:
            at = unit_place(table, place, first + i * threads)[2]
            fold_vector(set_numbers, 0, (mean, inverse, at, load_int(table, LOW + WEIGHT), numbers))
        of_weight = i * vector if inside else 0
        arrays = values, grads, weights, numbers
        s, q = fold_vector(take, (zero, zero), (there, i * vector, of_weight, *arrays))
        return total[0] + np.float64(s), total[1] + np.float64(q)

    @device
    def write_one(e, done, at, values, grads, scale, weights, c, shift, factor, result):
        slope = scale if inside else scale * weights[e]
        result[e] = finish(values[at + e], grads[at + e], slope, c, shift, factor)
        return done

    @device
    def write_unit(i, valid, table, place, out, first, values, grads, scale, weights, c, shift, factor, result):
        if i < valid:
            fold_vector(write_one, 0, (i * vector, values, grads, scale, weights, c, shift, factor, result))
            store(out + unit_place(table, place, first + i * threads)[1], result, 0)
        return valid

    @device
    def run(table, x, out, weight, grad, mean, inverse, flat, curve, a, b):
        room = cuda.shared.array(ROOM, np.float64)
        values = cuda.local.array(size, real)
        grads = cuda.local.array(size, real)
        weights = cuda.local.array(weights_size, real)
        result = cuda.local.array(vector, real)
        factors = cuda.local.array(vector, real)
        highs = cuda.local.array(vector, real)
        scales = cuda.local.array(vector, real)
        offsets = cuda.local.array(vector, real)
        numbers, arrays = (factors, highs, scales, offsets), (values, grads, weights)
        lane, task, active, _, place, start, stop = task_of(table)
        k, flags, s, q = place[4], load_int(table, KINDS), 0.0, 0.0
        if not varying:
            fold_vector(set_numbers, 0, (mean, inverse, place[2] if by_operand else 8 * k, 0, numbers))
        if sums:
            for begin in range(start, stop, stride):
                first = begin + lane
                valid = fold_units(load_unit, count_units(first, stop), (table, place, x, grad, weight, first, *arrays))
                s, q = fold_units(take_unit, (s, q), (table, place, mean, inverse, first, valid, *arrays, numbers))
            s, q = sum_both(s, q, room, 0)
            if a != 0 and lane == 0 and active:
                at = 8 * (task if load_int(table, MERGED) != 0 else k)
                store_f8(a + at, s)
                store_f8(b + at, q)
        elif flags & OWN:
            s, q = load_f8(a + 8 * k), load_f8(b + 8 * k)
        if writes:
            c, shift = zero, zero
            if not inside:
                load_weight(weights, 0, weight + place[2], 0)
            if flags & OWN:
                of_group, factor = np.float64(weights[0]), np.float64(factors[0])
                c, shift = line(flags, load_f8(flat + 8 * k), load_f8(curve + 8 * k), s, q, of_group, factor)
            tiles = divide(stop - start + stride - 1, stride)
            for tile in range(tiles - 1, -1, -1):
                first = start + tile * stride + lane
                valid = count_units(first, stop)
                if not sums or (not whole and tile < tiles - 1):
                    fold_units(load_unit, valid, (table, place, x, grad, weight, first, *arrays))
                    fold_units(take_unit, (0.0, 0.0), (table, place, mean, inverse, first, valid, *arrays, numbers))
                numbers_out = values, grads, scales[0], weights, c, shift, factors[0], result
                fold_units(write_unit, valid, (table, place, out, first, *numbers_out))

    def kernel(table, x, out, weight, grad, mean, inverse, flat, curve, a, b):
        run(table, x, out, weight, grad, mean, inverse, flat, curve, a, b)

    def totals(table, x, weight, grad, mean, inverse, a, b):
        run(table, x, 0, weight, grad, mean, inverse, 0, 0, a, b)

    return kernel if writes else totals
