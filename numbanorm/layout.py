"""Layout: which elements of an array share statistics. Pure meaning: no strides, no dtypes, no device."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, wraps
from math import prod
from operator import index
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Axis = tuple[str, ...]  # one axis of the array, or of the statistics: its factors from the slowest to the fastest

_ELLIPSIS = "..."
_TOKEN = re.compile(r"\s*(\.\.\.|->|\(|\)|[A-Za-z_]\w*|1(?!\w)|\S)")


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


def _interned(make: Callable[..., Layout]) -> Any:
    """Decorator of a named constructor: equal arguments of equal types give one object, found in 0.1 microseconds."""
    known = lru_cache(maxsize=256, typed=True)(make)

    @wraps(make)
    def constructor(cls: type[Layout], *args: Any, **kwargs: Any) -> Layout:
        try:
            return known(cls, *args, **kwargs)  # type: ignore[arg-type]
        except TypeError:  # what cannot be hashed is no int either: let the constructor say so
            return make(cls, *args, **kwargs)

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
        If the pattern does not parse, a name stands twice, or the right side names what the left side does not have.

    Notes
    -----
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

    __slots__ = ("_axes_of", "_hash", "_key", "_sizes", "_text")

    def __init__(self, pattern: str, **sizes: int) -> None:
        if not isinstance(pattern, str):
            raise TypeError(f"a pattern is a str such as 'n c h w -> n c', got {type(pattern).__name__}")
        left, right = _parse(pattern)
        names = {name for item in left for name in item}
        for name, size in sizes.items():
            if name not in names:
                raise ValueError(
                    f"size {name}={size!r} names nothing on the left of {pattern!r}; it has {sorted(names)}"
                )
            if isinstance(size, bool) or not hasattr(size, "__index__") or size < 1:
                raise ValueError(f"size {name}={size!r} for {pattern!r} must be a positive integer")
        shown = "".join(f", {name}={size}" for name, size in sizes.items())
        self._text = f"Layout({pattern!r}{shown})"
        self._key = (pattern, tuple(sorted((n, index(s)) for n, s in sizes.items())))
        self._hash = hash(self._key)
        self._sizes = {name: index(size) for name, size in sizes.items()}
        self._axes_of = lambda ndim: _expand(left, right, ndim, self._text)

    @classmethod
    def _named(cls, text: str, axes_of: Callable[[int], tuple[list[Axis], list[Axis]]], **sizes: int) -> Layout:
        self = object.__new__(cls)
        self._text, self._key, self._sizes, self._axes_of = text, (text, ()), sizes, axes_of
        self._hash = hash(self._key)
        return self

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
        several = (axes,) if hasattr(axes, "__index__") else axes
        if (
            not isinstance(several, Iterable)
            or isinstance(several, str)
            or not all(hasattr(a, "__index__") for a in several)
        ):
            raise TypeError(f"axis must be an int or a sequence of ints, got {axes!r}")
        return cls._axes(tuple(index(a) for a in several))

    @classmethod
    @lru_cache(maxsize=256, typed=True)
    def _axes(cls, wanted: tuple[int, ...]) -> Layout:
        text = f"Layout.axes({wanted})"

        def axes_of(ndim: int) -> tuple[list[Axis], list[Axis]]:
            reduced = [_position(a, ndim, text) for a in wanted]
            if len(set(reduced)) < len(reduced):
                raise ValueError(f"{text} names an axis twice for an array of {ndim} axes; name each once")
            left = _names(ndim)
            return left, [item for i, item in enumerate(left) if i not in reduced]

        return cls._named(text, axes_of)

    @_interned
    def batch(cls, channel_axis: int = 1) -> Layout:
        """One group a channel, as in batch norm.

        Examples
        --------
        >>> import numbanorm as nbn
        >>> nbn.Layout.batch().group_shape((8, 64, 14, 14))
        (64,)
        """
        text = f"Layout.batch(channel_axis={as_int(channel_axis, 'channel_axis')})"

        def axes_of(ndim: int) -> tuple[list[Axis], list[Axis]]:
            left = _names(ndim)
            return left, [left[_position(channel_axis, ndim, text)]]

        return cls._named(text, axes_of)

    @_interned
    def instance(cls, channel_axis: int = 1) -> Layout:
        """One group for each sample (axis 0) and channel, as in instance norm.

        Examples
        --------
        >>> import numbanorm as nbn
        >>> nbn.Layout.instance(channel_axis=-1).group_shape((8, 14, 14, 64))
        (8, 64)
        """
        return cls._group(f"Layout.instance(channel_axis={as_int(channel_axis, 'channel_axis')})", channel_axis)

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

        return cls._named(text, axes_of)

    @_interned
    def group(cls, num_groups: int, channel_axis: int = 1) -> Layout:
        """One group for each sample (axis 0) and each of `num_groups` equal sets of neighbouring channels.

        Examples
        --------
        >>> import numbanorm as nbn
        >>> nbn.Layout.group(32).group_shape((8, 64, 14, 14))
        (8, 32)
        """
        groups = as_int(num_groups, "num_groups")
        text = f"Layout.group({groups}, channel_axis={as_int(channel_axis, 'channel_axis')})"
        if groups < 1:
            raise ValueError(f"{text}: num_groups must be at least 1")
        return cls._group(text, channel_axis, groups)

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

        return cls._named(text, axes_of, **({} if groups is None else {"g": groups}))

    def resolve(self, shape: Sequence[int]) -> Grouping:
        """Apply the layout to a shape; cached."""
        return _resolve(self, tuple(shape))

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
        return ids.reshape(tuple(shape))

    def __repr__(self) -> str:
        return self._text

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Layout) and self._key == other._key)

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple:
        return _rebuild, (self._text,) if not self._key[1] and "->" not in self._text else (self._key,)


@lru_cache
def _all_axes() -> Layout:
    return Layout._named("Layout.axes(None)", lambda ndim: (_names(ndim), []))


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
            raise ValueError(f"{text} on shape {shape}: {given} does not divide {length}, the length of {written}")
        sizes[unknown[0]] = length // known
    elif known != length:
        given = ", ".join(f"{name}={sizes[name]}" for name in item) or "1"
        raise ValueError(f"{text} on shape {shape}: {written} with {given} is {known} long, but the axis is {length}")


def as_int(value: Any, name: str) -> int:
    """An integer argument as an int, of whatever integer type it is."""
    try:
        return index(value)
    except TypeError:
        raise TypeError(f"{name} must be an int, got {type(value).__name__}") from None


def _names(ndim: int) -> list[Axis]:
    return [(f"axis{i}",) for i in range(ndim)]


def _position(axis: int, ndim: int, text: str) -> int:
    axis = index(axis)
    if not -ndim <= axis < ndim:
        raise ValueError(f"{text}: axis {axis} is out of range for an array of {ndim} axes; use {-ndim} to {ndim - 1}")
    return axis % ndim


def _parse(pattern: str) -> tuple[list[Axis], list[Axis]]:
    """Both sides of a pattern; `...` stays a name of its own until the number of axes is known."""
    sides: list[list[Axis]] = [[]]
    open_item: list[str] | None = None
    for token in _TOKEN.findall(pattern):
        if token == "->":
            if open_item is not None or len(sides) == 2:
                raise ValueError(f"{pattern!r} does not parse: write one '->', outside parentheses")
            sides.append([])
        elif token == "(":
            if open_item is not None:
                raise ValueError(f"{pattern!r} does not parse: parentheses do not nest")
            open_item = []
        elif token == ")":
            if open_item is None:
                raise ValueError(f"{pattern!r} does not parse: ')' without '('")
            sides[-1].append(tuple(open_item))
            open_item = None
        elif token == "1":
            if open_item is None:
                sides[-1].append(())
        elif token == _ELLIPSIS or token.isidentifier():
            if open_item is None:
                sides[-1].append((token,))
            else:
                open_item.append(token)
        else:
            raise ValueError(
                f"{pattern!r} does not parse at {token!r}: write names, 1, '...', parentheses and one '->'"
            )
    if open_item is not None:
        raise ValueError(f"{pattern!r} does not parse: '(' without ')'")
    if len(sides) != 2:
        raise ValueError(f"{pattern!r} has no '->': write the array's axes, '->', then the axes to keep")
    left, right = sides
    named = [[name for item in side for name in item] for side in sides]
    for names in named:
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{pattern!r} names {', '.join(twice)} twice on one side; name each axis once")
    missing = [name for name in named[1] if name not in named[0]]
    if missing:
        raise ValueError(f"{pattern!r}: {', '.join(missing)} on the right is not on the left; name it there")
    if any(_ELLIPSIS in item and len(item) > 1 for item in left):
        raise ValueError(f"{pattern!r}: '...' on the left stands alone, outside parentheses")
    return left, right


def _expand(left: list[Axis], right: list[Axis], ndim: int, text: str) -> tuple[list[Axis], list[Axis]]:
    """Put names in the place of `...`, now that the number of axes is known."""
    dots = (_ELLIPSIS,)
    fixed = len(left) - (dots in left)
    if ndim < fixed or (dots not in left and ndim != fixed):
        need = f"{fixed} or more" if dots in left else str(fixed)
        raise ValueError(f"{text} has {need} axes on the left, but the array has {ndim}; name each axis, or use '...'")
    filled = tuple(f"...{i}" for i in range(ndim - fixed))
    new_left = [new for item in left for new in ([(n,) for n in filled] if item == dots else [item])]
    new_right: list[Axis] = []
    for item in right:
        if item == dots:
            new_right += [(n,) for n in filled]
        else:
            new_right.append(tuple(n for name in item for n in (filled if name == _ELLIPSIS else (name,))))
    return new_left, new_right
