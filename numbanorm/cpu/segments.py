"""Plans for rows of different lengths, end to end: how a segment is walked, and how segments are shared out.

Each segment is walked as an array of its own, by the loops of the other families. Threads get equal shares of elements,
not of segments. A segment is cut into parts by its own length, which are merged in order, whether one thread adds them
up or several: the bits do not depend on the threads.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..arrays.forms import kind
from ..engine.interface import Kinds, Plan, Variant
from ..layout import Segments
from ..walk.families import SortedLoops, foldable, sort_loops
from ..walk.nest import UNIT, Loop, LoopNest, joined, stretched
from ..walk.slots import LOOP, LOOPS, LOW, OPERANDS, ROWS
from ..walk.table import write
from . import plan as whole
from .kernels import segment_table as entry
from .kernels.constants import BLOCK, ROW_BLOCK
from .kernels.segment_table import LEAST_ROWS
from .plan import Scratch, Step
from .tuning import TUNING as DENSE
from .tuning import Tuning as DenseTuning

LONG = 1 << 20  # rows of x that stand for those of any segment: no loop over them is taken for a short one
KEPT_PLANS = 64  # for one layout

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Tuning:
    """Thresholds of segments."""

    serial_work: int = 49152  # elements, up to which one thread is done before the others have woken up
    part_elements: int = 65536  # of a part of a long segment: a multiple of BLOCK
    unit_work: int = 48  # elements that take as long as what a segment costs beside its elements
    shares: int = 8  # of each thread's work, of which a segment on several threads is one or more


TUNING = Tuning()


class Walk(NamedTuple):
    """How one segment is walked: its loops, and which of them is that over rows of x."""

    loops: SortedLoops
    row: Loop  # a step along axis 0 as it is, whatever it was merged with
    at: int  # entry of the table of that loop
    steps: int  # of that loop, a row of x
    reverse: bool
    pixels: int  # rows side by side
    tile: int
    stream: bool

    @property
    def groups(self) -> int:
        """Groups of a segment."""
        return prod(loop.size for loop in (*self.loops.outer, self.loops.high, self.loops.low) if loop.kept)

    @property
    def columns(self) -> int:
        """Columns side by side, if they are: with several rows of x side by side, those of one of them."""
        return self.loops.high.size * self.loops.low.size

    @property
    def units(self) -> int:
        """What of a segment is walked one by one."""
        outer = prod(loop.size for loop in self.loops.outer)
        return outer if self.loops.family == "rows" else outer * -(-self.columns // self.tile)

    @property
    def size(self) -> int:
        """Elements of a group, or rows of columns, in each row of x."""
        loops = self.loops
        sizes = [loop.size for loop in (*loops.inner, loops.rows)]
        return prod(sizes) * (loops.low.size if loops.family == "rows" else 1) // LONG

    @property
    def elements(self) -> int:
        """Elements of a row of x."""
        loops = self.loops
        return prod(loop.size for loop in (*loops.outer, *loops.inner, loops.rows, loops.high, loops.low)) // LONG


Made = TypeVar("Made")


def plan(
    operation: str,
    layout: Segments,
    operands: Any,
    in_place: bool,
    given: Any,
    threads: int,
    tuning: DenseTuning | None,
) -> Plan:
    """Plan an operation, as `cpu.engine` does for other layouts; kept with the layout."""
    return planned(layout, _plan, operation, operands, in_place, given, threads, tuning or DENSE)


def planned(layout: Segments, make: Callable[..., Made], *how: Any) -> Made:
    """The plan make(layout, *how), kept with the layout."""
    key = make, how, TUNING
    known: Made | None = layout.memo.get(key)
    if known is None:
        known = make(layout, *how)
        if len(layout.memo) >= KEPT_PLANS:
            layout.memo.clear()
        layout.memo[key] = known
    return known


def _plan(
    layout: Segments, operation: str, operands: Any, in_place: bool, given: Any, threads: int, tuning: DenseTuning
) -> Plan:
    shape = operands[0][1]
    kinds = Kinds(*("none" if operand is None else kind(operand[0]) for operand in operands))
    if operation == "apply":
        kinds = kinds._replace(mean=kind(given[0]), m2=kind(given[1]))
    group_shape = layout.group_shape(shape)
    strides = [
        operand and stretched(name, shape, *operand[1:]) for name, operand in zip(OPERANDS, operands, strict=True)
    ]
    if 0 in shape:
        return Plan((), group_shape)
    itemsize = operands[1][0].itemsize if operands[1] else 0
    walk = find_walk(layout, shape, strides, itemsize, in_place, tuning)
    work = prod(shape) + (TUNING.unit_work + tuning.run_work) * walk.units * layout.number
    shared = Shares(layout, walk, 1 if work <= TUNING.serial_work else threads)
    family = f"segment_{walk.loops.family}"
    fold = foldable([*walk.loops.inner, walk.loops.rows])
    of_segment = write(walk.loops, 1, part_size(walk), walk.tile, walk.stream, fold, 0)

    def step(of: str, tasks: Any, serial: bool = False) -> Step:
        variant = Variant(of, family, _kinds(of, operation, kinds))
        return Step(variant, table_of(layout, walk, of_segment, *tasks), len(tasks[0]) - 1, serial)

    if operation == "apply":
        return Plan((step("apply", shared.of_rows(), shared.threads == 1),), group_shape)
    if operation not in ("moments", "normalize"):
        raise ValueError(f"operation {operation!r} is not offered; see engine.interface.Operation")
    steps = [step(operation, shared.of_units(), shared.threads == 1)]
    if not shared.long:
        return Plan(tuple(steps), group_shape)
    steps.append(step("merge", shared.of_merge(), serial=True))
    if operation == "normalize":
        steps.append(step("apply", shared.of_long_rows()))
    return Plan(tuple(steps), group_shape, Scratch(prod(group_shape), shared.partial_states))


def _kinds(operation: str, wanted: str, kinds: Kinds) -> Kinds:
    """Kinds of a step of a wanted operation; if that is moments, means are in two parts."""
    kinds = Kinds(kinds.x) if operation == "merge" else kinds
    return kinds._replace(rest="f8") if wanted == "moments" else kinds


# walking --------------------------------------------------------------------------------------------------------------


def find_walk(
    layout: Segments,
    shape: tuple[int, ...],
    strides: Any,
    itemsize: int,
    in_place: bool,
    tuning: DenseTuning,
) -> Walk:
    """Choose how to walk segments of a shape: by its strides, and by how long segments are on average."""
    nest, row, merged, reverse = loops_of(layout, shape, strides)
    loops = sort_loops(nest, tuning.limits)
    beside, _ = whole._side_by_pixels(loops, tuning)
    pixels = 1
    if beside.high.size > 1 and beside.high != loops.high:
        pixels = beside.high.size
        loops = loops._replace(high=loops.rows._replace(size=1))
    else:
        loops = beside
    at, steps = place_of(merged, loops), merged.size // LONG
    found = Walk(loops, row, at, steps, reverse, pixels, 1, False)
    mean = max(1, shape[0] // max(1, layout.number))
    run = loops.low.size if loops.low is not merged else mean * steps
    least = loops.low.size if loops.low is not merged else steps  # runs are that long, or some times as long
    stream = not in_place and tuning.past_cache(least, itemsize, prod(shape), 1)
    if loops.family == "columns":
        tile = whole._tile(loops.high, loops.low, tuning.tile)
        return found._replace(tile=tile, stream=stream)
    size = mean * found.size
    sample = loops._replace(low=loops.low._replace(size=run))
    tile = whole._side_by_side(size, sample, stream, itemsize, tuning)
    return found._replace(tile=tile, stream=stream)


def loops_of(layout: Segments, shape: tuple[int, ...], strides: Any) -> tuple[LoopNest, Loop, Loop, bool]:
    """The nest of one segment of LONG rows; a step along axis 0, the loop over it, and whether that goes backward."""
    grouping = layout.resolve_within(shape)
    base, loops, reverse = [0] * (len(OPERANDS) + 1), list[Loop](), False
    row = merged = UNIT
    for factor in grouping.factors:
        steps = [0 if s is None else s[factor.axis] * factor.stride for s in strides] + [factor.group_stride]
        backward = (steps[1] or steps[0]) < 0
        if factor.axis == 0:
            row, reverse = Loop(1, *steps), backward
            merged = Loop(LONG, *(-s if backward else s for s in steps))
            loops.append(merged)
        elif factor.size > 1:
            if backward:
                base = [b + s * (factor.size - 1) for b, s in zip(base, steps, strict=True)]
                steps = [-s for s in steps]
            loops.append(Loop(factor.size, *steps))
    loops.sort(key=lambda loop: (abs(loop.out), abs(loop.x)), reverse=True)
    done: list[Loop] = []
    for loop in loops:  # as `nest.build` does, but no loop outside of that over rows is merged with it
        if done and loop is not merged and done[-1].kept == loop.kept and joined(done[-1], loop):
            longer = Loop(done[-1].size * loop.size, *loop.strides)
            merged = longer if done[-1] is merged else merged
            done[-1] = longer
        else:
            done.append(loop)
    groups = prod(loop.size for loop in done if loop.kept)
    return LoopNest(tuple(done), tuple(base), groups), row, merged, reverse


def place_of(loop: Loop, loops: SortedLoops) -> int:
    """Entry of a loop in the table."""
    if loop is loops.low:
        return LOW
    if loop is loops.rows:
        return ROWS
    index = next(i for i, inner in enumerate(loops.inner) if inner is loop)
    return LOOPS + LOOP * (len(loops.outer) + index)


# sharing out ----------------------------------------------------------------------------------------------------------


class Shares:
    """The units of all segments, shared among threads.

    Parameters
    ----------
    layout : Segments
        Their offsets.
    walk : Walk
        How each is walked.
    threads : int
        How many may take a share.
    """

    def __init__(self, layout: Segments, walk: Walk, threads: int) -> None:
        self.walk, self.threads = walk, threads
        self._offsets = layout.offsets.data  # its items are ints, at half the cost of NumPy's
        self.number, self.units = layout.number, walk.units
        self._unit_work = TUNING.unit_work * walk.units
        self.total = self._work(self.number)
        self.target = -(-self.total // (threads * TUNING.shares))  # of a task, where there are several for each thread
        self.part_size = part_size(walk)
        self.long: list[int] = []
        if threads > 1 and layout.longest * walk.elements > self.target:
            lengths = np.diff(layout.offsets)
            many = np.flatnonzero(lengths * walk.elements > self.target).tolist()
            self.long = [s for s in many if self.parts(s) > 1]

    @property
    def partial_states(self) -> int:
        """States of the parts of all long segments."""
        return sum(self.parts(s) for s in self.long) * self.units * self.width

    @property
    def width(self) -> int:
        """States of a part: one, or one of each column."""
        return 1 if self.walk.loops.family == "rows" else self.walk.tile * self.walk.pixels

    def parts(self, segment: int) -> int:
        """In how many parts a segment is, as `segments.cut` says."""
        rows = self._length(segment) * self.walk.steps
        if self.walk.pixels > 1 and rows >= LEAST_ROWS * self.walk.pixels:
            rows //= self.walk.pixels
        size = rows * (self.walk.size // self.walk.steps)
        return -(-size // self.part_size) if size > self.part_size + self.part_size // 4 else 1

    def _length(self, segment: int) -> int:
        return int(self._offsets[segment + 1] - self._offsets[segment])

    def _work(self, segment: int) -> int:
        """What there is to do before a segment, in elements."""
        return int(self._offsets[segment]) * self.walk.elements + segment * self._unit_work

    def _at(self, work: int) -> tuple[int, float]:
        """The segment that so much work leads into, and how far."""
        segment = bisect_left(range(self.number), work + 1, key=lambda s: self._work(s + 1))
        if segment >= self.number:
            return self.number, 0.0
        before, behind = self._work(segment), self._work(segment + 1)
        return segment, max(0.0, (work - before) / (behind - before))

    def _cut(self, first: int, last: int, pieces: int) -> list[int]:
        """Cut the units of some segments into pieces of equal work."""
        begin, end = self._work(first), self._work(last)
        cuts = [first * self.units]
        for piece in range(1, pieces):
            segment, share = self._at(begin + (end - begin) * piece // pieces)
            cuts.append(min(max(cuts[-1], segment * self.units + round(share * self.units)), last * self.units))
        return [*cuts, last * self.units]

    def of_units(self) -> tuple[list[int], list[tuple[int, ...]]]:
        """Tasks for statistics, of a segment's units as a whole or of parts of one; and their bundles."""
        if not self.long:
            cuts = self._cut(0, self.number, self.threads)
            return list(range(self.threads + 1)), [(a, b, entry.WHOLE, 0, 0) for a, b in pairwise(cuts)]
        tasks, works = list[tuple[int, ...]](), list[int]()
        before, place = 0, 0
        for segment in (*self.long, self.number):
            work = self._work(segment) - self._work(before)
            if pieces := -(-work // self.target):
                cuts = self._cut(before, segment, pieces)
                tasks += [(a, b, entry.WHOLE, 0, 0) for a, b in pairwise(cuts)]
                works += [work // pieces] * pieces
            before = segment + 1
            if segment == self.number:
                break
            parts, work = self.parts(segment), self._length(segment) * self.walk.elements
            for unit in range(segment * self.units, before * self.units):
                pieces = min(parts, -(-work // self.units // self.target))
                for piece in range(pieces):
                    tasks.append((unit, unit + 1, piece * parts // pieces, (piece + 1) * parts // pieces, place))
                    works.append(work // self.units // pieces)
                place += parts * self.width
        return _bundles(works, self.threads), tasks

    def of_merge(self) -> tuple[list[int], list[tuple[int, ...]]]:
        """Tasks that merge the parts of the units of long segments."""
        tasks, place = list[tuple[int, ...]](), 0
        for segment in self.long:
            parts = self.parts(segment)
            for unit in range(segment * self.units, (segment + 1) * self.units):
                tasks.append((unit, unit + 1, 0, parts, place))
                place += parts * self.width
        return list(range(len(tasks) + 1)), tasks

    def of_rows(self) -> tuple[list[int], list[tuple[int, ...]]]:
        """Tasks that write the output of some rows of x, from given statistics."""
        ends = [self._at(self.total * share // self.threads) for share in range(self.threads + 1)]
        rows = [
            int(self._offsets[segment]) + (round(share * self._length(segment)) if share else 0)
            for segment, share in ends
        ]
        rows[-1] = int(self._offsets[self.number])
        tasks = list[tuple[int, ...]]()
        for ((first, _), (last, share)), (begin, end) in zip(pairwise(ends), pairwise(rows), strict=True):
            behind = min(self.number, last + (share > 0))
            tasks.append((first * self.units, behind * self.units, begin, end, 0))
        return list(range(self.threads + 1)), tasks

    def of_long_rows(self) -> tuple[list[int], list[tuple[int, ...]]]:
        """Tasks that write the output of long segments, from the statistics that were merged."""
        tasks, works = list[tuple[int, ...]](), list[int]()
        for segment in self.long:
            length, begin = self._length(segment), int(self._offsets[segment])
            pieces = min(length, -(-length * self.walk.elements // self.target))
            for piece in range(pieces):
                rows = begin + piece * length // pieces, begin + (piece + 1) * length // pieces
                tasks.append((segment * self.units, (segment + 1) * self.units, *rows, 0))
                works.append(rows[1] - rows[0])
        return _bundles(works, self.threads), tasks


def part_size(walk: Walk) -> int:
    """Elements of a part of a long group, or rows of one of many columns."""
    if walk.loops.family == "rows":
        return -(-TUNING.part_elements // BLOCK) * BLOCK
    return max(1, TUNING.part_elements // (walk.tile * walk.pixels) // ROW_BLOCK) * ROW_BLOCK


def _bundles(works: list[int], threads: int) -> list[int]:
    """Cut tasks into a bundle for each thread, of about equal work."""
    ends = np.cumsum([0, *works])
    return np.searchsorted(ends, ends[-1] * np.arange(threads + 1) / threads).tolist()


# tables ---------------------------------------------------------------------------------------------------------------


def table_of(
    layout: Segments, walk: Walk, of_segment: Integers, bundles: list[int], tasks: list[tuple[int, ...]]
) -> Integers:
    """The table of a step, with that of one segment in it: see `segment_table`."""
    loops = walk.loops
    head = np.zeros(entry.ENTRIES, np.int64)
    head[entry.OFFSETS] = layout.offsets.__array_interface__["data"][0]
    head[entry.BUNDLES] = entry.ENTRIES
    head[entry.TASKS] = entry.ENTRIES + len(bundles)
    head[entry.TABLE] = head[entry.TASKS] + entry.TASK * len(tasks)
    head[entry.TABLE_SIZE] = of_segment.size
    head[entry.UNITS], head[entry.GROUPS] = walk.units, walk.groups
    head[entry.ENTRY], head[entry.STEPS] = walk.at, walk.steps
    among = walk.at >= LOOPS
    head[entry.REPEATS_OF_ROW] = prod(loop.size for loop in loops.inner) // LONG if among else 0
    head[entry.SIZE_OF_ROW], head[entry.PART_SIZE] = walk.size, part_size(walk)
    head[entry.REVERSED] = walk.reverse
    head[entry.SHORT] = walk.at == LOW and walk.units == 1 and loops.rows == UNIT and not loops.inner
    head[entry.PIXELS], head[entry.TILE] = walk.pixels, walk.tile
    head[entry.ROW :] = walk.row
    flat = np.array(tasks, np.int64).ravel()
    return np.concatenate((head, np.array(bundles, np.int64), flat, of_segment))
