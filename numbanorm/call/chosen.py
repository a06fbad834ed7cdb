"""Calls on chosen or weighted elements (where=, weights=, skipna=): all is checked before anything is written."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from ..arrays.memory import check_apart, check_same_device
from ..arrays.take import view
from ..layout import Layout, Segments, shown
from .arguments import check_flag
from .choose import engine_of, of_chosen, on_host
from .labels import checked_labels, moments_by_label, normalize_by_label, refuse_number_alone
from .ragged import of_rows, rows_of
from .run import InTwo, moments, transform

WeightsAre = Literal["frequency", "reliability"]


class Choice(NamedTuple):
    """What a caller says of which elements count, and how much."""

    where: Any
    weights: Any
    skipna: bool
    weights_are: WeightsAre


def choice_of(where: Any, weights: Any, skipna: Any, weights_are: Any) -> Choice | None:
    """The choice that a caller's arguments mean, if they do mean one; arrays are looked at later."""
    skips = check_flag(skipna, "skipna")
    if not isinstance(weights_are, str) or weights_are not in ("frequency", "reliability"):
        raise ValueError(
            "weights_are must be 'frequency', how often each element occurs, or 'reliability', how much it can be "
            f"relied on; got {weights_are!r}"
        )
    if weights is None and weights_are != "frequency":
        raise TypeError(f"weights_are={weights_are!r} without weights; pass weights=, a number for each element")
    if where is None and weights is None and not skips:
        return None
    return Choice(where, weights, skips, "frequency" if weights_are == "frequency" else "reliability")


def refuse_beside(choice: Choice, labels: Any, num_labels: Any, statistics: Any, of: Callable[..., Any]) -> None:
    """Refuse a choice beside given statistics, for which nothing is chosen; and a number of labels without labels.

    With given statistics `skipna` may stay: nothing is skipped then, and NaN stays NaN.
    """
    named = {"where": choice.where is not None, "weights": choice.weights is not None}
    if statistics is not None and any(named.values()):
        raise ValueError(
            f"moments= are statistics that were made before, and {_named(named)} chooses what they are made of; pass "
            f"one of them, or make them by moments(..., {_named(named, '=...')})"
        )
    if labels is None:
        refuse_number_alone(num_labels, of)


def _named(named: dict[str, bool], end: str = "=") -> str:
    return (" and " if end == "=" else ", ").join(name + end for name, given in named.items() if given)


def moments_of_chosen(x: Any, layout: Layout, choice: Choice, labels: Any = None, num_labels: Any = None) -> InTwo:
    """Count, or sum of weights, mean, m2 and what rounding took from the mean of each group, of what counts.

    With labels, of each label and group.
    """
    if isinstance(layout := of_rows(layout, x), Segments):
        x, where, weights = (
            rows_of(layout, a, name) for a, name in ((x, "x"), (choice.where, "where"), (choice.weights, "weights"))
        )
        choice, labels = choice._replace(where=where, weights=weights), rows_of(layout, labels, "labels")
    array = view(x)
    mask, weights, skips, squares = _checked(array, choice)
    if mask is None and weights is None and not skips:
        if labels is not None:
            return moments_by_label(array, layout, labels, num_labels)
        return moments(engine_of(array), layout, array)
    of_mask, of_weights = _broadcast(array, mask, "where"), _broadcast(array, weights, "weights")
    if labels is not None:
        made, number, by_label = checked_labels(array, layout, labels, num_labels, (of_weights, of_mask))
        states = made.chosen(number, mask, weights, skips, squares)
        found: Any = tuple(None if state is None else state.reshape(by_label) for state in states)
    else:
        grouping = layout if isinstance(layout, Segments) else layout.resolve(array.shape)
        if not array.size:
            return moments(engine_of(array), layout, array)
        moments_of = of_chosen(array)
        found = moments_of(grouping, array, (of_mask, of_weights), mask, weights, skips, squares)
    count, mean, m2, rest, of_squares = found
    if weights is not None and on_host(array) and not np.isfinite(count).all():  # on a GPU, nobody waits to see it
        _refuse_weights(array, mask, weights, skips)
    if squares:
        count, m2 = engine_of(array).pointwise("of_reliability", 2, count, m2, of_squares)
        if on_host(array) and np.isnan(count).any():
            raise ValueError(
                "weights have squares beyond the range of float64; multiply them all by a number that brings them near "
                "to 1, which changes nothing where they are reliabilities"
            )
    return count, mean, m2, rest


