"""Calls that went backward before: the same gradients again, and refused again."""

import numpy as np
import pytest
from known_calls import C, images, some_vectors

import numbanorm as nbn
from numbanorm.call import known
from numbanorm.gradients import known as calls


@pytest.fixture(autouse=True)
def forgotten():
    calls.forget()


# What goes forward, with return_moments=True, and backward; v: weight, bias, running mean and variance.
PAIRS = {
    "normalize": (
        lambda x, v, **o: nbn.normalize(x, "n (g c) h w -> n g", v[0][:, None, None], g=2, ddof=1, **o),
        lambda d, x, v, m, **o: nbn.normalize_backward(
            d, x, m, "n (g c) h w -> n g", v[0][:, None, None], g=2, ddof=1, **o
        ),
    ),
    "layer": (
        lambda x, v, **o: nbn.layer_norm(x, x.shape[3], **o),
        lambda d, x, v, m, **o: nbn.layer_norm_backward(d, x, x.shape[3], moments=m, **o),
    ),
    "layer, axis": (
        lambda x, v, **o: nbn.layer_norm(x, C, v[0], axis=1, **o),
        lambda d, x, v, m, **o: nbn.layer_norm_backward(d, x, C, v[0], axis=1, moments=m, **o),
    ),
    "rms": (
        lambda x, v, **o: nbn.rms_norm(x, x.shape[1:], np.resize(v, x.shape[1:]), **o),
        lambda d, x, v, m, **o: nbn.rms_norm_backward(d, x, x.shape[1:], np.resize(v, x.shape[1:]), moments=m, **o),
    ),
    "batch": (
        lambda x, v, **o: nbn.batch_norm(x, weight=v[0], training=True, **o),
        lambda d, x, v, m, **o: nbn.batch_norm_backward(d, x, weight=v[0], training=True, moments=m, **o),
    ),
    "instance": (
        lambda x, v, **o: nbn.instance_norm(x, weight=v[0], **o),
        lambda d, x, v, m, **o: nbn.instance_norm_backward(d, x, weight=v[0], moments=m, **o),
    ),
    "group": (
        lambda x, v, **o: nbn.group_norm(x, 3, v[0], **o),
        lambda d, x, v, m, **o: nbn.group_norm_backward(d, x, 3, v[0], moments=m, **o),
    ),
}
STORED = {
    "batch, stored": lambda d, x, v, **o: nbn.batch_norm_backward(d, x, v[2], v[3], v[0], **o),
    "instance, stored": lambda d, x, v, **o: nbn.instance_norm_backward(
        d, x, v[2], v[3], v[0], use_input_stats=False, **o
    ),
}


def check(call, first, second):
    """Whether a call gives the same after another one of its description as in a fresh process."""
    expected = call(*second)
    calls.forget()
    call(*first)
    assert len(calls._known) == 1
    got = call(*second)
    assert len(calls._known) == 1
    for ours, fresh in zip(got, expected, strict=True):
        np.testing.assert_array_equal(ours, fresh)
        assert fresh is None or (ours.dtype, ours.strides) == (fresh.dtype, fresh.strides)
    return got


@pytest.mark.parametrize("size", [4, 90])  # one thread, and several
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("name", PAIRS)
def test_known_calls_give_what_new_ones_give(name, kept, size, rng):
    forward, backward = PAIRS[name]
    vectors = some_vectors(rng)
    batches = []
    for _ in range(2):
        x = images(rng, size=size)
        moments = forward(x, vectors, return_moments=True)[1] if kept else None
        batches.append((images(rng, size=size), x, vectors, moments))
    check(backward, *batches)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", STORED)
def test_known_calls_by_stored_statistics(name, dtype, rng):
    batches = [(images(rng), images(rng), some_vectors(rng).astype(dtype)) for _ in range(2)]
    check(STORED[name], *batches)


