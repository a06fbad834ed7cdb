"""Sums of a block about a pivot: the seam between the loops of kernels and the states that they leave.

Kernels know a block's sums as one tuple, s = sum(x - pivot) and q = sum((x - pivot)**2): they `push` differences, add
up chains of sums (`added`), `settle` them into a state, and `merge` states. Other kinds of sums are other tuples behind
the same names. A group's state is (n, mean, m2): how many values, their mean, and the sum of squared distances from it.
The mean is a distance from a base that all states have in common; at the end it is in two parts, by `two_sum`.

Sources: B. P. Welford, Technometrics 4 (1962) 419; T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating formulae and a
pairwise algorithm for computing sample variances", STAN-CS-79-773 (1979), and The American Statistician 37 (1983) 242.
"""

from numba.core.extending import register_jitable

from .welford import multiply_add, where


@register_jitable
def push(sums, d):
    """Sums of d and of its square, d added."""
    s, q = sums
    return s + d, multiply_add(d, d, q)


@register_jitable
def added(sums, others):
    """Sums of two chains together."""
    (s, q), (s2, q2) = sums, others
    return s + s2, q + q2


@register_jitable
def about(n, pivot, sums):
    """Sums of n values about a pivot from those about zero: exact for whole numbers of up to 2**53 in all."""
    s, q = sums
    d = s - n * pivot
    return d, q - pivot * (s + d)


@register_jitable
def settle(n, pivot, sums):
    """Mean and m2 of n values from their sums about a pivot.

    Exact for equal values, where s and q are 0. If the pivot is one of the values, q <= n * m2, so the
    subtraction loses at most a factor of n: see docs/numerics.md.
    """
    return shifted(sums[0] / n, pivot, sums)


@register_jitable
def shifted(shift, pivot, sums):
    """The same, where it is known how far the mean is from the pivot."""
    s, q = sums
    m2 = q - s * shift
    return pivot + shift, where(0.0 > m2, 0.0, m2)


@register_jitable
def two_sum(a, b):
    """The sum of two numbers, whichever is larger, rounded, and what rounding left behind (Knuth); NaN beside a sum
    that is not finite.
    """
    whole = a + b
    part = whole - a
    return whole, (a - (whole - part)) + (b - part)


@register_jitable
def hold(n, pivot, sums, trust):
    """1.0 where sums of n values by way of float32 have its digits, else 0.0.

    That is where squares and their sum q stay within its range, and the pivot is so near to the mean that `settle`
    takes no more than q / trust from q. The squares may all be 0 if that means equal values: where the pivot is so
    large that it has no neighbours whose distance would underflow when squared.
    """
    s, q = sums
    large = where(pivot * pivot > 2.0**-100, 1.0, 0.0)
    in_range = where(q > 1e-25, where(1e37 > q, 1.0, 0.0), where(q == 0.0, large, 0.0))
    return where(trust * s * s > n * q, 0.0, in_range)


@register_jitable
def merge(na, mean_a, m2_a, nb, mean_b, m2_b):
    """State of two sets together (Chan, Golub and LeVeque). Infinite or far apart, means add up as a sum does."""
    if na == 0.0:
        return nb, mean_b, m2_b
    if nb == 0.0:
        return na, mean_a, m2_a
    n = na + nb
    return n, *blended(na, na / n, mean_a, m2_a, nb / n, mean_b, m2_b)


@register_jitable
def blended(na, share_a, mean_a, m2_a, share_b, mean_b, m2_b):
    """Mean and m2 of two sets together, of which each has some share, and the first na values."""
    delta = mean_b - mean_a
    mean = where(delta - delta == 0.0, mean_a + delta * share_b, mean_a * share_a + mean_b * share_b)
    return mean, m2_a + m2_b + delta * delta * (na * share_b)
