"""One call that goes backward: its arguments are checked, then it is run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..arrays.forms import RESULTS, kind, result_dtype
from ..arrays.give import give, result_like
from ..arrays.memory import Array, check_same_device, contiguous
from ..arrays.take import take
from ..cpu.engine import output_of
from ..cpu.forks import importing_numba
from ..engine.interface import Engine, Frame, execute
from ..layout import Layout
from .arguments import check_eps
from .choose import engine_of, on_host
from .run import STATISTICS, Prepared, States, Statistics, check_ddof, full, moments, packed, to_float64

Gradients = tuple[Any, Any, Any]  # of x, weight and bias


class Operands(NamedTuple):
    """What every norm takes to go backward, once it is checked."""

    grad: Array
    x: Array
    library: str  # of x, and of its gradient


class Parameter(NamedTuple):
    """A weight, or another parameter that gets a gradient, and its library."""

    array: Any
    library: str


def check_operands(grad: Any, x: Any) -> Operands:
    """Take x and the gradient of the output, if they fit each other.

    Raises
    ------
    ValueError
        If their shapes differ.
    TypeError
        If one is no array of floats, or one lies on the host and one on a GPU.
    """
    array, library = take(x)
    given = take(grad, "grad")[0]
    check_same_device(array, {"grad": given})
    _check_floats(array, "x")
    _check_floats(given, "grad")
    if given.shape != array.shape:
        raise ValueError(
            f"grad has shape {given.shape}, but x has {array.shape}; pass the gradient of the output, of x's shape"
        )
    return Operands(given, array, library)


def check_parameter(value: Any, x: Array, name: str = "weight") -> Parameter | None:
    """Take a weight or the like, if there is one."""
    return None if value is None else required_parameter(value, x, name)


def required_parameter(value: Any, x: Array, name: str) -> Parameter:
    """Take what gets a gradient, which only floats have."""
    array, library = take(value, name)
    check_same_device(x, {name: array})
    _check_floats(array, name)
    return Parameter(array, library)


def go_backward(
    taken: Operands, ours: Prepared, statistics: Statistics | None, eps: Any, own: bool = True
) -> Gradients:
    """Gradients of x, in its dtype, and of weight and bias, in float64; None for these where there is no weight.

    Parameters
    ----------
    taken : Operands
        From `check_operands`.
    ours : Prepared
        What the norm made of its arguments: layout, weight, whether x was centered, ddof and eps_on_std.
    statistics : tuple or None
        Count, mean and m2 of the groups; or no count, and mean and variance. None: made from x.
    eps : float
        As it was in the forward call.
    own : bool
        Whether statistics are those of x; else they are constants.
    """
    x, eps, layout = taken.x, check_eps(eps), ours.layout
    engine = engine_of(x)
    if ours.ddof:
        check_ddof(ours.ddof, layout, x)
    if statistics is not None:
        check_same_device(x, dict(zip(STATISTICS, statistics, strict=True)))
        _check_statistics(statistics, ours, x, own)
    count, mean, m2 = statistics or moments(engine, layout, x, ours.center)[:3]
    mean, m2 = _float64(engine, mean), _float64(engine, m2)
    if count is None:
        count = full(engine, m2, 1.0)
    return run_backward(taken, ours, (_float64(engine, count), mean, m2), eps, own)


def run_backward(taken: Operands, ours: Prepared, states: States, eps: float, own: bool = True) -> Gradients:
    """The same where all arguments were checked, and states are float64 without gaps."""
    x = taken.x
    center, on_std = int(ours.center), int(ours.eps_on_std)
    out = result_like(x, result_dtype(x.dtype))
    operands = (x, out, _whole(ours.weight), taken.grad)
    frame = Frame(*operands, *states, eps=eps, center=center, ddof=ours.ddof, eps_on_std=on_std)
    result = _backward_where(x).backward(frame, ours.layout, own)
    return (out, None, None) if result is None else (out, *result)


def bind(taken: Operands, ours: Prepared, weight: Any, own: bool) -> Callable[..., Gradients | None] | None:
    """What repeats a call on ndarrays that passed all checks, for others of its description; None if that cannot be.

    It is repeat(x, weight, grad, statistics, eps), as the caller has them, and gives the gradients; or None, if the
    statistics want a closer look.
    """
    x, layout, center = taken.x, ours.layout, ours.center
    if weight is not None and not weight.flags.c_contiguous:
        return None
    frame, run = bound(x, ours.weight, taken.grad, ours, own)
    if run is None:
        return None
    engine, (empty, shape, dtype) = engine_of(x), output_of(frame)
    size = layout.resolve(x.shape).group_size
    ones = None if own else np.ones(layout.group_shape(x.shape))  # counts of stored statistics
    if weight is not None:
        rows, like = (2, *weight.shape), result_dtype(weight.dtype)

    def repeat(x, weight, grad, statistics, eps):  # type: ignore[no-untyped-def]
        count, mean, m2 = statistics or moments(engine, layout, x, center)[:3]
        if count is None:
            count, mean, m2 = ones, mean.astype(np.float64), m2.astype(np.float64)
        elif own and (np.count_nonzero(count != size) or not (center or np.count_nonzero(mean) == 0)):
            return None
        out = empty(shape or x, dtype)
        sums = run(x, out, weight, grad, count, mean, m2, eps)
        if weight is None:
            return out, None, None
        dweight, dbias = (sums if like == np.float64 else cast(sums, like)).reshape(rows)
        return out, dweight, dbias

    return repeat


def bound(x: Any, weight: Any, grad: Any, ours: Prepared, own: bool, serial: bool = False) -> tuple[Frame, Any]:
    """A frame of ndarrays with an output of its own, and what `cpu.backward.bind` makes of it."""
    frame = Frame(x, result_like(x, result_dtype(x.dtype)), weight, grad)
    frame = frame._replace(center=int(ours.center), ddof=ours.ddof, eps_on_std=int(ours.eps_on_std))
    return frame, _on_host().bind(frame, ours.layout, own, serial)


def give_gradients(taken: Operands, made: Gradients, weight: Parameter | None) -> Gradients:
    """The same as the caller has x and the weight."""
    dx, dweight, dbias = made
    dx = give(dx, taken.library, taken.x)
    return (dx, None, None) if weight is None else (dx, give_like(dweight, weight), give_like(dbias, weight))


def give_like(total: Any, parameter: Parameter) -> Any:
    """A gradient as the caller has the parameter: its shape, dtype and library."""
    like = parameter.array
    dtype = result_dtype(like.dtype)
    if dtype != np.float64:
        total = cast(total, dtype)
    elif not on_host(total) and not contiguous(total):
        total = combined(1.0, total)
    return give(total if total.shape == like.shape else total.reshape(like.shape), parameter.library)


def cast(array: Any, dtype: Any) -> Any:
    """Numbers in float64, in another float type."""
    if not on_host(array):
        return engine_of(array).pointwise("to_float64", 1, array, dtype=dtype)[0]
    with np.errstate(over="ignore"):
        return array.astype(dtype)


def combined(a: Any, x: Any, b: Any = 0.0, y: Any = 0.0) -> Any:
    """A * x + b * y of small arrays and numbers that broadcast, in float64, where the arrays lie."""
    like = next(one for one in (a, x, b, y) if not isinstance(one, float))
    if not on_host(like):
        return _on_gpu().combined(a, x, b, y)
    a, x, b, y = (one if isinstance(one, float) else one.astype(np.float64, copy=False) for one in (a, x, b, y))
    return a * x if isinstance(y, float) and y == 0.0 else a * x + b * y


def add_to(dx: Any, more: Any) -> None:
    """Add a gradient to another, in place."""
    if on_host(dx):
        np.add(dx, more, out=dx)
    elif dx.size:
        engine = engine_of(dx)
        mean, var = engine.pointwise("identity_statistics", 2, engine.empty(dx, ()))
        frame = Frame(dx, dx, None, more, mean=mean, m2=var)
        execute(engine, engine.plan("apply", Layout.axes(None), frame), frame)


def _check_floats(array: Array, name: str) -> None:
    if kind(array.dtype, name).lstrip(">") not in RESULTS:
        raise TypeError(
            f"{name} has dtype {array.dtype}, but only floats have gradients; convert with {name}.astype('float32')"
        )


def _check_statistics(statistics: Statistics, ours: Prepared, x: Array, own: bool) -> None:
    """Refuse statistics of other groups, of other numbers of values, or about a mean where there should be none."""
    layout = ours.layout
    shape = layout.group_shape(x.shape)
    if statistics[1].shape != shape:
        raise ValueError(
            f"moments have group shape {statistics[1].shape}, but {layout!r} of x has {shape}; pass those that the "
            "forward call returned, with return_moments=True"
        )
    if not on_host(x):
        return  # nobody waits to see their values
    size, count = layout.resolve(x.shape).group_size, np.asarray(statistics[0])
    if own and x.size and not (count == size).all():
        raise ValueError(
            f"moments are of {count.flat[0]:g} values a group, but groups of x have {size}; pass those that the "
            "forward call returned, with return_moments=True"
        )
    if not ours.center and x.size and statistics[1].any():
        raise ValueError(
            "moments have means, but this norm is about zero; pass those that its own forward call returned, with "
            "return_moments=True"
        )


def _float64(engine: Engine, array: Any) -> Any:
    """Statistics as kernels read them."""
    return to_float64(engine, packed(engine, array))


def _whole(weight: Any) -> Any:
    """A weight without gaps, in any order of memory, for the host, which numbers its elements by their addresses."""
    if weight is None or not on_host(weight) or weight.flags.c_contiguous:
        return weight
    if np.empty_like(weight, subok=False).strides == weight.strides:
        return weight
    return np.array(weight, order="C")


def _backward_where(x: Array) -> Any:
    """The module that goes backward where an array lies."""
    return _on_host() if on_host(x) else _on_gpu()


@importing_numba
def _on_host() -> Any:
    from ..cpu import backward

    return backward


@importing_numba
def _on_gpu() -> Any:
    from ..cuda import backward

    return backward
