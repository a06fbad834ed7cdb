"""Moments: the mergeable state of mean and variance, and `moments()`, which makes one from an array."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from os import PathLike
from typing import Any, Generic, Self, overload

import numpy as np
from numpy.typing import NDArray

from .arrays.annotations import ArrayLike, HasCudaInterface, HostArrayLike, Statistic
from .arrays.give import give, to_host
from .arrays.lazy import taken_by
from .arrays.libraries import on_device
from .arrays.memory import check_same_device
from .arrays.take import take, view
from .call.arguments import as_layout, check_flag, check_number
from .call.choose import engine_of
from .call.chosen import WeightsAre, choice_of, moments_of_chosen, refuse_beside
from .call.handed import Selection
from .call.labels import moments_by_label, refuse_number_alone
from .call.ragged import of_rows, rows_of
from .call.run import InTwo, States, full, merge_last, packed, to_float64
from .call.run import moments as take_moments
from .layout import Layout, Segments, as_ints
from .walk.slots import STATES


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
    Two states merge by the formula of Chan, Golub and LeVeque (1979), which is as exact as one pass over all values:
    those of `moments` also keep what rounding took from the mean, so that many merges at a large mean cost no digits.
    Moments made of three arrays, and most of those that ``return_moments=True`` gives, have no such part, and merge
    like any others. `sum` merges many. ``m[index]`` are the Moments of some groups, and ``m == other`` compares all
    states.

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

    __slots__ = ("_count", "_m2", "_mean", "_rest")

    _count: Statistic
    _mean: Statistic
    _m2: Statistic
    _rest: Statistic | None  # what rounding took from the mean; None: nobody knows of any

    def __init__(self, count: ArrayLike, mean: ArrayLike, m2: ArrayLike) -> None:
        self._count, self._mean, self._m2 = _in_float64({"count": count, "mean": mean, "m2": m2})
        self._rest = None

    @classmethod
    def _of(cls, count: ArrayLike, mean: ArrayLike, m2: ArrayLike, rest: ArrayLike | None) -> Self:
        """Moments with the mean in two parts."""
        if rest is None:
            return cls(count, mean, m2)
        made = cls.__new__(cls)
        states = _in_float64({"count": count, "mean": mean, "m2": m2, "rest": rest})
        made._count, made._mean, made._m2, made._rest = states
        return made

    @classmethod
    def _made(cls, count: Any, mean: Any, m2: Any, rest: Any = None) -> Self:
        """Moments of states that an engine has made, in float64; perhaps with the mean in two parts."""
        made = cls.__new__(cls)
        states: Any = (count, mean, m2, rest)
        if type(count) is not np.ndarray:
            states = [a if a is None else give(a, a.library) for a in states]
        made._count, made._mean, made._m2, made._rest = states
        return made

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
        ours, theirs = self._in_two, other._in_two
        if theirs[0].shape != ours[0].shape:
            raise ValueError(
                f"other has group shape {theirs[0].shape}, these Moments have {ours[0].shape}; "
                "merge Moments of one layout and of arrays with the same groups"
            )
        check_same_device(ours[0], {"other": theirs[0]}, of="what it is merged with")
        return Moments._made(*engine_of(ours[0]).pointwise("merged", 4, *ours, *theirs))

    def update(self, x: ArrayLike, layout: str | Layout | None = None, **given: Any) -> Self:
        """Merge the values of one more array in, in place.

        Parameters
        ----------
        x : array_like
            The next values.
        layout, **given
            As in `moments`: ``axis=``, ``where=``, ``weights=``, ``labels=`` and so on.

        Returns
        -------
        Moments
            These, which now are of all values.

        Raises
        ------
        ValueError, TypeError
            As in `moments`; and if the layout makes other groups of x than these are of. They are as before then.

        Examples
        --------
        >>> import numbanorm as nbn
        >>> import numpy as np
        >>> m = nbn.Moments.empty(2)
        >>> for chunk in np.arange(8.0).reshape(2, 2, 2):
        ...     m.update(chunk, axis=0)
        Moments(shape=(2,), count=2., mean=[1., 2.], std=[1., 1.])
        Moments(shape=(2,), count=4., mean=[3., 4.], std=[2.236068, 2.236068])
        """
        if isinstance(x, Moments):
            raise TypeError("x are Moments, not values; merge them by +, as in m += other")
        if given.get("weights_are", "frequency") != "frequency":
            raise ValueError(
                "Moments of reliability weights do not merge, since their count is no sum; pass weights as frequencies"
            )
        whole = self.merge(moments(x, layout, **given))
        self._count, self._mean, self._m2, self._rest = whole._count, whole._mean, whole._m2, whole._rest
        return self

    def merge_axis(self, axis: int | Sequence[int]) -> Moments[Statistic]:
        """Moments of coarser groups: all groups along an axis become one, as per-image moments those of each channel.

        Parameters
        ----------
        axis : int or sequence of int
            Of the group shape, negative from its end: what is merged.

        Returns
        -------
        Moments
            Of the group shape without these axes. Groups merge in order, and no digits are lost, however many they are.

        Raises
        ------
        ValueError
            If there is no such axis, or it is named twice.

        Examples
        --------
        >>> import numbanorm as nbn
        >>> import numpy as np
        >>> of_images = nbn.moments(np.arange(24.0).reshape(2, 3, 4), "n c t -> n c")
        >>> of_images.merge_axis(0)
        Moments(shape=(3,), count=8., mean=[ 7.5, 11.5, 15.5], std=[6.103278, 6.103278, 6.103278])
        """
        shape, wanted = self.shape, as_ints(axis, "axis")
        for a in wanted:
            if not -len(shape) <= a < len(shape):
                fits = f"use {-len(shape)} to {len(shape) - 1}" if shape else "which has no axis to merge"
                raise ValueError(f"axis {a} is out of range for Moments of group shape {shape}; {fits}")
        merged = [a % len(shape) for a in wanted]
        if len(set(merged)) < len(merged):
            raise ValueError(f"axis={axis!r} names an axis twice for Moments of group shape {shape}; name each once")
        order = [a for a in range(len(shape)) if a not in merged] + sorted(merged)
        kept, engine = tuple(shape[a] for a in order[: len(shape) - len(merged)]), engine_of(view(self._mean))
        number = prod(shape[a] for a in merged)
        states = self._states if self._rest is None else self._in_two
        last = [packed(engine, state.transpose(order)).reshape((*kept, number)) for state in states]
        if number == 0:  # where there is no group, there is no value
            return Moments._made(*(full(engine, engine.empty(last[0], kept), value) for value in (0.0, np.nan, 0.0)))
        return Moments._made(*merge_last(engine, tuple(last)))

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
        count, mean, m2, rest = self._count, self._mean, self._m2, self._rest
        some = [a if a is None else a[index] for a in (count, mean, m2, rest)]  # type: ignore[index]
        return Moments._of(*some)  # type: ignore[arg-type]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self)._of, (self._count, self._mean, self._m2, self._rest)

    @property
    def _on_host(self) -> tuple[NDArray[Any], ...]:
        count, mean, m2 = to_host(self._count), to_host(self._mean), to_host(self._m2)
        return count, mean, m2, np.zeros_like(mean) if self._rest is None else to_host(self._rest)

    @property
    def _states(self) -> States:
        return view(self.count), view(self.mean), view(self.m2)

    @property
    def _in_two(self) -> InTwo:
        return *self._states, 0.0 if self._rest is None else view(self._rest)

    def save(self, path: str | PathLike[str]) -> None:
        """Write to a file, in NumPy's npz format and with a checksum. From a GPU this copies to the host.

        The file is replaced at once: a crash in the middle leaves the old one as it was.

        Parameters
        ----------
        path : str or PathLike
            The file, exactly as named.
        """
        from .arrays.saved import write  # with it come a dozen modules

        write(path, dict(zip(STATES, self._on_host, strict=True)))

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read what `save` wrote, to the host.

        Parameters
        ----------
        path : str or PathLike
            The file.

        Raises
        ------
        ValueError
            If the file was damaged or cut off, or was not written by `save`. Nothing in it is ever run.
        """
        from .arrays.saved import read

        arrays = read(path, "Moments.save", STATES[:3], STATES[3:])
        try:
            return cls._of(arrays["count"], arrays["mean"], arrays["m2"], arrays.get("rest"))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} was not written by Moments.save: {error}") from error

    def __repr__(self) -> str:
        """Count, mean and deviation, shortened where there are many groups; it waits for a GPU."""
        count, mean, m2, _ = self._on_host
        with np.errstate(all="ignore"):
            std = np.sqrt(m2 / np.where(count > 0, count, np.nan))
        equal = count.size > 0 and np.all(count == count.flat[0])
        shown = [f"count={_shown(count.flat[0] if equal else count)}", f"mean={_shown(mean)}", f"std={_shown(std)}"]
        of_shape = [f"shape={self.shape}"] if self.shape else []
        return f"Moments({', '.join([*of_shape, *shown])})"


