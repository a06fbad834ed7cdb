"""Who runs the cases: {norm: {library: how it is called}}, each in its own best way.

A contender is prepared with a case and its arrays, and gives a call without arguments, so that what is timed is the
call that a user makes. With `out` it gives a call that writes there, or None if the library cannot.
"""

from functools import partial
from typing import Any

import numpy as np

import numbanorm as nbn

from . import own, plain
from .case import NORMS, Arrays, Call, Case, Prepare

try:
    from . import with_torch
except ImportError:  # torch is left out
    with_torch = None

OWN = "numbanorm"


def numpy_call(case: Case, a: Arrays, out: np.ndarray | None) -> Call | None:
    """NumPy: one function for all norms (see plain.py)."""
    if case.norm == "moments":
        return partial(plain.mean_and_variance, case, a) if out is None else None
    return partial(plain.numpy_norm, case, a, out)


CONTENDERS: dict[str, dict[str, Prepare]] = {
    norm: {
        OWN: prepare,
        "NumPy": numpy_call,
        **({"torch": with_torch.plain} if with_torch else {}),
    }
    for norm, prepare in own.calls_of(nbn).items()
}
LIBRARIES = tuple(dict.fromkeys(name for norm in NORMS for name in CONTENDERS[norm]))


def to_numpy(case: Case, result: Any) -> np.ndarray:
    """Return what a contender gave as an array of the case's shape; mean and variance as one array."""
    if isinstance(result, tuple):
        return np.stack([to_numpy(case, part).reshape(-1) for part in result])
    if isinstance(result, np.ndarray):
        return result
    if case.last and case.norm not in ("layer_norm", "rms_norm", "moments"):
        result = result.movedim(1, -1)  # see with_torch.image
    wide = with_torch.torch.float32 if result.dtype == with_torch.torch.bfloat16 else result.dtype
    return result.to(wide).numpy()
