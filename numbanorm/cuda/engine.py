"""One call on a GPU: from a layout and device arrays to launches. What `engine` does for arrays on the host.

All work is put on the caller's stream, and nothing waits for it.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np

from ..arrays.memory import DeviceArray
from ..arrays.take import empty, kind, view
from ..layout import Layout
from ..maths import coefficients
from ..walk import nest
from ..walk.nest import OPERANDS
from . import launcher
from . import plan as launches
from .kernels.pointwise import MOST, OUTPUTS
from .kernels.shapes import VECTOR_BYTES
from .kernels.stored import CODES, KIND_CODES
from .plan import Launch, Launches, Operand

States = tuple[DeviceArray, DeviceArray, DeviceArray]  # count, mean, m2, in float64
Pointers = Sequence[int]
Stored = tuple[DeviceArray | None, DeviceArray, DeviceArray]  # the same, or no count, mean and variance


class Plan(NamedTuple):
    """How one call walks its arrays: for all with such a layout, shapes, strides, dtypes and alignments."""

    launches: Launches | None  # None: there are no elements
    group_shape: tuple[int, ...]


def reduce(layout: Layout, x: DeviceArray, center: bool = True) -> States:
    """Count, mean and m2 of every group; about zero (mean 0) where `center` is False."""
    made = plan(layout, x)
    states = _new_states(x, made.group_shape)
    if made.launches is not None:
        _take_statistics(made.launches, x, states, center)
        return states
    count, mean, m2 = (pointwise(coefficients.second, 1, states[0], value)[0] for value in (0.0, np.nan, 0.0))
    return count, mean, m2


def normalize(
    layout: Layout,
    x: DeviceArray,
    out: DeviceArray,
    weight: DeviceArray | None,
    bias: DeviceArray | None,
    eps: float,
    *,
    center: bool = True,
    states: Stored | None = None,
    keep: bool = False,
) -> States | None:
    """Write (x - mean) / sqrt(m2 / count + eps) * weight + bias to `out`: see `engine.normalize`."""
    made = plan(layout, x, out, weight, bias, states)
    if made.launches is None:
        return reduce(layout, x, center) if keep else None
    own, stored = _new_states(x, made.group_shape) if keep else None, None if states is None else _pointers(states)
    execute(made, x, _pointers((x, out, weight, bias)), eps, center, stored, own)
    return own


def plan(
    layout: Layout,
    x: DeviceArray,
    out: DeviceArray | None = None,
    weight: DeviceArray | None = None,
    bias: DeviceArray | None = None,
    states: Stored | None = None,
) -> Plan:
    """Plan a call; cached. weight and bias broadcast to x's shape, or are refused, as is what is not aligned."""
    arrays = (x, out, weight, bias)
    operands = tuple(a if a is None else _described(a, name) for a, name in zip(arrays, OPERANDS, strict=True))
    return _plan(layout, x.shape, operands, 0 if states is None else KIND_CODES * _code(states[1]) + _code(states[2]))


def execute(
    made: Plan,
    x: DeviceArray,
    pointers: Pointers,
    eps: float,
    center: bool,
    stored: Pointers | None = None,
    own: States | None = None,
) -> None:
    """`normalize` by its plan: addresses of x, out, weight, bias (0 where there is none), and of given states.

    `own`: where to leave the states of x's own groups.
    """
    steps: Any = made.launches
    settings = (*pointers, eps, int(center))
    if stored is not None:
        _launch(steps.apply, x, *settings, *stored)
    elif steps.normalize is not None:
        _launch(steps.normalize, x, *settings, *_pointers(own or (None,) * 3))
    else:
        own = own or states_in_one(x, made.group_shape)
        _take_statistics(steps, x, own, center)
        _launch(steps.apply, x, *settings, *_pointers(own))


def states_in_one(like: DeviceArray, shape: tuple[int, ...]) -> States:
    """States to be written: all in one piece of memory, so they are not for callers."""
    whole = empty(like, (3, *shape))
    place = like.library, like.device, like.stream, whole.owner
    step, strides = whole.nbytes // 3, whole.strides[1:]
    count, mean, m2 = (DeviceArray(whole.pointer + i * step, shape, strides, whole.dtype, *place) for i in range(3))
    return count, mean, m2


