"""Arrays in a file: written at once or not at all, and read only if they are what was written."""

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHECKSUM = "checksum"  # the name of the array that has it


def write(path: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays to a file in NumPy's npz format, with a checksum.

    They are written to a file beside it, which then takes its place: whoever reads it meanwhile, or after a crash,
    finds the old file or the new one. A link stays one. What is no regular file, such as a pipe, is written to as is.
    """
    home = Path(os.path.realpath(path))
    if home.exists() and not home.is_file():
        with open(home, "wb") as file:
            file.write(_bytes_of(arrays))
        return
    content, beside = _bytes_of(arrays), home.with_name(f".{home.name[:100]}.{secrets.token_hex(8)}")
    try:
        with open(beside, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if home.exists():
            os.chmod(beside, home.stat().st_mode & 0o777)
        os.replace(beside, home)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise


def read(
    path: str | os.PathLike[str], writer: str, names: tuple[str, ...], older: tuple[str, ...]
) -> dict[str, NDArray[Any]]:
    """Read what `write` wrote, or an older version without a checksum.

    Parameters
    ----------
    path : str or PathLike
        The file.
    writer : str
        What writes such files, for messages.
    names : tuple of str
        Of the arrays that must be there.
    older : tuple of str
        Of those that may be there, too, in a file without a checksum.

    Raises
    ------
    ValueError
        If the file was damaged, or is another.
    OSError
        If there is none, or it cannot be read.
    """
    with open(path, "rb") as file:  # whole: what is wrong with its content is then told from what is with the disk
        content = file.read()
    try:
        with np.load(BytesIO(content), allow_pickle=False) as npz:
            arrays = {name: npz[name] for name in npz.files}
    except Exception as error:  # whatever zip, zlib and NumPy say of what they do not understand
        whole = "is damaged, or cut off" if content.startswith(b"PK") else "is another file"
        raise ValueError(
            f"{path} ({len(content)} bytes) {whole}: it is not what {writer} wrote ({type(error).__name__}: {error})"
        ) from error
    missing = set(names) - arrays.keys()
    if missing:
        raise ValueError(f"{path} holds no {', '.join(sorted(missing))}: it was not written by {writer}")
    checksum = arrays.pop(CHECKSUM, None)
    if checksum is not None and checksum.tobytes() != _checksum(arrays):
        raise ValueError(f"{path} is damaged: its checksum is not that of what it holds; it has to be made anew")
    if checksum is None and (unknown := arrays.keys() - {*names, *older}):
        raise ValueError(
            f"{path} holds {', '.join(sorted(unknown))}, too: it is damaged, or was not written by {writer}"
        )
    for name in names:
        if arrays[name].dtype.kind not in "fiu":
            raise ValueError(
                f"{path} holds {name} of dtype {arrays[name].dtype}, no numbers: it was not written by {writer}"
            )
    return arrays


def _bytes_of(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    # First: what is lost from the end of a zip's index is missed by it.
    whole: dict[str, Any] = {CHECKSUM: np.frombuffer(_checksum(arrays), np.uint8), **arrays}
    made = BytesIO()
    np.savez(made, **whole)
    return made.getvalue()


def _checksum(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Of the names, dtypes, shapes and elements of arrays, in any order."""
    digest = sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(array.tobytes())
    return digest.digest()
