"""Compiled code on disk, of whatever processor: where it is kept, and whom to trust.

Each kernel is a file of its own, named by a digest of all it depends on, and put in place at once: of several writers
the last one stays, and all wrote the same. Whatever goes wrong only means to compile again.
"""

import hashlib
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from types import CodeType
from typing import Any
from uuid import uuid4

from . import claims
from .trust import is_trusted


@cache
def stamp(processor: str) -> str | None:
    """Digest of all that the kernels of a processor, "cpu" or "cuda", are made of: the freshness of what is kept.

    The package may lie in a zip file, or be compiled to byte code without sources: what its modules are made of is
    asked of whatever imports them. None if that is not known, for then old kernels could not be told from new ones.
    """
    import numba  # which takes a while: not where this module is imported

    package, digest = __package__.rpartition(".")[0], hashlib.sha256(numba.__version__.encode())
    names = ["walk.slots", "walk.table"]
    for folder in ("maths", f"{processor}.kernels"):
        found = find_spec(f"{package}.{folder}")
        inside = [] if found is None else [one.name for one in iter_modules(found.submodule_search_locations)]
        if not inside:
            return None
        names += [folder, *(f"{folder}.{name}" for name in inside)]
    for name in sorted(names):
        if (text := _made_of(f"{package}.{name}")) is None:
            return None
        digest.update(name.encode() + b"\0" + text)
    return digest.hexdigest()


def _made_of(name: str) -> bytes | None:
    """The source of a module, else its byte code; None if neither is to be had."""
    spec = find_spec(name)
    loader: Any = None if spec is None else spec.loader
    with suppress(AttributeError, ImportError, OSError):
        if (source := loader.get_source(name)) is not None:
            return bytes(source, "utf-8")
    with suppress(AttributeError, ImportError, OSError):
        if (code := loader.get_code(name)) is not None:
            return repr(_parts(code)).encode()
    return None


def _parts(code: CodeType) -> tuple[Any, ...]:
    """All that decides what byte code does. `marshal` would write the same code in several ways."""
    constants = [_parts(one) if isinstance(one, CodeType) else _plain(one) for one in code.co_consts]
    return code.co_code, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, constants


def _plain(constant: Any) -> Any:
    """A constant whose repr is the same in every process."""
    return sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant


@cache
def folder(processor: str) -> Path | None:
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
    if (fresh := stamp(processor)) is None:
        return None
    try:
        path = base / f"{processor}-{fresh[:16]}"
        path.mkdir(mode=0o755, parents=True, exist_ok=True)  # whatever the umask: for others to read, not to write
        about = path.stat()
    except OSError:
        return None
    return path if is_trusted(about) and os.access(path, os.R_OK | os.X_OK) else None


def load(processor: str, name: str, needs: str) -> bytes | None:
    """Code that was saved under this name, and needed just this; None if there is none that can be trusted."""
    if (home := folder(processor)) is None:
        return None
    path, key = _entry(processor, home, name, needs)
    try:
        with open(path, "rb") as file:
            if not is_trusted(os.fstat(file.fileno())):
                return None
            known, digest, code = file.read(len(key)), file.read(32), file.read()
    except OSError:
        return None
    return code if known == key and digest == hashlib.sha256(code).digest() else None


def save(processor: str, name: str, needs: str, code: bytes) -> None:
    """Keep code for the next process, if there is a place for it.

    `needs` is all that it depends on beside the kernels' sources, Numba and Python; the name is for people to read.
    The file holds the key, a digest of the code, and the code.
    """
    if (home := folder(processor)) is None:
        return
    path, key = _entry(processor, home, name, needs)
    unfinished = path.with_name(f"{path.name}.{uuid4().hex}.tmp")
    with suppress(OSError):  # read-only, or full
        try:
            with open(unfinished, "xb", opener=partial(os.open, mode=0o644)) as file:
                file.write(key + hashlib.sha256(code).digest() + code)
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)


def claim(processor: str, name: str, needs: str, waiting: Callable[[], None]) -> None:
    """Before code is made, that `load` did not find: claim it, or wait for the process that has; see `claims`.

    Then `load` again. The claim ends with `claims.claiming`; `waiting` is called when a wait begins.
    """
    if (home := folder(processor)) is not None:
        claims.claim(_entry(processor, home, name, needs)[0], waiting)


def _entry(processor: str, home: Path, name: str, needs: str) -> tuple[Path, bytes]:
    """Path and key of code. The stamp stands for the sources and Numba, the suffix for Python and its platform."""
    key = repr((needs, stamp(processor), EXTENSION_SUFFIXES[0])).encode()
    return home / f"{name}-{hashlib.sha256(key).hexdigest()[:32]}.nbc", key
