"""asv_benchmarks/worker_processes.py: every contender has its row, and both are right. No times are compared."""

import pytest
from everyday import exhaustive

pytest.importorskip("dask.array")
pytest.importorskip("distributed")


@exhaustive
@pytest.mark.filterwarnings("ignore")  # distributed's
def test_every_contender_has_a_row(capsys):
    import worker_processes

    small = ["--gigabytes", "0.001", "--rows", "500", "--workers", "1", "--rounds", "0"]
    assert worker_processes.main(small) == 0
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][2:]
    assert [row[1].strip() for row in rows] == ["reading", "numbanorm", "dask.array"]
    assert float(rows[-1][-2]) < 1e-4
