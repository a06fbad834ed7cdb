"""Large results on the host: they begin where a huge page begins, so that fewer pages have to be made for them.

Memory that the system gives anew comes page by page, each at its first write. NumPy asks for huge pages from 4 MB on,
but memory begins anywhere, and what lies before the first whole huge page comes in small ones: some 500 of them, half
a millisecond. So a little more is asked for, and the result begins at that boundary. Nothing is kept for later.
"""

import os
from functools import cache, partial
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .memory import Shape

LEAST = 4 << 20  # bytes from which on NumPy asks for huge pages
MOST_SPARE = 2 << 20  # bytes of a huge page: of larger ones, as some ARM systems have, too much would be asked for
# The GNU C library maps so many bytes anew for every array, and gives them back when it is freed. Of less it keeps what
# was freed: an array that is below it, but not together with a huge page, would be mapped anew for nothing.
MAPPED = 32 << 20
SYSTEM = "/sys/kernel/mm/transparent_hugepage"


class Maker(Protocol):
    """Makes arrays of one form: np.empty and np.empty_like are such."""

    def __call__(self, shape: Any, dtype: Any, /) -> NDArray[Any]:
        """A new array."""


def maker(shape: Shape, dtype: np.dtype, strides: Shape) -> Maker | None:
    """What makes arrays of a form without gaps at the boundary of a huge page; None if nothing is gained by that."""
    nbytes, page = prod(shape) * dtype.itemsize, page_bytes()
    if not page or nbytes < LEAST or nbytes < MAPPED <= nbytes + page:
        return None
    return partial(_at_page, strides, nbytes, page)


def _at_page(strides: Shape, nbytes: int, page: int, shape: Shape, dtype: np.dtype) -> NDArray[Any]:
    memory = np.empty(nbytes + page, np.uint8)
    return np.ndarray(shape, dtype, memory, -memory.__array_interface__["data"][0] % page, strides)


@cache
def page_bytes() -> int:
    """Bytes of a huge page, if NumPy gets such pages here; else 0. Only Linux has them for the asking."""
    try:
        chosen, page = _read("enabled"), int(_read("hpage_pmd_size"))
    except (OSError, ValueError):
        return 0
    asked = "[madvise]" in chosen and os.environ.get("NUMPY_MADVISE_HUGEPAGE") != "0"
    return page if (asked or "[always]" in chosen) and 0 < page <= MOST_SPARE else 0


def _read(name: str) -> str:
    with open(os.path.join(SYSTEM, name), encoding="ascii") as file:  # pathlib takes 10 ms to import
        return file.read()
