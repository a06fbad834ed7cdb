"""Real data as cases: tables by column, and photographs by image, channel and patch."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from sklearn import datasets

import numbanorm as nbn

sys.path.insert(0, str(Path(__file__).parents[1] / "asv_benchmarks"))
from harness.case import Arrays, Call, Case, Shape
from harness.contenders import CONTENDERS, numpy_call
from harness.libraries.with_torch import tensor, torch


@dataclass(frozen=True)
class Real(Case):
    """An array under any pattern, without weight and bias."""

    pattern: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict)
    values: np.ndarray | None = None
    split: Shape = ()  # a shape in which a group is made of whole axes ...
    reduced: Shape = ()  # ... and these are the axes

    @property
    def title(self) -> str:
        """Name of the data."""
        return self.name

    @property
    def view(self) -> Shape:
        """As in Case."""
        return self.split or self.shape

    @property
    def axes(self) -> Shape:
        """As in Case."""
        return self.reduced

    @property
    def affine(self) -> Shape:
        """Neither weight nor bias."""
        return ()

    def data(self, rng: np.random.Generator) -> np.ndarray:
        """Return the data."""
        return self.values


def tables() -> list[Real]:
    """Return scikit-learn's tables, standardized by column; eps=0, as some columns vary by less than 1e-2."""
    loaders = {
        "wine": datasets.load_wine,
        "breast cancer": datasets.load_breast_cancer,
        "diabetes": datasets.load_diabetes,
        "digits": datasets.load_digits,
    }
    found = {name: load().data for name, load in loaders.items()}
    return [case(f"{name}, by column", x, "row col -> col", (0,), eps=0.0) for name, x in found.items()]


def photo_norms(photos: np.ndarray, p: int = 48) -> list[Real]:
    """Return photographs (n, h, w, c) normalized per image, per channel and per patch of p by p pixels."""
    n, h, w, c = photos.shape
    patches = {"sizes": {"p": p, "q": p}, "split": (n, h // p, p, w // p, p, c)}
    return [
        case("photographs, per image", photos, "n h w c -> n", (1, 2, 3)),
        case("photographs, per channel", photos, "n h w c -> n c", (1, 2)),
        case("photographs, per patch", photos, "n (h p) (w q) c -> n h w", (2, 4, 5), **patches),
    ]


def case(name: str, values: np.ndarray, pattern: str, reduced: Shape, **more: object) -> Real:
    """Make a case of an array."""
    rest = {"pattern": pattern, "values": values, "reduced": reduced, **more}
    return Real(name, "normalize", values.shape, dtype=values.dtype.name, **rest)


def own(case: Real, a: Arrays, out: np.ndarray | None) -> Call:
    """By its pattern."""
    return partial(nbn.normalize, a.x, case.pattern, eps=case.eps, out=out, **case.sizes)


def written_out(case: Real, a: Arrays, out: np.ndarray | None) -> Call | None:
    """With torch, which has no function for it."""

    def call() -> object:
        view = x.view(case.view)
        var, mean = torch.var_mean(view, case.axes, correction=0, keepdim=True)
        return ((view - mean) * torch.rsqrt(var + case.eps)).view(case.shape)

    x = tensor(a.x)
    return None if out is not None else call


CONTENDERS["normalize"] = {"numbanorm": own, "NumPy": numpy_call, "torch": written_out}
