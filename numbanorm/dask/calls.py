"""Calls on Dask arrays: all is checked that can be before anything is computed, and the graph is made.

Statistics of chunks are merged in a tree whose order follows from the chunks alone. Output comes from a second read of
x, unless chunks have all of their groups: to keep what was read until the statistics are known, all of x would have to
fit in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isnan
from typing import Any

import dask.array as da
import numpy as np
from dask.array.core import Array
from dask.graph_manipulation import bind

from ..arrays.forms import float_dtype, kind, result_dtype
from ..arrays.lazy import is_lazy
from ..arrays.objects import labelled_like
from ..arrays.take import view
from ..call.arguments import as_layout, check_eps, check_flag, check_number, on_std
from ..call.chosen import _as_mask, _broadcast, choice_of, refuse_beside
from ..call.handed import Output, Selection
from ..call.labels import _as_number, _checked, along_axes, as_labels, highest_of, refuse_number_alone
from ..call.run import check_ddof
from ..layout import Layout, Segments, as_int
from ..statistics import Moments
from ..walk.blocks import Blocks, blocks_of
from ..walk.nest import stretched
from . import tasks
from .lazy import LazyMoments, of_moments
from .sent import Sent

SPLIT = 16  # how many states of chunks a task merges


def moments(x: Any, layout: Any, axis: Any, sizes: dict[str, int], selection: Selection) -> LazyMoments:
    """`numbanorm.moments` of a Dask array."""
    from ..statistics import moments as public

    return _called(x, layout, axis, sizes, selection, None, public).moments()


def normalize(x: Any, layout: Any, axis: Any, sizes: dict[str, int], selection: Selection, output: Output) -> Any:
    """`numbanorm.normalize` of a Dask array."""
    from ..normalization import normalize as public

    weight, bias, eps, ddof, eps_on, statistics, out, dtype, return_moments = output
    keep = check_flag(return_moments, "return_moments")
    call = _called(x, layout, axis, sizes, selection, statistics, public)
    return call.normalize(weight, bias, eps, as_int(ddof, "ddof"), on_std(eps_on), out, dtype, keep, statistics)


def _called(
    x: Any,
    layout: Any,
    axis: Any,
    sizes: dict[str, int],
    selection: Selection,
    statistics: Any,
    public: Callable[..., Any],
) -> _Call:
    """A call of a public function, once it is known that its arguments go together."""
    where, weights, labels, num_labels, skipna, weights_are = selection
    choice = choice_of(where, weights, skipna, weights_are)
    if choice is not None:
        refuse_beside(choice, labels, num_labels, statistics, public)
    elif labels is None:
        refuse_number_alone(num_labels, public)
    return _Call(x, as_layout(layout, axis, sizes, public), choice, labels, num_labels)


def normalized(
    x: Any,
    weight: Any,
    bias: Any,
    eps: Any,
    out: Any,
    prepare: Callable[..., Any],
    settings: tuple[Any, ...],
    running: tuple[Any, Any, Any, Any] | None,
    dtype: Any,
    keep: Any,
) -> Any:
    """A named norm of a Dask array, by what it makes of its arguments: see `call.known.normalized`."""
    _check_known(x, "a norm by name")
    like = _stand_in(x)
    ours = (
        prepare(like, weight, bias, *settings) if running is None else prepare(like, weight, bias, running, *settings)
    )
    statistics = None
    if ours.running is not None:
        if ours.running.updated:
            raise TypeError(
                "x is a Dask array, whose result is made later, but running statistics are updated in place now; make "
                "moments(x, ...).compute() and move them yourself, or call without them, or with training=False"
            )
        if keep is not None:
            raise ValueError(
                "return_moments=True gives x's own statistics, but stored ones are used here; leave it out"
            )
        mean, var = ours.running.mean, ours.running.var
        statistics = Moments(np.ones(mean.shape), mean, var)
    call = _Call(x, ours.layout, None, None, None, ours.center)
    kept = keep is not None
    return call.normalize(ours.weight, ours.bias, eps, ours.ddof, ours.eps_on_std, out, dtype, kept, statistics)


class _Call:
    """A call on a Dask array, whose chunks are cut where the layout lets them be."""

    def __init__(
        self,
        x: Any,
        layout: Layout,
        choice: Any = None,
        labels: Any = None,
        num_labels: Any = None,
        center: bool = True,
    ) -> None:
        self.caller, self.layout, self.choice, self.center = x, layout, choice, center
        x = x if isinstance(x, Array) else x.data
        _check_chunks(x)
        if isinstance(layout, Segments):
            raise TypeError(
                f"{layout!r} is not offered for Dask arrays; number the segments of rows, and pass them as labels, as "
                "in np.repeat(np.arange(segments), lengths)"
            )
        self.known = not any(map(isnan, x.shape))
        self.empty = 0 in x.shape
        self.blocks = blocks = self._blocks(x.shape)
        self.x = x = _aligned(x, blocks)
        ndim = x.ndim
        self.index = tuple(range(ndim))
        self.inner = tuple(range(ndim, ndim + len(blocks.inner)))
        self.of_states, self.of_labels = ndim + len(blocks.inner), ndim + len(blocks.inner) + 1
        self.where = self.weights = self.labels = self.number = None
        if choice is not None:
            self.where = None if choice.where is None else self._along_x(choice.where, "where")
            self.weights = None if choice.weights is None else self._along_x(choice.weights, "weights")
        if labels is not None:
            self.labels, self.number = self._as_labels(labels, num_labels)
        self.work = tasks.Work(blocks, self.number, center=center)
        if choice is not None:
            self.work = self.work._replace(skipna=choice.skipna, weights_are=choice.weights_are)

    def _blocks(self, shape: tuple[Any, ...]) -> Blocks:
        """The layout on blocks; an axis of unknown length must be one that no layout splits."""
        if self.known:
            return (
                blocks_of(self.layout, [max(n, 1) for n in shape])
                if not self.empty
                else _of_nothing(self.layout, shape)
            )
        left, given = self.layout.left_side(len(shape)), self.layout.sizes
        for axis, (item, n) in enumerate(zip(left, shape, strict=True)):
            if isnan(n) and len(item) != 1:
                raise ValueError(
                    f"{self.layout!r} splits axis {axis} of x, whose chunks have unknown sizes; call "
                    "x.compute_chunk_sizes() first, which reads x once"
                )
        return blocks_of(
            self.layout, [given.get(item[0], 1) if isnan(n) else n for item, n in zip(left, shape, strict=True)]
        )

    # other arrays, in chunks as those of x ----------------------------------------------------------------------------

    def _along_x(self, array: Any, name: str) -> Array:
        """A mask, weights, or weight and bias, which broadcast against x, in chunks as x has them."""
        given = array if is_lazy(array) else view(array, name)
        lazy = given if isinstance(given, Array) else getattr(given, "data", None)
        stand_in = _stand_in(lazy, unknown=1) if isinstance(lazy, Array) else given
        if name == "where":
            _as_mask(stand_in)
        kind(stand_in.dtype, name)
        if not isinstance(lazy, Array):
            lazy = None
        if self.known and not (lazy is not None and any(map(isnan, lazy.shape))):
            like = _stand_in(self.x)
            if name in ("where", "weights"):
                _broadcast(like, stand_in, name)
            else:
                stretched(name, like.shape, stand_in.shape, (0,) * stand_in.ndim)
        missing = self.x.ndim - stand_in.ndim
        if missing < 0:
            raise ValueError(
                f"{name} has {stand_in.ndim} axes, more than x, which has {self.x.ndim}; pass one of x's shape"
            )
        return self._in_chunks(given if lazy is None else lazy, self.x.chunks[missing:], name)

    def _in_chunks(self, array: Any, chunks: Any, name: str) -> Array:
        """An array in given chunks, but of one where an axis is of size 1."""
        shape = array.shape
        wanted = tuple((1,) if n == 1 else c for n, c in zip(shape, chunks, strict=True))
        unknown = [axis for axis, c in enumerate(wanted) if any(map(isnan, c))]
        if isinstance(array, Array):
            fits = [len(array.chunks[axis]) == len(wanted[axis]) for axis in unknown]
            if not all(fits):
                raise ValueError(
                    f"{name} is in chunks {array.chunks}, and x in chunks {self.x.chunks}, some of unknown sizes: they "
                    "cannot be put side by side; call x.compute_chunk_sizes() first"
                )
            moved = {axis: c for axis, c in enumerate(wanted) if axis not in unknown and c != array.chunks[axis]}
            return array.rechunk(moved) if moved else array
        if unknown:
            raise ValueError(
                f"{name}, of shape {tuple(shape)}, cannot be cut as x, whose chunks have unknown sizes; call "
                "x.compute_chunk_sizes() first"
            )
        return da.from_array(np.asarray(array), chunks=wanted)

    def _as_labels(self, labels: Any, num_labels: Any) -> tuple[Array, int]:
        """Labels with an axis for each of x, and how many there are."""
        if not self.known:
            raise ValueError(
                "x has chunks of unknown sizes, so labels cannot be cut as they are; call x.compute_chunk_sizes() first"
            )
        number = None if num_labels is None else _as_number(num_labels)
        lazy = labels if isinstance(labels, Array) else labels.data if is_lazy(labels) else None
        given = as_labels(labels if lazy is None else _stand_in(lazy))
        along = along_axes(given, self.layout, self.x.shape)
        if lazy is None:
            number = _checked(highest_of(given), number, given)
        elif number is None:
            raise ValueError(
                "labels are a Dask array, so the highest of them is not known yet; pass num_labels=, one more than it "
                "may be, such as int(labels.max().compute()) + 1"
            )
        else:
            sizes = tuple(n for n, reduced in zip(along.shape, self.blocks.labels, strict=True) if reduced)
            lazy = da.broadcast_to(lazy, sizes)
            along = lazy[tuple(slice(None) if reduced else None for reduced in self.blocks.labels)]
        chunks = []
        for axis, (c, reduced) in enumerate(zip(self.x.chunks, self.blocks.labels, strict=True)):
            unit = self.blocks.units[axis]
            some = tuple(n // unit * reduced for n in c) if self.blocks.reduced[axis] else (along.shape[axis],)
            chunks.append(some if reduced else (1,))
        return self._in_chunks(along, chunks, "labels"), number

    # the graph --------------------------------------------------------------------------------------------------------

    @property
    def _labelled(self) -> tuple[int, ...]:
        return () if self.number is None else (self.of_labels,)

    def _operand(self, array: Array | None) -> tuple[Any, Any]:
        """An array and its index, as `blockwise` takes them, along the last axes of x."""
        return (array, None) if array is None else (array, self.index[len(self.index) - array.ndim :])

    def states(self) -> Array:
        """States of all groups, by chunk and then merged.

        Axes are those of states (count, mean, m2, rest), of labels if there are, of x (of size 1 where there are no
        groups along it), and of inner factors.
        """
        blocks, x = self.blocks, self.x
        cut = {
            axis: tuple(n // blocks.units[axis] for n in c) if axis in blocks.outer else (1,) * len(c)
            for axis, c in enumerate(x.chunks)
        }
        rows = 5 if self.work.squares else 4
        new: dict[int, Any] = {self.of_states: rows, **dict(zip(self.inner, blocks.inner, strict=True))}
        new |= dict.fromkeys(self._labelled, self.number)
        index = (self.of_states, *self._labelled, *self.index, *self.inner)
        operands = (self._operand(a) for a in (self.where, self.weights, self.labels))
        meta = np.empty((0,) * len(index))
        made = da.blockwise(
            Sent(tasks.states, self.work),
            index,
            x,
            self.index,
            *(part for operand in operands for part in operand),
            new_axes=new,
            adjust_chunks=cut,
            dtype=np.float64,
            meta=meta,
            align_arrays=False,
            concatenate=True,
        )
        first = 1 + len(self._labelled)
        axes = [first + a for a in self.index if a not in blocks.outer and len(x.chunks[a]) > 1]
        if axes:
            every = max(2, int(SPLIT ** (1 / len(axes)) + 1e-9))
            made = da.reduction(
                made,
                chunk=Sent(tasks.same),
                combine=Sent(tasks.merge),
                aggregate=Sent(tasks.merge),
                axis=tuple(axes),
                keepdims=True,
                dtype=np.float64,
                split_every=dict.fromkeys(axes, every),
                concatenate=False,
                meta=meta,
            )
        if self.work.squares:
            chunks = ((4,), *made.chunks[1:])
            made = made.map_blocks(Sent(tasks.by_reliability), dtype=np.float64, chunks=chunks, meta=meta)
        return made

    def moments(self, states: Array | None = None) -> LazyMoments:
        """Of the caller's group shape."""
        if self.empty:
            labels = () if self.number is None else (self.number,)
            return LazyMoments(of_moments(Moments.empty((*labels, *self.layout.group_shape(self.x.shape))), ()))
        states = self.states() if states is None else states
        first = 1 + len(self._labelled)
        gone = tuple(0 if a not in self.blocks.outer else slice(None) for a in self.index)
        states = states[(*(slice(None),) * first, *gone)]
        states = states.transpose([*range(first), *(first + place for place in self.blocks.order)])
        right = self.layout.right_side(len(self.index))
        if all(len(item) <= 1 for item in right):
            return LazyMoments(states[(*(slice(None),) * first, *(slice(None) if item else None for item in right))])
        self._check_split("to name")
        return LazyMoments(states.reshape((*states.shape[:first], *self.layout.group_shape(self.x.shape))))

    def _check_split(self, what: str) -> None:
        if not self.known:
            raise ValueError(
                f"{self.layout!r} makes one axis of several, and x has chunks of unknown sizes; call "
                "x.compute_chunk_sizes() first"
            )

    def _states_of(self, m: Any) -> Array:
        """Statistics of the caller's as `states` makes them."""
        if not isinstance(m, Moments):
            raise TypeError(f"moments must be Moments, got {type(m).__name__}; see numbanorm.moments")
        if not self.known:
            raise ValueError(
                "x has chunks of unknown sizes; call x.compute_chunk_sizes() before it meets given moments"
            )
        labels = () if self.number is None else (self.number,)
        wanted = (*labels, *self.layout.group_shape(self.x.shape))
        if tuple(m.shape) != wanted:
            beside = "" if not labels else f" and {self.number} labels"
            raise ValueError(f"moments have group shape {m.shape}, but {self.layout!r}{beside} of x has {wanted}")
        states = m.states if isinstance(m, LazyMoments) else np.stack(m._on_host)
        first, sizes = 1 + len(labels), self.blocks.shape(self.x.shape)
        order = self.blocks.order
        states = states.reshape((*states.shape[:first], *(sizes[place] for place in order)))
        back = sorted(range(len(order)), key=order.__getitem__)
        states = states.transpose([*range(first), *(first + place for place in back)])
        axes = tuple(slice(None) if a in self.blocks.outer else None for a in self.index)
        states = states[(*(slice(None),) * first, *axes)]
        chunks: list[Any] = [(n,) for n in states.shape]
        for a in self.blocks.outer:
            chunks[first + a] = tuple(n // self.blocks.units[a] for n in self.x.chunks[a])
        return (
            states.rechunk(tuple(chunks)) if isinstance(states, Array) else da.from_array(states, chunks=tuple(chunks))
        )

    def normalize(
        self,
        weight: Any,
        bias: Any,
        eps: Any,
        ddof: int,
        eps_on_std: bool,
        out: Any,
        dtype: Any,
        keep: bool,
        given: Any,
    ) -> Any:
        """The lazy result; lazy Moments, too, if `keep`."""
        if out is not None:
            raise TypeError(
                "x is a Dask array, whose result is made later: there is nothing to write to out= now; leave it"
            )
        eps = check_eps(eps)
        wanted = result_dtype(self.x.dtype) if dtype is None else float_dtype(dtype)
        weight, bias = self._parameter(weight, "weight"), self._parameter(bias, "bias")
        if ddof < 0 or (ddof and self.known and self.choice is None and self.number is None):
            check_ddof(ddof, self.layout, _stand_in(self.x))
        self.work = self.work._replace(eps=eps, ddof=ddof, eps_on_std=eps_on_std, dtype=wanted)
        meta = np.empty((0,) * self.x.ndim, wanted)
        if self.empty:
            result = self.x.astype(wanted)
            return self._result(result, keep, lambda: self.moments() if given is None else given)
        whole = all(a in self.blocks.outer or len(c) == 1 for a, c in enumerate(self.x.chunks))
        if given is None and whole:
            operands: tuple[Any, ...] = (self.where, self.weights, self.labels)
            task, x, states = Sent(tasks.whole, self.work), self.x, None
        else:
            chosen = tasks.apply_to_chosen if self.choice is not None else tasks.apply
            operands, task = (self.labels,), Sent(chosen, self.work)
            states = self.states() if given is None else self._states_of(given)
            # Read x again, once all statistics are there, so that it is not kept until then.
            x = self.x if given is not None else bind(self.x, states, seed="numbanorm")
        of_states = (self.of_states, *self._labelled, *self.index, *self.inner)
        arguments: list[Any] = [x, self.index]
        if states is not None:
            arguments += [states, of_states]
        for parameter in (weight, bias):
            arguments += self._operand(parameter) if isinstance(parameter, Array) else (parameter, None)
        for operand in operands:
            arguments += self._operand(operand)
        result = da.blockwise(
            task, self.index, *arguments, dtype=wanted, meta=meta, align_arrays=False, concatenate=True
        )
        if given is not None:
            return self._result(result, keep, lambda: given)
        return self._result(result, keep, lambda: self.moments(states))

    def _parameter(self, value: Any, name: str) -> Any:
        """Weight or bias: a number, or an array in chunks as x."""
        if value is None:
            return None
        if not is_lazy(value) and view(value, name).ndim == 0:
            return check_number(value, name)
        return self._along_x(value, name)

    def _result(self, result: Array, keep: bool, make: Callable[[], Any]) -> Any:
        labelled = labelled_like(self.caller, result)
        return (labelled, make()) if keep else labelled


def _stand_in(x: Any, unknown: int | None = None) -> Any:
    """An array of a lazy one's shape and dtype that takes no memory, for checks; its values mean nothing."""
    x = x if isinstance(x, Array) else x.data
    shape = tuple(unknown if unknown is not None and isnan(n) else n for n in x.shape)
    return np.broadcast_to(np.zeros((), x.dtype), shape)


def _check_known(x: Any, what: str) -> None:
    if any(map(isnan, x.shape)):
        raise ValueError(
            f"x has chunks of unknown sizes, and {what} needs its shape; call x.compute_chunk_sizes() first"
        )


def _check_chunks(x: Array) -> None:
    """Refuse arrays whose chunks are no ndarrays of numbers."""
    if isinstance(x._meta, np.ma.MaskedArray):
        raise TypeError("x has masked chunks, whose mask would be ignored; pass da.ma.filled(x, value)")
    if not isinstance(x._meta, np.ndarray):
        raise TypeError(
            f"x has chunks of type {type(x._meta).__name__}, and only ndarrays are taken; convert them by "
            "x.map_blocks(...)"
        )
    kind(x.dtype, "x")


def _of_nothing(layout: Layout, shape: tuple[int, ...]) -> Blocks:
    """Where x has no elements, nothing is cut."""
    layout.resolve(shape)
    ndim = len(shape)
    return Blocks(layout, (1,) * ndim, (), (), (), (False,) * ndim, (1,) * ndim)


def _aligned(x: Array, blocks: Blocks) -> Array:
    """The array in chunks that begin where its layout's units do: the nearest to those that it has."""
    wanted: dict[int, Any] = {}
    for axis, unit in enumerate(blocks.units):
        own = x.chunks[axis]
        if unit == 1 or all(n % unit == 0 for n in own):
            continue
        ends = np.cumsum(own)
        ends = np.unique(np.rint(ends / unit).astype(np.int64) * unit)
        ends = ends[ends > 0]
        wanted[axis] = tuple(int(n) for n in np.diff(ends, prepend=0))
    return x.rechunk(wanted) if wanted else x
