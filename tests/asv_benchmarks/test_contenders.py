"""Who is measured beside numbanorm, and what the report says of them. No times are compared."""

import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numba
import numpy as np
import pytest
from rich.console import Console

import numbanorm as nbn

pytest.importorskip("ml_dtypes")
import compare
from harness import report
from harness.case import NORMS, Case
from harness.cases import CASES
from harness.contenders import CONTENDERS, LIBRARIES, OWN, Unfit
from harness.errors import one_line
from harness.machine import machine, set_threads
from harness.measure import WRONG, Row, measure_all
from harness.timing import Ratio

FOLDER = Path(__file__).parents[2] / "asv_benchmarks"
LAYER = Case("layer", "layer_norm", (3, 8), last=True)
TABLE = Case("table", "moments", (9, 4), last=True)


@pytest.fixture(autouse=True)
def same_threads():
    """Put the number of threads back."""
    before = nbn.get_num_threads()
    yield
    set_threads(before)


def layer(x, weight, bias, eps, off=0.0):
    normal = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
    return normal * weight + bias + np.float32(off)


def mine(case, a, out, **more):
    if not case.last:
        raise Unfit("it knows the last axis only")
    return None if out is not None else partial(layer, a.x, a.weight, a.bias, case.eps, **more)


def wrong(case, a, out):
    return mine(case, a, out, off=1.0)


def misshapen(case, a, out):
    return lambda: layer(a.x, a.weight, a.bias, case.eps)[:, :1]


def unfit(case, a, out):
    raise Unfit("it has one hand")


def broken(case, a, out):
    raise RuntimeError("lost\nin a long text")


def measured(monkeypatch, cases, contenders):
    """Measure with contenders beside numbanorm; those that are functions are added to the table."""
    for contender in contenders:
        if callable(contender):
            monkeypatch.setitem(CONTENDERS["layer_norm"], contender.__name__, contender)
    names = [contender if isinstance(contender, str) else contender.__name__ for contender in contenders]
    return measure_all(cases, [1], 0.0, Console(quiet=True), [OWN, *names])


def made_up(case, ratios, threads=1, **more):
    """Return a row as if numbanorm had taken 1 ms and the others so many times as long."""
    return Row(
        case,
        threads,
        units={name: 0.5 for name in (OWN, *ratios)},
        seconds={OWN: 1e-3} | {name: 1e-3 * ratio for name, ratio in ratios.items()},
        ratios={name: Ratio(ratio, ratio, ratio) for name, ratio in ratios.items()},
        into={OWN: 1e-3},
        copy={} if case.norm == "moments" else {"a copy": 5e-4},
        **more,
    )


# who is left out ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contender", "reason"),
    [
        (unfit, "it has one hand"),
        (broken, "RuntimeError: lost"),
        (misshapen, "ValueError: an output of shape (3, 1)"),
        (wrong, WRONG),
    ],
)
def test_who_cannot_is_left_out_and_the_rest_is_measured(contender, reason, monkeypatch):
    rows = measured(monkeypatch, [LAYER, LAYER.tiny()], [contender, mine])
    assert all(set(row.seconds) == {OWN, "mine"} for row in rows)
    lines = report.left_out(rows[:1])
    assert len(lines) == 1
    assert lines[0].startswith(f"{contender.__name__} left out of {LAYER.label}: {reason}")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def kernel(x):\n    y = x.meen()\n    return y\n", "Unknown attribute 'meen' .*mine.py, line 2: y = x.meen"),
        (
            "def kernel(x):\n    for i in x:\n        if i > 3:\n            s = 'a' + 1\n    return x\n",
            "add.*line 4: s =",
        ),
        ("def kernel(x):\n    return x + nothing\n", "name 'nothing' is not defined"),
    ],
)
def test_a_contender_that_does_not_compile_shows_numbas_line(source, reason, monkeypatch, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(source, "utf-8")
    found = {}
    exec(compile(source, str(file), "exec"), found)
    kernel = numba.njit(found["kernel"])

    def uncompiled(case, a, out):
        return lambda: kernel(a.x)

    row = measured(monkeypatch, [LAYER], [uncompiled])[0]
    (line,) = report.left_out([row])
    assert re.search(reason, line), line
    assert "\n" not in line and "Failed in" not in line
    assert row.broken == ["uncompiled"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError(), "ValueError: "),
        (ValueError("one\ntwo"), "ValueError: one"),
        (RuntimeError("\x1b[1mFailed in nopython mode\n\x1b[31mred\x1b[0m"), "RuntimeError: red"),
        (RuntimeError("Failed in a mode"), "RuntimeError: Failed in a mode"),
    ],
)
def test_an_error_is_one_line(error, line):
    assert one_line(error) == line


