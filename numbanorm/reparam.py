"""Normalizations of weights: weight norm, weight standardization, spectral norm."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import engine
from .arrays import give, result_dtype, take, view
from .engine import Array
from .layout import Layout, as_int
from .normalize import check_eps, transform


def weight_norm(v: ArrayLike, g: ArrayLike, *, axis: int | None = 0) -> Any:
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
    layout, spread = _slices(array, axis)
    length = view(g, "g")
    fits = {tuple(spread)} if axis is None else {(array.shape[axis],), tuple(spread)}
    if axis is None:
        fits.add(())
    if length.shape not in fits:
        raise ValueError(
            f"g has shape {length.shape}, but v of shape {array.shape} with axis={axis} needs {sorted(fits)[0]}"
        )
    square = engine.reduce(layout, array, center=False)[2]
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = length.astype(np.float64).reshape(square.shape) / np.sqrt(square)
    one = np.ones_like(square)
    return transform(v, layout, scale.reshape(spread), eps=0.0, states=(one, np.zeros_like(one), one))[0]


def weight_standardize(w: ArrayLike, *, axis: int = 0, eps: float = 1e-5, ddof: int = 0) -> Any:
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
    array = view(w, "w")
    layout, _ = _slices(array, axis)
    eps, ddof = check_eps(eps), as_int(ddof, "ddof")
    if ddof < 0:
        raise ValueError(f"ddof must not be negative, got {ddof}")
    count, mean, m2 = engine.reduce(layout, array)
    if array.size and array.size // array.shape[axis] <= ddof:
        raise ValueError(
            f"ddof={ddof} needs more than {ddof} values a slice; w has shape {array.shape} and axis is {axis}"
        )
    return transform(w, layout, eps=eps, states=(count - ddof, mean, m2))[0]


def spectral_norm(
    w: ArrayLike, u: ArrayLike | None = None, *, axis: int = 0, num_iterations: int = 1, eps: float = 1e-12
) -> tuple[Any, float, Any]:
    """Spectral normalization: a weight over its largest singular value, found by power iteration.

    Parameters
    ----------
    w : array_like
        A weight; as a matrix it has one row for each index of `axis`.
    u : array_like, optional
        Left vector to start from, of shape (w.shape[axis],): what the last call returned. By default a fixed one.
    axis : int
        Axis of the rows, usually the outputs.
    num_iterations : int
        Steps of the power iteration. 0: take u as it is.
    eps : float
        Least norm to divide by.

    Returns
    -------
    normalized : array
        w / sigma, as w.
    sigma : float
        The largest singular value, as far as the iteration has found it.
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
    layout, _ = _slices(array, axis)
    eps, steps = check_eps(eps), as_int(num_iterations, "num_iterations")
    if steps < 0:
        raise ValueError(f"num_iterations must not be negative, got {num_iterations}")
    rows = array.shape[axis]
    wide = array.dtype.kind in "iub" or array.dtype.itemsize == 8
    matrix = np.moveaxis(array, axis, 0).reshape(rows, -1 if array.size else 0)
    matrix = matrix.astype(np.float64 if wide else np.float32, copy=False)
    if u is None:
        left = np.random.default_rng(0).standard_normal((rows,)).astype(matrix.dtype)
    else:
        left = view(u, "u").astype(matrix.dtype)
        if left.shape != (rows,):
            raise ValueError(
                f"u has shape {left.shape}, but w of shape {array.shape} has {rows} rows along axis {axis}"
            )
    right = _unit(matrix.T @ left, eps)
    for step in range(steps):
        left = _unit(matrix @ right, eps)
        if step + 1 < steps:
            right = _unit(matrix.T @ left, eps)
    sigma = float(left @ (matrix @ right))
    one = np.ones(rows)
    result = transform(w, layout, np.float64(1 / sigma if sigma else np.inf), eps=0.0, states=(one, 0 * one, one))[0]
    return result, sigma, give(left.astype(result_dtype(array.dtype)), library)


def _slices(array: Array, axis: int | None) -> tuple[Layout, list[int]]:
    """Layout of one group for each slice along an axis, and the shape in which its statistics broadcast."""
    if axis is None:
        return Layout.axes(None), [1] * array.ndim
    layout = Layout.batch(axis)
    layout.resolve(array.shape)
    spread = [1] * array.ndim
    spread[axis] = array.shape[axis]
    return layout, spread


def _unit(vector: Array, eps: float) -> Array:
    unit: Array = vector / max(float(np.linalg.norm(vector)), eps)
    return unit
