"""Groups that are split by labels: how they are walked, in how many parts, and what the kernels of `labels` are handed.

Each part of the elements has a table of states of its own where there are many more elements than states, and the parts
are merged in order. Elsewhere there is one table, of which each thread owns a range of labels. Parts follow from shapes
and the number of labels, and an owner adds what it owns in the order of x: the bits do not depend on the threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays.forms import kind
from ..arrays.memory import Shape, reach
from ..engine.interface import Frame, Kinds, Variant
from ..layout import Grouping
from ..walk.nest import UNIT, Loop, joined, stretched
from ..walk.slots import LOOP, OPERANDS
from . import launcher
from .kernels import label_table as entry
from .kernels.constants import LANES, LINE
from .kernels.label_table import BLOCK_WORDS, SCAN, SEGMENT, SPARE
from .threads import get_num_threads
from .tuning import TUNING as TUNING_OF_OUTPUT

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Tuning:
    """Thresholds of labelled groups."""

    serial_work: int = 32768  # elements, up to which one thread is done before the others have woken up
    wanted_tasks: int = 32  # groups (or tiles of them) from which on they are not cut into parts
    part_elements: int = 16384  # no part is smaller
    state_elements: int = 250  # of a label in a part: its pivot moves after 1, 16 and 256 of them, 25 ns each time
    few_elements: int = 25  # that earn back a state of a part, which takes 32 bytes, where fewer parts ...
    few_parts: int = 8  # ... than these have as many
    least_parts: int = 4  # with fewer, ranges of labels are faster
    most_parts: int = 64
    tile: int = 512  # columns of a task
    short_run: int = 32  # runs from here on are walked one by one
    merge_states: int = 2048  # of a task
    near_bytes: int = 1 << 20  # of a table that stays in the second-level cache
    samples: int = 8192  # labels by which ranges are balanced


TUNING = Tuning()


class Loops(NamedTuple):
    """What is walked: groups one after the other, their elements, groups side by side. See `label_table`.

    In loops over elements, the step of the group's index is that of the labels, in bytes.
    """

    kept: tuple[Loop, ...]
    reduced: tuple[Loop, ...]
    run: Loop
    column: Loop
    base: tuple[int, ...]  # of x, out, weight, bias, the group's index, and the labels


class Schedule(NamedTuple):
    """How one call walks its loops."""

    loops: Loops
    labels: int
    parts: int
    part_size: int
    ranges: int  # of labels, each of another owner
    tile: int
    serial: bool
    numbers: int = 0  # in a state of chosen elements: see `kernels.label_chosen`

    @property
    def elements(self) -> int:
        """Elements of a group before it is split."""
        return self.loops.run.size * prod(loop.size for loop in self.loops.reduced)

    @property
    def outer(self) -> int:
        """Groups that are walked one after the other."""
        return prod(loop.size for loop in self.loops.kept)

    @property
    def groups(self) -> int:
        """All groups, before they are split."""
        return self.outer * self.loops.column.size

    @property
    def tiles(self) -> int:
        """Tiles of groups side by side."""
        return -(-self.loops.column.size // self.tile)

    @property
    def sets(self) -> int:
        """Tables of states."""
        return self.outer * self.parts

    @property
    def tasks(self) -> int:
        """Tasks of the pass over x."""
        return self.outer * self.parts * self.tiles * self.ranges

    @property
    def padded(self) -> int:
        """Columns of a row of states: whole vectors, if there are enough for lanes."""
        size = self.loops.column.size
        return size if size < LANES else -(-size // LANES) * LANES

    @property
    def row(self) -> int:
        """Numbers in a row of states: (n, p, s, q), or all p, all s, all q."""
        if self.numbers:
            return self.numbers * self.padded
        return 4 if self.loops.column.size == 1 else 3 * self.padded

    @property
    def head(self) -> int:
        """Numbers before those of a row; of chosen elements from one group's state to the next."""
        if self.numbers:
            return self.numbers if self.loops.column.size < LANES else 1
        return int(self.loops.column.size == 1)

    @property
    def apart(self) -> int:
        """Numbers from one of a state to its next."""
        return 1 if self.numbers and self.loops.column.size < LANES else self.padded

    @property
    def set_size(self) -> int:
        """Numbers in a table of states, with a row for negative labels, or spare states for what does not count."""
        if self.numbers:
            return self.row * self.labels + self.numbers * SPARE
        return self.row * (self.labels + 1)


