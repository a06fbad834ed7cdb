"""torch's own norm modules, whose forward pass is numbanorm's: same constructors, parameters, buffers and states.

A saved state loads in either direction, and ``isinstance(module, torch.nn.BatchNorm2d)`` holds. Tensors that lie
elsewhere than on the CPU or CUDA are refused.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from . import functional

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "RMSNorm",
]


class LayerNorm(nn.LayerNorm):
    """`torch.nn.LayerNorm` by `functional.layer_norm`."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalize the last axes."""
        return functional.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)


class RMSNorm(nn.RMSNorm):
    """`torch.nn.RMSNorm` by `functional.rms_norm`."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the last axes about zero."""
        return functional.rms_norm(x, self.normalized_shape, self.weight, self.eps)


class GroupNorm(nn.GroupNorm):
    """`torch.nn.GroupNorm` by `functional.group_norm`."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalize sets of channels."""
        return functional.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


def step_of_batch(module: Any) -> float:
    """Count a batch, in training: the share of it in stored statistics."""
    momentum: float = 0.0 if module.momentum is None else module.momentum
    if module.training and module.track_running_stats and module.num_batches_tracked is not None:
        module.num_batches_tracked.add_(1)
        if module.momentum is None:  # the mean over all batches
            momentum = 1.0 / float(module.num_batches_tracked)
    return momentum


class _Batch:
    """The forward pass of the three batch norms: as torch's, which has it in one place too."""

    def forward(self: Any, input: Tensor) -> Tensor:
        """Normalize every channel by the batch, or by stored statistics."""
        self._check_input_dim(input)
        momentum = step_of_batch(self)
        mean, var = self.running_mean, self.running_var
        own = self.training or (mean is None and var is None)
        if self.training and not self.track_running_stats:
            mean = var = None
        return functional.batch_norm(input, mean, var, self.weight, self.bias, own, momentum, self.eps)


class BatchNorm1d(_Batch, nn.BatchNorm1d):
    """`torch.nn.BatchNorm1d` by `functional.batch_norm`."""


class BatchNorm2d(_Batch, nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d` by `functional.batch_norm`."""


class BatchNorm3d(_Batch, nn.BatchNorm3d):
    """`torch.nn.BatchNorm3d` by `functional.batch_norm`."""


class _Instance:
    """What the three instance norms compute, once torch's own forward pass has checked the axes."""

    def _apply_instance_norm(self: Any, input: Tensor) -> Tensor:
        own = self.training or not self.track_running_stats
        momentum = 0.0 if self.momentum is None else self.momentum
        return functional.instance_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, own, momentum, self.eps
        )


class InstanceNorm1d(_Instance, nn.InstanceNorm1d):
    """`torch.nn.InstanceNorm1d` by `functional.instance_norm`."""


class InstanceNorm2d(_Instance, nn.InstanceNorm2d):
    """`torch.nn.InstanceNorm2d` by `functional.instance_norm`."""


class InstanceNorm3d(_Instance, nn.InstanceNorm3d):
    """`torch.nn.InstanceNorm3d` by `functional.instance_norm`."""
