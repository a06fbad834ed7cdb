"""Dask arrays: numbanorm.moments beside dask.array's own mean and std, in one process, on the threaded scheduler.

Both compute mean and standard deviation in one go, of the same chunks that lie in memory, in turn. A time is that of
both; digits are those of the standard deviations, against numbanorm's of the whole array in memory, at mean 1e8 and
spread 1e-2 where the dtype has room for them.

    python asv_benchmarks/lazy_arrays.py --megabytes 400 --workers 1,2
"""

import argparse
import sys
from importlib.metadata import version

import dask
import dask.array as da
import numpy as np
from harness.machine import machine
from harness.timing import interleaved

import numbanorm as nbn

CASES = {  # name: shape of a row of chunks, chunks, axis, dtype, mean, spread
    "columns, float64": ((-1, 50), (100_000, 50), 0, "float64", 1e8, 1e-2),
    "columns, float32": ((-1, 50), (100_000, 50), 0, "float32", 10.0, 1.0),
    "all, float64": ((-1, 50), (100_000, 50), None, "float64", 1e8, 1e-2),
    "rows, float32": ((-1, 1000), (5_000, 250), 1, "float32", 10.0, 1.0),
    "channels, float32": ((-1, 64, 56, 56), (16, 64, 56, 56), (0, 2, 3), "float32", 10.0, 1.0),
}


def values(shape: tuple[int, ...], dtype: str, mean: float, spread: float, megabytes: float) -> np.ndarray:
    """Normal numbers: as many rows as there is room for."""
    row = int(np.prod(shape[1:])) * np.dtype(dtype).itemsize
    whole = (max(2, int(megabytes * 1e6 / row)), *shape[1:])
    kind = np.float32 if dtype == "float32" else np.float64
    return (mean + spread * np.random.default_rng(0).standard_normal(whole, kind)).astype(dtype)


def main(arguments: list[str] | None = None) -> int:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=400, help="of each array")
    parser.add_argument("--workers", default="2", help="threads of Dask's")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each case")
    options = parser.parse_args(arguments)
    print(f"{machine(options.workers, ('numbanorm', 'NumPy'))}, dask {version('dask')}\n")
    print("| case | shape | workers | numbanorm, ms | x dask.array | error of numbanorm | error of dask.array |")
    print("| :-- | :-- | --: | --: | --: | --: | --: |")
    for name, (shape, chunks, axis, dtype, mean, spread) in CASES.items():
        x = values(shape, dtype, mean, spread, options.megabytes)
        lazy, exact = da.from_array(x, chunks=tuple(map(min, chunks, x.shape))), nbn.moments(x, axis=axis).std()
        ours = nbn.moments(lazy, axis=axis)
        theirs = lazy.mean(axis, dtype="f8"), lazy.std(axis, dtype="f8")
        for workers in map(int, options.workers.split(",")):
            with dask.config.set(scheduler="threads", num_workers=workers):
                timed = {"numbanorm": ours.compute, "dask": lambda theirs=theirs: dask.compute(*theirs)}
                errors = [np.max(np.abs(std / exact - 1)) for std in (ours.compute().std(), dask.compute(*theirs)[1])]
                times = interleaved(timed, options.seconds)
            ratio = times.ratio("dask", "numbanorm").median
            shown = "×".join(map(str, x.shape))
            told = f"{1e3 * times['numbanorm']:.1f} | {ratio:.2f} | {errors[0]:.0e} | {errors[1]:.0e}"
            print(f"| {name} | {shown} | {workers} | {told} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
