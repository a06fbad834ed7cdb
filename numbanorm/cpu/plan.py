"""Schedule: LoopNest -> which kernel family walks it, in how many parts, and how its output is written.

Everything here follows from shapes, strides and item sizes alone, never from the number of threads: the order of
every sum is fixed by it, and with it every bit of the result.
"""

import math
import os
from functools import lru_cache
from math import prod
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..walk.nest import UNIT, Loop, LoopNest, joined

LANES = 16  # of a kernel's vectors: one 64-byte line of float32; two AVX-512 or four AVX registers of float64
LONG_RUN = 256  # reduced runs from here on are walked one by one, shorter ones beside their neighbours if they can be
TINY_RUN = 8  # reduced runs up to here leave most lanes empty: many groups are walked side by side instead
MANY_ROWS = 8  # rows over which walking side by side earns back the merge of the columns
TILE = 2048  # columns that one task walks at most, where nothing asks for more: 512 is 10 to 20% slower
LEAST_TILES = 8  # tasks, where columns are cut into tiles at all: with 2 to 4, threads wait for each other ...
LEAST_TILE = 768  # ... but no tile is narrower for it
MAX_COLUMNS = 4096  # columns of a task: its statistics lie on the stack, 64 bytes each
BLOCK = 2048  # elements whose sums share a pivot; 16 KB of float64, read twice from the first-level cache
ROW_BLOCK = 64  # the same for columns: rows whose sums share a pivot
STRIP_ROWS = 8  # rows of a block that are read side by side where the block is larger than the next number
NEAR_BYTES = 32768  # of the first-level cache
WANTED_TASKS = 32  # fewer groups than this are split into parts, to give every thread work; 64 cost more merges
PART_ELEMENTS = 16384  # no part is smaller: its merge must not show
MERGE_COLUMNS = 256  # whose parts are merged by one task
CHUNKS = 2  # into which the output of each thread is cut, for the others to help if it is late
LINE, PHASES = 8, 3  # of a board (see `kernels.cpu.team`): numbers in a line of the cache, and phases
PART_ROWS = 16  # times the square of their number: rows of columns with so many parts; 32 parts took 1.2 to 1.5 longer
OUTPUT_ELEMENTS = 16384  # of a task that writes output from given statistics: four times that left threads idle
OUTPUT_RUN = 16  # runs from here on are written one by one from given statistics: 1.2 to 1.6, shorter ones as columns
OUTPUT_COLUMNS = 512  # up to which short rows that lie behind one another are written as one: 10 to 50% for 24 to 64
BATCH_ELEMENTS = 32768  # of neighbouring groups that are walked side by side: they stay in the second-level cache
PEEL = 2048  # elements of a run from which output reaches a line of the cache first: 7% slower for rows of 768
PEEL_COLUMNS = 512  # the same for columns: up to 20% faster
SERIAL_WORK = 49152  # elements, up to which one thread is done before the others have woken up
SERIAL_OUTPUT = 65536  # the same for output from given statistics
RUN_WORK = 16  # elements that take as long as what a run costs beside its elements, or as one that is gathered


def _cache_bytes() -> int:
    """Size of the last-level cache, 32 MB where the system does not tell."""
    try:
        return os.sysconf("SC_LEVEL3_CACHE_SIZE") or 32 << 20
    except (AttributeError, ValueError, OSError):
        return 32 << 20


# Larger outputs are written past the cache: they would leave it before anyone reads them.
STREAM_BYTES = _cache_bytes()


class Schedule(NamedTuple):
    """How one LoopNest is walked.

    ``rows`` reduces the run (`high` is unused, `low` is the run). ``columns`` keeps it: high x low columns side by
    side; where one of the two loops is reduced, its columns are merged at the end.
    """

    family: Literal["rows", "columns"]
    outer: tuple[Loop, ...]  # kept
    inner: tuple[Loop, ...]  # reduced
    rows: Loop  # reduced
    high: Loop
    low: Loop
    parts: int  # in which a group is reduced, each merged after the one before
    part_size: int  # elements (rows family) or rows (columns family) of a part
    tile: int  # columns of a task; or groups that are walked side by side
    stream: bool
    fold: bool  # weight and bias are one number for each group or column
    serial: bool
    tasks: int  # of a pass over whole groups
    base: tuple[int, ...]

    @property
    def partial_states(self) -> int:
        """How many states the parts of all groups have: one for each part and group, or part and column."""
        if self.family == "rows":
            return self.tasks * self.parts
        return prod(loop.size for loop in self.outer) * self.parts * self.high.size * self.low.size

    @property
    def table(self) -> NDArray[np.int64]:
        """The schedule as the kernels read it: see `kernels.cpu.walk`."""
        head = [len(self.outer), len(self.inner), prod(loop.size for loop in self.inner)]
        head += [self.parts, self.part_size, self.tile, self.stream, self.fold, *self.base]
        loops = (self.rows, self.high, self.low, *self.outer, *self.inner)
        return np.array(head + [number for loop in loops for number in loop], np.int64)


