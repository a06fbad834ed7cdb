"""Array types: which library an array comes from, and how to make a result like it. Nothing else asks."""

import sys
from functools import cache
from importlib.util import find_spec
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .memory import Array, DeviceArray, Shape, overlap, overlaps_itself, same_memory, strides_of, together, writeable

_NUMPY_DTYPES = [np.dtype(code) for code in ("f8", "f4", "f2", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")]


_KINDS = {dtype: dtype.kind + str(dtype.itemsize) for dtype in _NUMPY_DTYPES}  # what kernels call them


# taking ---------------------------------------------------------------------------------------------------------------


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
    if type(x) is np.ndarray and x.dtype in _KINDS:
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
    elif on_device(x):
        array = _from_device(x, name)
        library = array.library
    elif _is_torch(x):
        array, library = _from_torch(x, name), "torch"
    else:
        array = np.asarray(x)
    kind(array.dtype, name)
    return array, library


def view(x: Any, name: str = "x") -> Any:
    """The array of `take`, where the caller's library does not matter."""
    return take(x, name)[0]


def give(array: Array, library: str) -> Any:
    """Turn a result into an array of the caller's library, without a copy.

    A result on a GPU was made in that library; it may have another shape by now, but no gaps.
    """
    if isinstance(array, DeviceArray):
        return array.owner if tuple(array.owner.shape) == array.shape else array.owner.reshape(array.shape)
    if library == "torch":
        import torch

        if array.dtype.name == "bfloat16":
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)
    return array


def take_out(out: Any, x: Array, others: dict[str, Array | None]) -> Any:
    """Check an output array: its shape, dtype, that it can be written, and what it overlaps.

    Parameters
    ----------
    out : array
        The caller's output.
    x : ndarray or DeviceArray
        The input. `out` may be x itself.
    others : dict
        Further inputs by name, which `out` must not overlap.
    """
    if not isinstance(out, np.ndarray) and not _is_torch(out) and not on_device(out):
        raise TypeError(f"out must be an array of dtype {result_dtype(x.dtype)}, got {type(out).__name__}")
    array = view(out, "out")
    together(x, {"out": array})
    if array.shape != x.shape:
        raise ValueError(f"out has shape {array.shape}, the result has {x.shape}; pass an out of that shape")
    if array.dtype.newbyteorder("=") != result_dtype(x.dtype):
        raise TypeError(
            f"out has dtype {array.dtype}, the result has {result_dtype(x.dtype)}; pass an out of that dtype"
        )
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


def result_like(x: Array) -> Any:
    """An array for the result: x's shape, memory order and dtype, in native byte order; float64 for integers."""
    if isinstance(x, DeviceArray):
        dtype = result_dtype(x.dtype)
        order = sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis]))
        return empty(x, x.shape, dtype, strides_of(x.shape, dtype.itemsize, order))
    return np.empty_like(x, dtype=result_dtype(x.dtype), subok=False)


@cache
def result_dtype(dtype: np.dtype) -> np.dtype:
    """Dtype of the result of normalizing: the input's own, or float64 for integers and booleans."""
    return np.dtype(np.float64) if dtype.kind in "iub" else dtype.newbyteorder("=")


def kind(dtype: np.dtype, name: str = "x") -> str:
    """The name by which kernels know a dtype: "f4", "bf", ">f8", ...

    Raises
    ------
    TypeError
        If no kernel reads such elements.
    """
    known = _kind(dtype)
    if known:
        return known
    raise TypeError(
        f"{name} has dtype {dtype}; supported are float64, float32, float16, bfloat16, integers and booleans: "
        f"convert with {name}.astype(...)"
    )


@cache
def _kind(dtype: np.dtype) -> str:
    """The kind of a dtype, empty if there is none."""
    if native := _KINDS.get(dtype.newbyteorder("=")):
        return native if dtype.isnative else ">" + native
    return "bf" if dtype.name == "bfloat16" else ""


def _is_torch(x: Any) -> bool:
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)  # none yet while another thread imports torch
    return tensor is not None and isinstance(x, tensor)


def _from_torch(x: Any, name: str) -> NDArray[Any]:
    import torch

    if x.device.type != "cpu":
        raise TypeError(f"{name} lies on {x.device}; pass {name}.cpu()")
    _check_torch(x, name)
    if x.dtype == torch.bfloat16:
        return x.view(torch.int16).numpy().view(_bfloat16(name))
    try:
        return x.resolve_neg().numpy()
    except TypeError as error:
        raise TypeError(f"{name} has dtype {x.dtype}, which NumPy does not have: {error}") from None


