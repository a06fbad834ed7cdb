"""Warming up: nothing that common calls need is left to compile, and nothing else is compiled."""

import io
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from everyday import exhaustive
from fresh import fresh
from known_calls import call_all
from processes import files

import numbanorm as nbn
from numbanorm.ahead import show, variants
from numbanorm.arrays.forms import kind
from numbanorm.call.known import forget
from numbanorm.cpu import engine
from numbanorm.engine.interface import Kinds, Variant

DTYPES = ["float32", "float64", "float16", "bfloat16", "int32", "bool"]
TESTS = str(Path(__file__).parent)
MISSES = """
from numbanorm.cpu.kernels import columns, frame, rows, states
functions = {f for m in (rows, columns, states, frame) for f in vars(m).values() if hasattr(f, "stats")}
assert len(functions) > 12
print(sum(len(f.stats.cache_misses) for f in functions))
"""


@pytest.fixture
def launched(monkeypatch):
    """Kernels that are launched; nothing is compiled or run, so results are whatever lay in memory."""
    from numbanorm.cpu import launcher

    planned, seen = [], set()

    def address_of(variant):
        planned.append(variant)
        return len(planned) - 1

    forget()
    for name in ("_plan", "_merge", "_update"):  # plans with such addresses must not be kept
        monkeypatch.setattr(engine, name, getattr(engine, name).__wrapped__)
    monkeypatch.setattr(launcher, "address_of", address_of)
    monkeypatch.setattr(launcher, "serial", lambda: lambda address, *rest: seen.add(planned[address]))
    monkeypatch.setattr(launcher, "launch", lambda address, *rest: seen.add(planned[address]))
    yield seen
    forget()


@pytest.mark.parametrize("dtype", DTYPES)
def test_norms_launch_these_kernels_and_no_others(dtype, launched, threads):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    call_all(dtype)
    assert set(variants(dtype)) == launched


NEEDED_BY_NO_NORM = (
    "labels",
    "label_chosen",
    "segment_rows",
    "segment_columns",
    "segment_chosen",
    "chosen",
    "backward",
)


def test_every_kernel_there_is_has_its_turn():
    from numbanorm.cpu.compiled import _FAMILIES

    there = {
        (name, family)
        for family, module in _FAMILIES.items()
        if family not in NEEDED_BY_NO_NORM
        for name, item in vars(module).items()
        if getattr(item, "targetoptions", {}).get("nogil")
    }
    assert there == {variant[:2] for variant in variants("float32")}


@pytest.mark.slow
@exhaustive
def test_the_next_process_compiles_nothing(tmp_path):
    """All kernels of a dtype: two minutes of compiling, shared among the processors."""
    env = {"NUMBANORM_CACHE_DIR": str(tmp_path)}
    calls = f"import sys; sys.path.insert(0, {TESTS!r})\n"
    calls += "import numpy as np; from known_calls import call_all; call_all(np.float32)\n"
    if find_spec("torch"):
        calls += "import torch, numbanorm; numbanorm.layer_norm(torch.ones(512, 512), 512, torch.ones(512))\n"
    fresh("-m", "numbanorm", "warmup", **env)
    kept = files(tmp_path)
    assert kept
    assert fresh("-c", calls + MISSES, **env) == "0"
    assert files(tmp_path) == kept


def test_kernels_are_kept_for_the_next_process(tmp_path):
    """The same for two small kernels, compiled by the function itself."""
    two = "import numbanorm\nfrom numbanorm import ahead\nof, small = ahead.variants, ('merge', 'rows')\n"
    two += "ahead.variants = lambda dtypes: [v for v in of(dtypes) if v[:2] == small]\nnumbanorm.warmup()"
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
    monkeypatch.setattr(launcher, "prepare", seen.append)
    return seen


def test_each_kernel_is_compiled_once(prepared, capfd):
    nbn.warmup()
    assert sorted(prepared) == sorted(variants("float32"))
    assert len(set(prepared)) == len(prepared)
    assert capfd.readouterr() == ("", "")


def test_several_dtypes(prepared):
    nbn.warmup(["float32", np.float64, np.dtype("i4")])
    assert set(prepared) == {v for dtype in ("f4", "f8", "i4") for v in variants(dtype)}
    assert len(set(prepared)) == len(prepared)


