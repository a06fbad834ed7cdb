"""Cases of threads, forks and interrupts, each a process of its own, and who runs them.

`test_processes.py` runs every case on every threading layer, with torch and without. So does this file as a script:
it prints the table of docs/processes.md.

    PYTHONPATH=. python tests/processes.py
"""

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numbanorm as nbn

LAYERS = ["default", "omp", "workqueue", "tbb"]
TIMEOUT = 90  # seconds; most cases take one
PATIENCE = 600  # for what compiles first, perhaps beside many others
HOME = str(Path(nbn.__file__).parents[1])
HAS_TORCH = find_spec("torch") is not None

# x is large enough for all threads: rows in one pass; columns in parts, merged; one group in parts.
PREAMBLE = """
import ctypes, hashlib, multiprocessing, os, signal, sys, threading, time
import numpy as np

THREADS = (1, 2, 3, 4, 7)
x = np.random.default_rng(0).standard_normal((385, 257), np.float32)

def sha(*arrays):
    return hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()

def digest():
    import numbanorm as nbn
    return sha(nbn.normalize(x, axis=1), nbn.normalize(x, axis=0), nbn.moments(x).m2)

def check():
    assert digest() == expected

def start(work, *arguments):
    pid = os.fork()
    if pid == 0:
        try:
            work(*arguments)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    return pid

def end(pid):
    status = os.waitpid(pid, 0)[1]
    assert status == 0, f"the child ended with {status}"

def in_child(work, *arguments):
    end(start(work, *arguments))

def in_threads(work, n=4):
    errors, barrier = [], threading.Barrier(n)

    def guarded():
        barrier.wait()
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded) for _ in range(n)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not errors, errors

def often(work=check, times=5):
    for _ in range(times):
        work()

class Beside:
    '''Do some work again and again in other threads.'''

    def __init__(self, work, n=1):
        self.stop, self.errors, self.work = threading.Event(), [], work
        self.threads = [threading.Thread(target=self.run) for _ in range(n)]

    def run(self):
        try:
            while not self.stop.is_set():
                self.work()
        except BaseException as error:
            self.errors.append(error)

    def __enter__(self):
        [t.start() for t in self.threads]

    def __exit__(self, *error):
        self.stop.set()
        [t.join() for t in self.threads]
        assert not self.errors, self.errors

def helpers():
    from numbanorm.cpu import launcher
    return launcher._process.helpers
"""
TORCH_FIRST = """
import torch
torch.ones(1_000_000).add_(1).sum()
"""
EXPECTED = "import numbanorm; numbanorm.set_num_threads(1); print(digest())"


class Case(NamedTuple):
    """What a process does."""

    title: str  # in the documentation
    code: str
    cold: bool = False  # it starts with an empty cache folder
    posix: bool = False  # it forks, or is sent a signal
    torch: bool = False  # it needs torch


_OTHER_LIBRARY = """
import numba

@numba.njit(parallel=True)
def other(a):
    total = 0.0
    for i in numba.prange(a.size):
        total += a[i]
    return total

ones = np.ones(50_000)

def others():
    assert other(ones) == 50_000
"""

# Interrupts come at any moment of many calls, and once more while the first is dealt with. They are raised within
# the library only. Afterwards nobody writes to the output, and results are right.
_INTERRUPTED = """
import random
import numbanorm as nbn

big = np.random.default_rng(1).standard_normal((4096, 1024), np.float32)
out = np.empty_like(big)

def handler(signum, frame):
    while frame is not None:
        if "numbanorm" in frame.f_code.co_filename:
            raise KeyboardInterrupt
        frame = frame.f_back

def send():
    for pause in random.uniform(0.0, 0.01), 0.0001, 0.001:
        time.sleep(pause)
        os.kill(os.getpid(), signal.SIGINT)

def interrupted():
    nbn.normalize(big, axis=1, out=out)
    right = sha(out)
    signal.signal(signal.SIGINT, handler)
    random.seed(0)
    seen = 0
    for _ in range(30):
        sender = threading.Thread(target=send)
        sender.start()
        try:
            while sender.is_alive():
                nbn.normalize(big, axis=1, out=out)
        except KeyboardInterrupt:
            seen += 1
            out.fill(7)
            time.sleep(0.003)
            assert (out == 7).all(), "somebody still writes"
        sender.join()
        nbn.normalize(big, axis=1, out=out)
        assert sha(out) == right
    assert seen > 15
    check()
"""

