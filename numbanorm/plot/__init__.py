"""Pictures of layouts: the blue cubes of the group normalization paper, for any layout. Needs the extra `plot`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from io import StringIO
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..arrays.annotations import ArrayLike
from ..call.arguments import as_layout
from ..call.labels import along_axes, as_labels
from ..layout import Layout, as_int, as_shape, shown
from .cells import example, in_part
from .drawing import PALETTE, Points, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["layout"]

NAMED = "which group to highlight: its number, its index in the group shape, or 'all'"


def layout(
    layout: str | Layout,
    shape: Any,
    *,
    labels: ArrayLike | None = None,
    highlight: int | Sequence[int] | Literal["all"] = 0,
    color: Any = None,
    ax: Axes | None = None,
    **sizes: int,
) -> Axes:
    """Draw which elements share statistics: a block of elements with one group in blue.

    Parameters
    ----------
    layout : str or Layout
        As `normalize` takes it.
    shape : sequence of int, or array
        Shape of the array, or the array itself, of which only the shape is looked at.
    labels : array_like of int, optional
        Labels by which groups are split, as `normalize` takes them. The group shape begins with an axis of labels, and
        what has a negative label stays without a colour.
    highlight : int, sequence of int, or "all"
        Which group is coloured: its number in the flattened group shape, or its index there, negative from the end.
        "all" colours all groups, neighbours differently.
    color : color or sequence of colors, optional
        Of the highlighted group; for "all" those that groups take in turn. Default: blue, and colours that the
        colour-blind tell apart. Lines and text take matplotlib's ``text.color``.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure of pyplot.
    **sizes : int
        Sizes of names of the pattern.

    Returns
    -------
    matplotlib.axes.Axes
        Without frame and ticks, and of equal aspect.

    Raises
    ------
    ImportError
        Without matplotlib, which the extra ``numbanorm[plot]`` installs.
    ValueError
        If the layout does not fit the shape, labels do not fit what it reduces, the shape has no elements, there is no
        such group or color, or `ax` is of another projection than the usual one.
    TypeError
        If an argument is of another type.

    Notes
    -----
    One or two axes are drawn as a grid, three as a block whose first element is the upper corner in front. Of more
    axes neighbours share a side: those that leave the groups in one piece, such as height and width; names are
    separated by commas.

    More than 12 elements along a side are drawn in part: the first few of every factor and its last. A dotted line
    stands for what is left out, and the label has the true sizes.

    The blocks are those of figure 2 in Y. Wu and K. He, "Group Normalization", ECCV 2018.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numbanorm as nbn
    >>> figure, (left, right) = plt.subplots(1, 2)
    >>> ax = nbn.plot.layout("N (G C) H W -> N G", (4, 6, 3, 3), G=2, ax=left)
    >>> ax = nbn.plot.layout("n c (h p) (w q) -> n h w", (8, 3, 224, 224), p=16, q=16, highlight="all", ax=right)
    >>> plt.close(figure)
    """
    _require_matplotlib()
    from matplotlib import rcParams

    found = as_layout(layout, None, sizes, globals()["layout"])
    shape = _as_shape(shape)
    group_shape = found.group_shape(shape)
    if 0 in shape:
        raise ValueError(f"shape {shape} has no elements to draw; give one without 0")
    along = None if labels is None else along_axes(as_labels(labels), found, shape)
    if along is not None:
        group_shape = (max(0, int(along.max()) + 1), *group_shape)
    group = _as_group(highlight, group_shape)
    colors = _as_colors(color, group is None)
    ids, drawn = in_part(found, shape, group, along)
    _check_axes(ax)
    if ax is None:
        import matplotlib.pyplot as plt

        ax = plt.subplots(layout="constrained")[1]
    draw(ax, ids, drawn, group, colors, rcParams["text.color"])
    return ax


def as_html(layout: Layout) -> str | None:
    """Picture of a layout for a notebook, on an example of a shape; None without matplotlib, or if no shape is found.

    Lines and text have the colour of the page's text.
    """
    shape = example(layout)
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        return None
    if shape is None:
        return None
    ids, sides = in_part(layout, shape, 0)
    sides = [side._replace(label=side.label.partition(" = ")[0]) for side in sides]  # the sizes are invented
    stand_in = "#010203"  # SVG knows currentColor, matplotlib does not
    with rc_context({"svg.fonttype": "none", "font.family": "sans-serif", "axes.labelsize": 10}):
        figure = Figure(figsize=(2.2, 2.2))
        draw(figure.add_axes((0, 0, 1, 1)), ids, sides, 0, _as_colors(None, False), stand_in)
        page = StringIO()
        figure.savefig(page, format="svg", bbox_inches="tight", transparent=True, metadata={"Date": None})
    svg = page.getvalue().replace(stand_in, "currentColor")
    return f"<code>{escape(repr(layout))}</code><br>\n{svg[svg.index('<svg') :]}"


# what is asked for ------------------------------------------------------------------------------------------------


def _require_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError("numbanorm.plot needs matplotlib; install numbanorm[plot]") from error


def _as_shape(shape: Any) -> tuple[int, ...]:
    return as_shape(tuple(shape.shape) if hasattr(shape, "shape") else shape)


def _as_group(highlight: Any, group_shape: tuple[int, ...]) -> int | None:
    """Number of the group to highlight; None for all."""
    if isinstance(highlight, str):
        if highlight == "all":
            return None
        raise ValueError(f"highlight={highlight!r} is no group; it says {NAMED}")
    if isinstance(highlight, Iterable):
        found = tuple(as_int(i, "an index in highlight") for i in highlight)
        within = group_shape
    else:
        try:
            found, within = (as_int(highlight, "highlight"),), (prod(group_shape),)
        except TypeError as error:
            raise TypeError(f"{error}; it says {NAMED}") from None
    if len(found) != len(within) or not all(-n <= i < n for i, n in zip(found, within, strict=False)):
        raise ValueError(
            f"highlight={highlight!r} is no group: there are {prod(group_shape)}, of group shape {group_shape}; "
            f"it says {NAMED}"
        )
    number = 0
    for i, n in zip(found, within, strict=True):
        number = number * n + i % n
    return number


def _as_colors(color: Any, several: bool) -> Points:
    """Rows of red, green and blue."""
    from matplotlib.colors import to_rgba_array

    try:
        rows = np.asarray(to_rgba_array((PALETTE if several else PALETTE[0]) if color is None else color))[:, :3]
        if not len(rows):
            raise ValueError
    except (ValueError, TypeError):
        raise ValueError(
            f"color={color!r} is no color; give what matplotlib takes for one, such as 'C0', 'tab:blue' or '#4477aa', "
            "or a list of these"
        ) from None
    return rows


def _check_axes(ax: Any) -> None:
    from matplotlib.axes import Axes

    if ax is None:
        return
    if not isinstance(ax, Axes):
        raise TypeError(f"ax must be one of matplotlib's Axes, got {shown(ax)}; plt.subplots() gives a figure and one")
    if ax.name != "rectilinear":
        raise ValueError(f"ax has the projection {ax.name!r}, but the picture is flat; make ax without projection=")
