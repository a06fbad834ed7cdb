"""``.nbn`` of DataArrays and Datasets: the functions of this package as methods."""

from __future__ import annotations

from functools import wraps
from typing import Any

import xarray as xr

from .calls import moments, normalize
from .groups import GroupBy, groupby
from .labelled import Moments


@xr.register_dataarray_accessor("nbn")
@xr.register_dataset_accessor("nbn")
class Accessor:
    """Statistics of an array or data set, as in ``t.nbn.moments(dim="time")``."""

    def __init__(self, obj: Any) -> None:
        self._obj = obj

    @wraps(moments)
    def moments(self, *arguments: Any, **given: Any) -> Moments:  # noqa: D102
        return moments(self._obj, *arguments, **given)

    @wraps(normalize)
    def normalize(self, *arguments: Any, **given: Any) -> Any:  # noqa: D102
        return normalize(self._obj, *arguments, **given)

    @wraps(groupby)
    def groupby(self, group: Any) -> GroupBy:  # noqa: D102
        return groupby(self._obj, group)
