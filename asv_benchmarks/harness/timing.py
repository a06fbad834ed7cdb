"""Time several functions side by side in one process, in turn, so that a busy machine slows all of them alike."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

TURN = 2e-3  # seconds of timed calls before the next function has its turn ...
MOST = 50  # ... and how many calls at most
REST = 2e-3  # seconds between turns, in which the threads of the last function stop spinning
LEAST = 3  # rounds that every function takes part in
RESAMPLES = 1000  # of the bootstrap


@dataclass(frozen=True)
class Ratio:
    """How many times longer one function takes than another: the median over rounds, and a 95% interval of it."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Times:
    """Seconds of a call of each function: the median of each round that it took part in."""

    rounds: Mapping[str, list[float]]

    def __getitem__(self, name: str) -> float:
        """Return the median over all rounds."""
        return statistics.median(self.rounds[name])

    def ratio(self, name: str, base: str) -> Ratio:
        """Compare two functions round by round: what slows a whole round does not show."""
        pairs = list(zip(self.rounds[name], self.rounds[base], strict=False))
        ratios = np.array([a / b for a, b in pairs])
        again = np.random.default_rng(0).choice(ratios, (RESAMPLES, ratios.size))
        low, high = np.quantile(np.median(again, axis=1), (0.025, 0.975))
        return Ratio(float(np.median(ratios)), float(low), float(high))


def interleaved(calls: Mapping[str, Callable[[], object]], seconds: float) -> Times:
    """Time one call of each function; allocating and freeing what it returns is part of the call.

    A round goes through the functions forth and back (A B C C B A). A turn begins with a call that is not timed, which
    brings the data into the caches and wakes the threads. `seconds` are shared equally: a slow function leaves after
    fewer rounds, at least LEAST. With 0 seconds there is one round without rests: to see that all run.
    """
    fastest = {name: min(_time(call), _time(call)) for name, call in calls.items()}  # the first call may compile
    rounds: dict[str, list[float]] = {name: [] for name in calls}
    spent = dict.fromkeys(calls, 0.0)
    least, rest, share = (LEAST, REST, seconds / len(calls)) if seconds else (1, 0.0, 0.0)
    together = min(2, len(calls))  # the last one does not go on alone, with all caches for itself
    collecting = gc.isenabled()
    gc.disable()
    try:
        while len(active := [n for n in calls if len(rounds[n]) < least or spent[n] < share]) >= together:
            samples: dict[str, list[float]] = {name: [] for name in active}
            for name in (*active, *reversed(active)):
                start = time.perf_counter()
                # The number is fixed beforehand: a turn that ended at the first slow call would favour slow calls.
                samples[name] += _turn(calls[name], rest, min(MOST, 1 + int(TURN / fastest[name])))
                spent[name] += time.perf_counter() - start
            for name, values in samples.items():
                rounds[name].append(statistics.median(values))
    finally:
        if collecting:
            gc.enable()
    return Times(rounds)


def _turn(call: Callable[[], object], rest: float, number: int) -> list[float]:
    """Rest, warm up, and time a number of calls."""
    time.sleep(rest)
    call()
    return [_time(call) for _ in range(number)]


def _time(call: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
