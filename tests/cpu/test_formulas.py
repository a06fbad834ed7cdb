"""Formulas for NumPy's operators, without Numba: the same functions as those that kernels are made of."""

import inspect

import numpy as np
import pytest
from processes import run_python

from numbanorm.cpu import formulas
from numbanorm.maths import coefficients

NAMES = [name for name, item in vars(coefficients).items() if getattr(item, "__module__", "") == coefficients.__name__]


def test_there_are_formulas():
    assert len(NAMES) > 12


@pytest.mark.parametrize("name", NAMES)
def test_each_is_the_same_and_gives_the_same_bits(name, rng):
    ours, its = getattr(formulas.coefficients(), name), getattr(coefficients, name)
    assert inspect.getsource(ours) == inspect.getsource(its)
    arguments = [rng.uniform(0.5, 2.0, 100) for _ in inspect.signature(its).parameters]
    for one, other in zip(ours(*arguments), its(*arguments), strict=True):
        np.testing.assert_array_equal(one, other)


def test_numba_is_not_imported_for_them_and_is_no_longer_left_out_afterwards():
    run_python("""
import sys, numpy as np
import numbanorm as nbn
assert nbn.Moments.empty(3).merge(nbn.Moments.empty(3)).var().shape == (3,)
assert "numba" not in sys.modules and "numbanorm.maths.welford" not in sys.modules
from numbanorm.maths import welford
assert "numba" in sys.modules
assert nbn.Moments.empty(3).var().shape == (3,)
""")


@pytest.mark.parametrize("name", ["NUMBA_OPT", "NUMBA_CPU_NAME"])
def test_where_numba_was_told_something_it_is_asked(name):
    value = {"NUMBA_OPT": "3", "NUMBA_CPU_NAME": "generic"}[name]
    run_python(
        "import sys, numbanorm as nbn; nbn.Moments.empty(3).var(); assert 'numba' in sys.modules", **{name: value}
    )
