"""A picture of what was measured: bars by layer, grouped by norm."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from .case import NORMS, by
from .measure import Row
from .report import OTHERS, short

COLOURS = {"NumPy": "#9ecae1", "torch": "#e6550d", "copy": "#31a354"}
ROW = 0.3  # inches


def draw(rows: Sequence[Row], title: str, path: Path) -> None:
    """Draw how many times as fast as the others numbanorm is, and its share of the speed of a copy."""
    by_norm = {name: [row for row in rows if row.case.norm == norm] for norm, name in NORMS.items()}
    by_norm = {name: found for name, found in by_norm.items() if found}
    heights = [len(found) + 1.2 for found in by_norm.values()]
    figure = Figure(figsize=(11.5, ROW * sum(heights) + 1.8), layout="constrained")
    figure.suptitle(title, fontsize=10)
    panels = figure.subplots(len(by_norm), 2, height_ratios=heights, width_ratios=(3, 2), sharex="col", squeeze=False)
    for (name, found), (left, right) in zip(by_norm.items(), panels, strict=True):
        _bars(left, found, {other: [_ratio(row, other) for row in found] for other in OTHERS}, start=1)
        left.set_yticks(range(len(found)), [f"{row.case.title}  {by(row.case.shape)}" for row in found], fontsize=8)
        left.set_title(name, loc="left", fontsize=10, fontweight="bold")
        _bars(right, found, {"copy": [row.of_copy for row in found]}, start=0)
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
    panels[0, 0].legend(loc="lower right", fontsize=8, bbox_to_anchor=(1, 1), ncols=len(OTHERS), frameon=False)
    panels[-1, 0].set_xlabel("times as fast as (output allocated)")
    panels[-1, 1].set_xlabel("share of a copy's speed\n(into a given output)")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def _bars(ax: Any, rows: Sequence[Row], series: dict[str, list[float]], start: float) -> None:
    """Draw one horizontal bar for each row and series, from `start` to its value, with its number."""
    thick = 0.8 / len(series)
    for number, (name, values) in enumerate(series.items()):
        places = np.arange(len(rows)) + thick * (number - (len(series) - 1) / 2)
        bars = ax.barh(places, np.array(values) - start, thick, left=start, color=COLOURS[name], label=name)
        ax.bar_label(bars, [short(value) for value in values], fontsize=6, padding=2)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(axis="x", labelsize=8)


def _ratio(row: Row, name: str) -> float:
    return row.ratios[name].median if name in row.ratios else float("nan")


def draw_share(found: Mapping[str, Mapping[int, float]], title: str, cache: int, path: Path) -> None:
    """Draw the share of a copy's speed against the bytes of x, a line for each norm."""
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    ax = figure.subplots()
    ax.set_title(title, fontsize=9)
    for number, (name, shares) in enumerate(found.items()):
        dashed = "--" if "channels last" in name else "-"
        ax.plot(list(shares), list(shares.values()), dashed, marker="o", markersize=4, color=f"C{number}", label=name)
    ax.axhline(1, color="black", linewidth=0.8)
    ax.axvline(cache, color="grey", linewidth=0.8, linestyle=":")
    ax.text(cache, 0.02, " last cache", color="grey", fontsize=8)
    ax.set_xscale("log", base=2)
    sizes = sorted({size for shares in found.values() for size in shares})
    ax.set_xticks(sizes, [_size(size) for size in sizes])
    ax.set(ylim=(0, max(1.1, *(1.05 * max(shares.values()) for shares in found.values()))), xlabel="size of x")
    ax.set_ylabel("share of the speed of the fastest copy")
    ax.grid(axis="y", alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def _size(size: float) -> str:
    for name in ("B", "KB", "MB", "GB"):
        if size < 1024 or name == "GB":
            break
        size /= 1024
    return f"{size:g} {name}"
