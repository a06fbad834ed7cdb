"""The definition in NumPy: float64, slow and plain.

Nothing here knows about layouts or memory: a grouping is an array of ids, as ``Layout.group_ids`` gives it, and every
norm is a grouping followed by a scale and a shift. Results stay in float64, so that a test can bound the rounding.
"""

from fractions import Fraction

import ml_dtypes
import numpy as np

import numbanorm as nbn

EPS32 = 2.0**-23
EPS64 = 2.0**-52


def wide(a):
    """`a` in float64, whatever its dtype, byte order or memory order."""
    return np.asarray(a).astype(np.float64)


def result_dtype(dtype):
    """The dtype of the normalized array: floats stay (in native byte order), all else becomes float64."""
    dtype = np.dtype(dtype)
    if dtype == ml_dtypes.bfloat16:
        return dtype
    return dtype.newbyteorder("=") if dtype.kind == "f" else np.dtype(np.float64)


def members(values, ids, num_groups):
    """The values of each group, group after group."""
    counts = np.bincount(ids.ravel(), minlength=num_groups)
    in_order = values.ravel()[np.argsort(ids.ravel(), kind="stable")]
    return np.split(in_order, np.cumsum(counts)[:-1]) if num_groups else []


def moments(x, ids, num_groups):
    """Count, mean and M2 of each group, in two passes over what is left after subtracting the group's first value."""
    count, mean, m2 = np.zeros(num_groups), np.full(num_groups, np.nan), np.zeros(num_groups)
    for k, group in enumerate(members(wide(x), ids, num_groups)):
        count[k] = group.size
        if group.size == 0:
            continue
        if not np.isfinite(group).all():
            with np.errstate(invalid="ignore"):
                mean[k], m2[k] = group.mean(), np.nan
            continue
        shifted = group - group[0]
        mean[k] = group[0] + shifted.mean()
        deviation = shifted - shifted.mean()
        m2[k] = np.sum(deviation**2) - np.sum(deviation) ** 2 / group.size
    return count, mean, m2


