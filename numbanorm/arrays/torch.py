"""torch's tensors, on the host and on GPUs. torch is never imported here before the caller did."""

import sys
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .forms import bfloat16
from .memory import DeviceArray, Shape

FORWARD_MODE = "torch.autograd.forward_ad"


def is_torch(x: Any) -> bool:
    """Whether x is a tensor; without importing torch."""
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)  # none yet while another thread imports torch
    return tensor is not None and isinstance(x, tensor)


def check_tensor(x: Any, name: str) -> None:
    """Refuse tensors whose memory is not their values, and those with gradients or tangents, which are not read.

    Raises
    ------
    TypeError
        Which says what it is, and how to get one that fits.
    """
    torch = sys.modules["torch"]
    if not ordinary(x.__class__) or x.is_nested or x.layout != torch.strided or not (x.is_cpu or x.is_cuda):
        raise TypeError(f"{name} {_what_it_is(x, name)}")
    try:
        pointer = x.data_ptr()
    except RuntimeError as error:  # as of all that stands for other tensors, within a transform
        raise _not_shown(name, error) from error
    if not pointer and x.numel():
        raise TypeError(f"{name} has {x.numel()} elements and no memory: its storage was freed, or never filled")
    if x.requires_grad and torch.is_grad_enabled():
        raise TypeError(
            f"{name} records gradients, which would be lost; pass {name}.detach(), or call this under torch.no_grad()"
        )
    if has_tangent(x):
        raise TypeError(
            f"{name} has a tangent of forward-mode differentiation, which would be lost; "
            f"pass {name}.detach(), or torch.autograd.forward_ad.unpack_dual({name}).primal"
        )
    if x.is_complex():
        raise TypeError(
            f"{name} has dtype {x.dtype}; supported are float64, float32, float16, bfloat16, integers and booleans: "
            f"pass {name}.real and {name}.imag apart"
        )


# What to do with tensors whose classes do not work on plain memory, by the names of the classes.
_MENDS = {
    "DTensor": "lies on several processes; pass its part here, {0}.to_local(), or all of it, {0}.full_tensor()",
    "FakeTensor": "has a shape and no values; pass a tensor made outside of FakeTensorMode",
    "MaskedTensor": "has a mask, which would be ignored; pass {0}.to_tensor(value) or {0}.get_data()",
    "NestedTensor": "holds rows of different lengths: moments and normalize take those of layout torch.jagged; "
    "else pass them one by one, from {0}.unbind()",
    "UninitializedBuffer": "has no shape yet; call its module once first",
    "UninitializedParameter": "has no shape yet; call its module once first",
}


