"""A fork waits for the locks of our calls, and not without end."""

import os

import pytest
from processes import run_python

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

PREAMBLE = """
import os, threading, time
from numbanorm.cpu import forks

lock, taken = threading.RLock(), threading.Event()
forks.guard(lock)

def hold(seconds):
    with lock:
        taken.set()
        time.sleep(seconds)

def fork_beside(seconds):
    other = threading.Thread(target=hold, args=(seconds,))
    other.start()
    taken.wait()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if lock.acquire(timeout=5) else 1)
    assert os.waitpid(pid, 0)[1] == 0, "the lock is locked in the child"
    return other
"""


def test_until_they_are_free():
    run_python(f"""{PREAMBLE}
fork_beside(0.3)
assert lock.acquire(timeout=5), "the fork kept it"
""")


def test_no_longer_than_it_may():
    run_python(f"""{PREAMBLE}
forks.WAIT = 0.2
assert fork_beside(1.5).is_alive(), "it waited"
assert not lock.acquire(blocking=False), "the fork let go of what another thread holds"
""")


def test_locks_that_the_forking_thread_holds():
    run_python(f"""{PREAMBLE}
with lock:
    pid = os.fork()
    if pid == 0:
        os._exit(0 if lock._is_owned() else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert lock._is_owned()
assert not lock._is_owned()
""")


def test_locks_added_while_it_waits():
    """As by the import of what compiles."""
    run_python(f"""{PREAMBLE}
late = threading.RLock()

def hold(seconds):
    with lock:
        taken.set()
        time.sleep(seconds)
        forks.guard(late)
        late.acquire()
    time.sleep(seconds)
    late.release()

pid = fork_beside(0.3)
lock = late
fork_beside(0.3)
""")


@pytest.mark.parametrize("name", ["numba's", "llvmlite's", "the import's"])
def test_which_they_are(name):
    """They have semi-private names: if one changes, forks no longer wait for it, and only this test tells."""
    run_python(f"""
import llvmlite.binding.ffi as ffi
from numba.core.compiler_lock import global_compiler_lock
from numba.np.ufunc import parallel
from numbanorm.cpu import compiled, forks

locks = {{
    "numba's": [global_compiler_lock._lock, parallel._backend_init_thread_lock],
    "llvmlite's": [ffi.lib._lock._lock],
    "the import's": [forks.importing],
}}
assert all(any(lock is guarded for guarded in forks._guarded) for lock in locks[{name!r}])
""")