@lru_cache(maxsize=1024)
def walk(grouping: Grouping, strides: tuple[Shape | None, ...], labels: Shape, tuning: Tuning) -> Loops:
    """Make loops for x, out, weight and bias of these byte strides, and labels of theirs along the axes of x."""
    base, kept, reduced = [0] * 6, list[Loop](), list[Loop]()
    within: dict[int, int] = {}  # how many labels a step along an axis leads on, from its last factor to its first
    for factor in reversed(grouping.factors):
        is_kept = factor.group_stride != 0
        along = 0
        if not is_kept:
            along = labels[factor.axis] * within.get(factor.axis, 1)
            within[factor.axis] = within.get(factor.axis, 1) * factor.size
        if factor.size == 1:
            continue
        steps = [0 if s is None else s[factor.axis] * factor.stride for s in strides]
        steps += [factor.group_stride, along]
        if steps[0] < 0:  # the order of memory is faster
            base = [b + step * (factor.size - 1) for b, step in zip(base, steps, strict=True)]
            steps = [-step for step in steps]
        x, out, weight, bias, group, label = steps
        loop = Loop(factor.size, x, out, weight, bias, group if is_kept else label)
        (kept if is_kept else reduced).append(loop)
    kept, reduced = _merged(kept), _merged(reduced)
    column = _take_column(kept, reduced, tuning)
    run = UNIT
    if reduced:
        run = reduced[-1]
        if run.size < tuning.short_run:
            run = max(reduced, key=lambda loop: loop.size)
        reduced.remove(run)
    return Loops(tuple(kept), tuple(reduced), run, column, tuple(base))


def _merged(loops: list[Loop]) -> list[Loop]:
    """Sort loops by the order of memory, and merge those that step through it as one."""
    done: list[Loop] = []
    for loop in sorted(loops, key=lambda loop: (abs(loop.out), abs(loop.x)), reverse=True):
        if done and joined(done[-1], loop):
            done[-1] = loop._replace(size=done[-1].size * loop.size)
        else:
            done.append(loop)
    return done


def _take_column(kept: list[Loop], reduced: list[Loop], tuning: Tuning) -> Loop:
    """Take the loop over groups side by side, if they are: next to each other, or many with few elements each."""
    if not kept:
        return UNIT
    beside, inner = kept[-1], reduced[-1] if reduced else UNIT
    if not reduced or abs(beside.x) < abs(inner.x):
        return kept.pop()
    if inner.size < tuning.short_run and beside.size >= LANES and inner.size < beside.size:
        return kept.pop()
    return UNIT


