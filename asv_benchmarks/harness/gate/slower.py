"""Make a version of numbanorm slower on purpose, to see that this is noticed.

The kernels of one family read a share of every block once more before they sum it: work that the results do not show.
"""

import ast
import copy
from pathlib import Path

from .versions import PACKAGE

SUMMED, START, STOP = "_block_sums", "start", "stop"  # the function that sums a block, and what says which
ONCE = f"{SUMMED}_once"  # what it is called once it is slower


def slow_down(folder: Path, share: float) -> Path:
    """Let the package in a folder read `share` of its data once more where it sums rows: 0.5 is half of it.

    The function that does it is found by its name and parameters, in whatever file of the package it stands. It gets
    another name, and in its place stands one that calls it twice.

    Returns
    -------
    path : Path
        The file that was changed.

    Raises
    ------
    ValueError
        If there is not exactly one such function.
    """
    found = []
    for path in sorted((folder / PACKAGE).rglob("*.py")):
        text = path.read_text("utf-8")
        if SUMMED in text:
            tree = ast.parse(text)
            found += [(path, tree, node) for node in tree.body if _sums_blocks(node)]
    if len(found) != 1:
        raise ValueError(f"{len(found)} functions {SUMMED}({START}, {STOP}) in {PACKAGE}, not one to slow down")
    path, tree, summing = found[0]
    at = tree.body.index(summing)
    tree.body.insert(at + 1, _twice(summing, share))
    summing.name = ONCE
    path.write_text(ast.unparse(ast.fix_missing_locations(tree)), "utf-8")
    return path


def _sums_blocks(node: ast.stmt) -> bool:
    """Whether this is the function; that of another family has other parameters."""
    return isinstance(node, ast.FunctionDef) and node.name == SUMMED and {START, STOP} <= set(_parameters(node))


def _parameters(function: ast.FunctionDef) -> list[str]:
    return [argument.arg for argument in function.args.args]


def _twice(function: ast.FunctionDef, share: float) -> ast.FunctionDef:
    """A function that does the first `share` of the work of another one, and then all of it."""
    names = _parameters(function)
    part = f"{START} + max(1, int(({STOP} - {START}) * {share}))"
    first = ", ".join(part if name == STOP else name for name in names)
    made = copy.deepcopy(function)
    made.body = ast.parse(f"{ONCE}({first})\nreturn {ONCE}({', '.join(names)})", mode="exec").body
    return made
