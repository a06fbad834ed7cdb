"""What is done with the batch norms of a trained model: statistics of other data, and folding into convolutions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import fusion, parametrize

from ..layout import Layout
from ..statistics import Moments, moments
from ..streams import number_of, with_progress

_FOLDED = {nn.Conv1d: nn.BatchNorm1d, nn.Conv2d: nn.BatchNorm2d, nn.Conv3d: nn.BatchNorm3d}


@torch.no_grad()
def recompute_statistics(
    model: nn.Module, loader: Iterable[Any], device: Any = None, *, progress: bool = False
) -> dict[str, int]:
    """Set the stored statistics of a model's batch norms to those of a data set: exact, in one pass.

    Parameters
    ----------
    model : Module
        Its batch norms that store statistics normalize by each batch, as in training, and are given mean and unbiased
        variance of all values that they saw. All else in it is in evaluation, as dropout. Modes are put back.
    loader : iterable
        Of batches: tensors; tuples or lists, whose first item goes to the model; or mappings, which go as keywords.
    device : device, optional
        Where batches are sent.
    progress : bool
        Show on standard error how many batches were read, as `numbanorm.stream` does.

    Returns
    -------
    dict
        For each batch norm by name, how many values a channel it saw.

    Raises
    ------
    ValueError
        If there are no batches, or a batch norm saw fewer than two values a channel. Then nothing is written.

    Notes
    -----
    States of batches are merged in float64, so batches may have different sizes, and there is no momentum that forgets.
    ``num_batches_tracked`` is set to the number of batches.

    Examples
    --------
    >>> import torch
    >>> from numbanorm.torch import recompute_statistics
    >>> model = torch.nn.Sequential(torch.nn.BatchNorm1d(1))
    >>> recompute_statistics(model, [torch.tensor([[1.0], [2.0]]), torch.tensor([[6.0]]).repeat(2, 1)])
    {'0': 4}
    >>> model[0].running_mean, model[0].running_var.round(decimals=3)
    (tensor([3.7500]), tensor([6.9170]))
    """
    norms = {
        name: one
        for name, one in model.named_modules()
        if isinstance(one, _BatchNorm) and one.track_running_stats and one.running_mean is not None
    }
    seen: dict[str, Moments] = {}
    modes = {module: module.training for module in model.modules()}
    settings = {one: (one.track_running_stats, one.running_mean, one.running_var) for one in norms.values()}

    def look(name: str) -> Any:
        def hook(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            state = moments(given[0].detach(), Layout.batch(1))
            seen[name] = seen[name] + state if name in seen else state

        return hook

    hooks, batches = [one.register_forward_pre_hook(look(name)) for name, one in norms.items()], 0
    model.eval()
    try:
        for one in norms.values():  # without stored statistics, evaluation is by each batch, and moves none
            one.track_running_stats, one.running_mean, one.running_var = False, None, None
        for batch in with_progress(loader, number_of(loader), "batches") if progress else loader:
            batches += 1
            _call(model, batch, device)
    finally:
        for hook in hooks:
            hook.remove()
        for one, kept in settings.items():
            one.track_running_stats, one.running_mean, one.running_var = kept
        for module, mode in modes.items():
            module.training = mode
    return _write(norms, seen, batches)


def _call(model: nn.Module, batch: Any, device: Any) -> None:
    def sent(value: Any) -> Any:
        return value.to(device) if device is not None and isinstance(value, Tensor) else value

    if isinstance(batch, Mapping):
        model(**{key: sent(value) for key, value in batch.items()})
    else:
        model(sent(batch[0] if isinstance(batch, tuple | list) else batch))


def _write(norms: dict[str, Any], seen: dict[str, Any], batches: int) -> dict[str, int]:
    if not batches:
        raise ValueError("loader gave no batches; an iterator that was used up before gives none")
    counts = {name: int(torch.as_tensor(seen[name].count).min()) if name in seen else 0 for name in norms}
    for name, count in counts.items():
        if count < 2:
            raise ValueError(f"batch norm {name!r} saw {count} values a channel, and its variance needs two at least")
    for name, one in norms.items():
        one.running_mean.copy_(torch.as_tensor(seen[name].mean))
        one.running_var.copy_(torch.as_tensor(seen[name].var(ddof=1)))
        if one.num_batches_tracked is not None:
            one.num_batches_tracked.fill_(batches)
    return counts


def fold(model: nn.Module) -> list[str]:
    """Fold batch norms into the convolutions right before them, in place, for evaluation.

    Parameters
    ----------
    model : Module
        In evaluation. Wherever a `torch.nn.Sequential` in it has a convolution and then a batch norm with stored
        statistics, the convolution gets weights that do both, and the norm becomes `torch.nn.Identity`.

    Returns
    -------
    list of str
        Names of the norms that were folded. Left are those elsewhere, whose order is in code, those after other layers,
        and those where one of both has hooks or parametrizations, or is used twice.

    Raises
    ------
    ValueError
        If a module to be folded is in training: its statistics would still move.

    Examples
    --------
    >>> import torch
    >>> from numbanorm.torch import fold
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8)).eval()
    >>> fold(model)
    ['1']
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    uses: dict[nn.Module, int] = {}
    pairs: list[tuple[Any, Any, str, Any, str]] = []
    for prefix, module in model.named_modules(remove_duplicate=False):
        uses[module] = uses.get(module, 0) + 1
        if isinstance(module, nn.Sequential):
            children = list(module.named_children())
            for (_, layer), (name, norm) in pairwise(children):
                if _fits(layer, norm):
                    pairs.append((module, layer, name, norm, f"{prefix}.{name}" if prefix else name))
    chosen = [pair for pair in pairs if uses[pair[1]] == uses[pair[3]] == 1]
    for *_, norm, name in chosen:
        if norm.training:
            raise ValueError(f"batch norm {name!r} is in training, so its statistics still move; call model.eval()")
    for sequence, layer, name, norm, _ in chosen:
        given = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        layer.weight, layer.bias = fusion.fuse_conv_bn_weights(layer.weight, layer.bias, *given)
        setattr(sequence, name, nn.Identity())
    return [pair[-1] for pair in chosen]


def _fits(layer: nn.Module, norm: nn.Module) -> bool:
    """Whether a layer does nothing but what its weights say, and a norm as well."""
    kind = _FOLDED.get(type(layer))
    if kind is None or not isinstance(norm, kind) or parametrize.is_parametrized(layer) or norm.running_mean is None:
        return False
    return not any(vars(one)[hooks] for one in (layer, norm) for hooks in ("_forward_hooks", "_forward_pre_hooks"))