def test_one_line_for_all_rows_with_one_reason(monkeypatch):
    rows = measured(monkeypatch, [LAYER, LAYER.tiny(), TABLE], [unfit, wrong])
    assert [line.partition(":")[0] for line in report.left_out(rows)] == [
        "unfit left out of 2 rows",
        "wrong left out of 2 rows",
        f"unfit left out of {TABLE.label}",
        f"wrong left out of {TABLE.label}",
    ]
    assert "units of rounding on layer" in report.left_out(rows)[1]


def test_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    monkeypatch.delitem(sys.modules, "harness.libraries.with_jax", raising=False)
    rows = measured(monkeypatch, [LAYER, LAYER.tiny()], ["JAX", "NumPy"])
    assert report.left_out(rows) == ["JAX left out of 2 rows: jax is not installed"]
    assert all("NumPy" in row.ratios for row in rows)
    assert "jax" not in machine(1, ["JAX 2", "NumPy"]).lower()


def test_running_statistics_may_be_returned_or_kept_apart(monkeypatch):
    case = Case("layer", "batch_norm", (5, 4))

    def both(case, a, out, wrong_by=0.0):
        mean, var = a.x.mean(0), a.x.var(0)
        y = (a.x - mean) / np.sqrt(var + case.eps) * a.weight + a.bias
        return lambda: (y, 0.9 * a.mean + 0.1 * mean + np.float32(wrong_by), 0.9 * a.var + 0.125 * var)

    def only_y(case, a, out):
        return lambda: both(case, a, out)()[:1]

    def badly(case, a, out):
        return both(case, a, out, wrong_by=1.0)

    def not_updated(case, a, out):
        return lambda: both(case, a, out)()[0]

    for contender in (both, only_y, badly, not_updated):
        monkeypatch.setitem(CONTENDERS["batch_norm"], contender.__name__, contender)
    row = measure_all([case], [1], 0.0, Console(quiet=True), [OWN, "both", "only_y", "badly", "not_updated"])[0]
    assert row.left_out == {"badly": WRONG, "not_updated": WRONG}


PEERS = """
import sys
sys.path.insert(0, {folder!r})
from harness.case import NORMS
from harness.cases import CASES
from harness.contenders import OWN, names
from harness.machine import cores
from harness.measure import measure_all
from harness.report import left_out
from rich.console import Console

cases = [next(case.tiny() for case in CASES if case.norm == norm and case.last == (norm in {last})) for norm in NORMS]
contenders = [name for name in names() if name != "torch.compile"]  # which needs seconds for each
rows = measure_all(cases, [cores()], 0.0, Console(quiet=True), contenders)
print(*left_out(rows), sep="\\n")
sys.exit(any(row.failed for row in rows))
"""


def test_the_libraries_that_are_installed():
    """In a process of its own: JAX warns of every fork that other tests make."""
    command = [sys.executable, "-c", PEERS.format(folder=str(FOLDER), last=("moments", "rms_norm"))]
    found = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr
    known = ("is not installed", "it has no such function", "its ops take channels", "cannot be held to")
    assert [line for line in found.stdout.splitlines() if not any(reason in line for reason in known)] == []


# the report -----------------------------------------------------------------------------------------------------------

FEW = {"torch": 2.0, "NumPy": 9.0}
MANY = FEW | {"JAX": 3.0, "mine": 0.5, "theirs": 4.0}


def test_columns_of_two_others():
    cells = report.table_cells([made_up(LAYER, FEW), made_up(TABLE, {"NumPy": 3.0}, read=2e-4)])
    assert " ".join(cells[0]) == "layer shape numbanorm NumPy torch × NumPy × torch of copy error"
    assert list(cells[0].values()) == ["layer", "3×8", "1", "9", "2", "9.00", "2.00", "0.50", "0.50"]
    assert list(cells[1].values())[2:] == ["1", "3", "-", "3.00", "-", "0.20", "0.50"]


def test_columns_of_more_are_ratios():
    cells = report.table_cells([made_up(LAYER, MANY, threads=2), made_up(LAYER, {})])
    assert list(cells[0])[2:] == [
        "threads",
        "numbanorm",
        *(f"× {n}" for n in report.others([made_up(LAYER, MANY)])),
        "of copy",
        "error",
    ]
    assert list(cells[1].values())[4:9] == ["-"] * 5


