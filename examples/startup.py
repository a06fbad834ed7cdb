"""How long numbanorm takes to start: import, first call with a warm cache, and first call of each norm with a cold one.

Every figure is the median over fresh processes; those of the three kinds take turns, so that a busy machine slows all.
"""

import argparse
import datetime
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numbanorm as nbn

HOME = Path(nbn.__file__).parents[1]  # the numbanorm that is measured is the one that is imported here
LIMITS = {"import": 0.05, "warm": 0.6, "cold": 5.0}  # seconds

# Each is a program that prints seconds by the clock and of processors. The import of NumPy, and for calls that of
# Numba, is not part of them.
IMPORT = """
import time, numpy, numpy.typing
start, busy = time.perf_counter(), time.process_time()
import numbanorm
print(time.perf_counter() - start, time.process_time() - busy)
"""
CALL = """
import time, numpy as np, numba, numbanorm as nbn
x, weight, bias = np.ones({shape}, np.float32), np.ones({channels}, np.float32), np.zeros({channels}, np.float32)
mean, var = np.zeros({channels}, np.float32), np.ones({channels}, np.float32)
start, busy = time.perf_counter(), time.process_time()
{call}
print(time.perf_counter() - start, time.process_time() - busy)
"""
IMAGES, ROWS = ((8, 64, 56, 56), 64), ((4096, 768), 768)
Times = tuple[float, float]  # seconds by the clock, and those that processors were busy
NORMS = {
    "batch norm, training": (IMAGES, "nbn.batch_norm(x, mean, var, weight, bias, training=True)"),
    "batch norm, evaluation": (IMAGES, "nbn.batch_norm(x, mean, var, weight, bias)"),
    "layer norm": (ROWS, "nbn.layer_norm(x, 768, weight, bias)"),
    "RMS norm": (ROWS, "nbn.rms_norm(x, 768, weight)"),
    "instance norm": (IMAGES, "nbn.instance_norm(x, weight=weight, bias=bias)"),
    "group norm": (IMAGES, "nbn.group_norm(x, 32, weight, bias)"),
    "group norm, channels last": (((8, 56, 56, 64), 64), "nbn.group_norm(x, 32, weight, bias, channel_axis=-1)"),
    "batch renorm, training": (IMAGES, "nbn.batch_renorm(x, mean, var, weight, bias, training=True)"),
    "batch-instance norm": (IMAGES, "nbn.batch_instance_norm(x, weight, weight, bias)"),
    "weight norm": (((512, 512, 3, 3), 512), "nbn.weight_norm(x, weight)"),
    "weight standardization": (((512, 512, 3, 3), 512), "nbn.weight_standardize(x)"),
    "spectral norm": (((512, 512, 3, 3), 512), "nbn.spectral_norm(x)"),
}


def seconds(program: str, cache: str | Path) -> Times:
    """Run a program in a fresh process with this cache folder, and return what it measured: by the clock, and busy."""
    env = {**os.environ, "PYTHONPATH": str(HOME), "NUMBANORM_CACHE_DIR": str(cache), "NUMBANORM_QUIET": "1"}
    command = [sys.executable, "-P", "-c", program]
    clock, busy = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    return float(clock), float(busy)


def program(norm: str) -> str:
    """The program that measures the first call of a norm."""
    (shape, channels), call = NORMS[norm]
    return CALL.format(shape=shape, channels=channels, call=call)


def cold(norm: str) -> Times:
    """First call of a norm with an empty cache folder."""
    with tempfile.TemporaryDirectory() as folder:
        return seconds(program(norm), folder)


def measure(norms: list[str], processes: int) -> list[tuple[str, list[Times], float]]:
    """Name, seconds in each process, and limit of everything there is to measure."""
    imports: list[Times] = []
    warm: dict[str, list[Times]] = {norm: [] for norm in norms}
    cooled: dict[str, list[Times]] = {norm: [] for norm in norms}
    with tempfile.TemporaryDirectory() as kept:
        for turn in range(processes):
            imports.append(seconds(IMPORT, kept))
            for norm in norms:
                if turn == 0:
                    seconds(program(norm), kept)
                print(f"turn {turn + 1} of {processes}: {norm}", file=sys.stderr, flush=True)
                cooled[norm].append(cold(norm))
                warm[norm].append(seconds(program(norm), kept))
    rows = [("import, beyond NumPy's", imports, LIMITS["import"])]
    rows += [(f"{norm}: first call, warm cache", times, LIMITS["warm"]) for norm, times in warm.items()]
    rows += [(f"{norm}: first call, cold cache", times, LIMITS["cold"]) for norm, times in cooled.items()]
    return rows


def main() -> int:
    """Measure, print a table, and return 1 if a median is over its limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=5, help="of which the median is taken (default: 5)")
    parser.add_argument("--norm", choices=NORMS, action="append", help="measure this one (default: all)")
    given = parser.parse_args()
    if given.processes < 1:
        parser.error(f"--processes must be at least 1, got {given.processes}")
    rows = measure(given.norm or list(NORMS), given.processes)
    libraries = ", ".join(f"{name} {version(name)}" for name in ("numpy", "numba", "llvmlite"))
    print(f"{processor()}, {nbn.get_num_threads()} threads, {platform.system()}, {datetime.date.today()}")
    print(f"Python {platform.python_version()}, numbanorm {nbn.__version__}, {libraries}")
    print(f"Seconds in {given.processes} fresh processes; calls beyond the import of Numba. processors: median of the")
    print("time that processors were busy, all threads together. On a busy machine it says more than the clock.\n")
    print("| what | median | least | most | processors | limit |\n| :-- | --: | --: | --: | --: | --: |")
    slow = False
    for name, times, limit in rows:
        clock, busy = zip(*times, strict=True)
        middle = statistics.median(clock)
        over, slow = (" over", True) if middle >= limit else ("", slow)
        figures = [middle, min(clock), max(clock), statistics.median(busy)]
        print(f"| {name} |", " | ".join(f"{figure:.3f}" for figure in figures), f"| {limit}{over} |")
    return int(slow)


def processor() -> str:
    """The processor's model."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
