"""A few channels last: pictures, point clouds. Any number of pixels, views, and dtypes, against the definition."""

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import assert_same_states, assert_within
from strategies import RANDOM

import numbanorm as nbn

# Fewer than fill a vector with any number of channels; whole rows; primes; in parts; beyond what one thread takes.
PIXELS = [1, 2, 15, 16, 31, 32, 33, 47, 64, 97, 1009, 1024, 4099, 16411, 20011]
BY_CHANNEL = ["n p c -> n c", "n p c -> c"]
LAYOUTS = [*BY_CHANNEL, "n p c -> n p"]
WEIGHTS = [None, (1,), (0, 1), (1, 2)]  # one for all, or by channel; also by image; by pixel


@pytest.fixture(autouse=True)
def _same_threads_afterwards():
    before = nbn.get_num_threads()
    yield
    nbn.set_num_threads(before)


VIEWS = {
    "contiguous": lambda rng, make, n, p, c: make((n, p, c)),
    "a channel sliced off": lambda rng, make, n, p, c: make((n, p, c + 1))[..., :c],
    "the first channel sliced off": lambda rng, make, n, p, c: make((n, p, c + 1))[..., 1:],
    "channels reversed": lambda rng, make, n, p, c: make((n, p, c))[..., ::-1],
    "pixels reversed": lambda rng, make, n, p, c: make((n, p, c))[:, ::-1],
    "all reversed": lambda rng, make, n, p, c: make((n, p, c))[::-1, ::-1, ::-1],
    "every other pixel": lambda rng, make, n, p, c: make((n, 2 * p, c))[:, ::2],
    "part of the pixels": lambda rng, make, n, p, c: make((n, p + 5, c))[:, 2 : 2 + p],
    "unaligned": lambda rng, make, n, p, c: make((n, p, c + 1)).ravel()[1 : 1 + n * p * c].reshape(n, p, c),
}


@st.composite
def pictures(draw, dtypes):
    """Images of a few channels in float32 or another dtype, as a view of any kind."""
    rng, dtype = draw(RANDOM), np.dtype(draw(st.sampled_from(dtypes)))
    pixels, channels = draw(st.sampled_from(PIXELS)), draw(st.integers(1, 8))
    images = draw(st.integers(1, 5 if pixels < 10_000 else 2))
    mean = draw(st.sampled_from([0.0, 3.0, 50.0]))

    def make(shape):
        values = 100 + 20 * rng.standard_normal(shape) if dtype.kind in "iu" else mean + rng.standard_normal(shape)
        return np.clip(values, 0, 255).astype(dtype) if dtype.kind in "iu" else values.astype(dtype)

    return VIEWS[draw(st.sampled_from(sorted(VIEWS)))](rng, make, images, pixels, channels)


def check(x, got, moments, layout, weight=None, bias=None, eps=1e-5):
    ids, n = oracle.groups(nbn.Layout(layout), x.shape)
    count, mean, m2 = oracle.moments(x, ids, n)
    assert_within(moments.count.ravel(), count, 0.0)
    assert_within(moments.mean.ravel(), mean, oracle.mean_tolerance(x, ids, n, mean))
    assert_within(moments.m2.ravel(), m2, oracle.variance_tolerance(x.dtype, count, mean, m2 / count) * m2)
    stats = count, mean, m2
    expected = oracle.normalize(x, ids, n, weight, bias, eps, stats)
    tolerance = oracle.output_tolerance(x, ids, n, expected, weight, bias, eps)
    if got.dtype.itemsize < x.dtype.itemsize or x.dtype.kind == "u":  # made in float32
        tolerance = tolerance + 8 * oracle.EPS32 * (1 + np.abs(expected))
    assert_within(got, expected, tolerance)


@settings(max_examples=15, deadline=None)
@given(pictures(["float32", "float64"]), st.sampled_from(LAYOUTS), st.sampled_from(WEIGHTS), RANDOM)
def test_any_view_of_pictures_is_normalized_by_channel(x, layout, axes, rng):
    weight = bias = None
    if axes is not None:
        of = [size if axis == 2 or axis in axes[:-1] else 1 for axis, size in enumerate(x.shape)]
        of = of if axes != (1, 2) else list(x.shape)
        weight, bias = (rng.standard_normal(of).astype(x.dtype) for _ in range(2))
    nbn.set_num_threads(1)
    first, moments = nbn.normalize(x, layout, weight, bias, return_moments=True)
    check(x, first, moments, layout, weight, bias)
    for threads in (2, 3):
        nbn.set_num_threads(threads)
        got, others = nbn.normalize(x, layout, weight, bias, return_moments=True)
        np.testing.assert_array_equal(got, first)
        assert others == moments
    given_back = nbn.normalize(x, layout, weight, bias, moments=moments)
    np.testing.assert_array_equal(given_back, first)
    apart = nbn.normalize(x.copy(), layout, weight, bias)
    here = x.copy()
    assert nbn.normalize(here, layout, weight, bias, out=here) is here
    np.testing.assert_array_equal(here, apart)


