"""Calls on groups that are split by labels: all is checked before anything is computed."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..arrays.give import give
from ..arrays.memory import Array, check_same_device
from ..arrays.ragged import is_ragged, together
from ..arrays.take import take, view, written
from ..engine.interface import Frame
from ..layout import Grouping, Layout, Segments, as_int, shown
from ..walk.nest import stretched
from .arguments import check_eps, operand
from .choose import engine_of, labelled
from .ragged import of_rows, rows_of
from .run import STATISTICS, InTwo, Statistics, result_target

_SPARE = 1 << 20  # labels that may be without an element, whatever the size of x, where num_labels is not given


def moments_by_label(x: Any, layout: Layout, labels: Any, num_labels: Any) -> InTwo:
    """Count, mean, m2 and what rounding took from the mean of each label and group."""
    if isinstance(layout := of_rows(layout, x), Segments):
        x, labels = rows_of(layout, x, "x"), rows_of(layout, labels, "labels")
    array = view(x)
    made, number, shape = checked_labels(array, layout, labels, num_labels, later=True)
    count, mean, m2, rest = (state.reshape(shape) for state in _moments(made, number))
    return count, mean, m2, rest


def normalize_by_label(
    x: Any,
    layout: Layout,
    weight: Any,
    bias: Any,
    labels: Any,
    num_labels: Any,
    *,
    eps: Any,
    ddof: int,
    eps_on_std: bool,
    out: Any,
    dtype: Any,
    statistics: tuple[Any, ...] | None,
) -> tuple[Any, tuple[Any, ...]]:
    """Check every argument, then run: the output, and the statistics by which it was made.

    Parameters
    ----------
    x, layout, weight, bias, labels, num_labels, eps, ddof, out, dtype
        As in `numbanorm.normalize`.
    eps_on_std : bool
        Add eps to the deviation.
    statistics : tuple, optional
        Count, mean, m2 and the mean's rest (or None) of each label and group, to use in place of x's own.
    """
    if isinstance(layout := of_rows(layout, x), Segments) and is_ragged(x):
        rows = (rows_of(layout, a, of) for a, of in ((x, "x"), (weight, "weight"), (bias, "bias"), (labels, "labels")))
        given = {"eps": eps, "ddof": ddof, "eps_on_std": eps_on_std, "dtype": dtype, "statistics": statistics}
        values, weight, bias, labels = rows
        target = rows_of(layout, out, "out")
        result, states = normalize_by_label(values, layout, weight, bias, labels, num_labels, out=target, **given)
        return (together(result, x) if out is None else out), states
    array, library = take(x)
    made, number, shape = checked_labels(array, layout, labels, num_labels, later=statistics is None)
    engine, eps = engine_of(array), check_eps(eps)
    weight, bias = operand(engine, weight, "weight", array), operand(engine, bias, "bias", array)
    if ddof < 0:
        raise ValueError(f"ddof must not be negative, got {ddof}; 0 and 1 are usual")
    others = {"weight": weight, "bias": bias, "labels": made.labels}
    if statistics is not None:
        _check_statistics(statistics[:3], shape, num_labels)
        others |= dict(zip(STATISTICS, statistics, strict=False))
    check_same_device(array, others)
    target = result_target(out, array, dtype, others)
    for name, given in (("weight", weight), ("bias", bias)):
        if given is not None:
            stretched(name, array.shape, given.shape, given.strides)
    states = _moments(made, number) if statistics is None else tuple(map(_in_float64, statistics))
    written(out)
    frame = Frame(array, target, weight, bias, eps=eps, ddof=ddof, eps_on_std=int(eps_on_std))
    by_label = [None if state is None else state.reshape(number, *made.grouping.group_shape) for state in states]
    made.normalize(by_label[:3], by_label[3], frame)
    states = tuple(None if state is None else state.reshape(shape) for state in states)
    return give(target, library, x) if out is None else out, states


def _check_statistics(statistics: Statistics, shape: tuple[int, ...], num_labels: Any) -> None:
    if statistics[1].shape != shape:
        told = "" if num_labels is not None else "; pass num_labels= if some labels are missing here"
        raise ValueError(
            f"moments have shape {statistics[1].shape}, but with these labels and layout there are statistics of shape "
            f"{shape}{told}"
        )


def _moments(made: Any, number: int) -> Any:
    """Statistics, and the check of labels that nobody looked at before."""
    states = made.moments(number)
    if made.strays:
        _check_highest(made.highest, number)
    return states


def _in_float64(state: Any) -> Any:
    return None if state is None else np.ascontiguousarray(state, np.float64)


def checked_labels(
    array: Any,
    layout: Layout,
    labels: Any,
    num_labels: Any,
    strides: tuple[Any, Any] = (None, None),
    later: bool = False,
) -> tuple[Any, int, tuple[int, ...]]:
    """A call on x and labels that were looked at, how many labels it has, and the shape of the statistics.

    Of segments each label has its own in each of them. `strides`: of weights and a mask. `later`: where `num_labels` is
    given, the labels are checked behind the statistics, which find out by the way whether any may be too high.
    """
    make, given = labelled(array), as_labels(labels)
    check_same_device(array, {"labels": given})
    number = None if num_labels is None else _as_number(num_labels)
    along, shape = along_axes(given, layout, array.shape), layout.group_shape(array.shape)
    if isinstance(layout, Segments):
        number = _checked(highest_of(given), number, given)
        made = make(layout.resolve_within(array.shape), array, _in_segments(along, layout), strides)
        return made, number * layout.number, (number, *shape)
    made = make(layout.resolve(array.shape), array, along, strides)
    if number is None or not later:
        number = _checked(made.highest, number, given)
    return made, number, (number, *shape)


def _in_segments(along: Any, layout: Segments) -> Any:
    """Labels that are others in each segment: the segments of label 0, then those of label 1, and so on."""
    rows = layout.segment_of_rows().reshape(-1, *[1] * (along.ndim - 1))
    pairs = along.astype(np.int64) * layout.number + rows
    pairs[np.broadcast_to(along < 0, pairs.shape)] = -1
    return pairs


def refuse_number_alone(num_labels: Any, of: Callable[..., Any]) -> None:
    """Refuse num_labels without labels."""
    if num_labels is not None:
        raise TypeError(
            f"{of.__name__}() got num_labels={num_labels!r} without labels; pass labels=, integers from 0 to "
            "num_labels - 1"
        )


def as_labels(labels: Any) -> Any:
    """The labels as an array of integers, on the host or not.

    Raises
    ------
    TypeError
        If they are no integers.
    """
    if isinstance(labels, list | tuple | range):
        try:
            labels = np.asarray(labels)
        except (TypeError, ValueError):
            pass  # refused below
    named = getattr(labels, "dtype", None)
    if getattr(named, "kind", "i") not in "iu":
        raise TypeError(_not_integers(labels))
    array: Array = view(labels, "labels")
    if array.dtype.kind not in "iu":
        raise TypeError(_not_integers(labels))
    return array


def _not_integers(labels: Any) -> str:
    what = shown(labels)
    if getattr(labels, "dtype", None) == np.bool_:
        return (
            f"labels must be integers, got {what}; for the two halves of a mask pass mask.astype(np.int8), and to "
            "leave elements out give them a negative label, as in np.where(mask, 0, -1)"
        )
    return (
        f"labels must be integers from 0 on (negative: left out), got {what}; number whatever they are by "
        "np.unique(labels, return_inverse=True)[1]"
    )


def _as_number(num_labels: Any) -> int:
    number = as_int(num_labels, "num_labels")
    if number < 0:
        raise ValueError(f"num_labels must not be negative, got {number}; it is one more than the highest label")
    return number


def _reduced(grouping: Grouping) -> dict[int, int]:
    """How much of each axis is reduced, of those of which anything is."""
    sizes: dict[int, int] = {}
    for factor in grouping.factors:
        if not factor.group_stride:
            sizes[factor.axis] = sizes.get(factor.axis, 1) * factor.size
    return sizes


def along_axes(labels: Any, layout: Layout, shape: tuple[int, ...]) -> Any:
    """Labels broadcast over what is reduced, with an axis for each of x; of size 1 where all of it is kept.

    Raises
    ------
    ValueError
        If they do not fit what the layout reduces of an array of this shape.
    """
    sizes = _reduced(layout.resolve_within(shape) if isinstance(layout, Segments) else layout.resolve(shape))
    wanted = tuple(sizes.values())
    if not wanted:
        raise ValueError(
            f"labels split what is reduced, but {layout!r} reduces no axis of x, of shape {shape}; reduce the axes "
            "that the labels belong to, such as axis=0"
        )
    missing = len(wanted) - labels.ndim
    fits = missing >= 0 and all(n in (1, size) for n, size in zip(labels.shape, wanted[missing:], strict=True))
    if not fits:
        raise ValueError(
            f"labels have shape {tuple(labels.shape)}, but {layout!r} of x, of shape {shape}, reduces axes of shape "
            f"{wanted}; {_mend(labels, wanted, shape)}"
        )
    native = labels if labels.dtype.isnative else labels.astype(labels.dtype.newbyteorder("="))
    over = native if native.shape == wanted else np.broadcast_to(native, wanted)
    return over[tuple(slice(None) if axis in sizes else None for axis in range(len(shape)))]


def _mend(labels: Any, wanted: tuple[int, ...], shape: tuple[int, ...]) -> str:
    if tuple(labels.shape) == shape:
        return (
            "labels of each element need all axes reduced (axis=None); with kept axes pass one label for each place "
            "along the reduced ones"
        )
    squeezed = tuple(n for n in labels.shape if n != 1)
    if squeezed == tuple(n for n in wanted if n != 1):
        return f"pass labels.reshape({wanted})"
    return "pass labels of that shape, or of one that broadcasts to it; or reduce the axes that they belong to"


def highest_of(labels: Any) -> int:
    """The highest label of an array; -1 if all are negative or there is none."""
    return max(-1, int(labels.max())) if labels.size else -1


def _checked(highest: int, number: int | None, labels: Any) -> int:
    """How many labels there are, if that is told or can be meant."""
    if number is None:
        if highest >= 16 * labels.size + _SPARE:
            raise ValueError(
                f"labels reach up to {highest}, but there are only {labels.size} of them, and every number up to there "
                "would get statistics; number them by np.unique(labels, return_inverse=True)[1], or pass num_labels= "
                "if that is meant"
            )
        return highest + 1
    _check_highest(highest, number)
    return number


def _check_highest(highest: int, number: int) -> None:
    if highest >= number:
        raise ValueError(
            f"labels reach up to {highest}, but num_labels={number} allows 0 to {number - 1}; pass "
            f"num_labels={highest + 1} or more, or a negative label for what is to be left out"
        )
