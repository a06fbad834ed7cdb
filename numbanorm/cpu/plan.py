"""Schedules and steps: LoopNest -> which kernels walk it, in how many parts, and how output is written.

A schedule follows from shapes, strides, item sizes and the tuning alone, never from the number of threads: the order of
every sum is fixed by it, and with it every bit of the result.
"""

import math
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..engine.interface import Kinds, Variant
from ..walk.families import SortedLoops, foldable, sort_loops
from ..walk.nest import UNIT, Loop, LoopNest, joined
from ..walk.table import write
from .kernels.constants import BLOCK, LANES, LINE, PHASES, ROW_BLOCK, SHARED, SIDE
from .tuning import TUNING, Tuning


class Step(NamedTuple):
    """A kernel over so many tasks."""

    variant: Variant
    table: NDArray[np.int64]
    tasks: int
    serial: bool = False
    address: int = 0  # of the compiled kernel


class Scratch(NamedTuple):
    """What the steps of a plan hand to each other."""

    states: int  # of groups, where no step makes them for itself
    partial_states: int
    board: NDArray[np.int64] | None = None  # of a team, as it is before the first task: see `kernels.team`


class Schedule(NamedTuple):
    """How one LoopNest is walked."""

    loops: SortedLoops
    parts: int  # in which a group is reduced, each merged after the one before
    part_size: int  # elements (rows family) or rows (columns family) of a part
    tile: int  # columns of a task; or groups that are walked side by side
    stream: bool  # output goes past the cache; or there is none, and x comes from beyond it
    fold: bool  # weight and bias are one number for each group or column
    serial: bool
    tasks: int  # of a pass over whole groups
    rest: int = 0  # pixels behind the last row of each repeat, where a few channels are walked (columns family)

    @property
    def columns(self) -> int:
        """How many columns lie side by side (columns family)."""
        return self.loops.high.size * self.loops.low.size

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return prod(loop.size for loop in (*self.loops.outer, self.loops.high, self.loops.low) if loop.kept)

    @property
    def partial_states(self) -> int:
        """How many states the parts of all groups have: one for each part and group, or part and column."""
        if self.loops.family == "rows":
            return self.tasks * self.parts
        return prod(loop.size for loop in self.loops.outer) * self.parts * self.columns

    @property
    def table(self) -> NDArray[np.int64]:
        """The schedule as kernels read it: see `kernels.walk`."""
        return write(self.loops, self.parts, self.part_size, self.tile, self.stream, self.fold, self.rest)


# schedules ------------------------------------------------------------------------------------------------------------


