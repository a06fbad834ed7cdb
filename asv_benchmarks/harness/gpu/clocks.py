"""Two clocks for work that is only queued when a call returns: the device's own, and the caller's.

`cuda` is torch.cuda, or what tests give in its place.
"""

import time
from collections.abc import Callable
from typing import Any

CYCLES = 2e9  # of a second: the highest clock of today's GPUs, so that the device is held up long enough or longer
LEAD, LONGEST_LEAD = 1e-4, 5e-2  # seconds for which the device is held up
TRIES = 4


class DeviceClock:
    """Time on the device: CUDA events around a batch of calls, all queued before the device comes to the first.

    Else the time of a small call would be that of launching it. So the device is first given something to wait with,
    for longer than the batch took to queue last time. Who waits for the device in each call, or queues more than it
    takes (1024 launches), is not ahead of it in any try, and is timed with the gaps that this leaves on the device.
    """

    turn, most, rest = 5e-3, 100, 0.0

    def __init__(self, cuda: Any, now: Callable[[], float] = time.perf_counter) -> None:
        self._cuda = cuda
        self._now = now
        self._leads: dict[Callable[[], object], float] = {}  # seconds that a call takes to queue

    def once(self, call: Callable[[], object]) -> float:
        """Time one call; not zero, which an event may say of a call of less than its resolution."""
        return max(self._batch(call, 1), 1e-7)

    def times(self, call: Callable[[], object], number: int) -> list[float]:
        """Time a batch."""
        call()
        return [self._batch(call, number)]

    def _batch(self, call: Callable[[], object], number: int) -> float:
        """Seconds of one of several calls."""
        for _ in range(TRIES):
            start, end = (self._cuda.Event(enable_timing=True) for _ in range(2))
            self._cuda.synchronize()
            began = self._now()
            lead = 1.5 * number * self._leads.get(call, 0.0)
            self._cuda._sleep(int(CYCLES * min(max(LEAD, lead), LONGEST_LEAD)))
            start.record()
            for _ in range(number):
                call()
            end.record()
            self._leads[call] = (self._now() - began) / number
            ahead = not start.query()
            end.synchronize()
            if ahead:
                break
        return start.elapsed_time(end) * 1e-3 / number


class QueueClock:
    """The caller's time for a call in a long queue: the longer of launching and doing it, as a program feels it."""

    turn, most, rest = 5e-3, 200, 0.0

    def __init__(self, cuda: Any, now: Callable[[], float] = time.perf_counter) -> None:
        self._cuda = cuda
        self._now = now

    def once(self, call: Callable[[], object]) -> float:
        """Time one call."""
        return self._queue(call, 1)

    def times(self, call: Callable[[], object], number: int) -> list[float]:
        """Time a queue."""
        call()
        return [self._queue(call, number)]

    def _queue(self, call: Callable[[], object], number: int) -> float:
        """Seconds of one of several calls, until the last one is done."""
        wait = getattr(call, "wait", None)  # of whoever works on another stream than torch's
        self._cuda.synchronize()
        start = self._now()
        for _ in range(number):
            result = call()
        if wait:
            wait(result)
        self._cuda.synchronize()
        return (self._now() - start) / number


class Rotation:
    """A call on several copies of its arrays, one after the other.

    As many results are kept, so that each is written to other memory than the ones before.
    """

    def __init__(self, calls: list[Callable[[], object]]) -> None:
        self._calls = calls
        self._kept: list[object] = [None] * len(calls)
        self._at = 0
        if hasattr(calls[0], "wait"):
            self.wait = calls[0].wait

    def __call__(self) -> object:
        """Call the next one."""
        at = self._at
        self._at = (at + 1) % len(self._calls)
        result = self._kept[at] = self._calls[at]()
        return result


def rotation(calls: list[Callable[[], object]]) -> Callable[[], object]:
    """Return one call for all of them; a single one stays as it is, as small cases are timed by the microsecond."""
    return Rotation(calls) if len(calls) > 1 else calls[0]
