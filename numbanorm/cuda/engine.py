"""The engine for arrays on NVIDIA GPUs: `engine.interface.Engine`, on CUDA kernels.

All work is put on the caller's stream, and nothing waits for it.
"""

from collections.abc import Mapping
from functools import cache, lru_cache
from math import nan, prod
from typing import Any

import numpy as np

from ..arrays import give
from ..arrays.forms import kind
from ..arrays.memory import DeviceArray, Shape
from ..engine.interface import Frame, Operation, Plan, Repeat, execute
from ..layout import Layout, Segments
from ..maths import coefficients
from ..walk.nest import build, stretched
from ..walk.slots import OPERANDS, PARTIAL_STATES, SLOTS, STATES
from . import launcher
from . import plan as planning
from .kernels.constants import MOST, OUTPUTS, VECTOR_BYTES
from .kernels.scalars import CODES, KIND_CODES
from .repeat import bound, states_in_one


def refuse_segments(layout: Any) -> None:
    """Segments have no kernels for GPUs.

    Raises
    ------
    TypeError
        If a layout is one of segments.
    """
    if isinstance(layout, Segments):
        raise TypeError("segments work on the host so far, but x lies on a GPU; copy x to the host first")


class CudaEngine:
    """Runs plans on GPUs, each where its arrays lie."""

    def plan(self, operation: Operation, layout: Layout | None, frame: Frame) -> Plan:
        """Plan an operation: see `Engine.plan`."""
        if operation == "merge":
            return _merge(frame.part_mean.shape, frame.part_rest is not None)  # type: ignore[union-attr]
        if operation == "update_running":
            return _update_of(frame.running_mean, frame.running_var, frame.num_batches_tracked)
        refuse_segments(layout)
        operands = tuple([a and described(a, name) for a, name in zip(frame[:4], OPERANDS, strict=True)])
        given = _kinds(frame.mean, frame.m2) if operation == "apply" else 0
        return _plan(operation, layout, operands, given)

    def launch(self, step: planning.Step, frame: Frame) -> None:
        """Queue a step, on the stream of x, or of what stands for it."""
        like: Any = frame.x or frame.part_count or frame.running_mean
        addresses = [_address(array) for array in frame[: len(SLOTS)]]
        numbers = float(frame.eps), int(frame.center), float(frame.momentum), int(frame.ddof), int(frame.eps_on_std)
        launcher.launch(step, like.device, like.stream, (*addresses, *numbers))

    def bind(self, plan: Plan, frame: Frame, out_given: bool, keep: bool = False) -> Repeat | None:
        """Make a call repeatable: see `Engine.bind`."""
        if keep:
            return None
        if frame.mean is not None and (frame.mean is not frame.running_mean or frame.m2 is not frame.running_var):
            return None  # copies of running statistics, or statistics of the caller's
        return bound(plan, frame, out_given)

    def empty(self, like: Any, shape: Shape, dtype: Any = np.float64, strides: Shape | None = None) -> Any:
        """A new array: see `Engine.empty`."""
        return give.empty(like, shape, dtype, strides)

    def scratch(self, like: Any, plan: Plan) -> Mapping[str, DeviceArray]:
        """What steps hand to each other: states of groups, and of what is merged to these."""
        made: dict[str, DeviceArray] = {}
        for names, size in zip((STATES[:3], PARTIAL_STATES[:3]), plan.scratch, strict=True):
            if size:
                made |= zip(names, states_in_one(like, (size,)), strict=True)
        return made

    def pointwise(self, formula: str, outputs: int, *arrays: Any, dtype: Any = np.float64) -> tuple[DeviceArray, ...]:
        """Apply a formula, in one launch: see `Engine.pointwise`."""
        return computed(getattr(coefficients, formula), outputs, *arrays, dtype=dtype)

    def matvec(self, matrix: Any, vector: Any) -> DeviceArray:
        """A matrix times a vector, summed in float64."""
        rows, columns = matrix.shape
        result = give.empty(matrix, (rows,))
        if rows:
            step = _matvec(rows, columns, (*matrix.strides, *vector.strides), (_code(matrix), _code(vector)))
            addresses = matrix.pointer, vector.pointer, result.pointer
            launcher.launch(step, matrix.device, matrix.stream, addresses)
        return result

    def mean_of_rows(self, table: Any) -> DeviceArray:
        """Mean over the first of two axes."""
        layout, frame = Layout.axes(0), Frame(table)
        plan = self.plan("moments", layout, frame)
        count, mean, m2 = (give.empty(table, plan.group_shape) for _ in range(3))
        if not plan.steps:
            return self.pointwise("full", 1, mean, nan)[0]
        execute(self, plan, frame._replace(count=count, mean=mean, m2=m2))
        return mean

    def peek(self, array: Any) -> None:
        """None: whoever looked would have to wait for the stream."""
        return None

    def send(self, array: Any, like: Any) -> DeviceArray:
        """A host array where `like` lies; a number in float64."""
        if isinstance(array, DeviceArray):
            return array
        if array.ndim == 0:  # as an argument of a kernel: a copy would have to wait
            return self.pointwise("full", 1, give.empty(like, ()), float(array))[0]
        return give.send(array, like)


