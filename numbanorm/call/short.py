"""Short calls on addresses: of arrays of any library on the host, for which taking them would cost more than the work.

Kernels read a slot's address from the word behind the head of a Python object, where an ndarray has it. So has a value
of ctypes: `at(address)` may stand for an array. Who calls has checked everything, and keeps the memory alive.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from ..arrays.give import result_like
from ..cpu.engine import ENGINE, on_addresses
from ..engine.interface import Frame
from .backward import bound
from .run import Prepared
from .running import moving_frame

at = ctypes.c_char.from_address

# run(x, out, weight, bias, count, mean, m2, eps), each at an address or None; and the shape of the statistics.
Forward = tuple[Callable[..., Any], tuple[int, ...]]


@cache
def usable() -> bool:
    """Whether a value of ctypes has its address where kernels look for it, as in CPython."""
    value = ctypes.c_int64(7)
    word = ctypes.c_void_p.from_address(id(value) + object.__basicsize__).value
    return sys.implementation.name == "cpython" and word == ctypes.addressof(value)


def forward(x: Any, prepared: Prepared, statistics: tuple[Any, Any] | None) -> Forward | None:
    """What repeats a call of `run.transform` on ndarrays, if it is one step of one thread.

    Parameters
    ----------
    x : ndarray
        In C order, as the output is.
    prepared : Prepared
        What a norm made of its arguments.
    statistics : tuple, optional
        Mean and variance to use in place of x's own.
    """
    layout, weight, bias, _, center, ddof, eps_on_std = prepared
    frame = Frame(x, result_like(x, x.dtype), weight, bias)
    frame = frame._replace(center=int(center), ddof=ddof, eps_on_std=int(eps_on_std))
    if statistics is not None:
        frame = frame._replace(mean=statistics[0], m2=statistics[1])
    plan = ENGINE.plan("normalize" if statistics is None else "apply", layout, frame)
    run = on_addresses(plan, frame)
    return None if run is None else (run, plan.group_shape)


def backward(x: Any, weight: Any, grad: Any, prepared: Prepared, own: bool) -> Callable[..., Any] | None:
    """The same for the way back: run(x, out, weight, grad, count, mean, m2, eps) gives the two sums, or None."""
    run: Callable[..., Any] | None = bound(x, weight, grad, prepared, own, serial=True)[1]
    return run


def moving(mean: Any, running_mean: Any, running_var: Any) -> Callable[..., None]:
    """What repeats `running.update_running` for states of one axis: run(count, mean, m2, mean, var, momentum)."""
    frame = moving_frame(mean, mean, mean, running_mean, running_var, None, 0.0, 1)
    (step,) = ENGINE.plan("update_running", None, frame).steps

    def run(count, mean, m2, running_mean, running_var, momentum):  # type: ignore[no-untyped-def]
        ENGINE.launch(step, moving_frame(count, mean, m2, running_mean, running_var, None, momentum, 1))

    return run


def states(shape: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """Room for count, mean and m2."""
    return np.empty(shape), np.empty(shape), np.empty(shape)