def _check_torch(x: Any, name: str) -> None:
    import torch

    if x.layout != torch.strided:
        raise TypeError(f"{name} is {x.layout}; pass {name}.to_dense()")
    if x.requires_grad:
        raise TypeError(f"{name} records gradients, which would be lost; pass {name}.detach()")


def _bfloat16(name: str) -> np.dtype:
    try:
        import ml_dtypes
    except ImportError:
        raise TypeError(f"{name} is bfloat16, which needs the package ml_dtypes; install numbanorm[bfloat16]") from None
    return np.dtype(ml_dtypes.bfloat16)


# arrays on a GPU ------------------------------------------------------------------------------------------------------


def on_device(x: Any) -> bool:
    """Whether x is an array on a GPU, of any library."""
    if isinstance(x, np.ndarray):
        return False
    if _is_torch(x):
        return x.is_cuda
    return (
        isinstance(x, DeviceArray)
        or hasattr(x, "__cuda_array_interface__")
        or hasattr(type(x), "__cuda_ndarray__")  # Numba's simulator has no interface
    )


def _from_device(x: Any, name: str) -> DeviceArray:
    require_cuda(f"{name} lies on a GPU ({type(x).__name__})")
    if _is_torch(x):
        array = _from_torch_on_device(x, name)
    elif _is_cupy(x):
        array = _from_cupy(x)
    elif hasattr(x, "__cuda_array_interface__"):
        array = _from_interface(x, name)
    else:  # in Numba's simulator, where the memory of a GPU is the host's
        host = x._ary
        about = host.ctypes.data, tuple(host.shape), host.strides, host.dtype
        array = DeviceArray(*about, "numba", 0, 0, x, host.flags.writeable)
    if not array.dtype.isnative:
        raise TypeError(
            f"{name} has dtype {array.dtype.str}, whose bytes are swapped: not read on a GPU; "
            f"convert with {name}.astype({array.dtype.newbyteorder('=').name!r})"
        )
    return array


@cache
def _why_no_cuda() -> Exception | None:
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
    if why := _why_no_cuda():
        raise type(why)(f"{what}, {why}")


def _from_torch_on_device(x: Any, name: str) -> DeviceArray:
    import torch

    _check_torch(x, name)
    code = str(x.dtype).removeprefix("torch.")
    try:
        dtype = _bfloat16(name) if code == "bfloat16" else np.dtype(code)
    except TypeError as error:
        raise TypeError(f"{name} has dtype {x.dtype}, which NumPy does not have: {error}") from None
    values = x.resolve_neg()
    strides = tuple(step * dtype.itemsize for step in values.stride())
    device, stream = x.device.index, torch.cuda.current_stream(x.device).cuda_stream
    # What was negated in a copy cannot be written through it.
    about = values.data_ptr(), tuple(values.shape), strides, dtype
    return DeviceArray(*about, "torch", device, stream, values, not x.is_neg())


def _is_cupy(x: Any) -> bool:
    array = getattr(sys.modules.get("cupy"), "ndarray", None)
    return array is not None and isinstance(x, array)


def _from_cupy(x: Any) -> DeviceArray:
    cupy = sys.modules["cupy"]
    device = x.device.id
    stream = cupy.cuda.get_current_stream(device).ptr
    return DeviceArray(x.data.ptr, x.shape, x.strides, np.dtype(x.dtype), "cupy", device, stream, x)


def _from_interface(x: Any, name: str) -> DeviceArray:
    """Read the CUDA array interface: Numba's arrays, and those of libraries that are not known here."""
    interface = x.__cuda_array_interface__
    if interface.get("mask") is not None:
        raise TypeError(f"{name} has a mask, which would be ignored; pass an array without one")
    dtype = _interface_dtype(x, interface["typestr"], name)
    shape = tuple(int(n) for n in interface["shape"])
    strides = interface.get("strides")
    strides = strides_of(shape, dtype.itemsize) if strides is None else tuple(int(step) for step in strides)
    pointer, read_only = interface["data"]
    # The raw handle: 1 and 2 are the driver's own names for the default streams. Nobody waits for it: the caller's
    # stream is the one that kernels run on.
    stream = interface.get("stream") or 0
    about = int(pointer or 0), shape, strides, dtype
    return DeviceArray(*about, "numba", _ordinal(int(pointer or 0)), int(stream), x, not read_only)