@settings(max_examples=20, deadline=None)
@given(pictures(["float64"]), st.sampled_from(LAYOUTS))
def test_moments_of_pictures_are_those_of_their_norm(x, layout):
    """Norms add up float32 by way of float32; moments do not."""
    _, of_norm = nbn.normalize(x.copy(), layout, return_moments=True)
    for threads in (1, 2):
        nbn.set_num_threads(threads)
        assert_same_states(nbn.moments(x.copy(), layout), of_norm)


@settings(max_examples=12, deadline=None)
@given(pictures(["uint8", "float16"]), st.sampled_from(LAYOUTS))
def test_bytes_and_halves_become_float32(x, layout):
    nbn.set_num_threads(1)
    first, moments = nbn.normalize(x, layout, dtype=np.float32, return_moments=True)
    check(x.astype(np.float32), first, moments, layout)
    nbn.set_num_threads(2)
    np.testing.assert_array_equal(nbn.normalize(x, layout, dtype=np.float32), first)


@settings(max_examples=30, deadline=None)
@given(pictures(["float32"]), st.sampled_from(BY_CHANNEL), RANDOM)
def test_what_is_not_finite_stays_in_its_channel(x, layout, rng):
    """Also in the pixels that are left behind whole rows, the last ones."""
    x = x.copy()
    clean = nbn.normalize(x, layout)
    image, channel = rng.integers(x.shape[0]), rng.integers(x.shape[2])
    pixel = rng.choice([0, x.shape[1] // 2, x.shape[1] - 1])
    x[image, pixel, channel] = rng.choice([np.nan, np.inf, -np.inf])
    got = nbn.normalize(x, layout)
    touched = np.zeros(x.shape, bool)
    touched[slice(None) if layout.endswith("-> c") else image, :, channel] = True
    touched[:] = touched if "n c" in layout.split("->")[1] else touched.any((0, 1))
    assert np.isnan(got[touched]).all()
    np.testing.assert_allclose(got[~touched], clean[~touched], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_channel_with_an_infinity_anywhere_has_no_spread(dtype):
    """Also in the pixels behind whole rows."""
    for pixel in range(77):
        x = np.ones((1, 77, 3), dtype)
        x[0, pixel, 1] = np.inf
        m = nbn.moments(x, "n p c -> c")
        np.testing.assert_array_equal(m.mean, [1, np.inf, 1])
        np.testing.assert_array_equal(m.m2, [0, np.nan, 0])


def test_a_pixel_that_is_not_finite_touches_no_other(rng):
    x = rng.standard_normal((2, 77, 3)).astype(np.float32)
    x[1, :, 2] = 7
    x[1, ::2, :] = 7
    for value in (np.nan, np.inf):
        x[0, 5, 1] = value
        got, moments = nbn.normalize(x, "n p c -> n p", return_moments=True)
        assert np.isnan(got[0, 5]).all()
        assert np.isfinite(np.delete(got.reshape(-1, 3), 5, axis=0)).all()
        assert (got[1, ::2] == 0).all()  # constants
        assert (moments.m2[1, ::2] == 0).all()


@pytest.mark.parametrize("pixels", [15, 47, 4099])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("value", [0.0, 0.1, -1e30, 1e-30, 16777217.0])
def test_a_constant_channel_has_no_variance(value, center, pixels, rng):
    x = rng.standard_normal((2, pixels, 3)).astype(np.float32)
    x[..., 1] = value
    if center:
        moments = nbn.moments(x, "n p c -> n c")
        assert (moments.m2[:, 1] == 0).all()
        assert (moments.mean[:, 1] == np.float32(value)).all()
        assert (nbn.normalize(x, "n p c -> n c", bias=np.float32([1, 2, 3]))[..., 1] == 2).all()
    else:
        got = nbn.rms_norm(np.moveaxis(x, 2, 1), (pixels,), eps=1e-5)
        expected = oracle.rms_norm(np.moveaxis(x, 2, 1), (pixels,), eps=1e-5)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pixels", [16, 32, 47, 1009])
def test_values_too_far_apart_for_a_difference(pixels):
    x = np.full((1, pixels, 3), 1.0)
    x[..., 0] = np.where(np.arange(pixels) % 2, 1.7e308, -1.7e308)
    moments = nbn.moments(x, "n p c -> n c")
    expected = np.mean(x[..., 0] / pixels) * pixels
    assert moments.mean[0, 0] == pytest.approx(expected, abs=1.7e308 * 1e-14)
    assert moments.m2[0, 0] == np.inf
    assert (moments.m2[0, 1:] == 0).all()
