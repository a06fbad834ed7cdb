"""What is measured: the layers of docs/peers.md, or those that NUMBANORM_CASES names, on one core and on all.

NUMBANORM_KERNELS names a file with kernels of one's own, as examples/variant.py, from the top of the repository. They
are measured beside the libraries, under the names that they have in the table of contenders.
"""

import importlib
import os
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

from harness.case import Case
from harness.cases import CASES
from harness.containers import CONTAINED
from harness.grouped import GROUPED, Grouped

import numbanorm as nbn

CHOICE = os.environ.get("NUMBANORM_CASES", "readme")  # or all, or tiny: those of the README at tiny sizes
if CHOICE not in ("readme", "all", "tiny"):
    raise ValueError(f"NUMBANORM_CASES must be readme, all or tiny, got {CHOICE!r}")

THREADS = (1, "all")
PARAMETERS = ("case", "threads")
OTHERS = {"groups": GROUPED, "containers": CONTAINED}


def libraries() -> tuple[str, ...]:
    """Return who is measured: the usual ones, and kernels of one's own."""
    usual = ("numbanorm", "NumPy", "torch")
    if not (kernels := os.environ.get("NUMBANORM_KERNELS")):
        return usual
    file = Path(__file__).parents[2] / kernels  # if it is absolute, that
    if not file.is_file():
        raise ValueError(f"NUMBANORM_KERNELS names no file: {file}")
    sys.path.append(str(file.parent))
    importlib.import_module(file.stem)
    from harness.contenders import LIBRARIES, names  # which imports torch: not for each process that asv starts

    return (*usual, *(name for name in names() if name not in (*usual, *LIBRARIES)))


@cache
def cases(norm: str) -> dict[str, Case | Grouped]:
    """Return the cases of a norm by their labels, or of all norms' way back, or of groups or containers."""
    if norm in OTHERS:
        return {case.label: case for case in (case.tiny() if CHOICE == "tiny" else case for case in OTHERS[norm])}
    chosen = [case for case in CASES if norm in (case.norm, "backward") and (case.readme or CHOICE == "all")]
    if norm == "backward":
        chosen = [replace(case, backward=True) for case in chosen if case.norm != "moments"]
    if CHOICE == "tiny":
        chosen = [case.tiny() for case in chosen]
    return {case.label: case for case in chosen}


def parameters(norm: str) -> tuple[list[str], tuple]:
    """Return what the benchmarks of a norm run over: labels, which asv can print, and threads."""
    return list(cases(norm)), THREADS


@cache
def cores() -> int:
    """Return how many threads there may be; the first call comes before any change of their number."""
    return nbn.get_num_threads()


def number_of(threads: int | str) -> int:
    """Return the number that a parameter of THREADS stands for."""
    every = cores()
    return every if threads == "all" else int(threads)
