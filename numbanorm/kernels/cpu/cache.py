"""Compile once: kernels kept on disk, keyed by the sources of the whole package.

Numba's own cache looks at one function's file only, so an edited callee would go on giving the old result; a package
folder that cannot be written stops the import; and its index of a function's kernels has no lock, so two processes at
once may leave one's kernel under the other's signature. Here every kernel is a file of its own, named by a digest of
all it depends on, and put in place at once: of several writers the last one stays, and all wrote the same. Whatever
goes wrong on disk only means to compile again.
"""

import hashlib
import os
import pickle
import sys
from functools import cache, partial
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from uuid import uuid4

import numba
from numba import int64, njit, prange

from .intrinsics import call

try:
    from numba.core.caching import NullCache
    from numba.core.compiler import CompileResult
    from numba.core.serialize import dumps
except ImportError:

    class NullCache:  # type: ignore[no-redef]
        """What no dispatcher of this Numba has: kernels are compiled every time."""


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
    """Where kernels are kept: $NUMBANORM_CACHE_DIR, else the user's cache folder; None if there is no such place.

    It may be read-only, with kernels that were compiled before. Never a folder that others can write: what lies there
    is executed.
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
        path.mkdir(mode=0o755, parents=True, exist_ok=True)  # whatever the umask: for others to read, not to write
        about = path.stat()
    except OSError:
        return None
    return path if _trusted(about) and os.access(path, os.R_OK | os.X_OK) else None


def _trusted(about: os.stat_result) -> bool:
    """Whether a file or folder belongs to root or to this user, and nobody else can write it."""
    return not hasattr(os, "getuid") or (about.st_uid in (0, os.getuid()) and not about.st_mode & 0o022)


class _Cache(NullCache):
    """The kernels of one function on disk, as its dispatcher asks for them.

    A file holds the key, a digest of the rest, and the rest: a compiled kernel, pickled by Numba.
    """

    def __init__(self, function):
        self._function = function

    def _entry(self, sig, codegen):
        """Path and key of a kernel. The stamp stands for all sources and Numba, the suffix for Python."""
        name = f"{self._function.__module__}.{self._function.__qualname__}"
        key = repr((name, sig, codegen.magic_tuple(), stamp(), EXTENSION_SUFFIXES[0])).encode()
        short = ".".join(name.split(".")[-2:])
        return folder() / f"{short}-{hashlib.sha256(key).hexdigest()[:32]}.nbc", key

    def load_overload(self, sig, target_context):
        try:
            target_context.refresh()
            path, key = self._entry(sig, target_context.codegen())
            with open(path, "rb") as file:
                if not _trusted(os.fstat(file.fileno())):
                    return None
                known, digest, kernel = file.read(len(key)), file.read(32), file.read()
            if known == key and digest == hashlib.sha256(kernel).digest():
                return CompileResult._rebuild(target_context, *pickle.loads(kernel))
        except Exception:  # no such file, or something is wrong with it: compile
            pass
        return None

    def save_overload(self, sig, data):
        try:
            if data.lifted or data.library.has_dynamic_globals:  # addresses of this process, with NUMBA_OPT=0
                return
            path, key = self._entry(sig, data.codegen)
            kernel = dumps(data._reduce())
            unfinished = path.with_name(f"{path.name}.{uuid4().hex}.tmp")
            try:
                with open(unfinished, "xb", opener=partial(os.open, mode=0o644)) as file:
                    file.write(key + hashlib.sha256(kernel).digest() + kernel)
                os.replace(unfinished, path)
            finally:
                unfinished.unlink(missing_ok=True)
        except Exception:  # read-only, or full: the next process compiles, too
            pass


def _kept(dispatcher):
    """Give a dispatcher this module's cache; if this Numba has no place for it, leave the dispatcher as it is."""
    if folder() is not None and isinstance(getattr(dispatcher, "_cache", None), NullCache):
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
