"""asv_benchmarks/compile_on_gpu.py on the host, at tiny sizes."""

import compile_on_gpu
import pytest

pytest.importorskip("torch", reason="needs torch, whose tensors all contenders are given")


def test_all_cases_are_called(capsys, monkeypatch):
    few = [case for case in compile_on_gpu.CASES if case.readme][:3]
    monkeypatch.setattr(compile_on_gpu, "CASES", few)
    assert compile_on_gpu.main(["--device", "cpu", "--tiny", "--processes", "1"]) == 0
    assert capsys.readouterr().out.split("\n")[-2] == "3 of 3 cases were called."


def test_what_fails_is_named():
    case = compile_on_gpu.CASES[0].tiny()
    assert compile_on_gpu.call(case, "nowhere").startswith(f"{case.label}: ")
