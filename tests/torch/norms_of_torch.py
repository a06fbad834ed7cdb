"""Every norm of numbanorm.torch.functional beside the one that says what is right, and small arguments for both."""

import torch
from torch.nn import functional as theirs

from numbanorm.torch import composed
from numbanorm.torch import functional as ours
from numbanorm.torch.norm import Rule

SHAPE = (3, 4, 2, 3)


def numbers(*shape, dtype=torch.float64, seed=0, scale=1.0, shift=0.0):
    made = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + sum(shape)))
    return (made * scale + shift).to(dtype)


# Made once, since tracers would not follow a generator; and numbers that float32 has, too.
STORED = tuple(one.float().double() for one in (numbers(4, seed=7), numbers(4, seed=8).abs() + 0.5))


def stored(dtype=torch.float64):
    return tuple(one.clone().to(dtype) for one in STORED)


def renormed(x, weight=None, bias=None):
    """Batch renormalization by its definition, of torch's own operations."""
    mean, var = (one.reshape(-1, 1, 1) for one in stored(x.dtype))
    dims = (0, 2, 3)
    own = x.mean(dims, keepdim=True), x.var(dims, correction=0, keepdim=True)
    std = (own[1] + 1e-5).sqrt()
    r = (std / (var + 1e-5).sqrt()).clamp(1 / 1.5, 1.5).detach()
    d = ((own[0] - mean) / (var + 1e-5).sqrt()).clamp(-0.5, 0.5).detach()
    y = (x - own[0]) / std * r + d
    y = y if weight is None else y * weight.reshape(-1, 1, 1)
    return y if bias is None else y + bias.reshape(-1, 1, 1)


def blended(x, rho, weight=None, bias=None):
    """Batch-instance normalization by its definition."""
    rho = rho.reshape(-1, 1, 1)
    y = rho * theirs.batch_norm(x, None, None, training=True) + (1 - rho) * theirs.instance_norm(x)
    y = y if weight is None else y * weight.reshape(-1, 1, 1)
    return y if bias is None else y + bias.reshape(-1, 1, 1)


def grouped(x, weight=None, bias=None):
    """torch's own, but that it cannot go back where there is a bias and no weight."""
    if weight is None and bias is not None:
        return theirs.group_norm(x, 2) + bias.reshape(-1, 1, 1)
    return theirs.group_norm(x, 2, weight, bias)


def pattern(x, weight=None, bias=None):
    """Windows of two rows, and groups of channels, with eps on the deviation of the unbiased variance."""
    apart = x.unflatten(2, (2, 1)).unflatten(1, (2, 2))
    params = [p if p is None else p.reshape(2, 2, 1, 1, 1) for p in (weight, bias)]
    return composed.forward(apart, *params, None, (0, 1, 4, 5), Rule(0.1, True, 1, True)).reshape(x.shape)


def _stored_of(x):
    return stored(torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype)


# By name: ours, theirs, and which parameters follow x: a shape for each.
VECTOR, LAST = (4,), (2, 3)
NORMS = {
    "layer": (
        lambda x, w=None, b=None: ours.layer_norm(x, LAST, w, b),
        lambda x, w=None, b=None: theirs.layer_norm(x, LAST, w, b),
        LAST,
    ),
    "group": (
        lambda x, w=None, b=None: ours.group_norm(x, 2, w, b),
        grouped,
        VECTOR,
    ),
    "batch": (
        lambda x, w=None, b=None: ours.batch_norm(x, None, None, w, b, True),
        lambda x, w=None, b=None: theirs.batch_norm(x, None, None, w, b, True),
        VECTOR,
    ),
    "batch that moves": (
        lambda x, w=None, b=None: ours.batch_norm(x, *_stored_of(x), w, b, True, 0.3),
        lambda x, w=None, b=None: theirs.batch_norm(x, *_stored_of(x), w, b, True, 0.3),
        VECTOR,
    ),
    "batch, stored": (
        lambda x, w=None, b=None: ours.batch_norm(x, *_stored_of(x), w, b),
        lambda x, w=None, b=None: theirs.batch_norm(x, *_stored_of(x), w, b),
        VECTOR,
    ),
    "instance": (
        lambda x, w=None, b=None: ours.instance_norm(x, None, None, w, b),
        lambda x, w=None, b=None: theirs.instance_norm(x, None, None, w, b),
        VECTOR,
    ),
    "instance, stored": (
        lambda x, w=None, b=None: ours.instance_norm(x, *_stored_of(x), w, b, False),
        lambda x, w=None, b=None: theirs.instance_norm(x, *_stored_of(x), w, b, False),
        VECTOR,
    ),
    "rms": (
        lambda x, w=None, _=None: ours.rms_norm(x, LAST, w, 1e-5),
        lambda x, w=None, _=None: theirs.rms_norm(x, LAST, w, 1e-5),
        LAST,
    ),
    "batch renorm": (
        lambda x, w=None, b=None: ours.batch_renorm(x, *_stored_of(x), w, b, True, r_max=1.5, d_max=0.5),
        renormed,
        VECTOR,
    ),
    "pattern": (
        lambda x, w=None, b=None: ours.normalize(
            x,
            "n (g c) (h i) w -> h c",
            w if w is None else w.reshape(4, 1, 1),
            b if b is None else b.reshape(4, 1, 1),
            g=2,
            i=1,
            eps=0.1,
            ddof=1,
            eps_on="std",
        ),
        pattern,
        VECTOR,
    ),
    "batch-instance": (ours.batch_instance_norm, blended, None),
}
AFFINE = ("none", "weight", "both", "bias")


def arguments(name, affine="both", dtype=torch.float64, memory_format=torch.contiguous_format, parameters=None):
    """x, and then weight and bias as far as they are wanted; rho before them for the norm that has one."""
    shape = NORMS[name][2]
    x = numbers(*SHAPE, dtype=dtype, scale=2.0, shift=0.5).contiguous(memory_format=memory_format)
    parameters = parameters or dtype
    before = [(numbers(4, seed=3).abs() % 1).to(parameters)] if shape is None else []
    shape = shape or VECTOR
    weight = numbers(*shape, seed=1, dtype=parameters) if affine in ("weight", "both") else None
    bias = numbers(*shape, seed=2, dtype=parameters) if affine in ("bias", "both") and name != "rms" else None
    return [x, *before, weight, bias]


def outcome(norm, given, wanted=None):
    """The output, and gradients of all that is given."""
    leaves = [None if one is None else one.detach().requires_grad_() for one in given]
    y = norm(*leaves)
    wanted = numbers(*y.shape, seed=9, dtype=y.dtype) if wanted is None else wanted
    y.backward(wanted)
    return y.detach(), *(one.grad for one in leaves if one is not None)


def check_close(found, expected, **tolerance):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, **tolerance)
