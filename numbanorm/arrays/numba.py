"""Numba's arrays on GPUs, and any others with the CUDA array interface."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .forms import bfloat16
from .memory import DeviceArray, Shape, strides_of


def is_numba(x: Any) -> bool:
    """Whether x is an array of this library, real or in its simulator."""
    return hasattr(type(x), "__cuda_ndarray__")  # in Numba's simulator, too, where there is no interface


class _Numba:
    def take(self, x: Any, name: str) -> DeviceArray:
        interface = getattr(x, "__cuda_array_interface__", None)
        if interface is None:  # Numba's simulator, where the memory of a GPU is the host's
            host = x._ary
            about = host.ctypes.data, tuple(host.shape), host.strides, host.dtype
            return DeviceArray(*about, "numba", 0, 0, x, host.flags.writeable)
        if interface.get("mask") is not None:
            raise TypeError(f"{name} has a mask, which would be ignored; pass an array without one")
        dtype = _interface_dtype(x, interface["typestr"], name)
        shape = tuple([int(n) for n in interface["shape"]])
        strides = interface.get("strides")
        strides = strides_of(shape, dtype.itemsize) if strides is None else tuple([int(step) for step in strides])
        pointer, read_only = interface["data"]
        pointer = int(pointer or 0)
        about = pointer, shape, strides, dtype
        return DeviceArray(*about, "numba", _ordinal()(pointer), _interface_stream(interface), x, not read_only)

    def form(self, x: Any) -> tuple[Any, int] | None:
        try:
            array = self.take(x, "")
        except (TypeError, ValueError):
            return None
        return (array.shape, array.strides, array.dtype, array.device, array.writeable), array.pointer

    def stream(self, x: Any, device: int) -> int:
        return _interface_stream(getattr(x, "__cuda_array_interface__", {}))

    def maker(self, shape: Shape, dtype: np.dtype, strides: Shape) -> Callable[[DeviceArray], tuple[Any, int]]:
        from numba import cuda

        def make(like: DeviceArray) -> tuple[Any, int]:
            with cuda.gpus[like.device]:
                owner = cuda.device_array(shape, dtype, strides=strides, stream=_numba_stream(like))
            if hasattr(owner, "_ary"):  # the simulator's
                return owner, owner._ary.ctypes.data
            return owner, owner.device_ctypes_pointer.value or 0

        return make

    def fill(self, owner: Any, array: NDArray[Any], like: DeviceArray) -> None:
        _as_bits(owner).copy_to_device(_as_bits(array), stream=_numba_stream(like))

    def to_host(self, x: Any) -> Any:
        from numba import cuda

        array = x if is_numba(x) else cuda.as_cuda_array(x)
        return _as_bits(array).copy_to_host().view(array.dtype)


def _as_bits(array: Any) -> Any:
    """An array as Numba copies it: ml_dtypes' bfloat16 has no buffer."""
    return array.view(np.uint16) if array.dtype.name == "bfloat16" else array


def _interface_stream(interface: dict[str, Any]) -> int:
    # The raw handle: 1 and 2 are the driver's own names for the default streams. Nobody waits for it: the caller's
    # stream is the one that kernels run on.
    return int(interface.get("stream") or 0)


def _interface_dtype(x: Any, code: str, name: str) -> np.dtype:
    """The element type; bfloat16 has no code of its own, and is read only where the array itself says so."""
    dtype = np.dtype(code)
    if dtype.itemsize == 2:
        own = getattr(x, "dtype", None)
        if str(getattr(own, "name", own)).endswith("bfloat16"):
            return bfloat16(name)
    if dtype.kind == "V":
        raise TypeError(
            f"{name} has elements of type {code!r} and does not say what they are; "
            "for bfloat16 pass an array whose dtype is that of ml_dtypes, or a tensor"
        )
    return dtype


@cache
def _ordinal() -> Callable[[int], int]:
    """A function that says on which GPU an address lies; if there is none, the current one."""
    from numba import cuda
    from numba.cuda.core import config

    if config.ENABLE_CUDASIM:
        return lambda pointer: 0
    from cuda.bindings import driver

    ordinal = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL

    def find(pointer: int) -> int:
        if not pointer:
            return int(cuda.get_current_device().id)
        error, device = driver.cuPointerGetAttribute(ordinal, pointer)
        if error:
            raise ValueError(f"{pointer:#x} is no address on a GPU, though the array says so: {error.name}")
        return int(device)

    return find


def _numba_stream(like: DeviceArray) -> Any:
    """The stream of a result as Numba's arrays hold it: the very object of Numba's own arrays, whose life it shares."""
    from numba import cuda

    if not like.stream:
        return 0
    return like.owner.stream if is_numba(like.owner) else cuda.external_stream(like.stream)


NUMBA = _Numba()
