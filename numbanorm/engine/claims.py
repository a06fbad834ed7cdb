"""Compile once a machine: a process claims a kernel while it compiles it; others that need it wait, and load it.

A claim is an advisory lock (`flock`) on an empty file beside the kernel's, and the system lets go of it when its holder
dies. A holder that has ended removes the file before it lets go. So a lock on a file that is still in its place is a
claim, perhaps one that a dead process left, and a lock on any other says that its holder has ended. Only who has the
claim removes the file: so no two processes have it, and dead ones leave at most one empty file a kernel.

Where no claim can be made (no `flock`, a folder that can only be read, a network that refuses locks), or another's
lasts too long, a process compiles as if it were alone. To wait is only to save work: what is kept is whole anyway.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from .trust import is_trusted

WAIT = 30.0  # seconds for one kernel: several times what most take to compile, and never without end
_PAUSE = 0.02  # seconds between two tries: a wait within the system would have no bound, and end by no interrupt

abandoned: ContextVar[Callable[[], bool]] = ContextVar("abandoned", default=lambda: False)  # whoever waits is to end


class _Claim:
    """A file beside a kernel's, open, and what this process may do to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.held = False
        # Exec closes what Python opens. For this user alone: who can open a file can lock it, and keep us waiting.
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)

    def take(self, waiting: Callable[[], None]) -> None:
        """Hold it, or return when its holder has ended, or after too long. OSError if there are no locks here."""
        from fcntl import LOCK_EX, LOCK_NB, flock

        deadline = None
        while True:
            try:
                flock(self.file, LOCK_EX | LOCK_NB)
                break
            except BlockingIOError:
                pass
            except OSError:  # nobody has a claim here: leave no file
                os.unlink(self.path)
                raise
            if deadline is None:
                waiting()
                deadline = time.monotonic() + WAIT
            if abandoned.get()():
                raise KeyboardInterrupt
            if time.monotonic() >= deadline:
                return
            time.sleep(_PAUSE)
        self.held = os.path.samestat(os.fstat(self.file), os.stat(self.path))

    def release(self) -> None:
        """Remove the file, if it is ours, and let go."""
        from fcntl import LOCK_UN, flock

        if self.file >= 0:
            with suppress(OSError):
                if self.held:
                    os.unlink(self.path)
            with suppress(OSError):  # to close it is not enough: forks made behind Python's back have it open, too
                flock(self.file, LOCK_UN)
        self.close()

    def close(self) -> None:
        """Have no more to do with it. In a fork, the lock stays its parent's."""
        file, self.file = self.file, -1
        if file >= 0:
            os.close(file)


_claims: list[_Claim] = []  # of this process, all in the one thread that compiles


@contextmanager
def claiming() -> Iterator[None]:
    """Let go, at the end, of what was claimed within. To be entered by one thread at a time."""
    before = len(_claims)
    try:
        yield
    finally:
        while len(_claims) > before:
            _claims.pop().release()


def claim(path: Path, waiting: Callable[[], None]) -> None:
    """Claim what will be kept at a path, within `claiming`; wait while another process has claimed it.

    Afterwards look whether it is there: made meanwhile, or while this process waited. If it is not, and this process
    has waited, the other could not keep it, so nobody is to wait for it again: no claim is made.

    Parameters
    ----------
    path : Path
        Its file, in a folder that is trusted.
    waiting : callable
        Called when a wait begins.
    """
    if _claims:  # two processes that have one each must not wait for each other
        return
    with suppress(ImportError, OSError):
        import fcntl  # noqa: F401 - not on Windows

        mine = _Claim(path.with_name(f"{path.name}.lock"))
        _claims.append(mine)
        try:
            if is_trusted(os.fstat(mine.file)):
                mine.take(waiting)
        finally:
            if not mine.held:  # else others would wait for what is no claim
                mine.release()


def _after_in_child() -> None:
    for one in _claims:
        one.close()
    _claims.clear()  # those are the parent's, and their thread may not be here


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_in_child)