def _what_it_is(x: Any, name: str) -> str:
    """What a tensor is whose memory is not its values, with the mend."""
    kind: Any = type(x)
    if not ordinary(kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        return f"is {article} {kind.__name__}, which {_mend(kind).format(name)}"
    if x.is_nested:
        return f"is a nested tensor, which {_MENDS['NestedTensor'].format(name)}"
    if x.layout != sys.modules["torch"].strided:
        return f"is {x.layout}; pass {name}.to_dense()"
    if x.device.type == "meta":
        return "lies on the device meta, where tensors have a shape and no values; pass one that has them"
    return f"lies on {x.device}; pass {name}.cpu()"


def _mend(kind: Any) -> str:
    """What to do with tensors of a class that is not ordinary."""
    if kind.__name__ in _MENDS:
        return _MENDS[kind.__name__]
    if kind.__torch_dispatch__ is not sys.modules["torch"].Tensor.__torch_dispatch__:
        return "stands for other tensors; pass a plain tensor of its values"
    return "has operations of its own, which would be passed over; pass {0}.as_subclass(torch.Tensor)"


@lru_cache(maxsize=256)
def ordinary(kind: Any) -> bool:
    """Whether tensors of a class are what their memory says: torch's own, and subclasses that redefine nothing."""
    torch = sys.modules["torch"]
    if kind.__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        return False
    function = getattr(kind.__torch_function__, "__func__", kind.__torch_function__)
    return function in (torch.Tensor.__torch_function__.__func__, torch._C._disabled_torch_function_impl)


def _not_shown(name: str, error: Exception) -> TypeError:
    """An error for a tensor whose memory torch does not show."""
    functorch = getattr(sys.modules["torch"]._C, "_functorch", None)
    peek = getattr(functorch, "peek_interpreter_stack", lambda: None)
    if peek() is None:
        return TypeError(f"{name} is a tensor whose memory torch does not show: {error}; pass a plain one")
    return TypeError(
        f"{name} is a tensor within a transform of torch.func (vmap, grad, jvp ...), which sees nothing of what is "
        "done here; call this outside of it, on the whole batch"
    )


def has_tangent(x: Any) -> bool:
    """Whether a tensor carries a tangent of forward-mode differentiation."""
    return differentiating() and sys.modules[FORWARD_MODE].unpack_dual(x).tangent is not None


def differentiating() -> bool:
    """Whether tensors may have tangents now; without importing torch."""
    forward_ad = sys.modules.get(FORWARD_MODE)
    return forward_ad is not None and getattr(forward_ad, "_current_level", 0) >= 0


def from_torch(x: Any, name: str) -> NDArray[Any]:
    """View a tensor on the host, which was checked, as an ndarray."""
    torch = sys.modules["torch"]
    values = x.resolve_neg() if x.is_neg() else x
    try:
        if x.dtype == torch.bfloat16:
            return values.view(torch.int16).numpy().view(bfloat16(name))
        return values.numpy()
    except RuntimeError as error:
        raise _not_shown(name, error) from error
    except TypeError as error:
        if x.dtype == torch.bfloat16:
            raise
        raise _unknown_dtype(x, name, error) from None


def _unknown_dtype(x: Any, name: str, error: Exception) -> TypeError:
    if x.is_quantized:
        return TypeError(f"{name} is quantized ({x.dtype}); pass {name}.dequantize()")
    return TypeError(f"{name} has dtype {x.dtype}, which NumPy does not have ({error}); pass {name}.float()")


# rows of different lengths --------------------------------------------------------------------------------------------


def is_jagged(x: Any) -> bool:
    """Whether x is a nested tensor of rows end to end; without importing torch."""
    return is_torch(x) and x.is_nested and x.layout == sys.modules["torch"].jagged


def parts_of_jagged(x: Any, name: str) -> tuple[Any, NDArray[np.int64]]:
    """The rows of a jagged tensor end to end, and where each begins: see `ragged.apart`."""
    anew = f"torch.nested.nested_tensor({name}.unbind(), layout=torch.jagged)"
    if x.is_cuda:
        raise TypeError(
            f"{name} lies on a GPU, but rows of different lengths are taken on the host so far; copy it there"
        )
    if getattr(x, "_ragged_idx", 1) != 1:
        raise TypeError(f"{name} has its rows along another axis than 1; transpose it back, or pass {anew}")
    if x.lengths() is not None:
        raise TypeError(f"{name} has gaps between its rows; pass {name}.contiguous(), or {anew}")
    return x.values(), x.offsets().numpy()


def jagged_like(values: Any, x: Any) -> Any:
    """A jagged tensor of other values, with the offsets of x itself: torch takes their shapes for equal then."""
    return sys.modules["torch"].nested.nested_tensor_from_jagged(values, x.offsets())


# writing --------------------------------------------------------------------------------------------------------------


def check_written(x: Any, name: str) -> None:
    """Refuse to write what torch would not, or what is not the memory that its owner sees.

    Raises
    ------
    TypeError
        Which says how to get one that can be written.
    """
    if is_locked(x):
        raise TypeError(
            f"{name} is an inference tensor, which torch writes in torch.inference_mode() only; "
            f"call this there, or pass {name}.clone()"
        )
    if x.is_neg():
        raise TypeError(
            f"{name} is a view that negates another tensor's values, so it cannot be written in place; "
            f"pass {name}.resolve_neg()"
        )


def is_locked(x: Any) -> bool:
    """Whether torch would not write a tensor now, since it was made in inference mode and this is another."""
    return bool(x.is_inference()) and not sys.modules["torch"].is_inference_mode_enabled()


@cache
def count_version() -> Callable[[Any], None]:
    """A function that moves on a tensor's version, which it shares with its views."""
    return getattr(sys.modules["torch"].autograd.graph, "increment_version", None) or _write_nothing


def _write_nothing(x: Any) -> None:
    """The same in older versions of torch: a write of no element."""
    with sys.modules["torch"].no_grad():
        x.as_strided((0,), (1,)).zero_()


class _Torch:
    def take(self, x: Any, name: str) -> DeviceArray:
        try:
            dtype = _numpy_dtype(x.dtype)
        except TypeError as error:
            raise _unknown_dtype(x, name, error) from None
        if dtype is None:
            dtype = bfloat16(name)
        values = x.resolve_neg() if x.is_neg() else x
        size, device = dtype.itemsize, x.device.index
        # What was negated in a copy cannot be written through it.
        about = values.data_ptr(), tuple(values.shape), tuple([step * size for step in values.stride()]), dtype
        return DeviceArray(*about, "torch", device, self.stream(x, device), values, values is x)

    def form(self, x: Any) -> tuple[Any, int] | None:
        if x.requires_grad and sys.modules["torch"].is_grad_enabled():
            return None
        if x.is_neg() or differentiating() or not ordinary(x.__class__):
            return None
        try:
            address = x.data_ptr()
            return ((x.shape, x.stride(), x.dtype, x.device), address) if address else None
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
