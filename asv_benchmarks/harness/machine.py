"""The machine: what it is, and how many threads every library may use on it."""

import datetime
import os
import platform
from importlib.metadata import version
from pathlib import Path

import numba

import numbanorm as nbn

try:
    import torch
except ImportError:
    torch = None

BUSY = 0.5  # processes that run already: from there on times are too long


def cache_bytes(level: int) -> int:
    """Return the size of a core's cache (level 2) or of the last one (level 3); a usual one if the system is silent."""
    try:
        return os.sysconf(f"SC_LEVEL{level}_CACHE_SIZE") or (1 << 20 if level == 2 else 32 << 20)
    except (AttributeError, ValueError, OSError):
        return 1 << 20 if level == 2 else 32 << 20


def set_threads(number: int) -> None:
    """Let numbanorm, Numba (for the copies) and torch use so many threads each."""
    nbn.set_num_threads(number)
    numba.set_num_threads(number)
    if torch:
        torch.set_num_threads(number)


def machine(threads: str | int) -> str:
    """Say on what was measured, in two lines."""
    cpu, info = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if info.exists():
        models = [line.split(": ", 1)[1] for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = models[0] if models else cpu
    packages = ("numba", "numpy", "torch") if torch else ("numba", "numpy")
    plural = "" if str(threads) == "1" else "s"
    return (
        f"{cpu}, {os.cpu_count()} cores, {threads} thread{plural}, {platform.system()}, {datetime.date.today()}\n"
        f"Python {platform.python_version()}, numbanorm {nbn.__version__}, "
        f"{', '.join(f'{name} {version(name)}' for name in packages)}"
    )


def warning() -> str:
    """Say that the machine is busy, if it is."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return f"The machine is busy (load {load:.1f}): times will be too long, unevenly." if load > BUSY else ""
