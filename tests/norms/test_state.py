"""Running statistics and the counter of their batches: all of it is the caller's, in place, and outlives any object."""

import copy
import pickle

import numpy as np
import pytest

import numbanorm as nbn

TRAINING = {
    nbn.batch_norm: {"training": True},
    nbn.batch_renorm: {"training": True},
    nbn.instance_norm: {"use_input_stats": True},
}


def batches(rng, number=4):
    return [k + rng.standard_normal((4, 3, 5)) for k in range(number)]


def means_of(norm, arrays):
    """What running statistics come to: the mean over all batches, or all samples of all batches."""
    if norm is nbn.instance_norm:
        return np.mean([a.mean(2).mean(0) for a in arrays], 0), np.mean([a.var(2, ddof=1).mean(0) for a in arrays], 0)
    return np.mean([a.mean((0, 2)) for a in arrays], 0), np.mean([a.var((0, 2), ddof=1) for a in arrays], 0)


@pytest.mark.parametrize("norm", TRAINING)
@pytest.mark.parametrize("given", ["arrays", "views", "copies", "pickles"])
def test_a_cumulative_mean_needs_no_particular_object(norm, given, numpy_engine, rng):
    state, seen = np.array([np.zeros(3), np.ones(3)]), np.zeros((), np.int64)
    x = batches(rng)
    for batch in x:
        if given == "pickles":
            state, seen = pickle.loads(pickle.dumps((state, seen)))
        if given == "copies":
            state, seen = copy.deepcopy(state), seen.copy()
        mean, var = (state[0, :], state[1, :]) if given != "arrays" else state
        norm(batch, mean, var, momentum=None, num_batches_tracked=seen[...], **TRAINING[norm])
    mean, var = means_of(norm, x)
    assert seen == 4
    np.testing.assert_allclose(state, [mean, var], rtol=1e-12)


@pytest.mark.parametrize("norm", TRAINING)
def test_a_counter_that_is_reset_begins_anew(norm, rng):
    mean, var, seen, x = np.zeros(3), np.ones(3), np.zeros((), np.int64), batches(rng)
    for batch in x[:3]:
        norm(batch, mean, var, momentum=None, num_batches_tracked=seen, **TRAINING[norm])
    seen[...] = 0
    norm(x[3], mean, var, momentum=None, num_batches_tracked=seen, **TRAINING[norm])
    np.testing.assert_allclose([mean, var], means_of(norm, x[3:]), rtol=1e-12)


@pytest.mark.parametrize("norm", TRAINING)
@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
def test_batches_are_counted_with_any_momentum(norm, dtype, rng):
    mean, var, seen = np.zeros(3), np.ones(3), np.zeros((), dtype)
    plain = mean.copy(), var.copy()
    for batch in batches(rng):
        norm(batch, mean, var, momentum=0.25, num_batches_tracked=seen, **TRAINING[norm])
        norm(batch, *plain, momentum=0.25, **TRAINING[norm])
    assert seen == 4
    np.testing.assert_array_equal([mean, var], plain)


@pytest.mark.parametrize("norm", TRAINING)
def test_nothing_is_counted_where_nothing_is_updated(norm, rng):
    mean, var, seen = np.zeros(3), np.ones(3), np.zeros((), np.int64)
    stored = {name: False for name in TRAINING[norm]}
    norm(batches(rng)[0], mean, var, momentum=None, num_batches_tracked=seen, **stored)
    norm(np.zeros((0, 3, 5)), mean, var, momentum=0.5, num_batches_tracked=seen, **TRAINING[norm])
    assert seen == 0
    np.testing.assert_array_equal([mean, var], [np.zeros(3), np.ones(3)])


def test_torch_counts_in_place_too(rng):
    torch = pytest.importorskip("torch")
    layer, x = torch.nn.BatchNorm1d(3, momentum=None).double(), torch.from_numpy(batches(rng)[0])
    ours = copy.deepcopy(layer)
    layer(x)
    state = ours.running_mean, ours.running_var
    nbn.batch_norm(x, *state, training=True, momentum=None, num_batches_tracked=ours.num_batches_tracked)
    for name, buffer in layer.named_buffers():
        torch.testing.assert_close(dict(ours.named_buffers())[name], buffer)


READ_ONLY = np.zeros((), np.int64)
READ_ONLY.flags.writeable = False
WRONG = [
    (None, ValueError, "pass num_batches_tracked"),
    (0, TypeError, "an integer array of no axes"),
    (np.int64(0), TypeError, "an integer array of no axes"),
    (np.zeros(1, np.int64), TypeError, r"shape \(1,\)"),
    (np.zeros(()), TypeError, "dtype float64"),
    (np.zeros((), bool), TypeError, "dtype bool"),
    (np.array(-1), ValueError, "must not be negative"),
    (READ_ONLY, ValueError, "read-only"),
]


@pytest.mark.parametrize("norm", TRAINING)
@pytest.mark.parametrize(("counter", "kind", "message"), WRONG)
def test_a_wrong_counter_is_refused_before_anything_is_touched(norm, counter, kind, message, rng):
    mean, var, x = np.zeros(3), np.ones(3), batches(rng)[0]
    before = x.copy()
    with pytest.raises(kind, match=message):
        norm(x, mean, var, momentum=None, num_batches_tracked=counter, out=x, **TRAINING[norm])
    np.testing.assert_array_equal([mean, var], [np.zeros(3), np.ones(3)])
    np.testing.assert_array_equal(x, before)


def test_a_counter_apart_from_all_other_arrays(rng):
    whole = np.zeros(7)
    mean, var, seen = whole[:3], whole[3:6], whole[:1].view(np.int64).reshape(())
    with pytest.raises(ValueError, match="num_batches_tracked overlaps running_mean"):
        nbn.batch_norm(batches(rng)[0], mean, var, training=True, num_batches_tracked=seen)
    with pytest.raises(ValueError, match="pass running_mean and running_var"):
        nbn.batch_norm(batches(rng)[0], training=True, num_batches_tracked=np.zeros((), np.int64))
