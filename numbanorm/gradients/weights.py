"""Going backward through the norms of weights."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from ..arrays.annotations import AnyArray, ArrayLike
from ..arrays.forms import result_dtype
from ..arrays.give import result_like
from ..call.arguments import EpsOn
from ..call.backward import check_operands, give_gradients, give_like, go_backward, required_parameter
from ..call.choose import engine_of, on_host
from ..call.run import Prepared
from ..layout import as_int
from ..norms import weights
from ..statistics import Moments
from .known import states_of


def weight_norm_backward(
    grad: ArrayLike, v: ArrayLike, g: ArrayLike, *, axis: int | None = 0
) -> tuple[AnyArray, AnyArray]:
    """Gradients of `weight_norm` for direction and length.

    Parameters
    ----------
    grad : array_like
        Gradient of a loss for the result: of v's shape and any float dtype.
    v, g : array_like
        Direction and length, of floats.
    axis : int or None
        As in `weight_norm`.

    Returns
    -------
    dv, dg : array
        Gradients for v and g, each of its type, shape and dtype.

    Raises
    ------
    ValueError, TypeError
        As the forward function and `normalize_backward`.

    Notes
    -----
    T. Salimans and D. P. Kingma, arXiv:1602.07868, equation 3, with norms and sums over each slice::

        dg = sum(grad * v) / norm(v)        dv = g / norm(v) * (grad - dg * v / norm(v))

    Examples
    --------
    >>> import numbanorm as nbn
    >>> import numpy as np
    >>> dv, dg = nbn.weight_norm_backward(np.array([[1.0, 0.0]]), np.array([[3.0, 4.0]]), np.array([10.0]))
    >>> dv.round(3), dg.round(3)
    (array([[ 1.28, -0.96]]), array([0.6]))
    """
    taken = check_operands(grad, v)
    parameter = required_parameter(g, taken.x, "g")
    length, (layout, spread) = parameter.array, weights._slices(taken.x, axis, "v")
    weights.check_lengths(length, taken.x, axis, spread)
    root, engine = sqrt(taken.x.size / max(1, length.size)), engine_of(taken.x)
    scale = engine.pointwise("share", 1, length.reshape(spread), root)[0]
    dv, total, _ = go_backward(taken, Prepared(layout, scale, center=False), None, 0.0)
    dg = engine.pointwise("share", 1, total, root)[0]
    return give_gradients(taken, (dv, None, None), None)[0], give_like(dg, parameter)


def weight_standardize_backward(
    grad: ArrayLike,
    w: ArrayLike,
    *,
    axis: int = 0,
    eps: float = 1e-5,
    ddof: int = 0,
    eps_on: EpsOn = "var",
    moments: Moments[Any] | None = None,
) -> AnyArray:
    """Gradient of `weight_standardize` for the weight.

    Parameters
    ----------
    grad : array_like
        Gradient of a loss for the result: of w's shape and any float dtype.
    w : array_like
        The weight, of floats.
    axis, eps, ddof, eps_on
        As in `weight_standardize`.
    moments : Moments, optional
        Statistics of the slices, as the forward call gives them with ``return_moments=True``. By default they are made
        again.

    Returns
    -------
    array
        Gradient for w: its type, shape, memory order and dtype.

    Raises
    ------
    ValueError, TypeError
        As the forward function and `normalize_backward`.

    Notes
    -----
    S. Qiao, H. Wang, C. Liu, W. Shen and A. Yuille, arXiv:1903.10520; the formula is that of `normalize_backward`.

    Examples
    --------
    >>> import numbanorm as nbn
    >>> import numpy as np
    >>> nbn.weight_standardize_backward(np.array([[1.0, 0.0, 0.0]]), np.array([[1.0, 2.0, 6.0]])).round(3)
    array([[ 0.176, -0.22 ,  0.044]])
    """
    taken = check_operands(grad, w)
    ours = weights._by_slice(taken.x, None, None, axis, ddof, eps_on)
    return give_gradients(taken, go_backward(taken, ours, states_of(moments), eps), None)[0]


def spectral_norm_backward(
    grad: ArrayLike,
    w: ArrayLike,
    u: ArrayLike | None = None,
    *,
    axis: int = 0,
    num_iterations: int = 1,
    eps: float = 1e-12,
) -> AnyArray:
    """Gradient of `spectral_norm` for the weight.

    Parameters
    ----------
    grad : array_like
        Gradient of a loss for the result: of w's shape and any float dtype.
    w : array_like
        The weight, of floats; on the host.
    u, axis, num_iterations, eps
        As the forward call had them: the power iteration is run again. u is the vector that it started from, not the
        one that it returned.

    Returns
    -------
    array
        Gradient for w: its type, shape, memory order and dtype.

    Raises
    ------
    ValueError, TypeError
        As the forward function and `normalize_backward`.

    Notes
    -----
    T. Miyato, T. Kataoka, M. Koyama and Y. Yoshida, arXiv:1802.05957, section 2.3: both singular vectors are constants,
    and with W the weight as a matrix::

        dW = grad / sigma - sum(grad * W) / sigma**2 * outer(u, v)

    Examples
    --------
    >>> import numbanorm as nbn
    >>> import numpy as np
    >>> w, grad = np.diag([4.0, 2.0]), np.ones((2, 2))
    >>> nbn.spectral_norm_backward(grad, w, num_iterations=50).round(3) + 0.0
    array([[-0.125,  0.25 ],
           [ 0.25 ,  0.25 ]])
    """
    taken = check_operands(grad, w)
    if not on_host(taken.x):
        raise TypeError("spectral_norm_backward works on the host so far; copy w, grad and u there first")
    axis = as_int(axis, "axis")
    weights._slices(taken.x, axis, "w")  # refuses an axis that is not there
    left, right, sigma = weights.spectral_vectors(taken.x, u, axis, num_iterations, eps)
    out = result_like(taken.x, result_dtype(taken.x.dtype))
    rows, given, made = (np.moveaxis(np.asarray(array), axis, 0) for array in (taken.x, taken.grad, out))
    right = right.reshape(rows.shape[1:])
    with np.errstate(all="ignore"):
        # Row by row, so that nothing of the weight's size is made beside the result.
        total = sum(float(np.vdot(_wide(g), _wide(row))) for g, row in zip(given, rows, strict=True))
        for i, g in enumerate(given):
            made[i] = _wide(g) / sigma - (total / sigma**2 * left[i]) * right
    return give_gradients(taken, (out, None, None), None)[0]


def _wide(array: Any) -> Any:
    return array.astype(np.float64)
