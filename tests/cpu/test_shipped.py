"""Machine code that ships: used where it fits, never where it does not, with the bits of compiled kernels.

A copy of the package has a few kernels for x86-64-v3. What runs it are processes of their own.
"""

import ctypes
import os
import re
import shutil
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import processes
import pytest
from everyday import every, exhaustive
from processes import MERGE, edit, package, run_python

from numbanorm.ahead import COMMON, of_kinds
from numbanorm.cpu import emit, launcher, shipped
from numbanorm.engine.interface import Frame

LEVEL = "x86-64-v3"
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not shipped.LEVELS[LEVEL] <= shipped._features() or object.__basicsize__ != 16,
    reason="needs Linux on x86-64-v3, and Python as it comes",
)
FEW = [variant for variant in of_kinds("f4", "f4") if variant.kinds.weight == "none" and variant.operation != "apply"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Where a copy of the package lies that has kernels; tests only read it."""
    folder = tmp_path_factory.mktemp("home")
    emit.write(package(folder) / "cpu" / "shipped", {"entry": COMMON, "float32": FEW}, [LEVEL])
    return folder


@pytest.fixture
def copy(home, tmp_path):
    """Another copy, to be damaged."""
    return shutil.copytree(home, tmp_path / "copy")


def images(home):
    return home / "numbanorm" / "cpu" / "shipped" / LEVEL


def run(home, code, **env):
    return run_python(code, PYTHONPATH=str(home), **env)


# what it is for -------------------------------------------------------------------------------------------------------

# Many layouts: short and long runs, both families, several memory orders, few groups and many, odd sizes.
DIGEST = """
import hashlib, sys
import numpy as np
import numbanorm as nbn
rng = np.random.default_rng(5)
digest = hashlib.sha256()

def add(x):
    for axis in (0, 1, -1, (0, 1), (1, 2), (0, 2), None):
        for given in (x, x[::-1], x.T, np.asfortranarray(x), x[:, ::2], x[..., 1:]):
            digest.update(nbn.normalize(given, axis=axis).tobytes())
            m = nbn.moments(given, axis=axis)
            digest.update(m.count.tobytes() + m.mean.tobytes() + m.m2.tobytes() + m.var().tobytes())

for threads in (1, 3):
    nbn.set_num_threads(threads)
    for shape in (2, 3, 5), (7, 16, 33), (3, 64, 49), (1, 5, 4099), (300, 8, 64), (4, 513, 31):
        add((rng.standard_normal(shape) * 3 + 100).astype(np.float32))
    big = rng.standard_normal((1, 700, 700), np.float32)
    big[0, 3, 5], big[0, 600, 10] = np.nan, np.inf
    add(big)
    for axis in (1, 2, None):
        digest.update(nbn.normalize(big * np.float32(1e-30), axis=axis).tobytes())
"""


@exhaustive  # it compiles all of them again
def test_bits_are_those_of_compiled_kernels(home, tmp_path):
    """Of the same level. No Numba is imported by what ships."""
    told = {"NUMBANORM_BACKGROUND": "0"}
    ours = run(home, DIGEST + "assert 'numba' not in sys.modules; print(digest.hexdigest())", **told)
    pretend = f"from numbanorm.cpu.emit import pretend; pretend({LEVEL!r})\n"
    code = pretend + DIGEST + "assert 'numba' in sys.modules; print(digest.hexdigest())"
    assert ours == run_python(code, processes.PATIENCE, NUMBANORM_CACHE_DIR=str(tmp_path), NUMBANORM_SHIPPED="0")


CALLS = """
import sys
import numpy as np
import numbanorm as nbn
x = np.random.default_rng(0).standard_normal((64, 6, 32), np.float32)
y = nbn.layer_norm(x, 32)
np.testing.assert_allclose(y, (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5), atol=1e-5)
nbn.layer_norm(x, 32, out=y)
nbn.group_norm(x, 2)
nbn.instance_norm(x)
mean, var = np.zeros(6, np.float32), np.ones(6, np.float32)
nbn.batch_norm(x, mean, var, training=True)
nbn.batch_norm(np.moveaxis(x, 1, -1).copy(), mean, var, training=True, channel_axis=-1)
nbn.rms_norm(x, 32)
assert nbn.moments(x, axis=0).std().shape == (6, 32)
assert "numba" not in sys.modules and "llvmlite" not in sys.modules
nbn.layer_norm(x.astype(np.float64), 32)
assert "numba" in sys.modules
assert (nbn.layer_norm(x, 32) == y).all()
"""


def test_calls_that_need_nothing_else_import_no_numba(home):
    run(home, CALLS)


def test_nothing_is_said_of_compiling(home, tmp_path):
    code = "import logging, sys; logging.basicConfig(level='INFO', stream=sys.stdout)\n"
    code += CALLS.partition("nbn.layer_norm(x.astype")[0]
    assert run(home, code, NUMBANORM_CACHE_DIR=str(tmp_path)) == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", every(
    [
        "threads_at_once", "fork_after_use", "grandchildren", "fork_from_a_thread", "threads_in_a_child",
        "every_number_of_threads_in_a_child", "fork_before_import", "fork_beside_a_launching_thread", "pool_by_fork",
        "pool_by_spawn", "pool_by_forkserver", "beside_another_library", "beside_another_library_first",
        "interrupt_serial", "interrupt_parallel", "interrupt_in_a_child", "exit_beside_a_thread",
    ],
    ["threads_at_once", "fork_after_use", "fork_beside_a_launching_thread", "interrupt_parallel", "grandchildren"],
))  # fmt: skip
@pytest.mark.parametrize("layer", every(processes.LAYERS, ["omp"]))
def test_processes(name, layer, home):
    case = processes.CASES[name]
    if reason := processes.unfit(case, layer, torch=False):
        pytest.skip(reason)
    processes.run(case, layer, home=str(home))


def test_any_number_of_threads_gives_the_same_bits(home):
    code = "import numbanorm as nbn\nfor n in THREADS * 2:\n    nbn.set_num_threads(n)\n    often(times=3)\n"
    code += "assert helpers() == 6 and 'numba' not in sys.modules"
    code = f"{processes.PREAMBLE}\nexpected = {processes.expected(str(home))!r}\n{code}"
    run(home, code, NUMBA_NUM_THREADS="7", NUMBANORM_BACKGROUND="0")


# Numba in the background ----------------------------------------------------------------------------------------------

LARGE = """
import sys, time
import numpy as np
import numbanorm as nbn
from numbanorm.cpu import launcher
x = np.random.default_rng(0).standard_normal((1000, 1000), np.float32)
nbn.set_num_threads(2)
y = nbn.normalize(x, axis=1)

def calls(number):
    for _ in range(number):
        assert (nbn.normalize(x, axis=1) == y).all()

def wait():
    end = time.monotonic() + 60
    while launcher._numba is None and time.monotonic() < end:
        calls(1)
"""


def test_few_large_calls_import_no_numba(home):
    run(home, LARGE + "calls(50); time.sleep(0.1); assert 'numba' not in sys.modules")


def test_many_large_calls_do_and_then_use_its_threads(home):
    run(
        home,
        LARGE + "calls(70); wait(); assert launcher._numba and not launcher._background.running.locked(); calls(5)",
    )


def test_they_do_not_if_told_so(home):
    code = "calls(200); time.sleep(0.3); assert 'numba' not in sys.modules"
    run(home, LARGE + code, NUMBANORM_BACKGROUND="0")


def test_the_process_ends_while_numba_is_imported(home):
    run(home, LARGE + "calls(64); assert launcher._background.begun")


@pytest.mark.parametrize("pause", [0.0, 0.05, 0.3])
def test_a_fork_while_numba_is_imported(pause, home):
    run(home, LARGE + f"""
import os
calls(64)
time.sleep({pause})
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        calls(70)
        assert nbn.layer_norm(x.astype(np.float64), 1000).shape == x.shape  # which compiles, or loads
        assert launcher._numba is None or launcher._process.forked
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
wait()
calls(5)
""", seconds=180)  # fmt: skip


def test_a_child_of_such_a_fork_ends_by_itself(home):
    """It does not wait for the parent's thread."""
    code = "from numbanorm.cpu import forks; import os\ncalls(64)\nassert launcher._background.running.locked()\n"
    code += "pid = os.fork()\nforks.WAIT = 10**6 if pid == 0 else forks.WAIT\n"
    code += "pid == 0 and sys.exit(0)\nassert os.waitpid(pid, 0)[1] == 0"
    run(home, LARGE + code)


def test_numba_is_imported_by_another_thread_meanwhile(home):
    run(home, LARGE + "calls(64); import numba; assert numba.njit(lambda a: a + 1)(1) == 2; wait(); calls(5)")


def test_a_numba_that_cannot_be_imported(home):
    run(
        home,
        LARGE + "sys.modules['numba'] = None; calls(80); time.sleep(0.2); calls(5); assert launcher._numba is None",
    )


# wrong input ----------------------------------------------------------------------------------------------------------


def changed(path, change):
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)


