"""Norms stay short: what they have in common stands in `call`, and how a call is repeated or planned is not theirs."""

import ast
import inspect
from pathlib import Path

import pytest

import numbanorm as nbn
from numbanorm import norms

# Lines; others have 12. These take running statistics, or make several calls on the engine.
LONGER = dict.fromkeys(("batch_norm", "instance_norm", "batch_renorm", "batch_instance_norm"), 20)
LONGER |= {"weight_norm": 20, "weight_standardize": 14, "spectral_norm": 24}
FILES = sorted(Path(norms.__file__).parent.glob("*.py"))
NAMES = [name for name in nbn.__all__ if inspect.unwrap(getattr(nbn, name)).__module__.startswith("numbanorm.norms.")]
# Parts of names, in code and in comments: an engine's plans, and the memory of `call.known`.
FOREIGN = {"plan", "plans", "bind", "repeat", "repeatable", "remember", "forget", "describe", "description", "launch"}


def definition(name):
    """The syntax tree of a public function, and its file's lines."""
    path = Path(inspect.getsourcefile(inspect.unwrap(getattr(nbn, name))))
    text = path.read_text(encoding="utf-8")
    found = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.name == name]
    return found[-1], text.splitlines()  # overloads stand before it


def lines_below_the_docstring(name):
    """Lines of code: without blank ones and those of a comment."""
    node, lines = definition(name)
    first, *rest = node.body
    assert isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant), f"{name} has no docstring"
    code = lines[first.end_lineno : rest[-1].end_lineno]
    return [line for line in code if line.strip() and not line.strip().startswith("#")]


def said(tree):
    """Every name in a syntax tree, in parts: of variables, attributes, imports, arguments and definitions."""
    for node in ast.walk(tree):
        for field in ("id", "attr", "arg", "name", "module"):
            name = getattr(node, field, None)
            if isinstance(name, str):
                yield from name.replace("_", ".").split(".")


def test_all_norms_are_found():
    assert len(NAMES) >= 10
    assert set(LONGER) < set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_bodies_are_short(name):
    lines = lines_below_the_docstring(name)
    assert 1 <= len(lines) <= LONGER.get(name, 12), "\n".join(lines)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_norms_know_no_plans_and_no_known_calls(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not FOREIGN & set(said(tree))
    taken = [
        (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if "known" in (node.module or "") or alias.name == "known"
    ]
    assert set(taken) <= {("call.known", "normalized")}
