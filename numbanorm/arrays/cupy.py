"""CuPy's arrays."""

import sys
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .memory import DeviceArray, Shape


def is_cupy(x: Any) -> bool:
    """Whether x is an array of this library."""
    array = getattr(sys.modules.get("cupy"), "ndarray", None)
    return array is not None and isinstance(x, array)


class _CuPy:
    def take(self, x: Any, name: str) -> DeviceArray:
        device = x.device.id
        stream = self.stream(x, device)
        return DeviceArray(x.data.ptr, x.shape, x.strides, np.dtype(x.dtype), "cupy", device, stream, x)

    def form(self, x: Any) -> tuple[Any, int] | None:
        return (x.shape, x.strides, x.dtype, x.device.id), x.data.ptr

    def stream(self, x: Any, device: int) -> int:
        stream: int = sys.modules["cupy"].cuda.get_current_stream(device).ptr
        return stream

    def maker(self, shape: Shape, dtype: np.dtype, strides: Shape) -> Callable[[DeviceArray], tuple[Any, int]]:
        nbytes = prod(shape) * dtype.itemsize

        def make(like: DeviceArray) -> tuple[Any, int]:
            cupy = sys.modules["cupy"]
            with cupy.cuda.Device(like.device):
                owner = cupy.ndarray(shape, dtype, cupy.cuda.alloc(nbytes), strides)
            return owner, owner.data.ptr

        return make

    def fill(self, owner: Any, array: NDArray[Any], like: DeviceArray) -> None:
        owner.set(array)

    def to_host(self, x: Any) -> Any:
        return x.get()


CUPY = _CuPy()