def flip(place):
    def change(data):
        data[place] ^= 1

    return change


def cut(data):
    del data[-1]


def signed(path, place, news):
    """A manifest that says something else, with its right digest: format, system, level or sources."""
    about, kept = shipped.parsed(path.read_text().partition("\n")[2])
    about[place] = news
    text = shipped.written(about, kept).encode()
    path.write_bytes(sha256(text).hexdigest().encode() + b"\n" + text)


def swap(folder):
    """An image of other kernels, in the place of the right one."""
    shutil.copy(folder / "float32.bin", folder / "entry.bin")


def everybody(path):
    path.chmod(path.stat().st_mode | 0o002)


def another_group(path):
    if os.getuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(path, 0, 65534)
    path.chmod(path.stat().st_mode | 0o020)


def another_owner(path):
    if os.getuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(path, 65534, 65534)


DAMAGE = {
    "no manifest": (lambda f: (f / "manifest").unlink(), "No such file"),
    "an empty manifest": (lambda f: (f / "manifest").write_bytes(b""), "the manifest in .* is damaged"),
    "a manifest cut off": (lambda f: changed(f / "manifest", cut), "the manifest in .* is damaged"),
    "a bit of the manifest": (lambda f: changed(f / "manifest", flip(-40)), "the manifest in .* is damaged"),
    "no digest": (lambda f: changed(f / "manifest", flip(3)), "the manifest in .* is damaged"),
    "another format": (lambda f: signed(f / "manifest", 0, "99"), "made of other sources, or for another"),
    "another system": (lambda f: signed(f / "manifest", 1, "linux-aarch64"), "or for another system"),
    "another level": (lambda f: signed(f / "manifest", 2, "x86-64-v4"), "or for another system"),
    "other sources": (lambda f: signed(f / "manifest", 3, "0" * 64), "made of other sources"),
    "edited sources": (
        lambda f: edit(f.parents[2] / "maths" / "welford.py", "import math\n", "import math  # edited\n"),
        "made of other sources",
    ),
    "no image": (lambda f: (f / "entry.bin").unlink(), "No such file"),
    "an empty image": (lambda f: (f / "entry.bin").write_bytes(b""), "entry.bin is damaged"),
    "an image cut off": (lambda f: changed(f / "entry.bin", cut), "entry.bin is damaged"),
    "the first bit of an image": (lambda f: changed(f / "entry.bin", flip(0)), "entry.bin is damaged"),
    "the last bit of an image": (lambda f: changed(f / "entry.bin", flip(-1)), "entry.bin is damaged"),
    "a foreign image": (swap, "entry.bin is damaged"),
    "a folder that all can write": (everybody, "others can write .*v3"),
    "a folder above it": (lambda f: everybody(f.parent), "others can write .*shipped"),
    "a manifest that all can write": (lambda f: everybody(f / "manifest"), "others can write .*manifest"),
    "an image that all can write": (lambda f: everybody(f / "entry.bin"), "others can write .*entry.bin"),
    "a folder of another group": (another_group, "others can write .*v3"),
    "an image of another user": (lambda f: another_owner(f / "entry.bin"), "others can write .*entry.bin"),
    "no folder for this level": (lambda f: shutil.rmtree(f), "none for a processor like this"),
    "no folder at all": (lambda f: shutil.rmtree(f.parent), "this installation has none"),
}
LOGGED = "import logging, sys; logging.basicConfig(level='DEBUG', stream=sys.stdout, format='%(name)s: %(message)s')\n"


