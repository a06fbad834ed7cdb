"""Calls of norms: one of each in a form that is remembered, and all that users make."""

import numpy as np

import numbanorm as nbn

C = 6


def some_vectors(rng):
    """A weight, a bias, a running mean and a running variance, row by row."""
    return rng.uniform(0.5, 1.5, (4, C)).astype(np.float32)


def images(rng, n=5, size=4):
    return (3 + rng.standard_normal((n, C, size, size))).astype(np.float32)


CALLS = {
    "normalize": lambda x, v, **o: nbn.normalize(x, "n (g c) h w -> n g", v[0][:, None, None], g=2, **o),
    "normalize, axis": lambda x, v, **o: nbn.normalize(x, axis=1, **o),
    "group": lambda x, v, **o: nbn.group_norm(x, 2, v[0], v[1], **o),
    "layer": lambda x, v, **o: nbn.layer_norm(x, tuple(x.shape)[1:], **o),
    "layer, list": lambda x, v, **o: nbn.layer_norm(x, [x.shape[3]], *np.full((2, x.shape[3]), v[0, 0]), **o),
    "layer, axis": lambda x, v, **o: nbn.layer_norm(x, x.shape[1], v[0], v[1], axis=1, **o),
    "normalize, deviation": lambda x, v, **o: nbn.normalize(x, axis=1, ddof=1, eps_on="std", eps=0.5, **o),
    "rms": lambda x, v, **o: nbn.rms_norm(x, x.shape[3], **o),
    "instance": lambda x, v, **o: nbn.instance_norm(x, weight=v[0], **o),
    "instance, running": lambda x, v, **o: nbn.instance_norm(x, v[2], v[3], **o),
    "instance, stored": lambda x, v, **o: nbn.instance_norm(x, v[2], v[3], use_input_stats=False, **o),
    "batch": lambda x, v, **o: nbn.batch_norm(x, weight=v[0], training=True, **o),
    "batch, running": lambda x, v, **o: nbn.batch_norm(x, v[2], v[3], v[0], v[1], training=True, **o),
    "batch, counted": lambda x, v, **o: nbn.batch_norm(
        x, v[2], v[3], v[0], v[1], training=True, momentum=None, num_batches_tracked=np.array(4), **o
    ),
    "batch, stored": lambda x, v, **o: nbn.batch_norm(x, v[2], v[3], v[0], v[1], **o),
}

# Small; groups for all threads; few groups, which are split; many short ones.
SHAPES = [(2, 8, 4, 4), (64, 64, 8, 8), (1, 8, 192, 192), (2, 64, 48, 48)]


def call_all(dtype):
    """Call every norm that users call: both memory orders, with and without weight and bias, on 1 and 3 threads."""
    for threads in (1, 3):
        nbn.set_num_threads(threads)
        for shape in SHAPES:
            x = np.ones(shape, dtype)
            with np.errstate(all="ignore"):
                call_norms(x, axis=1)
                call_norms(np.ascontiguousarray(np.moveaxis(x, 1, -1)), axis=-1)


def call_norms(x, axis):
    channels, last, stored = x.shape[axis], x.shape[-1], "f8" if x.dtype.kind in "ib" else x.dtype
    for given in ({}, {"weight"}, {"weight", "bias"}):
        by_channel = {name: np.ones(channels, stored) for name in given}
        by_last = {name: np.ones(last, stored) for name in given}
        mean, var = np.zeros(channels, stored), np.ones(channels, stored)
        options = {**by_channel, "channel_axis": axis}
        nbn.batch_norm(x, training=True, **options)
        nbn.batch_norm(x, mean, var, training=True, **options)
        nbn.batch_norm(x, mean, var, **options)
        nbn.batch_renorm(x, mean, var, training=True, **options)
        nbn.batch_instance_norm(x, np.full(channels, 0.5), **options)
        nbn.instance_norm(x, **options)
        nbn.group_norm(x, 4, **options)
        nbn.layer_norm(x, last, **by_last)
        nbn.rms_norm(x, last, by_last.get("weight"))
    nbn.weight_norm(x, np.ones(x.shape[0]))
    nbn.weight_norm(x, np.ones(last), axis=-1)
    nbn.weight_standardize(x)
    nbn.spectral_norm(x)
    for layout in ({}, {"axis": 0}, {"axis": -1}):
        nbn.normalize(x, **layout)
        nbn.normalize(x, moments=nbn.moments(x, **layout) + nbn.moments(x, **layout), **layout)
