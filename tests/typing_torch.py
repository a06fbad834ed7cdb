"""What a user of torch may write: as typing_user.py."""

from typing import Any, assert_type

import torch
from torch import Tensor

import numbanorm as nbn


def right(x: Tensor, mean: Tensor, var: Tensor) -> None:
    assert_type(nbn.batch_norm(x, mean, var, training=True, out=x), Tensor)
    assert_type(nbn.layer_norm(x, x.shape[-1:], weight=mean), Tensor)
    assert_type(nbn.rms_norm(nbn.group_norm(x, num_groups=2), 4), Tensor)
    assert_type(nbn.normalize(x, axis=[0, 1]), Tensor)
    assert_type(nbn.normalize(x, return_moments=True), tuple[Tensor, nbn.Moments[Any]])
    assert_type(nbn.weight_norm(x, mean), Tensor)
    assert_type(nbn.weight_standardize(x), Tensor)
    assert_type(nbn.spectral_norm(x)[0], Tensor)
    # An ndarray where x lies on the host, a tensor where it lies on a GPU: no checker knows.
    assert_type(nbn.moments(x).mean, Any)
    torch.sqrt(nbn.moments(x).var())


def wrong(x: Tensor) -> None:
    nbn.group_norm(x, 2).astype(float)  # wrong: a tensor has no such method
    nbn.group_norm(x, 2, eps="small")  # wrong: a str
