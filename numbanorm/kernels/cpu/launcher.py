"""Run a kernel's tasks: the one place that knows of threads, threading layers and forks.

Small work runs in the caller's thread. Large work runs on Numba's threads where that is safe: on the OpenMP and TBB
layers, in a process that was never forked. Elsewhere (Numba's own workqueue aborts when two threads launch at once,
OpenMP when a forked child launches) a few Python threads take a share each; the kernels do not hold the GIL.
"""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import count
from typing import Any, NamedTuple

from numba.core import types
from numba.np.ufunc import parallel as numba_threads

from . import columns, rows
from .cache import parallel
from .intrinsics import Pointer

_FAMILIES = {"rows": rows, "columns": columns}
_TABLE, _STATE = Pointer("i8"), Pointer("?f8")


def _was_forked() -> bool:
    """Whether this process is a fork that never called exec, as far as the system tells (PF_FORKNOEXEC)."""
    try:
        with open("/proc/self/stat", "rb") as stat:
            flags = int(stat.read().rpartition(b")")[2].split()[6])
    except (OSError, ValueError, IndexError):
        return False
    return bool(flags & 0x40)


class _Process:
    """What holds for this process: whether it is a fork, and its pool of Python threads."""

    def __init__(self, forked: bool) -> None:
        self.forked = forked
        self.lock = threading.Lock()
        self.pool: ThreadPoolExecutor | None = None
        self.pool_size = 0

    def executor(self, size: int) -> ThreadPoolExecutor:
        with self.lock:
            if self.pool is None or self.pool_size < size:
                self.pool = ThreadPoolExecutor(size, thread_name_prefix="numbanorm")
                self.pool_size = size
            return self.pool


_process = _Process(_was_forked())


def _after_fork() -> None:
    global _process
    _process = _Process(forked=True)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@cache
def _layer_is_safe() -> bool:
    """Start Numba's threads; whether several Python threads may launch on them."""
    torch = sys.modules.get("torch")
    torch = torch if hasattr(torch, "set_num_threads") else None  # not yet while another thread imports it
    threads_of_torch = torch.get_num_threads() if torch else 0
    numba_threads._launch_threads()
    if torch and torch.get_num_threads() != threads_of_torch:  # one OpenMP serves both, and starting it resets this
        torch.set_num_threads(threads_of_torch)
    return numba_threads.threading_layer() in ("omp", "tbb")


class Kernel(NamedTuple):
    """A compiled kernel: callable from Python, and its address for Numba's threads."""

    run: Any  # (first, last, table, x, out, weight, bias, eps, center, count, mean, m2), without a type look-up
    address: int


@cache
def _kernel(family: str, name: str, kinds: tuple[str, ...]) -> Kernel:
    dispatcher = getattr(_FAMILIES[family], name)
    arrays = [_TABLE, *map(Pointer, kinds)]
    signature = types.void(types.int64, types.int64, *arrays, types.float64, types.int64, _STATE, _STATE, _STATE)
    run = dispatcher.compile(signature)
    compiled = dispatcher.overloads[signature.args]
    return Kernel(run, compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name))


@cache
def _parallel() -> Any:
    """`cache.parallel`, compiled: (tasks, pieces, address, table, ...)."""
    any_array = Pointer("?u1")
    arrays = [_TABLE, *[any_array] * 4]
    integers = [types.int64] * 3
    return parallel.compile(types.void(*integers, *arrays, types.float64, types.int64, _STATE, _STATE, _STATE))


def launch(family: str, name: str, kinds: tuple[str, ...], tasks: int, threads: int, *arguments: Any) -> None:
    """Run all tasks of a kernel on up to `threads` threads.

    Parameters
    ----------
    family, name : str
        The kernel: a function of `rows` or `columns`.
    kinds : tuple of str
        Kinds of x, out, weight and bias, "none" for what is left out.
    tasks, threads : int
        How many tasks there are, and how many threads may share them.
    *arguments
        Table, x, out, weight, bias, eps, center, count, mean, m2: arrays (or None) and numbers.
    """
    pieces = min(tasks, threads)
    kernel = _kernel(family, name, kinds)
    if pieces <= 1:
        kernel.run(0, tasks, *arguments)
    elif not _process.forked and _layer_is_safe():
        _parallel()(tasks, pieces, kernel.address, *arguments)
    else:
        _pooled(kernel.run, tasks, pieces, arguments)


def prepare(family: str, name: str, kinds: tuple[str, ...]) -> None:
    """Compile a kernel, and what runs it on several threads, or load them from the cache, ahead of the first launch."""
    _kernel(family, name, kinds)
    if not _process.forked and _layer_is_safe():
        _parallel()


class _Shares:
    """The pieces of one call, each taken by whichever thread comes first."""

    def __init__(self, kernel: Any, tasks: int, pieces: int, arguments: tuple[Any, ...]) -> None:
        self.kernel, self.tasks, self.pieces, self.arguments = kernel, tasks, pieces, arguments
        self.taken = count()
        self.done = threading.Semaphore(0)

    def work(self) -> None:
        """Take pieces until none is left. A thread that comes too late finds none, and nobody waits for it."""
        while (piece := next(self.taken)) < self.pieces:
            try:
                first, last = piece * self.tasks // self.pieces, (piece + 1) * self.tasks // self.pieces
                self.kernel(first, last, *self.arguments)
            finally:
                self.done.release()

    def finish(self) -> None:
        """Wait for every piece that was begun; what an interrupt has left is not begun any more."""
        while next(self.taken) < self.pieces:
            self.done.release()
        for _ in range(self.pieces):
            self.done.acquire()


def _pooled(kernel: Any, tasks: int, pieces: int, arguments: tuple[Any, ...]) -> None:
    """Share the tasks among a few Python threads and this one."""
    shares = _Shares(kernel, tasks, pieces, arguments)
    try:
        executor = _process.executor(pieces - 1)
        for _ in range(pieces - 1):
            executor.submit(shares.work)
    except RuntimeError:  # no thread can be started (any more): those there are, and this one, do it all
        pass
    try:
        shares.work()
    finally:  # the arrays are ours until the last thread is done with them
        shares.finish()
