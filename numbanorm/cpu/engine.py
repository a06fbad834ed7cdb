"""One call: from a layout and arrays to a plan (LoopNest, schedule, kernel), and running it."""

import threading
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays.memory import Array, DeviceArray, Shape
from ..arrays.take import empty, kind
from ..layout import Layout
from ..walk import nest
from ..walk.nest import OPERANDS
from . import forks, processors
from . import plan as schedule

HostArray = NDArray[Any]
States = tuple[Any, Any, Any]  # count, mean, m2, in float64; on the host, or all on one GPU
Stored = tuple[Any | None, Any, Any]  # the same, or no count, mean and variance, of any float type

NO_STATES = (None, None, None)  # for a kernel, where nobody wants them
MERGE = ("f8", "f8", "f8", "none")  # the kinds of a merge: states of the parts in the place of x, out and weight


class Plan(NamedTuple):
    """How one call walks its arrays: for all calls with such a layout, shape, strides and dtypes."""

    schedule: schedule.Schedule
    table: NDArray[np.int64]
    stored: schedule.Schedule  # for output from given statistics
    stored_table: NDArray[np.int64]
    output: schedule.Schedule  # for output in the last phase, where groups are split
    kinds: tuple[str, ...]  # of x, out, weight, bias
    group_shape: tuple[int, ...]
    splits: dict[int, schedule.Split | None]  # by number of threads, None: groups are shared whole


@lru_cache(maxsize=4096)
def _plan(layout: Layout, shape: tuple[int, ...], operands: tuple, in_place: bool) -> Plan:
    grouping = layout.resolve(shape)
    strides = [
        operand and nest.stretched(name, shape, *operand[1:]) for name, operand in zip(OPERANDS, operands, strict=True)
    ]
    itemsize = operands[1][0].itemsize if operands[1] else 0
    loops = nest.LoopNest((), (0,) * 5, 0) if 0 in shape else nest.build(grouping, strides)
    chosen = schedule.choose(loops, itemsize, in_place)
    stored = schedule.for_stored(chosen, loops)
    kinds = tuple("none" if operand is None else kind(operand[0]) for operand in operands)
    output = schedule.for_output(chosen, loops)
    return Plan(chosen, chosen.table, stored, stored.table, output, kinds, grouping.group_shape, {})


def plan(
    layout: Layout,
    x: HostArray,
    out: HostArray | None = None,
    weight: HostArray | None = None,
    bias: HostArray | None = None,
) -> Plan:
    """Plan a call; cached. weight and bias broadcast to x's shape, or are refused."""
    return _plan(
        layout,
        x.shape,
        (
            (x.dtype, x.shape, x.strides),
            None if out is None else (out.dtype, out.shape, out.strides),
            None if weight is None else (weight.dtype, weight.shape, weight.strides),
            None if bias is None else (bias.dtype, bias.shape, bias.strides),
        ),
        out is x,
    )


def reduce(layout: Layout, x: Array, center: bool = True) -> States:
    """Count, mean and m2 of every group; about zero (mean 0) where `center` is False."""
    if isinstance(x, DeviceArray):
        return device().reduce(layout, x, center)
    states = new_states(layout.group_shape(x.shape))
    if x.size == 0:
        for state, value in zip(states, (0.0, np.nan, 0.0), strict=True):
            state.fill(value)
        return states
    made = plan(layout, x)
    chosen, kind_of_x, options = made.schedule, made.kinds[0], (0.0, int(center))
    only_x, arrays = (kind_of_x, "none", "none", "none"), (x, None, None, None)
    if chosen.parts == 1:
        _run(chosen, "moments", only_x, made.table, *arrays, *options, *states)
        return states
    partial = new_states((chosen.partial_states,))
    by_part = chosen._replace(tasks=chosen.tasks * chosen.parts)
    _run(by_part, "moments", only_x, made.table, *arrays, *options, *partial)
    # x stands in the place of bias: the means are distances from its elements.
    kinds = (*MERGE[:3], kind_of_x)
    _run(chosen._replace(serial=True), "merge", kinds, made.table, *partial, x, *options, *states)
    return states


def normalize(
    layout: Layout,
    x: Any,
    out: Any,
    weight: Any | None,
    bias: Any | None,
    eps: float,
    *,
    center: bool = True,
    states: Stored | None = None,
    keep: bool = False,
) -> States | None:
    """Write (x - mean) / sqrt(m2 / count + eps) * weight + bias to `out`.

    Parameters
    ----------
    layout : Layout
        The groups.
    x, out : ndarray or DeviceArray
        Input and output; they may be one.
    weight, bias : ndarray or DeviceArray, optional
        They broadcast to x's shape.
    eps : float
        Added to the variance.
    center : bool
        False: about zero, as in RMS norm.
    states : tuple, optional
        Use these in place of the states of x's own groups; or no count, and mean and variance.
    keep : bool
        Return the states of x's own groups.
    """
    if isinstance(x, DeviceArray):
        settings: dict[str, Any] = {"center": center, "states": states, "keep": keep}
        return device().normalize(layout, x, out, weight, bias, eps, **settings)
    made = plan(layout, x, out, weight, bias)
    if x.size == 0:
        return reduce(layout, x, center) if keep else None
    return execute(made, x, out, weight, bias, eps, center=center, states=states, keep=keep)


