"""Calls that were made before: arrays of a known description need no second check.

Whether a call is right, and how it runs, depends on its settings and on the shapes, strides and dtypes of its arrays.
A norm that has passed all checks leaves its plan here under that description. The next such call, as in training from
batch to batch, only allocates its output, unless it is given one, and runs.
"""

from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from . import engine
from .arrays import result_dtype
from .engine import HostArray, Plan, States, Stored

MOST = 4096  # descriptions that are kept

Description = tuple[Any, ...]


class Call(NamedTuple):
    """How a known call runs."""

    plan: Plan
    center: bool
    dtype: np.dtype | None  # of the result, where it is not x's own
    run: Any  # the compiled kernel that does it all, where one thread and one pass do; with its tasks and its table
    tasks: int
    table: HostArray


_known: dict[Description, Call] = {}


def describe(x: Any, weight: Any, bias: Any, out: Any, *settings: Any) -> Description | None:
    """What decides how a call runs; None if an argument is anything but an ndarray (or no weight, bias or out).

    Numbers among the settings come with their types: 2.0 is no number of groups, though it equals 2.
    """
    if type(x) is not np.ndarray:
        return None
    of_weight = of_bias = of_out = None
    if weight is not None:
        if type(weight) is not np.ndarray:
            return None
        of_weight = weight.shape, weight.strides, weight.dtype
    if bias is not None:
        if type(bias) is not np.ndarray:
            return None
        of_bias = bias.shape, bias.strides, bias.dtype
    if out is not None:
        if type(out) is not np.ndarray:
            return None
        of_out = out is x, out.shape, out.strides, out.dtype
    return settings, x.shape, x.strides, x.dtype, of_weight, of_bias, of_out


def find(description: Description | None, eps: Any, out: Any, x: Any, *others: Any) -> Call | None:
    """The known call of this description; None if there is none, or if eps, or the memory of `out`, wants a check."""
    if type(eps) is not float or not eps >= 0:
        return None
    try:
        call = _known.get(description)  # type: ignore[arg-type]
    except TypeError:  # a setting that cannot be hashed, such as a list: wrong, or too rare to be remembered
        return None
    if call is None or out is None:
        return call
    if not out.flags.writeable or (out is not x and np.may_share_memory(out, x)):
        return None
    for other in others:
        if other is not None and np.may_share_memory(out, other):
            return None
    return call


def remember(description: Description, plan: Plan, x: HostArray, center: bool, states: Stored | None) -> None:
    """Keep a call that passed all checks, made with x's own states or with given ones."""
    if x.size == 0:
        return
    if len(_known) >= MOST:
        _known.clear()
    dtype, chosen, table = result_dtype(x.dtype), plan.schedule, plan.table
    if states is not None:
        chosen, table = plan.stored, plan.stored_table
    run = engine.compiled(plan, states) if chosen.serial else None
    own_dtype = None if dtype == x.dtype else dtype
    with suppress(TypeError):  # as in `find`
        _known[description] = Call(plan, center, own_dtype, run, chosen.tasks, table)


def repeat(
    call: Call,
    x: HostArray,
    weight: HostArray | None,
    bias: HostArray | None,
    eps: float,
    out: HostArray | None,
    *,
    states: Stored | None = None,
    keep: bool = False,
) -> tuple[HostArray, States | None]:
    """Make a known call, as `engine.normalize` does: (result, states of x's own groups if `keep`)."""
    if out is None:
        out = np.empty_like(x, call.dtype)
    if call.run is None:
        return out, engine.execute(call.plan, x, out, weight, bias, eps, center=call.center, states=states, keep=keep)
    own = engine.new_states(call.plan.group_shape) if keep else None
    call.run(0, call.tasks, call.table, x, out, weight, bias, eps, call.center, *(states or own or engine.NO_STATES))
    return out, own
