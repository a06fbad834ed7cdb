"""Where the elements of an array lie: on the host or on a GPU, side by side or apart, and what overlaps what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

VECTOR_BYTES = 16  # of the widest load: a larger alignment does not matter

Shape = tuple[int, ...]


@dataclass(slots=True, eq=False)
class DeviceArray:
    """An array on a GPU: where its elements lie and how, without access to them. It is never changed.

    Parameters
    ----------
    pointer : int
        Address of the first element.
    shape, strides : tuple of int
        As NumPy's: strides are in bytes.
    dtype : numpy.dtype
        In native byte order.
    library : str
        In which results are made: "torch", "cupy" or "numba".
    device : int
        Ordinal of the GPU.
    stream : int
        Handle of the stream on which the caller works; 0 is the default one.
    owner : object
        The caller's array, which keeps the memory alive.
    writeable : bool
        Whether the caller lets it be written.
    """

    pointer: int
    shape: Shape
    strides: Shape
    dtype: np.dtype
    library: str
    device: int
    stream: int
    owner: Any
    writeable: bool = True

    @property
    def size(self) -> int:
        """How many elements."""
        return prod(self.shape)

    @property
    def ndim(self) -> int:
        """How many axes."""
        return len(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * self.itemsize

    @property
    def alignment(self) -> int:
        """The largest power of two that divides the address, up to that of the widest load."""
        return (self.pointer | VECTOR_BYTES) & -(self.pointer | VECTOR_BYTES)

    def at(self, pointer: int, stream: int, owner: Any) -> "DeviceArray":
        """An array like this one at another address."""
        return DeviceArray(
            pointer, self.shape, self.strides, self.dtype, self.library, self.device, stream, owner, self.writeable
        )

    @property
    def contiguous(self) -> bool:
        """Whether elements lie side by side, in C order."""
        return self.size < 2 or _steps(self.shape, self.strides) == _steps(
            self.shape, strides_of(self.shape, self.itemsize)
        )

    def reshape(self, shape: Sequence[int]) -> "DeviceArray":
        """The same elements in another shape, if that needs no copy: axes of size 1 come and go, or no gaps.

        Raises
        ------
        ValueError
            If it needs a copy, or the shape has another size.
        """
        shape = tuple(shape)
        if prod(shape) != self.size:
            raise ValueError(f"an array of shape {self.shape} has no shape {shape}: another number of elements")
        if self.contiguous:
            return replace(self, shape=shape, strides=strides_of(shape, self.itemsize))
        left = _steps(self.shape, self.strides)
        if [n for n, _ in left] != [n for n in shape if n != 1]:
            raise ValueError(f"shape {shape} needs a copy of an array of shape {self.shape}, strides {self.strides}")
        steps = iter([step for _, step in left])
        return replace(self, shape=shape, strides=tuple(0 if n == 1 else next(steps) for n in shape))

    def transpose(self, axes: Sequence[int] | None = None) -> "DeviceArray":
        """The same elements with axes in another order; by default reversed."""
        order = range(self.ndim)[::-1] if axes is None else axes
        shape, strides = (tuple(of[axis] for axis in order) for of in (self.shape, self.strides))
        return replace(self, shape=shape, strides=strides)

    @property
    def T(self) -> "DeviceArray":
        """All axes reversed."""
        return self.transpose()


Array = NDArray[Any] | DeviceArray


def strides_of(shape: Shape, itemsize: int, order: Sequence[int] | None = None) -> Shape:
    """Strides without gaps, of axes in this order from the outermost: by default C order."""
    strides, step = [0] * len(shape), itemsize
    for axis in reversed(range(len(shape)) if order is None else order):
        strides[axis] = step
        step *= max(shape[axis], 1)
    return tuple(strides)


def _steps(shape: Shape, strides: Shape) -> list[tuple[int, int]]:
    """Sizes and strides of all axes but those of size 1, which are never stepped along."""
    return [(n, step) for n, step in zip(shape, strides, strict=True) if n != 1]


def check_same_device(x: Array, others: Mapping[str, Array | None], of: str = "x") -> None:
    """Refuse arrays that do not lie where x does: on the host, or on one GPU.

    Raises
    ------
    TypeError
        If some lie on the host and some on a GPU.
    ValueError
        If they lie on two GPUs.
    """
    home = x.device if isinstance(x, DeviceArray) else None
    for name, other in others.items():
        place = other.device if isinstance(other, DeviceArray) else None
        if other is None or place == home:
            continue
        message = f"{name} lies on {_place(other)}, but {of} lies on {_place(x)}; copy {name} there first"
        raise TypeError(message) if home is None or place is None else ValueError(message)


def _place(array: Array) -> str:
    return f"GPU {array.device}" if isinstance(array, DeviceArray) else "the host"


def contiguous(array: Array) -> bool:
    """Whether elements lie side by side, in C order."""
    return array.contiguous if isinstance(array, DeviceArray) else array.flags.c_contiguous


def writeable(array: Array) -> bool:
    """Whether an array may be written."""
    return array.writeable if isinstance(array, DeviceArray) else array.flags.writeable


def same_memory(a: Array, b: Array) -> bool:
    """Whether two arrays of one shape have the same elements in the same places."""
    return _start(a) == _start(b) and a.strides == b.strides and a.dtype == b.dtype


def _start(array: Array) -> int:
    return array.pointer if isinstance(array, DeviceArray) else array.ctypes.data


def meet(a: Array, b: Array) -> bool:
    """Whether the extents of two arrays share a byte."""
    a_begin, a_end = _extent(a)
    b_begin, b_end = _extent(b)
    return a_begin < b_end and b_begin < a_end


def _extent(array: Array) -> tuple[int, int]:
    """Address of the first byte of any element, and of what follows the last; the same if there is none."""
    start = _start(array)
    below, above = reach(array.shape, array.strides, array.itemsize)
    return start - below, start + above


@lru_cache(maxsize=1024)
def reach(shape: Shape, strides: Shape, itemsize: int) -> tuple[int, int]:
    """How many bytes lie before an array's first element, and from there on."""
    if 0 in shape:
        return 0, 0
    ends = [(n - 1) * step for n, step in zip(shape, strides, strict=True)]
    return -sum(end for end in ends if end < 0), sum(end for end in ends if end > 0) + itemsize


