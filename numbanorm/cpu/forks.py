"""Forks of this process: whether it is one, and which locks must be free when one is made. Does not import Numba.

A forked child has one thread. A lock that another thread of the parent held stays locked in the child for good, and
what it guards stays half done. So a fork waits until the locks that our calls take are free.
"""

import logging  # noqa: F401 - for its hook, see below
import os
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from ..engine.compiler import require_compiler

Found = TypeVar("Found")
WAIT = 30.0  # seconds: longer than most kernels take to compile, and never without end


def _has_flag() -> bool:
    """Whether this process is a fork that never called exec, as far as the system tells (PF_FORKNOEXEC)."""
    try:
        with open("/proc/self/stat", "rb") as stat:
            flags = int(stat.read().rpartition(b")")[2].split()[6])
    except (OSError, ValueError, IndexError):
        return False
    return bool(flags & 0x40)


_forked = _has_flag()
_guarded: list[Any] = []
_held = threading.local()  # two threads may fork at once


def was_forked() -> bool:
    """Whether this process is a fork of one that may have had threads."""
    return _forked


def guard(*locks: Any) -> None:
    """Let forks wait for these reentrant locks, in this order."""
    _guarded.extend(locks)


importing = threading.RLock()  # held while what imports Numba is imported: half imported in a fork, it stays so
guard(importing)


def imported_once(load: Callable[[], Found]) -> Callable[[], Found]:
    """Decorator of a function that imports something, and returns it: at the first call, by one thread."""

    @cache
    def found() -> Found:
        with importing:
            return load()

    return found


def importing_numba(load: Callable[[], Found]) -> Callable[[], Found]:
    """The same of what brings Numba."""

    @imported_once
    def found() -> Found:
        require_compiler()
        return load()

    return found


def _before() -> None:
    deadline = time.monotonic() + WAIT
    _held.locks, _held.missed = [], []
    for lock in _guarded:  # which may grow meanwhile: the import that it waits for adds Numba's
        got = lock.acquire(timeout=max(0.0, deadline - time.monotonic()))
        (_held.locks if got else _held.missed).append(lock)


def _after() -> None:
    for lock in reversed(_held.locks):
        lock.release()


def _after_in_child() -> None:
    global _forked
    _forked = True
    _after()
    for lock in _held.missed:  # its holder is not here: what it did may be half done, but waiting would not end
        lock._at_fork_reinit()


# The hook that was registered last runs first. So logging, whose lock is taken by threads that hold ours, must have
# its hook already: else a fork would hold that lock and wait for the thread that wants it.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after_in_child)
