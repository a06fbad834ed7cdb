"""The one call that every norm makes. A call that was made before is repeated; any other is checked, run, remembered.

Whether a call is right, and how it runs, depends on its settings and on the shapes, strides and dtypes of its arrays;
on a GPU on their library and the alignment of their addresses, too. A call that has passed all checks leaves a function
here, under that description. The next such call, as in training from batch to batch, only allocates its output, unless
it is given one, and runs. What depends on values or on memory, that function checks again.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from numpy import integer, ndarray

from ..arrays.lazy import lazily
from ..arrays.libraries import library_of, why_no_cuda
from ..arrays.take import locked, written
from ..engine.interface import Repeat
from ..layout import Layout
from .run import Prepared, transform
from .running import may_count, update_running

MOST = 4096  # descriptions that are kept
ALIGNMENT = 16  # bytes of the widest load of a GPU

_known: dict[Any, Repeat] = {}
_DISTINCT = frozenset({int, str, type(None), Layout})  # types of which no two have equal values, as 2 and 2.0 are
_UNKNOWN: Any = object()  # the form of running statistics that want a closer look


def normalized(
    x: Any,
    weight: Any,
    bias: Any,
    eps: Any,
    out: Any,
    prepare: Callable[..., Prepared],
    settings: tuple[Any, ...],
    running: tuple[Any, Any, Any, Any] | None = None,
    dtype: Any = None,
    keep: Callable[..., Any] | None = None,
) -> Any:
    """Normalize by a norm.

    Parameters
    ----------
    x, weight, bias, eps, out, dtype
        The norm's arguments, as the caller gave them.
    prepare : function
        The norm's own checks: prepare(x, weight, bias, *settings), with `running` before the settings if there is one.
    settings : tuple
        What else tells one call of the norm from another.
    running : tuple, optional
        Running mean and variance (or None, None), the momentum by which they move, and the counter of batches.
    keep : function, optional
        What makes of count, mean and m2 that which is returned beside the output.
    """
    # In one piece: a function more takes a fortieth of the shortest call.
    key = addresses = mean = var = momentum = counter = of_weight = of_bias = of_out = of_running = None
    counted = False  # whether batches are, or should be
    told: Any = settings
    for setting in settings:
        if type(setting) not in _DISTINCT:
            told = typed(settings)
            break
    if dtype is not None:
        told = told, dtype
    if running is not None:
        mean, var, momentum, counter = running
        of_running = _form_of_running(mean, var)
        counted = counter is not None or (momentum is None and mean is not None)
    if type(x) is not ndarray:
        if not (counted or keep is not None):
            key, addresses = _describe_on_gpu(prepare, told, (x, out, weight, bias, mean, var))
    elif (
        (weight is None or type(weight) is ndarray)
        and (bias is None or type(bias) is ndarray)
        and (out is None or type(out) is ndarray)
        and of_running is not _UNKNOWN
        and (not counted or may_count(counter, x, out, weight, bias, mean, var))
    ):
        if weight is not None:
            of_weight = weight.shape, weight.strides, weight.dtype
        if bias is not None:
            of_bias = bias.shape, bias.strides, bias.dtype
        if out is not None:
            of_out = out is x, out.shape, out.strides, out.dtype
        key = prepare, told, x.shape, x.strides, x.dtype, of_weight, of_bias, of_out, of_running, keep
    if key is not None and type(eps) is float and eps >= 0 and (momentum is None or _is_share(momentum)):
        try:
            repeat = _known.get(key)
        except TypeError:  # a setting that cannot be hashed: wrong, or too rare to be remembered
            repeat = None
        if repeat is not None and (result := repeat(x, out, weight, bias, mean, var, eps, addresses)) is not None:
            made, frame = result
            if addresses is not None:
                written(out, *((mean, var) if frame is not None else ()))
            if frame is not None and mean is not None:
                update_running(frame, momentum, counter)
            return made if keep is None else (made, keep(frame.count, frame.mean, frame.m2))  # type: ignore[union-attr]
    if type(x) is not ndarray and (lazy := lazily(x)) is not None:
        return lazy.normalized(x, weight, bias, eps, out, prepare, settings, running, dtype, keep)
    ours = prepare(x, weight, bias, *settings) if running is None else prepare(x, weight, bias, running, *settings)
    layout, weight, bias, checked, center, ddof, eps_on_std = ours
    numbers = {"eps": eps, "center": center, "ddof": ddof, "eps_on_std": eps_on_std}
    result, states, repeat = transform(
        x,
        layout,
        weight,
        bias,
        out=out,
        dtype=dtype,
        running=checked,
        keep=keep is not None,
        repeatable=key is not None,
        **numbers,
    )
    if repeat is not None:
        remember(_known, key, repeat)
    return result if keep is None else (result, keep(*states))  # type: ignore[misc]


def forget() -> None:
    """Let every call be checked anew, as in a new process."""
    _known.clear()


def remember(known: dict[Any, Any], key: Any, repeat: Any) -> None:
    """Keep what repeats a call under its description."""
    if len(known) >= MOST:
        known.clear()
    with suppress(TypeError):  # what cannot be hashed
        known[key] = repeat


def typed(settings: tuple[Any, ...]) -> Any:
    """Settings that differ where their types do; a list, which is no key, where one may change or differ unseen."""
    if _DISTINCT.issuperset(map(type, settings)):
        return settings
    types = tuple(map(type, settings))
    if all(of in _DISTINCT or issubclass(of, integer) for of in types):
        return settings, types
    return list(settings)  # a tuple, a tensor of one number, whatever is refused


def _is_share(momentum: Any) -> bool:
    """Whether a momentum needs no further check."""
    return type(momentum) in (float, int) and 0 <= momentum <= 1


def _form_of_running(mean: Any, var: Any) -> Any:
    """What running statistics on the host look like; None if there are none."""
    if type(mean) is ndarray and type(var) is ndarray:
        return mean.shape, mean.strides, mean.dtype, var.shape, var.strides, var.dtype
    return None if mean is None and var is None else _UNKNOWN


def _describe_on_gpu(norm: Any, settings: Any, operands: tuple[Any, ...]) -> tuple[Any, Any]:
    """What decides how a call runs, and addresses, if all arrays are of one library on a GPU and none wants a look."""
    x, out = operands[:2]
    library = library_of(x)
    if library is None or why_no_cuda() or locked(out, *operands[4:]):
        return None, None
    said: list[Any] = [norm, settings, library, out is x]
    addresses = []
    for value in operands:
        if value is None:
            said.append(None)
            addresses.append(0)
            continue
        form = library.form(value) if type(value) is type(x) or library_of(value) is library else None
        if form is None:
            return None, None
        about, address = form
        said.append(about)
        said.append(address % ALIGNMENT)
        addresses.append(address)
    return tuple(said), addresses
