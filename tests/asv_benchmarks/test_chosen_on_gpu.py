"""asv_benchmarks/chosen_on_gpu.py on the host, on small parts of its arrays."""

import chosen_on_gpu
import numpy as np
import pytest
from harness.gpu import script
from harness.gpu.device import NoGPU

import numbanorm as nbn

torch = pytest.importorskip("torch")


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(chosen_on_gpu, "CASES", chosen_on_gpu.CASES[:1])


def test_it_says_how_long_each_choice_takes(few, capsys):
    assert chosen_on_gpu.main(["--device", "cpu", "--part", "2000", "--seconds", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[3] for line in lines] == ["clone", "plain", "where", "weights", "skipna", "all"]
    assert all("of plain" in line for line in lines)


def test_it_fails_if_something_is_wrong(few, capsys, monkeypatch):
    def moments(x, **how):
        m = nbn.moments(x, **how)
        if "skipna" in how:
            moments.calls += 1
            if moments.calls % 2:
                return nbn.Moments(m.count, np.asarray(m.mean) + 1e-9, m.m2)
        return m

    moments.calls = 0
    monkeypatch.setattr(chosen_on_gpu, "nbn", type("Module", (), {"moments": staticmethod(moments)}))
    assert chosen_on_gpu.main(["--device", "cpu", "--part", "2000", "--seconds", "0"]) == 1
    assert "skipna: wrong by" in capsys.readouterr().out


def test_without_a_gpu_it_says_so(capsys, monkeypatch):
    def find():
        raise NoGPU("torch finds no NVIDIA GPU")

    monkeypatch.setattr(script, "find", find)
    assert chosen_on_gpu.main([]) == 2
    assert capsys.readouterr().err == "chosen_on_gpu.py: nothing can be measured: torch finds no NVIDIA GPU.\n"