ENGINE = CudaEngine()


def computed(function: Any, outputs: int, *arrays: Any, dtype: Any = np.float64) -> tuple[DeviceArray, ...]:
    """Apply a function of this package to arrays and numbers that broadcast, in one launch: so many new arrays."""
    given = [array if isinstance(array, DeviceArray) else None for array in arrays]
    like = next(array for array in given if array is not None)
    about = tuple([a and (a.shape, a.strides, _code(a)) for a in given])
    shape, step = _formula(function, outputs, about, kind(np.dtype(dtype)))
    results = tuple(give.empty(like, shape, dtype) for _ in range(outputs))
    if results[0].size:
        addresses = _filled([array.pointer for array in results], OUTPUTS, 0)
        addresses += _filled([_address(array) for array in given], MOST, 0)
        numbers = [0.0 if isinstance(array, DeviceArray) else float(array) for array in arrays]
        launcher.launch(step, like.device, like.stream, (*addresses, *_filled(numbers, MOST, 0.0)))
    return results


@lru_cache(maxsize=4096)
def _plan(operation: Operation, layout: Layout, operands: tuple[Any, ...], given: int) -> Plan:
    """Plan an operation on operands, each described by its kind, alignment, shape and strides."""
    shape: Shape = operands[0][2]
    grouping = layout.resolve(shape)
    strides = [a and stretched(name, shape, *a[2:]) for name, a in zip(OPERANDS, operands, strict=True)]
    if 0 in shape:
        return Plan((), grouping.group_shape)
    absent = planning.Operand("none", VECTOR_BYTES)
    ours = tuple([planning.Operand(*a[:2]) if a else absent for a in operands])
    steps, scratch = planning.steps(build(grouping, strides), operation, ours, given)
    return Plan(steps, grouping.group_shape, scratch)


@lru_cache(maxsize=1024)
def _merge(shape: Shape, in_two: bool) -> Plan:
    *kept, parts = shape
    groups = prod(kept)
    return Plan((planning.merge(groups, parts, in_two),) if groups else (), tuple(kept))


def _update_of(mean: Any, var: Any, counter: Any) -> Plan:
    return _update(mean.size, mean.strides[0], var.strides[0], _kinds(mean, var), counter is not None)


@lru_cache(maxsize=1024)
def _update(size: int, mean_step: int, var_step: int, kinds: int, counted: bool) -> Plan:
    update = (planning.update_running(size, mean_step, var_step, kinds),) if size else ()
    return Plan((planning.count_batch(), *update) if counted else update, (size,))


_formula = lru_cache(maxsize=1024)(planning.formula)
_matvec = lru_cache(maxsize=1024)(planning.matvec)


def described(array: Any, name: str) -> tuple[Any, ...]:
    """What decides how an operand is moved: kind, alignment, shape, strides."""
    _check_aligned(array, name)
    return kind(array.dtype), array.alignment, array.shape, array.strides


def _check_aligned(array: DeviceArray, name: str) -> None:
    """Refuse elements that do not lie at multiples of their size: a GPU cannot read them."""
    if array.pointer % array.itemsize or any(step % array.itemsize for step in array.strides):
        raise ValueError(
            f"{name} of dtype {array.dtype} begins at address {array.pointer:#x} with strides {array.strides}, which "
            f"are not all multiples of {array.itemsize} bytes; a GPU reads aligned elements only: pass a copy"
        )


def _kinds(mean: Any, var: Any) -> int:
    """The kinds of two arrays, as one entry of a table."""
    return KIND_CODES * _code(mean) + _code(var)


def _code(array: DeviceArray) -> int:
    """The kind of an array, as tables have it."""
    _check_aligned(array, "a statistic")
    return _code_of(array.dtype)


_code_of = cache(lambda dtype: CODES[kind(dtype)])


def _address(array: Any) -> int:
    """Where an array begins; 0 if there is none."""
    return 0 if array is None else array.pointer


def _filled(values: list[Any], size: int, spare: Any) -> list[Any]:
    return values + [spare] * (size - len(values))
