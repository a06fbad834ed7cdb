"""Statistics by groups along some dims: by month, by zone of a raster."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from ..call.arguments import EpsOn, check_flag
from ..call.chosen import WeightsAre
from ..patterns import did_you_mean
from .calls import states_for
from .dims import Dims, as_names, by_dims, check_aligned
from .labelled import Moments
from .work import Choosing, Job, arrays_of, broadcast, moments_of, normalized


def groupby(obj: Any, group: Any) -> GroupBy:
    """Split a DataArray or Dataset into groups, by the values of a coordinate or of another array.

    Parameters
    ----------
    obj : DataArray or Dataset
        In memory or of Dask arrays, which stay lazy.
    group : DataArray or str
        Along one dim of obj or several: numbers, text or dates. Or the name of a coordinate, or of a variable of the
        Dataset, or a part of a date as xarray names it: ``"time.month"``. Where it is missing (NaN, NaT), elements
        belong to no group. It is read into memory.

    Returns
    -------
    GroupBy
        With `moments`, `count`, `mean`, `var`, `std` and `normalize`.

    Raises
    ------
    ValueError
        If there is no such coordinate, or the group has a dim that obj lacks, another size, or other coordinates
        along one; if all of it is missing.

    Examples
    --------
    >>> import numbanorm.xarray as nbx
    >>> import xarray as xr
    >>> height = xr.DataArray([[1.0, 2.0, 7.0], [3.0, 9.0, 8.0]], dims=["y", "x"], name="height")
    >>> zone = xr.DataArray([[1, 1, 2], [1, 2, 2]], dims=["y", "x"], name="zone")
    >>> nbx.groupby(height, zone).mean()
    <xarray.DataArray 'height' (zone: 2)> Size: 16B
    array([2., 8.])
    Coordinates:
      * zone     (zone) int64 16B 1 2
    """
    arrays_of(obj)
    return GroupBy(obj, _group_of(obj, group))


class GroupBy:
    """Groups of a DataArray or Dataset, as `numbanorm.xarray.groupby` makes them.

    Results have the dims, coords and names that those of xarray's ``groupby`` have: of a DataArray the dim of groups
    stands where the grouped dim was, or last if there were several; of a Dataset it stands first. They are float64.
    """

    def __init__(self, obj: Any, group: Any) -> None:
        self._given, self._name = obj, group.name
        grouped = isinstance(obj, xr.Dataset) and group.name in obj.data_vars
        self._obj = obj.drop_vars(group.name) if grouped else obj
        codes, self._values = _factorized(group)
        self._codes = xr.Variable(group.dims, codes)
        self._attrs = group.attrs

    def __repr__(self) -> str:
        along = ", ".join(map(str, self._codes.dims))
        return f"GroupBy({self._name!r}, {len(self._values)} groups along {along})"

    def __len__(self) -> int:
        return len(self._values)

    def moments(
        self,
        dim: Dims = None,
        *,
        where: Any = None,
        weights: Any = None,
        skipna: bool | None = None,
        weights_are: WeightsAre = "frequency",
        keep_attrs: bool | None = None,
    ) -> Moments:
        """Count, mean and variance of each group.

        Parameters
        ----------
        dim : hashable, iterable of hashable, or ..., optional
            Dims to reduce, among them those along which the groups lie: these alone by default. ``...``: all.
        where, weights, skipna, weights_are, keep_attrs
            As in `numbanorm.xarray.moments`.

        Returns
        -------
        Moments
            With a dim of groups.
        """
        choosing = Choosing(where, weights, skipna, weights_are)
        jobs, reduced = self._jobs(dim, choosing, self._codes, self._coordinate(self._values))
        return moments_of(self._obj, jobs, reduced, keep_attrs)

    def count(self, dim: Dims = None, **given: Any) -> Any:
        """How many values each group has; arguments as those of `moments`."""
        return self.moments(dim, **given).count

    def mean(self, dim: Dims = None, **given: Any) -> Any:
        """Mean of each group; arguments as those of `moments`."""
        return self.moments(dim, **given).mean

    def var(self, dim: Dims = None, *, ddof: float = 0, **given: Any) -> Any:
        """Variance of each group; arguments as those of `moments`, and `ddof` as in `numbanorm.Moments.var`."""
        return self.moments(dim, **given).var(ddof)

    def std(self, dim: Dims = None, *, ddof: float = 0, **given: Any) -> Any:
        """Standard deviation of each group; arguments as those of `var`."""
        return self.moments(dim, **given).std(ddof)

    def normalize(
        self,
        weight: Any = None,
        bias: Any = None,
        *,
        dim: Dims = None,
        eps: float = 0.0,
        ddof: int = 0,
        eps_on: EpsOn = "var",
        moments: Moments | None = None,
        dtype: Any = None,
        return_moments: bool = False,
        where: Any = None,
        weights: Any = None,
        skipna: bool | None = None,
        weights_are: WeightsAre = "frequency",
        keep_attrs: bool | None = None,
    ) -> Any:
        """Give every group mean 0 and variance 1: standardized anomalies.

        Parameters
        ----------
        dim
            As in `moments`.
        weight, bias, eps, ddof, eps_on, dtype, return_moments, where, weights, skipna, weights_are, keep_attrs
            As in `numbanorm.xarray.normalize`.
        moments : Moments, optional
            Statistics of groups to use in place of the own ones: a climatology, which has all groups that occur here.

        Returns
        -------
        DataArray or Dataset
            As the object: its dims, coords and names. What belongs to no group is NaN. Variables of a Dataset that
            are no numbers, or do not have all dims of the groups, come back as they are.
        """
        check_flag(return_moments, "return_moments")
        given = {"weight": weight, "bias": bias, "eps": eps, "ddof": ddof, "eps_on": eps_on, "dtype": dtype}
        choosing = Choosing(where, weights, skipna, weights_are)
        codes, groups = self._codes, self._coordinate(self._values)
        if moments is not None:
            codes, groups = self._by_given(moments)
            dim = self._dims_by(moments) if dim is None else dim
        jobs, _ = self._jobs(dim, choosing, codes, groups, whole=True)
        states = None
        if moments is not None:
            in_dataset = isinstance(self._obj, xr.Dataset)
            states = {name: states_for(job, name, moments, in_dataset) for name, job in jobs.items()}
        result, made = normalized(self._given, jobs, keep_attrs, given, states)
        result = self._without_strays(result, jobs)
        if not return_moments:
            return result
        return result, made if moments is None else moments

    # one array after another ------------------------------------------------------------------------------------------

    def _coordinate(self, values: Any) -> Any:
        return xr.Variable((self._name,), values, self._attrs)

    def _jobs(
        self, dim: Any, choosing: Choosing, codes: Any, groups: Any, whole: bool = False
    ) -> tuple[dict[Hashable, Job], Any]:
        """What is to be done to each array; `whole`: those that have all dims of the groups alone."""
        own = self._codes.dims
        named = own if dim is None else as_names(dim, list(self._obj.dims), "obj")
        left = [name for name in own if name not in named]
        if left:
            raise ValueError(
                f"dim={dim!r} leaves out {left[0]!r}, along which {self._name!r} has its groups; name it, too, or "
                "reduce other dims by numbanorm.xarray.moments(obj, dim=...)"
            )
        if self._name in self._obj.dims and self._name not in named:
            raise ValueError(f"groups are named {self._name!r}, as a dim that stays; give the group another name")
        wanted = [*own, *(new for new in choosing.dims if new in named and new not in own)]
        jobs = {}
        for name, (array, of) in arrays_of(self._obj).items():
            missing = [new for new in wanted if new not in array.dims]
            if whole and set(missing) & set(own):
                continue
            x = array if whole or isinstance(self._obj, xr.DataArray) else broadcast(array, self._obj, missing)
            reading = by_dims(x, [of_dim for of_dim in named if of_dim in x.dims])
            along = codes.transpose(*[of_dim for of_dim in reading.reduced if of_dim in own]).values
            labels = along[tuple(slice(None) if of_dim in own else None for of_dim in reading.reduced)]
            order = self._order(x.dims, reading.kept)
            jobs[name] = Job(x, reading, of, choosing.given(x, of), labels, groups, order)
        return jobs, named

    def _order(self, dims: Any, kept: Any) -> tuple[Hashable, ...]:
        """Dims of the statistics, as those of xarray's groups."""
        own = self._codes.dims
        if len(own) > 1:
            return (*kept, self._name)
        if isinstance(self._obj, xr.Dataset):
            return (self._name, *kept)
        return tuple(self._name if dim == own[0] else dim for dim in dims if dim == own[0] or dim in kept)

    def _without_strays(self, result: Any, jobs: dict[Hashable, Job]) -> Any:
        """NaN in the place of what belongs to no group, which the core leaves as it is."""
        if (self._codes.values >= 0).all():
            return result
        belongs = xr.DataArray(self._codes >= 0)
        if isinstance(result, xr.DataArray):
            return result.where(belongs)
        return result.assign({name: result[name].where(belongs).variable for name in jobs})

    # given moments ----------------------------------------------------------------------------------------------------

    def _by_given(self, moments: Any) -> tuple[Any, Any]:
        """Codes of groups as given moments have them, and their coordinate."""
        if not isinstance(moments, Moments):
            raise TypeError(f"moments must be those of a GroupBy, got {type(moments).__name__}")
        part = next(iter(moments._parts.values()), None)
        if part is None or self._name not in part.frame.dims:
            raise ValueError(f"moments have no groups {self._name!r}; make them by groupby(...).moments()")
        theirs = part.frame.indexes[self._name]
        places = theirs.get_indexer(pd.Index(self._values))
        if (places < 0).any():
            lacking = self._values[places < 0][:5]
            raise ValueError(f"moments have no statistics of {self._name!r} {', '.join(map(str, lacking))}")
        codes = np.where(self._codes.values < 0, -1, places[self._codes.values])
        return xr.Variable(self._codes.dims, codes), xr.Variable((self._name,), theirs, self._attrs)

    def _dims_by(self, moments: Moments) -> Any:
        """Dims that given moments lack."""
        kept = {dim for part in moments._parts.values() for dim in part.frame.dims} - {self._name}
        return [dim for dim in self._obj.dims if dim not in kept or dim in self._codes.dims]


