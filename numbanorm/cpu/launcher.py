"""Run a kernel's tasks: the one place that knows of threads, threading layers and forks.

Small work runs in the caller's thread. Large work runs on Numba's threads where that is safe: on the OpenMP and TBB
layers, in a process that was never forked. Elsewhere (Numba's own workqueue aborts when two threads launch at once,
OpenMP when a forked child launches) a few Python threads take a share each; the kernels do not hold the GIL.
"""

import atexit
import multiprocessing
import os
import sys
import threading
from _thread import start_new_thread
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from itertools import count, islice
from queue import SimpleQueue
from typing import Any

from llvmlite.binding import ffi
from numba.core import config, event, types
from numba.core.compiler_lock import global_compiler_lock
from numba.np.ufunc import parallel as numba_threads

from ..engine import notice
from ..engine.interface import Variant
from . import forks, processors
from .cache import keep
from .kernels import columns, rows, states
from .kernels import frame as entries
from .kernels.compiling import registries_known, without_collector
from .kernels.frame import TABLE, Frame

_FAMILIES = {"rows": rows, "columns": columns, "states": states}


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
    global _process
    _process = _Process(forked=True)


def _locks() -> list[Any]:
    """What a thread may hold while it compiles or starts threads, in the order in which it takes them.

    They are Numba's and llvmlite's, by names that may change: one that is not found is left out.
    """
    owners = (global_compiler_lock, "_lock"), (numba_threads, "_backend_init_thread_lock"), (ffi.lib._lock, "_lock")
    locks = [getattr(owner, name, None) for owner, name in owners]
    return [lock for lock in locks if hasattr(lock, "_at_fork_reinit")]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
forks.guard(*_locks())


@cache
def _layer_is_safe() -> bool:
    """Start Numba's threads; whether they did, and several Python threads may launch on them.

    Two things that this changes are put back. One OpenMP serves torch too, and starting it resets torch's number of
    threads. And Numba asks how processes are started, after which the user could no longer choose it.
    """
    start_method = multiprocessing.get_start_method(allow_none=True)
    torch = sys.modules.get("torch")
    torch = torch if hasattr(torch, "set_num_threads") else None  # not yet while another thread imports it
    threads_of_torch = torch.get_num_threads() if torch else 0
    try:
        numba_threads._launch_threads()
    except ValueError:  # the layer that NUMBA_THREADING_LAYER names is not there
        return False
    finally:
        if torch and torch.get_num_threads() != threads_of_torch:
            torch.set_num_threads(threads_of_torch)
        if start_method is None:
            multiprocessing.set_start_method(None, force=True)
    return numba_threads.threading_layer() in ("omp", "tbb")


def _undisturbed(compile: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: compile where no interrupt comes, as signals do to the main thread only.

    One in the midst of LLVM's work would leave objects with two owners, and end the process later. The main thread
    is interrupted as it waits. What is compiled meanwhile is found by the next call.
    """

    def compiled(*arguments: Any) -> Any:
        result: SimpleQueue = SimpleQueue()
        silent = notice.silent.get()

        def work() -> None:
            notice.silent.set(silent)
            try:
                result.put((compile(*arguments), None))
            except BaseException as error:
                result.put((None, error))

        within = global_compiler_lock.is_locked()  # this thread is compiling, and calls us: nobody else can
        if threading.current_thread() is not threading.main_thread() or within:
            return compile(*arguments)
        try:
            start_new_thread(work, ())
        except RuntimeError:  # no thread can be started (any more)
            return compile(*arguments)
        value, error = result.get()
        if error is not None:
            raise error
        return value

    return compiled


@atexit.register
def _finish_compiling() -> None:
    """The process must not end while an interrupted call still compiles: LLVM would vanish below it."""
    if global_compiler_lock._lock.acquire(timeout=forks.WAIT):
        global_compiler_lock._lock.release()


class _Notice(event.Listener):
    """Numba tells it of what it compiles, not of what it loads."""

    def on_start(self, event: Any) -> None:
        notice.compiling("cpu")

    def on_end(self, event: Any) -> None:
        pass


def _compiled(dispatcher: Any, signature: Any) -> Any:
    """What Numba knows of a function that it compiled, or loaded, for these types."""
    with without_collector(), registries_known(), event.install_listener("numba:compile", _Notice()):
        keep(dispatcher).compile(signature)
    return dispatcher.overloads[signature.args]


@cache
@_undisturbed
def address_of(variant: Variant) -> int:
    """Compile a kernel, or load it; once."""
    dispatcher = getattr(_FAMILIES[variant.family], variant.operation)
    frame = Frame(variant.kinds._asdict())
    compiled = _compiled(dispatcher, types.void(types.int64, types.int64, TABLE, frame))
    address: int = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    return address


@cache
@_undisturbed
def serial() -> Any:
    """`frame.serial`, compiled: (address, first, last, table, frame), without a type look-up."""
    return _compiled(entries.serial, entries.ENTRY).entry_point


@cache
@_undisturbed
def _parallel() -> Any:
    """`frame.parallel`, compiled: (address, tasks, pieces, table, frame)."""
    return _compiled(entries.parallel, entries.ENTRY).entry_point


@cache
def _has_spare_threads() -> bool:
    """Whether Numba, which knows nothing of quotas, has more threads than there are processors for them."""
    return processors.available() < config.NUMBA_NUM_THREADS


def _on_numbas_threads(threads: int, *arguments: Any) -> None:
    """Run `frame.parallel`. All threads of a launch wake up, and wait for each other, though they have no piece."""
    run = _parallel()
    if not _has_spare_threads():
        run(*arguments)
        return
    before = numba_threads.get_num_threads()
    numba_threads.set_num_threads(min(before, threads))
    try:
        run(*arguments)
    finally:
        numba_threads.set_num_threads(before)


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
    pieces = min(tasks, threads, config.NUMBA_NUM_THREADS)
    if pieces <= 1:
        serial()(address, 0, tasks, table, frame)
    elif not _process.forked and _layer_is_safe():
        _on_numbas_threads(threads, address, tasks, pieces, table, frame)
    else:
        _Shares(serial(), address, tasks, pieces, table, frame).share_out()


def prepare(variant: Variant) -> None:
    """Compile a kernel, and what runs it on several threads, or load them from the cache, ahead of the first launch."""
    with notice.silence():
        address_of(variant)
        serial()
        if not _process.forked and _layer_is_safe():
            _parallel()


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
