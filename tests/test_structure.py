"""The design's section on files: public names, and who may import whom, folder by folder."""

import ast
import doctest
import inspect
import re
import rlcompleter
import subprocess
import sys
from pathlib import Path

import pytest

import numbanorm as nbn

PACKAGE = Path(nbn.__file__).parent
# Lowest first: a folder, or a file beside the folders, imports from those before its own row, and within itself.
ROWS = [
    "patterns",
    "layout maths",
    "walk",
    "arrays",
    "engine",
    "cpu cuda",
    "call ahead",
    "statistics",
    "normalization norms streams",
    "gradients",
    "__init__",
    "__main__",
]
INTEGRATIONS = {"torch", "sklearn", "xarray", "dask", "tables", "plot"}  # on top of public functions
LAZY = {("__init__.py", "plot")}  # except for type checkers: it is imported when it is first used

SIGNATURES = {
    "Layout": "(pattern, **sizes)",
    "Moments": None,
    "moments": "(x, layout=None, *, axis=None, where=None, weights=None, labels=None, num_labels=None, skipna=False, "
    "weights_are='frequency', **sizes)",
    "normalize": "(x, layout=None, weight=None, bias=None, *, axis=None, eps=1e-05, ddof=0, "
    "eps_on='var', moments=None, out=None, dtype=None, return_moments=False, where=None, weights=None, labels=None, "
    "num_labels=None, skipna=False, weights_are='frequency', **sizes)",
    "batch_norm": "(x, running_mean=None, running_var=None, weight=None, bias=None, training=False, momentum=0.1, "
    "eps=1e-05, *, channel_axis=1, num_batches_tracked=None, out=None, dtype=None, return_moments=False)",
    "layer_norm": "(x, normalized_shape, weight=None, bias=None, eps=1e-05, *, axis=None, out=None, dtype=None, "
    "return_moments=False)",
    "group_norm": "(x, num_groups, weight=None, bias=None, eps=1e-05, *, channel_axis=1, out=None, dtype=None, "
    "return_moments=False)",
    "instance_norm": "(x, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, "
    "momentum=0.1, eps=1e-05, *, channel_axis=1, num_batches_tracked=None, out=None, dtype=None, "
    "return_moments=False)",
    "rms_norm": "(x, normalized_shape, weight=None, eps=None, *, out=None, dtype=None, return_moments=False)",
    "batch_renorm": "(x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-05, "
    "*, r_max=3.0, d_max=5.0, channel_axis=1, num_batches_tracked=None, out=None, dtype=None, return_moments=False)",
    "batch_instance_norm": "(x, rho, weight=None, bias=None, eps=1e-05, *, channel_axis=1, out=None, dtype=None, "
    "return_moments=False)",
    "weight_norm": "(v, g, *, axis=0, dtype=None)",
    "weight_standardize": "(w, *, axis=0, eps=1e-05, ddof=0, eps_on='var', dtype=None, return_moments=False)",
    "spectral_norm": "(w, u=None, *, axis=0, num_iterations=1, eps=1e-12, dtype=None)",
    "normalize_backward": "(grad, x, moments, layout=None, weight=None, *, axis=None, eps=1e-05, ddof=0, eps_on='var', "
    "**sizes)",
    "batch_norm_backward": "(grad, x, running_mean=None, running_var=None, weight=None, training=False, eps=1e-05, *, "
    "moments=None, channel_axis=1)",
    "layer_norm_backward": "(grad, x, normalized_shape, weight=None, eps=1e-05, *, axis=None, moments=None)",
    "group_norm_backward": "(grad, x, num_groups, weight=None, eps=1e-05, *, moments=None, channel_axis=1)",
    "instance_norm_backward": "(grad, x, running_mean=None, running_var=None, weight=None, use_input_stats=True, "
    "eps=1e-05, *, moments=None, channel_axis=1)",
    "rms_norm_backward": "(grad, x, normalized_shape, weight=None, eps=None, *, moments=None)",
    "batch_renorm_backward": "(grad, x, running_mean, running_var, weight=None, training=False, eps=1e-05, *, "
    "r_max=3.0, d_max=5.0, moments=None, channel_axis=1)",
    "batch_instance_norm_backward": "(grad, x, rho, weight=None, eps=1e-05, *, channel_axis=1)",
    "weight_norm_backward": "(grad, v, g, *, axis=0)",
    "weight_standardize_backward": "(grad, w, *, axis=0, eps=1e-05, ddof=0, eps_on='var', moments=None)",
    "spectral_norm_backward": "(grad, w, u=None, *, axis=0, num_iterations=1, eps=1e-12)",
    "stream": "(chunks, layout=None, *, axis=None, progress=False, start=None, **sizes)",
    "set_num_threads": "(n)",
    "get_num_threads": "()",
    "warmup": "(dtypes=('float32',), *, progress=False)",
}


