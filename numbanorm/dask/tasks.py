"""What is done to one chunk, within a task: on whatever worker, by one thread."""

from collections.abc import Callable
from functools import wraps
from math import nan
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..call.choose import engine_of
from ..call.chosen import Choice, moments_of_chosen, normalize_by_chosen
from ..call.labels import moments_by_label, normalize_by_label
from ..call.run import moments, transform
from ..cpu.threads import one_thread
from ..statistics import Moments
from ..walk.blocks import Blocks

Packed = NDArray[np.float64]  # count, mean, m2 and rest along axis 0, and perhaps the sum of squared weights


class Work(NamedTuple):
    """What is the same for all chunks."""

    blocks: Blocks
    num_labels: int | None = None
    skipna: bool = False
    weights_are: Any = "frequency"
    center: bool = True
    eps: float = 0.0
    ddof: int = 0
    eps_on_std: bool = False
    dtype: Any = None
    version: str = __version__

    def check(self) -> None:
        """Refuse a graph that another version made: a chunk may mean another thing to it."""
        if self.version != __version__:
            raise RuntimeError(other_version(self.version, __version__))

    def choice(self, where: Any, weights: Any) -> Choice | None:
        """The choice of a chunk's elements, if there is one."""
        if where is None and weights is None and not self.skipna:
            return None
        return Choice(where, weights, self.skipna, self.weights_are)

    @property
    def squares(self) -> bool:
        """Whether the sum of squared weights is wanted."""
        return self.weights_are == "reliability"


def other_version(made: str, here: str) -> str:
    """What is wrong where a graph runs that another version made."""
    return (
        f"this worker has numbanorm {here}, and the graph was made by numbanorm {made}; install one version everywhere"
    )


