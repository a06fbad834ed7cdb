"""Calls on tables: columns of several types go block by block where a layout keeps columns apart, without a copy.

Missing values of types that have them (pandas' Int64, Float64 and boolean, all of polars) are left out, as by `where=`.
NaN of other types are numbers like any, unless `skipna` says otherwise.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays.objects import labelled_like
from ..arrays.take import view
from ..call.arguments import as_layout, check_flag
from ..call.chosen import _as_mask
from ..call.handed import Output, Selection
from ..layout import Factor, Layout, Segments
from ..normalization import normalize as of_array
from ..statistics import Moments
from ..statistics import moments as moments_of_array
from .columns import Column, blocks_of, columns_of, is_of_pandas, may_lack_values, missing_of, series_of, together
from .labels import labels_of

BESIDE = ("where", "weights", "weight", "bias")  # what broadcasts against x


def moments(x: Any, layout: Any, axis: Any, sizes: dict[str, int], selection: Selection) -> Moments[Any]:
    """`numbanorm.moments` of a table."""
    call = _Call(x, as_layout(layout, axis, sizes, moments_of_array), selection)
    parts = call.parts(selection._asdict())
    return _side_by_side([moments_of_array(part.values, call.layout, **part.given) for part in parts])


def normalize(x: Any, layout: Any, axis: Any, sizes: dict[str, int], selection: Selection, output: Output) -> Any:
    """`numbanorm.normalize` of a table."""
    keep, out, statistics = check_flag(output.return_moments, "return_moments"), output.out, output.moments
    call = _Call(x, as_layout(layout, axis, sizes, of_array), selection, statistics, whole=out is not None)
    parts = call.parts({**selection._asdict(), **output._asdict()})
    made: list[Any] = [of_array(part.values, call.layout, **part.given) for part in parts]
    results = [result for result, _ in made] if keep else made
    result = out if out is not None else call.table_of(results)
    if not keep:
        return result
    return result, statistics if statistics is not None else _side_by_side([m for _, m in made])


class _Part(NamedTuple):
    """An array of some columns, and what goes with it."""

    values: NDArray[Any]
    given: dict[str, Any]


class _Call:
    """A table whose labels are taken apart from its numbers."""

    def __init__(
        self, x: Any, layout: Layout, selection: Selection, statistics: Any = None, whole: bool = False
    ) -> None:
        self.x, self.layout, self.statistics = x, layout, statistics
        self.labels = labels_of(x, selection.labels)
        self.numbers = numbers = _without(x, self.labels.column)
        self.number = self.labels.number if selection.num_labels is None else selection.num_labels
        self.columns: list[Column] | None = None
        shape = tuple(numbers.shape)
        self.ndim = len(shape)
        self.apart = not whole and _keeps_columns(layout, shape) and _has_several_types(numbers)
        if self.apart or may_lack_values(numbers):
            self.columns = columns_of(numbers)

    def parts(self, given: dict[str, Any]) -> Iterator[_Part]:
        """Arrays to call with: blocks of columns, or all in one."""
        if self.labels.values is not None:
            labels = self._along_rows()
            given = given | {"labels": labels, "num_labels": self.number}
        elif self.number is not None:
            given = given | {"num_labels": self.number}
        if self.statistics is not None:
            given = given | {"moments": self.statistics}
        if not self.apart:
            yield self._all_in_one(given)
            return
        shape = self.numbers.shape
        for name in BESIDE:
            if given.get(name) is not None:
                array = view(given[name], name)
                given = given | {name: _broadcast(array, shape, name)}
        for first, last, values in blocks_of(self.columns or []):
            own = slice(first, last)
            mine = {name: value[:, own] for name in BESIDE if (value := given.get(name)) is not None}
            if self.statistics is not None:
                mine["moments"] = self._statistics_of(own)
            yield _Part(values, _with_missing(given | mine, missing_of((self.columns or [])[own])))

    def _all_in_one(self, given: dict[str, Any]) -> _Part:
        if self.columns is None:
            return _Part(view(self.numbers), given)
        values, missing = together(self.columns, self.ndim)
        return _Part(values, _with_missing(given, missing))

    def _along_rows(self) -> Any:
        """Labels as the layout reduces axes: one for each row, or for each element where columns are reduced, too."""
        labels, column = self.labels.values, self.labels.column
        if self.ndim == 1 or isinstance(self.layout, Segments) or np.ndim(labels) != 1:
            return labels
        factors = self.layout.resolve(tuple(self.numbers.shape)).factors
        reduced = {factor.axis for factor in factors if not factor.group_stride}
        if column is not None and 0 not in reduced:
            raise ValueError(
                f"labels name a column of x, which has one for each row, but {self.layout!r} keeps rows apart; reduce "
                "them, too, as by axis=0"
            )
        along = column is not None or is_of_pandas(self.numbers)
        return labels[:, None] if reduced == {0, 1} and along and len(labels) == len(self.numbers) else labels

    def _statistics_of(self, own: slice) -> Any:
        m = self.statistics
        columns = len(self.columns or [])
        if not isinstance(m, Moments) or not m.shape or m.shape[-1] != columns:
            has = f"have group shape {m.shape}" if isinstance(m, Moments) else f"are a {type(m).__name__}"
            raise (ValueError if isinstance(m, Moments) else TypeError)(
                f"moments must be Moments of the {columns} columns of x, but they {has}; see numbanorm.moments"
            )
        return m[..., own]

    # results ----------------------------------------------------------------------------------------------------------

    def table_of(self, results: list[NDArray[Any]]) -> Any:
        """A table as x is: its numbers normalized, and labels as they were."""
        if self.columns is None and self.labels.column is None:
            return labelled_like(self.x, results[0])
        if self.ndim == 1:
            return _series(self.x, results[0], (self.columns or [])[0])
        made = [result[:, i] for result in results for i in range(result.shape[1])]
        columns = self.columns or [Column(values, None, False) for values in made]
        series = [_values(self.x, *pair) for pair in zip(made, columns, strict=True)]
        if self.labels.column is not None:
            series.insert(self.labels.column, series_of(self.x)[self.labels.column])
        if not is_of_pandas(self.x):
            named = zip(self.x.columns, series, strict=True)
            return sys.modules["polars"].DataFrame([values.alias(name) for name, values in named])
        table = sys.modules["pandas"].DataFrame(dict(enumerate(series)), index=self.x.index, copy=False)
        table.columns = self.x.columns
        table.attrs.update(self.x.attrs)
        return table


def _without(x: Any, column: int | None) -> Any:
    if column is None:
        return x
    if is_of_pandas(x):
        return x.iloc[:, [i for i in range(x.shape[1]) if i != column]]
    return x.drop(x.columns[column])


def _has_several_types(table: Any) -> bool:
    """Whether NumPy would copy the columns of a table to make one array of them."""
    if not hasattr(table, "columns") or not table.shape[1]:
        return False
    if not is_of_pandas(table):
        return True
    first, last = (table.iloc[:, i] for i in (0, -1))
    if (table.dtypes != table.dtypes.iloc[0]).any() or hasattr(first.dtype, "numpy_dtype"):
        return True
    return not np.may_share_memory(np.asarray(first).base, np.asarray(last).base)


def _keeps_columns(layout: Layout, shape: tuple[int, ...]) -> bool:
    """Whether every column is a group, in order."""
    if len(shape) != 2 or isinstance(layout, Segments):
        return False
    rows, columns = ([f for f in layout.resolve(shape).factors if f.axis == axis] for axis in (0, 1))
    return not any(factor.group_stride for factor in rows) and columns == [Factor(1, shape[1], 1, 1)]


def _broadcast(array: Any, shape: tuple[int, ...], name: str) -> NDArray[Any]:
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(
            f"{name} of shape {tuple(array.shape)} does not broadcast to the columns of x, of shape {shape}; pass one "
            "number for each column, or a column of one for each row, as in array[:, None]"
        ) from None


def _with_missing(given: dict[str, Any], missing: NDArray[np.bool_] | None) -> dict[str, Any]:
    """Leave out what is missing, beside what the caller leaves out."""
    if missing is None or given.get("moments") is not None:
        return given
    there = ~missing
    if given.get("where") is not None:
        there &= _broadcast(_as_mask(given["where"]), there.shape, "where")
    return given | {"where": there}


def _side_by_side(parts: list[Moments[Any]]) -> Moments[Any]:
    if len(parts) == 1:
        return parts[0]
    states = zip(*(m._on_host for m in parts), strict=True)
    return Moments._made(*(np.concatenate(state, axis=-1) for state in states))


def _series(x: Any, values: NDArray[Any], column: Column) -> Any:
    made = _values(x, values, column)
    if not is_of_pandas(x):
        return made.alias(x.name)
    series = sys.modules["pandas"].Series(made, x.index, name=x.name, copy=False)
    series.attrs.update(x.attrs)
    return series


def _values(x: Any, values: NDArray[Any], column: Column) -> Any:
    """A column of the table's library, with missing values where there were some."""
    if is_of_pandas(x):
        if not column.nullable or values.dtype not in (np.float64, np.float32):
            return values
        missing = np.zeros(len(values), bool) if column.missing is None else column.missing
        return sys.modules["pandas"].arrays.FloatingArray(np.ascontiguousarray(values), missing)
    polars = sys.modules["polars"]
    series = polars.Series("", np.ascontiguousarray(values))
    return series if column.missing is None else series.set(polars.Series(column.missing), None)
