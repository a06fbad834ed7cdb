"""The command line. Where it compiles, it has three small kernels to compile."""

import ctypes
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import pytest
from everyday import every, exhaustive
from fresh import fresh, process
from processes import files

from numbanorm import __main__ as command
from numbanorm import __version__, get_num_threads
from numbanorm.ahead import variants

# The first kernel of all, and two of a dtype: three small ones.
FEW = """
import sys
from numbanorm import __main__ as command

def few(dtypes, of=command.variants):
    return [v for v in of(dtypes) if v.operation in ("merge", "update_running") and v.family != "columns"]

command.variants = few
sys.exit(command.main({}))
"""
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")


def few(*arguments, **env):
    return process("-c", FEW.format(list(arguments)), **env)


# warmup ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """A folder in which the few kernels are; tests only read it."""
    folder = tmp_path_factory.mktemp("cache")
    assert few("warmup", "--jobs", "1", "--quiet", NUMBANORM_CACHE_DIR=str(folder)).returncode == 0
    return folder


@pytest.mark.parametrize("jobs", every([(), ("--jobs", "1"), ("--jobs", "3")], [("--jobs", "3")]))
def test_kernels_are_on_disk_afterwards(jobs, tmp_path):
    env = {"NUMBANORM_CACHE_DIR": str(tmp_path)}
    done = few("warmup", *jobs, **env)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"3 kernels are ready \(.* s\), in .* \([45] kernels, 0\.\d MB\)\n", done.stdout)
    assert str(tmp_path) in done.stdout
    lines = done.stderr.splitlines()
    assert [line.split()[0] for line in lines] == ["1/3", "2/3", "3/3"]
    assert {line.split(maxsplit=1)[1] for line in lines} >= {"rows.merge(mean f8, m2 f8)"}
    kept = files(tmp_path)
    assert sum(path.suffix == ".nbc" for path in kept) >= 4  # one more, which runs them
    again = few("warmup", *jobs, "--quiet", **env)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert files(tmp_path) == kept


@posix
def test_no_place_for_a_cache(tmp_path):
    """It says so at once: in the time given here nothing is compiled."""
    (tmp_path / "file").touch()
    done = process("-m", "numbanorm", "warmup", "--quiet", NUMBANORM_CACHE_DIR=str(tmp_path / "file"))
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.fullmatch("nothing could be kept: .* set NUMBANORM_CACHE_DIR to a folder .*\n", done.stderr)


@exhaustive
def test_kernels_that_could_not_be_kept(tmp_path):
    """The folder goes away while kernels are compiled, as if the disk were full."""
    code = "import shutil\nfrom numbanorm import __main__ as command\nfound = command.found\n"
    code += f"command.found = lambda s: (shutil.rmtree({str(tmp_path)!r}, True), found(s))[1]\n"
    done = process("-c", code + FEW.format(["warmup"]), NUMBANORM_CACHE_DIR=str(tmp_path))
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"could not be kept in {tmp_path}" in done.stderr


@posix
@pytest.mark.parametrize("there", [True, False])
def test_a_folder_that_can_only_be_read(there, warm, tmp_path):
    """Kernels that are there will do; for those that are not, no process is started."""
    env = {"NUMBANORM_CACHE_DIR": str(warm if there else tmp_path)}
    code = "import os\nfrom numbanorm import __main__ as command\nos.access = lambda path, mode: mode != os.W_OK\n"
    code += "command.ProcessPoolExecutor = None\n"
    done = process("-c", code + FEW.format(["warmup", "--quiet"]), **env)
    assert done.returncode == (0 if there else 1)
    assert there or re.fullmatch("the compiled kernels could not be kept in .*: it can only be read\n", done.stderr)


class Processes(ThreadPoolExecutor):
    """In the place of a process: a thread that says what it was given."""

    made: ClassVar[list] = []

    def __init__(self, size, mp_context):
        super().__init__(size)
        self.given = []
        self.made.append(self)

    def submit(self, function, variant):
        self.given.append(variant)
        return super().submit(function, variant)


