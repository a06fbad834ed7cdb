"""Measure one case on a GPU: each contender's error, its time on the device and in a queue, and a copy's."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from rich.console import Console

from ..case import Arrays, Call, Case, dtype_of
from ..contenders import DEFAULT_ON_GPU, ON_GPU, OWN, prepare
from ..errors import one_line
from ..libraries.with_torch import in_order, tensor
from ..measure import Row, checked, limit, one_by_one
from ..timing import Ratio, interleaved
from .clocks import DeviceClock, QueueClock, rotation
from .truth import judged

REUSE = 3  # times the size of L2 that is read and written before an array is used again
AS_IMAGES = ("torch", "torch.compile")  # whose results have channels on axis 1
LAUNCH_BOUND = 1.5  # times its time on the device that a call takes in a queue


@dataclass
class GpuRow(Row):
    """What was measured of a case. `seconds`, `ratios`, `into` and `copy` are times on the device."""

    threads: int = 0
    sets: int = 1  # copies of the arrays that were taken in turn
    queued: dict[str, float] = field(default_factory=dict)  # seconds of a call in a long queue, by the caller's clock
    queued_ratios: dict[str, Ratio] = field(default_factory=dict)  # their time over numbanorm's

    @property
    def launch_bound(self) -> bool:
        """Whether numbanorm's call takes longer to launch than to run."""
        return bool(self.queued) and self.queued[OWN] > LAUNCH_BOUND * self.seconds[OWN]

    @property
    def speed(self) -> float:
        """Bytes a second of numbanorm into a given output, if it read x and wrote y once."""
        return 2 * self.case.nbytes / self.into[OWN] if self.into else math.nan

    @property
    def copy_speed(self) -> float:
        """Bytes a second of the fastest copy, read and written."""
        return 2 * self.case.nbytes / min(self.copy.values()) if self.copy else math.nan


@dataclass(frozen=True)
class Gpu:
    """What is measured on. Tests give the processor, and a module that behaves like torch.cuda."""

    device: str
    cuda: Any  # torch.cuda
    cache: int  # bytes of L2

    def sets(self, case: Case) -> int:
        """Return how many copies of the arrays are taken in turn.

        Where x and the output fit L2 together, they stay there, as they do between the layers of a network. Larger ones
        would find in L2 an accidental part of what the call before has left: so enough others come in between. L2
        is not flushed instead, as calls then would have to be timed one by one, and what is written last would never
        reach memory within the time.
        """
        moved = 2 * case.nbytes
        return 1 if moved <= self.cache else max(2, math.ceil(REUSE * self.cache / moved))

    def arrays(self, case: Case) -> Arrays:
        """Return a case's arrays. x is made on the device: random numbers from the host would take seconds a GB."""
        made = case.arrays(np.empty(0, dtype_of(case.dtype)))
        generator = torch.Generator(self.device).manual_seed(math.prod(case.shape))
        x = torch.randn(case.shape, generator=generator, device=self.device).mul_(2).add_(1)
        own = {name: p if p is None else tensor(p).to(self.device) for name, p in vars(made).items()}
        return Arrays(**(own | {"x": x.to(getattr(torch, case.dtype))}))


def this_gpu() -> Gpu:
    """Return torch's current one."""
    where = torch.cuda.current_device()
    return Gpu(f"cuda:{where}", torch.cuda, torch.cuda.get_device_properties(where).L2_cache_size)


def measure_all(
    cases: Sequence[Case],
    seconds: float | None,
    console: Console,
    contenders: Sequence[str] = DEFAULT_ON_GPU,
    gpu: Gpu | None = None,
    most: float = math.inf,
) -> list[GpuRow]:
    """Measure one case after the other. The README's come first, as it may end early; rows are in the cases' order."""
    gpu = gpu or this_gpu()
    by_need = sorted(cases, key=lambda case: not case.readme)
    work = [(case.label, partial(measure, case, seconds, contenders, gpu)) for case in by_need]
    return sorted(one_by_one(work, console, most), key=lambda row: cases.index(row.case))


def measure(case: Case, seconds: float | None, contenders: Sequence[str], gpu: Gpu) -> GpuRow:
    """Measure a case. The row tells of errors outside of first calls too, as after a kernel that broke the device."""
    row = GpuRow(case)
    try:
        with torch.inference_mode():
            _measure(row, seconds, contenders, gpu)
    except Exception as error:
        row.units.pop(OWN, None)  # so that the row counts as failed
        row.left_out[OWN] = one_line(error)
    return row


