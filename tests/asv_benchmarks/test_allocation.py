"""asv_benchmarks/allocation.py: every row has its numbers, and the page its marks. No times are compared."""

from pathlib import Path

import pytest

import numbanorm as nbn

pytest.importorskip("ml_dtypes")
pytest.importorskip("resource")  # Windows counts no pages
import allocation
from harness.machine import set_threads
from harness.report import marks

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"


@pytest.fixture(autouse=True)
def same_threads():
    """Put the number of threads back."""
    before = nbn.get_num_threads()
    yield
    set_threads(before)


def test_a_row_for_each_size_kept_and_freed(tmp_path, capsys):
    page = tmp_path / "page.md"
    assert allocation.main(["--sizes", "4", "--rounds", "1", "--threads", "1", "--markdown", str(page)]) == 0
    rows = [line.split(" | ") for line in page.read_text("utf-8").splitlines() if line.startswith("| 4 MB")]
    assert [row[0] for row in rows] == ["| 4 MB, freed", "| 4 MB, kept"]
    for row in rows:
        assert all(float(row[column]) > 0 for column in (2, 4))
    assert "huge pages" in capsys.readouterr().out.lower()


def test_what_is_kept_is_made_of_new_pages():
    row = allocation.measure(40, 1, keep=True, rounds=1)
    assert float(row["pages made"]) > 10


def test_the_page_has_its_marks():
    first, last = marks(PAGE, allocation.TABLE)
    assert last > first
