"""asv_benchmarks/backward_on_gpu.py on the host, on small parts of its arrays."""

from types import SimpleNamespace

import backward_on_gpu
import pytest

import numbanorm as nbn

torch = pytest.importorskip("torch")


@pytest.fixture
def few(monkeypatch):
    norms = [("layer_norm", 48), ("rms_norm", 48), ("group_norm", 3), ("batch_norm", None), ("instance_norm", None)]
    cases = [(norm, (8, 6, 4, 48), False, "float32", norm, setting) for norm, setting in norms]
    monkeypatch.setattr(backward_on_gpu, "CASES", cases)


def test_it_says_how_long_each_norm_takes(few, capsys):
    assert backward_on_gpu.main(["--device", "cpu", "--part", "2", "--seconds", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[3] for line in lines] == ["clone", "numbanorm", "torch"] * 5
    assert all("times the least" in line for line in lines)


def test_it_fails_if_something_is_wrong(few, capsys, monkeypatch):
    def wrong(grad, x, *others, **settings):
        dx, *more = nbn.layer_norm_backward(grad, x, *others, **settings)
        return dx + (0.01 if settings["moments"] is not None else 0.0), *more

    monkeypatch.setattr(backward_on_gpu, "CASES", backward_on_gpu.CASES[:1])
    module = SimpleNamespace(layer_norm=nbn.layer_norm, layer_norm_backward=wrong)
    monkeypatch.setattr(backward_on_gpu, "nbn", module)
    assert backward_on_gpu.main(["--device", "cpu", "--part", "2", "--seconds", "0"]) == 1
    assert "dx: wrong by" in capsys.readouterr().out
