"""What only a GPU can show: the real launch table, streams, more than 2^31 elements, and torch's tensors."""

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="needs the package numba-cuda")
from device_kernels import BATCH, CASES, COLUMNS, LAYER, Memory, array, check
from strategies import BFLOAT16

import numbanorm as nbn
from numbanorm.call import known
from numbanorm.cuda.shapes import SHAPES

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("real_table")]


@pytest.fixture
def memory(gpu):
    if gpu.simulated:
        pytest.skip("no GPU")
    return Memory(gpu)


@pytest.fixture
def torch(memory):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch has no CUDA")
    return torch


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", BFLOAT16, "int8"], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_small_arrays_of_every_kind(name, dtype, memory, rng):
    shape, order, layout, of_weight = CASES[name]
    x = array(rng, shape, dtype, order)
    out = "float64" if dtype == "int8" else dtype
    check(memory, layout, x, array(rng, of_weight, out), array(rng, of_weight, out))


@pytest.mark.parametrize("step", [-1, 0, 1])
@pytest.mark.parametrize("dtype", ["float32", "float64", BFLOAT16], ids=str)
@pytest.mark.parametrize("team", SHAPES.rows, ids=lambda team: f"{team.threads}x{team.values}")
def test_both_sides_of_every_switch(team, dtype, step, memory, rng):
    size = team.threads * team.values + step
    check(memory, LAYER, array(rng, (5, size), dtype), array(rng, (size,), dtype), array(rng, (size,), dtype))


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((300, 61_440), LAYER),  # as much as shared memory keeps
        ((300, 100_000), LAYER),
        ((2, 1_000_003), LAYER),
        ((64, 32, 56, 56), BATCH),
        ((100_000, 96), COLUMNS),
        ((8, 4096, 320), nbn.Layout("n s (g c) -> n g", g=32)),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["float32", BFLOAT16], ids=str)
def test_large_groups(shape, layout, dtype, memory, rng):
    check(memory, layout, array(rng, shape, dtype))


def test_every_run_has_the_same_bits(torch):
    x = torch.randn(64, 32, 56, 56, device="cuda", generator=torch.Generator("cuda").manual_seed(0))
    calls = [lambda: nbn.batch_norm(x, training=True), lambda: nbn.group_norm(x, 8), lambda: nbn.layer_norm(x, 56)]
    for call in calls:
        first = call()
        assert all(torch.equal(call(), first) for _ in range(20))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_small_against_torch(dtype, torch):
    functional, dtype = torch.nn.functional, getattr(torch, dtype)
    x = (3 + torch.randn(6, 32, 20, 24, device="cuda")).to(dtype)
    last = x.to(memory_format=torch.channels_last)
    weight, bias = torch.randn(32, device="cuda").to(dtype), torch.randn(32, device="cuda").to(dtype)
    row = torch.randn(24, device="cuda").to(dtype)
    pairs = [
        (nbn.layer_norm(x, 24, row, row), functional.layer_norm(x, (24,), row, row)),
        (nbn.rms_norm(x, 24, row), functional.rms_norm(x, (24,), row)),
        (nbn.group_norm(x, 8, weight, bias), functional.group_norm(x, 8, weight, bias)),
        (nbn.group_norm(last, 8, weight, bias), functional.group_norm(last, 8, weight, bias)),
        (nbn.instance_norm(x, None, None, weight, bias), functional.instance_norm(x, None, None, weight, bias)),
        (
            nbn.batch_norm(last, None, None, weight, bias, training=True),
            functional.batch_norm(last, None, None, weight, bias, training=True),
        ),
    ]
    step = torch.finfo(dtype).eps
    for ours, theirs in pairs:
        assert (ours.dtype, ours.device, ours.shape) == (theirs.dtype, theirs.device, theirs.shape)
        torch.testing.assert_close(ours, theirs, rtol=4 * step, atol=max(8 * step, 1e-5))


def test_running_statistics_against_torch(torch):
    x = 3 + torch.randn(6, 32, 20, 24, device="cuda")
    ours, theirs = ([torch.zeros(32, device="cuda"), torch.ones(32, device="cuda")] for _ in range(2))
    for _ in range(3):
        nbn.batch_norm(x, *ours, training=True)
        torch.nn.functional.batch_norm(x, *theirs, training=True)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)


def test_work_goes_to_the_current_stream_and_waits_for_nothing(torch):
    """A graph can only be captured from work that is put on its stream and that nobody waits for."""
    x = torch.randn(64, 8, 32, 32, device="cuda")
    calls = [lambda: nbn.layer_norm(x, 32), lambda: nbn.group_norm(x, 2), lambda: nbn.batch_norm(x, training=True)]
    for call in calls:
        call()  # the first one compiles, and sends a table
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = call()
        x.copy_(torch.randn_like(x))
        graph.replay()
        torch.testing.assert_close(y, call())


def test_calls_that_were_made_before(torch):
    """With other arrays, into an output, and on another stream."""
    v = torch.rand(4, 8, device="cuda")
    norms = [
        lambda x, **o: nbn.layer_norm(x, 32, **o),
        lambda x, **o: nbn.group_norm(x, 2, v[0], v[1], **o),
        lambda x, **o: nbn.batch_norm(x, v[2], v[3], v[0], v[1], **o),
        lambda x, **o: nbn.batch_norm(x, v[2].clone(), v[3].clone(), training=True, **o),
    ]
    first, second = (torch.randn(64, 8, 32, 32, device="cuda") for _ in range(2))
    stream = torch.cuda.Stream()
    for norm in norms:
        known.forget()
        expected = norm(second)
        norm(first)
        assert len(known._known) == 1
        assert torch.equal(norm(second), expected)
        out = torch.empty_like(second)
        for _ in range(2):
            assert norm(second, out=out.zero_()) is out
            assert torch.equal(out, expected)
        torch.cuda.synchronize()
        with torch.cuda.stream(stream):
            result = norm(second)
        stream.synchronize()
        assert torch.equal(result, expected)


def test_more_than_2_to_31_elements(torch):
    rows = (1 << 31) // 4096 + 3
    x = torch.randn(rows, 4096, device="cuda", dtype=torch.bfloat16)
    y = nbn.layer_norm(x, 4096)
    for part in (slice(0, 2), slice(rows - 3, rows)):
        torch.testing.assert_close(y[part], torch.nn.functional.layer_norm(x[part], (4096,)), rtol=0.02, atol=0.02)
    small = torch.ones((1 << 31) + 64, device="cuda", dtype=torch.int8)
    small[-1] = 3
    m = nbn.moments(small)
    n = small.numel()
    np.testing.assert_allclose(float(m.mean), 1 + 2 / n, rtol=1e-15)
    np.testing.assert_allclose(float(m.m2), 4 * (1 - 1 / n), rtol=1e-6)