def execute(
    made: Plan,
    x: HostArray,
    out: HostArray,
    weight: HostArray | None,
    bias: HostArray | None,
    eps: float,
    *,
    center: bool = True,
    states: Stored | None = None,
    keep: bool = False,
) -> States | None:
    """`normalize` of arrays that are not empty, by their plan."""
    arrays = (x, out, weight, bias, eps, int(center))
    chosen = made.schedule
    if states is None:
        threads = get_num_threads()
        if split := _split(made, threads):
            return _normalize_split(made, split, threads, keep, *arrays)
        own = new_states(made.group_shape) if keep else None
        _run(chosen, "normalize", made.kinds, made.table, *arrays, *(own or NO_STATES))
        return own
    _run(made.stored, "apply", (*made.kinds, *kinds_of(states)), made.stored_table, *arrays, *states)
    return None


def _split(made: Plan, threads: int) -> schedule.Split | None:
    """How so many threads share a plan's groups in parts; None if they share them whole."""
    try:
        return made.splits[threads]
    except KeyError:
        split = schedule.is_split(made.schedule, threads)
        return made.splits.setdefault(threads, schedule.split(made.schedule, made.output, threads) if split else None)


def _normalize_split(made: Plan, split: schedule.Split, threads: int, keep: bool, *arrays: Any) -> States | None:
    """Few large groups, in parts: all threads in one launch, from phase to phase."""
    count, mean, m2 = split.board.copy(), np.empty(split.states), np.empty(split.states)
    family, kinds = made.schedule.family, made.kinds
    _launcher().launch(family, "normalize_split", kinds, threads, threads, split.table, *arrays, count, mean, m2)
    if not keep:
        return None
    shape, groups = made.group_shape, split.groups
    count = count[split.before : split.before + groups]
    return count.reshape(shape), mean[:groups].reshape(shape), m2[:groups].reshape(shape)


def compiled(made: Plan, states: Stored | None) -> Any:
    """The compiled kernel that does all of a call, by x's own states or by given ones: (first, last, table, ...)."""
    if states is None:
        return _launcher().compiled_kernel(made.schedule.family, "normalize", made.kinds).run
    return _launcher().compiled_kernel(made.stored.family, "apply", (*made.kinds, *kinds_of(states))).run


def kinds_of(states: Stored) -> tuple[str, str]:
    """Kinds of given mean and variance, or m2."""
    return kind(states[1].dtype), kind(states[2].dtype)


def merge(a: States, b: States) -> States:
    """Merge two states of each group."""
    if isinstance(a[0], DeviceArray):
        return device().pointwise(_formulas().merge, 3, *a, *b)
    count, mean, m2 = (np.stack(pair, axis=-1) for pair in zip(a, b, strict=True))
    return merge_last((count, mean, m2))


def merge_last(states: States) -> States:
    """Merge states along their last axis, in order."""
    if isinstance(states[0], DeviceArray):
        return device().merge_last(states)
    *shape, parts = states[0].shape
    merged = new_states(tuple(shape))
    groups, table = schedule.merging(merged[0].size, parts)
    count, mean, m2 = map(np.ascontiguousarray, states)
    _run(groups, "merge", MERGE, table, count, mean, m2, None, 0.0, 1, *merged)
    return merged


def move(mean: Array, var: Array, states: States, momentum: float, ddof: int) -> None:
    """Move running statistics towards those of a new batch, by the share `momentum`."""
    if isinstance(mean, DeviceArray):
        device().move(mean, var, states, momentum, ddof)
        return
    run, table = _mover(mean.size, mean.strides[0], mean.dtype, var.strides[0], var.dtype)
    run(0, mean.size, table, mean, var, None, None, momentum, ddof, *states)


@lru_cache(maxsize=256)
def _mover(size: int, mean_step: int, of_mean: np.dtype, var_step: int, of_var: np.dtype) -> tuple[Any, HostArray]:
    groups, table = schedule.merging(size, 1, mean_step, var_step)
    return _launcher().compiled_kernel(groups.family, "move", (kind(of_mean), kind(of_var), "none", "none")).run, table


# what norms compute of statistics: a few numbers a group -------------------------------------------------------------


def pointwise(formula: str, outputs: int, *arrays: Any) -> tuple[Any, ...]:
    """Apply a function of `kernels.coefficients` to arrays, element by element.

    Parameters
    ----------
    formula : str
        Its name.
    outputs : int
        How many results it gives.
    *arrays : ndarray, DeviceArray or float
        Its arguments, which broadcast against each other by NumPy's rules.

    Returns
    -------
    tuple of ndarray or DeviceArray
        Results in float64 and C order, of the shape to which the arguments broadcast.
    """
    function = getattr(_formulas(), formula)
    wide, shapes = [], set()
    for a in arrays:
        if isinstance(a, DeviceArray):
            return device().pointwise(function, outputs, *arrays)
        if isinstance(a, float):
            wide.append(a)
        else:
            wide.append(a.astype(np.float64, copy=False))
            shapes.add(a.shape)
    shape = shapes.pop() if len(shapes) == 1 else np.broadcast_shapes(*shapes)
    if shape == ():  # NumPy's operators make numbers of arrays without axes, and `where` tells numbers from arrays
        wide = [a if isinstance(a, float) else a.reshape(1) for a in wide]
    with np.errstate(all="ignore"):
        results = function(*wide)
    return tuple(_filled(result, shape) for result in results)


