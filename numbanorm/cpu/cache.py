"""Compile once: kernels for the CPU kept on disk, keyed by the sources of the whole package.

Numba's own cache looks at one function's file only, so an edited callee would go on giving the old result; a package
folder that cannot be written stops the import; and its index of a function's kernels has no lock, so two processes at
once may leave one's kernel under the other's signature. Here every kernel is a file of its own: see `disk`.
"""

import pickle
from functools import partial

from numba import int64, njit, prange

from ..engine import disk
from .kernels.intrinsics import call

try:
    from numba.core.caching import NullCache
    from numba.core.compiler import CompileResult
    from numba.core.serialize import dumps
except ImportError:

    class NullCache:  # type: ignore[no-redef]
        """What no dispatcher of this Numba has: kernels are compiled every time."""


# A part of a kernel: never called from Python, so it needs no wrappers.
inline = partial(njit, forceinline=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)


class _Cache(NullCache):
    """The kernels of one function on disk, each pickled by Numba, as its dispatcher asks for them."""

    def __init__(self, function):
        self._function = function

    def _entry(self, sig, codegen):
        """Name of a kernel's file, and all it depends on beside what every kernel does."""
        name = f"{self._function.__module__}.{self._function.__qualname__}"
        return ".".join(name.split(".")[-2:]), repr((name, sig, codegen.magic_tuple()))

    def load_overload(self, sig, target_context):
        try:
            target_context.refresh()
            kernel = disk.load(*self._entry(sig, target_context.codegen()))
            if kernel is not None:
                return CompileResult._rebuild(target_context, *pickle.loads(kernel))
        except Exception:  # something is wrong with it: compile
            pass
        return None

    def save_overload(self, sig, data):
        try:
            if not (data.lifted or data.library.has_dynamic_globals):  # addresses of this process, with NUMBA_OPT=0
                disk.save(*self._entry(sig, data.codegen), dumps(data._reduce()))
        except Exception:  # it cannot be pickled: the next process compiles, too
            pass


def _kept(dispatcher):
    """Give a dispatcher this module's cache; if this Numba has no place for it, leave the dispatcher as it is."""
    if disk.folder() is not None and isinstance(getattr(dispatcher, "_cache", None), NullCache):
        dispatcher._cache = _Cache(dispatcher.py_func)
    return dispatcher


def kernel(function):
    """Decorator of a kernel: takes tasks [first, last) of its schedule, serially, without the GIL."""
    return _kept(njit(nogil=True, error_model="numpy")(function))


@_kept
@njit(parallel=True, nogil=True, error_model="numpy")
def parallel(tasks, pieces, address, table, x, out, weight, bias, eps, center, count, mean, m2):
    """Run the kernel at `address` over its tasks in `pieces` equal, contiguous shares, one for each thread.

    One compilation serves all kernels: to this one, arrays of every kind are addresses.
    """
    for piece in prange(pieces):
        first = int64(piece) * tasks // pieces
        last = (int64(piece) + 1) * tasks // pieces
        call(address, first, last, table, x, out, weight, bias, eps, center, count, mean, m2)