def said(output):
    """What a program that merges states says, if it is right, and what was logged before."""
    *logged, last = output.splitlines()
    number, *found = last.split()
    assert number == "5.0", output
    assert found and set(found) <= {"hit", "miss"}, output  # Numba's, both the kernel and the entry
    return [line for line in logged if line.startswith("numbanorm: ")]


@pytest.mark.parametrize("name", DAMAGE)
def test_what_does_not_fit_is_not_executed(name, copy):
    damage, reason = DAMAGE[name]
    damage(images(copy))
    logged = said(run(copy, LOGGED + MERGE))
    assert any(line.startswith("numbanorm: shipped kernels are not used: ") for line in logged)
    assert re.search(reason, "\n".join(logged)), logged


SETTINGS = {
    "turned off": {"NUMBANORM_SHIPPED": "0"},
    "optimization": {"NUMBA_OPT": "3"},
    "a processor": {"NUMBA_CPU_NAME": "x86-64-v2", "NUMBA_CPU_FEATURES": ""},
    "features": {"NUMBA_CPU_FEATURES": "+avx2"},
    "bounds": {"NUMBA_BOUNDSCHECK": "1"},
    "what nobody knows yet": {"NUMBA_SOMETHING_NEW": "1"},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_numba_are_heeded(name, home, tmp_path):
    assert said(run(home, MERGE, NUMBANORM_CACHE_DIR=str(tmp_path), **SETTINGS[name])) == []


def test_numba_may_be_told_in_python(home):
    said(run(home, "from numba.core import config; config.CPU_FEATURES = '+avx2'\n" + MERGE, NUMBANORM_CACHE_DIR=""))


MACHINES = {
    "a processor below the level": "shipped._features = lambda: frozenset({'avx', 'sse4_1'})",
    "an unknown processor": "shipped._features = lambda: frozenset()",
    "another system": "shipped.sys = type(sys)('sys'); vars(shipped.sys).update(vars(sys), platform='darwin')",
    "another Python": "shipped.sys = type(sys)('sys'); vars(shipped.sys).update(vars(sys), abiflags='t')",
    "no memory to execute": "shipped.mmap.PROT_EXEC = 1 << 20",
    "no memory": "shipped.mmap.mmap = lambda *sizes: os.close(-1)",
    "no such name outside": "shipped._address = lambda name, of=shipped._address: of(name.replace('Tuple', 'Nothing'))",
}


@pytest.mark.parametrize("name", MACHINES)
def test_machines_that_do_not_fit(name, home):
    logged = said(run(home, f"{LOGGED}import os\nfrom numbanorm.cpu import shipped\n{MACHINES[name]}\n{MERGE}"))
    assert any(line.startswith("numbanorm: shipped kernels are not used: ") for line in logged)


def test_an_edited_constant_is_compiled(copy, tmp_path):
    """The sums change, and with them the result: old code is not used."""
    sums = copy / "numbanorm" / "maths" / "accumulators.py"
    edit(sums, "where(delta - delta == 0.0, mean_a + delta * share_b,", "where(True, mean_a + delta * share_b + 100.0,")
    assert run(copy, MERGE, NUMBANORM_CACHE_DIR=str(tmp_path)) == "105.0 miss"


@pytest.mark.parametrize(
    ("mode", "group", "gid", "members", "fits"),
    [
        (0o755, "ann", 1000, [], True),
        (0o775, "ann", 1000, [], True),
        (0o775, "ann", 1000, ["ann"], True),
        (0o775, "ann", 1000, ["bob"], False),
        (0o775, "staff", 1000, [], False),
        (0o775, "ann", 1001, [], False),
        (0o777, "ann", 1000, [], False),
    ],
)
def test_a_group_of_one_user_is_that_user(mode, group, gid, members, fits, monkeypatch):
    import grp
    import pwd

    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.setattr(grp, "getgrgid", lambda _: grp.struct_group((group, "x", gid, members)))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: pwd.struct_passwd(("ann", "x", 1000, 1000, "", "/", "/bin/sh")))
    about = os.stat_result((0o40000 | mode, 0, 0, 1, 1000, gid, 0, 0, 0, 0))
    assert shipped._is_ours(about) == fits


