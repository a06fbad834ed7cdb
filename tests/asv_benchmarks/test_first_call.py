"""The script that measures first calls, on a call that compiles nothing."""

import sys

import first_call
import pytest


@pytest.fixture
def empty(monkeypatch):
    monkeypatch.setitem(first_call.CALLS, "empty", "nbn.normalize(np.ones((0, 3)), axis=0)")
    monkeypatch.setitem(first_call.CALLS, "with Numba", "__import__('numba')")


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["first_call.py", *arguments])
    return first_call.main()


def test_a_table_is_printed(empty, monkeypatch, capsys):
    assert run(monkeypatch, "empty", "--dtypes", "float32", "--rounds", "2", "--check") == 0
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line for line in lines if line.startswith("| empty | float32 | ")]
    assert row.endswith(" | no |")
    assert len(row.split("|")) == len(lines[2].split("|"))
    assert all(float(cell) > 0 for cell in row.split("|")[3:8])


def test_numba_is_told(empty, monkeypatch, capsys):
    assert run(monkeypatch, "with Numba", "--dtypes", "float32", "--rounds", "1", "--check") == 1
    output = capsys.readouterr()
    assert "| imported |" in output.out
    assert "with Numba of float32" in output.err


@pytest.mark.parametrize(
    ("arguments", "complaint"), [(["nonsense"], "unknown: nonsense"), (["--rounds", "0"], "got 0")]
)
def test_wrong_arguments(arguments, complaint, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, *arguments)
    assert complaint in capsys.readouterr().err
