"""A picture of what was measured: bars by layer, grouped by norm."""

from collections.abc import Mapping, Sequence
from itertools import cycle, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from .case import NORMS, by
from .measure import Row
from .report import others, short

COLOURS = {
    "NumPy": "#9ecae1",
    "torch": "#e6550d",
    "torch.compile": "#fdae6b",
    "JAX": "#756bb1",
    "onnxruntime": "#636363",
    "numbagg": "#d6616b",
    "scikit-learn": "#e7ba52",
    "CuPy": "#9c9ede",
    "copy": "#31a354",
}
MORE = ("#17becf", "#8c6d31", "#ce6dbd", "#393b79")  # colours of other contenders, in turn
BAR = 0.12  # inches


def draw(rows: Sequence[Row], title: str, path: Path) -> None:
    """Draw how many times as fast as the others numbanorm is, and its share of the speed of a copy."""
    by_norm = {name: [row for row in rows if row.case.norm == norm] for norm, name in NORMS.items()}
    by_norm = {name: found for name, found in by_norm.items() if found}
    colours = colours_of(others(rows))
    heights = [len(found) * max(0.3, BAR * len(others(found)) + 0.06) + 0.36 for found in by_norm.values()]
    figure = Figure(figsize=(11.5, sum(heights) + 1.8), layout="constrained")
    panels = figure.subplots(len(by_norm), 2, height_ratios=heights, width_ratios=(3, 2), sharex="col", squeeze=False)
    for (name, found), (left, right) in zip(by_norm.items(), panels, strict=True):
        ratios = {other: [_ratio(row, other) for row in found] for other in others(found)}
        _bars(left, found, ratios, start=1, colours=colours)
        left.set_yticks(range(len(found)), [f"{row.case.title}  {by(row.case.shape)}" for row in found], fontsize=8)
        left.set_title(name, loc="left", fontsize=10, fontweight="bold")
        _bars(right, found, {"copy": [row.of_copy for row in found]}, start=0, colours=COLOURS)
        right.set_yticks([])
    for ax in panels[:, 0]:
        ax.set_xscale("log")
        ax.axvline(1, color="black", linewidth=0.8)
        ax.xaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.margins(x=0.08)  # for the numbers beside the bars
    for ax in panels[:, 1]:
        ax.set_xlim(0, 1.2)
        ax.axvline(1, color="black", linewidth=0.8)
    keys = [Patch(color=colour, label=other) for other, colour in colours.items()]
    top = {"loc": "outside upper center", "title": title, "title_fontsize": 10, "fontsize": 8}
    figure.legend(handles=keys, ncols=len(keys) or 1, frameon=False, **top)
    panels[-1, 0].set_xlabel("times as fast as (output allocated)")
    reading = "; of reading\nx once, for mean and variance" if any(row.reads_only for row in rows) else ""
    panels[-1, 1].set_xlabel(f"share of a copy's speed\n(into a given output){reading}")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def colours_of(contenders: Sequence[str]) -> dict[str, str]:
    """Return a colour for each."""
    more = cycle(MORE)
    return {name: COLOURS.get(name) or next(more) for name in contenders}


def _bars(
    ax: Any, rows: Sequence[Row], series: dict[str, list[float]], start: float, colours: Mapping[str, str]
) -> None:
    """Draw one horizontal bar for each row and series, from `start` to its value, with its number."""
    thick = 0.8 / max(1, len(series))
    for number, (name, values) in enumerate(series.items()):
        places = np.arange(len(rows)) + thick * (number - (len(series) - 1) / 2)
        bars = ax.barh(places, np.array(values) - start, thick, left=start, color=colours[name])
        ax.bar_label(bars, [short(value) for value in values], fontsize=6, padding=2)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(axis="x", labelsize=8)


def _ratio(row: Row, name: str) -> float:
    return row.ratios[name].median if name in row.ratios else float("nan")


def draw_shares(
    found: Mapping[tuple[str, int], Mapping[str, Mapping[int, float]]], unit: int, title: str, cache: int, path: Path
) -> None:
    """Draw the share of a copy's speed against the size, a panel for each norm, a colour for each number of threads.

    What is measured is given as {(norm, threads): {version: {units: share}}}; a version before is dashed.
    """
    norms, numbers = (list(dict.fromkeys(part)) for part in zip(*found, strict=True))
    sizes = sorted({n * unit for versions in found.values() for shares in versions.values() for n in shares})
    across = min(4, len(norms))
    down = -(-len(norms) // across)
    figure = Figure(figsize=(3.1 * across + 0.4, 2 * down + 1), layout="constrained")
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).flat
    lines = {}
    for panel, norm in zip_longest(panels, norms):
        if norm is None:
            panel.set_axis_off()
            continue
        panel.set_title(norm, fontsize=8)
        panel.axhline(1, color="black", linewidth=0.8)
        panel.axvline(cache, color="grey", linewidth=0.8, linestyle=":")
        for colour, number in enumerate(numbers):
            for at, (version, shares) in enumerate(reversed(found[norm, number].items())):
                label = f"{number} thread{'s' * (number > 1)}{f', {version}' * (at > 0)}"
                places, style = [n * unit for n in shares], ("-", "--")[at]
                (lines[label],) = panel.plot(places, list(shares.values()), style, marker=".", color=f"C{colour}")
        panel.set_xscale("log", base=2)
        panel.set_xticks(sizes, [_size(size) for size in sizes], rotation=90, fontsize=7)
        panel.grid(axis="y", alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    panel.set_ylim(0, max(1.1, *(1.05 * max(by.values()) for versions in found.values() for by in versions.values())))
    figure.supylabel("share of the speed of the fastest copy", fontsize=9)
    figure.supxlabel("size of the output; dotted: the last cache", fontsize=9)
    top = {"loc": "outside upper center", "title": title, "title_fontsize": 9, "fontsize": 8}
    figure.legend(lines.values(), lines.keys(), ncols=len(lines), frameon=False, **top)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def _size(size: float) -> str:
    for name in ("B", "KB", "MB", "GB"):
        if size < 1024 or name == "GB":
            break
        size /= 1024
    return f"{size:g} {name}"
