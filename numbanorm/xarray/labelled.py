"""Moments whose members are as the array or data set that they are of: with dims, coords, names and attrs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import xarray as xr

from .. import statistics
from .dims import as_names, check_index

Core = statistics.Moments[Any]


class Part(NamedTuple):
    """Moments of one array."""

    core: Core
    frame: Any  # a DataArray of their shape, which takes no memory: it has dims in the order of `core`, and all labels
    order: tuple[Hashable, ...]  # of dims, for the caller

    def labelled(self, values: Any) -> Any:
        """An array of the group shape, with labels."""
        return self.frame.copy(deep=False, data=values).transpose(*self.order)

    def aligned(self, dims: Sequence[Hashable]) -> Core:
        """Moments with axes in this order of dims."""
        return transposed(self.core, [self.frame.dims.index(dim) for dim in dims])


class Moments:
    """Count, mean and sum of squared deviations of an array's or data set's groups, each with dims and coords.

    `numbanorm.xarray.moments` and groups make them. Of a DataArray `count`, `mean`, `m2`, `var()` and `std()` are
    DataArrays, of a Dataset they are Datasets; in float64 always, lazy where the data are.

    Notes
    -----
    Moments of parts add up: ``m + other``, or `sum` of many, are those of all values together. Dims and coords must be
    the same. `core` has what is beneath, `numbanorm.Moments`: to save, for example.

    Examples
    --------
    >>> import numbanorm.xarray as nbx
    >>> import xarray as xr
    >>> t = xr.DataArray([[1.0, 2.0], [3.0, 6.0]], {"site": [7, 8]}, ["day", "site"], "t")
    >>> m = nbx.moments(t, dim="day")
    >>> m.mean.sel(site=8).item(), m.std().sel(site=8).item()
    (4.0, 2.0)
    >>> m
    Moments(t: site 2)
    >>> m.to_dataset(ddof=1)
    <xarray.Dataset> Size: 80B
    Dimensions:  (site: 2)
    Coordinates:
      * site     (site) int64 16B 7 8
    Data variables:
        count    (site) float64 16B 2.0 2.0
        mean     (site) float64 16B 2.0 4.0
        var      (site) float64 16B 2.0 8.0
        std      (site) float64 16B 1.414 2.828
    """

    __slots__ = ("_parts", "_whole")

    _parts: dict[Hashable, Part]  # by variable; of a DataArray there is one, by its name
    _whole: Any  # of a Dataset one without variables

    def __init__(self, parts: dict[Hashable, Part], whole: Any = None) -> None:
        self._parts, self._whole = parts, whole

    @property
    def count(self) -> Any:
        """How many values each group has, or the sum of their weights."""
        return self._labelled(lambda m: m.count)

    @property
    def mean(self) -> Any:
        """Their mean; NaN where there are none."""
        return self._labelled(lambda m: m.mean)

    @property
    def m2(self) -> Any:
        """Sum of the squared distances from the mean."""
        return self._labelled(lambda m: m.m2)

    def var(self, ddof: float = 0) -> Any:
        """Variance: m2 / (count - ddof); NaN where there are too few values."""
        return self._labelled(lambda m: m.var(ddof))

    def std(self, ddof: float = 0) -> Any:
        """Standard deviation: the square root of `var`."""
        return self._labelled(lambda m: m.std(ddof))

    @property
    def core(self) -> Any:
        """The `numbanorm.Moments` beneath, of a Dataset by variable; of groups their axis comes first."""
        cores = {name: part.core for name, part in self._parts.items()}
        return next(iter(cores.values())) if self._whole is None else cores

    def to_dataset(self, ddof: float = 0) -> Any:
        """All in one Dataset: count, mean, var and std; of several variables by their names, as in ``t_mean``.

        Parameters
        ----------
        ddof : float
            As in `var`.
        """
        members = {"count": self.count, "mean": self.mean, "var": self.var(ddof), "std": self.std(ddof)}
        if self._whole is None:
            return xr.Dataset({name: array.rename(None) for name, array in members.items()})
        return self._whole.assign(
            {f"{name}_{member}": made[name].variable for name in self._parts for member, made in members.items()}
        )

    def compute(self, **options: Any) -> Moments:
        """Moments with values, from one pass over what is lazy; `options` as those of `dask.compute`."""
        lazy = [name for name, part in self._parts.items() if is_lazy(part.core)]
        if not lazy:
            return self
        import dask

        made = dict(zip(lazy, dask.compute(*(self._parts[name].core for name in lazy), **options), strict=True))
        return self._with({name: made.get(name, part.core) for name, part in self._parts.items()})

    def merge(self, other: Moments) -> Moments:
        """Moments of both sets of values together.

        Parameters
        ----------
        other : Moments
            Of the same variables, dims and coords.

        Raises
        ------
        ValueError
            If they differ.
        """
        if not isinstance(other, Moments):
            raise TypeError(f"other must be Moments of numbanorm.xarray, got {type(other).__name__}")
        if (self._whole is None) != (other._whole is None):
            raise TypeError("one of these Moments is of a DataArray, the other of a Dataset; merge those of one kind")
        theirs = other._parts if self._whole is not None else dict(zip(self._parts, other._parts.values(), strict=True))
        if set(theirs) != set(self._parts):
            raise ValueError(f"these Moments are of variables {list(self._parts)}, and other of {list(theirs)}")
        aligned = {}
        for name, part in self._parts.items():
            of = theirs[name]
            dims = part.frame.dims
            check_same_groups(of, dims, dims, part.frame, "the other Moments", "these")
            aligned[name] = of.aligned(dims)
        return self._with({name: part.core + aligned[name] for name, part in self._parts.items()})

    def merge_dim(self, dim: Any) -> Moments:
        """Moments of coarser groups: all groups along a dim, or several, become one.

        Parameters
        ----------
        dim : hashable or iterable of hashable
            Dims of the statistics.

        Raises
        ------
        ValueError
            If there is no such dim.
        """
        dims = dict.fromkeys(name for part in self._parts.values() for name in part.frame.dims)
        gone = as_names(dim, list(dims), "the group shape")
        parts = {}
        for name, part in self._parts.items():
            axes = [axis for axis, of in enumerate(part.frame.dims) if of in gone]
            core = part.core.merge_axis(axes) if axes else part.core
            frame = part.frame.isel({part.frame.dims[axis]: 0 for axis in axes}, drop=True)
            frame = frame.drop_vars(
                [c for c in part.frame.coords if set(part.frame[c].dims) & set(gone)], errors="ignore"
            )
            parts[name] = Part(core, frame, tuple(of for of in part.order if of not in gone))
        whole = None if self._whole is None else self._whole.drop_dims([of for of in gone if of in self._whole.dims])
        return Moments(parts, whole)

    def __add__(self, other: Any) -> Moments:
        return self.merge(other) if isinstance(other, Moments) else NotImplemented

    def __radd__(self, other: object) -> Self:
        """The first step of `sum`, which begins with 0."""
        return self if type(other) is int and other == 0 else NotImplemented

    def __repr__(self) -> str:
        def told(name: Hashable, part: Part) -> str:
            sizes = ", ".join(f"{dim} {part.frame.sizes[dim]}" for dim in part.order) or "one group"
            return sizes if name is None else f"{name}: {sizes}"

        lazy = "; lazy, compute() gives values" if any(is_lazy(part.core) for part in self._parts.values()) else ""
        return f"Moments({'; '.join(told(name, part) for name, part in self._parts.items())}{lazy})"

    def _labelled(self, member: Callable[[Core], Any]) -> Any:
        made = {name: part.labelled(member(part.core)) for name, part in self._parts.items()}
        if self._whole is None:
            return next(iter(made.values()))
        return self._whole.assign({name: array.variable for name, array in made.items()})

    def _with(self, cores: dict[Hashable, Core]) -> Moments:
        return Moments({name: part._replace(core=cores[name]) for name, part in self._parts.items()}, self._whole)


def check_same_groups(
    part: Part, dims: Sequence[Hashable], along: Sequence[Hashable], x: Any, name: str, of: str
) -> None:
    """Refuse Moments of other dims, or of other coordinates than x has along some of them."""
    frame = part.frame
    if set(frame.dims) != set(dims):
        raise ValueError(f"{name} have dims {tuple(part.order)}, but the statistics of {of} have {tuple(dims)}")
    for dim in along:
        if frame.sizes[dim] != x.sizes[dim]:
            raise ValueError(
                f"along {dim!r}, {name} are of {frame.sizes[dim]} elements, and {of} of {x.sizes[dim]}; align them "
                "first"
            )
        check_index(x, frame, dim, name, of)


def is_lazy(m: Core) -> bool:
    """Whether Moments are of a Dask array."""
    return hasattr(m, "states")


def transposed(m: Core, order: Sequence[int]) -> Core:
    """Moments with axes in another order."""
    if list(order) == list(range(len(order))):
        return m
    if is_lazy(m):
        lazy: Any = m
        return type(m)(lazy.states.transpose((0, *(axis + 1 for axis in order))))  # type: ignore[call-arg]
    states = [None if a is None else np.transpose(a, order) for a in (m._count, m._mean, m._m2, m._rest)]
    return statistics.Moments._of(*states)  # type: ignore[arg-type]


def framed(x: Any, reduced: Sequence[Hashable], native: Sequence[Hashable], shape: Sequence[int], keep: bool) -> Any:
    """A DataArray for statistics of x: coords that lie along no reduced dim, its name, and attrs if they are kept."""
    gone = set(reduced)
    coords = x.coords.to_dataset()
    coords = coords.drop_dims([dim for dim in coords.dims if dim in gone])
    coords = coords.drop_vars([name for name in native if name in coords.variables and name not in x.dims])
    values = xr.Variable(tuple(native), np.broadcast_to(np.float64(0.0), tuple(shape)), x.attrs if keep else None)
    return xr.DataArray(values, coords.coords, name=x.name)


def keeps_attrs(keep_attrs: bool | None) -> bool:
    """What xarray's own reductions do with attrs, if nothing is said: its option, and its version's default."""
    if keep_attrs is None:
        probe = xr.DataArray(np.zeros(1), dims="probe", attrs={"kept": True})
        return bool(probe.reduce(np.sum, "probe").attrs)
    if not isinstance(keep_attrs, bool):
        raise TypeError(f"keep_attrs must be True, False or None, got {keep_attrs!r}")
    return keep_attrs
