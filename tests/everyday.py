"""What the default run has of many combinations, each of which would be compiled; CI has all, by `-m exhaustive`."""

import os

import numpy as np
import pytest
from hypothesis import settings
from strategies import ALONE, DTYPES, FLOATS, parameters

exhaustive = pytest.mark.exhaustive
SWAPPED = np.dtype("float32").newbyteorder()
EVERYDAY = [*FLOATS, np.dtype("int8"), SWAPPED]
assert {EVERYDAY[-2], SWAPPED} <= set(ALONE)  # without weight and bias

# For tests that draw what they need: all dtypes with all weights, or few of each.
dtypes = pytest.mark.parametrize("dtypes", [EVERYDAY, pytest.param(DTYPES, marks=exhaustive)], ids=["everyday", "all"])
wide = pytest.mark.parametrize("dtypes", [FLOATS[:2], pytest.param(DTYPES, marks=exhaustive)], ids=["wide", "all"])
floats = pytest.mark.parametrize("dtypes", [FLOATS[:2], pytest.param(FLOATS, marks=exhaustive)], ids=["wide", "all"])


ALL = bool(os.environ.get("NUMBANORM_TEST_ALL"))  # whether every combination is run


def examples(number):
    """So many examples where every combination is run, a tenth of them in the default run."""
    return settings(max_examples=number if ALL else number // 10)


def every(values, everyday=EVERYDAY):
    """Parameters of a test, of which the default run has these."""
    return [pytest.param(v, id=str(v), marks=() if v in everyday else exhaustive) for v in values]


def weights_for(x, dtypes):
    """A weight and a bias for an array, of any dtypes that tests use with its own; in the default run all or none."""
    drawn = parameters(x)
    if dtypes in (DTYPES, FLOATS):
        return drawn
    allowed = [(None, None), *([] if x.dtype == np.float16 else [(x.dtype, x.dtype)])]
    return drawn.filter(lambda pair: tuple(None if a is None else a.dtype for a in pair) in allowed)