CASES = {
    "any_number_of_threads": Case(
        "1, 2, 3, 4 and 7 threads, again and again",
        """
os.environ["NUMBA_NUM_THREADS"] = "7"
import numbanorm as nbn
for n in THREADS * 2:
    nbn.set_num_threads(n)
    often(times=3)
import numba
if layer != "default":
    assert numba.threading_layer() == layer
assert bool(helpers()) == (numba.threading_layer() == "workqueue")
""",
    ),
    "threads_at_once": Case("many Python threads at once", "in_threads(lambda: often(times=10), 8)"),
    "threads_at_once_cold": Case(
        "the same, and all must be compiled first",
        """
import numbanorm as nbn
in_threads(lambda: nbn.moments(x))
m2 = nbn.moments(x).m2
nbn.set_num_threads(1)
assert nbn.moments(x).m2.tobytes() == m2.tobytes()
""",
        cold=True,
    ),
    "fork_after_use": Case(
        "fork after use",
        """
def child():
    assert not helpers()
    check()
    assert helpers()
    check()

check()
in_child(child)
in_child(child)
check()
""",
        posix=True,
    ),
    "fork_before_first_use": Case(
        "fork before the first use, with Numba imported",
        """
import numbanorm.cpu.compiled
in_child(check)
check()
in_child(check)
""",
        posix=True,
    ),
    "fork_before_import": Case(
        "fork before the import",
        "in_child(check); check()",  # the child cannot have been told of the fork
        posix=True,
    ),
    "grandchildren": Case(
        "forks of forks, used or not",
        """
def family():
    check()
    in_child(check)
    in_child(in_child, check)

in_child(in_child, check)
check()
in_child(family)
in_child(in_child, in_child, check)
check()
""",
        posix=True,
    ),
    "fork_from_a_thread": Case(
        "fork from a thread",
        """
in_threads(lambda: in_child(check), 1)
check()
in_threads(lambda: (check(), in_child(check), check()), 1)
in_threads(lambda: in_child(check), 3)
check()
""",
        posix=True,
    ),
    "threads_in_a_child": Case(
        "many threads in a forked child, first used there and before",
        """
in_child(in_threads, lambda: often(times=10))
check()
in_child(in_threads, lambda: often(times=10))
""",
        posix=True,
    ),
    "every_number_of_threads_in_a_child": Case(
        "1, 2, 3, 4 and 7 threads in a forked child",
        """
os.environ["NUMBA_NUM_THREADS"] = "7"
import numbanorm as nbn

def child():
    for n in THREADS:
        nbn.set_num_threads(n)
        often(times=3)

check()
in_child(child)
""",
        posix=True,
    ),
    "fork_beside_a_launching_thread": Case(
        "fork while another thread calls all the time",
        """
check()
with Beside(check):
    often(lambda: in_child(check))
""",
        posix=True,
    ),
    "fork_beside_the_first_call": Case(
        "fork while another thread makes the first call of all: imports, loads kernels, starts threads",
        """
import numbanorm
children = []
first = threading.Thread(target=check)
first.start()
while first.is_alive() and "numba.core.types.functions" not in sys.modules:  # which asks for a logger, as do later ones
    time.sleep(0.001)
while first.is_alive():
    children.append(start(check))
    time.sleep(0.04)
[end(child) for child in children]
assert children
check()
""",
        posix=True,
    ),
    "fork_beside_a_compiling_thread": Case(
        "fork while another thread compiles; the child compiles too",
        """
import numba
import numbanorm.cpu.compiled

def fresh():
    assert numba.njit(lambda a: a + 1)(1) == 2

def child():
    check()
    fresh()

fresh()
with Beside(fresh):
    for pause in range(5):
        time.sleep(0.02 * pause)
        in_child(child)
""",
        posix=True,
    ),
    "fork_beside_the_first_call_cold": Case(
        "fork while another thread compiles our kernels; the child calls",
        """
import numbanorm as nbn

def call():
    return nbn.moments(x).m2.tobytes()

def child():
    assert call() == right

right = []
first = threading.Thread(target=lambda: right.append(call()))
first.start()
children = []
for _ in range(3):
    time.sleep(0.5)
    children.append(start(call))
first.join()
[end(child) for child in children]
right = right[0]
in_child(child)
""",
        cold=True,
        posix=True,
    ),
    "pool_by_fork": Case(
        "`multiprocessing.Pool`, by fork",
        """
check()
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.starmap(digest, [()] * 6) == [expected] * 6
check()
""",
        posix=True,
    ),
    "pool_by_spawn": Case(
        "`multiprocessing.Pool`, by spawn",
        """
from functools import partial
import numbanorm as nbn
right = sha(nbn.normalize(x, axis=0))
with multiprocessing.get_context("spawn").Pool(2) as pool:
    assert {sha(y) for y in pool.map(partial(nbn.normalize, axis=0), [x] * 4)} == {right}
check()
""",
    ),
    "pool_by_forkserver": Case(
        "`multiprocessing.Pool`, by fork server",
        """
from functools import partial
import numbanorm as nbn
right = sha(nbn.normalize(x, axis=0))
with multiprocessing.get_context("forkserver").Pool(2) as pool:
    assert {sha(y) for y in pool.map(partial(nbn.normalize, axis=0), [x] * 4)} == {right}
check()
""",
        posix=True,
    ),
    "data_loader": Case(
        "torch's `DataLoader` with two workers, before and after use in the parent",
        """
import torch

class Dataset(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        check()
        return torch.from_numpy(nbn.normalize(x, axis=1))

def load():
    loader = torch.utils.data.DataLoader(Dataset(), num_workers=2, batch_size=2, multiprocessing_context="fork")
    assert {sha(image.numpy()) for batch in loader for image in batch} == {right}

import numbanorm as nbn
nbn.set_num_threads(1)
right = sha(nbn.normalize(x, axis=1))
nbn.set_num_threads(4)
load()
check()
load()
check()
""",
        posix=True,
        torch=True,
    ),
    "beside_another_library": Case(
        "beside another library's parallel Numba function, in other threads and in its own",
        _OTHER_LIBRARY
        + """
others()
alone = numba.threading_layer() == "workqueue"  # two threads of that library would end the process by themselves
with Beside(others, 1 if alone else 2):
    often(times=20)
    in_threads(lambda: often(times=10))
with Beside(check, 2):
    often(lambda: (others(), check()), 20)
in_threads(check if alone else lambda: often(lambda: (others(), check())))
others()
check()
""",
    ),
    "beside_another_library_first": Case(
        "the first call of all beside it",
        _OTHER_LIBRARY
        + """
others()
with Beside(others):
    in_threads(check)
""",
    ),
    "interrupt_serial": Case(
        "Ctrl-C during a call on one thread",
        _INTERRUPTED + "nbn.set_num_threads(1); interrupted()",
        posix=True,
    ),
    "interrupt_parallel": Case("Ctrl-C during a call on four threads", _INTERRUPTED + "interrupted()", posix=True),
    "interrupt_in_a_child": Case(
        "Ctrl-C during a call on four threads in a forked child", _INTERRUPTED + "in_child(interrupted)", posix=True
    ),
    "interrupt_while_compiling": Case(
        "Ctrl-C while the kernels are compiled",
        """
import numbanorm as nbn
import numbanorm.cpu.compiled
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, if a shell started all this in the background
threading.Timer(0.4, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    nbn.moments(x)
    time.sleep(9)
    assert False, "not interrupted"
except KeyboardInterrupt:
    pass
m2 = nbn.moments(x).m2
nbn.set_num_threads(1)
assert nbn.moments(x).m2.tobytes() == m2.tobytes()
""",
        cold=True,
        posix=True,
    ),
    "exit_beside_a_thread": Case(
        "the process ends while a daemon thread calls",
        """
check()
threading.Thread(target=often, args=(check, 10**9), daemon=True).start()
time.sleep(0.1)
""",
    ),
}


