"""Calls that were made before: arrays of a known description need no second check.

Whether a call is right, and how it runs, depends on its settings and on the shapes, strides and dtypes of its arrays.
A norm that has passed all checks leaves its plan here under that description. The next such call, as in training from
batch to batch, only allocates its output and runs.
"""

from typing import Any, NamedTuple

import numpy as np

from . import engine
from .arrays import result_dtype
from .engine import Array, Plan, States

MOST = 4096  # descriptions that are kept

Description = tuple[Any, ...]


class Call(NamedTuple):
    """How a known call runs."""

    plan: Plan
    center: bool
    run: Any  # the compiled kernel, where one thread does it all in one pass
    dtype: np.dtype | None  # of the result, where it is not x's own


_known: dict[Description, Call] = {}


def describe(x: Any, weight: Any, bias: Any, *settings: Any) -> Description | None:
    """What decides how a call runs; None if an argument is anything but an ndarray (or no weight, no bias).

    Numbers among the settings come with their types: 2.0 is no number of groups, though it equals 2.
    """
    if type(x) is not np.ndarray:
        return None
    of_weight = of_bias = None
    if weight is not None:
        if type(weight) is not np.ndarray:
            return None
        of_weight = weight.shape, weight.strides, weight.dtype
    if bias is not None:
        if type(bias) is not np.ndarray:
            return None
        of_bias = bias.shape, bias.strides, bias.dtype
    return settings, x.shape, x.strides, x.dtype, of_weight, of_bias


def find(description: Description | None, eps: Any) -> Call | None:
    """The known call of this description; None if there is none, or eps wants a check."""
    return _known.get(description) if type(eps) is float and eps >= 0 else None  # type: ignore[arg-type]


def remember(description: Description, plan: Plan, x: Array, center: bool) -> None:
    """Keep a call that passed all checks."""
    if x.size == 0:
        return
    if len(_known) >= MOST:
        _known.clear()
    chosen, dtype = plan.schedule, result_dtype(x.dtype)
    run = engine.compiled(plan, "normalize") if chosen.serial else None
    _known[description] = Call(plan, center, run, None if dtype == x.dtype else dtype)


def repeat(
    call: Call,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    eps: float,
    *,
    states: States | None = None,
    keep: bool = False,
) -> tuple[Array, States | None]:
    """Make a known call, as `engine.normalize` does: (result, states of the groups if `keep`)."""
    out = np.empty_like(x, call.dtype)
    plan = call.plan
    if states is None and not keep and call.run is not None:
        call.run(0, plan.schedule.tasks, plan.table, x, out, weight, bias, eps, call.center, None, None, None)
        return out, None
    return out, engine.execute(plan, x, out, weight, bias, eps, center=call.center, states=states, keep=keep)
