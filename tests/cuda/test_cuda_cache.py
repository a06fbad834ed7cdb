"""Machine code for GPUs on disk: found again by the next process, never stale, and never a reason to fail.

Each case is a process of its own without Numba's simulator, which compiles small kernels: that needs no GPU. What is
the same for all processors is tested in test_cache.py, and what the stamp covers in test_disk.py.
"""

import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from everyday import every
from no_gpu import CODES, NO_GPU
from processes import PATIENCE, edit, files, package, run_python

pytest.importorskip("numba_cuda", reason="needs the package numba-cuda")

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")

# Says for each kernel whether it was compiled or found, and what its machine code is.
PREAMBLE = (
    NO_GPU
    + CODES
    + """
import os
from hashlib import sha256

from numba.core.extending import register_jitable

from numbanorm.cuda import cubins, launcher
from numbanorm.engine import disk
from numbanorm.maths import coefficients

calls = []
compiled = launcher.ptx_of


def ptx_of(*arguments):
    calls.append(arguments)
    return compiled(*arguments)


def show(code, capability=(9, 0)):
    before = len(calls)
    cubin, name = launcher.cubin_of(code, capability)
    assert cubin.code[:4] == b"\\x7fELF"
    assert name.encode() in cubin.code
    print("found" if len(calls) == before else "compiled", sha256(cubin.code).hexdigest()[:9])


def look():
    cubins._compilers.cache_clear()
    print("found" if cubins.load(small, (9, 0)) else "missed", 0)


def formula(function):
    show(walking("formula", "states", ("none", "f8"), block=32, function=function, arrays=1, outputs=1))


launcher.ptx_of = ptx_of
small = states("update_running")
"""
)
SMALL = "show(small)"


def said(program, folder, **env):
    """What a fresh process says of each kernel: compiled, found or missed; and its machine code."""
    env = {"NUMBA_ENABLE_CUDASIM": "0", "NUMBANORM_CACHE_DIR": str(folder), **env}
    lines = [line.split() for line in run_python(PREAMBLE + program, PATIENCE, **env).splitlines()]
    return [line[0] for line in lines], [line[1] for line in lines]


def found(program, folder, **env):
    """How often a fresh process finds a kernel; the other times it compiles one."""
    return said(program, folder, **env)[0].count("found")


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """A folder in which the small kernel is kept; tests copy it."""
    folder = tmp_path_factory.mktemp("cache")
    assert found(SMALL, folder) == 0
    return folder


@pytest.fixture
def folder(warm, tmp_path):
    return shutil.copytree(warm, tmp_path / "cache")


def test_the_next_process_compiles_nothing(folder):
    kept = files(folder)
    assert {path.suffix for path in kept} == {".nbc"}
    program = "launcher.ptx_of = launcher.Program = numba.cuda.compile = None\n" + SMALL
    first, second = said(program, folder), said(program, folder)
    assert first == second
    assert first[0] == ["found"]
    assert files(folder) == kept


def test_it_is_said_once_that_kernels_are_compiled(tmp_path):
    """Of two; and nothing of those that lie on disk."""
    heard = "import logging; heard = []; logging.basicConfig(level='INFO')\n"
    heard += "logging.getLogger('numbanorm').addFilter(lambda record: heard.append(record.getMessage()))\n"
    program = heard + PREAMBLE + SMALL + "; show(small, (8, 0))" + "\nprint(len(heard), *heard)"
    env = {"NUMBA_ENABLE_CUDASIM": "0", "NUMBANORM_CACHE_DIR": str(tmp_path)}
    assert run_python(program, PATIENCE, **env).splitlines()[-1].startswith("1 compiling CUDA kernels")
    assert run_python(program, PATIENCE, **env).splitlines()[-1] == "0"


def test_it_is_the_code_that_was_compiled(tmp_path):
    (_, made), (_, read) = said(SMALL, tmp_path), said(SMALL, tmp_path)
    assert made == read


def test_info_counts_it(folder):
    told = run_python("from numbanorm.__main__ import main; main(['info'])", NUMBANORM_CACHE_DIR=str(folder))
    assert "(1 kernels, " in told


def test_each_kernel_is_kept_by_what_it_is_compiled_for(tmp_path):
    """Another operation, kind of elements, block, entry of `Code`, or capability; walking x, or states."""
    program = """
sizes = dict(vector=4, threads=8, block=32, values=4, registers=64)
code = walking("apply", "rows", ("f4", "f4"), **sizes, whole=True, near=True, span=True)
show(small)
show(states("update_running", 64))
show(states("matvec"))
show(states("merge", of_x="f4"))
show(states("merge", of_x="f8"))
show(small, capability=(8, 0))
show(code)
show(code._replace(variant=Variant("moments", "rows", Kinds("f4"))))
show(code._replace(values=8))
show(code, capability=(8, 0))
"""
    made, codes = said(program, tmp_path)
    assert made == ["compiled"] * 10
    assert len(set(codes)) == 10
    assert said(program, tmp_path) == (["found"] * 10, codes)


