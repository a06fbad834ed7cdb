"""Which columns name groups, and from values that name them, of any kind, to the numbers of groups."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import _safe_indexing

NOBODY = -1


def as_list(groups: Any) -> list[Any]:
    """One column or several, in a list."""
    return list(groups) if isinstance(groups, list | tuple) else [groups]


def positions(groups: Any, number: int, names: NDArray[Any] | None) -> list[int]:
    """Where in a table of so many columns, which may have names, the columns are that name groups.

    Raises
    ------
    ValueError, TypeError
        If there are no such columns.
    """
    places = [_position(column, groups, number, names) for column in as_list(groups)]
    if not places or len(set(places)) < len(places):
        raise ValueError(f"groups must name a column of X, or several, each once; got {groups!r}")
    return places


def _position(column: Any, groups: Any, number: int, names: NDArray[Any] | None) -> int:
    if isinstance(column, str):
        if names is None:
            raise ValueError(
                f"groups={groups!r} is the name of a column, but the columns of X have no names; pass a data frame, or "
                "the place of the column"
            )
        if column not in names:
            raise ValueError(f"X has no column {column!r}, which groups={groups!r} names; it has {list(names)}")
        return list(names).index(column)
    if isinstance(column, bool) or not isinstance(column, Integral):
        raise TypeError(f"groups must be the places or names of columns of X, got {groups!r}")
    place = int(column)
    if not -number <= place < number:
        raise ValueError(
            f"X has no column {column}, which groups={groups!r} names; it has n_features={number}, 0 to {number - 1}"
        )
    return place % number


def is_frame(X: Any) -> bool:
    """Whether this has columns of its own, as data frames do."""
    return hasattr(X, "columns") and hasattr(X, "shape")


def columns_of(groups: Any) -> list[Any]:
    """One or several columns, from whatever holds them."""
    if is_frame(groups):
        return [_safe_indexing(groups, i, axis=1) for i in range(groups.shape[1])]
    array = np.array(groups, object) if isinstance(groups, list | tuple) else np.asarray(groups)
    return [array] if array.ndim < 2 else list(array.T)


def numbered(columns: Sequence[Any]) -> tuple[list[Hashable], NDArray[np.intp]]:
    """The different groups of rows, and for each row which of them it belongs to.

    Parameters
    ----------
    columns : sequence of array_like of shape (n_samples,)
        Groups are the combinations of their values.

    Returns
    -------
    keys : list
        A value for each group, or a tuple of them where there are several columns.
    codes : ndarray of shape (n_samples,)
        A place in keys for each row; -1 where a value is missing: None, NaN, NaT, pandas' NA.
    """
    keys, codes = _of_column(columns[0])
    if len(columns) == 1:
        return _without_missing(keys, codes, map(_is_missing, keys))
    pairs = [(key,) for key in keys]
    for column in columns[1:]:
        others, places = _of_column(column)
        met, codes = np.unique(codes * len(others) + places, return_inverse=True)
        pairs = [(*pairs[i // len(others)], others[i % len(others)]) for i in met.tolist()]
    return _without_missing(list(pairs), codes, (any(map(_is_missing, pair)) for pair in pairs))


def in_order(keys: Iterable[Hashable]) -> list[Hashable]:
    """Sorted, if they can be: numbers, or texts, or tuples of such."""
    keys = list(keys)
    try:
        return sorted(keys)  # type: ignore[type-var]
    except TypeError:
        return keys


def as_array(keys: Sequence[Hashable]) -> NDArray[Any]:
    """Numbers or texts of one type in an array of theirs, all else in one of objects."""
    kinds = set(map(type, keys))
    if len(kinds) == 1 and issubclass(kinds.pop(), str | bytes | bool | int | float | np.generic):
        return np.array(keys)
    array = np.empty(len(keys), object)
    array[:] = keys
    return array


def _of_column(column: Any) -> tuple[list[Hashable], NDArray[np.intp]]:
    """The different values of a column, and the place of each row's among them."""
    array = np.asarray(column)
    if array.dtype.kind in "biufUSmM":
        values, codes = np.unique(array, return_inverse=True)
        return list(values), codes
    places: dict[Hashable, int] = {}
    try:
        codes = np.fromiter((places.setdefault(v, len(places)) for v in array), np.intp, len(array))
    except TypeError as error:
        wrong = next(v for v in array if type(v).__hash__ is None)
        raise TypeError(
            f"groups cannot be told by {wrong!r}: argument must be a string, a number, a date, or else hashable"
        ) from error
    return list(places), codes


def _is_missing(value: Any) -> bool:
    if value is None:
        return True
    try:
        return bool(value != value)  # NaN, NaT
    except TypeError:  # pandas' NA, which is neither
        return True


def _without_missing(
    keys: Sequence[Hashable], codes: NDArray[Any], missing: Iterable[bool]
) -> tuple[list[Hashable], NDArray[np.intp]]:
    gone = np.fromiter(missing, bool, len(keys))
    if not gone.any():
        return list(keys), codes
    places = np.where(gone, NOBODY, np.cumsum(~gone) - 1)
    return [key for key, off in zip(keys, gone, strict=True) if not off], places[codes]
