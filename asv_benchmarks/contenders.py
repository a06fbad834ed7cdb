"""Who runs the cases: {norm: {library: how it is called}}, each in its own best way.

A contender is prepared with a case and its arrays, and gives a call without arguments, so that what is timed is the
call that a user makes. With `out` it gives a call that writes there, or None if the library cannot.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from case import Arrays, Case
from plain import numpy_norm

import numbanorm as nbn

try:
    import torch
    from torch.nn import functional
except ImportError:  # torch is left out
    torch = None

Call = Callable[[], Any]
Prepare = Callable[[Case, Arrays, np.ndarray | None], Call | None]


def plain(case: Case, a: Arrays, out: np.ndarray | None) -> Call:
    """NumPy: one function for all (see plain.py)."""
    return partial(numpy_norm, case, a, out)


# numbanorm ------------------------------------------------------------------------------------------------------


def own_batch(case: Case, a: Arrays, out: np.ndarray | None) -> Call:
    """Both batch norms."""
    training, axis = case.norm == "batch_norm", case.channel_axis
    stored = a.x, a.mean, a.var, a.weight, a.bias
    return partial(nbn.batch_norm, *stored, training, eps=case.eps, channel_axis=axis, out=out)


def own_layer(case: Case, a: Arrays, out: np.ndarray | None) -> Call:
    """Over the last axis by its name; over axis 1 as a pattern."""
    if case.last:
        return partial(nbn.layer_norm, a.x, case.channels, a.weight, a.bias, case.eps, out=out)
    layout = nbn.Layout.axes(1)
    weight, bias = (p.reshape(case.affine[1:]) for p in (a.weight, a.bias))
    return partial(nbn.normalize, a.x, layout, weight, bias, eps=case.eps, out=out)


def own_rms(case: Case, a: Arrays, out: np.ndarray | None) -> Call:
    """RMS norm."""
    return partial(nbn.rms_norm, a.x, case.channels, a.weight, case.eps, out=out)


def own_group(case: Case, a: Arrays, out: np.ndarray | None) -> Call:
    """Group norm."""
    rest = {"channel_axis": case.channel_axis, "out": out}
    return partial(nbn.group_norm, a.x, case.groups, a.weight, a.bias, case.eps, **rest)


def own_instance(case: Case, a: Arrays, out: np.ndarray | None) -> Call:
    """Instance norm."""
    affine = {"weight": a.weight, "bias": a.bias}
    return partial(nbn.instance_norm, a.x, **affine, eps=case.eps, channel_axis=case.channel_axis, out=out)


# torch: none of its norms takes an output -----------------------------------------------------------------------


def tensor(array: np.ndarray) -> Any:
    """View an array as a tensor."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def image(case: Case, x: np.ndarray) -> Any:
    """View x as torch wants images: channels on axis 1, and if they are last in memory, in its channels_last format."""
    return tensor(x).movedim(-1, 1) if case.last else tensor(x)


def torch_batch(case: Case, a: Arrays, out: np.ndarray | None) -> Call | None:
    """Both batch norms."""
    stored = map(tensor, (a.mean, a.var, a.weight, a.bias))
    training = case.norm == "batch_norm"
    return (
        None if out is not None else partial(functional.batch_norm, image(case, a.x), *stored, training, 0.1, case.eps)
    )


def torch_layer(case: Case, a: Arrays, out: np.ndarray | None) -> Call | None:
    """Over the last axis; over axis 1 as torchvision's ConvNeXt does it: permute, normalize, permute back."""
    if out is not None:
        return None
    x, rest = tensor(a.x), ((case.channels,), tensor(a.weight), tensor(a.bias), case.eps)
    if case.last:
        return partial(functional.layer_norm, x, *rest)
    there, back = [0, *range(2, x.ndim), 1], [0, x.ndim - 1, *range(1, x.ndim - 1)]
    return lambda: functional.layer_norm(x.permute(there), *rest).permute(back)


def torch_rms(case: Case, a: Arrays, out: np.ndarray | None) -> Call | None:
    """RMS norm."""
    arguments = tensor(a.x), (case.channels,), tensor(a.weight), case.eps
    return None if out is not None else partial(functional.rms_norm, *arguments)


def torch_group(case: Case, a: Arrays, out: np.ndarray | None) -> Call | None:
    """Group norm."""
    arguments = image(case, a.x), case.groups, tensor(a.weight), tensor(a.bias), case.eps
    return None if out is not None else partial(functional.group_norm, *arguments)


def torch_instance(case: Case, a: Arrays, out: np.ndarray | None) -> Call | None:
    """Instance norm."""
    affine = {"weight": tensor(a.weight), "bias": tensor(a.bias)}
    return None if out is not None else partial(functional.instance_norm, image(case, a.x), **affine, eps=case.eps)


CONTENDERS: dict[str, dict[str, Prepare]] = {
    "batch_norm": {"numbanorm": own_batch, "NumPy": plain, "torch": torch_batch},
    "batch_norm_eval": {"numbanorm": own_batch, "NumPy": plain, "torch": torch_batch},
    "layer_norm": {"numbanorm": own_layer, "NumPy": plain, "torch": torch_layer},
    "rms_norm": {"numbanorm": own_rms, "NumPy": plain, "torch": torch_rms},
    "group_norm": {"numbanorm": own_group, "NumPy": plain, "torch": torch_group},
    "instance_norm": {"numbanorm": own_instance, "NumPy": plain, "torch": torch_instance},
}
OWN = "numbanorm"
LIBRARIES = (OWN, "NumPy", *(["torch"] if torch else []))


def to_numpy(case: Case, result: Any) -> np.ndarray:
    """Return what a contender gave as an array of the case's shape."""
    if isinstance(result, np.ndarray):
        return result
    if case.last and case.norm not in ("layer_norm", "rms_norm"):
        result = result.movedim(1, -1)  # see `image`
    wide = torch.float32 if result.dtype == torch.bfloat16 else result.dtype
    return result.to(wide).numpy()
