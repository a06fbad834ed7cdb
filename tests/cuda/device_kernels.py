"""What tests of the GPU's kernels share: arrays of any strides there, calls by layout, checks, and a case of each way.

Beside them stand two helpers of the tests of the host's kernels, so that this folder's tests run without those.
"""

import ctypes
from dataclasses import replace

import everyday
import numpy as np
import oracle
import pytest
from oracle import assert_within

import numbanorm as nbn
from numbanorm.arrays.give import result_like
from numbanorm.arrays.take import view
from numbanorm.call import run
from numbanorm.cuda.engine import ENGINE

# arrays ---------------------------------------------------------------------------------------------------------------


def array(rng, shape, dtype=np.float32, order=None, scale=1.0, mean=3.0):
    """Random numbers, the axes in this order in memory."""
    order = order or range(len(shape))
    x = np.asarray(scale * (mean + rng.standard_normal([shape[a] for a in order])), dtype)
    return x.transpose(np.argsort(order))


class Memory:
    """Arrays of any strides on the GPU: the bytes between their first and their last element are sent as they are."""

    def __init__(self, gpu):
        self.gpu = gpu

    def send(self, x):
        if x is None:
            return None
        low, high = np.lib.array_utils.byte_bounds(x) if x.size else (x.ctypes.data, x.ctypes.data)
        ahead = low % 64  # as far from an aligned address as on the host
        raw = np.zeros(ahead + high - low, np.uint8)
        raw[ahead:] = np.frombuffer((ctypes.c_ubyte * (high - low)).from_address(low), np.uint8)
        home = np.zeros(raw.size + 64, np.uint8)
        sent = view(self.gpu.send(home))
        ahead += -sent.pointer % 64
        home[ahead - low % 64 :][: raw.size] = raw
        sent.owner.copy_to_device(home)
        about = {"shape": x.shape, "strides": x.strides, "dtype": x.dtype.newbyteorder("=")}
        return replace(sent, pointer=sent.pointer + ahead + x.ctypes.data - low, **about)

    def get(self, x):
        """A host array of a device array, in the order of its strides."""
        home = x.owner.copy_to_host()
        if home.dtype != np.uint8:  # the library's own
            return home
        start = x.pointer - view(x.owner).pointer
        return np.ndarray(x.shape, x.dtype, home, start, x.strides).copy(order="K")


def output_like(x):
    """An output for an array on the GPU, in its order in memory."""
    return result_like(x, oracle.result_dtype(x.dtype))


# calls ----------------------------------------------------------------------------------------------------------------


def normalize(layout, x, out, weight=None, bias=None, eps=1e-5, *, center=True, statistics=None, keep=False):
    """Write to an output on the GPU; the states of x's own groups if `keep`."""
    options = {"eps": eps, "out": out, "center": center, "statistics": statistics, "keep": keep}
    _, states, _ = run.transform(x, layout, weight, bias, **options)
    return states


def run_all(memory, layout, x, weight=None, bias=None, eps=1e-5, center=True):
    """Output and states, on the host; the same output from given states; and statistics alone."""
    on_device = memory.send(x)
    weight, bias = memory.send(weight), memory.send(bias)
    out, again = output_like(on_device), output_like(on_device)
    states = normalize(layout, on_device, out, weight, bias, eps, center=center, keep=True)
    normalize(layout, on_device, again, weight, bias, eps, statistics=states)
    alone = run.moments(ENGINE, layout, on_device, center)
    out, again = memory.get(out), memory.get(again)
    oracle.assert_same(again, out)
    return out, [memory.get(s) for s in states], [memory.get(s) for s in alone]


# checks ---------------------------------------------------------------------------------------------------------------


def check_result(got, states, x, layout, weight=None, bias=None, eps=1e-5, center=True):
    """States against the definition, and the output against the exact ones.

    A thread sums float32 in float32, so a mean may be off by a small part of an ulp of the largest deviation.
    """
    ids, n = oracle.groups(layout, x.shape)
    stats = oracle.check_states(states, x, layout, center)
    expected = oracle.normalize(x, ids, n, weight, bias, eps, stats)
    allowed = oracle.output_tolerance(x, ids, n, expected, weight, bias, eps, stats)
    reach = oracle.mean_tolerance(x, ids, n, stats[1]) / 4 / np.sqrt(stats[2] / stats[0] + eps)
    allowed += np.nan_to_num(reach[ids] * np.abs(1 if weight is None else oracle.wide(weight)))
    assert_within(got, expected, allowed)


def check(memory, layout, x, weight=None, bias=None, eps=1e-5, about_zero=everyday.ALL):
    """All that a layout of x leads to; about zero, too, if that is asked for, or everything is, or on a GPU."""
    for center in (True, False) if about_zero or not memory.gpu.simulated else (True,):
        out, states, alone = run_all(memory, layout, x, weight, bias, eps, center)
        with np.errstate(all="ignore"):
            check_result(out, states, x, layout, weight, bias, eps, center=center)
            oracle.check_states(alone, x, layout, center)


