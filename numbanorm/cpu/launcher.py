"""Run a kernel's tasks: the one place that knows of threads, threading layers and forks.

Small work runs in the caller's thread. Large work runs on Numba's threads where that is safe: on the OpenMP and TBB
layers, in a process that was never forked. Elsewhere (Numba's own workqueue aborts when two threads launch at once,
OpenMP when a forked child launches) a few Python threads take a share each; the kernels do not hold the GIL.

What needs Numba is in `compiled`, which is imported when a kernel has to be compiled or loaded. Where kernels ship, a
process may run without it. Its threads are faster than ours by some 10 to 70 microseconds a call, and it takes a second
to import: a process that makes large calls again and again imports it beside them, and goes on as one that has it.
"""

import atexit
import os
import sys
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from itertools import count, islice
from typing import Any

try:
    from _queue import SimpleQueue  # without what else is in `queue`
except ImportError:
    from queue import SimpleQueue

from ..engine.compiler import is_plain
from ..engine.interface import Variant
from . import forks, processors, shipped


class _Process:
    """What holds for this process: whether it is a fork, and its pool of Python threads.

    The pool is not one of the standard library's: an interrupt within those may leave a lock of theirs locked.
    """

    def __init__(self, forked: bool) -> None:
        self.forked = forked
        self.helpers = 0
        self.calls: SimpleQueue = SimpleQueue()

    def call_helpers(self, work: Callable[[], None], number: int) -> None:
        """Let up to `number` threads do this work. There are fewer if no more can be started (any more)."""
        with suppress(RuntimeError):
            while self.helpers < number:  # without a lock: several threads at once may start a few too many
                start_new_thread(_help, (self.calls,))
                self.helpers += 1
        for _ in range(min(number, self.helpers)):
            self.calls.put(work)

    def __del__(self) -> None:
        for _ in range(self.helpers):
            self.calls.put(None)


def _help(calls: SimpleQueue) -> None:
    while (work := calls.get()) is not None:
        work()


_process = _Process(forks.was_forked())


def _after_fork() -> None:
    global _process, _background
    _process = _Process(forked=True)
    _background = _Background()  # its thread is not here


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

_numba: Any = None  # the module `compiled`, once it is there


@forks.imported_once
def _compiler() -> Any:
    """The module that compiles kernels, and launches on Numba's threads."""
    global _numba
    _numba = _import_compiled()
    return _numba


@cache
def address_of(variant: Variant) -> int:
    """Load a kernel that ships, or that lies on disk, or compile it; once."""
    address: int = shipped.address_of(variant) or _compiler().address_of(variant)
    return address


@cache
def serial() -> Any:
    """A callable (address, first, last, table, frame) that runs a kernel in its thread, without a type look-up."""
    return shipped.serial() or _compiler().serial()


def launch(address: int, tasks: int, threads: int, table: Any, frame: tuple[Any, ...]) -> None:
    """Run all tasks of a kernel on up to `threads` threads.

    Parameters
    ----------
    address : int
        The kernel.
    tasks, threads : int
        How many tasks there are, and how many threads may share them: these, and no more than Numba may have.
    table : ndarray of int64
        The schedule.
    frame : Frame or tuple
        Arrays (or None) and numbers, in the order of `Frame`.
    """
    pieces = min(tasks, threads, processors.of_numba())
    if pieces <= 1:
        serial()(address, 0, tasks, table, frame)
    elif not _process.forked and _numba is not None and _numba.layer_is_safe():
        _numba.on_numbas_threads(threads, address, tasks, pieces, table, frame)
    else:
        _Shares(serial(), address, tasks, pieces, table, frame).share_out()
        if _numba is None and not _process.forked:
            _background.count()


