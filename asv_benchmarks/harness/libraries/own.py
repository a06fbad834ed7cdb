"""How numbanorm is called, in any version of it: the module is given, so that two commits can run in one process.

Functions of numbanorm are looked up when a case is prepared: a version that lacks one raises AttributeError then, and
only that case is left out.
"""

from functools import partial
from types import ModuleType

import numpy as np

from ..case import Arrays, Call, Case, Prepare


def batch(nbn: ModuleType, case: Case, a: Arrays, out: np.ndarray | None) -> Call:
    """Both batch norms."""
    training, axis = case.norm == "batch_norm", case.channel_axis
    stored = a.x, a.mean, a.var, a.weight, a.bias
    return partial(nbn.batch_norm, *stored, training, eps=case.eps, channel_axis=axis, out=out)


def layer(nbn: ModuleType, case: Case, a: Arrays, out: np.ndarray | None) -> Call:
    """Over the last axis by its name; over axis 1 as a pattern."""
    if case.last:
        return partial(nbn.layer_norm, a.x, case.channels, a.weight, a.bias, case.eps, out=out)
    layout = nbn.Layout.axes(1)
    weight, bias = (p.reshape(case.affine[1:]) for p in (a.weight, a.bias))
    return partial(nbn.normalize, a.x, layout, weight, bias, eps=case.eps, out=out)


def rms(nbn: ModuleType, case: Case, a: Arrays, out: np.ndarray | None) -> Call:
    """RMS norm."""
    return partial(nbn.rms_norm, a.x, case.channels, a.weight, case.eps, out=out)


def group(nbn: ModuleType, case: Case, a: Arrays, out: np.ndarray | None) -> Call:
    """Group norm."""
    rest = {"channel_axis": case.channel_axis, "out": out}
    return partial(nbn.group_norm, a.x, case.groups, a.weight, a.bias, case.eps, **rest)


def instance(nbn: ModuleType, case: Case, a: Arrays, out: np.ndarray | None) -> Call:
    """Instance norm."""
    affine = {"weight": a.weight, "bias": a.bias}
    return partial(nbn.instance_norm, a.x, **affine, eps=case.eps, channel_axis=case.channel_axis, out=out)


def moments(nbn: ModuleType, case: Case, a: Arrays, out: np.ndarray | None) -> Call | None:
    """Mean and variance of each channel; there is no output to give."""
    if out is not None:
        return None
    of, layout = nbn.moments, nbn.Layout.axes(case.axes)

    def mean_and_variance() -> tuple[np.ndarray, np.ndarray]:
        found = of(a.x, layout)
        return found.mean, found.var()

    return mean_and_variance


def backward(nbn: ModuleType, case: Case, a: Arrays) -> Call:
    """From the gradient of the result to those of x, weight and bias, by the statistics that the forward pass kept."""
    axis, eps, weight = {"channel_axis": case.channel_axis}, case.eps, a.weight
    if case.norm == "batch_norm_eval":
        return partial(nbn.batch_norm_backward, a.grad, a.x, a.mean, a.var, weight, False, eps, **axis)
    kept = CALLS[case.norm](nbn, case, a, None)(return_moments=True)[1]
    if case.norm == "batch_norm":
        return partial(nbn.batch_norm_backward, a.grad, a.x, None, None, weight, True, eps, moments=kept, **axis)
    if case.norm == "group_norm":
        return partial(nbn.group_norm_backward, a.grad, a.x, case.groups, weight, eps, moments=kept, **axis)
    if case.norm == "instance_norm":
        return partial(nbn.instance_norm_backward, a.grad, a.x, weight=weight, eps=eps, moments=kept, **axis)
    if case.norm == "layer_norm" and not case.last:
        layout, weight = nbn.Layout.axes(1), weight.reshape(case.affine[1:])
        return partial(nbn.normalize_backward, a.grad, a.x, kept, layout, weight, eps=eps)
    function = nbn.layer_norm_backward if case.norm == "layer_norm" else nbn.rms_norm_backward
    return partial(function, a.grad, a.x, case.channels, weight, eps, moments=kept)


CALLS = {
    "batch_norm": batch,
    "batch_norm_eval": batch,
    "layer_norm": layer,
    "rms_norm": rms,
    "group_norm": group,
    "instance_norm": instance,
    "moments": moments,
}


def prepare(nbn: ModuleType, case: Case, a: Arrays, out: np.ndarray | None) -> Call | None:
    """Return how a case is called; None where it takes no output."""
    if case.backward:
        return backward(nbn, case, a) if out is None else None
    return CALLS[case.norm](nbn, case, a, out)


def calls_of(nbn: ModuleType) -> dict[str, Prepare]:
    """Return {norm: how this numbanorm is called}."""
    return {norm: partial(prepare, nbn) for norm in CALLS}