def _in_float64(arrays: dict[str, ArrayLike]) -> list[Any]:
    """States by their names, as Moments keep them."""
    if any(map(on_device, arrays.values())):
        states = {name: take(array, name)[0] for name, array in arrays.items()}
        check_same_device(states["count"], states, of="count")
    else:
        states = {name: np.asarray(view(array, name), np.float64) for name, array in arrays.items()}
    if len({a.shape for a in states.values()}) > 1:
        *names, last = states
        shapes = ", ".join(str(a.shape) for a in states.values())
        raise ValueError(f"{', '.join(names)} and {last} must have one shape, the group shape; got {shapes}")
    if on_device(states["count"]):
        engine = engine_of(states["count"])
        return [give(to_float64(engine, a), a.library) for a in states.values()]
    return list(states.values())


def kept(return_moments: Any) -> Callable[..., Moments[Any]] | None:
    """What makes Moments of states, if they are to be returned beside an output."""
    return Moments._made if return_moments is not False and check_flag(return_moments, "return_moments") else None


def _shown(values: Any) -> str:
    """Numbers as people read them: on one line, with six digits."""
    return " ".join(np.array2string(np.asarray(values), threshold=8, edgeitems=2, precision=6, separator=", ").split())


@overload
def moments(
    x: HasCudaInterface,
    layout: str | Layout | None = None,
    *,
    axis: int | Sequence[int] | None = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    num_labels: int | None = None,
    skipna: bool = False,
    weights_are: WeightsAre = "frequency",
    **sizes: int,
) -> Moments[Any]: ...
@overload
def moments(
    x: HostArrayLike,
    layout: str | Layout | None = None,
    *,
    axis: int | Sequence[int] | None = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    num_labels: int | None = None,
    skipna: bool = False,
    weights_are: WeightsAre = "frequency",
    **sizes: int,
) -> Moments: ...
def moments(
    x: ArrayLike,
    layout: str | Layout | None = None,
    *,
    axis: int | Sequence[int] | None = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    num_labels: int | None = None,
    skipna: bool = False,
    weights_are: WeightsAre = "frequency",
    **sizes: int,
) -> Moments:
    """Count, mean and variance of every group of an array, in one read of it.

    Parameters
    ----------
    x : array_like
        Floating point (float64, float32, float16, bfloat16), integer or boolean, of any shape and strides; on the
        host or on a GPU. Of torch's nested tensors those of layout jagged, on the host.
    layout : str or Layout, optional
        Which elements share statistics: a pattern such as ``"n (g c) h w -> n g"``, or a `Layout`.
    axis : int or sequence of int, optional
        In place of a layout: the axes to reduce, as in NumPy. With neither, all of x is one group.
    where : array_like of bool, optional
        Which elements count; it broadcasts against x by NumPy's rules. What does not count is left out, whatever its
        value.
    weights : array_like, optional
        How much each element counts: numbers that are finite and not negative, which broadcast against x. What has
        weight 0 is left out.
    labels : array_like of int, optional
        Split every group by them: they have the shape of the reduced axes, or broadcast to it. What has a negative
        label is left out. On the host only. Of a data frame they may be the name of a column, which is no number then,
        or a series that is put in the order of its index (docs/tables.md).
    num_labels : int, optional
        Labels are below it. By default one more than the highest of them.
    skipna : bool
        Leave NaN out.
    weights_are : {"frequency", "reliability"}
        What weights say. How often each value occurs: `count` is their sum, and ``var(ddof)`` is
        m2 / (sum(w) - ddof), as if values were repeated. Or how much each can be relied on: `count` is then
        sum(w)**2 / sum(w**2), and ``var(ddof)`` sum(w * (x - mean)**2) / (sum(w) - ddof * sum(w**2) / sum(w)).
    **sizes : int
        Sizes of the pattern's names.

    Returns
    -------
    Moments
        Of the layout's group shape, with an axis of labels in front where there are labels, in float64 whatever x is;
        on x's device.

    Raises
    ------
    ValueError
        If the layout does not fit x's shape, labels do not fit what it reduces, or one is not below num_labels; if
        where or weights do not broadcast to x, or a weight that counts is negative, infinite or NaN. On a GPU, where
        nobody waits to see them, such weights make the statistics of their group NaN.
    TypeError
        If x is masked, or of a dtype without a mean (complex, object, string); if labels are no integers, or where is
        not boolean; if some arrays lie on the host and some on a GPU; for labels or segments and arrays on a GPU.
    ImportError, RuntimeError
        For an array on a GPU without numba-cuda (``pip install numbanorm[cuda13]``), or without a driver.

    Notes
    -----
    Sums of differences from a pivot, block by block, and the blocks merged by Chan's formula: see docs/numerics.md.

    Choices go together: what is not True in `where`, has weight 0, or is NaN with `skipna` is left out. A group of
    which nothing is left has count 0, mean NaN and m2 0. Formulas of weights are those of `numpy.cov`: frequency
    weights are its `fweights`, reliability weights its `aweights`. Moments of frequency weights merge as any others;
    those of reliability weights do not, since their count is no sum. x is neither copied nor read twice.

    With labels, a state of 32 bytes for each label and group is kept beside the result, and at most 1.3 bytes for each
    element; with reliability weights twice that. x is neither sorted nor copied. The result is the same for any number
    of threads: see docs/groups.md.

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

    By user, the values of each:

    >>> users = np.array([0, 2, 0, 2, 2])
    >>> nbn.moments(np.array([1.0, 10.0, 3.0, 20.0, 30.0]), labels=users)
    Moments(shape=(3,), count=[2., 0., 3.], mean=[ 2., nan, 20.], std=[1.      ,      nan, 8.164966])

    Of a table with holes, its columns; of answers, each of which stands for so many people:

    >>> table = np.array([[1.0, np.nan], [2.0, 5.0], [3.0, 7.0]])
    >>> nbn.moments(table, axis=0, skipna=True)
    Moments(shape=(2,), count=[3., 2.], mean=[2., 6.], std=[0.816497, 1.      ])
    >>> nbn.moments(np.array([1.0, 2.0, 5.0]), weights=[10, 20, 10], where=[True, True, False])
    Moments(count=30., mean=1.666667, std=0.471405)
    """
    if type(x) is not np.ndarray and (taken := taken_by(x)) is not None:
        selection = Selection(where, weights, labels, num_labels, skipna, weights_are)
        return taken.moments(x, layout, axis, sizes, selection)
    chosen = as_layout(layout, axis, sizes, moments)
    choice = None
    if where is not None or weights is not None or skipna is not False or weights_are != "frequency":
        choice = choice_of(where, weights, skipna, weights_are)
    if choice is not None:
        refuse_beside(choice, labels, num_labels, None, moments)
        return Moments._made(*moments_of_chosen(x, chosen, choice, labels, num_labels))
    if labels is not None:
        return Moments._made(*moments_by_label(x, chosen, labels, num_labels))
    refuse_number_alone(num_labels, moments)
    if type(x) is not np.ndarray and isinstance(chosen := of_rows(chosen, x), Segments):
        x = rows_of(chosen, x, "x")
    array = view(x)
    return Moments._made(*take_moments(engine_of(array), chosen, array))
