"""Rows of different lengths in one object, as torch's jagged tensors have them: taken apart, and put together again."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .torch import is_jagged, jagged_like, parts_of_jagged


def is_ragged(x: Any) -> bool:
    """Whether x holds rows of different lengths, end to end in one array."""
    return is_jagged(x)


def apart(x: Any, name: str = "x") -> tuple[Any, NDArray[np.int64]]:
    """The rows of such an object end to end, as an array of its library, and their offsets along axis 0 of it.

    Raises
    ------
    TypeError
        If there are gaps between rows, or they differ in length along another axis than 1; if they lie on a GPU.
    """
    return parts_of_jagged(x, name)


def together(values: Any, x: Any) -> Any:
    """An object like x of other values."""
    return jagged_like(values, x)
