"""A kernel of one's own beside numbanorm, NumPy and torch: the table of contenders takes whatever has a name.

The kernel is group norm as one would write it first: one thread for each group, mean, variance, output. Whatever
compare.py can do works with it, --threads, --picture and --json among others.

    python examples/variant.py --norm group_norm --quick --contenders numbanorm "plain loops" torch
"""

import math
import sys
from functools import partial
from pathlib import Path

import numpy as np
from numba import njit, prange

sys.path.insert(0, str(Path(__file__).parents[1] / "asv_benchmarks"))
import compare
from harness.case import Arrays, Call, Case
from harness.contenders import CONTENDERS, Unfit


@njit(parallel=True, fastmath=True, error_model="numpy")
def plain_loops(x, channels, weight, bias, eps, out):
    """Normalize the rows of x, each of which is `channels` channels; rows of one sample follow each other."""
    rows, size = x.shape
    run = size // channels
    for row in prange(rows):
        mean = np.float32(0)
        for i in range(size):
            mean += x[row, i]
        mean /= size
        var = np.float32(0)
        for i in range(size):
            var += (x[row, i] - mean) ** 2
        inverse = np.float32(1 / math.sqrt(var / size + eps))
        first = row * channels % weight.size
        for channel in range(channels):
            scale = inverse * weight[first + channel]
            shift = bias[first + channel] - mean * scale
            for i in range(channel * run, (channel + 1) * run):
                out[row, i] = x[row, i] * scale + shift


def prepare(case: Case, a: Arrays, out: np.ndarray | None) -> Call:
    """Say what a case is to be called with; with `out`, the result is to be there."""
    if case.last or case.dtype != "float32":
        raise Unfit("it knows float32 with channels on axis 1 only")
    rows, channels = case.shape[0] * case.groups, case.channels // case.groups
    run = partial(plain_loops, a.x.reshape(rows, -1), channels, a.weight, a.bias, case.eps)

    def call() -> np.ndarray:
        y = np.empty_like(a.x) if out is None else out
        run(y.reshape(rows, -1))
        return y

    return call


CONTENDERS["group_norm"]["plain loops"] = prepare

if __name__ == "__main__":
    sys.exit(compare.main())
