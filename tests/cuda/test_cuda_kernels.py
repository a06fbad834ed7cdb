"""Every way through the CUDA kernels, on both sides of each switch in the launch table, against the oracle.

The launch table is made small for it: the simulator runs one Python thread for each of the GPU's. On a GPU the same
tests run, with the small table and with the real one.
"""

from contextlib import nullcontext
from dataclasses import replace

import everyday
import numpy as np
import oracle
import pytest

pytest.importorskip("numba_cuda", reason="needs the package numba-cuda")
from device_kernels import (
    CASES,
    COLUMNS,
    LAYER,
    WAYS,
    Memory,
    array,
    check,
    check_result,
    every,
    normalize,
    output_like,
    run_all,
)
from hypothesis import given
from hypothesis import strategies as st
from oracle import result_dtype
from small import SMALL
from strategies import BFLOAT16, FLOATS, arrays, groupings, parameters

import numbanorm as nbn
from numbanorm.arrays.take import view
from numbanorm.cuda import launcher


@pytest.fixture
def memory(gpu):
    return Memory(gpu)


def around(*sizes):
    return sorted({size + step for size in sizes for step in (-1, 0, 1)} - {0})


HELD = [team.threads * team.values for team in SMALL.rows]
KEPT = SMALL.loop.threads * SMALL.loop.values + SMALL.shared // 4  # in registers, and in shared memory
SIZES = [1, 2, 3, *around(*HELD, KEPT), 700, 1024]


@pytest.mark.parametrize("size", SIZES)
def test_sizes_of_rows(size, memory, rng):
    x, weight, bias = array(rng, (3, size)), array(rng, (size,)), array(rng, (size,))
    check(memory, nbn.Layout("a b -> a"), x, weight, bias)


@pytest.mark.parametrize("dtype", [*FLOATS, "int8", "uint16", "int64", "bool"], ids=str)
@pytest.mark.parametrize("size", everyday.every([48, 50, 200, 1040], [50, 200]))
def test_dtypes_of_rows(size, dtype, memory, rng):
    x = (array(rng, (3, size), np.float64) * 9).astype(dtype)
    out = result_dtype(x.dtype)
    check(memory, LAYER, x, array(rng, (size,)).astype(out), array(rng, (size,)).astype(out))


@pytest.mark.parametrize("dtype", [*FLOATS, "int8"], ids=str)
@pytest.mark.parametrize("shape", [(7, 48), (70, 24), (70, 9)])
def test_dtypes_of_columns(shape, dtype, memory, rng):
    x = (array(rng, shape, np.float64) * 9).astype(dtype)
    out = result_dtype(x.dtype)
    check(memory, COLUMNS, x, array(rng, shape[1:]).astype(out), array(rng, shape[1:]).astype(out))


KINDS = [("float32", True), ("float32", False), ("float64", True), (BFLOAT16, True)]


@pytest.mark.parametrize(("name", "dtype", "affine"), every(CASES, KINDS, WAYS))
def test_every_way(name, dtype, affine, memory, rng):
    shape, order, layout, of_weight = CASES[name]
    x = array(rng, shape, dtype, order)
    weight, bias = (array(rng, of_weight, dtype) if affine else None for _ in range(2))
    check(memory, layout, x, weight, bias, about_zero=True)


class Watched:
    """In place of `launcher.launch`: which steps there were; or the same ones, kept from keeping, as on a device with
    too little shared memory.
    """

    def __init__(self, launch):
        self.launch, self.keeping, self.seen = launch, True, []

    def __call__(self, step, device, stream, values):
        self.seen.append(step)
        assert step.code.kept == (step.shared > 0)
        if step.shared and not self.keeping:
            step = replace(step, code=step.code._replace(kept=False), shared=0, kernels={})
        self.launch(step, device, stream, values)


@pytest.fixture
def watched(monkeypatch):
    found = Watched(launcher.launch)
    monkeypatch.setattr(launcher, "launch", found)
    return found


