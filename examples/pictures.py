"""Photographs that scikit-learn and scikit-image ship, and a picture of them before and after normalization.

As a program it draws the README's picture, of photographs that are in the public domain:

    python examples/pictures.py docs/photographs.png
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_sample_images

import numbanorm as nbn

SIDE = 384  # pixels
RANGE = 2.0  # standard deviations shown from black to white


def photographs() -> np.ndarray:
    """Return photographs as (n, SIDE, SIDE, 3) float32 in 0 to 1: scikit-learn's, and scikit-image's if installed."""
    images = list(load_sample_images().images)
    try:
        from skimage import data

        images += [data.astronaut(), data.coffee()]
    except ImportError:
        pass
    square = []
    for image in images:
        top, left = ((length - SIDE) // 2 for length in image.shape[:2])
        square.append(image[top : top + SIDE, left : left + SIDE])
    return np.stack(square).astype(np.float32) / 255


def draw(columns: Mapping[str, np.ndarray], path: Path) -> None:
    """Draw the photographs, a column each way; below, mean and standard deviation of their red, green and blue.

    The first column holds values in 0 to 1, the others standard deviations from a mean.
    """
    count = len(next(iter(columns.values())))
    figure = Figure(figsize=(3 * len(columns), 3 * count + 2.3), layout="constrained")
    axes = figure.subplots(count + 1, len(columns), height_ratios=[3] * count + [2])
    for column, (title, images) in enumerate(columns.items()):
        low, high = (0, 1) if column == 0 else (-RANGE, RANGE)
        axes[0, column].set_title(title, fontsize=13)
        for ax, image in zip(axes[:-1, column], images, strict=True):
            ax.imshow(np.clip((image - low) / (high - low), 0, 1))
            ax.axis("off")
        colours = nbn.moments(images, "n h w c -> c n")
        ax = axes[-1, column]
        for channel, colour in enumerate(("tab:red", "tab:green", "tab:blue")):
            rows = np.arange(count) + 0.22 * (channel - 1)
            ax.errorbar(colours.mean[channel], rows, xerr=colours.std()[channel], fmt="o", color=colour, markersize=4)
        ax.set(xlim=(low, high), ylim=(count - 0.5, -0.5), yticks=[], xlabel="mean ± std of each channel")
        ax.axvline((low + high) / 2, color="lightgrey", linewidth=1, zorder=0)
        ax.spines[["left", "top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)


def draw_wide(columns: Mapping[str, np.ndarray], path: Path) -> None:
    """Draw one photograph in a row, each way, for the head of a page."""
    figure = Figure(figsize=(3 * len(columns), 3.8), layout="constrained")
    for column, (ax, (title, image)) in enumerate(zip(figure.subplots(1, len(columns)), columns.items(), strict=True)):
        low, high = (0, 1) if column == 0 else (-RANGE, RANGE)
        ax.set_title(title, fontsize=13)
        ax.imshow(np.clip((image - low) / (high - low), 0, 1))
        ax.axis("off")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=70)


def main() -> None:
    """Draw scikit-image's astronaut."""
    photos = photographs()[2:3]
    if not len(photos):
        sys.exit("It needs scikit-image: pip install -e '.[examples]'")
    ways = {"per image": "n h w c -> n", "per channel": "n h w c -> n c", "per patch": "n (h p) (w q) c -> n h w"}
    sizes = {"per patch": {"p": 48, "q": 48}}
    after = {f"{name}\n{way}": nbn.normalize(photos, way, **sizes.get(name, {}))[0] for name, way in ways.items()}
    draw_wide({"\nbefore": photos[0], **after}, Path(sys.argv[1] if sys.argv[1:] else "docs/photographs.png"))


if __name__ == "__main__":
    main()
