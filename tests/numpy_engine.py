"""A third engine, for arrays on the host: the interface by its definition, in NumPy and float64. It compiles nothing.

The fixture `numpy_engine` puts it in the place of the host's own.
"""

import numpy as np

from numbanorm.engine.interface import Frame, Plan, execute
from numbanorm.walk.nest import stretched


class NumpyEngine:
    """Runs plans of one step: the operation, with its layout."""

    def plan(self, operation, layout, frame):
        if operation == "merge":
            return Plan(((operation, None),), frame.part_mean.shape[:-1])
        if operation == "update_running":
            return Plan(((operation, None),), frame.running_mean.shape)
        shape = frame.x.shape
        for name, operand in (("weight", frame.weight), ("bias", frame.bias)):
            if operand is not None:
                stretched(name, shape, operand.shape, operand.strides)
        return Plan(((operation, layout),) if frame.x.size else (), layout.group_shape(shape))

    def launch(self, step, frame):
        operation, layout = step
        with np.errstate(all="ignore"):
            if operation == "merge":
                rest = np.zeros(frame.part_mean.shape) if frame.part_rest is None else frame.part_rest
                _store(frame, *_merged(frame.part_count, frame.part_mean, frame.part_m2, rest))
            elif operation == "update_running":
                new = frame.mean, frame.m2 / (frame.count - frame.ddof)
                for running, value in zip((frame.running_mean, frame.running_var), new, strict=True):
                    running[...] = (1 - frame.momentum) * running.astype(np.float64) + frame.momentum * value
            else:
                self._walk(operation, layout.group_ids(frame.x.shape), frame)

    def _walk(self, operation, ids, frame):
        x = frame.x.astype(np.float64)
        count, mean, m2, rest = _states(x, ids, frame.center)
        if operation == "apply":
            given = [None if a is None else a.astype(np.float64).ravel() for a in (frame.count, frame.mean, frame.m2)]
            count, mean, m2 = np.ones_like(given[1]) if given[0] is None else given[0], *given[1:]
        else:
            _store(frame, count, mean, m2, rest)
        if operation != "moments":
            var = m2 / (count - frame.ddof)
            std = np.sqrt(var) + frame.eps if frame.eps_on_std else np.sqrt(var + frame.eps)
            scale = np.where(std == 0, 0.0, 1 / std)
            result = (x - mean[ids]) * scale[ids]
            result = result if frame.weight is None else result * frame.weight.astype(np.float64)
            frame.out[...] = result if frame.bias is None else result + frame.bias.astype(np.float64)

    def bind(self, plan, frame, out_given, keep=False):
        if keep or out_given or frame.mean is not None or frame.running_mean is not None:
            return None  # memory and statistics of the caller's are checked every time
        shapes = [None if a is None else a.shape for a in (frame.weight, frame.bias)]
        dtype, numbers = frame.out.dtype, {name: getattr(frame, name) for name in ("center", "ddof", "eps_on_std")}

        def repeat(x, out, weight, bias, mean, var, eps, addresses):
            pair = [None if s is None else a.reshape(s) for a, s in zip((weight, bias), shapes, strict=True)]
            filled = Frame(x, np.empty_like(x, dtype=dtype), *pair, eps=eps, **numbers)
            execute(self, plan, filled)
            return filled.out, None

        return repeat

    def empty(self, like, shape, dtype=np.float64, strides=None):
        return np.empty(shape, dtype) if strides is None else np.ndarray(shape, dtype, strides=strides)

    def scratch(self, like, plan):
        return {}

    def pointwise(self, formula, outputs, *arrays, dtype=np.float64):
        from numbanorm.maths import coefficients  # which imports Numba, and compiles nothing here

        wide = np.broadcast_arrays(*(np.asarray(a, np.float64) for a in arrays))
        shape = wide[0].shape
        with np.errstate(all="ignore"):
            results = getattr(coefficients, formula)(*(np.atleast_1d(a) for a in wide))
        full = (np.broadcast_to(result, np.atleast_1d(wide[0]).shape) for result in results)
        return tuple(result.reshape(shape).astype(dtype, "C") for result in full)

    def matvec(self, matrix, vector):
        return matrix.astype(np.float64) @ vector.astype(np.float64)

    def mean_of_rows(self, table):
        return table.mean(axis=0)

    def peek(self, array):
        return array

    def send(self, array, like):
        return array


def _states(x, ids, center):
    """Count, mean and m2 of every group, about its first finite value."""
    x, ids = x.ravel(), ids.ravel()
    count = np.bincount(ids).astype(np.float64)
    pivot = np.zeros(count.size)
    if center:
        pivot[ids[::-1]] = np.where(np.isfinite(x), x, 0.0)[::-1]
    shift = np.bincount(ids, x - pivot[ids]) / count if center else pivot
    m2 = np.bincount(ids, (x - pivot[ids] - shift[ids]) ** 2)
    return count, pivot + shift, m2, _left_behind(pivot, shift)


def _left_behind(a, b):
    """What rounding takes from a sum."""
    large, small = np.where(abs(a) > abs(b), (a, b), (b, a))
    return np.nan_to_num(small - ((large + small) - large), posinf=0.0, neginf=0.0)


def _merged(*parts):
    """States of several sets together, along the last axis and in order; an empty set adds nothing."""
    shape = parts[0].shape[:-1]
    count, mean, m2, rest = np.zeros(shape), np.full(shape, np.nan), np.zeros(shape), np.zeros(shape)
    for n, its_mean, its_m2, its_rest in zip(*(np.moveaxis(part, -1, 0) for part in parts), strict=True):
        share, delta = n / (count + n), (its_mean - mean) + (its_rest - rest)
        both, shift = m2 + its_m2 + delta**2 * count * share, rest + delta * share
        rest = np.where(n == 0, rest, np.where(count == 0, its_rest, _left_behind(mean, shift)))
        mean = np.where(n == 0, mean, np.where(count == 0, its_mean, mean + shift))
        m2 = np.where(n == 0, m2, np.where(count == 0, its_m2, both))
        count = count + n
    return count, mean, m2, rest


def _store(frame, count, mean, m2, rest):
    """Write states, if anybody wants them."""
    for slot, values in ((frame.count, count), (frame.mean, mean), (frame.m2, m2), (frame.rest, rest)):
        if slot is not None:
            slot[...] = values.reshape(slot.shape)
