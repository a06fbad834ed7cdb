"""Sums of single values about a pivot that moves towards the mean, and states with the mean in two parts.

For values that come one by one and in any order, as those of a label do. A state is (n, p, s, q): how many values, the
pivot, and the sums of d and of d * d, where d = x - p. The first value is the pivot. As soon as there are 16, 256,
4096, ... values, the pivot moves to their mean: q is then at most about 16 times m2 whatever the data, so that
`settled` takes at most four bits from it. Settled and merged, a state is (n, high, low, m2), with the mean as
high + low: with a rounded mean a merge would lose what the mean has more digits than the deviation.
"""

import math

from numba.core.extending import register_jitable

from .welford import multiply_add, sqrt, where

COARSE = 2.0**50  # deviations: the last bit of that is up to a quarter of one


@register_jitable
def turns_at(n):
    """Whether n is 1 or a power of 16: then the value is the pivot, or the pivot moves."""
    return ((n & (n - 1)) | (n & 0x6EEEEEEEEEEEEEEE)) == 0


@register_jitable
def moved_pivot(n, p, s, q):
    """Pivot and sums about it, moved to the mean of the n values so far; as they are where that is not finite.

    The pivot is a multiple of a power of two, of up to a quarter of the deviation. So of integers, and of all else that
    lies on a grid, differences do too, and most sums of squares are exact. With a pivot of 53 bits each square would be
    off by the same, in the same direction: a million bytes of an image lost four digits.
    """
    near = p + s / n
    shift = near - p
    m2 = q - shift * (2.0 * s - shift * n)
    coarse = sqrt(where(0.0 > m2, 0.0, m2) / n) * COARSE
    near = (near + coarse) - coarse
    shift = near - p
    back = shift - near  # by two-sum, what the shift's own rounding lost
    lost = (near - (shift - back)) - (p + back)
    finite = shift - shift == 0.0
    moved = q - shift * (2.0 * s - shift * n)
    moved = where(0.0 > moved, 0.0, moved)
    sum_there = multiply_add(shift, 0.0 - n, s) - lost * n
    return where(finite, near, p), where(finite, sum_there, s), where(finite, moved, q)


@register_jitable
def settled(n, p, s, q):
    """Mean, in two parts, and m2 of n > 0 values. Exact for equal values, where s and q are 0."""
    shift = s / n
    m2 = q - s * shift
    high = p + shift
    low = shift - (high - p)
    return high, where(low - low == 0.0, low, 0.0), where(0.0 > m2, 0.0, m2)


@register_jitable
def merged_pair(na, high_a, low_a, m2_a, nb, high_b, low_b, m2_b):
    """State of two sets together, by the formula of Chan, Golub and LeVeque, with the mean in two parts."""
    if na == 0.0:
        return nb, high_b, low_b, m2_b
    if nb == 0.0:
        return na, high_a, low_a, m2_a
    n = na + nb
    delta = (high_b - high_a) + (low_b - low_a)
    share = nb / n
    m2 = m2_a + m2_b + delta * delta * (na * share)
    if not delta - delta == 0.0:  # infinite or far apart, means add up as a sum does
        return n, high_a * (na / n) + high_b * share, 0.0, m2
    step = low_a + delta * share
    high = high_a + step
    low = step - (high - high_a)
    return n, high, low if math.isfinite(low) else 0.0, m2
