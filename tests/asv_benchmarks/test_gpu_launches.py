"""asv_benchmarks/launches.py, and numba.cuda and cuda.core as far as a launch, with a made-up driver."""

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from processes import run_python

pytest.importorskip("numba_cuda", reason="needs the package numba-cuda")
pytest.importorskip("ml_dtypes")
from harness.gpu import made_up

SCRIPT = Path(__file__).parents[2] / "asv_benchmarks" / "launches.py"
pytestmark = pytest.mark.skipif(os.name == "nt", reason="for Linux")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    try:
        return made_up.build(tmp_path_factory.mktemp("driver"))
    except RuntimeError as error:
        pytest.skip(str(error))


def test_the_script(library):
    pytest.importorskip("torch")
    ran = subprocess.run([sys.executable, SCRIPT, "--seconds", "0"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    table = ran.stdout.partition("\n\n")[2].splitlines()
    assert len(table) == 7
    assert all(float(number) > 0 for line in table[1:] for number in line[24:].split())


def test_without_a_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="install gcc"):
        made_up.build(tmp_path)


# Two calls of each; the second is known. Arrays of Numba's, on a stream of its own.
CALLS = """
import numpy as np
from numba import cuda

import numbanorm as nbn

stream = cuda.stream()
x, weight = (cuda.to_device(np.ones(shape, np.float32), stream=stream) for shape in ((6, 512), 512))
out = cuda.device_array((6, 512), np.float32, stream=stream)
for _ in range(2):
    nbn.layer_norm(x, 512, weight, eps=0.5, out=out)
print(*(array.device_ctypes_pointer.value for array in (x, out, weight)), int(stream))
"""


def launches(program, library, tmp_path, **env):
    """What a program prints, and the launches and attributes that the driver saw."""
    log = tmp_path / "log"
    said = run_python(program, **made_up.environment(library), MADE_UP_DRIVER_LOG=str(log), **env)
    return said.split(), [line.split() for line in log.read_text("utf-8").splitlines()]


def test_what_the_driver_sees(library, tmp_path):
    said, seen = launches(CALLS, library, tmp_path)
    first, second = (line[1:] for line in seen if line[0] == "launch")
    assert first == second
    blocks, threads, shared, stream, table, *arrays, eps, on_std, ddof, center, count, mean, m2 = first
    x, out, weight, own_stream = said
    assert arrays == [x, out, weight, "0"]
    assert int(stream, 16) == int(own_stream)
    assert struct.unpack("d", struct.pack("q", int(eps))) == (0.5,)
    assert (on_std, ddof, center, count, mean, m2, shared) == ("0", "0", "1", "0", "0", "0", "0")
    assert int(blocks) * int(threads) >= 6 * 32
    assert int(table) % 8 == 0


KEPT = """
import numpy as np
from numba import cuda

import numbanorm as nbn

for size in (16384, 12288, 16384):
    nbn.layer_norm(cuda.to_device(np.ones((132, size), np.float32)), size)
"""


@pytest.mark.parametrize(("most", "asked"), [(232448, 231680), (49152, 48384)])
def test_shared_memory_is_asked_for_once(most, asked, library, tmp_path):
    """Two pieces of 24 KB are kept of the larger rows, one of the others; 48 KB hold one beside what is declared."""
    _, seen = launches(KEPT, library, tmp_path, MADE_UP_DRIVER_SHARED=str(most))
    assert [line for line in seen if line[0] == "attribute"] == [["attribute", "8", str(asked)]]
    large = 49152 if most > 49152 else 0
    assert [int(line[3]) for line in seen if line[0] == "launch"] == [large, 24576, large]
