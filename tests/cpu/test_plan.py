"""Schedules: arithmetic on shapes and strides, so the arrays here are as large as can be, and there are none."""

from collections import Counter
from dataclasses import replace
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_calls import form
from strategies import contiguous, nests

import numbanorm as nbn
from numbanorm.cpu import plan
from numbanorm.cpu.kernels.constants import LANES, LINE, MAX_COLUMNS, PHASES, SIDE
from numbanorm.cpu.tuning import TUNING
from numbanorm.engine.interface import Kinds, Variant
from numbanorm.walk import nest, slots
from numbanorm.walk.nest import UNIT, Loop, LoopNest, joined

LONG_RUN, TINY_RUN, MANY_ROWS = TUNING.limits.long_run, TUNING.limits.tiny_run, TUNING.limits.many_rows
TUNINGS = [TUNING, replace(TUNING, serial_work=0, serial_output=0, part_elements=200, output_elements=100, tile=48)]


def work(loops, made, tuning):
    """What there is to do, in elements of long runs."""
    elements = prod(loop.size for loop in made.loops)
    if loops.family == "rows":
        return elements + tuning.run_work * elements // loops.low.size
    in_order = not made.loops or loops.low == made.loops[-1]
    return elements if in_order else tuning.run_work * elements


def whole(loops, rest):
    """The loops of a schedule, pixels that became columns together with their rows and the rest again."""
    rows, high = loops.rows, loops.high
    if high.size > 1 and not high.kept and joined(rows, high):
        assert rest < high.size
        rows, high = high._replace(size=rows.size * high.size + rest), UNIT
    else:
        assert rest == 0
    return [*loops.outer, *loops.inner, rows, high, loops.low]


