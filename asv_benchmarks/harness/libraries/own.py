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


CALLS = {
    "batch_norm": batch,
    "batch_norm_eval": batch,
    "layer_norm": layer,
    "rms_norm": rms,
    "group_norm": group,
    "instance_norm": instance,
    "moments": moments,
}


def calls_of(nbn: ModuleType) -> dict[str, Prepare]:
    """Return {norm: how this numbanorm is called}."""
    return {norm: partial(prepare, nbn) for norm, prepare in CALLS.items()}
