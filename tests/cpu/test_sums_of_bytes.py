"""Sums of bytes are whole numbers, and exact: about any pivot, in any layout, whatever the bytes."""

import numpy as np
import pytest
from everyday import every
from oracle import assert_same_states

import numbanorm as nbn

SHAPES = [(3, 7), (2, 1000, 3), (300, 3), (4, 5000), (2, 97, 40), (3, 70_001)]
LAYOUTS = ["n ... -> n", "... c -> c"]
BYTES = {
    "everything": lambda rng, shape: rng.integers(0, 256, shape, np.uint8),
    "the largest": lambda rng, shape: np.full(shape, 255, np.uint8),
    "the ends": lambda rng, shape: rng.choice(np.uint8([0, 255]), shape),
    "nearly equal": lambda rng, shape: rng.choice(np.uint8([254, 255]), shape, p=[0.001, 0.999]),
    "signed": lambda rng, shape: rng.integers(-128, 128, shape, np.int8),
    "the smallest": lambda rng, shape: np.full(shape, -128, np.int8),
    "booleans": lambda rng, shape: rng.random(shape) < 0.3,
}
VIEWS = {
    "contiguous": lambda x: x,
    "every other": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "reversed": lambda x: x[..., ::-1],
}


@pytest.fixture(autouse=True)
def _one_thread():
    before = nbn.get_num_threads()
    nbn.set_num_threads(1)
    yield
    nbn.set_num_threads(before)


def exact(x, layout):
    """Mean and m2 of whole numbers, each rounded once."""
    axes = tuple(range(1, x.ndim)) if layout == LAYOUTS[0] else tuple(range(x.ndim - 1))
    whole = x.astype(np.int64)
    n, s, q = whole.size // np.sum(whole, axes).size, np.sum(whole, axes), np.sum(whole * whole, axes)
    return s / n, (n * q - s * s) / n


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", BYTES)
def test_statistics_of_bytes_are_right_to_the_last_digits(name, shape, layout, rng):
    for view in VIEWS.values():
        x = view(BYTES[name](rng, shape))
        mean, m2 = exact(x, layout)
        got = nbn.moments(x, layout)
        np.testing.assert_allclose(got.mean, mean, rtol=0, atol=2e-13)  # of its distance from a value
        np.testing.assert_allclose(got.m2, m2, rtol=1e-13, atol=0)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", every(BYTES, [name for name in BYTES if name != "booleans"]))
def test_a_norm_that_makes_float32_of_bytes_takes_the_same_statistics(name, shape, layout, rng):
    x = BYTES[name](rng, shape)
    _, got = nbn.normalize(x, layout, dtype=np.float32, return_moments=True)
    assert_same_states(got, nbn.moments(x, layout))
