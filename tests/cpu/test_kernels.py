"""Every way through the kernels, on both sides of each switch in the schedule, against the oracle.

Each case is run on one thread, on several, on a pool of Python threads, with streaming stores, in place, and with its
own statistics given back: all must give the same bits. The schedule's thresholds are made small for it, so that the
arrays can be small, too.
"""

from dataclasses import replace

import numpy as np
import oracle
import pytest
from kernel_calls import (
    array,
    between_guards,
    forget_plans,
    form,
    kinds_of,
    nest_of,
    normalize,
    output_like,
    plan_by,
    planned,
)
from oracle import assert_within

import numbanorm as nbn
from numbanorm.call import run
from numbanorm.cpu import launcher, plan
from numbanorm.cpu.engine import ENGINE
from numbanorm.cpu.kernels.constants import (
    BLOCK,
    CHAIN,
    DOWN_ROWS,
    JOINED,
    LANES,
    MAX_COLUMNS,
    NEAR_BYTES,
    ROW_BLOCK,
    SHARED,
    SIDE,
    TURN_RUN,
)
from numbanorm.cpu.tuning import TUNING
from numbanorm.engine.interface import Frame, Variant

LONG_RUN, TINY_RUN, MANY_ROWS = TUNING.limits.long_run, TUNING.limits.tiny_run, TUNING.limits.many_rows
# Parallel from the first element on, many parts, narrow tiles.
SMALL = {"serial_work": 0, "serial_output": 0, "part_elements": 200, "output_elements": 100, "tile": 48}
WHOLE = {**SMALL, "wanted_tasks": 1}  # no parts
SERIAL = {}
exhaustive = pytest.mark.exhaustive


@pytest.fixture
def tune(monkeypatch):
    """Change thresholds for one test; it gives the tuning that is made of all changes until then."""
    tuning = TUNING

    def change(**thresholds):
        nonlocal tuning
        tuning = replace(tuning, **thresholds)
        plan_by(monkeypatch, tuning)
        return tuning

    yield change
    monkeypatch.undo()
    forget_plans()


@pytest.fixture
def pooled(monkeypatch):
    """Run as in a process that was forked."""

    def call(function):
        with monkeypatch.context() as m:
            m.setattr(launcher, "_process", launcher._Process(forked=True))
            return function()

    return call


def copy_of(x):
    """A copy that holds each element once, in the memory order of x."""
    home = output_like(x)
    home[...] = x
    return home


def check_result(got, states, x, layout, weight=None, bias=None, eps=1e-5, center=True):
    """States and output against the definition."""
    ids, n = oracle.groups(layout, x.shape)
    stats = oracle.check_states(states, x, layout, center)
    expected = oracle.normalize(x, ids, n, weight, bias, eps, stats)
    known = None if center else stats  # the mean about zero is exact
    assert_within(got, expected, oracle.output_tolerance(x, ids, n, expected, weight, bias, eps, known))


def check(x, layout, weight=None, bias=None, *, eps=1e-5, tune, pooled, threads):
    """The result is right, and the same however it is run."""
    nbn.set_num_threads(1)
    first, states = normalize(layout, x, weight, bias, eps)
    check_result(first, states, x, layout, weight, bias, eps)
    oracle.check_states(run.moments(ENGINE, layout, x), x, layout, True)
    about_zero, squares = normalize(layout, x, weight, bias, eps, center=False)
    check_result(about_zero, squares, x, layout, weight, bias, eps, center=False)

    def same(result):
        np.testing.assert_array_equal(result[0], first)
        for got, want in zip(result[1], states, strict=True):
            np.testing.assert_array_equal(got, want)

    for count in (2, 3, threads):
        nbn.set_num_threads(count)
        same(normalize(layout, x, weight, bias, eps))
    same(pooled(lambda: normalize(layout, x, weight, bias, eps)))
    same(normalize(layout, x, weight, bias, eps, statistics=states))
    here = copy_of(x)
    apart = normalize(layout, here, weight, bias, eps)[0]
    np.testing.assert_array_equal(normalize(layout, here, weight, bias, eps, out=here)[0], apart)
    tune(**past_the_cache(True))
    for shift in (0, x.itemsize, 1):  # aligned, not at the start, never
        same(normalize(layout, x, weight, bias, eps, out=placed(first, shift)))