# The smallest kernel, the merge of two states, and the entry that calls it: for each of two groups. A program says what
# it gives for the second (5.0 is right), and whether both were found on disk.
MERGE = """
import numpy as np
from numbanorm.call import run
from numbanorm.cpu.engine import ENGINE
from numbanorm.cpu.kernels import frame, rows

states = [[1.0, 1.0], [1.0, 3.0]], [[0.0, 0.0], [2.0, 6.0]], [[0.0, 0.0], [0.0, 0.0]]
_, mean, _ = run.merge_last(ENGINE, tuple(map(np.array, states)))
hits, misses = (sum(sum(getattr(f.stats, name).values()) for f in (rows.merge, frame.serial)) for name in
    ("cache_hits", "cache_misses"))
assert hits + misses == 2
print(mean[1], *["hit"] * bool(hits), *["miss"] * bool(misses))
"""


def run_python(code: str, seconds: float = TIMEOUT, **env: str) -> str:
    """What a fresh process prints. It must end by itself, in time and without error."""
    env = {**os.environ, "PYTHONPATH": HOME, "NUMBA_NUM_THREADS": "4", "PYTHONFAULTHANDLER": "1", **env}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen([sys.executable, "-P", "-c", code], env=env, **pipes) as process:
        try:
            output, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            errors = _end_all(process)
            raise AssertionError(f"still runs after {seconds} s: {errors[-6000:]}") from None
    assert process.returncode == 0, f"ended with {process.returncode}: {errors[-6000:]}"
    return output.strip()


