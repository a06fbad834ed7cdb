"""Build wheels with machine code of the common kernels in them: the build backend, and Hatchling's hook for wheels.

On Linux on x86-64 the kernels that `numbanorm.warmup` compiles are emitted for each level in numbanorm/cpu/emit.py, in
as many processes as there are processors: some minutes. Elsewhere, in editable installs and in sdists there are none.
NUMBANORM_SHIP says which: dtypes, each with the operations wanted of it if not all ("float32 float16:moments"), or
"none". By hand, into a folder:

    python hatch_build.py FOLDER [DTYPE[:OPERATION,...] ...]
"""

import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

import hatchling.build as _hatchling
from hatchling.build import *  # noqa: F403 - this module is the backend too
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
KINDS = {"float32": "f4", "float64": "f8", "float16": "f2", "bfloat16": "bf"}
COMPILER = ["numba>=0.62"]  # which is where LLVM 20 begins


def can_emit():
    """Whether code for this system can be emitted here, and is checked by tests."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


def wanted():
    """Words of NUMBANORM_SHIP."""
    said = os.environ.get("NUMBANORM_SHIP") or " ".join(KINDS)
    return [] if said == "none" or not can_emit() else said.split()


def get_requires_for_build_wheel(config_settings=None):
    """Numba is needed to emit, in wheels alone."""
    return [*_hatchling.get_requires_for_build_wheel(config_settings), *(COMPILER if wanted() else [])]


class ShippedKernels(BuildHookInterface):
    """Adds the folder of emitted kernels to a wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version, build_data):
        self.folder = None
        if version == "editable" or not wanted():
            return
        self.folder = tempfile.mkdtemp()
        emit(Path(self.folder), wanted(), say=self.app.display_info)
        build_data["force_include"][self.folder] = "numbanorm/cpu/shipped"

    def finalize(self, version, build_data, artifact_path):
        if self.folder is not None:
            shutil.rmtree(self.folder)


def emit(folder, words, say=print):
    """Emit the kernels that words ask for into a folder."""
    sys.path.insert(0, str(ROOT))
    try:
        from numbanorm.ahead import COMMON, of_kinds
        from numbanorm.cpu.emit import write
    finally:
        sys.path.remove(str(ROOT))
    lists = {"entry": COMMON}
    for word in words:
        dtype, _, operations = word.partition(":")
        if dtype not in KINDS:
            raise ValueError(f"kernels of {dtype!r} do not ship; NUMBANORM_SHIP takes {', '.join(KINDS)}, or none")
        kernels = of_kinds(KINDS[dtype], KINDS[dtype])
        known = {kernel.operation for kernel in kernels}
        chosen = set(operations.split(",")) if operations else known
        if not chosen <= known:
            raise ValueError(f"there is no operation {sorted(chosen - known)}; {dtype} has {', '.join(sorted(known))}")
        lists[dtype] = [kernel for kernel in kernels if kernel.operation in chosen]
    say(f"compiling {sum(map(len, lists.values()))} kernels to ship; NUMBANORM_SHIP=none builds a wheel without")
    write(folder, lists)


if __name__ == "__main__":
    emit(Path(sys.argv[1]), sys.argv[2:] or list(KINDS))
