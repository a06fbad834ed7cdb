"""asv_benchmarks/segments.py: lengths add up, and every case has its line. No times are compared."""

import numpy as np
import pytest
import segments


@pytest.mark.parametrize("kind", ["equal", "long-tailed", "ascending"])
@pytest.mark.parametrize("mean", [1, 5, 200])
def test_lengths_add_up(kind, mean):
    found = segments.lengths(kind, 100 * mean, mean)
    assert found.sum() == 100 * mean
    assert (found > 0).all()
    assert kind != "ascending" or (np.diff(found) >= 0).all()


def test_every_case_has_its_line(capsys, threads):
    options = ["--elements", "2000", "--mean", "20", "--features", "1,8,8k", "--threads", "1", "--seconds", "0"]
    assert segments.main(options) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for line in lines:
        assert "dense" in line
        assert "ascending" in line