def package(home: Path) -> Path:
    """A copy of the package, to be imported from `home`."""
    source = Path(nbn.__file__).parent
    shutil.copytree(source, home / "numbanorm", ignore=shutil.ignore_patterns("__pycache__"))
    return home / "numbanorm"


def edit(path: Path, old: str, new: str) -> None:
    """Replace a piece of a file, which must be there once."""
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")


def files(folder: Path) -> dict[Path, int]:
    """When each file of a folder was written."""
    return {path: path.stat().st_mtime_ns for path in Path(folder).rglob("*") if path.is_file()}


def _end_all(process: subprocess.Popen) -> str:
    """End a process that hangs, and its forks; each says first where its threads are."""
    if not hasattr(os, "killpg"):
        process.kill()
        return process.communicate()[1]
    os.killpg(process.pid, signal.SIGABRT)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGKILL)
    return process.communicate()[1]


def environment(layer: str) -> dict[str, str]:
    """The variables that choose a layer. A TBB that pip installed lies where no loader looks."""
    if layer == "default":
        return {"NUMBA_THREADING_LAYER": "default"}
    env = {"NUMBA_THREADING_LAYER": layer}
    if layer == "tbb" and sys.platform == "linux" and _version("tbb"):
        libraries = [file.locate() for file in metadata.files("tbb") or () if file.name == "libtbb.so.12"]
        paths = [*(str(path.resolve().parent) for path in libraries), os.environ.get("LD_LIBRARY_PATH", "")]
        env["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, paths))
    return env


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


@cache
def has_layer(layer: str) -> bool:
    """Whether Numba can start this layer here."""
    start = "from numba.np.ufunc import parallel; parallel._launch_threads()"
    try:
        run_python(start, **environment(layer))
    except AssertionError:
        return False
    return True


@cache
def expected(home: str = HOME) -> str:
    """The digest that one thread computes, with the package that lies there."""
    return run_python(PREAMBLE + EXPECTED, PATIENCE, PYTHONPATH=home)


def unfit(case: Case, layer: str, torch: bool) -> str:
    """Why a case cannot run here; "" if it can."""
    if case.posix and not hasattr(os, "fork"):
        return "needs POSIX"
    if (torch or case.torch) and not HAS_TORCH:
        return "needs torch"
    return "" if has_layer(layer) else f"Numba has no {layer} here"


def run(case: Case, layer: str, torch: bool = False, home: str = HOME) -> None:
    """Run a case; AssertionError if it fails."""
    first = TORCH_FIRST if torch else ""
    code = f"{PREAMBLE}\nexpected, layer = {expected(home)!r}, {layer!r}\n{first}\n{case.code}"
    env = {**environment(layer), "PYTHONPATH": home}
    if case.cold:
        with tempfile.TemporaryDirectory() as folder:
            run_python(code, NUMBANORM_CACHE_DIR=folder, **env)
    else:
        run_python(code, **env)


def _cell(case: Case, layer: str, torch: bool, times: int) -> str:
    if unfit(case, layer, torch):
        return ""
    passed = 0
    for _ in range(times):
        try:
            run(case, layer, torch)
            passed += 1
        except AssertionError as error:
            print(f"{case.title} ({layer}, torch: {torch}): {error}", file=sys.stderr)
    return f"{passed}/{times}"


def main() -> None:
    """Print the table: how often each case passed."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--times", type=int, default=3, help="runs of each case")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    options = parser.parse_args()
    versions = [f"{name} {version}" for name in ("numba", "numpy", "torch", "tbb") if (version := _version(name))]
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors"
    print(f"{date.today()}: {system}, Python {platform.python_version()}, {', '.join(versions)}.\n")
    columns = [(layer, torch) for layer in LAYERS for torch in (False, True)]
    print("|", " | ".join(["case", *(f"{layer}, torch" if torch else layer for layer, torch in columns)]), "|")
    print("|:--|" + "--:|" * len(columns))
    expected()
    with ThreadPoolExecutor(options.jobs) as pool:
        for case in CASES.values():
            cells = pool.map(lambda column, case=case: _cell(case, *column, options.times), columns)
            print("|", " | ".join([case.title, *cells]), "|", flush=True)


if __name__ == "__main__":
    main()
