"""Schedule: LoopNest -> which kernel family walks it, in how many parts, and how its output is written.

Everything here follows from shapes, strides and item sizes alone, never from the number of threads: the order of
every sum is fixed by it, and with it every bit of the result.
"""

import os
from functools import lru_cache
from math import prod
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .nest import UNIT, Loop, LoopNest, joined

LANES = 16  # of a kernel's vectors: one 64-byte line of float32; two AVX-512 or four AVX registers of float64
LONG_RUN = 256  # reduced runs from here on are walked one by one, shorter ones beside their neighbours if they can be
TINY_RUN = 8  # reduced runs up to here leave most lanes empty: many groups are walked side by side instead
MANY_ROWS = 8  # rows over which walking side by side earns back the merge of the columns
TILE = 2048  # columns that one task walks at most, where nothing asks for more: 512 is 10 to 20% slower
MAX_COLUMNS = 4096  # columns of a task: its statistics lie on the stack, 64 bytes each
BLOCK = 2048  # elements whose sums share a pivot; 16 KB of float64, read twice from the first-level cache
ROW_BLOCK = 64  # the same for columns: rows whose sums share a pivot
STRIP_ROWS = 8  # rows of a block that are read side by side where the block is larger than the next number
NEAR_BYTES = 32768  # of the first-level cache
WANTED_TASKS = 32  # fewer groups than this are split into parts, to give every thread work; 64 cost more merges
PART_ELEMENTS = 16384  # no part is smaller: its merge must not show
OUTPUT_ELEMENTS = 16384  # of a task that writes output from given statistics: four times that left threads idle
OUTPUT_COLUMNS = 512  # up to which short rows that lie behind one another are written as one: 10 to 50% for 24 to 64
BATCH_ELEMENTS = 32768  # of neighbouring groups that are walked side by side: they stay in the second-level cache
PEEL = 2048  # elements of a run from which output reaches a line of the cache first: 7% slower for rows of 768
PEEL_COLUMNS = 512  # the same for columns: up to 20% faster
SERIAL_ELEMENTS = 32768  # below, one thread is done before the others have woken up


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


def choose(nest: LoopNest, itemsize: int, in_place: bool = False) -> Schedule:
    """Choose how to walk a nest whose output has elements of `itemsize` bytes (0: statistics only)."""
    family, high, low, rest = _family(list(nest.loops))
    outer = tuple(loop for loop in rest if loop.kept)
    reduced = [loop for loop in rest if not loop.kept]
    rows = reduced.pop() if reduced else UNIT
    repeats = prod(loop.size for loop in reduced)
    columns = high.size * low.size
    elements = prod(loop.size for loop in nest.loops)
    serial = elements <= SERIAL_ELEMENTS

    if family == "rows":
        tasks, unit = nest.groups, BLOCK
        size = repeats * rows.size * low.size
        tile = _side_by_side(size, outer, rows, low)
    else:
        tile = _tile(high, low)
        tasks = prod(loop.size for loop in outer) * -(-columns // tile)
        unit, size = ROW_BLOCK, repeats * rows.size
    parts, part_size = 1, size
    if not serial and tasks < WANTED_TASKS:
        parts = min(-(-WANTED_TASKS // tasks), max(1, elements // tasks // PART_ELEMENTS))
        parts, part_size = _pieces(size, parts, unit)
    if family == "rows" and parts > 1:
        tile = 1
    stream = elements * itemsize > STREAM_BYTES and not in_place
    inner, fold = tuple(reduced), _foldable(rest)
    return Schedule(
        family, outer, inner, rows, high, low, parts, part_size, tile, stream, fold, serial, tasks, nest.base
    )


def for_output(chosen: Schedule, nest: LoopNest) -> Schedule:
    """The same nest, walked in the order of memory: where statistics are given, any order will do."""
    if chosen.family == "rows":
        outer = nest.loops[:-1]
        parts, part_size = _pieces(chosen.low.size, -(-chosen.low.size // OUTPUT_ELEMENTS), BLOCK)
        tasks = prod(loop.size for loop in outer) * parts
        return chosen._replace(outer=outer, inner=(), rows=UNIT, parts=parts, part_size=part_size, tasks=tasks)
    chosen = _widened(chosen)
    size = prod(loop.size for loop in chosen.inner) * chosen.rows.size
    parts, part_size = _pieces(size, -(-size * chosen.tile // OUTPUT_ELEMENTS), 1)
    return chosen._replace(parts=parts, part_size=part_size, tasks=chosen.tasks * parts)


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


@lru_cache(maxsize=256)
def merging(groups: int, parts: int, x: int = 0, out: int = 0) -> tuple[Schedule, NDArray[np.int64]]:
    """Schedule and table for work on the states of so many groups, which lie side by side.

    Each is merged of `parts` states, or belongs to an element of two arrays with steps `x` and `out`.
    """
    outer = (Loop(groups, x, out, 0, 0, 1),)
    made = Schedule("rows", outer, (), UNIT, UNIT, UNIT, parts, 1, 1, False, False, True, groups, (0,) * 5)
    return made, made.table


def _family(loops: list[Loop]) -> tuple[Literal["rows", "columns"], Loop, Loop, list[Loop]]:
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


def _tile(high: Loop, low: Loop) -> int:
    """Columns of a task: all of them where groups reach across, else some whole multiple of the inner loop."""
    columns = high.size * low.size
    if high.kept and not low.kept:
        return min(columns, max(1, TILE // low.size) * low.size)
    if low.kept and high.size > 1:
        return columns
    return min(columns, TILE)
