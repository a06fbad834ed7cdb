"""The cases in plain NumPy: fast, to race against, and in float64, to be right."""

from dataclasses import dataclass
from math import inf, log2, prod
from typing import Any

import ml_dtypes
import numpy as np

from .case import Arrays, Case, Shape, dtype_of

LIMIT = 4.0  # units of rounding for numbanorm: a result is rounded at most eight times, by half a unit each
WRONG = 2.0**14  # units for the others where they lose digits in adding up float32 and float64: they are still timed


def numpy_norm(case: Case, a: Arrays, out: np.ndarray | None = None) -> np.ndarray:
    """Normalize as one would with NumPy alone when speed matters: no copy that can be spared, work in place.

    NumPy is slow in float16 and bfloat16, and loses digits there: such arrays are made float32 on the way.
    """
    if a.x.dtype.itemsize < 4:
        wide = a.x.astype(np.float32)
        return _given(out, numpy_norm(case, Arrays(**(vars(a) | {"x": wide})), wide), a.x.dtype)
    x = a.x.reshape(case.view)
    target = None if out is None else out.reshape(case.view)
    weight, bias = (p if p is None else p.reshape(case.affine).astype(x.dtype, copy=False) for p in (a.weight, a.bias))
    if case.norm == "batch_norm_eval":
        scale = weight / np.sqrt(a.var.reshape(case.affine).astype(x.dtype, copy=False) + case.eps)
        y = np.multiply(x, scale, out=target)
        y += bias - a.mean.reshape(case.affine) * scale
        return y.reshape(case.shape)
    if case.norm == "rms_norm":
        y = np.divide(x, np.sqrt(np.square(x).mean(case.axes, keepdims=True) + case.eps), out=target)
        y *= weight
        return y.reshape(case.shape)
    mean = x.mean(case.axes, keepdims=True)
    y = np.subtract(x, mean, out=target)
    var = np.square(y).mean(case.axes, keepdims=True)
    if case.norm == "batch_norm":
        count = x.size // mean.size
        a.mean += (0.1 * (mean.ravel() - a.mean)).astype(a.mean.dtype)
        a.var += (0.1 * (var.ravel() * (count / (count - 1)) - a.var)).astype(a.var.dtype)
    scale = 1 / np.sqrt(var + case.eps)
    if weight is not None and prod(np.broadcast_shapes(scale.shape, weight.shape)) < x.size:
        scale, weight = scale * weight, None  # both are small: one pass over y in place of two
    y *= scale
    if weight is not None:
        y *= weight
    if bias is not None:
        y += bias
    return y.reshape(case.shape)


def numpy_backward(case: Case, a: Arrays) -> tuple[np.ndarray, ...]:
    """Return the gradients of x, weight and bias as one would with NumPy alone when speed matters.

    What only the forward pass needs is not counted: t, which is x normalized, and 1 / std are kept from there. float16
    and bfloat16 are made float32 on the way.
    """
    wide = a.x.dtype if a.x.dtype.itemsize >= 4 else np.dtype(np.float32)
    t, scale = _kept(case, a, wide)

    def call() -> tuple[np.ndarray, ...]:
        grad = a.grad.astype(wide, copy=False).reshape(case.view)
        weight = 1 if a.weight is None else a.weight.astype(wide, copy=False).reshape(case.affine)
        shared = tuple(axis for axis, n in enumerate(case.affine) if n == 1)
        product = grad * t
        own = () if a.weight is None else (product.sum(shared).ravel(),)
        if a.bias is not None and case.norm != "rms_norm":
            own += (grad.sum(shared).ravel(),)
        dx = grad * weight
        if case.norm != "batch_norm_eval":
            product *= weight
            product = t * product.mean(case.axes, keepdims=True)
            if case.norm != "rms_norm":
                product += dx.mean(case.axes, keepdims=True)
            dx -= product
        dx *= scale
        return tuple(one.astype(a.x.dtype, copy=False) for one in (dx.reshape(case.shape), *own))

    return call


