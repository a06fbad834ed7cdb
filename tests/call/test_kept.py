"""Calls that keep their statistics: repeated ones as the first, and only where they are the same."""

import numpy as np
import pytest

import numbanorm as nbn
from numbanorm.call import kept
from numbanorm.call.kept import normalized_kept
from numbanorm.call.run import Prepared
from numbanorm.norms.channels import Shape
from numbanorm.norms.running import take_running


def prepared(x, weight, bias, running, layout):
    taken = None if running is None else take_running(x, (*running, None), Shape.of(x.shape, 1), update=True)
    return Prepared(layout, weight, bias, taken)


@pytest.fixture(autouse=True)
def unknown(monkeypatch):
    monkeypatch.setattr(kept, "_known", {})


@pytest.mark.parametrize("size", [3, 4000])
def test_first_and_repeated_calls_give_output_and_states(rng, size):
    layout, weight = nbn.Layout.layer(1), rng.standard_normal(64).astype(np.float32)
    for _ in range(3):
        x = rng.standard_normal((size, 64)).astype(np.float32)
        y, mean, m2 = normalized_kept(x, weight, None, 1e-5, None, prepared, (layout,))
        expected, moments = nbn.normalize(x, layout, weight, return_moments=True)
        assert np.array_equal(y, expected) and np.array_equal(mean, moments.mean) and np.array_equal(m2, moments.m2)
    assert len(kept._known) == 1


def test_each_call_has_states_of_its_own(rng):
    x = rng.standard_normal((3, 64))
    first = normalized_kept(x, None, None, 1e-5, None, prepared, (nbn.Layout.layer(1),))
    before = [a.copy() for a in first]
    for _ in range(2):
        normalized_kept(x + 1.0, None, None, 1e-5, None, prepared, (nbn.Layout.layer(1),))
    assert all(np.array_equal(a, b) for a, b in zip(first, before, strict=True))


def test_other_forms_and_settings_are_other_calls(rng):
    x = rng.standard_normal((8, 8))
    for one in (x, x.T, x.astype(np.float32), x[::2], x[:, ::2]):
        for layout in (nbn.Layout.layer(1), nbn.Layout.batch()):
            for out in (None, np.empty_like(one)):
                y, mean, _ = normalized_kept(one, None, None, 1e-5, out, prepared, (layout,))
                assert np.array_equal(y, nbn.normalize(one, layout)) and mean.shape == layout.group_shape(one.shape)
                assert out is None or y is out


def test_threads_may_change_between_calls(rng, threads):
    x, layout, found = rng.standard_normal((4000, 64)), nbn.Layout.batch(), []
    for number in (1, threads, 1):
        nbn.set_num_threads(number)
        found.append(normalized_kept(x, None, None, 1e-5, None, prepared, (layout,)))
    for one in found[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(one, found[0], strict=True))


def test_running_statistics_move_and_are_checked_each_time(rng):
    x, found, expected = rng.standard_normal((6, 4)), (np.zeros(4), np.ones(4)), (np.zeros(4), np.ones(4))
    for _ in range(3):
        normalized_kept(x, None, None, 1e-5, None, prepared, (nbn.Layout.batch(),), (*found, 0.3))
        nbn.batch_norm(x, *expected, training=True, momentum=0.3)
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    found[0].flags.writeable = False
    with pytest.raises(ValueError, match=r"running_mean.*read-only"):
        normalized_kept(x, None, None, 1e-5, None, prepared, (nbn.Layout.batch(),), (*found, 0.3))
    assert np.array_equal(found[1], expected[1])