def exact_moments(values):
    """Count, mean and M2 of finite values as exact rationals: they are whole multiples of a power of two."""
    ratios = [float(value).as_integer_ratio() for value in np.ravel(values)]
    unit = max(below for _, below in ratios)
    whole = [above * (unit // below) for above, below in ratios]
    n, total, squares = len(whole), sum(whole), sum(value * value for value in whole)
    return n, Fraction(total, n * unit), Fraction(n * squares - total * total, n * unit * unit)


def exact_weighted_moments(values, counts):
    """Sum of weights, mean and M2 of the finite values that count, as exact rationals."""
    pairs = [(Fraction(float(v)), Fraction(float(w))) for v, w in zip(values, counts, strict=True) if w > 0]
    total = sum(w for _, w in pairs)
    mean = sum(v * w for v, w in pairs) / total
    return total, mean, sum(w * (v - mean) ** 2 for v, w in pairs)


# Numbers that cost digits, by their places.
NASTY = {
    "steps of a tenth": lambda i: 1e7 + 0.1 * i,
    "small steps at a billion": lambda i: 1e9 + 1e-6 * (i % 17),
    "first value far off": lambda i: np.where(i < 10, 1e8, 0.0) + np.sin(i),
    "a ramp": lambda i: 1e8 + 1e-3 * i,
    "three integers": lambda i: 1e15 + i % 3,
    "alternating": lambda i: 1e8 * (-1.0) ** i + i % 5,
    "steps": lambda i: 1e8 * (i * 4 // len(i)) + np.cos(i),
    "large in float32": lambda i: np.float32(1e30) * np.float32(1 + i % 7),
}


def check_rest(mean, rest, x, ids, num_groups):
    """The two parts of the means of some groups: their sum has the digits of the distances, the first is it rounded."""
    for k, group in enumerate(members(wide(x), ids, num_groups)[:3]):
        if not 0 < group.size <= 20_000 or not np.isfinite(group).all():
            continue
        high, low = float(np.ravel(mean)[k]), float(np.ravel(rest)[k])
        _, exact, _ = exact_moments(group)
        reach = max(abs(Fraction(float(v)) - exact) for v in (group.max(), group.min()))
        allowed = (2 * working_eps(x.dtype) + 64 * EPS64) * reach + Fraction(EPS64) ** 2 * abs(exact)
        assert abs(Fraction(high) + Fraction(low) - exact) <= allowed
        assert abs(low) <= np.spacing(abs(high)) / 2


def normalize(x, ids, num_groups, weight=None, bias=None, eps=1e-5, stats=None, ddof=0, eps_on="var"):
    """(x - mean) / sqrt(var + eps) * weight + bias; a group whose var + eps is 0 becomes its bias."""
    count, mean, m2 = moments(x, ids, num_groups) if stats is None else stats
    with np.errstate(all="ignore"):
        var = m2 / (count - ddof)
        std = np.sqrt(var + eps) if eps_on == "var" else np.sqrt(var) + eps
        scale = np.where(std == 0, 0.0, 1 / std)
        normalized = (wide(x) - mean[ids]) * scale[ids]
    return affine(normalized, weight, bias)


def affine(normalized, weight=None, bias=None):
    out = normalized if weight is None else normalized * wide(weight)
    return out if bias is None else out + wide(bias)


def normalize_backward(grad, x, ids, num_groups, weight=None, eps=1e-5, ddof=0, eps_on="var", center=True, fixed=None):
    """Gradients of `normalize`: (dx, dweight, dbias), by the formula in `maths.gradient`, group after group.

    `fixed`: statistics (count, mean, m2) that do not depend on x.
    """
    count, mean, m2 = moments(x, ids, num_groups) if fixed is None else fixed
    if not center:
        mean, m2 = np.zeros(num_groups), np.bincount(ids.ravel(), wide(x).ravel() ** 2, num_groups)
    with np.errstate(all="ignore"):
        std = np.sqrt(m2 / (count - ddof))
        total = std + eps if eps_on == "std" else np.sqrt(std**2 + eps)
        r = np.where(total == 0, 0.0, 1 / total)
        curve = r**2 if eps_on == "var" else np.where(std == 0, 0.0, r / std)
        t = (wide(x) - mean[ids]) * r[ids]
        g = wide(grad) * (1.0 if weight is None else wide(weight))
        dx = r[ids] * g
        if fixed is None:
            a = np.bincount(ids.ravel(), g.ravel(), num_groups) / count if center else np.zeros(num_groups)
            b = np.bincount(ids.ravel(), (g * t).ravel(), num_groups) / (count - ddof)
            dx = dx - (r * a)[ids] - (curve * b)[ids] * (wide(x) - mean[ids])
    if weight is None:
        return dx, None, None
    return dx, unbroadcast(wide(grad) * t, weight), unbroadcast(wide(grad), weight)


def unbroadcast(values, weight):
    """Sums over all elements that share a weight, in the weight's shape."""
    shape = (1,) * (values.ndim - np.ndim(weight)) + np.shape(weight)
    axes = tuple(a for a, n in enumerate(shape) if n == 1 and values.shape[a] != 1)
    return values.sum(axis=axes, keepdims=True).reshape(np.shape(weight))


# the named norms --------------------------------------------------------------------------------------------------


def groups(layout, shape):
    """What `moments` and `normalize` take: the ids, and how many there are."""
    return layout.group_ids(shape), int(np.prod(layout.group_shape(shape), dtype=np.int64))


def along(values, ndim, axis):
    """One value a channel, shaped to broadcast against an array of `ndim` axes."""
    if values is None:
        return None
    shape = [1] * ndim
    shape[axis] = -1
    return np.reshape(values, shape)


def batch_norm(x, weight=None, bias=None, eps=1e-5, channel_axis=1):
    ids, n = groups(nbn.Layout.batch(channel_axis), x.shape)
    return normalize(x, ids, n, along(weight, x.ndim, channel_axis), along(bias, x.ndim, channel_axis), eps)


def batch_norm_stored(x, mean, var, weight=None, bias=None, eps=1e-5, channel_axis=1):
    """Evaluation: stored statistics in place of the batch's own."""
    ids, n = groups(nbn.Layout.batch(channel_axis), x.shape)
    stats = np.ones(n), wide(mean), wide(var)
    return normalize(x, ids, n, along(weight, x.ndim, channel_axis), along(bias, x.ndim, channel_axis), eps, stats)


def batch_statistics(x, channel_axis=1):
    """Mean and unbiased variance of each channel: what a running update takes from a batch."""
    count, mean, m2 = moments(x, *groups(nbn.Layout.batch(channel_axis), x.shape))
    return mean, m2 / (count - 1)


def instance_norm(x, weight=None, bias=None, eps=1e-5, channel_axis=1):
    ids, n = groups(nbn.Layout.instance(channel_axis), x.shape)
    return normalize(x, ids, n, along(weight, x.ndim, channel_axis), along(bias, x.ndim, channel_axis), eps)


def group_norm(x, num_groups, weight=None, bias=None, eps=1e-5, channel_axis=1):
    ids, n = groups(nbn.Layout.group(num_groups, channel_axis), x.shape)
    return normalize(x, ids, n, along(weight, x.ndim, channel_axis), along(bias, x.ndim, channel_axis), eps)


def layer_norm(x, normalized_shape, weight=None, bias=None, eps=1e-5):
    return normalize(x, *groups(nbn.Layout.layer(len(normalized_shape)), x.shape), weight, bias, eps)


def rms_norm(x, normalized_shape, weight=None, eps=1e-5):
    axes = tuple(range(x.ndim - len(normalized_shape), x.ndim))
    return affine(wide(x) / np.sqrt(np.mean(wide(x) ** 2, axis=axes, keepdims=True) + eps), weight)


def batch_renorm(x, mean, var, weight=None, bias=None, eps=1e-5, r_max=3.0, d_max=5.0, channel_axis=1):
    """Training; arXiv 1702.03275, equation 1."""
    count, batch_mean, m2 = moments(x, *groups(nbn.Layout.batch(channel_axis), x.shape))
    batch_sigma, sigma = np.sqrt(m2 / count + eps), np.sqrt(wide(var) + eps)
    r = np.clip(batch_sigma / sigma, 1 / r_max, r_max)
    d = np.clip((batch_mean - wide(mean)) / sigma, -d_max, d_max)
    normalized = batch_norm(x, eps=eps, channel_axis=channel_axis)
    normalized = normalized * along(r, x.ndim, channel_axis) + along(d, x.ndim, channel_axis)
    return affine(normalized, along(weight, x.ndim, channel_axis), along(bias, x.ndim, channel_axis))


def batch_instance_norm(x, rho, weight=None, bias=None, eps=1e-5, channel_axis=1):
    rho = along(wide(rho), x.ndim, channel_axis)
    mixed = rho * batch_norm(x, eps=eps, channel_axis=channel_axis)
    mixed = mixed + (1 - rho) * instance_norm(x, eps=eps, channel_axis=channel_axis)
    return affine(mixed, along(weight, x.ndim, channel_axis), along(bias, x.ndim, channel_axis))


def weight_norm(v, g, axis=0):
    others = None if axis is None else tuple(a for a in range(v.ndim) if a != axis % v.ndim)
    norm = np.sqrt(np.sum(wide(v) ** 2, axis=others, keepdims=True))
    return wide(v) / norm * (wide(g) if axis is None else along(wide(g), v.ndim, axis))


def weight_standardize(w, axis=0, eps=1e-5, ddof=0):
    ids, n = groups(nbn.Layout.axes(tuple(a for a in range(w.ndim) if a != axis % w.ndim)), w.shape)
    count, mean, m2 = moments(w, ids, n)
    return (wide(w) - mean[ids]) / np.sqrt(m2 / (count - ddof) + eps)[ids]


def spectral_norm(w, u, axis=0, num_iterations=1, eps=1e-12):
    rows = np.moveaxis(wide(w), axis, 0)
    matrix, u = rows.reshape(rows.shape[0], -1), wide(u)
    for _ in range(max(num_iterations, 1)):
        v = matrix.T @ u
        v = v / max(np.linalg.norm(v), eps)
        if num_iterations:
            u = matrix @ v
            u = u / max(np.linalg.norm(u), eps)
    sigma = u @ matrix @ v
    return wide(w) / sigma, sigma, u


# labels -----------------------------------------------------------------------------------------------------------


def labelled_groups(layout, shape, labels, num_labels):
    """Ids of groups that are split by labels, and how many there are; the last one is of what is left out.

    `labels` have one value for each element of a group, in the order of the group's elements.
    """
    ids, num_groups = groups(layout, shape)
    of_element = np.empty(ids.size, np.int64)
    of_element[np.argsort(ids.ravel(), kind="stable")] = np.tile(np.ravel(labels).astype(np.int64), num_groups)
    of_element = of_element.reshape(ids.shape)
    left_out = num_labels * num_groups
    return np.where(of_element < 0, left_out, of_element * num_groups + ids), left_out + 1


def labelled_moments(x, layout, labels, num_labels):
    """Count, mean and M2 of each label and group."""
    states = moments(x, *labelled_groups(layout, x.shape, labels, num_labels))
    return tuple(state[:-1].reshape(num_labels, *layout.group_shape(x.shape)) for state in states)


# chosen and weighted elements ---------------------------------------------------------------------------------------


def counts_of(x, where=None, weights=None, skipna=False):
    """How often each element counts, in an array of x's shape: 0 for what is left out."""
    counts = np.ones(x.shape) if weights is None else np.broadcast_to(wide(weights), x.shape)
    chosen = np.ones(x.shape, bool) if where is None else np.broadcast_to(where, x.shape)
    return np.where(chosen & ~(np.isnan(wide(x)) & bool(skipna)), counts, 0.0)


def weighted_moments(x, ids, num_groups, counts):
    """Sum of the weights, weighted mean and M2 of each group, of the elements that count."""
    count, mean, m2 = np.zeros(num_groups), np.full(num_groups, np.nan), np.zeros(num_groups)
    values, weights = members(wide(x), ids, num_groups), members(counts, ids, num_groups)
    for k, (group, of_group) in enumerate(zip(values, weights, strict=True)):
        own, w = group[of_group > 0], of_group[of_group > 0]
        count[k] = w.sum()
        if own.size == 0:
            continue
        if not np.isfinite(own).all():
            with np.errstate(invalid="ignore"):
                mean[k], m2[k] = own.mean(), np.nan
            continue
        shifted = own - own[0]
        shift = np.sum(w * shifted) / count[k]
        mean[k] = own[0] + shift
        deviation = shifted - shift
        m2[k] = np.sum(w * deviation**2) - np.sum(w * deviation) ** 2 / count[k]
    return count, mean, m2


# how far rounding may take a result from the definition -----------------------------------------------------------


def working_eps(dtype):
    """The spacing at 1 of the arithmetic: float32 for float32 and narrower, float64 for all else."""
    dtype = np.dtype(dtype)
    return EPS32 if dtype == ml_dtypes.bfloat16 or (dtype.kind == "f" and dtype.itemsize <= 4) else EPS64


def variance_tolerance(dtype, count, mean, var):
    """Relative: 8 ulp in float32; in float64 what pairwise updating loses, (8 + log2 n) * kappa * ulp (Chan 1983)."""
    if working_eps(dtype) == EPS32:
        return np.full(np.shape(var), 8 * EPS32)
    with np.errstate(all="ignore"):
        kappa = np.sqrt(1 + mean**2 / var)
        return np.where(var > 0, (8 + np.log2(np.maximum(count, 1))) * EPS64 * kappa, 0.0)


def mean_tolerance(x, ids, num_groups, mean):
    """Absolute: 2 ulp of the largest deviation in the group's arithmetic, and 4 ulp of the mean itself in float64."""
    reach = np.zeros(num_groups)
    with np.errstate(invalid="ignore"):
        np.maximum.at(reach, ids.ravel(), np.abs(wide(x) - mean[ids]).ravel())
    return 2 * working_eps(x.dtype) * reach + 4 * EPS64 * np.abs(mean)


def output_tolerance(x, ids, num_groups, expected, weight=None, bias=None, eps=1e-5, stats=None):
    """Half an ulp of the output's dtype, and a few ulp of the arithmetic in each term that makes the output.

    The terms: the normalized value (with half the variance's relative error in it), the mean's own error once it is
    scaled, and the bias.
    """
    count, mean, m2 = moments(x, ids, num_groups) if stats is None else stats
    unit, info = working_eps(x.dtype), ml_dtypes.finfo(result_dtype(x.dtype))
    with np.errstate(all="ignore"):
        var = m2 / count
        reciprocal = np.where(var + eps == 0, 0.0, 1 / np.sqrt(var + eps))
        scale = np.abs(1 if weight is None else wide(weight)) * reciprocal[ids]
        of_variance = 4 * unit + variance_tolerance(x.dtype, count, mean, var)[ids] / 2
        of_mean = mean_tolerance(x, ids, num_groups, mean)[ids] if stats is None else 4 * EPS64 * np.abs(mean)[ids]
        bound = np.abs(wide(x) - mean[ids]) * scale * of_variance + of_mean * scale
    bound = bound + 2 * unit * np.abs(0.0 if bias is None else wide(bias))
    return bound + float(info.eps) / 2 * np.abs(expected) + float(info.smallest_subnormal)


def check_states(states, x, layout, center=True):
    """Count, mean, m2 and, of `moments`, the mean's rest, each within its tolerance; gives those of the definition.

    Squares about zero may be summed in float32, as those about the mean are.
    """
    ids, n = groups(layout, x.shape)
    count, mean, m2 = moments(x, ids, n)
    of_mean = mean_tolerance(x, ids, n, mean)
    of_m2 = variance_tolerance(x.dtype, count, mean, m2 / count) * m2
    if not center:
        mean, of_mean = np.zeros(n), 0.0
        m2 = np.array([np.sum(group**2) for group in members(wide(x), ids, n)])
        narrow = working_eps(x.dtype) == EPS32
        of_m2 = (8 * EPS32 if narrow else (8 + np.log2(count)) * EPS64) * m2
    states, rest = states[:3], states[3:]
    for got, want, tolerance in zip(states, (count, mean, m2), (0.0, of_mean, of_m2), strict=True):
        assert got.shape == layout.group_shape(x.shape)
        assert_within(got.ravel(), want, tolerance)
    if rest:
        check_rest(states[1], *rest, x, ids, n) if center else np.testing.assert_array_equal(*rest, 0)
    return count, mean, m2


def backward_tolerance(grad, x, ids, num_groups, expected, weight=None, eps=1e-5, ddof=0, eps_on="var"):
    """How far rounding may take `normalize_backward`: some ulp of the arithmetic in each term, as if none cancelled."""
    unit = min(working_eps(x.dtype), working_eps(grad.dtype))
    terms = 16 + (np.sqrt(x.size / 8) if unit == EPS64 else 0.0)  # sums in float64 have chains as long as they are
    count, mean, m2 = moments(x, ids, num_groups)
    with np.errstate(all="ignore"):
        std = np.sqrt(m2 / (count - ddof))
        total = std + eps if eps_on == "std" else np.sqrt(std**2 + eps)
        r = np.where(total == 0, 0.0, 1 / total)
        curve = r**2 if eps_on == "var" else np.where(std == 0, 0.0, r / std)
        reach = np.zeros(num_groups)
        np.maximum.at(reach, ids.ravel(), np.abs(wide(x) - mean[ids]).ravel())
        off = np.abs(wide(x) - mean[ids]) + reach[ids] + np.abs(mean)[ids] * EPS64 / unit
        t, dy = off * r[ids], np.abs(wide(grad))
        g = dy * (1.0 if weight is None else np.abs(wide(weight)))
        a = np.bincount(ids.ravel(), g.ravel(), num_groups) / count
        b = np.bincount(ids.ravel(), (g * t).ravel(), num_groups) / (count - ddof)
        kappa = 1 + variance_tolerance(x.dtype, count, mean, m2 / count) / unit
        kappa = np.where(m2 > 0, kappa, 1.0)[ids]
        dx = terms * unit * kappa * (r[ids] * g + (r * a)[ids] + (curve * b)[ids] * off)
    bounds = [dx]
    if weight is not None:
        bounds += [terms * unit * unbroadcast(dy * t * kappa, weight), terms * unit * unbroadcast(dy, weight)]
    allowed = []
    for bound, value, dtype in zip(bounds, expected, (x.dtype, *[np.asarray(weight).dtype] * 2), strict=False):
        info = ml_dtypes.finfo(result_dtype(dtype))
        allowed.append(bound + float(info.eps) / 2 * np.abs(value) + float(info.smallest_subnormal))
    return allowed


def within_range(values, dtype):
    """`values`, those beyond what `dtype` can hold (there, infinite) brought back to its largest number."""
    largest = float(ml_dtypes.finfo(dtype).max)
    return np.clip(wide(values), -largest, largest)


def assert_same(actual, expected):
    """The same numbers (NaN too), dtype and shape."""
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(wide(actual), wide(expected))


def assert_same_states(got, expected):
    """The same count, mean and m2, bit by bit; norms do not keep what rounding took from the mean."""
    for name in ("count", "mean", "m2"):
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name))


def assert_within(actual, expected, tolerance):
    """Every element within its tolerance, NaN where NaN is expected, infinities and zero tolerances exact."""
    actual, expected = wide(actual), wide(expected)
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    with np.errstate(invalid="ignore"):
        wrong = ~(np.abs(actual - expected) <= tolerance) & (actual != expected)
    wrong &= ~(np.isnan(actual) & np.isnan(expected))
    if wrong.any():
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        allowed = np.broadcast_to(tolerance, wrong.shape)[where]
        raise AssertionError(
            f"{wrong.sum()} of {wrong.size} wrong, first at {where}: {actual[where]!r}, expected {expected[where]!r}, "
            f"off by {actual[where] - expected[where]:.3g}, allowed {allowed:.3g}"
        )
