"""Which family of kernels walks a nest, and which of its loops becomes what. Thresholds are the engine's own."""

from math import prod
from typing import Literal, NamedTuple

from .nest import UNIT, Loop, LoopNest, joined

Family = Literal["rows", "columns"]


class Limits(NamedTuple):
    """From where on a loop is taken for something else; a wrong one costs time, never a result."""

    lanes: int  # columns that fill a vector, or the threads that stand for one
    long_run: (
        int  # reduced runs from here on are walked one by one, shorter ones beside their neighbours if they can be
    )
    tiny_run: int  # reduced runs up to here leave most lanes empty: many groups are walked side by side instead
    many_rows: int  # rows over which walking side by side earns back the merge of the columns
    max_columns: int  # columns that are walked side by side


class SortedLoops(NamedTuple):
    """The loops of a nest, each in its place.

    ``rows`` reduces the innermost run (`high` is unused, `low` is the run). ``columns`` keeps it: high x low columns
    side by side; where one of the two loops is reduced, its columns are merged at the end.
    """

    family: Family
    outer: tuple[Loop, ...]  # kept
    inner: tuple[Loop, ...]  # reduced
    rows: Loop  # reduced
    high: Loop
    low: Loop
    base: tuple[int, ...]


def sort_loops(nest: LoopNest, limits: Limits, by_row: bool = False) -> SortedLoops:
    """Choose the family, and put each loop in its place; `by_row`: columns may have other weights in each row."""
    family, high, low, rest = _pick_lanes(list(nest.loops), limits, by_row)
    outer = tuple(loop for loop in rest if loop.kept)
    *inner, rows = [loop for loop in rest if not loop.kept] or [UNIT]
    return SortedLoops(family, outer, tuple(inner), rows, high, low, nest.base)


def _pick_lanes(loops: list[Loop], limits: Limits, by_row: bool) -> tuple[Family, Loop, Loop, list[Loop]]:
    """Pick the loops that become lanes: (family, high, low, the rest)."""
    if not loops:
        return "columns", UNIT, UNIT, []
    *rest, low = loops
    others = prod(loop.size for loop in rest if not loop.kept)
    above = rest[-1] if rest else UNIT
    beside = bool(rest) and above.kept != low.kept and joined(above, low, operands=2)
    beside = beside and (by_row or foldable(rest[:-1]))
    if low.kept:
        # Few channels last, split into interleaved groups: take the reduced factor along, for full lanes.
        few = low.size < limits.lanes and above.size * low.size <= limits.max_columns
        if beside and few and others // above.size >= limits.many_rows:
            return "columns", above, low, rest[:-1]
        return "columns", UNIT, low, rest
    short = low.size < limits.long_run and low.size <= limits.max_columns
    if beside and short and others >= max(limits.many_rows, low.size):
        return "columns", above, low, rest[:-1]
    if low.size <= limits.tiny_run:
        kept = [loop for loop in rest if loop.kept and loop.size >= limits.lanes]
        if kept:
            rest.remove(kept[-1])
            return "columns", UNIT, kept[-1], [*rest, low]
    return "rows", UNIT, low, rest


def foldable(loops: list[Loop]) -> bool:
    """Whether weight and bias stay the same along the reduced loops, so that each column has one of them."""
    return all(loop.kept or loop.weight == loop.bias == 0 for loop in loops)
