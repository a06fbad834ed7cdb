"""One call of each norm, in a form that is remembered."""

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
    "layer, list": lambda x, v, **o: nbn.layer_norm(x, [x.shape[3]], bias=np.full(x.shape[3], v[0, 0]), **o),
    "rms": lambda x, v, **o: nbn.rms_norm(x, x.shape[3], **o),
    "instance": lambda x, v, **o: nbn.instance_norm(x, weight=v[0], **o),
    "instance, running": lambda x, v, **o: nbn.instance_norm(x, v[2], v[3], **o),
    "instance, stored": lambda x, v, **o: nbn.instance_norm(x, v[2], v[3], use_input_stats=False, **o),
    "batch": lambda x, v, **o: nbn.batch_norm(x, weight=v[0], training=True, **o),
    "batch, running": lambda x, v, **o: nbn.batch_norm(x, v[2], v[3], v[0], v[1], training=True, **o),
    "batch, stored": lambda x, v, **o: nbn.batch_norm(x, v[2], v[3], v[0], v[1], **o),
}
