"""What is done to each array of a call, once dims are read: beside public functions and groups alike."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from ..normalization import normalize
from ..statistics import moments
from .dims import Reading, beside, values_of
from .labelled import Core, Moments, Part, framed, keeps_attrs


class Choosing(NamedTuple):
    """Which elements make the statistics, as a caller says."""

    where: Any = None
    weights: Any = None
    skipna: Any = None
    weights_are: Any = "frequency"

    @property
    def dims(self) -> list[Hashable]:
        """Those that a mask or weights have."""
        return list(dict.fromkeys(dim for array in (self.where, self.weights) for dim in getattr(array, "dims", ())))

    def given(self, x: Any, of: str) -> dict[str, Any]:
        """As `numbanorm.moments` takes it for an array: along its dims, and NaN skipped where there may be some."""
        skipna = x.dtype.kind not in "iub" if self.skipna is None else self.skipna
        where, weights = beside(x, self.where, "where", of), beside(x, self.weights, "weights", of)
        return {"where": where, "weights": weights, "skipna": skipna, "weights_are": self.weights_are}


class Job(NamedTuple):
    """One array, and all that its statistics depend on; made, and so checked, before any is computed."""

    x: Any
    reading: Reading
    of: str
    chosen: dict[str, Any]
    labels: Any = None
    groups: Any = None  # the coordinate of labels, a Variable of one dim
    order: tuple[Hashable, ...] | None = None  # of the statistics' dims, if not as they come

    @property
    def values(self) -> Any:
        """The array beneath, with axes as the layout wants them."""
        return values_of(self.x.transpose(*self.reading.order), self.of)

    @property
    def labelling(self) -> dict[str, Any]:
        """Labels, as `numbanorm.moments` takes them."""
        return {} if self.labels is None else {"labels": self.labels, "num_labels": self.groups.size}

    @property
    def dims(self) -> tuple[Hashable, ...]:
        """Those of the statistics, in the order in which the core makes them."""
        return self.reading.kept if self.groups is None else (*self.groups.dims, *self.reading.kept)

    def moments(self, keep: bool) -> Part:
        """Its statistics."""
        with _told(self.of):
            made = moments(self.values, **self.reading.layout_given, **self.chosen, **self.labelling)
        return self.part(made, keep)

    def part(self, core: Core, keep: bool) -> Part:
        """Statistics, with labels."""
        frame = framed(self.x, self.reading.reduced, self.dims, core.shape, keep)
        if self.groups is not None:
            frame = frame.assign_coords({self.groups.dims[0]: self.groups})
        return Part(core, frame, self.order or self.dims)

    def normalize(self, keep: bool, given: dict[str, Any], states: Core | None) -> tuple[Any, Part]:
        """The array normalized, and its statistics."""
        wide = self.x.transpose(*self.reading.order)
        parameters = {name: beside(wide, given[name], name, self.of) for name in ("weight", "bias")}
        chosen = dict(self.chosen)
        if states is not None:
            chosen["skipna"] = False  # nothing is left to skip
        with _told(self.of):
            made, core = normalize(
                self.values,
                **self.reading.layout_given,
                **{**given, **parameters},
                **chosen,
                **self.labelling,
                moments=states,
                return_moments=True,
            )
        variable = xr.Variable(self.reading.order, made, self.x.attrs if keep else None).transpose(*self.x.dims)
        return xr.DataArray(variable, self.x.coords, name=self.x.name), self.part(core, keep)


@contextmanager
def _told(of: str) -> Iterator[None]:
    """Say which variable of several an error is about."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if of != "obj":
            error.add_note(f"this is about {of}")
        raise


def arrays_of(obj: Any) -> dict[Hashable, tuple[Any, str]]:
    """Arrays of numbers in an object, by name, and what messages call them."""
    if isinstance(obj, xr.DataArray):
        return {obj.name: (obj, "obj")}
    if isinstance(obj, xr.Dataset):
        return {
            name: (array, f"variable {name!r}")
            for name, array in obj.data_vars.items()
            if array.dtype == bool or array.dtype.kind == "V" or np.issubdtype(array.dtype, np.number)
        }
    raise TypeError(f"obj must be a DataArray or a Dataset, got {type(obj).__name__}; numbanorm.moments takes arrays")


def broadcast(array: Any, obj: Any, dims: Sequence[Hashable]) -> Any:
    """A variable of a Dataset along dims that it lacks, without a copy."""
    if not dims:
        return array
    variable = array.variable.set_dims({**{dim: obj.sizes[dim] for dim in dims}, **dict(array.sizes)})
    return xr.DataArray(variable, array.coords, name=array.name)


def moments_of(obj: Any, jobs: dict[Hashable, Job], reduced: Any, keep_attrs: Any) -> Moments:
    """Statistics of all arrays of an object."""
    keep = keeps_attrs(keep_attrs)
    parts = {name: job.moments(keep) for name, job in jobs.items()}
    return Moments(parts, _whole(obj, reduced, jobs, keep))


def _whole(obj: Any, reduced: Any, jobs: dict[Hashable, Job], keep: bool) -> Any:
    """A Dataset for statistics of another: its coords that lie along no reduced dim."""
    if isinstance(obj, xr.DataArray):
        return None
    made = obj.coords.to_dataset()
    made = made.drop_dims([dim for dim in reduced if dim in made.dims])
    groups = next((job.groups for job in jobs.values() if job.groups is not None), None)
    if groups is not None:
        made = made.drop_vars(groups.dims, errors="ignore").assign_coords({groups.dims[0]: groups})
    made.attrs = dict(obj.attrs) if keep else {}
    return made


def normalized(
    obj: Any, jobs: dict[Hashable, Job], keep_attrs: Any, given: dict[str, Any], states: dict[Hashable, Core] | None
) -> tuple[Any, Moments]:
    """An object with those of its arrays normalized that have a job; all else of it as it was."""
    option = xr.get_options()["keep_attrs"] if keep_attrs is None else keeps_attrs(keep_attrs)
    keep = option is not False
    made = {name: job.normalize(keep, given, None if states is None else states[name]) for name, job in jobs.items()}
    parts = {name: part for name, (_, part) in made.items()}
    if isinstance(obj, xr.DataArray):
        return made[obj.name][0], Moments(parts)
    result = obj.assign({name: array.variable for name, (array, _) in made.items()})
    if not keep:
        result.attrs = {}
    reduced = {dim for job in jobs.values() for dim in job.reading.reduced}
    return result, Moments(parts, _whole(obj, reduced, jobs, keep))
