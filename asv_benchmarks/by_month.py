"""Groups by month of a DataArray: numbanorm.xarray beside flox with numbagg for its engine, in turn.

Each gives the standard deviation of every month and place, and the standardized anomalies. Values have mean 1e6 and
are noise of 1 / 100, as in flox's report of lost digits: errors are those of the standard deviations, relative.

    python asv_benchmarks/by_month.py --megabytes 400 --threads 1,2
"""

import argparse
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import flox.xarray
import numpy as np
import pandas as pd
import xarray as xr
from harness.machine import machine, set_threads, threads_of, warning
from harness.timing import interleaved

import numbanorm as nbn
import numbanorm.xarray as nbx

SHAPES = {  # time, lat, lon: what is left out is as large as there is room for
    "days of a grid": (1461, 90, None),
    "years of a station": (None, 4, 5),
}
OWN, THEIRS = "numbanorm", "flox"


def array(shape: tuple[int | None, ...], dtype: str, megabytes: float) -> xr.DataArray:
    """Noise beside a large mean, by the hour where time is long."""
    known = int(np.prod([n for n in shape if n]))
    whole = [n or max(24, int(megabytes * 1e6 / np.dtype(dtype).itemsize / known)) for n in shape]
    values = np.random.default_rng(0).random(whole) / 100 + (1e6 if dtype == "float64" else 1.0)
    time = pd.date_range("1950-01-01", periods=whole[0], freq="h" if shape[0] is None else "D")
    return xr.DataArray(values.astype(dtype), {"time": time}, ("time", "lat", "lon"))


def exact(x: xr.DataArray) -> Any:
    """Standard deviations by two passes about a mean near the values: no digits are lost to it."""
    month = x.time.dt.month.values
    values = x.values.astype(np.float64) - np.float64(x.values.flat[0])
    return np.stack([values[month == m].std(axis=0) for m in np.unique(month)])


def calls(x: xr.DataArray, output: bool) -> dict[str, Callable[[], Any]]:
    """What is timed, by contender."""
    month = x.time.dt.month

    def by_flox(func: str) -> Any:
        return flox.xarray.xarray_reduce(x, month, func=func, engine="numbagg", skipna=True)

    def anomalies() -> Any:
        return (x.groupby(month) - by_flox("mean")).groupby(month) / by_flox("std")

    if output:
        return {OWN: lambda: nbx.groupby(x, month).normalize(), THEIRS: anomalies}
    return {OWN: lambda: nbx.groupby(x, month).std(), THEIRS: lambda: by_flox("std")}


def error(made: Any, right: Any) -> float:
    """The largest relative one."""
    with np.errstate(all="ignore"):
        off = np.abs(made.transpose("month", ...).values / right - 1)
    return float(np.max(np.where(np.isnan(off), np.inf, off)))


def main(arguments: list[str] | None = None) -> int:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=400, help="of each array")
    parser.add_argument("--threads", type=threads_of, default=[nbn.get_num_threads()], metavar="N[,N]")
    parser.add_argument("--seconds", type=float, default=8.0, help="for each row")
    options = parser.parse_args(arguments)
    peers = ", ".join(f"{name} {version(name)}" for name in ("xarray", "flox", "numbagg"))
    told = machine(" and ".join(map(str, options.threads)), ("numbanorm", "NumPy"))
    print(f"{told}, {peers}\n{warning(options.threads[-1])}\n")
    print("| what | shape | dtype | threads | numbanorm, ms | x flox | error of numbanorm | error of flox |")
    print("| :-- | :-- | :-- | --: | --: | --: | --: | --: |")
    for name, shape in SHAPES.items():
        for dtype in ("float64", "float32"):
            x = array(shape, dtype, options.megabytes)
            right = exact(x)
            off = {who: error(call(), right) for who, call in calls(x, False).items()}
            for output in (False, True):
                for threads in options.threads:
                    set_threads(threads)
                    times = interleaved(calls(x, output), options.seconds)
                    ratio = times.ratio(THEIRS, OWN).median
                    what = f"{name}, {'anomalies' if output else 'std'}"
                    shown = f"{'×'.join(map(str, x.shape))} | {dtype} | {threads}"
                    digits = "- | -" if output else f"{off[OWN]:.0e} | {off[THEIRS]:.0e}"
                    print(f"| {what} | {shown} | {1e3 * times[OWN]:.1f} | {ratio:.2f} | {digits} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
