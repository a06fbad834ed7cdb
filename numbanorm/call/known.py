"""Calls that were made before: arrays of a known description need no second check.

Whether a call is right, and how it runs, depends on its settings and on the shapes, strides and dtypes of its arrays;
on a GPU on their library and the alignment of their addresses, too. A norm that has passed all checks leaves its plan
here under that description. The next such call, as in training from batch to batch, only allocates its output, unless
it is given one, and runs.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from ..arrays.memory import Array, DeviceArray
from ..arrays.take import result_dtype
from ..cpu import engine
from ..cpu.engine import HostArray, Plan, States, Stored
from ..cuda import known as device_calls
from ..cuda.known import Bound
from ..layout import Layout

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


Known = Call | Bound

_known: dict[Description, Call | device_calls.Call] = {}


def describe(
    x: Any, weight: Any, bias: Any, out: Any, *settings: Any, stored: Description | None = None
) -> Description | None:
    """What decides how a call runs; `stored` describes its running statistics.

    None if not all arguments are ndarrays, or all arrays on a GPU (or no weight, bias or out). Numbers among the
    settings come with their types: 2.0 is no number of groups, though it equals 2.
    """
    if type(x) is not np.ndarray:
        return device_calls.describe((x, weight, bias, out), settings, stored)
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
    return settings, stored, x.shape, x.strides, x.dtype, of_weight, of_bias, of_out


def find(description: Description | None, eps: Any, out: Any, x: Any, *others: Any) -> Known | None:
    """The known call of this description; None if there is none, or if eps, or the memory of `out`, wants a check."""
    if type(eps) is not float or not eps >= 0:
        return None
    try:
        call = _known.get(description)  # type: ignore[arg-type]
    except TypeError:  # a setting that cannot be hashed, such as a list: wrong, or too rare to be remembered
        return None
    if isinstance(call, device_calls.Call):
        return device_calls.bind(call, description)  # type: ignore[arg-type]
    if call is None or out is None:
        return call
    if not out.flags.writeable or (out is not x and np.may_share_memory(out, x)):
        return None
    for other in others:
        if other is not None and np.may_share_memory(out, other):
            return None
    return call


def remember(
    description: Description,
    layout: Layout,
    x: Array,
    out: Any,
    weight: Any,
    bias: Any,
    center: bool,
    states: Stored | None,
    apart: Iterable[Array],
) -> None:
    """Keep a call that passed all checks, made with x's own states or with given ones; `apart`: running statistics."""
    if x.size == 0:
        return
    if len(_known) >= MOST:
        _known.clear()
    call: Call | device_calls.Call | None
    if isinstance(x, DeviceArray):
        arrays = x, weight, bias, out
        call = device_calls.make(description, layout, arrays, center, states, apart)  # type: ignore[arg-type]
    else:
        call = _make(layout, x, out, weight, bias, center, states)
    if call is not None:
        with suppress(TypeError):  # as in `find`
            _known[tuple(description)] = call  # of one on a GPU, without its arrays


def _make(layout: Layout, x: Any, out: Any, weight: Any, bias: Any, center: bool, states: Stored | None) -> Call:
    plan, dtype = engine.plan(layout, x, out, weight, bias), result_dtype(x.dtype)
    chosen, table = plan.schedule, plan.table
    if states is not None:
        chosen, table = plan.stored, plan.stored_table
    run = engine.compiled(plan, states) if chosen.serial else None
    own_dtype = None if dtype == x.dtype else dtype
    return Call(plan, center, own_dtype, run, chosen.tasks, table)


def repeat(
    call: Known,
    x: Any,
    weight: Any,
    bias: Any,
    eps: float,
    out: Any,
    *,
    states: Stored | None = None,
    keep: bool = False,
) -> tuple[Any, States | None]:
    """Make a known call, as `engine.normalize` does: (result, states of x's own groups if `keep`)."""
    if isinstance(call, Bound):
        return device_calls.repeat(call, eps, keep)
    if out is None:
        out = np.empty_like(x, call.dtype)
    if call.run is None:
        return out, engine.execute(call.plan, x, out, weight, bias, eps, center=call.center, states=states, keep=keep)
    own = engine.new_states(call.plan.group_shape) if keep else None
    call.run(0, call.tasks, call.table, x, out, weight, bias, eps, call.center, *(states or own or engine.NO_STATES))
    return out, own
