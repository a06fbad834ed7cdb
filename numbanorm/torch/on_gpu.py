"""What `kernels` does, for tensors on a GPU: they go to numbanorm's own calls, which take tensors there.

No line of this ran on a GPU so far: tests run it on tensors of the host that say they lie on one.
"""

from __future__ import annotations

from typing import Any

import torch

from ..arrays.give import give
from ..arrays.take import view
from ..call.backward import Operands, Parameter, give_like, go_backward, run_backward
from ..call.choose import engine_of
from ..call.known import normalized
from ..call.run import Prepared
from ..call.running import Running
from ..norms.channels import Shape
from ..norms.running import take_running
from .norm import Form, Rule

Pair = tuple[Any, Any]


@torch.no_grad()
def forward(
    x: Any,
    weight: Any,
    bias: Any,
    form: Form,
    rule: Rule,
    stored: Pair | None = None,
    running: tuple[Any, Any, float] | None = None,
    keep: bool = False,
    out: Any = None,
) -> tuple[Any, Any, Any]:
    """The output, and if `keep` mean and m2 of every group as tensors; running statistics are moved."""
    if out is None and not x.is_contiguous():
        out = torch.empty_like(x)
    settings = form.layout, int(rule.center), rule.ddof, int(rule.eps_on_std), form.channels
    operands = x, _along(weight, form), _along(bias, form), rule.eps, out
    if stored is not None:
        return normalized(*operands, _by_stored, settings, (*stored, 0.1, None)), None, None
    moved = None if running is None else (*running, None)
    if not keep:
        return normalized(*operands, _own, settings, moved), None, None
    made, (mean, m2) = normalized(*operands, _own, settings, moved, keep=_mean_and_m2)
    return made, mean, m2


@torch.no_grad()
def backward(
    grad: Any,
    x: Any,
    weight: Any,
    form: Form,
    rule: Rule,
    stored: Pair | None = None,
    states: Pair | None = None,
) -> tuple[Any, Any, Any]:
    """Gradients of x, weight, and a bias of the weight's shape; None for these without a weight."""
    values, scale = view(x), _along(weight, form)
    taken = Operands(view(grad), values, "torch")
    scale = None if scale is None else view(scale)
    ours = Prepared(form.layout, scale, None, None, rule.center, rule.ddof, rule.eps_on_std)
    if states is not None:
        mean, m2 = map(view, states)
        count = engine_of(mean).pointwise("full", 1, mean, float(values.size // max(1, mean.size)))[0]
        dx, *more = run_backward(taken, ours, (count, mean, m2), rule.eps)
    else:
        given = None if stored is None else (None, *map(view, stored))
        dx, *more = go_backward(taken, ours, given, rule.eps, stored is None)
    dx = give(dx, "torch")
    if weight is None:
        return dx, None, None
    parameter = Parameter(view(weight), "torch")
    return dx, *(give_like(one, parameter) for one in more)


def _mean_and_m2(count: Any, mean: Any, m2: Any) -> Pair:
    """States as tensors, which are of this call alone."""
    return give(mean, "torch"), give(m2, "torch")


def _own(x: Any, weight: Any, bias: Any, *settings: Any) -> Prepared:
    """By the statistics of x, towards which running ones move if there are any."""
    running = None
    if len(settings) > 5:
        running, settings = settings[0], settings[1:]
        running = take_running(x, running, Shape.of(x.shape, settings[-1]), update=True)
    layout, center, ddof, eps_on_std, _ = settings
    return Prepared(layout, weight, bias, running, bool(center), ddof, bool(eps_on_std))


def _by_stored(x: Any, weight: Any, bias: Any, stored: Any, *settings: Any) -> Prepared:
    """By given mean and variance."""
    return _own(x, weight, bias, *settings)._replace(running=Running(view(stored[0]), view(stored[1]), None, False))


def _along(parameter: Any, form: Form) -> Any:
    """Weight or bias, in a shape that broadcasts."""
    return parameter if parameter is None or form.along is None else parameter.reshape(form.along)
