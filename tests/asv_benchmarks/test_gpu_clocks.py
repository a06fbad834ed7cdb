"""The clocks for a GPU, on a device that is made up."""

import pytest

pytest.importorskip("ml_dtypes")
from gpu_stand_in import Device
from harness.gpu.clocks import LONGEST_LEAD, DeviceClock, QueueClock, Rotation, rotation
from harness.timing import interleaved

MS = 1e-3


@pytest.mark.parametrize(("host", "busy"), [(1 * MS, 0.01 * MS), (0.01 * MS, 1 * MS), (3 * MS, 3 * MS)])
def test_time_on_the_device_is_without_launching(host, busy):
    cuda = Device()
    clock = DeviceClock(cuda, cuda.clock)
    call = cuda.call(host, busy)
    clock.once(call)
    assert clock.times(call, 10) == [pytest.approx(busy)]
    assert clock.once(call) == pytest.approx(busy)


def test_who_was_not_held_up_long_enough_is_timed_again():
    cuda = Device()
    assert DeviceClock(cuda, cuda.clock).times(cuda.call(1 * MS, 0.1 * MS), 10) == [pytest.approx(0.1 * MS)]
    assert len(cuda.slept) == 2


def test_time_in_a_queue_is_the_longer_of_both():
    cuda = Device()
    clock = QueueClock(cuda, cuda.clock)
    assert clock.times(cuda.call(2 * MS, 1 * MS), 100) == [pytest.approx(2.01 * MS)]  # and the last one's end
    assert clock.times(cuda.call(1 * MS, 2 * MS), 100) == [pytest.approx(2.01 * MS)]


def test_waiting_for_another_stream():
    cuda = Device()
    call, waited = cuda.call(1 * MS, 0), []
    call.wait = waited.append
    QueueClock(cuda, cuda.clock).times(call, 3)
    assert waited == [None]


def test_who_waits_in_each_call_is_timed_all_the_same():
    cuda = Device()
    clock = DeviceClock(cuda, cuda.clock)
    call = cuda.waiting_call(1 * MS, 2 * MS)
    for _ in range(5):
        (found,) = clock.times(call, 10)
    assert 2 * MS < found < 3.1 * MS
    assert max(cuda.slept) == pytest.approx(LONGEST_LEAD)  # and the device is not held up for ever


def test_an_event_may_say_zero():
    cuda = Device()
    assert DeviceClock(cuda, cuda.clock).once(cuda.call(0, 0)) > 0


def test_in_turn_by_any_clock():
    cuda = Device()
    order = []
    calls = {"A": cuda.call(1 * MS, 2 * MS), "B": cuda.call(2 * MS, 6 * MS), "C": cuda.call(4 * MS, 1 * MS)}
    followed = {name: lambda name=name, call=call: (order.append(name), call()) for name, call in calls.items()}
    times = interleaved(followed, 0.0, DeviceClock(cuda, cuda.clock))
    assert [times[name] for name in "ABC"] == pytest.approx([2 * MS, 6 * MS, 1 * MS])
    assert times.ratio("B", "A").median == pytest.approx(3)
    turns = [name for name, before in zip(order, [None, *order], strict=False) if name != before]
    assert "".join(turns) == "ABC" + "ABCBA"  # how long does each take, then forth and back


def test_rotation():
    made = []
    calls = [lambda n=n: made.append(n) or [n] for n in range(3)]
    assert rotation(calls[:1]) is calls[0]
    turning = rotation(calls)
    kept = [turning() for _ in range(4)]
    assert made == [0, 1, 2, 0]
    assert turning._kept[0] is kept[3] and turning._kept[1] is kept[1]
    assert not hasattr(turning, "wait")
    calls[0].wait = print
    assert Rotation(calls).wait is print
