"""Loads and stores against NumPy and ml_dtypes, bit by bit, from small kernels compiled as the library's are.

Every kind of element, any step and alignment; and no byte outside the elements is read or written.
"""

import ml_dtypes
import numpy as np
import pytest
from kernel_calls import between_guards, compiled
from numba import types
from numba.core.extending import intrinsic

from numbanorm.arrays.forms import kind
from numbanorm.cpu.kernels.intrinsics import (
    absent,
    itemsize,
    load,
    load_first,
    load_one,
    neutral_one,
    stack,
    store,
    store_first,
    store_int,
    store_one,
    store_stream,
    stream_fence,
    stream_head,
)
from numbanorm.cpu.kernels.lanes import WIDTH
from numbanorm.cpu.kernels.walk import LIKE32, LIKE64, ZERO, stream_edge

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = [np.dtype(code) for code in ("f8", "f4", "f2", ">f8", ">f4", ">f2")] + [BFLOAT16]
INTEGERS = [np.dtype(order + code) for code in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8") for order in "=>"]
KINDS = list({kind(dtype): dtype for dtype in [*FLOATS, *INTEGERS, np.dtype(bool)]}.values())
PRECISIONS = {np.dtype("f4"): LIKE32, np.dtype("f8"): LIKE64}
COUNTS = [1, 2, WIDTH - 1, WIDTH, WIDTH + 1, 2 * WIDTH + 5]


def read_kernel(source, offset, step, count, wide, narrow, single):
    i = 0
    while i + WIDTH <= count:
        store(wide, 8 * i, 8, load(source, offset + i * step, step, LIKE64))
        store(narrow, 4 * i, 4, load(source, offset + i * step, step, LIKE32))
        i += WIDTH
    if i < count:
        store_first(wide, 8 * i, 8, count - i, load_first(source, offset + i * step, step, count - i, LIKE64))
        store_first(narrow, 4 * i, 4, count - i, load_first(source, offset + i * step, step, count - i, LIKE32))
    for i in range(count):
        store_one(single, i, load_one(source, offset + i * step))


def write_kernel(source, target, offset, step, count, like):
    i, size = 0, itemsize(source)
    while i + WIDTH <= count:
        store(target, offset + i * step, step, load(source, size * i, size, like))
        i += WIDTH
    if i < count:
        store_first(target, offset + i * step, step, count - i, load(source, size * i, size, like))


def read(base, dtype, offset, step, count):
    """`count` elements as float64, as float32, and as float64 one by one."""
    results = np.empty(count), np.empty(count, np.float32), np.empty(count)
    run = compiled(read_kernel, kind(dtype), *[types.int64] * 3, "f8", "f4", "f8")
    run(base, offset, step, count, *results)
    return results


def write(values, base, dtype, offset, step):
    like = PRECISIONS[values.dtype]
    number = types.float32 if values.itemsize == 4 else types.float64
    padded = np.append(values, np.zeros(WIDTH, values.dtype))
    run = compiled(write_kernel, kind(values.dtype), kind(dtype), *[types.int64] * 3, number)
    run(padded, base, offset, step, len(values), like)


def assert_read(base, dtype, offset, step, count):
    x = np.ndarray(count, dtype, base, offset, (step,))
    with np.errstate(all="ignore"):
        expected = x.astype(np.float64), x.astype(np.float32), x.astype(np.float64)
    for got, want in zip(read(base, dtype, offset, step, count), expected, strict=True):
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(np.signbit(got), np.signbit(want))


def assert_written(values, dtype, base, offset, step):
    """What NumPy writes into another copy of `base`, byte by byte; NaN only as NaN of the same sign."""
    expected = base.copy()
    write(values, base, dtype, offset, step)
    view = np.ndarray(len(values), dtype, expected, offset, (step,))
    with np.errstate(all="ignore"):
        view[...] = values if dtype.itemsize == 8 else values.astype(np.float32).astype(dtype)
    got = np.ndarray(len(values), dtype, base, offset, (step,))
    nan = np.isnan(values)
    assert np.isnan(got[nan]).all()
    np.testing.assert_array_equal(np.signbit(got[nan]), np.signbit(values[nan]))
    view[nan] = got[nan]
    np.testing.assert_array_equal(base, expected)


def patterns(dtype, rng):
    """All 65536 of a small type, many of a large one: infinities, NaN, subnormal numbers and both zeros among them."""
    if dtype.itemsize <= 2:
        return np.arange(65536, dtype=np.uint16).view(np.uint8)
    bits = rng.integers(0, 256, 8 * 20_000, np.uint8)
    if dtype.kind == "f":
        info = np.finfo(dtype)
        numbers = [0.0, -0.0, np.inf, -np.inf, np.nan, info.max, info.tiny, info.smallest_subnormal, -info.tiny / 2]
        bits = np.append(bits, np.array(numbers, dtype).view(np.uint8))
    return np.append(bits, np.full(dtype.itemsize, 255, np.uint8))


@pytest.mark.parametrize("dtype", KINDS, ids=kind)
def test_reading_every_pattern(dtype, rng):
    base = patterns(dtype, rng)
    for offset in (0, 1):
        assert_read(base, dtype, offset, dtype.itemsize, len(base) // dtype.itemsize - offset)


@pytest.mark.parametrize("dtype", KINDS, ids=kind)
def test_reading_any_step(dtype, rng):
    size = dtype.itemsize
    base = rng.integers(0, 256, 4096, np.uint8)
    for step in (0, size, -size, 2 * size, -3 * size, size + 1, 1, 40):
        for count in COUNTS:
            for offset in (2000, 2001):
                assert_read(base, dtype, offset, step, count)


def ties(dtype):
    """Float32 numbers on both sides of every boundary between two neighbours of a small float type, and on it."""
    if dtype == BFLOAT16:
        near = (np.arange(65536, dtype=np.uint32) << 16)[:, None] | np.array([0, 1, 0x7FFF, 0x8000, 0x8001], np.uint32)
        return near.ravel().view(np.float32)
    with np.errstate(all="ignore"):
        values = np.sort(np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float32))
        values = np.append(values[np.isfinite(values)], np.float32(65536))  # where infinity begins
        middle = values[:-1] + np.diff(values) / 2
    zero = np.float32(0)
    return np.concatenate([middle, np.nextafter(middle, zero), np.nextafter(middle, 2 * middle), values, -middle])


@pytest.mark.parametrize("precision", PRECISIONS, ids=str)
@pytest.mark.parametrize("dtype", FLOATS, ids=kind)
def test_writing_every_value(dtype, precision, rng):
    values = patterns(np.dtype("f4"), rng).view(np.float32)
    if dtype.itemsize == 2:
        values = np.append(values, ties(dtype if dtype == BFLOAT16 else np.dtype("f2")))
    with np.errstate(all="ignore"):
        values = values.astype(precision)
        if precision == np.float64:
            values = np.append(values, patterns(precision, rng).view(np.float64))
    assert_written(values, dtype, np.zeros(len(values) * dtype.itemsize + 1, np.uint8), 1, dtype.itemsize)


@pytest.mark.parametrize("precision", PRECISIONS, ids=str)
@pytest.mark.parametrize("dtype", FLOATS, ids=kind)
def test_writing_any_step(dtype, precision, rng):
    size = dtype.itemsize
    for step in (size, -size, 2 * size, -3 * size, size + 1, 40):
        for count in COUNTS:
            base = rng.integers(0, 256, 4096, np.uint8)
            assert_written(rng.standard_normal(count).astype(precision), dtype, base, 2001, step)


# not a byte outside ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", KINDS, ids=kind)
def test_nothing_outside_is_touched(dtype, rng):
    size, page = dtype.itemsize, between_guards(1)
    page[:] = rng.integers(0, 256, len(page))
    for count in range(1, 2 * WIDTH + 2):
        for step in (size, 2 * size, size + 1):
            reach = (count - 1) * step + size
            for start in (0, len(page) - reach):
                places = [(start, step), (start + reach - size, -step)]
                for offset, by in places:
                    assert_read(page, dtype, offset, by, count)
                    if dtype in FLOATS:
                        write(rng.standard_normal(count), page, dtype, offset, by)
    assert_read(page, dtype, len(page) - size, 0, 2 * WIDTH)


# streaming stores -----------------------------------------------------------------------------------------------------


def stream_kernel(source, target, offset, head):
    store_one(head, 0, stream_head(target, offset))
    if stream_head(target, offset) == 0:
        store_stream(target, offset, load(source, 0, itemsize(source), LIKE64))
    stream_fence()


@pytest.mark.parametrize("dtype", FLOATS, ids=kind)
def test_streaming(dtype, rng):
    """From `stream_head` elements on, and no fewer, the address is one that `store_stream` takes."""
    align = WIDTH * dtype.itemsize
    run = compiled(stream_kernel, "f8", kind(dtype), types.int64, "f8")
    raw = np.zeros(1024, np.uint8)
    base = raw[-raw.ctypes.data % 128 :]
    values, head = rng.standard_normal(WIDTH), np.empty(1)
    for offset in range(192):
        base[:] = 0xAA
        expected = base.copy()
        run(values, base, offset, head)
        if offset % dtype.itemsize:
            assert head == -1
        else:
            assert head == -offset % align / dtype.itemsize < WIDTH
        if head == 0:
            assert_written(values, dtype, expected, offset, dtype.itemsize)
        np.testing.assert_array_equal(base, expected)


@intrinsic
def address(typingctx, pointer):
    return types.int64(pointer), lambda context, builder, sig, args: args[0]


def edge_kernel(out, found):
    before, edge, after = stack(24, ZERO), stream_edge(out)[0], stack(8, ZERO)
    store_int(before, 0, ZERO)
    store_first(edge, 0, itemsize(out), 1, load(out, 0, itemsize(out), LIKE64))
    store_int(after, 0, ZERO)
    for i, at in enumerate((address(before), address(edge), address(after))):
        store_int(found, i, at)


@pytest.mark.parametrize("dtype", FLOATS, ids=kind)
def test_lanes_that_begin_in_an_edge_cross_no_page(dtype):
    """A store whose masked lanes lie in the next page takes 100 ns: see `stream_edge`."""
    found = np.zeros(3, np.int64)
    compiled(edge_kernel, kind(dtype), "i8")(np.ones(WIDTH, dtype), found)
    before, edge, after = found
    assert edge % (2 * WIDTH * dtype.itemsize) == 0
    assert min(abs(edge - before), abs(edge - after)) >= 64


# what is left out -----------------------------------------------------------------------------------------------------


def neutral_kernel(weight, result, optional):
    store(result, 0, 8, load(weight, 0, 0, 3.0))
    store(result, 8 * WIDTH, 8, load_first(absent(), 0, 0, 2, -0.0))
    store_one(result, 2 * WIDTH, neutral_one(weight, 0, 7.0))
    store_one(optional, 1, 5.0)


@pytest.mark.parametrize("given", [None, np.zeros(3)], ids=["None", "array"])
def test_absent_arrays(given):
    result = np.full(2 * WIDTH + 1, np.nan)
    compiled(neutral_kernel, "none", "f8", "?f8")(None, result, given)
    assert result.tolist() == [3.0] * WIDTH + [0.0] * WIDTH + [7.0]
    assert np.signbit(result[WIDTH : 2 * WIDTH]).all()
    assert given is None or given.tolist() == [0.0, 5.0, 0.0]
