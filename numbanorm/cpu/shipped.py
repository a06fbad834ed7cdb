"""Machine code that came with the wheel: found, checked and loaded without Numba.

A folder for each level of x86-64 has images of kernels, which `emit` made, and a manifest. An image is loaded by
copying it into memory, filling in addresses, and letting it be executed: only if its digest is that of the manifest, so
only what was checked is executed. Whatever does not fit means to compile, as ever:
sources that were edited, Numba with other settings, a processor below the level, a file that is damaged or that others
can write, another kind of Python. Logging has the reason, at level DEBUG.
"""

import ctypes
import logging
import mmap
import os
import struct
import sys
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from typing import Any, NamedTuple

from ..engine.compiler import is_plain
from ..engine.interface import Variant
from ..engine.trust import is_trusted

FORMAT = "1"  # of the manifest, of images, and of how kernels are called
FOLDER = os.path.join(os.path.dirname(__file__), "shipped")  # by strings: pathlib takes 10 ms to import
MANIFEST = "manifest"
ENTRY = "numbanorm_entry"
SYSTEM = "linux-x86_64"

_V3 = "abm avx avx2 bmi1 bmi2 cx16 f16c fma lahf_lm movbe popcnt sse4_1 sse4_2 ssse3 xsave"
LEVELS = {  # the best first; and what Linux calls their features
    "x86-64-v4": frozenset(f"{_V3} avx512bw avx512cd avx512dq avx512f avx512vl".split()),
    "x86-64-v3": frozenset(_V3.split()),
}


class _Unfit(Exception):
    """Why shipped code is not used."""


class Image(NamedTuple):
    """What a manifest says of an image."""

    file: str
    digest: str  # of the file, by SHA-256
    table: int  # offset of the table of addresses, at the end
    outside: list[str]  # whose addresses they are
    pointers: list[int]  # offsets of offsets, to which the address of the image is added
    kernels: dict[str, int]  # offsets of kernels, by their names, and of the entry


def written(about: Sequence[object], images: Sequence[Image]) -> str:
    """A manifest: a line of what it is for, and five for each image, with tabs in them: read without other modules."""
    lines = ["\t".join(map(str, about))]
    for image in images:
        lines += ["\t".join(map(str, image[:3])), "\t".join(image.outside), "\t".join(map(str, image.pointers))]
        lines += ["\t".join(image.kernels), "\t".join(map(str, image.kernels.values()))]
    return "\n".join(lines)


def parsed(text: str) -> tuple[list[str], list[Image]]:
    """What `written` wrote."""
    about, *lines = [line.split("\t") if line else [] for line in text.split("\n")]
    images = []
    for (file, digest, table), outside, pointers, names, places in zip(*[iter(lines)] * 5, strict=True):
        kernels = dict(zip(names, map(int, places), strict=True))
        images.append(Image(file, digest, int(table), outside, list(map(int, pointers)), kernels))
    return about, images


@cache
def address_of(variant: Variant) -> int | None:
    """Address of a kernel that ships; None if it has to be compiled."""
    if not _allowed():
        return None
    for image, kernels in _notes().items():
        if (offset := kernels.get(str(variant))) is not None:
            base = _loaded(image)
            return base and base + offset
    return None


@cache
def serial() -> Any:
    """`frame.serial`, as `launcher.serial` gives it; None if it has to be compiled."""
    if not _allowed():
        return None
    for image, kernels in _notes().items():
        if (offset := kernels.get(ENTRY)) is not None:
            base = _loaded(image)
            return base and _function(base + offset)
    return None


def ships(variant: Variant) -> bool:
    """Whether there is a kernel that fits this process. It is not loaded."""
    return _allowed() and any(str(variant) in kernels for kernels in _notes().values())


def found() -> str:
    """What a report of a problem should say: how many kernels of which level, or why there are none."""
    if (reason := _refusal()) is not None:
        return f"none: {reason}"
    try:
        level, images = _manifest()
    except _Unfit as error:
        return f"none: {error}"
    number = sum(len(image.kernels) for image in images)
    return f"{number - 1} kernels for {level}, in {FOLDER}"  # but for the entry


# whether ------------------------------------------------------------------------------------------------------------


def _allowed() -> bool:
    return _refusal() is None


def _refusal() -> str | None:
    """Why nothing that ships is used, of what may change while the process runs."""
    if os.environ.get("NUMBANORM_SHIPPED", "") == "0":
        return "NUMBANORM_SHIPPED is 0"
    return None if is_plain() else "Numba has settings of its own"


@cache
def _notes() -> dict[str, dict[str, int]]:
    """Offsets of kernels in each image, by their names; nothing if nothing fits."""
    try:
        _, images = _manifest()
    except _Unfit as error:
        _log().debug("shipped kernels are not used: %s", error)
        return {}
    return {image.file: image.kernels for image in images}


@cache
def _manifest() -> tuple[str, list[Image]]:
    """The level of this processor, and the images that ship for it.

    Raises
    ------
    _Unfit
        If there is none, or it does not fit.
    """
    _check_python()
    if not os.path.isdir(FOLDER):
        raise _Unfit("this installation has none")
    level = _level()
    folder = os.path.join(FOLDER, level)
    digest, _, text = _read(folder, MANIFEST).partition(b"\n")
    if digest.decode(errors="replace") != sha256(text).hexdigest():
        raise _Unfit(f"the manifest in {folder} is damaged")
    about, images = parsed(text.decode())
    if about != [FORMAT, SYSTEM, level, sources()]:
        raise _Unfit(f"those in {folder} were made of other sources, or for another system")
    return level, images