def choose(
    nest: LoopNest, itemsize: int, in_place: bool = False, tuning: Tuning = TUNING, reads: bool = False
) -> Schedule:
    """Choose how to walk a nest whose output has elements of `itemsize` bytes; or, if it only `reads`, x has."""
    loops, rest = _side_by_pixels(sort_loops(nest, tuning.limits), tuning)
    family, outer, inner, rows, high, low, _ = loops
    repeats = prod(loop.size for loop in inner)
    elements = prod(loop.size for loop in nest.loops)
    serial = _work(loops, nest, tuning) <= tuning.serial_work

    if family == "rows":
        tasks, unit = nest.groups, BLOCK
        size, tile = repeats * rows.size * low.size, 1
    else:
        beside = prod(loop.size for loop in outer)
        tile = _tile(high, low, tuning.tile)
        if tile < high.size * low.size and beside < tuning.least_tiles:
            wide = high.size * low.size * beside // tuning.least_tiles
            tile = min(tile, _tile(high, low, max(tuning.least_tile, wide)))
        tasks = beside * -(-high.size * low.size // tile)
        unit, size = 1, repeats * rows.size
    parts, part_size = 1, size
    if not serial and tasks < tuning.wanted_tasks:
        parts = min(-(-tuning.wanted_tasks // tasks), max(1, elements // tasks // tuning.part_elements))
        if family == "columns":
            parts = min(parts, _parts_of(size, tuning))
        parts, part_size = _pieces(size, parts, unit)
    run = low.size if family == "rows" else tile
    if high.size > 1 and low.kept and joined(rows, high, operands=2) and joined(high, low, operands=2):
        run *= rows.size  # a few channels: all pixels are one run
    if reads:
        stream = family == "rows" and tuning.reads_in_order(run, itemsize, elements)
    else:
        alone = family == "columns" and run % LANES != 0
        least = tuning.stream_columns if alone else tuning.stream_least
        stream = not in_place and tuning.past_cache(run, itemsize, elements, least)
    if family == "rows" and parts == 1:
        tile = _side_by_side(size, loops, stream, itemsize, tuning)
    return Schedule(loops, parts, part_size, tile, stream, foldable([*inner, rows]), serial, tasks, rest)


def _side_by_pixels(loops: SortedLoops, tuning: Tuning) -> tuple[SortedLoops, int]:
    """Few channels last: as many pixels as fill whole vectors become columns, too; how many are left behind the rows.

    That is a power of two, since one half of the columns is merged with the other. Twice as many and more are slower.
    Where pixels have gaps, or their channels are reversed, a channel's pixels are a run of the rows family, with gaps:
    a row of one pixel would take 4 to 12 times as long.
    """
    rows, low = loops.rows, loops.low
    few = loops.family == "columns" and low.kept and loops.high == UNIT and 1 < low.size < tuning.limits.lanes
    even = foldable([*loops.inner, rows]) or joined(rows, low, operands=4)
    high = LANES // math.gcd(low.size, LANES)
    gaps = low.size <= tuning.gap_channels and not joined(rows, low, operands=2)
    if few and gaps and rows.size >= tuning.limits.lanes:
        inner = loops.inner or (UNIT,)
        apart = loops._replace(family="rows", outer=(*loops.outer, low), inner=inner[:-1], rows=inner[-1], low=rows)
        return apart._replace(high=UNIT), 0
    if not few or not even or not joined(rows, low, operands=2) or rows.size < tuning.pixel_rows * high:
        return loops, 0
    above = Loop(rows.size // high, *(high * step for step in rows.strides))
    return loops._replace(rows=above, high=rows._replace(size=high)), rows.size % high


def for_given(chosen: Schedule, nest: LoopNest, tuning: Tuning = TUNING) -> Schedule:
    """How to write output from given statistics: any order will do, and in that of memory it is fastest."""
    loops = chosen.loops
    folded = chosen.fold and loops.low.weight == loops.low.bias == 0  # or the families would round differently
    if loops.family == "columns" and not loops.low.kept and loops.low.size >= tuning.output_run and folded:
        chosen = chosen._replace(loops=loops._replace(family="rows", high=UNIT))
    serial = _work(chosen.loops, nest, tuning) <= tuning.serial_output
    return for_output(chosen, nest, tuning)._replace(serial=serial)


def for_output(chosen: Schedule, nest: LoopNest, tuning: Tuning = TUNING) -> Schedule:
    """How to write output once the statistics are known: by the same family, in the order of memory."""
    loops = chosen.loops
    if loops.family == "rows":
        at = nest.loops.index(loops.low)
        outer = nest.loops[:at] + nest.loops[at + 1 :]
        parts, part_size = _pieces(loops.low.size, -(-loops.low.size // tuning.output_elements), BLOCK)
        tasks = prod(loop.size for loop in outer) * parts
        loops = loops._replace(outer=outer, inner=(), rows=UNIT)
        return chosen._replace(loops=loops, parts=parts, part_size=part_size, tasks=tasks)
    if _comes_in_whole_rows(chosen, tuning):
        tiles = -(-chosen.columns // chosen.tile)
        chosen = chosen._replace(tile=chosen.columns, tasks=chosen.tasks // tiles)
    else:
        chosen = _widened(chosen, tuning)
    size = prod(loop.size for loop in chosen.loops.inner) * chosen.loops.rows.size
    parts, part_size = _pieces(size, -(-size * chosen.tile // tuning.output_elements), 1)
    return chosen._replace(parts=parts, part_size=part_size, tasks=chosen.tasks * parts)


def _work(loops: SortedLoops, nest: LoopNest, tuning: Tuning) -> int:
    """What there is to do, in elements of long runs."""
    elements = prod(loop.size for loop in nest.loops)
    if loops.family == "rows":
        return elements + tuning.run_work * (elements // loops.low.size)
    return elements if not nest.loops or loops.low == nest.loops[-1] else tuning.run_work * elements


def _widened(chosen: Schedule, tuning: Tuning) -> Schedule:
    """Take several short rows that lie behind one another as one."""
    rows, high, low = chosen.loops.rows, chosen.loops.high, chosen.loops.low
    beside = high.size == 1 and low.size <= chosen.tile and chosen.fold and joined(rows, low, operands=2)
    most = min(rows.size, tuning.output_columns // low.size)
    together = next((n for n in range(most, 1, -1) if rows.size % n == 0), 1)
    if not beside or together == 1:
        return chosen
    rest = Loop(rows.size // together, rows.x * together, rows.out * together, 0, 0, 0)
    loops = chosen.loops._replace(rows=rest, high=rows._replace(size=together))
    return chosen._replace(loops=loops, tile=together * low.size)


def _comes_in_whole_rows(chosen: Schedule, tuning: Tuning) -> bool:
    """Whether output goes past the cache in whole rows, though x is read in tiles: a stack must hold a row."""
    cut = chosen.loops.family == "columns" and chosen.tile < chosen.columns
    return cut and chosen.stream and chosen.columns <= tuning.limits.max_columns


def _parts_of(rows: int, tuning: Tuning) -> int:
    """Most parts of so many rows: none smaller than a block, and not so many that their merge takes too long.

    Sums take as long as there are rows in a part, the merge as there are parts: the root of the rows balances the two.
    A power of two gives the threads equal shares.
    """
    if rows < 2 * ROW_BLOCK:
        return 1
    return min(rows // ROW_BLOCK, 1 << round(math.log2(rows / tuning.part_rows) / 2))


def _pieces(size: int, parts: int, unit: int) -> tuple[int, int]:
    """Cut `size` into at most so many parts of whole units: (parts, their size)."""
    part_size = -(-size // max(1, parts))
    part_size = max(unit, -(-part_size // unit) * unit)
    return max(1, -(-size // part_size)), part_size


def _nearer(loops: SortedLoops) -> bool:
    """Whether runs of neighbouring groups are nearer to each other than those of one group."""
    return bool(loops.outer) and abs(loops.outer[-1].x) < abs(loops.rows.x)


def _side_by_side(size: int, loops: SortedLoops, stream: bool, itemsize: int, tuning: Tuning) -> int:
    """How many neighbouring groups of so many elements the rows family walks at once, output being streamed or not."""
    if _nearer(loops):
        return max(1, min(SIDE, tuning.visit_bytes // max(1, abs(loops.low.x) * loops.low.size)))
    shared = _share_weights(size, loops) and size <= (BLOCK if stream else tuning.batch_elements)
    if not loops.outer or (size > BLOCK and not shared):
        return 1
    most = tuning.batch_elements
    if stream:
        most = min(most, tuning.together(size, itemsize))
    return max(tuning.shared_rows if shared else 1, min(LANES, most // size))


def _share_weights(size: int, loops: SortedLoops) -> bool:
    """Whether neighbouring groups are long runs with the same weights for their elements."""
    side = loops.outer[-1] if loops.outer else UNIT
    along, apart = loops.low.weight != 0 or loops.low.bias != 0, side.weight != 0 or side.bias != 0
    return size == loops.low.size >= 2 * SHARED and along and not apart


def _unit(high: Loop, low: Loop) -> int:
    """Columns that no tile parts."""
    return low.size if high.kept and not low.kept else LANES


def _tile(high: Loop, low: Loop, most: int) -> int:
    """Columns of a task: all where groups reach across, else equal shares, of whole lanes or of whole groups."""
    columns = high.size * low.size
    if low.kept and high.size > 1:
        return columns
    unit = _unit(high, low)
    units = -(-columns // unit)
    tiles = -(-units // max(1, most // unit))
    return min(columns, -(-units // tiles) * unit)


# steps ----------------------------------------------------------------------------------------------------------------

Steps = tuple[tuple[Step, ...], Scratch | None]


def normalize(
    nest: LoopNest, kinds: Kinds, itemsize: int, in_place: bool, threads: int, tuning: Tuning = TUNING
) -> Steps:
    """Statistics and output: group after group, or in phases where there are too few groups for the threads."""
    chosen = shared_out(choose(nest, itemsize, in_place, tuning), threads, tuning)
    family = chosen.loops.family
    if not (is_split(chosen, threads) or _is_read_again(chosen, itemsize, tuning)):
        return (Step(Variant("normalize", family, kinds), chosen.table, chosen.tasks, chosen.serial),), None
    table, board = split(chosen, for_output(chosen, nest, tuning), threads, tuning)
    step = Step(Variant("normalize_split", family, kinds), table, threads)
    return (step,), Scratch(chosen.groups, chosen.partial_states, board)


def apply(nest: LoopNest, kinds: Kinds, itemsize: int, in_place: bool, tuning: Tuning = TUNING) -> Steps:
    """Output by given statistics."""
    chosen = for_given(choose(nest, itemsize, in_place, tuning), nest, tuning)
    return (Step(Variant("apply", chosen.loops.family, kinds), chosen.table, chosen.tasks, chosen.serial),), None


def moments(nest: LoopNest, kinds: Kinds, itemsize: int, tuning: Tuning = TUNING) -> Steps:
    """Statistics of x with elements of `itemsize` bytes: of parts, and their merge, where groups are cut into parts."""
    chosen = choose(nest, itemsize, tuning=tuning, reads=True)
    family, table = chosen.loops.family, chosen.table
    kinds = kinds._replace(rest="f8")
    variant = Variant("moments", family, kinds)
    if chosen.parts == 1:
        return (Step(variant, table, chosen.tasks, chosen.serial),), None
    merge = Step(Variant("merge", family, kinds), table, chosen.tasks, serial=True)
    parts = Step(variant, table, chosen.tasks * chosen.parts, chosen.serial)
    return (parts, merge), Scratch(0, chosen.partial_states)


def merge(groups: int, parts: int, in_two: bool) -> Steps:
    """The merge of so many states for each group, which lie side by side; `in_two`: of means in two parts."""
    base = (0,) * len(UNIT.strides)
    loops = SortedLoops("rows", (Loop(groups, 0, 0, 0, 0, 1),), (), UNIT, UNIT, UNIT, base)
    chosen = Schedule(loops, parts, 1, 1, False, False, True, groups)
    kinds = Kinds(rest="f8", part_rest="f8") if in_two else Kinds()
    return (Step(Variant("merge", "rows", kinds), chosen.table, groups, serial=True),), None


def update_running(size: int, kinds: Kinds, mean_step: int, var_step: int) -> Steps:
    """Running statistics, which lie so many bytes apart, move towards the states."""
    loops = SortedLoops("rows", (), (), UNIT, UNIT, UNIT, (0,) * len(UNIT.strides))
    table = write(loops, mean_step, var_step)
    return (Step(Variant("update_running", "states", kinds), table, size, serial=True),), None


def shared_out(chosen: Schedule, threads: int, tuning: Tuning = TUNING) -> Schedule:
    """Cut the columns of few tasks into a tile for each thread, if these are not too narrow.

    The sums are the same, since neither a column nor a group knows of those beside it.
    """
    loops = chosen.loops
    if loops.family != "columns" or chosen.serial or chosen.stream or chosen.tasks >= threads:
        return chosen
    outer = chosen.tasks // -(-chosen.columns // chosen.tile)
    share = -(-chosen.columns * outer // threads) + _unit(loops.high, loops.low) - 1
    tile = _tile(loops.high, loops.low, max(tuning.shared_columns, share))
    if tile >= chosen.tile:
        return chosen
    return chosen._replace(tile=tile, tasks=outer * -(-chosen.columns // tile))


def is_split(chosen: Schedule, threads: int) -> bool:
    """Whether to take statistics and output in two passes, for want of groups to share among the threads.

    Both ways make the same sums in the same order.
    """
    if chosen.parts == 1 or chosen.serial or threads == 1:
        return False
    rounds = -(-chosen.tasks // threads)
    return chosen.tasks < 0.8 * rounds * threads


def _is_read_again(chosen: Schedule, itemsize: int, tuning: Tuning) -> bool:
    """Whether a pass of its own pays for output in whole rows: where x comes from memory again in any case."""
    if chosen.parts == 1 or not _comes_in_whole_rows(chosen, tuning):
        return False
    rows = prod(loop.size for loop in (*chosen.loops.inner, chosen.loops.rows))
    return rows * chosen.columns * itemsize > tuning.again_bytes


def split(
    chosen: Schedule, output: Schedule, workers: int, tuning: Tuning = TUNING
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Share a schedule with parts among so many workers: the tables of its phases, and their board."""
    merge = chosen
    if chosen.loops.family == "columns":
        tile = _tile(chosen.loops.high, chosen.loops.low, tuning.merge_columns)
        outer = prod(loop.size for loop in chosen.loops.outer)
        merge = chosen._replace(tile=tile, tasks=outer * -(-chosen.columns // tile))
    first, second = chosen.table, merge.table
    tasks = chosen.tasks * chosen.parts, merge.tasks, min(output.tasks, tuning.chunks * workers)
    board = np.zeros(LINE * (1 + PHASES + PHASES * workers), np.int64)
    board[: LINE - 1] = workers, first.size, first.size + second.size, *tasks, output.tasks
    return np.concatenate((first, second, output.table)), board
