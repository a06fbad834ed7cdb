"""Going backward on a GPU: which kernels walk what, in which order; see `maths.gradient` for what is computed.

One formulation serves the host and a GPU: two sums, of dy and of dy * t, over the cells in which neither group nor
weight changes, feed everything. Sums over a group's cells, times their weights, give the gradient of x; sums over the
cells of a weight give its own and that of the bias. What a piece of it is, and where:

| piece | host | GPU |
|:--|:--|:--|
| the scalar mathematics | `maths.gradient` | the same |
| loops that lead from group to group, and from weight to weight | `walk`, by the steps of a weight | `axes_of` |
| sums of cells, and the gradient of x | `cpu/kernels/backward_*` | `cuda/kernels/backward_*` |
| from cells to groups and weights | the same kernels | `kernels.backward.make_contract` |
| what is cut, and so the order of sums | `cpu.backward` | here |

On a GPU the sums are taken of groups, where each has one weight, or none; else of cells, if they have some elements;
else of groups, with weights inside, and once more of all that share a weight. All three are one kernel, `totals`, over
another set of kept loops. Where a group is all that there is to be added up, one kernel, `backward`, takes its sums and
writes from registers; else `descend` writes from sums. As in `plan`, all follows from shapes, strides, dtypes and
alignment, so the order of every sum is the same on each GPU; nothing is added by atomics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple, cast

from ..arrays import give
from ..arrays.memory import DeviceArray, strides_of
from ..engine.interface import Frame, Variant
from ..layout import Grouping, Layout
from ..walk.families import SortedLoops
from ..walk.nest import UNIT, Loop, LoopNest, stretched
from ..walk.table import write
from . import launcher
from . import plan as planning
from .engine import ENGINE, computed, described, refuse_segments
from .kernels.backward import CENTERED, OWN, UNWEIGHTED, combine, factors
from .kernels.constants import ACROSS, FAR, NEAR, ONE, VECTOR_BYTES, Code, is_wide
from .kernels.scalars import CODES
from .plan import Operand, Step, Walk
from .shapes import SHAPES, Shapes, Team

NAMES = ("x", "out", "weight", "grad")
AXIS = {"groups": 5, "slots": 6}  # the places of their indices in an `Axis`
_ABSENT = Operand("none", VECTOR_BYTES)
_STATISTICS = Operand("f8", VECTOR_BYTES)  # as an operand; they are read one by one, so their alignment does not matter
_WRITES = ("x", "out", "weight", "grad", "mean", "inverse", "flat", "curve")
_READS = ("x", "weight", "grad", "mean", "inverse")


class Axis(NamedTuple):
    """A loop, with all it leads to: bytes for each operand; and indices of groups and of weights (0: it stays)."""

    size: int
    x: int
    out: int
    weight: int
    grad: int
    group: int
    slot: int

    @property
    def role(self) -> tuple[bool, bool]:
        """Whether it leads to other groups, and to other weights."""
        return self.group != 0, self.slot != 0


class Axes(NamedTuple):
    """All loops, the innermost last; where each operand, the group and the weight begin; and the operands."""

    axes: tuple[Axis, ...]
    base: tuple[int, ...]
    operands: tuple[Operand, ...]


class Launch(NamedTuple):
    """A step, and what it takes, by name."""

    step: Step
    takes: tuple[str, ...]


class Plan(NamedTuple):
    """Launches over one set of operands, and pairs of sums that these hand to each other, with their sizes."""

    launches: tuple[Launch, ...]
    pairs: tuple[tuple[str, int], ...]


class Member(NamedTuple):
    """One of the loops in which sums lie: its axis (None: parts), its size, and the step from sum to sum."""

    axis: Axis | None
    size: int
    step: int


class Left(NamedTuple):
    """Sums that a kernel leaves: by which name, in which loops they lie, and the index of the first."""

    name: str
    members: tuple[Member, ...]
    first: int

    @property
    def names(self) -> tuple[str, str]:
        """Of the two arrays."""
        return pair_of(self.name)


class Pass(NamedTuple):
    """A walk over x and the gradient: the threads that share it, and how."""

    walk: Walk
    team: Team
    values: int  # of x that a thread holds, and as many of the gradient
    held: int  # units, or rows, that all of them hold
    size: int  # of them in all
    part: int  # of them in a part
    across: bool  # whether some of the columns are added up
    by_operand: bool  # whether statistics are in the place of the weight
    axes: dict[int, Axis]  # of loops, by their identity

    @property
    def merged(self) -> bool:
        """Whether several sums are left of what is added up."""
        return self.part < self.size or self.across

    @property
    def inside(self) -> bool:
        """Whether sums are taken with weights: not where those of a group lie in one place, as broadcast ones do."""
        return self.step("totals", 0, self.size).code.inside

    def members(self) -> list[Member]:
        """Where sums lie that wait to be added up: as kernels number them."""
        loops = self.walk.loops
        inner = [loops.low, loops.high] if loops.family == "columns" else []
        found, step = [], 1
        for loop in (*inner, None, *reversed(loops.outer)):
            size = -(-self.size // self.part) if loop is None else loop.size
            found.append(Member(self.axes.get(id(loop)), size, step))
            step *= size
        return found

    def step(self, operation: str, flags: int, part: int, merged: bool = False) -> Step:
        """A kernel whose blocks take so much of a set."""
        walk, team, loops = self.walk, self.team, self.walk.loops
        sizes = walk.vector, team.threads, self.values, team.registers
        rows, parts, units = loops.family == "rows", -(-self.size // part), walk.columns // walk.vector
        code = Code(Variant(operation, loops.family, walk.kinds), team.block, *sizes, part <= self.held)
        code = code._replace(near=walk.near, span=walk.span, decode=walk.decode and rows, weight=walk.weight)
        code = code._replace(bias=walk.bias, by_row=_by_row(loops), by_operand=self.by_operand)
        if rows:
            tasks = walk.tasks * parts
            table = write(loops, parts, part, tasks, self.size, 0, merged, flags)
            return Step(code, -(-tasks * team.threads // team.block), table)
        tiles = -(-units // team.threads)
        table = write(loops, parts, part, tiles, units, self.size, merged, flags)
        return Step(code, walk.tasks * tiles * parts, table)


def backward(frame: Frame, layout: Layout, own: bool) -> tuple[DeviceArray, DeviceArray] | None:
    """Write the gradient of x to `out`; give those of weight and bias, in float64 and of the weight's shape.

    The parameters are those of `cpu.backward.backward`.

    Raises
    ------
    TypeError
        For segments.
    """
    refuse_segments(layout)
    arrays = cast("tuple[Any, ...]", frame[:4])
    x, weight = arrays[0], arrays[2]
    plan = _plan(layout, tuple([a and described(a, n) for a, n in zip(arrays, NAMES, strict=True)]), frame.center, own)
    given = dict(zip(NAMES, arrays, strict=True)) | {"mean": frame.mean}
    if weight is not None:
        given |= {name: give.empty(x, weight.shape) for name in ("dweight", "dbias")}
        if not plan.launches and weight.size:
            zeros = ENGINE.pointwise("full", 1, given["dweight"], 0.0)[0]
            return zeros, ENGINE.pointwise("full", 1, zeros, 0.0)[0]
    if plan.launches:
        numbers = float(frame.eps), float(frame.eps_on_std), float(frame.ddof)
        made = computed(factors, 3, frame.count, frame.m2, *numbers)
        given |= zip(("inverse", "flat", "curve"), made, strict=True)
    for name, size in plan.pairs:
        given[name] = pair = give.empty(x, (2, size))
        given[name + "+"] = pair.at(pair.pointer + 8 * size, pair.stream, pair.owner)
    for step, takes in plan.launches:
        addresses = [0 if given.get(name) is None else given[name].pointer for name in takes]
        launcher.launch(step, x.device, x.stream, tuple(addresses))
    return None if weight is None else (given["dweight"], given["dbias"])


def combined(a: Any, x: Any, b: Any, y: Any) -> DeviceArray:
    """A * x + b * y of arrays and numbers that broadcast, in float64."""
    return computed(combine, 1, a, x, b, y)[0]


@lru_cache(maxsize=1024)
def _plan(layout: Layout, operands: tuple[Any, ...], center: int, own: bool) -> Plan:
    """Plan a call on operands, each described by its kind, alignment, shape and strides."""
    shape = operands[0][2]
    grouping = layout.resolve(shape)
    strides = [a and stretched(name, shape, *a[2:]) for a, name in zip(operands, NAMES, strict=True)]
    if 0 in shape:
        return Plan((), ())
    ours = tuple([Operand(*a[:2]) if a else _ABSENT for a in operands])
    own_shape = operands[2][2] if operands[2] else ()
    slots = stretched("weight", shape, own_shape, strides_of(own_shape, 1))
    return planned(axes_of(grouping, strides, slots, ours), bool(center), own)


def axes_of(grouping: Grouping, strides: Sequence[Any], slots: Sequence[int], operands: tuple[Operand, ...]) -> Axes:
    """All loops in the order of the output's memory, as `walk.nest.build` makes them; `slots`: steps among weights."""
    base, found = [0] * 6, []
    for factor in grouping.factors:
        if factor.size == 1:
            continue
        steps = [0 if s is None else s[factor.axis] * factor.stride for s in (*strides, slots)]
        steps.insert(4, factor.group_stride)
        if (steps[1] or steps[0]) < 0:
            base = [b + s * (factor.size - 1) for b, s in zip(base, steps, strict=True)]
            steps = [-s for s in steps]
        found.append(Axis(factor.size, *steps))
    found.sort(key=lambda axis: (abs(axis.out), abs(axis.x)), reverse=True)
    merged: list[Axis] = []
    for axis in found:
        last = merged[-1] if merged else None
        if last and last.role == axis.role and all(a == b * axis.size for a, b in zip(last[1:], axis[1:], strict=True)):
            merged[-1] = Axis(last.size * axis.size, *axis[1:])
        else:
            merged.append(axis)
    return Axes(tuple(merged), tuple(base), operands)