def test_formulas_are_kept_by_name(tmp_path):
    program = "formula(coefficients.to_float64)\nformula(coefficients.inverse)"
    made, codes = said(program, tmp_path)
    assert made == ["compiled"] * 2
    assert len(set(codes)) == 2
    assert said(program, tmp_path) == (["found"] * 2, codes)


@pytest.mark.parametrize(
    "function",
    [
        "register_jitable(lambda value: (value,))",
        "mine",
        "named(mine, 'numbanorm.maths.coefficients', 'to_float64')",
        "named(mine, 'numbanorm.maths.coefficients', 'nowhere')",
        "named(mine, 'numbanorm_of_others', 'mine')",
    ],
)
def test_formulas_that_no_source_of_the_package_holds_are_not_kept(function, tmp_path):
    """Its sources are all that the stamp knows, and a name says nothing of anything else."""
    program = f"""
import sys
from types import ModuleType

def named(function, module, name):
    function.__module__, function.__qualname__ = module, name
    if module not in sys.modules:
        sys.modules[module] = ModuleType(module)
        setattr(sys.modules[module], name, function)
    return function

@register_jitable
def mine(value):
    return (value + 1.0,)

formula({function})
"""
    assert said(program, tmp_path)[0] == ["compiled"]
    assert not files(tmp_path)


def test_an_edited_kernel_is_compiled_again(folder, tmp_path):
    """The edit is in what the kernel calls, in another file."""
    path = package(tmp_path) / "cuda" / "kernels" / "scalars.py"
    assert found(SMALL, folder, PYTHONPATH=str(tmp_path)) == 1
    path.write_text(path.read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8")
    assert found(SMALL, folder, PYTHONPATH=str(tmp_path)) == 0
    assert found(SMALL, folder, PYTHONPATH=str(tmp_path)) == 1
    assert found(SMALL, folder) == 1


def test_an_edited_launch_table_is_not(folder, tmp_path):
    """Kernels are kept by the sizes that follow from it."""
    edit(package(tmp_path) / "cuda" / "shapes.py", "LIMITS = Limits(lanes=16,", "LIMITS = Limits(lanes=32,")
    assert found(SMALL, folder, PYTHONPATH=str(tmp_path)) == 1


# what else decides what the compilers make ----------------------------------------------------------------------------


def test_other_packages(folder):
    program = """
look()
version = cubins.version
for name in ("numba-cuda", "cuda-core", "llvmlite"):
    cubins.version = lambda of: version(of) + ".1" * (of == name)
    look()
"""
    assert said(program, folder)[0] == ["found", "missed", "missed", "missed"]


def test_other_compilers(folder, tmp_path):
    """A copy of a compiler is as good, whose time may have lost its fraction; another size or time is another one."""
    program = f"""
import shutil

load = cubins.load_nvidia_dynamic_lib
for name in ("nvvm", "nvJitLink"):
    copy = shutil.copy2(load(name).abs_path, {str(tmp_path / "library")!r})
    cubins.load_nvidia_dynamic_lib = lambda of: SimpleNamespace(abs_path=copy) if of == name else load(of)
    time = int(os.stat(copy).st_mtime)
    os.utime(copy, (time, time))
    look()
    os.utime(copy, (time, time + 1))
    look()
    os.truncate(copy, os.stat(copy).st_size + 1)
    os.utime(copy, (time, time))
    look()
"""
    assert said(program, folder)[0] == ["found", "missed", "missed"] * 2


@pytest.mark.parametrize("error", every(["OSError", "RuntimeError"], ["OSError"]))
def test_compilers_that_are_not_found(error, folder):
    """Here only by what keeps: without knowing them it neither finds nor keeps."""
    before = files(folder)
    assert found(f"def load(name): raise {error}\ncubins.load_nvidia_dynamic_lib = load\n{SMALL}", folder) == 0
    assert files(folder) == before


def test_code_that_the_driver_compiled_is_not_kept(tmp_path):
    """It is another's after its next update."""
    program = """
class Program(launcher.Program):
    backend = "driver"

launcher.Program = Program
"""
    assert found(program + SMALL, tmp_path) == 0
    assert not files(tmp_path)


def test_settings_of_numba(folder):
    """Those that change the code: with them it is kept beside the other."""
    assert found(SMALL, folder, NUMBA_OPT="0") == 0
    assert found(SMALL, folder, NUMBA_OPT="0") == 1
    assert found(SMALL, folder) == 1


def test_settings_that_change_in_a_process(folder):
    """They hold from the next compilation on."""
    program = """
look()
for setting in ("OPT=0", "BOUNDSCHECK=1", "CUDA_DEBUGINFO=1", "FORCE_CUDA_CC=8.0"):
    name, _, value = ("NUMBA_" + setting).partition("=")
    os.environ[name] = value
    look()
    del os.environ[name]
look()
"""
    assert said(program, folder)[0] == ["found", *["missed"] * 4, "found"]


# damage ---------------------------------------------------------------------------------------------------------------

DAMAGE = {
    "garbage": lambda old: b"garbage",
    "truncated": lambda old: old[:-20],
    "with a hole": lambda old: old[:-2000] + bytes(1000) + old[-1000:],  # a GPU might run it
    "of another key": lambda old: old.replace(b"update_running", b"update_runninG", 1),
}


@pytest.mark.parametrize("damage", every(DAMAGE, ["truncated", "of another key"]))
def test_damaged_files_are_replaced(damage, folder):
    for path in files(folder):
        path.write_bytes(DAMAGE[damage](path.read_bytes()))
    assert found(SMALL, folder) == 0
    assert found(SMALL, folder) == 1


@posix
def test_a_file_that_others_can_write_is_replaced(folder):
    for path in files(folder):
        path.chmod(0o664)
    assert found(SMALL, folder) == 0
    assert found(SMALL, folder) == 1


@posix
def test_a_folder_that_others_can_write(folder):
    (path,) = folder.iterdir()
    path.chmod(0o777)
    before = files(folder)
    assert found(SMALL, folder) == 0
    assert files(folder) == before


@posix
def test_a_folder_that_can_only_be_read(warm, tmp_path):
    """What is there is found; what is not cannot be kept, and the folder stays as it is."""
    program = f"{SMALL}\ncubins.save(states('matvec'), (9, 0), b'some code', 'its name')"
    with tempfile.TemporaryDirectory() as home:
        folder = shutil.copytree(warm, Path(home) / "cache")
        before = files(folder)
        if os.getuid():
            (path,) = folder.iterdir()
            path.chmod(0o500)
            assert said(program, folder)[0] == ["found"]
            path.chmod(0o700)
        else:  # becomes another user, who can read what is loaded by then, but perhaps not the compilers' files
            for path in (Path(home), folder):
                path.chmod(0o755)
            switch = f"os.setgid(65534)\nos.setuid(65534)\nos.environ['NUMBANORM_CACHE_DIR'] = {str(folder)!r}\n"
            program = f"show(states('update_running', 96))\n{switch}disk.folder.cache_clear()\n{program}"
            assert said(program, tmp_path)[0] == ["compiled", "found"]
        assert files(folder) == before


def test_processes_at_once(tmp_path):
    """All of them compile, and write to one empty folder."""
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda folder: found(SMALL, folder), [tmp_path] * 2)) in ([0, 0], [0, 1], [1, 0])
    assert {path.suffix for path in files(tmp_path)} == {".nbc"}
    assert found(SMALL, tmp_path) == 1


