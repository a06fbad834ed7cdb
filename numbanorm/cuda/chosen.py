"""Statistics of chosen and weighted elements on a GPU: which kernels walk them, in which shapes.

Nests and tables are those of all statistics, with the weights in the place of a norm's weight, and the mask in that of
its bias: see `kernels.chosen`. As in `plan`, all follows from shapes, strides, dtypes and alignment. Output is that of
given statistics.
"""

from dataclasses import replace
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

from ..arrays import give
from ..arrays.memory import DeviceArray
from ..engine.interface import Frame, Kinds, Variant
from ..layout import Grouping
from ..walk.families import SortedLoops
from ..walk.nest import UNIT, build
from ..walk.table import write
from . import plan as planning
from .engine import ENGINE, described, refuse_segments
from .kernels.constants import VECTOR_BYTES, WARP, Code
from .plan import Operand, Step, Walk
from .shapes import SHAPES, Shapes, Team


class Plan(NamedTuple):
    """Kernels over one frame."""

    steps: tuple[Step, ...]
    partial: int  # states of all parts and columns; 0 if there is nothing to merge


def moments(
    grouping: Any, x: DeviceArray, strides: tuple[Any, Any], mask: Any, weights: Any, skips: bool, squares: bool
) -> tuple[Any, Any, Any, Any, Any]:
    """Count (or sum of weights), mean, m2 and the mean's rest of each group; the sum of squared weights, or None.

    The parameters are those of `cpu.chosen.moments`. A group of which a weight counts that is negative or no finite
    number has NaN for its statistics, since nobody waits to see it.

    Raises
    ------
    TypeError
        For segments.
    """
    refuse_segments(grouping)
    arrays = zip((x, None, weights, mask), ("x", "out", "weights", "where"), strict=True)
    operands = tuple([_ABSENT if a is None else Operand(*described(a, name)[:2]) for a, name in arrays])
    plan = planned(grouping, operands, (x.strides, None, strides[1], strides[0]), skips, squares)
    shape = grouping.group_shape
    counts = give.empty(x, (2, *shape) if squares else shape)
    count, of_squares = (_row(counts, i) for i in range(2)) if squares else (counts, None)
    mean, m2, rest = (give.empty(x, shape) for _ in range(3))
    frame = Frame(x, None, weights, mask, count, mean, m2, rest)
    if plan.partial:
        room = give.empty(x, (4 + squares, plan.partial))
        part_mean, part_m2, part_rest, part_count = (_row(room, i) for i in range(4))
        frame = frame._replace(part_count=part_count, part_mean=part_mean, part_m2=part_m2, part_rest=part_rest)
    for step in plan.steps:
        ENGINE.launch(step, frame)
    return count, mean, m2, rest, of_squares


MOST_COLUMNS = 4  # of a thread: each has a state of five float64 in registers
_ABSENT = Operand("none", VECTOR_BYTES)


def _row(table: DeviceArray, i: int) -> DeviceArray:
    """What lies at an index of the first axis."""
    return replace(
        table, pointer=table.pointer + i * table.strides[0], shape=table.shape[1:], strides=table.strides[1:]
    )


@lru_cache(maxsize=1024)
def planned(grouping: Grouping, operands: tuple[Operand, ...], strides: Any, skips: bool, squares: bool) -> Plan:
    """Plan statistics of x, beside no output, of weights and a mask, with these strides."""
    walk = planning.walk_of(build(grouping, strides), operands, by_row=True)
    return (_by_rows if walk.loops.family == "rows" else _by_columns)(walk, SHAPES, skips, squares)


def _code(walk: Walk, team: Team, skips: bool, squares: bool) -> Code:
    """What a kernel is compiled for."""
    kinds = Kinds(walk.kinds.x, weight=walk.kinds.weight, bias=walk.kinds.bias)
    variant, sizes = Variant("chosen", walk.loops.family, kinds), (walk.vector, team.threads, walk.held(team))
    code = Code(variant, team.block, *sizes, team.registers, near=walk.near, span=walk.span, decode=walk.decode)
    return code._replace(weight=walk.weight, bias=walk.bias, skips=skips, squares=squares)


def _by_rows(walk: Walk, shapes: Shapes, skips: bool, squares: bool) -> Plan:
    loops, groups, size = walk.loops, walk.tasks, walk.rows_each * walk.loops.low.size
    units = size // walk.vector

    def held(team: Team) -> int:
        return team.threads * walk.held(team) // walk.vector

    team = next((team for team in shapes.chosen if shapes.turns * held(team) >= units), shapes.chosen[-1])
    parts = 1
    if units > held(team) and groups < shapes.blocks:
        parts = max(1, min(-(-shapes.parts // groups), size // shapes.part))
    part_size = -(-units // parts)
    parts = -(-units // part_size)
    tasks, merged = groups * parts, parts > 1
    table = write(loops, parts, part_size, tasks, units, 0, merged, tasks if merged else groups)
    step = Step(_code(walk, team, skips, squares), -(-tasks * team.threads // team.block), table)
    return _merged(loops._replace(high=UNIT, low=UNIT), step, groups, parts, tasks * merged, squares)


def _by_columns(walk: Walk, shapes: Shapes, skips: bool, squares: bool) -> Plan:
    walk = walk._replace(vector=min(walk.vector, MOST_COLUMNS))
    loops, columns, rows = walk.loops, walk.columns, walk.rows_each
    units = columns // walk.vector
    team = next((team for team in shapes.columns if team.threads <= units), shapes.columns[-1])
    tiles, down = -(-units // team.threads), team.block // team.threads
    blocks, held = walk.tasks * tiles, down * (walk.held(team) // walk.vector)
    across = any(loop.size > 1 and not loop.kept for loop in (loops.high, loops.low))
    parts = 1
    if across or (rows > held and blocks < shapes.blocks):
        parts = max(1, min(-(-shapes.parts // blocks), rows * team.threads * walk.vector // shapes.part))
    part_size = -(-rows // parts)
    parts = -(-rows // part_size)
    merged = across or parts > 1
    groups = walk.tasks * prod(loop.size for loop in (loops.high, loops.low) if loop.kept)
    partial = walk.tasks * parts * columns * merged
    table = write(loops, parts, part_size, tiles, units, rows, merged, partial or groups)
    return _merged(
        loops, Step(_code(walk, team, skips, squares), blocks * parts, table), groups, parts, partial, squares
    )


def _merged(loops: SortedLoops, step: Step, groups: int, parts: int, partial: int, squares: bool) -> Plan:
    """A plan of one step; and of the merge of its states, if there are any of parts and columns."""
    if not partial:
        return Plan((step,), 0)
    table = write(loops, parts, 0, groups, 0, partial, 0, groups)
    return Plan((step, planning.on_states("merge_chosen", groups * WARP, table, squares=squares)), partial)
