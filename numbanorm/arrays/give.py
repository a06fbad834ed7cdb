"""New arrays, of the caller's library and where the caller's lie; and results as the caller's library has them."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import huge
from .libraries import LIBRARIES
from .memory import Array, DeviceArray, Shape, strides_of
from .objects import labelled_like
from .take import view


def give(array: Array, library: str, x: Any = None) -> Any:
    """Turn a result into an array of the caller's library, without a copy; of x's shape, with x's labels if it has any.

    A result on a GPU was made in that library; it may have another shape by now, but no gaps.
    """
    if isinstance(array, DeviceArray):
        return array.owner if tuple(array.owner.shape) == array.shape else array.owner.reshape(array.shape)
    if library == "torch":
        import torch

        if array.dtype.name == "bfloat16":
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)
    return array if x is None or isinstance(x, np.ndarray) else labelled_like(x, array)


def result_like(x: Array, dtype: np.dtype) -> Any:
    """An array for the result: x's shape and memory order."""
    if isinstance(x, DeviceArray):
        order = sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis]))
        return empty(x, x.shape, dtype, strides_of(x.shape, dtype.itemsize, order))
    result = np.empty_like(x, dtype=dtype, subok=False)
    if make := huge.maker(x.shape, dtype, result.strides):
        del result  # its memory was never touched
        return make(x.shape, dtype)
    return result


def empty(like: DeviceArray, shape: Shape, dtype: Any = np.float64, strides: Shape | None = None) -> DeviceArray:
    """A new array where `like` lies, made by its library on its stream, and not filled; C order without strides."""
    make, dtype, strides = _maker(like.library, shape, dtype, strides)
    owner, pointer = make(like)
    return DeviceArray(pointer, shape, strides, dtype, like.library, like.device, like.stream, owner)


@lru_cache(maxsize=1024)
def _maker(library: str, shape: Shape, dtype: Any, strides: Shape | None) -> tuple[Any, np.dtype, Shape]:
    """What makes arrays of a form, and the rest of that form."""
    dtype = np.dtype(dtype)
    strides = strides_of(shape, dtype.itemsize) if strides is None else strides
    return LIBRARIES[library].maker(shape, dtype, strides), dtype, strides


def send(array: NDArray[Any], like: DeviceArray) -> DeviceArray:
    """Copy a host array to where `like` lies, on its stream."""
    sent = empty(like, array.shape, array.dtype)
    LIBRARIES[like.library].fill(sent.owner, array, like)
    return sent


def to_host(x: Any) -> NDArray[Any]:
    """A copy of an array on a GPU, or the array itself where it lies on the host."""
    array = view(x)
    if not isinstance(array, DeviceArray):
        return np.asarray(array)
    return view(LIBRARIES[array.library].to_host(x))
