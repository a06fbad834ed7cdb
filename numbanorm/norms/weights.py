"""Normalizations of weights: weight norm, weight standardization, spectral norm."""

from __future__ import annotations

from math import prod
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from ..arrays.annotations import AnyArray, ArrayLike, Floats, HostArrayLike, Sizes, Tensor
from ..arrays.forms import float_dtype, result_dtype
from ..arrays.give import give
from ..arrays.memory import Array, check_same_device
from ..arrays.take import take, view
from ..call.arguments import EpsOn, check_eps, on_std
from ..call.choose import engine_of
from ..call.known import normalized
from ..call.run import Prepared, moments, to_float64, transform
from ..engine.interface import Engine
from ..layout import Layout, as_int
from ..statistics import Moments, kept


@overload
def weight_norm(
    v: np.ndarray[Sizes, Floats], g: ArrayLike, *, axis: int | None = 0, dtype: None = None
) -> np.ndarray[Sizes, Floats]: ...
@overload
def weight_norm(v: Tensor, g: ArrayLike, *, axis: int | None = 0, dtype: Any = None) -> Tensor: ...
@overload
def weight_norm(v: HostArrayLike, g: ArrayLike, *, axis: int | None = 0, dtype: Any = None) -> NDArray[Any]: ...
def weight_norm(v: ArrayLike, g: ArrayLike, *, axis: int | None = 0, dtype: Any = None) -> AnyArray:
    """Weight normalization: g * v / norm(v), one norm for each slice along an axis.

    Parameters
    ----------
    v : array_like
        Direction of the weight.
    g : array_like
        Length of each slice: of shape (v.shape[axis],), or of v's shape with 1 on every other axis; a scalar
        if axis is None.
    axis : int or None
        Axis that is kept, usually the outputs. None: one norm over all of v.
    dtype : dtype, optional
        Of the result: any float type. By default v's own, and float64 for integers and booleans.

    Returns
    -------
    array
        As v. A slice of zeros has no direction and gives NaN.

    Raises
    ------
    ValueError
        If g has another shape, or the axis is out of range.
    TypeError
        If an array is of a kind or dtype that is not supported.

    Notes
    -----
    T. Salimans and D. P. Kingma, arXiv:1602.07868.

    Examples
    --------
    >>> import numbanorm as nbn
    >>> import numpy as np
    >>> nbn.weight_norm(np.array([[3.0, 4.0], [0.0, 2.0]]), np.array([10.0, 1.0]))
    array([[6., 8.],
           [0., 1.]])
    """
    array = view(v, "v")
    layout, spread = _slices(array, axis, "v")
    engine, length = engine_of(array), view(g, "g")
    check_lengths(length, array, axis, spread)
    if length.ndim == 0:  # a number may lie on the host, whatever v does
        length = engine.send(length, array)
    check_same_device(array, {"g": length}, of="v")
    length = length.reshape(layout.group_shape(array.shape))
    square = moments(engine, layout, array, center=False)[2]
    scale, zero, one = engine.pointwise("rescale", 3, length, square)
    return transform(v, layout, scale.reshape(spread), eps=0.0, statistics=(None, zero, one), dtype=dtype)[0]


@overload
def weight_standardize(
    w: np.ndarray[Sizes, Floats],
    *,
    axis: int = 0,
    eps: float = 1e-5,
    ddof: int = 0,
    eps_on: EpsOn = "var",
    dtype: None = None,
    return_moments: Literal[False] = False,
) -> np.ndarray[Sizes, Floats]: ...
@overload
def weight_standardize(
    w: Tensor,
    *,
    axis: int = 0,
    eps: float = 1e-5,
    ddof: int = 0,
    eps_on: EpsOn = "var",
    dtype: Any = None,
    return_moments: Literal[False] = False,
) -> Tensor: ...
@overload
def weight_standardize(
    w: HostArrayLike,
    *,
    axis: int = 0,
    eps: float = 1e-5,
    ddof: int = 0,
    eps_on: EpsOn = "var",
    dtype: Any = None,
    return_moments: Literal[False] = False,
) -> NDArray[Any]: ...
@overload
def weight_standardize(
    w: ArrayLike,
    *,
    axis: int = 0,
    eps: float = 1e-5,
    ddof: int = 0,
    eps_on: EpsOn = "var",
    dtype: Any = None,
    return_moments: bool,
) -> Any: ...
def weight_standardize(
    w: ArrayLike,
    *,
    axis: int = 0,
    eps: float = 1e-5,
    ddof: int = 0,
    eps_on: EpsOn = "var",
    dtype: Any = None,
    return_moments: bool = False,
) -> AnyArray | tuple[AnyArray, Moments]:
    """Weight standardization: each slice along an axis to mean 0 and variance 1.

    Parameters
    ----------
    w : array_like
        A weight, such as (outputs, inputs, height, width).
    axis : int
        Axis that is kept, usually the outputs.
    eps : float
        Added to the variance, inside the root.
    ddof : int
        0: the paper's variance. 1: the unbiased one, which much code in circulation uses.
    eps_on : {"var", "std"}
        "std": eps is added to the standard deviation instead, as in some overviews of the method.
    dtype : dtype, optional
        Of the result: any float type. By default w's own, and float64 for integers and booleans.
    return_moments : bool
        Return ``(result, moments)``: the `Moments` of the slices, too.

    Returns
    -------
    array
        As w.

    Raises
    ------
    ValueError
        If the axis is out of range, eps is negative, or a slice has no more than ddof values.
    TypeError
        If w is of a kind or dtype that is not supported.

    Notes
    -----
    S. Qiao, H. Wang, C. Liu, W. Shen and A. Yuille, arXiv:1903.10520.

    Examples
    --------
    >>> import numbanorm as nbn
    >>> import numpy as np
    >>> nbn.weight_standardize(np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 60.0]]), eps=0, ddof=1).round(3)
    array([[-1.   ,  0.   ,  1.   ],
           [-0.756, -0.378,  1.134]])
    """
    settings = axis, ddof, eps_on
    return normalized(w, None, None, eps, None, _by_slice, settings, dtype=dtype, keep=kept(return_moments))


