"""asv_benchmarks/busy.py: it measures each setting in a process of its own, and leaves none behind."""

import os
import subprocess
import sys
from pathlib import Path

import busy

SCRIPT = Path(__file__).parents[2] / "asv_benchmarks" / "busy.py"


def test_every_setting_has_a_line_for_each_number_of_threads():
    settings = ("OMP_WAIT_POLICY=passive", "NUMBA_THREADING_LAYER=workqueue")
    command = [sys.executable, SCRIPT, "--threads", "2", "--seconds", "0", "--settings", *settings]
    env = os.environ | {"PYTHONUTF8": "1"}
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, env=env)
    head, *lines = done.stdout.splitlines()
    assert head.startswith("µs a call")
    assert lines[::3] == list(settings)
    for number, line in zip((1, 2, 1, 2), [line for line in lines if "threads " in line], strict=True):
        threads, numbers = line.split(" threads ")
        assert int(threads) == number
        assert len(numbers.split()) == 6 and all(float(text) > 0 for text in numbers.split())


def test_the_busy_process_is_ended(monkeypatch):
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *given, **named: started.append(popen(*given, **named)) or started[-1]
    )
    try:
        with busy.busy_process(60):
            assert started[0].poll() is None
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert started[0].poll() is not None
