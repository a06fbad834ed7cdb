"""What norms make of statistics: ratios, bounds and blends, one group at a time. Written once, for CPU and GPU.

Each function takes numbers and returns a tuple of numbers, without a branch: `Engine.pointwise` calls it with whole
arrays of NumPy's on the CPU, and for each element on a GPU.
"""

import math

from numba.core.extending import register_jitable

from .accumulators import two_sum
from .welford import inverse_std, sqrt, where


@register_jitable
def to_float64(value):
    """The value itself, of whatever dtype it was, in float64."""
    return (value,)


@register_jitable
def full(_, value):
    """A number, wherever the first argument lies."""
    return (value,)


@register_jitable
def identity_statistics(_):
    """Mean and variance that change nothing."""
    return 0.0, 1.0


@register_jitable
def merged(na, mean_a, m2_a, rest_a, nb, mean_b, m2_b, rest_b):
    """State of two sets together: `accumulators.merge` without a branch, and with means in two parts, of which the
    second is what rounding took from the first.
    """
    n = na + nb
    delta = (mean_b - mean_a) + (rest_b - rest_a)
    all_or_one = where(n == 0.0, 1.0, n)
    share = nb / all_or_one
    mean, rest = two_sum(mean_a, rest_a + delta * share)
    near, no_a, no_b = delta - delta == 0.0, na == 0.0, nb == 0.0
    mean = where(near, mean, mean_a * (na / all_or_one) + mean_b * share)
    m2 = m2_a + m2_b + delta * delta * (na * share)
    mean = where(no_a, mean_b, where(no_b, mean_a, mean))
    rest = where(no_a, rest_b, where(no_b, rest_a, where(near, rest, 0.0)))
    return n, mean, where(no_a, m2_b, where(no_b, m2_a, m2)), rest


@register_jitable
def variance(m2, count, ddof):
    """Variance; NaN where there are too few values."""
    return (m2 / where(count > ddof, count - ddof, math.nan),)


@register_jitable
def with_variance(mean, count, ddof):
    """The mean, or NaN where there are too few values for a variance."""
    return (where(count > ddof, mean, math.nan),)


@register_jitable
def of_reliability(count, m2, squares):
    """Count and m2 by weights whose scale is arbitrary, from those by frequencies and the sum of squared weights.

    NaN where the squares leave the range of float64.
    """
    some = count > 0.0
    share = where(some, count / where(some, squares, 1.0), 1.0)
    share = where(share > 0.0, where(share < math.inf, share, math.nan), math.nan)
    return count * share, m2 * share


@register_jitable
def unbiased(m2, count):
    """Variance of the distribution that the values, two or more, come from."""
    return (m2 / (count - 1.0),)


@register_jitable
def deviation(m2, count, ddof):
    """Standard deviation; NaN where there are too few values."""
    return (sqrt(m2 / where(count > ddof, count - ddof, math.nan)),)


@register_jitable
def clip(value, low, high):
    """The value within bounds; NaN stays."""
    return where(value < low, low, where(value > high, high, value))


@register_jitable
def renorm(count, mean, m2, old_mean, old_var, weight, bias, eps, r_max, d_max):
    """Scale and shift of batch renormalization: r and d of the paper, with weight and bias folded in."""
    std, old_std = sqrt(m2 / count + eps), sqrt(old_var + eps)
    r = clip(std / old_std, 1.0 / r_max, r_max)
    d = clip((mean - old_mean) / old_std, -d_max, d_max)
    return r * weight, d * weight + bias


@register_jitable
def blend(count, mean, m2, all_count, all_mean, all_m2, share, weight, bias, eps):
    """Slope and shift, about an instance's mean, of batch and instance norm in one; and 1, the variance to use."""
    spread = eps, 0.0, 0.0
    by_batch = share * inverse_std(all_m2, all_count, spread)
    slope = by_batch + (1.0 - share) * inverse_std(m2, count, spread)
    return slope * weight, by_batch * (mean - all_mean) * weight + bias, 1.0


@register_jitable
def rescale(length, square):
    """What brings a vector of this sum of squares to a length; and a mean and a variance that change nothing."""
    return length / sqrt(square), 0.0, 1.0


@register_jitable
def size(value):
    """Distance from zero."""
    return (abs(value),)


@register_jitable
def share(value, total):
    """A value as a part of a total; 0 of none."""
    return (value / where(total == 0.0, 1.0, total),)


@register_jitable
def unit(part, total, square, eps, otherwise):
    """An element of a vector over its norm, from its share of the vector's total and the sum of all shares' squares."""
    root = sqrt(square)
    small = total * root < eps
    result = where(small, part * total / eps, part / where(small, 1.0, root))
    return (where(total == 0.0, otherwise, result),)


@register_jitable
def inverse(value):
    """1 / value, infinite at 0."""
    zero = value == 0.0
    return (where(zero, math.inf, 1.0 / where(zero, 1.0, value)),)
