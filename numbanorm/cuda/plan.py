"""Launches: LoopNest -> which CUDA kernels walk it, in which shapes.

All of it follows from shapes, strides, dtypes and alignment, never from the device: the order of every sum is the same
on each.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..cpu import plan as schedule
from ..walk.nest import UNIT, Loop, LoopNest, joined, stretched
from .kernels.shapes import FAR, ITEMSIZES, NEAR, NONE, ONE, SHAPES, VECTOR_BYTES, WARP, Code, Shapes, Team, is_wide

Kinds = tuple[str, str, str, str]
Described = tuple[tuple[int, ...], tuple[int, ...], int]  # shape, strides, kind as a number


@dataclass(frozen=True, eq=False)
class Launch:
    """One kernel over a grid."""

    kernel: tuple[Any, ...]  # its family, and what else it is compiled for
    blocks: int
    threads: int  # of a block
    table: NDArray[np.int64]
    shared: int = 0  # bytes of dynamic shared memory of a block
    resident: dict[int, Any] = field(default_factory=dict)  # the table on each device, as an array, once it is there


class Launches(NamedTuple):
    """What calls on one nest launch.

    Statistics and output in one, or by three: statistics (of parts, or of columns), their merge, output.
    """

    normalize: Launch | None  # None: groups are cut into parts, or have several columns
    moments: Launch
    merge: Launch | None  # None: `moments` leaves whole groups
    apply: Launch | None  # output from given states; None: there is no output
    partial_states: int  # that `merge` reads


class Operand(NamedTuple):
    """One of x, out, weight and bias."""

    kind: str  # "none": it is left out
    alignment: int  # the largest power of two that divides its address; from 16 on it does not matter

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return ITEMSIZES.get(self.kind, 0)


class Walk(NamedTuple):
    """A nest as kernels take it: its family, its loops, and how its elements are moved."""

    family: str
    outer: tuple[Loop, ...]  # kept
    inner: tuple[Loop, ...]  # reduced
    rows: Loop  # reduced
    high: Loop
    low: Loop
    base: tuple[int, ...]
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
        return prod(loop.size for loop in self.outer)

    @property
    def rows_each(self) -> int:
        """Product of the reduced loops outside `high` and `low`."""
        return prod(loop.size for loop in self.inner) * self.rows.size

    def held(self, team: Team) -> int:
        """Values that a thread of a team holds in registers."""
        return team.held(self.kinds[0], self.vector, self.decode and self.family == "rows")

    def shared(self, team: Team, tiles: int) -> int:
        """Bytes of a block that keeps what its threads do not hold in registers: all of so many tiles but the last."""
        return (tiles - 1) * team.block * self.held(team) * ITEMSIZES[self.kinds[0]]

    def code(self, team: Team, *, statistics: bool, output: bool, whole: bool, kept: bool) -> Code:
        """What a kernel for this walk is compiled for."""
        kinds = self.kinds if output else (self.kinds[0], "none", "none", "none")
        ways = (self.decode, self.weight, self.bias) if output else (self.decode and self.family == "rows", NONE, NONE)
        sizes = (self.vector, team.threads, team.block, self.held(team), team.registers)
        return Code(self.family, kinds, *sizes, statistics, output, whole, self.near, self.span, *ways, kept)

    def table(self, **entries: int) -> NDArray[np.int64]:
        """The table of a launch: see `kernels.cuda.walk`."""
        head = [len(self.outer), len(self.inner), prod(loop.size for loop in self.inner)]
        names = "parts", "part_size", "tasks", "units", "row_count", "merged", "kinds"
        head += [entries.get(name, 0) for name in names]
        loops = (self.rows, self.high, self.low, *self.outer, *self.inner)
        return np.array([*head, *self.base, *(number for loop in loops for number in loop)], np.int64)


# Of states, which lie side by side and have no bases.
_KINDS = ("f4", "none", "none", "none")
_PLAIN = Walk("rows", (), (), UNIT, UNIT, UNIT, (0,) * 5, _KINDS, 1, True, True, False, NONE, NONE)


def plan(nest: LoopNest, operands: tuple[Operand, ...], states: int = 0) -> Launches:
    """Plan the launches for a nest that is not empty.

    Parameters
    ----------
    nest : LoopNest
        How memory is walked.
    operands : tuple of Operand
        x, out, weight and bias.
    states : int
        Kinds of the mean and variance that may be given: see `kernels.cuda.stored`.
    """
    walk = _walk(nest, operands)
    return (_by_rows if walk.family == "rows" else _by_columns)(walk, states, SHAPES)


def _over(tasks: int, threads: int, *kernel: Any, table: NDArray[np.int64]) -> Launch:
    """A kernel on states: so many tasks, of `threads` threads each; how large its blocks are is compiled in."""
    block = SHAPES.states
    return Launch((*kernel, block), -(-tasks * threads // block), block, table)


@lru_cache(maxsize=1024)
def merging(groups: int, parts: int) -> Launch:
    """The merge of so many states for each group, side by side in memory."""
    return _merge(_PLAIN._replace(outer=(Loop(groups, 0, 0, 0, 0, 1),)), groups, parts)


@lru_cache(maxsize=1024)
def moving(size: int, mean_step: int, var_step: int, codes: int) -> Launch:
    """The move of so many running statistics, whose mean and variance have these steps and kinds."""
    low = Loop(size, mean_step, var_step, 0, 0, 1)
    return _over(size, 1, "move", table=_PLAIN._replace(low=low).table(tasks=size, kinds=codes))


@lru_cache(maxsize=1024)
def formula(function: Any, outputs: int, arrays: tuple[Described | None, ...]) -> tuple[tuple[int, ...], Launch]:
    """A formula at each point of arrays of these shapes, strides and kinds; None stands for a number.

    Returns the shape to which they broadcast, too.
    """
    shape = np.broadcast_shapes(*(array[0] for array in arrays if array is not None))
    size, numbers = prod(shape), [prod(shape), len(shape), *shape]
    for array in arrays:
        if array is None:
            numbers += [-1, *(0,) * len(shape)]
        else:
            own, strides, code = array
            numbers += [code, *stretched("an array", shape, own, strides)]
    return shape, _over(size, 1, "formula", function, len(arrays), outputs, table=np.array(numbers, np.int64))


@lru_cache(maxsize=1024)
def product(rows: int, columns: int, steps: tuple[int, ...], codes: tuple[int, int]) -> Launch:
    """A matrix times a vector, of these steps and kinds."""
    return _over(rows, SHAPES.states, "matvec", table=np.array([columns, *steps, *codes], np.int64))


def _walk(nest: LoopNest, operands: tuple[Operand, ...]) -> Walk:
    family, outer, inner, rows, high, low = schedule.sort_loops(nest)
    x, out, weight, bias = operands
    decode = any(loop.weight or loop.bias for loop in (*inner, rows))
    if family == "rows":
        gaps = bool(inner) or (rows.size > 1 and not joined(rows, low, operands=2))
        decode = decode or gaps or (rows.size > 1 and bool(low.weight or low.bias))
    flat = family == "rows" and not decode  # then the rows continue the run
    span = family == "rows" or high.size == 1 or joined(high, low, operands=4)
    begins = [nest.base, *(loop.strides for loop in (*outer, *inner))]
    begins += [loop.strides for loop, part_of_run in ((rows, flat), (high, span)) if not part_of_run]
    near = low.x == x.itemsize and low.out == out.itemsize
    vector = 1
    if near and x.kind in ("f8", "f4", "f2", "bf"):
        run = low.size * (rows.size if flat else 1) * (high.size if span else 1)
        vector = VECTOR_BYTES // x.itemsize
        while run % vector or not all(_aligned(i, vector, operands, begins) for i in range(2)):
            vector //= 2
    ways = [_way(i, low.strides[i], vector, operands, begins) for i in (2, 3)]
    kinds = (x.kind, out.kind, weight.kind, bias.kind)
    return Walk(family, outer, inner, rows, high, low, nest.base, kinds, vector, near, span, decode, *ways)


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


def _by_rows(walk: Walk, states: int, shapes: Shapes) -> Launches:
    groups, size = walk.tasks, walk.rows_each * walk.low.size
    units = size // walk.vector
    team = next((team for team in shapes.rows if team.threads * walk.held(team) >= size), shapes.loop)
    held, output = team.threads * walk.held(team) // walk.vector, walk.kinds[1] != "none"
    shared = walk.shared(team, -(-units // held))
    kept = output and 0 < shared <= shapes.shared
    parts = 1
    if units > held and groups < shapes.cut_below(kept):
        parts = max(1, min(-(-shapes.parts // groups), size // shapes.part))
    part_size = -(-units // parts)
    parts = -(-units // part_size)

    def launch(part_size: int, statistics: bool, output: bool) -> Launch:
        parts, keeps = -(-units // part_size), kept and statistics and output
        code = walk.code(team, statistics=statistics, output=output, whole=part_size <= held, kept=keeps)
        tasks = groups * parts
        table = walk.table(parts=parts, part_size=part_size, tasks=tasks, units=units, kinds=states)
        return Launch(code, -(-tasks * team.threads // team.block), team.block, table, shared * keeps)

    moments = launch(part_size, True, False)
    merge = _merge(walk._replace(high=UNIT, low=UNIT), groups, parts) if parts > 1 else None
    normalize = launch(units, True, True) if output and parts == 1 else None
    apply = launch(min(units, shapes.rounds * held), False, True) if output else None
    return Launches(normalize, moments, merge, apply, groups * parts if merge else 0)


def _by_columns(walk: Walk, states: int, shapes: Shapes) -> Launches:
    columns, rows = walk.high.size * walk.low.size, walk.rows_each
    units = columns // walk.vector
    team = next((team for team in shapes.columns if team.threads <= units), shapes.columns[-1])
    tiles, down = -(-units // team.threads), team.block // team.threads
    blocks, held = walk.tasks * tiles, down * (walk.held(team) // walk.vector)
    across, output = any(loop.size > 1 and not loop.kept for loop in (walk.high, walk.low)), walk.kinds[1] != "none"
    shared = walk.shared(team, -(-rows // held))
    kept = output and 0 < shared <= shapes.shared_columns
    parts = 1
    if across or (rows > held and blocks < shapes.cut_below(kept)):
        parts = max(1, min(-(-shapes.parts // blocks), rows * team.threads * walk.vector // shapes.part))
    part_size = -(-rows // parts)
    parts = -(-rows // part_size)
    merged = across or parts > 1

    def launch(part_size: int, statistics: bool, output: bool) -> Launch:
        parts, keeps = -(-rows // part_size), kept and statistics and output
        code = walk.code(team, statistics=statistics, output=output, whole=part_size <= held, kept=keeps)
        entries = {"parts": parts, "part_size": part_size, "tasks": tiles, "units": units, "row_count": rows}
        table = walk.table(**entries, merged=merged and not output, kinds=states)
        return Launch(code, blocks * parts, team.block, table, shared * keeps)

    moments = launch(part_size, True, False)
    groups = walk.tasks * prod(loop.size for loop in (walk.high, walk.low) if loop.kept)
    merge = _merge(walk, groups, parts) if merged else None
    normalize = launch(rows, True, True) if output and not merged else None
    apply = launch(min(rows, shapes.rounds * held), False, True) if output else None
    return Launches(normalize, moments, merge, apply, walk.tasks * parts * columns if merged else 0)


def _merge(walk: Walk, groups: int, parts: int) -> Launch:
    """The merge of the states of (kept loops, part, column)."""
    table = walk.table(parts=parts, tasks=groups)
    of_x = walk.kinds[0] if is_wide(walk.kinds[0]) else "f4"  # whose bases are 0
    return _over(groups, WARP, "merge", of_x, table=table)
