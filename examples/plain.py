"""The layers of layers.py in NumPy: fast, to race against, and in float64, to be right."""

from dataclasses import dataclass
from math import prod

import numpy as np
from layers import Arrays, Layer, Shape


def numpy_norm(layer: Layer, a: Arrays) -> np.ndarray:
    """Normalize as one would with NumPy alone when speed matters: no copy that can be spared, work in place."""
    x = a.x.reshape(layer.view)
    weight, bias = (p if p is None else p.reshape(layer.affine) for p in (a.weight, a.bias))
    if layer.kind == "stored":
        scale = weight / np.sqrt(a.var.reshape(layer.affine) + layer.eps)
        y = x * scale
        y += bias - a.mean.reshape(layer.affine) * scale
        return y.reshape(layer.shape)
    if layer.kind == "rms":
        y = x / np.sqrt(np.square(x).mean(layer.axes, keepdims=True) + layer.eps)
        y *= weight
        return y.reshape(layer.shape)
    mean = x.mean(layer.axes, keepdims=True)
    y = x - mean
    var = np.square(y).mean(layer.axes, keepdims=True)
    if layer.kind == "own+running":
        count = x.size // mean.size
        a.mean += 0.1 * (mean.ravel() - a.mean)
        a.var += 0.1 * (var.ravel() * (count / (count - 1)) - a.var)
    scale = 1 / np.sqrt(var + layer.eps)
    if weight is not None and prod(np.broadcast_shapes(scale.shape, weight.shape)) < x.size:
        scale, weight = scale * weight, None  # both are small: one pass over y in place of two
    y *= scale
    if weight is not None:
        y *= weight
    if bias is not None:
        y += bias
    return y.reshape(layer.shape)


@dataclass(frozen=True)
class Truth:
    """What a layer ought to give, and the size of one rounding error in each element of it."""

    y: np.ndarray
    unit: np.ndarray
    mean: np.ndarray | None = None  # running statistics after a training step
    var: np.ndarray | None = None

    def units(self, y: np.ndarray) -> float:
        """Return the largest difference of y from the truth in units of rounding; infinity where y is NaN."""
        off = np.abs(y - self.y)
        return largest(np.divide(off, self.unit, out=np.zeros_like(off), where=off != 0))

    def running_units(self, a: Arrays) -> float:
        """Return the same of the running mean and variance."""
        pairs = [(got, want) for got, want in ((a.mean, self.mean), (a.var, self.var)) if want is not None]
        return max((largest(np.abs(got / want - 1) / np.finfo(got.dtype).eps) for got, want in pairs), default=0.0)


def largest(values: np.ndarray) -> float:
    """Return the largest value, and infinity for NaN."""
    return float(np.nan_to_num(values, nan=np.inf).max())


def mean_of(x: np.ndarray, axes: Shape) -> np.ndarray:
    """Return the mean, with the axes kept. They are brought to the end, where NumPy adds in pairs, not one by one."""
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    groups = x.transpose(*kept, *axes).reshape(*(x.shape[axis] for axis in kept), -1)
    return np.ascontiguousarray(groups).mean(-1).reshape([1 if i in axes else n for i, n in enumerate(x.shape)])


def oracle(layer: Layer, a: Arrays) -> Truth:
    """Compute the layer plainly in float64.

    Every number in (x - mean) / std * weight + bias is rounded, and a mean is known no better than what it is the mean
    of. So the unit is the spacing of floats of the size (|x - mean| + root mean square of x) / std * |weight| + |bias|.
    """
    wide = Arrays(**{name: None if v is None else v.astype(np.float64) for name, v in vars(a).items()})
    x = wide.x.reshape(layer.view)
    weight, bias = (1.0, 0.0) if wide.weight is None else (p.reshape(layer.affine) for p in (wide.weight, wide.bias))
    running_mean = running_var = None
    if layer.kind == "stored":
        mean, var = wide.mean.reshape(layer.affine), wide.var.reshape(layer.affine)
    elif layer.kind == "rms":
        mean, var, bias = np.zeros(()), mean_of(x**2, layer.axes), 0.0
    else:
        mean = mean_of(x, layer.axes)
        var = mean_of((x - mean) ** 2, layer.axes)
    if layer.kind == "own+running":
        count = x.size // mean.size
        running_mean = 0.9 * wide.mean + 0.1 * mean.ravel()
        running_var = 0.9 * wide.var + 0.1 * var.ravel() * count / (count - 1)
    std = np.sqrt(var + layer.eps)
    scale = weight / np.where(std == 0, 1, std)
    scaled = (x - mean) * scale
    size = np.abs(scaled) + np.abs(np.hypot(mean, std) * scale) + np.abs(bias)
    unit = size * np.finfo(a.x.dtype).eps
    return Truth((scaled + bias).reshape(layer.shape), unit.reshape(layer.shape), running_mean, running_var)
