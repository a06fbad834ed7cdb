"""Groups that are no axes as cases of the gate and of asv: labels, segments, masks, weights and holes.

groups.py and segments.py hold them beside other libraries.
"""

from dataclasses import dataclass, replace
from functools import partial
from math import prod
from types import ModuleType

import numpy as np

from .case import Arrays, Call, Shape, by, dtype_of
from .plain import LIMIT, Truth, epsilon

EPS = 1e-5


@dataclass(frozen=True)
class Grouped:
    """A table of rows, in groups of some kind."""

    name: str
    kind: str  # of CALLS
    shape: Shape
    number: int = 0  # of labels or segments
    dtype: str = "float32"

    norm = "groups"
    eps = EPS
    last = backward = False

    @property
    def title(self) -> str:
        """Name what is grouped."""
        return self.name

    @property
    def label(self) -> str:
        """Name the case unlike any other."""
        return f"{self.title}, {by(self.shape)}"

    def tiny(self) -> "Grouped":
        """Return the same case with few rows, to see that it runs."""
        return replace(self, shape=(12, *self.shape[1:]), number=min(self.number, 4))

    def arrays(self) -> Arrays:
        """Return x with mean 1 and standard deviation 2, and what groups it or chooses from it."""
        rng, rows = np.random.default_rng(prod(self.shape)), self.shape[0]
        x = (rng.standard_normal(self.shape, np.float32) * 2 + 1).astype(dtype_of(self.dtype))
        if self.kind == "skipna":
            x[rng.random(self.shape) < 0.1] = np.nan
        edges = np.sort(rng.integers(0, rows + 1, max(self.number - 1, 0)))
        return Arrays(
            x=x,
            labels=rng.permutation(np.arange(rows) % max(self.number, 1)),  # none is without a row
            offsets=np.concatenate(([0], edges, [rows])),
            where=rng.random(self.shape) < 0.9,
            weights=rng.uniform(0.5, 1.5, self.shape),
            mean=None,
            var=None,
        )

    def call(self, nbn: ModuleType, a: Arrays) -> Call:
        """Return how a version of numbanorm is called."""
        return partial(CALLS[self.kind], nbn, self, a)

    def truth(self, a: Arrays) -> Truth:
        """Compute it plainly in float64: every element belongs to a group, with a weight of its own."""
        x = np.nan_to_num(a.x.astype(np.float64))  # a hole weighs nothing
        group, weight = self._groups(a)
        group, flat, wide = group.ravel(), x.ravel(), weight.ravel()
        count = np.bincount(group, wide)
        with np.errstate(invalid="ignore"):  # of a group without an element: NaN
            mean = np.bincount(group, wide * flat) / count
            far = flat - mean[group]
            var = np.bincount(group, wide * far * far) / count
        size = np.hypot(mean, np.sqrt(var))
        if self.statistics:
            unit = np.concatenate((size, var))
            return Truth(np.concatenate((mean, var)), unit * epsilon(a.x.dtype))
        scale = 1 / np.sqrt(var + self.eps)[group]
        y, unit = far * scale, (np.abs(far) + size[group]) * scale * epsilon(a.x.dtype)
        return Truth(y.reshape(x.shape), unit.reshape(x.shape))

    @property
    def statistics(self) -> bool:
        """Whether means and variances are the result, and not the normalized table."""
        return self.kind in ("labels", "skipna")

    @property
    def limit(self) -> float:
        """How many units of rounding a result may be off by: as layers."""
        return LIMIT

    def _groups(self, a: Arrays) -> tuple[np.ndarray, np.ndarray]:
        """Return the number of each element's group, and how much the element counts."""
        rows, ones = np.arange(self.shape[0]), np.ones(self.shape)
        columns = prod(self.shape[1:])
        if self.kind.startswith("labels"):
            each = a.labels[:, None] * columns + np.arange(columns)
            return each.reshape(self.shape), ones
        if self.kind == "segments":
            each = np.repeat(np.arange(len(a.offsets) - 1), np.diff(a.offsets))
            return np.broadcast_to(each.reshape(-1, *[1] * (len(self.shape) - 1)), self.shape), ones
        if self.kind == "skipna":
            return np.broadcast_to(np.arange(columns), self.shape), ~np.isnan(a.x) * ones
        return np.broadcast_to(rows[:, None], self.shape), a.where * ones if self.kind == "where" else a.weights


def _by_label(nbn: ModuleType, case: Grouped, a: Arrays) -> tuple[np.ndarray, ...]:
    found = nbn.moments(a.x, axis=0, labels=a.labels, num_labels=case.number)
    return found.mean, found.var()


def _skipping(nbn: ModuleType, case: Grouped, a: Arrays) -> tuple[np.ndarray, ...]:
    found = nbn.moments(a.x, axis=0, skipna=True)
    return found.mean, found.var()


CALLS = {
    "labels": _by_label,
    "labels, output": lambda nbn, case, a: nbn.normalize(a.x, axis=0, labels=a.labels, num_labels=case.number),
    "segments": lambda nbn, case, a: nbn.normalize(a.x, nbn.Layout.segments(a.offsets)),
    "where": lambda nbn, case, a: nbn.normalize(a.x, axis=-1, where=a.where),
    "weights": lambda nbn, case, a: nbn.normalize(a.x, axis=-1, weights=a.weights),
    "skipna": _skipping,
}

GROUPED = (
    Grouped("1,000 labels", "labels", (1_000_000,), 1000),
    Grouped("100,000 labels", "labels", (1_000_000,), 100_000),
    Grouped("1,000 labels of 7 columns", "labels", (100_000, 7), 1000),
    Grouped("1,000 labels, normalized", "labels, output", (1_000_000,), 1000),
    Grouped("2,000 segments, normalized", "segments", (400_000,), 2000),
    Grouped("200 segments of 64 features, normalized", "segments", (5_000, 64), 200),
    Grouped("rows with a mask, normalized", "where", (512, 768)),
    Grouped("rows with weights, normalized", "weights", (512, 768)),
    Grouped("columns with holes", "skipna", (100_000, 30)),
)
