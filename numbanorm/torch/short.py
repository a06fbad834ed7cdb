"""Short calls on plain tensors, repeated: on their addresses, without the checks that a call like it passed before.

For a few thousand values, checks and arrays cost more than the work, and a call of torch's takes a few microseconds.
What a call looks like decides whether it is right: shapes and dtypes of tensors on the host that have no gaps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..arrays.torch import count_version
from ..call import short
from ..call.run import Prepared
from ..call.running import update_running
from ..engine.interface import Frame
from .kernels import array_of, parameter_of, total_of
from .norm import Form, Rule

PLAIN = frozenset({torch.Tensor, torch.nn.Parameter})
MOST = 4096  # calls that are known
_DTYPES = {torch.float32: np.float32, torch.float64: np.float64, torch.float16: np.float16, torch.bfloat16: np.int16}
_known: dict[Any, Call | None] = {}  # None: it is not short
_at = short.at
find = _known.get


def key_of(call: Any, x: Any, weight: Any, bias: Any, mean: Any, var: Any) -> Any:
    """What a call on plain tensors looks like; None if it is not to be known.

    That is where one is no plain tensor, lies elsewhere, has gaps, or stands for its own negative.
    """
    # Tensor by tensor: a loop over them takes a fifteenth of the shortest call.
    if type(x) not in PLAIN or not x.is_cpu or not x.is_contiguous() or x.is_neg():
        return None
    of_weight = of_bias = of_mean = of_var = None
    if weight is not None:
        if type(weight) not in PLAIN or not weight.is_cpu or not weight.is_contiguous() or weight.is_neg():
            return None
        of_weight = weight.shape, weight.dtype
    if bias is not None:
        if type(bias) not in PLAIN or not bias.is_cpu or not bias.is_contiguous() or bias.is_neg():
            return None
        of_bias = bias.shape, bias.dtype
    if mean is not None:
        for one in (mean, var):
            if type(one) not in PLAIN or not one.is_cpu or not one.is_contiguous() or one.is_neg():
                return None
        of_mean, of_var = (mean.shape, mean.dtype), (var.shape, var.dtype)
    return call, x.shape, x.dtype, of_weight, of_bias, of_mean, of_var


def remember(key: Any, x: Any, weight: Any, bias: Any, stored: Any, form: Form, rule: Rule) -> None:
    """Know a call from now on, if it is short: by stored statistics if there are any, else by those of x."""
    try:
        if key in _known or not short.usable() or x.dtype not in _DTYPES:
            return
    except TypeError:  # a list of sizes, say
        return
    weight, bias = (None if one is None else parameter_of(one.detach(), form.along) for one in (weight, bias))
    prepared = Prepared(form.layout, weight, bias, None, rule.center, rule.ddof, rule.eps_on_std)
    made = short.forward(array_of(x.detach()), prepared, None if stored is None else tuple(map(array_of, stored)))
    if len(_known) >= MOST:
        _known.clear()
    # What it keeps of the tensors are their shapes and dtypes, not their memory.
    bare = prepared._replace(weight=None, bias=None)
    _known[key] = None if made is None else Call(*made, x, bare, form, rule)


class FreedError(Exception):
    """A tensor has no memory: whoever looks closer says so."""


def _slot(tensor: Any) -> Any:
    """A tensor as kernels take it."""
    if tensor is None:
        return None
    if not (address := tensor.data_ptr()):
        raise FreedError
    return _at(address)


class Call:
    """What repeats a call, and its way back."""

    __slots__ = ("_back", "_dtype", "_groups", "_half", "_move", "_prepared", "_run", "_shape", "form", "rule")

    def __init__(self, run: Any, groups: Any, x: Any, prepared: Prepared, form: Form, rule: Rule) -> None:
        self._run, self._groups, self._prepared, self.form, self.rule = run, groups, prepared, form, rule
        self._shape, self._dtype, self._half = tuple(x.shape), _DTYPES[x.dtype], x.dtype == torch.bfloat16
        self._back: Any = None
        self._move: Any = None

    def run(self, x: Any, weight: Any, bias: Any, mean: Any, var: Any, eps: float) -> Any:
        """The output."""
        out = np.empty(self._shape, self._dtype)
        self._run(_slot(x), out, _slot(weight), _slot(bias), None, _slot(mean), _slot(var), eps)
        return self._tensor(out)

    def run_kept(self, x: Any, weight: Any, bias: Any, eps: float) -> tuple[Any, Any]:
        """The output, and count, mean and m2 of every group."""
        out, states = np.empty(self._shape, self._dtype), short.states(self._groups)
        self._run(_slot(x), out, _slot(weight), _slot(bias), *states, eps)
        return self._tensor(out), states

    def back(self, grad: Any, x: Any, weight: Any, bias: Any, states: Any, eps: float) -> Any:
        """Gradients of x, weight, and bias, of which shape and dtype are given; None if that is not short, too."""
        if self._back is None:
            self._back = self._way_back(grad, x, weight) or False
        if self._back is False or not grad.is_contiguous() or grad.is_neg():
            return None
        if bias is not None and (weight is None or weight.shape != bias[0]):
            return None
        dx = np.empty(self._shape, self._dtype)
        try:
            sums = self._back(_slot(x), dx, _slot(weight), _slot(grad), *states, eps)
        except FreedError:
            return None
        if weight is None:
            return self._tensor(dx), None, None
        dbias = None if bias is None else total_of(sums[1], *bias)
        return self._tensor(dx), total_of(sums[0], weight.shape, weight.dtype), dbias

    def move(self, running: tuple[Any, Any, float], states: Any) -> None:
        """Move running statistics towards those of the batch."""
        mean, var, share = running
        if len(self._groups) != 1:
            frame = Frame(count=states[0], mean=states[1], m2=states[2])
            update_running(frame._replace(running_mean=array_of(mean), running_var=array_of(var)), share, None)
        else:
            if self._move is None:
                self._move = short.moving(states[1], array_of(mean), array_of(var))
            self._move(*states, _slot(mean), _slot(var), share)
        count_version()(mean)
        count_version()(var)

    def _way_back(self, grad: Any, x: Any, weight: Any) -> Any:
        return short.backward(
            array_of(x), parameter_of(weight, self.form.along), array_of(grad.contiguous()), self._prepared, True
        )

    def _tensor(self, array: Any) -> Any:
        made = torch.from_numpy(array)
        return made.view(torch.bfloat16) if self._half else made
