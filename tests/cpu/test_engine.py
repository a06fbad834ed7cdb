"""The engine's own part: plans, empty arrays, merging, and how many threads. The kernels are in `test_kernels`."""

import numpy as np
import pytest

import numbanorm as nbn
from numbanorm.cpu import engine

LAYER = nbn.Layout.layer()


def test_merging_along_the_last_axis(rng):
    """In order, each group on its own; what is empty adds nothing."""
    values = rng.standard_normal((3, 50, 7, 20))
    values[1, :, 2] = 4.0
    count, mean = np.full((3, 50, 7), 20.0), values.mean(-1)
    m2 = ((values - mean[..., None]) ** 2).sum(-1)
    count[2, 3], mean[2, 3], m2[2, 3] = 0.0, np.nan, 0.0
    got = engine.merge_last((count, mean, m2))
    whole = values.reshape(3, 50, -1)
    np.testing.assert_array_equal(got[0], np.where(np.arange(150).reshape(3, 50) == 103, 0, 140))
    full = got[0] > 0
    np.testing.assert_allclose(got[1][full], whole.mean(-1)[full], rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(got[2][full], (whole.var(-1) * 140)[full], rtol=1e-13)
    assert np.isnan(got[1][~full]).all()
    assert [a.shape for a in engine.merge_last((np.ones((0, 4)),) * 3)] == [(0,)] * 3


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3), (2, 0, 3), (0, 0)], ids=str)
def test_empty_arrays(shape):
    x, weight = np.ones(shape, np.float32), np.ones(shape[-1:], np.float32)
    for axes in [(), *range(len(shape)), tuple(range(len(shape)))]:
        layout = nbn.Layout.axes(axes)
        count, mean, m2 = engine.normalize(layout, x, x.copy(), weight, None, 1e-5, keep=True)
        np.testing.assert_array_equal((count, m2), np.zeros((2, *layout.group_shape(shape))))
        assert np.isnan(mean).all()


def test_plans_are_made_once(rng):
    """The second call with such an array looks its plan up; another layout, shape, order or dtype needs another."""
    x = rng.standard_normal((20, 30)).astype(np.float32)
    engine._plan.cache_clear()
    plans = {id(engine.plan(LAYER, y, y.copy())) for y in (x, x.copy(), x + 1)}
    assert len(plans) == 1
    for layout, y in [(nbn.Layout.axes(0), x), (LAYER, x[:10]), (LAYER, np.asfortranarray(x)), (LAYER, x.astype("f8"))]:
        plans.add(id(engine.plan(layout, y, np.empty_like(y))))
    assert len(plans) == 5


@pytest.mark.parametrize("own", [(4,), (2, 3, 4, 5), (3, 1, 4), (2,)], ids=str)
def test_weights_that_do_not_broadcast(own):
    with pytest.raises(ValueError, match=r"weight of shape.*does not broadcast to x's shape \(3, 4, 5\)"):
        engine.plan(LAYER, np.ones((3, 4, 5)), np.ones((3, 4, 5)), np.ones(own))


def test_number_of_threads(threads):
    assert 1 <= engine.available_threads() <= threads
    nbn.set_num_threads(np.int64(3))
    assert (nbn.get_num_threads(), type(nbn.get_num_threads())) == (3, int)
    for wrong, error in [(0, ValueError), (-1, ValueError), (2.0, TypeError), (True, TypeError), ("2", TypeError)]:
        with pytest.raises(error, match="n must be"):
            nbn.set_num_threads(wrong)
    assert nbn.get_num_threads() == 3
