"""The machine: what it is, and how many threads every library may use on it."""

import argparse
import datetime
import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numba

import numbanorm as nbn

from .contenders import DEFAULT

# The package whose version is told, by contender.
PACKAGES = {
    "numbanorm": "numba",
    "NumPy": "numpy",
    "torch": "torch",
    "torch.compile": "torch",
    "JAX": "jax",
    "onnxruntime": "onnxruntime",
    "numbagg": "numbagg",
    "scikit-learn": "scikit-learn",
    "pandas": "pandas",
}
BUSY = 0.5  # processes that run already: from there on times are too long


def cache_bytes(level: int) -> int:
    """Return the size of a core's cache (level 2) or of the last one (level 3); a usual one if the system is silent."""
    try:
        return os.sysconf(f"SC_LEVEL{level}_CACHE_SIZE") or (1 << 20 if level == 2 else 32 << 20)
    except (AttributeError, ValueError, OSError):
        return 1 << 20 if level == 2 else 32 << 20


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_of(text: str) -> list[int]:
    """Read --threads: 1,4."""
    numbers = sorted({int(number) for number in text.split(",")})
    if not 1 <= numbers[0] <= numbers[-1] <= nbn.get_num_threads():
        raise argparse.ArgumentTypeError(f"between 1 and {nbn.get_num_threads()}, with commas between them")
    return numbers


def set_threads(number: int) -> None:
    """Let numbanorm, Numba (for the copies) and torch use so many threads each."""
    nbn.set_num_threads(number)
    numba.set_num_threads(number)
    with suppress(ImportError):
        import torch  # which takes seconds: not where nothing is measured beside it

        torch.set_num_threads(number)


def machine(threads: str | int, contenders: Sequence[str] = ()) -> str:
    """Say on what was measured, in two lines. The usual contenders are always named: they make the copies too."""
    cpu, info = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if info.exists():
        models = [line.split(": ", 1)[1] for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = models[0] if models else cpu
    plural = "" if str(threads) == "1" else "s"
    return (
        f"{cpu}, {os.cpu_count()} cores, {threads} thread{plural}, {platform.system()}, {datetime.date.today()}\n"
        f"Python {platform.python_version()}, numbanorm {nbn.__version__}, "
        f"{', '.join(versions([*DEFAULT, *contenders]))}"
    )


def versions(contenders: Iterable[str]) -> Iterator[str]:
    """Name the packages of contenders with their versions, as far as they are installed."""
    for package in dict.fromkeys(PACKAGES[name] for name in contenders if name in PACKAGES):
        with suppress(PackageNotFoundError):
            yield f"{package} {version(package)}"


def load() -> float:
    """Return how many processes run, on average over the last minute."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def crowded(threads: int) -> bool:
    """Whether so many threads, and what runs already, want a core more than there is.

    Then some thread waits for a core in every call, and all others for it: as long with one library as with another,
    whatever they need by themselves. A single thread is slowed down evenly.
    """
    return threads > 1 and load() + threads > cores() + 1


def warning(threads: int = 1) -> str:
    """Say that the machine is busy, if it is, and what to do if ratios on so many threads would be worthless."""
    if crowded(threads):
        return (
            f"The machine is busy (load {load():.1f} on {cores()} cores). A call on {threads} threads waits for the "
            "slowest of them, so ratios say nothing. Measure with --threads 1, or when nothing has run for a minute."
        )
    return f"The machine is busy (load {load():.1f}): times will be too long, unevenly." if load() > BUSY else ""
