"""What norms make of statistics: by definition, and the same for arrays as for numbers."""

import importlib
import math
from functools import cache

import numba
import numpy as np
import pytest

from numbanorm.cpu.engine import ENGINE
from numbanorm.maths import coefficients, welford

INF, NAN = math.inf, math.nan


@cache
def compiled(formula):
    """A formula as a kernel calls it."""
    importlib.import_module("numbanorm.cpu.kernels.lanes")  # with it come the kernels' `where` and `sqrt`
    function = getattr(coefficients, formula)
    return numba.njit(error_model="numpy")(lambda *numbers: function(*numbers))


def apply(formula, *numbers):
    """A formula on one number each, compiled or not: it gives what it gives for arrays."""
    numbers = [np.float64(n) for n in numbers]
    with np.errstate(all="ignore"):
        one = getattr(coefficients, formula)(*numbers)
    np.testing.assert_array_equal(compiled(formula)(*numbers), one)
    outputs = len(one)
    for shape in [(), (3,), (2, 0), (2, 3)]:
        results = ENGINE.pointwise(formula, outputs, *(np.full(shape, n) for n in numbers))
        for result, value in zip(results, one, strict=True):
            assert (result.shape, result.dtype, result.flags.c_contiguous) == (shape, np.float64, True)
            np.testing.assert_array_equal(result, value)
    return one


@pytest.mark.parametrize(
    ("m2", "count", "ddof", "expected"),
    [(6.0, 3.0, 0.0, 2.0), (6.0, 3.0, 1.0, 3.0), (0.0, 1.0, 1.0, NAN), (6.0, 2.0, 3.0, NAN), (0.0, 0.0, 0.0, NAN),
     (NAN, 3.0, 0.0, NAN)],
)  # fmt: skip
def test_variance(m2, count, ddof, expected):
    np.testing.assert_array_equal(apply("variance", m2, count, ddof), [expected])
    np.testing.assert_array_equal(apply("deviation", m2, count, ddof), [np.sqrt(expected)])


@pytest.mark.parametrize(
    ("value", "expected"), [(0.5, 0.5), (-3.0, -1.0), (7.0, 2.0), (INF, 2.0), (-INF, -1.0), (NAN, NAN)]
)
def test_clip(value, expected):
    np.testing.assert_array_equal(coefficients.clip(value, -1.0, 2.0), expected)
    np.testing.assert_array_equal(coefficients.clip(np.array([value]), -1.0, 2.0), [expected])


def test_renorm():
    scale, shift = apply("renorm", 4.0, 5.0, 16.0, 3.0, 1.0, 10.0, 0.5, 0.0, 3.0, 1.5)
    assert (scale, shift) == (20.0, 15.5)  # std 2 over 1; two old standard deviations away, of which 1.5 count
    assert apply("renorm", 4.0, 3.0, 16.0, 3.0, 0.0, 1.0, 0.0, 0.0, 3.0, 1.5)[0] == 3.0  # no spread before


def test_blend():
    batch = 8.0, 2.0, 32.0  # variance 4
    instance = 4.0, 3.0, 4.0  # variance 1
    assert apply("blend", *instance, *batch, 0.0, 1.0, 0.0, 0.0) == (1.0, 0.0, 1.0)
    assert apply("blend", *instance, *batch, 1.0, 1.0, 0.0, 0.0) == (0.5, 0.5, 1.0)
    assert apply("blend", *instance, *batch, 0.5, 2.0, 3.0, 0.0) == (1.5, 3.5, 1.0)


