"""The engine's own part: plans, empty arrays, merging, and how many threads. The kernels are in `test_kernels`."""

import numpy as np
import oracle
import pytest
from kernel_calls import forget_plans

import numbanorm as nbn
from numbanorm.call import run
from numbanorm.cpu import processors
from numbanorm.cpu.engine import ENGINE
from numbanorm.cpu.plan import Scratch
from numbanorm.engine.interface import Frame, Plan, execute

LAYER = nbn.Layout.layer()


def test_merging_along_the_last_axis(rng):
    """In order, each group on its own; what is empty adds nothing."""
    values = rng.standard_normal((3, 50, 7, 20))
    values[1, :, 2] = 4.0
    count, mean = np.full((3, 50, 7), 20.0), values.mean(-1)
    m2 = ((values - mean[..., None]) ** 2).sum(-1)
    count[2, 3], mean[2, 3], m2[2, 3] = 0.0, np.nan, 0.0
    for got in (
        run.merge_last(ENGINE, (count, mean, m2)),
        run.merge_last(ENGINE, (count, mean, m2, np.zeros_like(m2))),
    ):
        check_merged(got, values)
    for states in (3, 4):
        merged = run.merge_last(ENGINE, (np.ones((0, 4)),) * states)
        assert [a.shape for a in merged] == [(0,)] * states


def check_merged(got, values):
    whole = values.reshape(3, 50, -1)
    np.testing.assert_array_equal(got[0], np.where(np.arange(150).reshape(3, 50) == 103, 0, 140))
    full = got[0] > 0
    np.testing.assert_allclose(got[1][full], whole.mean(-1)[full], rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(got[2][full], (whole.var(-1) * 140)[full], rtol=1e-13)
    assert np.isnan(got[1][~full]).all()


def test_merging_keeps_means_in_two_parts(rng):
    """The first states may be empty: their mean, NaN, is nothing to count from."""
    values = 1e8 + 1e-2 * rng.standard_normal((3, 40, 6))
    for empty in ([], [0], [0, 1, 17], range(39)):
        states = [a.copy() for a in run.moments(ENGINE, LAYER, values)]
        for state, nothing in zip(states, (0.0, np.nan, 0.0, 0.0), strict=True):
            state[:, empty] = nothing
        count, mean, m2, rest = run.merge_last(ENGINE, tuple(states))
        left = np.delete(values, empty, axis=1).reshape(3, -1)
        oracle.check_rest(mean, rest, left, *oracle.groups(LAYER, left.shape))
        for got, group in zip(m2, left, strict=True):
            np.testing.assert_allclose(got, float(oracle.exact_moments(group)[2]), rtol=1e-13)
        np.testing.assert_array_equal(count, left.shape[1])


def test_merging_states_with_gaps():
    """A part of a larger array, which kernels read without gaps."""
    for number in (3, 4):
        states = [np.arange(24.0).reshape(4, 6) + 1 for _ in range(number)]
        got = run.merge_last(ENGINE, tuple(a[:, ::2] for a in states))
        want = run.merge_last(ENGINE, tuple(a[:, ::2].copy() for a in states))
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3), (2, 0, 3), (0, 0)], ids=str)
def test_empty_arrays(shape):
    x, weight = np.ones(shape, np.float32), np.ones(shape[-1:], np.float32)
    for axes in [(), *range(len(shape)), tuple(range(len(shape)))]:
        layout = nbn.Layout.axes(axes)
        y, (count, mean, m2), _ = run.transform(x, layout, weight, eps=1e-5, keep=True)
        assert (y.shape, y.dtype) == (x.shape, x.dtype)
        np.testing.assert_array_equal((count, m2), np.zeros((2, *layout.group_shape(shape))))
        assert np.isnan(mean).all()
        np.testing.assert_array_equal(run.moments(ENGINE, layout, x), (count, mean, m2, np.zeros_like(m2)))


def test_plans_are_made_once(rng):
    """The second call with such an array looks its plan up; another layout, shape, order or dtype needs another."""
    x = rng.standard_normal((20, 30)).astype(np.float32)
    forget_plans()
    plans = [ENGINE.plan("moments", LAYER, Frame(y)) for y in (x, x.copy(), x + 1)]
    assert len({*map(id, plans)}) == 1
    for layout, y in [(nbn.Layout.axes(0), x), (LAYER, x[:10]), (LAYER, np.asfortranarray(x)), (LAYER, x.astype("f8"))]:
        plans.append(ENGINE.plan("moments", layout, Frame(y)))
    assert len({*map(id, plans)}) == 5


