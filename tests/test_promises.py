"""What the design promises, number by number."""

import itertools
import math
import subprocess
import sys

import everyday
import numpy as np
import oracle
import pytest
from everyday import every, exhaustive
from oracle import EPS32, EPS64, assert_within
from strategies import DTYPES, FLOATS, ORDERS, arrange, is_float, pairs_of

import numbanorm as nbn


def channels_last(x):
    """The same array (N, C, ...), the channels next to each other in memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def exact_mean_and_variance(x):
    """To the last bit or so: sums without rounding, of deviations that are exact."""
    x = np.ravel(x).astype(np.float64)
    mean = math.fsum(x) / x.size
    deviation = x - mean
    return mean, (math.fsum(deviation * deviation) - math.fsum(deviation) ** 2 / x.size) / x.size


LAYOUTS = {
    "batch": nbn.Layout.batch(),
    "instance": nbn.Layout.instance(),
    "layer": nbn.Layout.layer(3),
    "last axis": nbn.Layout.layer(1),
    "groups": nbn.Layout.group(4),
    "interleaved groups": nbn.Layout("n (c g) h w -> n g", g=4),
    "windows": nbn.Layout("n c (h p) (w q) -> n h w", p=7, q=2),
    "strips": nbn.Layout("n c (p h) w -> h w", p=7),
    "all": nbn.Layout("... ->"),
    "none": nbn.Layout.axes(()),
}
EVERYDAY = ["batch", "instance", "last axis", "interleaved groups", "windows", "all"]
SHAPE = (3, 16, 49, 34)


# 1. Exact where it can be --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "channels last"])
@pytest.mark.parametrize("dtype", every(DTYPES, [d for d in everyday.EVERYDAY if d != np.float16]))
@pytest.mark.parametrize("name", every(LAYOUTS, EVERYDAY))
def test_constants_are_exact(name, dtype, order, rng):
    """Each group has a constant of its own: its variance is 0, and it normalizes to its bias, both exactly."""
    layout = LAYOUTS[name]
    ids, num_groups = oracle.groups(layout, SHAPE)
    constants = rng.choice([0.1, -3.0, 1.0 / 3, 100.7, -0.0], num_groups)
    if is_float(dtype) and dtype.itemsize > 2:
        constants[::2] *= 1e7
    constants = np.abs(constants).astype(dtype) if dtype.kind in "bu" else constants.astype(dtype)
    x = constants[ids] if order == "C" else channels_last(constants[ids])
    m = nbn.moments(x, layout)
    np.testing.assert_array_equal(m.m2, 0)
    np.testing.assert_array_equal(m.mean.ravel(), oracle.wide(constants))
    for eps, (_, bias_dtype) in itertools.product((1e-5, 0.0), pairs_of(dtype)[:2]):
        if bias_dtype is None:
            np.testing.assert_array_equal(nbn.normalize(x, layout, eps=eps), np.zeros(SHAPE))
        else:
            weight, bias = rng.standard_normal((2, 16, 1, 1)).astype(bias_dtype)
            got = nbn.normalize(x, layout, weight, bias, eps=eps)
            np.testing.assert_array_equal(got, np.broadcast_to(bias, SHAPE))


@pytest.mark.parametrize("pattern", ["a b ->", "a b -> a", "a b -> b"])
@pytest.mark.parametrize("value", [0.1, 1e7 + 0.3, 1e-20, 3e38])
def test_constants_are_exact_in_long_groups(value, pattern):
    for shape in [(1000, 1001), (3, 500_000), (500_000, 3)]:
        x = np.full(shape, value, np.float32)
        m = nbn.moments(x, pattern)
        np.testing.assert_array_equal(m.m2, 0)
        np.testing.assert_array_equal(m.mean, np.float64(np.float32(value)))
        np.testing.assert_array_equal(nbn.normalize(x, pattern, bias=np.float32(0.3)), np.float32(0.3))


@pytest.mark.parametrize("scale", [1.0, 1e30, 1e-30])
@pytest.mark.parametrize("ratio", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("columns", [1, 4, 50])
def test_float32_variance_within_8_ulp(columns, ratio, scale, rng):
    """A million values at |mean|/std up to 1e4, in one group, or side by side in columns."""
    x = (scale * (ratio + rng.standard_normal((1_000_000 // columns, columns)))).astype(np.float32)
    m = nbn.moments(x, axis=0)
    for column in range(min(columns, 4)):
        mean, var = exact_mean_and_variance(x[:, column])
        assert abs(m.var()[column] - var) <= 8 * EPS32 * var
        assert abs(m.mean[column] - mean) <= EPS32 * var**0.5 + 4 * EPS64 * abs(mean)


def test_float32_variance_of_1e8_values(rng):
    """The same million values a hundred times over, without the memory: the variance stays as it is."""
    x = (1e4 + rng.standard_normal(1_000_000)).astype(np.float32)
    var = exact_mean_and_variance(x)[1]
    m = nbn.moments(np.broadcast_to(x, (100, 1_000_000)))
    assert m.count == 1e8
    assert abs(m.var() - var) <= 8 * EPS32 * var


@pytest.mark.parametrize("ratio", [0.0, 1e4, 1e8, 1e12])
@pytest.mark.parametrize("columns", [1, 50])
def test_float64_variance(columns, ratio, rng):
    x = ratio + rng.standard_normal((1_000_000 // columns, columns))
    mean, var = exact_mean_and_variance(x[:, -1])
    m = nbn.moments(x, axis=0)
    kappa = np.sqrt(1 + mean**2 / var)
    assert abs(m.var()[-1] - var) <= 20 * EPS64 * kappa * var
    assert abs(m.mean[-1] - mean) <= 2 * EPS64 * (abs(mean) + var**0.5)


@pytest.mark.parametrize("mean", [100, 1000])
@pytest.mark.parametrize("form", ["first", "last in memory", "last"])
def test_group_norm_at_a_large_mean(mean, form, rng):
    x = (mean + rng.standard_normal((2, 64, 32, 32))).astype(np.float32)
    expected = oracle.group_norm(x, 8)
    if form == "last":
        got = np.moveaxis(nbn.group_norm(np.ascontiguousarray(np.moveaxis(x, 1, -1)), 8, channel_axis=-1), -1, 1)
    else:
        got = nbn.group_norm(channels_last(x) if form == "last in memory" else x, 8)
    assert np.abs(got - expected).max() < 1e-4


@pytest.mark.parametrize(("dtype", "scale"), [("float32", 1e30), ("float32", 1e-30), ("float16", 6e4)])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_neither_overflow_nor_underflow(layout, dtype, scale, rng):
    x = (scale * rng.uniform(-1, 1, SHAPE)).astype(dtype)
    ids, n = oracle.groups(layout, SHAPE)
    expected = oracle.normalize(x, ids, n, eps=0.0)
    allowed = oracle.output_tolerance(x, ids, n, expected, eps=0.0)
    assert_within(nbn.normalize(x, layout, eps=0.0), expected, allowed)


@pytest.mark.parametrize("affine", ["none", "channels", "elements"])
@pytest.mark.parametrize("shape", [(2, 16, 14, 6), (3, 3, 9, 11)], ids=["16 channels", "3 channels"])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_what_coefficients_in_float32_could_not_hold(layout, shape, affine, rng):
    """A mean whose square, a deviation whose reciprocal, or a weight with that, is beyond float32."""
    try:
        ids, n = oracle.groups(layout, shape)
    except ValueError:
        pytest.skip("its groups or windows do not fit")
    ones = {"channels": (shape[1], 1, 1), "elements": shape[1:]}
    weight, bias = (rng.uniform(-1, 1, ones[affine]).astype("f4") for _ in range(2)) if affine in ones else (None, None)
    near = rng.uniform(-1, 1, shape)
    for x, by in [(rng.uniform(1.5e38, 3e38, shape), 1), (near * 1e-37, 1), (near, 1e-37)]:
        x, w = x.astype("f4"), None if weight is None else weight * np.float32(by)
        expected = oracle.normalize(x, ids, n, w, bias, eps=0.0)
        allowed = oracle.output_tolerance(x, ids, n, expected, w, bias, eps=0.0)
        for given in (x, channels_last(x), np.stack([x, x], -1)[..., 1]):
            assert_within(nbn.normalize(given, layout, w, bias, eps=0.0), expected, allowed)


def test_rms_norm_neither_overflows_nor_underflows(rng):
    for dtype, scale in [("float32", 1e30), ("float32", 1e-30), ("float16", 6e4)]:
        x = (scale * rng.uniform(-1, 1, (5, 300))).astype(dtype)
        expected = oracle.rms_norm(x, (300,), eps=0.0)
        assert_within(nbn.rms_norm(x, 300, eps=0.0), expected, np.finfo(dtype).eps * 4 * np.abs(expected))


def test_the_worked_example():
    a = [[2, 3], [5, 7], [11, 13], [17, 19]]
    b = [[0, 1], [1, 2], [3, 5], [8, 13]]
    c = [[1, 2], [3, 4], [5, 6], [7, 8]]
    x = np.array([a, b, c], np.float64).reshape(3, 4, 1, 2)
    instance = [-1.0, 1, -1, 1, -1, 1, -1, 1]
    layer = [-1.276, -1.108, -0.774, -0.439, 0.230, 0.565, 1.234, 1.568]
    expected = [
        (nbn.batch_norm(x, training=True), [0.522, 1.567, 0.676, 1.690, 1.071, 1.630, 1.066, 1.492]),
        (nbn.layer_norm(x, (4, 1, 2)), layer),
        (nbn.instance_norm(x), instance),
        (nbn.group_norm(x, 2), [-1.172, -0.651, 0.391, 1.432, -1.265, -0.632, 0.632, 1.265]),
        (nbn.group_norm(x, 1), layer),
        (nbn.group_norm(x, 4), instance),
    ]
    for got, numbers in expected:
        np.testing.assert_allclose(got[0].ravel(), numbers, rtol=0, atol=5.1e-4)


# 2. Same bits always -------------------------------------------------------------------------------------------------


def test_same_bits_for_any_number_of_threads(threads, rng):
    large = rng.standard_normal((4, 32, 65, 130)).astype(np.float32)
    inputs = [large, channels_last(large), large.reshape(-1, 5), large.reshape(2, -1), large[..., ::-2], large[0, 0]]
    seen = {}
    for count in [1, 2, 3, threads, 1]:
        nbn.set_num_threads(min(count, threads))
        assert nbn.get_num_threads() == min(count, threads)
        for i, x in enumerate(inputs):
            for axis in [0, 1, -1, (0, *range(2, x.ndim)), None]:
                y, m = nbn.normalize(x, axis=axis, return_moments=True)
                bits = tuple(np.asarray(a).tobytes() for a in (y, m.count, m.mean, m.m2))
                assert seen.setdefault((i, axis), bits) == bits


def test_same_bits_however_the_layout_is_written(rng):
    x = rng.standard_normal((3, 8, 20, 33)).astype(np.float32)
    same = [
        [("n c h w -> c", {}), (None, {"axis": (0, 2, 3)}), (None, {"axis": (-1, 0, -2)}), (nbn.Layout.batch(), {})],
        [("n (g c) h w -> n g", {"g": 8}), (nbn.Layout.instance(), {}), (None, {"axis": (2, 3)})],
        [("n c h w ->", {}), (None, {}), ("n c (h p) w ->", {"p": 4}), (nbn.Layout.axes(None), {})],
        [("... w -> ...", {}), (nbn.Layout.layer(), {}), (None, {"axis": 3}), ("n (c g) h w -> n c g h", {"g": 2})],
    ]
    for ways in same:
        first, *others = (nbn.normalize(x, layout, **keywords) for layout, keywords in ways)
        for other in others:
            np.testing.assert_array_equal(other, first)


# 3. No copy, no temporary --------------------------------------------------------------------------------------------

MEMORY = """
import resource, sys
import numpy as np
import numbanorm as nbn

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

