"""`convert` swaps the norms of a model for numbanorm's, in place, and `revert` swaps them back.

A module stays the same object and changes its class. So parameters, buffers, hooks, training mode, and whoever holds
the module or its parameters, such as an optimizer, stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils import parametrize

from ..arrays.libraries import why_no_cuda
from . import modules, more
from .checks import PLACES
from .sync import SyncBatchNorm

OURS = {getattr(nn, name): getattr(modules, name) for name in modules.__all__} | {nn.SyncBatchNorm: SyncBatchNorm}
THEIRS = {ours: theirs for theirs, ours in OURS.items()}
_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


class Swapped(NamedTuple):
    """What became of the norms of a model, by their names in it."""

    swapped: dict[str, str]  # and the class
    left: dict[str, str]  # and why

    def __str__(self) -> str:
        lines = [f"{len(self.swapped)} norms swapped, {len(self.left)} left"]
        lines += [f"  {name or '(the model)'}: {why}" for name, why in self.left.items()]
        return "\n".join(lines)


def convert(model: nn.Module) -> Swapped:
    """Swap every norm of a model for numbanorm's, in place.

    Parameters
    ----------
    model : Module
        Its BatchNorm1d, 2d and 3d, LayerNorm, GroupNorm, InstanceNorm1d, 2d and 3d, RMSNorm and
        SyncBatchNorm are swapped, wherever in it.

    Returns
    -------
    Swapped
        ``swapped``: names and classes. ``left``: names of norms that stay as they are, and why: subclasses with code of
        their own, norms that have no shape yet, or lie elsewhere than on the CPU or CUDA. ``print`` shows them.

    Examples
    --------
    >>> import torch
    >>> from numbanorm.torch import convert
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.LayerNorm(8))
    >>> print(convert(model))
    1 norms swapped, 0 left
    >>> isinstance(model[1], torch.nn.LayerNorm)
    True
    """
    return _swap(model, OURS)


def revert(model: nn.Module) -> Swapped:
    """Swap numbanorm's norms of a model for torch's, in place: the inverse of `convert`.

    Parameters
    ----------
    model : Module
        What was converted, or made of these modules.

    Returns
    -------
    Swapped
        As of `convert`.
    """
    return _swap(model, THEIRS)


def _swap(model: nn.Module, classes: Mapping[type, type]) -> Swapped:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    swapped, left = {}, {}
    for name, module in model.named_modules():
        if not isinstance(module, _NORMS):
            continue
        own = parametrize.type_before_parametrizations(module)
        if own in classes.values() or own.__module__ == more.__name__:
            continue
        why = _why_left(module, own, classes)
        if why:
            left[name] = why
            continue
        module.__class__ = _class_of(module, own, classes[own])
        swapped[name] = own.__name__
    return Swapped(swapped, left)


def _why_left(module: nn.Module, own: type, classes: Mapping[type, type]) -> str:
    """Why a norm stays as it is; empty if it is swapped."""
    if isinstance(module, LazyModuleMixin):
        return f"{own.__name__} has no shape yet; call the model once, then convert"
    if own not in classes:
        return f"{own.__module__}.{own.__qualname__} has code of its own"
    if "forward" in vars(module):
        return f"the forward of this {own.__name__} was replaced"
    devices = {t.device for t in (*module.parameters(), *module.buffers()) if t.device.type not in ("cpu", "meta")}
    if not devices:
        return ""
    said = f"{own.__name__} lies on {', '.join(sorted(map(str, devices)))}"
    if any(device.type not in PLACES for device in devices):
        return f"{said}; numbanorm.torch runs on the CPU and on CUDA"
    return f"{said}, {lacking}" if (lacking := why_no_cuda()) else ""


def _class_of(module: nn.Module, own: type, other: type) -> type:
    """The other class; with the parametrizations of this module, which torch keeps in a class made for it alone."""
    made = type(module)
    if made is own:
        return other
    body = {key: value for key, value in vars(made).items() if key not in ("__dict__", "__weakref__")}
    return type(made.__name__, (other,), body)
