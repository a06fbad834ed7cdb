"""Who runs the cases: {norm: {library: how it is called}}, each in its own best way.

A contender is prepared with a case and its arrays, and gives a call without arguments, so that what is timed is the
call that a user makes. With `out` it gives a call that writes there, or None if it has none.
"""

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

import numbanorm as nbn

from . import plain
from .case import Arrays, Call, Case, Prepare
from .libraries import own
from .plain import as_one

OWN = "numbanorm"
DEFAULT = (OWN, "NumPy", "torch")
LIBRARIES = ("NumPy", "torch", "torch.compile", "JAX", "onnxruntime", "numbagg", "scikit-learn", "CuPy")
DEFAULT_ON_GPU = (OWN, "torch", "torch.compile")


class Unfit(Exception):
    """Says why a contender cannot do a case, in words that fit every case with the same reason."""


def numpy_call(case: Case, a: Arrays, out: np.ndarray | None) -> Call | None:
    """NumPy: one function for all norms (see plain.py)."""
    if case.norm == "moments":
        return partial(plain.mean_and_variance, case, a) if out is None else None
    return partial(plain.numpy_norm, case, a, out)


def later(module: str, function: str = "prepare") -> Prepare:
    """Return a way to prepare that imports its module when it is asked for: JAX alone takes a second."""

    def prepare(case: Case, a: Arrays, out: np.ndarray | None) -> Call | None:
        try:
            found = import_module(f".libraries.{module}", __package__)
        except ModuleNotFoundError as error:
            raise Unfit(f"{error.name} is not installed") from None
        return getattr(found, function)(case, a, out)

    return prepare


FOR_ALL: dict[str, Prepare] = {
    "NumPy": numpy_call,
    "torch": later("with_torch", "eager"),
    "torch.compile": later("with_torch", "compiled"),
    "JAX": later("with_jax"),
}
FOR_LAYERS: dict[str, Prepare] = {"onnxruntime": later("with_onnx")}
FOR_STATISTICS: dict[str, Prepare] = {"numbagg": later("with_numbagg"), "scikit-learn": later("with_sklearn")}

# Whoever is added here, under a name of its own and for some norms or all, is checked, timed and shown like the others.
# If it is wrong, compare.py exits with 1, which it does not for LIBRARIES.
CONTENDERS: dict[str, dict[str, Prepare]] = {
    norm: {OWN: prepare, **FOR_ALL, **(FOR_STATISTICS if norm == "moments" else FOR_LAYERS)}
    for norm, prepare in own.calls_of(nbn).items()
}

# Going backward, in every norm.
BACKWARD: dict[str, Prepare] = {
    OWN: partial(own.prepare, nbn),
    "NumPy": lambda case, a, out: plain.numpy_backward(case, a) if out is None else None,
    "torch": later("with_torch", "backward"),
}

# On a GPU. The arrays are torch's tensors for all, and a call only queues its work. One that works on another stream
# than torch's has an attribute `wait`, a function of its result. Triton has no norms of its own to call: it is what
# torch.compile makes its kernels with, and stands for it here.
ON_GPU: dict[str, dict[str, Prepare]] = {
    norm: {
        OWN: prepare,
        "torch": FOR_ALL["torch"],
        "torch.compile": FOR_ALL["torch.compile"],
        "CuPy": later("with_cupy"),
        "JAX": later("with_jax", "on_gpu"),
    }
    for norm, prepare in own.calls_of(nbn).items()
    if norm != "moments"
}


def names(table: Mapping[str, Mapping[str, Prepare]] = CONTENDERS) -> list[str]:
    """Return the name of every contender."""
    return list(dict.fromkeys(name for libraries in table.values() for name in libraries))


def prepare(
    name: str,
    case: Case,
    a: Arrays,
    out: Any = None,
    table: Mapping[str, Mapping[str, Prepare]] = CONTENDERS,
) -> Call | None:
    """Prepare a contender.

    Raises
    ------
    Unfit
        If it has nothing for the case.
    """
    known = BACKWARD if case.backward else table[case.norm]
    if name not in known:
        raise Unfit("it has no such function" if not case.backward else "its way back is not measured")
    return known[name](case, a, out)


def outputs(case: Case, a: Arrays, result: Any) -> tuple[np.ndarray, Sequence[np.ndarray]]:
    """Return what a contender gave as an array of the case's shape, and the running mean and variance after it.

    Mean and variance of `moments` come as one array, and so do gradients. Whoever gives another tuple does not write to
    the running statistics: they follow y in it, unless they are other ones.
    """
    if case.norm == "moments":
        return np.stack([to_numpy(case, part).reshape(-1) for part in result]), ()
    if case.backward:
        return as_one(result), ()
    if isinstance(result, tuple):
        y, *running = (to_numpy(case, part) for part in result)
        return y, running
    return to_numpy(case, result), (a.mean, a.var)


def to_numpy(case: Case, result: Any) -> np.ndarray:
    """Return an array of NumPy's in the case's order of axes."""
    torch = sys.modules.get("torch")  # where it is not, nobody gave its tensors
    if torch and isinstance(result, torch.Tensor):
        from .libraries import with_torch

        return with_torch.to_numpy(case, result)
    return np.asarray(result)
