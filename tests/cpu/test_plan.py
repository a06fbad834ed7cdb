"""Schedules: arithmetic on shapes and strides, so the arrays here are as large as can be, and there are none."""

from collections import Counter
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import RANDOM

import numbanorm as nbn
from numbanorm.cpu import engine
from numbanorm.cpu import plan as schedule
from numbanorm.cpu.plan import (
    LANES,
    LONG_RUN,
    MANY_ROWS,
    MAX_COLUMNS,
    PART_ELEMENTS,
    RUN_WORK,
    SERIAL_WORK,
    TILE,
    TINY_RUN,
    WANTED_TASKS,
)
from numbanorm.layout import Factor, Grouping
from numbanorm.walk import nest
from numbanorm.walk.nest import UNIT, Loop, LoopNest, joined

SIZES = [2, 3, LANES - 1, LANES, 49, LONG_RUN - 1, LONG_RUN, 1000, TILE + 1, MAX_COLUMNS, MAX_COLUMNS + 1, 100_000]


def contiguous(sizes, order, itemsize):
    """Byte strides of a contiguous array whose axes lie in memory in this order, the last the innermost."""
    strides, step = [0] * len(sizes), itemsize
    for axis in reversed(order):
        strides[axis] = step
        step *= sizes[axis]
    return strides


@st.composite
def nests(draw):
    """The nest of any array of up to 2^40 elements: axes kept or reduced, x and out in an order of their own."""
    rng = draw(RANDOM)
    sizes = [int(rng.choice(SIZES)) for _ in range(rng.integers(7))]
    while prod(sizes) > 2**40:
        sizes.remove(max(sizes))
    ndim = len(sizes)
    kept = rng.random(ndim) < 0.5
    among_kept = contiguous([s if k else 1 for s, k in zip(sizes, kept, strict=True)], range(ndim), 1)
    factors = [Factor(i, sizes[i], 1, among_kept[i] if kept[i] else 0) for i in range(ndim)]
    order = rng.permutation(ndim) if rng.random() < 0.5 else range(ndim)
    x = contiguous(sizes, order, 4)
    if rng.random() < 0.3:
        x = [s * int(rng.choice([1, 1, 2, -1])) for s in x]
    out = None if rng.random() < 0.3 else x if rng.random() < 0.7 else contiguous(sizes, rng.permutation(ndim), 4)
    along = [s if rng.random() < 0.5 else 0 for s in contiguous(sizes, order, 4)]
    weight, bias = ((along if rng.random() < 0.7 else None) for _ in range(2))
    group_shape = tuple(s for s, k in zip(sizes, kept, strict=True) if k)
    return nest.build(Grouping(tuple(factors), group_shape), [x, out, weight, bias])


