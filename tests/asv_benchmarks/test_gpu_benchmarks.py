"""Measuring on a GPU, without one: cases, results held against float64, and who is timed."""

import math
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("ml_dtypes")
pytest.importorskip("torch")
import torch
from gpu_measured import FEW, SMALL, measured, stand_in
from harness import plain, report
from harness.case import NORMS, Case, dtype_of
from harness.contenders import ON_GPU, OWN
from harness.gpu import report as gpu_report
from harness.gpu import truth
from harness.gpu.cases import CASES
from harness.gpu.measure import Gpu
from harness.libraries.with_torch import compile_for, in_order, tensor
from harness.measure import WRONG

LARGE = Case("large", "layer_norm", (64, 32), last=True)  # 8 KB, 16 KB moved
GB = 1 << 30
WHICH = pytest.mark.parametrize("which", ["FEW", pytest.param("SMALL", marks=pytest.mark.exhaustive)])
CHOSEN = {"FEW": FEW, "SMALL": SMALL}


@pytest.fixture
def gpu():
    return stand_in()


# cases ----------------------------------------------------------------------------------------------------------------


def test_cases():
    assert len({(case.norm, case.label) for case in CASES}) == len(CASES)
    assert {case.norm for case in CASES} == set(NORMS) - {"moments"} == set(ON_GPU)
    assert {case.dtype for case in CASES} == {"float32", "bfloat16", "float16"}
    for norm in ON_GPU:
        here = [case for case in CASES if case.norm == norm]
        assert min(case.nbytes for case in here) < 1 << 19
        assert max(case.nbytes for case in here) > 1 << 26
        assert any(case.readme for case in here)
        if norm != "rms_norm":
            assert {case.last for case in here if len(case.shape) == 4} == {False, True}
    assert min(case.nbytes for case in CASES) < 4096
    assert max(case.nbytes for case in CASES) == GB


def test_how_many_copies_are_taken_in_turn():
    sets = Gpu("cpu", None, 50_000_000).sets
    assert sets(Case("", "layer_norm", (6, 1_000_000), last=True)) == 1  # x and output in L2: 48 MB
    assert sets(Case("", "layer_norm", (7, 1_000_000), last=True)) == 3
    assert sets(Case("", "layer_norm", (200, 1_000_000), last=True)) == 2


# truth ----------------------------------------------------------------------------------------------------------------


def as_tensors(case):
    made = case.arrays()
    return made, type(made)(**{name: tensor(array) for name, array in vars(made).items()})


@pytest.mark.parametrize("case", SMALL, ids=lambda case: f"{case.norm} {case.label}")
def test_the_oracle_on_tensors_is_that_on_arrays(case):
    arrays, tensors = as_tensors(case)
    wanted, found = plain.oracle(case, arrays), plain.oracle(case, tensors, torch)
    for name in ("y", "unit", "mean", "var"):
        if getattr(wanted, name) is not None:
            np.testing.assert_allclose(getattr(found, name).numpy(), getattr(wanted, name), rtol=1e-12, atol=1e-14)
    y = (wanted.y * 1.01).astype(dtype_of(case.dtype))
    assert found.units(tensor(y)) == pytest.approx(wanted.units(y))
    assert found.off(tensor(y)) == pytest.approx(wanted.off(y))


@pytest.mark.parametrize("case", SMALL, ids=lambda case: f"{case.norm} {case.label}")
def test_piece_by_piece_is_as_a_whole(case, monkeypatch):
    arrays, a = as_tensors(case)
    wanted = plain.oracle(case, arrays)
    y = wanted.y.astype(dtype_of(case.dtype))
    y.reshape(-1)[-3] += 1
    running = () if wanted.mean is None else (torch.tensor(wanted.mean), torch.tensor(wanted.var))
    whole = truth.judged(case, a, tensor(y), running)
    assert whole == pytest.approx((wanted.off(y), wanted.units(y)))
    for most in (1, 7, 40):
        monkeypatch.setattr(truth, "PIECE", most)
        assert truth.judged(case, a, tensor(y), running) == pytest.approx(whole)
    if running:
        running[1][-1] *= 1.5
        assert truth.judged(case, a, tensor(y), running)[1] > 1e6


def test_what_is_not_written_is_wrong():
    case = LARGE
    a = as_tensors(case)[1]
    y = torch.nn.functional.layer_norm(a.x, (32,), a.weight, a.bias)
    y[-1, -1] = math.nan
    assert truth.judged(case, a, y, ())[1] > 1e300
    with pytest.raises(ValueError, match="shape"):
        truth.judged(case, a, y[:1], ())
    with pytest.raises(TypeError, match="float64"):
        truth.judged(case, a, y.double(), ())


# measuring ------------------------------------------------------------------------------------------------------------


@WHICH
def test_measuring(which, gpu):
    rows = measured(gpu, CHOSEN[which], ["torch"])
    assert [row.case for row in rows] == CHOSEN[which]
    assert report.left_out(rows) == []
    assert not any(row.failed for row in rows)
    for row in rows:
        assert row.sets == 1 and not row.twice
        assert set(row.seconds) == set(row.queued) == {OWN, "torch"}
        assert set(row.copy) == {"torch's copy_", "torch's clone"}
        assert row.of_copy == pytest.approx(row.speed / row.copy_speed)