def test_an_output_is_planned_for_what_it_is_made_of(rng, threads):
    """In place or not, from which statistics, with which weight, and on how many threads."""
    x = rng.standard_normal((20, 30)).astype(np.float32)
    apart, weight, states = np.empty_like(x), np.ones(30, np.float32), np.ones((2, 20))
    forget_plans()
    plans = []
    nbn.set_num_threads(1)
    for _ in range(2):
        for frame in (Frame(x, apart), Frame(x, x), Frame(x, apart, weight)):
            plans.append(ENGINE.plan("normalize", LAYER, frame))
        plans.append(ENGINE.plan("apply", LAYER, Frame(x, apart, mean=states[0], m2=states[1])))
    assert len({*map(id, plans)}) == 4
    nbn.set_num_threads(2)
    assert ENGINE.plan("normalize", LAYER, Frame(x, apart)) is not plans[0]


@pytest.mark.parametrize("own", [(4,), (2, 3, 4, 5), (3, 1, 4), (2,)], ids=str)
def test_weights_that_do_not_broadcast(own):
    with pytest.raises(ValueError, match=r"weight of shape.*does not broadcast to x's shape \(3, 4, 5\)"):
        ENGINE.plan("normalize", LAYER, Frame(np.ones((3, 4, 5)), np.ones((3, 4, 5)), np.ones(own)))


def test_dtypes_without_kernels():
    with pytest.raises(TypeError, match="dtype complex64"):
        ENGINE.plan("moments", LAYER, Frame(np.ones(3, np.complex64)))


def test_running_statistics_of_any_stride_and_dtype(rng):
    """More than fill the lanes, and not a byte between them is written."""
    n = 21
    count, mean, m2 = np.full(n, 5.0), rng.standard_normal(n), rng.random(n)
    home = rng.standard_normal((2, n, 3)).astype(np.float32)
    running_mean, running_var = home[0, :, 1], home[1, ::-1, 2]
    expected = home.copy()
    expected[0, :, 1] = 0.75 * running_mean.astype(np.float64) + 0.25 * mean
    expected[1, ::-1, 2] = 0.75 * running_var.astype(np.float64) + 0.25 * (m2 / 4)
    numbers = {"momentum": 0.25, "ddof": 1}
    frame = Frame(None, count=count, mean=mean, m2=m2, running_mean=running_mean, running_var=running_var, **numbers)
    execute(ENGINE, ENGINE.plan("update_running", None, frame), frame)
    np.testing.assert_array_equal(home, expected)


def test_scratch_is_made_anew_for_every_call():
    """A board is counted down while tasks are taken: no two calls may share one."""
    board = np.arange(3)
    first, second = (ENGINE.scratch(None, Plan((), (), Scratch(2, 5, board))) for _ in range(2))
    assert {name: array.shape for name, array in first.items()} == {
        **dict.fromkeys(("count", "mean", "m2"), (2,)),
        **dict.fromkeys(("part_count", "part_mean", "part_m2"), (5,)),
        "board": (3,),
    }
    arrays = [board, *first.values(), *second.values()]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])
    np.testing.assert_array_equal(first["board"], board)
    assert set(ENGINE.scratch(None, Plan((), (), Scratch(0, 5)))) == {"part_count", "part_mean", "part_m2"}


def test_arrays_of_an_engine(rng):
    """What norms ask of it beside plans."""
    x = rng.standard_normal((4, 3)).astype(np.float32)
    assert ENGINE.peek(x) is x
    assert ENGINE.send(x, x) is x
    np.testing.assert_allclose(ENGINE.mean_of_rows(x.astype(np.float64)), x.mean(0, np.float64), rtol=1e-14)
    empty = ENGINE.empty(x, (2, 3))
    assert (empty.shape, empty.dtype, empty.flags.c_contiguous) == ((2, 3), np.float64, True)
    turned = ENGINE.empty(x, (2, 3), np.float32, (4, 8))
    assert (turned.shape, turned.dtype, turned.strides) == ((2, 3), np.float32, (4, 8))
    for matrix, rtol in [(x, 1e-6), (x.astype(np.float64), 1e-14), ((100 * x).astype(np.int32), 1e-14)]:
        got = ENGINE.matvec(matrix, np.array([1.0, -2.0, 0.5]))
        assert got.dtype == np.float64
        np.testing.assert_allclose(got, matrix.astype(np.float64) @ [1.0, -2.0, 0.5], rtol=rtol, atol=10 * rtol)


def test_number_of_threads(threads):
    assert 1 <= processors.available() <= threads
    nbn.set_num_threads(np.int64(3))
    assert (nbn.get_num_threads(), type(nbn.get_num_threads())) == (3, int)
    for wrong, error in [(0, ValueError), (-1, ValueError), (2.0, TypeError), (True, TypeError), ("2", TypeError)]:
        with pytest.raises(error, match="n must be"):
            nbn.set_num_threads(wrong)
    assert nbn.get_num_threads() == 3
