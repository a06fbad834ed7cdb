"""Hypothesis profiles, a simulator where there is no GPU, and a thread count that no test changes for the next."""

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