def check(made, itemsize=4, in_place=False):
    """What holds for every schedule."""
    chosen = schedule.choose(made, itemsize, in_place)
    elements = prod(loop.size for loop in made.loops)
    parts_of = [*chosen.outer, *chosen.inner, chosen.rows, chosen.high, chosen.low]
    assert Counter(loop for loop in parts_of if loop != UNIT) == Counter(made.loops)
    assert chosen.base == made.base
    assert all(loop.kept for loop in chosen.outer)
    assert not any(loop.kept for loop in (*chosen.inner, chosen.rows))
    over = prod(loop.size for loop in chosen.outer)
    reduced = prod(loop.size for loop in chosen.inner) * chosen.rows.size
    columns = chosen.high.size * chosen.low.size
    if chosen.family == "rows":
        assert chosen.high == UNIT
        assert not chosen.low.kept
        size, states = reduced * columns, made.groups
        assert chosen.tasks == over == made.groups
        assert 1 <= chosen.tile <= LANES
        assert chosen.tile == 1 or chosen.parts == 1
    else:
        assert chosen.low.kept or chosen.high.kept or columns == 1
        assert 1 <= chosen.tile <= MAX_COLUMNS
        assert chosen.tasks == over * -(-columns // chosen.tile)
        if chosen.high.size > 1:  # a tile holds whole groups
            assert chosen.high.kept != chosen.low.kept
            assert chosen.tile == columns if chosen.low.kept else chosen.tile % chosen.low.size == 0
        if chosen.fold:
            assert all(loop.weight == loop.bias == 0 for loop in (*chosen.inner, chosen.rows))
        size, states = reduced, over * columns
    assert chosen.partial_states == states * chosen.parts
    assert (chosen.parts - 1) * chosen.part_size < size <= chosen.parts * chosen.part_size
    assert chosen.serial == (schedule._work(chosen.family, chosen.low, made) <= SERIAL_WORK)
    assert not chosen.serial or elements <= SERIAL_WORK
    assert chosen.serial or elements * (1 + RUN_WORK) > SERIAL_WORK
    assert chosen.parts == 1 or not chosen.serial
    assert not chosen.stream or (elements * itemsize > schedule.STREAM_BYTES and not in_place)
    check_output(schedule.for_output(chosen, made), made, chosen)
    return chosen


def check_output(output, made, chosen):
    """Where statistics are given, the loops but the lanes' may come in any order; all are there."""
    rows, high = output.rows, output.high
    if high != chosen.high:  # several rows, one behind the other, were taken as one
        assert chosen.high == UNIT
        assert not high.kept
        assert joined(rows, high) or rows.size == 1
        assert joined(high, output.low, operands=2)
        assert output.tile == high.size * output.low.size
        rows, high = high._replace(size=rows.size * high.size), UNIT
    loops = [*output.outer, *output.inner, rows, high, output.low]
    assert Counter(loop for loop in loops if loop != UNIT) == Counter(made.loops)
    assert (output.family, high, output.low) == (chosen.family, chosen.high, chosen.low)
    over = prod(loop.size for loop in output.outer)
    if output.family == "rows":
        assert output.inner == ()
        size, tiles = output.low.size, 1
    else:
        columns = output.high.size * output.low.size
        assert 1 <= output.tile <= MAX_COLUMNS
        assert output.high.size == 1 or output.high != chosen.high or output.tile == chosen.tile
        size, tiles = prod(loop.size for loop in output.inner) * output.rows.size, -(-columns // output.tile)
    assert (output.parts - 1) * output.part_size < size <= output.parts * output.part_size
    assert output.tasks == over * tiles * output.parts


@settings(max_examples=500)
@given(nests(), st.sampled_from([0, 2, 8]), st.booleans())
def test_a_schedule_covers_its_nest(made, itemsize, in_place):
    check(made, itemsize, in_place)


@settings(max_examples=300)
@given(nests())
def test_the_table_is_the_schedule(made):
    """As `kernels.cpu.walk` reads it."""
    from numbanorm.cpu.kernels import walk

    chosen = schedule.choose(made, 4)
    table = chosen.table.tolist()
    assert chosen.table.dtype == np.int64
    assert (table[walk.OUTER], table[walk.INNER]) == (len(chosen.outer), len(chosen.inner))
    assert table[walk.REPEATS] == prod(loop.size for loop in chosen.inner)
    numbers = [table[i] for i in (walk.PARTS, walk.PART_SIZE, walk.TILE, walk.STREAM, walk.FOLD)]
    assert numbers == [chosen.parts, chosen.part_size, chosen.tile, chosen.stream, chosen.fold]
    assert tuple(table[walk.BASE : walk.BASE_GROUP + 1]) == chosen.base

    def loop(at):
        return Loop(*(table[at + i] for i in (walk.SIZE, walk.X, walk.OUT, walk.WEIGHT, walk.BIAS, walk.GROUP)))

    assert [loop(at) for at in (walk.ROWS, walk.HIGH, walk.LOW)] == [chosen.rows, chosen.high, chosen.low]
    starts = range(walk.LOOPS, len(table), walk.LOOP)
    assert tuple(map(loop, starts)) == chosen.outer + chosen.inner


def of(shape, layout, order=None, weight=None):
    """The schedule of a float32 array, contiguous with its axes in this order; weight: strides."""
    strides = contiguous(shape, order or range(len(shape)), 4)
    return check(nest.build(layout.resolve(shape), [strides, strides, weight, weight]))


def form(chosen):
    """What the kernels branch on, in words."""
    kinds = [kind for kind in ("high", "low") if getattr(chosen, kind).size > 1 and getattr(chosen, kind).kept]
    columns = chosen.high.size * chosen.low.size
    tiles = "tiles" if columns > chosen.tile else ""
    if chosen.family == "rows":
        tiles = "beside" if chosen.tile > 1 else ""
    merged = f"{'+'.join(kinds)} kept" if chosen.high.size > 1 else ""
    words = [chosen.family, merged, tiles, "parts" if chosen.parts > 1 else "", "serial" if chosen.serial else ""]
    return " ".join(word for word in words if word)


LARGE = max(SERIAL_WORK, 2 * PART_ELEMENTS, WANTED_TASKS * TILE) + 1
FEW = WANTED_TASKS - 1
FORMS = {
    "long runs": ((LARGE, LONG_RUN), nbn.Layout.layer(), None, "rows beside"),
    "one group": ((LARGE,), nbn.Layout.axes(None), None, "rows parts"),
    "few groups": ((FEW, LARGE), nbn.Layout.layer(), None, "rows parts"),
    "few groups, not large": ((FEW, PART_ELEMENTS), nbn.Layout.layer(), None, "rows"),
    "enough groups": ((WANTED_TASKS, LARGE), nbn.Layout.layer(), None, "rows"),
    "small": ((1, SERIAL_WORK - RUN_WORK), nbn.Layout.layer(), None, "rows serial"),
    "a table": ((LARGE, LANES), nbn.Layout.axes(0), None, "columns parts"),
    "a wide table": ((LANES, LARGE), nbn.Layout.axes(0), None, "columns tiles"),
    "channels last": ((LARGE, 64, 2, 2), nbn.Layout.batch(), (0, 2, 3, 1), "columns parts"),
    "groups, channels last": ((LARGE, 32, 49, 1), nbn.Layout.group(8), (0, 2, 3, 1), "columns high kept"),
    "groups of long runs": ((LARGE, 4 * LONG_RUN, 49), nbn.Layout.group(4), (0, 2, 1), "rows"),
    "tiny runs": ((LARGE, TINY_RUN), nbn.Layout.layer(), None, "columns tiles"),
    "short runs": ((LARGE, TINY_RUN + 1), nbn.Layout.layer(), None, "rows beside"),
    "nothing reduced": ((LARGE,), nbn.Layout.axes(()), None, "columns tiles"),
    "a number": ((), nbn.Layout.axes(None), None, "columns serial"),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms(name):
    shape, layout, order, expected = FORMS[name]
    assert form(of(shape, layout, order)) == expected


def test_interleaved_groups_take_the_reduced_channels_along():
    """With a weight for each channel; without one, all that is reduced is a single loop."""
    layout = nbn.Layout("n (c g) s -> n g", g=4)
    assert form(of((LARGE, 32, 49), layout, (0, 2, 1), [0, 4, 0])) == "columns low kept"
    assert form(of((LARGE, 32, 49), layout, (0, 2, 1))) == "columns"


def test_few_rows_are_not_worth_merging_columns():
    layout = nbn.Layout("r (g c) -> g", g=8)
    many = of((LARGE, 8 * LANES), layout)
    assert (many.high.kept, many.low.kept) == (True, False)
    few = of((MANY_ROWS - 1, LARGE * 8), layout)
    assert few.family == "rows"


def test_folding_needs_one_weight_for_each_group_or_column():
    shape, order = (8, 64, 14, 14), (0, 2, 3, 1)
    assert of(shape, nbn.Layout.batch(), order, [0, 4, 0, 0]).fold
    assert of(shape, nbn.Layout.batch(), order).fold
    assert not of(shape, nbn.Layout.batch(), order, [4 * 64, 4, 0, 0]).fold  # one for each sample and channel


def test_only_large_outputs_are_streamed():
    elements = schedule.STREAM_BYTES // 4
    for size, itemsize, in_place, stream in [
        (elements, 4, False, False),
        (elements + 1, 4, False, True),
        (elements + 1, 4, True, False),
        (elements + 1, 0, False, False),
        (elements + 1, 2, False, False),
    ]:
        made = LoopNest((Loop(size, 4, itemsize, 0, 0, 0),), (0,) * 5, 1)
        assert schedule.choose(made, itemsize, in_place).stream is stream


def test_tiles_are_equal():
    """So that no thread waits for a larger one; and there are some for each thread, if they can be wide enough."""
    for columns in (TILE + 16, 2 * TILE, 20_000, 8 * TILE + 1):
        chosen = of((LANES, columns), nbn.Layout.axes(0))
        tiles = -(-columns // chosen.tile)
        assert columns <= tiles * chosen.tile < columns + tiles * LANES
        assert chosen.tile % LANES == 0
        assert chosen.tile >= schedule.LEAST_TILE or chosen.tasks <= schedule.LEAST_TILES
    groups = of((2, 2560, 256), nbn.Layout.group(32), (0, 2, 1))
    assert (groups.high.size, groups.low.size, groups.tile, groups.tasks) == (32, 80, 640, 8)


@pytest.mark.parametrize(
    ("rows", "parts"), [(64, 1), (127, 1), (128, 2), (196, 3), (784, 8), (1568, 8), (4096, 16), (100_000, 32)]
)
def test_columns_have_as_many_parts_as_their_merge_allows(rows, parts):
    chosen = of((rows, 1024), nbn.Layout.axes(0))
    assert (chosen.parts, chosen.tasks) == (parts, 1)
    assert chosen.parts * chosen.part_size - rows < chosen.parts


def test_stored_statistics_are_applied_in_runs_where_there_are_some():
    """As rows, in the order of memory, unless runs are short, or their elements have weights of their own."""

    def stored(run, weight):
        nest_ = nest.build(
            nbn.Layout.batch().resolve((64, 256, run)), [*[contiguous((64, 256, run), range(3), 4)] * 2, weight, None]
        )
        chosen = schedule.choose(nest_, 4)
        made = schedule.for_stored(chosen, nest_)
        if made.family == chosen.family:
            check_output(made, nest_, chosen)
        else:
            assert (made.family, made.outer, made.low) == ("rows", nest_.loops[:-1], nest_.loops[-1])
            assert made.tasks == 64 * 256 * made.parts
        return chosen.family, made.family

    assert stored(schedule.OUTPUT_RUN, [0, 4, 0]) == ("columns", "rows")
    assert stored(schedule.OUTPUT_RUN - 1, [0, 4, 0]) == ("columns", "columns")
    assert stored(schedule.OUTPUT_RUN, [0, 4 * 16, 4]) == ("columns", "columns")
    assert stored(LONG_RUN, [0, 4, 0]) == ("rows", "rows")


@pytest.mark.parametrize(
    ("shape", "layout", "order"),
    [
        ((3, 1000, 700), nbn.Layout.group(4), (0, 2, 1)),
        ((5000, 40), nbn.Layout.axes(0), None),
        ((2, LARGE), nbn.Layout.layer(), None),
    ],
    ids=["columns", "table", "rows"],
)
@pytest.mark.parametrize("workers", [1, 2, 7, 64])
def test_a_split_has_all_that_a_team_needs(shape, layout, order, workers):
    """Tables one behind the other, and a board as `kernels.cpu.team` reads it."""
    from numbanorm.cpu.kernels import team

    strides = contiguous(shape, order or range(len(shape)), 4)
    made = nest.build(layout.resolve(shape), [strides, strides, None, None])
    chosen = schedule.choose(made, 4)
    output = schedule.for_output(chosen, made)
    split = schedule.split(chosen, output, workers)
    board = split.board.view(np.int64)
    assert (board[team.WORKERS], board[team.GROUPS], split.groups) == (workers, made.groups, made.groups)
    assert split.states == made.groups + chosen.partial_states
    assert split.board.size == split.before + split.states
    assert split.before == schedule.LINE * (1 + schedule.PHASES + schedule.PHASES * workers)
    merge, last = board[team.MERGE], board[team.OUTPUT]
    np.testing.assert_array_equal(split.table[:merge], chosen.table)
    np.testing.assert_array_equal(split.table[last:], output.table)
    tasks = board[team.TASKS : team.TASKS + schedule.PHASES].tolist()
    assert tasks[0] == chosen.tasks * chosen.parts
    assert tasks[2] == min(output.tasks, schedule.CHUNKS * workers)
    assert board[team.OUTPUT_TASKS] == output.tasks
    assert not board[schedule.LINE :].any()
    if chosen.family == "rows":
        assert tasks[1] == made.groups
    else:
        from numbanorm.cpu.kernels import walk

        tile = split.table[merge + walk.TILE]
        assert tile <= max(schedule.MERGE_COLUMNS, chosen.low.size if chosen.high.size > 1 else 1)
        assert tasks[1] == prod(n.size for n in chosen.outer) * -(-chosen.high.size * chosen.low.size // tile)


def test_merging_is_one_group_a_task():
    made, table = schedule.merging(7, 5)
    assert (made.tasks, made.parts, made.partial_states) == (7, 5, 35)
    assert np.array_equal(table, made.table)


def test_passes_are_split_for_want_of_groups():
    """One thread never needs it; many threads and few groups do; enough groups for all of them do not."""
    chosen = of((FEW, LARGE), nbn.Layout.layer())
    assert not schedule.is_split(chosen, 1)
    assert schedule.is_split(chosen, 100 * FEW)
    assert not schedule.is_split(chosen, FEW)
    assert not schedule.is_split(of((WANTED_TASKS, LARGE), nbn.Layout.layer()), 100 * FEW)
    assert not schedule.is_split(of((1, SERIAL_WORK - RUN_WORK), nbn.Layout.layer()), 100)


@pytest.mark.parametrize("shape", [(3, LARGE), (LARGE, 3), (100, 1000), (2, 64, 33, 33)])
def test_the_number_of_threads_changes_no_schedule(shape, threads):
    x = np.empty(shape, np.float32)
    plans = []
    for count in (1, 3, 64):
        nbn.set_num_threads(count)
        engine._plan.cache_clear()
        plans.append(engine.plan(nbn.Layout.axes(0), x, x.copy()).schedule)
    assert plans[0] == plans[1] == plans[2]


@pytest.mark.parametrize("missing", ["SC_LEVEL3_CACHE_SIZE", ""])
def test_cache_size_where_the_system_does_not_tell(missing, monkeypatch):
    def sysconf(name):
        if missing:
            raise ValueError(name)
        return 0

    monkeypatch.setattr(schedule.os, "sysconf", sysconf, raising=False)
    assert schedule._cache_bytes() == 32 << 20
