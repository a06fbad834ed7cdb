"""normalize(): x <- (x - mean) / sqrt(var + eps) * weight + bias, for any groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from .arrays.annotations import AnyArray, ArrayLike, Floats, HostArrayLike, Sizes, Tensor
from .arrays.lazy import taken_by
from .arrays.take import view
from .call.arguments import EpsOn, as_layout, on_std
from .call.choose import engine_of
from .call.chosen import WeightsAre, choice_of, normalize_by_chosen, refuse_beside
from .call.handed import Output, Selection
from .call.known import normalized
from .call.labels import normalize_by_label, refuse_number_alone
from .call.ragged import of_rows, rows_of
from .call.run import Prepared, States, Statistics, packed, transform
from .layout import Layout, Segments, as_int
from .statistics import Moments, kept


# fmt: off
@overload
def normalize(
    x: np.ndarray[Sizes, Floats],
    layout: str | Layout | None = None, weight: ArrayLike | None = None, bias: ArrayLike | None = None, *,
    axis: int | Sequence[int] | None = None, eps: float = 1e-5, ddof: int = 0, eps_on: EpsOn = "var",
    moments: Moments[Any] | None = None, out: AnyArray | None = None, dtype: None = None,
    return_moments: Literal[False] = False, where: ArrayLike | None = None,
    weights: ArrayLike | None = None, labels: ArrayLike | None = None, num_labels: int | None = None,
    skipna: bool = False, weights_are: WeightsAre = "frequency", **sizes: int,
) -> np.ndarray[Sizes, Floats]: ...
@overload
def normalize(
    x: np.ndarray[Sizes, Floats],
    layout: str | Layout | None = None, weight: ArrayLike | None = None, bias: ArrayLike | None = None, *,
    axis: int | Sequence[int] | None = None, eps: float = 1e-5, ddof: int = 0, eps_on: EpsOn = "var",
    moments: Moments[Any] | None = None, out: AnyArray | None = None, dtype: None = None,
    return_moments: Literal[True], where: ArrayLike | None = None,
    weights: ArrayLike | None = None, labels: ArrayLike | None = None, num_labels: int | None = None,
    skipna: bool = False, weights_are: WeightsAre = "frequency", **sizes: int,
) -> tuple[np.ndarray[Sizes, Floats], Moments]: ...
@overload
def normalize(
    x: Tensor,
    layout: str | Layout | None = None, weight: ArrayLike | None = None, bias: ArrayLike | None = None, *,
    axis: int | Sequence[int] | None = None, eps: float = 1e-5, ddof: int = 0, eps_on: EpsOn = "var",
    moments: Moments[Any] | None = None, out: AnyArray | None = None, dtype: Any = None,
    return_moments: Literal[False] = False, where: ArrayLike | None = None,
    weights: ArrayLike | None = None, labels: ArrayLike | None = None, num_labels: int | None = None,
    skipna: bool = False, weights_are: WeightsAre = "frequency", **sizes: int,
) -> Tensor: ...
@overload
def normalize(
    x: Tensor,
    layout: str | Layout | None = None, weight: ArrayLike | None = None, bias: ArrayLike | None = None, *,
    axis: int | Sequence[int] | None = None, eps: float = 1e-5, ddof: int = 0, eps_on: EpsOn = "var",
    moments: Moments[Any] | None = None, out: AnyArray | None = None, dtype: Any = None,
    return_moments: Literal[True], where: ArrayLike | None = None,
    weights: ArrayLike | None = None, labels: ArrayLike | None = None, num_labels: int | None = None,
    skipna: bool = False, weights_are: WeightsAre = "frequency", **sizes: int,
) -> tuple[Tensor, Moments[Any]]: ...
@overload
def normalize(
    x: HostArrayLike,
    layout: str | Layout | None = None, weight: ArrayLike | None = None, bias: ArrayLike | None = None, *,
    axis: int | Sequence[int] | None = None, eps: float = 1e-5, ddof: int = 0, eps_on: EpsOn = "var",
    moments: Moments[Any] | None = None, out: AnyArray | None = None, dtype: Any = None,
    return_moments: Literal[False] = False, where: ArrayLike | None = None,
    weights: ArrayLike | None = None, labels: ArrayLike | None = None, num_labels: int | None = None,
    skipna: bool = False, weights_are: WeightsAre = "frequency", **sizes: int,
) -> NDArray[Any]: ...
@overload
def normalize(
    x: HostArrayLike,
    layout: str | Layout | None = None, weight: ArrayLike | None = None, bias: ArrayLike | None = None, *,
    axis: int | Sequence[int] | None = None, eps: float = 1e-5, ddof: int = 0, eps_on: EpsOn = "var",
    moments: Moments[Any] | None = None, out: AnyArray | None = None, dtype: Any = None,
    return_moments: Literal[True], where: ArrayLike | None = None,
    weights: ArrayLike | None = None, labels: ArrayLike | None = None, num_labels: int | None = None,
    skipna: bool = False, weights_are: WeightsAre = "frequency", **sizes: int,
) -> tuple[NDArray[Any], Moments]: ...
@overload
def normalize(
    x: ArrayLike,
    layout: str | Layout | None = None, weight: ArrayLike | None = None, bias: ArrayLike | None = None, *,
    axis: int | Sequence[int] | None = None, eps: float = 1e-5, ddof: int = 0, eps_on: EpsOn = "var",
    moments: Moments[Any] | None = None, out: AnyArray | None = None, dtype: Any = None,
    return_moments: bool, where: ArrayLike | None = None,
    weights: ArrayLike | None = None, labels: ArrayLike | None = None, num_labels: int | None = None,
    skipna: bool = False, weights_are: WeightsAre = "frequency", **sizes: int,
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
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    num_labels: int | None = None,
    skipna: bool = False,
    weights_are: WeightsAre = "frequency",
    **sizes: int,
) -> AnyArray | tuple[AnyArray, Moments]:
    """Give every group of an array mean 0 and variance 1, then scale and shift it.

    Parameters
    ----------
    x : array_like
        Floating point (float64, float32, float16, bfloat16), integer or boolean, of any shape and strides; on the
        host or on a GPU. Of torch's nested tensors those of layout jagged, on the host.
    layout : str or Layout, optional
        Which elements share statistics: a pattern such as ``"n (g c) h w -> n g"``, or a `Layout`.
    weight, bias : array_like, optional
        Scale and shift, broadcast against x by NumPy's rules. They lie where x does, if they are no numbers.
    axis : int or sequence of int, optional
        In place of a layout: the axes to reduce, as in NumPy. With neither, all of x is one group.
    eps : float
        Added to the variance, in units of x squared; not negative.
    ddof : int
        0: divide by the variance of the values. 1: by the unbiased estimate, m2 / (count - 1). Segments with no more
        than `ddof` values become NaN.
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
        Return ``(result, moments)``. Their means are of one part, where those of `moments` are of two, for merging:
        see docs/numerics.md.
    where, weights : array_like, optional
        Which elements make the statistics, and how much each counts, as in `moments`. All elements are normalized by
        them. A group of which nothing counts, or not more than `ddof`, becomes NaN. With labels and segments, too.
    labels : array_like of int, optional
        Split every group by them, as in `moments`. What has a negative label is copied as it is, without weight and
        bias. A label with no more than `ddof` values becomes NaN. Of a data frame, the name of a column, or a series.
    num_labels : int, optional
        Labels are below it. By default one more than the highest of them.
    skipna : bool
        Leave NaN out of the statistics. It stays NaN in the result.
    weights_are : {"frequency", "reliability"}
        What weights say, as in `moments`. It matters for `ddof` alone.
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
        another shape, is read-only or overlaps an input; if labels do not fit what is reduced, or one is not below
        num_labels; if where or weights do not broadcast to x, a weight that counts is negative, infinite or NaN (on a
        GPU its group becomes NaN), or there are both a choice and moments. Nothing is touched then.
    TypeError
        If an array is masked or of a dtype without a mean, `out` has another dtype than the result, or some arrays
        lie on the host and some on a GPU; labels are no integers, or where is not boolean; for labels or segments and
        arrays on a GPU.
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
    >>> nbn.normalize(np.array([1.0, np.nan, 3.0]), skipna=True, eps=0)
    array([-1., nan,  1.])
    """
    if type(x) is not np.ndarray and (taken := taken_by(x)) is not None:
        selection = Selection(where, weights, labels, num_labels, skipna, weights_are)
        output = Output(weight, bias, eps, ddof, eps_on, moments, out, dtype, return_moments)
        return taken.normalize(x, layout, axis, sizes, selection, output)
    keep = kept(return_moments)
    choice = None
    if where is not None or weights is not None or skipna is not False or weights_are != "frequency":
        choice = choice_of(where, weights, skipna, weights_are)
    if choice is not None:
        refuse_beside(choice, labels, num_labels, moments, normalize)
        chosen = as_layout(layout, axis, sizes, normalize)
        given = {"eps": eps, "ddof": as_int(ddof, "ddof"), "eps_on_std": on_std(eps_on), "out": out, "dtype": dtype}
        if moments is None:
            result, states = normalize_by_chosen(x, chosen, weight, bias, choice, labels, num_labels, **given)
            return result if keep is None else (result, keep(*states))
    if labels is not None or num_labels is not None:
        chosen = as_layout(layout, axis, sizes, normalize)
        given = {"eps": eps, "ddof": as_int(ddof, "ddof"), "eps_on_std": on_std(eps_on), "out": out, "dtype": dtype}
        return _by_label(x, chosen, weight, bias, labels, num_labels, moments, keep, given)
    if moments is None:
        settings = (layout, axis, ddof, eps_on, *sizes, *sizes.values())
        return normalized(x, weight, bias, eps, out, _by_layout, settings, dtype=dtype, keep=keep)
    chosen = of_rows(as_layout(layout, axis, sizes, normalize), x)
    numbers: dict[str, Any] = {"eps": eps, "ddof": as_int(ddof, "ddof"), "eps_on_std": on_std(eps_on)}
    statistics = _statistics(x, chosen, moments)
    result = transform(x, chosen, weight, bias, out=out, dtype=dtype, statistics=statistics, **numbers)[0]
    return result if keep is None else (result, moments)


def _by_label(
    x: Any,
    layout: Layout,
    weight: Any,
    bias: Any,
    labels: Any,
    num_labels: Any,
    moments: Any,
    keep: Callable[..., Moments[Any]] | None,
    given: dict[str, Any],
) -> Any:
    """Normalize groups that are split by labels; `given`: all numbers, and the output."""
    if labels is None:
        refuse_number_alone(num_labels, normalize)
    statistics = None if moments is None else (*_states_of(moments), moments._rest)
    result, states = normalize_by_label(x, layout, weight, bias, labels, num_labels, statistics=statistics, **given)
    return result if keep is None else (result, keep(*states) if moments is None else moments)


def _by_layout(x: Any, weight: Any, bias: Any, layout: Any, axis: Any, ddof: Any, eps_on: Any, *sizes: Any) -> Prepared:
    """The layout that a caller's arguments mean; `sizes`: all names, and behind them their sizes."""
    half = len(sizes) // 2
    chosen = as_layout(layout, axis, dict(zip(sizes[:half], sizes[half:], strict=True)), normalize)
    return Prepared(of_rows(chosen, x), weight, bias, ddof=as_int(ddof, "ddof"), eps_on_std=on_std(eps_on))


def _statistics(x: Any, layout: Layout, moments: Any) -> Statistics:
    """The caller's statistics as kernels read them, if they are of the layout's groups."""
    count, mean, m2 = _states_of(moments)
    rows = rows_of(layout, x, "x") if isinstance(layout, Segments) else x
    shape = layout.group_shape(view(rows).shape)
    if count.shape != shape:
        raise ValueError(f"moments have group shape {count.shape}, but {layout!r} of x has {shape}")
    return count, mean, m2


def _states_of(moments: Any) -> States:
    """Statistics of the caller's as kernels read them."""
    if not isinstance(moments, Moments):
        raise TypeError(f"moments must be Moments, got {type(moments).__name__}; see numbanorm.moments")
    engine = engine_of(moments._states[0])
    count, mean, m2 = (packed(engine, state) for state in moments._states)
    return count, mean, m2
