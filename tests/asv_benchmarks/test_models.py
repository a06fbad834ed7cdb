"""asv_benchmarks/models.py: whole models, small ones here."""

import pytest

pytest.importorskip("torch")

import models
import torch


@pytest.mark.filterwarnings("ignore")  # torch's profiler warns of itself
def test_every_model_has_a_row(tmp_path, capfd):
    before = torch.get_num_threads()
    file = tmp_path / "table.md"
    try:
        models.main(["--quick", "--pairs", "1", "--threads", "1", "--markdown", str(file)])
    finally:
        torch.set_num_threads(before)
    rows = [line.split(" | ") for line in file.read_text("utf-8").splitlines() if line.startswith("| ")]
    assert [row[0].strip("| ") for row in rows[2:]] == list(models.MODELS)


def test_models_that_differ_are_not_timed():
    theirs = torch.nn.Sequential(torch.nn.Linear(4, 4))
    ours = torch.nn.Sequential(torch.nn.Linear(4, 4))
    with pytest.raises(AssertionError):
        models.check(theirs, ours, torch.ones(2, 4))


def test_resnet50_is_as_large_as_it_should_be():
    """25,557,032 parameters, as the paper's."""
    with torch.device("meta"):
        assert sum(p.numel() for p in models.resnet50().parameters()) == 25_557_032
