"""Kernels compute as floating-point numbers do by default, whatever the calling thread has set."""

import ctypes
import platform
import sys
from contextlib import contextmanager

import numpy as np
import pytest

import numbanorm as nbn

X86 = platform.machine() in ("x86_64", "AMD64")
UPWARD = 0x800  # x86's number for rounding towards infinity


@contextmanager
def flushing():
    """Subnormal numbers are zero, in this thread."""
    torch = pytest.importorskip("torch")
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor has no such mode")
    try:
        assert np.full(2, 1e-310)[0] * np.float64(1.0) == 0.0
        yield
        assert np.full(2, 1e-310)[0] * np.float64(1.0) == 0.0, "the caller's own setting is gone"
    finally:
        torch.set_flush_denormal(False)


@contextmanager
def rounding_up():
    """Results are rounded up, in this thread."""
    if not (X86 and sys.platform == "linux"):
        pytest.skip("needs the C library of Linux, and its numbers for x86")
    library = ctypes.CDLL("libm.so.6")
    assert library.fesetround(UPWARD) == 0
    try:
        yield
        assert library.fegetround() == UPWARD, "the caller's own setting is gone"
    finally:
        library.fesetround(0)


MODES = {"flushing": flushing, "rounding up": rounding_up}
INPUTS = {
    "subnormal values": lambda rng: rng.standard_normal((64, 4000)) * 1e-310,
    "subnormal squares": lambda rng: rng.standard_normal((64, 4000)) * 1e-158,
    "few large groups": lambda rng: rng.standard_normal((2, 300_000)) * 1e-310,
    "float32": lambda rng: (rng.standard_normal((64, 4000)) * 1e-40).astype(np.float32),
}


@pytest.fixture
def threads():
    before = nbn.get_num_threads()
    yield nbn.set_num_threads
    nbn.set_num_threads(before)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", INPUTS)
def test_the_callers_floating_point_settings_do_not_matter(mode, name, rng, threads):
    x = INPUTS[name](rng)
    expected = nbn.moments(x, axis=1), nbn.normalize(x, axis=1, eps=0.0)
    assert np.any(expected[0].mean != 0.0)
    for number in (1, 2, 3):
        threads(number)
        with MODES[mode]():
            moments, result = nbn.moments(x, axis=1), nbn.normalize(x, axis=1, eps=0.0)
        for got, right in ((moments.mean, expected[0].mean), (moments.m2, expected[0].m2), (result, expected[1])):
            np.testing.assert_array_equal(got.view(f"i{got.itemsize}"), right.view(f"i{got.itemsize}"))
