"""Make a version of numbanorm slower on purpose, to see that this is noticed.

The kernels of one family sum a share of their blocks once more: work that the results do not show.
"""

import ast
import copy
from pathlib import Path

from .versions import PACKAGE

SUMMED, ORIGIN, START = "_block_sums", "origin", "start"  # the function that sums a block, and what says which
GOLDEN, ALL = 0x9E3779B1, 0xFFFFFFFF  # of 32 bits
ONCE = f"{SUMMED}_once"  # what it is called once it is slower


def slow_down(folder: Path, share: float) -> Path:
    """Let the package in a folder sum a `share` of its blocks of rows once more: 0.5 is half of them, 2 is all, twice.

    The function that does it is found by its name and parameters, in whatever file of the package it stands. It gets
    another name, and in its place stands one that calls it several times.

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
        raise ValueError(f"{len(found)} functions {SUMMED}({ORIGIN}, {START}) in {PACKAGE}, not one to slow down")
    path, tree, summing = found[0]
    at = tree.body.index(summing)
    tree.body.insert(at + 1, _again(summing, share))
    summing.name = ONCE
    path.write_text(ast.unparse(ast.fix_missing_locations(tree)), "utf-8")
    return path


def _sums_blocks(node: ast.stmt) -> bool:
    """Whether this is the function; that of another family has other parameters."""
    return isinstance(node, ast.FunctionDef) and node.name == SUMMED and {ORIGIN, START} <= set(_parameters(node))


def _parameters(function: ast.FunctionDef) -> list[str]:
    return [argument.arg for argument in function.args.args]


def _again(function: ast.FunctionDef, share: float) -> ast.FunctionDef:
    """A function that does the work of another one, and for a `share` of the blocks once more, or more often.

    A loop, not two calls: a second copy of the work, inlined, would make the compiler lay the first out differently,
    which slows it by up to a quarter. Blocks are picked by the upper bits of a product (Fibonacci hashing).
    """
    names = _parameters(function)
    body = f"""
turns = {1 + int(share)} + int((({ORIGIN} + {START}) * {GOLDEN} & {ALL}) < {int(share % 1 * ALL)})
while turns > 0:
    result = {ONCE}({", ".join(names)})
    turns -= 1
return result
"""
    made = copy.deepcopy(function)
    made.body = ast.parse(body, mode="exec").body
    return made
