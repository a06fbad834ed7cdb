"""Moments that are still to be computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import dask.array as da
import numpy as np
from dask.array.core import Array
from dask.base import compute, persist

from ..call.arguments import check_number
from ..layout import as_ints
from ..statistics import Moments
from . import tasks
from .sent import Sent


class LazyMoments(Moments[Any]):
    """Moments of a Dask array: a Dask collection, whose `count`, `mean` and `m2` are Dask arrays.

    ``m.compute()`` gives plain `Moments`, with one read of the data for all of them; so does ``dask.compute(m, y)``,
    together with whatever else is to be computed. What is made of them is lazy, too: `var`, `std`, `merge`,
    `merge_axis`, some of the groups by an index. `save`, and comparing by ``==``, compute.

    Examples
    --------
    >>> import dask.array as da
    >>> import numbanorm as nbn
    >>> m = nbn.moments(da.arange(10, chunks=4))
    >>> m
    LazyMoments(of one group; compute() gives Moments)
    >>> m.compute()
    Moments(count=10., mean=4.5, std=2.872281)
    >>> float(m.std().compute()).__round__(6)
    2.872281
    """

    __slots__ = ("states",)

    states: Array  # count, mean, m2 and the rest of the mean along axis 0, which is one chunk; then the group shape

    def __init__(self, states: Array) -> None:
        self.states = states

    _count = property(lambda self: self.states[0])
    _mean = property(lambda self: self.states[1])
    _m2 = property(lambda self: self.states[2])
    _rest = property(lambda self: self.states[3])

    @property
    def shape(self) -> tuple[int, ...]:
        """The group shape; an axis is NaN long where chunks of x have unknown sizes."""
        return tuple(self.states.shape[1:])

    def compute(self, **options: Any) -> Moments:
        """Plain Moments; `options` as those of `dask.compute`, such as ``scheduler=``."""
        (m,) = compute(self, **options)
        return m

    def persist(self, **options: Any) -> Self:
        """The same, computed where the workers are, and still lazy here."""
        (m,) = persist(self, **options)
        return m

    def _spread(self, formula: str, ddof: float) -> Any:
        made = self.states.map_blocks(
            Sent(tasks.spread),
            formula,
            check_number(ddof, "ddof"),
            dtype=np.float64,
            drop_axis=0,
            meta=_like(self.states, -1),
        )
        return made

    def merge(self, other: Moments[Any]) -> LazyMoments:
        """Moments of both sets of values together.

        Parameters
        ----------
        other : Moments
            Of the same group shape, lazy or not.
        """
        if not isinstance(other, Moments):
            raise TypeError(f"other must be Moments, got {type(other).__name__}")
        theirs = of_moments(other, self.states.chunks[1:])
        if not _may_be_equal(theirs.shape, self.states.shape):
            raise ValueError(
                f"other has group shape {other.shape}, these Moments have {self.shape}; merge Moments of one layout "
                "and of arrays with the same groups"
            )
        index = range(self.states.ndim)
        return LazyMoments(
            da.blockwise(
                Sent(tasks.merged),
                index,
                self.states,
                index,
                theirs,
                index,
                dtype=np.float64,
                meta=_like(self.states),
                align_arrays=False,
            )
        )

    def __radd__(self, other: object) -> Any:
        if isinstance(other, Moments):
            return of_plain(other, self.states.chunks[1:]).merge(self)
        return self if type(other) is int and other == 0 else NotImplemented

    def update(self, x: Any, layout: Any = None, **given: Any) -> Self:
        """Refuse: lazy Moments are made, not filled. Merge those of further arrays by +."""
        raise TypeError(
            "lazy Moments are not updated in place; add those of further arrays, m + numbanorm.moments(x, ...)"
        )

    def merge_axis(self, axis: int | Sequence[int]) -> LazyMoments:
        """Moments of coarser groups: see `Moments.merge_axis`."""
        ndim = self.states.ndim - 1
        wanted = as_ints(axis, "axis")
        Moments.empty((1,) * ndim).merge_axis(wanted)  # refuses what does not fit
        axes = [a % ndim + 1 for a in wanted]
        whole = self.states.rechunk(dict.fromkeys(axes, -1))
        made = whole.map_blocks(
            Sent(tasks.merged_axes),
            tuple(a - 1 for a in axes),
            dtype=np.float64,
            drop_axis=axes,
            meta=_like(whole, -len(axes)),
        )
        return LazyMoments(made)

    def __getitem__(self, index: Any) -> LazyMoments:
        """Moments of some of the groups."""
        if not self.shape and index != () and index is not Ellipsis:
            raise IndexError(f"these Moments are of one group, and have no index {index!r}; their shape is ()")
        return LazyMoments(self.states[(slice(None), *(index if isinstance(index, tuple) else (index,)))])

    def __reduce__(self) -> tuple[Any, ...]:
        return LazyMoments, (self.states,)

    def __repr__(self) -> str:
        of = f"of group shape {self.shape}" if self.shape else "of one group"
        return f"LazyMoments({of}; compute() gives Moments)"

    # Dask's protocol of collections -----------------------------------------------------------------------------------

    def __dask_graph__(self) -> Any:
        return self.states.__dask_graph__()

    def __dask_layers__(self) -> Any:
        return self.states.__dask_layers__()

    def __dask_keys__(self) -> Any:
        return self.states.__dask_keys__()

    def __dask_tokenize__(self) -> Any:
        return LazyMoments.__name__, self.states.__dask_tokenize__()

    __dask_optimize__ = staticmethod(Array.__dask_optimize__)
    __dask_scheduler__ = staticmethod(Array.__dask_scheduler__)

    def __dask_postcompute__(self) -> tuple[Callable[..., Moments], tuple[Any, ...]]:
        return _computed, self.states.__dask_postcompute__()

    def __dask_postpersist__(self) -> tuple[Callable[..., LazyMoments], tuple[Any, ...]]:
        return _persisted, self.states.__dask_postpersist__()


def of_plain(m: Moments[Any], chunks: Any) -> LazyMoments:
    """Moments that are there, as lazy ones in these chunks."""
    return m if isinstance(m, LazyMoments) else LazyMoments(of_moments(m, chunks))


def of_moments(m: Moments[Any], chunks: Any) -> Array:
    """States of Moments along axis 0, and behind it chunks of the group shape, where they are known."""
    if isinstance(m, LazyMoments):
        known = not any(np.isnan(n) for n in m.states.shape)
        return (
            m.states.rechunk({a + 1: c for a, c in enumerate(chunks)})
            if known and m.states.shape[1:] == tuple(map(sum, chunks))
            else m.states
        )
    states = np.stack(m._on_host)
    known = tuple(map(sum, chunks)) == states.shape[1:]
    return da.from_array(states, chunks=(4, *chunks) if known else -1)


def _may_be_equal(a: Sequence[float], b: Sequence[float]) -> bool:
    return len(a) == len(b) and all(m == n or np.isnan(m) or np.isnan(n) for m, n in zip(a, b, strict=True))


def _like(states: Array, more: int = 0) -> Any:
    return np.empty((0,) * (states.ndim + more))


def _computed(results: Any, finish: Callable[..., Any], arguments: tuple[Any, ...] = ()) -> Moments:
    return Moments._made(*map(np.array, finish(results, *arguments)))


def _persisted(graph: Any, rebuild: Callable[..., Array], arguments: tuple[Any, ...], **options: Any) -> LazyMoments:
    return LazyMoments(rebuild(graph, *arguments, **options))