def check(made, itemsize=4, in_place=False, tuning=TUNING):
    """What holds for every schedule; `test_families` has what holds for its loops."""
    chosen = plan.choose(made, itemsize, in_place, tuning)
    loops = chosen.loops
    elements = prod(loop.size for loop in made.loops)
    over = prod(loop.size for loop in loops.outer)
    reduced = prod(loop.size for loop in loops.inner) * loops.rows.size
    columns = loops.high.size * loops.low.size
    assert Counter(loop for loop in whole(loops, chosen.rest) if loop != UNIT) == Counter(made.loops)
    assert chosen.columns == columns
    assert chosen.groups == made.groups
    if loops.family == "rows":
        size, states = reduced * columns, made.groups
        assert chosen.tasks == over == made.groups
        assert 1 <= chosen.tile <= SIDE
        assert chosen.tile == 1 or chosen.parts == 1
    else:
        assert 1 <= chosen.tile <= MAX_COLUMNS
        assert chosen.tasks == over * -(-columns // chosen.tile)
        if loops.high.size > 1:  # a tile holds whole groups
            assert chosen.tile == columns if loops.low.kept else chosen.tile % loops.low.size == 0
        if chosen.fold:
            assert all(loop.weight == loop.bias == 0 for loop in (*loops.inner, loops.rows))
        size, states = reduced, over * columns
    assert chosen.partial_states == states * chosen.parts
    assert (chosen.parts - 1) * chosen.part_size < size <= chosen.parts * chosen.part_size
    assert chosen.serial == (work(loops, made, tuning) <= tuning.serial_work)
    assert not chosen.serial or elements <= tuning.serial_work
    assert chosen.serial or elements * (1 + tuning.run_work) > tuning.serial_work
    assert chosen.parts == 1 or not chosen.serial
    assert not chosen.stream or (elements * itemsize >= tuning.stream_bytes and not in_place)
    check_output(plan.for_output(chosen, made, tuning), made, chosen)
    return chosen


def check_output(output, made, chosen):
    """Where statistics are given, the loops but the lanes' may come in any order; all are there."""
    written, before = output.loops, chosen.loops
    assert output.rest == chosen.rest
    rows, high = written.rows, written.high
    if high != before.high:  # several rows, one behind the other, were taken as one
        assert before.high == UNIT
        assert not high.kept
        assert joined(rows, high) or rows.size == 1
        assert joined(high, written.low, operands=2)
        assert output.tile == high.size * written.low.size
        rows, high = high._replace(size=rows.size * high.size), UNIT
    loops = whole(written._replace(rows=rows, high=high), output.rest)
    assert Counter(loop for loop in loops if loop != UNIT) == Counter(made.loops)
    assert (written.family, high, written.low) == (before.family, before.high, before.low)
    over = prod(loop.size for loop in written.outer)
    if written.family == "rows":
        assert written.inner == ()
        size, tiles = written.low.size, 1
    else:
        assert 1 <= output.tile <= MAX_COLUMNS
        assert written.high.size == 1 or written.high != before.high or output.tile in (chosen.tile, output.columns)
        size = prod(loop.size for loop in written.inner) * written.rows.size
        tiles = -(-output.columns // output.tile)
    assert (output.parts - 1) * output.part_size < size <= output.parts * output.part_size
    assert output.tasks == over * tiles * output.parts


@settings(max_examples=500)
@given(nests(), st.sampled_from([0, 2, 8]), st.booleans(), st.sampled_from(TUNINGS))
def test_a_schedule_covers_its_nest(made, itemsize, in_place, tuning):
    check(made, itemsize, in_place, tuning)


@settings(max_examples=300)
@given(nests())
def test_the_table_is_the_schedule(made):
    """Its settings as `kernels.walk` reads them; `test_table` has the rest."""
    from numbanorm.cpu.kernels import walk

    chosen = plan.choose(made, 4)
    table = chosen.table.tolist()
    numbers = [table[i] for i in (walk.PARTS, walk.PART_SIZE, walk.TILE, walk.STREAM, walk.FOLD, walk.REST)]
    assert numbers == [chosen.parts, chosen.part_size, chosen.tile, chosen.stream, chosen.fold, chosen.rest]
    assert table[slots.OUTER : slots.BASE] == [
        len(chosen.loops.outer),
        len(chosen.loops.inner),
        prod(loop.size for loop in chosen.loops.inner),
    ]


def of(shape, layout, order=None, weight=None):
    """The schedule of a float32 array, contiguous with its axes in this order; weight: strides."""
    strides = contiguous(shape, order or range(len(shape)), 4)
    return check(nest.build(layout.resolve(shape), [strides, strides, weight, weight]))


LARGE = max(TUNING.serial_work, 2 * TUNING.part_elements, TUNING.wanted_tasks * TUNING.tile) + 1
FEW = TUNING.wanted_tasks - 1
SMALL = 1, TUNING.serial_work - TUNING.run_work  # the largest row that one thread takes
FORMS = {
    "long runs": ((1000, LONG_RUN), nbn.Layout.layer(), None, "rows beside"),
    "long runs past the cache": ((LARGE, TUNING.stream_beside + 1), nbn.Layout.layer(), None, "rows"),
    "shorter runs past the cache": ((LARGE, TUNING.stream_beside), nbn.Layout.layer(), None, "rows beside"),
    "one group": ((LARGE,), nbn.Layout.axes(None), None, "rows parts"),
    "few groups": ((FEW, LARGE), nbn.Layout.layer(), None, "rows parts"),
    "few groups, not large": ((FEW, TUNING.part_elements), nbn.Layout.layer(), None, "rows"),
    "enough groups": ((TUNING.wanted_tasks, LARGE), nbn.Layout.layer(), None, "rows"),
    "small": (SMALL, nbn.Layout.layer(), None, "rows serial"),
    "a table": ((LARGE, LANES), nbn.Layout.axes(0), None, "columns parts"),
    "a wide table": ((LANES, LARGE), nbn.Layout.axes(0), None, "columns tiles"),
    "channels last": ((LARGE, 64, 2, 2), nbn.Layout.batch(), (0, 2, 3, 1), "columns parts"),
    "groups, channels last": ((LARGE, 32, 49, 1), nbn.Layout.group(8), (0, 2, 3, 1), "columns high kept"),
    "groups of long runs": ((LARGE, 4 * LONG_RUN, 49), nbn.Layout.group(4), (0, 2, 1), "rows beside"),
    "pictures past the cache": ((LANES, 2048, 28, 28), nbn.Layout.batch(), None, "rows beside"),
    "large pictures": ((LANES, 64, 56, 56), nbn.Layout.batch(), None, "rows"),
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
    """With a weight for each channel; without one, all that is reduced is a single loop, of which some are taken."""
    layout = nbn.Layout("n (c g) s -> n g", g=4)
    made = of((LARGE, 32, 49), layout, (0, 2, 1), [0, 4, 0])
    assert (form(made), made.loops.high.size, made.loops.rows.size) == ("columns low kept", 8, 49)
    made = of((LARGE, 32, 49), layout, (0, 2, 1))
    assert (form(made), made.loops.high.size * made.loops.rows.size) == ("columns low kept", 8 * 49)


def channels_last(pixels, channels, weight=None):
    """The schedule of images with channels last, by image and channel."""
    return of((5, channels, pixels), nbn.Layout.instance(), (0, 2, 1), weight)


@pytest.mark.parametrize("channels", [*range(2, LANES + 2), 2 * LANES])
def test_pixels_of_few_channels_lie_side_by_side_in_whole_vectors(channels):
    for pixels in (LARGE, LARGE + 1, LARGE + 13):
        made = channels_last(pixels, channels)
        if channels >= LANES:
            assert (form(made), made.loops.high, made.rest) == ("columns parts", UNIT, 0)
            continue
        high = made.loops.high.size
        assert form(made).startswith("columns low kept")
        assert high * channels % LANES == 0
        assert high.bit_count() == 1  # halves are merged with each other
        assert made.loops.rows.size * high + made.rest == pixels
        assert high <= LANES


def test_pixels_are_rows_where_there_are_too_few():
    enough = TUNING.pixel_rows * LANES
    assert form(channels_last(enough, 3)) == "columns low kept serial"
    assert form(channels_last(enough - 1, 3)) == "columns serial"


def test_pixels_become_columns_only_if_weights_do():
    by_channel, by_element, by_image = [0, 4, 0], [0, 4, 12], [4, 0, 0]
    for weight in (by_channel, by_element, by_image):
        assert form(channels_last(LARGE, 3, weight)) == "columns low kept parts"
    assert form(channels_last(LARGE, 3, [0, 0, 4])) == "columns parts"  # one a pixel
    assert channels_last(LARGE, 3, by_channel).fold
    assert not channels_last(LARGE, 3, by_element).fold


@pytest.mark.parametrize("x", [[4 * 4 * LARGE, 4, 16], [4 * 3 * LARGE, -4, 12]], ids=["one more", "reversed"])
def test_channels_that_are_part_of_a_pixel_or_reversed_are_runs_with_gaps(x):
    out, grouping = contiguous((5, 3, LARGE), (0, 2, 1), 4), nbn.Layout.instance().resolve((5, 3, LARGE))
    made = nest.build(grouping, [x, out, None, None])
    chosen = check(made)
    assert form(chosen) == "rows parts"
    assert chosen.loops.low.size == LARGE
    output = plan.for_output(chosen, made)
    assert sorted(loop.size for loop in output.loops.outer) == [3, 5]


@pytest.mark.parametrize(("pixels", "channels", "runs"), [(16, 3, "rows"), (15, 3, "columns"), (LARGE, 13, "columns")])
def test_runs_with_gaps_are_worth_it_for_a_few_channels_and_no_fewer_pixels_than_lanes(pixels, channels, runs):
    shape = (5, channels, pixels)
    strides = [4 * channels * pixels, -4, 4 * channels], contiguous(shape, (0, 2, 1), 4)
    made = nest.build(nbn.Layout.instance().resolve(shape), [*strides, None, None])
    assert form(check(made)).split()[0] == runs


def test_few_rows_are_not_worth_merging_columns():
    layout = nbn.Layout("r (g c) -> g", g=8)
    many = of((LARGE, 8 * LANES), layout)
    assert (many.loops.high.kept, many.loops.low.kept) == (True, False)
    few = of((MANY_ROWS - 1, LARGE * 8), layout)
    assert few.loops.family == "rows"


def test_folding_needs_one_weight_for_each_group_or_column():
    shape, order = (8, 64, 14, 14), (0, 2, 3, 1)
    assert of(shape, nbn.Layout.batch(), order, [0, 4, 0, 0]).fold
    assert of(shape, nbn.Layout.batch(), order).fold
    assert not of(shape, nbn.Layout.batch(), order, [4 * 64, 4, 0, 0]).fold  # one for each sample and channel


def test_only_large_outputs_are_streamed():
    elements = TUNING.stream_bytes // 4
    for size, itemsize, in_place, stream in [
        (elements - 1, 4, False, False),
        (elements, 4, False, True),
        (elements, 4, True, False),
        (elements, 0, False, False),
        (elements, 2, False, False),
    ]:
        made = LoopNest((Loop(size, 4, itemsize, 0, 0, 0),), (0,) * 5, 1)
        assert plan.choose(made, itemsize, in_place).stream is stream


@pytest.mark.parametrize(("run", "stream"), [(64, True), (196, False), (784, True)])
def test_short_runs_of_16_bits_are_streamed_if_they_are_whole_lines(run, stream):
    """Else a store of half a line often waits for the other half, which is written much later."""
    rows = TUNING.stream_bytes // (2 * run) + 1
    for itemsize, streams in ((2, stream), (4, True)):
        loops = Loop(rows, itemsize * run, itemsize * run, 0, 0, 1), Loop(run, itemsize, itemsize, 0, 0, 0)
        assert plan.choose(LoopNest(loops, (0,) * 5, rows), itemsize).stream is streams


@pytest.mark.parametrize(
    ("axis", "width", "streamed"),
    [
        *((1, width, width >= TUNING.stream_least) for width in (TUNING.stream_least - 1, TUNING.stream_least)),
        *((0, LANES * n, LANES * n >= TUNING.stream_least) for n in (1, 3)),  # rows that are written as one
        *((0, width, width >= TUNING.stream_columns) for width in (TUNING.stream_least, 63, TUNING.stream_columns)),
    ],
)
def test_outputs_of_the_shortest_runs_are_never_streamed(axis, width, streamed):
    """They share most of their lines with others, and a line that is written in two ways takes the time of two."""
    chosen = of((TUNING.stream_bytes // (4 * width) + 1, width), nbn.Layout.axes(axis))
    assert (chosen.loops.family, chosen.stream) == ("rows" if axis else "columns", streamed)


def test_tiles_are_equal():
    """So that no thread waits for a larger one; and there are some for each thread, if they can be wide enough."""
    for columns in (TUNING.tile + 16, 2 * TUNING.tile, 20_000, 8 * TUNING.tile + 1):
        chosen = of((LANES, columns), nbn.Layout.axes(0))
        tiles = -(-columns // chosen.tile)
        assert columns <= tiles * chosen.tile < columns + tiles * LANES
        assert chosen.tile % LANES == 0
        assert chosen.tile >= TUNING.least_tile or chosen.tasks <= TUNING.least_tiles
    groups = of((2, 2560, 256), nbn.Layout.group(32), (0, 2, 1))
    assert (groups.loops.high.size, groups.loops.low.size, groups.tile, groups.tasks) == (32, 80, 640, 8)


@pytest.mark.parametrize(
    ("rows", "parts"), [(64, 1), (127, 1), (128, 2), (196, 3), (784, 8), (1568, 8), (4096, 16), (100_000, 32)]
)
def test_columns_have_as_many_parts_as_their_merge_allows(rows, parts):
    chosen = of((rows, 1024), nbn.Layout.axes(0))
    assert (chosen.parts, chosen.tasks) == (parts, 1)
    assert chosen.parts * chosen.part_size - rows < chosen.parts


def test_given_statistics_are_applied_in_runs_where_there_are_some():
    """As rows, in the order of memory, unless runs are short, or their elements have weights of their own."""

    def families(run, weight):
        strides = contiguous((64, 256, run), range(3), 4)
        made = nest.build(nbn.Layout.batch().resolve((64, 256, run)), [strides, strides, weight, None])
        chosen = plan.choose(made, 4)
        output = plan.for_given(chosen, made)
        if output.loops.family == chosen.loops.family:
            check_output(output, made, chosen)
        else:
            assert (output.loops.family, output.loops.outer, output.loops.low) == (
                "rows",
                made.loops[:-1],
                made.loops[-1],
            )
            assert output.tasks == 64 * 256 * output.parts
        return chosen.loops.family, output.loops.family

    assert families(TUNING.output_run, [0, 4, 0]) == ("columns", "rows")
    assert families(TUNING.output_run - 1, [0, 4, 0]) == ("columns", "columns")
    assert families(TUNING.output_run, [0, 4 * 16, 4]) == ("columns", "columns")
    assert families(LONG_RUN, [0, 4, 0]) == ("rows", "rows")


def test_given_statistics_have_their_own_limit_of_one_thread():
    """One row of statistics and output, and one element more than that for output alone."""
    for more, serial in [(0, True), (1, False)]:
        shape = 1, TUNING.serial_output - TUNING.run_work + more
        strides = contiguous(shape, range(2), 4)
        made = nest.build(nbn.Layout.layer().resolve(shape), [strides, strides, None, None])
        chosen = plan.choose(made, 4)
        assert not chosen.serial
        assert plan.for_given(chosen, made).serial is serial


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
    """Tables one behind the other, and a board as `kernels.team` reads it."""
    from numbanorm.cpu.kernels import team, walk

    strides = contiguous(shape, order or range(len(shape)), 4)
    made = nest.build(layout.resolve(shape), [strides, strides, None, None])
    chosen = plan.choose(made, 4)
    output = plan.for_output(chosen, made)
    table, board = plan.split(chosen, output, workers)
    assert (table.dtype, board.dtype) == (np.int64, np.int64)
    assert board[team.WORKERS] == workers
    assert board.size == LINE * (1 + PHASES + PHASES * workers)
    merge, last = board[team.MERGE], board[team.OUTPUT]
    np.testing.assert_array_equal(table[:merge], chosen.table)
    np.testing.assert_array_equal(table[last:], output.table)
    tasks = board[team.TASKS : team.TASKS + PHASES].tolist()
    assert tasks[0] == chosen.tasks * chosen.parts
    assert tasks[2] == min(output.tasks, TUNING.chunks * workers)
    assert board[team.OUTPUT_TASKS] == output.tasks
    assert not board[LINE:].any()
    if chosen.loops.family == "rows":
        assert tasks[1] == made.groups
    else:
        tile = table[merge + walk.TILE]
        assert tile <= max(TUNING.merge_columns, chosen.loops.low.size if chosen.loops.high.size > 1 else 1)
        assert tasks[1] == prod(loop.size for loop in chosen.loops.outer) * -(-chosen.columns // tile)


def test_passes_are_split_for_want_of_groups():
    """One thread never needs it; many threads and few groups do; enough groups for all of them do not."""
    chosen = of((FEW, LARGE), nbn.Layout.layer())
    assert not plan.is_split(chosen, 1)
    assert plan.is_split(chosen, 100 * FEW)
    assert not plan.is_split(chosen, FEW)
    assert not plan.is_split(of((TUNING.wanted_tasks, LARGE), nbn.Layout.layer()), 100 * FEW)
    assert not plan.is_split(of(SMALL, nbn.Layout.layer()), 100)


# steps ----------------------------------------------------------------------------------------------------------------

KINDS = Kinds("f4", "f4")
SHAPES = [(3, LARGE), (LARGE, 3), (100, 1000), (50, 2000), (2, 64, 33, 33)]


def columns_of(shape):
    """The nest of a float32 array, reduced along its first axis."""
    strides = contiguous(shape, range(len(shape)), 4)
    return nest.build(nbn.Layout.axes(0).resolve(shape), [strides, strides, None, None])


@pytest.mark.parametrize(("threads", "tile"), [(1, 2048), (2, 1024), (3, 688), (4, 512), (64, 512)])
def test_a_thread_gets_columns_of_its_own_where_rows_are_few(threads, tile):
    from numbanorm.cpu.kernels import walk

    (step,), scratch = plan.normalize(columns_of((49, 2048)), KINDS, 4, False, threads)
    assert (step.table[walk.TILE], step.tasks, scratch) == (tile, -(-2048 // tile), None)


@pytest.mark.parametrize(
    ("columns", "rows", "whole"),
    [
        (MAX_COLUMNS, TUNING.stream_bytes // (4 * MAX_COLUMNS) + 1, True),
        (MAX_COLUMNS, TUNING.stream_bytes // (4 * MAX_COLUMNS) - 1, False),
        (MAX_COLUMNS + 1, TUNING.stream_bytes // (4 * MAX_COLUMNS) + 1, False),
    ],
)
def test_output_past_the_cache_comes_in_whole_rows_that_fit_the_stack(columns, rows, whole):
    made = columns_of((rows, columns))
    chosen = plan.choose(made, 4)
    output = plan.for_output(chosen, made)
    assert chosen.tile < columns
    assert output.tile == (columns if whole else chosen.tile)
    assert output.tasks == output.parts * -(-columns // output.tile)


@pytest.mark.parametrize(
    ("columns", "more", "split"), [(MAX_COLUMNS, 1, True), (MAX_COLUMNS, 0, False), (TUNING.tile // 2, 1, False)]
)
def test_whole_rows_get_a_pass_of_their_own_where_x_is_read_again_from_memory(columns, more, split):
    made = columns_of((TUNING.again_bytes // (4 * columns) + more, columns))
    (step,), _ = plan.normalize(made, KINDS, 4, False, 1)
    assert step.variant.operation == ("normalize_split" if split else "normalize")


@pytest.mark.parametrize("shape", SHAPES)
def test_the_number_of_threads_changes_no_sums(shape):
    made = columns_of(shape)
    for threads in (1, 3, 64):
        chosen = plan.shared_out(plan.choose(made, 4), threads)
        assert chosen._replace(tile=0, tasks=0) == plan.choose(made, 4)._replace(tile=0, tasks=0)
        (step,), scratch = plan.normalize(made, KINDS, 4, False, threads)
        np.testing.assert_array_equal(step.table[: chosen.table.size], chosen.table)
        split = plan.is_split(chosen, threads)
        assert step.variant == Variant("normalize_split" if split else "normalize", chosen.loops.family, KINDS)
        assert step.tasks == (threads if split else chosen.tasks)
        assert (scratch is not None) is split
        if split:
            assert (scratch.states, scratch.partial_states) == (made.groups, chosen.partial_states)
            table, board = plan.split(chosen, plan.for_output(chosen, made), threads)
            np.testing.assert_array_equal(step.table, table)
            np.testing.assert_array_equal(scratch.board, board)


def test_statistics_of_parts_are_merged_by_a_step_of_their_own():
    kinds, made = Kinds("f4"), columns_of((LARGE, 3))
    chosen = plan.choose(made, 4, reads=True)
    assert chosen.parts > 1
    (parts, merge), scratch = plan.moments(made, kinds, 4)
    in_two = kinds._replace(rest="f8")  # what rounding takes from the means
    assert parts.variant == Variant("moments", "columns", in_two)
    assert merge.variant == Variant("merge", "columns", in_two)
    assert (parts.tasks, merge.tasks) == (chosen.tasks * chosen.parts, chosen.tasks)
    assert (parts.serial, merge.serial) == (False, True)
    assert scratch == (0, chosen.partial_states, None)
    for step in (parts, merge):
        np.testing.assert_array_equal(step.table, chosen.table)
    (whole,), scratch = plan.moments(columns_of((100, 10)), kinds, 4)
    assert (whole.variant, whole.serial, scratch) == (Variant("moments", "columns", in_two), True, None)


def test_output_by_given_statistics_is_one_step():
    kinds, made = Kinds("f4", "f4", mean="f4"), columns_of((LARGE, 3))
    chosen = plan.for_given(plan.choose(made, 4), made)
    (step,), scratch = plan.apply(made, kinds, 4, False)
    assert (step.variant, step.tasks, scratch) == (Variant("apply", chosen.loops.family, kinds), chosen.tasks, None)
    np.testing.assert_array_equal(step.table, chosen.table)


def test_merging_is_one_group_a_task():
    from numbanorm.cpu.kernels import walk

    for in_two, kinds in ((False, Kinds()), (True, Kinds(rest="f8", part_rest="f8"))):
        (step,), scratch = plan.merge(7, 5, in_two)
        assert (step.variant, step.tasks, step.serial, scratch) == (Variant("merge", "rows", kinds), 7, True, None)
    assert step.table[walk.PARTS] == 5
    group = Loop(*step.table[slots.LOOPS :].tolist())
    assert (group.size, group.group, group.x) == (7, 1, 0)


def test_running_statistics_are_moved_in_their_own_steps():
    from numbanorm.cpu.kernels import states

    kinds = Kinds(running_mean="f4", running_var="f8")
    (step,), scratch = plan.update_running(9, kinds, 4, -16)
    assert (step.variant, step.tasks, step.serial) == (Variant("update_running", "states", kinds), 9, True)
    assert (step.table[states.MEAN_STEP], step.table[states.VAR_STEP], scratch) == (4, -16, None)


@pytest.mark.parametrize("channels", [3, 4])
def test_pictures_of_few_channels_are_streamed_as_the_long_runs_that_they_are(channels):
    pixels = TUNING.stream_bytes // (5 * 4 * channels) // 48 * 48  # of each of 5 images
    for size, stream in [(pixels - 48, False), (pixels + 48, True)]:
        assert channels_last(size, channels).stream is stream
