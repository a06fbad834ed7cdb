"""What a waiting team costs: one call on one thread and on several, alone and beside a process that keeps a core busy.

A call on several threads waits for the slowest of them. Where another process has its core, those that wait should
give way; by default they spin instead. Each setting of the threading layer is measured in a process of its own.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

SETTINGS = ("", "OMP_WAIT_POLICY=passive", "GOMP_SPINCOUNT=1000", "GOMP_SPINCOUNT=100000", "NUMBA_THREADING_LAYER=tbb")
BUSY = "import time\nend = time.monotonic() + float({seconds})\nwhile time.monotonic() < end: pass"


@contextmanager
def busy_process(seconds: float) -> Iterator[None]:
    """Keep a core busy beside what is measured; for so many seconds at most, if nobody can end it."""
    other = subprocess.Popen([sys.executable, "-c", BUSY.format(seconds=seconds)])
    try:
        time.sleep(min(0.2, seconds))  # it starts
        yield
    finally:
        other.kill()
        other.wait()


def times(threads: int, seconds: float) -> str:
    """Call layer norm of 256 rows of 768 over and over: lowest 5%, median and 90% of the times of a call, in µs."""
    import numbanorm as nbn

    x = np.random.default_rng(0).standard_normal((256, 768), np.float32)
    out = np.empty_like(x)
    nbn.set_num_threads(threads)
    nbn.layer_norm(x, 768, out=out)
    found, end = [], time.perf_counter() + seconds
    while not found or time.perf_counter() < end:
        start = time.perf_counter()
        nbn.layer_norm(x, 768, out=out)
        found.append(time.perf_counter() - start)
    return "".join(f"{1e6 * np.quantile(found, share):9.0f}" for share in (0.05, 0.5, 0.9))


def measure(threads: int, seconds: float) -> None:
    """Measure with the settings of this process, alone and in company."""
    for number in dict.fromkeys((1, threads)):
        line = times(number, seconds)
        with busy_process(seconds + 5):
            line += times(number, seconds)
        print(f"{number:>24} threads{line}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Measure each setting in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, metavar="N", help="(default: all cores)")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each number measured (default: 1)")
    parser.add_argument("--settings", nargs="+", default=SETTINGS, metavar="NAME=VALUE", help="of the environment")
    parser.add_argument("--here", action="store_true", help="measure in this process, as the environment is")
    args = parser.parse_args(arguments)
    if args.here:
        measure(args.threads, args.seconds)
        return 0
    print(f"{'µs a call':32}{'alone 5%':>9}{'median':>9}{'90%':>9}{'beside 5%':>9}{'median':>9}{'90%':>9}")
    own = [sys.executable, __file__, "--here", "--threads", str(args.threads), "--seconds", str(args.seconds)]
    for setting in args.settings:
        print(setting or "as it is", flush=True)
        name, _, value = setting.partition("=")
        subprocess.run(own, env=os.environ | ({name: value} if setting else {}), check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
