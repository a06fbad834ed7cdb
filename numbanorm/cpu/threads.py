"""How many threads a call may use."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident

import numpy as np

from . import processors

_num_threads: int | None = None
_alone: dict[int, int] = {}  # Python threads whose calls use one thread, and how often that was said


@contextmanager
def one_thread() -> Iterator[None]:
    """Let calls of this Python thread use one thread meanwhile; those of others are as they were.

    Whoever runs several calls at once, each in a thread of its own, has given all processors work already.
    """
    me = get_ident()
    _alone[me] = _alone.get(me, 0) + 1
    try:
        yield
    finally:
        if _alone[me] > 1:
            _alone[me] -= 1
        else:
            del _alone[me]


def get_num_threads() -> int:
    """How many threads a call may use: what `set_num_threads` said, else all processors of this process.

    It is never more than Numba may have: by default the processors of this process, or what the environment variable
    ``NUMBA_NUM_THREADS`` says.

    Examples
    --------
    >>> import numbanorm as nbn
    >>> nbn.get_num_threads() >= 1
    True
    """
    global _num_threads
    if _alone and get_ident() in _alone:
        return 1
    if _num_threads is None:
        _num_threads = min(processors.available(), processors.of_numba())
    return _num_threads


def set_num_threads(n: int) -> None:
    """Let calls use up to `n` threads, in every Python thread from now on. Results do not depend on it.

    Parameters
    ----------
    n : int
        At least 1. More threads than Numba may have do not run: then it is as if that number was given, which
        `get_num_threads` tells. For more threads than processors set ``NUMBA_NUM_THREADS`` before Python starts.

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
        raise TypeError(f"n must be an int, got {n!r} ({type(n).__name__})")
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    _num_threads = min(int(n), processors.of_numba())
