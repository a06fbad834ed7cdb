"""Objects that hold rows of different lengths: what a layout means for them, and their rows as one array."""

from typing import Any

import numpy as np

from ..arrays.ragged import apart, is_ragged
from ..layout import Layout, Segments


def of_rows(layout: Layout, x: Any) -> Layout:
    """The layout of the rows of x, end to end, if x holds rows of different lengths; else the layout itself.

    Raises
    ------
    ValueError
        If it is one of segments with other offsets, or does not fit x.
    TypeError
        If it does not keep axis 0, or does not reduce axis 1, along which rows differ.
    """
    if type(x) is np.ndarray or not is_ragged(x):
        return layout
    _, offsets = apart(x)
    if not isinstance(layout, Segments):
        return layout.of_ragged(offsets, x.dim())
    if not np.array_equal(layout.offsets, offsets):
        raise ValueError(
            f"x holds rows of other lengths than {layout!r} has; pass Layout.segments(x.offsets(), ...), or a layout "
            "of all axes of x, such as axis=1"
        )
    return layout


def rows_of(layout: Segments, value: Any, name: str) -> Any:
    """What an argument's rows are end to end, if it holds some; else the argument itself."""
    if value is None or not is_ragged(value):
        return value
    values, offsets = apart(value, name)
    if not np.array_equal(layout.offsets, offsets):
        raise ValueError(f"{name} holds rows of other lengths than x; pass one with the offsets of x")
    return values
