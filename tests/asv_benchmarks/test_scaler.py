"""asv_benchmarks/scaler.py: every row has its numbers, and the page has its marks. No times are compared."""

from pathlib import Path

import numpy as np
import pytest

import numbanorm as nbn

pytest.importorskip("ml_dtypes")
pytest.importorskip("sklearn", minversion="1.6")
import scaler
from harness.machine import set_threads
from harness.report import marks

PAGE = Path(__file__).parents[2] / "docs" / "scikit-learn.md"


@pytest.fixture(autouse=True)
def same_threads():
    """Put the number of threads back."""
    before = nbn.get_num_threads()
    yield
    set_threads(before)


def test_a_row_for_each_piece_of_work(tmp_path, capsys):
    page = tmp_path / "page.md"
    assert scaler.main(["--share", "2000", "--seconds", "0", "--threads", "1", "--markdown", str(page)]) == 0
    lines = [line for line in page.read_text("utf-8").splitlines() if line.startswith("| ")]
    rows = [line.strip("| ").split(" | ") for line in lines[2:]]  # behind the heading and the rule under it
    assert len(rows) == len(scaler.TABLES) * len(scaler.WORK)
    assert all(float(row[3]) > 0 for row in rows)
    assert all((float(row[5]) > 0) if row[0] in scaler.NEW else (row[5] == "-") for row in rows)
    assert all(float(row[6]) < 1e-13 for row in rows if "fit" in row[0])
    assert "partial_fit" in capsys.readouterr().out


def test_a_wrong_variance_is_told():
    class Wrong:
        def fit(self, x):
            self.var_ = np.nanvar(x, axis=0) * [1, 1 + 1e-6]
            return self

    x = np.random.default_rng(0).standard_normal((100, 2))
    assert scaler.error(Wrong(), x) == pytest.approx(1e-6, rel=1e-3)


def test_the_page_has_its_marks():
    first, last = marks(PAGE, scaler.TABLE)
    assert last > first
