"""asv_benchmarks/by_month.py: every case has its row, and numbanorm its digits. No times are compared."""

import pytest
from everyday import exhaustive

pytest.importorskip("xarray")
pytest.importorskip("flox")
pytest.importorskip("numbagg")


@exhaustive
@pytest.mark.filterwarnings("ignore")  # flox's
def test_every_case_has_a_row_and_numbanorm_its_digits(capsys, threads):
    import by_month

    assert by_month.main(["--megabytes", "0.5", "--threads", "1", "--seconds", "0"]) == 0
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][2:]
    assert len(rows) == 4 * len(by_month.SHAPES)
    assert all(float(row[-3]) < 1e-12 for row in rows if row[-3].strip() != "-")
