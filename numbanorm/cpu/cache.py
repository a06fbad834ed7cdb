"""Compile once: kernels for the CPU kept on disk, keyed by what they are made of (see `engine.disk.stamp`).

Numba's own cache looks at one function's file only, so an edited callee would go on giving the old result; a package
folder that cannot be written stops the import; and its index of a function's kernels has no lock, so two processes at
once may leave one's kernel under the other's signature. Here every kernel is a file of its own: see `disk`.
"""

import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

from numba.core import config

from ..engine import disk, notice

try:
    from numba.core.caching import NullCache
    from numba.core.compiler import CompileResult
    from numba.core.serialize import dumps
except ImportError:

    class NullCache:  # type: ignore[no-redef]
        """What no dispatcher of this Numba has: kernels are compiled every time."""


class _Cache(NullCache):
    """The kernels of one function on disk, each pickled by Numba, as its dispatcher asks for them."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def _entry(self, sig: Any, codegen: Any) -> tuple[str, str]:
        """Name of a kernel's file, and all it depends on beside what every kernel does."""
        name = f"{self._function.__module__}.{self._function.__qualname__}"
        return ".".join(name.split(".")[-2:]), repr((name, sig, codegen.magic_tuple(), str(config.OPT)))

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """A kernel from disk. If there is none, this process is the one to compile it, or waits for the one that is."""
        try:
            target_context.refresh()
            entry = self._entry(sig, target_context.codegen())
        except Exception:  # this Numba has no such names: compile
            return None
        kernel = self._load(entry, target_context)
        if kernel is None and config.OPT:  # else it will not be kept
            disk.claim("cpu", *entry, waiting=partial(notice.compiling, "cpu"))
            kernel = self._load(entry, target_context)
        return kernel

    def _load(self, entry: tuple[str, str], target_context: Any) -> Any:
        try:
            kernel = disk.load("cpu", *entry)
            return None if kernel is None else CompileResult._rebuild(target_context, *pickle.loads(kernel))
        except Exception:  # something is wrong with it: compile
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            if not (data.lifted or data.library.has_dynamic_globals):  # addresses of this process, with NUMBA_OPT=0
                disk.save("cpu", *self._entry(sig, data.codegen), dumps(data._reduce()))
        except Exception:  # it cannot be pickled: the next process compiles, too
            pass


def keep(dispatcher: Any) -> Any:
    """Give a dispatcher this module's cache; if this Numba has no place for it, leave the dispatcher as it is."""
    if disk.folder("cpu") is not None and type(getattr(dispatcher, "_cache", None)) is NullCache:
        dispatcher._cache = _Cache(dispatcher.py_func)
    return dispatcher
