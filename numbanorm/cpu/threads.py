"""How many threads a call may use."""

import numpy as np

from . import processors

_num_threads: int | None = None


def get_num_threads() -> int:
    """How many threads a call may use: what `set_num_threads` said, else all processors of this process.

    Examples
    --------
    >>> import numbanorm as nbn
    >>> nbn.get_num_threads() >= 1
    True
    """
    global _num_threads
    if _num_threads is None:
        _num_threads = processors.available()
    return _num_threads


def set_num_threads(n: int) -> None:
    """Let calls use up to `n` threads, in every Python thread from now on. Results do not depend on it.

    Parameters
    ----------
    n : int
        At least 1.

    Raises
    ------
    TypeError, ValueError
        If n is not an int, or less than 1.

    Examples
    --------
    >>> import numbanorm as nbn
    >>> before = nbn.get_num_threads()
    >>> nbn.set_num_threads(1)
    >>> nbn.get_num_threads()
    1
    >>> nbn.set_num_threads(before)
    """
    global _num_threads
    if isinstance(n, bool) or not isinstance(n, int | np.integer):
        raise TypeError(f"n must be an int, got {type(n).__name__}")
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    _num_threads = int(n)
