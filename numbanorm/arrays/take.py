"""Taking the caller's arrays: what kernels can read of them, without a copy, and which output may be written."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..layout import as_shape
from .forms import KINDS, RESULTS, kind
from .libraries import library_of, on_device, require_cuda
from .library import Library
from .memory import (
    Array,
    DeviceArray,
    Shape,
    check_apart,
    check_same_device,
    overlap,
    overlaps_itself,
    same_memory,
    writeable,
)
from .objects import from_object
from .torch import TORCH, check_tensor, check_written, count_version, from_torch, is_locked, is_torch


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
        For masked arrays, byte-swapped arrays on a GPU, tensors that record gradients or whose memory is not their
        values, objects that are no arrays of numbers, and element types other than float16, bfloat16, float32,
        float64, integers and booleans.
    ValueError
        For sequences whose rows differ in length.
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
    elif is_torch(x):
        check_tensor(x, name)
        array, library = _from_device(x, TORCH, name) if x.is_cuda else from_torch(x, name), "torch"
    elif on_gpu := library_of(x):
        array = _from_device(x, on_gpu, name)
        library = array.library
    else:
        return from_object(x, name), library
    kind(array.dtype, name)
    return array, library


def view(x: Any, name: str = "x") -> Any:
    """The array of `take`, where the caller's library does not matter."""
    return take(x, name)[0]


def shape_of(x: Any) -> Shape:
    """Shape of anything that is an array, or becomes one."""
    return as_shape(x.shape if not is_torch(x) and hasattr(x, "shape") else view(x).shape)


def take_written(value: Any, name: str, what: str = "an array") -> Any:
    """View an array that is to be written in place, if what is written is what the caller sees.

    Parameters
    ----------
    value : array
        The caller's array.
    name : str
        Of the argument.
    what : str
        What fits, for messages.

    Raises
    ------
    TypeError
        For what NumPy can only copy, or may not write, and for tensors that torch would not write now.
    ValueError
        For an array that is read-only, or overlaps itself.
    """
    if isinstance(value, np.ndarray) or is_torch(value) or on_device(value):
        array = view(value, name)
        if is_torch(value):
            check_written(value, name)
    else:
        array = _memory_of(value, name, what)
    if not writeable(array):
        raise ValueError(f"{name} is read-only, but it is to be written in place; pass an array that can be written")
    if overlaps_itself(array):
        raise ValueError(
            f"{name} overlaps itself (shape {array.shape}, strides {array.strides}); pass one that does not"
        )
    return array


def written(*values: Any) -> None:
    """Tell the libraries of the caller's arrays that these are written, with None for what is not there.

    torch then refuses to go backward through what was computed from the values of before, as after its own writing.
    Every place that writes to arrays of the caller calls this once they are checked.
    """
    for value in values:
        if value is not None and is_torch(value):
            count_version()(value)


def locked(*values: Any) -> bool:
    """Whether the library of any of these would not let it be written now; None for what is not there."""
    return any(value is not None and is_torch(value) and is_locked(value) for value in values)


def _memory_of(value: Any, name: str, what: str) -> Any:
    """View an object's own memory, where NumPy is given it, and not a copy."""
    kind, mend = type(value).__name__, "pass an ndarray, and copy from it afterwards"
    try:
        first, array = np.asarray(value), np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} must be {what}, to be written in place, got {kind}: {error}; {mend}") from error
    if array.size and not same_memory(first, array):
        raise TypeError(
            f"{name} must be {what}, got {kind}: it is written in place, and NumPy only gets a copy of that; {mend}"
        )
    if not array.flags.writeable:
        raise TypeError(
            f"{name} must be {what}, got {kind}: it is written in place, and NumPy may only read that; {mend}"
        )
    return view(array, name)


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
    array = take_written(out, "out", "an array of a float type" if dtype is None else f"an array of dtype {dtype}")
    check_same_device(x, {"out": array})
    if array.shape != x.shape:
        raise ValueError(f"out has shape {array.shape}, the result has {x.shape}; pass an out of that shape")
    if dtype is None and kind(array.dtype, "out").lstrip(">") not in RESULTS:
        raise TypeError(f"out has dtype {array.dtype}, but results are of a float type; pass an out of one")
    if dtype is not None and array.dtype.newbyteorder("=") != dtype:
        raise TypeError(f"out has dtype {array.dtype}, but dtype={dtype} is asked for; pass an out of that dtype")
    if not same_memory(array, x) and overlap(array, x):
        raise ValueError("out overlaps x; pass x itself to work in place, or an array apart from it")
    check_apart(array, "out", others)
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
