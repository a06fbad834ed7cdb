"""One call on a GPU: from a layout and device arrays to launches. What `engine` does for arrays on the host.

Everything is put on the caller's stream, and nothing waits for it.
"""

from collections.abc import Callable
from functools import cache, lru_cache
from math import prod
from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import NDArray

from . import launches, nest
from .arrays import DeviceArray, empty, kind
from .kernels.cuda import launcher
from .kernels.cuda.pointwise import MOST
from .kernels.cuda.shapes import BLOCK, SHAPES, VECTOR_BYTES, Shapes
from .kernels.cuda.stored import CODES, KIND_CODES
from .launches import Launch, Launches, Operand
from .layout import Layout

States = tuple[DeviceArray, DeviceArray, DeviceArray]  # count, mean, m2, in float64
Stored = tuple[DeviceArray | None, DeviceArray, DeviceArray]  # the same, or no count, mean and variance

ABSENT = Operand("none", VECTOR_BYTES)


def reduce(layout: Layout, x: DeviceArray, center: bool = True) -> States:
    """Count, mean and m2 of every group; about zero (mean 0) where `center` is False."""
    states = _new_states(x, layout.group_shape(x.shape))
    if x.size == 0:
        return _no_values(states)
    made = _plan(layout, x.shape, (_described(x), None, None, None), 0, _shapes())
    _statistics(made, x, _addresses(states), center)
    return states


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
    operands = tuple(None if operand is None else _described(operand) for operand in (x, out, weight, bias))
    codes = 0 if states is None else KIND_CODES * _code(states[1]) + _code(states[2])
    made = _plan(layout, x.shape, operands, codes, _shapes())
    if x.size == 0:
        return reduce(layout, x, center) if keep else None
    arrays = (x, out, weight, bias)
    if states is not None:
        _launch(made.apply, x, *_pointers(arrays), eps, int(center), *_addresses(states))
        return None
    own = _new_states(x, layout.group_shape(x.shape)) if keep else None
    if made.normalize is not None:
        _launch(made.normalize, x, *_pointers(arrays), eps, int(center), *(_addresses(own) if own else (0, 0, 0)))
        return own
    held = own or _new_states(x, layout.group_shape(x.shape))
    _statistics(made, x, _addresses(held), center)
    apply = _plan(layout, x.shape, operands, 0, _shapes()).apply  # the states are float64
    _launch(apply, x, *_pointers(arrays), eps, int(center), *_addresses(held))
    return own


def merge_last(states: States) -> States:
    """Merge states along their last axis, in order."""
    *shape, parts = states[0].shape
    merged = _new_states(states[0], tuple(shape))
    packed = [pointwise(_same, 1, array)[0] if not array.contiguous else array for array in states]
    groups = merged[0].size
    if groups:
        _launch(launches.merging(groups, parts), packed[0], 0, *_addresses(packed), 0.0, 0, *_addresses(merged))
    return merged


def move(mean: DeviceArray, var: DeviceArray, states: States, momentum: float, ddof: int) -> None:
    """Move running statistics towards those of a new batch, by the share `momentum`."""
    codes = KIND_CODES * _code(mean) + _code(var)
    made = launches.moving(mean.size, mean.strides[0], var.strides[0], codes)
    if mean.size:
        _launch(made, mean, mean.pointer, var.pointer, 0, 0, float(momentum), int(ddof), *_addresses(states))


def pointwise(formula: Callable[..., tuple[float, ...]], outputs: int, *arrays: Any) -> tuple[DeviceArray, ...]:
    """Apply a formula at each point of arrays, or numbers, that broadcast against each other."""
    like = next(array for array in arrays if isinstance(array, DeviceArray))
    described = tuple(
        (array.shape, array.strides, _code(array)) if isinstance(array, DeviceArray) else None for array in arrays
    )
    shape, made = _formula(formula, outputs, described)
    size = prod(shape)
    room = empty(like, (outputs, *shape))
    if size:
        addresses = [array.pointer if isinstance(array, DeviceArray) else 0 for array in arrays]
        numbers = [0.0 if isinstance(array, DeviceArray) else float(array) for array in arrays]
        spare = MOST - len(arrays)
        _launch(made, like, room.pointer, *addresses, *[0] * spare, *numbers, *[0.0] * spare)
    results = []
    for i in range(outputs):
        result = empty(like, shape) if outputs > 1 else None
        results.append(result)
    return tuple(results)


def matvec(matrix: DeviceArray, vector: DeviceArray) -> DeviceArray:
    """A matrix times a vector, summed in float64."""
    rows, columns = matrix.shape
    result = empty(matrix, (rows,))
    if rows:
        numbers = (rows, columns, *matrix.strides, vector.strides[0], _code(matrix), _code(vector))
        made = Launch(("matvec",), rows, BLOCK, _table(numbers))
        _launch(made, matrix, matrix.pointer, result.pointer, vector.pointer, 0, 0.0, 0, 0, 0, 0)
    return result