def test_public_names():
    assert set(nbn.__all__) == set(SIGNATURES)
    assert len(nbn.__all__) == len(set(nbn.__all__))
    assert {name for name in dir(nbn) if not name.startswith("_")} == set(SIGNATURES)
    assert {"__all__", "__doc__", "__file__", "__name__", "__path__", "__version__"} < set(dir(nbn))


def test_what_a_session_completes():
    names = rlcompleter.Completer({"nbn": nbn}).attr_matches("nbn.")
    assert {name.removeprefix("nbn.").rstrip("()") for name in names} == set(SIGNATURES)


def test_the_packages_docstring_is_short_and_has_an_example():
    assert len(nbn.__doc__.splitlines()) <= 10
    assert doctest.DocTestParser().get_examples(nbn.__doc__)


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_readable_in_help(name):
    """They name types as the source does: NumPy's ArrayLike alone is 200 characters long if it is written out."""
    signature = str(inspect.signature(getattr(nbn, name)))  # which is what help() shows
    assert len(signature) < 650
    assert not re.search("numpy|typing|collections", signature)


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_and_docstrings(name):
    item = getattr(nbn, name)
    assert len(inspect.getdoc(item).split()) > 5
    if SIGNATURES[name] is not None:
        signature = inspect.signature(item)
        bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
        assert str(inspect.Signature(bare)) == SIGNATURES[name]


@pytest.mark.parametrize("module", ["numba", "torch", "matplotlib", "sklearn"])
def test_importing_numbanorm_does_not_import(module):
    code = f"import sys, numbanorm; numbanorm.Layout; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_layouts_need_no_numba():
    code = "import sys, numbanorm as n; n.Layout('a b -> a').group_ids((2, 3)); sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_where_kernels_are_kept_is_asked_without_numba():
    code = "import sys, numbanorm.engine.disk; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


SOURCES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def parsed(path):
    return ast.parse((PACKAGE / path).read_text(encoding="utf-8"))


def imported(path):
    """Dotted names within the package of all that a file imports from it, wherever in the file."""
    package = ["numbanorm", *path.parent.parts]
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) + "." if node.level else ""
            names = [f"{base}{node.module + '.' if node.module else ''}{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.removeprefix("numbanorm.") for name in names if name.startswith("numbanorm."))


def row(place):
    found = [i for i, places in enumerate(ROWS) if place in places.split()]
    assert found, f"{place} has no row: add it to ROWS where the design puts it"
    return found[0]


def test_the_house_has_about_fifteen_entries():
    entries = [path for path in PACKAGE.iterdir() if not path.name.startswith(("__pycache__", "."))]
    below = sorted(path.name for path in entries if path.stem not in INTEGRATIONS)
    assert len(below) <= 18, below
    functions = {name for name in nbn.__all__ if callable(getattr(nbn, name))}
    assert not functions & {path.stem for path in entries}, "no module bears a public function's name"


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_imports_run_one_way(path):
    own = path.parts[0].removesuffix(".py")
    for name in imported(path):
        other = name.split(".")[0]
        if own in INTEGRATIONS or (path.as_posix(), name) in LAZY or other in (own, *nbn.__all__, "__version__"):
            continue
        assert other not in INTEGRATIONS, f"{path} imports an integration, {name}"
        assert row(other) < row(own), f"{path} imports {name}, which comes after it or beside it"


@pytest.mark.parametrize("path", [path for path in SOURCES if "kernels" in path.parts], ids=str)
def test_kernels_see_mathematics_slots_and_their_own_folder(path):
    """So that the stamp of compiled kernels covers all that they are made of."""
    for name in imported(path):
        assert name.startswith(("maths", "walk.slots", f"{path.parts[0]}.kernels")), f"{path} imports {name}"


# Who may ask where an array lies: whoever takes arrays, the engine for GPUs, and the place that chooses the engine.
ASKS = {"arrays", "cuda"}


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_one_place_asks_where_an_array_lies(path):
    names = {node.id for node in ast.walk(parsed(path)) if isinstance(node, ast.Name)}
    if path.parts[0] not in ASKS and path.as_posix() != "call/choose.py":
        assert "DeviceArray" not in names


# What starts threads asks for nobody's arrays: it keeps torch's number of threads where starting ours would change it.
KNOW_LIBRARIES = {"arrays", *INTEGRATIONS}


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_arrays_alone_name_other_libraries(path):
    """Neither an import, nor a name, nor a string outside docstrings says torch, CuPy or Dask."""
    if path.parts[0] in KNOW_LIBRARIES or path.as_posix() in ("cpu/compiled.py", "__main__.py"):
        return
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
