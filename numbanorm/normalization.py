"""normalize(): x <- (x - mean) / sqrt(var + eps) * weight + bias, for any groups. The pipeline behind every norm."""

from typing import Any

from numpy.typing import ArrayLike

from .arrays.memory import Array, DeviceArray, same_memory, together
from .arrays.take import give, result_like, take, take_out, view
from .call import known as calls
from .cpu import engine
from .cpu.engine import States, Stored
from .layout import Layout
from .statistics import Moments, as_layout


def normalize(
    x: ArrayLike,
    layout: str | Layout | None = None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    axis: int | tuple[int, ...] | None = None,
    eps: float = 1e-5,
    moments: Moments | None = None,
    out: Any = None,
    return_moments: bool = False,
    **sizes: int,
) -> Any:
    """Give every group of an array mean 0 and variance 1, then scale and shift it.

    Parameters
    ----------
    x : array_like
        Floating point (float64, float32, float16, bfloat16), integer or boolean, of any shape and strides; on the
        host or on a GPU.
    layout : str or Layout, optional
        Which elements share statistics: a pattern such as ``"n (g c) h w -> n g"``, or a `Layout`.
    weight, bias : array_like, optional
        Scale and shift, broadcast against x by NumPy's rules. They lie where x does, if they are no numbers.
    axis : int or tuple of int, optional
        In place of a layout: the axes to reduce, as in NumPy. With neither, all of x is one group.
    eps : float
        Added to the variance, in units of x squared; not negative.
    moments : Moments, optional
        Statistics to use in place of x's own, of the layout's group shape.
    out : array, optional
        Where to write the result: x itself to work in place, or an array apart from it; of the result's shape and
        dtype.
    return_moments : bool
        Return ``(result, moments)``.
    **sizes : int
        Sizes of the pattern's names.

    Returns
    -------
    array
        As x: its type, shape, memory order, device and dtype (float64 for integers and booleans).
        A group without spread becomes exactly its bias.

    Raises
    ------
    ValueError
        If the layout does not fit x's shape, weight or bias does not broadcast, eps is negative, or `out` has
        another shape, is read-only or overlaps an input. Nothing is touched then.
    TypeError
        If an array is masked or of a dtype without a mean, `out` has another dtype than the result, or some arrays
        lie on the host and some on a GPU.
    ImportError, RuntimeError
        For arrays on a GPU without numba-cuda (``pip install numbanorm[cuda13]``), or without a driver.

    Notes
    -----
    Statistics are float64, from blocks of pivoted sums merged by Chan's formula. The output is made in x's own
    precision with the mean in two parts, so that a large mean costs no digits. See docs/numerics.md.

    Arrays on a GPU (of torch, CuPy, Numba, or with ``__cuda_array_interface__``) give one of the same library; those
    of other libraries give one of Numba's. Everything is queued on the stream that is current for the caller: nothing
    is copied to the host, and nothing waits.

    Examples
    --------
    >>> import numbanorm as nbn
    >>> import numpy as np
    >>> table = np.array([[1.0, 50.0], [2.0, 60.0], [3.0, 70.0]])
    >>> nbn.normalize(table, axis=0, eps=0).round(3)
    array([[-1.225, -1.225],
           [ 0.   ,  0.   ],
           [ 1.225,  1.225]])
    >>> images = np.arange(32, dtype=np.float32).reshape(1, 4, 4, 2)
    >>> y = nbn.normalize(images, "n (h p) (w q) c -> n h w c", p=2, q=2)  # by patch
    >>> y[0, :2, :2, 0].round(2)
    array([[-1.21, -0.73],
           [ 0.73,  1.21]], dtype=float32)
    """
    known = None
    if moments is None and not return_moments and (axis is None or type(axis) is int):
        known = calls.describe(x, weight, bias, out, layout, axis, tuple(sizes.items()))
        if call := calls.find(known, eps, out, x, weight, bias):
            return calls.repeat(call, x, weight, bias, eps, out)[0]
    chosen = as_layout(layout, axis, sizes)
    states: States | None = None
    if moments is not None:
        if not isinstance(moments, Moments):
            raise TypeError(f"moments must be Moments, got {type(moments).__name__}; see numbanorm.moments")
        shape = chosen.group_shape(view(x).shape)
        count, mean, m2 = map(engine.packed, moments._states)
        if count.shape != shape:
            raise ValueError(f"moments have group shape {count.shape}, but {chosen!r} of x has {shape}")
        states = count, mean, m2
    result, states = transform(
        x, chosen, weight, bias, eps=eps, states=states, out=out, keep=return_moments and moments is None, known=known
    )
    if not return_moments:
        return result
    return result, moments if moments is not None else Moments(*states)  # type: ignore[misc]


def transform(
    x: Any,
    layout: Layout,
    weight: Any = None,
    bias: Any = None,
    *,
    eps: float,
    center: bool = True,
    states: Stored | None = None,
    out: Any = None,
    keep: bool = False,
    apart: dict[str, Array] | None = None,
    known: calls.Description | None = None,
) -> tuple[Any, States | None]:
    """Check every argument, then run: (result, states of the groups if `keep`).

    `center` False normalizes about zero; `states` replace x's own; `apart` names further arrays that `out` must not
    overlap. The call is remembered by the description `known`, if there is one.
    """
    array, library = take(x)
    eps = check_eps(eps)
    weight = None if weight is None else _operand(weight, "weight", array)
    bias = None if bias is None else _operand(bias, "bias", array)
    others = {"weight": weight, "bias": bias, **(apart or {})}
    if states is not None:
        others |= dict(zip(("moments.count", "moments.mean", "moments.m2"), states, strict=True))
    together(array, others)
    if out is None:
        target = result_like(array)
    else:
        target = take_out(out, array, others)
        if same_memory(target, array):
            target = array
    made = engine.normalize(layout, array, target, weight, bias, eps, center=center, states=states, keep=keep)
    if known is not None:
        calls.remember(known, layout, array, target, weight, bias, center, states, (apart or {}).values())
    return (give(target, library) if out is None else out), made


def _operand(value: Any, name: str, x: Array) -> Any:
    """Weight or bias. A number becomes an array where x lies."""
    array = view(value, name)
    if isinstance(x, DeviceArray) and not isinstance(array, DeviceArray) and array.ndim == 0:
        return engine.constant(float(array), x)
    return array


def check_number(value: Any, name: str) -> float:
    """A number as a float; strings are none."""
    try:
        if isinstance(value, str | bytes):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}") from None


def check_eps(eps: float) -> float:
    """Eps as a float; it must be a number, not negative and not NaN."""
    value = check_number(eps, "eps")
    if not value >= 0:
        raise ValueError(f"eps must not be negative or NaN, got {eps}; it is added to the variance, 1e-5 is usual")
    return value