def test_large_cases_take_several_copies_in_turn(gpu, monkeypatch):
    seen = set()

    def seeing(case, a, out):
        call = ON_GPU["layer_norm"]["torch"](case, a, None)
        return lambda: (seen.add(a.x.data_ptr()), call())[1]

    monkeypatch.setitem(ON_GPU["layer_norm"], "seeing", seeing)
    small = replace(gpu, cache=1 << 13)
    (row,) = measured(small, [LARGE], ["seeing"])
    assert row.sets == len(seen) == 2
    assert not row.twice
    (row,) = measured(replace(gpu, cache=1 << 10), [Case("all", "batch_norm", (16, 4, 4, 32), last=True)], [])
    assert row.twice
    assert row.of_copy == pytest.approx(1.5 * min(row.copy.values()) / row.into[OWN])


def test_torch_compiles_once_for_all_copies(gpu, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: compiled.append(function) or function)
    rows = measured(replace(gpu, cache=1 << 10), [LARGE, replace(LARGE, eps=1e-3)], ["torch.compile"])
    assert [row.sets for row in rows] == [2, 2]
    assert len(compiled) == 2
    compile_for.cache_clear()  # the next test gets the real one


def test_images_come_back_in_order(gpu):
    case = Case("", "group_norm", (2, 4, 4, 4), last=True, groups=2)  # whose shape does not tell the order
    (row,) = measured(gpu, [case], ["torch"])
    assert row.left_out == {}
    assert in_order(case, torch.empty(1, 2, 3, 4)).shape == (1, 3, 4, 2)


def wrong(case, a, out):
    return lambda: torch.zeros_like(a.x)


def unwritten(case, a, out):
    return lambda: torch.empty_like(a.x).fill_(math.nan) if out is None else out


def own_stream(case, a, out):
    call = ON_GPU["layer_norm"]["torch"](case, a, None)

    def run():
        return call()

    run.wait = lambda result: result.sum()
    return run


@pytest.mark.parametrize("contender", [wrong, unwritten])
def test_who_is_wrong_is_left_out(contender, gpu, monkeypatch):
    monkeypatch.setitem(ON_GPU["layer_norm"], "other", contender)
    (row,) = measured(gpu, [LARGE], ["other", "torch"])
    assert row.left_out == {"other": WRONG}
    assert set(row.ratios) == {"torch"} and not row.failed
    monkeypatch.setitem(ON_GPU["layer_norm"], OWN, contender)
    (row,) = measured(gpu, [LARGE], ["torch"])
    assert row.failed and not row.seconds


def test_numbanorm_wrong_into_a_given_output_only(gpu, monkeypatch):
    right = ON_GPU["layer_norm"][OWN]
    monkeypatch.setitem(ON_GPU["layer_norm"], OWN, lambda case, a, out: right(case, a, None))
    (row,) = measured(gpu, [LARGE], ["torch"])
    assert row.failed
    assert row.left_out[OWN].startswith("ValueError: into a given output it is wrong")


def test_another_stream_is_timed_in_a_queue_only(gpu, monkeypatch):
    monkeypatch.setitem(ON_GPU["layer_norm"], "JAX", own_stream)
    (row,) = measured(gpu, [LARGE], ["torch", "JAX"])
    assert set(row.seconds) == {OWN, "torch"}
    assert set(row.queued_ratios) == {"torch", "JAX"}
    cells = gpu_report.table_cells([row])[0]
    assert "queued × JAX" in cells and "× JAX" not in cells


def test_a_broken_device_ends_no_report(gpu, monkeypatch):
    calls = iter(range(3))

    def synchronize():
        if next(calls, None) is None:
            raise RuntimeError("an illegal memory access was encountered\nmore")

    monkeypatch.setattr(gpu.cuda, "synchronize", synchronize)
    rows = measured(gpu, [LARGE, LARGE.tiny()], [])
    assert all(row.failed for row in rows)
    assert report.left_out(rows) == [
        f"{OWN} left out of 2 rows: RuntimeError: an illegal memory access was encountered"
    ]


def test_when_the_time_is_over_the_readme_is_done(gpu):
    cases = [replace(LARGE, name=name, readme=name == "b") for name in "abc"]
    rows = measured(gpu, cases, [], most=0.0)
    assert [row.case.name for row in rows] == ["b"]
    assert [row.case.name for row in measured(gpu, cases, [])] == ["a", "b", "c"]


@WHICH
def test_cupy_is_called_on_the_same_memory(which, gpu, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(from_dlpack=np.from_dlpack))
    monkeypatch.delitem(sys.modules, "harness.libraries.with_cupy", raising=False)
    rows = measured(gpu, CHOSEN[which], ["CuPy"])
    monkeypatch.delitem(sys.modules, "harness.libraries.with_cupy")
    for row in rows:
        assert row.left_out == ({"CuPy": "it has no bfloat16"} if row.case.dtype == "bfloat16" else {})


JAX = """
import sys
sys.path[:0] = {folders!r}
import gpu_measured as made
from harness.report import left_out

rows = made.measured(made.stand_in(), made.{which}, ["JAX"])
print(*left_out(rows), sep="\\n")
sys.exit(not all(set(row.queued_ratios) == {{"JAX"}} for row in rows))
"""


@WHICH
def test_jax_is_given_tensors(which):
    """In a process of its own: JAX warns of every fork that other tests make."""
    if not find_spec("jax"):
        pytest.skip("jax is not installed")
    here = Path(__file__).parent
    program = JAX.format(which=which, folders=[str(here), str(here.parents[1] / "asv_benchmarks")])
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.strip() == ""