def _measure(row: GpuRow, seconds: float | None, contenders: Sequence[str], gpu: Gpu) -> None:
    """Compare every contender with float64, then time those that are right, in turn.

    Two fifths of the seconds go to calls that allocate their output, by the device's clock, the rest in halves to the
    same by the caller's clock and to calls into a given output. None: no timing.
    """
    a = gpu.arrays(row.case)
    row.sets = 1 if seconds is None else gpu.sets(row.case)
    xs = [a.x, *(a.x.clone() for _ in range(row.sets - 1))]
    calls: dict[str, Call] = {}
    for name in contenders:
        call = _checked(row, name, a, xs, gpu)
        if call is not None:
            calls[name] = call
    if seconds is None or OWN not in calls:
        return
    # JAX's own stream is not seen by torch's events: there are its times in a queue only.
    on_stream = {name: call for name, call in calls.items() if not hasattr(call, "wait")}
    times = interleaved(on_stream, 0.4 * seconds, DeviceClock(gpu.cuda))
    row.seconds = {name: times[name] for name in on_stream}
    row.ratios = {name: times.ratio(name, OWN) for name in on_stream if name != OWN}
    queued = interleaved(calls, 0.3 * seconds, QueueClock(gpu.cuda))
    row.queued = {name: queued[name] for name in calls}
    row.queued_ratios = {name: queued.ratio(name, OWN) for name in calls if name != OWN}
    del on_stream, calls, call  # and the results that they keep
    _into(row, a, xs, gpu, 0.3 * seconds)


def _checked(row: GpuRow, name: str, a: Arrays, xs: Sequence[Any], gpu: Gpu) -> Call | None:
    """Return a contender's call, on all copies of x in turn, if it is right. Each has running statistics of its own."""
    mine = [with_own_statistics(a, x) for x in xs]

    def first() -> tuple[Call, Any]:
        calls = [prepare(name, row.case, own, table=ON_GPU) for own in mine]
        # The result is likely to get this memory: what is not written then does not hold another's right result.
        torch.full_like(a.x, math.nan)
        result = calls[0]()
        if hasattr(calls[0], "wait"):
            calls[0].wait(result)
        gpu.cuda.synchronize()
        return rotation(calls), result

    def judge(result: Any) -> tuple[float, float]:
        return judged(row.case, a, *results(name, row.case, mine[0], result))

    return checked(row, name, first, judge)


def with_own_statistics(a: Arrays, x: Any) -> Arrays:
    """Return the arrays with another x, and with copies of the running statistics, which a call may update."""
    return Arrays(x=x, weight=a.weight, bias=a.bias, mean=a.mean.clone(), var=a.var.clone())


def results(name: str, case: Case, own: Arrays, result: Any) -> tuple[Any, Sequence[Any]]:
    """Return what a contender gave as tensors: y in the case's order of axes, and the running mean and variance."""
    parts = result if isinstance(result, tuple) else (result,)
    y, *running = (part if isinstance(part, torch.Tensor) else torch.from_dlpack(part) for part in parts)
    y = in_order(case, y) if name in AS_IMAGES else y
    return y, running if isinstance(result, tuple) else (own.mean, own.var)


def _into(row: GpuRow, a: Arrays, xs: Sequence[Any], gpu: Gpu, seconds: float) -> None:
    """Time numbanorm into given outputs beside copies into them."""
    outs = [torch.full_like(x, math.nan) for x in xs]
    mine = [with_own_statistics(a, x) for x in xs]
    calls = [prepare(OWN, row.case, own, out, ON_GPU) for own, out in zip(mine, outs, strict=True)]
    calls[0]()
    _, units = judged(row.case, a, outs[0], (mine[0].mean, mine[0].var))
    if not units <= limit(row.case, own=True):
        raise ValueError(f"into a given output it is wrong, by {units:.3g} units of rounding")
    ways = {name: rotation(found) for name, found in copies(xs, outs).items()}
    times = interleaved({OWN: rotation(calls)} | ways, seconds, DeviceClock(gpu.cuda))
    row.into = {OWN: times[OWN]}
    row.copy = {name: times[name] for name in ways}
    if row.case.nbytes > gpu.cache and row.case.span > gpu.cache:  # x is gone from L2 when its second use comes
        row.read = min(row.copy.values()) / 2


def copies(xs: Sequence[Any], outs: Sequence[Any]) -> dict[str, list[Callable[[], object]]]:
    """Return calls that copy on the device: into the outputs, and into a new one."""
    into = [partial(out.copy_, x) for x, out in zip(xs, outs, strict=True)]
    return {"torch's copy_": into, "torch's clone": [x.clone for x in xs]}
