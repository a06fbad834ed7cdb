"""Integers, shapes and what else callers give, checked; and how messages show it."""

from collections.abc import Iterable, Mapping
from math import isqrt
from operator import index
from typing import Any


def names_of_divisors(number: int) -> str:
    """What divides a number, in words; of many, the first ones."""
    small = [n for n in range(1, min(isqrt(number), 10_000) + 1) if number % n == 0]
    found = sorted({*small, *(number // n for n in small)})
    if len(found) > 12:
        return ", ".join(map(str, found[:11])) + f" ... {found[-1]}"
    *most, last = map(str, found)
    return f"{', '.join(most)} or {last}" if most else last


def as_int(value: Any, name: str) -> int:
    """An integer argument as an int, of whatever integer type it is; a bool is none."""
    if type(value) is int:
        return value
    dtype = getattr(value, "dtype", None)
    try:
        if isinstance(value, bool) or (dtype is not None and "bool" in str(dtype)):
            raise TypeError
        return int(index(value))
    except TypeError:
        raise TypeError(f"{name} must be an int, got {shown(value)}") from None


def as_ints(value: Any, name: str) -> tuple[int, ...]:
    """One integer argument or several, in a sequence or an array of one axis."""
    try:
        if isinstance(value, Iterable) and getattr(value, "ndim", 1) != 0:
            if isinstance(value, str | bytes | Mapping):
                raise TypeError
            return tuple(as_int(n, name) for n in value)
        return (as_int(value, name),)
    except TypeError:
        raise TypeError(f"{name} must be an int or a sequence of ints, got {shown(value)}") from None


def as_shape(shape: Any) -> tuple[int, ...]:
    """A shape as a tuple of ints."""
    if type(shape) is tuple and all(type(n) is int and n >= 0 for n in shape):
        return shape
    try:
        if isinstance(shape, int) or getattr(shape, "ndim", 1) != 1:
            raise TypeError
        sizes = as_ints(shape, "shape")
    except TypeError:
        raise TypeError(f"shape must be a sequence of ints such as x.shape, got {shown(shape)}") from None
    if any(n < 0 for n in sizes):
        raise ValueError(f"shape {sizes} has a negative size; give the shape of an array, such as x.shape")
    return sizes


def shown(value: Any) -> str:
    """An argument in a message: its type, and what it is if that is short."""
    if value is None:
        return "None"
    kind, text = type(value).__name__, repr(value)
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"an array of shape {tuple(value.shape)} and dtype {value.dtype} ({kind})" if value.shape else text
    return f"{text} ({kind})" if len(text) <= 60 else kind
