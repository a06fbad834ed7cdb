"""Warming up: nothing that common calls need is left to compile, and nothing else is compiled."""

import io
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from numbanorm.arrays.take.take.take import kind

import numbanorm as nbn
from numbanorm.ahead import Signature, show, signatures
from numbanorm.call import known as calls
from numbanorm.cpu import engine

DTYPES = ["float32", "float64", "float16", "bfloat16", "int32", "bool"]
TESTS, HOME = str(Path(__file__).parent), str(Path(nbn.__file__).parents[1])
# Small; groups for all threads; few groups, which are split; many short ones.
SHAPES = [(2, 8, 4, 4), (64, 64, 8, 8), (1, 8, 192, 192), (2, 64, 48, 48)]
MISSES = """
from numbanorm.cpu.kernels import cache, columns, rows
functions = [f for m in (rows, columns, cache) for f in vars(m).values() if hasattr(f, "stats")]
assert len(functions) > 8
print(sum(len(f.stats.cache_misses) for f in functions))
"""


def call_all(dtype):
    """Call every norm that users call: both memory orders, with and without weight and bias, on 1 and 3 threads."""
    for threads in (1, 3):
        nbn.set_num_threads(threads)
        for shape in SHAPES:
            x = np.ones(shape, dtype)
            with np.errstate(all="ignore"):
                call_norms(x, axis=1)
                call_norms(np.ascontiguousarray(np.moveaxis(x, 1, -1)), axis=-1)


def call_norms(x, axis):
    channels, last, stored = x.shape[axis], x.shape[-1], "f8" if x.dtype.kind in "ib" else x.dtype
    for given in ({}, {"weight"}, {"weight", "bias"}):
        by_channel = {name: np.ones(channels, stored) for name in given}
        by_last = {name: np.ones(last, stored) for name in given}
        mean, var = np.zeros(channels, stored), np.ones(channels, stored)
        options = {**by_channel, "channel_axis": axis}
        nbn.batch_norm(x, training=True, **options)
        nbn.batch_norm(x, mean, var, training=True, **options)
        nbn.batch_norm(x, mean, var, **options)
        nbn.batch_renorm(x, mean, var, training=True, **options)
        nbn.batch_instance_norm(x, np.full(channels, 0.5), **options)
        nbn.instance_norm(x, **options)
        nbn.group_norm(x, 4, **options)
        nbn.layer_norm(x, last, **by_last)
        nbn.rms_norm(x, last, by_last.get("weight"))
    nbn.weight_norm(x, np.ones(x.shape[0]))
    nbn.weight_norm(x, np.ones(last), axis=-1)
    nbn.weight_standardize(x)
    nbn.spectral_norm(x)
    for layout in ({}, {"axis": 0}, {"axis": -1}):
        nbn.normalize(x, **layout)
        nbn.normalize(x, moments=nbn.moments(x, **layout) + nbn.moments(x, **layout), **layout)


@pytest.fixture
def launched(monkeypatch):
    """Kernels that are launched; nothing is compiled or run, so results are whatever lay in memory."""
    from numbanorm.cpu import launcher

    seen = set()

    def compiled(*signature):
        seen.add(signature)
        return launcher.Kernel(lambda *arguments: None, 0)

    def forget():
        calls._known.clear()
        engine._mover.cache_clear()

    forget()
    monkeypatch.setattr(launcher, "launch", lambda family, name, kinds, *rest: seen.add((family, name, kinds)))
    monkeypatch.setattr(launcher, "compiled_kernel", compiled)
    yield seen
    forget()


@pytest.mark.parametrize("dtype", DTYPES)
def test_norms_launch_these_kernels_and_no_others(dtype, launched, threads, monkeypatch):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    monkeypatch.setattr("numbanorm.norms.named.named.np.all", lambda values: True)  # a rho of any value
    call_all(dtype)
    assert set(signatures(dtype)) == launched


def test_every_kernel_there_is_has_its_turn():
    from numbanorm.cpu.kernels import columns, rows

    there = {
        (module.__name__.rpartition(".")[2], name)
        for module in (rows, columns)
        for name, item in vars(module).items()
        if getattr(item, "targetoptions", {}).get("nogil")
    }
    assert there == {signature[:2] for signature in signatures("float32")}


def process(*arguments, **env):
    """Run a fresh Python."""
    env = {**os.environ, "PYTHONPATH": HOME, **env}
    return subprocess.run(
        [sys.executable, "-P", *arguments], env=env, capture_output=True, text=True, timeout=600, check=False
    )


def fresh(*arguments, **env):
    """What a fresh Python prints."""
    done = process(*arguments, **env)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def files(folder):
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_the_next_process_compiles_nothing(tmp_path):
    """All kernels of a dtype: half a minute of compiling, shared among the processors."""
    env = {"NUMBANORM_CACHE_DIR": str(tmp_path)}
    calls = f"import sys; sys.path.insert(0, {TESTS!r})\n"
    calls += "import numpy as np; from test_warmup import call_all; call_all(np.float32)\n"
    if find_spec("torch"):
        calls += "import torch, numbanorm; numbanorm.layer_norm(torch.ones(512, 512), 512, torch.ones(512))\n"
    fresh("-m", "numbanorm", "warmup", **env)
    kept = files(tmp_path)
    assert kept
    assert fresh("-c", calls + MISSES, **env) == "0"
    assert files(tmp_path) == kept


