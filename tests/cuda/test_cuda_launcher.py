"""From a kernel to a launch, without a GPU: the compiler is real, the driver is made up."""

import json

import pytest
from no_gpu import CODES, NO_GPU
from processes import PATIENCE, run_python

pytest.importorskip("numba_cuda", reason="needs the package numba-cuda")

CODE = """
import json
from contextlib import nullcontext

from cuda.bindings import driver

from numbanorm.cuda import launcher
from numbanorm.cuda.plan import Step

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
        "kernel": kernel.name, "arguments": arguments, "types": [type(a).__name__ for a in arguments],
        "context": state["context"],
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
code = walking(
    "normalize", "rows", ("bf", "bf", "bf"), vector=8, threads=32, block=128, values=32, registers=160,
    whole=True, near=True, span=True, weight=NEAR,
)
machine_code, name = launcher.cubin_of(code, (9, 0))
said.append({"size": len(machine_code.code), "elf": machine_code.code[:4] == b"\\x7fELF", "name": name})
launcher._loaded = Kernel


class GPUs:
    # Numba's devices: which one gets what, and when it is there

    def __getitem__(self, device):
        self.device = device
        return nullcontext()

    def to_device(self, table):
        tables.append(["sent", self.device, table])
        return 4096 * (1 + self.device)

    def synchronize(self):
        tables.append(["is there", self.device])


gpus, tables = GPUs(), []
launcher.cuda = SimpleNamespace(gpus=gpus, to_device=gpus.to_device, default_stream=lambda: gpus)
launcher.view = lambda address: SimpleNamespace(pointer=address)
# A frame: addresses, 0 where there is none, and numbers.
values = (64, 128, 256, 0, 512, 576, 640, 672, 704, 768, 832, 864, 896, 960, 1024, 1088, 1e-5, 1, 0.25, 3, 0)
step = Step(code, 7, "of the first")
for device in (0, 1, 0):
    launcher.launch(step, device, 0x50, values)
said.append({"after": state["context"], "raised": list(raised), "tables": list(tables)})
code = code._replace(whole=False, kept=True)
for shared, device in ((8192, 0), (231680, 0), (8192, 1), (48384, 2), (48385, 2), (8192, 3)):
    launcher.launch(Step(code, 7, "of others", shared), device, 0x50, values)
said.append(raised)
print(json.dumps(said))
"""


def test_a_launch():
    said = run_python(NO_GPU + CODES + CODE, PATIENCE, NUMBA_ENABLE_CUDASIM="0")
    compiled, here, there, again, after, *kept, raised = json.loads(said.splitlines()[-1])
    assert compiled["elf"]
    assert "kernel" in compiled["name"]
    for launch, device in ((here, 0), (there, 1), (again, 0)):
        assert (launch["stream"], launch["grid"], launch["block"]) == (0x50, [7, 1, 1], [128, 1, 1])
        # The table; x, out, weight and no bias; eps, to what it is added, ddof and center; count, mean and m2.
        assert launch["arguments"] == [4096 * (1 + device), 64, 128, 256, 0, 1e-5, 0, 3, 1, 512, 576, 640]
        assert launch["types"] == ["int"] * 5 + ["float"] + ["int"] * 6
        assert (launch["kernel"], launch["context"]) == (f"rows on {device}", f"of {device}")
        assert launch["shared"] == 0
    assert after["after"] == "of 0"  # the caller's device is still the current one
    assert after["raised"] == []
    sent = [[what, device, *table] for device in (0, 1) for what, *table in (["sent", "of the first"], ["is there"])]
    assert after["tables"] == sent  # once to each device
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
from numbanorm.cuda import launcher

number = 0
for kind in kinds or ITEMSIZES:
    size = ITEMSIZES[kind]
    out, vectors = (kind, (1, 2, 4, 8)) if kind in ("f8", "f4", "f2", "bf") else ("f8", (1,))
    for vector in vectors:
        if vector * size <= 16:
            family, kept = (("rows", "columns")[number % 2], number % 3 == 0)
            sizes = dict(vector=vector, threads=32, block=64, values=2 * vector, registers=160)
            ways = dict(whole=not kept, near=vector > 1, span=True, weight=NEAR if vector > 1 else FAR, bias=ONE)
            code = walking("normalize", family, (kind, out, out, out), **sizes, **ways, kept=kept)
            text, name = launcher.ptx_of(code, (9, 0))
            assert name in text
            number += 1
print(number)
"""


@pytest.mark.parametrize(
    "kinds, number",
    [(["bf", "i4"], 4 + 1), pytest.param([], 2 + 3 + 2 * 4 + 9, marks=pytest.mark.exhaustive)],
    ids=["everyday", "all"],
)
def test_every_kind_and_width_compiles(kinds, number):
    program = f"{NO_GPU}{CODES}\nkinds = {kinds!r}\n{WIDTHS}"
    assert int(run_python(program, PATIENCE, NUMBA_ENABLE_CUDASIM="0")) == number