def test_unknown_names_come_last():
    assert report.others([made_up(LAYER, {"mine": 1.0, "torch": 2.0}), made_up(LAYER, MANY)]) == [
        "NumPy",
        "torch",
        "JAX",
        "mine",
        "theirs",
    ]


def test_eight_contenders_fit_140_columns():
    case = Case("resnet50.layer3.bn3", "batch_norm_eval", (32, 128, 128, 1024), last=True)
    names = ("NumPy", "torch", "torch.compile", "JAX", "onnxruntime", "numbagg", "scikit-learn")
    console = Console(width=140)
    with console.capture() as captured:
        report.show(
            report.table_cells([made_up(case, dict.fromkeys(names, 123.4), threads=n) for n in (1, 4)]), console
        )
    assert "resnet50.layer3.bn3," in captured.get()
    assert "…" not in captured.get()


@pytest.mark.parametrize("width", [80, 100, 120, 150])
@pytest.mark.parametrize("others", [FEW, dict.fromkeys(LIBRARIES[:7], 123.4)], ids=len)
def test_tables_are_whole_at_any_width(width, others):
    """No name is cut, nor a number."""
    chosen = [case for case in CASES if case.readme]
    cells = report.table_cells([made_up(case, others, threads=n) for case in chosen for n in (1, 4)])
    console = Console(width=width)
    with console.capture() as captured:
        report.show(cells, console)
    said = captured.get()
    assert "…" not in said
    assert max(map(len, said.splitlines())) <= width
    words = said.split()
    assert max(len(line) for line in said.splitlines()) <= width
    for row in cells:
        assert not set(" ".join(row.values()).split()) - set(words)
    numbers = sum(len(row) - 2 for row in cells)
    assert sum(bool(re.fullmatch(r"[\d.]+", word)) for word in words) == numbers


def test_the_width_of_a_pipe(monkeypatch):
    from harness.terminal import WIDTH, open_console

    monkeypatch.delenv("COLUMNS", raising=False)
    assert open_console().width == WIDTH
    monkeypatch.setenv("COLUMNS", "80")
    assert open_console().width == 80


def test_the_note_says_what_is_there():
    layer, table, twice = made_up(LAYER, FEW), made_up(TABLE, {"mine": 3.0}, read=2e-4), made_up(LAYER, {}, read=1e-4)
    assert "× NumPy, × torch: their time by numbanorm's" in report.note([layer])
    assert "× mine: its time" in report.note([table])
    for text, row in (("NumPy works", layer), ("*:", twice), ("reading x once", table)):
        assert [text in report.note([other]) for other in (layer, table, twice)] == [
            row is other for other in (layer, table, twice)
        ]


def test_summary_and_accuracy():
    rows = [made_up(LAYER, MANY), made_up(LAYER, {"mine": 2.0}), made_up(TABLE, {}, read=2e-4)]
    lines = report.summary(rows)
    assert "Beside mine, 1 thread: 1.0 times as fast (geometric mean), faster on 1 of 2 rows" in "\n".join(lines)
    assert [line.split(",")[0] for line in lines[-2:]] == ["Beside a copy", "Beside reading x once"]
    assert "mine 0.5" in report.accuracy(rows)


def test_a_busy_machine_is_not_summed_up():
    """Neither in the terminal nor in Markdown; what was measured on one thread is."""
    rows = [made_up(LAYER, FEW), made_up(LAYER, FEW, threads=2, crowded=True)]
    lines = report.summary(rows)
    assert any("Beside torch, 1 thread" in line for line in lines)
    (said,) = [line for line in lines if "2 threads" in line]
    assert "busy" in said and "--threads 1" in said and "times as fast" not in said
    assert "torch, 2 threads" not in report.as_markdown("a machine", rows)


@pytest.mark.parametrize(
    ("load", "threads", "worthless"),
    [
        (0.2, 4, False),
        (0.9, 4, False),
        (1.2, 4, True),
        (1.2, 3, False),
        (2.2, 3, True),
        (9.0, 1, False),
        (9.0, 2, True),
    ],
)
def test_what_load_makes_ratios_worthless(load, threads, worthless, monkeypatch):
    """On four cores: of which something else, and all threads, want more than one too many."""
    from harness import machine

    monkeypatch.setattr(machine, "cores", lambda: 4)
    monkeypatch.setattr(machine.os, "getloadavg", lambda: (load, 0.0, 0.0), raising=False)
    assert machine.crowded(threads) == worthless
    assert ("--threads 1" in machine.warning(threads)) == worthless
    assert bool(machine.warning(threads)) == (load > machine.BUSY)
    row = measure_all([LAYER], [threads], None, Console(quiet=True), [OWN])[0]
    assert row.crowded == worthless


