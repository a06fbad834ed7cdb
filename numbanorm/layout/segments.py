"""Segments: rows of different lengths, end to end along axis 0."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..patterns import Axis
from . import AxesOf, Layout
from .arguments import as_shape, shown
from .grouping import Grouping
from .values import expanded


class Segments(Layout):
    """Layout of rows of different lengths, end to end along axis 0: see `Layout.segments`.

    Parameters
    ----------
    offsets : ndarray of int64
        Checked, and nobody else's.
    within : Layout
        The groups of one segment.
    said : str
        `within` as the caller wrote it, for messages.
    """

    __slots__ = ("_said", "memo", "offsets", "within")

    offsets: NDArray[np.int64]
    within: Layout

    def __init__(self, offsets: NDArray[np.int64], within: Layout, said: str) -> None:
        offsets.flags.writeable = False
        self.offsets, self.within, self._said = offsets, within, said
        self.memo: dict[Any, Any] = {}  # what engines keep with these offsets, and only for as long as these are there
        self._sizes, self._settled = within._sizes, within._settled
        some = tuple(offsets[:: max(1, self.number // 16)].tolist())
        self._hash = hash((self.number, offsets[-1].item(), some, within))
        self._check()

    @property
    def _text(self) -> str:  # type: ignore[override]
        """Written out when somebody asks."""
        some = self.offsets if self.number < 8 else [*self.offsets[:4], "...", self.offsets[-1]]
        return f"Layout.segments([{', '.join(map(str, some))}]{self._said})"

    @property
    def _axes_of(self) -> AxesOf:  # type: ignore[override]
        return self._reducing  # not kept: a layout goes, with its offsets, when nobody holds it

    def _check(self) -> None:
        """Refuse a layout that has no segments, whatever the number of axes."""
        wrong: ValueError | None = None
        for ndim in range(1, self._settled + 3):
            if self.within._meaning(ndim) is not None:
                try:
                    self._reducing(ndim)
                    return
                except ValueError as error:
                    wrong = wrong or error
        if wrong:
            raise wrong

    @property
    def number(self) -> int:
        """How many segments there are."""
        return len(self.offsets) - 1

    @property
    def longest(self) -> int:
        """Rows of the longest segment."""
        if "longest" not in self.memo:
            self.memo["longest"] = int(np.diff(self.offsets).max(initial=0))
        longest: int = self.memo["longest"]
        return longest

    def _reducing(self, ndim: int) -> tuple[list[Axis], list[Axis]]:
        """Both sides of the layout of one segment, if it reduces axis 0."""
        if ndim == 0:
            raise ValueError(f"{self._text}: segments lie along axis 0, but the array has no axis; give it one")
        left, right = self.within._axes_of(ndim)
        names = {name for item in right for name in item}
        if names.intersection(left[0]):
            raise ValueError(
                f"{self._text}: segments lie along axis 0, which they reduce, but {self.within!r} keeps it; reduce it, "
                "as axis=0 or 't f -> f' do, and further axes with it where that is meant: axis=(0, 1), 't f -> '"
            )
        if len(left[0]) != 1 or left[0][0] in self._sizes:
            raise ValueError(
                f"{self._text}: axis 0 is as long as each segment, so it has one name without a size; write it as in "
                "'t f -> f'"
            )
        return left, right

    def resolve(self, shape: Sequence[int]) -> Grouping:
        """Refuse: groups of different sizes are no Grouping. `resolve_within` and `offsets` say what they are."""
        raise TypeError(
            f"{self._text} has groups of different sizes, which this does not take; moments and normalize take it, of "
            "arrays on the host"
        )

    def resolve_within(self, shape: Sequence[int]) -> Grouping:
        """What the layout of one segment makes of a shape, as if all of axis 0 were one segment."""
        shape = as_shape(shape)
        self._reducing(len(shape))
        end, length = int(self.offsets[-1]), shape[0]
        if end > length:
            raise ValueError(
                f"{self._text}: the last offset is {end}, past the end of axis 0 of shape {shape}, which is {length} "
                f"long; offsets end with {length}"
            )
        if end < length:
            raise ValueError(
                f"{self._text}: the last offset is {end}, but axis 0 of shape {shape} is {length} long, so some of it "
                f"would be in no segment; append {length} to the offsets, or pass x[:{end}]"
            )
        return self.within.resolve(shape)

    def group_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of the statistics: segments in front, then the groups of each."""
        return (self.number, *self.resolve_within(shape).group_shape)

    def group_ids(self, shape: Sequence[int]) -> NDArray[np.int64]:
        """Group of every element, as an index into the flattened group shape. This is the definition of a layout."""
        groups = prod(self.resolve_within(shape).group_shape)
        ids = self.within.group_ids(shape)
        return ids + self.segment_of_rows().reshape(-1, *[1] * (ids.ndim - 1)) * groups

    def segment_of_rows(self) -> NDArray[np.int64]:
        """The segment of each row."""
        return np.repeat(np.arange(self.number), np.diff(self.offsets))

    def expand(self, values: Any, shape: Sequence[int]) -> Any:
        """Values of the group shape, seen at the shape of the array: see `Layout.expand`. They are copied to each row.

        Parameters
        ----------
        values : array_like
            Of the group shape, of any dtype.
        shape : sequence of int
            Of the array.
        """
        shape = as_shape(shape)
        factors, group_shape = self.resolve_within(shape)
        values, rows = self._checked_values(values, shape), self.segment_of_rows()
        values = values[rows] if hasattr(values, "expand") else values.take(rows, axis=0)
        kept = [f._replace(group_stride=prod(group_shape)) if f.axis == 0 else f for f in factors]
        return expanded(values, kept, (shape[0], *group_shape), shape)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Segments):
            return False if isinstance(other, Layout) else NotImplemented
        return self._hash == other._hash and np.array_equal(self.offsets, other.offsets) and self.within == other.within

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple:
        return Segments, (self.offsets.copy(), self.within, self._said)


