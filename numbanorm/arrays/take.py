"""Arrays of all libraries, on the host and on GPUs: taking and giving them, and a result like x."""

from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .libraries import LIBRARIES, Library, bfloat16, check_tensor, is_torch, library_of, on_device, require_cuda
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
    elif on_gpu := library_of(x):
        array = _from_device(x, on_gpu, name)
        library = array.library
    elif is_torch(x):
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
    if not isinstance(out, np.ndarray) and not is_torch(out) and not on_device(out):
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


def _from_torch(x: Any, name: str) -> NDArray[Any]:
    import torch

    if x.device.type != "cpu":
        raise TypeError(f"{name} lies on {x.device}; pass {name}.cpu()")
    check_tensor(x, name)
    if x.dtype == torch.bfloat16:
        return x.view(torch.int16).numpy().view(bfloat16(name))
    try:
        return x.resolve_neg().numpy()
    except TypeError as error:
        raise TypeError(f"{name} has dtype {x.dtype}, which NumPy does not have: {error}") from None


# arrays on a GPU ------------------------------------------------------------------------------------------------------


def _from_device(x: Any, library: Library, name: str) -> DeviceArray:
    require_cuda(f"{name} lies on a GPU ({type(x).__name__})")
    array = library.take(x, name)
    if not array.dtype.isnative:
        raise TypeError(
            f"{name} has dtype {array.dtype.str}, whose bytes are swapped: not read on a GPU; "
            f"convert with {name}.astype({array.dtype.newbyteorder('=').name!r})"
        )
    return array


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
