"""Kernels on states: the merge of what parts and columns left; running statistics, and the counter of their batches."""

import numpy as np

from ...maths import accumulators, welford
from ...walk.slots import GROUP, HIGH, LOW, SIZE, X
from .constants import WARP, is_wide
from .machine import block_index, device, divide, load_int, one_loader, store_int, thread_index
from .scalars import KIND_CODES, load_number, store_number
from .states import keep_state, merge_lanes
from .walk import KINDS, MEAN_STEP, PARTS, TASKS, VAR_STEP, outer_place

_load = one_loader("f8")


@device
def kept_columns(table):
    """Of the columns: the entry of the kept loop, and the steps between kept and between reduced ones."""
    low = load_int(table, LOW + SIZE)
    if load_int(table, LOW + GROUP) != 0:
        return LOW, 1, low
    return HIGH, low, 1


def make_merge(code):
    """A kernel that merges states, a warp for each group: of all parts, and of all columns that are reduced.

    The partial states are those of (outer index, part, column). In x are the bases of their means, as in `rows` and
    `columns`. Without x, means are whole and in two parts: their base is that of a group's first part with values.
    """
    given = code.kinds.x == "none"
    based, groups_of_block = not given and is_wide(code.kinds.x), code.block // WARP
    first = one_loader("f8" if given else code.kinds.x)

    def kernel(table, x, part_count, part_mean, part_m2, part_rest, center, count, mean, m2, rest):
        task, tasks = block_index() * groups_of_block + thread_index() // WARP, load_int(table, TASKS)
        active = task < tasks
        task = min(task, tasks - 1)
        entry, step, reduced_step = kept_columns(table)
        columns = load_int(table, LOW + SIZE) * load_int(table, HIGH + SIZE)
        size = load_int(table, entry + SIZE)
        outer = divide(task, size)
        kept = task - outer * size
        reduced = divide(columns, size)
        n, mu, q, base = 0.0, 0.0, 0.0, 0.0
        parts = load_int(table, PARTS)
        if given and parts > 0:
            at, last = 8 * task * parts, 8 * (task * parts + parts - 1)
            while at < last and _load(part_count + at) == 0.0:
                at += 8
            base = welford.base_or_zero(_load(part_mean + at))
        for member in range(thread_index() % WARP, parts * reduced, WARP):
            part = divide(member, reduced)
            at = (outer * parts + part) * columns + kept * step + (member - part * reduced) * reduced_step
            at *= 8
            nb, mean_b, m2_b = _load(part_count + at), _load(part_mean + at), _load(part_m2 + at)
            if given:
                mean_b = (mean_b - base) + _load(part_rest + at)
            n, mu, q = accumulators.merge(n, mu, q, nb, mean_b, m2_b)
        n, mu, q = merge_lanes(n, mu, q, WARP)
        place = outer_place(table, outer)
        if thread_index() % WARP == 0 and active:
            low = 0.0
            if based and center != 0:
                base = welford.base_or_zero(first(x + place[0] + kept * load_int(table, entry + X)))
            if given or (based and center != 0):
                mu, low = accumulators.two_sum(base, mu)
            keep_state((count, mean, m2, rest), place[4] + kept * load_int(table, entry + GROUP), n, mu, q, low)

    return kernel


def make_update_running(code):
    """A kernel that moves running statistics towards those of a batch, a thread for each."""
    block = code.block

    def kernel(table, running_mean, running_var, num_batches_tracked, momentum, ddof, count, mean, m2):
        k, codes = block_index() * block + thread_index(), load_int(table, KINDS)
        if k < load_int(table, TASKS):
            if momentum < 0.0:
                momentum = 1.0 / np.float64(load_int(num_batches_tracked, 0))
            of_mean, of_var = codes // KIND_CODES, codes % KIND_CODES
            at = running_mean + k * load_int(table, MEAN_STEP)
            store_number(at, of_mean, welford.move(load_number(at, of_mean), _load(mean + 8 * k), momentum))
            at = running_var + k * load_int(table, VAR_STEP)
            new = _load(m2 + 8 * k) / (_load(count + 8 * k) - np.float64(ddof))
            store_number(at, of_var, welford.move(load_number(at, of_var), new, momentum))

    return kernel


def make_count_batch(code):
    """A kernel that counts one more batch."""

    def kernel(table, num_batches_tracked):
        if block_index() == 0 and thread_index() == 0:
            store_int(num_batches_tracked, 0, load_int(num_batches_tracked, 0) + 1)

    return kernel