# the entry from Python ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def entries(home):
    """Numba's entry, the shipped one, and the address of a kernel."""
    before = shipped.FOLDER
    shipped.FOLDER = images(home).parent
    caches = shipped._manifest, shipped._notes, shipped._loaded, shipped.serial, shipped.address_of
    for one in caches:
        one.cache_clear()
    try:
        yield launcher._compiler().serial(), shipped.serial(), shipped.address_of(COMMON[0])
    finally:
        shipped.FOLDER = before
        for one in caches:
            one.cache_clear()


TABLE = np.zeros(64, np.int64)
EMPTY = Frame()
REFUSED = {
    "too few": (lambda a: (a, 0, 0, TABLE), TypeError, "5 arguments, got 4"),
    "too many": (lambda a: (a, 0, 0, TABLE, EMPTY, 1), TypeError, "5 arguments, got 6"),
    "a string": (lambda a: ("x", 0, 0, TABLE, EMPTY), ValueError, "invalid literal"),
    "None": (lambda a: (a, None, 0, TABLE, EMPTY), TypeError, "NoneType"),
    "too large": (lambda a: (a, 0, 2**70, TABLE, EMPTY), OverflowError, "too big"),
    "a short frame": (lambda a: (a, 0, 0, TABLE, EMPTY[:-1]), ValueError, "expected 21 element.* got 20"),
    "no frame": (lambda a: (a, 0, 0, TABLE, [None] * 21), ValueError, "expected 21 element.* got -1"),
    "a float that is none": (lambda a: (a, 0, 0, TABLE, EMPTY._replace(eps=None)), TypeError, "NoneType"),
    "a whole number that is none": (lambda a: (a, 0, 0, TABLE, EMPTY._replace(ddof=[])), TypeError, "list"),
    "-1 that is an error": (lambda a: (a, 0, 0, TABLE, EMPTY._replace(center="q")), ValueError, "invalid literal"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_entry_refuses(name, entries):
    _, ours, address = entries
    arguments, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        ours(*arguments(address))


def test_the_entry_takes_what_numbas_takes(entries):
    numbas, ours, address = entries
    frames = EMPTY, tuple(EMPTY), EMPTY._replace(eps=1, center=np.int32(-1), momentum=np.float32(-1.0), ddof=True)
    for frame in frames:
        for numbers in (0, 0), (np.int64(0), 0.9), (True, -1):
            assert numbas(address, *numbers, TABLE, frame) is None
            assert ours(address, *numbers, TABLE, frame) is None
    assert ours(np.uint64(address), 0, 0, TABLE, EMPTY) is None


def test_the_entry_keeps_no_references(entries):
    _, ours, address = entries
    numbers = [int(str(address)), 10**9, 0.123456, "1000000007"]
    array, frame = np.zeros(3), EMPTY._replace(x=None, eps=numbers[2], ddof=numbers[3], center=numbers[1])
    frame = frame._replace(x=array)
    held = [*numbers, array, frame, TABLE]
    before = [sys.getrefcount(one) for one in held]
    for _ in range(1000):
        ours(numbers[0], 0, 0, TABLE, frame)
    assert [sys.getrefcount(one) for one in held] == before


# emitting -------------------------------------------------------------------------------------------------------------


def compiled_object(text):
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return emit._machine(LEVEL).emit_object(binding.parse_assembly(text))


def test_code_is_linked_to_its_constants_and_to_names_outside(tmp_path, monkeypatch):
    text = """
@one = private constant double 1.5
@two = private constant [2 x double] [double 0.0, double 2.5]
@three = private constant double 3.5
@numbers = private constant [3 x ptr] [ptr @one, ptr getelementptr ([2 x double], ptr @two, i64 0, i64 1), ptr @three]
declare i32 @sched_yield()
define double @first(i64 %at) {
  %r = call i32 @sched_yield()
  %place = getelementptr [3 x ptr], ptr @numbers, i64 0, i64 %at
  %p = load ptr, ptr %place
  %v = load double, ptr %p
  %w = fadd double %v, 0x3FB999999999999A
  ret double %w
}
define double @second(i64 %at) {
  %v = call double @first(i64 %at)
  ret double %v
}
"""
    code, image = emit.linked(compiled_object(text), ["first", "second"])
    assert image.outside == ["sched_yield"]
    assert len(image.pointers) == 3
    assert len(code) == image.table + 8
    base = loaded(code, image, tmp_path, monkeypatch)
    second = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_int64)(base + image.kernels["second"])
    assert [second(i) for i in range(3)] == [1.5 + 0.1, 2.5 + 0.1, 3.5 + 0.1]


def loaded(code, image, tmp_path, monkeypatch):
    """Address of an image, loaded as those that ship are."""
    (tmp_path / LEVEL).mkdir()
    (tmp_path / LEVEL / "made.bin").write_bytes(code)
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    monkeypatch.setattr(shipped, "_manifest", lambda: (LEVEL, [image._replace(file="made.bin")]))
    return shipped._load("made.bin")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("@x = global i64 7\ndefine ptr @f() {\n ret ptr @x\n}", "data to be written"),
        ("@x = global i64 0\ndefine ptr @f() {\n ret ptr @x\n}", "data to be written"),
        ("@x = private constant ptr @g\ndeclare void @g()\ndefine ptr @f() {\n ret ptr @x\n}", "relocation 1 to 'g'"),
        ("@x = constant i64 7, align 4096\ndefine ptr @f() {\n ret ptr @x\n}", "multiples of 4096"),
        ("@x = thread_local global i64 7\ndefine ptr @f() {\n ret ptr @x\n}", "data to be written"),
    ],
)
def test_what_cannot_be_linked_is_refused(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        emit.linked(compiled_object(text), ["f"])


def test_only_objects_are_linked():
    with pytest.raises(ValueError, match="not an object file"):
        emit.linked(b"MZ" + bytes(100), [])
    with pytest.raises(ValueError, match="not an object file"):
        emit.linked(Path("/proc/self/exe").read_bytes()[:4096], [])


def test_an_image_for_avx_512_is_made_on_any_machine(tmp_path):
    """It is not run here."""
    emit.write(tmp_path, {"entry": COMMON}, ["x86-64-v4"])
    about, (image,) = shipped.parsed((tmp_path / "x86-64-v4" / "manifest").read_text().partition("\n")[2])
    assert about[2] == "x86-64-v4"
    assert set(image.kernels) == {str(COMMON[0]), shipped.ENTRY}
    code = (tmp_path / "x86-64-v4" / image.file).read_bytes()
    assert sha256(code).hexdigest() == image.digest
    assert len(code) > 1000


def test_an_unknown_kernel_is_said(tmp_path):
    with pytest.raises(RuntimeError, match=r"could not be emitted(.|\n)*no_such_operation"):
        emit.write(tmp_path, {"entry": [COMMON[0]._replace(operation="no_such_operation")]}, [LEVEL])


@pytest.mark.parametrize(
    ("features", "there", "level"),
    [
        ("x86-64-v4", ["x86-64-v3", "x86-64-v4"], "x86-64-v4"),
        ("x86-64-v4", ["x86-64-v3"], "x86-64-v3"),
        ("x86-64-v3", ["x86-64-v3", "x86-64-v4"], "x86-64-v3"),
    ],
)
def test_the_highest_level_is_chosen(features, there, level, tmp_path, monkeypatch):
    for name in there:
        (tmp_path / name).mkdir()
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    monkeypatch.setattr(shipped, "_features", lambda: shipped.LEVELS[features] | {"mmx"})
    assert shipped._level() == level


# the command ----------------------------------------------------------------------------------------------------------


def test_info_says_what_was_found(home):
    code = "import sys; from numbanorm.__main__ import main; sys.exit(main(['info']))"
    line = next(line for line in run(home, code).splitlines() if line.startswith("shipped kernels"))
    assert f"{len(FEW) + len(COMMON)} kernels for {LEVEL}, in {images(home).parent}" in line
    line = next(line for line in run_python(code).splitlines() if line.startswith("shipped kernels"))
    assert "none: " in line


def test_warmup_skips_what_ships(home, tmp_path):
    code = f"from numbanorm import __main__ as command, ahead\nnames = {[str(variant) for variant in FEW]}\n"
    code += "few = lambda dtypes: [*ahead.COMMON, *(v for v in ahead.of_kinds('f4', 'f4') if str(v) in names)]\n"
    code += "command.variants = ahead.variants = few\nahead.warmup()\n"
    code += "import sys; assert 'numba' not in sys.modules or sys.exit(2)\nsys.exit(command.main(['warmup']))"
    told = run(home, code, NUMBANORM_CACHE_DIR=str(tmp_path))
    assert told == f"{len(FEW) + len(COMMON)} kernels are ready: they came with the package"
    assert not list(tmp_path.iterdir())
