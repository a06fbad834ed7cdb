"""The GPU: whether there is one, and what it is."""

import datetime
import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numbanorm as nbn

PACKAGES = ("numba", "numba-cuda", "numpy", "torch", "triton")
MORE = {"JAX": ("jax",), "CuPy": ("cupy", "cupy-cuda12x", "cupy-cuda13x")}  # by contender
BUSY = 5  # percent: from there on others use the GPU


class NoGPU(Exception):
    """Says in one line why nothing can be measured on a GPU here."""


def find() -> Any:
    """Return torch with a GPU that it can use.

    Raises
    ------
    NoGPU
        If there is none.
    """
    # Before JAX is imported: it would take three quarters of the memory for itself.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    try:
        import torch
    except ImportError:
        raise NoGPU("torch is not installed, whose CUDA tensors all contenders are given") from None
    if torch.version.cuda is None:
        raise NoGPU(f"torch {torch.__version__} was built without CUDA")
    if not torch.cuda.is_available():
        raise NoGPU(f"torch {torch.__version__} finds no NVIDIA GPU")
    return torch


def machine(torch: Any, contenders: Sequence[str]) -> str:
    """Say on what was measured, in two lines."""
    gpu = torch.cuda.get_device_properties(torch.cuda.current_device())
    driver, _ = asked()
    return (
        f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GB, {gpu.multi_processor_count} multiprocessors, "
        f"{gpu.L2_cache_size / 2**20:.0f} MB of L2, driver {driver}, CUDA {torch.version.cuda}, {platform.system()}, "
        f"{datetime.date.today()}\n"
        f"Python {platform.python_version()}, numbanorm {nbn.__version__}, {', '.join(versions(contenders))}"
    )


def versions(contenders: Sequence[str]) -> Iterator[str]:
    """Name the packages with their versions, as far as they are installed."""
    for package in (*PACKAGES, *(package for name in contenders for package in MORE.get(name, ()))):
        with suppress(PackageNotFoundError):
            yield f"{package} {version(package)}"


def warning() -> str:
    """Say that others use the GPU, if they do. It is asked before anything is queued."""
    _, percent = asked()
    return f"The GPU is busy ({percent}%): times will be too long, unevenly." if percent >= BUSY else ""


def asked() -> tuple[str, int]:
    """Ask nvidia-smi for the driver's version and how busy the GPU is; 'unknown' and 0 where it does not say."""
    query = ["nvidia-smi", "--query-gpu=driver_version,utilization.gpu", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
        driver, percent = said.splitlines()[0].split(", ")
        return driver, int(percent)
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return "unknown", 0