def _group_of(obj: Any, group: Any) -> Any:
    """The group as a DataArray with a name, along dims of obj."""
    if isinstance(group, xr.DataArray):
        check_aligned(obj, group, "group", "obj")
    elif isinstance(group, Hashable):
        try:
            group = obj[group] if isinstance(obj, xr.Dataset) else obj.coords[group]
        except (KeyError, AttributeError) as error:
            known = [name for name in obj.coords if isinstance(name, str)]
            close = did_you_mean(group, known) if isinstance(group, str) else ""
            raise ValueError(f"obj has no coordinate {group!r} to group by, but {known}{close}") from error
    else:
        raise TypeError(
            f"group must be a DataArray, or the name of a coordinate, such as 'time.month', got {type(group).__name__}"
        )
    if not group.ndim:
        raise ValueError(f"group {group.name!r} has no dim, so there is nothing to split")
    index = group.indexes.get(group.name)
    if isinstance(index, pd.MultiIndex) and group.name in group.dims:
        raise ValueError(f"group {group.name!r} has several levels; group by one of them, {list(index.names)}")
    return group if group.name is not None else group.rename("group")


def _factorized(group: Any) -> tuple[Any, Any]:
    """The number of its group for every element, -1 for none, and the values of the groups in order."""
    codes, values = pd.factorize(group.values.ravel(), sort=True)
    if not len(values):
        raise ValueError(f"group {group.name!r} has no value that is not missing")
    return codes.reshape(group.shape).astype(np.int64, copy=False), values
