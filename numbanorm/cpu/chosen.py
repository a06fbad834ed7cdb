"""Statistics of chosen and weighted elements: how they are walked, in how many parts, by which of the kernels.

Nests and tables are those of all statistics, with the weights in the place of a norm's weight, and the mask in that of
its bias: see `kernels.chosen`. Parts follow from shapes and strides, and are merged in order, so the bits do not depend
on the threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import gcd, prod
from typing import Any, NamedTuple

import numpy as np

from ..arrays.forms import kind
from ..engine.interface import Frame, Kinds, Variant
from ..layout import Grouping, Segments
from ..walk.families import Limits, SortedLoops, sort_loops
from ..walk.nest import UNIT, LoopNest, build, joined
from ..walk.table import write
from . import launcher, segments
from .kernels.chosen import MAX_TILE
from .kernels.constants import BLOCK, LANES, ROW_BLOCK
from .plan import Step
from .threads import get_num_threads
from .tuning import TUNING as DENSE


@dataclass(frozen=True, eq=False)  # hashed as an object, since it is part of the key of each plan
class Tuning:
    """Thresholds of statistics of what is chosen."""

    serial_work: int = 32768  # elements, up to which one thread is done before the others have woken up
    wanted_tasks: int = 32  # groups (or tiles of them) from which on they are not cut into parts
    part_elements: int = 16384  # no part is smaller
    short_run: int = 16  # reduced runs up to here are walked side by side, one group in a lane, if there are as many
    few_columns: int = 6  # fewer columns than this are walked one by one ...
    least_rows: int = 2 * LANES  # ... if each has so many values that lie behind one another
    tile: int = MAX_TILE  # columns of a task
    wide: int = MAX_TILE // 2  # columns that rows side by side make together ...
    wide_rows: int = 8  # ... if there are so many of these rows
    neighbours_run: int = 96  # elements of runs that are columns if they lie behind those of the groups beside ...
    neighbours_rows: int = 32  # ... and each group has so many of them


TUNING = Tuning()


class Plan(NamedTuple):
    """Steps over one frame: of statistics, and of their merge where groups are cut into parts."""

    steps: tuple[Step, ...]
    partial: int  # states of all parts; 0 if there are none
    groups: int


def moments(
    grouping: Grouping | Segments,
    x: Any,
    strides: tuple[Any, Any],
    mask: Any,
    weights: Any,
    skips: bool,
    squares: bool,
) -> tuple[Any, Any, Any, Any, Any]:
    """Count (or sum of weights), mean, m2 and the mean's rest of each group; the sum of squared weights, or None.

    Parameters
    ----------
    grouping : Grouping or Segments
        The layout of x; of segments as it is.
    x : ndarray
        The array, not empty.
    strides : tuple
        Those of the mask and of the weights, broadcast to x; None for what is not there.
    mask, weights : ndarray or None
        Where x is chosen, and how much it counts.
    skips : bool
        Leave NaN out.
    squares : bool
        Make the sum of squared weights.
    """
    kinds = Kinds(kind(x.dtype), weight=_kind(weights), bias=_kind(mask), **_IN_TWO)
    given, threads = (x.strides, None, strides[1], strides[0]), get_num_threads()
    if isinstance(grouping, Segments):
        how = kinds, x.shape, given, skips, squares, threads, TUNING
        plan = segments.planned(grouping, _plan_of_segments, *how)
        shape = grouping.group_shape(x.shape)
    else:
        plan, shape = _plan(grouping, kinds, given, skips, squares, TUNING), grouping.group_shape
    twice, parts = 1 + squares, plan.partial
    count, (mean, m2, rest) = np.empty(plan.groups * twice), (np.empty(plan.groups) for _ in range(3))
    frame = Frame(x, None, weights, mask, count, mean, m2, rest)
    if parts:
        frame = frame._replace(part_count=np.empty(parts * twice), part_mean=np.empty(parts))
        frame = frame._replace(part_m2=np.empty(parts), part_rest=np.empty(parts))
    for step in plan.steps:
        address = launcher.address_of(step.variant)
        launcher.launch(address, step.tasks, 1 if step.serial else threads, step.table, frame)
    of_squares = count[plan.groups :].reshape(shape) if squares else None
    states = (state.reshape(shape) for state in (count[: plan.groups], mean, m2, rest))
    return *states, of_squares  # type: ignore[return-value]


_IN_TWO = {"rest": "f8", "part_rest": "f8"}


def _kind(array: Any) -> str:
    return "none" if array is None else kind(array.dtype)


def _operation(family: str, skips: bool, squares: bool) -> str:
    """The kernel that is needed."""
    return family + "_skipna" * skips + "_squares" * squares


@lru_cache(maxsize=1024)
def _plan(grouping: Grouping, kinds: Kinds, strides: Any, skips: bool, squares: bool, tuning: Tuning) -> Plan:
    nest = build(grouping, strides)
    loops, together = _together(_beside(_sorted(nest, tuning), tuning), tuning)
    elements = prod(loop.size for loop in nest.loops)
    outer = prod(loop.size for loop in loops.outer)
    size = prod(loop.size for loop in loops.inner) * loops.rows.size
    serial = elements <= tuning.serial_work
    columns, tile = _tiles(loops, tuning)
    wide = columns // loops.high.size
    unit = ROW_BLOCK
    if loops.family == "rows":
        size, unit = size * loops.low.size, BLOCK
    tasks = outer * -(-columns // tile)
    parts = 1
    if not serial and tasks < tuning.wanted_tasks:
        parts = max(1, min(-(-tuning.wanted_tasks // tasks), elements // tasks // tuning.part_elements))
    part_size = -(-size // parts)
    if parts > 1:
        part_size = -(-part_size // unit) * unit
        parts = -(-size // part_size)
    partial = outer * parts * wide
    table = write(loops, parts, part_size, tile, columns, partial, nest.groups, squares, together)
    variant = Variant(_operation(loops.family, skips, squares), "chosen", kinds)
    steps = [Step(variant, table, tasks * parts, serial)]
    if parts == 1:
        return Plan(tuple(steps), 0, nest.groups)
    steps.append(Step(Variant("merge", "chosen", Kinds(**_IN_TWO)), table, outer, serial=True))
    return Plan(tuple(steps), partial, nest.groups)


def _tiles(loops: SortedLoops, tuning: Tuning) -> tuple[int, int]:
    """Columns, and how many of them are a task: tiles of about equal size, of whole vectors or whole groups."""
    if loops.family == "rows":
        return 1, 1
    columns, unit = loops.low.size, loops.high.size if loops.high.size > 1 else LANES
    units = -(-columns // unit)
    tiles = -(-units // max(1, tuning.tile // unit))
    return columns, min(columns, -(-units // tiles) * unit)


def _plan_of_segments(
    layout: Segments,
    kinds: Kinds,
    shape: tuple[int, ...],
    strides: Any,
    skips: bool,
    squares: bool,
    threads: int,
    tuning: Tuning,
) -> Plan:
    """Plan statistics of segments, which are shared out as by `segments`."""
    nest, row, merged, reverse = segments.loops_of(layout, shape, strides)
    loops, together = _together(_sorted(nest, tuning), tuning)
    columns, tile = _tiles(loops, tuning)
    at, steps = segments.place_of(merged, loops), merged.size // segments.LONG
    walk = segments.Walk(loops, row, at, steps, reverse, 1, tile, False)
    limits, groups = segments.TUNING, prod(layout.group_shape(shape))
    work = prod(shape) + (limits.unit_work + DENSE.run_work) * walk.units * layout.number
    shared = segments.Shares(layout, walk, 1 if work <= limits.serial_work else threads)
    partial = shared.partial_states
    settings = write(loops, 1, segments.part_size(walk), tile, columns, partial, groups, squares, together)

    def step(operation: str, tasks: Any, serial: bool, kinds: Kinds) -> Step:
        variant = Variant(operation, "segment_chosen", kinds)
        return Step(variant, segments.table_of(layout, walk, settings, *tasks), len(tasks[0]) - 1, serial)

    of_all = step(_operation(loops.family, skips, squares), shared.of_units(), shared.threads == 1, kinds)
    if not shared.long:
        return Plan((of_all,), 0, groups)
    return Plan((of_all, step("merge", shared.of_merge(), True, Kinds(**_IN_TWO))), partial, groups)


def _sorted(nest: LoopNest, tuning: Tuning) -> SortedLoops:
    """Each loop in its place, without `high`, since a mask may step in another way there."""
    return sort_loops(nest, Limits(LANES, long_run=0, tiny_run=tuning.short_run, many_rows=0, max_columns=0))


def _beside(loops: SortedLoops, tuning: Tuning) -> SortedLoops:
    """Many short runs of a group, each behind one of the group beside it, as columns, of which `high.size` are a group.

    So memory is read in its order, and no run begins or ends. Channels of small images are such groups.
    """
    side, low = loops.outer[-1] if loops.outer else UNIT, loops.low
    short = loops.family == "rows" and 1 < low.size <= min(tuning.neighbours_run, tuning.tile)
    if not short or loops.rows.size < tuning.neighbours_rows or not joined(side, low, operands=4):
        return loops
    columns = low._replace(size=side.size * low.size, group=side.group)
    return loops._replace(family="columns", outer=loops.outer[:-1], high=UNIT._replace(size=low.size), low=columns)


def _together(loops: SortedLoops, tuning: Tuning) -> tuple[SortedLoops, int]:
    """How many rows of columns are one.

    Few columns leave lanes empty. If rows lie behind one another, in all operands, as many as fill a strip of memory
    are one; else each column is a run, with gaps.
    """
    rows, low = loops.rows, loops.low
    if loops.family == "rows" or low.size == 1:
        return loops, 1
    unit = LANES // gcd(low.size, LANES)
    together = min(tuning.wide // low.size, rows.size // tuning.wide_rows) // unit * unit
    if together > 1 and low.size <= tuning.tile and joined(rows, low, operands=4):
        return loops, together
    if loops.high == UNIT and low.size < tuning.few_columns and rows.size >= tuning.least_rows:
        inner = loops.inner or (UNIT,)
        outer = (*loops.outer, low)
        return loops._replace(family="rows", outer=outer, inner=inner[:-1], rows=inner[-1], low=rows), 1
    return loops, 1
