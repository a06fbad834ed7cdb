"""What is drawn of an array: which of its axes go along which side, which elements, and the group of each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, groupby, pairwise
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..layout import Factor, Grouping, Layout, Segments
from ..patterns import Axis

WHOLE = 12  # elements along a side that are all drawn; of more than that, some
MOST = {1: (6, 6), 2: (4, 3), 3: (3, 2), 4: (2, 2)}  # steps that are drawn of a factor: kept, reduced; by their number


class Side(NamedTuple):
    """What is drawn along one direction: places among all elements of some axes in C order, and their name."""

    places: NDArray[np.int64]
    label: str

    @property
    def skips(self) -> NDArray[np.bool_]:
        """Whether elements are left out between one place and the next."""
        return np.diff(self.places) != 1


def in_part(
    layout: Layout, shape: tuple[int, ...], group: int | None, labels: NDArray[Any] | None = None
) -> tuple[NDArray[np.int64], list[Side]]:
    """Up to three sides, and the group of each cell between them. What is drawn of a group includes `group`.

    With labels, which have an axis for each of the array, groups are those of each label; -1 where that is negative.
    """
    segments = layout if isinstance(layout, Segments) else None
    names, (factors, group_shape) = layout.left_side(len(shape)), grouping_of(layout, shape)
    of_segment = prod(group_shape)  # groups
    group, ids, sides = group or 0, np.zeros((), np.int64), list[Side]()
    if labels is not None:
        group %= of_segment
    all_axes = sides_of(names, factors)
    for axes in all_axes:
        own = [f for f in factors if f.axis in axes]
        if segments and 0 in axes:
            rows, rest = _rows(segments, group // of_segment, prod(f.size for f in own)), own[1:]
            within = _places(rest, group)
            places = (rows[:, None] * prod(f.size for f in rest) + within).ravel()
            of_rows = np.searchsorted(segments.offsets, rows, side="right") - 1
            added = (of_rows[:, None] * of_segment + _group_of(within, rest)).ravel()
        else:
            places = _places(own, group)
            added = _group_of(places, own)
        ids = ids[..., None] + added
        sides.append(Side(places, _label(names, axes, own, len(places))))
    if labels is not None:
        of_cells = _labels_of(labels, factors, all_axes, sides)
        ids = np.where(of_cells < 0, -1, of_cells * of_segment + ids)
    return ids, sides


def _labels_of(
    labels: NDArray[Any], factors: Sequence[Factor], axes: list[tuple[int, ...]], sides: list[Side]
) -> NDArray[np.int64]:
    """The label of each cell."""
    index: list[Any] = [0] * labels.ndim
    for number, (own, side) in enumerate(zip(axes, sides, strict=True)):
        along = [1] * len(sides)
        along[number] = -1
        places = side.places.reshape(along)
        for axis in reversed(own):
            reduced, size = np.zeros_like(places), 1
            for factor in reversed([f for f in factors if f.axis == axis]):
                places, step = np.divmod(places, factor.size)
                if not factor.group_stride:
                    reduced, size = reduced + step * size, size * factor.size
            index[axis] = reduced
    return np.asarray(labels[tuple(index)], np.int64)


def grouping_of(layout: Layout, shape: tuple[int, ...]) -> Grouping:
    """What a layout makes of a shape; one of segments, of all rows as one segment."""
    return layout.resolve_within(shape) if isinstance(layout, Segments) else layout.resolve(shape)


def _rows(layout: Segments, wanted: int, length: int) -> NDArray[np.int64]:
    """Rows that are drawn: all if they are few, else of some segments the first two and the last.

    The segments are the first ones that have rows, the wanted one, and the last.
    """
    if length <= WHOLE:
        return np.arange(layout.offsets[-1])
    found = list[int]()
    for row in _some_segments(layout.offsets, wanted):
        begin, end = (int(n) for n in layout.offsets[row : row + 2])
        found += sorted({begin, min(begin + 1, end - 1), end - 1})
    return np.array(found, np.int64)


def _some_segments(offsets: NDArray[np.int64], wanted: int) -> list[int]:
    """Up to four segments that have rows: the first ones, the wanted one, the last."""
    number, end = len(offsets) - 1, int(offsets[-1])
    first, row = list[int](), 0
    while len(first) < 4 and row < end:
        first.append(int(np.searchsorted(offsets, row, side="right")) - 1)
        row = int(offsets[first[-1] + 1])
    if row == end:
        return first
    last = int(np.searchsorted(offsets, end, side="left")) - 1
    some = {*first[:3], last}
    if wanted not in some and 0 <= wanted < number and offsets[wanted] < offsets[wanted + 1]:
        some = {*first[:2], wanted, last}
    return sorted(some)


def sides_of(names: list[Axis], factors: Sequence[Factor]) -> list[tuple[int, ...]]:
    """Axes for each side: of more than three, neighbours together, so that groups fall to pieces as little as can be.

    A group is in pieces along a side where something kept comes after something reduced.
    """
    axes = tuple(axis for axis, item in enumerate(names) if item)  # one that is written as 1 has no side
    if len(axes) <= 3:
        return [(axis,) for axis in axes]
    roles = {a: [f.group_stride > 0 for f in factors if f.axis == a and f.size > 1] for a in axes}

    def cost(cuts: tuple[int, int]) -> tuple[int, int]:
        ways = [[role for a in axes[i:j] for role in roles[a]] for i, j in pairwise((0, *cuts, len(axes)))]
        changes = [(before, after) for way in ways for before, after in pairwise(way) if before != after]
        return changes.count((False, True)), len(changes)

    cuts = min(combinations(range(1, len(axes)), 2), key=cost)  # of equals the first, in which last axes are together
    return [axes[i:j] for i, j in pairwise((0, *cuts, len(axes)))]


def _places(factors: Sequence[Factor], group: int) -> NDArray[np.int64]:
    """Places that are drawn of a side: all if they are few, else of every factor the first ones, the group's, the last.

    Neighbouring factors of one role count as one.
    """
    length = prod(f.size for f in factors)
    if length <= WHOLE:
        return np.arange(length)
    runs = [list(run) for _, run in groupby((f for f in factors if f.size > 1), lambda f: f.group_stride > 0)]
    places = np.zeros(1, np.int64)
    for i, run in enumerate(runs):
        size, its_own, kept = 1, 0, run[0].group_stride > 0
        for f in run:
            size, its_own = size * f.size, its_own * f.size + (group // f.group_stride % f.size if kept else 0)
        most = MOST[min(len(runs), 4)][not kept] if i >= len(runs) - 4 else 1
        places = (places[:, None] * size + _some(size, most, its_own)).ravel()
    return places


def _some(size: int, most: int, wanted: int) -> list[int]:
    """At most so many numbers below `size`, `wanted` among them: the first ones, and the last."""
    if size <= most:
        return list(range(size))
    if most == 1:
        return [wanted]
    some = [*range(most - 1), size - 1]
    if wanted not in some:
        some[-2] = wanted
    return some


def _group_of(places: NDArray[np.int64], factors: Sequence[Factor]) -> NDArray[np.int64]:
    """What a side adds to the number of the group at each place."""
    ids = np.zeros(len(places), np.int64)
    for factor in reversed(factors):
        places, step = np.divmod(places, factor.size)
        ids += step * factor.group_stride
    return ids


def _label(names: list[Axis], axes: Sequence[int], factors: Sequence[Factor], drawn: int) -> str:
    """Names as the pattern has them; and sizes, if not all elements are drawn."""
    named = [(names[a], a) for a in axes]
    numbered = [len(item) == 1 and (item == (f"axis{a}",) or not item[0].isidentifier()) for item, a in named]
    if all(numbered):
        name = f"{'axis' if len(axes) == 1 else 'axes'} {', '.join(map(str, axes))}"
    else:
        words = [f"axis {a}" if number else " ".join(item) for (item, a), number in zip(named, numbered, strict=True)]
        name = ", ".join(f"({word})" if len(item) > 1 else word for word, (item, _) in zip(words, named, strict=True))
    if drawn == prod(f.size for f in factors):
        return name
    within = "·" if len(axes) > 1 else " × "
    return f"{name} = " + " × ".join(within.join(str(f.size) for f in factors if f.axis == a) for a in axes)


def example(layout: Layout) -> tuple[int, ...] | None:
    """A small shape that the layout fits, of three axes if it may, with segments of two; None if sizes are missing."""
    segments = isinstance(layout, Segments)
    for ndim in (*((2, 3, 4) if segments else (3, 4, 2)), 1, 0, *range(5, 65)):
        try:
            items = layout.left_side(ndim)
        except ValueError:
            continue
        sizes = layout.sizes
        lone = 4 if ndim <= 3 else 3
        shape = tuple(prod(sizes.get(name, lone if len(item) == 1 else 3) for name in item) for item in items)
        if isinstance(layout, Segments):
            shape = int(layout.offsets[-1]), *shape[1:]
        try:
            grouping_of(layout, shape)
        except ValueError:
            return None
        return None if 0 in shape else shape
    return None
