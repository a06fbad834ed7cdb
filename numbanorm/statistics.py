"""Moments: the mergeable state of mean and variance, and `moments()`, which makes one from an array."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any, Generic, Self, overload

import numpy as np
from numpy.typing import NDArray

from .arrays.annotations import ArrayLike, HasCudaInterface, HostArrayLike, Statistic
from .arrays.give import give, to_host
from .arrays.libraries import on_device
from .arrays.memory import check_same_device
from .arrays.take import take, view
from .call.arguments import as_layout, check_flag, check_number
from .call.choose import engine_of
from .call.run import States, to_float64
from .call.run import moments as take_moments
from .layout import Layout


class Moments(Generic[Statistic]):
    """Count, mean and sum of squared deviations of each group: everything that mean and variance need, mergeable.

    Parameters
    ----------
    count : array_like
        How many values each group has.
    mean : array_like
        Their mean; NaN where there are none.
    m2 : array_like
        Sum of the squared distances from the mean.

    Attributes
    ----------
    count, mean, m2 : array of float64
        Of the group shape: ndarrays, or for values on a GPU arrays of the caller's library there.

    Notes
    -----
    Two states merge by the formula of Chan, Golub and LeVeque (1979), which is as exact as one pass over all values.
    `sum` merges many. ``m[index]`` are the Moments of some groups, and ``m == other`` compares all states.

    What was made on a GPU stays there: all that is computed from it is queued on the caller's current stream, and
    only `save` copies to the host.

    Examples
    --------
    >>> import numbanorm as nbn
    >>> import numpy as np
    >>> x = np.arange(12.0).reshape(3, 4)
    >>> m = nbn.moments(x[:1], axis=0) + nbn.moments(x[1:], axis=0)
    >>> m.mean
    array([4., 5., 6., 7.])
    >>> m.var()
    array([10.66666667, 10.66666667, 10.66666667, 10.66666667])
    """

    __slots__ = ("_count", "_m2", "_mean")

    _count: Statistic
    _mean: Statistic
    _m2: Statistic

    def __init__(self, count: ArrayLike, mean: ArrayLike, m2: ArrayLike) -> None:
        if any(map(on_device, (count, mean, m2))):
            states = [take(a, name)[0] for a, name in ((count, "count"), (mean, "mean"), (m2, "m2"))]
            check_same_device(states[0], {"mean": states[1], "m2": states[2]}, of="count")
        else:
            states = [np.asarray(view(a, of), np.float64) for a, of in ((count, "count"), (mean, "mean"), (m2, "m2"))]
        if len({a.shape for a in states}) > 1:
            shapes = ", ".join(str(a.shape) for a in states)
            raise ValueError(f"count, mean and m2 must have one shape, the group shape; got {shapes}")
        if on_device(states[0]):
            engine = engine_of(states[0])
            states = [give(to_float64(engine, a), a.library) for a in states]
        self._count, self._mean, self._m2 = states

    @property
    def count(self) -> Statistic:
        """How many values each group has."""
        return self._count

    @property
    def mean(self) -> Statistic:
        """Their mean; NaN where there are none."""
        return self._mean

    @property
    def m2(self) -> Statistic:
        """Sum of the squared distances from the mean."""
        return self._m2

    @property
    def shape(self) -> tuple[int, ...]:
        """The group shape."""
        return tuple(view(self._mean).shape)

    @classmethod
    def empty(cls, shape: int | tuple[int, ...]) -> Self:
        """Moments of no values, on the host: the start of a running merge.

        Parameters
        ----------
        shape : int or tuple of int
            Group shape.
        """
        return cls(np.zeros(shape), np.full(shape, np.nan), np.zeros(shape))

    def var(self, ddof: float = 0) -> Statistic:
        """Variance: m2 / (count - ddof); NaN where there are too few values.

        Parameters
        ----------
        ddof : float
            0: of the values themselves. 1: unbiased estimate for the distribution that they come from.
        """
        return self._spread("variance", ddof)

    def std(self, ddof: float = 0) -> Statistic:
        """Standard deviation: the square root of `var`.

        Parameters
        ----------
        ddof : float
            As in `var`.
        """
        return self._spread("deviation", ddof)

    def _spread(self, formula: str, ddof: float) -> Any:
        count, _, m2 = self._states
        (spread,) = engine_of(m2).pointwise(formula, 1, m2, count, check_number(ddof, "ddof"))
        return give(spread, take(self.m2)[1])

    def merge(self, other: Moments[Any]) -> Moments[Statistic]:
        """Moments of both sets of values together.

        Parameters
        ----------
        other : Moments
            Of the same group shape.

        Raises
        ------
        ValueError
            If the group shapes differ.
        """
        if not isinstance(other, Moments):
            raise TypeError(f"other must be Moments, got {type(other).__name__}")
        ours, theirs = self._states, other._states
        if theirs[0].shape != ours[0].shape:
            raise ValueError(
                f"other has group shape {theirs[0].shape}, these Moments have {ours[0].shape}; "
                "merge Moments of one layout and of arrays with the same groups"
            )
        check_same_device(ours[0], {"other": theirs[0]}, of="what it is merged with")
        return Moments(*engine_of(ours[0]).pointwise("merged", 3, *ours, *theirs))

    def __add__(self, other: Moments[Any]) -> Moments[Statistic]:
        return self.merge(other) if isinstance(other, Moments) else NotImplemented

    def __radd__(self, other: object) -> Self:
        """The first step of `sum`, which begins with 0."""
        return self if type(other) is int and other == 0 else NotImplemented

    def __eq__(self, other: object) -> bool:
        """Whether two have the same states of the same groups, bit by bit but for the sign of 0; it waits for a GPU."""
        if not isinstance(other, Moments):
            return NotImplemented
        pairs = zip(self._on_host, other._on_host, strict=True)
        return self.shape == other.shape and all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("these Moments are of one group, and have no len(); their shape is ()")
        return self.shape[0]

    def __getitem__(self, index: Any) -> Moments[Any]:
        """Moments of some of the groups, chosen as in an array of the group shape."""
        if not self.shape and index != () and index is not Ellipsis:
            raise IndexError(f"these Moments are of one group, and have no index {index!r}; their shape is ()")
        return Moments(*(state[index] for state in (self._count, self._mean, self._m2)))  # type: ignore[index]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._count, self._mean, self._m2)

    @property
    def _on_host(self) -> tuple[NDArray[Any], ...]:
        return to_host(self._count), to_host(self._mean), to_host(self._m2)

    @property
    def _states(self) -> States:
        return view(self.count), view(self.mean), view(self.m2)

    def save(self, path: str | PathLike[str]) -> None:
        """Write to a file, in NumPy's npz format. From a GPU this copies to the host.

        Parameters
        ----------
        path : str or PathLike
            The file, exactly as named.
        """
        with open(path, "wb") as file:
            np.savez(file, count=to_host(self.count), mean=to_host(self.mean), m2=to_host(self.m2))

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read what `save` wrote, to the host.

        Parameters
        ----------
        path : str or PathLike
            The file.
        """
        with np.load(path, allow_pickle=False) as file:
            missing = {"count", "mean", "m2"} - set(file.files)
            if missing:
                raise ValueError(f"{path} holds no {', '.join(sorted(missing))}: it was not written by Moments.save")
            return cls(file["count"], file["mean"], file["m2"])

    def __repr__(self) -> str:
        """Count, mean and deviation, shortened where there are many groups; it waits for a GPU."""
        count, mean, m2 = self._on_host
        with np.errstate(all="ignore"):
            std = np.sqrt(m2 / np.where(count > 0, count, np.nan))
        equal = count.size > 0 and np.all(count == count.flat[0])
        shown = [f"count={_shown(count.flat[0] if equal else count)}", f"mean={_shown(mean)}", f"std={_shown(std)}"]
        of_shape = [f"shape={self.shape}"] if self.shape else []
        return f"Moments({', '.join([*of_shape, *shown])})"


