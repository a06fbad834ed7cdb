"""Arguments that every norm has in common: checked before anything is touched."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

from ..arrays.memory import Array
from ..arrays.take import view
from ..engine.interface import Engine
from ..layout import Layout


def check_number(value: Any, name: str) -> float:
    """A number as a float; strings are none."""
    try:
        if isinstance(value, str | bytes):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}") from None


def check_eps(eps: Any) -> float:
    """Eps as a float; it must be a number, not negative and not NaN."""
    value = check_number(eps, "eps")
    if not value >= 0:
        raise ValueError(f"eps must not be negative or NaN, got {eps}; it is added to the variance, 1e-5 is usual")
    return value


EpsOn = Literal["var", "std"]


def on_std(eps_on: Any) -> bool:
    """Whether eps is added to the standard deviation."""
    if not isinstance(eps_on, str) or eps_on not in ("var", "std"):
        raise ValueError(f"eps_on must be 'var', for sqrt(var + eps), or 'std', for std + eps; got {eps_on!r}")
    return eps_on == "std"


def check_momentum(momentum: Any) -> float | None:
    """Momentum as a float within 0 to 1, or None for the cumulative mean."""
    if momentum is None:
        return None
    value = check_number(momentum, "momentum")
    if not 0 <= value <= 1:
        raise ValueError(f"momentum must be within 0 to 1, got {momentum}; it is the share of the new batch")
    return value


def operand(engine: Engine, value: Any, name: str, x: Array) -> Array | None:
    """Weight or bias, if there is one. A number becomes an array where x lies."""
    if value is None:
        return None
    array: Array = view(value, name)
    return array if array.ndim else engine.send(array, x)


def as_layout(layout: str | Layout | None, axis: int | Sequence[int] | None, sizes: dict[str, int]) -> Layout:
    """The Layout that a caller's arguments mean: a pattern with sizes, a Layout, axes, or all of the array."""
    if layout is None:
        if sizes:
            raise ValueError(f"sizes {sorted(sizes)} need a pattern; pass one as layout, such as 'n (g c) -> n g'")
        return Layout.axes(axis)
    if axis is not None:
        raise ValueError(f"layout={layout!r} and axis={axis!r} both say what to reduce; pass one of them")
    if isinstance(layout, Layout):
        if sizes:
            raise ValueError(f"{layout!r} has its sizes already; pass {sorted(sizes)} when making it")
        return layout
    if not isinstance(layout, str):
        raise TypeError(f"layout must be a pattern or a Layout, got {type(layout).__name__}; for axes use axis=")
    return _pattern(layout, tuple(sizes.items()))


@lru_cache(maxsize=1024)
def _pattern(pattern: str, sizes: tuple[tuple[str, int], ...]) -> Layout:
    return Layout(pattern, **dict(sizes))
