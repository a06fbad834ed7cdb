"""The engine for arrays on the host: `engine.interface.Engine`, on kernels that Numba compiles."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ..arrays import huge
from ..arrays.forms import kind
from ..arrays.memory import Shape
from ..engine.compiler import is_plain, require_compiler
from ..engine.interface import Frame, Kinds, Operation, Plan, Repeat
from ..layout import Layout, Segments
from ..walk.nest import build, stretched
from ..walk.slots import OPERANDS, PARTIAL_STATES, STATES
from .forks import imported_once
from .threads import get_num_threads

if TYPE_CHECKING:  # planning is imported with the first call, as Numba is
    from .plan import Step
    from .tuning import Tuning

HostArray = NDArray[Any]
_may_share = getattr(np.may_share_memory, "__wrapped__", np.may_share_memory)  # without a look for other libraries


class HostEngine:
    """Runs plans on the processors, by a table of thresholds: `tuning.TUNING` if none is handed over."""

    def __init__(self, tuning: Tuning | None = None) -> None:
        self.tuning = tuning

    def plan(self, operation: Operation, layout: Layout | None, frame: Frame) -> Plan:
        """Plan an operation: see `Engine.plan`."""
        if operation == "merge":
            return _merge(frame.part_mean.shape, frame.part_rest is not None)  # type: ignore[union-attr]
        if operation == "update_running":
            mean, var = frame.running_mean, frame.running_var
            return _update(mean.size, mean.dtype, mean.strides[0], var.dtype, var.strides[0])  # type: ignore[union-attr]
        x, out, weight, bias = frame[:4]
        operands = (
            (x.dtype, x.shape, x.strides),  # type: ignore[union-attr]
            None if out is None else (out.dtype, out.shape, out.strides),
            None if weight is None else (weight.dtype, weight.shape, weight.strides),
            None if bias is None else (bias.dtype, bias.shape, bias.strides),
        )
        given = (frame.mean.dtype, frame.m2.dtype) if operation == "apply" else ()  # type: ignore[union-attr]
        if isinstance(layout, Segments):
            made = _segments().plan(operation, layout, operands, out is x, given, get_num_threads(), self.tuning)
            return made._replace(steps=_compiled(made.steps))
        threads = get_num_threads() if operation == "normalize" else 1
        return _plan(operation, layout, operands, out is x, given, threads, self.tuning)

    def launch(self, step: Step, frame: Frame) -> None:
        """Run a step: small work in this thread, larger work on several."""
        if step.serial:
            _launcher().serial()(step.address, 0, step.tasks, step.table, frame)
        else:
            _launcher().launch(step.address, step.tasks, get_num_threads(), step.table, frame)

    def bind(self, plan: Plan, frame: Frame, out_given: bool, keep: bool = False) -> Repeat | None:
        """Make a call repeatable: see `Engine.bind`."""
        by_given = frame.mean is not None
        if by_given and (frame.mean is not frame.running_mean or frame.m2 is not frame.running_var):
            return None  # copies of running statistics, or statistics of the caller's
        updates, groups, new = not by_given and frame.running_mean is not None, plan.group_shape, np.empty
        first, *others = steps = [(step.serial, step.address, step.tasks, step.table) for step in plan.steps]
        serial, alone, number, schedule = first
        threads = get_num_threads() if others or not serial else 0
        run, launch = _launcher().serial(), _launcher().launch
        (empty, shape, dtype), (center, ddof, on_std) = output_of(frame), (frame.center, frame.ddof, frame.eps_on_std)
        _, parts, board = plan.scratch or (0, 0, None)
        kept = updates or keep
        states = kept or plan.scratch is not None

        def run_alone(x, out, weight, bias, mean, var, eps, _):  # type: ignore[no-untyped-def]
            if out is None:
                out = empty(shape or x, dtype)
            elif not _may_write(out, x, weight, bias, mean, var):
                return None
            # fmt: off
            slots = (  # a frame by position, for speed
                x, out, weight, bias, None, mean, var, None, None, None, None, None, None,
                None, None, None, eps, center, 0.0, ddof, on_std,
            )
            # fmt: on
            run(alone, 0, number, schedule, slots)
            return out, None

        def repeat(x, out, weight, bias, mean, var, eps, _):  # type: ignore[no-untyped-def]
            if threads and get_num_threads() != threads:
                return None  # for other threads there is another plan
            if out is None:
                out = empty(shape or x, dtype)
            elif not _may_write(out, x, weight, bias, mean, var):
                return None
            count = part_count = part_mean = part_m2 = filled = running_mean = running_var = None
            if updates:
                if not _may_update(mean, var, x):
                    return None
                running_mean, running_var = mean, var
            if states:
                count, mean, var = new(groups), new(groups), new(groups)
            if parts:
                part_count, part_mean, part_m2 = new(parts), new(parts), new(parts)
                filled = None if board is None else board.copy()
            # fmt: off
            slots = (
                x, out, weight, bias, count, mean, var, None, part_count, part_mean, part_m2, None, filled,
                running_mean, running_var, None, eps, center, 0.0, ddof, on_std,
            )
            # fmt: on
            for serial, address, tasks, table in steps:
                if serial:
                    run(address, 0, tasks, table, slots)
                else:
                    launch(address, tasks, threads, table, slots)
            return out, Frame._make(slots) if kept else None

        return repeat if threads or states else run_alone  # which takes a twentieth less of the shortest call

    def empty(self, like: Any, shape: Shape, dtype: Any = np.float64, strides: Shape | None = None) -> HostArray:
        """A new array: see `Engine.empty`."""
        return np.empty(shape, dtype) if strides is None else np.ndarray(shape, dtype, strides=strides)

    def scratch(self, like: Any, plan: Plan) -> Mapping[str, HostArray]:
        """What steps hand to each other: states of groups and of their parts, and the board of a team."""
        states, parts, board = plan.scratch
        made = {name: np.empty(states) for name in STATES[:3]} if states else {}
        made |= {name: np.empty(parts) for name in PARTIAL_STATES[:3]}  # their means are distances, of one part
        return made if board is None else made | {"board": board.copy()}

    def pointwise(self, formula: str, outputs: int, *arrays: Any, dtype: Any = np.float64) -> tuple[HostArray, ...]:
        """Apply a formula, by NumPy's operators on whole arrays: see `Engine.pointwise`."""
        wide, shapes = [], set()
        for a in arrays:
            if isinstance(a, float):
                wide.append(a)
            else:
                wide.append(a.astype(np.float64, copy=False))
                shapes.add(a.shape)
        shape = shapes.pop() if len(shapes) == 1 else np.broadcast_shapes(*shapes)
        if shape == ():  # NumPy's operators make numbers of arrays without axes, and `where` tells numbers from arrays
            wide = [a if isinstance(a, float) else a.reshape(1) for a in wide]
        with np.errstate(all="ignore"):
            results = getattr(_formulas(), formula)(*wide)
            return tuple(_filled(result, shape).astype(dtype, copy=False) for result in results)

    def matvec(self, matrix: Any, vector: Any) -> Any:
        """A matrix times a vector, by the BLAS in float32 or float64; the result in float64."""
        wide = matrix.dtype.kind in "iub" or matrix.dtype.itemsize == 8
        with np.errstate(all="ignore"):
            given = matrix.astype(np.float64 if wide else np.float32, copy=False)
            result = (given @ vector.astype(given.dtype, copy=False)).astype(np.float64, copy=False)
            if not wide and not np.isfinite(result).all():  # sums that float32 does not hold
                result = matrix.astype(np.float64) @ vector
        return result

    def mean_of_rows(self, table: Any) -> Any:
        """Mean over the first of two axes."""
        with np.errstate(all="ignore"):
            return table.sum(axis=0) / len(table)

    def peek(self, array: Any) -> HostArray:
        """The array itself: its values are at hand."""
        return np.asarray(array)

    def send(self, array: Any, like: Any) -> Any:
        """The array itself."""
        return array


