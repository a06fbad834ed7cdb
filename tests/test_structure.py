"""The design's section on files: public names, and who may import whom."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import numbanorm as nbn

PACKAGE = Path(nbn.__file__).parent
# Lowest first. A module imports from lower ranks, or from its own package; integrations sit on top.
RANKS = [
    "layout",
    "nest",
    "schedule",
    "kernels",
    "launches memory",
    "libraries",
    "arrays",
    "device",
    "engine",
    "device_calls",
    "calls",
    "moments",
    "normalize",
    "channels running",
    "norms reparam",
    "warmup",
]
INTEGRATIONS = {"torch", "sklearn", "dask", "plot", "__main__"}

SIGNATURES = {
    "Layout": "(pattern, **sizes)",
    "Moments": None,
    "moments": "(x, layout=None, *, axis=None, **sizes)",
    "normalize": "(x, layout=None, weight=None, bias=None, *, axis=None, eps=1e-05, moments=None, out=None, "
    "return_moments=False, **sizes)",
    "batch_norm": "(x, running_mean=None, running_var=None, weight=None, bias=None, training=False, momentum=0.1, "
    "eps=1e-05, *, channel_axis=1, out=None)",
    "layer_norm": "(x, normalized_shape, weight=None, bias=None, eps=1e-05, *, out=None)",
    "group_norm": "(x, num_groups, weight=None, bias=None, eps=1e-05, *, channel_axis=1, out=None)",
    "instance_norm": "(x, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, "
    "momentum=0.1, eps=1e-05, *, channel_axis=1, out=None)",
    "rms_norm": "(x, normalized_shape, weight=None, eps=None, *, out=None)",
    "batch_renorm": "(x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-05, "
    "*, r_max=3.0, d_max=5.0, channel_axis=1, out=None)",
    "batch_instance_norm": "(x, rho, weight=None, bias=None, eps=1e-05, *, channel_axis=1, out=None)",
    "weight_norm": "(v, g, *, axis=0)",
    "weight_standardize": "(w, *, axis=0, eps=1e-05, ddof=0)",
    "spectral_norm": "(w, u=None, *, axis=0, num_iterations=1, eps=1e-12)",
    "set_num_threads": "(n)",
    "get_num_threads": "()",
    "warmup": "(dtypes=('float32',), *, progress=False)",
}


def test_public_names():
    assert set(nbn.__all__) == set(SIGNATURES)
    assert len(nbn.__all__) == len(set(nbn.__all__))
    public = {name for name in dir(nbn) if not name.startswith("_") and not inspect.ismodule(getattr(nbn, name))}
    assert public == set(SIGNATURES)


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_and_docstrings(name):
    item = getattr(nbn, name)
    assert len(inspect.getdoc(item).split()) > 5
    if SIGNATURES[name] is not None:
        signature = inspect.signature(item)
        bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
        assert str(inspect.Signature(bare)) == SIGNATURES[name]


@pytest.mark.parametrize("module", ["numba", "torch", "matplotlib"])
def test_importing_numbanorm_does_not_import(module):
    code = f"import sys, numbanorm; numbanorm.Layout; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_layouts_need_no_numba():
    code = "import sys, numbanorm as n; n.Layout('a b -> a').group_ids((2, 3)); sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_where_kernels_are_kept_is_asked_without_numba():
    code = "import sys, numbanorm.maths.disk; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def sources():
    files = sorted(p.relative_to(PACKAGE) for p in PACKAGE.rglob("*.py"))
    assert len(files) > 8
    return files


def parsed(path):
    return ast.parse((PACKAGE / path).read_text(encoding="utf-8"))


def imported(path):
    """Absolute dotted names of all that a file imports, wherever in the file."""
    package = ["numbanorm", *path.parent.parts]
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            yield from (".".join([*base, alias.name]) for alias in node.names)


def home(parts):
    """The module or subpackage of numbanorm in which a path or a dotted name lies."""
    return parts[0].removesuffix(".py")


def rank(name):
    found = [i for i, names in enumerate(RANKS) if name in names.split()]
    assert found, f"{name} has no rank: add it to RANKS where the design puts it"
    return found[0]


@pytest.mark.parametrize("path", sources(), ids=str)
def test_imports_run_one_way(path):
    own = home(path.parts)
    for name in imported(path):
        first, *rest = name.split(".")
        if first != "numbanorm" or not rest or own == "__init__":
            continue
        other = home(rest)
        if other == own or own in INTEGRATIONS:
            continue
        assert other not in INTEGRATIONS, f"{path} imports an integration, {name}"
        assert rank(other) < rank(own), f"{path} imports {name}, which comes after it"


@pytest.mark.parametrize("path", [p for p in sources() if p.parts[0] == "kernels"], ids=str)
def test_kernels_know_no_layout(path):
    for name in imported(path):
        assert not name.startswith(("numbanorm.layout", "numbanorm.walk.nest")), name
    names = {node.id for node in ast.walk(parsed(path)) if isinstance(node, ast.Name)}
    assert not names & {"Layout", "LoopNest"}


@pytest.mark.parametrize("own, other", [("cpu", "cuda"), ("cuda", "cpu")])
def test_kernels_of_one_processor_need_none_of_another(own, other):
    for path in sources():
        if path.parts[:2] == ("kernels", own):
            assert not [name for name in imported(path) if name.startswith(f"numbanorm.maths.{other}")], path


# The launcher asks for nobody's arrays: it keeps torch's number of threads where starting ours would change it.
FREE = {"arrays.py", "libraries.py", "kernels/cpu/launcher.py"}
OTHERS = [p for p in sources() if p.as_posix() not in FREE and home(p.parts) not in INTEGRATIONS]


@pytest.mark.parametrize("path", OTHERS, ids=str)
def test_only_these_name_other_libraries(path):
    """Neither an import, nor a name, nor a string outside docstrings says torch, CuPy or Dask."""
    said = {part for name in imported(path) for part in name.split(".")}
    tree = parsed(path)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            said.add(node.id)
        elif isinstance(node, ast.Attribute):
            said.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            said.update(node.value.split("."))
    assert not said & {"torch", "cupy", "dask"}
