"""The launcher: torch's threads are left alone, the pool is no larger than it may be. See also test_processes.py."""

import _thread
import threading
import time
import weakref

import numpy as np
import processes
import pytest
from everyday import every
from numba.core.compiler_lock import global_compiler_lock

import numbanorm as nbn
from numbanorm.cpu import compiled, launcher
from numbanorm.cpu.tuning import TUNING
from numbanorm.engine.interface import Kinds, Variant


@pytest.mark.skipif(not processes.HAS_TORCH, reason="needs torch")
@pytest.mark.parametrize("layer", every(processes.LAYERS, ["omp", "workqueue"]))
@pytest.mark.parametrize("first", ["torch", "numbanorm"])
def test_torch_keeps_its_threads(first, layer):
    """Their number is left alone, whoever starts first, in this thread and in others."""
    code = f"""
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
"""
    case = processes.Case("", code)
    if reason := processes.unfit(case, layer, torch=True):
        pytest.skip(reason)
    processes.run(case, layer)


@pytest.mark.parametrize("layer", processes.LAYERS)
def test_the_start_method_of_processes_is_left_to_the_user(layer):
    code = """
import multiprocessing
check()
assert multiprocessing.get_start_method(allow_none=True) is None
multiprocessing.set_start_method("spawn")
"""
    if reason := processes.unfit(processes.Case("", code), layer, torch=False):
        pytest.skip(reason)
    processes.run(processes.Case("", code), layer)


# in this process ------------------------------------------------------------------------------------------------------


@pytest.fixture
def forked(monkeypatch):
    """The launcher, as if this process were a fork."""
    process = launcher._Process(forked=True)
    monkeypatch.setattr(launcher, "_process", process)
    return process


def test_the_number_of_threads_holds_for_every_python_thread(threads):
    nbn.set_num_threads(2)
    seen = []
    other = threading.Thread(target=lambda: (seen.append(nbn.get_num_threads()), nbn.set_num_threads(3)))
    other.start()
    other.join()
    assert seen == [2]
    assert nbn.get_num_threads() == 3


