"""asv_benchmarks/lazy_arrays.py: every case has its row, and numbanorm its digits. No times are compared."""

import pytest

pytest.importorskip("dask.array")
import lazy_arrays


def test_every_case_has_its_row(capsys):
    assert lazy_arrays.main(["--megabytes", "0.5", "--workers", "1", "--seconds", "0"]) == 0
    said = capsys.readouterr().out
    rows = [line.split("|") for line in said.splitlines() if line.startswith("|")][2:]
    assert len(rows) == len(lazy_arrays.CASES)
    assert all(float(row[6]) < 1e-12 for row in rows)
    assert "dask" in said.splitlines()[1]
