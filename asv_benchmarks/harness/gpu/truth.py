"""Results held against float64 on the GPU, where 1 GB takes a fraction of a second; in NumPy it takes half a minute."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from ..case import Arrays, Case
from ..plain import oracle

PIECE = 1 << 26  # elements that are held against float64 at once: what that needs takes some 5 GB
PER_CHANNEL = ("batch_norm", "batch_norm_eval")


def judged(case: Case, a: Arrays, y: Any, running: Sequence[Any]) -> tuple[float, float]:
    """Return how far a result is off at most, and in units of rounding. `a` is what there was before the call."""
    if y.shape != a.x.shape:
        raise ValueError(f"an output of shape {tuple(y.shape)}")
    if y.dtype != a.x.dtype:
        raise TypeError(f"an output of dtype {y.dtype}")
    found = []
    for piece, part, (own_y, *own_running) in pieces(case, a, (y, *running)):
        truth = oracle(piece, part, torch)
        found.append((truth.off(own_y), truth.units(own_y, *own_running)))
    off, units = (max(values) for values in zip(*found, strict=True))
    return off, units


def pieces(case: Case, a: Arrays, results: Sequence[Any]) -> Iterator[tuple[Case, Arrays, list[Any]]]:
    """Cut a case and its results along an axis that no group spans."""
    axis = free_axis(case)
    length = case.shape[axis]
    most = max(1, PIECE // (a.x.numel() // length))
    for first in range(0, length, most):
        count = min(most, length - first)

        def cut(tensor: Any, first: int = first, count: int = count) -> Any:
            """Whatever is one value a channel is whole, unless the channels are cut."""
            if tensor is None or (tensor.ndim == 1 and case.norm not in PER_CHANNEL):
                return tensor
            return tensor.narrow(0 if tensor.ndim == 1 else axis, first, count)

        shape = (*case.shape[:axis], count, *case.shape[axis + 1 :])
        part = Arrays(**{name: cut(tensor) for name, tensor in vars(a).items()})
        yield replace(case, shape=shape), part, [cut(tensor) for tensor in results]


def free_axis(case: Case) -> int:
    """Return an axis that no group spans."""
    if case.norm in PER_CHANNEL:
        return case.channel_axis
    if case.norm in ("layer_norm", "rms_norm"):
        others = [axis for axis in range(len(case.shape)) if axis != case.channel_axis]
        return max(others, key=lambda axis: case.shape[axis])
    return 0
