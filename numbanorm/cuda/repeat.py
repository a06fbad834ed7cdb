"""Calls that passed all checks before: the same launches again, at other addresses."""

from typing import Any

from ..arrays import give
from ..arrays.libraries import LIBRARIES
from ..arrays.memory import DeviceArray, Shape, reach
from ..engine.interface import Frame, Plan, Repeat
from . import launcher

X, OUT, MEAN, VAR = 0, 1, 4, 5  # of x, out, weight, bias, running mean and variance
NONE = [0, 0, 0, 0]  # addresses of states that are not there


def bound(plan: Plan, frame: Frame, out_given: bool) -> Repeat:
    """Make a call repeatable, whose given statistics, if there are any, are the running ones: see `Engine.bind`."""
    given, updates = frame.mean is not None, frame.mean is None and frame.running_mean is not None
    arrays: list[Any] = [*frame[:4], frame.running_mean, frame.running_var]
    reaches = [(0, 0) if a is None else reach(a.shape, a.strides, a.itemsize) for a in arrays]
    apart_in_place = [(X, MEAN), (X, VAR), (MEAN, VAR)] if updates else []
    if out_given:
        apart_in_place += [(i, OUT) for i, array in enumerate(arrays) if array is not None and i not in (X, OUT)]
    apart = [*apart_in_place, (X, OUT)] if out_given else apart_in_place
    # Of any call of this description, but for addresses, streams and owners.
    form, new, running_mean, running_var = (
        a and a.at(0, 0, None) for a in map(arrays.__getitem__, (X, OUT, MEAN, VAR))
    )
    library, device, steps = LIBRARIES[form.library], form.device, plan.steps
    numbers: dict[str, Any] = {"center": frame.center, "ddof": frame.ddof, "eps_on_std": frame.eps_on_std}
    # New memory is aligned to 256 bytes and more, as it was when the call was planned.
    make = library.maker(new.shape, new.dtype, new.strides)
    states, parts = plan.scratch or (0, 0)
    shape = plan.group_shape if updates else (states,) if states else None

    def repeat(x, out, weight, bias, mean, var, eps, addresses):  # type: ignore[no-untyped-def]
        for i, j in apart_in_place if out is x else apart:
            (below, above), (before, after) = reaches[i], reaches[j]
            if addresses[i] - below < addresses[j] + after and addresses[j] - before < addresses[i] + above:
                return None
        at, to, of_weight, of_bias, of_mean, of_var = addresses
        like = form.at(at, library.stream(x, device), x)
        if out is None:
            out, to = make(like)
        own: Any = None
        groups: Any = (0, of_mean, of_var, 0) if given else NONE
        partial: Any = NONE
        if shape is not None:
            own = states_in_one(like, shape)
            groups = [*(array.pointer for array in own), 0]
        if parts:
            room = give.empty(like, (3, parts))
            partial = [*(room.pointer + i * 8 * parts for i in range(3)), 0]
        values = Frame(at, to, of_weight, of_bias, *groups, *partial, eps=eps, **numbers)  # type: ignore[misc]
        for step in steps:
            launcher.launch(step, device, like.stream, values)
        if not updates:
            return out, None
        count, mean_of_x, m2 = own
        moved = running_mean.at(of_mean, like.stream, mean), running_var.at(of_var, like.stream, var)
        return out, Frame(like, None, None, None, count, mean_of_x, m2, None, None, None, None, None, None, *moved)

    return repeat


def states_in_one(like: DeviceArray, shape: Shape) -> tuple[DeviceArray, DeviceArray, DeviceArray]:
    """States to be written: all in one piece of memory, so they are not for callers."""
    whole = give.empty(like, (3, *shape))
    place = like.library, like.device, like.stream, whole.owner
    step, strides = whole.nbytes // 3, whole.strides[1:]
    count, mean, m2 = (DeviceArray(whole.pointer + i * step, shape, strides, whole.dtype, *place) for i in range(3))
    return count, mean, m2