def _check_python() -> None:
    """Refuse all but CPython as it comes: the entry looks behind the head of an object, 16 bytes long."""
    machine = os.uname().machine if hasattr(os, "uname") else "another machine"
    if sys.platform != "linux" or machine != "x86_64" or sys.maxsize < 2**62:
        raise _Unfit(f"there are none for {sys.platform} on {machine}")
    if sys.implementation.name != "cpython" or object.__basicsize__ != 16 or "d" in sys.abiflags or "t" in sys.abiflags:
        raise _Unfit(f"there are none for this kind of Python, {sys.implementation.name} {sys.abiflags}".rstrip())


def _level() -> str:
    """The highest level that this processor has."""
    has = _features()
    for level, features in LEVELS.items():
        if features <= has and os.path.isdir(os.path.join(FOLDER, level)):
            return level
    raise _Unfit("there are none for a processor like this")


def _features() -> frozenset[str]:
    """What this processor can do and the system lets it do, as Linux says of the first."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
            for line in lines:
                if line.startswith("flags"):
                    return frozenset(line.partition(":")[2].split())
    except OSError:
        pass
    return frozenset()


@cache
def sources() -> str:
    """Digest of all that kernels are made of."""
    package = os.path.dirname(os.path.dirname(__file__))
    digest = sha256()
    try:
        inside = [
            f"{folder}/{name}" for folder in ("maths", "cpu/kernels") for name in os.listdir(f"{package}/{folder}")
        ]
        for name in sorted([*inside, "walk/slots.py", "walk/table.py"]):
            if name.endswith(".py"):
                with open(f"{package}/{name}", "rb", buffering=0) as file:
                    digest.update(name.encode() + b"\0" + file.read() + b"\0")
    except OSError as error:  # in a zip file, or without sources: nobody knows of what kernels would be compiled
        raise _Unfit(f"the sources of kernels cannot be read: {error}") from None
    return digest.hexdigest()


def _read(folder: str, name: str) -> bytes:
    """A file of the folder, if neither it nor a folder around it can be written by others."""
    try:
        for place in (FOLDER, folder):
            if not _is_ours(os.stat(place)):
                raise _Unfit(f"others can write {place}")
        path = os.path.join(folder, name)
        with open(path, "rb") as file:
            if not _is_ours(os.fstat(file.fileno())):
                raise _Unfit(f"others can write {path}")
            return file.read()
    except OSError as error:
        raise _Unfit(str(error)) from None


def _is_ours(about: os.stat_result) -> bool:
    """Whether nobody but root and this user can write a file or folder.

    Many systems have a group for each user, of that user alone, who then lets this group write all that pip installs.
    """
    if is_trusted(about):
        return True
    if about.st_mode & 0o002 or about.st_uid not in (0, os.getuid()):
        return False
    import grp  # there is none on Windows, where no code ships
    import pwd

    try:
        group, user = grp.getgrgid(about.st_gid), pwd.getpwuid(os.getuid())
    except KeyError:
        return False
    mine = group.gr_gid == user.pw_gid and group.gr_name == user.pw_name and group.gr_gid != 0
    return mine and set(group.gr_mem) <= {user.pw_name}


# loading ------------------------------------------------------------------------------------------------------------


@cache
def _loaded(name: str) -> int | None:
    """Address at which an image was loaded, once; None if it cannot be. It stays for good."""
    try:
        return _load(name)
    except _Unfit as error:
        _log().debug("shipped kernels are not used: %s", error)
        return None


def _load(name: str) -> int:
    level, images = _manifest()
    (image,) = [image for image in images if image.file == name]
    folder = os.path.join(FOLDER, level)
    code = bytearray(_read(folder, name))
    if sha256(code).hexdigest() != image.digest:
        raise _Unfit(f"{os.path.join(folder, name)} is damaged")
    code[image.table :] = struct.pack(f"<{len(image.outside)}Q", *map(_address, image.outside))
    try:
        memory = mmap.mmap(-1, len(code), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise _Unfit(f"no memory for kernels: {error}") from None
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for place in image.pointers:
        struct.pack_into("<Q", code, place, base + struct.unpack_from("<Q", code, place)[0])
    memory.write(code)
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    if protect(base, len(code), mmap.PROT_READ | mmap.PROT_EXEC) != 0:
        raise _Unfit(f"memory may not be executed: {os.strerror(ctypes.get_errno())}")
    _keep(memory)
    return base


def _keep(item: Any) -> None:
    """Keep something until the process is gone: threads may still run code when Python has put its modules away."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(item))


def _address(symbol: str) -> int:
    """Address of a function or variable of the system's or Python's."""
    library = ctypes.pythonapi if "Py" in symbol else ctypes.CDLL(None)
    try:
        return ctypes.addressof(ctypes.c_char.in_dll(library, symbol))
    except ValueError as error:
        raise _Unfit(str(error)) from None


class _Method(ctypes.Structure):
    """How Python describes a function in C."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


_FASTCALL = 0x0080


def _function(address: int) -> Any:
    """The function of Python's at an address."""
    method = _Method(b"serial", address, _FASTCALL, None)
    _keep(method)
    make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)(
        ("PyCFunction_NewEx", ctypes.pythonapi)
    )
    return make(ctypes.addressof(method), None, None)


def _log() -> logging.Logger:
    return logging.getLogger(__package__.partition(".")[0])