def check_kept(memory, watched, layout, x, weight=None, bias=None):
    """The result, and that it is that of the kernel which keeps nothing, bit by bit; returns how much this one keeps.

    None stands for statistics and output in launches of their own.
    """

    def normalized(x, keeping=True):
        watched.keeping = keeping
        on_device = memory.send(x)
        out, affine = output_like(on_device), (memory.send(weight), memory.send(bias))
        states = normalize(layout, on_device, out, *affine, keep=True)
        return [memory.get(array) for array in (out, *states)]

    out, *states = results = normalized(x)
    first = watched.seen[0]
    code, shared = first.code, first.shared
    assert code.output or not any(step.shared for step in watched.seen)
    check_result(out, states, x, layout, weight, bias)
    if shared:
        for one, other in zip(results, normalized(x, keeping=False), strict=True):
            oracle.assert_same(one, other)
    if shared and x.dtype.kind not in "iub":
        x[(1,) * x.ndim], x[(-1,) * x.ndim] = np.nan, np.inf
        for one, other in zip(normalized(x), normalized(x, keeping=False), strict=True):
            oracle.assert_same(one, other)
    return shared if code.output else None


# Of the small launch table: groups that just stay in registers, are just beyond, can just be kept, and just not. The
# default run has all of them in float32; in other dtypes those which can just be kept.
SWITCHES = [
    # dtype, layout, shape, bytes that are kept
    *(("float32", LAYER, (3, size), kept) for size, kept in ((512, 0), (513, 2048), (640, 2048), (641, 2560))),
    *(("float32", LAYER, (3, size), kept) for size, kept in ((768, 2560), (769, None))),
    *(("float16", LAYER, (3, size), kept) for size, kept in ((512, 0), (520, 1024), (1408, 2560), (1416, None))),
    *(("float64", LAYER, (3, size), kept) for size, kept in ((128, 0), (130, 1024), (352, 2560), (354, None))),
    *(("int8", LAYER, (3, size), kept) for size, kept in ((192, 0), (193, 192), (2592, 2544), (2593, None))),
    *(("float32", LAYER, (groups, 600), kept) for groups, kept in ((2, None), (6, 2048))),
    *(("float32", LAYER, (groups, 800), kept) for groups, kept in ((5, None), (6, 0))),
    *(("float32", COLUMNS, (size, 96), kept) for size, kept in ((8, 0), (9, 1024), (16, 1024), (17, 2048))),
    *(("float32", COLUMNS, (size, 96), kept) for size, kept in ((24, 2048), (25, None))),
    *(("float64", COLUMNS, (size, 48), kept) for size, kept in ((6, 0), (7, 768), (24, 2304), (25, None))),
    *((BFLOAT16, COLUMNS, (size, 192), kept) for size, kept in ((4, 0), (5, 512), (20, 2048), (21, None))),
    *(("float32", COLUMNS, (20, size), kept) for size, kept in ((64, None), (68, 2048))),
    *(("float32", COLUMNS, (30, size), kept) for size, kept in ((160, None), (192, 0))),
]


EVERYDAY_SWITCHES = [switch for switch in SWITCHES if switch[0] == "float32" or (switch[3] or 0) > 1024]


@pytest.mark.parametrize(
    ("dtype", "layout", "shape", "shared"),
    [pytest.param(*s, marks=() if s in EVERYDAY_SWITCHES else everyday.exhaustive) for s in SWITCHES],
    ids=str,
)
def test_what_is_kept(dtype, layout, shape, shared, memory, watched, rng):
    x = (array(rng, shape, np.float64) * 9).astype(dtype)
    weight, bias = (array(rng, shape[1:], result_dtype(x.dtype)) for _ in range(2))
    assert check_kept(memory, watched, layout, x, weight, bias) == shared


INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool"]


@pytest.mark.parametrize("dtype", everyday.every([*FLOATS, *INTEGERS], [*FLOATS, "int8", "uint64"]))
@pytest.mark.parametrize("way", ["rows", "rows with gaps", "columns"])
def test_every_dtype_is_kept(way, dtype, memory, watched, rng):
    """Their bits are: large integers, too, are rounded only when they are worked on."""
    wide = result_dtype(dtype) == np.float64
    shape, order, layout = {
        "rows": ((3, 200 if wide else 524), None, LAYER),
        "rows with gaps": ((3, 3, 60 if wide else 180), (1, 0, 2), nbn.Layout("n a b -> n")),
        "columns": ((19, 200), None, COLUMNS),
    }[way]
    x = (array(rng, shape, np.float64, order) * 9).astype(dtype)
    if np.dtype(dtype).kind in "iu":
        x.flat[7], x.flat[-7] = np.iinfo(dtype).min, np.iinfo(dtype).max
    weight = array(rng, shape[1:], result_dtype(x.dtype))
    assert check_kept(memory, watched, layout, x, weight) > 0


