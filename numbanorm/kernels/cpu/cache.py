"""Compile once: kernels kept on disk, keyed by the sources of the whole package.

Numba's own cache looks at one function's file only, so an edited callee would go on giving the old result, and a
package folder that cannot be written stops the import. Here every entry carries a stamp over all sources, and
whatever goes wrong on disk only means to compile again.
"""

import hashlib
import os
import sys
from contextlib import suppress
from functools import cache, partial
from pathlib import Path

import numba
from numba import int64, njit, prange
from numba.core import caching

from .intrinsics import call

# A part of a kernel: never called from Python, so it needs no wrappers.
inline = partial(njit, forceinline=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)


@cache
def stamp() -> str:
    """Digest of every source file of the package: the freshness of a cached kernel."""
    package = Path(__file__).parents[2]
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


@cache
def folder() -> Path | None:
    """Where kernels are kept: $NUMBANORM_CACHE_DIR, else the user's cache folder; None if nowhere can be written.

    Never a folder that others can write: what lies there is executed.
    """
    if chosen := os.environ.get("NUMBANORM_CACHE_DIR"):
        base = Path(chosen)
    elif sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        base = Path(local) / "numbanorm" / "cache"
    else:
        try:
            base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "numbanorm"
        except RuntimeError:  # no home
            return None
    try:
        path = base / stamp()[:16]
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = path.stat()
    except OSError:
        return None
    trusted = not hasattr(os, "getuid") or (about.st_uid in (0, os.getuid()) and not about.st_mode & 0o022)
    return path if trusted and os.access(path, os.W_OK) else None


class _Locator(caching._CacheLocator):
    def get_cache_path(self):
        return str(folder())

    def get_source_stamp(self):
        return stamp()

    def get_disambiguator(self):
        return "kernel"

    @classmethod
    def from_function(cls, py_func, py_file):
        return cls()


class _Impl(caching.CompileResultCacheImpl):
    _locator_classes = (_Locator,)


class _Cache(caching.FunctionCache):
    _impl_class = _Impl

    def _index_key(self, sig, codegen):
        # The stamp covers the code; kernels have no closures.
        return sig, codegen.magic_tuple()

    def load_overload(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a damaged entry or index, of whatever kind: begin anew
            with suppress(Exception):
                self.flush()
            return None

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except Exception:
            pass


def _kept(dispatcher):
    """Give a dispatcher this module's cache; if this Numba has no place for it, leave the dispatcher as it is."""
    if folder() is not None:
        try:
            dispatcher._cache = _Cache(dispatcher.py_func)
        except Exception:
            pass
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
