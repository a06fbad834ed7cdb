"""Backward by stored statistics, where output is written with the sums: against the formula, in any memory order."""

import numpy as np
import pytest
from oracle import assert_same
from strategies import BFLOAT16

import numbanorm as nbn

EPS = 1e-5
# Short runs, whole lanes and not; many channels and few; one sample; no axes beside the channels'.
SHAPES = [(3, 5, 7, 7), (5, 40, 4, 4), (2, 70, 15, 16), (2, 3, 40, 41), (1, 33, 6), (70, 48), (9, 1030, 3)]
DTYPES = [np.dtype("f4"), np.dtype("f8"), pytest.param(np.dtype("f2"), marks=pytest.mark.exhaustive)]
DTYPES += [pytest.param(BFLOAT16, marks=pytest.mark.exhaustive, id="bf")]
by_last = pytest.mark.parametrize("last", [False, True], ids=["first", "last"])


def operands(rng, shape, dtype, last):
    """The gradient, x, mean, variance and weight; channels on axis 1, and last in memory if so asked."""
    grad, x = (rng.standard_normal((2, *shape)) + 1).astype(dtype)
    if last:
        grad, x = (np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1) for a in (grad, x))
    mean, var, weight = rng.uniform(0.5, 1.5, (3, shape[1])).astype(np.float32)
    return grad, x, mean, var, weight


def check(got, grad, x, mean, var, weight):
    """Gradients within the rounding of their dtypes."""
    dx, dweight, dbias = got
    axes = tuple(axis for axis in range(x.ndim) if axis != 1)
    along = (-1, *(1,) * (x.ndim - 2))
    wide_grad, wide_x = grad.astype(np.float64), x.astype(np.float64)
    r = 1 / np.sqrt(var.astype(np.float64) + EPS)
    t = (wide_x - mean.astype(np.float64).reshape(along)) * r.reshape(along)
    scale = r if weight is None else r * weight.astype(np.float64)
    assert (dx.dtype, dx.strides) == (x.dtype, np.empty_like(x).strides)
    rounding = {2: 2.0**-8 if x.dtype == BFLOAT16 else 2.0**-11, 4: 2.0**-24, 8: 2.0**-53}[x.dtype.itemsize]
    wanted = wide_grad * scale.reshape(along)
    assert (abs(dx.astype(np.float64) - wanted) <= 4 * rounding * abs(wanted) + 1e-7 * (rounding > 1e-4)).all()
    if weight is None:
        assert dweight is None and dbias is None
        return
    fine = 2.0**-53 if x.dtype.itemsize == 8 else 2.0**-24
    for one, terms in ((dweight, wide_grad * t), (dbias, wide_grad)):
        allowed = 40 * fine * abs(terms).sum(axes) + 2.0**-24 * abs(terms.sum(axes))
        assert (abs(one - terms.sum(axes)) <= allowed).all()


@by_last
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients_by_stored_statistics(shape, dtype, last, rng):
    grad, x, mean, var, weight = operands(rng, shape, dtype, last)
    check(nbn.batch_norm_backward(grad, x, mean, var, weight), grad, x, mean, var, weight)
    check(nbn.batch_norm_backward(grad, x, mean, var), grad, x, mean, var, None)


@by_last
@pytest.mark.parametrize("shape", [*SHAPES, (7, 128, 12, 12), (64, 2048)], ids=str)
def test_any_cut_and_number_of_threads(cut_small, threads, shape, last, rng):
    grad, x, mean, var, weight = operands(rng, shape, np.float32, last)
    got = []
    for number in (1, 3, threads):
        nbn.set_num_threads(number)
        got.append(nbn.batch_norm_backward(grad, x, mean, var, weight))
    check(got[0], grad, x, mean, var, weight)
    for others in got[1:]:
        for one, other in zip(got[0], others, strict=True):
            assert_same(one, other)


@by_last
@pytest.mark.parametrize("order", ["reversed", "stepped", "other"])
def test_gradients_of_other_memory_orders(order, last, rng):
    grad, x, mean, var, weight = operands(rng, (3, 20, 12, 14), np.float32, last)
    if order == "reversed":
        grad, x = grad[:, ::-1], x[:, ::-1]
    elif order == "stepped":
        grad, x = grad[..., ::2], x[..., ::2]
    else:
        grad = np.asfortranarray(grad)
    check(nbn.batch_norm_backward(grad, x, mean, var, weight), grad, x, mean, var, weight)


@by_last
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("step", [1, 2])  # side by side or not
def test_dx_does_not_depend_on_x(bad, step, last, rng):
    grad, x, mean, var, weight = operands(rng, (4, 20, 5, 10), np.float32, last)
    grad, x = grad[..., ::step], x[..., ::step]
    x[1, 3, 2, 2] = bad
    assert np.isfinite(nbn.batch_norm_backward(grad, x, mean, var)[0]).all()
    dx, dweight, dbias = nbn.batch_norm_backward(grad, x, mean, var, weight)
    assert np.isfinite(dx).all() and np.isfinite(dbias).all()
    assert (np.flatnonzero(~np.isfinite(dweight)) == [3]).all()


@by_last
def test_products_that_float32_does_not_hold(last, rng):
    grad, x, mean, var, weight = operands(rng, (4, 20, 5, 5), np.float32, last)
    weight[7], var[7] = 1e38, 1e-12
    grad *= np.float32(1e-7)
    got = nbn.batch_norm_backward(grad, x, mean, var, weight, eps=1e-12)
    scale = weight.astype(np.float64) / np.sqrt(var.astype(np.float64) + 1e-12)
    np.testing.assert_allclose(got[0], grad * scale[:, None, None], rtol=1e-6)
