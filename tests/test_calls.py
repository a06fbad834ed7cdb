"""Calls that were made before: right again, and refused again."""

import numpy as np
import pytest

import numbanorm as nbn
from numbanorm import calls

C = 6


@pytest.fixture(autouse=True)
def forget():
    calls._known.clear()


@pytest.fixture
def vectors(rng):
    return rng.uniform(0.5, 1.5, (4, C)).astype(np.float32)


def images(rng, n=5, size=4):
    return (3 + rng.standard_normal((n, C, size, size))).astype(np.float32)


CALLS = {
    "normalize": lambda x, v: nbn.normalize(x, "n (g c) h w -> n g", v[0][:, None, None], g=2),
    "normalize, axis": lambda x, v: nbn.normalize(x, axis=1),
    "group": lambda x, v: nbn.group_norm(x, 2, v[0], v[1]),
    "layer": lambda x, v: nbn.layer_norm(x, x.shape[1:]),
    "layer, list": lambda x, v: nbn.layer_norm(x, [x.shape[-1]], bias=np.full(x.shape[-1], v[0, 0])),
    "rms": lambda x, v: nbn.rms_norm(x, x.shape[-1]),
    "instance": lambda x, v: nbn.instance_norm(x, weight=v[0]),
    "instance, running": lambda x, v: nbn.instance_norm(x, v[2], v[3]),
    "instance, stored": lambda x, v: nbn.instance_norm(x, v[2], v[3], use_input_stats=False),
    "batch": lambda x, v: nbn.batch_norm(x, weight=v[0], training=True),
    "batch, running": lambda x, v: nbn.batch_norm(x, v[2], v[3], v[0], v[1], training=True),
    "batch, stored": lambda x, v: nbn.batch_norm(x, v[2], v[3], v[0], v[1]),
}


@pytest.mark.parametrize("size", [4, 90])  # one thread, and several
@pytest.mark.parametrize("name", CALLS)
def test_known_calls_give_what_new_ones_give(name, size, rng, vectors):
    call, first, second = CALLS[name], images(rng, size=size), images(rng, size=size)
    fresh, known = vectors.copy(), vectors.copy()
    expected = call(second, fresh)
    calls._known.clear()
    call(first, vectors.copy())
    assert len(calls._known) == 1
    got = call(second, known)
    assert len(calls._known) == 1
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(known, fresh)
    assert (got.dtype, got.strides) == (expected.dtype, expected.strides)
    assert not np.shares_memory(got, second)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    "change",
    [
        lambda x: x[:3],
        lambda x: x.astype(np.float64),
        lambda x: x.astype(">f4"),
        lambda x: (4 * x).astype(np.int16),
        lambda x: x.transpose(0, 1, 3, 2),
        lambda x: np.ascontiguousarray(np.moveaxis(x, 1, -1)).transpose(0, 3, 1, 2),
        lambda x: x.view(type("Own", (np.ndarray,), {})),
        lambda x: x.tolist(),
    ],
    ids=["shape", "dtype", "byte order", "integers", "strides", "channels last", "subclass", "list"],
)
def test_another_description_is_another_call(name, change, rng, vectors):
    call, x = CALLS[name], images(rng)
    y = change(x)
    if isinstance(y, list) and ("layer" in name or name == "rms"):
        y = np.asarray(y)
    expected = call(y, vectors.copy())
    calls._known.clear()
    call(x, vectors.copy())
    got = call(y, vectors.copy())
    np.testing.assert_array_equal(got, expected)
    assert got.dtype == expected.dtype


def test_numbers_of_another_type_are_refused_as_ever(rng):
    x = images(rng)
    nbn.group_norm(x, 2, channel_axis=1)
    with pytest.raises(TypeError):
        nbn.group_norm(x, 2.0, channel_axis=1)
    with pytest.raises(TypeError):
        nbn.group_norm(x, 2, channel_axis=1.0)
    nbn.layer_norm(x, 4)
    for shape in (4.0, [4.0], (4.0,)):
        with pytest.raises(TypeError):
            nbn.layer_norm(x, shape)


@pytest.mark.parametrize("eps", [-1e-5, float("nan"), "1e-5"])
def test_eps_is_checked_again(eps, rng):
    x = images(rng)
    nbn.group_norm(x, 2)
    with pytest.raises((ValueError, TypeError), match="eps"):
        nbn.group_norm(x, 2, eps=eps)


@pytest.mark.parametrize("norm", [nbn.batch_norm, nbn.instance_norm])
def test_memory_is_checked_again(norm, rng, vectors):
    own = {"training": True} if norm is nbn.batch_norm else {"use_input_stats": True}
    mean, var = vectors[2].copy(), vectors[3].copy()
    norm(images(rng), mean, var, **own)
    x = images(rng)
    inside = x.reshape(-1)[:C]
    mean.flags.writeable = False
    for a, b in ((mean, var), (inside, var), (var, inside), (var, var)):
        before = x.copy(), var.copy()
        with pytest.raises(ValueError, match="running"):
            norm(x, a, b, **own)
        np.testing.assert_array_equal(x, before[0])
        np.testing.assert_array_equal(var, before[1])
    with pytest.raises(ValueError, match="momentum"):
        norm(x, vectors[2], var, momentum=2, **own)


def test_empty_arrays_are_not_remembered():
    for _ in range(2):
        assert nbn.group_norm(np.ones((0, 4, 2)), 2).shape == (0, 4, 2)
    assert not calls._known


def test_only_so_many_are_kept(monkeypatch, rng):
    monkeypatch.setattr(calls, "MOST", 3)
    for n in range(1, 8):
        nbn.layer_norm(np.ones((n, 5)), 5)
        assert len(calls._known) <= 3
