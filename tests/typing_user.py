"""What a user may write, for a type checker: wrong are the lines that say so, and no others. See test_typing.py."""

from typing import Any, assert_type

import numpy as np
from numpy.typing import ArrayLike, NDArray

import numbanorm as nbn

Float16 = NDArray[np.float16]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


def norms(x: Float32, channels: Float32, mean: Float64, var: Float64) -> None:
    assert_type(nbn.batch_norm(x), Float32)
    assert_type(nbn.batch_norm(x, mean, var, channels, channels, training=True, momentum=None), Float32)
    assert_type(nbn.batch_renorm(x, mean, var, training=True, r_max=2.0), Float32)
    assert_type(nbn.instance_norm(x, weight=channels, out=x), Float32)
    assert_type(nbn.batch_instance_norm(x, [0.5, 1.0], channel_axis=-1), Float32)
    assert_type(nbn.layer_norm(x, (4, 4), eps=0), Float32)
    assert_type(nbn.rms_norm(x, [4]), Float32)
    assert_type(nbn.group_norm(x=x, num_groups=2, bias=[0.0, 1.0]), Float32)


def weights(w: Float32, g: Float64) -> None:
    assert_type(nbn.weight_norm(v=w, g=g), Float32)
    assert_type(nbn.weight_standardize(w, ddof=1), Float32)
    normalized, sigma, u = nbn.spectral_norm(w, num_iterations=3)
    assert_type(normalized, Float32)
    assert_type(sigma, float)
    nbn.spectral_norm(w, u)


def any_grouping(x: Float16) -> None:
    assert_type(nbn.normalize(x), Float16)
    assert_type(nbn.normalize(x, "n (g c) ... -> n g", g=2), Float16)
    assert_type(nbn.normalize(x, axis=[0, 2], weight=2.0), Float16)
    y, moments = nbn.normalize(x, nbn.Layout.group(2), return_moments=True)
    assert_type(y, Float16)
    assert_type(moments, nbn.Moments)
    assert_type(nbn.normalize(x, axis=0, moments=moments), Float16)
    assert_type(nbn.normalize(x, axis=0, labels=[0, 1, 0], num_labels=2), Float16)
    assert_type(nbn.moments(x, labels=np.zeros(3, np.int32)), nbn.Moments)
    assert_type(nbn.normalize(x, axis=0, where=[True, False], weights=2.0, skipna=True), Float16)
    assert_type(nbn.moments(x, weights=[1.0, 2.0], weights_are="reliability"), nbn.Moments)


def statistics(x: NDArray[np.uint8], path: str) -> None:
    moments = nbn.Moments.empty(3)
    moments += nbn.moments(x, axis=[0, 1]).merge(nbn.Moments([1], [0.0], [0.0]))
    assert_type(moments, nbn.Moments)
    assert_type(moments.count, Float64)
    assert_type(moments.mean, Float64)
    assert_type(moments.m2, Float64)
    assert_type(moments.var(ddof=1), Float64)
    assert_type(moments.std(), Float64)
    assert_type(moments.merge_axis(0), nbn.Moments)
    assert_type(moments.update(x, axis=[0, 1]), nbn.Moments)
    nbn.stream((x for _ in range(3)), "n c -> c", start=moments, progress=True)
    moments.save(path)
    assert_type(nbn.Moments.load(path), nbn.Moments)


def other_arrays(integers: NDArray[np.uint8], whatever: ArrayLike, flag: bool) -> None:
    assert_type(nbn.layer_norm(integers, 3), NDArray[Any])  # float64, which no checker knows
    assert_type(nbn.layer_norm([[1.0, 2.0], [3.0, 5.0]], 2), NDArray[Any])
    assert_type(nbn.normalize(whatever), NDArray[Any])
    assert_type(nbn.weight_norm([[3.0, 4.0]], 1.0, axis=None), NDArray[Any])
    nbn.normalize(whatever, return_moments=flag)


def settings() -> None:
    nbn.set_num_threads(2)
    assert_type(nbn.get_num_threads(), int)
    nbn.warmup(["float32", np.float64], progress=True)
    assert_type(nbn.Layout("n c -> c").group_shape((2, 3)), tuple[int, ...])
    assert_type(nbn.Layout.axes([0, 1]).group_ids((2, 3)), NDArray[np.int64])
    assert_type(nbn.__version__, str)


def wrong(x: Float32, moments: nbn.Moments) -> None:
    nbn.group_norm(x)  # wrong: no number of groups
    nbn.group_norm(x, "2")  # wrong: a str
    nbn.group_norm(x, 2, channels=1)  # wrong: no such argument
    nbn.layer_norm(None, 3)  # wrong: no array
    nbn.layer_norm(x, 3, out=[0.0])  # wrong: nothing to write to
    nbn.batch_norm(x, 0.0, 1.0)  # wrong: no arrays
    nbn.layer_norm(x, 3).to("cpu")  # wrong: an ndarray has no such method
    nbn.normalize(x, axis=0.5)  # wrong: no axis
    nbn.normalize(x, "n c -> n", c="3")  # wrong: no size
    print(nbn.normalize(x, return_moments=True).shape)  # wrong: a tuple
    nbn.weight_norm(w=x, g=x)  # wrong: it is v
    print(moments.var.shape)  # wrong: it is a method
    moments.mean.item("0")  # wrong: no index
    print(nbn.moments(x).variance)  # wrong: there is none
    nbn.plot.layout("n c -> n", (2, 3), highlight="one")  # wrong: no group
    print(nbn.plots)  # wrong: there is no such module
    print(nbn.Norm)  # wrong: not public
