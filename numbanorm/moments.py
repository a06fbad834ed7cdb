"""Moments: the mergeable state of mean and variance, and `moments()`, which makes one from an array."""

from functools import lru_cache
from os import PathLike
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import engine
from .arrays import view
from .layout import Layout


class Moments:
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
    count, mean, m2 : ndarray of float64
        Of the group shape.

    Notes
    -----
    Two states merge by the formula of Chan, Golub and LeVeque (1979), which is as exact as one pass over all values.

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

    __slots__ = ("count", "m2", "mean")

    count: NDArray[np.float64]
    mean: NDArray[np.float64]
    m2: NDArray[np.float64]

    def __init__(self, count: ArrayLike, mean: ArrayLike, m2: ArrayLike) -> None:
        states = [np.asarray(a, np.float64) for a in (count, mean, m2)]
        if len({a.shape for a in states}) > 1:
            shapes = ", ".join(str(a.shape) for a in states)
            raise ValueError(f"count, mean and m2 must have one shape, the group shape; got {shapes}")
        self.count, self.mean, self.m2 = states

    @classmethod
    def empty(cls, shape: int | tuple[int, ...]) -> Self:
        """Moments of no values: the start of a running merge.

        Parameters
        ----------
        shape : int or tuple of int
            Group shape.
        """
        return cls(np.zeros(shape), np.full(shape, np.nan), np.zeros(shape))

    def var(self, ddof: float = 0) -> NDArray[np.float64]:
        """Variance: m2 / (count - ddof); NaN where there are too few values.

        Parameters
        ----------
        ddof : float
            0: of the values themselves. 1: unbiased estimate for the distribution that they come from.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.divide(self.m2, np.maximum(self.count - ddof, 0))

    def std(self, ddof: float = 0) -> NDArray[np.float64]:
        """Standard deviation: the square root of `var`.

        Parameters
        ----------
        ddof : float
            As in `var`.
        """
        return np.sqrt(self.var(ddof))

    def merge(self, other: "Moments") -> "Moments":
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
        if other.count.shape != self.count.shape:
            raise ValueError(
                f"other has group shape {other.count.shape}, these Moments have {self.count.shape}; "
                "merge Moments of one layout and of arrays with the same groups"
            )
        count, mean, m2 = (np.stack(pair, axis=-1) for pair in zip(self._states, other._states, strict=True))
        return Moments(*engine.merge_last((count, mean, m2)))

    def __add__(self, other: "Moments") -> "Moments":
        return self.merge(other) if isinstance(other, Moments) else NotImplemented

    @property
    def _states(self) -> engine.States:
        return self.count, self.mean, self.m2

    def save(self, path: str | PathLike[str]) -> None:
        """Write to a file, in NumPy's npz format.

        Parameters
        ----------
        path : str or PathLike
            The file, exactly as named.
        """
        with open(path, "wb") as file:
            np.savez(file, count=self.count, mean=self.mean, m2=self.m2)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read what `save` wrote.

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
        return f"Moments(count={self.count!r}, mean={self.mean!r}, m2={self.m2!r})"


def moments(
    x: ArrayLike,
    layout: str | Layout | None = None,
    *,
    axis: int | tuple[int, ...] | None = None,
    **sizes: int,
) -> Moments:
    """Count, mean and variance of every group of an array, in one read of it.

    Parameters
    ----------
    x : array_like
        Floating point (float64, float32, float16, bfloat16), integer or boolean, of any shape and strides.
    layout : str or Layout, optional
        Which elements share statistics: a pattern such as ``"n (g c) h w -> n g"``, or a `Layout`.
    axis : int or tuple of int, optional
        In place of a layout: the axes to reduce, as in NumPy. With neither, all of x is one group.
    **sizes : int
        Sizes of the pattern's names.

    Returns
    -------
    Moments
        Of the layout's group shape, in float64 whatever x is.

    Raises
    ------
    ValueError
        If the layout does not fit x's shape.
    TypeError
        If x is masked, or of a dtype without a mean (complex, object, string).

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
    chosen = as_layout(layout, axis, sizes)
    return Moments(*engine.reduce(chosen, view(x)))


def as_layout(layout: str | Layout | None, axis: int | tuple[int, ...] | None, sizes: dict[str, int]) -> Layout:
    """The Layout that a caller's arguments mean: a pattern with sizes, a Layout, axes, or all of the array."""
    if layout is None:
        if sizes:
            raise ValueError(f"sizes {sorted(sizes)} need a pattern; pass one as layout, such as 'n (g c) -> n g'")
        return Layout.axes(axis)
    if axis is not None:
        raise ValueError(f"layout={layout!r} and axis={axis!r} both say what to reduce; pass one of them")
    if isinstance(layout, Layout):
        if sizes:
            raise ValueError(f"{layout!r} has its sizes already; pass {sorted(sizes)} when making it")
        return layout
    if not isinstance(layout, str):
        raise TypeError(f"layout must be a pattern or a Layout, got {type(layout).__name__}; for axes use axis=")
    return _pattern(layout, tuple(sizes.items()))


@lru_cache(maxsize=1024)
def _pattern(pattern: str, sizes: tuple[tuple[str, int], ...]) -> Layout:
    return Layout(pattern, **dict(sizes))
