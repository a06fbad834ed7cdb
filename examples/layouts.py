"""Pictures of layouts for README, docs/choosing.md and docs/groups.md, each for light pages and for dark ones.

python examples/layouts.py docs
"""

import sys
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

import numbanorm as nbn

SHAPE = (5, 6, 2, 3)
NORMS = {
    "batch norm": ("N C H W -> C", SHAPE, {}),
    "layer norm": ("N C H W -> N", SHAPE, {}),
    "instance norm": ("N C H W -> N C", SHAPE, {}),
    "group norm": ("N (G C) H W -> N G", SHAPE, {"G": 2}),
}
OTHERS = {
    "layer norm in transformers": ("batch token feature -> batch token", (4, 5, 6), {}),
    "layer norm in ConvNeXt": ("n c h w -> n h w", (4, 6, 2, 3), {}),
    "standardized table": ("row column -> column", (6, 6), {}),
    "local contrast: windows": ("n c (h p) (w q) -> n h w", (2, 3, 6, 6), {"p": 2, "q": 2}),
    "interleaved groups": ("n (c g) h w -> n g", SHAPE, {"g": 3}),
    "a layer of a U-Net": ("n (g c) h w -> n g", (2, 320, 64, 64), {"g": 32}),
}
ALL = {
    "group norm": NORMS["group norm"],
    "windows": OTHERS["local contrast: windows"],
    "interleaved groups": OTHERS["interleaved groups"],
}
USERS = [[0], [1], [0], [2], [1], [0], [2], [2]]
MASK = np.full((8, 5), -1)
MASK[2:7, 1:4] = 0
ANY = {
    "a label for each row": ("row column ->", (8, 5), {"labels": USERS}),
    "rows of different lengths": (nbn.Layout.segments([0, 2, 3, 8]), (8, 5), {}),
    "a mask": ("h w ->", MASK.shape, {"labels": MASK}),
}
PAGES = {"light": "#1f2328", "dark": "#d1d7e0"}  # the colour of their text


def draw(layouts: dict, path: Path, ink: str, columns: int, highlight: int | str = 0) -> None:
    """Draw layouts in rows, on no background: it is the page's."""
    rows = -(-len(layouts) // columns)
    with matplotlib.rc_context({"text.color": ink, "font.size": 11, "axes.labelsize": 10, "svg.hashsalt": "numbanorm"}):
        figure = Figure(figsize=(2.55 * columns, 2.95 * rows), layout="constrained")
        figure.get_layout_engine().set(wspace=0.06, hspace=0.06)
        axes = figure.subplots(rows, columns).flat
        for ax, (title, (pattern, shape, sizes)) in zip(axes, layouts.items(), strict=True):
            nbn.plot.layout(pattern, shape, highlight=highlight, ax=ax, **sizes)
            words = pattern if isinstance(pattern, str) else f"offsets {', '.join(map(str, pattern.offsets))}"
            ax.set_title(title, fontsize=11, fontweight="bold", pad=18)
            ax.annotate(
                words, (0.5, 1), (0, 6), "axes fraction", "offset points", ha="center", fontsize=8.5, color=ink,
                family="monospace", alpha=0.8,
            )  # fmt: skip
        figure.savefig(path, transparent=True, metadata={"Date": None})


def main(folder: Path) -> None:
    """Draw all pictures into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for page, ink in PAGES.items():
        draw(NORMS, folder / f"norms-{page}.svg", ink, 4)
        draw(OTHERS, folder / f"layouts-{page}.svg", ink, 3)
        draw(ANY, folder / f"any-{page}.svg", ink, 3, "all")
        draw(ALL, folder / f"groups-{page}.svg", ink, 3, "all")


if __name__ == "__main__":
    main(Path(sys.argv[1] if sys.argv[1:] else "docs"))
