"""How many processors there are: by affinity, and by control groups, in a folder that stands for the file system."""

import math
import os
import subprocess
import sys

import pytest

from numbanorm.cpu import processors, threads


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A file system without control groups, on eight processors."""
    monkeypatch.setattr(processors, "_allowed", lambda: 8)
    return tmp_path


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture(autouse=True)
def unknown():
    processors.available.cache_clear()
    yield
    processors.available.cache_clear()


V2, CPU, ACCT = "sys/fs/cgroup", "sys/fs/cgroup/cpu", "sys/fs/cgroup/cpu,cpuacct"
V1_LINES = "12:memory:/m\n3:cpu,cpuacct:{}\n1:name=systemd:/s\n0::/s\n"


def v1(quota, period="100000", at=CPU):
    return {f"{at}/cpu.cfs_quota_us": quota, f"{at}/cpu.cfs_period_us": period}


CASES = {
    "no control groups": ({}, 8),
    "no limit": ({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "max 100000\n"}, 8),
    "two": ({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "200000 100000\n"}, 2),
    "one and a half": ({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "150000 100000\n"}, 2),
    "a tenth": ({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "10000 100000\n"}, 1),
    "more than there are": ({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "6400000 100000\n"}, 8),
    "another period": ({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "30000 10000\n"}, 3),
    "nested": (
        {"proc/self/cgroup": "0::/a/b\n", f"{V2}/a/cpu.max": "200000 100000\n", f"{V2}/a/b/cpu.max": "max 100000\n"},
        2,
    ),
    "nested, the innermost is less": (
        {"proc/self/cgroup": "0::/a/b\n", f"{V2}/a/cpu.max": "400000 100000\n", f"{V2}/a/b/cpu.max": "300000 100000\n"},
        3,
    ),
    "another's group": ({"proc/self/cgroup": "0::/a\n", f"{V2}/b/cpu.max": "200000 100000\n"}, 8),
    "a path of the host": ({"proc/self/cgroup": "0::/docker/1234\n", f"{V2}/cpu.max": "200000 100000\n"}, 2),
    "a path above the container": ({"proc/self/cgroup": "0::/../a\n", f"{V2}/a/cpu.max": "200000 100000\n"}, 2),
    "a colon in the path": ({"proc/self/cgroup": "0::/a:b\n", f"{V2}/a:b/cpu.max": "200000 100000\n"}, 2),
    "version 1": ({"proc/self/cgroup": V1_LINES.format("/"), **v1("250000\n")}, 3),
    "version 1, no limit": ({"proc/self/cgroup": V1_LINES.format("/"), **v1("-1\n")}, 8),
    "version 1, nested": ({"proc/self/cgroup": V1_LINES.format("/a/b"), **v1("200000", at=f"{CPU}/a")}, 2),
    "version 1, both names": ({"proc/self/cgroup": V1_LINES.format("/a"), **v1("200000", at=f"{ACCT}/a")}, 2),
    "version 1, a path of the host": ({"proc/self/cgroup": V1_LINES.format("/docker/1"), **v1("200000")}, 2),
    "version 1, no period": ({"proc/self/cgroup": V1_LINES.format("/"), f"{CPU}/cpu.cfs_quota_us": "200000"}, 8),
    "version 1, a period of 0": ({"proc/self/cgroup": V1_LINES.format("/"), **v1("200000", "0")}, 8),
    "both versions": (
        {"proc/self/cgroup": V1_LINES.format("/"), **v1("400000"), f"{V2}/unified/s/cpu.max": "300000 100000"},
        3,
    ),
    "garbage in the list": ({"proc/self/cgroup": "0\n\n:\n0::/\n", f"{V2}/cpu.max": "200000 100000"}, 2),
    "garbage in the limit": ({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "two of them"}, 8),
    "an empty limit": ({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": ""}, 8),
    "a negative limit": ({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "-5 100000"}, 8),
    "a limit of 0": ({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "0 100000"}, 8),
}


@pytest.mark.parametrize("name", CASES)
def test_quota(name, root):
    files, right = CASES[name]
    write(root, files)
    assert processors.available(root) == right


def test_bytes_that_are_no_text(root):
    write(root, {"proc/self/cgroup": "0::/\n"})
    (root / V2).mkdir(parents=True)
    (root / V2 / "cpu.max").write_bytes(b"\xff\xfe\x00")
    assert processors.available(root) == 8


def test_a_folder_in_the_place_of_a_file(root):
    (root / "proc/self/cgroup").mkdir(parents=True)
    assert processors.quota(root) == math.inf


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs an affinity to set")
def test_affinity(tmp_path):
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert processors.available(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, before)


def test_python_may_know_better(tmp_path, monkeypatch):
    """Since 3.13 it heeds PYTHON_CPU_COUNT too."""
    monkeypatch.setattr(os, "process_cpu_count", lambda: 3, raising=False)
    assert processors.available(tmp_path) == 3


@pytest.mark.parametrize("count", [None, 0])
def test_nobody_knows(count, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "process_cpu_count", lambda: count, raising=False)
    assert processors.available(tmp_path) == 1


@pytest.mark.parametrize(("of_numba", "expected"), [(5, 5), (8, 5), (2, 2)])
def test_it_is_the_number_of_threads(of_numba, expected, monkeypatch):
    monkeypatch.setattr(processors, "available", lambda: 5)
    monkeypatch.setattr(processors, "of_numba", lambda: of_numba)
    monkeypatch.setattr(threads, "_num_threads", None)
    assert threads.get_num_threads() == expected


@pytest.mark.parametrize(("asked", "holds"), [(1, 1), (3, 3), (4, 3), (100, 3), (10**9, 3)])
def test_the_number_of_threads_says_what_holds(asked, holds, monkeypatch):
    """No more than Numba may have: these run, and these it tells."""
    monkeypatch.setattr(threads, "_num_threads", None)
    monkeypatch.setattr("numba.core.config.NUMBA_NUM_THREADS", 3)
    threads.set_num_threads(asked)
    assert threads.get_num_threads() == holds


@pytest.mark.parametrize("said", ["", "1", "3", "nonsense"])
def test_how_many_threads_numba_may_have_is_known_without_it(said):
    """And later, when it is there, it is the same number."""
    program = """
import sys
import numbanorm as nbn
nbn.set_num_threads(10_000)
assert "numba" not in sys.modules
before = nbn.get_num_threads()
try:
    import numba
except ValueError:  # what the variable says is nonsense
    sys.exit(0)
nbn.set_num_threads(10_000)
assert before == nbn.get_num_threads() == numba.config.NUMBA_NUM_THREADS, before
"""
    env = {"NUMBA_NUM_THREADS": said} if said else {}
    without = {name: value for name, value in os.environ.items() if name != "NUMBA_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", program], env=without | env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
