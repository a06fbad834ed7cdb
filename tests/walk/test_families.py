"""Which family walks a nest: arithmetic on shapes and strides, so the arrays here are as large as can be."""

from collections import Counter
from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import LIMITS, contiguous, nests

import numbanorm as nbn
from numbanorm.walk import nest
from numbanorm.walk.families import foldable, sort_loops
from numbanorm.walk.nest import UNIT, Loop, joined

# From limits that sort all loops one way to limits that sort them the other way.
ANY_LIMITS = [LIMITS, LIMITS._replace(lanes=2, long_run=1, tiny_run=1, many_rows=1, max_columns=16)]
ANY_LIMITS += [LIMITS._replace(lanes=32, long_run=10**6, tiny_run=100, many_rows=1, max_columns=10**6)]


@settings(max_examples=500)
@given(nests(), st.sampled_from(ANY_LIMITS))
def test_each_loop_has_one_place(made, limits):
    loops = sort_loops(made, limits)
    places = [*loops.outer, *loops.inner, loops.rows, loops.high, loops.low]
    assert Counter(loop for loop in places if loop != UNIT) == Counter(made.loops)
    assert loops.base == made.base
    assert all(loop.kept for loop in loops.outer)
    assert not any(loop.kept for loop in (*loops.inner, loops.rows))
    columns = loops.high.size * loops.low.size
    if loops.family == "rows":
        assert loops.high == UNIT
        assert not loops.low.kept
        assert prod(loop.size for loop in loops.outer) == made.groups
        return
    assert loops.low.kept or loops.high.kept or columns == 1
    if loops.high.size > 1:  # side by side in memory, one of them reduced, and no more than there is room for
        assert loops.high.kept != loops.low.kept
        assert joined(loops.high, loops.low, operands=2)
        assert foldable([*loops.inner, loops.rows])
        assert loops.high.kept or columns <= limits.max_columns
        assert loops.low.kept or loops.low.size <= limits.max_columns


def of(shape, layout, order=None, weight=None, limits=LIMITS):
    """The loops of a float32 array, contiguous with its axes in this order; weight: strides."""
    strides = contiguous(shape, order or range(len(shape)), 4)
    return sort_loops(nest.build(layout.resolve(shape), [strides, strides, weight, weight]), limits)


def form(loops):
    """Family, and which of two lane loops leads to other groups, in words."""
    if loops.high.size == 1:
        return loops.family
    return f"{loops.family}, {'high' if loops.high.kept else 'low'} kept"


LARGE, LAST = 10**6, (0, 2, 1)
GROUPS, INTERLEAVED = nbn.Layout.group(4), nbn.Layout("n (c g) s -> n g", g=4)
BY_CHANNEL = [0, 4, 0]  # strides of a weight
RUN, TINY, ROWS, MOST = LIMITS.long_run, LIMITS.tiny_run, LIMITS.many_rows, LIMITS.max_columns
# On both sides of every limit.
FORMS = {
    "runs": ((LARGE, RUN), nbn.Layout.layer(), None, None, "rows"),
    "one group": ((LARGE,), nbn.Layout.axes(None), None, None, "rows"),
    "a table": ((LARGE, 40), nbn.Layout.axes(0), None, None, "columns"),
    "tiny runs": ((LARGE, TINY), nbn.Layout.layer(), None, None, "columns"),
    "short runs": ((LARGE, TINY + 1), nbn.Layout.layer(), None, None, "rows"),
    "tiny runs of groups that fill the lanes": ((LIMITS.lanes, TINY), nbn.Layout.layer(), None, None, "columns"),
    "tiny runs of fewer": ((LIMITS.lanes - 1, TINY), nbn.Layout.layer(), None, None, "rows"),
    "groups, channels last": ((2, 4 * (RUN - 1), RUN), GROUPS, LAST, None, "columns, high kept"),
    "groups of long runs": ((2, 4 * RUN, RUN), GROUPS, LAST, None, "rows"),
    "groups of many rows": ((2, 4 * 50, 50), GROUPS, LAST, None, "columns, high kept"),
    "groups of fewer rows than columns": ((2, 4 * 50, 49), GROUPS, LAST, None, "rows"),
    "interleaved": ((2, 40, 49), INTERLEAVED, LAST, BY_CHANNEL, "columns, low kept"),
    "interleaved, one weight for all": ((2, 40, 49), INTERLEAVED, LAST, None, "columns"),
    "interleaved, many rows": ((2, 40, ROWS), INTERLEAVED, LAST, BY_CHANNEL, "columns, low kept"),
    "interleaved, few rows": ((2, 40, ROWS - 1), INTERLEAVED, LAST, BY_CHANNEL, "columns"),
    "interleaved, most columns": ((1, MOST, ROWS), INTERLEAVED, LAST, BY_CHANNEL, "columns, low kept"),
    "interleaved, too many": ((1, MOST + 4, ROWS), INTERLEAVED, LAST, BY_CHANNEL, "columns"),
    "nothing reduced": ((LARGE,), nbn.Layout.axes(()), None, None, "columns"),
    "a number": ((), nbn.Layout.axes(None), None, None, "columns"),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms(name):
    shape, layout, order, weight, expected = FORMS[name]
    assert form(of(shape, layout, order, weight)) == expected


@pytest.mark.parametrize(
    ("name", "limits", "expected"),
    [
        ("groups of long runs", {"long_run": RUN + 1}, "columns, high kept"),
        ("short runs", {"tiny_run": TINY + 1}, "columns"),
        ("tiny runs of fewer", {"lanes": LIMITS.lanes - 1}, "columns"),
        ("interleaved, few rows", {"many_rows": ROWS - 1}, "columns, low kept"),
        ("interleaved, too many", {"max_columns": MOST + 4}, "columns, low kept"),
    ],
)
def test_the_limits_are_the_callers(name, limits, expected):
    shape, layout, order, weight, before = FORMS[name]
    assert expected != before
    assert form(of(shape, layout, order, weight, LIMITS._replace(**limits))) == expected


def test_folding_needs_one_weight_along_the_reduced_loops():
    reduced, kept = Loop(3, 4, 4, 0, 0, 0), Loop(3, 4, 4, 4, 4, 1)
    assert foldable([])
    assert foldable([reduced, kept])
    assert not foldable([kept, reduced._replace(weight=4)])
    assert not foldable([reduced._replace(bias=-4)])
