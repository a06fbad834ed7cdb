"""The scalar mathematics: moments, their merge, and scale and shift. Written once, for every kernel.

Each function takes plain numbers, on a GPU as on the CPU, or `Lanes` of a vector register with the same operators;
those without a branch take whole arrays of NumPy's as well.
A group's state is (n, mean, m2): how many values, their mean, and the sum of squared distances from it.

Sources: B. P. Welford, Technometrics 4 (1962) 419; T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating formulae and a
pairwise algorithm for computing sample variances", STAN-CS-79-773 (1979), and The American Statistician 37 (1983) 242.
"""

import math

import numpy as np
from numba.core.extending import register_jitable


# The kernels replace these two by instructions: see `cpu.lanes`.
def where(condition, a, b):
    """`a` where the condition holds, else `b`, without a branch."""
    if isinstance(condition, np.ndarray):
        return np.where(condition, a, b)
    return a if condition else b


def sqrt(value):
    """Square root."""
    return np.sqrt(value) if isinstance(value, np.ndarray | np.floating) else math.sqrt(value)


@register_jitable
def finite_or_zero(value):
    """The value itself, or 0 in the place of an infinity or a NaN: a pivot must leave its neighbours readable."""
    return where(value - value == 0.0, value, 0.0)


@register_jitable
def settle(n, pivot, s, q):
    """Mean and m2 of n values from s = sum(x - pivot) and q = sum((x - pivot)**2).

    Exact for equal values, where s and q are 0. If the pivot is one of the values, q <= n * m2, so the
    subtraction loses at most a factor of n: see docs/numerics.md.
    """
    shift = s / n
    m2 = q - s * shift
    return pivot + shift, where(0.0 > m2, 0.0, m2)


@register_jitable
def merge(na, mean_a, m2_a, nb, mean_b, m2_b):
    """State of two sets together (Chan, Golub and LeVeque). An infinite mean adds up as a sum does."""
    if na == 0.0:
        return nb, mean_b, m2_b
    if nb == 0.0:
        return na, mean_a, m2_a
    n = na + nb
    delta = mean_b - mean_a
    share = nb / n
    mean = where(delta - delta == 0.0, mean_a + delta * share, mean_a + mean_b)
    return n, mean, m2_a + m2_b + delta * delta * (na * share)


@register_jitable
def inverse_std(m2, n, eps):
    """1 / sqrt(variance + eps); 0 where that root is 0, so that a constant becomes its bias even with eps = 0."""
    spread = m2 / n + eps
    return where(spread == 0.0, 0.0, 1.0 / sqrt(where(spread == 0.0, 1.0, spread)))


@register_jitable
def standardize(x, high, scale, offset):
    """(x - mean) * scale in x's own precision, with the mean in two parts: high, the rounded mean, and offset =
    (high - mean) * scale, what rounding left behind. x - high is exact or rounded once, however large the mean.
    """
    return (x - high) * scale + offset


@register_jitable
def scale_and_shift(x, weight, bias):
    """The learned part of every normalization."""
    return x * weight + bias


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
