"""Labels of the rows of a table: a column of it by name, or a series that is put in the order of its index."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .columns import is_of_pandas, series_of


class Labels(NamedTuple):
    """Integers, negative where there is none; their number, if that is known; and the place of their column in x."""

    values: Any
    number: int | None
    column: int | None


def labels_of(x: Any, labels: Any) -> Labels:
    """What a caller's labels mean beside a table; what belongs to no table is left as it is.

    Raises
    ------
    ValueError
        If there is no such column, or the index of a series lacks rows of x.
    TypeError
        If labels are numbers, and no integers.
    """
    if _names_a_column(x, labels):
        place = _place(x, labels)
        return Labels(*numbered(series_of(x)[place], f"labels, the column {labels!r} of x,"), place)
    if is_of_pandas(labels) and not hasattr(labels, "columns"):
        aligned = _aligned(x, labels) if is_of_pandas(x) else labels
        return Labels(*numbered(aligned, "labels"), None)
    polars = sys.modules.get("polars")
    if polars is not None and isinstance(labels, polars.Series):
        return Labels(*numbered(labels, "labels"), None)
    return Labels(labels, None, None)


def _names_a_column(x: Any, labels: Any) -> bool:
    if isinstance(labels, str):
        return True
    if not hasattr(x, "columns") or not is_of_pandas(x):
        return False
    return isinstance(labels, int | tuple | np.integer) and labels in x.columns


def _place(x: Any, name: Any) -> int:
    if not hasattr(x, "columns"):
        raise ValueError(
            f"labels={name!r} names a column, but x is a Series, which has none; pass labels of each value"
        )
    places = [i for i, column in enumerate(x.columns) if column == name]
    if len(places) != 1:
        has = f"{len(places)} columns of that name" if places else f"no column of that name, but {_listed(x.columns)}"
        raise ValueError(f"labels={name!r} names a column, and x has {has}; name one, or pass labels themselves")
    return places[0]


def _aligned(x: Any, labels: Any) -> Any:
    """Labels in the order of the rows of x, as their index says it."""
    if labels.index.equals(x.index):
        return labels
    if not labels.index.is_unique:
        twice = labels.index[labels.index.duplicated()][0]
        raise ValueError(
            f"labels and x have different indices, and that of labels has {_shown(twice)} twice, so it does not say "
            "whose labels they are; pass labels.to_numpy() if they are in the order of x"
        )
    lacks = ~x.index.isin(labels.index)
    if lacks.any():
        raise ValueError(
            f"labels do not align with x: their index lacks {int(lacks.sum())} of the {len(x)} rows of x, such as "
            f"{_shown(x.index[lacks][0])}; pass labels of each row, labels.reindex(x.index) to leave those out, or "
            "labels.to_numpy() if they are in the order of x"
        )
    return labels.loc[x.index] if x.index.is_unique else labels.reindex(x.index)


def numbered(series: Any, name: str) -> tuple[NDArray[np.int64], int | None]:
    """Labels as integers, -1 where they are missing, and how many there are, where the values say it.

    Integers stay what they are. Categories are numbered in their order; texts, dates and truths in sorted order.
    """
    if getattr(series.dtype, "kind", "") == "f" or "Float" in str(series.dtype):
        return _whole(series, name), None
    return _numbered_by_pandas(series, name) if is_of_pandas(series) else _numbered_by_polars(series)


def _whole(series: Any, name: str) -> NDArray[np.int64]:
    """Of integers among which some are missing, pandas makes floats."""
    values = series.to_numpy(dtype=float, na_value=np.nan) if is_of_pandas(series) else series.to_numpy()
    missing = np.isnan(values)
    whole = np.where(missing, -1.0, values)
    wrong = ~(np.abs(whole) < 2**53) | (whole != np.floor(whole))
    if wrong.any():
        raise TypeError(
            f"{name} must be integers, texts, dates, truths or categories, got {float(whole[wrong][0])!r}; number them "
            "by np.unique(labels, return_inverse=True)[1], or cut them into bins"
        )
    return whole.astype(np.int64)


def _numbered_by_pandas(series: Any, name: str) -> tuple[NDArray[np.int64], int | None]:
    import pandas

    if isinstance(series.dtype, pandas.CategoricalDtype):
        return series.cat.codes.to_numpy(), len(series.cat.categories)
    if getattr(series.dtype, "kind", "") in "iu":
        return (series.to_numpy(dtype=np.int64, na_value=-1) if series.hasnans else series.to_numpy()), None
    try:
        codes, values = pandas.factorize(series, sort=True)
    except TypeError as error:
        raise TypeError(f"{name} have no order, so they cannot be numbered: {error}; pass integers") from error
    return codes, len(values)


def _numbered_by_polars(series: Any) -> tuple[NDArray[np.int64], int | None]:
    import polars

    if series.dtype.is_integer():
        return (series.cast(polars.Int64).fill_null(-1) if series.null_count() else series).to_numpy(), None
    values = series.drop_nulls().unique().sort()
    numbers = polars.Series(range(len(values)), dtype=polars.Int64)
    codes = series.replace_strict(values, numbers, default=None, return_dtype=polars.Int64)
    return codes.fill_null(-1).to_numpy(), len(values)


def _listed(names: Any, most: int = 10) -> str:
    shown = [_shown(name) for name in names]
    return f"[{', '.join([*shown[:most], *['...'][: len(shown) > most]])}]"


def _shown(name: Any) -> str:
    return repr(name.item() if isinstance(name, np.generic) else name)
