"""From a kernel to a launch, without a GPU: the compiler is real, the driver is made up."""

import json

import pytest
from processes import run_python

pytest.importorskip("numba_cuda", reason="needs the package numba-cuda")

# Numba's simulator is chosen when it is imported, so this runs in a process of its own, without it.
NO_GPU = """
from types import SimpleNamespace

import numba.cuda.dispatcher

numba.cuda.dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=(9, 0))
"""

CODE = """
import json

from cuda.bindings import driver

from numbanorm.cuda.kernels import launcher
from numbanorm.cuda.kernels.shapes import Code

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
        "stream": int(stream.handle), "grid": config.grid, "block": config.block, "shared": config.shmem_size,
        "kernel": kernel.name,
        "types": sorted({type(a).__name__ for a in arguments}), "number": len(arguments), "context": state["context"],
    })


class Kernel:
    def __init__(self, kernel, device):
        self.kernel, self.name = kernel, f"{kernel.family}{' kept' * kernel.kept} on {device}"

    @property
    def handle(self):
        return self


DECLARED, MOST = 768, [232448, 232448, 49152, 232448]  # bytes of the kernel, and of a block of each device
success, attributes, raised = driver.CUresult.CUDA_SUCCESS, driver.CUfunction_attribute, []


def device_attribute(attribute, device):
    assert attribute == driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
    return success, MOST[device]


def kernel_attribute(attribute, kernel, device):
    assert attribute == attributes.CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES and kernel.kernel.kept
    return success, DECLARED


def set_kernel_attribute(attribute, value, kernel, device):
    assert attribute == attributes.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES and kernel.kernel.kept
    raised.append((device, value))
    return (driver.CUresult.CUDA_ERROR_INVALID_VALUE if device == 3 else success,)


launcher.driver = SimpleNamespace(
    CUresult=driver.CUresult,
    CUdevice_attribute=driver.CUdevice_attribute,
    CUfunction_attribute=attributes,
    cuDeviceGetAttribute=device_attribute,
    cuKernelGetAttribute=kernel_attribute,
    cuKernelSetAttribute=set_kernel_attribute,
    cuCtxGetDevice=lambda: (success, state["current"]),
    cuCtxGetCurrent=lambda: (success, state["context"]),
    cuCtxSetCurrent=set_context,
)
launcher.Device, launcher._launch = Device, launched
launcher._stream = lambda handle: SimpleNamespace(handle=handle)
code = Code("rows", ("bf", "bf", "bf", "none"), 8, 32, 128, 32, 160, True, True, True, True, True, False, 2, 0)
machine_code, name = launcher.cubin_of(code, (9, 0))
said.append({"size": len(machine_code.code), "elf": machine_code.code[:4] == b"\\x7fELF", "name": name})
launcher._loaded = Kernel
arguments = (64, 128, 256, 0, 0, 1e-5, 1, 0, 0, 0)
launcher.launch(code, 7, 128, 0, 0, 0x50, *arguments)
launcher.launch(code, 7, 128, 0, 1, 0x50, *arguments)
said.append({"after": state["context"], "raised": list(raised)})
code = code._replace(whole=False, kept=True)
for shared, device in ((8192, 0), (231680, 0), (8192, 1), (48384, 2), (48385, 2), (8192, 3)):
    launcher.launch(code, 7, 128, shared, device, 0x50, *arguments)
said.append(raised)
print(json.dumps(said))
"""


def test_a_launch():
    said = run_python(NO_GPU + CODE, NUMBA_ENABLE_CUDASIM="0")
    compiled, here, there, after, *kept, raised = json.loads(said.splitlines()[-1])
    assert compiled["elf"]
    assert "kernel" in compiled["name"]
    for launch, device in ((here, 0), (there, 1)):
        assert (launch["stream"], launch["grid"], launch["block"]) == (0x50, [7, 1, 1], [128, 1, 1])
        assert (launch["types"], launch["number"]) == (["float", "int"], 10)
        assert (launch["kernel"], launch["context"]) == (f"rows on {device}", f"of {device}")
        assert launch["shared"] == 0
    assert after == {"after": "of 0", "raised": []}  # the caller's device is still the current one
    # As much as fits beside what the kernel declares, or none: device 2 has little, and the driver refuses device 3.
    assert [(launch["kernel"], launch["shared"]) for launch in kept] == [
        ("rows kept on 0", 8192),
        ("rows kept on 0", 231680),
        ("rows kept on 1", 8192),
        ("rows kept on 2", 48384),
        ("rows on 2", 0),
        ("rows on 3", 0),
    ]
    assert raised == [[0, 231680], [1, 231680], [2, 48384], [3, 231680]]  # once for each device


# The compiler's report has kernels of wide vectors; these are all others, in both families, and some that keep.
WIDTHS = """
from numbanorm.cuda.kernels import launcher
from numbanorm.cuda.kernels.shapes import ITEMSIZES, Code

number = 0
for kind, size in ITEMSIZES.items():
    out, vectors = (kind, (1, 2, 4, 8)) if kind in ("f8", "f4", "f2", "bf") else ("f8", (1,))
    for vector in vectors:
        if vector * size <= 16:
            family, kept = (("rows", "columns")[number % 2], number % 3 == 0)
            ways = True, True, not kept, vector > 1, True, False, 2 if vector > 1 else 3, 1, kept
            code = Code(family, (kind, out, out, out), vector, 32, 64, 2 * vector, 160, *ways)
            text, name = launcher.ptx_of(code, (9, 0))
            assert name in text
            number += 1
print(number)
"""


def test_every_kind_and_width_compiles():
    assert int(run_python(NO_GPU + WIDTHS, NUMBA_ENABLE_CUDASIM="0")) == 2 + 3 + 2 * 4 + 9
