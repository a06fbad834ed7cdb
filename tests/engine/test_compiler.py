"""Numba that was told to compile nothing: one clear error at the first call that needs a kernel."""

import pytest
from fresh import fresh, process

PROGRAM = """
import numpy as np
import numbanorm as nbn
x, v = np.ones((2, 6, 4), np.float32), np.ones(6)
layout = nbn.Layout("n c l -> c")
print(layout.group_shape(x.shape), layout.expand(v, x.shape).shape)
try:
    nbn.normalize(x, axis=7)
except ValueError as error:  # which needs no kernel
    print("axis" in str(error))
print(nbn.normalize(np.ones((0, 3)), axis=0).shape)
for name, call in {
    "normalize": lambda: nbn.normalize(x),
    "moments": lambda: nbn.moments(x),
    "var": lambda: nbn.Moments.empty(3).var(),
    "batch_norm": lambda: nbn.batch_norm(x, 0 * v, v.copy(), training=True),
    "batch_renorm": lambda: nbn.batch_renorm(x, 0 * v, v.copy(), training=True),
    "batch_instance_norm": lambda: nbn.batch_instance_norm(x, v),
    "group_norm": lambda: nbn.group_norm(x, 2),
    "layer_norm": lambda: nbn.layer_norm(x, 4),
    "weight_norm": lambda: nbn.weight_norm(x, np.ones(2)),
    "weight_standardize": lambda: nbn.weight_standardize(x),
    "spectral_norm": lambda: nbn.spectral_norm(x),
    "warmup": lambda: nbn.warmup(),
    "again": lambda: nbn.normalize(x),
}.items():
    try:
        call()
        print(name, "ran")
    except RuntimeError as error:
        assert "NUMBA_DISABLE_JIT" in str(error) and "unset it" in str(error), error
"""


@pytest.mark.parametrize("first", ["", "import numba\n"])
def test_without_a_compiler_each_call_says_so(first):
    assert fresh("-c", first + PROGRAM, NUMBA_DISABLE_JIT="1") == "(6,) (2, 6, 4)\nTrue\n(0, 3)"


def test_0_disables_nothing():
    program = "import numpy as np, numbanorm as nbn; print(nbn.normalize(np.ones(4)).sum())"
    assert fresh("-c", program, NUMBA_DISABLE_JIT="0") == "0.0"


def test_the_command_says_so_too():
    done = process("-m", "numbanorm", "warmup", "float32", NUMBA_DISABLE_JIT="1")
    assert done.returncode == 1
    assert "NUMBA_DISABLE_JIT" in done.stderr
    assert "Traceback" not in done.stderr
    assert "threads" in fresh("-m", "numbanorm", "info", NUMBA_DISABLE_JIT="1")


def test_asking_imports_numba_and_no_kernels():
    program = (
        "import sys; from numbanorm.engine.compiler import require_compiler; before = 'numba' in sys.modules;"
        "require_compiler(); print(before, any('kernels' in name for name in sys.modules if 'numbanorm' in name))"
    )
    assert fresh("-c", program) == "False False"


TOLD = {
    "NUMBA_OPT": "2",
    "NUMBA_CPU_NAME": "generic",
    "NUMBA_CPU_FEATURES": "",
    "NUMBA_BOUNDSCHECK": "1",
    "NUMBA_DISABLE_JIT": "1",
    "NUMBA_ENABLE_AVX": "0",
    "NUMBA_SOMETHING_NEW": "1",
}
HARMLESS = {"NUMBA_NUM_THREADS": "2", "NUMBA_THREADING_LAYER": "workqueue", "NUMBA_CACHE_DIR": "/nowhere"}
ASKED = "import sys; from numbanorm.engine.compiler import is_plain; print(is_plain(), 'numba' in sys.modules)"


@pytest.mark.parametrize("name", TOLD)
def test_whether_numba_was_told_something(name):
    assert fresh("-c", ASKED, **{name: TOLD[name]}) == "False False"


def test_it_was_not():
    assert fresh("-c", ASKED, **HARMLESS) == "True False"
    assert fresh("-c", "import numba;" + ASKED, **HARMLESS) == "True True"


@pytest.mark.parametrize("told", ["OPT = 0", "CPU_NAME = 'generic'", "CPU_FEATURES = ''", "DISABLE_JIT = 1"])
def test_it_was_told_in_python(told):
    assert fresh("-c", f"from numba.core import config; config.{told};" + ASKED) == "False True"


def test_it_may_be_told_in_a_file(tmp_path):
    """Before it is imported, nobody knows what the file says."""
    (tmp_path / ".numba_config.yaml").write_text("opt: '2'\n")
    assert fresh("-c", f"import os; os.chdir({str(tmp_path)!r});" + ASKED) == "False False"
