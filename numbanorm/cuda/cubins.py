"""Machine code that is kept on disk, and all it depends on. Where it lies, and who is trusted, `disk` knows."""

import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cuda.pathfinder import load_nvidia_dynamic_lib
from numba.core import config

from ..engine import disk
from .kernels.constants import Code

_PACKAGES = ("numba-cuda", "llvmlite", "cuda-core")  # what writes the source for NVVM, and what calls the compilers
_LIBRARIES = ("nvvm", "nvJitLink")  # the compilers: to PTX, and from there to machine code
_SETTINGS = ("OPT", "BOUNDSCHECK", "CUDA_DEBUGINFO_DEFAULT", "FORCE_CUDA_CC")  # of Numba, which change the code


def load(code: Code, capability: tuple[int, int]) -> tuple[bytes, str] | None:
    """Machine code of a kernel, and its name there, if a process before this one has kept it."""
    entry = _entry(code, capability)
    kept = entry and disk.load("cuda", *entry)
    if not kept:
        return None
    name, _, cubin = kept.partition(b"\0")
    return cubin, name.decode()


def save(code: Code, capability: tuple[int, int], cubin: bytes, name: str) -> None:
    """Keep machine code of a kernel, and its name there, for the processes to come."""
    if entry := _entry(code, capability):
        disk.save("cuda", *entry, name.encode() + b"\0" + cubin)


def _entry(code: Code, capability: tuple[int, int]) -> tuple[str, str] | None:
    """Name of a kernel's file, and all it depends on beside what every kernel does; None if that cannot be known."""
    try:
        config.reload_config()  # as the compiler does, if the environment has changed
        settings = [getattr(config, name) for name in _SETTINGS]
        named = code._replace(function=code.function and _name(code.function))
        needs = repr((named, code.bounds, capability, settings, _compilers()))
        return f"{code.family}.{code.variant.operation}", needs
    except Exception:  # a function that is not the package's, or a compiler that is not found: nothing is kept
        return None


def _name(function: Any) -> tuple[str, str]:
    """A function by its name, under which the sources of the package must have it: no other is known by a name."""
    module, name = function.__module__, function.__qualname__
    if module.partition(".")[0] != __name__.partition(".")[0] or getattr(sys.modules[module], name) is not function:
        raise LookupError(f"{module}.{name} is not of this package")
    return module, name


@cache
def _compilers() -> tuple[Any, ...]:
    """The compilers at hand.

    Their libraries give one number to many builds, so their files stand for them: by size and time, of which copies
    keep whole seconds only. NVVM comes in one package with libdevice.
    """
    files = [Path(load_nvidia_dynamic_lib(name).abs_path).stat() for name in _LIBRARIES]
    return (*map(version, _PACKAGES), *((file.st_size, int(file.st_mtime)) for file in files))
