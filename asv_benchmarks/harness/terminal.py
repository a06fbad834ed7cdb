"""What the scripts show while they run."""

import sys

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


def open_console() -> Console:
    """Return the terminal; what goes into a file or a pipe is as wide as a table needs."""
    return Console(width=None if sys.stdout.isatty() else 140, highlight=False)


def progress(console: Console) -> Progress:
    """Return a progress bar, which is only shown in a terminal, and vanishes at the end."""
    columns = (BarColumn(), TextColumn("{task.completed}/{task.total} {task.description}"), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