def _interface_dtype(x: Any, code: str, name: str) -> np.dtype:
    """The element type; bfloat16 has no code of its own, and is read only where the array itself says so."""
    own = getattr(x, "dtype", None)
    dtype = np.dtype(code)
    if str(getattr(own, "name", own)).endswith("bfloat16") and dtype.itemsize == 2:
        return _bfloat16(name)
    if dtype.kind == "V":
        raise TypeError(
            f"{name} has elements of type {code!r} and does not say what they are; "
            "for bfloat16 pass an array whose dtype is that of ml_dtypes, or a tensor"
        )
    return dtype


def _ordinal(pointer: int) -> int:
    """The GPU on which an address lies; of an empty array, the current one."""
    from numba import cuda
    from numba.cuda.core import config

    if config.ENABLE_CUDASIM:
        return 0
    if not pointer:
        return cuda.get_current_device().id
    from numba.cuda.cudadrv.driver import binding, driver

    attribute = binding.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    return int(driver.cuPointerGetAttribute(attribute, binding.CUdeviceptr(pointer)))


def empty(like: DeviceArray, shape: Shape, dtype: Any = np.float64, strides: Shape | None = None) -> DeviceArray:
    """A new array where `like` lies, made by its library on its stream, and not filled; C order without strides."""
    dtype = np.dtype(dtype)
    strides = strides_of(shape, dtype.itemsize) if strides is None else strides
    make = {"torch": _empty_torch, "cupy": _empty_cupy, "numba": _empty_numba}[like.library]
    owner, pointer = make(like, shape, dtype, strides)
    return DeviceArray(pointer, shape, strides, dtype, like.library, like.device, like.stream, owner)


def _empty_torch(like: DeviceArray, shape: Shape, dtype: np.dtype, strides: Shape) -> tuple[Any, int]:
    import torch

    steps = [step // dtype.itemsize for step in strides]
    owner = torch.empty_strided(shape, steps, dtype=getattr(torch, dtype.name), device=like.owner.device)
    return owner, owner.data_ptr()


def _empty_cupy(like: DeviceArray, shape: Shape, dtype: np.dtype, strides: Shape) -> tuple[Any, int]:
    cupy: Any = sys.modules["cupy"]
    with cupy.cuda.Device(like.device):
        memory = cupy.cuda.alloc(prod(shape) * dtype.itemsize)
        owner = cupy.ndarray(shape, dtype, memory, strides)
    return owner, owner.data.ptr


def _empty_numba(like: DeviceArray, shape: Shape, dtype: np.dtype, strides: Shape) -> tuple[Any, int]:
    """bfloat16 stays ml_dtypes' own: Numba allocates and copies any NumPy dtype, and only its kernels want to know."""
    from numba import cuda

    with cuda.gpus[like.device]:
        owner = cuda.device_array(shape, dtype, strides=strides, stream=_numba_stream(like))
    if hasattr(owner, "_ary"):  # the simulator's
        return owner, owner._ary.ctypes.data
    return owner, owner.device_ctypes_pointer.value or 0


def _numba_stream(like: DeviceArray) -> Any:
    """The stream of a result as Numba's arrays hold it: the very object of Numba's own arrays, whose life it shares."""
    from numba import cuda

    if not like.stream:
        return 0
    if hasattr(type(like.owner), "__cuda_ndarray__"):
        return like.owner.stream
    return cuda.external_stream(like.stream)


def send(array: NDArray[Any], like: DeviceArray) -> DeviceArray:
    """Copy a host array to where `like` lies, on its stream."""
    sent = empty(like, array.shape, array.dtype)
    if like.library == "torch":
        import torch

        sent.owner.copy_(torch.from_numpy(array))
    elif like.library == "cupy":
        sent.owner.set(array)
    else:
        sent.owner.copy_to_device(array, stream=_numba_stream(like))
    return sent


def to_host(x: Any) -> NDArray[Any]:
    """A copy of an array on a GPU, or the array itself where it lies on the host."""
    array = view(x)
    if not isinstance(array, DeviceArray):
        return np.asarray(array)
    if array.library == "torch":
        return view(x.detach().cpu())
    if array.library == "cupy":
        return x.get()
    from numba import cuda

    own = x if hasattr(type(x), "__cuda_ndarray__") else cuda.as_cuda_array(x)
    return own.copy_to_host()
