"""The scalar mathematics: pivots, scale and shift. Written once, for every kernel; `accumulators` has the moments.

Each function takes plain numbers, on a GPU as on the CPU, or `Lanes` of a vector register with the same operators;
those without a branch take whole arrays of NumPy's as well.
"""

import math

import numpy as np
from numba.core.extending import register_jitable


# The kernels replace these three by instructions: see `cpu.kernels.lanes`.
def where(condition, a, b):
    """`a` where the condition holds, else `b`, without a branch."""
    if isinstance(condition, np.ndarray):
        return np.where(condition, a, b)
    return a if condition else b


def sqrt(value):
    """Square root."""
    return np.sqrt(value) if isinstance(value, np.ndarray | np.floating) else math.sqrt(value)


def multiply_add(a, b, c):
    """A * b + c, rounded once where the processor can."""
    return a * b + c


@register_jitable
def finite_or_zero(value):
    """The value itself, or 0 in the place of an infinity or a NaN: a pivot must leave its neighbours readable."""
    return where(value - value == 0.0, value, 0.0)


@register_jitable
def base_or_zero(value):
    """The value itself, or 0 where distances from it might overflow: what means of a group are counted from."""
    part = value * 2.0**-900
    return where(part * part > 1.0, 0.0, finite_or_zero(value))


@register_jitable
def spread_of(eps, eps_on_std, ddof):
    """What `inverse_std` adds to the variance, what to its root, and what it takes from the count."""
    return where(eps_on_std, 0.0, eps), where(eps_on_std, eps, 0.0), float(ddof)


@register_jitable
def inverse_std(m2, n, spread):
    """1 / sqrt(variance + eps), or 1 / (std + eps); 0 where that is infinite, so that a constant becomes its bias even
    with eps = 0.
    """
    on_var, on_std, ddof = spread
    std = sqrt(m2 / (n - ddof) + on_var) + on_std
    return where(std == 0.0, 0.0, 1.0 / where(std == 0.0, 1.0, std))


@register_jitable
def standardize(x, high, scale, offset):
    """(x - mean) * scale in x's own precision, with the mean in two parts: high, the rounded mean, and offset =
    (high - mean) * scale, what rounding left behind. x - high is exact or rounded once, however large the mean.
    """
    return multiply_add(x - high, scale, offset)


@register_jitable
def scale_and_shift(x, weight, bias):
    """The learned part of every normalization."""
    return multiply_add(x, weight, bias)


@register_jitable
def fits_float32(mean, scale):
    """1.0 where standardizing in float32 is safe, 0.0 where a part of it might overflow or lose its digits.

    NaN is safe: it gives NaN in either precision.
    """
    near = where(mean * mean > 1e76, 0.0, 1.0)
    square = scale * scale
    near = where(square > 1e72, 0.0, near)
    near = where(square > 0.0, where(1e-60 > square, 0.0, near), near)
    return where(square == square, near, 1.0)


@register_jitable
def move(old, new, share):
    """A running statistic, moved towards a new one by a share of 0 to 1."""
    return (1.0 - share) * old + share * new
