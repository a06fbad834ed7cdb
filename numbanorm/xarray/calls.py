"""`moments` and `normalize` of arrays with named dims."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import xarray as xr

from .. import statistics
from ..call.arguments import EpsOn, check_flag
from ..call.chosen import WeightsAre
from .dims import Dims, Reading, as_names, by_dims, by_pattern
from .labelled import Core, Moments, check_same_groups
from .work import Choosing, Job, arrays_of, broadcast, moments_of, normalized


def moments(
    obj: Any,
    layout: str | None = None,
    *,
    dim: Dims = None,
    where: Any = None,
    weights: Any = None,
    skipna: bool | None = None,
    weights_are: WeightsAre = "frequency",
    keep_attrs: bool | None = None,
    **sizes: int,
) -> Moments:
    """Count, mean and variance of a DataArray, or of each variable of a Dataset, over dims by their names.

    Parameters
    ----------
    obj : DataArray or Dataset
        In memory or of Dask arrays, which stay lazy. Of a Dataset, variables that are no numbers are left out, as
        xarray's own reductions do.
    layout : str, optional
        A pattern whose names are dims, in any order: ``"time lat lon -> lat lon"``, ``"... time -> ..."``. One dim
        may be split, ``"(year month) lat -> month lat"`` with ``month=12``: it is the one that is not named.
    dim : hashable, iterable of hashable, or ..., optional
        In place of a pattern: dims to reduce. None and ``...``: all.
    where, weights : DataArray, optional
        Which elements count (booleans), and how much (see `numbanorm.moments`): of some of obj's dims, by name, with
        the same coordinates along them.
    skipna : bool, optional
        Leave NaN out. None: of floating-point arrays, as in xarray.
    weights_are : {"frequency", "reliability"}
        What weights say, as in `numbanorm.moments`.
    keep_attrs : bool, optional
        Whether attrs are kept. None: as xarray's reductions do, by its option and version.
    **sizes : int
        Sizes of the pattern's names.

    Returns
    -------
    Moments
        With `count`, `mean`, `m2`, `var()` and `std()` as obj is, a DataArray or a Dataset, in float64.

    Raises
    ------
    ValueError
        If obj has no such dim, or where or weights have one that it lacks, another size or other coordinates.
    TypeError
        If obj is neither, or wraps arrays that are not taken; if where or weights are no DataArrays.

    Examples
    --------
    >>> import numbanorm.xarray as nbx
    >>> import xarray as xr
    >>> t = xr.DataArray([[281.0, 290.0], [283.0, 294.0]], {"lat": [60, 40]}, ["time", "lat"], "t", {"units": "K"})
    >>> nbx.moments(t, dim="time").mean
    <xarray.DataArray 't' (lat: 2)> Size: 16B
    array([282., 292.])
    Coordinates:
      * lat      (lat) int64 16B 60 40
    Attributes:
        units:    K
    >>> nbx.moments(t, "time lat -> time", weights=xr.DataArray([1.0, 3.0], {"lat": [60, 40]})).mean.values
    array([287.75, 291.25])
    """
    jobs, reduced = _jobs(obj, layout, dim, sizes, Choosing(where, weights, skipna, weights_are))
    return moments_of(obj, jobs, reduced, keep_attrs)


def normalize(
    obj: Any,
    layout: str | None = None,
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
    **sizes: int,
) -> Any:
    """Give a DataArray, or each variable of a Dataset, mean 0 and variance 1 over dims by their names.

    Parameters
    ----------
    obj, layout, dim, where, weights, skipna, weights_are, **sizes
        As in `moments`. Variables of a Dataset that are no numbers, or have none of the dims, come back as they are.
    weight, bias : DataArray or number, optional
        Scale and shift, of some of obj's dims.
    eps : float
        Added to the variance, in units of obj squared. It is 0 here, since the variance of a physical quantity may be
        of any size, where `numbanorm.normalize` has 1e-5; a group without spread becomes 0 all the same.
    ddof, eps_on, dtype
        As in `numbanorm.normalize`.
    moments : Moments, optional
        Statistics to use in place of obj's own, such as those of a period of reference. Then ``dim=`` may be left out:
        it is what they lack.
    return_moments : bool
        Return ``(result, moments)``.
    keep_attrs : bool, optional
        Whether attrs are kept. None: they are, unless xarray's option says no. Encoding never is, since the result
        has another range.

    Returns
    -------
    DataArray or Dataset
        As obj: its dims, coords and name; lazy if it is.

    Raises
    ------
    ValueError, TypeError
        As in `moments`; and if given moments have other dims or coordinates than the statistics of obj.

    Examples
    --------
    >>> import numbanorm.xarray as nbx
    >>> import xarray as xr
    >>> t = xr.DataArray([[281.0, 290.0], [283.0, 294.0]], {"lat": [60, 40]}, ["time", "lat"], "t", {"units": "K"})
    >>> nbx.normalize(t, dim="time").values
    array([[-1., -1.],
           [ 1.,  1.]])
    """
    plain = isinstance(moments, statistics.Moments)
    if moments is not None and not plain and not isinstance(moments, Moments):
        raise TypeError(f"moments must be Moments, got {type(moments).__name__}; see numbanorm.xarray.moments")
    check_flag(return_moments, "return_moments")
    given = {"weight": weight, "bias": bias, "eps": eps, "ddof": ddof, "eps_on": eps_on, "dtype": dtype}
    choosing = Choosing(where, weights, skipna, weights_are)
    if plain and isinstance(obj, xr.Dataset):
        raise TypeError("moments are of one array, and obj is a Dataset; pass Moments of numbanorm.xarray")
    jobs, _ = _jobs(obj, layout, dim, sizes, choosing, True, None if plain else moments)
    states: Any = None
    if plain:
        states = dict.fromkeys(jobs, moments)
    elif moments is not None:
        states = {name: states_for(job, name, moments, isinstance(obj, xr.Dataset)) for name, job in jobs.items()}
    result, made = normalized(obj, jobs, keep_attrs, given, states)
    if not return_moments:
        return result
    return result, made if moments is None else moments


def _jobs(
    obj: Any,
    layout: Any,
    dim: Any,
    sizes: dict[str, int],
    choosing: Choosing,
    normalizing: bool = False,
    given: Moments | None = None,
) -> tuple[dict[Hashable, Job], Any]:
    """What is to be done to each array, and all dims that are reduced."""
    arrays, in_dataset = arrays_of(obj), isinstance(obj, xr.Dataset)
    if layout is not None and dim is not None:
        raise TypeError("pass a pattern or dim=, not both")
    if layout is None and sizes:
        raise TypeError(f"{', '.join(sizes)}: no such parameter, and sizes are those of a pattern's names; pass one")
    named = as_names(dim, list(obj.dims), "obj")
    jobs = {}
    for name, (array, of) in arrays.items():
        missing = [new for new in choosing.dims if new in named and new not in array.dims]
        x = broadcast(array, obj, missing) if in_dataset and not normalizing and layout is None else array
        reading = _reading(x, layout, sizes, named, of)
        if given is not None and layout is None and dim is None:
            reading = _reading_by(x, part_of(given, name, in_dataset), of)
        if normalizing and in_dataset and not reading.reduced:
            continue
        jobs[name] = Job(x, reading, of, choosing.given(x.transpose(*reading.order), of))
    reduced = named if layout is None else {dim for job in jobs.values() for dim in job.reading.reduced}
    return jobs, reduced


def _reading(x: Any, layout: Any, sizes: dict[str, int], named: Any, of: str) -> Reading:
    if layout is not None:
        return by_pattern(x, layout, sizes, of)
    return by_dims(x, [name for name in named if name in x.dims])


def _reading_by(x: Any, part: Any, of: str) -> Reading:
    """Reduce what given moments lack."""
    missing = [dim for dim in part.frame.dims if dim not in x.dims]
    if missing:
        raise ValueError(
            f"moments have a dim {missing[0]!r}, and {of} has dims {tuple(x.dims)}; if they are of groups, use "
            f"numbanorm.xarray.groupby(obj, ...).normalize(moments=...)"
        )
    return by_dims(x, [dim for dim in x.dims if dim not in part.frame.dims])


def part_of(given: Moments, name: Hashable, in_dataset: bool) -> Any:
    """Given moments of an array: of a DataArray whatever its name, of a Dataset by variable."""
    parts = given._parts
    if given._whole is None:
        if in_dataset:
            raise TypeError("moments are of a DataArray, and obj is a Dataset; make them of one, too")
        return next(iter(parts.values()))
    if name not in parts:
        raise ValueError(f"moments are of variables {list(parts)}, and not of {name!r}")
    return parts[name]


def states_for(job: Job, name: Hashable, given: Moments, in_dataset: bool) -> Core:
    """Given moments of an array as the core makes them, if they are of its groups."""
    part = part_of(given, name, in_dataset)
    along = [dim for dim in job.reading.kept if dim not in job.reading.reduced and dim in job.x.dims]
    check_same_groups(part, job.dims, along, job.x, "moments", job.of)
    return part.aligned(job.dims)