def touched(shape, channels_last):
    a = np.empty((shape[0], *shape[2:], shape[1]) if channels_last else shape, np.float32)
    a[:] = np.linspace(0, 1, a.shape[-1], dtype=np.float32)
    return np.moveaxis(a, -1, 1) if channels_last else a

def call(kind, rows):
    if kind == "layer":
        x, out = (touched((rows * 256, 1024), False) for _ in range(2))
        work = lambda: nbn.layer_norm(x, 1024, out=out)
    else:
        x, out = (touched((rows, 64, 64, 64), kind == "group") for _ in range(2))
        work = lambda: nbn.group_norm(x, 8, out=out) if kind == "group" else nbn.batch_norm(x, training=True, out=out)
    before = peak()
    work()
    return x.nbytes, peak() - before

call(sys.argv[1], 128)  # compile
print(*call(sys.argv[1], 1024))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["layer", "batch", "group"])
def test_no_memory_beyond_the_output(kind):
    """1 GB in, 1 GB out, both there before the call: less than 20 MB on top."""
    pytest.importorskip("resource")
    result = subprocess.run([sys.executable, "-c", MEMORY, kind], capture_output=True, text=True, check=True)
    nbytes, growth = map(int, result.stdout.split())
    assert nbytes == 2**30
    assert growth < 20e6