def on_addresses(plan: Plan, frame: Frame) -> Callable[..., None] | None:
    """What repeats a plan of one step of one thread: run(x, out, weight, bias, count, mean, m2, eps).

    Each is an ndarray, or has its address where an ndarray has it, or is None. All else is as in the frame.
    """
    if len(plan.steps) != 1 or not plan.steps[0].serial:
        return None
    (step,), call = plan.steps, _launcher().serial()
    address, tasks, table = step.address, step.tasks, step.table
    center, ddof, on_std = frame.center, frame.ddof, frame.eps_on_std
    none = (None,) * (len(Frame._fields) - 12)

    def run(x, out, weight, bias, count, mean, m2, eps):  # type: ignore[no-untyped-def]
        slots = (x, out, weight, bias, count, mean, m2, *none, eps, center, 0.0, ddof, on_std)
        call(address, 0, tasks, table, slots)

    return run


ENGINE = HostEngine()


@lru_cache(maxsize=4096)
def _plan(
    operation: str, layout: Layout, operands: Any, in_place: bool, given: Any, threads: int, tuning: Tuning | None
) -> Plan:
    steps = _planning()
    tuning = tuning or steps.TUNING
    shape = operands[0][1]
    kinds = Kinds(*("none" if operand is None else kind(operand[0]) for operand in operands))
    grouping = layout.resolve(shape)
    strides = [
        operand and stretched(name, shape, *operand[1:]) for name, operand in zip(OPERANDS, operands, strict=True)
    ]
    itemsize = operands[1][0].itemsize if operands[1] else 0
    if 0 in shape:
        return Plan((), grouping.group_shape)
    nest = build(grouping, strides)
    if operation == "normalize":
        made = steps.normalize(nest, kinds, itemsize, in_place, threads, tuning)
    elif operation == "apply":
        kinds = kinds._replace(mean=kind(given[0]), m2=kind(given[1]))
        made = steps.apply(nest, kinds, itemsize, in_place, tuning)
    elif operation == "moments":
        made = steps.moments(nest, kinds, operands[0][0].itemsize, tuning)
    else:
        raise ValueError(f"operation {operation!r} is not offered; see engine.interface.Operation")
    return Plan(_compiled(made[0]), grouping.group_shape, made[1])


