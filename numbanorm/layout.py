"""Layout: which elements of an array share statistics. Pure meaning: no strides, no dtypes, no device."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, wraps
from importlib import import_module
from math import isqrt, prod
from operator import index
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .patterns import Axis, did_you_mean, expand, fixed_axes, in_numbers, names_of, parse

_MOST_AXES = 64  # of an array, by NumPy and by torch
_AxesOf = Callable[[int], tuple[list[Axis], list[Axis]]]  # from a number of axes to both sides of a pattern


class Factor(NamedTuple):
    """One factor of an array axis: `size` steps, each of `stride` elements along `axis`.

    `group_stride` is its stride in the flattened statistics, 0 where it is reduced.
    """

    axis: int
    size: int
    stride: int
    group_stride: int


class Grouping(NamedTuple):
    """A Layout applied to one shape: the factors of every axis in order, and the shape of the statistics."""

    factors: tuple[Factor, ...]
    group_shape: tuple[int, ...]

    @property
    def group_size(self) -> int:
        """How many elements a group has."""
        return prod(factor.size for factor in self.factors if not factor.group_stride)


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

    __slots__ = ("_axes_of", "_hash", "_key", "_settled", "_sizes", "_text")

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
        shown = "".join(f", {name}={size}" for name, size in sizes.items())
        self._fill(
            f"Layout({pattern!r}{shown})",
            (pattern, tuple(sorted(sizes.items()))),
            sizes,
            lambda ndim: expand(left, right, ndim, self._text),
            fixed_axes(left),
            fixed_axes(left),
        )

    @classmethod
    def _named(cls, text: str, axes_of: _AxesOf, least: int, settled: int | None = None, **sizes: int) -> Layout:
        self = object.__new__(cls)
        self._fill(text, (text, ()), sizes, axes_of, least, least if settled is None else settled)
        return self

    def _fill(self, text: str, key: tuple, sizes: dict[str, int], axes_of: _AxesOf, least: int, settled: int) -> None:
        """Set all attributes.

        No array of less than `least` axes fits; beyond `settled` axes further ones come at one place, all alike.
        """
        self._text, self._key, self._sizes, self._axes_of = text, key, sizes, axes_of
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
        return Segments(_as_offsets(offsets), *_within_segments(layout, axis, sizes))

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
        """Apply the layout to a shape; cached."""
        return _resolve(self, as_shape(shape))

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
        return _expanded(self._checked_values(values, shape), factors, group_shape, shape)

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
        values, group_shape = _as_values(values), self.group_shape(shape)
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
    def _axes_of(self) -> _AxesOf:  # type: ignore[override]
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
        return _expanded(values, kept, (shape[0], *group_shape), shape)

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


@lru_cache(maxsize=4096)
def _resolve(layout: Layout, shape: tuple[int, ...]) -> Grouping:
    left, right = layout._axes_of(len(shape))
    sizes = dict(layout._sizes)
    for item, length in zip(left, shape, strict=True):
        _factorise(item, length, sizes, layout._text, shape)
    group_shape = tuple(prod(sizes[name] for name in item) for item in right)
    group_strides, stride = {}, 1
    for name in reversed([name for item in right for name in item]):
        group_strides[name] = stride
        stride *= sizes[name]
    factors = []
    for axis, item in enumerate(left):
        stride = prod(sizes[name] for name in item)
        for name in item:
            stride = stride // sizes[name] if sizes[name] else 0
            factors.append(Factor(axis, sizes[name], stride, group_strides.get(name, 0)))
    return Grouping(tuple(factors), group_shape)


def _factorise(item: Axis, length: int, sizes: dict[str, int], text: str, shape: tuple[int, ...]) -> None:
    """Find the one unknown size of an axis, or check that the known ones fit."""
    unknown = [name for name in item if name not in sizes]
    known = prod(sizes[name] for name in item if name in sizes)
    written = f"({' '.join(item)})" if len(item) != 1 else item[0]
    if len(unknown) > 1:
        raise ValueError(
            f"{text} on shape {shape}: {written} needs all sizes but one; give {' or '.join(f'{n}=' for n in unknown)}"
        )
    if unknown:
        if length % known:
            given = ", ".join(f"{name}={sizes[name]}" for name in item if name in sizes)
            fits = f"; {names_of_divisors(length)} would" if len(item) == 2 else ""
            raise ValueError(
                f"{text} on shape {shape}: {given} does not divide {length}, the length of {written}{fits}"
            )
        sizes[unknown[0]] = length // known
    elif known != length:
        given = ", ".join(f"{name}={sizes[name]}" for name in item) or "1"
        raise ValueError(f"{text} on shape {shape}: {written} with {given} is {known} long, but the axis is {length}")


def names_of_divisors(number: int) -> str:
    """What divides a number, in words; of many, the first ones."""
    small = [n for n in range(1, min(isqrt(number), 10_000) + 1) if number % n == 0]
    found = sorted({*small, *(number // n for n in small)})
    if len(found) > 12:
        return ", ".join(map(str, found[:11])) + f" ... {found[-1]}"
    *most, last = map(str, found)
    return f"{', '.join(most)} or {last}" if most else last


def as_int(value: Any, name: str) -> int:
    """An integer argument as an int, of whatever integer type it is; a bool is none."""
    if type(value) is int:
        return value
    dtype = getattr(value, "dtype", None)
    try:
        if isinstance(value, bool) or (dtype is not None and "bool" in str(dtype)):
            raise TypeError
        return int(index(value))
    except TypeError:
        raise TypeError(f"{name} must be an int, got {shown(value)}") from None


def as_ints(value: Any, name: str) -> tuple[int, ...]:
    """One integer argument or several, in a sequence or an array of one axis."""
    try:
        if isinstance(value, Iterable) and getattr(value, "ndim", 1) != 0:
            if isinstance(value, str | bytes | Mapping):
                raise TypeError
            return tuple(as_int(n, name) for n in value)
        return (as_int(value, name),)
    except TypeError:
        raise TypeError(f"{name} must be an int or a sequence of ints, got {shown(value)}") from None


def as_shape(shape: Any) -> tuple[int, ...]:
    """A shape as a tuple of ints."""
    if type(shape) is tuple and all(type(n) is int and n >= 0 for n in shape):
        return shape
    try:
        if isinstance(shape, int) or getattr(shape, "ndim", 1) != 1:
            raise TypeError
        sizes = as_ints(shape, "shape")
    except TypeError:
        raise TypeError(f"shape must be a sequence of ints such as x.shape, got {shown(shape)}") from None
    if any(n < 0 for n in sizes):
        raise ValueError(f"shape {sizes} has a negative size; give the shape of an array, such as x.shape")
    return sizes


def shown(value: Any) -> str:
    """An argument in a message: its type, and what it is if that is short."""
    if value is None:
        return "None"
    kind, text = type(value).__name__, repr(value)
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"an array of shape {tuple(value.shape)} and dtype {value.dtype} ({kind})" if value.shape else text
    return f"{text} ({kind})" if len(text) <= 60 else kind


def _expanded(values: Any, factors: Sequence[Factor], group_shape: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    """Values of a group shape, seen at x's shape."""
    if 0 in group_shape:
        return values.reshape(shape)
    kept = sorted((f for f in factors if f.group_stride), key=lambda f: -f.group_stride)
    values = values.reshape([f.size for f in kept])
    order = [f for f in factors if f.group_stride]
    for i, factor in enumerate(order):  # every array has swapaxes
        j = kept.index(factor)
        values, kept[i], kept[j] = values.swapaxes(i, j), kept[j], kept[i]
    whole = {f.axis for f in factors} - {f.axis for f in order}  # axes of which nothing is kept
    values = values.reshape([f.size if f.group_stride else 1 for f in factors])
    values = _broadcast(values, [1 if f.axis in whole else f.size for f in factors])
    values = values.reshape([1 if axis in whole else n for axis, n in enumerate(shape)])
    return _broadcast(values, shape)


