"""Thresholds: frozen, in one table, and an argument of the choice, which no GPU reads."""

from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest
from strategies import contiguous

import numbanorm as nbn
from numbanorm.cpu import backward, plan, tuning
from numbanorm.cpu.kernels import backward_walk, constants
from numbanorm.cpu.tuning import TUNING
from numbanorm.cuda.shapes import LIMITS as OF_GPUS
from numbanorm.engine.interface import Kinds
from numbanorm.walk import nest

NAMES = [field.name for field in fields(TUNING) if field.name != "limits"]
LARGE = 10**6
ROWS, COLUMNS = nbn.Layout.layer(), nbn.Layout.axes(0)


def nest_of(shape, layout, weight=None):
    """The nest of a float32 array and its output; `weight` are strides."""
    strides = contiguous(shape, range(len(shape)), 4)
    return nest.build(layout.resolve(shape), [strides, strides, weight, None])


def schedules(made, by):
    """All that is chosen for a nest: for its statistics, its output, and output from given ones; and for a team."""
    chosen = plan.choose(made, 4, tuning=by)
    output = plan.for_output(chosen, made, by)
    table, board = plan.split(chosen, output, 3, by)
    (alone,), _ = plan.normalize(made, Kinds("f4", "f4"), 4, False, 1, by)
    (shared,), _ = plan.normalize(made, Kinds("f4", "f4"), 4, False, 3, by)
    given = plan.for_given(chosen, made, by)
    return chosen, output, given, table.tolist(), board.tolist(), alone.variant, shared.table.tolist()


@pytest.mark.parametrize("name", [*NAMES, "limits"])
def test_no_threshold_can_be_changed(name):
    with pytest.raises(FrozenInstanceError):
        setattr(TUNING, name, 1)


def test_no_limit_can_be_changed():
    with pytest.raises(AttributeError):
        TUNING.limits.lanes = 1


