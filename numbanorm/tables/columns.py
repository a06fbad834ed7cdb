"""The columns of a data frame or series as arrays, without a copy where their memory allows that."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays.objects import refuse_no_numbers


class Column(NamedTuple):
    """Numbers of one column, which of them are missing (None: none are), and whether its type has missing ones."""

    values: NDArray[Any]
    missing: NDArray[np.bool_] | None
    nullable: bool


class Block(NamedTuple):
    """Columns side by side in memory: from, to, and an array of an axis of rows and one of columns."""

    first: int
    last: int
    values: NDArray[Any]


def is_of_pandas(table: Any) -> bool:
    """Whether a table is one of pandas, whose rows have an index."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(table, pandas.DataFrame | pandas.Series)


def series_of(table: Any) -> list[Any]:
    """The columns of a frame, or a series itself."""
    if not hasattr(table, "columns"):
        return [table]
    number = table.shape[1]
    return [table.iloc[:, i] for i in range(number)] if is_of_pandas(table) else table.get_columns()


def columns_of(table: Any) -> list[Column]:
    """All columns.

    Raises
    ------
    TypeError
        If some are no numbers.
    """
    refuse_no_numbers(table, "x")
    read = _of_pandas if is_of_pandas(table) else _of_polars
    return [read(series) for series in series_of(table)]


def may_lack_values(table: Any) -> bool:
    """Whether a column is of a type that has missing values, apart from NaN."""
    if not is_of_pandas(table):
        return any(series.null_count() for series in series_of(table))
    types = table.dtypes if hasattr(table, "columns") else [table.dtype]
    return any(hasattr(dtype, "numpy_dtype") for dtype in types)


def _of_pandas(series: Any) -> Column:
    wide = getattr(series.dtype, "numpy_dtype", None)  # of a type with missing values
    if wide is None:
        return Column(np.asarray(series), None, False)
    if not series.hasnans:
        return Column(series.to_numpy(dtype=wide), None, True)
    kind = wide if wide.kind == "f" else np.dtype(np.float64)
    return Column(series.to_numpy(dtype=kind, na_value=np.nan), series.isna().to_numpy(), True)


def _of_polars(series: Any) -> Column:
    if not series.null_count():
        return Column(series.to_numpy(), None, False)
    values = series.to_numpy()  # NaN where values are missing, and objects of truths
    values = values.astype(np.float64) if values.dtype.kind not in "f" else values
    return Column(values, series.is_null().to_numpy(), True)


def blocks_of(columns: list[Column]) -> list[Block]:
    """Columns that lie at equal steps of one piece of memory together, as those of one of pandas' blocks do."""
    blocks: list[Block] = []
    first = 0
    while first < len(columns):
        last, step = first + 1, 0
        while last < len(columns) and (apart := _step(columns[last - 1].values, columns[last].values)):
            if step not in (0, apart):
                break
            last, step = last + 1, apart
        values = columns[first].values
        shape, strides = (len(values), last - first), (*values.strides, step)
        together = np.lib.stride_tricks.as_strided(values, shape, strides, writeable=False)
        blocks.append(Block(first, last, together))
        first = last
    return blocks


def _step(a: NDArray[Any], b: NDArray[Any]) -> int:
    """How many bytes a column lies behind another in the same memory; 0 if they do not belong together."""
    if a.dtype != b.dtype or a.strides != b.strides or not a.size or _owner(a) is not _owner(b):
        return 0
    return b.__array_interface__["data"][0] - a.__array_interface__["data"][0]


def _owner(array: NDArray[Any]) -> Any:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def together(columns: list[Column], ndim: int) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """One array of all columns, and which of its elements are missing, if any are."""
    if ndim == 1:
        return columns[0].values, columns[0].missing
    shape = len(columns[0].values) if columns else 0, len(columns)
    values = np.empty(shape, np.result_type(*(column.values.dtype for column in columns)), order="F")
    for i, column in enumerate(columns):
        values[:, i] = column.values
    return values, missing_of(columns)


def missing_of(columns: list[Column]) -> NDArray[np.bool_] | None:
    """Which elements of some columns are missing, if any are."""
    if all(column.missing is None for column in columns):
        return None
    missing = np.zeros((len(columns[0].values), len(columns)), bool, order="F")
    for i, column in enumerate(columns):
        if column.missing is not None:
            missing[:, i] = column.missing
    return missing