@lru_cache(maxsize=1024)
def choose(loops: Loops, labels: int, threads: int, tuning: Tuning, numbers: int = 0) -> Schedule:
    """Choose parts, by shapes and the number of labels; and ranges of labels, by the number of threads."""
    whole = Schedule(loops, labels, 1, 0, 1, min(tuning.tile, loops.column.size), True, numbers)
    elements, wide = whole.elements, loops.column.size
    whole = whole._replace(part_size=elements)
    if elements * whole.groups <= tuning.serial_work:
        return whole
    whole = whole._replace(serial=False)
    if whole.outer * whole.tiles < tuning.wanted_tasks:
        few = min(tuning.few_parts, elements // (tuning.few_elements * labels))
        parts = min(max(elements // (tuning.state_elements * labels), few, 1), tuning.most_parts)
        size = max(tuning.part_elements // wide, -(-elements // parts), 1)
        if elements // size >= tuning.least_parts:
            size = -(-size // SEGMENT) * SEGMENT
            whole = whole._replace(parts=-(-elements // size), part_size=size)
    if whole.tasks < threads:
        whole = whole._replace(ranges=max(1, min(-(-threads // whole.tasks), labels)))
    return whole


class Labelled:
    """A call on an array on the host: first its labels are looked at, then all else.

    Parameters
    ----------
    grouping : Grouping
        The layout of x.
    x : ndarray
        The array.
    labels : ndarray
        Integers in native byte order, with as many axes as x: along each as long as what is reduced of it.
    strides : tuple
        Those of weights and of a mask, broadcast to x, if `chosen` is to be asked; None for what is not there.
    """

    def __init__(
        self, grouping: Grouping, x: Any, labels: Any, strides: tuple[Shape | None, Shape | None] = (None, None)
    ) -> None:
        self.grouping, self.x, self.labels = grouping, x, labels
        self._threads, self.tuning = get_num_threads(), TUNING
        self.strays = True  # whether there may be labels that are negative or too high: `moments` finds out
        self.loops = Loops((), (), UNIT, UNIT, (0,) * 6)
        if x.size:
            self.loops = walk(grouping, (x.strides, None, *strides), labels.strides, self.tuning)

    @property
    def highest(self) -> int:
        """The highest label; -1 if all are negative."""
        looked_at = self._blocks[1::BLOCK_WORDS] if self.x.size else self.labels
        return max(-1, int(looked_at.max())) if looked_at.size else -1

    @cached_property
    def _blocks(self) -> Integers:
        """What `scan` finds in each block."""
        chosen = Schedule(self.loops, 0, 1, 0, 1, 1, True)
        blocks = np.empty(BLOCK_WORDS * -(-chosen.elements // SCAN), np.int64)
        serial, table = chosen.elements <= self.tuning.serial_work, self._table(chosen, blocks=blocks)
        self._run("scan", Kinds(), blocks.size // BLOCK_WORDS, serial, table, Frame())
        return blocks

    def moments(self, num_labels: int) -> tuple[Any, Any, Any, Any]:
        """Count, mean and m2 of each label and group, and the low part of the mean: what its rounding left behind.

        Nothing is added of labels that are negative or too high. Where nobody looked at the labels before, `strays`
        tells behind whether there may be any, for the caller to see if `highest` is below `num_labels`.
        """
        shape = num_labels, *self.grouping.group_shape
        if not num_labels or not self.x.size:
            return np.zeros(shape), np.full(shape, np.nan), np.zeros(shape), np.zeros(shape)
        chosen = choose(self.loops, num_labels, self._threads, self.tuning)
        count, mean, m2, rest = (np.empty(shape) for _ in range(4))
        states, cuts = _zeros(chosen.sets * chosen.set_size), self._cuts(chosen)
        beside = chosen.loops.column.size > 1
        blocks = self._blocks if chosen.ranges > 1 else None
        strays = np.zeros(chosen.tasks, np.int64)
        counts = np.zeros(chosen.sets * chosen.tiles * num_labels if beside else 0, np.int64)
        table = self._table(chosen, states=states, counts=counts, blocks=blocks, cuts=cuts, rest=rest, strays=strays)
        frame = Frame(self.x, count=count, mean=mean, m2=m2)
        kinds = Kinds(kind(self.x.dtype))
        self._run("columns" if beside else "sums", kinds, chosen.tasks, chosen.serial, table, frame)
        self.strays = chosen.ranges > 1 or bool(strays.any())
        self._merge(chosen, table, frame, Kinds(), "labels")
        return count, mean, m2, rest

    def chosen(
        self, num_labels: int, mask: Any, weights: Any, skips: bool, squares: bool
    ) -> tuple[Any, Any, Any, Any, Any]:
        """The same of what counts, as `cpu.chosen.moments` has it: with the sum of squared weights, or None.

        Parameters
        ----------
        num_labels : int
            How many labels there are.
        mask, weights : ndarray or None
            Which elements are chosen, and how much each counts; with the strides that were given.
        skips : bool
            Leave NaN out.
        squares : bool
            Make the sum of squared weights.
        """
        shape = num_labels, *self.grouping.group_shape
        of_squares = np.zeros(shape) if squares else None
        if not num_labels or not self.x.size:
            return np.zeros(shape), np.full(shape, np.nan), np.zeros(shape), np.zeros(shape), of_squares
        few = self.loops.column.size < LANES
        numbers = 4 if not squares else LINE if few else 5  # a state in two lines of the cache takes twice as long
        chosen = choose(self.loops, num_labels, self._threads, self.tuning, numbers)
        count, mean, m2, rest = (np.empty(shape) for _ in range(4))
        states, cuts = _zeros(chosen.sets * chosen.set_size), self._cuts(chosen)
        table = self._table(chosen, states=states, counts=of_squares, blocks=self._blocks, cuts=cuts)
        frame = Frame(self.x, None, weights, mask, count, mean, m2, rest)
        kinds = Kinds(*("none" if a is None else kind(a.dtype) for a in frame[:4]))
        operation = ("sums" if few else "columns") + "_skipna" * skips + "_squares" * squares
        self._run(operation, kinds, chosen.tasks, chosen.serial, table, frame, "label_chosen")
        self._merge(chosen, table, frame, Kinds(rest="f8"), "label_chosen")
        return count, mean, m2, rest, of_squares

    def _merge(self, chosen: Schedule, table: Integers, frame: Frame, kinds: Kinds, family: str) -> None:
        sets = chosen.parts * chosen.loops.column.size
        chunk, pairs = max(1, self.tuning.merge_states // sets), chosen.outer * chosen.labels
        table[entry.CHUNK] = chunk
        serial = pairs * sets <= self.tuning.merge_states
        self._run("merge", kinds, -(-pairs // chunk), serial, table, frame, family)

    def normalize(self, states: Sequence[Any], rest: Any, frame: Frame) -> None:
        """Write output by count, mean and m2 of each label and group, in float64 and C order.

        Parameters
        ----------
        states : sequence of ndarray
            Of the labels and groups.
        rest : ndarray or None
            The low parts of the means.
        frame : Frame
            x, output, weight and bias, and the numbers of a normalization.
        """
        tuning = self.tuning
        x: Any = frame.x
        out: Any = frame.out
        if not out.size:
            return
        operands: Any = zip(OPERANDS, frame[:4], strict=True)
        strides = tuple(a if a is None else stretched(name, x.shape, a.shape, a.strides) for name, a in operands)
        loops = walk(self.grouping, strides, self.labels.strides, tuning)
        number = states[0].shape[0]
        whole = Schedule(loops, number, 1, 0, 1, loops.column.size, True)
        size = min(whole.elements, -(-tuning.part_elements // loops.column.size // SEGMENT) * SEGMENT or SEGMENT)
        chosen = whole._replace(parts=-(-whole.elements // size), part_size=size)
        frame = frame._replace(count=states[0], mean=states[1], m2=states[2])
        made, serial = _zeros(4 * (number + 1) * chosen.groups), out.size <= tuning.serial_work
        table, chunk = self._table(chosen, rest=rest, coefficients=made), tuning.merge_states
        table[entry.CHUNK], table[entry.FAR] = chunk, made.nbytes > tuning.near_bytes
        # Lines that are written while their x is in the cache would have to leave it first.
        past = out.itemsize >= 4 and TUNING_OF_OUTPUT.past_cache(SEGMENT, out.itemsize, out.size, 1)
        table[entry.STREAM] = past and out is not x
        self._run("coefficients", Kinds(), -(-made.size // 4 // chunk), made.size <= 4 * chunk, table, frame)
        kinds = Kinds(*("none" if a is None else kind(a.dtype) for a in frame[:4]))
        self._run("apply", kinds, chosen.tasks, serial, table, frame)

    def _cuts(self, chosen: Schedule) -> Integers:
        """Bounds of ranges with equally many elements each, as far as a sample of the labels tells."""
        cuts = np.array([0, *[chosen.labels] * chosen.ranges], np.int64)
        if chosen.ranges > 1:
            at = np.linspace(0, self.labels.size - 1, min(self.labels.size, self.tuning.samples)).astype(np.int64)
            sample = np.sort(self.labels[np.unravel_index(at, self.labels.shape)])
            sample = sample[slice(*np.searchsorted(sample, (0, chosen.labels)))]  # no range reaches beyond the states
            if sample.size:
                cuts[1:-1] = sample[sample.size * np.arange(1, chosen.ranges) // chosen.ranges]
        return cuts

    def _table(self, chosen: Schedule, **arrays: Any) -> Integers:
        """The table of a schedule, with the labels and these arrays."""
        code = self.labels.itemsize * (-1 if self.labels.dtype.kind == "u" else 1)
        direct = code == 8 == chosen.loops.run.group and bool(self.labels.flags.aligned)
        end = reach(self.x.shape, self.x.strides, self.x.itemsize)[1]
        table = _written(chosen, code, direct, end, self.tuning.near_bytes).copy()
        for name, array in (("labels", self.labels), *arrays.items()):
            if array is not None:
                table[_ADDRESSES[name]] = array.__array_interface__["data"][0]
        return table

    def _run(
        self,
        operation: str,
        kinds: Kinds,
        tasks: int,
        serial: bool,
        table: Integers,
        frame: Frame,
        family: str = "labels",
    ) -> None:
        address = launcher.address_of(Variant(operation, family, kinds))
        launcher.launch(address, tasks, 1 if serial else self._threads, table, frame)


_ADDRESSES = {
    "labels": entry.LABELS,
    "states": entry.STATES,
    "counts": entry.COUNTS,
    "blocks": entry.BLOCKS,
    "cuts": entry.CUTS,
    "rest": entry.REST,
    "coefficients": entry.COEFFICIENTS,
    "strays": entry.STRAYS,
}


@lru_cache(maxsize=1024)
def _written(chosen: Schedule, code: int, direct: bool, end: int, near_bytes: int) -> Integers:
    """The table of a schedule, but for addresses: a copy of it is filled in for each call."""
    loops = chosen.loops
    words = {
        entry.CODE: code,
        entry.DIRECT: direct,
        entry.NUM_LABELS: chosen.labels,
        entry.GROUPS: chosen.groups,
        entry.ELEMENTS: chosen.elements,
        entry.PARTS: chosen.parts,
        entry.PART_SIZE: chosen.part_size,
        entry.RANGES: chosen.ranges,
        entry.SET: chosen.set_size,
        entry.ROW: chosen.row,
        entry.HEAD: chosen.head,
        entry.PADDED: chosen.apart,
        entry.TILE: chosen.tile,
        entry.TILES: chosen.tiles,
        entry.PAIRS: chosen.outer * chosen.labels,
        entry.FAR: chosen.set_size * 8 > near_bytes,
        entry.END: end,
        entry.KEPT: len(loops.kept),
        entry.REDUCED: len(loops.reduced),
    }
    free = [number for loop in (*loops.kept, *loops.reduced) for number in loop]
    table = np.zeros(entry.LOOPS + len(free), np.int64)
    for at, word in words.items():
        table[at] = word
    table[entry.BASE : entry.BASE + len(loops.base)] = loops.base
    table[entry.RUN : entry.RUN + LOOP] = loops.run
    table[entry.COLUMN : entry.COLUMN + LOOP] = loops.column
    table[entry.LOOPS :] = free
    return table


def _zeros(numbers: int) -> NDArray[np.float64]:
    """So many zeros, from the beginning of a line of the cache on: a state in two lines takes twice as long."""
    memory = np.zeros(numbers + LINE)
    begin = -memory.ctypes.data % (8 * LINE) // 8
    return memory[begin : begin + numbers]
