"""What a case is: a normalization layer on an array of some shape, dtype and order of memory."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np

Shape = tuple[int, ...]
Arrays = SimpleNamespace  # x, weight, bias, mean, var, and grad if it goes backward: what a case works on
Call = Callable[[], Any]
Prepare = Callable[["Case", Arrays, np.ndarray | None], Call | None]  # see contenders.py

# By the names of numbanorm's functions; batch norm in evaluation is a thing of its own.
NORMS = {
    "batch_norm": "Batch norm, training",
    "batch_norm_eval": "Batch norm, evaluation",
    "layer_norm": "Layer norm",
    "rms_norm": "RMS norm",
    "group_norm": "Group norm",
    "instance_norm": "Instance norm",
    "moments": "Mean and variance of each channel",
}


@dataclass(frozen=True)
class Case:
    """One layer: which norm, on which array."""

    name: str
    norm: str  # of NORMS
    shape: Shape
    last: bool = False  # channels are the last axis; else axis 1
    groups: int = 1
    eps: float = 1e-5
    dtype: str = "float32"
    backward: bool = False  # from the gradient of the result to those of x, weight and bias
    readme: bool = False  # a row of the short table, of docs/peers.md, and among those that most programs measure

    @property
    def channel_axis(self) -> int:
        """Axis of the channels."""
        return len(self.shape) - 1 if self.last else 1

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.shape[self.channel_axis]

    @property
    def title(self) -> str:
        """Name the layer and what is special about it."""
        words = [self.name]
        if self.norm == "batch_norm_eval":
            words.append("evaluation")
        usual = {"layer_norm": 3, "rms_norm": 4, "moments": 2}.get(self.norm, 0)  # axes with which nothing is special
        if self.last and len(self.shape) > usual:
            words.append("channels last")
        if self.dtype != "float32":
            words.append(self.dtype)
        if self.backward:
            words.append("backward")
        return ", ".join(words)

    @property
    def label(self) -> str:
        """Name the case unlike any other."""
        return f"{self.title}, {by(self.shape)}"

    # A view of x in which groups are made of whole axes; so one function serves all norms.

    @property
    def view(self) -> Shape:
        """Shape of that view."""
        if self.norm != "group_norm":
            return self.shape
        axis = self.channel_axis
        return (*self.shape[:axis], self.groups, self.channels // self.groups, *self.shape[axis + 1 :])

    @property
    def axes(self) -> Shape:
        """Axes of the view that share statistics."""
        axis = self.channel_axis
        if self.norm in ("layer_norm", "rms_norm"):
            return (axis,)
        kept = {axis} if self.norm in ("batch_norm", "batch_norm_eval", "moments") else {0, axis}
        return tuple(i for i in range(len(self.view)) if i not in kept)

    @property
    def affine(self) -> Shape:
        """Shape of weight and bias beside the view; () for none."""
        axis = self.channel_axis
        own = {axis, axis + 1} if self.norm == "group_norm" else {axis}
        return tuple(n if i in own else 1 for i, n in enumerate(self.view))

    @property
    def nbytes(self) -> int:
        """Bytes of x."""
        return prod(self.shape) * dtype_of(self.dtype).itemsize

    @property
    def span(self) -> int:
        """Bytes that are read before the first output can be written: those between a group's ends, at least."""
        if self.norm in ("batch_norm_eval", "moments"):
            return 0
        if self.last and self.norm not in ("layer_norm", "rms_norm"):
            return self.nbytes if self.norm == "batch_norm" else self.nbytes // self.shape[0]
        return prod(self.view[axis] for axis in self.axes) * dtype_of(self.dtype).itemsize

    def data(self, rng: np.random.Generator) -> np.ndarray:
        """Return x: normal, with mean 1 and standard deviation 2."""
        wide = np.float64 if self.dtype == "float64" else np.float32
        return (rng.standard_normal(self.shape, wide) * wide(2) + wide(1)).astype(dtype_of(self.dtype), copy=False)

    def arrays(self, x: np.ndarray | None = None) -> Arrays:
        """Return the input, weight, bias and running statistics, all in one dtype as networks have them.

        Beside an x of integers, such as the bytes of an image, the others are float32.
        """
        rng = np.random.default_rng(prod(self.shape))
        x = self.data(rng) if x is None else x
        names = ("weight", "bias", "mean", "var")
        dtype = np.float32 if x.dtype.kind in "iu" else x.dtype
        values = rng.uniform(0.5, 1.5, (len(names), prod(self.affine))).astype(dtype)
        own = dict(zip(names, values, strict=True))
        if not self.affine:
            own["weight"] = own["bias"] = None
        if self.backward:
            own["grad"] = rng.standard_normal(self.shape, np.float32).astype(x.dtype)
        return Arrays(x=x, **own)

    def tiny(self) -> "Case":
        """Return the same case with short axes, to see that it runs."""
        axis, groups = self.channel_axis, min(self.groups, 4)
        most = [2, *[3] * (len(self.shape) - 1)]
        most[axis] = 4 * groups
        shape = tuple(map(min, self.shape, most))
        return replace(self, shape=shape, groups=groups)


def with_own_statistics(a: Arrays) -> Arrays:
    """Return the same arrays with copies of the running statistics, if any, which batch norm in training updates."""
    own = {name: None if (p := getattr(a, name)) is None else p.copy() for name in ("mean", "var")}
    return Arrays(**(vars(a) | own))


def dtype_of(name: str) -> np.dtype:
    """Return a dtype by its name; NumPy itself does not know bfloat16."""
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def by(shape: Shape) -> str:
    """Write a shape: 32×64×7×7."""
    return "×".join(map(str, shape))


def to_last(shape: Shape) -> Shape:
    """Bring axis 1 to the end."""
    return (shape[0], *shape[2:], shape[1])


def both(case: Case) -> tuple[Case, Case]:
    """Return a case with channels first, and with channels last."""
    return case, replace(case, shape=to_last(case.shape), last=True)
