"""weight_norm, weight_standardize and spectral_norm, against torch and the oracle."""

import numpy as np
import oracle
import pytest
from everyday import every
from oracle import assert_within
from strategies import BFLOAT16, FLOATS, ORDERS, arrange

import numbanorm as nbn

SHAPES = [(8, 5), (16, 3, 3, 3), (7,), (33, 70), (1, 9), (4, 1, 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("axis", [0, -1, None])
def test_weight_norm_is_torchs(shape, dtype, axis, rng):
    torch = pytest.importorskip("torch")
    v = rng.standard_normal(shape).astype(dtype)
    dim = -1 if axis is None else axis % v.ndim  # torch's -1 means all axes
    keep = [1] * v.ndim
    if axis is not None:
        keep[axis] = shape[axis]
    g = rng.random(keep).astype(dtype) + 1
    expected = torch._weight_norm(torch.from_numpy(v), torch.from_numpy(g), dim).numpy()
    for given_g in [g, g.ravel() if axis is not None else g.ravel()[0]]:
        got = nbn.weight_norm(v, given_g, axis=axis)
        assert got.dtype == dtype
        assert_within(got, expected, 16 * np.finfo(dtype).eps * np.abs(expected).max())
        exact = oracle.weight_norm(v, np.squeeze(g) if axis is None else g.ravel(), axis)
        assert_within(got, exact, 4 * np.finfo(dtype).eps * np.abs(exact))


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_weight_norm_neither_overflows_nor_underflows(scale, rng):
    v = (scale * rng.standard_normal((6, 40))).astype(np.float32)
    expected = oracle.weight_norm(v, np.ones(6))
    assert_within(nbn.weight_norm(v, np.ones(6, np.float32)), expected, 4 * oracle.EPS32 * np.abs(expected))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", every(FLOATS, [*FLOATS[:2], BFLOAT16]))
@pytest.mark.parametrize(("axis", "eps", "ddof"), [(0, 1e-5, 0), (-1, 1e-3, 0), (0, 0.0, 1)])
def test_weight_standardize(shape, dtype, axis, eps, ddof, rng):
    w = (2 + rng.standard_normal(shape)).astype(dtype)
    if w.size // shape[axis] <= ddof:
        pytest.skip("nothing left to divide by")
    got = nbn.weight_standardize(w, axis=axis, eps=eps, ddof=ddof)
    expected = oracle.weight_standardize(w, axis, eps, ddof)
    assert got.dtype == dtype
    unit = oracle.working_eps(dtype)
    of_output = 0.5 * float(np.finfo(np.float32).eps if dtype == np.float32 else oracle.ml_dtypes.finfo(dtype).eps)
    assert_within(got, expected, of_output * np.abs(expected) + 8 * unit * np.abs(expected).max(initial=1))


def test_standardized_weights(rng):
    w = 5 + 3 * rng.standard_normal((16, 8, 3, 3))
    got = nbn.weight_standardize(w, eps=0.0).reshape(16, -1)
    np.testing.assert_allclose(got.mean(1), 0, atol=1e-14)
    np.testing.assert_allclose(got.var(1), 1, rtol=1e-13)


@pytest.mark.parametrize("shape", [(8, 5), (16, 3, 3, 3), (1, 9), (33, 70)])
@pytest.mark.parametrize("num_iterations", [1, 3, 10])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch prefers another function, which turns u and v around
def test_spectral_norm_is_torchs(shape, num_iterations, dtype, rng):
    torch = pytest.importorskip("torch")
    w = rng.standard_normal(shape).astype(dtype)
    layer = torch.nn.Module()
    layer.weight = torch.nn.Parameter(torch.from_numpy(w.copy()))
    layer.forward = lambda: layer.weight
    layer = torch.nn.utils.spectral_norm(layer, n_power_iterations=num_iterations, dim=0)
    start = layer.weight_u.numpy().copy()
    expected = layer().detach().numpy()
    got, sigma, u = nbn.spectral_norm(w, start, num_iterations=num_iterations)
    unit = np.finfo(dtype).eps * w.size**0.5
    assert got.dtype == dtype
    assert_within(got, expected, 8 * unit * np.abs(expected).max())
    assert_within(u, layer.weight_u.numpy(), 8 * unit)
    np.testing.assert_allclose(got * sigma, w, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("num_iterations", [0, 1, 4])
def test_spectral_norm(axis, num_iterations, rng):
    w = rng.standard_normal((6, 4, 5))
    u = rng.standard_normal(w.shape[axis])
    u /= np.linalg.norm(u)
    before = u.copy()
    got = nbn.spectral_norm(w, u, axis=axis, num_iterations=num_iterations)
    for ours, expected in zip(got, oracle.spectral_norm(w, u, axis, num_iterations), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(u, before)


def test_spectral_norm_finds_the_largest_singular_value(rng):
    w = rng.standard_normal((20, 30))
    got, sigma, u = nbn.spectral_norm(w, num_iterations=500)
    np.testing.assert_allclose(sigma, np.linalg.norm(w, 2), rtol=1e-10)
    np.testing.assert_allclose(np.linalg.norm(got, 2), 1, rtol=1e-10)
    np.testing.assert_allclose(np.linalg.norm(u), 1, rtol=1e-12)


def test_spectral_norm_starts_from_a_fixed_seed(rng):
    w = rng.standard_normal((20, 30))
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = nbn.spectral_norm(w), nbn.spectral_norm(w)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_spectral_norm_goes_on_where_it_stopped(rng):
    w = rng.standard_normal((20, 30))
    start = nbn.spectral_norm(w)[2]
    _, _, u = nbn.spectral_norm(w, start, num_iterations=2)
    _, sigma, u = nbn.spectral_norm(w, u, num_iterations=3)
    _, sigma_at_once, u_at_once = nbn.spectral_norm(w, start, num_iterations=5)
    np.testing.assert_allclose(sigma, sigma_at_once, rtol=1e-14)
    np.testing.assert_allclose(u, u_at_once, rtol=1e-13)


def test_spectral_norm_of_zeros_is_finite():
    _, sigma, u = nbn.spectral_norm(np.zeros((3, 4)), np.array([1.0, 0.0, 0.0]), num_iterations=2)
    assert sigma == 0
    assert np.isfinite(u).all()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", ["float32", BFLOAT16], ids=str)
def test_any_memory_order(order, dtype, rng):
    w = arrange(rng, rng.standard_normal((6, 4, 5)).astype(dtype), order)
    plain = np.array(w, order="C")
    g = np.arange(1.0, 7.0)
    pairs = [
        (nbn.weight_norm(w, g), nbn.weight_norm(plain, g)),
        (nbn.weight_standardize(w), nbn.weight_standardize(plain)),
        (nbn.spectral_norm(w)[0], nbn.spectral_norm(plain)[0]),
    ]
    for got, expected in pairs:
        assert got.dtype == dtype
        scale = np.abs(oracle.wide(expected)).max()
        assert_within(got, expected, float(oracle.ml_dtypes.finfo(dtype).eps) * 4 * scale)


# weights of any size, and settings of NumPy's ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "scale"), [("float32", 1e38), ("float32", 1e-20), ("float64", 1e200), ("float64", 1e300)]
)
def test_spectral_norm_of_large_and_small_weights(dtype, scale, rng):
    w = rng.standard_normal((6, 40))
    for _ in range(30):
        _, one, u = nbn.spectral_norm(w.astype(dtype), num_iterations=30, eps=0.0)
    got, sigma, v = nbn.spectral_norm((w / np.abs(w).max() * scale).astype(dtype), num_iterations=30, eps=0.0)
    unit = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(sigma / scale * np.abs(w).max(), one, rtol=64 * unit)
    np.testing.assert_allclose(np.abs(v), np.abs(u), atol=1e-3)
    assert abs(np.linalg.norm(got.astype(np.float64), 2) - 1) < 1e-3


def test_spectral_norm_recovers_from_a_weight_of_zeros(rng):
    w = rng.standard_normal((6, 40))
    _, _, u = nbn.spectral_norm(w, num_iterations=5)
    with np.errstate(all="raise"):
        got, sigma, kept = nbn.spectral_norm(np.zeros((6, 40)), u, num_iterations=2)
    assert sigma == 0 and np.isnan(got).all()
    np.testing.assert_allclose(kept, u, rtol=1e-15)
    for start in (kept, np.zeros(6)):  # of zeros: what earlier versions returned
        _, sigma, _ = nbn.spectral_norm(w, start, num_iterations=500)
        np.testing.assert_allclose(sigma, np.linalg.svd(w)[1][0], rtol=1e-6)


def test_standardized_by_the_deviation_plus_eps(rng):
    w = rng.standard_normal((6, 40))
    got, m = nbn.weight_standardize(w, eps=0.5, ddof=1, eps_on="std", return_moments=True)
    expected = (w - w.mean(1, keepdims=True)) / (w.std(1, ddof=1, keepdims=True) + 0.5)
    np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-13)
    assert m == nbn.moments(w, axis=1)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_weights_of_another_dtype(dtype, rng):
    w = rng.standard_normal((6, 40)).astype(np.float32)
    assert nbn.weight_norm(w, np.ones(6), dtype=dtype).dtype == dtype
    assert nbn.weight_standardize(w, dtype=dtype).dtype == dtype
    normalized, _, u = nbn.spectral_norm(w, dtype=dtype)
    assert normalized.dtype == u.dtype == dtype
