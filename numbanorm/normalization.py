"""normalize(): x <- (x - mean) / sqrt(var + eps) * weight + bias, for any groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from .arrays.annotations import AnyArray, ArrayLike, Floats, HostArrayLike, Sizes, Tensor
from .arrays.take import view
from .call.arguments import EpsOn, as_layout, on_std
from .call.choose import engine_of
from .call.known import normalized
from .call.run import Prepared, Statistics, packed, transform
from .layout import Layout, as_int
from .statistics import Moments, kept


# fmt: off
@overload
def normalize(
    x: np.ndarray[Sizes, Floats],
    layout: str | Layout | None = None, weight: ArrayLike | None = None, bias: ArrayLike | None = None, *,
    axis: int | Sequence[int] | None = None, eps: float = 1e-5, ddof: int = 0, eps_on: EpsOn = "var",
    moments: Moments[Any] | None = None, out: AnyArray | None = None, dtype: None = None,
    return_moments: Literal[False] = False, **sizes: int,
) -> np.ndarray[Sizes, Floats]: ...
@overload
def normalize(
    x: np.ndarray[Sizes, Floats],
    layout: str | Layout | None = None, weight: ArrayLike | None = None, bias: ArrayLike | None = None, *,
    axis: int | Sequence[int] | None = None, eps: float = 1e-5, ddof: int = 0, eps_on: EpsOn = "var",
    moments: Moments[Any] | None = None, out: AnyArray | None = None, dtype: None = None,
    return_moments: Literal[True], **sizes: int,
) -> tuple[np.ndarray[Sizes, Floats], Moments]: ...
@overload
def normalize(
    x: Tensor,
    layout: str | Layout | None = None, weight: ArrayLike | None = None, bias: ArrayLike | None = None, *,
    axis: int | Sequence[int] | None = None, eps: float = 1e-5, ddof: int = 0, eps_on: EpsOn = "var",
    moments: Moments[Any] | None = None, out: AnyArray | None = None, dtype: Any = None,
    return_moments: Literal[False] = False, **sizes: int,
) -> Tensor: ...
@overload
def normalize(
    x: Tensor,
    layout: str | Layout | None = None, weight: ArrayLike | None = None, bias: ArrayLike | None = None, *,
    axis: int | Sequence[int] | None = None, eps: float = 1e-5, ddof: int = 0, eps_on: EpsOn = "var",
    moments: Moments[Any] | None = None, out: AnyArray | None = None, dtype: Any = None,
    return_moments: Literal[True], **sizes: int,
) -> tuple[Tensor, Moments[Any]]: ...
@overload
def normalize(
    x: HostArrayLike,
    layout: str | Layout | None = None, weight: ArrayLike | None = None, bias: ArrayLike | None = None, *,
    axis: int | Sequence[int] | None = None, eps: float = 1e-5, ddof: int = 0, eps_on: EpsOn = "var",
    moments: Moments[Any] | None = None, out: AnyArray | None = None, dtype: Any = None,
    return_moments: Literal[False] = False, **sizes: int,
) -> NDArray[Any]: ...
@overload
def normalize(
    x: HostArrayLike,
    layout: str | Layout | None = None, weight: ArrayLike | None = None, bias: ArrayLike | None = None, *,
    axis: int | Sequence[int] | None = None, eps: float = 1e-5, ddof: int = 0, eps_on: EpsOn = "var",
    moments: Moments[Any] | None = None, out: AnyArray | None = None, dtype: Any = None,
    return_moments: Literal[True], **sizes: int,
) -> tuple[NDArray[Any], Moments]: ...
@overload
def normalize(
    x: ArrayLike,
    layout: str | Layout | None = None, weight: ArrayLike | None = None, bias: ArrayLike | None = None, *,
    axis: int | Sequence[int] | None = None, eps: float = 1e-5, ddof: int = 0, eps_on: EpsOn = "var",
    moments: Moments[Any] | None = None, out: AnyArray | None = None, dtype: Any = None,
    return_moments: bool, **sizes: int,
) -> Any: ...
# fmt: on
def normalize(
    x: ArrayLike,
    layout: str | Layout | None = None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    axis: int | Sequence[int] | None = None,
    eps: float = 1e-5,
    ddof: int = 0,
    eps_on: EpsOn = "var",
    moments: Moments | None = None,
    out: AnyArray | None = None,
    dtype: Any = None,
    return_moments: bool = False,
    **sizes: int,
) -> AnyArray | tuple[AnyArray, Moments]:
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
    axis : int or sequence of int, optional
        In place of a layout: the axes to reduce, as in NumPy. With neither, all of x is one group.
    eps : float
        Added to the variance, in units of x squared; not negative.
    ddof : int
        0: divide by the variance of the values. 1: by the unbiased estimate, m2 / (count - 1).
    eps_on : {"var", "std"}
        Where eps is added: ``(x - mean) / sqrt(var + eps)``, or ``(x - mean) / (std + eps)``, in units of x.
    moments : Moments, optional
        Statistics to use in place of x's own, of the layout's group shape.
    out : array, optional
        Where to write the result: x itself to work in place, or an array apart from it; of x's shape and any float
        type.
    dtype : dtype, optional
        Of the result: any float type. By default that of `out`, or x's own, and float64 for integers and booleans.
    return_moments : bool
        Return ``(result, moments)``.
    **sizes : int
        Sizes of the pattern's names.

    Returns
    -------
    array
        As x: its type, shape, memory order, device, and dtype if no other is asked for. A group
        without spread becomes exactly its bias.

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
    keep = kept(return_moments)
    if moments is None:
        settings = (layout, axis, ddof, eps_on, *sizes, *sizes.values())
        return normalized(x, weight, bias, eps, out, _by_layout, settings, dtype=dtype, keep=keep)
    chosen = as_layout(layout, axis, sizes, normalize)
    numbers: dict[str, Any] = {"eps": eps, "ddof": as_int(ddof, "ddof"), "eps_on_std": on_std(eps_on)}
    statistics = _statistics(x, chosen, moments)
    result = transform(x, chosen, weight, bias, out=out, dtype=dtype, statistics=statistics, **numbers)[0]
    return result if keep is None else (result, moments)


def _by_layout(x: Any, weight: Any, bias: Any, layout: Any, axis: Any, ddof: Any, eps_on: Any, *sizes: Any) -> Prepared:
    """The layout that a caller's arguments mean; `sizes`: all names, and behind them their sizes."""
    half = len(sizes) // 2
    chosen = as_layout(layout, axis, dict(zip(sizes[:half], sizes[half:], strict=True)), normalize)
    return Prepared(chosen, weight, bias, ddof=as_int(ddof, "ddof"), eps_on_std=on_std(eps_on))


def _statistics(x: Any, layout: Layout, moments: Any) -> Statistics:
    """The caller's statistics as kernels read them, if they are of the layout's groups."""
    if not isinstance(moments, Moments):
        raise TypeError(f"moments must be Moments, got {type(moments).__name__}; see numbanorm.moments")
    shape = layout.group_shape(view(x).shape)
    engine = engine_of(moments._states[0])
    count, mean, m2 = (packed(engine, state) for state in moments._states)
    if count.shape != shape:
        raise ValueError(f"moments have group shape {count.shape}, but {layout!r} of x has {shape}")
    return count, mean, m2
