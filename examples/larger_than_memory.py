"""Statistics and normalization of more data than fits in memory: from a stream, and as a Dask array.

The data are virtual: 20 GB of measurements of 500 sensors, each far from zero against its spread, made anew whenever
they are read. What is printed is checked: the numbers against those that the data were made with, and memory.

    python examples/larger_than_memory.py             # 20 GB, read three times: minutes
    python examples/larger_than_memory.py --quick     # 400 MB
    python examples/larger_than_memory.py --dashboard # on worker processes, with a page that shows how far they are
"""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import dask
import dask.array as da
import numpy as np
from dask.diagnostics import ProgressBar

import numbanorm as nbn

SENSORS, ROWS = 500, 20_000  # of a chunk: 80 MB in float64
MEANS, SPREADS = 1e6 * np.arange(1, SENSORS + 1), np.geomspace(1e-3, 1e3, SENSORS)


class Measurements:
    """A dataset as one of h5py's or zarr's: with a shape, a dtype, chunks and slices, which make the numbers."""

    def __init__(self, gigabytes: float) -> None:
        self.shape = max(1, round(gigabytes * 1e9 / 8 / SENSORS / ROWS)) * ROWS, SENSORS
        self.dtype, self.ndim, self.chunks = np.dtype(np.float64), 2, (ROWS, SENSORS)

    def __getitem__(self, block: tuple[slice, slice]) -> np.ndarray:
        rows, columns = block
        first, last, _ = rows.indices(self.shape[0])
        parts = [
            self.chunk(i)[max(first - i * ROWS, 0) : last - i * ROWS] for i in range(first // ROWS, -(-last // ROWS))
        ]
        return (parts[0] if len(parts) == 1 else np.concatenate(parts))[:, columns]

    def chunk(self, index: int) -> np.ndarray:
        """The same numbers whenever it is read."""
        made = np.random.default_rng(index).standard_normal(self.chunks)
        made *= SPREADS
        made += MEANS
        return made


def most_memory() -> float:
    """Megabytes that this process had at most."""
    try:
        import resource
    except ImportError:  # not on Windows
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def check(m: nbn.Moments, rows: int) -> None:
    """Compare with what the data were made with, within what chance allows."""
    off = np.abs(m.std() / SPREADS - 1).max()
    print(
        f"  standard deviations within {off:.1e} of those that the data were made with; {most_memory():.0f} MB at most"
    )
    assert (m.count == rows).all() and off < 6 / np.sqrt(2 * rows)
    assert (np.abs(m.mean - MEANS) < 6 * SPREADS / np.sqrt(rows) + np.spacing(MEANS)).all()


@contextmanager
def shown(workers: int, dashboard: bool) -> Iterator[None]:
    """Compute Dask's arrays on threads below a bar, or on worker processes with a dashboard."""
    if not dashboard:
        with dask.config.set(num_workers=workers), ProgressBar(minimum=1.0):
            yield
        return
    from dask.distributed import Client, LocalCluster

    with LocalCluster(n_workers=workers, threads_per_worker=1, host="127.0.0.1") as cluster, Client(cluster) as client:
        print(f"  dashboard: {client.dashboard_link}")
        yield


def main() -> None:
    """Make moments by both ways, and normalize."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="400 MB")
    parser.add_argument("--gigabytes", type=float, default=20.0)
    parser.add_argument("--workers", type=int, default=nbn.get_num_threads(), help="threads of Dask's, or processes")
    parser.add_argument(
        "--dashboard", action="store_true", help="on worker processes, with a page (needs distributed and bokeh)"
    )
    options = parser.parse_args()
    data = Measurements(0.4 if options.quick else options.gigabytes)
    print(f"{data.shape[0]} x {data.shape[1]} measurements, {np.prod(data.shape) * 8 / 1e9:.1f} GB")

    print("a stream, block by block:")
    start = time.perf_counter()
    m = nbn.stream(data, axis=0, progress=True)
    print(f"  {time.perf_counter() - start:.1f} s, most of them to make the numbers")
    check(m, data.shape[0])

    print("a Dask array, on all processors:")
    table = da.from_array(data, chunks=data.chunks, meta=np.empty((0, 0)), name="measurements")
    with shown(options.workers, options.dashboard):
        lazy = nbn.moments(table, axis=0).compute()
    check(lazy, data.shape[0])

    print("normalized, and summed up again (in place of this it would be written: y.to_zarr(...)):")
    y = nbn.normalize(table, axis=0, moments=lazy, eps=0)
    with shown(options.workers, options.dashboard):
        again = nbn.moments(y, axis=0).compute()
    off = max(np.abs(again.mean).max(), np.abs(again.std() - 1).max())
    print(f"  means are 0 and deviations 1 within {off:.1e}; {most_memory():.0f} MB at most")
    assert off < 1e-5


if __name__ == "__main__":
    main()
