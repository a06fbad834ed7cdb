"""Say once a process that kernels are compiled: seconds of silence look like a program that hangs.

Logging has it, under the package's name at level INFO; a terminal and a notebook get a line on standard error.
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

from . import disk

MEND = "set NUMBANORM_CACHE_DIR to a folder that you can write and nobody else can"
_WHAT = {"cpu": "kernels", "cuda": "CUDA kernels"}
_AHEAD = {"cpu": "; see numbanorm warmup", "cuda": ""}  # which CUDA kernels are needed depends on shapes
_said: set[str] = set()

silent: ContextVar[bool] = ContextVar("silent", default=False)


@contextmanager
def silence() -> Iterator[None]:
    """Say nothing meanwhile: whoever compiles ahead of time knows."""
    before = silent.set(True)
    try:
        yield
    finally:
        silent.reset(before)


def compiling(processor: str) -> None:
    """Say that kernels of a processor, "cpu" or "cuda", are being compiled, unless it was said before.

    NUMBANORM_QUIET turns the line off. Whatever is wrong with logging or standard error, the call goes on.
    """
    if silent.get() or processor in _said:
        return
    _said.add(processor)
    text = _text(processor)
    with suppress(Exception):
        logging.getLogger(__package__.partition(".")[0]).info(text)
    with suppress(Exception):
        if os.environ.get("NUMBANORM_QUIET", "") in ("", "0") and (sys.stderr.isatty() or in_notebook()):
            print(f"numbanorm: {text} (NUMBANORM_QUIET=1 hides this line)", file=sys.stderr, flush=True)


def _text(processor: str) -> str:
    """One line: what takes so long, and how often."""
    folder = disk.folder(processor)
    work = f"compiling {_WHAT[processor]}, some seconds each"
    if folder is not None and os.access(folder, os.W_OK):
        return f"{work}, once{_AHEAD[processor]}"
    return f"{work}, in every process, as there is no place to keep them; {MEND}"


def in_notebook() -> bool:
    """Whether standard error is shown in a notebook: no terminal, but somebody reads it."""
    ipython = sys.modules.get("IPython")
    shell = ipython and ipython.get_ipython()
    return shell is not None and type(shell).__name__ != "TerminalInteractiveShell"
