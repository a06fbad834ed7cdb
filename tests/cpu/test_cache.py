"""Kernels on disk: found again by the next process, never stale, and never a reason to fail.

Each case is a process of its own that calls the smallest kernel, `processes.MERGE`.
"""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from everyday import every
from processes import HOME, MERGE, TIMEOUT, edit, files, package, run_python

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")


def call(folder=None, **env):
    """What a fresh process computes (5.0 is right), and whether it found the kernel."""
    if folder is not None:
        env["NUMBANORM_CACHE_DIR"] = str(folder)
    return run_python(MERGE, **env)


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """A folder in which the kernel is kept; tests copy it."""
    folder = tmp_path_factory.mktemp("cache")
    assert call(folder) == "5.0 miss"
    return folder


@pytest.fixture
def cache(warm, tmp_path):
    return shutil.copytree(warm, tmp_path / "cache")


def test_the_next_process_finds_the_kernel(cache):
    kept = files(cache)
    assert {path.suffix for path in kept} == {".nbc"}
    assert call(cache) == "5.0 hit"
    assert files(cache) == kept


def test_another_copy_of_the_same_sources_does_too(cache, tmp_path):
    package(tmp_path)
    assert call(cache, PYTHONPATH=str(tmp_path)) == "5.0 hit"


def test_an_edited_kernel_is_compiled_again(cache, tmp_path):
    """The edit is in a callee, in another file than the kernel: what Numba's own cache would not see."""
    sums = package(tmp_path) / "maths" / "accumulators.py"
    edit(sums, "where(delta - delta == 0.0, mean_a + delta * share_b,", "where(True, mean_a + delta * share_b + 100.0,")
    assert call(cache, PYTHONPATH=str(tmp_path)) == "105.0 miss"
    assert call(cache, PYTHONPATH=str(tmp_path)) == "105.0 hit"
    assert call(cache) == "5.0 hit"


# Numbers that are baked into machine code, here of lanes and of the table, and thresholds that are not.
BAKED = {
    "a constant": ("cpu/kernels/constants.py", "LANES = 16", "LANES = 8"),
    "room in the table": ("walk/slots.py", "NUM_SETTINGS = 8", "NUM_SETTINGS = 9"),
}
THRESHOLDS = {
    "a threshold": ("cpu/tuning.py", "serial_work=49152", "serial_work=0"),
    "the choice": ("cpu/plan.py", "chosen.tasks < 0.8 * rounds * threads", "chosen.tasks < rounds * threads"),
    "a norm": ("norms/group.py", "def group_norm(", "def groups_norm(x):\n    pass\n\n\ndef group_norm("),
}


@pytest.mark.parametrize("name", BAKED)
def test_an_edited_constant_is_compiled_again(name, cache, tmp_path):
    """With another table, the old kernel would look for its loops in the wrong place."""
    path, old, new = BAKED[name]
    edit(package(tmp_path) / path, old, new)
    assert call(cache, PYTHONPATH=str(tmp_path)) == "5.0 miss"
    assert call(cache, PYTHONPATH=str(tmp_path)) == "5.0 hit"
    assert call(cache) == "5.0 hit"


@pytest.mark.parametrize("name", THRESHOLDS)
def test_an_edited_threshold_is_not(name, cache, tmp_path):
    path, old, new = THRESHOLDS[name]
    edit(package(tmp_path) / path, old, new)
    kept = files(cache)
    assert call(cache, PYTHONPATH=str(tmp_path)) == "5.0 hit"
    assert files(cache) == kept


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
def test_the_folder_of_the_user(tmp_path):
    env = {"NUMBANORM_CACHE_DIR": "", "XDG_CACHE_HOME": str(tmp_path / "xdg"), "HOME": str(tmp_path / "home")}
    assert call(**env) == "5.0 miss"
    assert files(tmp_path / "xdg" / "numbanorm")
    env["XDG_CACHE_HOME"] = ""
    assert call(**env) == "5.0 miss"
    made = tmp_path / "home" / ".cache" / "numbanorm"
    assert files(made)
    for path in made.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o022 == 0  # what lies there is executed


@posix
@pytest.mark.parametrize("env", ["NUMBANORM_CACHE_DIR", "XDG_CACHE_HOME", "HOME"])
def test_a_folder_that_cannot_be_made(env, tmp_path):
    """There is a file in its place."""
    (tmp_path / "file").touch()
    empty = {"NUMBANORM_CACHE_DIR": "", "XDG_CACHE_HOME": "", "HOME": str(tmp_path)}
    assert call(**{**empty, env: str(tmp_path / "file")}) == "5.0 miss"


