"""Objects that are no arrays themselves: lists, data frames and what else NumPy reads, and what it should not.

Data frames and arrays with labels get their results as one of their kind.
"""

import sys
from collections.abc import Collection, Iterator, Mapping, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .forms import kind
from .torch import check_tensor, differentiating, is_torch

SHOWN = 10  # names of columns in a message


def from_object(x: Any, name: str) -> NDArray[Any]:
    """What NumPy makes of an object, if that is an array of numbers.

    Raises
    ------
    TypeError
        Which says what it is, and what to pass in its place.
    ValueError
        For sequences whose rows differ in length.
    """
    if not isinstance(x, int | float):
        refuse_no_numbers(x, name)
    if isinstance(x, list | tuple) and differentiating():
        _check_items(x, name)
    try:
        array = np.asarray(x)
    except (TypeError, ValueError, RuntimeError) as error:
        if "inhomogeneous" in str(error):
            raise ValueError(
                f"{name} ({_kind(x)}) has rows of different lengths; pass an array, or its rows one by one"
            ) from None
        raise TypeError(
            f"{name} is {_kind(x)}, of which NumPy makes no array: {error}; pass an array of numbers"
        ) from error
    if array.dtype == object:
        raise TypeError(f"{name} {_no_array(x, name, array)}")
    kind(array.dtype, name)
    return array


def refuse_no_numbers(x: Any, name: str) -> None:
    """Refuse what has no numbers, or columns without: with a TypeError that says what to pass in its place."""
    if why := _no_numbers(x, name):
        raise TypeError(f"{name} {why}")


def _no_numbers(x: Any, name: str) -> str:
    """What keeps an object from being an array of numbers, whatever NumPy would make of it; empty if nothing does."""
    if x is None:
        return "is None; pass an array of numbers"
    if isinstance(x, str | bytes):
        return f"is text ({_kind(x)}); pass an array of numbers"
    for dense in ("toarray", "todense"):
        if hasattr(x, dense):
            return f"is sparse ({_kind(x)}); pass {name}.{dense}()"
    if isinstance(x, Mapping):
        return f"is {_kind(x)}, which has values by key; pass one of them, {name}[key], or list({name}.values())"
    if isinstance(x, Set):
        return f"is {_kind(x)}, which has no order and nothing twice; pass an array or a list"
    if isinstance(x, Iterator) and not hasattr(x, "__array__"):
        return f"is {_kind(x)}, which can be read only once; pass list({name})"
    if hasattr(x, "collect") and not hasattr(x, "__array__"):
        return f"is {_kind(x)}, which holds no values yet; pass {name}.collect()"
    if _is_frame(x):
        return _no_numbers_in(list(zip(x.columns, x.dtypes, strict=True)), x, name)
    if str(getattr(x, "dtype", "")) == "category":
        return f"is {_named(x)} of categories, which are no numbers; pass an array of numbers"
    return ""


def _is_frame(x: Any) -> bool:
    """Whether x is a table whose columns have names and types, as those of pandas and polars."""
    return hasattr(x, "columns") and hasattr(x, "dtypes") and hasattr(x, "__array__")


def _no_numbers_in(columns: list[tuple[Any, Any]], x: Any, name: str) -> str:
    """Which columns of a table are no numbers; empty if all are."""
    wrong = [f"{label!r} ({dtype})" for label, dtype in columns if not _numeric(dtype)]
    if not wrong:
        return ""
    right = [label for label, dtype in columns if _numeric(dtype)]
    left = f"leave them out, as in {name}[{_listed(map(repr, right))}], or " if right else ""
    return f"is {_kind(x)} with columns that are no numbers: {_listed(wrong)}; {left}convert them first"


def _numeric(dtype: Any) -> bool:
    """Whether a column of this type holds numbers or booleans, of which some may be missing."""
    asked = getattr(dtype, "is_numeric", None)  # polars
    if callable(asked):
        return asked() or str(dtype) == "Boolean"
    return getattr(dtype, "kind", "O") in "fiub"