@pytest.mark.parametrize("dtype", everyday.every(["float32", BFLOAT16], ["float32"]))
@pytest.mark.parametrize("name", ["near", "one", "far", "of a group", "by row", "by element", "none"])
@pytest.mark.parametrize("layout", [LAYER, COLUMNS], ids=["rows", "columns"])
def test_weights_beside_what_is_kept(layout, name, dtype, memory, watched, rng):
    shape = (3, 524) if layout is LAYER else (19, 200)
    weight = {
        "near": lambda: array(rng, shape[1:], dtype),
        "one": lambda: array(rng, (), dtype),
        "far": lambda: array(rng, (2 * shape[1],), dtype)[::-2],
        "of a group": lambda: array(rng, (1, shape[1]), dtype) if layout is COLUMNS else array(rng, (3, 1), dtype),
        "by row": lambda: array(rng, (shape[0], 1), dtype),
        "by element": lambda: array(rng, shape, dtype),
        "none": lambda: None,
    }[name]()
    x = array(rng, shape, dtype)
    assert check_kept(memory, watched, layout, x, weight, weight) > 0


@pytest.mark.parametrize(
    ("kept", "taken", "thread", "message"),
    [
        (0, 0, 0, None),
        (48, 48, 0, None),
        (8, 8, 0, "not aligned"),
        (0, 24, 0, "not aligned"),
        (64, 64, 0, "outside"),
        (0, 64, 0, "outside"),
        (-16, 0, 0, "outside"),
        (0, 16, 0, "has not written"),
        (0, 0, 1, "has not written"),
    ],
)
def test_the_simulator_sees_what_is_wrong_in_shared_memory(kept, taken, thread, message, gpu):
    if not gpu.simulated:
        pytest.skip("a GPU does not say")
    from numba import cuda

    from numbanorm.cuda.kernels import machine

    keep, take = machine.keeper("f4", 4), machine.taker("f4", 4)
    x, results = np.arange(16, dtype=np.float32).reshape(4, 4)[1], np.zeros(4, np.float32)
    given = view(gpu.send(x))

    @cuda.jit
    def kernel(address):
        if machine.thread_index() == 0:
            keep(np.zeros(4), 0, address, kept)
        machine.sync()
        if machine.thread_index() == thread:
            take(results, 0, taken)

    with pytest.raises(AssertionError, match=message) if message else nullcontext():
        kernel[1, 2, 0, 64](given.pointer)
        np.testing.assert_array_equal(results, x)


@pytest.mark.parametrize(
    "name",
    everyday.every(
        ["rows in parts", "batch", "channels last", "columns in parts", "groups, channels last"],
        ["rows in parts", "channels last"],
    ),
)
def test_the_real_table(name, memory, real_table, rng):
    shape, order, layout, of_weight = CASES[name]
    check(memory, layout, array(rng, shape, "float32", order), array(rng, of_weight), array(rng, of_weight))


STRANGE = {
    "sliced": lambda x: x[:, 1::2, 1:-2, ::3],
    "one in": lambda x: x[..., 1:],
    "reversed": lambda x: x[::-1, :, ::-1],
    "reversed along the run": lambda x: x[..., ::-2],
    "broadcast": lambda x: np.broadcast_to(x[:, :1, :, :1], x.shape),
    "channels last, sliced": lambda x: np.moveaxis(x, -1, 1)[:, ::2, 1:],
}


@pytest.mark.parametrize("axes", everyday.every([(0, 2, 3), (3,), (0, 1, 2), (0, 3), (1,)], [(0, 2, 3), (3,)]))
@pytest.mark.parametrize("name", STRANGE)
def test_memory_that_does_not_merge(name, axes, memory, rng):
    x = STRANGE[name](array(rng, (3, 4, 6, 17)))
    check(memory, nbn.Layout.axes(axes), x, array(rng, x.shape[1:]), array(rng, (x.shape[1], 1, 1)))


