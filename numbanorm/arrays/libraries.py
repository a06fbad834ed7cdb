"""Libraries whose arrays lie on GPUs: where such an array lies, and one like it. Nothing here checks element types."""

import sys
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .memory import DeviceArray, Shape, strides_of


class Library(Protocol):
    """What is asked of a library."""

    def take(self, x: Any, name: str) -> DeviceArray:
        """Where one of its arrays lies, on the stream that is current for the caller."""

    def glance(self, x: Any) -> tuple[Any, int] | None:
        """What describes one of its arrays, in any terms, and its address; None if `take` would have to look closer."""

    def stream(self, x: Any, device: int) -> int:
        """The stream that is current for the caller, who works with this array on this device."""

    def maker(self, shape: Shape, dtype: np.dtype, strides: Shape) -> Callable[[DeviceArray], tuple[Any, int]]:
        """A function make(like): a new array where `like` lies, and its address."""

    def fill(self, owner: Any, array: NDArray[Any], like: DeviceArray) -> None:
        """Copy from the host to one of its arrays, on the stream of `like`."""

    def to_host(self, x: Any) -> Any:
        """A copy of one of its arrays on the host."""


def on_device(x: Any) -> bool:
    """Whether x is an array on a GPU, of any library."""
    return isinstance(x, DeviceArray) or library_of(x) is not None


def library_of(x: Any) -> Library | None:
    """The library of an array on a GPU, Numba's for those that are not known here; None if it does not lie there."""
    if is_torch(x):
        return TORCH if x.is_cuda else None
    if isinstance(x, np.ndarray):
        return None
    if _is_cupy(x):
        return CUPY
    return NUMBA if _is_numba(x) or hasattr(x, "__cuda_array_interface__") else None


def is_torch(x: Any) -> bool:
    """Whether x is a tensor; without importing torch."""
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)  # none yet while another thread imports torch
    return tensor is not None and isinstance(x, tensor)


def _is_cupy(x: Any) -> bool:
    array = getattr(sys.modules.get("cupy"), "ndarray", None)
    return array is not None and isinstance(x, array)


def _is_numba(x: Any) -> bool:
    return hasattr(type(x), "__cuda_ndarray__")  # in Numba's simulator, too, where there is no interface


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


# torch ----------------------------------------------------------------------------------------------------------------


def check_tensor(x: Any, name: str) -> None:
    """Refuse tensors that are not dense, or that record gradients.

    Raises
    ------
    TypeError
        Which says how to get one that fits.
    """
    if x.layout != sys.modules["torch"].strided:
        raise TypeError(f"{name} is {x.layout}; pass {name}.to_dense()")
    if x.requires_grad:
        raise TypeError(f"{name} records gradients, which would be lost; pass {name}.detach()")


def bfloat16(name: str) -> np.dtype:
    """NumPy's dtype of that name, which another package has.

    Raises
    ------
    TypeError
        Without that package.
    """
    try:
        import ml_dtypes
    except ImportError:
        raise TypeError(f"{name} is bfloat16, which needs the package ml_dtypes; install numbanorm[bfloat16]") from None
    return np.dtype(ml_dtypes.bfloat16)


class _Torch:
    def take(self, x: Any, name: str) -> DeviceArray:
        check_tensor(x, name)
        try:
            dtype = _numpy_dtype(x.dtype)
        except TypeError as error:
            raise TypeError(f"{name} has dtype {x.dtype}, which NumPy does not have: {error}") from None
        if dtype is None:
            dtype = bfloat16(name)
        values = x.resolve_neg() if x.is_neg() else x
        size, device = dtype.itemsize, x.device.index
        # What was negated in a copy cannot be written through it.
        about = values.data_ptr(), tuple(values.shape), tuple([step * size for step in values.stride()]), dtype
        return DeviceArray(*about, "torch", device, self.stream(x, device), values, values is x)

    def glance(self, x: Any) -> tuple[Any, int] | None:
        if x.requires_grad or x.is_neg():
            return None
        try:
            return (x.shape, x.stride(), x.dtype, x.device), x.data_ptr()
        except RuntimeError:  # what is not dense has no strides
            return None

    def stream(self, x: Any, device: int) -> int:
        return _torch_stream()(device)

    def maker(self, shape: Shape, dtype: np.dtype, strides: Shape) -> Callable[[DeviceArray], tuple[Any, int]]:
        torch, steps = sys.modules["torch"], [step // dtype.itemsize for step in strides]
        of = getattr(torch, dtype.name)

        def make(like: DeviceArray) -> tuple[Any, int]:
            owner = torch.empty_strided(shape, steps, dtype=of, device=like.owner.device)
            return owner, owner.data_ptr()

        return make

    def fill(self, owner: Any, array: NDArray[Any], like: DeviceArray) -> None:
        owner.copy_(sys.modules["torch"].from_numpy(array))

    def to_host(self, x: Any) -> Any:
        return x.detach().cpu()


@cache
def _numpy_dtype(dtype: Any) -> np.dtype | None:
    """The dtype of NumPy for one of torch; None for bfloat16, which is another package's."""
    code = str(dtype).removeprefix("torch.")
    return None if code == "bfloat16" else np.dtype(code)


@cache
def _torch_stream() -> Callable[[int], int]:
    """A function that gives the handle of a device's current stream."""
    torch = sys.modules["torch"]
    # The code that torch's own compiler writes asks this one, which makes no object for an answer.
    raw: Callable[[int], int] | None = getattr(torch._C, "_cuda_getCurrentRawStream", None)
    return raw or (lambda device: torch.cuda.current_stream(device).cuda_stream)


# CuPy -----------------------------------------------------------------------------------------------------------------


class _CuPy:
    def take(self, x: Any, name: str) -> DeviceArray:
        device = x.device.id
        stream = self.stream(x, device)
        return DeviceArray(x.data.ptr, x.shape, x.strides, np.dtype(x.dtype), "cupy", device, stream, x)

    def glance(self, x: Any) -> tuple[Any, int] | None:
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


# Numba, and the CUDA array interface ----------------------------------------------------------------------------------


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

    def glance(self, x: Any) -> tuple[Any, int] | None:
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

        array = x if _is_numba(x) else cuda.as_cuda_array(x)
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
    return like.owner.stream if _is_numba(like.owner) else cuda.external_stream(like.stream)


TORCH, CUPY, NUMBA = _Torch(), _CuPy(), _Numba()
LIBRARIES: dict[str, Library] = {"torch": TORCH, "cupy": CUPY, "numba": NUMBA}
