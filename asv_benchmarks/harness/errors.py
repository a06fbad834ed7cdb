"""Errors of kernels and libraries, in one line."""

import re
from pathlib import PurePath

PLACE = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+):\n(?P<source>(?:.*\n)*?) *\^')  # Numba points at it
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
STAGE = "Failed in "  # how Numba begins: "Failed in nopython mode pipeline", which says nothing


def one_line(error: BaseException) -> str:
    """Write an error in one line: what is wrong, and of Numba's, which fill pages, the line of code it points at."""
    text = COLOURS.sub("", str(error)).strip()
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(STAGE)] or [text]
    said = f"{type(error).__name__}: {lines[0]}"
    if said.endswith(":") and lines[1:]:  # as in "No implementation of function ... found for signature:"
        said += f" {lines[1].removeprefix('>>>').strip()}"
    if place := PLACE.search(text):
        source = place["source"].rstrip().rpartition("\n")[2].strip()
        said += f" ({PurePath(place['file']).name}, line {place['line']}: {source})"
    return said
