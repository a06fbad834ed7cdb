"""Kernels for what is left: a formula at each point of small arrays, and a matrix times a vector."""

import numpy as np
from numba import cuda

from .constants import ITEMSIZES, MOST, OUTPUTS
from .machine import applier, block_index, device, divide, folder, load_int, one_storer, thread_index
from .scalars import load_number
from .states import ROOM, make_sum_team

_store = one_storer("f8")

# Entries of a formula's table: points, axes, the sizes of the axes; then, for each array, its kind and its steps (see
# `scalars`; the kind of a number is -1). Of a matrix: columns, steps of rows, of columns and of the vector, both kinds.
POINTS, AXES, SIZES = range(3)
COLUMNS, ROW_STEP, COLUMN_STEP, VECTOR_STEP, MATRIX_KIND, VECTOR_KIND = range(6)


def make_formula(code):
    """A kernel that writes formula(*arguments) at every point, a thread for each, to arrays without gaps.

    Its own arguments are addresses of the results, and of those arguments that are arrays; and those that are numbers.
    """
    formula, block = code.function, code.block
    fold_arrays, fold_outputs, apply = folder(code.arrays), folder(code.outputs), applier(code.arrays)
    store_one, size = one_storer(code.kinds.out), ITEMSIZES[code.kinds.out]

    @device
    def load(i, done, values, table, addresses, numbers, point):
        axes = load_int(table, AXES)
        at = SIZES + axes + i * (axes + 1)
        kind = load_int(table, at)
        values[i] = numbers[i]
        if kind >= 0:
            address, rest = addresses[i], point
            for axis in range(axes - 1, -1, -1):
                size = load_int(table, SIZES + axis)
                above = divide(rest, size)
                address += (rest - above * size) * load_int(table, at + 1 + axis)
                rest = above
            values[i] = load_number(address, kind)
        return done

    @device
    def store(i, done, values, addresses, point):
        store_one(addresses[i] + size * point, values[i])
        return done

    # fmt: off
    def kernel(
        table, y0, y1, y2, y3, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9,
        n0, n1, n2, n3, n4, n5, n6, n7, n8, n9,
    ):
        values, results = cuda.local.array(MOST, np.float64), cuda.local.array(OUTPUTS, np.float64)
        addresses, numbers = (a0, a1, a2, a3, a4, a5, a6, a7, a8, a9), (n0, n1, n2, n3, n4, n5, n6, n7, n8, n9)
        point, points = block_index() * block + thread_index(), load_int(table, POINTS)
        if point < points:
            fold_arrays(load, 0, (values, table, addresses, numbers, point))
            apply(formula, values, results)
            fold_outputs(store, 0, (results, (y0, y1, y2, y3), point))
    # fmt: on

    return kernel


def make_matvec(code):
    """A kernel that writes a matrix times a vector: a block for each row."""
    block = code.block
    sum_team, _ = make_sum_team(block)

    def kernel(table, matrix, vector, result):
        room = cuda.shared.array(ROOM, np.float64)
        total, row = 0.0, block_index()
        of_matrix, of_vector = load_int(table, MATRIX_KIND), load_int(table, VECTOR_KIND)
        step, vector_step = load_int(table, COLUMN_STEP), load_int(table, VECTOR_STEP)
        matrix += row * load_int(table, ROW_STEP)
        for column in range(thread_index(), load_int(table, COLUMNS), block):
            a, b = load_number(matrix + column * step, of_matrix), load_number(vector + column * vector_step, of_vector)
            total += a * b
        total = sum_team(total, room, 0)
        if thread_index() == 0:
            _store(result + 8 * row, total)

    return kernel
