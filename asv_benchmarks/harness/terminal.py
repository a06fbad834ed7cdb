"""What the scripts show while they run."""

import os
import sys

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

WIDTH = 150  # of what goes into a file or a pipe: that of the widest table


def open_console() -> Console:
    """Return the terminal, as wide as it is, or as COLUMNS says."""
    known = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return Console(width=None if known else WIDTH, highlight=False)


def progress(console: Console) -> Progress:
    """Return a progress bar, which is only shown in a terminal, and vanishes at the end."""
    columns = (BarColumn(), TextColumn("{task.completed}/{task.total} {task.description}"), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