def test_no_home_at_all():
    homeless = """
from pathlib import Path

def home():
    raise RuntimeError("Could not determine home directory.")

Path.home = home
"""
    empty = {"NUMBANORM_CACHE_DIR": "", "XDG_CACHE_HOME": "", "LOCALAPPDATA": ""}
    assert run_python(homeless + MERGE, **empty) == "5.0 miss"


# damage ---------------------------------------------------------------------------------------------------------------

DAMAGE = {
    "garbage": lambda old: b"garbage",
    "truncated": lambda old: old[:-20],
    "cut in its key": lambda old: old[:40],
    "empty": lambda old: b"",
    "with a hole": lambda old: old[:-20000] + bytes(10000) + old[-10000:],  # in machine code: it would crash
    "of another key": lambda old: old.replace(b"numbanorm.cpu", b"numbanorm.gpu", 1),
}


@pytest.mark.parametrize("damage", every(DAMAGE, ["truncated", "with a hole", "of another key"]))
def test_damaged_files_are_replaced(damage, cache):
    for path in files(cache):
        path.write_bytes(DAMAGE[damage](path.read_bytes()))
    assert call(cache) == "5.0 miss"
    assert call(cache) == "5.0 hit"


def kernels(folder):
    """Files of the merge, of whatever variants."""
    return {path for path in files(folder) if path.name.startswith("rows.merge-")}


def test_a_file_of_another_kernel(cache):
    """As if both had one digest: the entry is found, the kernel is compiled."""
    (merge,) = kernels(cache)
    run_python(compiling("float32"), NUMBANORM_CACHE_DIR=str(cache))
    (other,) = kernels(cache) - {merge}
    shutil.copy(other, merge)
    assert call(cache) == "5.0 hit miss"
    assert call(cache) == "5.0 hit"


def test_something_in_the_way(cache):
    for path in files(cache):
        path.unlink()
        path.mkdir()
    assert call(cache) == "5.0 miss"
    assert not files(cache)


def test_files_removed_under_a_process(tmp_path):
    """Between finding its folder and keeping a kernel in it."""
    removed = "from numbanorm.engine import disk\nimport shutil\nshutil.rmtree(disk.folder('cpu').parent)\n"
    script = removed + MERGE
    assert run_python(script, NUMBANORM_CACHE_DIR=str(tmp_path)) == "5.0 miss"


# several at once ------------------------------------------------------------------------------------------------------


def compiling(*dtypes):
    """A program that merges states for arrays of these dtypes, and says which kernels it has compiled."""
    return f"""
from numbanorm.ahead import variants
from numbanorm.cpu import launcher
from numbanorm.cpu.kernels import rows

needed = [v for v in variants({dtypes}) if (v.operation, v.family) == ("merge", "rows") and v.kinds.x != "none"]
assert len(needed) == {len(dtypes)}
for variant in needed:
    launcher.address_of(variant)
print(len(rows.merge.overloads), len(rows.merge.stats.cache_misses))
"""


def test_processes_at_once(tmp_path):
    """All of them find one empty folder. One compiles the kernel, and one the entry; the others wait for them."""
    env = {"NUMBANORM_CACHE_DIR": str(tmp_path / "cache")}
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda code: run_python(code, **env), [f"{MERGE}\nprint(misses)"] * 4))
    assert {result.split()[0] for result in results} == {"5.0"}
    if sys.platform != "win32":
        assert sum(int(result.split()[-1]) for result in results) == 2
    assert call(tmp_path / "cache") == "5.0 hit"


def test_processes_at_once_with_different_dtypes(tmp_path):
    dtypes = ["float32", "float64", "float16", "int32"]
    env = {"NUMBANORM_CACHE_DIR": str(tmp_path / "cache")}
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda dtype: run_python(compiling(dtype), **env), dtypes)) == ["1 1"] * 4
    assert run_python(compiling(*dtypes), **env) == "4 0"


# A program pauses before it first puts a file in its place, until it is told to go on.
PAUSED = """
import os
import numbanorm.cpu.cache

def replace(*paths, then=os.replace):
    os.replace = then
    print("here", flush=True)
    input()
    then(*paths)

os.replace = replace
"""
# A program, of which {other!r} is another, is ahead of it when the first file is put in place, and behind ever after.
AROUND = """
import os, subprocess, sys
import numbanorm.cpu.cache

def replace(*paths, then=os.replace):
    os.replace = then
    pipes = {{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}}
    with subprocess.Popen([sys.executable, "-P", "-c", {other!r}], **pipes) as process:
        assert process.stdout.readline() == "here\\n"
        then(*paths)
        process.communicate("go on\\n")
        assert process.returncode == 0

os.replace = replace
"""