@pytest.mark.parametrize("dtype", everyday.every(FLOATS, [np.dtype("float32")]))
@pytest.mark.parametrize("name", WAYS)
def test_constants_become_their_bias(name, dtype, memory, rng):
    shape, order, layout, of_weight = CASES[name]
    x = np.full_like(array(rng, shape, dtype, order), 6e4 if dtype == np.float16 else 7e30)
    weight, bias = array(rng, of_weight, dtype), array(rng, of_weight, dtype)
    for eps in (0.0, 1e-80, 1e-5) if everyday.ALL or not memory.gpu.simulated else (0.0,):
        out, states, _ = run_all(memory, layout, x, weight, bias, eps)
        assert np.all(states[2] == 0)
        np.testing.assert_array_equal(out, np.broadcast_to(bias, shape))


@pytest.mark.parametrize("bad", everyday.every([np.nan, np.inf, -np.inf], [np.nan]))
@pytest.mark.parametrize("name", WAYS)
def test_nan_stays_in_its_group(name, bad, memory, rng):
    shape, order, layout, _ = CASES[name]
    x = array(rng, shape, "float32", order)
    clean, _, _ = run_all(memory, layout, x)
    ids = layout.group_ids(shape)
    x[tuple(np.argwhere(ids == 1)[5])] = bad
    out, states, _ = run_all(memory, layout, x)
    np.testing.assert_array_equal(out[ids != 1], clean[ids != 1])
    assert np.isnan(out[ids == 1]).all() or np.isinf(bad)
    np.testing.assert_array_equal(states[1].ravel()[1], bad)
    assert np.isnan(states[2].ravel()[1])


@pytest.mark.parametrize(
    ("scale", "mean"), [(1e-30, 1), (1e30, 1), (1e-37, 0), (3e37, 0.1), (1e-42, 3), (1, 1e4), (1, 1e6)]
)
@pytest.mark.parametrize(
    "name",
    everyday.every(
        ["many rows", "rows in parts", "columns", "columns in parts", "groups, channels last"],
        ["many rows", "columns"],
    ),
)
def test_scales_at_the_ends_of_float32(name, scale, mean, memory, rng):
    shape, order, layout, of_weight = CASES[name]
    x = array(rng, shape, order=order, scale=scale, mean=mean)
    check(memory, layout, x, array(rng, of_weight), array(rng, of_weight), eps=0.0)


@pytest.mark.parametrize("ratio", everyday.every([1e4, 1e10, 1e14], [1e10]))
@pytest.mark.parametrize("name", ["many rows", "rows in parts", "columns in parts", "groups, channels last"])
def test_float64_far_from_zero(name, ratio, memory, rng):
    """Means are kept as distances from the group's first element, so the variance keeps nearly all of its digits."""
    shape, order, layout, _ = CASES[name]
    x = array(rng, shape, "float64", order, mean=ratio)
    _, states, _ = run_all(memory, layout, x)
    _, _, m2 = oracle.moments(x, *oracle.groups(layout, shape))
    np.testing.assert_allclose(states[2].ravel(), m2, rtol=16 * oracle.EPS64)


@pytest.mark.parametrize("name", WAYS)
def test_in_place_gives_the_same(name, memory, rng):
    shape, order, layout, of_weight = CASES[name]
    x, weight = array(rng, shape, "float32", order), array(rng, of_weight)
    apart, _, _ = run_all(memory, layout, x, weight)
    here, weight = memory.send(x), memory.send(weight)
    normalize(layout, here, here, weight)
    np.testing.assert_array_equal(memory.get(here), apart)


@everyday.examples(150)
@given(st.data())
def test_any_layout_of_any_array(data):
    """Random layouts, dtypes, memory orders, weights: the states and the output, on the small table."""
    memory = data_memory()
    grouping = data.draw(groupings(max_size=700))
    x = data.draw(arrays(grouping.shape, dtypes=FLOATS))
    if x.ctypes.data % x.itemsize or any(s % x.itemsize for s in x.strides):
        return
    weight, bias = data.draw(parameters(x))
    layout = grouping.as_layout()
    out, states, _ = run_all(memory, layout, x, weight, bias)
    if x.size:
        with np.errstate(all="ignore"):
            check_result(out, states, x, layout, weight, bias)


def data_memory():
    return _given[0]


_given = []


@pytest.fixture(autouse=True)
def _for_hypothesis(request, memory):
    """Hypothesis cannot take a fixture that lives for one test."""
    _given[:] = [memory]
