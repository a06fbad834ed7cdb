"""How CuPy is called: with the array functions that NumPy's contender is made of, on the memory of torch's tensors."""

from functools import partial
from typing import Any

import cupy

from .. import plain
from ..case import Arrays, Call, Case
from ..contenders import Unfit


def prepare(case: Case, a: Arrays, out: Any) -> Call:
    """Each step is a kernel of its own, as in any program that is written for NumPy and given CuPy's arrays."""
    if case.dtype == "bfloat16":
        raise Unfit("it has no bfloat16")
    own = Arrays(**{name: None if t is None else cupy.from_dlpack(t) for name, t in vars(a).items()})
    return partial(plain.numpy_norm, case, own, None if out is None else cupy.from_dlpack(out))
