"""What `functional` refuses, with torch's kind of error and, where torch has one, its wording."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

PLACES = ("cpu", "cuda", "meta")


def check_tensors(name: str, x: Any, *others: Any, **parameters: Any) -> None:
    """Refuse what is no tensor of floats on the CPU or a GPU of NVIDIA's; of parameters, too."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(x).__name__}")
    if not x.is_floating_point():
        raise NotImplementedError(
            f'"{name}" not implemented for {x.dtype}: only floats have gradients; pass input.float()'
        )
    device = x.device
    if device.type not in PLACES:
        raise NotImplementedError(
            f"numbanorm.torch.functional.{name} runs on the CPU and on CUDA, but input lies on {device}; use "
            f"torch.nn.functional there, or pass input.cpu()"
        )
    if x.layout != torch.strided or x.is_nested:
        raise NotImplementedError(f'"{name}" not implemented for a tensor that is sparse or nested; pass a dense one')
    for one in (*others, *parameters.values()):
        if one is None:
            continue
        if not isinstance(one, Tensor):
            raise TypeError(f"{name}(): weight, bias and statistics must be Tensor, not {type(one).__name__}")
        if one.device != device:
            raise RuntimeError(f"Tensor on device {one.device} is not on the expected device {device}!")
        if not one.is_floating_point():
            raise RuntimeError(f"mixed dtype (CPU): expect parameter to have a floating point type, not {one.dtype}")


def check_last(name: str, x: Any, sizes: Any, weight: Any, bias: Any) -> int:
    """How many axes are reduced, if all shapes fit."""
    if isinstance(sizes, int):
        raise TypeError(f"{name}(): argument 'normalized_shape' (position 2) must be tuple of ints, not int")
    check_tensors(name, x, weight=weight, bias=bias)
    wanted = tuple(sizes)
    axes = len(wanted)
    if not axes:
        raise RuntimeError(
            "Expected normalized_shape to be at least 1-dimensional, i.e., containing at least one element, but got "
            "normalized_shape = []"
        )
    for of, parameter in (("weight", weight), ("bias", bias)):
        if parameter is not None and tuple(parameter.shape) != wanted:
            raise RuntimeError(
                f"Expected {of} to be of same shape as normalized_shape, but got {of} of shape "
                f"{list(parameter.shape)} and normalized_shape = {list(wanted)}"
            )
    if x.dim() < axes or tuple(x.shape[x.dim() - axes :]) != wanted:
        raise RuntimeError(
            f"Given normalized_shape={list(wanted)}, expected input with shape [*, {', '.join(map(str, wanted))}], but "
            f"got input of size{list(x.shape)}"
        )
    return axes


def check_axes(x: Any) -> None:
    """Refuse what has no axis of channels."""
    if x.dim() < 2:
        raise RuntimeError(f"Expected at least 2 dimensions for input tensor but received {x.dim()}")


def check_vectors(x: Any, *named: Any) -> None:
    """Refuse parameters that have not one value a channel: names and tensors in turn."""
    for name, one in zip(named[::2], named[1::2], strict=True):
        if one is not None and (one.dim() != 1 or one.shape[0] != x.shape[1]):
            raise RuntimeError(
                f"{name} should contain {x.shape[1]} elements not {one.numel()}: expected a vector of size equal to "
                f"the number of channels in input, but got {name} of shape {list(one.shape)} and input of shape "
                f"{list(x.shape)}"
            )


def check_running(x: Any, mean: Any, var: Any, own: bool, mode: str) -> Any:
    """Running statistics, both or None."""
    if not own:
        for name, one in (("running_mean", mean), ("running_var", var)):
            if one is None:
                raise RuntimeError(f"{name} must be defined in evaluation mode: Expected it to be there when {mode}")
    elif (mean is None) != (var is None):
        raise ValueError("running_mean and running_var must either both be None or neither be None")
    check_vectors(x, "running_mean", mean, "running_var", var)
    if mean is None:
        return None
    for name, one in (("running_mean", mean), ("running_var", var)):
        if one.requires_grad:
            raise RuntimeError(f"{name} has no gradient. This input cannot have requires_grad True.")
        if own and not torch.compiler.is_compiling() and one.is_inference() > torch.is_inference_mode_enabled():
            raise RuntimeError(
                f"Inplace update to inference tensor {name} outside InferenceMode is not allowed. You can make a "
                "clone to get a normal tensor before doing inplace update."
            )
    return mean, var


def check_batch(name: str, x: Any, mean: Any, var: Any, weight: Any, bias: Any, training: bool) -> Any:
    """Running statistics, if everything fits."""
    check_tensors(name, x, mean, var, weight=weight, bias=bias)
    check_axes(x)
    if training and x.numel() == x.shape[1] and x.shape[1]:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {x.shape}")
    running = check_running(x, mean, var, training, "training is false")
    check_vectors(x, "weight", weight, "bias", bias)
    return running


def check_alike(name: str, x: Any, mean: Any, var: Any, weight: Any, bias: Any) -> None:
    """Refuse what does not fit, as batch norm does, but for how many values there are."""
    check_tensors(name, x, mean, var, weight=weight, bias=bias)
    check_vectors(x, "running_mean", mean, "running_var", var, "weight", weight, "bias", bias)


def check_share(rho: Any) -> None:
    """Refuse shares that are none; of a tensor whose values may be read."""
    if rho.numel() and not bool(((rho >= 0) & (rho <= 1)).all()):
        raise ValueError(f"rho must be within 0 to 1, got values from {rho.min()} to {rho.max()}; clip it")


def as_eps(eps: Any) -> float:
    """A number that may be added to a variance."""
    if not eps >= 0:
        raise ValueError(f"eps must not be negative, got {eps}")
    return float(eps)


def broadcasts(shape: Any, whole: tuple[int, ...]) -> bool:
    """Whether a parameter's shape broadcasts against that of a tensor, which stays as it is."""
    behind = whole[len(whole) - len(shape) :]
    return len(shape) <= len(whole) and all(a in (1, b) for a, b in zip(shape, behind, strict=True))