def test_kernels_are_kept_for_the_next_process(tmp_path):
    """The same for two small kernels, compiled by the function itself."""
    two = "import sys, numbanorm\nwarmup = sys.modules['numbanorm.warmup']\n"
    two += "warmup.signatures = lambda dtypes, of=warmup.signatures: of(dtypes)[:2]\nnumbanorm.warmup()"
    env = {"NUMBANORM_CACHE_DIR": str(tmp_path)}
    assert fresh("-c", two + MISSES, **env) != "0"
    kept = files(tmp_path)
    assert fresh("-c", two + MISSES, **env) == "0"
    assert files(tmp_path) == kept


@pytest.fixture
def prepared(monkeypatch):
    """Kernels that are compiled, without compiling."""
    from numbanorm.cpu import launcher

    seen = []
    monkeypatch.setattr(launcher, "prepare", lambda *signature: seen.append(signature))
    return seen


def test_each_kernel_is_compiled_once(prepared, capfd):
    nbn.warmup()
    assert sorted(prepared) == sorted(signatures("float32"))
    assert len(set(prepared)) == len(prepared)
    assert capfd.readouterr() == ("", "")


def test_several_dtypes(prepared):
    nbn.warmup(["float32", np.float64, np.dtype("i4")])
    assert set(prepared) == {s for dtype in ("f4", "f8", "i4") for s in signatures(dtype)}
    assert len(set(prepared)) == len(prepared)


@pytest.mark.parametrize("dtype", ["float64", float, np.float64, np.dtype("f8"), ("float64",), ["f8", "double"]])
def test_ways_to_name_a_dtype(dtype):
    assert signatures(dtype) == signatures("f8")


def test_byte_order_is_kept():
    assert {s.kinds[0] for s in signatures(np.dtype(">f4")) if s.name == "normalize"} == {">f4"}


def test_bfloat16_by_name():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    assert signatures("bfloat16") == signatures(ml_dtypes.bfloat16)
    assert kind(np.dtype(ml_dtypes.bfloat16)) in {s.kinds[0] for s in signatures("bfloat16")}


def test_bfloat16_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(TypeError, match=r"bfloat16 needs the package ml_dtypes; install numbanorm\[bfloat16\]"):
        nbn.warmup("bfloat16")


@pytest.mark.parametrize(
    "dtype, complaint",
    [
        ("float23", "'float23', which is no dtype; give float64, "),
        (7, "7, which is no dtype; give float64, "),
        (None, "None; give float64, "),
        ("complex64", "no kernels for dtype complex64; give float64, "),
        (["float32", object], "no kernels for dtype object; give float64, "),
        (["float32", None], "None; give float64, "),
    ],
)
def test_what_is_no_dtype_is_refused(dtype, complaint, prepared):
    with pytest.raises(TypeError, match=complaint):
        nbn.warmup(dtype)
    assert not prepared


def test_no_dtype_is_refused(prepared):
    with pytest.raises(ValueError, match="dtypes is empty; name at least one, such as 'float32'"):
        nbn.warmup(())


# progress -------------------------------------------------------------------------------------------------------------

TWO = [Signature("rows", "one", ("f4",)), Signature("columns", "two", ("f4", "none"))]
LINES = "  1/2 rows.one(f4)\n  2/2 columns.two(f4, none)\n"


class Terminal(io.StringIO):
    """Standard error that says it is a terminal."""

    def isatty(self):
        return True


def test_a_line_for_each_kernel(capfd):
    show(iter(TWO), 2)
    assert capfd.readouterr() == ("", LINES)


def test_a_bar_on_a_terminal(monkeypatch):
    pytest.importorskip("rich")
    monkeypatch.setattr(sys, "stderr", Terminal())
    show(iter(TWO), 2)
    assert "2/2" in sys.stderr.getvalue()
    assert "━━━━" in sys.stderr.getvalue()
    assert LINES not in sys.stderr.getvalue()


def test_a_terminal_without_rich(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setattr(sys, "stderr", Terminal())
    show(iter(TWO), 2)
    assert sys.stderr.getvalue() == LINES


def test_progress_is_shown_if_asked(prepared, capfd):
    nbn.warmup(progress=True)
    output, errors = capfd.readouterr()
    assert output == ""
    assert len(errors.splitlines()) == len(signatures("float32"))


# start ----------------------------------------------------------------------------------------------------------------


def test_importing_adds_little_to_numpy():
    """Under 50 ms: examples/startup.py measures it. Here, beside other tests, modules are counted."""
    code = "import sys, numpy.typing; before = set(sys.modules); import numbanorm; print(*(set(sys.modules) - before))"
    added = fresh("-c", code).split()
    assert {name.partition(".")[0] for name in added} - sys.stdlib_module_names == {"numbanorm"}
    assert len(added) < 60
