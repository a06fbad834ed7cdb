"""The one line that says that kernels are compiled: where it is shown, and where not.

When it is said, cpu/test_first_calls.py sees.
"""

import io
import logging
import sys
from types import SimpleNamespace

import pytest

from numbanorm.engine import disk, notice


class Terminal(io.StringIO):
    """Standard error that says it is a terminal."""

    def isatty(self):
        return True


def stderr_is(stream, monkeypatch):
    """For the notice only: pytest has its own between a fixture and its test."""
    monkeypatch.setattr(notice, "sys", SimpleNamespace(stderr=stream, modules=sys.modules))
    return stream


@pytest.fixture
def terminal(monkeypatch):
    """Standard error as a terminal, in a process that has said nothing yet."""
    monkeypatch.delenv("NUMBANORM_QUIET", raising=False)
    monkeypatch.setattr(notice, "_said", set())
    return stderr_is(Terminal(), monkeypatch)


@pytest.fixture
def kept(monkeypatch, tmp_path):
    """A place for kernels."""
    monkeypatch.setattr(disk, "folder", lambda processor: tmp_path)
    return tmp_path


def in_notebook(monkeypatch, shell):
    """As if IPython ran in this process, with such a shell."""
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))


class ZMQInteractiveShell:
    pass


class TerminalInteractiveShell:
    pass


@pytest.mark.usefixtures("kept")
def test_it_is_said_once_in_one_line(terminal, caplog):
    caplog.set_level(logging.INFO, "numbanorm")
    notice.compiling("cpu")
    notice.compiling("cpu")
    said = terminal.getvalue()
    assert said.startswith("numbanorm: compiling ")
    assert "once" in said and "numbanorm warmup" in said and "NUMBANORM_QUIET=1" in said
    assert said.count("\n") == 1 and said.endswith("\n")
    ((logger, level, message),) = caplog.record_tuples
    assert (logger, level) == ("numbanorm", logging.INFO)
    assert message in said


@pytest.mark.usefixtures("kept")
def test_of_a_gpu_it_promises_no_warmup(terminal):
    """Its kernels are not compiled ahead of time."""
    notice.compiling("cpu")
    notice.compiling("cuda")
    first, second = terminal.getvalue().splitlines()
    assert "CUDA" in second and "once" in second
    assert "warmup" in first and "warmup" not in second


@pytest.mark.parametrize("place", [None, "read-only"])
def test_where_nothing_can_be_kept_it_does_not_promise_once(place, terminal, monkeypatch, tmp_path):
    monkeypatch.setattr(disk, "folder", lambda processor: place and tmp_path)
    monkeypatch.setattr(notice.os, "access", lambda path, mode: False)
    notice.compiling("cpu")
    said = terminal.getvalue()
    assert "once" not in said
    assert "every process" in said and "set NUMBANORM_CACHE_DIR to a folder" in said


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(("value", "shown"), [("1", False), ("yes", False), ("0", True), ("", True)])
def test_the_environment_can_turn_the_line_off(value, shown, terminal, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "numbanorm")
    monkeypatch.setenv("NUMBANORM_QUIET", value)
    notice.compiling("cpu")
    assert bool(terminal.getvalue()) == shown
    assert len(caplog.records) == 1  # which logging has its own ways to turn off


@pytest.mark.usefixtures("kept", "terminal")
def test_a_file_or_a_pipe_gets_no_line(monkeypatch, caplog):
    caplog.set_level(logging.INFO, "numbanorm")
    pipe = stderr_is(io.StringIO(), monkeypatch)
    notice.compiling("cpu")
    assert pipe.getvalue() == ""
    assert len(caplog.records) == 1


@pytest.mark.usefixtures("kept", "terminal")
@pytest.mark.parametrize(
    ("shell", "shown"), [(ZMQInteractiveShell(), True), (TerminalInteractiveShell(), False), (None, False)]
)
def test_a_notebook_is_told_though_it_is_no_terminal(shell, shown, monkeypatch):
    stderr = stderr_is(io.StringIO(), monkeypatch)
    in_notebook(monkeypatch, shell)
    notice.compiling("cpu")
    assert bool(stderr.getvalue()) == shown


class Broken(logging.Handler):
    def emit(self, record):
        raise RuntimeError("this handler is broken")


@pytest.mark.usefixtures("kept", "terminal")
@pytest.mark.parametrize("stderr", [None, SimpleNamespace(), "closed"])
def test_whatever_is_wrong_there_a_call_goes_on(stderr, monkeypatch):
    if stderr == "closed":
        stderr = Terminal()
        stderr.close()
    stderr_is(stderr, monkeypatch)
    logger, handler = logging.getLogger("numbanorm"), Broken()
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr(logger, "level", logging.DEBUG)
    logger._cache.clear()
    try:
        notice.compiling("cpu")
    finally:
        logger._cache.clear()


@pytest.mark.usefixtures("kept")
def test_silence_ends(terminal):
    with notice.silence():
        notice.compiling("cpu")
        assert terminal.getvalue() == ""
    notice.compiling("cpu")
    assert terminal.getvalue() != ""
