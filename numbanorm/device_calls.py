"""Known calls on a GPU: what describes them, and how they run. What `calls` does for arrays on the host."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from . import engine
from .arrays import result_like
from .engine import States, Stored
from .layout import Layout
from .libraries import LIBRARIES, library_of
from .memory import Array, DeviceArray, lowest_bit, reach


class Description(tuple[Any, ...]):
    """What decides how a call runs, with the arrays of this time and their addresses."""

    given: tuple[Any, ...]  # x, weight, bias, out
    pointers: list[int]  # 0 where there is none
    stored: list[int]  # of the running mean and variance; or empty


class Call(NamedTuple):
    """How a known call runs."""

    plan: Any  # of `device`
    center: bool
    x: DeviceArray  # and the result, of any call of this description, but for addresses, streams and owners
    result: DeviceArray
    reaches: list[tuple[int, int]]  # of x, weight, bias, out, running statistics: bytes before an address, and after
    by_stored: bool  # normalizes by the running statistics


class Bound(NamedTuple):
    """A known call, and the description of this time."""

    call: Call
    description: Description


def describe(given: tuple[Any, ...], settings: Any, stored: Any) -> Description | None:
    """Describe a call with x, weight, bias and out; None if some lie elsewhere, or want a look by `arrays.take`."""
    library = library_of(given[0])
    said: list[Any] = [library, settings, stored, given[3] is given[0]]
    pointers = []
    for value in given:
        if value is None:
            said.append(None)
            pointers.append(0)
            continue
        glance = library.glance(value) if library and library_of(value) is library else None
        if glance is None:
            return None
        about, pointer = glance
        said.append(about)
        said.append(lowest_bit(pointer))
        pointers.append(pointer)
    described = Description(said)
    described.given, described.pointers, described.stored = given, pointers, []
    if stored is not None:
        if not isinstance(stored, Description):
            return None
        described.stored = stored.pointers[:2]
    return described


def make(
    description: Description,
    layout: Layout,
    arrays: tuple[Any, ...],
    center: bool,
    states: Stored | None,
    apart: Iterable[Array],
) -> Call | None:
    """A call of x, weight, bias and out that passed all checks, by x's own states or by given ones.

    None if these are copies of the running statistics, `apart`: they would have to be copied each time.
    """
    if states is not None and [states[1].pointer, states[2].pointer] != description.stored:
        return None
    x, weight, bias, out = arrays
    reaches = [(0, 0) if a is None else reach(a.shape, a.strides, a.itemsize) for a in (*arrays, *apart)]
    plan = engine.device().plan(layout, x, out, weight, bias, states)
    return Call(plan, center, x.at(0, 0, None), result_like(x).at(0, 0, None), reaches, states is not None)


def bind(call: Call, description: Description) -> Bound | None:
    """A known call with the arrays of this time; None if the memory of `out` wants a check."""
    *inputs, out = description.pointers
    if out:
        *reaches, (below, above) = call.reaches[:4]
        places = zip((*inputs, *description.stored), (*reaches, *call.reaches[4:]), strict=True)
        for pointer, (before, after) in list(places)[description[3] :]:  # all but x, in place
            if pointer and pointer - before < out + above and out - below < pointer + after:
                return None
    return Bound(call, description)


def repeat(bound: Bound, eps: float, keep: bool) -> tuple[Any, States | None]:
    """Make a known call: see `calls.repeat`."""
    call, description = bound
    library, (owner, *_, result) = LIBRARIES[call.x.library], description.given
    at, weight, bias, out = description.pointers
    x = call.x.at(at, library.stream(owner, call.x.device), owner)
    if result is None:
        # New memory is aligned to 256 bytes and more, as it was when the call was planned.
        result, out = library.empty(x, x.shape, call.result.dtype, call.result.strides)
    stored = (0, *description.stored) if call.by_stored else None
    return result, engine.device().execute(call.plan, x, (at, out, weight, bias), eps, call.center, stored, keep)
