"""Dims by their names: what is reduced and what is kept, and other arrays put beside one along them."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from numbers import Number
from types import EllipsisType
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from ..arrays.lazy import is_lazy
from ..layout import Layout
from ..patterns import RESERVED, did_you_mean, parse

Dims = Hashable | Iterable[Hashable] | EllipsisType | None

_NAME = re.compile(r"[^\W\d]\w*")
_DOTS = ("...",)


class Reading(NamedTuple):
    """How an array is reduced."""

    order: tuple[Hashable, ...]  # its dims, as the layout wants them
    layout: Any  # of NumPy's array, or the axes to reduce
    reduced: tuple[Hashable, ...]  # dims that are gone, or changed
    kept: tuple[Hashable, ...]  # those of the statistics

    @property
    def layout_given(self) -> dict[str, Any]:
        """As `numbanorm.moments` takes it."""
        return {"layout": self.layout} if isinstance(self.layout, Layout) else {"axis": self.layout}


def as_names(dim: Dims, known: Sequence[Hashable], of: str) -> tuple[Hashable, ...]:
    """Dims that a caller names, each of which is there; all for None and ``...``."""
    if dim is None or dim is ...:
        return tuple(known)
    names = (dim,) if isinstance(dim, str) or not isinstance(dim, Iterable) else tuple(dim)
    if ... in names:
        return tuple(known)
    for name in names:
        if name not in known:
            raise ValueError(f"{of} has no dim {name!r}, but dims {_listed(known)}{_like(name, known)}")
    if len(set(names)) < len(names):
        raise ValueError(f"dim={dim!r} names a dim twice; name each once")
    return names


def by_dims(x: Any, dim: Iterable[Hashable]) -> Reading:
    """Reduce an array over some of its dims, each of which it has."""
    reduced = set(dim)
    axes = tuple(axis for axis, name in enumerate(x.dims) if name in reduced)
    names = tuple(x.dims[axis] for axis in axes)
    return Reading(tuple(x.dims), axes, names, tuple(name for name in x.dims if name not in reduced))


def by_pattern(x: Any, pattern: Any, sizes: dict[str, int], of: str) -> Reading:
    """Reduce an array as a pattern says whose names are dims, in any order; one in parentheses is split."""
    if not isinstance(pattern, str):
        raise TypeError(
            f"layout must be a pattern whose names are dims, such as 'time lat -> lat', got {type(pattern).__name__}; "
            "for dims by their names pass dim="
        )
    if "->" not in pattern:
        raise ValueError(f"{pattern!r} is no pattern, which has '->'; for a dim by its name pass dim={pattern!r}")
    given = {_safe(name): size for name, size in sizes.items()}
    text = _NAME.sub(lambda found: _safe(found[0]), pattern)
    left, right = ([tuple(map(_unsafe, item)) for item in side] for side in parse(text))
    order, rest, changed = _left(x, left, pattern, of)
    kept: list[Hashable] = []
    for item in right:
        if item == _DOTS:
            kept += rest
        elif len(item) != 1:
            what = f"({' '.join(item)})" if item else "1"
            raise ValueError(f"{pattern!r} has {what} on the right, which is no one dim by its name; name each alone")
        else:
            kept.append(item[0])
    whole = [name for name in kept if name in order and name not in changed]
    reduced = tuple(name for name in order if name not in whole)
    return Reading(order, Layout(text, **given), reduced, tuple(kept))


def _left(x: Any, left: Any, pattern: str, of: str) -> tuple[Any, Any, Any]:
    """Dims of an array as a pattern's left side orders them, those of its `...`, and those that it splits."""
    named = [item[0] for item in left if len(item) == 1 and item != _DOTS]
    for name in named:
        if name not in x.dims:
            raise ValueError(f"{pattern!r}: {of} has no dim {name!r}, but dims {_listed(x.dims)}{_like(name, x.dims)}")
    if () in left:
        raise ValueError(f"{pattern!r} has 1 on the left, which names no dim; name each dim")
    rest = [name for name in x.dims if name not in named]
    splits = [item for item in left if len(item) > 1]
    if splits and (len(splits) > 1 or _DOTS in left or len(rest) != 1):
        raise ValueError(
            f"{pattern!r} splits {len(splits)} of the dims {_listed(x.dims)} of {of}, and does not say which; name all "
            "others, so that one is left over for what is in parentheses"
        )
    if rest and not splits and _DOTS not in left:
        raise ValueError(f"{pattern!r} does not name {_listed(rest)} of {of}; name each dim, or use '...'")
    order: list[Hashable] = []
    for item in left:
        order += rest if item == _DOTS or len(item) > 1 else item
    return tuple(order), rest, rest if splits else ()


