"""asv_benchmarks/overhead.py, on versions of a small package in numbanorm's place, and on numbanorm."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
ROWS = 9  # of the table

STAND_IN = """
import numpy as np
def set_num_threads(n): assert n == 1
def _norm(x, axes, scale=1, shift=0):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5) * scale + shift
def group_norm(x, groups, weight=1, bias=0, out=None):
    y = _norm(x.reshape(groups, -1), -1).reshape(x.shape) * weight.reshape(-1, 1, 1) + bias.reshape(-1, 1, 1)
    return y if out is None else np.copyto(out, y) or out
def layer_norm(x, size, weight=1, bias=0): return _norm(x, -1, weight, bias)
def rms_norm(x, size, weight): return x / np.sqrt((x * x).mean(-1, keepdims=True)) * weight
def batch_norm(x, mean, var, weight, bias, training=False): return x * weight.reshape(-1, 1, 1)
def instance_norm(x, weight, bias): return _norm(x, (2, 3))
def normalize(x, pattern, g): return group_norm(x, g, np.ones(8), np.zeros(8))
"""


def run(*arguments):
    """Exit status, what was printed, and the table's lines."""
    command = [sys.executable, REPOSITORY / "asv_benchmarks" / "overhead.py", "--pairs", "2", *arguments]
    env = os.environ | {"PYTHONUTF8": "1"}  # what is printed has a µ
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, env=env)
    return done.returncode, done.stdout + done.stderr, done.stdout.partition("\n\n")[2].splitlines()


@pytest.fixture
def version(tmp_path):
    """Make a folder with a version of the package."""

    def made(name, text):
        package = tmp_path / name / "numbanorm"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(text, "utf-8")
        return package.parent

    return made


def test_two_versions(version):
    before, after = version("before", STAND_IN), version("after", "import time; time.sleep(0)\n" + STAND_IN)
    status, said, table = run(before, after)
    assert status == 0, said
    assert said.startswith(f"{before} before, {after} after\n")
    assert len(table) == 1 + ROWS + 1
    for line in table[1:-1]:
        times, _, high = line[24:].rpartition(" to ")
        assert all(float(number) > 0 for number in (*times.split(), high))
    assert table[-1].startswith("geometric mean") and float(table[-1].split()[-1]) > 0


def test_versions_that_differ_are_not_compared(version):
    after = version("after", STAND_IN.replace("training=False): return x", "training=False): return 3 * x"))
    status, said, _ = run(version("before", STAND_IN), after)
    assert status == 1
    assert "batch norm, evaluation: the two versions differ" in said


def test_no_such_version():
    status, said, _ = run("nonsense")
    assert status == 2
    assert "git knows no commit 'nonsense'" in said


@pytest.mark.exhaustive  # it compiles seven kernels, as the package has another name here
def test_the_files_as_they_are():
    status, said, table = run()
    assert status == 0, said
    assert len(table) == 1 + ROWS
    assert all(float(line[24:]) > 0 for line in table[1:])


def test_tiny_layers_beside_torch(tmp_path):
    pytest.importorskip("torch")
    file = tmp_path / "table.md"
    status, said, _ = run("--torch", "--markdown", file)
    assert status == 0, said
    rows = [line.split("|")[1:-1] for line in file.read_text("utf-8").splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 8
    for _, theirs, ours, ratio in rows[2:]:
        assert float(theirs) > 0 and float(ours) > 0 and float(ratio) > 0
