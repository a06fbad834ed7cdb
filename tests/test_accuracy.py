"""Accuracy where it is hard to keep: large means in float64, the ends of float32, neighbours of odd groups."""

import math

import numpy as np
import pytest

import numbanorm as nbn


def exact_variance(x):
    """Variance with sums that are rounded once."""
    mean = math.fsum(x) / x.size
    d = x - mean
    return (math.fsum(d * d) - math.fsum(d) ** 2 / x.size) / x.size


@pytest.mark.parametrize("arrange", [np.sort, np.asarray], ids=["sorted", "shuffled"])
@pytest.mark.parametrize("mean", [0.0, 1e4, 1e8, 1e12])
@pytest.mark.parametrize("columns", [False, True], ids=["rows", "columns"])
def test_float64_variance_does_not_pay_for_the_mean(rng, arrange, mean, columns):
    x = arrange(rng.standard_normal(300_000) + mean)
    both = np.stack([x, x[::-1]])
    got = nbn.moments(np.ascontiguousarray(both.T), axis=0) if columns else nbn.moments(both, axis=1)
    assert np.abs(got.var() / exact_variance(x) - 1).max() <= 32 * np.finfo(float).eps


@pytest.mark.parametrize("spread", [1e-30, 1e-20, 1.0, 1e20, 1e30])
@pytest.mark.parametrize("weight", [1e-30, 1e-12, 1.0, 1e12, 1e25])
@pytest.mark.parametrize("channel_axis", [1, -1])
def test_folded_weights_stay_in_range(rng, spread, weight, channel_axis):
    x = (rng.standard_normal((2, 3, 40)) * spread).astype(np.float32)
    wide = x.astype(np.float64)
    want = (wide - wide.mean(2, keepdims=True)) / wide.std(2, keepdims=True) * np.float64(np.float32(weight))
    if channel_axis == -1:
        x = np.ascontiguousarray(x.transpose(0, 2, 1))
        want = want.transpose(0, 2, 1)
    got = nbn.instance_norm(x, weight=np.full(3, weight, np.float32), eps=0, channel_axis=channel_axis)
    assert np.abs(got - want).max() <= 4 * np.finfo(np.float32).eps * np.abs(want).max()


@pytest.mark.parametrize("size", [1e-44, 1e-40, 1e-38, 1e-20, 1e38])
def test_weight_norm_of_any_size(size):
    v = np.full((4, 4), size, np.float32)
    assert np.array_equal(nbn.weight_norm(v, np.ones(4, np.float32)), np.full((4, 4), 0.5, np.float32))


def test_distances_beyond_float32_are_taken_in_float64():
    x = np.full(200_000, 0.95e38, np.float32)
    x[0] = -3.4e38
    wide = x.astype(np.float64)
    want = (wide - wide.mean()) / wide.std()
    assert np.allclose(nbn.normalize(x, eps=0), want, rtol=1e-6)


@pytest.mark.parametrize("odd", [np.nan, np.inf, 0.0], ids=["nan", "inf", "constant"])
def test_one_odd_column_changes_no_other(rng, threads, odd):
    x = rng.standard_normal((600, 1100), np.float32)
    plain = nbn.normalize(x, axis=0, eps=0)
    x[:, 7] = odd
    results = []
    for n in (1, 2, threads):
        nbn.set_num_threads(n)
        results.append(nbn.normalize(x, axis=0, eps=0))
    others = np.arange(x.shape[1]) != 7
    for result in results:
        assert np.array_equal(result[:, others], plain[:, others])
        assert np.array_equal(result, results[0], equal_nan=True)