def past_the_cache(stream):
    """Thresholds by which all output is streamed, all x read in its order, and no group of columns kept; or none."""
    past = 0 if stream else 1 << 40
    runs = {"stream_halves": 0, "stream_least": 0, "stream_columns": 0, "read_run": 0}
    return {"stream_bytes": past, "read_bytes": past, "again_bytes": past, **runs}


def placed(like, shift):
    """An array so many bytes behind a multiple of 64, with the strides of `like`."""
    raw = np.zeros(like.nbytes + 128, np.uint8)
    start = -raw.ctypes.data % 64 + shift
    order = np.argsort([-s for s in like.strides], kind="stable")
    flat = raw[start : start + like.nbytes].view(like.dtype)
    return flat.reshape([like.shape[a] for a in order]).transpose(np.argsort(order))


def layer(num_axes=1):
    return nbn.Layout.layer(num_axes)


BATCH, COLUMNS, GROUPS = nbn.Layout.batch(), nbn.Layout.axes(0), nbn.Layout.group(4)
INSTANCE, REPEATED = nbn.Layout.instance(), nbn.Layout.axes((0, 2, 4))
INTERLEAVED = nbn.Layout("n (c g) s -> n g", g=4)
LAST3, LAST4 = (0, 2, 1), (0, 2, 3, 1)  # channels last in memory
WIDE = NEAR_BYTES // ROW_BLOCK // 4 + 9
SIX = (3, 2, 5, 4, 3, 7)
AT = MAX_COLUMNS // 4 * 4
CASES = {
    # name: shape, order in memory, layout, shape of weight and bias, thresholds, what the schedule must be
    "rows": ((37, 300), None, layer(), (300,), WHOLE, "rows beside"),
    "rows, small": ((37, 300), None, layer(), (300,), SERIAL, "rows beside serial"),
    "rows of one block": ((3, BLOCK), None, layer(), (BLOCK,), WHOLE, "rows beside"),
    "rows of two blocks": ((3, BLOCK + 1), None, layer(), (), WHOLE, "rows"),
    "rows that share weights": ((3, 2 * SHARED + 1), None, layer(), (2 * SHARED + 1,), WHOLE, "rows beside"),
    "rows that share weights, whole lines": (
        (6, 5 * LANES + BLOCK),
        None,
        layer(),
        (5 * LANES + BLOCK,),
        WHOLE,
        "rows beside",
    ),
    "rows with weights of their own": ((3, BLOCK + 1), None, layer(), (3, BLOCK + 1), WHOLE, "rows"),
    "rows, one weight each": ((4, 19, 300), None, layer(), (19, 1), WHOLE, "rows beside"),
    "rows side by side": ((49, 500), None, layer(), (), WHOLE, "rows beside"),
    "rows side by side, given up": ((49, 500), None, layer(), (), {**WHOLE, "batch_elements": 1}, "rows"),
    "runs side by side": ((9, 37, 7, 7), None, BATCH, (37, 1, 1), WHOLE, "rows beside"),
    "runs side by side, blocks": ((BLOCK // 49 + 2, 6, 7, 7), None, BATCH, (6, 1, 1), WHOLE, "rows beside"),
    "runs side by side, tuples": ((9, 21, 7, 7), None, BATCH, (), {**WHOLE, "visit_bytes": 2000}, "rows beside"),
    "runs side by side, many": ((9, SIDE + 6, 7, 7), None, BATCH, (SIDE + 6, 1, 1), WHOLE, "rows beside"),
    "runs side by side, long": ((13, 5, 20, 35), None, BATCH, (5, 1, 1), WHOLE, "rows beside"),
    "runs side by side, few rows": ((DOWN_ROWS - 1, 5, 20, 35), None, BATCH, (5, 1, 1), WHOLE, "rows beside"),
    "runs side by side, repeats": ((3, 2, 2 * CHAIN + 1, 4, 260), None, REPEATED, (), WHOLE, "rows beside"),
    "runs side by side, one weight each": ((5, 3, 6, 7), None, BATCH, (3, 6, 7), WHOLE, "rows beside"),
    "groups side by side": ((9, 12, 7, 7), None, GROUPS, (12, 1, 1), WHOLE, "rows beside"),
    "rows above tiny": ((100, TINY_RUN + 1), None, layer(), (TINY_RUN + 1,), WHOLE, "rows beside"),
    "rows in parts": ((3, 3 * BLOCK + 7), None, layer(), (3 * BLOCK + 7,), SMALL, "rows parts"),
    "one row in parts": ((2, 5, 700), None, layer(3), (5, 1), SMALL, "rows parts"),
    "rows in repeats": ((9, 3, 20, 35), None, BATCH, (3, 1, 1), {**WHOLE, "visit_bytes": 1}, "rows"),
    "rows in repeats and parts": ((9, 3, 20, 35), None, BATCH, (3, 1, 1), SMALL, "rows parts"),
    "columns": ((300, 40), None, COLUMNS, (40,), WHOLE, "columns"),
    "columns, small": ((300, 40), None, COLUMNS, (40,), SERIAL, "columns serial"),
    "columns of one block": ((ROW_BLOCK, LANES), None, COLUMNS, (LANES,), WHOLE, "columns"),
    "columns of two blocks": ((ROW_BLOCK + 1, LANES + 1), None, COLUMNS, (LANES + 1,), WHOLE, "columns"),
    "columns in strips": (
        (150, NEAR_BYTES // ROW_BLOCK // 4 + 9),
        None,
        COLUMNS,
        (),
        {**WHOLE, "tile": 512},
        "columns",
    ),
    "columns in strips to the end": ((ROW_BLOCK + 8, 201), None, COLUMNS, (201,), {**WHOLE, "tile": 2048}, "columns"),
    "columns in tiles": ((70, 109), None, COLUMNS, (109,), WHOLE, "columns tiles"),
    "columns in parts": ((700, 40), None, COLUMNS, (40,), SMALL, "columns parts"),
    "columns in tiles and parts": ((700, 109), None, COLUMNS, (109,), SMALL, "columns tiles parts"),
    "columns, weights by row": ((300, 40), None, COLUMNS, (300, 1), WHOLE, "columns"),
    "columns, weights by element": ((300, 40), None, COLUMNS, (300, 40), SMALL, "columns parts"),
    "channels last": ((5, 40, 7, 9), LAST4, BATCH, (40, 1, 1), SMALL, "columns parts"),
    "channels last, wide rows": (
        (5, 40, 8, 9),
        LAST4,
        BATCH,
        (40, 1, 1),
        {**SMALL, "output_columns": 160},
        "columns parts",
    ),
    "groups, channels last": ((5, 24, 40), LAST3, GROUPS, (24, 1), WHOLE, "columns high kept"),
    "groups, channels last, tiles": ((5, 88, 40), LAST3, GROUPS, (88, 1), WHOLE, "columns high kept tiles"),
    "groups, channels last, parts": ((2, 24, 400), LAST3, GROUPS, (24, 1), SMALL, "columns high kept parts"),
    "groups of 255": ((2, 4 * (LONG_RUN - 1), LONG_RUN), LAST3, GROUPS, (), WHOLE, "columns high kept tiles"),
    "groups of 256": ((2, 4 * LONG_RUN, LONG_RUN), LAST3, GROUPS, (), WHOLE, "rows beside"),
    "groups of few rows": ((2, 4 * 50, 49), LAST3, GROUPS, (), WHOLE, "rows beside"),
    "interleaved groups": ((5, 24, 40), LAST3, INTERLEAVED, (24, 1), WHOLE, "columns low kept"),
    "interleaved groups, parts": ((2, 24, 400), LAST3, INTERLEAVED, (24, 1), SMALL, "columns low kept parts"),
    "interleaved, most columns": ((1, AT, MANY_ROWS), LAST3, INTERLEAVED, (AT, 1), WHOLE, "columns low kept"),
    "interleaved, too many": ((1, AT + 4, MANY_ROWS), LAST3, INTERLEAVED, (AT + 4, 1), WHOLE, "columns low kept"),
    "interleaved groups, few rows": ((2, 40, MANY_ROWS - 1), LAST3, INTERLEAVED, (40, 1), WHOLE, "columns low kept"),
    "few channels": ((5, 3, 32), LAST3, INSTANCE, (3, 1), WHOLE, "columns low kept"),
    "few channels, small": ((5, 3, 32), LAST3, INSTANCE, (3, 1), SERIAL, "columns low kept serial"),
    "few channels, a rest": ((5, 3, 47), LAST3, INSTANCE, (3, 1), WHOLE, "columns low kept"),
    "few channels, many rows and a rest": ((3, 5, 2053), LAST3, INSTANCE, (5, 1), WHOLE, "columns low kept"),
    "few channels, parts": ((2, 3, 4096), LAST3, INSTANCE, (3, 1), SMALL, "columns low kept parts"),
    "few channels, parts and a rest": ((2, 7, 4099), LAST3, INSTANCE, (7, 1), SMALL, "columns low kept parts"),
    "few channels of all images": ((3, 4, 1031), LAST3, BATCH, (4, 1), SMALL, "columns low kept parts"),
    "few channels, one weight each": ((3, 3, 1031), LAST3, INSTANCE, (3, 1031), SMALL, "columns parts"),
    "few channels, weights by pixel": ((3, 3, 1031), LAST3, INSTANCE, (1031,), SMALL, "columns parts"),
    "fewer pixels than a row": ((70, 3, 31), LAST3, INSTANCE, (3, 1), WHOLE, "columns"),
    "tiny runs": ((200, TINY_RUN), None, layer(), (TINY_RUN,), WHOLE, "columns tiles"),
    "tiny runs, few": ((LANES - 1, TINY_RUN), None, layer(), (TINY_RUN,), WHOLE, "rows beside"),
    "nothing reduced": ((7, 130), None, nbn.Layout.axes(()), (130,), WHOLE, "columns tiles"),
    "a number": ((), None, nbn.Layout.axes(None), (), WHOLE, "columns"),
    "six axes, rows": (SIX, (1, 3, 0, 4, 2, 5), nbn.Layout.axes((0, 2, 5)), (3, 7), SMALL, "rows beside"),
    "six axes, columns": (SIX, (1, 3, 0, 5, 2, 4), nbn.Layout.axes((0, 2, 5)), (3, 7), SMALL, "columns"),
}


# Of float64 in the default run, where a block is read twice for its sums: each kind of kernel.
TWICE = ["rows", "rows of two blocks", "rows in parts", "columns", "columns in parts", "groups, channels last"]
TWICE += ["few channels, parts and a rest"]
EVERY_WAY = [pytest.param(name, "float32", id=f"{name}-float32") for name in CASES]
EVERY_WAY += [
    pytest.param(name, "float64", id=f"{name}-float64", marks=[] if name in TWICE else [exhaustive]) for name in CASES
]


@pytest.mark.parametrize(("name", "dtype"), EVERY_WAY)
def test_every_way(name, dtype, tune, pooled, threads, rng):
    shape, order, layout, of_weight, thresholds, expected = CASES[name]
    x = array(rng, shape, dtype, order)
    weight, bias = array(rng, of_weight, dtype), array(rng, of_weight, dtype)
    tuning = tune(**thresholds)
    arrays = x, output_like(x), weight, bias
    chosen = plan.choose(nest_of(layout, *arrays), x.itemsize, tuning=tuning)
    assert form(chosen) == expected
    nbn.set_num_threads(1)
    (step,) = planned("normalize", layout, Frame(*arrays))  # the engine's choice is this one
    assert step.variant == Variant("normalize", chosen.loops.family, kinds_of(*arrays))
    np.testing.assert_array_equal(step.table, chosen.table)
    check(x, layout, weight, bias, tune=tune, pooled=pooled, threads=threads)


STRANGE = {
    "sliced": lambda x: x[:, 1::2, 2:-3, ::3],
    "reversed": lambda x: x[::-1, :, ::-1],
    "reversed along the run": lambda x: x[..., ::-2],
    "broadcast": lambda x: np.broadcast_to(x[:, :1, :, :1], x.shape),
    "broadcast along the groups": lambda x: np.broadcast_to(x[:1], x.shape),
    "channels last, sliced": lambda x: np.moveaxis(x, -1, 1)[:, ::2, 1:],
}


@pytest.mark.parametrize("axes", [(0, 2, 3), (1, 2, 3), (3,), (0, 1, 2), (0, 3), (1,)], ids=str)
@pytest.mark.parametrize("name", STRANGE)
def test_memory_that_does_not_merge(name, axes, tune, pooled, threads, rng):
    x = STRANGE[name](array(rng, (5, 8, 12, 33)))
    weight, bias = array(rng, x.shape[1:]), array(rng, (x.shape[1], 1, 1))
    tune(**SMALL)
    layout, before = nbn.Layout.axes(axes), x.copy()
    check(x, layout, weight, bias, tune=tune, pooled=pooled, threads=threads)
    if 0 not in x.strides:
        check_result(*normalize(layout, x, weight, bias, out=x), before, layout, weight, bias)


@pytest.mark.parametrize("name", ["rows", "rows in parts", "columns", "columns in parts", "groups, channels last"])
def test_without_weight_and_bias(name, tune, pooled, threads, rng):
    shape, order, layout, _, thresholds, _ = CASES[name]
    tune(**thresholds)
    check(array(rng, shape, order=order), layout, tune=tune, pooled=pooled, threads=threads)


# Numbers that float32 holds, but not what is made of them on the way.
@pytest.mark.parametrize(
    ("scale", "weight"), [(1e-30, 1), (1e30, 1), (1e-37, 1), (3e37, 1), (1e-32, 1e8), (1e32, 1e-9)]
)
@pytest.mark.parametrize(
    "name", ["rows", "rows, one weight each", "columns", "columns, weights by row", "columns in parts"]
)
def test_scales_at_the_ends_of_float32(name, scale, weight, tune, pooled, threads, rng):
    shape, order, layout, of_weight, thresholds, _ = CASES[name]
    x = array(rng, shape, order=order, scale=scale, mean=0.5)
    weight, bias = array(rng, of_weight, scale=weight), array(rng, of_weight, scale=weight)
    tune(**thresholds)
    check(x, layout, weight, bias, eps=0.0, tune=tune, pooled=pooled, threads=threads)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, 1e-42], ids=str)
@pytest.mark.parametrize(
    "name", ["rows", "rows in parts", "columns in tiles", "columns in tiles and parts", "tiny runs"]
)
def test_one_group_apart_changes_no_other_with_the_threads(name, bad, tune, threads, rng):
    """What float32 does not serve is made in float64, perhaps with its neighbours: the same ones for any threads."""
    shape, order, layout, of_weight, thresholds, _ = CASES[name]
    x, weight, bias = array(rng, shape, order=order), array(rng, of_weight), array(rng, of_weight)
    x[layout.group_ids(shape) == 0] *= np.float32(bad)
    tune(**thresholds)
    nbn.set_num_threads(1)
    first, _ = normalize(layout, x, weight, bias, 0.0)
    nbn.set_num_threads(threads)
    np.testing.assert_array_equal(normalize(layout, x, weight, bias, 0.0)[0], first)


def guarded(like, at_end):
    """A copy at the end or the beginning of memory: to touch what lies beyond ends the process."""
    room = between_guards(like.nbytes)
    room = room[room.size - like.nbytes :] if at_end else room[: like.nbytes]
    order = np.argsort([-s for s in like.strides], kind="stable")
    home = room.view(like.dtype).reshape([like.shape[a] for a in order]).transpose(np.argsort(order))
    home[...] = like
    return home


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("groups of 25")])
def test_no_kernel_touches_what_lies_outside(name, at_end, tune, rng):
    shape, order, layout, of_weight, thresholds, _ = CASES[name]
    x, weight, bias = (array(rng, *of) for of in ((shape, np.float32, order), (of_weight,), (of_weight,)))
    expected, states = normalize(layout, x, weight, bias)
    weight, bias, out = guarded(weight, at_end), guarded(bias, at_end), guarded(x, at_end)
    x = guarded(x, at_end)
    for stream in (False, True):
        tune(**thresholds, **past_the_cache(stream))
        got, _ = normalize(layout, x, weight, bias, out=out)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
        normalize(layout, x, weight, bias, out=out, statistics=states)
        run.moments(ENGINE, layout, x)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "dtype", [">f4", pytest.param(">f8", marks=exhaustive), pytest.param(">f2", marks=exhaustive), "<f4"]
)
@pytest.mark.parametrize("name", ["rows", "rows in parts", "columns", "columns in parts", "groups, channels last"])
def test_swapped_and_unaligned_on_both_sides(name, dtype, stream, tune, threads, rng):
    """Also past the cache, which takes whole, aligned lines only."""
    shape, order, layout, _, thresholds, _ = CASES[name]
    tune(**thresholds, **past_the_cache(stream))
    plain = array(rng, shape, np.dtype(dtype).newbyteorder("="), order)
    expected, states = normalize(layout, plain)
    check_result(expected, states, plain, layout)
    like = plain.astype(dtype, order="K")
    for shift in (0, 1, 4, 60):
        x, out = placed(like, shift), placed(like, 64 - shift)
        x[...] = plain
        got, _ = normalize(layout, x, out=out)
        assert got.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "u1", "i8"])