class Split(NamedTuple):
    """How threads share a schedule with parts in one launch: see `kernels.cpu.team`."""

    table: NDArray[np.int64]  # of the parts, of their merge and of the output, one behind the other
    board: NDArray[np.float64]  # int64 that lie before the counts, and room for these
    before: int  # how many numbers that board has
    groups: int
    states: int  # of groups and parts


def choose(nest: LoopNest, itemsize: int, in_place: bool = False) -> Schedule:
    """Choose how to walk a nest whose output has elements of `itemsize` bytes (0: statistics only)."""
    family, outer, inner, rows, high, low = sort_loops(nest)
    repeats = prod(loop.size for loop in inner)
    elements = prod(loop.size for loop in nest.loops)
    serial = _work(family, low, nest) <= SERIAL_WORK

    if family == "rows":
        tasks, unit = nest.groups, BLOCK
        size = repeats * rows.size * low.size
        tile = _side_by_side(size, outer, rows, low)
    else:
        beside = prod(loop.size for loop in outer)
        tile = _tile(high, low, TILE)
        if tile < high.size * low.size and beside < LEAST_TILES:
            tile = min(tile, _tile(high, low, max(LEAST_TILE, high.size * low.size * beside // LEAST_TILES)))
        tasks = beside * -(-high.size * low.size // tile)
        unit, size = 1, repeats * rows.size
    parts, part_size = 1, size
    if not serial and tasks < WANTED_TASKS:
        parts = min(-(-WANTED_TASKS // tasks), max(1, elements // tasks // PART_ELEMENTS))
        if family == "columns":
            parts = min(parts, _parts_of(size))
        parts, part_size = _pieces(size, parts, unit)
    if family == "rows" and parts > 1:
        tile = 1
    stream = elements * itemsize > STREAM_BYTES and not in_place
    fold = _foldable([*inner, rows])
    return Schedule(
        family, outer, inner, rows, high, low, parts, part_size, tile, stream, fold, serial, tasks, nest.base
    )


def for_stored(chosen: Schedule, nest: LoopNest) -> Schedule:
    """How to write output from given statistics: any order will do, and in that of memory it is fastest."""
    low = chosen.low
    folded = chosen.fold and low.weight == low.bias == 0  # or the families would round differently
    if chosen.family == "columns" and not low.kept and low.size >= OUTPUT_RUN and folded:
        chosen = chosen._replace(family="rows", high=UNIT)
    serial = _work(chosen.family, low, nest) <= SERIAL_OUTPUT
    return for_output(chosen, nest)._replace(serial=serial)


def for_output(chosen: Schedule, nest: LoopNest) -> Schedule:
    """How to write output once the statistics are known: by the same family, in the order of memory."""
    if chosen.family == "rows":
        outer = nest.loops[:-1]
        parts, part_size = _pieces(chosen.low.size, -(-chosen.low.size // OUTPUT_ELEMENTS), BLOCK)
        tasks = prod(loop.size for loop in outer) * parts
        return chosen._replace(outer=outer, inner=(), rows=UNIT, parts=parts, part_size=part_size, tasks=tasks)
    chosen = _widened(chosen)
    size = prod(loop.size for loop in chosen.inner) * chosen.rows.size
    parts, part_size = _pieces(size, -(-size * chosen.tile // OUTPUT_ELEMENTS), 1)
    return chosen._replace(parts=parts, part_size=part_size, tasks=chosen.tasks * parts)


def _work(family: str, low: Loop, nest: LoopNest) -> int:
    """What there is to do, in elements of long runs."""
    elements = prod(loop.size for loop in nest.loops)
    if family == "rows":
        return elements + RUN_WORK * (elements // low.size)
    return elements if not nest.loops or low == nest.loops[-1] else RUN_WORK * elements


def _widened(chosen: Schedule) -> Schedule:
    """Take several short rows that lie behind one another as one."""
    rows, low = chosen.rows, chosen.low
    beside = chosen.high.size == 1 and low.size <= chosen.tile and chosen.fold and joined(rows, low, operands=2)
    most = min(rows.size, OUTPUT_COLUMNS // low.size)
    together = next((n for n in range(most, 1, -1) if rows.size % n == 0), 1)
    if not beside or together == 1:
        return chosen
    rest = Loop(rows.size // together, rows.x * together, rows.out * together, 0, 0, 0)
    return chosen._replace(rows=rest, high=rows._replace(size=together), tile=together * low.size)


def _parts_of(rows: int) -> int:
    """Most parts of so many rows: none smaller than a block, and not so many that their merge takes too long.

    Sums take as long as there are rows in a part, the merge as there are parts: the root of the rows balances the two.
    A power of two gives the threads equal shares.
    """
    if rows < 2 * ROW_BLOCK:
        return 1
    return min(rows // ROW_BLOCK, 1 << round(math.log2(rows / PART_ROWS) / 2))


def _pieces(size: int, parts: int, unit: int) -> tuple[int, int]:
    """Cut `size` into at most so many parts of whole units: (parts, their size)."""
    part_size = -(-size // max(1, parts))
    part_size = max(unit, -(-part_size // unit) * unit)
    return max(1, -(-size // part_size)), part_size


def is_split(chosen: Schedule, threads: int) -> bool:
    """Whether to take statistics and output in two passes, for want of groups to share among the threads.

    Both ways make the same sums in the same order.
    """
    if chosen.parts == 1 or chosen.serial or threads == 1:
        return False
    rounds = -(-chosen.tasks // threads)
    return chosen.tasks < 0.8 * rounds * threads


def split(chosen: Schedule, output: Schedule, workers: int) -> Split:
    """Share a schedule with parts among so many workers."""
    merge = chosen
    if chosen.family == "columns":
        tile = _tile(chosen.high, chosen.low, MERGE_COLUMNS)
        outer = prod(loop.size for loop in chosen.outer)
        merge = chosen._replace(tile=tile, tasks=outer * -(-chosen.high.size * chosen.low.size // tile))
    first, second = chosen.table, merge.table
    groups = prod(loop.size for loop in (*chosen.outer, chosen.high, chosen.low) if loop.kept)
    tasks = chosen.tasks * chosen.parts, merge.tasks, min(output.tasks, CHUNKS * workers)
    before, states = LINE * (1 + PHASES + PHASES * workers), groups + chosen.partial_states
    board = np.zeros(before + states, np.int64)
    board[:LINE] = workers, groups, first.size, first.size + second.size, *tasks, output.tasks
    return Split(np.concatenate((first, second, output.table)), board.view(np.float64), before, groups, states)


@lru_cache(maxsize=256)
def merging(groups: int, parts: int, x: int = 0, out: int = 0) -> tuple[Schedule, NDArray[np.int64]]:
    """Schedule and table for work on the states of so many groups, which lie side by side.

    Each is merged of `parts` states, or belongs to an element of two arrays with steps `x` and `out`.
    """
    outer = (Loop(groups, x, out, 0, 0, 1),)
    made = Schedule("rows", outer, (), UNIT, UNIT, UNIT, parts, 1, 1, False, False, True, groups, (0,) * 5)
    return made, made.table


def sort_loops(
    nest: LoopNest,
) -> tuple[Literal["rows", "columns"], tuple[Loop, ...], tuple[Loop, ...], Loop, Loop, Loop]:
    """The family, and each loop in its place: as in `Schedule`, outer, inner, rows, high and low."""
    family, high, low, rest = _pick_lanes(list(nest.loops))
    outer = tuple(loop for loop in rest if loop.kept)
    *inner, rows = [loop for loop in rest if not loop.kept] or [UNIT]
    return family, outer, tuple(inner), rows, high, low


def _pick_lanes(loops: list[Loop]) -> tuple[Literal["rows", "columns"], Loop, Loop, list[Loop]]:
    """Pick the loops that become lanes: (family, high, low, the rest)."""
    if not loops:
        return "columns", UNIT, UNIT, []
    *rest, low = loops
    others = prod(loop.size for loop in rest if not loop.kept)
    above = rest[-1] if rest else UNIT
    beside = bool(rest) and above.kept != low.kept and joined(above, low, operands=2) and _foldable(rest[:-1])
    if low.kept:
        # Few channels last, split into interleaved groups: take the reduced factor along, for full lanes.
        if beside and low.size < LANES and above.size * low.size <= MAX_COLUMNS and others // above.size >= MANY_ROWS:
            return "columns", above, low, rest[:-1]
        return "columns", UNIT, low, rest
    if beside and low.size < LONG_RUN and others >= max(MANY_ROWS, low.size) and low.size <= MAX_COLUMNS:
        return "columns", above, low, rest[:-1]
    if low.size <= TINY_RUN:
        kept = [loop for loop in rest if loop.kept and loop.size >= LANES]
        if kept:
            rest.remove(kept[-1])
            return "columns", UNIT, kept[-1], [*rest, low]
    return "rows", UNIT, low, rest


def _side_by_side(size: int, outer: tuple[Loop, ...], rows: Loop, low: Loop) -> int:
    """How many neighbouring groups of so many elements the rows family walks at once."""
    nearer = bool(outer) and low.size < LONG_RUN and abs(outer[-1].x) < abs(rows.x)
    if not outer or not (size <= BLOCK or nearer):
        return 1
    return max(1, min(LANES, BATCH_ELEMENTS // size))


def _foldable(loops: list[Loop]) -> bool:
    """Whether weight and bias stay the same along the reduced loops, so that each column has one of them."""
    return all(loop.kept or loop.weight == loop.bias == 0 for loop in loops)


def _tile(high: Loop, low: Loop, most: int) -> int:
    """Columns of a task: all where groups reach across, else equal shares, of whole lanes or of whole groups."""
    columns = high.size * low.size
    if low.kept and high.size > 1:
        return columns
    unit = low.size if high.kept and not low.kept else LANES
    units = -(-columns // unit)
    tiles = -(-units // max(1, most // unit))
    return min(columns, -(-units // tiles) * unit)