def normalize_by_chosen(
    x: Any,
    layout: Layout,
    weight: Any,
    bias: Any,
    choice: Choice,
    labels: Any,
    num_labels: Any,
    *,
    ddof: int,
    out: Any,
    **given: Any,
) -> tuple[Any, InTwo]:
    """Normalize all elements by the statistics of those that count; the statistics, too.

    Parameters
    ----------
    x, layout, weight, bias, labels, num_labels, ddof, out
        As in `numbanorm.normalize`; `given` has what else `run.transform` takes.
    choice : Choice
        What counts.
    """
    if ddof < 0:
        raise ValueError(f"ddof must not be negative, got {ddof}; 0 and 1 are usual")
    layout = of_rows(layout, x)
    states = count, mean, m2, _ = moments_of_chosen(x, layout, choice, labels, num_labels)
    if out is not None:
        others = {"where": choice.where, "weights": choice.weights}
        target, *others_rows = (_values(layout, a, name) for name, a in {"out": out, **others}.items())
        check_apart(target, "out", dict(zip(others, others_rows, strict=True)))
    if labels is not None:
        given |= {"ddof": ddof, "out": out, "statistics": states}
        return normalize_by_label(x, layout, weight, bias, labels, len(count), **given)[0], states
    if ddof:  # too few values have no variance
        (mean,) = engine_of(mean).pointwise("with_variance", 1, mean, count, float(ddof))
    result = transform(x, layout, weight, bias, ddof=ddof, out=out, statistics=(count, mean, m2), **given)[0]
    return result, states


def _values(layout: Layout, value: Any, name: str) -> Any:
    """An argument as an array, end to end if it holds rows of different lengths."""
    rows = rows_of(layout, value, name) if isinstance(layout, Segments) else value
    return None if rows is None else view(rows, name)


# checks ---------------------------------------------------------------------------------------------------------------


def _checked(x: Any, choice: Choice) -> tuple[Any, Any, bool, bool]:
    """The mask, the weights, whether NaN is skipped, and whether the sum of squared weights is wanted."""
    mask = None if choice.where is None else _beside(x, _as_mask(choice.where))
    weights = None if choice.weights is None else _beside(x, view(choice.weights, "weights"))
    check_same_device(x, {"where": mask, "weights": weights})
    return mask, weights, choice.skipna and x.dtype.kind not in "iub", choice.weights_are == "reliability"


def _beside(x: Any, array: Any) -> Any:
    """The array itself; a number where x lies."""
    return array if array.ndim else engine_of(x).send(array, x)


def _as_mask(where: Any) -> Any:
    mask = view(where, "where")
    if mask.dtype.kind != "b":
        mend = "where != 0 if that is meant, or numbers as weights="
        if mask.dtype.kind not in "iu":
            mend = "a comparison such as ~np.isnan(where), or numbers as weights="
        raise TypeError(f"where must be boolean, True for what is chosen, got {shown(where)}; pass {mend}")
    return mask


def _broadcast(x: Any, array: Any, name: str) -> Any:
    """Byte strides of a mask or of weights, broadcast to x."""
    if array is None:
        return None
    own, missing = tuple(array.shape), x.ndim - array.ndim
    if missing < 0 or any(n not in (1, size) for n, size in zip(own, x.shape[missing:], strict=True)):
        raise ValueError(
            f"{name} of shape {own} does not broadcast to x's shape {x.shape}; {_mend(name, own, x.shape)}"
        )
    steps = zip(own, array.strides, strict=True)
    return (0,) * missing + tuple(0 if n == 1 else step for n, step in steps)


def _mend(name: str, own: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """How to make a shape broadcast: with axes of size 1 where axes of x are missing."""
    axes = [axis for axis in range(len(shape) - len(own) + 1) if shape[axis : axis + len(own)] == own]
    if axes and own:
        fits = (*own, *(1 for _ in shape[axes[0] + len(own) :]))
        return f"pass {name}.reshape({fits})"
    return "pass one of x's shape, or with axes of size 1 where it does not change"


def _refuse_weights(x: Any, mask: Any, weights: Any, skips: bool) -> None:
    """Say which weight is negative or no finite number; or that their sum is not."""
    wide = weights.astype(np.float64)
    with np.errstate(invalid="ignore"):
        wrong = ~((wide >= 0) & (wide < np.inf)) & (True if mask is None else mask)
    if skips:
        wrong = wrong & ~np.isnan(x.astype(np.float64))
    wrong = np.broadcast_to(wrong, x.shape)
    if not wrong.any():
        raise ValueError("weights have no finite sum in float64 in some group; divide them all by a large number")
    place = tuple(int(i) for i in np.argwhere(wrong)[0])
    value = float(np.broadcast_to(wide, x.shape)[place])
    at = f" of x's element {list(place)}" if place else ""
    raise ValueError(
        f"weights must be finite and not negative, but the weight{at} is {value}; give weight 0 to what is to be left "
        "out, or choose by where="
    )
