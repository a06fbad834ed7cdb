"""When it is said that kernels are compiled: only if they are, once a process, and not by warmup, which was asked for.

Each case is a process of its own that calls the smallest kernel, `processes.MERGE`, or another one of it.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from processes import MERGE

import numbanorm as nbn

pty = pytest.importorskip("pty", reason="needs POSIX")

HOME = str(Path(nbn.__file__).parents[1])
LOGGED = "import logging; logging.basicConfig(level='INFO', format='logged by %(name)s: %(message)s')\n"
ANOTHER = """
from numbanorm.cpu import launcher
from numbanorm.engine.interface import Kinds, Variant
launcher.address_of(Variant("merge", "rows", Kinds("f4")))
"""
WARMUP = """
from numbanorm import ahead
of = ahead.variants
ahead.variants = lambda dtypes: [v for v in of(dtypes) if v[:2] == ("merge", "rows") and v.kinds.x == "none"]
ahead.warmup()
"""
LINE = "numbanorm: compiling "


def errors(code, folder, **env):
    """What a fresh process writes to a terminal that is its standard error."""
    env = {**os.environ, "PYTHONPATH": HOME, "NUMBANORM_CACHE_DIR": str(folder), "NUMBANORM_QUIET": "", **env}
    ours, its = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", code], env=env, stdout=subprocess.PIPE, stderr=its, timeout=120, check=False
        )
        os.close(its)
        said = b""
        try:
            while more := os.read(ours, 4096):
                said += more
        except OSError:  # nothing more will come
            pass
    finally:
        os.close(ours)
    said = said.decode().replace("\r\n", "\n")
    assert done.returncode == 0, said
    return said


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A cache folder, and what was said when two kernels were compiled into it."""
    folder = tmp_path_factory.mktemp("cache")
    return folder, errors(LOGGED + MERGE + ANOTHER, folder)


def test_two_kernels_are_compiled_and_it_is_said_once(first):
    line, logged = sorted(first[1].splitlines(), reverse=True)
    assert line.startswith(LINE)
    assert logged.startswith("logged by numbanorm: compiling ")


def test_nothing_is_said_of_kernels_that_lie_on_disk(first):
    assert errors(LOGGED + MERGE + ANOTHER, first[0]) == ""


def test_warmup_is_silent_and_what_is_compiled_after_it_is_not(tmp_path):
    assert errors(LOGGED + WARMUP + MERGE, tmp_path) == ""
    assert errors(WARMUP + ANOTHER, tmp_path / "other").startswith(LINE)


def test_without_a_place_for_kernels_it_is_said_in_each_process(tmp_path):
    (tmp_path / "file").touch()
    for _ in range(2):
        said = errors(MERGE, tmp_path / "file")
        assert said.startswith(LINE) and "in every process" in said
