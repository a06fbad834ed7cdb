"""Tasks as they go to workers: what is pickled needs nothing of this package before it runs.

A function of this package in a graph would be looked up where messages are read. A worker without the package cannot
read such a message, and `distributed` waits for its result for ever. So a task travels as the text of an expression,
which builtins alone can read: where the package is missing, the task fails, and its error reaches the caller.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from itertools import accumulate
from typing import Any

from .. import __version__
from . import tasks

_PARENTS = accumulate(__name__.split("."), "{}.{}".format)  # each of which may be missing by itself
_THERE = " and ".join(f"__import__('importlib.util').util.find_spec({name!r})" for name in _PARENTS)
_IMPORTED = f"__import__('importlib').import_module({__name__!r}).received"


class Sent:
    """A function of `tasks`, and its `work` if it takes that for its last argument."""

    __slots__ = ("packed", "task", "version", "work")

    def __init__(self, task: Callable[..., Any] | str, work: tasks.Work | None = None) -> None:
        self.task = task if isinstance(task, str) else task.__name__
        self.work, self.packed, self.version = work, b"", __version__

    @property
    def __name__(self) -> str:  # by which Dask names what is made
        return self.task

    def __call__(self, *arguments: Any, **given: Any) -> Any:
        """Run it here."""
        if self.version != __version__:
            raise RuntimeError(tasks.other_version(self.version, __version__))
        if self.packed:
            self.work, self.packed = pickle.loads(self.packed), b""
        work = () if self.work is None else (self.work,)
        return getattr(tasks, self.task)(*arguments, *work, **given)

    def __dask_tokenize__(self) -> Any:
        return "numbanorm", self.task, self.version, self.work or self.packed

    def __reduce__(self) -> Any:
        packed = self.packed or (b"" if self.work is None else pickle.dumps(self.work))
        made = f"({self.task!r}, {self.version!r}, {packed!r})"
        late = f"lambda *arguments, **given: {_IMPORTED}{made}(*arguments, **given)"
        return eval, (f"{_IMPORTED}{made} if {_THERE} else ({late})",)


def received(task: str, version: str, packed: bytes) -> Sent:
    """A task that came in a message; what is packed is read when it runs, since another version may not read it."""
    sent = Sent(task)
    sent.version, sent.packed = version, packed
    return sent
