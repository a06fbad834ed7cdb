"""Arguments that every norm has in common: checked before anything is touched."""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from inspect import Parameter, signature
from typing import Any, Literal

import numpy as np

from ..arrays.memory import Array
from ..arrays.take import view
from ..engine.interface import Engine
from ..layout import Layout, shown
from ..patterns import did_you_mean, names_of

# What others call our parameters ...
_SYNONYMS = {
    **dict.fromkeys(("dim", "dims", "axes", "reduce_axes", "reduction_axes"), "axis"),
    **dict.fromkeys(("epsilon", "variance_epsilon"), "eps"),
    **dict.fromkeys(("gamma", "scale"), "weight"),
    **dict.fromkeys(("beta", "shift", "offset"), "bias"),
    **dict.fromkeys(("correction", "unbiased", "ddof"), "ddof"),
    **dict.fromkeys(("nan_policy", "skipna", "skip_nan", "ignore_nan"), "skipna"),
    **dict.fromkeys(("mask", "where"), "where"),
    **dict.fromkeys(("sample_weight", "sample_weights", "fweights", "aweights"), "weights"),
    **dict.fromkeys(("keepdims", "keepdim"), "keepdims"),
    **dict.fromkeys(("inplace", "in_place", "copy"), "out"),
    **dict.fromkeys(("p", "ord", "norm"), "p"),
    **dict.fromkeys(("mean", "std", "var", "variance", "stats", "statistics"), "moments"),
    **dict.fromkeys(("return_stats", "return_mean", "return_std", "return_var"), "return_moments"),
    **dict.fromkeys(("num_groups", "groups", "n_groups"), "num_groups"),
    **dict.fromkeys(("training", "momentum", "running_mean", "running_var"), "training"),
    **dict.fromkeys(("channel_axis", "channels_last", "data_format", "feature_axis"), "channel_axis"),
    "dtype": "dtype",
    "normalized_shape": "normalized_shape",
}
# ... how to use one that is more than another name ...
_USE = {
    "out": "out=x works in place",
    "skipna": "skipna=True leaves NaN out",
    "weights": "weights= are frequencies, and with weights_are='reliability' not",
    "moments": "statistics of your own go into moments=, as numbanorm.Moments(count, mean, m2)",
}
# ... and what to do where the function has no such parameter.
_ADVICE = {
    "ddof": "the result of moments(...) takes it, as in moments(...).var(ddof=1)",
    "keepdims": "statistics have one value a group, and Layout.expand shows them at x's shape",
    "dtype": "statistics are float64 whatever x is; for another dtype convert x, or the result",
    "skipna": "NaN stays in its group; leave it out of x before",
    "where": "select the elements of x before",
    "num_groups": "group_norm takes it, and here a pattern does, as in 'n (g c) ... -> n g' with g=",
    "training": "batch_norm takes it",
    "channel_axis": "here a pattern says which axes are kept, as in '... c -> c'; norms by channel take channel_axis",
    "normalized_shape": "layer_norm takes it, and here axis= says which axes to reduce",
    "p": "this is about mean and variance; the lengths of vectors are another matter",
}


def check_flag(value: Any, name: str) -> bool:
    """A flag as a bool. As in torch nothing else is one: 'no' would count as True, and 0.1 is a momentum."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise TypeError(f"{name} must be True or False, got {shown(value)}")


def check_number(value: Any, name: str) -> float:
    """A number as a float; strings, flags and arrays with axes are none."""
    if type(value) is float:
        return value
    dtype = str(getattr(value, "dtype", ""))
    try:
        if isinstance(value, str | bytes | bool) or "bool" in dtype or "complex" in dtype:
            raise TypeError
        if getattr(value, "ndim", 0) != 0:
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"{name} must be a number, got {shown(value)}") from None
    if dtype:
        view(value, name)  # refuses what would lose a gradient or a mask
    return number


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
        raise ValueError(
            f"momentum must be within 0 to 1, got {momentum}; it is the share of the new batch, which Keras calls "
            "1 - momentum"
        )
    return value


def operand(engine: Engine, value: Any, name: str, x: Array) -> Array | None:
    """Weight or bias, if there is one. A number becomes an array where x lies."""
    if value is None:
        return None
    array: Array = view(value, name)
    return array if array.ndim else engine.send(array, x)


def as_layout(
    layout: str | Layout | None, axis: int | Sequence[int] | None, sizes: dict[str, int], of: Callable[..., Any]
) -> Layout:
    """The Layout that a caller's arguments mean: a pattern with sizes, a Layout, axes, or all of the array.

    Parameters
    ----------
    layout, axis, sizes
        As the caller gave them; `sizes` has all keywords that are no parameters.
    of : function
        The public function that was called.
    """
    if layout is None:
        if sizes:
            raise TypeError(_unexpected(of, sizes, (), "and with a pattern sizes of its names"))
        return Layout.axes(axis)
    if axis is not None:
        raise ValueError(f"layout={layout!r} and axis={axis!r} both say what to reduce; pass one of them")
    if isinstance(layout, Layout):
        if sizes:
            raise TypeError(_unexpected(of, sizes, (), f"{layout!r} got its sizes when it was made"))
        return layout
    if not isinstance(layout, str):
        mend = f"for axes write axis={layout!r}" if _are_axes(layout) else "call it" if callable(layout) else ""
        mend = mend or "pass a pattern such as 'n c h w -> c', or the axes to reduce as axis="
        raise TypeError(f"layout must be a pattern or a Layout, got {shown(layout)}; {mend}")
    if type(layout) is not str or any(type(size) is not int for size in sizes.values()):
        return _pattern.__wrapped__(layout, tuple(sizes.items()), of)  # 2.0 equals 2, and is refused
    return _pattern(layout, tuple(sizes.items()), of)


@lru_cache(maxsize=1024)
def _pattern(pattern: str, sizes: tuple[tuple[str, int], ...], of: Callable[..., Any]) -> Layout:
    names = names_of(pattern)
    unknown = {name: size for name, size in sizes if name not in names}
    if unknown:
        fits = f"and sizes of {', '.join(names) or 'no name'} in {pattern!r}"
        raise TypeError(_unexpected(of, unknown, names, fits))
    return Layout(pattern, **dict(sizes))


def _are_axes(layout: Any) -> bool:
    return isinstance(layout, int) or (isinstance(layout, tuple | list) and all(isinstance(n, int) for n in layout))


def _unexpected(of: Callable[..., Any], given: dict[str, Any], names: Iterable[str], sizes: str) -> str:
    """A message for keywords that are neither parameters of a function nor names of the pattern."""
    parameters = [p.name for p in signature(of).parameters.values() if p.kind is not Parameter.VAR_KEYWORD]
    name = next((name for name in given if name in _SYNONYMS), next(iter(given)))
    meant = _SYNONYMS.get(name, "")
    if meant in parameters:
        mend = f"; {_USE.get(meant, f'write {meant}= for it')}."
    elif meant in _ADVICE:
        mend = f"; {_ADVICE[meant]}."
    else:
        mend = did_you_mean(name, [*names, *parameters]) or "."
    takes = f"It takes {', '.join(parameters)}; {sizes}"
    return f"{of.__name__}() got an unexpected keyword argument {name!r}{mend} {takes}"