def _alone(task: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator of a task: by one thread, since the scheduler runs as many tasks as there are processors."""

    @wraps(task)
    def by_one_thread(*arguments: Any, **given: Any) -> Any:
        with one_thread():
            return task(*arguments, **given)

    return by_one_thread


@_alone
def states(x: Any, where: Any, weights: Any, labels: Any, work: Work) -> Packed:
    """States of a chunk's groups; of an axis whose slowest factor is reduced there is one."""
    work.check()
    x = _only(x)
    layout, where, weights = work.blocks.layout, _only(where), _only(weights)
    of = None if labels is None else _labels(_only(labels), work)
    if (choice := work.choice(where, weights)) is not None:
        by_label = of, work.num_labels
        made: tuple[Any, ...] = moments_of_chosen(x, layout, choice._replace(weights_are="frequency"), *by_label)
        if work.squares:
            reliable, *_ = moments_of_chosen(x, layout, choice, *by_label)
            with np.errstate(all="ignore"):  # which is sum(w)**2 / sum(w**2)
                made = (*made, np.where(made[0] > 0, made[0] / reliable * made[0], 0.0))
    elif of is not None:
        made = moments_by_label(x, layout, of, work.num_labels)
    else:
        made = moments(engine_of(x), layout, x, work.center)
    return np.stack([_spread_out(state, x.ndim, work) for state in made])


def same(block: Any, axis: Any = None, keepdims: Any = None) -> Any:
    """A block as it is."""
    return block


@_alone
def merge(parts: Any, axis: Any = None, keepdims: Any = None) -> Packed:
    """States of chunks, in a list of lists, merged in order."""
    first, *others = _flat(parts)
    for other in others:
        first = merged(first, other)
    return first


def merged(a: Packed, b: Packed) -> Packed:
    """Two states together."""
    made = np.stack((Moments._made(*a[:4]) + Moments._made(*b[:4]))._on_host) if a.ndim > 1 else _merged_one(a, b)
    return np.concatenate([made, a[4:] + b[4:]]) if len(a) > 4 else made


def _merged_one(a: Packed, b: Packed) -> Packed:
    return merged(a[:, None], b[:, None])[:4, 0]


def by_reliability(packed: Packed) -> Packed:
    """States of reliability weights: the effective number, of which a sum of squared weights is the last part."""
    count, mean, m2, rest, squares = packed
    with np.errstate(all="ignore"):
        share = np.where(count > 0, count / squares, 1.0)
    if not ((share > 0) & (share < np.inf)).all():
        raise ValueError(
            "weights have squares beyond the range of float64; multiply them all by a number near 1 / weight"
        )
    return np.stack([count * share, mean, m2 * share, rest])


def spread(packed: Any, formula: str, ddof: float) -> Any:
    """Variance or deviation."""
    m = Moments._made(*map(np.array, packed))
    return m.var(ddof) if formula == "variance" else m.std(ddof)


def merged_axes(packed: Packed, axes: tuple[int, ...]) -> Packed:
    """States of coarser groups."""
    return np.stack(Moments._made(*packed).merge_axis(axes)._on_host)


@_alone
def whole(x: Any, weight: Any, bias: Any, where: Any, weights: Any, labels: Any, work: Work) -> Any:
    """Normalize a chunk that has all of its groups."""
    work.check()
    layout, given = work.blocks.layout, _given(work)
    x, weight, bias, where, weights, labels = map(_only, (x, weight, bias, where, weights, labels))
    of = None if labels is None else _labels(labels, work)
    numbers: Any = {"ddof": work.ddof, "out": None}
    if (choice := work.choice(where, weights)) is not None:
        return normalize_by_chosen(x, layout, weight, bias, choice, of, work.num_labels, **numbers, **given)[0]
    if of is not None:
        numbers["statistics"] = None
        return normalize_by_label(x, layout, weight, bias, of, work.num_labels, **numbers, **given)[0]
    return transform(x, layout, weight, bias, ddof=work.ddof, center=work.center, **given)[0]


@_alone
def apply(x: Any, packed: Any, weight: Any, bias: Any, labels: Any, work: Work) -> Any:
    """Normalize a chunk by statistics of its groups."""
    return _applied(x, packed, weight, bias, labels, False, work)


@_alone
def apply_to_chosen(x: Any, packed: Any, weight: Any, bias: Any, labels: Any, work: Work) -> Any:
    """The same by statistics of chosen elements, of which a group may have too few."""
    return _applied(x, packed, weight, bias, labels, True, work)


def _applied(x: Any, packed: Any, weight: Any, bias: Any, labels: Any, chosen: bool, work: Work) -> Any:
    work.check()
    layout, given = work.blocks.layout, _given(work)
    x, packed, weight, bias, labels = map(_only, (x, packed, weight, bias, labels))
    groups = () if work.num_labels is None else (work.num_labels,)
    shape = (*groups, *layout.group_shape(x.shape))
    count, mean, m2, rest = (np.ascontiguousarray(state).reshape(shape) for state in packed)
    if labels is not None:
        of = _labels(labels, work)
        numbers: dict[str, Any] = {
            "num_labels": work.num_labels,
            "ddof": work.ddof,
            "out": None,
            "statistics": (count, mean, m2, rest),
        }
        return normalize_by_label(x, layout, weight, bias, of, **numbers, **given)[0]
    if chosen and work.ddof:  # too few values have no variance
        mean = np.where(count > work.ddof, mean, nan)
    statistics = np.asarray(count - work.ddof), mean, m2  # of one group, NumPy makes numbers of arrays
    return transform(x, layout, weight, bias, center=work.center, statistics=statistics, **given)[0]


def _given(work: Work) -> dict[str, Any]:
    return {"eps": work.eps, "eps_on_std": work.eps_on_std, "dtype": work.dtype}


def _labels(labels: Any, work: Work) -> Any:
    """Labels as the layout of a chunk reduces its axes, from an array with an axis for each of them."""
    return labels[tuple(slice(None) if reduced else 0 for reduced in work.blocks.labels)]


def _spread_out(state: Any, ndim: int, work: Work) -> Any:
    """A state with an axis for each of the chunk, which is of size 1 where it has no groups."""
    first = int(work.num_labels is not None)
    gone = [first + axis for axis in range(ndim) if axis not in work.blocks.outer]
    return np.expand_dims(state, gone)


def _only(block: Any) -> Any:
    """A block, where Dask gives a list of one; without gaps, as it comes out of every scheduler's messages.

    Bits depend on the memory order of an array: a chunk that is a view here arrives as a copy on another process.
    """
    while isinstance(block, list):
        (block,) = block
    if isinstance(block, np.generic):  # a chunk without axes may be a number
        return np.asarray(block)
    if isinstance(block, np.ndarray) and not (block.flags.c_contiguous or block.flags.f_contiguous):
        return np.array(block, order="C")
    return block


def _flat(parts: Any) -> list[Packed]:
    return [block for part in parts for block in _flat(part)] if isinstance(parts, list) else [parts]