def _filled(result: Any, shape: Shape) -> NDArray[np.float64]:
    """A result of a formula at its full shape, where it may be one number, or depend on some arguments only."""
    if isinstance(result, np.ndarray) and result.shape == shape and result.flags.c_contiguous:
        return result
    filled = np.empty(shape)
    filled[...] = result
    return filled


def matvec(matrix: Array, vector: Array) -> Any:
    """A matrix times a vector, in float64; on the host by the BLAS, in the matrix's dtype."""
    if isinstance(matrix, DeviceArray):
        return device().matvec(matrix, vector)
    return (matrix @ vector.astype(matrix.dtype, copy=False)).astype(np.float64, copy=False)  # type: ignore[union-attr]


def mean_of_rows(table: Array) -> Any:
    """Mean over the first of two axes."""
    if isinstance(table, DeviceArray):
        return device().reduce(Layout.axes(0), table)[1]
    return table.sum(axis=0) / len(table)


def packed(array: Array) -> Any:
    """Statistics as kernels read them: the array itself, or a copy without gaps."""
    if not isinstance(array, DeviceArray):
        return array if array.flags.c_contiguous else np.ascontiguousarray(array)
    return array if array.contiguous and array.dtype.kind not in "iub" else pointwise("same", 1, array)[0]


def widened(array: Array) -> Any:
    """The array itself if it is in float64, or a copy that is."""
    if not isinstance(array, DeviceArray):
        return array.astype(np.float64, copy=False)
    return array if array.dtype == np.float64 else pointwise("same", 1, array)[0]


def cast(array: Array, dtype: np.dtype) -> Any:
    """A copy of a vector in float64, in any float dtype."""
    if not isinstance(array, DeviceArray):
        return array.astype(dtype)
    if array.dtype == dtype:
        return pointwise("same", 1, array)[0]
    copy = empty(array, array.shape, dtype)
    states = None, *pointwise("neutral", 2, empty(array, ()))
    device().normalize(Layout.axes(None), array, copy, None, None, 0.0, states=states)
    return copy


def constant(value: float, like: Array) -> Any:
    """A number as an array of no axes, where `like` lies."""
    if not isinstance(like, DeviceArray):
        return np.float64(value)
    return pointwise("second", 1, empty(like, ()), float(value))[0]


def _run(chosen: schedule.Schedule, name: str, kinds: tuple[str, ...], *arguments: Any) -> None:
    """Run a kernel of the schedule's family over all its tasks."""
    threads = 1 if chosen.serial else get_num_threads()
    _launcher().launch(chosen.family, name, kinds, chosen.tasks, threads, *arguments)


_importing = threading.RLock()
forks.guard(_importing)


@cache
def _launcher() -> Any:
    """The launcher's module: with it comes Numba, so it is imported at the first call."""
    with _importing:  # half imported in a fork, it would never be whole
        from . import launcher

        return launcher


@cache
def device() -> Any:
    """The module of the kernels for GPUs: with it comes numba.cuda, so it is imported at the first call."""
    with _importing:
        from ..cuda import engine as device

        return device


@cache
def _formulas() -> Any:
    """The module of the coefficients, which imports Numba."""
    with _importing:
        from ..maths import coefficients

        return coefficients


def new_states(shape: tuple[int, ...]) -> States:
    """States of groups, to be written."""
    return np.empty(shape), np.empty(shape), np.empty(shape)


_num_threads: int | None = None


def available_threads() -> int:
    """Processors that this process may use: by its affinity and its container's quota."""
    return processors.available()


def get_num_threads() -> int:
    """How many threads a call may use: what `set_num_threads` said, else all processors of this process.

    Examples
    --------
    >>> import numbanorm as nbn
    >>> nbn.get_num_threads() >= 1
    True
    """
    global _num_threads
    if _num_threads is None:
        _num_threads = available_threads()
    return _num_threads


def set_num_threads(n: int) -> None:
    """Let calls use up to `n` threads, in every Python thread from now on. Results do not depend on it.

    Parameters
    ----------
    n : int
        At least 1.

    Examples
    --------
    >>> import numbanorm as nbn
    >>> before = nbn.get_num_threads()
    >>> nbn.set_num_threads(1)
    >>> nbn.get_num_threads()
    1
    >>> nbn.set_num_threads(before)
    """
    global _num_threads
    if isinstance(n, bool) or not isinstance(n, int | np.integer):
        raise TypeError(f"n must be an int, got {type(n).__name__}")
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    _num_threads = int(n)