OTHERS = [
    ("to_float64", [2.5], [2.5]),
    ("full", [NAN, 2.5], [2.5]),
    ("identity_statistics", [NAN], [0.0, 1.0]),
    ("merged", [1.0, 2.0, 0.5, 0.0, 3.0, 6.0, 0.25, 0.0], [4.0, 5.0, 12.75, 0.0]),
    ("merged", [0.0, NAN, 0.0, 0.0, 3.0, 6.0, 0.25, 1e-17], [3.0, 6.0, 0.25, 1e-17]),
    ("merged", [3.0, 6.0, 0.25, 1e-17, 0.0, NAN, 0.0, 0.0], [3.0, 6.0, 0.25, 1e-17]),
    ("merged", [3.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 2.0**-60], [4.0, 1.0, 0.75 * 2.0**-120, 2.0**-62]),
    ("merged", [1.0, 0.0, 0.0, 0.0, 3.0, 2.0**60, 0.0, 1.0], [4.0, 0.75 * 2.0**60, 0.75 * 2.0**120, 0.0]),
    ("unbiased", [6.0, 3.0], [3.0]),
    ("rescale", [6.0, 9.0], [2.0, 0.0, 1.0]),
    ("merged", [2.0, 1.7e308, 0.0, 0.0, 1.0, -1.7e308, 0.0, 0.0], [3.0, 1.7e308 * (2 / 3) - 1.7e308 * (1 / 3), INF, 0]),
    ("merged", [1.0, INF, NAN, 0.0, 1.0, 1.0, 0.0, 0.0], [2.0, INF, NAN, 0.0]),
    ("size", [-2.5], [2.5]),
    ("share", [6.0, 9.0], [6 / 9]),
    ("share", [0.0, 0.0], [0.0]),
    ("unit", [0.5, 4.0, 0.25, 1.0, 7.0], [1.0]),
    ("unit", [0.5, 4.0, 0.25, 8.0, 7.0], [0.25]),
    ("unit", [0.0, 0.0, 0.0, 1.0, 7.0], [7.0]),
    ("inverse", [4.0], [0.25]),
    ("inverse", [0.0], [INF]),
    ("inverse", [NAN], [NAN]),
    ("with_variance", [2.5, 3.0, 1.0], [2.5]),
    ("with_variance", [2.5, 1.0, 1.0], [NAN]),
    ("of_reliability", [3.0, 6.0, 4.5], [2.0, 4.0]),
    ("of_reliability", [0.0, 0.0, 0.0], [0.0, 0.0]),
    ("of_reliability", [1e-200, 1e-200, 0.0], [NAN, NAN]),
    ("of_reliability", [1e200, 1e200, INF], [NAN, NAN]),
]


@pytest.mark.parametrize(("formula", "numbers", "expected"), OTHERS)
def test_the_others(formula, numbers, expected):
    np.testing.assert_array_equal(apply(formula, *numbers), expected)


def test_arguments_broadcast(rng):
    m2, count = rng.random((4, 3)).astype(np.float32), np.full(3, 2, np.int32)
    (got,) = ENGINE.pointwise("variance", 1, m2.T, count[:, None], 1.0)
    np.testing.assert_array_equal(got, m2.T.astype(np.float64))
    assert (got.dtype, got.flags.c_contiguous) == (np.float64, True)
    zero, _ = ENGINE.pointwise("identity_statistics", 2, m2.T)
    assert zero.shape == (3, 4)


def test_choices_and_roots_of_arrays():
    values = np.array([4.0, 9.0])
    np.testing.assert_array_equal(welford.where(values > 5, values, 0.0), [0, 9])
    np.testing.assert_array_equal(welford.sqrt(values), [2, 3])
    assert (welford.where(True, 1.0, 2.0), welford.sqrt(16.0)) == (1.0, 4.0)


def test_every_formula_is_tested():
    """Those that engines apply to arrays: functions of this module, by their names."""
    functions = vars(coefficients).items()
    mine = {name for name, item in functions if getattr(item, "__module__", "") == coefficients.__name__}
    formulas = {formula for formula, _, _ in OTHERS}
    assert mine == formulas | {"variance", "deviation", "clip", "renorm", "blend"}


def test_results_in_another_dtype(rng):
    """As running statistics are kept: rounded once, from float64."""
    values = rng.standard_normal(5)
    (got,) = ENGINE.pointwise("to_float64", 1, values, dtype=np.float32)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, values.astype(np.float32))