# 5. NaN and Inf stay in their group ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("order", ["C", "channels last"])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("layout", list(LAYOUTS.values())[:-1], ids=list(LAYOUTS)[:-1])
def test_nan_and_inf_stay_in_their_group(layout, dtype, order, bad, rng):
    clean = rng.standard_normal(SHAPE).astype(dtype)
    clean = channels_last(clean) if order != "C" else clean
    ids, num_groups = oracle.groups(layout, SHAPE)
    x = np.copy(clean, order="K")
    x[1, 5, 30, 21] = bad
    hit = ids[1, 5, 30, 21]
    expected = oracle.normalize(clean, ids, num_groups)
    allowed = oracle.output_tolerance(clean, ids, num_groups, expected)
    expected[ids == hit] = np.nan
    assert_within(nbn.normalize(x, layout), expected, allowed)
    count, mean, m2 = oracle.moments(clean, ids, num_groups)
    of_mean = oracle.mean_tolerance(clean, ids, num_groups, mean)
    of_m2 = oracle.variance_tolerance(dtype, count, mean, m2 / count) * m2
    mean[hit], m2[hit] = bad, np.nan
    m = nbn.moments(x, layout)
    assert_within(m.mean.ravel(), mean, of_mean)
    assert_within(m.m2.ravel(), m2, of_m2)


