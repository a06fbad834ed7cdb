"""The bytes that kernels move in Numba's simulator, against the model of them in asv_benchmarks/traffic.py."""

from collections import Counter
from dataclasses import replace
from math import gcd, prod

import everyday
import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="needs the package numba-cuda")

import traffic
from device_kernels import CASES as ALL_CASES
from device_kernels import COLUMNS, LAYER, WAYS, Memory, array, every, normalize, output_like
from strategies import BFLOAT16

import numbanorm as nbn
from numbanorm.arrays.take import view
from numbanorm.call import run
from numbanorm.cuda.engine import ENGINE
from numbanorm.cuda.kernels.twins import Area
from numbanorm.engine.interface import Frame

# Enough groups for a launch, each of more than registers and shared memory hold.
TWICE = {
    "rows read twice": ((6, 1416), None, LAYER, (1416,)),
    "columns read twice": ((30, 328), None, COLUMNS, (328,)),
}
CASES = ALL_CASES | TWICE
ALONE = ("many rows", "groups", "columns", "channels last")  # statistics alone, where a call needs one launch
# How many elements lie one behind another in what a team takes as one run: a group, a row, or a row of all columns.
RUNS = {
    "many rows": 300,
    "rows in parts": 1400,
    "rows in parts, one weight each": 280,
    "batch": 32,
    "batch of odd runs": 49,
    "batch in parts": 32,
    "groups": 24,
    "groups of odd runs": 49,
    "weights by element": 24,
    "weights by group": 24,
    "columns": 40,
    "columns, few rows": 40,
    "columns in parts": 40,
    "columns, odd": 37,
    "columns, weights by row": 40,
    "columns, weights by element": 40,
    "channels last": 24,
    "instances, channels last": 24,
    "groups, channels last": 24,
    "odd groups, channels last": 20,
    "interleaved groups": 24,
    "windows": 3,
    "tiny runs": 5,
    "nothing reduced": 70,
    "all reduced": 60,
    "a number": 1,
    "six axes, rows": 9,
    "six axes, columns": 3,
    "rows kept": 572,
    "rows kept, runs with gaps": 180,
    "rows kept, odd": 565,
    "columns kept": 328,
    "columns kept, odd": 23,
    "rows read twice": 1416,
    "columns read twice": 328,
}
# Without weights other loops merge: two channels to one run, two axes to one; all rows and channels of a group to one
# loop around four.
RUNS_WITHOUT_WEIGHTS = RUNS | {"groups of odd runs": 98, "interleaved groups": 4, "six axes, rows": 36}


def total(sizes):
    return sum(size * count for size, count in sizes.items())


def check(step, areas, expected):
    """What one step moved, byte by byte and in all."""
    states = [area for name, area in areas.items() if name.startswith("states")]
    read = {name: total(areas[name].loads) if name in areas else 0 for name in ("x", "weight", "bias")}
    assert read["x"] == expected.x + expected.pivots
    assert (read["weight"], read["bias"]) == (expected.weight, expected.bias)
    assert sum(total(area.loads) for area in states) == expected.states_loaded
    assert sum(np.count_nonzero(area.reads) for area in states) == expected.states
    assert sum(total(area.stores) for area in states) == expected.states_stored
    assert all(area.writes.max() <= 1 for area in states)
    assert total(areas["out"].stores) == expected.out
    assert not any(areas[name].stores for name in read if name in areas) and not areas["out"].loads
    if step.code.family != "states":
        assert np.all(areas["out"].writes == step.code.output)
        nbytes = areas["x"].size
        assert areas["x"].reads.min() >= 1
        assert nbytes <= expected.x == nbytes + expected.again <= 2 * nbytes
        if expected.pivots == 0:
            assert areas["x"].reads.max() == 1 + (expected.again > 0)
        if step.code.whole or step.code.kept or not (step.code.statistics and step.code.output):
            assert expected.x == nbytes


