"""Calls that were made before: right again, and refused again."""

import numpy as np
import pytest
from everyday import exhaustive
from known_calls import CALLS, C, images, some_vectors

import numbanorm as nbn
from numbanorm.call import known as calls
from numbanorm.call.known import forget


@pytest.fixture(autouse=True)
def forgotten():
    forget()


@pytest.fixture
def vectors(rng):
    return some_vectors(rng)


@pytest.mark.parametrize("size", [4, 90])  # one thread, and several
@pytest.mark.parametrize("name", CALLS)
def test_known_calls_give_what_new_ones_give(name, size, rng, vectors):
    call, first, second = CALLS[name], images(rng, size=size), images(rng, size=size)
    fresh, known = vectors.copy(), vectors.copy()
    expected = call(second, fresh)
    forget()
    call(first, vectors.copy())
    assert len(calls._known) == 1
    got = call(second, known)
    assert len(calls._known) == 1
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(known, fresh)
    assert (got.dtype, got.strides) == (expected.dtype, expected.strides)
    assert not np.shares_memory(got, second)


@pytest.mark.parametrize("size", [4, 90])
@pytest.mark.parametrize("name", [name for name in CALLS if "stored" not in name])
def test_known_calls_that_return_moments(name, size, rng, vectors):
    call, first, second = CALLS[name], images(rng, size=size), images(rng, size=size)
    fresh, known = vectors.copy(), vectors.copy()
    call(second, vectors.copy())  # which returns none: the next is another call
    expected, of_second = call(second, fresh, return_moments=True)
    forget()
    _, of_first = call(first, vectors.copy(), return_moments=True)
    kept = of_first.mean.copy()
    got, moments = call(second, known, return_moments=True)
    assert len(calls._known) == 1
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(known, fresh)
    assert moments == of_second
    np.testing.assert_array_equal(of_first.mean, kept)
    assert not isinstance(call(second, vectors.copy()), tuple)


CHANGES = {
    "shape": lambda x: x[:3],
    "dtype": lambda x: x.astype(np.float64),
    "byte order": lambda x: x.astype(">f4"),
    "integers": lambda x: (4 * x).astype(np.int16),
    "integers of its size": lambda x: (4 * x).astype(np.int32),  # the same strides, and another result
    "strides": lambda x: x.transpose(0, 1, 3, 2),
    "channels last": lambda x: np.ascontiguousarray(np.moveaxis(x, 1, -1)).transpose(0, 3, 1, 2),
    "subclass": lambda x: x.view(type("Own", (np.ndarray,), {})),
    "list": lambda x: x.tolist(),
}
# For these, each call needs kernels of its own.
OTHER_DTYPES = {"dtype", "byte order", "integers", "integers of its size", "list"}


@pytest.mark.parametrize(
    "engine, change",
    [
        pytest.param(engine, change, marks=exhaustive if engine == "host" and change in OTHER_DTYPES else ())
        for engine in ("host", "numpy")
        for change in CHANGES
    ],
)
@pytest.mark.parametrize("name", CALLS)
def test_another_description_is_another_call(name, change, engine, request, rng, vectors):
    """What tells calls from each other is the same for all engines."""
    if engine == "numpy":
        request.getfixturevalue("numpy_engine")
    call, x = CALLS[name], images(rng)
    y = CHANGES[change](x)
    if isinstance(y, list) and ("layer" in name or name == "rms"):
        y = np.asarray(y)
    expected = call(y, vectors.copy())
    forget()
    call(x, vectors.copy())
    got = call(y, vectors.copy())
    np.testing.assert_array_equal(got, expected)
    assert got.dtype == expected.dtype


@pytest.mark.parametrize("size", [4, 90])
@pytest.mark.parametrize("name", CALLS)
def test_known_calls_into_an_output(name, size, rng, vectors):
    call, first, second = CALLS[name], images(rng, size=size), images(rng, size=size)
    expected = call(second, vectors.copy())
    for _ in range(2):
        out = np.full_like(first, 7)
        assert call(first, vectors.copy(), out=out) is out
        assert call(second, vectors.copy(), out=out) is out
        np.testing.assert_array_equal(out, expected)
    x = first.copy()
    call(x, vectors.copy(), out=x)
    x[...] = second
    assert call(x, vectors.copy(), out=x) is x
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize("name", CALLS)
def test_the_memory_of_an_output_is_checked_again(name, rng, vectors):
    call, x = CALLS[name], images(rng)
    room = np.empty((2 * x.size,), np.float32)
    call(x, vectors.copy(), out=np.empty_like(x))
    fixed, later = np.zeros_like(x), room[5 : 5 + x.size].reshape(x.shape)
    fixed.flags.writeable = False
    here = room[: x.size].reshape(x.shape)
    here[...] = x
    for source, out in ((x, fixed), (here, later)):
        before = out.copy()
        with pytest.raises(ValueError, match="out"):
            call(source, vectors.copy(), out=out)
        np.testing.assert_array_equal(out, before)


def test_weights_in_the_output_are_refused_again(rng):
    x, weight = images(rng), images(rng)
    nbn.normalize(x.copy(), axis=1, weight=weight, out=np.empty_like(x))
    y = x.copy()
    nbn.normalize(y, axis=1, weight=weight, out=y)
    for source, scale, out in ((x, weight, weight), (x, x, x)):
        with pytest.raises(ValueError, match="weight"):
            nbn.normalize(source, axis=1, weight=scale, out=out)


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


def test_settings_that_cannot_be_hashed(rng):
    x = images(rng)
    for _ in range(2):
        np.testing.assert_array_equal(nbn.group_norm(x, np.array(2)), nbn.group_norm(x, 2))
        with pytest.raises(TypeError, match="layout"):
            nbn.normalize(x, ["n c h w -> n"])
        with pytest.raises(TypeError, match="channel_axis"):
            nbn.group_norm(x, 2, channel_axis=[1])
        with pytest.raises(TypeError, match="num_groups"):
            nbn.group_norm(x, [2])
        with pytest.raises(TypeError):
            nbn.layer_norm(x, [[4]])


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
