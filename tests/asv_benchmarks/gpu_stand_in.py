"""What stands in for torch.cuda where there is no GPU."""

import math
import time
from types import SimpleNamespace


class Device:
    """A device that takes calls in their order, and a caller who waits for neither, unless told to; as torch.cuda."""

    def __init__(self):
        self.now, self.free, self.slept = 0.0, 0.0, []

    def clock(self):
        return self.now

    def call(self, host, busy):
        """Return a call that takes the caller `host` seconds to queue, and the device `busy` seconds to do."""

        def call():
            self.now += host
            self.free = max(self.free, self.now) + busy

        return call

    def waiting_call(self, host, busy):
        """Return a call that waits for the device."""
        queue = self.call(host, busy)

        def call():
            queue()
            self.synchronize()

        return call

    def _sleep(self, cycles):
        self.slept.append(cycles / 2e9)
        self.free = max(self.free, self.now) + cycles / 2e9

    def synchronize(self):
        self.now = max(self.now, self.free)

    def Event(self, enable_timing):
        assert enable_timing
        event = SimpleNamespace(at=math.nan)

        def record():
            event.at = max(self.free, self.now)

        def wait():
            self.now = max(self.now, event.at)

        event.record, event.synchronize, event.query = record, wait, lambda: self.now >= event.at
        event.elapsed_time = lambda end: (end.at - event.at) * 1e3
        return event


class Processor:
    """Behaves like torch.cuda for tensors of the processor: what was called is done, and each event is now."""

    def _sleep(self, cycles):
        """Nothing is to be held up."""

    def synchronize(self):
        """Nothing is to be waited for."""

    def Event(self, enable_timing):
        event = SimpleNamespace(at=math.nan, query=lambda: False, synchronize=lambda: None)
        event.record = lambda: vars(event).update(at=time.perf_counter())
        event.elapsed_time = lambda end: (end.at - event.at) * 1e3
        return event
