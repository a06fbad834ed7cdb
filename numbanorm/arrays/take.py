"""Taking the caller's arrays: what kernels can read of them, without a copy, and which output may be written."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .forms import KINDS, RESULTS, kind
from .libraries import library_of, on_device, require_cuda
from .library import Library
from .memory import Array, DeviceArray, check_same_device, overlap, overlaps_itself, same_memory, writeable
from .torch import from_torch, is_torch


def take(x: Any, name: str = "x") -> tuple[Any, str]:
    """View an array of any supported library, without a copy, and name the library.

    Returns
    -------
    array : ndarray or DeviceArray
        An ndarray of what lies on the host, a DeviceArray of what lies on a GPU.
    library : str
        "numpy", "torch", "cupy" or "numba": where results are made.

    Raises
    ------
    TypeError
        For masked arrays, byte-swapped arrays on a GPU, tensors that record gradients, and element types other than
        float16, bfloat16, float32, float64, integers and booleans.
    ImportError, RuntimeError
        For an array on a GPU without the package numba-cuda, or without a driver.
    """
    if type(x) is np.ndarray and x.dtype in KINDS:
        return x, "numpy"
    library = "numpy"
    array: Array
    if type(x) is np.ndarray:
        array = x
    elif isinstance(x, DeviceArray):
        return x, x.library
    elif isinstance(x, np.ma.MaskedArray):
        raise TypeError(
            f"{name} is a masked array, whose mask would be ignored; pass {name}.filled(value) or {name}.data"
        )
    elif isinstance(x, np.ndarray | np.generic):
        array = np.asarray(x).view(np.ndarray)
    elif on_gpu := library_of(x):
        array = _from_device(x, on_gpu, name)
        library = array.library
    elif is_torch(x):
        array, library = from_torch(x, name), "torch"
    else:
        array = np.asarray(x)
    kind(array.dtype, name)
    return array, library


def view(x: Any, name: str = "x") -> Any:
    """The array of `take`, where the caller's library does not matter."""
    return take(x, name)[0]


def take_out(out: Any, x: Array, dtype: np.dtype | None, others: Mapping[str, Array | None]) -> Any:
    """Check an output array: its shape, dtype, that it can be written, and what it overlaps.

    Parameters
    ----------
    out : array
        The caller's output.
    x : ndarray or DeviceArray
        The input. `out` may be x itself.
    dtype : numpy.dtype or None
        Of the result; None: any float type.
    others : dict
        Further inputs by name, which `out` must not overlap.
    """
    if not isinstance(out, np.ndarray) and not is_torch(out) and not on_device(out):
        raise TypeError(f"out must be an array of {dtype or 'a float type'}, got {type(out).__name__}")
    array = view(out, "out")
    check_same_device(x, {"out": array})
    if array.shape != x.shape:
        raise ValueError(f"out has shape {array.shape}, the result has {x.shape}; pass an out of that shape")
    if dtype is None and kind(array.dtype, "out").lstrip(">") not in RESULTS:
        raise TypeError(f"out has dtype {array.dtype}, but results are of a float type; pass an out of one")
    if dtype is not None and array.dtype.newbyteorder("=") != dtype:
        raise TypeError(f"out has dtype {array.dtype}, but dtype={dtype} is asked for; pass an out of that dtype")
    if not writeable(array):
        raise ValueError("out is read-only; pass an array that can be written")
    if overlaps_itself(array):
        raise ValueError(f"out overlaps itself (shape {array.shape}, strides {array.strides}); pass one that does not")
    if not same_memory(array, x) and overlap(array, x):
        raise ValueError("out overlaps x; pass x itself to work in place, or an array apart from it")
    for name, other in others.items():
        if other is not None and overlap(array, other):
            raise ValueError(f"out overlaps {name}; pass an array apart from it")
    return array


def _from_device(x: Any, library: Library, name: str) -> DeviceArray:
    require_cuda(f"{name} lies on a GPU ({type(x).__name__})")
    array = library.take(x, name)
    if not array.dtype.isnative:
        raise TypeError(
            f"{name} has dtype {array.dtype.str}, whose bytes are swapped: not read on a GPU; "
            f"convert with {name}.astype({array.dtype.newbyteorder('=').name!r})"
        )
    return array
