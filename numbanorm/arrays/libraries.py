"""The libraries whose arrays lie on GPUs, and whether kernels can reach them."""

from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from .cupy import CUPY, is_cupy
from .library import Library
from .memory import DeviceArray
from .numba import NUMBA, is_numba
from .torch import TORCH, is_torch

LIBRARIES: dict[str, Library] = {"torch": TORCH, "cupy": CUPY, "numba": NUMBA}


def on_device(x: Any) -> bool:
    """Whether x is an array on a GPU, of any library."""
    return isinstance(x, DeviceArray) or library_of(x) is not None


def library_of(x: Any) -> Library | None:
    """The library of an array on a GPU, Numba's for those that are not known here; None if it does not lie there."""
    if is_torch(x):
        return TORCH if x.is_cuda else None
    if isinstance(x, np.ndarray):
        return None
    if is_cupy(x):
        return CUPY
    return NUMBA if is_numba(x) or hasattr(x, "__cuda_array_interface__") else None


@cache
def why_no_cuda() -> Exception | None:
    """What is missing for kernels on a GPU, as an error for arrays that lie there; None if nothing is."""
    if find_spec("numba_cuda") is None:
        return ImportError(
            "which needs the package numba-cuda; "
            "install numbanorm[cuda13], or numbanorm[cuda12] where the driver is for CUDA 12"
        )
    from numba import cuda

    if not cuda.is_available():
        found = " ".join(str(cuda.cuda_error()).split())
        return RuntimeError(
            f"but Numba finds no GPU or no driver ({found}); install NVIDIA's driver, and numbanorm[cuda13] or "
            "numbanorm[cuda12], whichever it is for"
        )
    return None


def require_cuda(what: str) -> None:
    """Refuse an array on a GPU, described in `what`, where no kernel can reach it.

    Raises
    ------
    ImportError
        Without the package numba-cuda.
    RuntimeError
        Without a driver.
    """
    if why := why_no_cuda():
        raise type(why)(f"{what}, {why}")
