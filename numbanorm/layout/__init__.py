"""Layout: which elements of an array share statistics. Pure meaning: no strides, no dtypes, no device.

Others import from here, not from the files beside.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache, wraps
from importlib import import_module
from operator import index
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..patterns import Axis, did_you_mean, expand, fixed_axes, in_numbers, names_of, parse
from .arguments import as_int, as_ints, as_shape, names_of_divisors, shown
from .grouping import Factor, Grouping, grouping_of
from .values import as_values, expanded

__all__ = [
    "AxesOf",
    "Factor",
    "Grouping",
    "Layout",
    "Segments",
    "as_int",
    "as_ints",
    "as_shape",
    "names_of_divisors",
    "shown",
]

_MOST_AXES = 64  # of an array, by NumPy and by torch
_MOST_SHAPES = 256  # whose factors a layout keeps
AxesOf = Callable[[int], tuple[list[Axis], list[Axis]]]  # from a number of axes to both sides of a pattern


def _interned(make: Callable[..., Layout]) -> Any:
    """Decorator of a named constructor: equal ints give one object, found in 0.2 microseconds."""
    known = lru_cache(maxsize=256)(make)

    @wraps(make)
    def constructor(cls: type[Layout], *args: Any, **kwargs: Any) -> Layout:
        for value in (*args, *kwargs.values()):
            if type(value) is not int:  # 2.0 equals 2 and is none; a tensor equals itself whatever it holds
                return make(cls, *args, **kwargs)
        return known(cls, *args, **kwargs)  # type: ignore[arg-type]

    return classmethod(constructor)


class Layout:
    """Which elements of an array share their mean and variance.

    Parameters
    ----------
    pattern : str
        A pattern in einops' grammar. The left side has one item for each axis of the array: a name, a product of
        names in parentheses, ``1``, or (once) ``...`` for any number of axes. The right side names what is kept:
        every combination of the kept names is one group, and what is missing on the right is reduced.
    **sizes : int
        Sizes of names. In parentheses all names but one need a size.

    Raises
    ------
    ValueError
        If the pattern does not parse, a name stands twice, or the right side names what the left side does not have;
        if a name is a parameter of this package's functions, such as x or out; if a size is no positive integer.
    TypeError
        If a size is given for what is no name of the pattern.

    Notes
    -----
    Layouts are equal if they mean the same: on every shape the same groups in the same order, or both do not fit. How
    a pattern is spaced and what its names are does not matter, and ``Layout.batch()`` equals
    ``Layout("n c ... -> c")``; it does not equal ``Layout("n c h w -> c")``, which fits four axes only.

    The grammar is that of einops (A. Rogozhnikov, "Einops: Clear and Reliable Tensor Manipulations with
    Einstein-like Notation", ICLR 2022).

    Examples
    --------
    >>> import numbanorm as nbn
    >>> layout = nbn.Layout("n (g c) h w -> n g", g=32)
    >>> layout.group_shape((8, 64, 14, 14))
    (8, 32)
    >>> nbn.Layout("(h p) -> h", p=2).group_ids((6,))
    array([0, 0, 1, 1, 2, 2])
    >>> nbn.Layout("(p h) -> h", p=2).group_ids((6,))
    array([0, 1, 2, 0, 1, 2])
    """

    __slots__ = ("_axes_of", "_hash", "_key", "_resolved", "_settled", "_sizes", "_text")

    def __init__(self, pattern: str, **sizes: int) -> None:
        if not isinstance(pattern, str):
            raise TypeError(f"a pattern is a str such as 'n c h w -> n c', got {type(pattern).__name__}")
        pattern = str.__str__(pattern)  # of a subclass, such as NumPy's, the plain text
        left, right = parse(pattern)
        names = names_of(pattern)
        for name, size in sizes.items():
            if name not in names:
                raise TypeError(
                    f"Layout() got an unexpected keyword argument {name}={size!r}: {pattern!r} has the names "
                    f"{', '.join(names) or 'of no axis'}{did_you_mean(name, names)}"
                )
            if isinstance(size, bool) or not hasattr(size, "__index__") or size < 1:
                raise ValueError(f"size {name}={size!r} for {pattern!r} must be a positive integer")
        sizes = {name: as_int(size, name) for name, size in sizes.items()}
        given = "".join(f", {name}={size}" for name, size in sizes.items())
        self._fill(
            f"Layout({pattern!r}{given})",
            (pattern, tuple(sorted(sizes.items()))),
            sizes,
            lambda ndim: expand(left, right, ndim, self._text),
            fixed_axes(left),
            fixed_axes(left),
        )

    @classmethod
    def _named(cls, text: str, axes_of: AxesOf, least: int, settled: int | None = None, **sizes: int) -> Layout:
        self = object.__new__(cls)
        self._fill(text, (text, ()), sizes, axes_of, least, least if settled is None else settled)
        return self

    def _fill(self, text: str, key: tuple, sizes: dict[str, int], axes_of: AxesOf, least: int, settled: int) -> None:
        """Set all attributes.

        No array of less than `least` axes fits; beyond `settled` axes further ones come at one place, all alike.
        """
        self._text, self._key, self._sizes, self._axes_of = text, key, sizes, axes_of
        self._resolved: dict[tuple[int, ...], Grouping] = {}
        self._settled = min(settled, _MOST_AXES)
        meanings = (self._meaning(ndim) for ndim in range(least, self._settled + 1))
        self._hash = hash(next((meaning for meaning in meanings if meaning), text))

    @classmethod
    def axes(cls, axes: int | Sequence[int] | None) -> Layout:
        """Reduce over these axes, as NumPy's ``axis=``: an int, several, or None for all; negative from the end.

        Examples
        --------
        >>> import numbanorm as nbn
        >>> nbn.Layout.axes((0, 2, 3)).group_shape((8, 64, 14, 14))
        (64,)
        """
        if axes is None:
            return _all_axes()
        return cls._axes(as_ints(axes, "axis"))

    @classmethod
    @lru_cache(maxsize=256)
    def _axes(cls, wanted: tuple[int, ...]) -> Layout:
        text = f"Layout.axes({wanted})"

        def axes_of(ndim: int) -> tuple[list[Axis], list[Axis]]:
            reduced = [_position(a, ndim, text) for a in wanted]
            if len(set(reduced)) < len(reduced):
                raise ValueError(f"{text} names an axis twice for an array of {ndim} axes; name each once")
            left = _names(ndim)
            return left, [item for i, item in enumerate(left) if i not in reduced]

        front, back = max((0, *(a + 1 for a in wanted))), max((0, *(-a for a in wanted)))
        return cls._named(text, axes_of, max(front, back), front + back)

    @_interned
    def batch(cls, channel_axis: int = 1) -> Layout:
        """One group a channel, as in batch norm.

        Examples
        --------
        >>> import numbanorm as nbn
        >>> nbn.Layout.batch().group_shape((8, 64, 14, 14))
        (64,)
        """
        channel_axis = as_int(channel_axis, "channel_axis")
        text = f"Layout.batch(channel_axis={channel_axis})"

        def axes_of(ndim: int) -> tuple[list[Axis], list[Axis]]:
            left = _names(ndim)
            return left, [left[_position(channel_axis, ndim, text)]]

        return cls._named(text, axes_of, max(channel_axis + 1, -channel_axis))

    @_interned
    def instance(cls, channel_axis: int = 1) -> Layout:
        """One group for each sample (axis 0) and channel, as in instance norm.

        Examples
        --------
        >>> import numbanorm as nbn
        >>> nbn.Layout.instance(channel_axis=-1).group_shape((8, 14, 14, 64))
        (8, 64)
        """
        channel_axis = as_int(channel_axis, "channel_axis")
        return cls._group(f"Layout.instance(channel_axis={channel_axis})", channel_axis)

    @_interned
    def layer(cls, num_axes: int = 1) -> Layout:
        """Reduce over the last `num_axes` axes, as in layer norm.

        Examples
        --------
        >>> import numbanorm as nbn
        >>> nbn.Layout.layer(2).group_shape((8, 16, 768))
        (8,)
        """
        count = as_int(num_axes, "num_axes")
        text = f"Layout.layer(num_axes={count})"
        if count < 1:
            raise ValueError(f"{text}: num_axes must be at least 1")

        def axes_of(ndim: int) -> tuple[list[Axis], list[Axis]]:
            if count > ndim:
                raise ValueError(f"{text} needs an array of {count} axes or more, got {ndim}; give fewer num_axes")
            left = _names(ndim)
            return left, left[: ndim - count]

        return cls._named(text, axes_of, count)

    @_interned
    def group(cls, num_groups: int, channel_axis: int = 1) -> Layout:
        """One group for each sample (axis 0) and each of `num_groups` equal sets of neighbouring channels.

        Examples
        --------
        >>> import numbanorm as nbn
        >>> nbn.Layout.group(32).group_shape((8, 64, 14, 14))
        (8, 32)
        """
        groups, channel_axis = as_int(num_groups, "num_groups"), as_int(channel_axis, "channel_axis")
        text = f"Layout.group({groups}, channel_axis={channel_axis})"
        if groups < 1:
            raise ValueError(f"{text}: num_groups must be at least 1")
        return cls._group(text, channel_axis, groups)

    @classmethod
    def segments(
        cls,
        offsets: Any,
        layout: str | Layout | None = None,
        *,
        axis: int | Sequence[int] | None = None,
        **sizes: int,
    ) -> Layout:
        """Rows of different lengths, end to end along axis 0: statistics of each are its own.

        Segment i is ``x[offsets[i]:offsets[i + 1]]``, with all further axes. Its groups are those that a layout makes
        of it, or ``axis=``, as in `moments`; with neither, all of a segment is one group.

        Parameters
        ----------
        offsets : array_like of int
            Where segments begin, and behind them where the last one ends: from 0 to the length of axis 0, never
            decreasing. Equal neighbours are an empty segment. They are copied.
        layout : str or Layout, optional
            How each segment splits into groups: a pattern such as ``"t f -> f"``, or a `Layout`. It reduces all of
            axis 0.
        axis : int or sequence of int, optional
            In place of a layout: the axes to reduce in each segment, axis 0 among them.
        **sizes : int
            Sizes of the pattern's names.

        Returns
        -------
        Layout
            Its group shape is that of one segment, with an axis of segments in front.

        Raises
        ------
        ValueError
            If offsets have more than one axis, do not begin with 0, or decrease; if the layout keeps axis 0.
        TypeError
            If offsets are no integers; if the layout is one of segments itself.

        Examples
        --------
        Two utterances of 2 and 3 steps, with two features: statistics of each utterance, and of each feature of it.

        >>> import numbanorm as nbn
        >>> import numpy as np
        >>> x = np.array([[1.0, 5.0], [3.0, 7.0], [0.0, 10.0], [1.0, 20.0], [2.0, 30.0]])
        >>> nbn.moments(x, nbn.Layout.segments([0, 2, 5])).mean
        array([ 4. , 10.5])
        >>> nbn.moments(x, nbn.Layout.segments([0, 2, 5], axis=0)).mean
        array([[ 2.,  6.],
               [ 1., 20.]])
        """
        return Segments(as_offsets(offsets), *within_segments(layout, axis, sizes))

    @classmethod
    def _group(cls, text: str, channel_axis: int, groups: int | None = None) -> Layout:
        """Keep axis 0 and the channel axis, or the slower factor of it."""

        def axes_of(ndim: int) -> tuple[list[Axis], list[Axis]]:
            channel = _position(channel_axis, ndim, text)
            if channel == 0:
                raise ValueError(f"{text}: axis 0 is the batch, channels need another axis; the array has {ndim} axes")
            left = _names(ndim)
            if groups is not None:
                left[channel] = ("g", "c")
            return left, [left[0], left[channel][:1]]

        return cls._named(text, axes_of, 1 + abs(channel_axis), **({} if groups is None else {"g": groups}))

    @property
    def sizes(self) -> dict[str, int]:
        """Sizes of names, as far as they are given."""
        return dict(self._sizes)

    def left_side(self, ndim: int) -> list[Axis]:
        """Names of the factors of each axis of an array of so many axes."""
        return self._axes_of(ndim)[0]

    def right_side(self, ndim: int) -> list[Axis]:
        """Names of the factors of each axis of the statistics of such an array."""
        return self._axes_of(ndim)[1]

    def resolve(self, shape: Sequence[int]) -> Grouping:
        """Apply the layout to a shape; cached. Factors are those that it writes: an equal layout may write others."""
        shape = as_shape(shape)
        known = self._resolved.get(shape)
        if known is None:
            left, right = self._axes_of(len(shape))
            known = grouping_of(left, right, self._sizes, self._text, shape)
            if len(self._resolved) >= _MOST_SHAPES:
                self._resolved.clear()
            self._resolved[shape] = known
        return known

    def group_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of the statistics of an array of this shape: the axes in the order written on the right."""
        return self.resolve(shape).group_shape

    def group_ids(self, shape: Sequence[int]) -> NDArray[np.int64]:
        """Group of every element, as an index into the flattened group shape. This is the definition of a layout."""
        factors = self.resolve(shape).factors
        ids = np.zeros([f.size for f in factors], np.int64)
        for i, factor in enumerate(factors):
            along = [1] * len(factors)
            along[i] = factor.size
            ids += (np.arange(factor.size) * factor.group_stride).reshape(along)
        return ids.reshape(as_shape(shape))

    def expand(self, values: Any, shape: Sequence[int]) -> Any:
        """Values of the group shape, such as a mean of every group, seen at the shape of the array they belong to.

        Parameters
        ----------
        values : array_like
            Of the group shape, of any dtype: what ``group_shape(shape)`` says.
        shape : sequence of int
            Of the array.

        Returns
        -------
        array
            Of that shape: every element has its group's value. It takes no memory, but where the layout keeps a part
            of an axis, as ``(g c)`` in group norm: then the values are copied once for each step along that axis.
            An ndarray is read-only; a tensor gives a tensor, in which elements share memory: do not write to it.

        Raises
        ------
        ValueError
            If the layout does not fit the shape, or values have another shape than its groups.
        TypeError
            If values are no array.

        Examples
        --------
        The inverse of `normalize`:

        >>> import numbanorm as nbn
        >>> import numpy as np
        >>> x = np.array([[1.0, 3.0, 10.0, 30.0], [2.0, 6.0, 20.0, 60.0]])
        >>> layout = nbn.Layout("n (g c) -> n g", g=2)
        >>> y, m = nbn.normalize(x, layout, eps=1e-5, return_moments=True)
        >>> std = np.sqrt(m.var() + 1e-5)
        >>> y * layout.expand(std, x.shape) + layout.expand(m.mean, x.shape)
        array([[ 1.,  3., 10., 30.],
               [ 2.,  6., 20., 60.]])
        """
        shape = as_shape(shape)
        factors, group_shape = self.resolve(shape)
        return expanded(self._checked_values(values, shape), factors, group_shape, shape)

    def of_ragged(self, offsets: NDArray[np.int64], ndim: int) -> Layout:
        """What the layout of an object of rows of different lengths means for these, end to end along one axis.

        Parameters
        ----------
        offsets : ndarray of int64
            Of the rows, which axis 0 of the object counts; along its axis 1 they differ.
        ndim : int
            Axes of the object: one more than the rows have end to end.
        """
        left, right = self._axes_of(ndim)
        kept = {name for item in right for name in item}
        whole = "x is a NestedTensor, which holds rows of different lengths"
        mend = "pass x.values() for all of them end to end, or them one by one, from x.unbind()"
        if kept.intersection(left[1]):
            raise TypeError(
                f"{whole} along axis 1, but {self._text} keeps that axis; reduce it, as in axis=1; or {mend}"
            )
        if not kept.issuperset(left[0]):
            raise TypeError(
                f"{whole}, but {self._text} reduces axis 0, which counts them; keep it, as in axis=1; or {mend}"
            )
        if len(left[0]) != 1 or right[:1] != left[:1]:
            raise TypeError(
                f"{whole}, of which {self._text} splits or moves axis 0; write it first on the right; or {mend}"
            )
        number, wanted = len(offsets) - 1, self._sizes.get(left[0][0])
        if wanted not in (None, number):
            raise ValueError(f"{self._text} has {left[0][0]}={wanted}, but x has {number} rows")

        def axes_of(other: int) -> tuple[list[Axis], list[Axis]]:
            left, right = self._axes_of(other + 1)
            return left[1:], right[1:]

        sizes = {name: size for name, size in self._sizes.items() if name != left[0][0]}
        within = Layout._named(self._text, axes_of, ndim - 1, **sizes)
        return Segments(offsets.copy(), within, f", of {self._text}")

    def _checked_values(self, values: Any, shape: tuple[int, ...]) -> Any:
        """Values that are one a group."""
        values, group_shape = as_values(values), self.group_shape(shape)
        if tuple(values.shape) != group_shape:
            raise ValueError(
                f"values have shape {tuple(values.shape)}, but {self._text} on shape {shape} has groups of shape "
                f"{group_shape}; pass one value a group, such as moments.mean"
            )
        return values

    def _meaning(self, ndim: int) -> Any:
        """What the layout says of so many axes, in numbers only: equal for equal meanings; None if it does not fit."""
        try:
            left, right = self._axes_of(ndim)
        except ValueError:
            return None
        return in_numbers(left, right, self._sizes)

    def __repr__(self) -> str:
        return self._text

    def _repr_html_(self) -> str | None:
        """For notebooks: a picture, if matplotlib is installed. Else None: they show the text."""
        html: str | None = import_module("numbanorm.plot").as_html(self)  # it stands above: imported when it is needed
        return html

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Layout):
            return NotImplemented
        if self._key == other._key:
            return True
        if self._hash != other._hash:
            return False
        numbers = range(max(self._settled, other._settled) + 3)  # two more axes show where further ones come
        ours, theirs = [self._meaning(n) for n in numbers], [other._meaning(n) for n in numbers]
        return ours == theirs and any(ours)

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple:
        return _rebuild, (self._text,) if not self._key[1] and "->" not in self._text else (self._key,)