def _kept(case: Case, a: Arrays, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Return what a forward pass keeps: x normalized, and 1 / std."""
    x = a.x.astype(dtype).reshape(case.view)
    mean, var = statistics(case, a, x)
    scale = 1 / np.sqrt(var + case.eps)
    return ((x - mean) * scale).astype(dtype), scale.astype(dtype)


def mean_and_variance(case: Case, a: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Return the statistics of each channel as one would with NumPy alone; float16 and bfloat16 in float32."""
    dtype = np.float32 if a.x.dtype.itemsize < 4 else None
    return a.x.mean(case.axes, dtype=dtype), a.x.var(case.axes, dtype=dtype)


def _given(out: np.ndarray | None, y: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Round to the array asked for, or to a new one."""
    if out is None:
        return y.astype(dtype)
    out[...] = y
    return out


@dataclass(frozen=True)
class Truth:
    """What a case ought to give (y, or mean and variance), and the size of one rounding error in each element of it."""

    y: Any
    unit: Any
    mean: Any = None  # running statistics after a training step
    var: Any = None
    on: Any = np  # whose arrays these are: NumPy's or torch's, which spell all that is needed here alike

    def off(self, y: Any) -> float:
        """Return the largest difference of y from the truth; infinity where y is NaN."""
        return self._largest(abs(self._wide(y) - self.y))

    def units(self, y: Any, *running: Any) -> float:
        """Return the same in units of rounding; and of the running mean and variance, if they are given and matter."""
        off = abs(self._wide(y) - self.y)
        found = [self._largest(off / self.on.where(off == 0, 1.0, self.unit))]
        if running and self.mean is not None:
            for got, want in zip(running, (self.mean, self.var), strict=True):
                found.append(self._largest(abs(self._wide(got) / want - 1)) / epsilon(got.dtype))
        return max(found)

    def _wide(self, array: Any) -> Any:
        return self.on.asarray(array, dtype=self.on.float64)

    def _largest(self, values: Any) -> float:
        """Return the largest value, and infinity for NaN."""
        return float(self.on.nan_to_num(values, nan=inf).max())


def statistics(case: Case, a: Arrays, x: Any) -> tuple[Any, Any]:
    """Return mean and variance of the groups of x, which has the case's view; or stored ones."""
    if case.norm == "batch_norm_eval":
        return a.mean.reshape(case.affine), a.var.reshape(case.affine)
    if case.norm == "rms_norm":
        var = mean_of(x**2, case.axes)
        return 0 * var, var
    mean = mean_of(x, case.axes)
    return mean, mean_of((x - mean) ** 2, case.axes)


def as_one(result: Any) -> Any:
    """Join what comes as a tuple, such as gradients, in float64; None is left out."""
    if not isinstance(result, tuple):
        return result
    parts = [part.double() if hasattr(part, "double") else part for part in result if part is not None]  # of torch, too
    return np.concatenate([np.asarray(part, np.float64).ravel() for part in parts])


def limit(case: Case, own: bool) -> float:
    """Return how many units of rounding a result may be off by: numbanorm's own, or another's."""
    if own and case.dtype == "float64":  # statistics are no more precise than x: see docs/numerics.md
        return 8 + log2(prod(case.view[axis] for axis in case.axes))
    return LIMIT if own or dtype_of(case.dtype).itemsize < 4 else WRONG


def epsilon(dtype: Any) -> float:
    """Return the distance from 1 to the next number of a dtype of NumPy's or torch's."""
    return float(ml_dtypes.finfo(str(dtype).removeprefix("torch.")).eps)


def mean_of(x: Any, axes: Shape) -> Any:
    """Return the mean, with the axes kept."""
    if not isinstance(x, np.ndarray):  # torch adds as it should
        return x.mean(axes, keepdims=True)
    # The axes are brought to the end, where NumPy adds in pairs, not one by one.
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    groups = x.transpose(*kept, *axes).reshape(*(x.shape[axis] for axis in kept), -1)
    return np.ascontiguousarray(groups).mean(-1).reshape([1 if i in axes else n for i, n in enumerate(x.shape)])


def oracle(case: Case, a: Arrays, on: Any = np) -> Truth:
    """Compute the case plainly in float64, with NumPy or, where a GPU has the arrays, with torch (`on`).

    Every number in (x - mean) / std * weight + bias is rounded, and a mean is known no better than what it is the mean
    of. So the unit is the spacing of floats of the size (|x - mean| + root mean square of x) / std * |weight| + |bias|.
    """
    wide = Arrays(**{name: None if v is None else on.asarray(v, dtype=on.float64) for name, v in vars(a).items()})
    x = wide.x.reshape(case.view)
    weight, bias = (1.0, 0.0) if wide.weight is None else (p.reshape(case.affine) for p in (wide.weight, wide.bias))
    running_mean = running_var = None
    if case.norm == "moments":
        mean = mean_of(x, case.axes)
        var = mean_of((x - mean) ** 2, case.axes)
        pair = on.stack([mean.reshape(-1), var.reshape(-1)])
        size = on.stack([on.hypot(mean, on.sqrt(var)).reshape(-1), pair[1]])
        return Truth(pair, size * epsilon(a.x.dtype), on=on)
    mean, var = statistics(case, wide, x)
    std = on.sqrt(var + case.eps)
    if case.backward:
        return _truth_of_gradients(case, wide, (x, mean, std, weight), epsilon(a.x.dtype), on)
    if case.norm == "rms_norm":
        bias = 0.0
    if case.norm == "batch_norm":
        count = prod(case.shape) // case.channels
        running_mean = 0.9 * wide.mean + 0.1 * mean.reshape(-1)
        running_var = 0.9 * wide.var + 0.1 * var.reshape(-1) * count / (count - 1)
    scale = weight / on.where(std == 0, 1.0, std)
    scaled = (x - mean) * scale
    unit = (abs(scaled) + abs(on.hypot(mean, std) * scale) + abs(bias)) * epsilon(a.x.dtype)
    y, unit = (scaled + bias).reshape(case.shape), unit.reshape(case.shape)
    return Truth(y, unit, running_mean, running_var, on)


def _truth_of_gradients(case: Case, a: Arrays, states: tuple[Any, ...], rounding: float, on: Any) -> Truth:
    """Return the gradients of x, weight and bias, one after the other.

    The unit is the spacing of floats of the size of what is added up, with t known as well as in `oracle`.
    """
    x, mean, std, weight = states
    grad, slope = a.grad.reshape(case.view), 1 / on.where(std == 0, 1.0, std)
    t, size_of_t = (x - mean) * slope, (abs(x - mean) + on.hypot(mean, std)) * slope
    dx = grad * weight
    size = abs(dx)
    if case.norm != "batch_norm_eval":
        along, size_along = mean_of(dx * t, case.axes), mean_of(abs(dx) * size_of_t, case.axes)
        shift, size_of_shift = mean_of(dx, case.axes), mean_of(abs(dx), case.axes)
        if case.norm == "rms_norm":
            shift, size_of_shift = 0.0, 0.0
        dx, size = dx - shift - t * along, size + size_of_shift + size_of_t * size_along
    parts = [(dx * slope, size * slope)]
    if a.weight is not None:
        shared = tuple(axis for axis, n in enumerate(case.affine) if n == 1)
        parts.append(((grad * t).sum(shared), (abs(grad) * size_of_t).sum(shared)))
        if case.norm != "rms_norm":
            parts.append((grad.sum(shared), abs(grad).sum(shared)))
    y, unit = (on.concatenate([part.reshape(-1) for part in both]) for both in zip(*parts, strict=True))
    return Truth(y, unit * rounding, on=on)
