"""The asv suite runs: each benchmark at tiny sizes, in this process and without asv."""

import importlib
import inspect
import itertools
import math
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import numbanorm as nbn

MODULES = ("against", "gpu", "memory", "norms", "start")
with pytest.MonkeyPatch.context() as patch:
    patch.setenv("NUMBANORM_CASES", "tiny")
    modules = {name: importlib.import_module(f"benchmarks.{name}") for name in MODULES}
start = modules["start"]

pytestmark = pytest.mark.usefixtures("threads")  # which most benchmarks change
BENCHMARKS = {
    f"{module}.{name}.{method}": (cls, method)
    for module, members in modules.items()
    for name, cls in inspect.getmembers(members, inspect.isclass)
    if cls.__module__ == members.__name__ and not name.startswith("_")
    for method in dir(cls)
    if method.startswith(("time_", "track_", "timeraw_", "peakmem_"))
}
found = {}  # what each setup_cache returned


def prepared(name):
    """Return a benchmark's object and method, and what its methods are called with."""
    cls, method = BENCHMARKS[name]
    instance = cls()
    if hasattr(cls, "setup_cache") and cls not in found:
        found[cls] = instance.setup_cache()
    cached = [] if found.get(cls) is None else [found[cls]]
    parameters = list(itertools.product(*getattr(getattr(cls, method), "params", getattr(cls, "params", ()))))
    return instance, getattr(instance, method), [(*cached, *each) for each in parameters]


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name.startswith(("memory.", "norms."))])
def test_calls(name):
    instance, method, parameters = prepared(name)
    assert parameters
    for each in parameters:
        instance.setup(*each)
        method(*each)


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name.startswith("against.")])
def test_figures(name):
    _, method, parameters = prepared(name)
    assert parameters
    if name.endswith("over_torch") and not find_spec("torch"):
        pytest.skip("torch is not installed")
    for each in parameters:
        if "torch" in each and not find_spec("torch"):
            continue
        assert 0 <= method(*each) < math.inf, each[1:]


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name.startswith("start.")])
def test_programs(name):
    instance, method, parameters = prepared(name)
    each = next((each for each in parameters if "batch norm, evaluation" in each), ())  # what compiles fastest
    if each and hasattr(instance, "setup"):
        instance.setup(*each)
    statement, before = method(*each)
    subprocess.run([sys.executable, "-c", f"{before}\n{statement}"], check=True)
    if each and hasattr(instance, "teardown"):
        instance.teardown(*each)


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name.endswith(".track_time")])
def test_libraries_are_a_parameter(name):
    """So that asv draws all in one plot."""
    cls, method = BENCHMARKS[name]
    track = getattr(cls, method)
    assert track.param_names == ("case", "threads", "library")
    assert track.params[-1] == ("numbanorm", "NumPy", "torch")
    assert track.params[0] == list(modules["against"].cases(cls.setup_cache.__code__.co_consts[1]))


KERNELS = """
from harness.contenders import CONTENDERS, Unfit
from harness.plain import numpy_norm

def mine(case, a, out):
    if case.dtype != "float32":
        raise Unfit("it knows float32")
    return None if out is not None else lambda: numpy_norm(case, a)

def broken(case, a, out):
    raise RuntimeError("lost")

CONTENDERS["rms_norm"] |= {"mine": mine, "broken": broken}
"""
MEASURED = """
from benchmarks import against
rms = against.RMSNorm()
found = rms.setup_cache()
print(*rms.track_time.params[-1])
for label in rms.params[0]:
    try:
        broken = rms.track_time(found, label, 1, "broken")
    except RuntimeError as error:
        broken = error
    times = [rms.track_time(found, label, 1, name) for name in ("numbanorm", "NumPy", "mine")]
    print(*(time > 0 for time in times), broken, rms.track_over_numpy(found, label, 1) > 0, sep=", ")
"""