@lru_cache(maxsize=256)
def _merge(shape: Shape, in_two: bool) -> Plan:
    *kept, parts = shape
    groups = int(np.prod(kept, dtype=np.int64))
    return Plan(_compiled(_planning().merge(groups, parts, in_two)[0]) if groups else (), tuple(kept))


@lru_cache(maxsize=256)
def _update(size: int, of_mean: np.dtype, mean_step: int, of_var: np.dtype, var_step: int) -> Plan:
    kinds = Kinds(running_mean=kind(of_mean), running_var=kind(of_var))
    return Plan(_compiled(_planning().update_running(size, kinds, mean_step, var_step)[0]), (size,))


def _compiled(planned: tuple[Step, ...]) -> tuple[Step, ...]:
    """Steps with the addresses of their kernels."""
    return tuple(step._replace(address=_launcher().address_of(step.variant)) for step in planned)


def output_of(frame: Frame) -> tuple[Callable[..., HostArray], Shape | None, np.dtype]:
    """How to make an output as `give.result_like` does, for one description: empty(shape or x, dtype)."""
    x, out = cast(HostArray, frame.x), cast(HostArray, frame.out)
    if make := huge.maker(x.shape, out.dtype, out.strides):
        return make, x.shape, out.dtype
    contiguous = x.flags.c_contiguous and x.ndim > 0
    return np.empty if contiguous else np.empty_like, x.shape if contiguous else None, out.dtype


def _may_write(out: Any, x: Any, weight: Any, bias: Any, mean: Any, var: Any) -> bool:
    """Whether an output may be written, by a quick look."""
    return (
        out.flags.writeable
        and (out is x or not _may_share(out, x))
        and (weight is None or not _may_share(out, weight))
        and (bias is None or not _may_share(out, bias))
        and (mean is None or not (_may_share(out, mean) or _may_share(out, var)))
    )


def _may_update(mean: Any, var: Any, x: Any) -> bool:
    """Whether running statistics may be written, by a quick look."""
    if not (mean.flags.writeable and var.flags.writeable):
        return False
    return not (_may_share(mean, x) or _may_share(var, x) or _may_share(mean, var))


def _filled(result: Any, shape: Shape) -> NDArray[np.float64]:
    """A result of a formula at its full shape, where it may be one number, or depend on some arguments only."""
    if isinstance(result, np.ndarray) and result.shape == shape and result.flags.c_contiguous:
        return result
    filled = np.empty(shape)
    filled[...] = result
    return filled


@cache
def _planning() -> Any:
    """The module that plans steps."""
    from . import plan

    return plan


@cache
def _segments() -> Any:
    """The module that plans steps over rows of different lengths."""
    from . import segments

    return segments


@imported_once
def _launcher() -> Any:
    """The launcher's module."""
    from . import launcher

    return launcher


@imported_once
def _formulas() -> Any:
    """The module of the coefficients; without Numba, if that is not there yet and was told nothing."""
    if "numba" not in sys.modules and is_plain():
        from .formulas import coefficients

        with suppress(ImportError):
            return coefficients()
    require_compiler()
    from ..maths import coefficients as compiled

    return compiled