def kept(return_moments: Any) -> type[Moments[Any]] | None:
    """What makes Moments of states, if they are to be returned beside an output."""
    return Moments if return_moments is not False and check_flag(return_moments, "return_moments") else None


def _shown(values: Any) -> str:
    """Numbers as people read them: on one line, with six digits."""
    return " ".join(np.array2string(np.asarray(values), threshold=8, edgeitems=2, precision=6, separator=", ").split())


@overload
def moments(
    x: HasCudaInterface,
    layout: str | Layout | None = None,
    *,
    axis: int | Sequence[int] | None = None,
    **sizes: int,
) -> Moments[Any]: ...
@overload
def moments(
    x: HostArrayLike,
    layout: str | Layout | None = None,
    *,
    axis: int | Sequence[int] | None = None,
    **sizes: int,
) -> Moments: ...
def moments(
    x: ArrayLike,
    layout: str | Layout | None = None,
    *,
    axis: int | Sequence[int] | None = None,
    **sizes: int,
) -> Moments:
    """Count, mean and variance of every group of an array, in one read of it.

    Parameters
    ----------
    x : array_like
        Floating point (float64, float32, float16, bfloat16), integer or boolean, of any shape and strides; on the
        host or on a GPU.
    layout : str or Layout, optional
        Which elements share statistics: a pattern such as ``"n (g c) h w -> n g"``, or a `Layout`.
    axis : int or sequence of int, optional
        In place of a layout: the axes to reduce, as in NumPy. With neither, all of x is one group.
    **sizes : int
        Sizes of the pattern's names.

    Returns
    -------
    Moments
        Of the layout's group shape, in float64 whatever x is; on x's device.

    Raises
    ------
    ValueError
        If the layout does not fit x's shape.
    TypeError
        If x is masked, or of a dtype without a mean (complex, object, string).
    ImportError, RuntimeError
        For an array on a GPU without numba-cuda (``pip install numbanorm[cuda13]``), or without a driver.

    Notes
    -----
    Sums of differences from a pivot, block by block, and the blocks merged by Chan's formula: see docs/numerics.md.

    Examples
    --------
    >>> import numbanorm as nbn
    >>> import numpy as np
    >>> x = np.arange(24, dtype=np.float32).reshape(2, 6, 2)
    >>> nbn.moments(x, "n (g c) w -> n g", g=3).mean
    array([[ 1.5,  5.5,  9.5],
           [13.5, 17.5, 21.5]])
    >>> float(nbn.moments(x).var())
    47.916666666666664
    """
    chosen, array = as_layout(layout, axis, sizes, moments), view(x)
    return Moments(*take_moments(engine_of(array), chosen, array))
