"""Hypothesis profiles, a simulator where there is no GPU, an engine that compiles nothing, and threads as they were."""

import os
import shutil
import subprocess
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# Numba reads this when it is imported. A machine with two cores shows little of what depends on the number of threads.
os.environ.setdefault("NUMBA_NUM_THREADS", str(max(4, os.cpu_count() or 1)))


def has_gpu():
    tool = shutil.which("nvidia-smi")
    return tool is not None and subprocess.run([tool, "-L"], capture_output=True, check=False).returncode == 0


# Numba asks for this too when it is imported, here and in the processes that tests start.
if find_spec("numba_cuda") and not has_gpu():
    os.environ.setdefault("NUMBA_ENABLE_CUDASIM", "1")

# The first example of a specialisation waits for its compilation: no deadline.
relaxed = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
settings.register_profile("dev", **relaxed)
settings.register_profile("ci", derandomize=True, print_blob=True, **relaxed)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_configure(config):
    """With `-m exhaustive` hypothesis tries as many examples as tests say; see `everyday.examples`."""
    if config.option.markexpr == "exhaustive":
        os.environ["NUMBANORM_TEST_ALL"] = "1"


@pytest.fixture
def rng():
    return np.random.default_rng(1803_08494)


@pytest.fixture
def threads():
    """Give the number of threads there may be, and put the number in use back after the test."""
    import numba

    import numbanorm as nbn

    before = nbn.get_num_threads()
    yield numba.config.NUMBA_NUM_THREADS
    nbn.set_num_threads(before)


@pytest.fixture
def no_kernels(monkeypatch):
    """Whoever asks for a kernel on the host fails; and no call is known."""
    from numbanorm.call import known
    from numbanorm.cpu import engine
    from numbanorm.gradients import known as known_backward

    def refuse():
        raise AssertionError("this needs a kernel")

    monkeypatch.setattr(engine, "_launcher", refuse)
    for calls in (known, known_backward):
        calls.forget()
    yield
    for calls in (known, known_backward):
        calls.forget()


@pytest.fixture
def numpy_engine(no_kernels, monkeypatch):
    """An engine of NumPy's operators in the place of the host's."""
    from numpy_engine import NumpyEngine

    from numbanorm.call import choose

    engine = NumpyEngine()
    monkeypatch.setattr(choose, "CPU", engine)
    return engine