@pytest.mark.parametrize("dtype", ["float64", float, np.float64, np.dtype("f8"), ("float64",), ["f8", "double"]])
def test_ways_to_name_a_dtype(dtype):
    assert variants(dtype) == variants("f8")


def test_byte_order_is_kept():
    assert {v.kinds.x for v in variants(np.dtype(">f4")) if v.operation == "normalize"} == {">f4"}


def test_bfloat16_by_name():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    assert variants("bfloat16") == variants(ml_dtypes.bfloat16)
    assert kind(np.dtype(ml_dtypes.bfloat16)) in {v.kinds.x for v in variants("bfloat16")}


def test_bfloat16_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(TypeError, match=r"bfloat16, which needs the package ml_dtypes; install numbanorm\[bfloat16\]"):
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

TWO = [Variant("one", "rows", Kinds()), Variant("two", "columns", Kinds("f4", bias="bf", mean="f2"))]
LINES = "  1/2 rows.one(mean f8, m2 f8)\n  2/2 columns.two(x f4, bias bf, mean f2, m2 f8)\n"


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


@pytest.fixture
def notebook(monkeypatch):
    """A notebook, whose standard error is no terminal."""
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))


def one_line(text):
    """What stands in a line that is rewritten, in the end; and what stood there before."""
    line = text.removesuffix("\n")
    assert "\n" not in line and line != text
    *before, last = line.split("\r")
    return last, before


def test_a_terminal_without_rich_has_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setattr(sys, "stderr", Terminal())
    show(iter(TWO), 2)
    last, before = one_line(sys.stderr.getvalue())
    assert last.split()[0] == "2/2" and "#" in last and "." not in last.split()[1]
    assert [text.split()[0] for text in before if text] == ["0/2", "1/2"]
    assert all(len(text) <= 80 for text in (last, *before))


def test_a_long_name_does_not_leave_its_end_behind(monkeypatch):
    """Nor does a line fill the terminal: it would go on in the next, which is not rewritten."""
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("COLUMNS", "60")
    long = Variant("a_name_as_long_as_a_line" * 3, "columns", Kinds("f4"))
    show(iter([long, TWO[0]]), 2)
    last, before = one_line(sys.stderr.getvalue())
    assert max(map(len, before)) < 60
    assert len(last) >= len(before[-1])


def test_one_bar_in_a_notebook(notebook, monkeypatch, capfd):
    """rich would need widgets there."""
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    show(iter(TWO), 2)
    output, errors = capfd.readouterr()
    assert output == ""
    assert one_line(errors)[0].split()[0] == "2/2"


def test_one_bar_of_richs_in_a_notebook_with_widgets(notebook, monkeypatch, capfd):
    pytest.importorskip("rich")
    monkeypatch.setitem(sys.modules, "ipywidgets", SimpleNamespace())
    show(iter(TWO), 2)
    output, errors = capfd.readouterr()
    assert output == ""
    assert "2/2" in errors and "\r" not in errors and errors.count("\n") <= 1


def test_no_kernel_is_prepared_twice_if_there_is_no_rich(notebook, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    asked = []
    show((asked.append(variant) or variant for variant in TWO), 2)
    assert asked == TWO


def test_progress_is_shown_if_asked(prepared, capfd):
    nbn.warmup(progress=True)
    output, errors = capfd.readouterr()
    assert output == ""
    assert len(errors.splitlines()) == len(variants("float32"))


# start ----------------------------------------------------------------------------------------------------------------


def test_importing_adds_little_to_numpy():
    """Under 50 ms: examples/startup.py measures it. Here, beside other tests, modules are counted."""
    code = "import sys, numpy.typing; before = set(sys.modules); import numbanorm; print(*(set(sys.modules) - before))"
    added = fresh("-c", code).split()
    assert {name.partition(".")[0] for name in added} - sys.stdlib_module_names == {"numbanorm"}
    own = [name for name in added if name.partition(".")[0] == "numbanorm"]
    assert len(own) < 60  # a quarter of a millisecond each
    assert len(added) - len(own) < 25  # of the standard library; how many are there already varies with the environment
