"""asv_benchmarks/compile_on_gpu.py on the host, at tiny sizes."""

import compile_on_gpu
import pytest

pytest.importorskip("torch", reason="needs torch, whose tensors all contenders are given")


def test_all_cases_are_called(capsys, monkeypatch):
    from harness.gpu import cases

    few = [case for case in cases.CASES if case.readme][:3]
    monkeypatch.setattr(cases, "CASES", few)
    assert compile_on_gpu.main(["--device", "cpu", "--tiny", "--processes", "1"]) == 0
    assert capsys.readouterr().out.split("\n")[-2] == "3 of 3 cases were called."


def test_what_fails_is_named():
    from harness.gpu import cases

    said = compile_on_gpu.call(cases.CASES[0].tiny(), "nowhere")
    assert said.startswith(f"{cases.CASES[0].tiny().label}: ")
