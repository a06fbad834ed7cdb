"""From a kernel to a launch, without a GPU: the compiler is real, the driver is made up."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("numba_cuda", reason="needs the package numba-cuda")

# Numba's simulator is chosen when it is imported, so this runs in a process of its own, without it.
CODE = """
import json
from types import SimpleNamespace

import numba.cuda.dispatcher

numba.cuda.dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=(9, 0))

from numbanorm.kernels.cuda import launcher
from numbanorm.kernels.cuda.shapes import Code

said = []
state = {"current": 0, "context": "of 0"}


class Device:
    compute_capability = (9, 0)

    def __init__(self, ordinal):
        self.ordinal = ordinal

    def set_current(self):
        state["context"] = f"of {self.ordinal}"


def set_context(context):
    state["context"] = context


def launched(stream, config, kernel, *arguments):
    said.append({
        "stream": int(stream.handle), "grid": config.grid, "block": config.block, "kernel": kernel,
        "types": sorted({type(a).__name__ for a in arguments}), "number": len(arguments), "context": state["context"],
    })


success = launcher.driver.CUresult.CUDA_SUCCESS
launcher.driver = SimpleNamespace(
    CUresult=launcher.driver.CUresult,
    cuCtxGetDevice=lambda: (success, state["current"]),
    cuCtxGetCurrent=lambda: (success, state["context"]),
    cuCtxSetCurrent=set_context,
)
launcher.Device, launcher._launch = Device, launched
launcher._stream = lambda handle: SimpleNamespace(handle=handle)
code = Code("rows", ("bf", "bf", "bf", "none"), 8, 32, 128, 32, 160, True, True, True, True, True, False, 2, 0)
machine_code, name = launcher.cubin_of(code, (9, 0))
said.append({"size": len(machine_code.code), "elf": machine_code.code[:4] == b"\\x7fELF", "name": name})
launcher._loaded = lambda kernel, device: f"{kernel.family} on {device}"
arguments = (64, 128, 256, 0, 0, 1e-5, 1, 0, 0, 0)
launcher.launch(code, 7, 128, 0, 0x50, *arguments)
launcher.launch(code, 7, 128, 1, 0x50, *arguments)
said.append({"after": state["context"]})
print(json.dumps(said))
"""


def test_a_launch():
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "0"}
    ran = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    compiled, here, there, after = json.loads(ran.stdout.splitlines()[-1])
    assert compiled["elf"]
    assert "kernel" in compiled["name"]
    for launch, device in ((here, 0), (there, 1)):
        assert (launch["stream"], launch["grid"], launch["block"]) == (0x50, [7, 1, 1], [128, 1, 1])
        assert (launch["types"], launch["number"]) == (["float", "int"], 10)
        assert (launch["kernel"], launch["context"]) == (f"rows on {device}", f"of {device}")
    assert after == {"after": "of 0"}  # the caller's device is still the current one