class _Shadow:
    """What NumPy makes an ndarray of that has a device array's addresses, to ask what they overlap; never read."""

    def __init__(self, array: DeviceArray) -> None:
        data = array.pointer, True
        about = {"shape": array.shape, "strides": array.strides, "typestr": f"|V{array.itemsize}"}
        self.__array_interface__ = {**about, "data": data, "version": 3}


def _shadow(array: Array) -> NDArray[Any]:
    return np.asarray(_Shadow(array)) if isinstance(array, DeviceArray) else array


def overlap(a: Array, b: Array) -> bool:
    """Whether two arrays share a byte; where that is hard to find out, whether their extents meet."""
    if isinstance(a, DeviceArray) or isinstance(b, DeviceArray):
        if not meet(a, b):
            return False
        a, b = _shadow(a), _shadow(b)
    if not np.may_share_memory(a, b):
        return False
    try:
        return np.shares_memory(a, b, max_work=10_000)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def check_apart(array: Array, name: str, others: Mapping[str, Array | None]) -> None:
    """Refuse an array that is to be written and shares memory with another argument.

    Raises
    ------
    ValueError
        Which names both.
    """
    for other_name, other in others.items():
        if other is not None and overlap(array, other):
            raise ValueError(f"{name} overlaps {other_name}; pass an array apart from it")


def overlaps_itself(array: Array) -> bool:
    """Whether two elements may share a byte: where a stride is less than the reach of what it steps over."""
    if array.size == 0:
        return False
    reach = array.itemsize
    for stride, size in sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1):
        if stride < reach:
            return True
        reach = stride * (size - 1) + reach
    return False
