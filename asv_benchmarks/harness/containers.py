"""Streams, Dask arrays, data frames, xarray's arrays and scikit-learn's scalers as cases of the gate and of asv.

scaler.py, by_month.py and lazy_arrays.py hold them beside other libraries.
"""

from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from .case import Arrays, Call
from .grouped import Grouped


@dataclass(frozen=True)
class Contained(Grouped):
    """A table of rows, whose columns have statistics each, in a container of some kind."""

    norm = "containers"
    eps = 0.0

    def call(self, nbn: ModuleType, a: Arrays) -> Call:
        """Return how a version of numbanorm is called: with a container that is made before."""
        return CALLS[self.kind](nbn, self, a)

    @property
    def statistics(self) -> bool:
        """Whether means and variances are the result."""
        return self.kind in ("stream", "Dask", "frame")

    def _groups(self, a: Arrays) -> tuple[np.ndarray, np.ndarray]:
        columns = np.arange(self.shape[1])
        rows = a.labels[:, None] * self.shape[1] if self.kind == "months" else 0
        return np.broadcast_to(rows + columns, self.shape), np.ones(self.shape)


def _both(m: Any) -> tuple[np.ndarray, ...]:
    return m.mean, m.var()


def _stream(nbn: ModuleType, case: Contained, a: Arrays) -> Call:
    chunks = np.array_split(a.x, 8)
    return lambda: _both(nbn.stream(chunks, axis=0))


def _dask(nbn: ModuleType, case: Contained, a: Arrays) -> Call:
    array = import_module("dask.array").from_array(a.x, chunks=(-(-case.shape[0] // 8), -1), name=False)
    return lambda: _both(nbn.moments(array, axis=0).compute(scheduler="synchronous"))


def _frame(nbn: ModuleType, case: Contained, a: Arrays) -> Call:
    half = case.shape[1] // 2
    types = {j: np.float64 for j in range(half)}
    frame = import_module("pandas").DataFrame(a.x).astype(types)
    return lambda: _both(nbn.moments(frame, axis=0))


def _scaler(nbn: ModuleType, case: Contained, a: Arrays) -> Call:
    scaler = import_module(f"{nbn.__name__}.sklearn").StandardScaler()
    return lambda: scaler.fit(a.x).transform(a.x)


def _months(nbn: ModuleType, case: Contained, a: Arrays) -> Call:
    xarray, nbx = import_module("xarray"), import_module(f"{nbn.__name__}.xarray")
    x = xarray.DataArray(a.x, dims=("time", "place"))
    month = xarray.DataArray(a.labels, dims="time", name="month")
    return lambda: nbx.groupby(x, month).normalize().values


CALLS = {"stream": _stream, "Dask": _dask, "frame": _frame, "scaler": _scaler, "months": _months}

CONTAINED = (
    Contained("a stream of 8 chunks", "stream", (200_000, 30)),
    Contained("a Dask array of 8 chunks", "Dask", (200_000, 30)),
    Contained("a frame of two types", "frame", (100_000, 30)),
    Contained("scikit-learn's scaler, fitted and transformed", "scaler", (100_000, 30)),
    Contained("months of an array of xarray's, normalized", "months", (3_000, 300), 12),
)
