"""One call that was not made before: its arguments are checked, then it is planned and run.

What is the same on the host and on a GPU stands here, once: the order of steps, empty arrays, the merge of states and
the move of running statistics.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..arrays.forms import float_dtype, result_dtype
from ..arrays.give import give, result_like
from ..arrays.memory import Array, check_same_device, contiguous, same_memory
from ..arrays.ragged import is_ragged, together
from ..arrays.take import take, take_out, written
from ..engine.interface import Engine, Frame, Operation, Plan, Repeat, execute
from ..layout import Layout, Segments
from ..walk.slots import PARTIAL_STATES, STATES
from .arguments import check_eps, operand
from .choose import engine_of
from .ragged import rows_of
from .running import Running, update_running

States = tuple[Any, Any, Any]  # count, mean, m2 in float64
InTwo = tuple[Any, Any, Any, Any]  # the same, and what rounding took from the mean
Statistics = tuple[Any | None, Any, Any]  # the first three of any float type; or no count, and mean and variance

STATISTICS = ("moments.count", "moments.mean", "moments.m2")


class Prepared(NamedTuple):
    """What a norm makes of its arguments once it has checked them."""

    layout: Layout
    weight: Any = None  # in a shape that broadcasts against x
    bias: Any = None
    running: Running | None = None
    center: bool = True  # False: about zero, as in RMS norm
    ddof: int = 0  # taken from the count
    eps_on_std: bool = False  # whether eps is added to the deviation


def transform(
    x: Any,
    layout: Layout,
    weight: Any = None,
    bias: Any = None,
    *,
    eps: Any,
    out: Any = None,
    dtype: Any = None,
    center: bool = True,
    ddof: int = 0,
    eps_on_std: bool = False,
    statistics: Statistics | None = None,
    running: Running | None = None,
    keep: bool = False,
    repeatable: bool = False,
) -> tuple[Any, States | None, Repeat | None]:
    """Check every argument, then run: the output, the states of the groups if `keep`, and what repeats the call.

    Parameters
    ----------
    x, layout, weight, bias, eps, out, dtype, ddof
        As in `numbanorm.normalize`.
    center : bool
        False: about zero.
    eps_on_std : bool
        Add eps to the deviation.
    statistics : tuple, optional
        Count, mean and m2 to use in place of x's own; or no count, and mean and variance.
    running : Running, optional
        Running statistics, to be updated, or to be used in place of x's own.
    keep : bool
        Return the states of x's groups.
    repeatable : bool
        Make what repeats the call for other arrays, if that can be: see `Engine.bind`.
    """
    if isinstance(layout, Segments) and is_ragged(x):
        operands = (rows_of(layout, a, of) for a, of in ((x, "x"), (weight, "weight"), (bias, "bias")))
        given = {"eps": eps, "dtype": dtype, "center": center, "ddof": ddof, "eps_on_std": eps_on_std, "keep": keep}
        target = rows_of(layout, out, "out")
        result, states, _ = transform(next(operands), layout, *operands, out=target, statistics=statistics, **given)
        return (together(result, x) if out is None else out), states, None
    array, library = take(x)
    engine, eps = engine_of(array), check_eps(eps)
    weight, bias = operand(engine, weight, "weight", array), operand(engine, bias, "bias", array)
    updates = running is not None and running.updated and array.size > 0
    if ddof:
        check_ddof(ddof, layout, array)
    if running is not None and not running.updated and statistics is None:
        if keep:
            raise ValueError(
                "return_moments=True gives x's own statistics, but stored ones are used here; leave it out"
            )
        statistics = None, packed(engine, running.mean), packed(engine, running.var)
    others = {"weight": weight, "bias": bias, **({} if running is None else running.arrays)}
    if statistics is not None:
        others |= dict(zip(STATISTICS, statistics, strict=True))
    check_same_device(array, others)
    target = result_target(out, array, dtype, others)
    numbers = {"eps": eps, "center": int(center), "ddof": ddof, "eps_on_std": int(eps_on_std)}
    frame = Frame(array, target, weight, bias, **numbers)
    if statistics is not None:
        frame = frame._replace(count=statistics[0], mean=statistics[1], m2=statistics[2])
    if running is not None:
        frame = frame._replace(running_mean=running.mean, running_var=running.var)
    operation: Operation = "normalize" if statistics is None else "apply"
    plan = engine.plan(operation, layout, frame)
    written(out, *(running.owners if updates else ()))  # type: ignore[union-attr]
    states = _run(engine, plan, frame, keep=statistics is None and (keep or updates))
    if updates:
        count, mean, m2 = states or statistics  # type: ignore[misc]
        moved = frame._replace(count=count, mean=mean, m2=m2)
        update_running(moved, running.momentum, running.counter)  # type: ignore[union-attr]
    repeat = engine.bind(plan, frame, out is not None, keep) if repeatable and plan.steps else None
    return (give(target, library, x) if out is None else out), states, repeat


def check_ddof(ddof: int, layout: Layout, x: Array) -> None:
    """Refuse groups without more than `ddof` values: they have no such variance. Of segments, some may have: NaN."""
    if ddof < 0:
        raise ValueError(f"ddof must not be negative, got {ddof}; 0 and 1 are usual")
    if isinstance(layout, Segments):
        return
    size = layout.resolve(x.shape).group_size
    if x.size and size <= ddof:
        raise ValueError(f"ddof={ddof} needs groups of more than {ddof} values, but those of x have {size}")


def result_target(out: Any, x: Array, dtype: Any, others: Mapping[str, Array | None]) -> Any:
    """Where to write: a new array, or the caller's own once it is checked."""
    wanted = None if dtype is None else float_dtype(dtype)
    if out is None:
        return result_like(x, wanted or result_dtype(x.dtype))
    target = take_out(out, x, wanted, others)
    return x if same_memory(target, x) else target