@pytest.mark.parametrize("order", "CF")
def test_weights_of_several_axes_in_an_order_of_their_own(order, rng):
    weight = np.asarray(rng.uniform(0.5, 1.5, (C, 5)), np.float32, order=order)

    def call(d, x):
        return nbn.layer_norm_backward(d, x, (C, 5), weight, axis=(2, 0))

    first, second = ([rng.standard_normal((5, 4, C)).astype(np.float32) for _ in range(2)] for _ in range(2))
    expected = call(*second)
    calls.forget()
    call(*first)
    for ours, fresh in zip(call(*second), expected, strict=True):
        np.testing.assert_array_equal(ours, fresh)


CHANGES = {
    "shape": lambda d, x, w: (d[:3], x[:3], w),
    "shape of grad": lambda d, x, w: (d[:3], x, w),
    "dtype": lambda d, x, w: (d, x.astype(np.float64), w),
    "dtype of grad": lambda d, x, w: (d.astype(np.float64), x, w),
    "byte order of grad": lambda d, x, w: (d.astype(">f4"), x, w),
    "dtype of weight": lambda d, x, w: (d, x, w.astype(np.float64)),
    "integers": lambda d, x, w: (d, (9 * x).astype(np.int32), w),
    "strides": lambda d, x, w: (d, x.transpose(0, 1, 3, 2), w),
    "strides of weight": lambda d, x, w: (d, x, np.repeat(w, 2)[::2]),
    "no weight": lambda d, x, w: (d, x, None),
    "list": lambda d, x, w: (d, x.tolist(), w),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_differs_is_looked_at_anew(change, rng):
    given = images(rng), images(rng), some_vectors(rng)[0]
    changed = CHANGES[change](*given)

    def call(d, x, w):
        try:
            return nbn.group_norm_backward(d, x, 2, w)
        except (TypeError, ValueError) as error:
            return (type(error), str(error))

    expected = call(*changed)
    calls.forget()
    call(*given)
    got = call(*changed)
    for ours, fresh in zip(got, expected, strict=True):
        np.testing.assert_array_equal(ours, fresh)
        assert getattr(ours, "dtype", None) == getattr(fresh, "dtype", None)


def test_settings_that_differ_are_looked_at_anew(rng):
    d, x, w = images(rng), images(rng), some_vectors(rng)[0]
    nbn.group_norm_backward(d, x, 2, w)
    calls_before = len(calls._known)
    nbn.group_norm_backward(d, x, 3, w)
    nbn.group_norm_backward(d, x, 3, w, eps=0.5)  # not a setting: it may change from call to call
    assert len(calls._known) == calls_before + 1
    with pytest.raises(TypeError, match="num_groups"):
        nbn.group_norm_backward(d, x, 3.0, w)
    for eps in (-1.0, float("nan"), "1"):
        with pytest.raises((ValueError, TypeError), match="eps"):
            nbn.group_norm_backward(d, x, 3, w, eps=eps)


def test_moments_are_checked_every_time(rng):
    d, x = images(rng), images(rng)
    moments = nbn.moments(x, axis=3)
    nbn.layer_norm_backward(d, x, 4, moments=moments)
    with pytest.raises(ValueError, match="moments are of 8 values a group, but groups of x have 4"):
        nbn.layer_norm_backward(d, x, 4, moments=moments.merge(moments))
    with pytest.raises(ValueError, match="group shape"):
        nbn.layer_norm_backward(d, x, 4, moments=nbn.moments(x, axis=2)[:, :2])
    nbn.rms_norm_backward(d, x, 4, moments=nbn.rms_norm(x, 4, return_moments=True)[1])
    with pytest.raises(ValueError, match="moments have means"):
        nbn.rms_norm_backward(d, x, 4, moments=moments)
    with pytest.raises(TypeError, match="moments must be Moments, got tuple"):
        nbn.layer_norm_backward(d, x, 4, moments=(moments.count, moments.mean, moments.m2))


def test_few_are_kept(rng, monkeypatch):
    monkeypatch.setattr(known, "MOST", 3)
    for n in range(1, 6):
        nbn.layer_norm_backward(np.ones((n, 4)), np.ones((n, 4)), 4)
        assert 1 <= len(calls._known) <= 3
