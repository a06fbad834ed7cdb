"""The scalar mathematics of going backward: from the gradient of a norm's output to those of its input and parameters.

With t = (x - mean) * r, where r = 1 / sqrt(var + eps), the output is y = t * weight + bias. For its gradient dy, and
sums over a group of n values whose variance is m2 / (n - ddof)::

    dx = r * weight * dy  -  r * A  -  r * r * B * (x - mean)
    A  = sum(weight * dy) / n            B = sum(weight * dy * t) / (n - ddof)
    dweight = sum(dy * t)                dbias = sum(dy)             over all elements that share a weight

About zero, as in RMS norm, mean and A are 0. By statistics that do not depend on x, A and B are 0. Where eps is added
to the deviation, r = 1 / (std + eps), the last r * r becomes r / std.

Source: S. Ioffe and C. Szegedy, arXiv:1502.03167, section 3, for a mean and a variance over any set of elements.
"""

from numba.core.extending import register_jitable

from .welford import multiply_add, sqrt, where


@register_jitable
def push(sums, dy, t):
    """Sums of dy and of dy * t, one more element added."""
    s, q = sums
    return s + dy, multiply_add(dy, t, q)


@register_jitable
def slopes(m2, n, spread, inverse):
    """What A * n and B * (n - ddof) are to be multiplied with: r / n, and r * r / (n - ddof) or r / std / (n - ddof).

    Where all values of a group are equal, the deviation has no slope: nothing comes from there.
    """
    _, on_std, ddof = spread
    flat = inverse / n
    if on_std == 0.0:
        return flat, inverse * flat if ddof == 0.0 else inverse * inverse / (n - ddof)
    std = sqrt(m2 / (n - ddof))
    return flat, where(std == 0.0, 0.0, inverse / (where(std == 0.0, 1.0, std) * (n - ddof)))


@register_jitable
def line(high, mean, flat, curve, a, b):
    """Slope c and offset e of the part of dx that does not come from dy itself, c * (x - high) + e; from the sums a of
    weight * dy and b of weight * dy * t. `high` is the mean in the precision of x.
    """
    c = 0.0 - curve * b
    return c, c * (high - mean) - flat * a


@register_jitable
def descend(dy, scale, x, high, c, e):
    """The gradient of x, where `scale` is r * weight: see `line`."""
    return multiply_add(dy, scale, multiply_add(x - high, c, e))
