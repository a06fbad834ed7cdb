"""Array types: which library an array comes from, and how to make a result like it. Nothing else asks."""

import sys
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NUMPY_DTYPES = [np.dtype(code) for code in ("f8", "f4", "f2", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")]


_KINDS = {dtype: dtype.kind + str(dtype.itemsize) for dtype in _NUMPY_DTYPES}  # what kernels call them


def take(x: Any, name: str = "x") -> tuple[NDArray[Any], str]:
    """View an array of any supported library as an ndarray, without a copy, and name the library.

    Raises
    ------
    TypeError
        For masked arrays, arrays on a GPU, tensors that record gradients, and element types other than float16,
        bfloat16, float32, float64, integers and booleans.
    """
    if type(x) is np.ndarray and x.dtype in _KINDS:
        return x, "numpy"
    library = "numpy"
    if type(x) is np.ndarray:
        array = x
    elif isinstance(x, np.ma.MaskedArray):
        raise TypeError(
            f"{name} is a masked array, whose mask would be ignored; pass {name}.filled(value) or {name}.data"
        )
    elif isinstance(x, np.ndarray | np.generic):
        array = np.asarray(x).view(np.ndarray)
    elif _is_torch(x):
        array, library = _from_torch(x, name), "torch"
    elif hasattr(x, "__cuda_array_interface__"):
        raise TypeError(f"{name} lies on a GPU ({type(x).__name__}); copy it to the host first")
    else:
        array = np.asarray(x)
    kind(array.dtype, name)
    return array, library


def view(x: Any, name: str = "x") -> NDArray[Any]:
    """The array of `take`, where the caller's library does not matter."""
    return take(x, name)[0]


def give(array: NDArray[Any], library: str) -> Any:
    """Turn a result into an array of the caller's library, without a copy."""
    if library == "torch":
        import torch

        if array.dtype.name == "bfloat16":
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)
    return array


def take_out(out: Any, x: NDArray[Any], others: dict[str, NDArray[Any] | None]) -> NDArray[Any]:
    """Check an output array: its shape, dtype, that it can be written, and what it overlaps.

    Parameters
    ----------
    out : array
        The caller's output.
    x : ndarray
        The input. `out` may be x itself.
    others : dict
        Further inputs by name, which `out` must not overlap.
    """
    if not isinstance(out, np.ndarray) and not _is_torch(out):
        raise TypeError(f"out must be an array of dtype {result_dtype(x.dtype)}, got {type(out).__name__}")
    array = view(out, "out")
    if array.shape != x.shape:
        raise ValueError(f"out has shape {array.shape}, the result has {x.shape}; pass np.empty_like(x)")
    if array.dtype.newbyteorder("=") != result_dtype(x.dtype):
        raise TypeError(
            f"out has dtype {array.dtype}, the result has {result_dtype(x.dtype)}; pass an out of that dtype"
        )
    if not array.flags.writeable:
        raise ValueError("out is read-only; pass an array that can be written")
    if _overlaps_itself(array):
        raise ValueError(f"out overlaps itself (shape {array.shape}, strides {array.strides}); pass one that does not")
    if not same_memory(array, x) and overlap(array, x):
        raise ValueError("out overlaps x; pass x itself to work in place, or an array apart from it")
    for name, other in others.items():
        if other is not None and overlap(array, other):
            raise ValueError(f"out overlaps {name}; pass an array apart from it")
    return array


def result_like(x: NDArray[Any]) -> NDArray[Any]:
    """An array for the result: x's shape, memory order and dtype, in native byte order; float64 for integers."""
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
    if x.layout != torch.strided:
        raise TypeError(f"{name} is {x.layout}; pass {name}.to_dense()")
    if x.requires_grad:
        raise TypeError(f"{name} records gradients, which would be lost; pass {name}.detach()")
    if x.dtype == torch.bfloat16:
        try:
            import ml_dtypes
        except ImportError:
            raise TypeError(
                f"{name} is bfloat16, which needs the package ml_dtypes; install numbanorm[bfloat16]"
            ) from None
        return x.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    try:
        return x.resolve_neg().numpy()
    except TypeError as error:
        raise TypeError(f"{name} has dtype {x.dtype}, which NumPy does not have: {error}") from None


def same_memory(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether two arrays of one shape have the same elements in the same places."""
    return a.ctypes.data == b.ctypes.data and a.strides == b.strides and a.dtype == b.dtype


def overlap(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether two arrays share a byte; where that is hard to find out, whether their extents meet."""
    if not np.may_share_memory(a, b):
        return False
    try:
        return np.shares_memory(a, b, max_work=10_000)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def _overlaps_itself(array: NDArray[Any]) -> bool:
    if array.size == 0:
        return False
    reach = array.itemsize
    for stride, size in sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1):
        if stride < reach:
            return True
        reach = stride * (size - 1) + reach
    return False
