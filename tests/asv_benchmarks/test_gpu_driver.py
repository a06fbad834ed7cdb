"""asv_benchmarks/gpu.py on commands that are made up."""

import os
import sys
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("ml_dtypes")
from harness.gpu.device import NoGPU

SCRIPT = Path(__file__).parents[2] / "asv_benchmarks" / "gpu.py"
spec = spec_from_file_location("gpu_driver", SCRIPT)  # the folder tests/cuda/gpu could be taken for `import gpu`
gpu = sys.modules["gpu_driver"] = module_from_spec(spec)
spec.loader.exec_module(gpu)
pytestmark = pytest.mark.skipif(os.name == "nt", reason="for Linux")


def step(name, program, share=1.0, lacking=""):
    return gpu.Step(name, share, lambda seconds: [sys.executable, "-c", program.format(seconds=seconds)], lacking)


def test_it_goes_on_after_a_failure(tmp_path, capsys):
    todo = [
        step("good", "print('all is well')"),
        step("bad", "print('one failed'); raise SystemExit(7)"),
        step("missing", "", lacking="it is not installed"),
        step("none", "raise SystemExit(5)"),
        step("errors", "raise SystemExit(86)"),
        step("last", "print(1); print()"),
    ]
    found = gpu.run_all(todo, tmp_path, 60)
    whats = ["ok", "failed (7)", "left out", "no tests", "errors", "ok"]
    assert [outcome.what for outcome in found] == whats
    assert [outcome.last for outcome in found] == ["all is well", "one failed", "it is not installed", "", "", "1"]
    assert [outcome.fine for outcome in found] == [True, False, True, False, False, True]
    assert (tmp_path / "bad.txt").read_text("utf-8") == "one failed\n"
    assert not (tmp_path / "missing.txt").exists()
    assert "all is well" in capsys.readouterr().out


SLOW = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background begins without it
print('begun', flush=True)
try:
    time.sleep(60)
except KeyboardInterrupt:
    print('so far')
"""
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


def gone(pid):
    """Whether a process has ended; what nobody has waited for has."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are looked up in /proc")
def test_who_takes_too_long_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "GRACE", 1)
    start = time.monotonic()
    found = gpu.run_all([step("slow", SLOW), step("stubborn", STUBBORN)], tmp_path, 8)
    assert time.monotonic() - start < 30
    assert [outcome.what for outcome in found] == ["over time", "over time"]
    assert found[0].last == "so far"
    for _ in range(50):
        if gone(int(found[1].last)):
            break
        time.sleep(0.1)
    assert gone(int(found[1].last))


def test_what_is_left_of_the_time_is_shared(tmp_path):
    todo = [step(name, "print({seconds:.3f})", share) for name, share in (("a", 0.5), ("b", 0.25), ("c", 0.25))]
    todo.insert(1, step("missing", "", 10.0, "it is not installed"))
    found = {outcome.name: outcome for outcome in gpu.run_all(todo, tmp_path, 100)}
    assert float(found["a"].last) == pytest.approx(50, abs=1)
    assert float(found["b"].last) > 45
    assert float(found["c"].last) > 90


def test_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu.shutil, "which", lambda name, path: f"/somewhere/{name}")
    todo = {one.name: one for one in gpu.steps(tmp_path)}
    assert list(todo) == ["tests", "compile", "memcheck", "racecheck", "chosen", "backward", "compare"]
    assert sum(one.share for one in todo.values()) == pytest.approx(1)
    commands = {name: " ".join(map(str, one.command(600))) for name, one in todo.items()}
    assert "-m pytest -m gpu" in commands["tests"]
    assert "compare.py --device cuda" in commands["compare"] and "--minutes 9.00" in commands["compare"]
    for option, end in gpu.FILES.items():
        assert f"--{option} {tmp_path / 'compare'}.{end}" in commands["compare"]
    for tool in ("memcheck", "racecheck"):
        assert commands[tool].startswith(f"/somewhere/compute-sanitizer --tool={tool} ")
        assert commands[tool].endswith("-k small -n 0")
    monkeypatch.setattr(gpu.shutil, "which", lambda name, path: None)
    lacking = {one.name: one.lacking for one in gpu.steps(tmp_path) if one.lacking}
    assert lacking == dict.fromkeys(("memcheck", "racecheck"), "compute-sanitizer is not installed")


def test_the_script(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu.py", str(tmp_path / "found"), "--minutes", "1"])

    def none():
        raise NoGPU("there is none")

    monkeypatch.setattr(gpu, "find", none)
    assert gpu.main() == 2
    assert capsys.readouterr().err == "gpu.py: nothing can be run: there is none.\n"
    monkeypatch.setattr(gpu, "find", SimpleNamespace)
    monkeypatch.setattr(gpu, "machine", lambda torch, contenders: "A GPU")
    for program, status in (("print('fine')", 0), ("raise SystemExit(1)", 1)):
        monkeypatch.setattr(gpu, "steps", lambda folder, program=program: [step("one", program)])
        assert gpu.main() == status
    assert (tmp_path / "found" / "summary.txt").read_text("utf-8").startswith("A GPU\n\none        failed (1)")
