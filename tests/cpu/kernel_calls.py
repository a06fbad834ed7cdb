"""What tests of the host's kernels share: small kernels, calls by layout, schedules in words, guarded memory."""

import ctypes
import mmap
import sys
from functools import cache

import numpy as np
import pytest
from oracle import result_dtype

from numbanorm.arrays.forms import kind
from numbanorm.call import known, run
from numbanorm.cpu import engine
from numbanorm.cpu.engine import ENGINE
from numbanorm.cpu.tuning import Tuning
from numbanorm.engine.interface import Kinds
from numbanorm.walk import nest

# small kernels --------------------------------------------------------------------------------------------------------


@cache
def compiled(function, *arguments):
    """A kernel for these types (a str: a pointer of that kind), without type look-up, as the launcher has it."""
    from numba import njit, types

    from numbanorm.cpu.kernels.intrinsics import Pointer

    types_ = [Pointer(a) if isinstance(a, str) else a for a in arguments]
    return njit(nogil=True, error_model="numpy")(function).compile(types.void(*types_))


def between_guards(nbytes):
    """Whole pages for so many bytes, between two that may not be touched: there, a stray access ends the process."""
    if sys.platform == "win32":
        pytest.skip("needs mprotect")
    page, size = mmap.PAGESIZE, -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    whole = np.frombuffer(mmap.mmap(-1, size + 2 * page), np.uint8)
    mprotect = ctypes.CDLL(None, use_errno=True).mprotect
    for outside in (0, page + size):
        assert mprotect(ctypes.c_void_p(whole.ctypes.data + outside), ctypes.c_size_t(page), 0) == 0
    return whole[page:-page]


# calls ----------------------------------------------------------------------------------------------------------------


def array(rng, shape, dtype=np.float32, order=None, scale=1.0, mean=3.0):
    """Random numbers, the axes in this order in memory."""
    order = order or range(len(shape))
    x = np.asarray(scale * (mean + rng.standard_normal([shape[a] for a in order])), dtype)
    return x.transpose(np.argsort(order))


def output_like(x):
    """An output for x, in x's order in memory."""
    return np.empty_like(x, dtype=result_dtype(x.dtype), subok=False)


def normalize(layout, x, weight=None, bias=None, eps=1e-5, out=None, center=True, statistics=None):
    """The output, and the states: those of x's own groups, or the ones that were given."""
    options = {"eps": eps, "out": out, "center": center, "statistics": statistics, "keep": True}
    out, own, _ = run.transform(x, layout, weight, bias, **options)
    return out, statistics or own


def nest_of(layout, x, out=None, weight=None, bias=None):
    """The nest of a call with these arrays."""
    others = [None if a is None else np.broadcast_to(a, x.shape).strides for a in (out, weight, bias)]
    return nest.build(layout.resolve(x.shape), [x.strides, *others])


def kinds_of(x, out=None, weight=None, bias=None):
    """The kinds of a call with these arrays."""
    return Kinds(*("none" if a is None else kind(a.dtype) for a in (x, out, weight, bias)))


# schedules ------------------------------------------------------------------------------------------------------------


def form(chosen):
    """What the kernels branch on, in words."""
    family, high, low = chosen.loops.family, chosen.loops.high, chosen.loops.low
    kinds = [name for name, loop in (("high", high), ("low", low)) if loop.size > 1 and loop.kept]
    tiles = "tiles" if chosen.columns > chosen.tile else ""
    if family == "rows":
        tiles = "beside" if chosen.tile > 1 else ""
    merged = f"{'+'.join(kinds)} kept" if high.size > 1 else ""
    words = [family, merged, tiles, "parts" if chosen.parts > 1 else "", "serial" if chosen.serial else ""]
    return " ".join(word for word in words if word)


def forget_plans():
    """As in a new process."""
    engine._plan.cache_clear()
    known.forget()


def plan_by(monkeypatch, tuning):
    """Let the engine plan by another tuning."""
    assert isinstance(tuning, Tuning)
    monkeypatch.setattr(ENGINE, "tuning", tuning)
    known.forget()


def planned(operation, layout, frame):
    """The steps of a call, by the host's engine."""
    return ENGINE.plan(operation, layout, frame).steps