# cases ----------------------------------------------------------------------------------------------------------------

LAYER, BATCH, COLUMNS, GROUPS = nbn.Layout.layer(), nbn.Layout.batch(), nbn.Layout.axes(0), nbn.Layout.group(4)
INTERLEAVED = nbn.Layout("n (c g) s -> n g", g=4)
LAST3, LAST4 = (0, 2, 1), (0, 2, 3, 1)  # channels last in memory

CASES = {
    # name: shape, order in memory, layout, shape of weight and bias
    "many rows": ((6, 300), None, LAYER, (300,)),
    "rows in parts": ((2, 1400), None, LAYER, (1400,)),
    "rows in parts, one weight each": ((2, 5, 280), None, nbn.Layout.layer(2), (5, 1)),
    "rows kept": ((3, 572), None, LAYER, (572,)),
    "rows kept, runs with gaps": ((3, 3, 180), (1, 0, 2), nbn.Layout("n a b -> n"), (3, 180)),
    "rows kept, odd": ((4, 565), None, LAYER, ()),
    "batch": ((9, 3, 4, 8), None, BATCH, (3, 1, 1)),
    "batch of odd runs": ((9, 3, 7, 7), None, BATCH, (3, 1, 1)),
    "batch in parts": ((30, 2, 4, 8), None, BATCH, (2, 1, 1)),
    "groups": ((3, 8, 4, 6), None, GROUPS, (8, 1, 1)),
    "groups of odd runs": ((2, 8, 7, 7), None, GROUPS, (8, 1, 1)),
    "weights by element": ((3, 4, 24), None, nbn.Layout.layer(2), (4, 24)),
    "weights by group": ((3, 4, 24), None, LAYER, (4, 1)),
    "columns": ((30, 40), None, COLUMNS, (40,)),
    "columns, few rows": ((3, 40), None, COLUMNS, (40,)),
    "columns in parts": ((90, 40), None, COLUMNS, (40,)),
    "columns kept": ((20, 328), None, COLUMNS, (328,)),
    "columns kept, odd": ((70, 23), None, COLUMNS, (23,)),
    "columns, odd": ((50, 37), None, COLUMNS, (37,)),
    "columns, weights by row": ((26, 40), None, COLUMNS, (26, 1)),
    "columns, weights by element": ((26, 40), None, COLUMNS, (26, 40)),
    "channels last": ((5, 24, 3, 5), LAST4, BATCH, (24, 1, 1)),
    "instances, channels last": ((3, 24, 3, 5), LAST4, nbn.Layout.instance(), (24, 1, 1)),
    "groups, channels last": ((3, 24, 20), LAST3, GROUPS, (24, 1)),
    "odd groups, channels last": ((3, 20, 40), LAST3, GROUPS, (20, 1)),
    "interleaved groups": ((3, 24, 20), LAST3, INTERLEAVED, (24, 1)),
    "windows": ((2, 12, 8, 3), None, nbn.Layout("n (h p) (w q) c -> n h w c", p=4, q=2), (3,)),
    "tiny runs": ((90, 5), None, LAYER, (5,)),
    "nothing reduced": ((3, 70), None, nbn.Layout.axes(()), (70,)),
    "all reduced": ((3, 4, 5), None, nbn.Layout.axes(None), ()),
    "a number": ((), None, nbn.Layout.axes(None), ()),
    "six axes, rows": ((3, 2, 4, 2, 3, 9), (1, 3, 0, 4, 2, 5), nbn.Layout.axes((0, 2, 5)), (3, 9)),
    "six axes, columns": ((3, 2, 4, 2, 3, 9), (1, 3, 0, 5, 2, 4), nbn.Layout.axes((0, 2, 5)), (3, 9)),
}

# A case of each kind of kernel and schedule.
WAYS = [
    "many rows",
    "rows kept",
    "rows in parts",
    "columns kept",
    "columns in parts",
    "groups, channels last",
    "groups",
]


def every(names, kinds, default):
    """Parameters (name, dtype, affine) of a test: every case in the first kind, and those of the default run in others.

    What is left is exhaustive; `kinds` are pairs of a dtype and whether there are weight and bias. `default`: names, of
    all other kinds or for each.
    """
    of_kind = default if isinstance(default, dict) else dict.fromkeys(kinds, default)
    run = {(name, *kind) for kind in kinds for name in (names if kind == kinds[0] else of_kind.get(kind, ()))}
    return [
        pytest.param(
            name,
            dtype,
            affine,
            id=f"{name}-{dtype}-{'affine' if affine else 'plain'}",
            marks=() if (name, dtype, affine) in run else pytest.mark.exhaustive,
        )
        for name in names
        for dtype, affine in kinds
    ]
