"""What a first call takes: each in a process of its own, with nothing kept from before, beside the import of NumPy.

    python asv_benchmarks/first_call.py [CALL ...] [--dtypes float32 float16] [--rounds 5] [--check]

It measures the package that Python finds. `--check` fails where a call imported Numba, as with a wheel none should.
"""

import argparse
import importlib.metadata
import os
import platform
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from statistics import median

CALLS = {
    "layer_norm": "nbn.layer_norm(x, 32, row, row)",
    "layer_norm, large": "nbn.layer_norm(large, 1024, long, long)",
    "group_norm": "nbn.group_norm(x, 4, w, w)",
    "group_norm, channels last": "nbn.group_norm(last, 4, w, w, channel_axis=-1)",
    "batch_norm, training": "nbn.batch_norm(x, mean, var, w, w, training=True)",
    "batch_norm, training, channels last": "nbn.batch_norm(last, mean, var, w, w, training=True, channel_axis=-1)",
    "batch_norm": "nbn.batch_norm(x, mean, var, w, w)",
    "instance_norm": "nbn.instance_norm(x, weight=w, bias=w)",
    "rms_norm": "nbn.rms_norm(x, 32, row)",
    "moments": "nbn.moments(x, axis=(0, 2, 3)).var()",
    "moments, channels last": "nbn.moments(last, axis=(0, 1, 2)).var()",
}
PROGRAM = """
import sys, time
import numpy as np
times, begun = [time.perf_counter()], time.process_time()
import numbanorm as nbn
times.append(time.perf_counter())
imported = time.process_time() - begun
dtype = "{dtype}"
if dtype == "bfloat16":
    import ml_dtypes
    dtype = ml_dtypes.bfloat16
x = (np.arange(4 * 16 * 32 * 32).reshape(4, 16, 32, 32) % 97).astype(dtype)
last, large = np.ascontiguousarray(np.moveaxis(x, 1, -1)), np.ones((512, 1024), dtype)
w, row, long, mean, var = (np.ones(n, dtype) for n in (16, 32, 1024, 16, 16))
ready = time.process_time()
for _ in range(2):
    times.append(time.perf_counter())
    {call}
    times.append(time.perf_counter())
    if len(times) == 4:
        spent = imported + time.process_time() - ready
print(times[1] - times[0], times[3] - times[2], spent, times[5] - times[4], "numba" in sys.modules, nbn.__file__)
"""


def measure(call: str, dtype: str) -> tuple[list[float], bool, str]:
    """Milliseconds: import, first call, both in CPU time, second call; whether Numba was imported; which package."""
    with tempfile.TemporaryDirectory() as folder:
        env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        env |= {"NUMBANORM_CACHE_DIR": folder, "NUMBANORM_QUIET": "1"}
        env["OPENBLAS_NUM_THREADS"] = "1"  # NumPy's own threads spin for a while after its import: CPU time of no call
        code = PROGRAM.format(call=CALLS[call], dtype=dtype)
        done = subprocess.run(
            [sys.executable, "-P", "-c", code], env=env, cwd=folder, check=True, stdout=subprocess.PIPE, text=True
        )
    *times, numba, where = done.stdout.strip().split(" ", 5)
    return [1000 * float(time) for time in times], numba == "True", where


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("calls", nargs="*", help=f"of: {', '.join(CALLS)} (default: all)")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "float16"])
    parser.add_argument("--rounds", type=int, default=5, help="processes for each call; the median is shown")
    parser.add_argument("--check", action="store_true", help="fail where a call imported Numba")
    options = parser.parse_args()
    if unknown := [call for call in options.calls if call not in CALLS]:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(CALLS)}")
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {options.rounds}")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "numba"))
    system = f"{platform.system()} {platform.machine()}, {_model()}, {os.cpu_count()} processors"
    print(f"{date.today()}: {system}; Python {platform.python_version()}, {versions}.\n")
    print("| call | dtype | import numbanorm | first call | both | both, CPU | second call | Numba |")
    print("|:--|:--|--:|--:|--:|--:|--:|:--|")
    importing, where = [], ""
    for dtype in options.dtypes:
        for call in options.calls or CALLS:
            rounds, numbas, places = zip(*(measure(call, dtype) for _ in range(options.rounds)), strict=True)
            one, first, spent, second = (median(column) for column in zip(*rounds, strict=True))
            both = median(a + b for a, b, *_ in rounds)
            if any(numbas):
                importing.append(f"{call} of {dtype}")
            where = places[0]
            said = "imported" if any(numbas) else "no"
            cells = [f"{time:.1f}" for time in (one, first, both, spent)]
            print("|", " | ".join([call, dtype, *cells, f"{second:.3f}", said]), "|", flush=True)
    print(
        f"\nMilliseconds beside `import numpy`, median of {options.rounds} processes. numbanorm: {Path(where).parent}"
    )
    if options.check and importing:
        print(f"Numba was imported by {', '.join(importing)}", file=sys.stderr)
        return 1
    return 0


def _model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


if __name__ == "__main__":
    sys.exit(main())
