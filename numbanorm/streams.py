"""stream(): moments over what is read in chunks, in bounded memory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import product
from math import ceil, prod
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .ahead import bar_of_rich
from .arrays.lazy import is_lazy
from .arrays.objects import is_at_hand, is_cut_by_slices
from .arrays.stored import refuse_cut_off
from .arrays.take import shape_of
from .call.arguments import as_layout, check_flag
from .layout import Layout, Segments, shown
from .statistics import Moments, moments
from .walk.blocks import blocks_of

BLOCK_BYTES = 16 << 20  # of a block of an array: much more than a call costs, and little beside any memory
LINES_APART = 10.0  # seconds between lines of progress, where no bar is seen


def stream(
    chunks: Iterable[Any],
    layout: str | Layout | None = None,
    *,
    axis: int | Sequence[int] | None = None,
    progress: bool = False,
    start: Moments | None = None,
    **sizes: int,
) -> Moments[Any]:
    """Moments of more data than fits in memory: of all chunks together, of which one at a time is held.

    Parameters
    ----------
    chunks : iterable of array_like, or array
        An iterable of arrays, such as a generator or a data loader: each is a chunk, to which the layout applies, and
        chunks may differ in the axes that it reduces. Or one large array: a memory-mapped file, or a dataset of h5py,
        zarr and the like, with a shape, a dtype and slices. The layout then is that of the whole array, which is read
        in blocks of about 16 MB, along the dataset's own chunks.
    layout : str or Layout, optional
        Which elements share statistics, as in `moments`.
    axis : int or sequence of int, optional
        In place of a layout: the axes to reduce. With neither, all values are one group.
    progress : bool
        Show on standard error how far it is: with a bar where the number of chunks is known, a fine one if rich is
        installed (``numbanorm[progress]``), else with their number; without a terminal in a line every ten seconds.
    start : Moments, optional
        Of what was read before: values of the chunks are merged to it. It is not changed.
    **sizes : int
        Sizes of the pattern's names.

    Returns
    -------
    Moments
        As `moments` of all values gives them, within the rounding of a merge: see docs/numerics.md.

    Raises
    ------
    ValueError, TypeError
        As in `moments`, with the index of the chunk; if a chunk has another group shape than those before it; if there
        is no chunk at all to say a group shape.
    Exception
        Whatever the source raises while it is read goes through, an interrupt (Ctrl-C) included.

    Notes
    -----
    Whatever ends a stream early, what was read until then is kept: the error has `moments`, the Moments of all chunks
    before (None if there were none), and `chunks_read`, their number, and says so in a note. After the mend,
    ``stream(further, start=error.moments)`` goes on.

    The next block of a dataset is read by a thread of its own while this one is added up. An iterable is asked for its
    next chunk only when the one before is done with, in the caller's thread: so it may fill the same buffer again, and
    own what belongs to a thread; a data loader has workers of its own. Bits depend on the chunks and their order,
    never on threads.

    Examples
    --------
    >>> import numbanorm as nbn
    >>> import numpy as np
    >>> def read():
    ...     for day in range(3):
    ...         yield np.arange(4.0) + 10 * day
    >>> nbn.stream(read())
    Moments(count=12., mean=11.5, std=8.241157)
    >>> january = nbn.stream(read())
    >>> nbn.stream(read(), start=january).count
    array(24.)
    """
    chosen = as_layout(layout, axis, sizes, stream)
    check_flag(progress, "progress")
    if start is not None and not isinstance(start, Moments):
        raise TypeError(f"start must be Moments of what was read before, got {shown(start)}; see Moments.load")
    source: _Chunks | _Blocks
    if is_at_hand(chunks):
        chunks = [chunks]
    source = _Blocks(chunks, chosen, start) if is_cut_by_slices(chunks) else _Chunks(chunks, chosen, start)
    try:
        for chunk in with_progress(source, source.total) if progress else source:
            source.add(chunk)
            del chunk  # before the next one is read
    except BaseException as error:
        _keep(error, source)
        raise
    return source.result()


class _Chunks:
    """An iterable of arrays, and the Moments of those that were added."""

    def __init__(self, chunks: Any, layout: Layout, start: Moments | None) -> None:
        if isinstance(chunks, str | bytes | Mapping) or not hasattr(chunks, "__iter__"):
            raise TypeError(
                f"chunks must be an iterable of arrays, or an array that slices cut, got {shown(chunks)}; for one "
                "array at hand call moments"
            )
        self.chunks, self.layout, self.total = chunks, layout, number_of(chunks)
        self.so_far: tuple[int, Moments | None] = 0, start  # in one, so that an interrupt finds both or neither

    def __iter__(self) -> Iterator[Any]:
        return iter(self.chunks)

    def add(self, chunk: Any) -> None:
        """Add up one more chunk."""
        index, before = self.so_far
        try:
            m = moments(np.asarray(chunk) if is_lazy(chunk) else chunk, self.layout)
        except (TypeError, ValueError) as error:
            raise type(error)(f"chunk {index}: {error}{_in_a_tuple(chunk)}") from error
        if before is not None and m.shape != before.shape:
            whose = "start has" if index == 0 else "those before it have"
            raise ValueError(
                f"chunk {index}, of shape {shape_of(chunk)}, has group shape {m.shape} by {self.layout!r}, but {whose} "
                f"{before.shape}; chunks may differ only in what is reduced"
            )
        self.so_far = index + 1, m if before is None else before + m

    def result(self) -> Moments:
        """Of all chunks."""
        _, whole = self.so_far
        if whole is None:
            raise ValueError(
                f"there are no chunks, which would say how many groups there are; pass start=Moments.empty(shape), of "
                f"the group shape, if {shown(self.chunks)} may be empty, and a new iterator if it is spent"
            )
        return whole

    @property
    def rest(self) -> str:
        """What is to come, for a note."""
        return f"stream(chunks from {self.so_far[0]} on, start=error.moments)"


class _Blocks:
    """An array that is cut into blocks by slices, and the states of all its groups."""

    def __init__(self, array: Any, layout: Layout, start: Moments | None) -> None:
        if isinstance(layout, Segments):
            raise TypeError(
                f"{layout!r} is of one array whose rows are all at hand; make moments of chunks of whole segments, and "
                "put those together"
            )
        self.array, self.start, self.count = array, start, 0
        self.shape, self.group_shape = shape_of(array), layout.group_shape(shape_of(array))
        if start is not None and start.shape != self.group_shape:
            raise ValueError(
                f"start has group shape {start.shape}, but {layout!r} of the array, of shape {self.shape}, has "
                f"{self.group_shape}"
            )
        self.within = within = blocks_of(layout, self.shape) if 0 not in self.shape else None
        self.steps = () if within is None else _steps(array, within.units)
        self.total = (
            0 if within is None else prod(ceil(n / step) for n, step in zip(self.shape, self.steps, strict=True))
        )
        given = Moments.empty(self.group_shape) if start is None else start
        states = given._on_host
        self.states = np.stack(states if within is None else [within.from_callers(a, self.shape) for a in states])

    def __iter__(self) -> Iterator[Any]:
        blocks: Any = product(*map(_slices, self.shape, self.steps))
        if not self.total:
            return iter(())
        if isinstance(self.array, np.ndarray):  # is read where it is added up
            return ((block, self.array[block]) for block in blocks)
        return _read_ahead(self._read, blocks)

    def _read(self, block: Any) -> tuple[Any, Any]:
        try:
            values = self.array[block]
            values = values if block and not is_lazy(values) else np.asarray(values)
            refuse_cut_off(self.array)
        except Exception as error:
            _tell_where(error, block, self.array)
            raise
        return block, values

    def add(self, chunk: Any) -> None:
        """Add up one more block."""
        block, values = chunk
        at = (slice(None), *self.within.groups_of(block))  # type: ignore[union-attr]
        m = moments(values, self.within.layout)  # type: ignore[union-attr]
        before = self.states[at]
        whole = Moments._made(*map(_packed, before)) + m
        new = np.stack(whole._on_host)
        self.states[at] = new
        self.count += 1

    def result(self) -> Moments:
        """Of all blocks so far."""
        if self.within is None:
            return Moments.empty(self.group_shape) if self.start is None else self.start
        states = [self.within.to_callers(a, self.group_shape) for a in self.states]
        return Moments._made(*map(_packed, states))

    @property
    def so_far(self) -> tuple[int, Moments | None]:
        """How many blocks, and their Moments."""
        return self.count, self.result() if self.count or self.start is not None else None

    @property
    def rest(self) -> str:
        """What is to come, for a note."""
        steps = dict(enumerate(self.steps))
        whole = all(step >= n for n, step in zip(self.shape[1:], self.steps[1:], strict=True))
        done = f"rows 0 to {self.count * steps.get(0, 1) - 1} of axis 0" if whole else f"blocks of shape {self.steps}"
        return f"they are {done}, and stream(an iterable of the rest, start=error.moments)"


def _tell_where(error: BaseException, block: tuple[slice, ...], array: Any) -> None:
    """Say which block could not be read: libraries say what is wrong with a chunk or file, but seldom with which."""
    at = ", ".join(f"{cut.start}:{cut.stop}" for cut in block)
    file = getattr(getattr(array, "file", None), "filename", "")
    of = f"{shown(array)}{f' of {file}' if file else ''}"
    with suppress(AttributeError, TypeError):
        error.add_note(f"numbanorm.stream: block [{at}] of {of} could not be read; is it damaged, or cut off?")


def _keep(error: BaseException, source: _Chunks | _Blocks) -> None:
    """Hand what was read to whoever catches an error."""
    number, whole = source.so_far
    with suppress(AttributeError, TypeError):  # an error that takes no attributes
        error.moments, error.chunks_read = whole, number  # type: ignore[attr-defined]
        if number:
            error.add_note(
                f"numbanorm.stream: {number} chunk{'s were' if number > 1 else ' was'} read before, and are kept: "
                f"error.moments are their Moments, and {source.rest} goes on"
            )


def _in_a_tuple(chunk: Any) -> str:
    """The end of a message: what to do with chunks that are pairs, as of a data loader."""
    if isinstance(chunk, tuple | list) and any(getattr(item, "shape", ()) for item in chunk):
        return (
            f"; it is a {type(chunk).__name__} of {len(chunk)} arrays, of which the first may be meant: pass (chunk[0] "
            "for chunk in chunks)"
        )
    return ""


def number_of(chunks: Any) -> int | None:
    """How many chunks there are, if that is known."""
    try:
        return len(chunks)
    except (TypeError, AttributeError, NotImplementedError):
        return None


# blocks of an array ---------------------------------------------------------------------------------------------------


def _packed(state: NDArray[Any]) -> NDArray[Any]:
    return np.array(state, order="C")


def _steps(array: Any, units: Sequence[int]) -> tuple[int, ...]:
    """The shape of blocks: of whole chunks of the array where layouts let it, as many along memory as 16 MB hold."""
    shape, own = shape_of(array), _chunks_of(array)
    steps = [min(n, ceil(c / u) * u) for n, c, u in zip(shape, own, units, strict=True)]
    order = range(len(shape))
    if isinstance(array, np.ndarray):
        order = sorted(order, key=lambda a: -abs(array.strides[a]))  # type: ignore[assignment]
    room = BLOCK_BYTES / max(1, getattr(array.dtype, "itemsize", 8))
    for axis in reversed(order):
        times = max(1, int(room // prod(steps)))
        steps[axis] = min(shape[axis], steps[axis] * times)
        if steps[axis] < shape[axis]:
            break
    return tuple(steps)


def _chunks_of(array: Any) -> tuple[int, ...]:
    """The shape in which an array is stored: of its shards, or chunks, or else of one element."""
    for name in ("shards", "chunksize", "chunks"):
        own = getattr(array, name, None)
        if isinstance(own, tuple) and len(own) == len(array.shape) and all(isinstance(n, int) and n > 0 for n in own):
            return own
    return (1,) * len(array.shape)


def _slices(length: int, step: int) -> list[slice]:
    return [slice(i, min(i + step, length)) for i in range(0, length, step)]


def _read_ahead(read: Callable[[Any], Any], blocks: Iterable[Any]) -> Iterator[Any]:
    """Read blocks in order, the next one by another thread while the last one is in use."""
    from concurrent.futures import ThreadPoolExecutor

    left = iter(blocks)
    with ThreadPoolExecutor(1, "numbanorm-reader") as pool:
        coming: Any = pool.submit(read, next(left))
        for block in left:
            values = coming.result()
            coming = pool.submit(read, block)
            yield values
            del values
        yield coming.result()


# progress -------------------------------------------------------------------------------------------------------------


def with_progress(chunks: Iterable[Any], total: int | None, unit: str = "chunks") -> Iterator[Any]:
    """The same chunks, while standard error shows how many are done."""
    from .engine.notice import in_notebook

    terminal = sys.stderr.isatty()
    bar = bar_of_rich(terminal) if terminal or in_notebook() else None
    if bar is None:
        yield from _told(chunks, total, terminal, unit)
        return
    with bar:
        task = bar.add_task("reading", total=total)
        for chunk in chunks:
            yield chunk
            del chunk
            bar.advance(task)


def _told(chunks: Iterable[Any], total: int | None, terminal: bool, unit: str) -> Iterator[Any]:
    """The same in text: one line, written again in a terminal; elsewhere a line now and then, and one in the end."""
    number, said = 0, monotonic()

    def tell(end: str) -> None:
        of = "" if total is None else f"/{total} {100 * number // max(total, 1)}%"
        again = "\r" if terminal else ""
        print(f"{again}{number}{of} {unit} read", end=end, file=sys.stderr, flush=True)

    for chunk in chunks:
        yield chunk
        del chunk
        number += 1
        if monotonic() - said > (0.1 if terminal else LINES_APART):
            said = monotonic()
            tell("" if terminal else "\n")
    tell("\n")