def large(rng):
    return rng.standard_normal((8 * TUNING.serial_work // 256, 256)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_pool_is_as_large_as_it_may_be(count, forked, threads, rng):
    nbn.set_num_threads(count)
    nbn.normalize(large(rng), axis=1)
    assert forked.helpers == count - 1


def test_no_more_threads_than_numba_may_have(forked, threads, rng, monkeypatch):
    monkeypatch.setattr("numba.core.config.NUMBA_NUM_THREADS", 2)
    nbn.set_num_threads(4)
    nbn.normalize(large(rng), axis=1)
    assert forked.helpers == 1


@pytest.mark.parametrize("allowed", [0, 1, 2])
def test_no_more_threads_can_be_started(allowed, forked, threads, rng, monkeypatch):
    """All work is done once: in place, a second time would show. Nothing is left to be done after the call."""
    x = large(rng)
    nbn.set_num_threads(1)
    once = nbn.normalize(x, axis=1)
    start = launcher.start_new_thread

    def limited(*arguments):
        if forked.helpers == allowed:
            raise RuntimeError("can't start new thread")
        return start(*arguments)

    monkeypatch.setattr(launcher, "start_new_thread", limited)
    nbn.set_num_threads(4)
    nbn.normalize(x, axis=1, out=x)
    np.testing.assert_array_equal(x, once)
    assert forked.helpers == allowed


def test_an_interrupt_at_every_step():
    """Of the thread that calls: it waits for what helpers have begun, and for nothing else."""
    processes.run_python("""
import sys, threading, time
from numbanorm.cpu import launcher

running, closed, wrong = [], True, []

def kernel(address, first, last):
    running.append(first)
    if threading.current_thread() is not threading.main_thread():
        time.sleep(0.002)
    if closed:
        wrong.append(step)
    running.remove(first)

def trace(frame, event, argument):
    global steps
    if frame.f_code.co_filename != launcher.__file__:
        return None
    frame.f_trace_opcodes = True
    if event == "opcode":
        steps += 1
        if steps == step:
            raise KeyboardInterrupt
    return trace

step = 0
while True:
    step += 1
    steps, closed, shares = 0, False, launcher._Shares(kernel, 0, 12, 4)
    sys.settrace(trace)
    try:
        shares.share_out()
        sys.settrace(None)
        break
    except KeyboardInterrupt:
        sys.settrace(None)
    closed = True
    assert not running and not wrong, (step, wrong)
time.sleep(0.1)
assert step > 100 and not wrong, (step, wrong)
""")


def test_errors_in_helpers_are_raised(forked):
    """No kernel raises, but memory may be short."""
    begun = threading.Barrier(2)

    def kernel(address, first, last):
        begun.wait()
        if threading.current_thread() is not threading.main_thread():
            raise MemoryError

    with pytest.raises(MemoryError):
        launcher._Shares(kernel, 0, 2, 2).share_out()
    assert forked.helpers == 1


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


def test_helpers_end_with_their_pool():
    pool = launcher._Process(forked=True)
    before = _thread._count()
    pool.call_helpers(int, 3)
    wait_for(lambda: _thread._count() == before + 3)
    del pool
    wait_for(lambda: _thread._count() == before)


def test_helpers_keep_no_arrays(forked, threads, rng):
    """Nor does a call that waits for helpers who are busy elsewhere."""
    nbn.set_num_threads(2)
    nbn.normalize(large(rng), axis=1)
    busy = threading.Event()
    forked.calls.put(busy.wait)
    x = large(rng)
    gone = weakref.ref(x)
    nbn.normalize(x, axis=1)
    del x
    assert gone() is None
    busy.set()


@pytest.mark.parametrize("available, awake", [(2, 3), (8, 4)])
def test_numba_wakes_no_more_threads_than_wanted_if_processors_are_few(available, awake):
    """It follows the affinity, not a quota. What the user told it is put back."""
    processes.run_python(f"""
import numpy as np, numba
from numbanorm.cpu import compiled, processors
import numbanorm as nbn

processors.available = lambda: {available}
compiled.layer_is_safe = lambda: True
compiled.parallel = lambda: lambda *arguments: seen.append(numba.get_num_threads())
seen = []
nbn.set_num_threads(3)
nbn.normalize(np.ones((2000, 100)), axis=1)
assert seen == [{awake}] and numba.get_num_threads() == 4
numba.set_num_threads(1)
nbn.normalize(np.ones((2000, 100)), axis=1)
assert seen == [{awake}, 1] and numba.get_num_threads() == 1
""")


# kernels by their addresses -------------------------------------------------------------------------------------------


class Recorder:
    """A stand-in for a compiled entry: the shares of its tasks, and what else it is handed."""

    def __init__(self):
        self.shares, self.others = [], set()

    def __call__(self, address, first, last, table, frame):
        self.shares.append((first, last))
        self.others.add((address, table, frame))


@pytest.mark.parametrize(("tasks", "count"), [(1, 4), (2, 4), (7, 3), (100, 4), (5, 1)])
def test_every_task_has_its_turn(tasks, count, forked, monkeypatch):
    run = Recorder()
    monkeypatch.setattr(launcher, "serial", lambda: run)
    launcher.launch(77, tasks, count, "table", "frame")
    firsts, lasts = zip(*sorted(run.shares), strict=True)
    assert (firsts[0], lasts[-1]) == (0, tasks)
    assert firsts[1:] == lasts[:-1]
    assert len(run.shares) == min(tasks, count)
    assert run.others == {(77, "table", "frame")}


def test_a_kernel_is_compiled_once():
    variant = Variant("merge", "rows", Kinds())
    address = launcher.address_of(variant)
    assert address == launcher.address_of(Variant("merge", "rows", Kinds())) != 0
    assert launcher.serial() is launcher.serial()


# compiling ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def where():
    """A stand-in for the compilation of a kernel: the thread that does it."""
    return compiled._undisturbed(threading.get_ident)


def test_the_main_thread_does_not_compile(where):
    """It may be interrupted."""
    assert where() != threading.get_ident()


def test_other_threads_do(where):
    seen = []
    other = threading.Thread(target=lambda: seen.extend([where(), threading.get_ident()]))
    other.start()
    other.join()
    assert seen[0] == seen[1]


def test_within_a_compilation_the_main_thread_compiles(where):
    """Any other thread would wait for it."""
    with global_compiler_lock:
        assert where() == threading.get_ident()


def test_compiling_without_another_thread(where, monkeypatch):
    def failing(*arguments):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(compiled, "start_new_thread", failing)
    assert where() == threading.get_ident()


def test_errors_of_a_compilation_are_raised():
    with pytest.raises(ValueError, match="invalid literal"):
        compiled._undisturbed(int)("x")


def test_a_layer_that_cannot_start_is_done_without(monkeypatch):
    def missing():
        raise ValueError("No threading layer could be loaded.")

    compiled.layer_is_safe.cache_clear()
    monkeypatch.setattr(compiled.numba_threads, "_launch_threads", missing)
    try:
        assert not compiled.layer_is_safe()
    finally:
        compiled.layer_is_safe.cache_clear()