def test_files(tmp_path):
    pytest.importorskip("matplotlib")
    from harness.picture import colours_of, draw

    rows = [made_up(LAYER, MANY), made_up(TABLE, {}, read=2e-4, left_out={"mine": "it has one hand"})]
    draw(rows, "a machine", tmp_path / "all.png")
    draw(rows[1:], "a machine", tmp_path / "alone.png")
    assert (tmp_path / "all.png").stat().st_size > (tmp_path / "alone.png").stat().st_size > 0
    assert len(set(colours_of([*MANY, "scikit-learn"]).values())) == 6
    report.write_json(tmp_path / "rows.json", "a machine", rows)
    assert json.loads((tmp_path / "rows.json").read_text("utf-8"))["rows"][1]["left_out"] == {"mine": "it has one hand"}
    assert "| × mine |" in report.as_markdown("a machine", rows)


# the script -----------------------------------------------------------------------------------------------------------


def run(monkeypatch, capsys, *arguments):
    """Run compare.py on tiny.ln."""
    monkeypatch.setattr(sys, "argv", ["compare.py", "--smoke", "--name", "tiny.ln", "--threads", "1", *arguments])
    return compare.main(), capsys.readouterr().out


def test_exit_status(monkeypatch, capsys):
    assert run(monkeypatch, capsys, "--contenders", "numpy")[0] == 0
    for contender, status, text in ((wrong, 1, "numbanorm is wrong"), (broken, 3, "Nothing was measured")):
        monkeypatch.setitem(CONTENDERS["layer_norm"], OWN, contender)
        found, printed = run(monkeypatch, capsys, "--contenders", "NumPy")
        assert found == status
        assert text in printed
    assert run(monkeypatch, capsys, "--dtype", "float16")[0] == 3


@pytest.mark.parametrize("contender", [wrong, broken, misshapen])
def test_a_wrong_variant_is_a_failure(contender, monkeypatch, capsys):
    """A kernel of one's own, that is; a library that is not at its best in a case is not."""
    monkeypatch.setitem(CONTENDERS["layer_norm"], "mine", contender)
    status, printed = run(monkeypatch, capsys, "--contenders", "mine")
    assert status == 1
    assert "mine: wrong, or did not run." in printed
    monkeypatch.setitem(CONTENDERS["layer_norm"], "mine", unfit)
    assert run(monkeypatch, capsys, "--contenders", "mine")[0] == 0
    monkeypatch.setitem(CONTENDERS["layer_norm"], "NumPy", contender)
    assert run(monkeypatch, capsys, "--contenders", "NumPy")[0] == 0


def test_a_variant_that_is_wrong_with_an_output_only_is_a_failure(monkeypatch, capsys):
    def late(case, a, out):
        return mine(case, a, None) if out is None else broken(case, a, out)

    monkeypatch.setitem(CONTENDERS["layer_norm"], "late", late)
    status, printed = run(monkeypatch, capsys, "--contenders", "late")
    assert status == 1
    assert "into a given output, RuntimeError: lost" in " ".join(printed.split())


def test_a_busy_machine_is_said_and_not_summed_up(monkeypatch, capsys):
    from harness import machine

    monkeypatch.setattr(machine.os, "getloadavg", lambda: (9.0, 9.0, 9.0), raising=False)
    monkeypatch.setattr(machine, "cores", lambda: 2)
    if nbn.get_num_threads() < 2:
        pytest.skip("needs two threads")
    few = ["compare.py", "--name", "tiny.ln", "--contenders", "numpy", "--seconds", "0.01", "--threads"]
    monkeypatch.setattr(sys, "argv", [*few, "1,2"])
    assert compare.main() == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "load 9.0 on 2 cores" in printed and "Measure with --threads 1" in printed
    assert "Beside NumPy, 1 thread:" in printed
    assert "Beside NumPy, 2 threads:" not in printed and "On 2 threads ratios say nothing" in printed


def test_contenders_by_name(monkeypatch, capsys):
    for norm in NORMS:
        monkeypatch.setitem(CONTENDERS[norm], "mine", mine)
    status, printed = run(monkeypatch, capsys, "--contenders", "MINE")
    assert status == 0
    assert "mine 0." in printed
    assert "NumPy" not in printed
    with pytest.raises(SystemExit):
        run(monkeypatch, capsys, "--contenders", "nobody")
    assert "no contender is named nobody; there are numbanorm, NumPy" in capsys.readouterr().err