def as_offsets(offsets: Any) -> NDArray[np.int64]:
    """Offsets of segments, checked and copied."""
    mend = "for segments of 3 and 2 rows they are [0, 3, 5]"
    if isinstance(offsets, np.ma.MaskedArray):
        raise TypeError(f"offsets are a masked array, whose mask would be lost; {mend}")
    if isinstance(offsets, str | bytes | Mapping | int | float) or not (
        isinstance(offsets, Iterable) or hasattr(offsets, "__array__")
    ):
        raise TypeError(f"offsets must be a sequence of integers, got {shown(offsets)}; {mend}")
    if hasattr(offsets, "__cuda_array_interface__") and not hasattr(offsets, "__array__"):
        raise TypeError(f"offsets must lie on the host, got {shown(offsets)}; copy them there")
    try:
        given = np.asarray(offsets if hasattr(offsets, "__array__") else list(offsets))
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise TypeError(f"offsets must be integers on the host, got {shown(offsets)} ({error}); {mend}") from None
    if given.ndim != 1:
        raise ValueError(f"offsets must have one axis, got shape {given.shape}; {mend}")
    if not len(given):
        raise ValueError("offsets are empty, but the first is 0; for no segments pass [0]")
    if given.dtype.kind not in "iu":
        raise TypeError(f"offsets must be integers, got {shown(given)}; {mend}")
    if given.max() > np.iinfo(np.int64).max:
        raise ValueError(f"offsets reach {given.max()}, more than an array can have rows; {mend}")
    checked = np.array(given, np.int64, order="C")
    lengths = "if these are lengths, pass np.cumsum([0, *lengths])"
    if checked[0] != 0:
        first = checked[0]
        cut = f"; to leave rows out, pass x[{first}:] and offsets - {first}" if first > 0 else ""
        raise ValueError(f"offsets begin with {first}, but the first segment begins at 0; {lengths}{cut}")
    falling = np.flatnonzero(checked[1:] < checked[:-1])
    if falling.size:
        at = int(falling[0])
        raise ValueError(
            f"offsets decrease from {checked[at]} to {checked[at + 1]}, at index {at + 1}, but segments lie end to "
            f"end; {lengths}"
        )
    return checked


def within_segments(layout: Any, axis: Any, sizes: dict[str, int]) -> tuple[Layout, str]:
    """The layout of one segment, and how the caller wrote it."""
    if layout is not None and axis is not None:
        raise ValueError(f"layout={layout!r} and axis={axis!r} both say what to reduce; pass one of them")
    if isinstance(layout, str):
        pattern = Layout(layout, **sizes)
        return pattern, f", {pattern._text.removeprefix('Layout(')[:-1]}"
    if sizes:
        name = next(iter(sizes))
        raise TypeError(
            f"Layout.segments() got an unexpected keyword argument {name!r}; it takes offsets, layout, axis; and with "
            "a pattern sizes of its names"
        )
    if isinstance(layout, Segments):
        raise TypeError(f"segments within segments, {layout!r}, are not offered; pass the offsets of the inner ones")
    if isinstance(layout, Layout):
        return layout, f", {layout!r}"
    if layout is not None:
        raise TypeError(
            f"layout must be a pattern or a Layout, got {shown(layout)}; for axes write axis={shown(layout)}"
            if isinstance(layout, int | tuple | list)
            else f"layout must be a pattern or a Layout, got {shown(layout)}"
        )
    if axis is None:
        return Layout.axes(None), ""
    return Layout.axes(axis), f", axis={axis!r}"
