"""Arrays that lie in files: whether the file is whole, where its library would not tell."""

import os
from typing import Any


def refuse_cut_off(array: Any) -> None:
    """Refuse a dataset of h5py whose file has become shorter since it was opened: HDF5 reads zeros behind its end.

    Raises
    ------
    EOFError
        Which says how much is left.
    """
    file = getattr(array, "file", None)
    if getattr(file, "mode", None) != "r":  # what is being written may not be on disk yet
        return
    try:
        whole, left = file.id.get_filesize(), os.stat(file.filename).st_size  # type: ignore[union-attr]
    except (AttributeError, OSError, TypeError, ValueError):  # what only looks alike, or lies in no file of that name
        return
    if left < whole:
        name = file.filename  # type: ignore[union-attr]
        raise EOFError(f"{name} is cut off: {left} of {whole} bytes are left, and HDF5 reads zeros for the others")
