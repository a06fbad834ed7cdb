"""The definition in NumPy: float64, slow and plain.

Nothing here knows about layouts or memory: a grouping is an array of ids, as ``Layout.group_ids`` gives it, and every
norm is a grouping followed by a scale and a shift. Results stay in float64, so that a test can bound the rounding.
"""

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


def within_range(values, dtype):
    """`values`, those beyond what `dtype` can hold (there, infinite) brought back to its largest number."""
    largest = float(ml_dtypes.finfo(dtype).max)
    return np.clip(wide(values), -largest, largest)


def assert_same(actual, expected):
    """The same numbers (NaN too), dtype and shape."""
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(wide(actual), wide(expected))


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
