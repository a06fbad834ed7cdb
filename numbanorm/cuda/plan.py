"""Steps: LoopNest -> which CUDA kernels walk it, in which shapes.

All of it follows from shapes, strides, dtypes and alignment, never from the device: the order of every sum is the same
on each.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays.memory import Shape
from ..engine.interface import Kinds, Operation, Variant
from ..walk.families import SortedLoops, sort_loops
from ..walk.nest import UNIT, Loop, LoopNest, joined, stretched
from ..walk.table import write
from .kernels.constants import FAR, ITEMSIZES, NEAR, NONE, ONE, VECTOR_BYTES, WARP, Code, is_wide
from .shapes import LIMITS, SHAPES, Shapes, Team

Described = tuple[Shape, Shape, int]  # shape, strides, kind as a number
NO_KINDS = Kinds()  # of a kernel that is compiled for all of them


@dataclass(frozen=True, eq=False)
class Step:
    """One kernel over a grid."""

    code: Code
    blocks: int
    table: NDArray[np.int64]
    shared: int = 0  # bytes of dynamic shared memory of a block
    tables: dict[int, Any] = field(default_factory=dict)  # the table on each device, once it is there
    kernels: dict[int, Any] = field(default_factory=dict)  # what is launched on each device, once it is there


class Scratch(NamedTuple):
    """What the steps of a plan hand to each other."""

    states: int  # of groups, where `apply` reads them
    partial_states: int  # of parts or columns


class Operand(NamedTuple):
    """One of x, out, weight and bias."""

    kind: str  # "none": it is left out
    alignment: int  # the largest power of two that divides its address; from 16 on it does not matter

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return ITEMSIZES.get(self.kind, 0)


class Walk(NamedTuple):
    """A nest as kernels take it: its loops, and how its elements are moved."""

    loops: SortedLoops
    kinds: Kinds
    vector: int
    near: bool
    span: bool
    decode: bool
    weight: int
    bias: int

    @property
    def tasks(self) -> int:
        """Product of the kept loops outside."""
        return prod(loop.size for loop in self.loops.outer)

    @property
    def rows_each(self) -> int:
        """Product of the reduced loops outside `high` and `low`."""
        return prod(loop.size for loop in self.loops.inner) * self.loops.rows.size

    @property
    def columns(self) -> int:
        """How many columns lie side by side (columns family)."""
        return self.loops.high.size * self.loops.low.size

    def held(self, team: Team) -> int:
        """Values that a thread of a team holds in registers."""
        kind = "f8" if self.kinds.out == "f8" else self.kinds.x
        return team.held(kind, self.vector, self.decode and self.loops.family == "rows")

    def shared(self, team: Team, tiles: int) -> int:
        """Bytes of a block that keeps what its threads do not hold in registers: all of so many tiles but the last."""
        return (tiles - 1) * team.block * self.held(team) * ITEMSIZES[self.kinds.x]

    def code(self, operation: str, team: Team, *, whole: bool, kept: bool) -> Code:
        """What a kernel for this walk is compiled for."""
        family, output = self.loops.family, operation != "moments"
        of_output = (
            "f8" if self.kinds.out == "f8" and not is_wide(self.kinds.x) else "none"
        )  # statistics as exact as it
        variant = Variant(operation, family, self.kinds if output else Kinds(self.kinds.x, of_output))
        ways = (self.decode, self.weight, self.bias) if output else (self.decode and family == "rows", NONE, NONE)
        sizes = (self.vector, team.threads, self.held(team), team.registers)
        return Code(variant, team.block, *sizes, whole, self.near, self.span, *ways, kept)


class Schedule(NamedTuple):
    """How the groups of a walk are shared out."""

    step: Callable[[str, int], Step]  # a kernel for an operation, whose blocks take so much of a group
    whole: int  # all of a group
    part: int  # what statistics are taken of
    written: int  # what is written at once, from states that are known
    merge: Step | None  # None: groups have one part, and one column
    groups: int
    partial_states: int


def steps(
    nest: LoopNest, operation: Operation, operands: tuple[Operand, ...], given: int = 0
) -> tuple[tuple[Step, ...], Scratch | None]:
    """Plan an operation on a nest that is not empty: normalize, moments or apply.

    Parameters
    ----------
    nest : LoopNest
        How memory is walked.
    operation : str
        Statistics and output are one step; or three, if there is something to be merged in between.
    operands : tuple of Operand
        x, out, weight and bias.
    given : int
        Kinds of the mean and variance that are given: see `kernels.scalars`.
    """
    walk = walk_of(nest, operands)
    chosen = (_by_rows if walk.loops.family == "rows" else _by_columns)(walk, given, SHAPES)
    if operation == "apply":
        return (chosen.step("apply", chosen.written),), None
    if operation == "normalize" and chosen.merge is None:
        return (chosen.step("normalize", chosen.whole),), None
    moments = (chosen.step("moments", chosen.part), *([chosen.merge] if chosen.merge else []))
    if operation == "moments":
        return moments, Scratch(0, chosen.partial_states) if chosen.merge else None
    if operation != "normalize":
        raise ValueError(f"operation {operation!r} is not offered; see engine.interface.Operation")
    return (*moments, chosen.step("apply", chosen.written)), Scratch(chosen.groups, chosen.partial_states)


def merge(groups: int, parts: int, in_two: bool) -> Step:
    """The merge of so many states for each group, side by side in memory; `in_two`: of means in two parts."""
    of_x = "none" if in_two else "f4"
    return _merge(_PLAIN._replace(outer=(Loop(groups, 0, 0, 0, 0, 1),)), of_x, groups, parts)


def update_running(size: int, mean_step: int, var_step: int, kinds: int) -> Step:
    """The update of so many running statistics, whose mean and variance have these steps and kinds."""
    return on_states("update_running", size, write(_PLAIN, mean_step, var_step, size, 0, 0, 0, kinds))


def count_batch() -> Step:
    """One more batch in a counter."""
    return on_states("count_batch", 1, np.zeros(1, np.int64))


def formula(function: Any, outputs: int, arrays: tuple[Described | None, ...], of_out: str) -> tuple[Shape, Step]:
    """A formula at each point of arrays of these shapes, strides and kinds; None stands for a number.

    Its results are of one kind, `of_out`. Returns the shape to which they broadcast, too.
    """
    shape = np.broadcast_shapes(*(array[0] for array in arrays if array is not None))
    size, numbers = prod(shape), [prod(shape), len(shape), *shape]
    for array in arrays:
        if array is None:
            numbers += [-1, *(0,) * len(shape)]
        else:
            own, strides, code = array
            numbers += [code, *stretched("an array", shape, own, strides)]
    about = {"function": function, "arrays": len(arrays), "outputs": outputs}
    return shape, on_states("formula", size, np.array(numbers, np.int64), Kinds(out=of_out), **about)


def matvec(rows: int, columns: int, strides: Shape, kinds: tuple[int, int]) -> Step:
    """A matrix times a vector, of these strides and kinds."""
    return on_states("matvec", rows * SHAPES.states, np.array([columns, *strides, *kinds], np.int64))


_PLAIN = SortedLoops("rows", (), (), UNIT, UNIT, UNIT, (0,) * len(UNIT.strides))  # of states, side by side


def on_states(operation: str, threads: int, table: NDArray[np.int64], kinds: Kinds = NO_KINDS, **about: Any) -> Step:
    """A kernel that takes so many threads; how large its blocks are is compiled in."""
    block = SHAPES.states
    return Step(Code(Variant(operation, "states", kinds), block, **about), -(-threads // block), table)


def _merge(loops: SortedLoops, of_x: str, groups: int, parts: int) -> Step:
    """The merge of the states of (kept loops, part, column), a warp for each group."""
    kinds = Kinds(of_x if of_x == "none" or is_wide(of_x) else "f4")  # whose bases are 0
    return on_states("merge", groups * WARP, write(loops, parts, 0, groups), kinds)


# walks ----------------------------------------------------------------------------------------------------------------


def walk_of(nest: LoopNest, operands: tuple[Operand, ...], by_row: bool = False) -> Walk:
    """How kernels walk a nest over operands of these kinds; `by_row`: see `sort_loops`."""
    loops = sort_loops(nest, LIMITS, by_row)
    family, outer, inner, rows, high, low, base = loops
    x, out, weight, bias = operands
    decode = any(loop.weight or loop.bias for loop in (*inner, rows))
    if family == "rows":
        gaps = bool(inner) or (rows.size > 1 and not joined(rows, low, operands=2))
        decode = decode or gaps or (rows.size > 1 and bool(low.weight or low.bias))
    flat = family == "rows" and not decode  # then the rows continue the run
    span = family == "rows" or high.size == 1 or joined(high, low, operands=4)
    begins = [base, *(loop.strides for loop in (*outer, *inner))]
    begins += [loop.strides for loop, part_of_run in ((rows, flat), (high, span)) if not part_of_run]
    near = low.x == x.itemsize and low.out == out.itemsize
    vector = 1
    if near and x.kind in ("f8", "f4", "f2", "bf"):
        run = low.size * (rows.size if flat else 1) * (high.size if span else 1)
        vector = VECTOR_BYTES // x.itemsize
        while run % vector or not all(_aligned(i, vector, operands, begins) for i in range(2)):
            vector //= 2
    ways = [_way(i, low.strides[i], vector, operands, begins) for i in (2, 3)]
    kinds = Kinds(x.kind, out.kind, weight.kind, bias.kind)
    return Walk(loops, kinds, vector, near, span, decode, *ways)


def _aligned(i: int, vector: int, operands: tuple[Operand, ...], begins: list[tuple[int, ...]]) -> bool:
    """Whether runs of an operand begin where vectors of so many elements can be moved."""
    size = min(vector * operands[i].itemsize, VECTOR_BYTES)
    return size == 0 or (operands[i].alignment % size == 0 and all(numbers[i] % size == 0 for numbers in begins))


def _way(i: int, step: int, vector: int, operands: tuple[Operand, ...], begins: list[tuple[int, ...]]) -> int:
    """How a weight or bias lies along a vector of x."""
    if operands[i].itemsize == 0:
        return NONE
    if step == 0:
        return ONE
    return NEAR if step == operands[i].itemsize and _aligned(i, vector, operands, begins) else FAR


# schedules ------------------------------------------------------------------------------------------------------------


def _by_rows(walk: Walk, given: int, shapes: Shapes) -> Schedule:
    loops, groups, size = walk.loops, walk.tasks, walk.rows_each * walk.loops.low.size
    units = size // walk.vector
    team = next((team for team in shapes.rows if team.threads * walk.held(team) >= size), shapes.loop)
    held, output = team.threads * walk.held(team) // walk.vector, walk.kinds.out != "none"
    shared = walk.shared(team, -(-units // held))
    kept = output and 0 < shared <= shapes.shared
    parts = 1
    if units > held and groups < shapes.cut_below(kept):
        parts = max(1, min(-(-shapes.parts // groups), size // shapes.part))
    part_size = -(-units // parts)
    parts = -(-units // part_size)

    def step(operation: str, part_size: int) -> Step:
        parts, keeps = -(-units // part_size), kept and operation == "normalize"
        code = walk.code(operation, team, whole=part_size <= held, kept=keeps)
        tasks = groups * parts
        merged = parts > 1 and operation == "moments"
        table = write(loops, parts, part_size, tasks, units, 0, merged, given)
        return Step(code, -(-tasks * team.threads // team.block), table, shared * keeps)

    merge = _merge(loops._replace(high=UNIT, low=UNIT), walk.kinds.x, groups, parts) if parts > 1 else None
    return Schedule(step, units, part_size, min(units, shapes.rounds * held), merge, groups, groups * parts)


def _by_columns(walk: Walk, given: int, shapes: Shapes) -> Schedule:
    loops, columns, rows = walk.loops, walk.columns, walk.rows_each
    units = columns // walk.vector
    team = next((team for team in shapes.columns if team.threads <= units), shapes.columns[-1])
    tiles, down = -(-units // team.threads), team.block // team.threads
    blocks, held = walk.tasks * tiles, down * (walk.held(team) // walk.vector)
    across, output = any(loop.size > 1 and not loop.kept for loop in (loops.high, loops.low)), walk.kinds.out != "none"
    shared = walk.shared(team, -(-rows // held))
    kept = output and 0 < shared <= shapes.shared_columns
    parts = 1
    if across or (rows > held and blocks < shapes.cut_below(kept)):
        parts = max(1, min(-(-shapes.parts // blocks), rows * team.threads * walk.vector // shapes.part))
    part_size = -(-rows // parts)
    parts = -(-rows // part_size)
    merged = across or parts > 1

    def step(operation: str, part_size: int) -> Step:
        parts, keeps = -(-rows // part_size), kept and operation == "normalize"
        code = walk.code(operation, team, whole=part_size <= held, kept=keeps)
        leaves_parts = merged and operation == "moments"
        table = write(loops, parts, part_size, tiles, units, rows, leaves_parts, given)
        return Step(code, blocks * parts, table, shared * keeps)

    groups = walk.tasks * prod(loop.size for loop in (loops.high, loops.low) if loop.kept)
    merge = _merge(loops, walk.kinds.x, groups, parts) if merged else None
    partial_states = walk.tasks * parts * columns
    return Schedule(step, rows, part_size, min(rows, shapes.rounds * held), merge, groups, partial_states)
