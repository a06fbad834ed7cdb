"""States of values that are chosen or weighted: (n, high, low, m2), where n is the sum of the weights.

Sums are taken of distances from a pivot: n = sum(w), s = sum(w * d), q = sum(w * d * d), with w = 0 for what is left
out. By `pivoted.settled` they give the mean as high + low, and m2. Everything takes numbers and lanes alike.
"""

from numba.core.extending import register_jitable

from .welford import where


@register_jitable
def far_off(n, s, q):
    """1.0 where a pivot is so far from the mean that less than a quarter of q is m2: `settled` would lose two bits.

    0.0 where there is nothing.
    """
    return where(4.0 * s * (s / n) > 3.0 * q, 1.0, 0.0)  # s * s may leave the range of floats where weights are small


@register_jitable
def united(na, high_a, low_a, m2_a, nb, high_b, low_b, m2_b):
    """`pivoted.merged_pair` without a branch. A set without values leaves the other as it is,
    so all may start as zeros.
    """
    n = na + nb
    share = nb / where(n == 0.0, 1.0, n)
    delta = (high_b - high_a) + (low_b - low_a)
    near = delta - delta == 0.0
    step = low_a + delta * share
    high = where(near, high_a + step, high_a * (1.0 - share) + high_b * share)
    low = step - (high - high_a)
    low = where(near, where(low - low == 0.0, low, 0.0), 0.0)
    m2 = m2_a + m2_b + delta * delta * (na * share)
    high = where(nb == 0.0, high_a, where(na == 0.0, high_b, high))
    low = where(nb == 0.0, low_a, where(na == 0.0, low_b, low))
    return n, high, low, where(nb == 0.0, m2_a, where(na == 0.0, m2_b, m2))
