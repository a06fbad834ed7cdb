"""Make a version of numbanorm slower on purpose, to see that this is noticed.

The kernels of one family read a share of every block once more before they sum it: work that the results do not show.
"""

import ast
from pathlib import Path

from .versions import PACKAGE

WHERE = Path(PACKAGE, "kernels", "cpu", "rows.py")
SUMMED = "_block_sums"  # (x, table, origin, side, batch, start, stop, ...)
START, STOP = 5, 6  # its arguments


class _Repeat(ast.NodeTransformer):
    """Before each call that sums a block, put a call that sums its first `share`."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.found = 0

    def visit_Expr(self, node: ast.Expr) -> ast.AST | list[ast.AST]:
        call = node.value
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == SUMMED):
            return node
        self.found += 1
        arguments = [ast.unparse(argument) for argument in call.args]
        start, stop = arguments[START], arguments[STOP]
        arguments[STOP] = f"{start} + max(1, int(({stop} - {start}) * {self.share}))"
        again = ast.parse(f"{SUMMED}({', '.join(arguments)})").body
        return [*again, node]


def slow_down(folder: Path, share: float) -> None:
    """Let the package in a folder read `share` of its data once more where it sums rows: 0.5 is half of it.

    Raises
    ------
    ValueError
        If that package has no such place.
    """
    path = folder / WHERE
    repeat = _Repeat(share)
    try:
        tree = repeat.visit(ast.parse(path.read_text("utf-8")))
    except OSError:
        raise ValueError(f"no {WHERE} to slow down") from None
    if not repeat.found:
        raise ValueError(f"{WHERE} does not call {SUMMED}: nothing to slow down")
    path.write_text(ast.unparse(ast.fix_missing_locations(tree)), "utf-8")