@lru_cache
def _all_axes() -> Layout:
    return Layout._named("Layout.axes(None)", lambda ndim: (_names(ndim), []), 0)


def _rebuild(key: str | tuple) -> Layout:
    """Undo `Layout.__reduce__`: from the text of a named constructor, or from a pattern and its sizes."""
    if isinstance(key, tuple):
        return Layout(key[0], **dict(key[1]))
    name, arguments = re.fullmatch(r"Layout\.(\w+)\((.*)\)", key).groups()  # type: ignore[union-attr]
    numbers = [int(n) for n in re.findall(r"-?\d+", arguments)]
    if name == "axes":
        return Layout.axes(None if arguments == "None" else numbers)
    return getattr(Layout, name)(*numbers)


def _names(ndim: int) -> list[Axis]:
    return [(f"axis{i}",) for i in range(ndim)]


def _position(axis: int, ndim: int, text: str) -> int:
    axis = index(axis)
    if not -ndim <= axis < ndim:
        fits = f"use {-ndim} to {ndim - 1}" if ndim else "which has none to reduce or keep"
        raise ValueError(f"{text}: axis {axis} is out of range for an array of {ndim} axes; {fits}")
    return axis % ndim


# Below what they are made of: a Layout makes Segments, which are a Layout.
from .segments import Segments, as_offsets, within_segments  # noqa: E402
