"""The tables that kernels read: every entry is where its name says."""

from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import LIMITS, nests

from numbanorm.engine.interface import Frame, Kinds
from numbanorm.walk import slots
from numbanorm.walk.families import sort_loops
from numbanorm.walk.nest import Loop
from numbanorm.walk.table import write

SETTINGS = st.lists(st.integers(-(2**40), 2**40), max_size=slots.NUM_SETTINGS)


@settings(max_examples=300)
@given(nests(), SETTINGS)
def test_a_table_holds_its_loops_and_settings(made, numbers):
    loops = sort_loops(made, LIMITS)
    table = write(loops, *numbers)
    assert (table.dtype, table.ndim, table.flags.c_contiguous) == (np.int64, 1, True)

    def loop(at):
        entries = slots.SIZE, slots.X, slots.OUT, slots.WEIGHT, slots.BIAS, slots.GROUP
        return Loop(*(int(table[at + entry]) for entry in entries))

    assert (table[slots.OUTER], table[slots.INNER]) == (len(loops.outer), len(loops.inner))
    assert table[slots.REPEATS] == prod(loop.size for loop in loops.inner)
    assert tuple(table[slots.BASE : slots.BASE + len(slots.OPERANDS) + 1]) == loops.base
    assert [loop(at) for at in (slots.ROWS, slots.HIGH, slots.LOW)] == [loops.rows, loops.high, loops.low]
    spare = [0] * (slots.NUM_SETTINGS - len(numbers))
    assert table[slots.SETTINGS : slots.LOOPS].tolist() == [*numbers, *spare]
    assert tuple(map(loop, range(slots.LOOPS, len(table), slots.LOOP))) == loops.outer + loops.inner


@pytest.mark.parametrize("name", ["size", *slots.OPERANDS, "group"])
def test_a_loop_has_its_entries_in_the_order_of_the_list(name):
    assert Loop._fields.index(name) == getattr(slots, name.upper())
    assert len(Loop._fields) == slots.LOOP


def test_a_frame_has_its_slots_in_the_order_of_the_list():
    assert Frame._fields == (*slots.SLOTS, *slots.NUMBERS)
    assert set(Kinds._fields) < set(slots.SLOTS)
