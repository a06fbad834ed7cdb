"""Compile kernels, or load them from disk, and run them on Numba's threads: what the launcher needs Numba for."""

import atexit
import multiprocessing
import sys
import threading
from _thread import start_new_thread
from collections.abc import Callable
from functools import cache
from queue import SimpleQueue
from typing import Any

from llvmlite.binding import ffi
from numba.core import config, event, types
from numba.core.compiler_lock import global_compiler_lock
from numba.np.ufunc import parallel as numba_threads

from ..engine import claims, notice
from ..engine.interface import Variant
from . import forks, processors
from .cache import keep
from .kernels import (
    backward,
    chosen,
    columns,
    label_chosen,
    labels,
    rows,
    segment_chosen,
    segment_columns,
    segment_rows,
    states,
)
from .kernels import frame as entries
from .kernels.compiling import registries_known, without_collector
from .kernels.frame import TABLE, Frame

_FAMILIES = {
    "rows": rows,
    "columns": columns,
    "states": states,
    "labels": labels,
    "label_chosen": label_chosen,
    "chosen": chosen,
    "segment_rows": segment_rows,
    "segment_columns": segment_columns,
    "segment_chosen": segment_chosen,
    "backward": backward,
}


def _locks() -> list[Any]:
    """What a thread may hold while it compiles or starts threads, in the order in which it takes them.

    They are Numba's and llvmlite's, by names that may change: one that is not found is left out.
    """
    owners = (global_compiler_lock, "_lock"), (numba_threads, "_backend_init_thread_lock"), (ffi.lib._lock, "_lock")
    locks = [getattr(owner, name, None) for owner, name in owners]
    return [lock for lock in locks if hasattr(lock, "_at_fork_reinit")]


forks.guard(*_locks())


@cache
def layer_is_safe() -> bool:
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
    is interrupted as it waits. What is compiled meanwhile is found by the next call; a wait for another process ends.
    """

    def compiled(*arguments: Any) -> Any:
        result: SimpleQueue = SimpleQueue()
        silent, interrupted = notice.silent.get(), threading.Event()

        def work() -> None:
            notice.silent.set(silent)
            claims.abandoned.set(interrupted.is_set)
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
        try:
            value, error = result.get()
        except BaseException:
            interrupted.set()
            raise
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
    listener = event.install_listener("numba:compile", _Notice())
    with without_collector(), registries_known(), claims.claiming(), listener:
        keep(dispatcher).compile(signature)
    return dispatcher.overloads[signature.args]


def kernel(variant: Variant) -> Any:
    """What Numba knows of a kernel that it compiled, or loaded."""
    function = getattr(_FAMILIES[variant.family], variant.operation)
    frame = Frame(variant.kinds._asdict())
    return _compiled(function, types.void(types.int64, types.int64, TABLE, frame))


def entry() -> Any:
    """The same of `frame.serial`."""
    return _compiled(entries.serial, entries.ENTRY)


@cache
@_undisturbed
def address_of(variant: Variant) -> int:
    """Compile a kernel, or load it; once."""
    compiled = kernel(variant)
    address: int = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    return address


@cache
@_undisturbed
def serial() -> Any:
    """`frame.serial`, compiled: (address, first, last, table, frame), without a type look-up."""
    return entry().entry_point


@cache
@_undisturbed
def parallel() -> Any:
    """`frame.parallel`, compiled: (address, tasks, pieces, table, frame)."""
    return _compiled(entries.parallel, entries.ENTRY).entry_point


@cache
def _has_spare_threads() -> bool:
    """Whether Numba, which knows nothing of quotas, has more threads than there are processors for them."""
    return processors.available() < config.NUMBA_NUM_THREADS


def on_numbas_threads(threads: int, *arguments: Any) -> None:
    """Run `frame.parallel`. All threads of a launch wake up, and wait for each other, though they have no piece."""
    run = parallel()
    if not _has_spare_threads():
        run(*arguments)
        return
    before = numba_threads.get_num_threads()
    numba_threads.set_num_threads(min(before, threads))
    try:
        run(*arguments)
    finally:
        numba_threads.set_num_threads(before)
