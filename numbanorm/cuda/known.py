"""Known calls on a GPU: what describes them, and how they run. What `calls` does for arrays on the host."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ..arrays.libraries import LIBRARIES, library_of, why_no_cuda
from ..arrays.memory import DeviceArray, reach
from ..arrays.take import result_like
from ..cpu import engine
from ..cpu.engine import States, Stored
from ..layout import Layout
from .kernels.shapes import VECTOR_BYTES

X, OUT, MEAN, VAR = 0, 3, 4, 5  # of x, weight, bias, out, running mean and variance
IN_PLACE = 3  # of a description: whether out is x


class Description(tuple[Any, ...]):
    """What decides how a call runs, with the arrays of this time and their addresses."""

    given: tuple[Any, ...]  # x, weight, bias, out
    pointers: list[int]  # 0 where there is none
    stored: tuple[Any, ...]  # running mean and variance; or nothing
    stored_pointers: list[int]


class Call(NamedTuple):
    """How a known call runs."""

    plan: Any  # of `device`
    center: bool
    x: DeviceArray  # and running statistics, of any call of this description, but for addresses, streams and owners
    running: tuple[DeviceArray, ...]
    empty: Callable[[DeviceArray], tuple[Any, int]]  # makes a result where x lies, and says at which address
    reaches: list[tuple[int, int]]  # of x, weight, bias, out, running statistics: bytes before an address, and after
    apart: list[tuple[int, int]]  # which of these may not overlap
    by_stored: bool  # by the running statistics


class Bound(NamedTuple):
    """A known call, the description of this time, and its x, where the caller works now."""

    call: Call
    description: Description
    x: DeviceArray


def describe(given: tuple[Any, ...], settings: Any, stored: Any) -> Description | None:
    """Describe a call with x, weight, bias and out; None if some are on the host, or want a look by `arrays.take`."""
    x = given[0]
    library = library_of(x)
    if library is None or why_no_cuda():
        return None
    said: list[Any] = [library, settings, stored, given[3] is x]
    pointers = []
    for value in given:
        if value is None:
            said.append(None)
            pointers.append(0)
            continue
        glance = library.glance(value) if type(value) is type(x) or library_of(value) is library else None
        if glance is None:
            return None
        about, pointer = glance
        said.append(about)
        said.append(pointer % VECTOR_BYTES)
        pointers.append(pointer)
    described = Description(said)
    described.given, described.pointers, described.stored, described.stored_pointers = given, pointers, (), []
    if stored is not None:
        if not isinstance(stored, Description):
            return None
        described.stored, described.stored_pointers = stored.given[:2], stored.pointers[:2]
    return described


def make(
    description: Description,
    layout: Layout,
    arrays: tuple[Any, ...],
    center: bool,
    states: Stored | None,
    running: Iterable[Any],
) -> Call | None:
    """A call of x, weight, bias and out that passed all checks, by x's own states or by given ones.

    None if these are copies of the running statistics: they would have to be copied each time.
    """
    if states is not None and [states[1].pointer, states[2].pointer] != description.stored_pointers:
        return None
    x, weight, bias, out = arrays
    like, running = result_like(x), tuple(running)
    apart = [(X, MEAN), (X, VAR), (MEAN, VAR)] if running and states is None else []  # which are updated
    if description.given[OUT] is not None:
        others = [i for i, array in enumerate((*arrays, *running)) if array is not None and i != OUT]
        apart += [(i, OUT) for i in others if i != X or not description[IN_PLACE]]
    return Call(
        plan=engine.device().plan(layout, x, out, weight, bias, states),
        center=center,
        x=x.at(0, 0, None),
        running=tuple(array.at(0, 0, None) for array in running),
        empty=LIBRARIES[x.library].maker(like.shape, like.dtype, like.strides),
        reaches=[(0, 0) if a is None else reach(a.shape, a.strides, a.itemsize) for a in (*arrays, *running)],
        apart=apart,
        by_stored=states is not None,
    )


def bind(call: Call, description: Description) -> Bound | None:
    """A known call with the arrays of this time; None if memory that is written wants a check."""
    places = description.pointers + description.stored_pointers
    for i, j in call.apart:
        (below, above), (before, after) = call.reaches[i], call.reaches[j]
        if places[i] - below < places[j] + after and places[j] - before < places[i] + above:
            return None
    owner, library = description.given[X], LIBRARIES[call.x.library]
    return Bound(call, description, call.x.at(description.pointers[X], library.stream(owner, call.x.device), owner))


def repeat(bound: Bound, eps: float, keep: bool) -> tuple[Any, States | None]:
    """Make a known call: see `calls.repeat`."""
    call, description, x = bound
    device, result, (_, weight, bias, out) = engine.device(), description.given[OUT], description.pointers
    if result is None:
        # New memory is aligned to 256 bytes and more, as it was when the call was planned.
        result, out = call.empty(x)
    own = device.states_in_one(x, call.plan.group_shape) if keep else None
    stored = (0, *description.stored_pointers) if call.by_stored else None
    device.execute(call.plan, x, (x.pointer, out, weight, bias), eps, call.center, stored, own)
    return result, own


def running_of(bound: Bound) -> list[DeviceArray]:
    """Running mean and variance of a known call, whose memory was checked."""
    call, description, x = bound
    arrays = zip(call.running, description.stored_pointers, description.stored, strict=True)
    return [array.at(pointer, x.stream, owner) for array, pointer, owner in arrays]
