"""torch's tensors, on the host and on GPUs. torch is never imported here before the caller did."""

import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .forms import bfloat16
from .memory import DeviceArray, Shape


def is_torch(x: Any) -> bool:
    """Whether x is a tensor; without importing torch."""
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)  # none yet while another thread imports torch
    return tensor is not None and isinstance(x, tensor)


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


def from_torch(x: Any, name: str) -> NDArray[Any]:
    """View a tensor on the host as an ndarray."""
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

    def form(self, x: Any) -> tuple[Any, int] | None:
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


TORCH = _Torch()