def test_kernels_of_ones_own_are_measured_beside_the_libraries(tmp_path):
    file = tmp_path / "my_kernels.py"
    file.write_text(KERNELS, "utf-8")
    found = [Path(__file__).parents[2] / "asv_benchmarks", *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    env = os.environ | {"NUMBANORM_CASES": "tiny", "PYTHONPATH": os.pathsep.join(map(str, found))}
    command = [sys.executable, "-c", MEASURED]
    run = {"capture_output": True, "text": True, "check": False}
    done = subprocess.run(command, env=env | {"NUMBANORM_KERNELS": str(file)}, **run)
    who, *lines = done.stdout.splitlines()
    assert who == "numbanorm NumPy torch mine broken", done.stderr
    *most, last = sorted(lines)
    assert last == "True, True, True, RuntimeError: lost, True"
    assert any("True, True, False, RuntimeError: lost, True" == line for line in most)  # Unfit, so n/a
    done = subprocess.run(command, env=env | {"NUMBANORM_KERNELS": "nowhere.py"}, **run)
    assert "NUMBANORM_KERNELS names no file" in done.stderr


def test_first_calls(tmp_path):
    before = start.BEFORE.format(folder="os.environ.get('NUMBANORM_CACHE_DIR', '')")
    subprocess.run([sys.executable, "-c", "\n".join((before, *start.CALLS.values()))], check=True)


@pytest.fixture
def torch(monkeypatch):
    """Give torch, with the processor for a GPU."""
    torch = pytest.importorskip("torch")
    from gpu_stand_in import Processor
    from harness.gpu import measure

    monkeypatch.setattr(measure, "this_gpu", lambda: measure.Gpu("cpu", Processor(), 1 << 14))
    monkeypatch.setattr(modules["gpu"], "find", lambda: torch)
    return torch


@pytest.mark.usefixtures("torch")
@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name.startswith("gpu.")])
def test_on_a_gpu(name):
    instance, method, parameters = prepared(name)
    assert len(parameters) == 6
    for each in parameters:
        instance.setup(*each)
        assert 0 < method(*each) < math.inf, each


def test_without_a_gpu(monkeypatch):
    """All is n/a."""

    def find():
        raise modules["gpu"].NoGPU("there is none")

    monkeypatch.setattr(modules["gpu"], "find", find)
    instance, _, parameters = prepared("gpu.Gpu.track_on_device")
    for each in parameters:
        with pytest.raises(NotImplementedError, match="there is none"):
            instance.setup(*each)


def test_wrong_on_a_gpu(torch, monkeypatch):
    """A failure is one, and what an older numbanorm lacks is n/a."""
    instance, method, parameters = prepared("gpu.Gpu.track_queued")
    instance.setup(*parameters[0])
    monkeypatch.setattr(nbn, "layer_norm", lambda x, *args, **kwargs: torch.zeros_like(x))
    with pytest.raises(RuntimeError, match="wrong"):
        method(*parameters[0])
    monkeypatch.delattr(nbn, "layer_norm")
    with pytest.raises(NotImplementedError, match="layer_norm"):
        instance.setup(*parameters[0])


def test_missing(monkeypatch):
    """What an older numbanorm lacks is n/a."""
    monkeypatch.delattr(nbn, "group_norm")
    suite = modules["norms"].GroupNorm()
    with pytest.raises(NotImplementedError, match="group_norm"):
        suite.setup(suite.params[0][0], 1)
    report = modules["against"].GroupNorm()
    assert math.isnan(report.track_over_numpy(report.setup_cache(), suite.params[0][0], 1))


def test_failing(monkeypatch):
    """A call that fails is a failure, of its own case only."""
    first, second = modules["against"].GroupNorm.params[0][:2]
    usual = nbn.group_norm

    def failing(x, *args, **kwargs):
        if x.shape == modules["against"].cases("group_norm")[first].shape:
            raise MemoryError
        return usual(x, *args, **kwargs)

    monkeypatch.setattr(nbn, "group_norm", failing)
    report = modules["against"].GroupNorm()
    found = report.setup_cache()
    with pytest.raises(RuntimeError, match="MemoryError"):
        report.track_over_numpy(found, first, 1)
    assert report.track_over_numpy(found, second, 1) > 0


def test_what_is_shown():
    """Every norm of the table of cases has its times and its ratios, and so has the way back; others have times."""
    from harness.case import NORMS

    shown, others = {*NORMS, "backward"}, {"groups", "containers"}
    assert {cls.norm for cls, method in BENCHMARKS.values() if method == "time_call"} == shown | others
    assert len({cls for cls, method in BENCHMARKS.values() if method == "track_error"}) == len(shown)
