"""Time several functions side by side in one process, in turn, so that a busy machine slows all of them alike."""

import statistics
import time
from collections.abc import Callable

import numba
import numpy as np

TURN = 2e-3  # seconds of timed calls before the next function has its turn ...
MOST = 50  # ... and how many calls at most
REST = 2e-3  # seconds between turns, in which the threads of the last function stop spinning
SMALL = 1 << 17  # elements: below this one thread copies faster than several


def interleaved(calls: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Median seconds of one call of each function; allocating and freeing what it returns is part of the call.

    A round goes through the functions forth and back (A B C C B A). A turn begins with a call that is not timed, which
    brings the data into the caches and wakes the threads. Rounds go on until `seconds` are over: two at least.
    """
    times = {name: [_time(call), _time(call)][1:] for name, call in calls.items()}  # the first call may compile
    start, rounds = time.perf_counter(), 0
    while rounds < 2 or time.perf_counter() - start < seconds:
        rounds += 1
        for name in (*calls, *reversed(calls)):
            time.sleep(REST)
            calls[name]()
            # The number is fixed beforehand: a turn that ended at the first slow call would favour slow calls.
            number = min(MOST, 1 + int(TURN / min(times[name])))
            times[name] += [_time(calls[name]) for _ in range(number)]
    return {name: statistics.median(values) for name, values in times.items()}


def _time(call: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def plain_copy(x: np.ndarray) -> np.ndarray:
    """Copy a contiguous array into a newly allocated one: the least work that any function of x does."""
    if x.size < SMALL:
        return np.positive(x)
    out = np.empty_like(x)
    _copy_flat(x.reshape(-1), out.reshape(-1))
    return out


@numba.njit(parallel=True)
def _copy_flat(source, target):
    """Copy one contiguous 1-d array into another with all threads."""
    for i in numba.prange(source.size):
        target[i] = source[i]