def test_two_kernels_of_a_function_at_once(tmp_path):
    """Both processes have looked at the empty folder when the first writes; the second writes before it is done."""
    env = {"NUMBANORM_CACHE_DIR": str(tmp_path / "cache")}
    around = AROUND.format(other=PAUSED + compiling("float32"))
    assert run_python(around + MERGE, **env) == "5.0 miss"
    assert run_python(compiling("float32"), **env) == "1 0"
    assert run_python(MERGE, **env) == "5.0 hit"


# one compiles, the others wait ----------------------------------------------------------------------------------------

# A program says when it begins to wait for another. It waits for as long as it takes, unless a test says otherwise.
WAITS = """
from numbanorm.engine import claims

def take(claim, waiting, then=claims._Claim.take):
    then(claim, lambda: print("waits", flush=True))

claims._Claim.take = take
claims.WAIT = 1e9
"""


@contextmanager
def running(code, folder):
    """A program that is talked to. Whatever becomes of the test, it ends."""
    env = {**os.environ, "PYTHONPATH": HOME, "NUMBANORM_CACHE_DIR": str(folder)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-P", "-c", code], env=env, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def compiles(tmp_path):
    """A process that compiles a kernel, and is about to put it in its place; and its folder."""
    with running(PAUSED + compiling("float32"), tmp_path) as process:
        assert process.stdout.readline() == "here\n"
        yield process, tmp_path


def go_on(process):
    """Let a program that waits for a line end, and give the last that it says."""
    output, _ = process.communicate("go on\n", timeout=TIMEOUT)
    assert process.returncode == 0
    return output.splitlines()[-1]


def claimed(folder):
    return [path for path in files(folder) if path.suffix == ".lock"]


@posix
def test_a_process_waits_for_the_one_that_compiles(compiles):
    first, folder = compiles
    with running(WAITS + compiling("float32"), folder) as second:
        assert second.stdout.readline() == "waits\n"
        assert len(claimed(folder)) == 1
        assert go_on(first) == "1 1"
        assert go_on(second) == "1 0"
    assert not claimed(folder)


@posix
def test_nobody_waits_for_another_kernel(compiles):
    first, folder = compiles
    assert run_python(WAITS + compiling("float64"), NUMBANORM_CACHE_DIR=str(folder)) == "1 1"
    assert go_on(first) == "1 1"


@posix
def test_nobody_waits_for_a_process_that_was_killed(compiles):
    first, folder = compiles
    with running(WAITS + compiling("float32"), folder) as second:
        assert second.stdout.readline() == "waits\n"
        first.kill()
        assert go_on(second) == "1 1"
    assert not claimed(folder)


@posix
def test_what_a_killed_process_has_left_is_taken_over(compiles):
    first, folder = compiles
    first.kill()
    first.wait()
    assert len(claimed(folder)) == 1
    assert run_python(WAITS + compiling("float32"), NUMBANORM_CACHE_DIR=str(folder)) == "1 1"
    assert not claimed(folder)


@posix
def test_nobody_waits_without_end(compiles):
    first, folder = compiles
    code = f"{WAITS}claims.WAIT = 0.1\n{compiling('float32')}"
    assert run_python(code, NUMBANORM_CACHE_DIR=str(folder)) == "waits\n1 1"
    assert len(claimed(folder)) == 1, "it is the other's"
    assert go_on(first) == "1 1"
    assert not claimed(folder)


# A program is interrupted while it waits. Then nothing is locked, and it says so; told to go on, it calls again.
INTERRUPTED = f"""
import signal
from numba.core.compiler_lock import global_compiler_lock
from numbanorm.ahead import variants
from numbanorm.cpu import launcher
from numbanorm.cpu.kernels import rows
{WAITS}
(variant,) = [v for v in variants("float32") if (v.operation, v.family, v.kinds.x) == ("merge", "rows", "f4")]
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    launcher.address_of(variant)
except KeyboardInterrupt:
    assert global_compiler_lock._lock.acquire(timeout=60), "the wait goes on"
    global_compiler_lock._lock.release()
    assert not claims._claims and not rows.merge.overloads
    print("interrupted", flush=True)
input()
launcher.address_of(variant)
print(len(rows.merge.overloads), sum(rows.merge.stats.cache_misses.values()))
"""


@posix
def test_an_interrupt_ends_the_wait(compiles):
    first, folder = compiles
    with running(INTERRUPTED, folder) as second:
        assert second.stdout.readline() == "waits\n"
        second.send_signal(signal.SIGINT)
        assert second.stdout.readline() == "interrupted\n"
        assert go_on(first) == "1 1"
        assert go_on(second) == "1 0"


# Systems and folders without such locks, made from this one.
NO_LOCKS = {
    "no module": "import sys; sys.modules['fcntl'] = None",
    "refused": """
import errno, fcntl

def flock(file, operation):
    raise OSError(errno.ENOLCK, "No locks available")

fcntl.flock = flock
""",
}


@posix
@pytest.mark.parametrize("case", NO_LOCKS)
def test_without_locks_every_process_compiles(case, compiles):
    first, folder = compiles
    code = f"import numbanorm.cpu.compiled\n{NO_LOCKS[case]}\n{WAITS}{compiling('float32')}"
    assert run_python(code, NUMBANORM_CACHE_DIR=str(folder)) == "1 1"
    assert go_on(first) == "1 1"
    assert not claimed(folder)


# whom it trusts -------------------------------------------------------------------------------------------------------


# A process becomes one of another user, who may not be able to read its packages: first it loads them, and the stamp.
NOBODY = """
import os
import numba
from numbanorm.engine import disk
from numbanorm.cpu import compiled, launcher, plan

numba.njit(lambda x: x + 1.0)(1.0)
disk.stamp("cpu")
os.setgid(65534)
os.setuid(65534)
os.environ["NUMBANORM_CACHE_DIR"] = {!r}
disk.folder.cache_clear()
"""


@pytest.fixture
def read_only(warm, tmp_path):
    """A warm and an empty folder, and how to run a program that cannot write them: if by root, as another user."""
    with tempfile.TemporaryDirectory() as home:
        folders = shutil.copytree(warm, Path(home) / "warm"), Path(home) / "empty"
        folders[1].mkdir()
        if os.getuid() == 0:
            for path in (Path(home), *folders):
                path.chmod(0o755)
            yield (
                *folders,
                lambda code, folder: run_python(NOBODY.format(str(folder)) + code, NUMBANORM_CACHE_DIR=str(tmp_path)),
            )
        else:
            inside = [path for folder in folders for path in (folder, *folder.rglob("*")) if path.is_dir()]
            for path in inside:
                path.chmod(0o500)
            yield *folders, lambda code, folder: run_python(code, NUMBANORM_CACHE_DIR=str(folder))
            for path in inside:
                path.chmod(0o700)


@posix
def test_a_folder_that_can_only_be_read(read_only):
    warm, _, run = read_only
    kept = files(warm)
    assert run(MERGE + compiling("float32"), warm) == "5.0 hit\n2 1"
    assert files(warm) == kept


@posix
def test_an_empty_folder_that_can_only_be_read(read_only):
    _, empty, run = read_only
    assert run(MERGE + "\nfrom numbanorm.engine.disk import folder\nprint(folder('cpu'))", empty) == "5.0 miss\nNone"
    assert not list(empty.iterdir())


@posix
@pytest.mark.parametrize("mode", [0o770, 0o757])
def test_a_folder_that_others_can_write(mode, cache):
    (path,) = cache.iterdir()
    path.chmod(mode)
    kept = files(cache)
    assert call(cache) == "5.0 miss"
    assert files(cache) == kept


@posix
@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_file_that_others_can_write(mode, cache):
    for path in files(cache):
        path.chmod(mode)
    assert call(cache) == "5.0 miss"
    assert call(cache) == "5.0 hit"


@posix
def test_what_belongs_to_others(cache):
    """The folder, or a file in a folder that may have been another's a moment ago."""
    if os.getuid() != 0:
        pytest.skip("only root can give files away")
    (path,), (kernel,) = cache.iterdir(), kernels(cache)
    os.chown(kernel, 65534, 65534)
    assert call(cache) == "5.0 hit miss"
    assert call(cache) == "5.0 hit"
    os.chown(path, 65534, 65534)
    assert call(cache) == "5.0 miss"


@posix
def test_nobody_else_can_write_what_is_made(tmp_path):
    """Even if files are for all to write by default. All can read: an image may be filled by one user for others."""
    assert run_python(f"import os; os.umask(0)\n{MERGE}", NUMBANORM_CACHE_DIR=str(tmp_path)) == "5.0 miss"
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o755}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files(tmp_path)} == {0o644}


# other ways to run ----------------------------------------------------------------------------------------------------


def test_without_optimization_no_kernel_is_kept(tmp_path):
    """Numba leaves addresses of the process in such code; its own cache warns of that. The entry has none."""
    code = "import warnings; warnings.simplefilter('error')\n" + MERGE
    assert run_python(code, NUMBANORM_CACHE_DIR=str(tmp_path), NUMBA_OPT="0") == "5.0 miss"
    assert not kernels(tmp_path)


def test_a_numba_without_such_a_cache(tmp_path):
    """The interface is semi-private: if it changes, kernels are compiled every time."""
    script = """
from numba.core import caching, dispatcher
from numba.experimental import function_type

del caching.NullCache
"""
    assert run_python(script + MERGE, NUMBANORM_CACHE_DIR=str(tmp_path)) == "5.0 miss"
    assert not files(tmp_path)