class _Background:
    """Imports Numba in a thread of its own, once so many launches could have used its threads.

    A fork waits for it, as for every import of Numba here, and so does the end of the process: both would leave Numba
    and LLVM half way. NUMBANORM_BACKGROUND=0 turns it off.
    """

    LAUNCHES = 64

    def __init__(self) -> None:
        self.launches = 0
        self.begun = False
        self.ending = False
        self.running = allocate_lock()  # held while the thread is there

    def count(self) -> None:
        """Note a launch on our threads."""
        self.launches += 1
        if self.launches >= self.LAUNCHES and not self.begun:
            self.begun = True  # two threads at once may both come here: the lock lets one of them begin
            if _may_import() and self.running.acquire(blocking=False):
                try:
                    start_new_thread(self.load, ())
                except RuntimeError:  # no thread can be started (any more)
                    self.running.release()

    def load(self) -> None:
        """Import what compiles, start Numba's threads, and let launches know."""
        global _numba
        try:
            for step in (_import_compiled, _start_layer, _load_parallel):
                if self.ending or not step():
                    return
            _numba = _import_compiled()
        except Exception:  # whatever is wrong with Numba here: calls go on as before
            pass
        finally:
            self.running.release()

    def end(self) -> None:
        """Wait for the thread, as the process ends."""
        self.ending = True
        if self.running.acquire(timeout=forks.WAIT):
            self.running.release()


_background = _Background()


@atexit.register
def _end_background() -> None:
    _background.end()


def _may_import() -> bool:
    """Whether Numba may be imported here: it was told nothing, no other thread is at it, and nobody said no."""
    about = getattr(sys.modules.get("numba"), "__spec__", None)
    if getattr(about, "_initializing", False):
        return False
    return is_plain() and os.environ.get("NUMBANORM_BACKGROUND", "") != "0"


@forks.importing_numba
def _import_compiled() -> Any:
    from . import compiled

    return compiled


def _start_layer() -> bool:
    with forks.importing:
        return bool(_import_compiled().layer_is_safe())


def _load_parallel() -> Any:
    from ..engine import notice

    with notice.silence():
        return _import_compiled().parallel()


def prepare(variant: Variant) -> None:
    """Compile a kernel, and what runs it on several threads, or load them from the cache, ahead of the first launch.

    One that ships is loaded without Numba, and what it then takes to launch it is there.
    """
    if shipped.address_of(variant) is not None and shipped.serial() is not None:
        return
    from ..engine import notice  # which takes a while to import, as it knows of the disk

    with notice.silence():
        address_of(variant)
        serial()
        if not _process.forked and _compiler().layer_is_safe():
            _compiler().parallel()


class _Shares:
    """The pieces of one call, each taken by whichever thread comes first.

    An interrupt may come to the calling thread after any step. It must not lose a piece that is then waited for
    without end, nor give the arrays back to the caller while helpers still write to them. So whatever that thread
    takes is noted in the same step (`extend`), and it counts anew what has ended.
    """

    def __init__(self, run: Any, address: int, tasks: int, pieces: int, *arguments: Any) -> None:
        self.run, self.address, self.tasks, self.pieces, self.arguments = run, address, tasks, pieces, arguments
        self.taken = count()
        self.mine: list[int] = []  # what the calling thread took
        self.ended: list[int] = []  # what helpers took and ended
        self.errors: list[BaseException] = []
        self.news: SimpleQueue = SimpleQueue()  # there is one more in `ended`

    def share_out(self) -> None:
        """Call helpers, take pieces, and wait for those that helpers took."""
        try:
            _process.call_helpers(self.help, self.pieces - 1)
            while True:
                self.mine.extend(islice(self.taken, 1))
                if self.mine[-1] >= self.pieces:
                    break
                self._run(self.mine[-1])
            self._wait()
        except BaseException:
            while True:
                try:
                    self._wait()
                    break
                except BaseException:  # one more interrupt: the first is raised
                    pass
            raise
        self.arguments = ()  # a helper that is busy elsewhere may hold this for long
        if self.errors:
            raise self.errors[0]

    def help(self) -> None:
        """Take pieces until none is left, in a thread of the pool. Who comes too late finds none."""
        while (piece := next(self.taken)) < self.pieces:
            try:
                self._run(piece)
            except BaseException as error:
                self.errors.append(error)
            self.ended.append(piece)
            self.news.put(None)

    def _run(self, piece: int) -> None:
        first, last = piece * self.tasks // self.pieces, (piece + 1) * self.tasks // self.pieces
        self.run(self.address, first, last, *self.arguments)

    def _wait(self) -> None:
        self.mine.extend(islice(self.taken, self.pieces))  # after an interrupt, no more is begun
        helped = self.pieces - sum(piece < self.pieces for piece in self.mine)
        while len(self.ended) < helped:
            self.news.get()