def merge_last(states: States) -> States:
    """Merge states along their last axis, in order."""
    *shape, parts = states[0].shape
    merged = _new_states(states[0], tuple(shape))
    if merged[0].size:
        together = [array if array.contiguous else pointwise(coefficients.same, 1, array)[0] for array in states]
        made = launches.merging(merged[0].size, parts)
        _launch(made, merged[0], 0, *_pointers(together), 0.0, 0, *_pointers(merged))
    return merged


def move(mean: DeviceArray, var: DeviceArray, states: States, momentum: float, ddof: int) -> None:
    """Move running statistics towards those of a new batch, by the share `momentum`."""
    if mean.size:
        codes = KIND_CODES * _code(mean) + _code(var)
        made = launches.moving(mean.size, mean.strides[0], var.strides[0], codes)
        _launch(made, mean, *_pointers((mean, var, None, None)), float(momentum), ddof, *_pointers(states))


def pointwise(formula: Callable[..., tuple[Any, ...]], outputs: int, *arrays: Any) -> tuple[DeviceArray, ...]:
    """Apply a formula at each point of arrays, or numbers, that broadcast against each other."""
    given = [array if isinstance(array, DeviceArray) else None for array in arrays]
    like = next(array for array in given if array is not None)
    described = tuple(None if a is None else (a.shape, a.strides, _code(a)) for a in given)
    shape, made = launches.formula(formula, outputs, described)
    results = tuple(empty(like, shape) for _ in range(outputs))
    if results[0].size:
        numbers = [0.0 if isinstance(array, DeviceArray) else float(array) for array in arrays]
        addresses = _filled(_pointers(results), OUTPUTS, 0) + _filled(_pointers(given), MOST, 0)
        _launch(made, like, *addresses, *_filled(numbers, MOST, 0.0))
    return results


def matvec(matrix: DeviceArray, vector: DeviceArray) -> DeviceArray:
    """A matrix times a vector, summed in float64."""
    rows, columns = matrix.shape
    result = empty(matrix, (rows,))
    if rows:
        made = launches.product(rows, columns, (*matrix.strides, *vector.strides), (_code(matrix), _code(vector)))
        _launch(made, matrix, *_pointers((matrix, result, vector, None)), 0.0, 0, 0, 0, 0)
    return result


@lru_cache(maxsize=4096)
def _plan(layout: Layout, shape: tuple[int, ...], operands: tuple[Any, ...], codes: int) -> Plan:
    grouping = layout.resolve(shape)
    strides = [
        operand and nest.stretched(name, shape, *operand[2:]) for name, operand in zip(OPERANDS, operands, strict=True)
    ]
    if 0 in shape:
        return Plan(None, grouping.group_shape)
    absent = Operand("none", VECTOR_BYTES)
    of = tuple((operand and Operand(*operand[:2])) or absent for operand in operands)
    return Plan(launches.plan(nest.build(grouping, strides), of, codes), grouping.group_shape)


def _described(array: DeviceArray, name: str = "x") -> tuple[Any, ...]:
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


def _take_statistics(made: Launches, x: DeviceArray, states: States, center: bool) -> None:
    """Launch what leaves the states of all groups."""
    of_x = (x.pointer, 0, 0, 0, 0.0, int(center))
    if made.merge is None:
        _launch(made.moments, x, *of_x, *_pointers(states))
        return
    partial = states_in_one(x, (made.partial_states,))
    _launch(made.moments, x, *of_x, *_pointers(partial))
    _launch(made.merge, x, x.pointer, *_pointers(partial), 0.0, int(center), *_pointers(states))


def _new_states(like: DeviceArray, shape: tuple[int, ...]) -> States:
    return empty(like, shape), empty(like, shape), empty(like, shape)


def _code(array: DeviceArray) -> int:
    """The kind of an array, as tables have it."""
    _check_aligned(array, "a statistic")
    return _code_of(array.dtype)


_code_of = cache(lambda dtype: CODES[kind(dtype)])


def _pointers(arrays: Iterable[DeviceArray | None]) -> list[int]:
    return [0 if array is None else array.pointer for array in arrays]


def _filled(values: list[Any], size: int, spare: Any) -> list[Any]:
    return values + [spare] * (size - len(values))


def _launch(made: Launch, like: DeviceArray, *arguments: Any) -> None:
    """Launch where `like` lies, on its stream."""
    if like.device not in made.resident:  # sent once: later calls of the same description find it there
        made.resident[like.device] = view(launcher.send_table(made.table, like.device))
    table = made.resident[like.device].pointer
    shape = made.blocks, made.threads, made.shared
    launcher.launch(made.kernel, *shape, like.device, like.stream, table, *arguments)
