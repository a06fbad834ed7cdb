"""Cells by their groups, as matplotlib's patches. Nothing here knows of layouts: any array of groups will do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .cells import Side

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Bools = NDArray[np.bool_]
Points = NDArray[np.float64]

# Told apart by the colour-blind, and on light and dark pages: Paul Tol's "bright" scheme without its grey.
PALETTE = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")
SHADES = {"top": 1.14, "left": 0.84, "right": 1.0, "flat": 1.0}  # how light a face is
VEIL = {"top": 0.02, "left": 0.11, "right": 0.06, "flat": 0.04}  # the text's colour, on what is not highlighted
LINES: dict[str, dict[str, Any]] = {
    "grid": {"linewidth": 0.6, "alpha": 0.35},
    "within": {"linewidth": 0.6, "alpha": 0.5, "edgecolor": "white"},
    "border": {"linewidth": 1.1},
    "skip": {"linewidth": 0.9, "linestyle": (0, (1, 2)), "alpha": 0.8},
}
RIGHT, UP = 0.866, 0.5  # of a step along a side that goes to the back


class Label(NamedTuple):
    """What is written beside an edge, in which direction from it, and how it is turned, in degrees."""

    text: str
    point: Points
    away: tuple[float, float]
    rotation: float


class Face(NamedTuple):
    """A plane of cells: `numbers` has the group of each cell; along `down` and `across` cells begin and end."""

    name: str
    numbers: NDArray[np.int64]
    down: Points
    across: Points
    skips: tuple[Bools, Bools]

    def corner(self, i: Any, j: Any) -> Points:
        """Point where edge `i` down and edge `j` across meet."""
        return self.down[i] + self.across[j]

    @property
    def outline(self) -> Points:
        """Corners of the whole face, as one polygon."""
        return self.corner([0, 0, -1, -1], [0, -1, -1, 0])[None]

    def quads(self, chosen: Bools) -> Points:
        """Corners of the chosen cells, cell by cell in C order."""
        i, j = np.nonzero(chosen)
        corners = [self.corner(i + a, j + b) for a, b in ((0, 0), (0, 1), (1, 1), (1, 0))]
        return np.stack(corners, axis=1)


def draw(ax: Axes, ids: NDArray[np.int64], sides: list[Side], group: int | None, colors: Points, ink: str) -> None:
    """Draw cells by their groups.

    Parameters
    ----------
    ax : Axes
    ids : ndarray of int
        Group of every cell, with an axis for each of up to three sides; -1 for none.
    sides : list of Side
    group : int, optional
        Which group has a colour; None for all.
    colors : ndarray of shape (colors, 3)
    ink : color
        Of lines and text.
    """
    groups, numbers = np.unique(ids, return_inverse=True)
    numbers = numbers.reshape(ids.shape)
    if group is None:
        paint = _neighbours_differ(numbers, len(colors), np.flatnonzero(groups >= 0))
    else:
        paint = np.where(groups == group, 0, -1)
    block = len(sides) == 3
    faces, labels = _block(numbers, sides) if block else _grid(numbers, sides)
    if block and group is not None and groups[numbers[0, 0, 0]] != group:  # it may lie inside
        _draw_inside(ax, paint[numbers] == 0, sides, colors[0])
    for face in faces:
        _draw_cells(ax, face, paint, colors, ink)
        _draw_lines(ax, face, paint, ink)
    for label in labels:
        if label.text:
            _draw_label(ax, label, ink)
    corners = np.concatenate([face.corner([0, 0, -1, -1], [0, -1, 0, -1]) for face in faces])
    low, high = corners.min(axis=0), corners.max(axis=0)
    pad = 0.02 * (high - low).max()
    ax.set(xlim=(low[0] - pad, high[0] + pad), ylim=(low[1] - pad, high[1] + pad), aspect="equal")
    ax.set_axis_off()


def _neighbours_differ(numbers: NDArray[np.int64], colors: int, coloured: NDArray[np.int64]) -> NDArray[np.int64]:
    """A color for each group that gets one: of those that no neighbour has the one least used, of equals the first."""
    groups = int(numbers.max()) + 1
    beside: list[set[int]] = [set() for _ in range(groups)]
    for axis in range(numbers.ndim):
        before, after = (np.delete(numbers, end, axis).ravel() for end in (-1, 0))
        for one, other in {*zip(before.tolist(), after.tolist(), strict=True)}:
            beside[one].add(other)
            beside[other].add(one)
    paint, used = np.full(groups, -1), [0] * colors
    for number in coloured:
        taken = {paint[other] for other in beside[number]}
        paint[number] = min(range(colors), key=lambda color: (color in taken, used[color]))
        used[paint[number]] += 1
    return paint


def _edges(side: Side, length: float, along: Sequence[float]) -> Points:
    """Points where the cells of a side begin and end."""
    return np.linspace(0, length, len(side.places) + 1)[:, None] * np.asarray(along)


def _grid(numbers: NDArray[np.int64], sides: list[Side]) -> tuple[list[Face], list[Label]]:
    """One axis from left to right, or two as rows and columns."""
    lone = Side(np.zeros(1, np.int64), "")
    down, across = [lone] * (2 - len(sides)) + sides
    numbers = numbers.reshape(len(down.places), len(across.places))
    unit = 1 / max(numbers.shape)
    rows = _edges(down, unit * numbers.shape[0], (0, -1))
    columns = _edges(across, unit * numbers.shape[1], (1, 0))
    labels = [
        Label(down.label, rows[-1] / 2, (-1, 0), 90),
        Label(across.label, rows[-1] + columns[-1] / 2, (0, -1), 0),
    ]
    return [Face("flat", numbers, rows, columns, (down.skips, across.skips))], labels


class Solid(NamedTuple):
    """How a block stands: which of its sides goes to the left, down and to the right, and where its cells end."""

    order: tuple[int, ...]
    left: Points
    down: Points
    right: Points


def _solid(sides: list[Side]) -> Solid:
    """Turn a block so that the last axes are seen as they are read; or stand as in the paper if one side has several.

    There, the merged axes stand upright, channels go to the left, and images to the right.
    """
    order = (0, 1, 2)
    if "," in sides[2].label:
        order = (1, 2, 0)
    elif "," in sides[1].label:
        order = (2, 1, 0)
    counts = [len(sides[i].places) for i in order]
    lengths = [max(0.3, (count / max(counts)) ** 0.6) for count in counts]
    ways = ((-RIGHT, UP), (0, -1), (RIGHT, UP))
    return Solid(order, *(_edges(sides[i], n, way) for i, n, way in zip(order, lengths, ways, strict=True)))


def _block(numbers: NDArray[np.int64], sides: list[Side]) -> tuple[list[Face], list[Label]]:
    """Three sides that are seen of a block; the first element is at the corner where they meet."""
    order, left, down, right = _solid(sides)
    numbers = numbers.transpose(order)
    of_left, of_down, of_right = (sides[i] for i in order)
    faces = [
        Face("top", numbers[:, 0, :], left, right, (of_left.skips, of_right.skips)),
        Face("left", numbers[:, :, 0].T, down, left, (of_down.skips, of_left.skips)),
        Face("right", numbers[0], down, right, (of_down.skips, of_right.skips)),
    ]
    slope = float(np.degrees(np.arctan2(UP, RIGHT)))
    labels = [
        Label(of_left.label, down[-1] + left[-1] / 2, (-UP, -RIGHT), -slope),
        Label(of_down.label, left[-1] + down[-1] / 2, (-1, 0), 90),
        Label(of_right.label, down[-1] + right[-1] / 2, (UP, -RIGHT), slope),
    ]
    return faces, labels


def _draw_cells(ax: Axes, face: Face, paint: NDArray[np.int64], colors: Points, ink: str) -> None:
    own = paint[face.numbers]
    ax.add_patch(_patch(face.outline, True, facecolor=ink, alpha=VEIL[face.name], gid=f"{face.name} others"))
    for color in np.unique(own[own >= 0]):
        shade = np.clip(colors[color] * SHADES[face.name], 0, 1)
        ax.add_patch(_patch(face.quads(own == color), True, facecolor=shade, gid=f"{face.name} color {color}"))


def _draw_lines(ax: Axes, face: Face, paint: NDArray[np.int64], ink: str) -> None:
    """Draw lines between cells by what they part, and the outline."""
    lines: dict[str, list[Points]] = {name: [] for name in LINES}
    for axis in (0, 1):
        count = face.numbers.shape[axis]
        before, after = face.numbers.take(range(count - 1), axis), face.numbers.take(range(1, count), axis)
        painted = (paint[before] >= 0) | (paint[after] >= 0)
        kinds = np.where(painted, np.where(before == after, "within", "border"), "grid")
        kinds[face.skips[axis] if axis == 0 else np.broadcast_to(face.skips[axis], kinds.shape)] = "skip"
        for name, found in lines.items():
            i, j = np.nonzero(kinds == name)
            start = (i + 1, j) if axis == 0 else (i, j + 1)
            found.append(np.stack([face.corner(*start), face.corner(i + 1, j + 1)], axis=1))
    for name, found in lines.items():
        segments = np.concatenate(found)
        if len(segments):
            ax.add_patch(_patch(segments, False, **{"edgecolor": ink, **LINES[name]}))
    ax.add_patch(_patch(face.outline, True, facecolor="none", edgecolor=ink, linewidth=1.1, joinstyle="round"))


def _draw_inside(ax: Axes, chosen: Bools, sides: list[Side], color: Points) -> None:
    """Draw a group that lies inside the block, paler, as if seen through the others: cells in the back first."""
    order, left, down, right = _solid(sides)
    chosen = np.pad(chosen.transpose(order), 1)
    pale = 0.7 * color + 0.3 * 0.65
    for i, j, k in sorted(np.argwhere(chosen) - 1, key=lambda cell: -sum(cell)):
        here = left[i] + down[j] + right[k]
        steps = {"left": left[i + 1] - left[i], "down": down[j + 1] - down[j], "right": right[k + 1] - right[k]}
        for name, hidden, one, other in (
            ("top", chosen[i + 1, j, k + 1], "left", "right"),
            ("left", chosen[i + 1, j + 1, k], "down", "left"),
            ("right", chosen[i, j + 1, k + 1], "down", "right"),
        ):
            if not hidden:
                quad = [here, here + steps[one], here + steps[one] + steps[other], here + steps[other]]
                shade = np.clip(pale * SHADES[name], 0, 1)
                style = {"facecolor": shade, "edgecolor": shade * 0.9, "linewidth": 0.4, "gid": f"inside {name}"}
                ax.add_patch(_patch(np.asarray([quad]), True, **style))


def _draw_label(ax: Axes, label: Label, ink: str) -> None:
    """Write beside an edge, as far from it as the text is high."""
    from matplotlib import rcParams
    from matplotlib.font_manager import FontProperties

    size = FontProperties(size=rcParams["axes.labelsize"]).get_size_in_points()
    x, y = label.point
    offset = (0.95 * size * label.away[0], 0.95 * size * label.away[1])
    rotation = label.rotation if len(label.text) > 2 else 0
    place: dict[str, Any] = {"ha": "center", "va": "center", "rotation": rotation, "rotation_mode": "anchor"}
    ax.annotate(label.text, (x, y), offset, textcoords="offset points", color=ink, fontsize=size, **place)


def _patch(pieces: Points, closed: bool, **style: Any) -> Any:
    """Polygons or lines, in one path: short in a file, and drawn at once."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    codes = [Path.MOVETO, *[Path.LINETO] * (pieces.shape[1] - 1), *[Path.CLOSEPOLY] * closed]
    if closed:
        pieces = np.concatenate([pieces, pieces[:, :1]], axis=1)
    style = {"linewidth": 0, "capstyle": "butt", **style} if closed else {"facecolor": "none", **style}
    return PathPatch(Path(pieces.reshape(-1, 2), codes * len(pieces)), **style)