def test_nan_stays_in_its_channel_of_the_running_statistics(rng):
    x, mean, var = rng.standard_normal((4, 6, 7)), np.zeros(6), np.ones(6)
    x[2, 3, 1] = np.nan
    nbn.batch_norm(x, mean, var, training=True)
    np.testing.assert_array_equal(np.isnan(mean), np.arange(6) == 3)
    np.testing.assert_array_equal(np.isnan(var), np.arange(6) == 3)


# 6. Strange memory works ---------------------------------------------------------------------------------------------

FUNCTIONS = {
    "batch_norm": lambda x: nbn.batch_norm(x, training=True),
    "batch_norm evaluation": lambda x: nbn.batch_norm(x, np.linspace(-1, 1, 6), np.linspace(1, 2, 6)),
    "layer_norm": lambda x: nbn.layer_norm(x, x.shape[2:]),
    "group_norm": lambda x: nbn.group_norm(x, 3),
    "instance_norm": lambda x: nbn.instance_norm(x),
    "rms_norm": lambda x: nbn.rms_norm(x, x.shape[-1:]),
    "batch_renorm": lambda x: nbn.batch_renorm(x, np.zeros(6), np.ones(6), training=True),
    "batch_instance_norm": lambda x: nbn.batch_instance_norm(x, np.linspace(0, 1, 6)),
}


@pytest.mark.parametrize("order", [*ORDERS, pytest.param("byte-swapped", marks=exhaustive)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_norm_takes_any_memory(name, order, rng):
    x = rng.standard_normal((4, 6, 9, 11)).astype(np.float32)
    x = x.astype(x.dtype.newbyteorder()) if order == "byte-swapped" else arrange(rng, x, order)
    before = x.copy()
    plain = np.array(x, np.float32, order="C")
    got = FUNCTIONS[name](x)
    assert got.dtype == np.float32
    assert_within(got, FUNCTIONS[name](plain), 8 * EPS32 * 4)
    assert x.tobytes() == before.tobytes()


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", every(["int8", "bool"], ["int8"]))
def test_every_norm_takes_integers(name, dtype, rng):
    x = rng.integers(0, 2, (4, 6, 9, 11)).astype(dtype)
    got = FUNCTIONS[name](x)
    assert got.dtype == np.float64
    assert_within(got, FUNCTIONS[name](x.astype(np.float64)), 8 * EPS64 * 4)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("shape", [(0, 6, 9, 11), (4, 6, 0, 11), (4, 6, 9, 0)])
def test_every_norm_takes_empty_arrays(name, shape):
    got = FUNCTIONS[name](np.ones(shape, np.float32))
    assert (got.shape, got.dtype) == (shape, np.float32)


# 7. Indices are 64 bits wide -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_more_than_2_to_the_31_elements(rng):
    """65536 windows over one small array, each a byte further: 2^31 elements and more, in 100 kB."""
    base = rng.integers(-128, 128, 65536 + 32770).astype(np.int8)
    x = np.lib.stride_tricks.as_strided(base, (65536, 32771), (1, 1))
    m = nbn.moments(x, "a b ->")
    times = np.minimum(np.arange(1, base.size + 1), np.arange(base.size, 0, -1)).clip(max=32771)
    mean = math.fsum(times * base.astype(float)) / x.size
    assert m.count == x.size > 2**31
    assert abs(m.mean - mean) <= 100 * EPS64
    np.testing.assert_allclose(m.m2, math.fsum(times * (base - mean) ** 2), rtol=1e-13)
