"""Weight norm and weight standardization of any module's parameter, as `torch.nn.utils.parametrizations` has them."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from . import functional

__all__ = ["weight_norm", "weight_standardize"]
AModule = TypeVar("AModule", bound=nn.Module)


def weight_norm(module: AModule, name: str = "weight", dim: int | None = 0) -> AModule:
    """Make length and direction of a parameter two: see `torch.nn.utils.parametrizations.weight_norm`.

    Parameters
    ----------
    module : Module
        It is changed in place, and returned.
    name : str
        Of the parameter.
    dim : int or None
        The axis along which each slice has a length of its own; None: one for all.

    Notes
    -----
    The state has the names of torch's: ``parametrizations.weight.original0`` is the length, ``original1`` the
    direction.

    Examples
    --------
    >>> import torch
    >>> from numbanorm.torch.parametrizations import weight_norm
    >>> layer = weight_norm(torch.nn.Linear(4, 8))
    >>> layer.parametrizations.weight.original0.shape
    torch.Size([8, 1])
    """
    parametrize.register_parametrization(module, name, _WeightNorm(dim))
    return module


def weight_standardize(module: AModule, name: str = "weight", dim: int = 0, *, eps: float = 1e-5) -> AModule:
    """Standardize a parameter wherever it is used: see `functional.weight_standardize`.

    Parameters
    ----------
    module, name
        As of `weight_norm`.
    dim : int
        The axis that is kept.
    eps : float
        Added to the variance.
    """
    parametrize.register_parametrization(module, name, _Standardized(dim, eps))
    return module


class _WeightNorm(nn.Module):
    def __init__(self, dim: int | None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, length: Tensor, direction: Tensor) -> Tensor:
        return functional.weight_norm(direction, length, self.dim)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Length and direction of a weight."""
        return torch.norm_except_dim(weight, 2, -1 if self.dim is None else self.dim), weight


class _Standardized(nn.Module):
    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.dim, self.eps = dim, eps

    def forward(self, weight: Tensor) -> Tensor:
        return functional.weight_standardize(weight, self.dim, eps=self.eps)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The weight itself: what is assigned is standardized when it is used."""
        return weight