@pytest.mark.parametrize("jobs", [1, 2, 3, 4, 7, 200])
def test_each_process_keeps_to_a_family_and_dtype(jobs, monkeypatch):
    monkeypatch.setattr(Processes, "made", [])
    monkeypatch.setattr(command, "ProcessPoolExecutor", Processes)
    monkeypatch.setattr(command, "prepare", lambda variant: time.sleep(0.001) or variant)
    needed = variants(["float32", "float64"])
    assert sorted(command.compiled(needed, jobs)) == sorted(needed)
    assert len(Processes.made) == min(jobs, len(needed))
    lines = [[(v.family, v.kinds.x) for v in process.given] for process in Processes.made]
    assert all(lines)
    if jobs <= 4:  # as many as there are families and dtypes, all of which are begun first
        assert len({line[0] for line in lines}) == jobs
        assert all(line[:6] == [line[0]] * 6 for line in lines)


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (["warmup", "--jobs", "0"], "--jobs must be at least 1, got 0"),
        (["warmup", "float23"], "'float23', which is no dtype; give float64"),
        (["warmup", "float32", "complex64"], "no kernels for dtype complex64"),
        (["warmup", "--jobs", "many"], "invalid int value: 'many'"),
        (["cool"], "invalid choice: 'cool'"),
        ([], "required: command"),
    ],
)
def test_wrong_arguments_are_refused(arguments, complaint, capsys):
    with pytest.raises(SystemExit) as error:
        command.main(arguments)
    assert error.value.code == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert complaint in errors


# info -----------------------------------------------------------------------------------------------------------------


def table(text):
    """Names and values; all values begin in one column."""
    rows = [re.fullmatch(r"(\S+(?: \S+)*)( {2,})(\S.*)", line) for line in text.splitlines()]
    assert len({row.start(3) for row in rows}) == 1
    return {row[1]: row[3] for row in rows}


CUDA = {name: command._version(name) for name in ("numba-cuda", "cuda-core")}


def test_info(tmp_path):
    said = table(fresh("-m", "numbanorm", "info", NUMBANORM_CACHE_DIR=str(tmp_path), NUMBA_THREADING_LAYER="workqueue"))
    assert said["numbanorm"] == __version__
    assert said["Python"].startswith(".".join(map(str, sys.version_info[:3])))
    assert {"numpy", "numba", "llvmlite", "torch", "ml_dtypes", "CPU", "GPU"} < set(said)
    assert {name: said[name] for name in CUDA} == CUDA
    assert said["threads"] == str(get_num_threads())
    assert said["threading layer"] == "workqueue"
    assert re.fullmatch(re.escape(str(tmp_path)) + r".* \(0 kernels, 0.0 MB\)", said["cache folder"])


def test_info_counts_kernels(warm):
    env = {"NUMBANORM_CACHE_DIR": str(warm)}
    kept = [path.stat() for path in warm.rglob("*.nbc")]
    size = sum(path.stat().st_size for path in warm.rglob("*") if path.is_file())
    told = table(fresh("-m", "numbanorm", "info", **env))["cache folder"]
    assert told.endswith(f" ({len(kept)} kernels, {size / 1e6:.1f} MB)")
    assert len(kept) >= 4


@posix
def test_info_where_nothing_works(tmp_path):
    (tmp_path / "file").touch()
    env = {"NUMBANORM_CACHE_DIR": str(tmp_path / "file"), "NUMBA_THREADING_LAYER": "nonsense"}
    said = table(fresh("-m", "numbanorm", "info", **env))
    assert said["threading layer"].startswith("none: ")
    assert "nonsense" in said["threading layer"]
    assert said["cache folder"].startswith("none: set NUMBANORM_CACHE_DIR to ")


def test_info_without_numba():
    code = "import sys; sys.modules['numba'] = None; from numbanorm.__main__ import main; sys.exit(main(['info']))"
    said = table(fresh("-c", code))
    assert said["threading layer"].startswith("none: ")
    assert said["cache folder"].startswith("none: ")


def test_info_imports_neither_torch_nor_cuda():
    code = "import sys; from numbanorm.__main__ import main; main(['info']); print(*sys.modules, file=sys.stderr)"
    done = process("-c", code)
    assert "numba" in done.stderr.split()
    assert not {"torch", "numba.cuda"} & set(done.stderr.split())


def test_a_package_that_is_missing():
    assert command._version("no-such-distribution") == "not installed"


class Driver:
    """A CUDA driver with two GPUs."""

    def cuInit(self, flags):
        return 0

    def cuDeviceGetCount(self, number):
        number._obj.value = 2
        return 0

    def cuDeviceGet(self, device, i):
        device._obj.value = i
        return 0

    def cuDeviceGetName(self, name, size, device):
        name.value = b"Model %d" % device.value
        return 0


def test_gpus(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver())
    assert command._gpus() == ["Model 0", "Model 1"]


def test_a_driver_without_gpus(monkeypatch):
    monkeypatch.setattr(Driver, "cuInit", lambda self, flags: 100)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver())
    assert command._gpus() == []


def test_no_driver(monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert command._gpus() == []