def _by_slice(w: Any, weight: None, bias: None, axis: Any, ddof: Any, eps_on: Any) -> Prepared:
    """The layout of the slices, and how they are brought to variance 1."""
    layout, _ = _slices(view(w, "w"), as_int(axis, "axis"), "w")
    return Prepared(layout, ddof=as_int(ddof, "ddof"), eps_on_std=on_std(eps_on))


@overload
def spectral_norm(
    w: np.ndarray[Sizes, Floats],
    u: ArrayLike | None = None,
    *,
    axis: int = 0,
    num_iterations: int = 1,
    eps: float = 1e-12,
    dtype: None = None,
) -> tuple[np.ndarray[Sizes, Floats], float, np.ndarray[tuple[int], Floats]]: ...
@overload
def spectral_norm(
    w: Tensor,
    u: ArrayLike | None = None,
    *,
    axis: int = 0,
    num_iterations: int = 1,
    eps: float = 1e-12,
    dtype: Any = None,
) -> tuple[Tensor, Any, Tensor]: ...
@overload
def spectral_norm(
    w: HostArrayLike,
    u: ArrayLike | None = None,
    *,
    axis: int = 0,
    num_iterations: int = 1,
    eps: float = 1e-12,
    dtype: Any = None,
) -> tuple[NDArray[Any], float, NDArray[Any]]: ...
def spectral_norm(
    w: ArrayLike,
    u: ArrayLike | None = None,
    *,
    axis: int = 0,
    num_iterations: int = 1,
    eps: float = 1e-12,
    dtype: Any = None,
) -> tuple[AnyArray, float | AnyArray, AnyArray]:
    """Spectral normalization: a weight over its largest singular value, found by power iteration.

    Parameters
    ----------
    w : array_like
        A weight; as a matrix it has one row for each index of `axis`.
    u : array_like, optional
        Left vector to start from, of shape (w.shape[axis],): what the last call returned. By default a fixed one,
        which for a weight on a GPU is copied there.
    axis : int
        Axis of the rows, usually the outputs.
    num_iterations : int
        Steps of the power iteration. 0: take u as it is.
    eps : float
        Least norm to divide by.
    dtype : dtype, optional
        Of the result and of u: any float type. By default w's own, and float64 for integers and booleans.

    Returns
    -------
    normalized : array
        w / sigma, as w.
    sigma : float
        The largest singular value, as far as the iteration has found it. For a weight on a GPU an array of its
        library, of no axes and in float64, so that nothing waits for it.
    u : array
        Left vector, to pass to the next call.

    Raises
    ------
    ValueError
        If u has another shape, the axis is out of range, or num_iterations or eps is negative.
    TypeError
        If an array is of a kind or dtype that is not supported.

    Notes
    -----
    T. Miyato, T. Kataoka, M. Koyama and Y. Yoshida, arXiv:1802.05957.

    A weight of zeros has no singular vector: its sigma is 0, its result NaN, and u stays what it was.

    A weight on a GPU whose rows have gaps in memory, as along another axis than the first, is copied to float64 for
    the iteration.

    Examples
    --------
    >>> import numbanorm as nbn
    >>> import numpy as np
    >>> normalized, sigma, u = nbn.spectral_norm(np.diag([4.0, 2.0]), num_iterations=50)
    >>> round(sigma, 6)
    4.0
    >>> normalized.round(6)
    array([[1. , 0. ],
           [0. , 0.5]])
    """
    array, library = take(w, "w")
    engine, (layout, _) = engine_of(array), _slices(array, as_int(axis, "axis"), "w")
    left, _, sigma = spectral_vectors(array, u, axis, num_iterations, eps)
    (inverse,) = engine.pointwise("inverse", 1, sigma)
    statistics = None, *engine.pointwise("identity_statistics", 2, left)
    wanted = result_dtype(array.dtype) if dtype is None else float_dtype(dtype)
    result = transform(w, layout, inverse, eps=0.0, statistics=statistics, dtype=wanted)[0]
    (left,) = engine.pointwise("to_float64", 1, left, dtype=wanted)
    value = engine.peek(sigma)
    return result, give(sigma, library) if value is None else float(value), give(left, library)


