"""Batch norm over all workers of a process group, by merged statistics: batches may be of any sizes, and empty."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..layout import Layout
from ..statistics import Moments, moments
from . import functional, kernels, norm
from .checks import check_alike
from .modules import step_of_batch
from .norm import Rule
from .routes import move


class SyncBatchNorm(nn.SyncBatchNorm):
    """`torch.nn.SyncBatchNorm`: in training, statistics are those of the batches of all workers.

    Each worker sends how many values it has, their means and sums of squared deviations, in float64; all merge these in
    the order of ranks (Chan's formula), so that all have the same bits. Batches may have different sizes on different
    workers, and some may be empty. Output, gradients of the input and stored statistics are those of one worker with
    the whole batch; gradients of weight and bias are the worker's own part, which
    `torch.nn.parallel.DistributedDataParallel` averages. All workers have to go forward and backward, or others wait
    as long as the process group is told to. Derivatives beyond the first are refused.

    Notes
    -----
    T. F. Chan, G. H. Golub and R. J. LeVeque, "Updating formulae and a pairwise algorithm for computing sample
    variances", 1979.
    """

    @torch.compiler.disable  # collectives stand between graphs
    def forward(self, input: Tensor) -> Tensor:
        """Normalize every channel."""
        self._check_input_dim(input)
        group = self.process_group if dist.is_available() and dist.is_initialized() else None
        if not self._own() or not dist.is_initialized() or dist.get_world_size(group) == 1:
            return self._alone(input)
        check_alike("SyncBatchNorm", input, self.running_mean, self.running_var, self.weight, self.bias)
        momentum = step_of_batch(self)
        running = None
        if self.training and self.track_running_stats and self.running_mean is not None:
            running = self.running_mean, self.running_var, momentum
        return _Synchronized.apply(input, self.weight, self.bias, running, self.eps, group)

    def _own(self) -> bool:
        """Whether statistics are those of the batch."""
        return self.training or (self.running_mean is None and self.running_var is None)

    def _alone(self, input: Tensor) -> Tensor:
        momentum, mean, var = step_of_batch(self), self.running_mean, self.running_var
        own = self._own()
        if self.training and not self.track_running_stats:
            mean = var = None
        return functional.batch_norm(input, mean, var, self.weight, self.bias, own, momentum, self.eps)


class _Synchronized(torch.autograd.Function):
    """Statistics of all workers, and what goes back through them."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, bias: Any, running: Any, eps: float, group: Any) -> Any:
        count, mean, m2 = _of_all(x, group)
        if count <= 1:  # on all workers alike: none waits
            raise ValueError(f"Expected more than 1 value per channel when training, got {count:g} on all workers")
        stored, form, rule = (mean, m2 / count), norm.known_batch(x.dim()), Rule(eps)
        if running is not None:
            move(running, mean, m2 / (count - 1))
        ctx.save_for_backward(x, weight, *stored)
        ctx.rule, ctx.count, ctx.group, ctx.bias = rule, count, group, None if bias is None else bias.dtype
        return kernels.forward(x, weight, bias, form, rule, stored)[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Any) -> Any:
        x, weight, mean, var = ctx.saved_tensors
        form, rule, count = norm.known_batch(x.dim()), ctx.rule, ctx.count
        scale = torch.ones_like(mean) if weight is None else weight.double()
        dx, dweight, dbias = kernels.backward(grad, x, scale, form, rule, (mean, var))
        sums = torch.stack((dweight, dbias))
        dist.all_reduce(sums, group=ctx.group)
        # What goes through mean and deviation: again a norm of x by the same statistics.
        slope, level = sums * (scale / (var + rule.eps).sqrt() / count)
        through = kernels.forward(x, slope, level, form, rule, (mean, var))[0]
        of_weight = None if weight is None else dweight.to(weight.dtype)
        return dx - through, of_weight, None if ctx.bias is None else dbias.to(ctx.bias), None, None, None


def _of_all(x: Any, group: Any) -> tuple[float, Any, Any]:
    """How many values a channel has on all workers, their mean and sum of squared deviations."""
    own = moments(x.detach(), Layout.batch(1))
    channels, size = x.shape[1], x.numel() // max(1, x.shape[1])
    sent = torch.zeros(1 + 2 * channels, dtype=torch.float64, device=x.device)
    if size:
        sent[0], sent[1 : 1 + channels], sent[1 + channels :] = size, torch.as_tensor(own.mean), torch.as_tensor(own.m2)
    parts = [torch.empty_like(sent) for _ in range(dist.get_world_size(group))]
    dist.all_gather(parts, sent, group=group)
    table = torch.stack(parts).cpu().numpy()
    counts = np.broadcast_to(table[:, :1], (len(parts), channels))
    whole = Moments(counts, table[:, 1 : 1 + channels], table[:, 1 + channels :]).merge_axis(0)
    return float(table[:, 0].sum()), *(torch.from_numpy(one).to(x.device) for one in (whole.mean, whole.m2))
