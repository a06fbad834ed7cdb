"""Dask arrays on worker processes: moments beside reading the chunks alone, and beside dask.array's own mean and std.

Chunks lie in files, with mean 1e8 and spread 1e-2, and each process reads and sums up those that it is given. A time is
that of all. Memory is the most that a worker had at once, and what it had before with all libraries loaded.

    python asv_benchmarks/worker_processes.py --gigabytes 4 --workers 2
"""

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from distributed import Client, LocalCluster
from harness.machine import machine

import numbanorm as nbn

COLUMNS = 50
STATUS = Path("/proc/self/status")  # on Linux alone: elsewhere there is nothing to say of memory


def write(folder: str, number: int, rows: int) -> None:
    """Write the chunks."""
    rng = np.random.default_rng(0)
    for i in range(number):
        np.save(f"{folder}/{i}.npy", 1e8 + 1e-2 * rng.standard_normal((rows, COLUMNS)))


def read(folder: str, block_info: Any = None) -> np.ndarray:
    """Read a chunk."""
    return np.load(f"{folder}/{block_info[None]['chunk-location'][0]}.npy")


def seen(x: np.ndarray) -> np.ndarray:
    """Next to nothing is done to a chunk that was read: one element is looked at."""
    return x[:1, :1]


def forget() -> None:
    """Let the most memory be that of now."""
    if STATUS.exists():
        Path("/proc/self/clear_refs").write_text("5")


def most() -> float:
    """The most memory that this process had, in MB."""
    lines = STATUS.read_text().splitlines() if STATUS.exists() else []
    return max((int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM")), default=float("nan"))


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and the result."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def measure(client: Client, x: Any, rounds: int) -> None:
    """Print what was found."""
    reading = x.map_blocks(seen, dtype=x.dtype, chunks=((1,) * x.numblocks[0], (1,))).sum()
    work = {"reading": reading, "numbanorm": nbn.moments(x, axis=0), "dask.array": [x.mean(axis=0), x.std(axis=0)]}
    few = nbn.moments(x[: 2 * x.chunks[0][0]], axis=0)
    client.run(lambda: __import__("numbanorm").moments(np.ones((2, 2)), axis=0))
    client.compute(few).result()
    client.run(forget)
    before = max(client.run(most).values())
    times: dict[str, list[float]] = {name: [] for name in work}
    peaks: dict[str, float] = dict.fromkeys(work, 0.0)
    results: dict[str, Any] = {}
    for turn in range(rounds + 1):
        for name in list(work)[:: 1 if turn % 2 else -1]:
            client.run(forget)
            seconds, results[name] = timed(lambda name=name: client.gather(client.compute(work[name])))
            if turn or not rounds:  # the first one warms the files up
                times[name].append(seconds)
            peaks[name] = max(peaks[name], max(client.run(most).values()))
    right = results["numbanorm"].std()
    errors = {
        "reading": "-",
        "numbanorm": "-",
        "dask.array": f"{np.abs(results['dask.array'][1] / right - 1).max():.0e}",
    }
    print("| what | s | of reading | MB of a worker at most | before | std, off from numbanorm's by |")
    print("| :-- | --: | --: | --: | --: | --: |")
    for name, seconds in times.items():
        best = min(seconds)
        share = min(times["reading"]) / best
        print(f"| {name} | {best:.2f} | {share:.2f} | {peaks[name]:.0f} | {before:.0f} | {errors[name]} |")


def main(arguments: list[str] | None = None) -> int:
    """Make the chunks, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--rows", type=int, default=100_000, help="of a chunk")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    number = max(2, round(options.gigabytes * 1e9 / 8 / COLUMNS / options.rows))
    told = f"{machine(1, ('numbanorm', 'NumPy'))}, dask {version('dask')}"
    print(f"{told}\n{number} chunks of {options.rows * COLUMNS * 8 / 1e6:.0f} MB, {options.workers} worker processes\n")
    with tempfile.TemporaryDirectory() as folder:
        write(folder, number, options.rows)
        x = da.map_blocks(
            read, folder, chunks=((options.rows,) * number, (COLUMNS,)), dtype=np.float64, meta=np.empty((0, 0))
        )
        given = {"n_workers": options.workers, "threads_per_worker": 1, "processes": True}
        with LocalCluster(**given, dashboard_address=None) as cluster, Client(cluster) as client:
            measure(client, x, options.rounds)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "error")
    sys.exit(main())