def _as_offsets(offsets: Any) -> NDArray[np.int64]:
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


def _within_segments(layout: Any, axis: Any, sizes: dict[str, int]) -> tuple[Layout, str]:
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
        return _all_axes(), ""
    return Layout.axes(axis), f", axis={axis!r}"


def _as_values(values: Any) -> Any:
    """What may have a value for each group: an array that has NumPy's methods, or what NumPy makes one of."""
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError("values are a masked array, whose mask would be lost; pass values.filled(value)")
    if isinstance(values, np.ndarray):
        return np.asarray(values)
    if hasattr(values, "swapaxes") and (hasattr(values, "expand") or hasattr(values, "__array_function__")):
        return values
    if isinstance(values, int | float | list | tuple | np.generic) or hasattr(values, "__array__"):
        if not hasattr(values, "__cuda_array_interface__"):
            return np.asarray(values)
        raise TypeError(f"values are of a GPU's {type(values).__name__}, which cannot be expanded; copy it to the host")
    raise TypeError(f"values must be an array of one value a group, such as moments.mean, got {shown(values)}")


def _broadcast(values: Any, shape: Sequence[int]) -> Any:
    """A view of another shape, in which an axis of size 1 may be any length; of an ndarray it is read-only."""
    return values.expand(tuple(shape)) if hasattr(values, "expand") else np.broadcast_to(values, tuple(shape))


def _names(ndim: int) -> list[Axis]:
    return [(f"axis{i}",) for i in range(ndim)]


def _position(axis: int, ndim: int, text: str) -> int:
    axis = index(axis)
    if not -ndim <= axis < ndim:
        fits = f"use {-ndim} to {ndim - 1}" if ndim else "which has none to reduce or keep"
        raise ValueError(f"{text}: axis {axis} is out of range for an array of {ndim} axes; {fits}")
    return axis % ndim
