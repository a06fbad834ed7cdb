"""A script that measures its own cases on a GPU, or on the host as a trial: its options, and what it exits with."""

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .device import NoGPU, find, machine

Measure = Callable[[Any, Any, str, int, float], bool]  # of torch, a case, the device, the part and the seconds


def run(file: str, description: str | None, cases: Iterable[Any], measure: Measure, arguments: Any = None) -> int:
    """Measure all cases.

    Parameters
    ----------
    file, description : str
        The script and its docstring, of which the first line says what it is for.
    cases : iterable
        What is measured, one after another.
    measure : function
        measure(torch, case, device, part, seconds) prints the lines of a case and says whether all was right.
    arguments : list of str, optional
        In place of those of the command line.

    Returns
    -------
    int
        The exit status: 0 if all was right, 1 if not, 2 without a GPU.
    """
    parser = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--part", type=int, default=1, help="of the arrays only one of so many parts")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each case")
    options = parser.parse_args(arguments)
    if options.device == "cpu":
        import torch
    else:
        try:
            torch = find()
        except NoGPU as reason:
            print(f"{Path(file).name}: nothing can be measured: {reason}.", file=sys.stderr)
            return 2
        print(machine(torch, []))
    found = [measure(torch, case, options.device, options.part, options.seconds) for case in cases]
    return 0 if all(found) else 1
