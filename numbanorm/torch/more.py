"""Modules that torch lacks: batch renormalization, batch-instance norm, weight-standardized convolutions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from . import functional
from .modules import step_of_batch

__all__ = [
    "BatchInstanceNorm",
    "BatchRenorm",
    "StandardizedConv1d",
    "StandardizedConv2d",
    "StandardizedConv3d",
]


class BatchRenorm(_BatchNorm):
    """Batch renormalization, for small batches: batch norm that in training follows the stored statistics.

    Parameters
    ----------
    num_features, eps, momentum, affine
        As of `torch.nn.BatchNorm2d`, whose saved state it loads.
    r_max, d_max : float
        Bounds of the ratio of deviations and of the distance of means; attributes, which a schedule may change. The
        paper trains with 1 and 0 (batch norm) at first, and relaxes them to 3 and 5.

    Notes
    -----
    S. Ioffe, arXiv:1702.03275. Input is of shape (N, C, ...).

    Examples
    --------
    >>> import torch
    >>> from numbanorm.torch import BatchRenorm
    >>> BatchRenorm(8)(torch.randn(2, 8, 4, 4)).shape
    torch.Size([2, 8, 4, 4])
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        *,
        r_max: float = 3.0,
        d_max: float = 5.0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, True, device=device, dtype=dtype)
        self.r_max, self.d_max = r_max, d_max

    def forward(self, input: Tensor) -> Tensor:
        """Normalize every channel."""
        momentum = step_of_batch(self)
        statistics = self.running_mean, self.running_var
        if self.running_mean is None:  # as while statistics are made again
            return functional.batch_norm(input, None, None, self.weight, self.bias, True, eps=self.eps)
        bounds = {"r_max": self.r_max, "d_max": self.d_max}
        return functional.batch_renorm(
            input, *statistics, self.weight, self.bias, self.training, momentum, self.eps, **bounds
        )

    def extra_repr(self) -> str:
        """Show what is set."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"r_max={self.r_max}, d_max={self.d_max}"
        )

    def _check_input_dim(self, input: Tensor) -> None:
        """Leave it to `functional.batch_renorm`: any number of axes from two on."""


class BatchInstanceNorm(nn.Module):
    """Batch-instance normalization: a blend of both norms that is learnt for each channel.

    Parameters
    ----------
    num_features, eps, affine
        As of `torch.nn.BatchNorm2d`. It has a parameter more, ``rho``: the share of batch norm, 1 at first. As in the
        paper it is clipped to 0 to 1, here at the beginning of each training pass. There are no stored statistics.

    Notes
    -----
    H. Nam and H.-E. Kim, arXiv:1805.07925. Input is of shape (N, C, ...), with three axes or more.

    Examples
    --------
    >>> import torch
    >>> from numbanorm.torch import BatchInstanceNorm
    >>> BatchInstanceNorm(8)
    BatchInstanceNorm(8, eps=1e-05, affine=True)
    """

    def __init__(
        self, num_features: int, eps: float = 1e-5, affine: bool = True, *, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.num_features, self.eps, self.affine = num_features, eps, affine
        made = {"device": device, "dtype": dtype}
        self.rho = nn.Parameter(torch.ones(num_features, **made))
        self.weight = nn.Parameter(torch.ones(num_features, **made)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features, **made)) if affine else None

    def forward(self, input: Tensor) -> Tensor:
        """Normalize by batch and by sample."""
        if self.training:
            with torch.no_grad():
                self.rho.clamp_(0, 1)
        # A copy, since the next pass may clip before this one goes back.
        rho = self.rho.clone() if self.training else self.rho.clamp(0, 1)
        return functional.batch_instance_norm(input, rho, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Show what is set."""
        return f"{self.num_features}, eps={self.eps}, affine={self.affine}"


class _Standardized:
    """What the three convolutions have in common: the weight is standardized before it is used."""

    standardize_eps = 1e-5

    def forward(self: Any, input: Tensor) -> Tensor:
        """Convolve with the standardized weight."""
        weight = functional.weight_standardize(self.weight, eps=self.standardize_eps)
        return self._conv_forward(input, weight, self.bias)


class StandardizedConv1d(_Standardized, nn.Conv1d):
    """`torch.nn.Conv1d` whose weight is standardized: mean 0 and variance 1 for each output channel.

    S. Qiao et al., arXiv:1903.10520. ``standardize_eps``, which is added to the variance, is an attribute.
    """


class StandardizedConv2d(_Standardized, nn.Conv2d):
    """`torch.nn.Conv2d` whose weight is standardized: mean 0 and variance 1 for each output channel.

    S. Qiao et al., arXiv:1903.10520. ``standardize_eps``, which is added to the variance, is an attribute.

    Examples
    --------
    >>> import torch
    >>> from numbanorm.torch import StandardizedConv2d
    >>> StandardizedConv2d(3, 8, 3)(torch.randn(2, 3, 6, 6)).shape
    torch.Size([2, 8, 4, 4])
    """


class StandardizedConv3d(_Standardized, nn.Conv3d):
    """`torch.nn.Conv3d` whose weight is standardized: mean 0 and variance 1 for each output channel.

    S. Qiao et al., arXiv:1903.10520. ``standardize_eps``, which is added to the variance, is an attribute.
    """
