"""Kernels on states: the merge of what parts and columns left, and the move of running statistics."""

import numpy as np

from ...maths import accumulators, welford
from .machine import block_index, device, divide, load_int, one_loader, one_storer, thread_index
from .shapes import WARP, is_wide
from .states import merge_lanes
from .stored import KIND_CODES, load_number, store_number
from .walk import GROUP, HIGH, KINDS, LOW, OUT, PARTS, SIZE, TASKS, X, outer_place

_load, _store = one_loader("f8"), one_storer("f8")


@device
def _kept(table):
    """Of the columns: the entry of the kept loop, and the steps between kept and between reduced ones."""
    low = load_int(table, LOW + SIZE)
    if load_int(table, LOW + GROUP) != 0:
        return LOW, 1, low
    return HIGH, low, 1


def make_merge(of_x, block):
    """A kernel that merges states, a warp for each group: of all parts, and of all columns that are reduced.

    `counts` and so on are the states of (outer index, part, column). x stands by for the bases of the means, as in
    `rows` and `columns`.
    """
    wide = is_wide(of_x)
    first = one_loader(of_x)

    def kernel(table, x, counts, means, m2s, eps, center, count, mean, m2):
        task, tasks = block_index() * (block // WARP) + thread_index() // WARP, load_int(table, TASKS)
        active = task < tasks
        task = min(task, tasks - 1)
        entry, step, reduced_step = _kept(table)
        columns = load_int(table, LOW + SIZE) * load_int(table, HIGH + SIZE)
        size = load_int(table, entry + SIZE)
        outer = divide(task, size)
        kept = task - outer * size
        reduced = divide(columns, size)
        n, mu, q = 0.0, 0.0, 0.0
        parts = load_int(table, PARTS)
        for member in range(thread_index() % WARP, parts * reduced, WARP):
            part = divide(member, reduced)
            at = (outer * parts + part) * columns + kept * step + (member - part * reduced) * reduced_step
            at *= 8
            n, mu, q = accumulators.merge(n, mu, q, _load(counts + at), _load(means + at), _load(m2s + at))
        n, mu, q = merge_lanes(n, mu, q, WARP)
        place = outer_place(table, outer)
        if thread_index() % WARP == 0 and active:
            if wide and center != 0:
                mu += welford.finite_or_zero(first(x + place[0] + kept * load_int(table, entry + X)))
            at = 8 * (place[4] + kept * load_int(table, entry + GROUP))
            _store(count + at, n)
            _store(mean + at, mu)
            _store(m2 + at, q)

    return kernel


def make_move(block):
    """A kernel that moves running statistics, a thread for each: x and out are their mean and variance."""

    def kernel(table, running_mean, running_var, w, b, momentum, ddof, count, mean, m2):
        k, codes = block_index() * block + thread_index(), load_int(table, KINDS)
        if k < load_int(table, TASKS):
            of_mean, of_var = codes // KIND_CODES, codes % KIND_CODES
            at = running_mean + k * load_int(table, LOW + X)
            store_number(at, of_mean, welford.move(load_number(at, of_mean), _load(mean + 8 * k), momentum))
            at = running_var + k * load_int(table, LOW + OUT)
            new = _load(m2 + 8 * k) / (_load(count + 8 * k) - np.float64(ddof))
            store_number(at, of_var, welford.move(load_number(at, of_var), new, momentum))

    return kernel
