"""asv_benchmarks/groups.py: every row has its numbers, rivals' answers are looked at, and the page has its marks."""

from pathlib import Path

import numpy as np
import pytest

import numbanorm as nbn

pytest.importorskip("ml_dtypes")
import groups
from harness.machine import set_threads
from harness.report import marks

PAGE = Path(__file__).parents[2] / "docs" / "groups.md"


@pytest.fixture(autouse=True)
def same_threads():
    """Put the number of threads back."""
    before = nbn.get_num_threads()
    yield
    set_threads(before)


def test_a_row_for_each_task(tmp_path, capsys):
    page = tmp_path / "page.md"
    options = ["--share", "2000", "--seconds", "0", "--threads", "1"]
    assert groups.main([*options, "--markdown", str(page)]) == 0
    lines = [line for line in page.read_text("utf-8").splitlines() if line.startswith("| ")]
    rows = [line.split(" | ") for line in lines[2:]]  # behind the heading and the rule under it
    assert len(rows) == len(groups.TASKS)
    assert all(float(row[2]) > 0 for row in rows)
    assert "labels" in capsys.readouterr().out


def test_an_answer_that_is_wrong_is_told_from_one_that_is_right():
    x, labels = groups.Task(4000, 3, 5, "skewed").arrays()
    right = np.array([x[labels == label].astype(np.longdouble).var(0) for label in range(5)], np.float64)
    np.testing.assert_allclose(groups.truth(x, labels, 5), right, rtol=1e-15)
    calls = {"right": lambda: right, "wrong": lambda: right * [1, 1, 1 + 1e-9]}
    off = groups.errors(calls, x, labels, 5)
    assert off["right"] < 1e-15
    assert off["wrong"] == pytest.approx(1e-9, rel=1e-3)


@pytest.mark.parametrize("name", ["pandas", "numbagg"])
def test_rivals_are_asked_for_the_same_variances(name):
    pytest.importorskip(name)
    for columns in (1, 3):
        task = groups.Task(500, columns, 7)
        x, labels = task.arrays()
        x -= 1e6
        calls = groups.calls_of(task, x, labels)
        np.testing.assert_allclose(calls[name](), calls["numbanorm"](), rtol=1e-9)


def test_the_page_has_its_marks():
    first, last = marks(PAGE, groups.TABLE)
    assert last > first
