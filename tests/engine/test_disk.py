"""What the stamp of kept kernels covers: all that kernels are made of, and no more."""

import ast
import compileall
from pathlib import Path
from zipfile import ZipFile

import pytest
from processes import edit, package, run_python

import numbanorm as nbn
from numbanorm.engine import disk

PACKAGE = Path(nbn.__file__).parent
PROCESSORS = ["cpu", "cuda"]


def sources(folder):
    """Files of a folder of the package, by their names within it."""
    found = sorted(path.relative_to(PACKAGE).as_posix() for path in (PACKAGE / folder).rglob("*.py"))
    assert found
    return found


def covered(processor):
    """Files of which the stamp is made."""
    return {*sources("maths"), *sources(f"{processor}/kernels"), "walk/slots.py", "walk/table.py"}


def imported(path):
    """Modules of the package, as paths, that a file imports wherever it does."""
    home = Path(path).parent.parts
    for node in ast.walk(ast.parse((PACKAGE / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert not any(alias.name.split(".")[0] == "numbanorm" for alias in node.names), path
        elif isinstance(node, ast.ImportFrom):
            words = (node.module or "").split(".") if node.module else []
            if node.level == 0:
                assert words[0] != "numbanorm", path
                continue
            base = [*home[: len(home) - node.level + 1], *words]
            for alias in node.names:  # a module of a package, or a name in a module
                inner = Path(*base, alias.name)
                yield (inner if (PACKAGE / inner).with_suffix(".py").exists() else Path(*base)).as_posix() + ".py"


@pytest.mark.parametrize("path", [*sources("maths"), *sources("cpu/kernels"), *sources("cuda/kernels")])
def test_kernels_are_made_of_what_the_stamp_covers(path):
    """A number from anywhere else would be baked into code that is still taken for fresh when it has changed."""
    processor = "cuda" if path.startswith("cuda") else "cpu"
    allowed = covered(processor) - {"walk/table.py"} if "kernels" in path else set(sources("maths"))
    assert set(imported(path)) <= allowed


# Each file of a copy is edited, and the stamps are made anew.
EDITED = """
import sys
from pathlib import Path
from numbanorm.engine import disk

home = Path(disk.__file__).parents[1]

def stamps():
    disk.stamp.cache_clear()
    return [disk.stamp(processor) for processor in ("cpu", "cuda")]

before = stamps()
for path in sorted(home.rglob("*.py")):
    text = path.read_bytes()
    path.write_bytes(text + b"# edited\\n")
    changed = [name for name, old, new in zip(("cpu", "cuda"), before, stamps()) if old != new]
    path.write_bytes(text)
    print(path.relative_to(home).as_posix(), *changed)
assert stamps() == before
"""


def test_the_stamp_covers_these_files_and_no_others(tmp_path):
    package(tmp_path)
    said = [line.split() for line in run_python(EDITED, PYTHONPATH=str(tmp_path)).splitlines()]
    changed = {path: stamps for path, *stamps in said}
    assert len(changed) > 40
    for path, stamps in changed.items():
        assert stamps == [name for name in PROCESSORS if path in covered(name)], path
    assert changed["cpu/tuning.py"] == changed["cuda/shapes.py"] == []


@pytest.mark.parametrize("change", ["new", "renamed", "swapped"])
def test_the_stamp_knows_which_file_is_which(change, tmp_path):
    home = package(tmp_path)
    maths = home / "maths"
    if change == "new":
        (maths / "empty.py").touch()
    elif change == "renamed":
        (maths / "welford.py").rename(maths / "welfare.py")
    else:
        first, second = maths / "welford.py", maths / "coefficients.py"
        texts = first.read_bytes(), second.read_bytes()
        first.write_bytes(texts[1])
        second.write_bytes(texts[0])
    code = "from numbanorm.engine import disk; print(disk.stamp('cpu'))"
    assert run_python(code, PYTHONPATH=str(tmp_path)) != disk.stamp("cpu")


# Packages as others ship them: in a zip file, or as byte code alone, beside a folder or inside of a zip file.


def ship(folder, form):
    """The package of a folder in a form, in a place of its own; gives what to put on the path."""
    place = folder / form.replace(" ", "-")
    if "byte code" in form:
        assert compileall.compile_dir(folder / "numbanorm", quiet=1, legacy=True, force=True)
    endings = {".pyc"} if "byte code" in form else {".py"}
    files = [
        path for path in (folder / "numbanorm").rglob("*") if path.suffix in endings and "__pycache__" not in str(path)
    ]
    if "zip" in form:
        with ZipFile(place.with_suffix(".zip"), "w") as archive:
            for path in files:
                archive.write(path, path.relative_to(folder))
        return place.with_suffix(".zip")
    for path in files:
        target = place / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return place


# A small kernel, compiled, or loaded from disk.
USED = """
import numpy as np
from numbanorm.cpu.engine import ENGINE
from numbanorm.cpu.kernels import states
from numbanorm.engine import disk
from numbanorm.engine.interface import Frame

numbers = {name: np.full(2, value) for name, value in {"count": 2.0, "mean": 3.0, "m2": 5.0}.items()}
running = {"running_mean": np.zeros(2), "running_var": np.ones(2)}
frame = Frame(**numbers, **running, momentum=0.5, ddof=1)
for step in ENGINE.plan("update_running", None, frame).steps:
    ENGINE.launch(step, frame)
assert all(disk.stamp(processor) for processor in ("cpu", "cuda"))
print(running["running_mean"][0], running["running_var"][0], sum(states.update_running.stats.cache_misses.values()))
"""


@pytest.mark.parametrize("form", ["zip of sources", "byte code", "zip of byte code"])
def test_kernels_are_fresh_however_the_package_is_shipped(form, tmp_path):
    home = package(tmp_path / "first")
    env = {"NUMBANORM_CACHE_DIR": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}

    def used():
        return run_python(USED, PYTHONPATH=str(ship(tmp_path / "first", form)), **env).split()

    assert used() == ["1.5", "3.0", "1"]
    assert used() == ["1.5", "3.0", "0"], "not kept for the next process"
    edit(home / "maths" / "welford.py", "(1.0 - share) * old + share * new", "(1.0 - share) * old + share * new + 1.0")
    assert used() == ["2.5", "4.0", "1"], "the code of another version"


def test_without_a_stamp_nothing_is_kept(tmp_path):
    code = (
        "from numbanorm.engine import disk; disk._made_of = lambda name: None; "
        "print(disk.stamp('cpu'), disk.folder('cpu'))"
    )
    assert run_python(code, NUMBANORM_CACHE_DIR=str(tmp_path)).split() == ["None", "None"]
    assert not list(tmp_path.iterdir())


def test_another_numba_is_another_stamp():
    code = "import numba; numba.__version__ += '.1'; from numbanorm.engine import disk; print(disk.stamp('cpu'))"
    assert run_python(code) != disk.stamp("cpu")
    assert run_python(code.replace("+= '.1'", "+= ''")) == disk.stamp("cpu")


def test_each_processor_has_its_own_folder(tmp_path):
    """And code of one is none of the other's, whatever it is called."""
    code = """
from numbanorm.engine import disk
print(disk.folder("cpu").name, disk.folder("cuda").name)
disk.save("cpu", "code", "needs", b"of the cpu")
assert disk.load("cpu", "code", "needs") == b"of the cpu"
assert disk.load("cuda", "code", "needs") is None
assert disk.load("cpu", "code", "more") is None
assert disk.load("cpu", "coda", "needs") is None
"""
    cpu, cuda = run_python(code, NUMBANORM_CACHE_DIR=str(tmp_path)).split()
    assert cpu == f"cpu-{disk.stamp('cpu')[:16]}"
    assert cuda == f"cuda-{disk.stamp('cuda')[:16]}"
    assert {path.name for path in tmp_path.iterdir()} == {cpu, cuda}
