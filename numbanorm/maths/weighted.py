"""Sums of single values that have weights, about a pivot that moves towards the mean, as those of `pivoted` without.

A state is (n, p, s, q): the sum of the weights, the pivot, and the sums of w * d and of w * d * d, where d = x - p. The
sum of the weights goes through ranges, each 16 times as wide as the one before. When it gets into the next one, the
pivot moves to the mean; or to the value itself, if that outweighs all before it. So q stays at most some 32 times m2,
whatever the data: as much as one more bit than without weights. Everything takes numbers and lanes alike.
"""

from numba.core.extending import register_jitable

from .pivoted import moved_pivot
from .welford import multiply_add, where


@register_jitable
def moved_to(n, p, s, q, pivot):
    """Sums about another pivot."""
    shift = pivot - p
    there = q - shift * (2.0 * s - shift * n)
    return s - shift * n, where(0.0 > there, 0.0, there)


@register_jitable
def turned(n, p, s, q, value, weight, turns):
    """A state, with a value added to it; the pivot moves where `turns` is 1.0, or the value outweighs all before it."""
    heavy = where(weight > n, where(value - value == 0.0, 1.0, 0.0), 0.0)
    pivot = where(heavy > 0.0, value, p)
    sum_there, squares_there = moved_to(n, p, s, q, pivot)
    s, q = where(heavy > 0.0, sum_there, s), where(heavy > 0.0, squares_there, q)
    d = where(weight > 0.0, value - pivot, 0.0)
    share = weight * d
    n, s, q = n + weight, s + share, multiply_add(share, d, q)
    near, sum_near, squares_near = moved_pivot(n, pivot, s, q)
    turns = where(heavy > 0.0, 0.0, turns)
    p, s = where(turns > 0.0, near, pivot), where(turns > 0.0, sum_near, s)
    return n, p, s, where(turns > 0.0, squares_near, q)


@register_jitable
def together(n, p, s, q, nb, pb, sb, qb):
    """Pivot and sums of two sets: about that of the heavier one."""
    if nb > n:
        s, q = moved_to(n, p, s, q, pb)
        p = pb
    elif pb != p:
        sb, qb = moved_to(nb, pb, sb, qb, p)
    return n + nb, p, s + sb, q + qb
