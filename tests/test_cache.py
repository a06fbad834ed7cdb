"""Kernels on disk: found again by the next process, never stale, and never a reason to fail.

Each case is a process of its own that calls the smallest kernel, the merge of two states.
"""

import os
import shutil
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from processes import run_python

import numbanorm as nbn

CALL = """
import numbanorm as nbn
from numbanorm.kernels.cpu import rows

m = nbn.Moments(1.0, 2.0, 0.0) + nbn.Moments(3.0, 6.0, 0.0)
stats = rows.merge.stats
print(float(m.mean), *("hit" for _ in stats.cache_hits), *("miss" for _ in stats.cache_misses))
"""
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")


def call(folder=None, **env):
    """What a fresh process computes (5.0 is right), and whether it found the kernel."""
    if folder is not None:
        env["NUMBANORM_CACHE_DIR"] = str(folder)
    return run_python(CALL, **env)


def files(folder):
    return {path: path.stat().st_mtime_ns for path in Path(folder).rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """A folder in which the kernel is kept; tests copy it."""
    folder = tmp_path_factory.mktemp("cache")
    assert call(folder) == "5.0 miss"
    return folder


@pytest.fixture
def cache(warm, tmp_path):
    return shutil.copytree(warm, tmp_path / "cache")


def package(home):
    """A copy of the package, to be imported from `home`."""
    source = Path(nbn.__file__).parent
    shutil.copytree(source, home / "numbanorm", ignore=shutil.ignore_patterns("__pycache__"))
    return home / "numbanorm"


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_the_next_process_finds_the_kernel(cache):
    kept = files(cache)
    assert {path.suffix for path in kept} == {".nbi", ".nbc"}
    assert call(cache) == "5.0 hit"
    assert files(cache) == kept


def test_another_copy_of_the_same_sources_does_too(cache, tmp_path):
    package(tmp_path)
    assert call(cache, PYTHONPATH=str(tmp_path)) == "5.0 hit"


def test_an_edited_kernel_is_compiled_again(cache, tmp_path):
    """The edit is in a callee, in another file than the kernel: what Numba's own cache would not see."""
    edit(package(tmp_path) / "kernels" / "welford.py", "mean_a + delta * share", "mean_a + delta * share + 100.0")
    assert call(cache, PYTHONPATH=str(tmp_path)) == "105.0 miss"
    assert call(cache, PYTHONPATH=str(tmp_path)) == "105.0 hit"
    assert call(cache) == "5.0 hit"


@pytest.mark.parametrize("name", ["schedule.py", "kernels/cpu/intrinsics.py"])
def test_any_edited_source_counts(name, cache, tmp_path):
    path = package(tmp_path) / name
    path.write_text(path.read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8")
    assert call(cache, PYTHONPATH=str(tmp_path)) == "5.0 miss"


def test_the_package_folder_is_left_alone(tmp_path):
    home = package(tmp_path)
    assert call(tmp_path / "cache", PYTHONPATH=str(tmp_path), PYTHONDONTWRITEBYTECODE="1") == "5.0 miss"
    assert {path.suffix for path in files(home)} <= {".py", ".typed"}


@posix
def test_a_read_only_package(cache, tmp_path):
    home = package(tmp_path)
    folders = [home, *(path for path in home.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o500)
    try:
        assert call(cache, PYTHONPATH=str(tmp_path)) == "5.0 hit"
        assert call("", PYTHONPATH=str(tmp_path), HOME=str(home / "py.typed"), XDG_CACHE_HOME="") == "5.0 miss"
    finally:
        for folder in folders:
            folder.chmod(0o700)


@posix
def test_a_folder_that_others_can_write(cache):
    """What lies there would be executed."""
    (folder,) = (path for path in cache.iterdir() if path.is_dir())
    for mode in (0o770, 0o707):
        folder.chmod(mode)
        assert call(cache) == "5.0 miss"
    folder.chmod(0o700)
    assert call(cache) == "5.0 hit"


@posix
def test_the_folder_of_the_user(tmp_path):
    env = {"NUMBANORM_CACHE_DIR": "", "XDG_CACHE_HOME": str(tmp_path / "xdg"), "HOME": str(tmp_path / "home")}
    assert call(**env) == "5.0 miss"
    assert files(tmp_path / "xdg" / "numbanorm")
    env["XDG_CACHE_HOME"] = ""
    assert call(**env) == "5.0 miss"
    made = tmp_path / "home" / ".cache" / "numbanorm"
    assert files(made)
    for path in made.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0  # what lies there is executed


@posix
@pytest.mark.parametrize("env", ["NUMBANORM_CACHE_DIR", "XDG_CACHE_HOME", "HOME"])
def test_a_folder_that_cannot_be_made(env, tmp_path):
    """There is a file in its place."""
    (tmp_path / "file").touch()
    empty = {"NUMBANORM_CACHE_DIR": "", "XDG_CACHE_HOME": "", "HOME": str(tmp_path)}
    assert call(**{**empty, env: str(tmp_path / "file")}) == "5.0 miss"


@posix
def test_a_folder_that_cannot_be_written(cache, tmp_path):
    for folder in (tmp_path / "empty", cache):
        folder.mkdir(exist_ok=True)
        for path in (*folder.rglob("*"), folder):
            path.chmod(0o500 if path.is_dir() else 0o400)
        if os.access(folder, os.W_OK):
            pytest.skip("this user may write everywhere")
        assert call(folder).startswith("5.0")


def test_no_home_at_all():
    homeless = """
from pathlib import Path

def home():
    raise RuntimeError("Could not determine home directory.")

Path.home = home
"""
    empty = {"NUMBANORM_CACHE_DIR": "", "XDG_CACHE_HOME": "", "LOCALAPPDATA": ""}
    assert run_python(homeless + CALL, **empty) == "5.0 miss"


DAMAGE = {"garbage": lambda old: b"garbage", "truncated": lambda old: old[:-20], "empty": lambda old: b""}


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files_are_replaced(damage, suffix, cache):
    for path in files(cache):
        if path.suffix == suffix:
            path.write_bytes(DAMAGE[damage](path.read_bytes()))
    assert call(cache) == "5.0 miss"
    assert call(cache) == "5.0 hit"


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
def test_something_in_the_way(suffix, cache):
    for path in files(cache):
        if path.suffix == suffix:
            path.unlink()
            path.mkdir()
    assert call(cache) == "5.0 miss"


def test_files_removed_under_a_process(tmp_path):
    """Between finding its folder and keeping a kernel in it."""
    script = f"from numbanorm.kernels.cpu import cache, rows\nimport shutil\nshutil.rmtree({str(tmp_path)!r})\n{CALL}"
    assert run_python(script, NUMBANORM_CACHE_DIR=str(tmp_path)) == "5.0 miss"


def test_processes_at_once(tmp_path):
    """All of them compile, and write to one empty folder."""
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(call, [tmp_path / "cache"] * 4))
    assert {result.split()[0] for result in results} == {"5.0"}
    assert call(tmp_path / "cache") == "5.0 hit"


def test_a_numba_without_such_a_cache(tmp_path):
    """The interface is semi-private: if it changes, kernels are compiled every time."""
    script = """
from numba.core import caching

class FunctionCache:
    def __init__(self, function):
        raise TypeError("another interface")

caching.FunctionCache = FunctionCache
"""
    assert run_python(script + CALL, NUMBANORM_CACHE_DIR=str(tmp_path)) == "5.0 miss"
