"""What both families of kernels that go backward share: the terms of a vector, and sums of sums.

The two sums of `maths.gradient`, of dy and of dy * t, are taken over one of three sets of elements, as
`cuda.backward` plans: groups; all that share a weight; or cells, which share both. Statistics are given: means, and
inverse deviations with the slopes of a group (`factors`). Where the set is no group, they are an operand: it takes the
place of the weight, since it broadcasts against x as one does. The gradient of the output takes that of the bias.

In registers, x becomes t and dy becomes weight * dy, so that the gradient of x is a line in both: with c and e of
`gradient.line`, in units of the inverse deviation, it is (dy * scale + t * c + e) * factor. The factor is 1, or a power
of two where float32 would not hold the scale (`output.make_coefficients`).
"""

import numpy as np
from numba import cuda
from numba.core.extending import register_jitable

from ...maths import gradient, welford
from .constants import ACROSS, FAR, NEAR, ONE
from .machine import block_index, device, folder, load_int, loader, one_loader, one_storer, sync, thread_index
from .output import make_coefficients
from .scalars import load_number
from .walk import KINDS, MERGED, PART_SIZE, PARTS, TASKS, UNITS, outer_place, parted, row_place

# Of a launch: statistics are those of x; about its mean; the sums of a group are to be multiplied with its one weight.
OWN, CENTERED, UNWEIGHTED = 1, 2, 4

load_f8, store_f8 = one_loader("f8"), one_storer("f8")


@register_jitable
def factors(count, m2, eps, on_std, ddof):
    """Of a group: the inverse deviation, and its slopes for a line in t."""
    spread = welford.spread_of(eps, on_std != 0.0, ddof)
    inverse = welford.inverse_std(m2, count, spread)
    flat, curve = gradient.slopes(m2, count, spread, inverse)
    none = inverse == 0.0
    return inverse, flat, welford.where(none, 0.0, curve / welford.where(none, 1.0, inverse))


@register_jitable
def combine(a, x, b, y):
    """A weighted sum."""
    return (a * x + b * y,)


def make_elements(kind, mode, vector, wide):
    """A function load(values, at, address, step): a vector of the gradient, or of weights, into `values` from `at` on;
    ones, if there are none.
    """
    real = np.float64 if wide else np.float32
    one = one_loader(kind if mode in (ONE, FAR) else "f4")
    near, fold_vector, neutral = loader(kind if mode == NEAR else "f4", vector), folder(vector), real(1.0)

    @device
    def put(i, done, values, at, address, step):
        values[at + i] = neutral
        if mode == FAR:
            values[at + i] = real(one(address + i * step))
        elif mode == ONE:
            values[at + i] = values[at] if i > 0 else real(one(address))
        return done

    @device
    def load(values, at, address, step):
        if mode == NEAR:
            near(values, at, address)
        else:
            fold_vector(put, 0, (values, at, address, step))

    return load


def make_terms(code):
    """Three functions of an element.

    set_numbers(v, done, mean, inverse, at, step, numbers): what t of a vector's element v is made of, from statistics
    `at` so many bytes, `step` apart.
    take(e, sums, there, at, of_weight, values, grads, weights, numbers): t and weight * dy in the place of x and dy;
    and the sums, with these added if the element is `there`.
    finish(t, dy, scale, c, e, factor): the gradient of x.
    """
    wide, alike, weighted = code.wide, code.alike, code.inside
    real = np.float64 if wide else np.float32
    zero, coefficients = real(0.0), make_coefficients(wide)

    @device
    def set_numbers(v, done, mean, inverse, at, step, numbers):
        factors, highs, scales, offsets = numbers
        if alike and v > 0:
            factors[v], highs[v], scales[v], offsets[v] = factors[0], highs[0], scales[0], offsets[0]
        else:
            at += v * step
            factors[v], highs[v], scales[v], offsets[v] = coefficients(load_f8(mean + at), load_f8(inverse + at))
        return done

    @device
    def take(e, sums, there, at, of_weight, values, grads, weights, numbers):
        factors, highs, scales, offsets = numbers
        value, dy = values[at + e], grads[at + e]
        if not wide:
            value *= factors[e]
        t = welford.standardize(value, highs[e], scales[e], offsets[e])
        if weighted:
            dy *= weights[of_weight + e]
        values[at + e], grads[at + e] = t, dy
        return gradient.push(sums, dy if there else zero, t if there else zero)

    @device
    def finish(t, dy, scale, c, e, factor):
        y = gradient.descend(dy, scale, t, zero, c, e)
        return y if wide else y * factor

    return set_numbers, take, finish


def make_line(wide):
    """A function line(flags, flat, curve, a, b, weight, factor): c and e of a group, from its sums, over the factor."""
    real = np.float64 if wide else np.float32

    @device
    def line(flags, flat, curve, a, b, weight, factor):
        if flags & UNWEIGHTED:
            a, b = a * weight, b * weight
        if not flags & CENTERED:
            a = 0.0
        c, e = gradient.line(0.0, 0.0, flat, curve, a, b)
        return real(c / factor), real(e / factor)

    return line


def make_contract(code):
    """A kernel that adds up pairs of sums, a few threads side by side for as many results, the rest of a block below.

    Reduced loops lead along what is added up, each pair times its weight, if there is one; in parts, if there are many.
    """
    down = code.block // ACROSS
    room_size = 2 * code.block

    def kernel(table, a, b, weight, s, q):
        room = cuda.shared.array(room_size, np.float64)
        lane, row = thread_index() % ACROSS, thread_index() // ACROSS
        tasks, parts, size = load_int(table, TASKS), load_int(table, PARTS), load_int(table, PART_SIZE)
        (above, part), kind = parted(block_index(), parts), load_int(table, KINDS)
        task = above * ACROSS + lane
        active = task < tasks
        task = min(task, tasks - 1)
        place, first = outer_place(table, task), part * size
        first_sum, second_sum = 0.0, 0.0
        for member in range(first + row, min(first + size, load_int(table, UNITS)), down):
            at = row_place(table, place, member)
            factor = 1.0
            if kind >= 0:
                factor = load_number(weight + at[2], kind)
            first_sum += factor * load_f8(a + at[0])
            second_sum += factor * load_f8(b + at[0])
        half, mine = down // 2, 2 * thread_index()
        room[mine], room[mine + 1] = first_sum, second_sum
        while half > 0:
            sync()
            if row < half:
                room[mine] += room[mine + 2 * half * ACROSS]
                room[mine + 1] += room[mine + 2 * half * ACROSS + 1]
            half //= 2
        if row == 0 and active:
            to = 8 * (task * parts + part if load_int(table, MERGED) != 0 else place[4])
            store_f8(s + to, room[mine])
            store_f8(q + to, room[mine + 1])

    return kernel