def _run(engine: Engine, plan: Plan, frame: Frame, keep: bool) -> States | None:
    """Execute a plan on a frame that was checked; give the states of x's own groups if `keep`."""
    if not keep:
        execute(engine, plan, frame)
        return None
    count, mean, m2 = _run_for_states(engine, plan, frame, frame.x, 3)
    return count, mean, m2


def _run_for_states(engine: Engine, plan: Plan, frame: Frame, like: Any, number: int) -> tuple[Any, ...]:
    """Execute a plan; give the first `number` states of all groups. Without elements they are as they are then."""
    states = tuple([engine.empty(like, plan.group_shape) for _ in range(number)])
    if not plan.steps:
        return tuple([full(engine, state, _OF_NOTHING[slot]) for slot, state in zip(STATES, states, strict=False)])
    execute(engine, plan, frame._replace(**dict(zip(STATES, states, strict=False))))
    return states


_OF_NOTHING = {"count": 0.0, "mean": float("nan"), "m2": 0.0, "rest": 0.0}


# states ---------------------------------------------------------------------------------------------------------------


def moments(engine: Engine, layout: Layout, x: Array, center: bool = True) -> InTwo:
    """Count, mean, m2, and what rounding took from the mean, of every group; about zero where `center` is False."""
    frame = Frame(x, center=int(center))
    states: Any = _run_for_states(engine, engine.plan("moments", layout, frame), frame, x, 4)
    return states


def merge_last(engine: Engine, states: tuple[Any, ...]) -> tuple[Any, ...]:
    """Merge states along their last axis, in order: three, or four if their means are in two parts."""
    frame = Frame(**{slot: packed(engine, state) for slot, state in zip(PARTIAL_STATES, states, strict=False)})
    return _run_for_states(engine, engine.plan("merge", None, frame), frame, states[0], len(states))


def full(engine: Engine, like: Array, value: float) -> Any:
    """An array of one number, in float64, of the shape and place of another."""
    return engine.pointwise("full", 1, like, value)[0]


def packed(engine: Engine, array: Array) -> Any:
    """Statistics as kernels read them: the array itself, or a copy without gaps."""
    if contiguous(array) and array.dtype.kind not in "iub":
        return array
    return engine.pointwise("to_float64", 1, array)[0]


def to_float64(engine: Engine, array: Array) -> Any:
    """The array itself if it is in float64, or a copy that is."""
    return array if array.dtype == "f8" else engine.pointwise("to_float64", 1, array)[0]