def spectral_vectors(array: Array, u: Any, axis: int, num_iterations: int, eps: float) -> tuple[Any, Any, Any]:
    """Left and right vector after a power iteration, and sigma, an array of no axes, all in float64."""
    engine, eps, steps = engine_of(array), check_eps(eps), as_int(num_iterations, "num_iterations")
    if steps < 0:
        raise ValueError(f"num_iterations must not be negative, got {num_iterations}")
    rows = array.shape[axis]
    left: Any = engine.send(_start(rows), array) if u is None else view(u, "u")
    if left.shape != (rows,):
        raise ValueError(f"u has shape {left.shape}, but needs ({rows},): w of shape {array.shape} along axis {axis}")
    check_same_device(array, {"u": left}, of="w")
    matrix = _matrix(engine, array, axis)
    left, right = _vectors(engine, matrix, to_float64(engine, left), steps, eps)
    sigma = engine.matvec(left.reshape((1, rows)), engine.matvec(matrix, right)).reshape(())
    return left, right, sigma


def _matrix(engine: Engine, array: Array, axis: int) -> Array:
    """A weight with the rows of `axis`."""
    others = [i for i in range(array.ndim) if i != axis % array.ndim]
    moved, shape = array.transpose((axis, *others)), (array.shape[axis], prod(array.shape[i] for i in others))
    try:
        return moved.reshape(shape)
    except ValueError:  # on a GPU, where it needs a copy
        copy: Array = engine.pointwise("to_float64", 1, moved)[0]
        return copy.reshape(shape)


def _start(rows: int) -> np.ndarray:
    """A fixed vector of no direction that a weight might avoid."""
    return np.random.default_rng(0).standard_normal((rows,))


def check_lengths(length: Array, array: Array, axis: int | None, spread: list[int]) -> None:
    """Refuse lengths that are not one for each slice."""
    fits = {(), tuple(spread)} if axis is None else {(array.shape[axis],), tuple(spread)}
    if length.shape not in fits:
        raise ValueError(
            f"g has shape {length.shape}, but v of shape {array.shape} with axis={axis} needs {sorted(fits)[0]}; pass "
            "that shape, one length for each slice"
        )


def _slices(array: Array, axis: int | None, name: str) -> tuple[Layout, list[int]]:
    """Layout of one group for each slice along an axis, and the shape in which its statistics broadcast."""
    if axis is None:
        return Layout.axes(None), [1] * array.ndim
    axis, ndim = as_int(axis, "axis"), array.ndim
    if not -ndim <= axis < ndim:
        fits = f"use {-ndim} to {ndim - 1}" if ndim else "that is a number, and has no slices: pass an array with axes"
        raise ValueError(f"axis {axis} is out of range for {name} of shape {array.shape}; {fits}")
    layout = Layout.batch(axis)
    spread = [1] * array.ndim
    spread[axis] = array.shape[axis]
    return layout, spread


def _vectors(engine: Engine, matrix: Array, left: Any, steps: int, eps: float) -> tuple[Any, Any]:
    """Left and right vector after so many steps of the power iteration."""
    values = engine.peek(left)
    if values is not None and not values.any():  # such as older versions returned for a weight of zeros
        left = _start(left.size)
    right = _unit(engine, engine.matvec(matrix.T, left), eps)
    for step in range(steps):
        left = _unit(engine, engine.matvec(matrix, right), eps, left)
        if step + 1 < steps:
            right = _unit(engine, engine.matvec(matrix.T, left), eps)
    return left, right


def _unit(engine: Engine, vector: Array, eps: float, otherwise: Array | float = 0.0) -> Any:
    """A vector over its norm, or over eps where that is larger; in the place of zeros, another vector."""
    (sizes,) = engine.pointwise("size", 1, vector)
    (one,) = engine.pointwise("full", 1, vector, 1.0)
    total = engine.matvec(sizes.reshape((1, vector.size)), one)  # at least the norm: its squares do not overflow
    (part,) = engine.pointwise("share", 1, vector, total)
    square = engine.matvec(part.reshape((1, vector.size)), part)
    return engine.pointwise("unit", 1, part, total, square, eps, otherwise)[0]
