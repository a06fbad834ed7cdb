"""Time functions side by side in one process, in turn, so that a busy machine slows all of them alike."""

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np

SHORT_TURN = 1e-3  # seconds of a turn of two that are compared closely
LEAST = 3  # rounds that every function takes part in
RESAMPLES = 1000  # of the bootstrap


class Clock(Protocol):
    """Takes the time of calls: the processor's is below, a GPU's are in gpu/clocks.py."""

    turn: float  # seconds of timed calls before the next function has its turn ...
    most: int  # ... and how many calls at most
    rest: float  # seconds between turns

    def once(self, call: Callable[[], object]) -> float:
        """Seconds of one call, roughly: it says how many make a turn."""

    def times(self, call: Callable[[], object], number: int) -> list[float]:
        """Warm up, call so many times, and return seconds of a call: of each one, or of all in one."""


class ProcessorClock:
    """Each call by itself. In the rests the threads of the last function stop spinning."""

    turn, most, rest = 2e-3, 50, 2e-3

    def once(self, call: Callable[[], object]) -> float:
        """Time it."""
        return _time(call)

    def times(self, call: Callable[[], object], number: int) -> list[float]:
        """Begin with a call that is not timed, which brings the data into the caches and wakes the threads."""
        call()
        return [_time(call) for _ in range(number)]


PROCESSOR = ProcessorClock()


@dataclass(frozen=True)
class Ratio:
    """How many times longer one function takes than another: the median over rounds, and a 95% interval of it."""

    median: float
    low: float
    high: float


def ratio_of(pairs: Iterable[tuple[float, float]]) -> Ratio:
    """Compare two functions by pairs of times that were taken one right after the other."""
    ratios = np.array([a / b for a, b in pairs])
    again = np.random.default_rng(0).choice(ratios, (RESAMPLES, ratios.size))
    low, high = np.quantile(np.median(again, axis=1), (0.025, 0.975))
    return Ratio(float(np.median(ratios)), float(low), float(high))


@dataclass(frozen=True)
class Times:
    """Seconds of a call of each function: the median of each round that it took part in."""

    rounds: Mapping[str, list[float]]

    def __getitem__(self, name: str) -> float:
        """Return the median over all rounds."""
        return statistics.median(self.rounds[name])

    def ratio(self, name: str, base: str) -> Ratio:
        """Compare two functions round by round: what slows a whole round does not show."""
        return ratio_of(zip(self.rounds[name], self.rounds[base], strict=False))


def interleaved(calls: Mapping[str, Callable[[], object]], seconds: float, clock: Clock = PROCESSOR) -> Times:
    """Time one call of each function; allocating and freeing what it returns is part of the call.

    A round goes through the functions forth and back (A B C C B A). `seconds` are shared equally: a slow function
    leaves after fewer rounds, at least LEAST. With 0 seconds there is one round without rests: to see that all run.
    """
    fastest = {name: min(clock.once(call), clock.once(call)) for name, call in calls.items()}  # the first may compile
    rounds: dict[str, list[float]] = {name: [] for name in calls}
    spent = dict.fromkeys(calls, 0.0)
    least, rest, share = (LEAST, clock.rest, seconds / len(calls)) if seconds else (1, 0.0, 0.0)
    together = min(2, len(calls))  # the last one does not go on alone, with all caches for itself
    with _uncollected():
        while len(active := [n for n in calls if len(rounds[n]) < least or spent[n] < share]) >= together:
            samples: dict[str, list[float]] = {name: [] for name in active}
            for name in (*active, *reversed(active)):
                start = time.perf_counter()
                time.sleep(rest)
                # The number is fixed beforehand: a turn that ended at the first slow call would favour slow calls.
                number = min(clock.most, 1 + int(clock.turn / fastest[name]))
                samples[name] += clock.times(calls[name], number)
                spent[name] += time.perf_counter() - start
            for name, values in samples.items():
                rounds[name].append(statistics.median(values))
    return Times(rounds)


def paired(a: Callable[[], object], b: Callable[[], object], pairs: int) -> list[tuple[float, float]]:
    """Time two functions that are nearly alike, in the order A B B A: seconds of a call of each, pair by pair.

    There are no rests: both are to find caches and threads as the other one left them. Turns are short, so that what
    slows the machine for longer slows both halves of a pair.
    """
    for call in (a, b):
        call()  # the first call may compile
    fastest = [min(_time(call) for _ in range(2)) for call in (a, b)]
    number = 1 + int(SHORT_TURN / max(fastest))  # of calls in a turn
    found = []
    with _uncollected():
        for pair in range(pairs):
            if pair % 2 == 0:
                of_a, of_b = _together(a, number), _together(b, number)
            else:
                of_b, of_a = _together(b, number), _together(a, number)
            found.append((of_a, of_b))
    return found


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector away."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _together(call: Callable[[], object], number: int) -> float:
    """Seconds of one of several calls in a row."""
    start = time.perf_counter()
    for _ in range(number):
        call()
    return (time.perf_counter() - start) / number


def _time(call: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
