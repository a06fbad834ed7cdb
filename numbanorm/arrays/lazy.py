"""Arrays that hold no values yet, and tables: who takes calls on them is an integration, imported when first needed."""

import sys
from importlib import import_module
from typing import Any

from .objects import is_table


def is_lazy(x: Any) -> bool:
    """Whether x is an array of Dask's, or one of xarray's around such an array; without importing either."""
    dask = sys.modules.get("dask.array")
    if dask is None:
        return False
    if isinstance(x, dask.Array):
        return True
    xarray = sys.modules.get("xarray")
    if xarray is None or not isinstance(x, xarray.DataArray | xarray.Variable):
        return False
    return x.chunks is not None and isinstance(x.data, dask.Array)  # of a file that is not read yet, data would read it


def lazily(x: Any) -> Any:
    """The module that takes calls on x, `numbanorm.dask`; None for arrays that have values."""
    return import_module("..dask", __package__) if is_lazy(x) else None


def taken_by(x: Any) -> Any:
    """The module that takes `moments` and `normalize` of x; None for arrays that have values."""
    return import_module("..tables", __package__) if is_table(x) else lazily(x)
