"""Claims of kernels: one process has one, the others wait, and whatever becomes of a process, nothing stays locked.

Locks of two open files exclude each other within a process, too: here the test is the other process.
"""

import os
import stat
import subprocess
import sys
import threading

import pytest
from processes import HOME, TIMEOUT, run_python

from numbanorm.engine import claims

fcntl = pytest.importorskip("fcntl")


def refuse():
    raise AssertionError("it waits")


def free(lock):
    """Whether nobody holds the lock of a file that is there."""
    with open(lock, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@pytest.fixture
def path(tmp_path):
    return tmp_path / "kernel.nbc"


@pytest.fixture
def lock(path):
    return path.with_name("kernel.nbc.lock")


def test_a_claim_lasts_as_long_as_its_block(path, lock):
    with claims.claiming():
        assert not lock.exists()
        claims.claim(path, refuse)
        assert not free(lock)
        assert stat.S_IMODE(lock.stat().st_mode) & 0o077 == 0, "whoever can open it can lock it"
    assert not lock.exists() and not claims._claims


def test_it_ends_with_an_error(path, lock):
    with pytest.raises(ZeroDivisionError), claims.claiming():
        claims.claim(path, refuse)
        raise ZeroDivisionError
    assert not lock.exists() and not claims._claims


def test_what_a_dead_process_left_is_taken_over(path, lock):
    lock.touch(0o600)
    with claims.claiming():
        claims.claim(path, refuse)
        assert not free(lock)
    assert not lock.exists()


def test_a_process_has_one_claim(path, lock):
    """Two that have one each would wait for each other."""
    with claims.claiming():
        claims.claim(path, refuse)
        other = path.with_name("other.nbc.lock")
        with open(other, "wb") as file, claims.claiming():
            fcntl.flock(file, fcntl.LOCK_EX)
            claims.claim(path.with_name("other.nbc"), refuse)
        assert other.exists() and not free(lock), "the inner block is not the outer's end"
    assert not lock.exists()


def test_after_a_wait_nobody_else_has_to(path, lock, monkeypatch):
    """The other has ended, and it was for whoever waited to look: if the kernel is not there, it cannot be kept."""
    monkeypatch.setattr(claims, "WAIT", 1e9)
    begun = threading.Event()
    with open(lock, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        def end():
            begun.wait()
            lock.unlink()
            fcntl.flock(file, fcntl.LOCK_UN)

        holder = threading.Thread(target=end)
        holder.start()
        with claims.claiming():
            claims.claim(path, begun.set)
            assert begun.is_set()
            assert not lock.exists()
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # or who still waits for that file would wait for this
        holder.join()


def test_a_new_file_of_another_is_left_alone(path, lock, monkeypatch):
    """The holder ends, and a third process claims it anew, before this one looks."""
    monkeypatch.setattr(claims, "WAIT", 1e9)
    with open(lock, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        def end():
            lock.unlink()
            lock.touch(0o600)
            fcntl.flock(file, fcntl.LOCK_UN)

        with claims.claiming():
            claims.claim(path, end)
            assert free(lock)
    assert lock.exists()


def test_no_longer_than_it_may(path, lock, monkeypatch):
    monkeypatch.setattr(claims, "WAIT", 0.1)
    with open(lock, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with claims.claiming():
            claims.claim(path, lambda: None)
        assert lock.exists() and not free(lock)


def test_an_interrupted_wait_leaves_nothing(path, lock, monkeypatch):
    monkeypatch.setattr(claims, "WAIT", 1e9)
    token = claims.abandoned.set(lambda: True)
    try:
        with open(lock, "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with pytest.raises(KeyboardInterrupt), claims.claiming():
                claims.claim(path, lambda: None)
        assert free(lock) and not claims._claims
    finally:
        claims.abandoned.reset(token)


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_files_that_others_can_write_are_not_waited_for(mode, path, lock):
    lock.touch()
    lock.chmod(mode)
    with open(lock, "rb") as file, claims.claiming():
        fcntl.flock(file, fcntl.LOCK_EX)
        claims.claim(path, refuse)
    assert lock.exists()


def test_links_are_not_followed(path, lock, tmp_path):
    target = tmp_path / "elsewhere"
    lock.symlink_to(target)
    with claims.claiming():
        claims.claim(path, refuse)
    assert not target.exists()


def test_a_folder_that_is_gone(tmp_path):
    with claims.claiming():
        claims.claim(tmp_path / "gone" / "kernel.nbc", refuse)


# forks ----------------------------------------------------------------------------------------------------------------

fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

CLAIMED = """
import os, sys
from pathlib import Path
from numbanorm.engine import claims
path = Path({!r})
"""


@fork
def test_a_forked_child_does_not_end_its_parents_claim(path):
    """It leaves the block that it was made in."""
    run_python(f"""{CLAIMED.format(str(path))}
import fcntl
with claims.claiming():
    claims.claim(path, None)
    pid = os.fork()
    if pid:
        assert os.waitpid(pid, 0)[1] == 0
        with open(f"{{path}}.lock") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os._exit(0)
        assert False, "the lock is free"
os._exit(0)
""")


@fork
def test_a_forked_child_does_not_hold_its_parents_claim(path, lock):
    """The parent is killed, and the child lives on, as workers of a pool do for a while."""
    code = f"""{CLAIMED.format(str(path))}
with claims.claiming():
    claims.claim(path, None)
    if os.fork() == 0:
        print("here", flush=True)
    sys.stdin.read()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    env = {**os.environ, "PYTHONPATH": HOME}
    with subprocess.Popen([sys.executable, "-P", "-c", code], env=env, **pipes) as process:
        assert process.stdout.readline() == "here\n"
        assert not free(lock)
        process.kill()
        process.wait(TIMEOUT)
        with claims.claiming():
            claims.claim(path, refuse)
            assert not free(lock)


@fork
def test_a_child_that_python_did_not_make_does_not_hold_it_either(path):
    """As long as the parent lives to let go: no hook runs there."""
    run_python(f"""{CLAIMED.format(str(path))}
import ctypes, fcntl
with claims.claiming():
    claims.claim(path, None)
    with open(f"{{path}}.lock") as file:
        pid = ctypes.PyDLL(None).fork()
        if pid == 0:
            sys.stdin.read(1)
            os._exit(0)
        claims._claims.pop().release()
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
import signal
os.kill(pid, signal.SIGKILL)
os.waitpid(pid, 0)
""")


@fork
def test_a_forked_child_makes_claims_of_its_own(path):
    run_python(f"""{CLAIMED.format(str(path))}
with claims.claiming():
    claims.claim(path, None)
    pid = os.fork()
    if pid == 0:
        with claims.claiming():
            claims.claim(path.with_name("other"), None)
            os._exit(0 if path.with_name("other.lock").exists() else 1)
    assert os.waitpid(pid, 0)[1] == 0
""")