def planned(axes: Axes, center: bool, own: bool, shapes: Shapes | None = None) -> Plan:
    """Plan the launches of a call that is not empty."""
    return _Planner(axes, OWN * own | CENTERED * center, shapes or SHAPES).planned()


class _Planner:
    """Launches as they are found, one after another."""

    def __init__(self, axes: Axes, flags: int, shapes: Shapes) -> None:
        self.axes, self.base, self.operands = axes
        self.flags, self.shapes = flags, shapes
        self.launches: list[Launch] = []
        self.pairs: dict[str, int] = {}
        self.weighted = self.operands[2].kind != "none"
        self.inside = self.weighted and any(axis.role == (False, True) for axis in self.axes)

    def planned(self) -> Plan:
        """All of them."""
        own, cell = self.flags & OWN, prod(axis.size for axis in self.axes if not any(axis.role))
        if own and self.inside and cell >= self.shapes.cell:
            left = self.totals(self.over("cells"), "cells")
            self.contract(left, "groups", weighted=True)
            self.contract(left, "slots")
            self.descend()
        elif own or (self.weighted and not self.inside):
            self.by_groups()
        else:
            self.descend()
        if self.inside and not (own and cell >= self.shapes.cell):
            left = self.totals(self.over("slots"), "slots")
            if left.name != "slots":
                self.contract(left, "slots")
        return Plan(tuple(self.launches), tuple(self.pairs.items()))

    def by_groups(self) -> None:
        """Sums of groups, the gradient of x, and from these sums those of weights, where a group has one."""
        both, one = self.over("groups", output=True), self.weighted and not self.inside
        if both.merged:
            sums = self.over("groups")
            left = self.totals(sums, "groups")
            if left.name != "groups":
                self.contract(left, "groups", weighted=self.weighted and not sums.inside)
            else:
                self.flags |= UNWEIGHTED * (self.weighted and not sums.inside)
            self.descend()
        else:
            self.flags |= UNWEIGHTED * (self.weighted and not both.inside)
            left = self.left_by("groups")
            kept = left.names if one else ("", "")
            self.launches.append(Launch(both.step("backward", self.flags, both.size), (*_WRITES, *kept)))
        if one:
            self.contract(left, "slots")

    def descend(self) -> None:
        """The gradient of x, from the sums of its groups."""
        over = self.over("groups", output=True)
        part = min(over.size, self.shapes.rounds * over.held)
        names = pair_of("groups") if self.flags & OWN else ("", "")
        self.launches.append(Launch(over.step("descend", self.flags, part), (*_WRITES, *names)))

    def totals(self, over: Pass, name: str) -> Left:
        """Sums, left where they belong, or in parts."""
        if over.merged:
            members = over.members()
            left = Left(f"parts of {name}", tuple(members), 0)
            self.pairs[left.name] = prod(member.size for member in members)
        else:
            left = self.left_by(name)
        step = over.step("totals", self.flags, over.part, over.merged)
        self.launches.append(Launch(step, (*_READS, *left.names)))
        return left

    def left_by(self, name: str) -> Left:
        """Sums of whole groups, cells or weights, by the index of each."""
        steps, first = self.steps(name)
        members = [Member(axis, axis.size, step) for axis, step in zip(self.axes, steps, strict=True) if step]
        if name != "slots":
            self.pairs[name] = prod(member.size for member in members)
        return Left(name, tuple(members), first)

    def steps(self, name: str) -> tuple[list[int], int]:
        """How far each axis leads among groups, cells or weights, and the index of what comes first."""
        if name != "cells":
            place = AXIS[name]
            return [axis[place] for axis in self.axes], self.base[place - 1]
        steps: list[int] = []
        step = 1
        for axis in reversed(self.axes):
            steps.insert(0, step if any(axis.role) else 0)
            step *= axis.size if any(axis.role) else 1
        return steps, 0

    def contract(self, left: Left, name: str, weighted: bool = False) -> None:
        """Add up sums to those of groups, or of weights; times their weights if `weighted`."""
        target, of_weight, place = left.name, self.operands[2].kind, AXIS[name]
        loops: list[Loop] = []
        reduced: list[Loop] = []
        for axis, size, step in left.members:
            index, weight = (axis[place], axis.weight * weighted) if axis else (0, 0)
            if size > 1:
                (loops if index else reduced).append(Loop(size, 8 * step, 0, weight, 0, index))
        for some in (loops, reduced):
            some.sort(key=lambda loop: abs(loop.x), reverse=True)
        *inner, rows = reduced or [UNIT]
        members, tasks = prod(loop.size for loop in reduced), prod(loop.size for loop in loops)
        parts = -(-members // self.shapes.members)
        part = -(-members // parts)
        parts = -(-members // part)
        base = 8 * left.first, 0, self.base[2] * weighted, 0, self.base[place - 1]
        kind = CODES[of_weight] if weighted else -1
        sorted_loops = SortedLoops("rows", tuple(loops), tuple(inner), rows, UNIT, UNIT, base)
        table = write(sorted_loops, parts, part, tasks, members, 0, parts > 1, kind)
        kernel = planning.on_states("contract", 0, table)
        blocks = -(-tasks // ACROSS) * parts
        if parts == 1:
            self.pairs |= {name: tasks} if name != "slots" else {}
            names = pair_of(name)
        else:
            target = f"parts of {left.name} for {name}"
            self.pairs[target] = tasks * parts
            names = pair_of(target)
        self.launches.append(
            Launch(replace(kernel, blocks=blocks), (*left.names, "weight" if weighted else "", *names))
        )
        if parts > 1:
            again, distance = [Member(None, parts, 1)], parts
            for loop in reversed(loops):
                axis = next(axis for axis in self.axes if (axis.size, axis[place]) == (loop.size, loop.group))
                again.append(Member(axis, loop.size, distance))
                distance *= loop.size
            self.contract(Left(target, tuple(again), 0), name)

    def over(self, name: str, output: bool = False) -> Pass:
        """A walk whose kept loops lead to other groups, cells or weights."""
        steps, first = self.steps(name)
        by_operand = name != "groups"
        loops, base = [], [*self.base[:4], first]
        for axis, index in zip(self.axes, steps, strict=True):
            weight = 8 * axis.group if by_operand else axis.weight
            loops.append(Loop(axis.size, axis.x, axis.out * output, weight, axis.grad, index))
        if by_operand:
            base[2] = 8 * self.base[4]
        x, out, scale, grad = self.operands
        operands = x, out if output else _ABSENT, _STATISTICS if by_operand else scale, grad
        nest = LoopNest(tuple(loops), tuple(base), 0)
        walk = planning.walk_of(nest, operands, by_row=True)
        if by_operand and walk.loops.family == "columns":
            walk = _side_by_side(nest, operands) or walk
        axes = {id(loop): axis for loop, axis in zip(loops, self.axes, strict=True)}
        return (_by_rows if walk.loops.family == "rows" else _by_columns)(walk, self.shapes, by_operand, axes)


def _side_by_side(nest: LoopNest, operands: tuple[Operand, ...]) -> Walk | None:
    """A walk of columns whose statistics do not lie as they do: of the two innermost loops of x as one, if they are.

    Kernels look for the statistics of each column by itself, so they are no reason to have fewer side by side.
    """
    *others, high, low = nest.loops if len(nest.loops) > 1 else (UNIT, *nest.loops)
    if not (high.kept and low.kept and high.x == low.x * low.size and high.bias == low.bias * low.size):
        return None
    bare = [loop._replace(weight=0) for loop in others]
    real = {id(one): loop for one, loop in zip(bare, others, strict=True)}
    both = low._replace(size=high.size * low.size, weight=0)
    walk = planning.walk_of(nest._replace(loops=(*bare, both)), operands, by_row=True)
    found = walk.loops
    if found.family != "columns" or found.low is not both or found.high is not UNIT:
        return None
    outer, inner = (tuple(real[id(loop)] for loop in some) for some in (found.outer, found.inner))
    rows = real.get(id(found.rows), UNIT)
    way = FAR if high.weight or low.weight else ONE
    return walk._replace(loops=found._replace(outer=outer, inner=inner, rows=rows, high=high, low=low), weight=way)


def pair_of(name: str) -> tuple[str, str]:
    """The names of a pair of sums: of dy, and of dy * t."""
    return ("dbias", "dweight") if name == "slots" else (name, name + "+")


def _held(walk: Walk, team: Team) -> int:
    """Values that a thread holds of x, and as many of the gradient; fewer, if it holds weights beside them."""
    wide = is_wide(walk.kinds.x) or walk.kinds.bias == "f8"
    more = walk.decode if walk.loops.family == "rows" else _by_row(walk.loops)
    more = more or (walk.loops.family == "rows" and walk.weight in (NEAR, FAR))
    return team.held("f8" if wide else walk.kinds.x, walk.vector, more)


def _by_row(loops: SortedLoops) -> bool:
    """Whether the weight, or what is in its place, differs between rows."""
    return any(loop.weight for loop in (*loops.inner, loops.rows))


def _by_rows(walk: Walk, shapes: Shapes, by_operand: bool, axes: dict[int, Axis]) -> Pass:
    size, groups = walk.rows_each * walk.loops.low.size, walk.tasks
    team = next((t for t in shapes.backward if t.threads * _held(walk, t) >= size), shapes.backward[-1])
    values, units = _held(walk, team), size // walk.vector
    held, parts = team.threads * values // walk.vector, 1
    if units > held and groups < shapes.blocks:
        parts = max(1, min(-(-shapes.parts // groups), size // shapes.part))
    return Pass(walk, team, values, held, units, -(-units // parts), False, by_operand, axes)


def _by_columns(walk: Walk, shapes: Shapes, by_operand: bool, axes: dict[int, Axis]) -> Pass:
    loops, units, rows = walk.loops, walk.columns // walk.vector, walk.rows_each
    teams = shapes.backward_columns
    team = next((team for team in teams if team.threads <= units), teams[-1])
    blocks, values = walk.tasks * -(-units // team.threads), _held(walk, team)
    held, parts = team.block // team.threads * (values // walk.vector), 1
    across = any(loop.size > 1 and not loop.kept for loop in (loops.high, loops.low))
    if across or (rows > held and blocks < shapes.blocks):
        parts = max(1, min(-(-shapes.parts // blocks), rows * team.threads * walk.vector // shapes.part))
    return Pass(walk, team, values, held, rows, -(-rows // parts), across, by_operand, axes)