@pytest.mark.parametrize("shape", [(37, 49), (40, 300), (9, 700), (5, 3000), (6, 40, 7, 7)])
def test_the_order_in_which_x_is_read_changes_no_bit(shape, dtype, tune, rng):
    layout, found = nbn.Layout.layer() if len(shape) == 2 else nbn.Layout.group(8), []
    x = array(rng, shape, mean=100.0, scale=9.0).astype(dtype)
    for stream in (False, True):
        tune(**past_the_cache(stream))
        found.append(run.moments(ENGINE, layout, x))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    oracle.check_states(found[1], x, layout, True)


# Layers whose runs lie behind one another, and are written as one: (shape, layout, shape of weight and bias).
BEHIND = {
    "rows": ((21, 0), nbn.Layout.layer(), (1, 0)),
    "rows without weights": ((21, 0), nbn.Layout.layer(), None),
    "maps of a channel": ((2, 5, 0), nbn.Layout("n c l -> n c"), (5, 1)),
    "groups of channels": ((3, 12, 0), nbn.Layout("n (g c) l -> n g", c=3), (12, 1)),
    "channels of a batch": ((3, 70, 0), nbn.Layout("n c l -> c"), (70, 1)),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("size", [LANES, LANES + 1, 31, 32, 49, 100, JOINED, JOINED + 1])
@pytest.mark.parametrize("name", BEHIND)
def test_runs_written_as_one_have_the_bits_of_each_alone(name, size, stream, tune, threads, rng):
    """A gap behind each run keeps them apart."""
    tune(**past_the_cache(stream))
    shape, layout, of_weight = BEHIND[name]
    shape = *shape[:-1], size
    weight = bias = None
    if of_weight:
        weight, bias = (array(rng, [n or size for n in of_weight]) for _ in range(2))
    for dtype in (np.float32, np.float16, np.float64):
        x = array(rng, shape, dtype)
        apart, room = (np.empty((*shape[:-1], size + 3), dtype)[..., :size] for _ in range(2))
        apart[...] = x
        got, states = normalize(layout, x, weight, bias)
        check_result(got, states, x, layout, weight, bias)
        expected, _ = normalize(layout, apart, weight, bias, out=room, statistics=states)
        np.testing.assert_array_equal(got, expected)
        for shift in (0, 4, 60):
            out = placed(x, shift)
            for given in (None, states):
                np.testing.assert_array_equal(
                    normalize(layout, x, weight, bias, out=out, statistics=given)[0], expected
                )
        out[...] = x
        np.testing.assert_array_equal(normalize(layout, out, weight, bias, out=out)[0], expected)


@pytest.mark.parametrize("size", [TURN_RUN - 16, TURN_RUN, 300, 400, 768, 1000, 2040, 2048])
@pytest.mark.parametrize("weighted", [True, False])
def test_runs_that_take_turns_have_the_bits_of_each_alone(weighted, size, tune, threads, rng):
    """Past the cache, some are written in one loop with the sums of the next."""
    tune(**past_the_cache(True))
    x = array(rng, (47, size), mean=3.0)
    x[9, :64] += 1e5  # a pivot far from the mean
    x[20] *= np.float32(1e-42)  # of subnormals, which float32 does not serve
    x[30, 5], x[36] = np.inf, 7.0
    weight, bias = (array(rng, (1, size)) if weighted else None for _ in range(2))
    for center in (True, False):

        def one(x, center=center, **keywords):
            return normalize(layer(), x, weight, bias, 0.0, center=center, **keywords)

        alone = [one(x[i : i + 1]) for i in range(len(x))]
        expected = np.concatenate([out for out, _ in alone])
        states = [np.concatenate(of_all) for of_all in zip(*(states for _, states in alone), strict=True)]
        gaps = np.empty((len(x), size + 3), np.float32)[:, :size]
        packed = np.zeros((len(x), 4 * size + 6), np.uint8)[:, 2 : 4 * size + 2].view(np.float32)
        for count in (1, 2, threads):
            nbn.set_num_threads(count)
            for out in (*(placed(x, shift) for shift in (0, 2, 4, 60)), gaps, packed):
                got, found = one(x, out=out)
                np.testing.assert_array_equal(got, expected)
                for have, want in zip(found, states, strict=True):
                    np.testing.assert_array_equal(have, want)


@pytest.mark.parametrize("stream", [False, True])
def test_a_run_that_float32_does_not_serve_is_written_alone(stream, tune, rng):
    tune(**past_the_cache(stream))
    x = array(rng, (40, 49))
    x[17] = x[17] * np.float32(1e-42)
    weight = array(rng, (1, 49))
    out, states = normalize(nbn.Layout.layer(), x, weight, eps=0.0)
    check_result(out, states, x, nbn.Layout.layer(), weight, eps=0.0)
