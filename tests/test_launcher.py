"""Threads, forks and threading layers, each in a process of its own: right results, the same bits, and no end.

What is guarded against is listed in the launcher's docstring: most of it ends or hangs a process.
"""

import importlib
import os
import signal
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import numbanorm as nbn
from numbanorm.schedule import SERIAL_ELEMENTS

MODULES = {"omp": "omppool", "tbb": "tbbpool", "workqueue": "workqueue"}
fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="needs torch")

# Large enough for all threads: rows in one pass; columns in parts, merged; one group in parts.
PREAMBLE = f"""
import hashlib, multiprocessing, os, sys, threading
import numpy as np

x = np.random.default_rng(0).standard_normal(({3 * SERIAL_ELEMENTS // 256 + 1}, 257), np.float32)

def digest():
    import numbanorm as nbn
    results = [nbn.normalize(x, axis=1), nbn.normalize(x, axis=0), nbn.moments(x).m2]
    return hashlib.sha256(b"".join(r.tobytes() for r in results)).hexdigest()

def in_child(work, *arguments):
    pid = os.fork()
    if pid == 0:
        try:
            work(*arguments)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    assert status == 0, f"the child ended with {{status}}"

def check():
    assert digest() == expected

def pool_threads():
    return [t for t in threading.enumerate() if t.name.startswith("numbanorm")]
"""


def run_python(code, **env):
    """What a fresh process prints. It must end by itself, in time and without error."""
    home = str(Path(nbn.__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": home, "NUMBA_NUM_THREADS": "4", **env}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen([sys.executable, "-P", "-c", code], env=env, **pipes) as process:
        try:
            output, errors = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            end_all(process)
            raise
    assert process.returncode == 0, f"ended with {process.returncode}: {errors[-2000:]}"
    return output.strip()


def end_all(process):
    """End a process that hangs, and its forks."""
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


@pytest.fixture(scope="module")
def expected():
    """The digest that one thread computes."""
    return run_python(PREAMBLE + "import numbanorm; numbanorm.set_num_threads(1); print(digest())")


@pytest.fixture(params=MODULES)
def run(request, expected):
    """Run code after the preamble, in a process with this threading layer."""
    try:
        importlib.import_module(f"numba.np.ufunc.{MODULES[request.param]}")
    except ImportError:
        pytest.skip(f"Numba has no {request.param} here")

    def run(code):
        code = f"{PREAMBLE}\nexpected, layer = {expected!r}, {request.param!r}\n{code}"
        return run_python(code, NUMBA_THREADING_LAYER=request.param)

    return run


def test_one_thread_after_another(run):
    """On Numba's threads where that is safe, else on the pool's."""
    run("""
check()
import numba
assert numba.threading_layer() == layer
assert bool(pool_threads()) == (layer == "workqueue")
""")


def test_threads_at_once(run):
    """Cold: the first calls of all, which compile and start everything."""
    run("""
barrier, wrong = threading.Barrier(4), []

def work():
    barrier.wait()
    wrong.extend(d for d in (digest() for _ in range(10)) if d != expected)

threads = [threading.Thread(target=work) for _ in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
assert not wrong
""")


@fork
def test_fork_after_use(run):
    run("""
def child():
    assert not pool_threads()
    check()
    assert pool_threads()
    in_child(check)
    check()

check()
in_child(child)
in_child(child)
check()
""")


@fork
def test_fork_before_first_use(run):
    run("""
import numbanorm.kernels.cpu.launcher

in_child(check)
in_child(in_child, check)
check()
in_child(check)
""")


@fork
def test_fork_before_import(run):
    """The child cannot have been told of the fork; the parent has used OpenMP all the same, if there is torch."""
    run("""
try:
    import torch
    torch.ones(1_000_000).add_(1).sum()
except ImportError:
    pass
in_child(check)
check()
""")


@fork
def test_forking_pools(run):
    run("""
check()
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.starmap(digest, [()] * 6) == [expected] * 6
check()
""")


@fork
def test_fork_beside_a_busy_thread(run):
    """The other thread launches all the time, and is missing in the child."""
    run("""
stop = threading.Event()

def work():
    while not stop.is_set():
        check()

check()
busy = threading.Thread(target=work)
busy.start()
try:
    for _ in range(5):
        in_child(check)
finally:
    stop.set()
    busy.join()
""")


@needs_torch
@pytest.mark.parametrize("first", ["torch", "numbanorm"])
def test_torch_keeps_its_threads(run, first):
    """Their number is left alone, whoever starts first, in this thread and in others."""
    run(f"""
if {first!r} == "numbanorm":
    check()
import torch
torch.set_num_threads(3)
torch.ones(1_000_000).add_(1).sum()
check()
assert torch.get_num_threads() == 3
seen = []
other = threading.Thread(target=lambda: seen.extend([torch.get_num_threads(), check(), torch.get_num_threads()]))
other.start()
other.join()
assert seen[0] == seen[2]
assert torch.get_num_threads() == 3
""")


@needs_torch
@fork
def test_fork_after_torch(run):
    run("""
import torch
torch.ones(1_000_000).add_(1).sum()
in_child(check)
check()
in_child(check)
""")


# in this process ------------------------------------------------------------------------------------------------------


@pytest.fixture
def forked(monkeypatch):
    """The launcher, as if this process were a fork."""
    from numbanorm.kernels.cpu import launcher

    process = launcher._Process(forked=True)
    monkeypatch.setattr(launcher, "_process", process)
    yield process
    if process.pool is not None:
        process.pool.shutdown()


def test_the_number_of_threads_holds_for_every_python_thread(threads):
    nbn.set_num_threads(2)
    seen = []
    other = threading.Thread(target=lambda: (seen.append(nbn.get_num_threads()), nbn.set_num_threads(3)))
    other.start()
    other.join()
    assert seen == [2]
    assert nbn.get_num_threads() == 3


def large(rng):
    return rng.standard_normal((8 * SERIAL_ELEMENTS // 256, 256)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_pool_is_as_large_as_it_may_be(count, forked, threads, rng):
    nbn.set_num_threads(count)
    nbn.normalize(large(rng), axis=1)
    assert forked.pool_size == count - 1
    assert forked.pool is None or len(forked.pool._threads) <= count - 1


@pytest.mark.parametrize("allowed", [0, 1, 2])
def test_no_more_threads_can_be_started(allowed, forked, threads, rng, monkeypatch):
    """All work is done once: in place, a second time would show. Nothing is left to be done after the call."""
    x = large(rng)
    nbn.set_num_threads(1)
    once = nbn.normalize(x, axis=1)
    start, started = threading.Thread.start, []

    def limited(thread):
        if len(started) == allowed:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    nbn.set_num_threads(4)
    nbn.normalize(x, axis=1, out=x)
    if forked.pool is not None:
        forked.pool.shutdown()
    np.testing.assert_array_equal(x, once)