# For each threshold another number, and a nest for which it makes a difference.
CHANGES = {
    "tile": (48, (LARGE, 100), COLUMNS),
    "least_tiles": (2, (100, 5000), COLUMNS),
    "least_tile": (48, (100, 5000), COLUMNS),
    "shared_columns": (3000, (49, 2000), COLUMNS),
    "wanted_tasks": (1, (LARGE,), nbn.Layout.axes(None)),
    "part_elements": (100, (3, 30_000), ROWS),
    "part_rows": (10**6, (LARGE, 16), COLUMNS),
    "merge_columns": (48, (LARGE, 1000), COLUMNS),
    "chunks": (1, (3, LARGE), ROWS),
    "batch_elements": (1, (1000, 500), ROWS),
    "shared_rows": (2, (50, 30_000), ROWS, (0, 4)),
    "visit_bytes": (1, (16, 256, 49), nbn.Layout.batch()),
    "output_elements": (100, (3, LARGE), ROWS),
    "output_run": (1000, (64, 256, 49), nbn.Layout.batch()),
    "output_columns": (48, (LARGE, 24), COLUMNS),
    "pixel_rows": (100, (1000, 3), COLUMNS),
    "gap_channels": (2, (1000, 2, 3), nbn.Layout("p a c -> c a")),
    "serial_work": (0, (10, 10), ROWS),
    "serial_output": (0, (10, 10), ROWS),
    "run_work": (0, (1, TUNING.serial_work - 1), ROWS),
    "stream_bytes": (0, (10, 300), ROWS),
    "stream_least": (300, (TUNING.stream_bytes // 1000 + 1, 250), ROWS),
    "stream_columns": (300, (TUNING.stream_bytes // 1000 + 1, 250), COLUMNS),
    "again_bytes": (10**9, (TUNING.again_bytes // 12_000 + 1, 3000), COLUMNS),
    "stream_beside": (300, (TUNING.stream_bytes // 1600 + 1, 400), ROWS),
    "stream_visit": (1200, (TUNING.stream_bytes // 1200 + 1, 300), ROWS),
}


def test_every_threshold_has_a_case():
    halves = {"stream_halves", "stream_beside_halves", "stream_visit_halves"}
    assert {*CHANGES, *halves, "stream_back", "stream_back_bytes", "read_bytes", "read_run"} == set(NAMES)


def test_what_is_written_past_the_cache():
    some = replace(TUNING, stream_bytes=1000, stream_halves=100)
    assert some.past_cache(50, 4, 250, 50) and not some.past_cache(49, 4, 250, 50)
    assert not some.past_cache(50, 4, 249, 50)
    assert some.past_cache(64, 2, 500, 50) and not some.past_cache(63, 2, 500, 50)  # whole lines, and no whole ones
    assert some.past_cache(100, 2, 500, 50) and not some.past_cache(99, 2, 500, 50)


def test_what_goes_side_by_side_past_the_cache():
    some = replace(TUNING, stream_beside=100, stream_beside_halves=300, stream_visit=4000, stream_visit_halves=8000)
    assert [some.together(size, 4) for size in (100, 101)] == [1000, 101]
    assert [some.together(size, 8) for size in (100, 101)] == [500, 101]
    assert [some.together(size, 2) for size in (300, 301)] == [4000, 301]


@pytest.mark.parametrize(("layout", "streamed"), [(ROWS, True), (COLUMNS, False)], ids=["rows", "columns"])
def test_how_large_x_is_read_where_there_is_no_output(layout, streamed):
    rows, run = TUNING.read_bytes // 1200, TUNING.read_run // 4
    small, large = (plan.choose(nest_of((n, 300), layout), 4, reads=True) for n in (rows, rows + 1))
    assert (small.stream, large.stream) == (False, streamed)
    assert (large.tile < small.tile) == streamed
    short = nest_of((TUNING.read_bytes, run - 1), layout), nest_of((TUNING.read_bytes, run), layout)
    assert [plan.choose(nest, 4, reads=True).stream for nest in short] == [False, streamed]


@pytest.mark.parametrize(("run", "streamed"), [(TUNING.stream_back - 1, 0), (TUNING.stream_back, 1)])
@pytest.mark.parametrize("axes", [1, 0], ids=["rows", "columns"])
def test_which_gradients_are_written_past_the_cache(axes, run, streamed):
    rows = -(-TUNING.stream_back_bytes // (4 * run))
    for size, past in ((rows - 1, 0), (rows, streamed)):
        x = np.dtype("f4"), (size, run), (4 * run, 4)
        chosen = backward._plan(nbn.Layout.axes(axes), (x, x, None, x), 1, True)
        assert [int(board[backward_walk.STREAM]) for board in chosen.boards] == [past] * len(chosen.boards)


@pytest.mark.parametrize("name", CHANGES)
def test_another_threshold_changes_the_choice(name):
    value, *of = CHANGES[name]
    made = nest_of(*of)
    assert schedules(made, TUNING) != schedules(made, replace(TUNING, **{name: value}))
    assert schedules(made, TUNING) == schedules(made, replace(TUNING))


def test_another_limit_changes_the_family_here_and_on_no_gpu():
    made = nest_of((LARGE, TUNING.limits.tiny_run), ROWS)
    others = replace(TUNING, limits=TUNING.limits._replace(tiny_run=1))
    assert plan.choose(made, 4, tuning=TUNING).loops.family == "columns"
    assert plan.choose(made, 4, tuning=others).loops.family == "rows"
    # The order of a GPU's sums follows from these, so whoever changes them changes results.
    assert OF_GPUS == (16, 256, 8, 8, 4096)
    assert OF_GPUS is not TUNING.limits


def test_limits_agree_with_what_is_baked_into_kernels():
    """More columns than the stack has room for would end the process."""
    assert TUNING.limits.max_columns <= constants.MAX_COLUMNS
    assert TUNING.tile <= constants.MAX_COLUMNS
    assert TUNING.output_columns <= constants.MAX_COLUMNS
    assert TUNING.limits.lanes == constants.LANES


@pytest.mark.parametrize("answer", [ValueError, 0], ids=["unknown", "zero"])
def test_cache_size_where_the_system_does_not_tell(answer, monkeypatch):
    def sysconf(name):
        if answer:
            raise answer(name)
        return answer

    monkeypatch.setattr(tuning.os, "sysconf", sysconf, raising=False)
    assert tuning._cache_bytes() == 32 << 20