# what the driver refuses ----------------------------------------------------------------------------------------------

REFUSED = """
class ObjectCode:
    made = []

    def from_cubin(code):
        ObjectCode.made.append(code)
        return ObjectCode()

    def get_kernel(self, name):
        if len(self.made) <= {}:
            raise RuntimeError("refused")
        return name


launcher.ObjectCode = ObjectCode
launcher.Device = lambda device: SimpleNamespace(compute_capability=(9, 0))
try:
    loaded = "kernel" in launcher._loaded(small, 0)
except RuntimeError as error:
    loaded = error
print("compiled" if calls else "found", loaded, len(calls))
"""


@pytest.mark.parametrize("times, outcome", [(0, "True"), (1, "True"), (2, "refused")])
def test_what_the_driver_refuses_is_compiled_once_more(times, outcome, folder):
    before = files(folder)
    assert said(REFUSED.format(times), folder) == (["compiled" if times else "found"], [outcome])
    after = files(folder)
    assert after.keys() == before.keys()
    assert (after != before) == bool(times)


# on a GPU -------------------------------------------------------------------------------------------------------------

CALL = """
from hashlib import sha256

import numpy as np
from numba import cuda

import numbanorm as nbn
from numbanorm.cuda import launcher

calls = []
compiled = launcher.ptx_of
launcher.ptx_of = lambda *of: (calls.append(of), compiled(*of))[1]
x = cuda.to_device(np.random.default_rng(0).standard_normal((300, 768), np.float32))
given = [cuda.to_device(value) for value in (np.zeros(768), np.ones(768))]
results = nbn.layer_norm(x, 768), nbn.batch_renorm(x, *given, training=True, channel_axis=-1), *given
print(len(calls), *(sha256(result.copy_to_host()).hexdigest() for result in results))
"""


def test_a_gpu_runs_what_was_found(gpu, tmp_path):
    if gpu.simulated:
        pytest.skip("no GPU")
    first, second = (run_python(CALL, PATIENCE, NUMBANORM_CACHE_DIR=str(tmp_path)).split() for _ in range(2))
    assert first[1:] == second[1:]
    assert int(first[0]) == len(files(tmp_path)) > 2
    assert second[0] == "0"
