"""Normalization layers of real networks in their true shapes, each as numbanorm, NumPy and torch run it.

A layer is described by a view, a shape in which its groups are whole axes: so one NumPy function serves all (plain.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from types import SimpleNamespace
from typing import Any

import numpy as np

import numbanorm as nbn

Shape = tuple[int, ...]
Arrays = SimpleNamespace  # x, weight, bias, mean, var: what a layer works on


@dataclass(frozen=True)
class Layer:
    """One normalization: which elements share statistics, and how each library is asked for it."""

    name: str
    shape: Shape
    view: Shape  # a shape in which a group is made of whole axes ...
    axes: Shape  # ... and these are the axes
    affine: Shape  # the shape of weight and bias beside the view; () for none
    numbanorm: Callable[[Arrays], np.ndarray]
    torch: Callable[[Any, Arrays], Any]  # given the module torch and an Arrays of tensors
    eps: float = 1e-5
    kind: str = "own"  # statistics: "own", "own+running" (training), "stored" (evaluation) or "rms" (no mean)
    data: np.ndarray | None = None  # real data; None: random
    pattern: str = ""
    sizes: dict[str, int] = field(default_factory=dict)

    def arrays(self) -> Arrays:
        """Return the input, weight, bias and running statistics of the layer."""
        rng = np.random.default_rng(prod(self.shape))
        channels = prod(self.affine)
        x = self.data if self.data is not None else rng.standard_normal(self.shape, np.float32) * np.float32(2) + 1
        weight, bias = rng.uniform(0.5, 1.5, (2, channels)).astype(x.dtype) if self.affine else (None, None)
        mean, var = rng.uniform(0.5, 1.5, (2, channels)).astype(x.dtype)
        return Arrays(x=x, weight=weight, bias=bias, mean=mean, var=var)


def written_out(torch: Any, a: Arrays, view: Shape, axes: Shape, eps: float) -> Any:
    """Normalize with torch where it has no function of its own."""
    x = a.x.view(view)
    var, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
    return ((x - mean) * torch.rsqrt(var + eps)).view(a.x.shape)


def first(x: Any) -> Any:
    """View a channels-last tensor as torch wants it: channels on axis 1 (torch's own channels_last memory)."""
    return x.permute(0, 3, 1, 2)


def last(x: Any) -> Any:
    """Undo `first`."""
    return x.permute(0, 2, 3, 1)


def batch_norm(network: str, shape: Shape, training: bool) -> Layer:
    """Batch norm of (N, C, H, W)."""
    return Layer(
        f"{network} batch norm, {'training' if training else 'evaluation'}",
        shape,
        view=shape,
        axes=(0, 2, 3),
        affine=(1, shape[1], 1, 1),
        numbanorm=lambda a: nbn.batch_norm(a.x, a.mean, a.var, a.weight, a.bias, training),
        torch=lambda torch, a: torch.nn.functional.batch_norm(a.x, a.mean, a.var, a.weight, a.bias, training),
        kind="own+running" if training else "stored",
    )


def batch_norm_last(network: str, shape: Shape) -> Layer:
    """Batch norm of (N, H, W, C) in training."""
    return Layer(
        f"{network} batch norm, training, NHWC",
        shape,
        view=shape,
        axes=(0, 1, 2),
        affine=shape[-1:],
        numbanorm=lambda a: nbn.batch_norm(a.x, a.mean, a.var, a.weight, a.bias, True, channel_axis=-1),
        torch=lambda torch, a: last(
            torch.nn.functional.batch_norm(first(a.x), a.mean, a.var, a.weight, a.bias, True),
        ),
        kind="own+running",
    )


def layer_norm(network: str, shape: Shape, eps: float) -> Layer:
    """Layer norm over the last axis."""
    return Layer(
        f"{network} layer norm",
        shape,
        view=shape,
        axes=(len(shape) - 1,),
        affine=shape[-1:],
        numbanorm=lambda a: nbn.layer_norm(a.x, shape[-1:], a.weight, a.bias, eps),
        torch=lambda torch, a: torch.nn.functional.layer_norm(a.x, shape[-1:], a.weight, a.bias, eps),
        eps=eps,
    )


def layer_norm_first(network: str, shape: Shape, eps: float) -> Layer:
    """Layer norm over the channels of (N, C, H, W); torch's own models permute, normalize and permute back."""
    one_a_channel = (shape[1], 1, 1)
    return Layer(
        f"{network} layer norm, NCHW",
        shape,
        view=shape,
        axes=(1,),
        affine=one_a_channel,
        numbanorm=lambda a: nbn.normalize(
            a.x, "n c h w -> n h w", a.weight.reshape(one_a_channel), a.bias.reshape(one_a_channel), eps=eps
        ),
        torch=lambda torch, a: first(
            torch.nn.functional.layer_norm(last(a.x), shape[1:2], a.weight, a.bias, eps),
        ),
        eps=eps,
    )


def group_norm(network: str, shape: Shape, groups: int = 32) -> Layer:
    """Group norm of (N, C, H, W)."""
    n, c, h, w = shape
    return Layer(
        f"{network} group norm",
        shape,
        view=(n, groups, c // groups, h, w),
        axes=(2, 3, 4),
        affine=(1, groups, c // groups, 1, 1),
        numbanorm=lambda a: nbn.group_norm(a.x, groups, a.weight, a.bias),
        torch=lambda torch, a: torch.nn.functional.group_norm(a.x, groups, a.weight, a.bias),
    )


def group_norm_last(network: str, shape: Shape, groups: int = 32) -> Layer:
    """Group norm of (N, H, W, C)."""
    n, h, w, c = shape
    return Layer(
        f"{network} group norm, NHWC",
        shape,
        view=(n, h, w, groups, c // groups),
        axes=(1, 2, 4),
        affine=(groups, c // groups),
        numbanorm=lambda a: nbn.group_norm(a.x, groups, a.weight, a.bias, channel_axis=-1),
        torch=lambda torch, a: last(torch.nn.functional.group_norm(first(a.x), groups, a.weight, a.bias)),
    )


def instance_norm(network: str, shape: Shape) -> Layer:
    """Instance norm of (N, C, H, W)."""
    return Layer(
        f"{network} instance norm",
        shape,
        view=shape,
        axes=(2, 3),
        affine=(1, shape[1], 1, 1),
        numbanorm=lambda a: nbn.instance_norm(a.x, weight=a.weight, bias=a.bias),
        torch=lambda torch, a: torch.nn.functional.instance_norm(a.x, weight=a.weight, bias=a.bias),
    )


def rms_norm(network: str, shape: Shape) -> Layer:
    """RMS norm over the last axis."""
    return Layer(
        f"{network} RMS norm",
        shape,
        view=shape,
        axes=(len(shape) - 1,),
        affine=shape[-1:],
        numbanorm=lambda a: nbn.rms_norm(a.x, shape[-1:], a.weight, 1e-5),
        torch=lambda torch, a: torch.nn.functional.rms_norm(a.x, shape[-1:], a.weight, 1e-5),
        kind="rms",
    )


def of_data(name: str, data: np.ndarray, pattern: str, view: Shape, axes: Shape, eps: float, **sizes: int) -> Layer:
    """Real data under any pattern, without weight and bias."""
    return Layer(
        name,
        data.shape,
        view=view,
        axes=axes,
        affine=(),
        numbanorm=lambda a: nbn.normalize(a.x, pattern, eps=eps, **sizes),
        torch=lambda torch, a: written_out(torch, a, view, axes, eps),
        eps=eps,
        data=data,
        pattern=pattern,
        sizes=sizes,
    )


LAYERS: Sequence[Layer] = (
    batch_norm("ResNet-50", (32, 64, 112, 112), training=True),
    batch_norm("ResNet-50", (32, 256, 56, 56), training=True),
    batch_norm("ResNet-50", (32, 512, 28, 28), training=True),
    batch_norm("ResNet-50", (32, 1024, 14, 14), training=True),
    batch_norm("ResNet-50", (32, 2048, 7, 7), training=True),
    batch_norm_last("ResNet-50", (32, 28, 28, 512)),
    batch_norm("ResNet-50", (8, 256, 56, 56), training=False),
    batch_norm("ResNet-50", (8, 2048, 7, 7), training=False),
    layer_norm("BERT-base", (1, 128, 768), eps=1e-12),
    layer_norm("BERT-base", (32, 512, 768), eps=1e-12),
    group_norm("SD U-Net", (2, 320, 64, 64)),
    group_norm("SD U-Net", (2, 640, 32, 32)),
    group_norm("SD U-Net", (2, 1280, 16, 16)),
    group_norm("SD U-Net", (2, 1280, 8, 8)),
    group_norm_last("SD U-Net", (2, 64, 64, 320)),
    group_norm_last("SD U-Net", (2, 16, 16, 1280)),
    layer_norm("ConvNeXt-T", (32, 56, 56, 96), eps=1e-6),
    layer_norm("ConvNeXt-T", (32, 7, 7, 768), eps=1e-6),
    layer_norm_first("ConvNeXt-T", (32, 96, 56, 56), eps=1e-6),
    layer_norm_first("ConvNeXt-T", (32, 384, 14, 14), eps=1e-6),
    rms_norm("Llama", (1, 2048, 4096)),
    instance_norm("Style transfer", (4, 32, 256, 256)),
    instance_norm("Style transfer", (4, 128, 64, 64)),
)
