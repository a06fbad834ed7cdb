"""numbanorm's norms inside torch: functions and modules with torch's names; `convert` swaps those of a model.

Tensors lie on the CPU or on CUDA. Everything is differentiable, twice too, and runs under `torch.compile`,
`torch.export` and `torch.func`.

>>> import torch
>>> from numbanorm.torch import functional
>>> x = torch.tensor([[1.0, 2.0, 6.0]], requires_grad=True)
>>> functional.layer_norm(x, (3,)).detach().round(decimals=3)
tensor([[-0.9260, -0.4630,  1.3890]])
"""

from . import functional as functional
from . import parametrizations as parametrizations
from .modules import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    GroupNorm,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
    LayerNorm,
    RMSNorm,
)
from .more import BatchInstanceNorm, BatchRenorm, StandardizedConv1d, StandardizedConv2d, StandardizedConv3d
from .swap import Swapped, convert, revert
from .sync import SyncBatchNorm
from .trained import fold, recompute_statistics

__all__ = [
    "BatchInstanceNorm",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "BatchRenorm",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "RMSNorm",
    "StandardizedConv1d",
    "StandardizedConv2d",
    "StandardizedConv3d",
    "Swapped",
    "SyncBatchNorm",
    "convert",
    "fold",
    "functional",
    "recompute_statistics",
    "revert",
]