def _safe(name: str) -> str:
    """A name that patterns take, of a dim that is named as a parameter of theirs: x is, and the commonest of dims."""
    return f"{name}__" if name in RESERVED else name


def _unsafe(name: str) -> str:
    return name[:-2] if name.endswith("__") and name[:-2] in RESERVED else name


def beside(x: Any, other: Any, name: str, of: str) -> Any:
    """Values of another array along the dims of x, as NumPy broadcasts them; a number as it is."""
    if other is None or isinstance(other, Number | np.bool_):
        return other
    if not isinstance(other, xr.DataArray):
        raise TypeError(
            f"{name} must be a DataArray, whose dims say what it belongs to, got {type(other).__name__}; pass "
            f"xr.DataArray({name}, dims=[...])"
        )
    check_aligned(x, other, name, of)
    shared = [dim for dim in x.dims if dim in other.dims]
    values = values_of(other.transpose(*shared), name)
    return values[tuple(slice(None) if dim in shared else None for dim in x.dims)]


def check_aligned(x: Any, other: Any, name: str, of: str) -> None:
    """Refuse an array with a dim that x lacks, or of another size or with other coordinates along one."""
    for dim in other.dims:
        if dim not in x.dims:
            raise ValueError(f"{name} has a dim {dim!r}, and {of} has none of that name, but {_listed(x.dims)}")
        if other.sizes[dim] != x.sizes[dim]:
            raise ValueError(
                f"{name} has {other.sizes[dim]} elements along {dim!r}, and {of} has {x.sizes[dim]}; align them first, "
                f"as by xr.align, or {name}.reindex_like({of})"
            )
        check_index(x, other, dim, name, of)


def check_index(x: Any, other: Any, dim: Hashable, name: str, of: str) -> None:
    """Refuse other coordinates along a dim, where both have some."""
    ours, theirs = x.indexes.get(dim), other.indexes.get(dim)
    if ours is None or theirs is None or ours.equals(theirs):
        return
    first = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    told = [_shown(index[first]) if first < len(index) else "nothing" for index in (theirs, ours)]
    raise ValueError(
        f"{name} has other coordinates along {dim!r} than {of}: at position {first}, {told[0]} and not {told[1]}; "
        f"align them first, as by xr.align, or {name}.reindex_like({of})"
    )


def values_of(x: Any, name: str) -> Any:
    """What a DataArray wraps, if it is an array without units or gaps of its own."""
    data = x.variable.data
    if isinstance(data, np.ndarray) or is_lazy(data) or hasattr(data, "__cuda_array_interface__"):
        return data
    raise TypeError(
        f"{name} wraps a {type(data).__name__} of {type(data).__module__.split('.')[0]}, which is not taken, so that "
        f"nothing of it is lost unseen; pass {name}.as_numpy()"
    )


def _shown(value: Any) -> str:
    """A coordinate as people write it."""
    return repr(value.item()) if isinstance(value, np.generic) else str(value)


def _listed(names: Iterable[Hashable]) -> str:
    return f"({', '.join(map(repr, names))})"


def _like(name: Hashable, known: Iterable[Hashable]) -> str:
    return did_you_mean(name, [dim for dim in known if isinstance(dim, str)]) if isinstance(name, str) else ""