def check_widths(areas, expected, width, itemsize):
    """That x and the output move in pieces of this many bytes, all but single elements of x."""
    loads = Counter({width: expected.x // width})
    loads[itemsize] += expected.pivots // itemsize
    assert areas["x"].loads == +loads
    assert areas["out"].stores == +Counter({width: expected.out // width})


def arrays_of(gpu, name, dtype, affine, rng):
    shape, order, layout, of_weight = CASES[name]
    memory = Memory(gpu)
    x = memory.send(array(rng, shape, dtype, order))
    weight, bias = (memory.send(array(rng, of_weight, dtype)) if affine else None for _ in range(2))
    return layout, x, output_like(x), weight, bias


def check_all(seen, steps, width, itemsize, **how):
    """All steps of one call: which there were, and what each moved."""
    assert [step for step, _ in seen] == list(steps)
    for step, areas in seen:
        expected = traffic.of(step, **how)
        check(step, areas, expected)
        check_widths(areas, expected, width, itemsize)
    seen.clear()


def planned(operation, layout, *operands, **statistics):
    """The steps of a call, which the engine has planned once and keeps."""
    return ENGINE.plan(operation, layout, Frame(*operands, **statistics)).steps


KINDS = [("float32", True), ("float32", False), (BFLOAT16, True), (BFLOAT16, False)]
# Besides every case in float32 with weights: of each kind of kernel one without, and one in bfloat16.
EVERYDAY = {("float32", False): {*WAYS, *ALONE}, (BFLOAT16, True): {"many rows", "columns", *TWICE}}


@pytest.mark.parametrize(("name", "dtype", "affine"), every(CASES, KINDS, EVERYDAY))
def test_kernels_move_what_the_model_says(name, dtype, affine, gpu, watch, rng):
    layout, *operands = arrays_of(gpu, name, dtype, affine, rng)
    x, out, weight, bias = operands
    seen, steps = watch(x=x, out=out, weight=weight, bias=bias), planned("normalize", layout, *operands)
    run_of = (RUNS if affine else RUNS_WITHOUT_WEIGHTS)[name]
    sizes = gcd(16, run_of * x.itemsize), x.itemsize
    states = normalize(layout, *operands, keep=affine)
    check_all(seen, steps, *sizes, keep=affine)
    assert name not in TWICE or traffic.of(steps[0]).again
    assert "kept" not in name or steps[0].code.kept
    if steps[0].code.variant.operation == "moments":
        return  # the other kernels have just run
    if affine and dtype == "float32":  # else the simulator takes long
        _, mean, m2 = states
        normalize(layout, *operands, statistics=states)
        check_all(seen, planned("apply", layout, *operands, mean=mean, m2=m2), *sizes)
    if name in ALONE and not affine:
        run.moments(ENGINE, layout, x)
        check_all(seen, planned("moments", layout, x), *sizes, made=traffic.IN_TWO)


CHOSEN = {  # shapes of the mask and of the weights
    "many rows": ((300,), (6, 300)),
    "rows in parts": ((1400,), None),
    "groups": ((8, 1, 1), (3, 8, 4, 6)),
    "columns": ((30, 1), (30, 40)),
    "columns in parts": (None, (90, 40)),
    "columns, odd": ((50, 37), None),
    "groups, channels last": ((3, 1, 20), None),
}


@pytest.mark.parametrize("squares", [False, True], ids=["", "squares"])
@pytest.mark.parametrize("name", CHOSEN)
def test_of_what_is_chosen_x_and_masks_are_read_once(name, squares, gpu, watch, rng):
    shape, order, layout, _ = CASES[name]
    x, (of_mask, of_weights) = Memory(gpu).send(array(rng, shape, "float32", order)), CHOSEN[name]
    mask = of_mask and Memory(gpu).send(np.asarray(rng.random(of_mask) < 0.5))
    weights = of_weights and Memory(gpu).send(array(rng, of_weights, mean=9))
    if squares and not weights:
        pytest.skip("of weights alone")
    seen = watch(x=x, weight=weights, bias=mask, out=None)
    areas_of = nbn.moments(x, layout, where=mask, weights=weights, weights_are=RELIABLE[squares])
    assert areas_of.shape == layout.group_shape(shape)
    steps = [pair for pair in seen if "chosen" in pair[0].code.variant.operation]
    assert [step.code.squares for step, _ in steps] == [squares] * len(steps)
    for step, areas in steps:
        check(step, {"out": Area(0, 1), **areas}, traffic.of(step))
        if step.code.variant.operation == "chosen":
            assert areas["x"].loads == Counter({step.code.vector * 4: x.size // step.code.vector})
            assert areas["x"].reads.max() == 1


RELIABLE = "frequency", "reliability"


@pytest.mark.parametrize("center", [True, False], ids=["centered", "about zero"])
@pytest.mark.parametrize("dtype", everyday.every(["float64", "int8"], ["float64"]))
@pytest.mark.parametrize("name", ["groups", "rows in parts", "columns, odd", "groups, channels last"])
def test_distances_in_float64_are_taken_from_elements(name, dtype, center, gpu, watch, rng):
    """Each thread of a group loads its first element, too."""
    layout, x, out, _, _ = arrays_of(gpu, name, dtype, False, rng)
    seen, steps = watch(x=x, out=out), planned("normalize", layout, x, out)
    normalize(layout, x, out, center=center)
    assert [step for step, _ in seen] == list(steps)
    assert any(traffic.of(step).pivots for step in steps)
    for step, areas in seen:
        check(step, areas, traffic.of(step, center=center))


@pytest.mark.parametrize("name", ["batch", "channels last", "columns, odd"])
def test_running_statistics_have_no_counts(name, gpu, watch, rng):
    layout, x, out, weight, bias = arrays_of(gpu, name, "float32", True, rng)
    shape = layout.group_shape(x.shape)
    mean, var = (view(gpu.send(np.ones(shape, np.float32))) for _ in range(2))
    seen = watch(x=x, out=out, weight=weight, bias=bias, states_mean=mean, states_var=var)
    normalize(layout, x, out, weight, bias, statistics=(None, mean, var))
    ((step, areas),) = seen
    expected = traffic.of(step, given=traffic.RUNNING)
    assert expected.states == mean.size * 8
    check(step, areas, expected)


@pytest.mark.parametrize("name", ["many rows", "columns in parts", "groups"])
def test_arrays_that_are_not_aligned_move_in_smaller_pieces(name, gpu, watch, rng):
    shape, _, layout, _ = CASES[name]
    home = rng.standard_normal(np.prod(shape) + 1, np.float32)
    x = Memory(gpu).send(home[1:].reshape(shape))
    assert x.pointer % 16 == 4
    out = output_like(x)
    seen, steps = watch(x=x, out=out), planned("normalize", layout, x, out)
    normalize(layout, x, out)
    check_all(seen, steps, 4, 4)


@pytest.mark.parametrize("name", CASES)
def test_the_least_is_every_byte_once(name, gpu, rng):
    layout, *arrays = arrays_of(gpu, name, "float32", True, rng)
    shape, order, _, of_weight = CASES[name]
    loops, operands, _ = traffic.planned("f4", shape, order, layout, of_weight)
    nbytes = sum(array.nbytes for array in arrays)
    assert traffic.least(loops, operands, 24) == nbytes + 24 * np.prod(layout.group_shape(shape), dtype=int)


def test_an_access_outside_of_the_arrays_is_an_error(gpu, watch, rng):
    layout, x, out, _, _ = arrays_of(gpu, "batch", "float32", False, rng)
    watch(x=x, out=replace(out, shape=(1,)))
    with pytest.raises(AssertionError, match="outside"):
        normalize(layout, x, out)


@pytest.mark.parametrize("layer", traffic.LAYERS, ids=lambda layer: f"{layer[0]} {layer[1]}")
def test_layers_of_the_table(layer, real_table):
    """With the real launch table: what a call moves is no less than the least, and x is read twice at most."""
    *_, what, keep = layer
    loops, operands, steps = traffic.planned(*layer[1:6], what=what)
    given = traffic.RUNNING if what == "apply" else traffic.STATES
    made = traffic.IN_TWO if what == "moments" else traffic.STATES
    moved = [traffic.of(step, keep=keep, given=given, made=made) for step in steps]
    assert all(0 <= traffic.cached(step, of_step) <= of_step.x for step, of_step in zip(steps, moved, strict=True))
    x = prod(layer[2]) * operands[0].itemsize
    assert sum(m.out for m in moved) == x
    assert x <= sum(m.x for m in moved) <= 2 * x
    fewest = traffic.least(loops, operands, sum(given) if keep or what == "apply" else 0)
    assert sum(m.moved + m.weight + m.bias for m in moved) >= fewest
