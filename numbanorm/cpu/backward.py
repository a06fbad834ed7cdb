"""Going backward on the host: how a nest is cut into tasks, and the launches that run it; see `kernels.backward`.

What is cut, and so the order of every sum, follows from shapes, strides and item sizes, never from the number of
threads. A task has whole groups where there are enough of them: then x and the gradient are read once, if a group fits
the cache. Otherwise one launch takes the sums of parts of groups, and another writes. Tasks whose weights are apart
share a slot of sums of weights; for the others, their sums are added up in the order of the slots.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from math import prod
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from ..arrays.forms import kind
from ..engine.interface import Frame, Kinds, Variant
from ..layout import Layout
from ..walk.families import Limits, SortedLoops, foldable, sort_loops
from ..walk.nest import UNIT, Loop, LoopNest, build, joined, stretched
from ..walk.table import write
from . import launcher
from .kernels import backward_columns, backward_rows
from .kernels.constants import LANES, SIDE
from .threads import get_num_threads
from .tuning import TUNING

LIMITS = TUNING.limits._replace(max_columns=backward_columns.MAX_TILE)
WANTED = 32  # tasks, to give every thread work
FEWEST = 8  # tasks of whole groups; where there are fewer, groups are cut into parts
SERIAL = TUNING.serial_work // 2  # elements, up to which one thread is done before the others have woken up
LOW_PART = 8192  # elements of a run whose weights are added up over all groups by one task, about
TASK = 32768  # elements of a task, at least
PART = 8192  # elements of a part of a group, at least: it is read twice
BESIDE_BYTES = 131072  # of x and of the gradient, of groups side by side that share weights
FEWER_BYTES = 1 << 20  # of x and of the gradient, of a tile whose rows have weights of their own
SLOT_SHARE = 8  # sums of weights take no more than this part of x's bytes ...
SLOT_BYTES = 65536  # ... or so many bytes
FAR_BYTES = 4 << 20  # of x, from where on rows of columns are read one by one
FAR_ROWS = 2048  # bytes from row to row, from where on a few meet in the same sets of the cache
PART_ROWS = 64  # rows of a part of columns, at least


class Plan(NamedTuple):
    """Launches over one frame: a kernel, its table, its boards with the tasks of each, and sizes of scratch."""

    address: int
    table: NDArray[np.int64]
    boards: tuple[NDArray[np.int64], ...]
    tasks: int
    serial: bool
    sums: int  # of parts of groups
    slots: int  # of weights
    weights: int  # of a slot


class Cut(NamedTuple):
    """How many pieces of a range there are, their size, and whether no two have a weight in common."""

    pieces: int
    size: int
    apart: bool


def backward(frame: Frame, layout: Layout, own: bool) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Write the gradient of x to `out`; give those of weight and bias, in float64 and the weight's memory order.

    Parameters
    ----------
    frame : Frame
        x, out, the weight, without gaps, and the gradient of the output in the place of the bias; count, mean and m2
        of the groups in float64; eps, center, ddof and eps_on_std.
    layout : Layout
        Which elements share statistics.
    own : bool
        Whether the statistics are those of x; else they are constants.
    """
    weight: Any = frame.weight
    plan = _plan_of(frame, layout, own)
    if plan is None:
        sums = np.zeros((2, 0 if weight is None else weight.size))
    else:
        numbers = frame.eps, frame.center, frame.ddof, frame.eps_on_std
        sums = _run(plan, frame.x, frame.out, weight, frame.bias, frame.count, frame.mean, frame.m2, *numbers)
    if weight is None:
        return None
    if weight.flags.c_contiguous:
        dweight, dbias = sums.reshape(2, *weight.shape)
        return dweight, dbias
    steps = tuple(8 * (step // weight.itemsize) for step in weight.strides)
    dweight, dbias = (np.ndarray(weight.shape, np.float64, one, strides=steps) for one in sums)
    return dweight, dbias


def bind(frame: Frame, layout: Layout, own: bool, serial: bool = False) -> Callable[..., NDArray[np.float64]] | None:
    """What repeats `backward` where weights have no gaps in C order; with `serial`, where one thread does it at once.

    It is run(x, out, weight, grad, count, mean, m2, eps), each an ndarray, or with its address where an ndarray has it,
    or None, and gives the sums for weight and bias, in float64: two rows.
    """
    weight: Any = frame.weight
    plan = _plan_of(frame, layout, own)
    if plan is None or (serial and not (plan.serial and len(plan.boards) == 1)):
        return None
    if weight is not None and not weight.flags.c_contiguous:
        return None
    return partial(_run, plan, center=frame.center, ddof=frame.ddof, on_std=frame.eps_on_std)


def _run(  # type: ignore[no-untyped-def]
    plan: Plan, x, out, weight, grad, count, mean, m2, eps, center, ddof, on_std
) -> NDArray[np.float64]:
    """Launch a plan: the sums for weight and bias."""
    slots, parts = np.zeros((2, plan.slots, plan.weights)), np.empty(plan.sums)
    first, second = slots
    for board in plan.boards:
        # fmt: off
        filled = (  # a frame by position, for speed
            x, out, weight, grad, count, mean, m2, None, parts, first, second, None, board,
            None, None, None, eps, center, 0.0, ddof, on_std,
        )
        # fmt: on
        if plan.serial:
            launcher.serial()(plan.address, 0, plan.tasks, plan.table, filled)
        else:
            launcher.launch(plan.address, plan.tasks, get_num_threads(), plan.table, filled)
    return slots[:, 0] if plan.slots == 1 else np.add.reduce(slots, axis=1)


def _plan_of(frame: Frame, layout: Layout, own: bool) -> Plan | None:
    """The plan of a call; None where there are no elements."""
    x, out, weight, grad = cast("tuple[Any, ...]", frame[:4])
    operands = (
        (x.dtype, x.shape, x.strides),
        (out.dtype, out.shape, out.strides),
        None if weight is None else (weight.dtype, weight.shape, weight.strides),
        (grad.dtype, grad.shape, grad.strides),
    )
    return _plan(layout, operands, frame.center, own)


@lru_cache(maxsize=1024)
def _plan(layout: Layout, operands: Any, center: int, own: bool) -> Plan | None:
    """Plan a call; None where there are no elements."""
    shape = operands[0][1]
    grouping = layout.resolve(shape)
    names = ("x", "out", "weight", "grad")
    strides = [operand and stretched(name, shape, *operand[1:]) for name, operand in zip(names, operands, strict=True)]
    if 0 in shape:
        return None
    nest = build(grouping, strides)
    kinds = Kinds(*("none" if operand is None else kind(operand[0]) for operand in operands))
    itemsize = operands[0][0].itemsize
    loops = sorted_loops(nest, LIMITS)
    weights = 0 if operands[2] is None else prod(operands[2][1])
    cut = cut_rows if loops.family == "rows" else cut_columns
    return cut(loops, nest, kinds, itemsize, weights, center, own)


def sorted_loops(nest: LoopNest, limits: Limits) -> SortedLoops:
    """Put loops in their places: for which the gradient, in the place of the bias, is no reason."""
    bare = {loop._replace(bias=0): loop for loop in nest.loops}
    found = sort_loops(nest._replace(loops=tuple(bare)), limits)

    def back(loops: tuple[Loop, ...]) -> Any:
        return tuple(bare.get(loop, loop) for loop in loops)

    outer, inner = back(found.outer), back(found.inner)
    rows, high, low = back((found.rows, found.high, found.low))
    return found._replace(outer=outer, inner=inner, rows=rows, high=high, low=low)


def _cut(size: int, pieces: int, apart: bool, unit: int = 1) -> Cut:
    """Cut a range into at most so many pieces of whole units."""
    share = -(-size // max(1, min(pieces, size)))
    share = -(-share // unit) * unit
    return Cut(-(-size // share), share, apart)


def _evenly(size: int, pieces: int, most: int) -> int:
    """How many of a range to take at a time, `most` at most, so that there are so many pieces of whole ones."""
    share = -(-size // max(1, min(pieces, size)))
    return -(-share // -(-share // most))


def _few_slots(pieces: int, weights: int, data: int) -> int:
    """Fewer pieces, if each has a slot of its own that would take too much."""
    return max(1, min(pieces, max(SLOT_BYTES, data // SLOT_SHARE) // (16 * max(1, weights))))


def cut_rows(
    loops: SortedLoops, nest: LoopNest, kinds: Kinds, itemsize: int, weights: int, center: int, own: bool
) -> Plan:
    """Cut the loops of the rows family into tasks."""
    outer, rows, low = loops.outer or (UNIT,), loops.rows, loops.low
    side, elements, runs = outer[-1], _size(nest.loops), _size(loops.inner) * rows.size
    above, size, weighted = _size(outer[:-1]), runs * low.size, low.weight != 0
    data, serial = elements * itemsize, elements <= SERIAL
    near = abs(side.x) < abs(rows.x) and rows.size > 1
    beside = _beside(size, side, low, near, weighted, itemsize)
    above_apart, side_apart = _apart(outer[:-1], weights), _apart((side,), weights)
    wanted = 1 if serial else min(WANTED, -(-elements // TASK))
    if side_apart and not (above_apart and above >= wanted):
        slices = _cut(side.size, wanted, True, beside if near else 1)
        if near and above * slices.pieces < min(FEWEST, wanted):  # fewer side by side, before groups are cut into parts
            beside = _evenly(side.size, min(FEWEST, wanted), beside)
            slices = _cut(side.size, wanted, True, beside)
        more = -(-wanted // slices.pieces)
        cuts = _cut(above, more if above_apart else _few_slots(more, weights, data), above_apart)
    elif above_apart and above >= wanted:
        cuts, slices = _cut(above, wanted, True), _cut(side.size, 1, side_apart)
    else:
        most = -(-side.size // beside)
        free = _few_slots(wanted, weights, data)
        slices = _cut(side.size, min(free, most), side_apart, beside)
        cuts = _cut(above, (wanted if above_apart else free) // slices.pieces, above_apart)
    all_runs, all_low = Cut(1, runs, True), Cut(1, low.size, True)
    runs_cut, low_cut = all_runs, all_low
    if not serial and cuts.pieces * slices.pieces < min(FEWEST, wanted):
        if weighted and low.size >= 2 * FEWEST * LANES:
            cuts, slices = _cut(above, 1, above_apart), _cut(side.size, 1, side_apart)
            low_cut = _cut(low.size, max(min(WANTED, elements // PART), low.size // LOW_PART), True, 4 * LANES)
        else:
            pieces = min(WANTED // (cuts.pieces * slices.pieces), elements // PART // (cuts.pieces * slices.pieces))
            apart = _apart((*loops.inner, rows), weights)
            runs_cut = _cut(runs, pieces if apart else _few_slots(pieces, weights, data), apart)
            pieces //= runs_cut.pieces
            low_cut = _cut(low.size, pieces if weighted else _few_slots(pieces, weights, data), weighted, 4 * LANES)
    stream = TUNING.gradient_past_cache(low.size, itemsize, elements)
    numbers = (above, side.size, runs, low.size)
    cutting = (cuts, slices, runs_cut, low_cut)
    fold = foldable([loop._replace(bias=0) for loop in (*loops.inner, rows)])
    parts = runs_cut.pieces * low_cut.pieces if own else 1  # else output is made of no sums
    fused = not own and fold and not weighted
    settings = (weights, beside, fold, True, stream, center, own, fused)
    table = write(loops._replace(outer=outer))
    needs = own or not weighted
    boards, tasks, slots = _boards(cutting, numbers, settings, parts, needs)
    sums = 2 * nest.groups * parts if len(boards) > 1 else 0
    address = launcher.address_of(Variant("rows", "backward", kinds))
    return Plan(address, table, boards, tasks, serial, sums, slots, weights)


def _beside(size: int, side: Loop, low: Loop, near: bool, weighted: bool, itemsize: int) -> int:
    """How many neighbouring groups of so many elements are walked side by side."""
    if near:
        most = TUNING.visit_bytes // max(1, itemsize * low.size)
    elif weighted:
        most = min(backward_rows.DOWN, max(8, BESIDE_BYTES // (2 * itemsize * size))) if side.weight == 0 else LANES
    else:
        most = LANES if size <= TUNING.limits.long_run * 8 else 1
    return max(1, min(SIDE, side.size, most))


def cut_columns(
    loops: SortedLoops, nest: LoopNest, kinds: Kinds, itemsize: int, weights: int, center: int, own: bool
) -> Plan:
    """Cut the loops of the columns family into tasks."""
    outer, rows, high, low = loops.outer, loops.rows, loops.high, loops.low
    elements, runs, above = _size(nest.loops), _size(loops.inner) * rows.size, _size(outer)
    columns, data, serial = high.size * low.size, elements * itemsize, elements <= SERIAL
    fold = foldable([loop._replace(bias=0) for loop in (*loops.inner, rows)])
    most = backward_columns.MAX_TILE
    if not fold:
        most = max(4 * LANES, min(most, FEWER_BYTES // (2 * itemsize * runs) // LANES * LANES))
    crosses = high.size > 1 and (low.kept or not high.kept)  # groups that reach across all columns
    unit = columns if crosses else low.size if high.size > 1 else LANES
    tiles = -(-columns // max(unit, most // unit * unit))
    slices = _cut(columns, tiles, _apart((high, low), weights), unit)
    wanted = 1 if serial else min(WANTED, -(-elements // TASK))
    apart = _apart(outer, weights)
    pieces = -(-wanted // slices.pieces)
    cuts = _cut(above, pieces if apart else _few_slots(pieces, weights, data), apart)
    runs_cut = Cut(1, runs, True)
    if not serial and cuts.pieces * slices.pieces < min(FEWEST, wanted):
        rows_apart = fold or _apart((*loops.inner, rows), weights)
        pieces = min(-(-WANTED // (cuts.pieces * slices.pieces)), runs // PART_ROWS, elements // PART)
        pieces = pieces if rows_apart else _few_slots(pieces, weights, data)
        runs_cut = _cut(runs, pieces, rows_apart, min(backward_columns.DOWN_ROWS, runs))
    one_run = high.size == 1 or (joined(high, low, operands=2) and high.bias == low.bias * low.size)
    one_run = one_run and (fold or high.size == 1 or high.weight == low.weight * low.size)
    run = low.size if high.size == 1 else columns
    stream = TUNING.gradient_past_cache(run, itemsize, elements)
    numbers = (above, columns, runs, 1)
    cutting = (cuts, slices, runs_cut, Cut(1, 1, True))
    together = backward_columns.STRIP if abs(rows.x) >= FAR_ROWS else backward_columns.DOWN_ROWS
    together = 1 if data > FAR_BYTES else together
    fused = not own and fold
    if fused:  # past the cache goes what is whole lines
        stream = stream and high.size == 1 and low.size % LANES == 0 and rows.out % (LANES * itemsize) == 0
    settings = (weights, together, fold, one_run, stream, center, own, fused)
    parts = runs_cut.pieces if own or weights else 1  # else there are no sums
    boards, tasks, slots = _boards(cutting, numbers, settings, parts, own or fold)
    sums = 2 * above * runs_cut.pieces * columns if len(boards) > 1 else 0
    address = launcher.address_of(Variant("columns", "backward", kinds))
    return Plan(address, write(loops), boards, tasks, serial, sums, slots, weights)


def _boards(
    cutting: tuple[Cut, ...], numbers: tuple[int, ...], settings: tuple[Any, ...], parts: int, sums: bool
) -> tuple[tuple[NDArray[np.int64], ...], int, int]:
    """The board of each launch, the tasks of each, and the slots of weights."""
    slots = 1
    steps: list[int] = []
    for cut in reversed(cutting):
        steps.insert(0, 0 if cut.apart else slots)
        slots *= 1 if cut.apart else cut.pieces
    fixed = [*(cut.pieces for cut in cutting), *(cut.size for cut in cutting), *steps, *numbers, *map(int, settings)]
    modes = [(1, 1)] if parts == 1 else [(1, 0), (0, 1)]
    if not sums:
        modes = [(0, 1)]
    boards = tuple(np.array([*fixed, *mode], np.int64) for mode in modes)
    return boards, prod(cut.pieces for cut in cutting), slots


def _apart(loops: tuple[Loop, ...], weights: int) -> bool:
    """Whether all these loops lead from weight to weight, or there are none."""
    return weights == 0 or all(loop.weight != 0 for loop in loops if loop.size > 1)


def _size(loops: tuple[Loop, ...]) -> int:
    return prod(loop.size for loop in loops)
