"""LoopNest: how memory is walked. A handful of integers, however large the array is.

A Layout gives each axis of the array its factors, kept or reduced; strides turn them into loops. Loops that step
through memory as one are merged, jointly for every operand, so that the norms in common use come down to a few loops
over long contiguous runs.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ..layout import Grouping
from .slots import OPERANDS


class Loop(NamedTuple):
    """`size` steps; one step moves each operand by so many bytes, and the group's index by `group` (0: reduced)."""

    size: int
    x: int
    out: int
    weight: int
    bias: int
    group: int

    @property
    def kept(self) -> bool:
        """Whether its steps lead to other groups."""
        return self.group != 0

    @property
    def strides(self) -> tuple[int, ...]:
        """Its steps, without the size."""
        return self[1:]


UNIT = Loop(1, 0, 0, 0, 0, 0)


class LoopNest(NamedTuple):
    """Loops in the order of memory, the innermost last.

    `base` is the offset at which each operand, and the group's index, begins: not 0 where a reversed axis is walked
    from its other end.
    """

    loops: tuple[Loop, ...]
    base: tuple[int, ...]
    groups: int


def build(grouping: Grouping, strides: Sequence[Sequence[int] | None]) -> LoopNest:
    """Make the LoopNest of a grouping for operands with these byte strides.

    Parameters
    ----------
    grouping : Grouping
        A Layout applied to the shape. No factor may be empty.
    strides : sequence
        For each of `OPERANDS` its strides along the axes of x, or None where there is no such operand.
    """
    base = [0] * (len(OPERANDS) + 1)
    loops = []
    groups = 1
    for factor in grouping.factors:
        if factor.size == 1:
            continue
        steps = [0 if s is None else s[factor.axis] * factor.stride for s in strides] + [factor.group_stride]
        if (steps[1] or steps[0]) < 0:
            base = [b + s * (factor.size - 1) for b, s in zip(base, steps, strict=True)]
            steps = [-s for s in steps]
        loops.append(Loop(factor.size, *steps))
        groups *= factor.size if factor.group_stride else 1
    # The output's order decides, since writing is dearer than reading; x's where nothing is written.
    loops.sort(key=lambda loop: (abs(loop.out), abs(loop.x)), reverse=True)
    return LoopNest(tuple(_merged(loops)), tuple(base), groups)


def stretched(name: str, shape: tuple[int, ...], own: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of an operand of shape `own`, broadcast to x's shape."""
    missing = len(shape) - len(own)
    if missing < 0 or any(n not in (1, size) for n, size in zip(own, shape[missing:], strict=True)):
        raise ValueError(
            f"{name} of shape {own} does not broadcast to x's shape {shape}; "
            "for one value a channel give it a shape such as (C, 1, 1)"
        )
    return (0,) * missing + tuple(0 if n == 1 else step for n, step in zip(own, strides, strict=True))


def joined(outer: Loop, inner: Loop, operands: int = 5) -> bool:
    """Whether two loops step through memory as one, for the first so many operands."""
    pairs = zip(outer.strides[:operands], inner.strides[:operands], strict=True)
    return all(o == i * inner.size for o, i in pairs)


def _merged(loops: list[Loop]) -> list[Loop]:
    done: list[Loop] = []
    for loop in loops:
        if done and done[-1].kept == loop.kept and joined(done[-1], loop):
            done[-1] = Loop(done[-1].size * loop.size, *loop.strides)
        else:
            done.append(loop)
    return done