def _listed(items: Any) -> str:
    """Some items in brackets, and that there are more."""
    items = list(items)
    return f"[{', '.join([*items[:SHOWN], *['...'][: len(items) > SHOWN]])}]"


def _no_array(x: Any, name: str, array: NDArray[Any]) -> str:
    """Why an array of Python objects is all that NumPy makes of an object."""
    if _is_frame(x):
        mixed = ", ".join(sorted({str(dtype) for dtype in x.dtypes}))
        return (
            f"is {_kind(x)} whose columns ({mixed}) have no common type in NumPy; "
            f"pass {name}.to_numpy(dtype=float), with na_value=float('nan') where values may be missing"
        )
    if array.ndim == 0:
        items = f", or list({name})" if isinstance(x, Collection) else ""
        return f"is {_kind(x)}, of which NumPy makes no array of numbers; pass an array{items}"
    kinds = _listed(sorted({type(item).__name__ for item in array.ravel()[:1000]}))
    return (
        f"is {_named(x)}, of which NumPy makes an array of objects {kinds}, not of numbers; "
        f"pass numbers, with NaN where they are missing: np.array({name}, dtype=float), if that can convert it"
    )


def _named(x: Any) -> str:
    """The type of an object, with the name that it has as a column."""
    label = getattr(x, "name", None)
    return _kind(x) if label is None else f"{_kind(x)} named {label!r}"


def _kind(x: Any) -> str:
    kind = type(x).__name__
    return f"{'an' if kind[0] in 'aeioAEIO' else 'a'} {kind}"


def _check_items(x: Any, name: str) -> None:
    """Refuse tensors in a sequence as if they were given alone: NumPy would read them, and drop their tangents."""
    for item in x:
        if is_torch(item):
            check_tensor(item, name)
        elif isinstance(item, list | tuple):
            _check_items(item, name)


# containers -----------------------------------------------------------------------------------------------------------


def labelled_like(x: Any, result: NDArray[Any]) -> Any:
    """A result of x's shape, in a container as x is: with its index, columns, name, dimensions, coordinates and attrs.

    For data frames and series of pandas and polars, and arrays of xarray; all else has an ndarray for its result.
    """
    if _is_of(x, "xarray", "DataArray") or _is_of(x, "xarray", "Variable"):
        return x.copy(deep=False, data=result)
    if _is_of(x, "pandas", "DataFrame"):
        made = sys.modules["pandas"].DataFrame(result, x.index, x.columns, copy=False)
    elif _is_of(x, "pandas", "Series"):
        made = sys.modules["pandas"].Series(result, x.index, name=x.name, copy=False)
    elif _is_of(x, "polars", "DataFrame"):
        return sys.modules["polars"].DataFrame(result, x.columns, orient="row")
    elif _is_of(x, "polars", "Series"):
        return sys.modules["polars"].Series(x.name, result)
    else:
        return result
    made.attrs.update(x.attrs)
    return made


def is_table(x: Any) -> bool:
    """Whether x is a data frame or series of pandas or polars."""
    return any(_is_of(x, library, kind) for library in ("pandas", "polars") for kind in ("DataFrame", "Series"))


def is_cut_by_slices(x: Any) -> bool:
    """Whether x is one array that a tuple of slices cuts by position, wherever its elements lie: in memory or on disk.

    Those of h5py, zarr and dask are, and of xarray; series and frames are not. Arrays on a GPU are at hand as a whole.
    """
    if isinstance(x, np.ndarray):
        return True
    has = all(hasattr(x, name) for name in ("shape", "dtype", "ndim", "__getitem__"))
    return has and not (hasattr(x, "iloc") or hasattr(x, "__cuda_array_interface__") or isinstance(x, type))


def is_at_hand(x: Any) -> bool:
    """Whether x is one array, or a table, which cannot be cut so: a series, a frame, an array on a GPU."""
    return not is_cut_by_slices(x) and (hasattr(x, "__array__") or hasattr(x, "__cuda_array_interface__"))


def _is_of(x: Any, library: str, kind: str) -> bool:
    """Whether x is of a class of a library, without importing that."""
    cls = getattr(sys.modules.get(library), kind, None)
    return cls is not None and isinstance(x, cls)
