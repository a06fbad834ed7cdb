"""Measure one case: each contender's error and time, and the time of a copy of the same bytes."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from rich.console import Console

from .case import Arrays, Call, Case, with_own_statistics
from .contenders import DEFAULT, OWN, Unfit, outputs, prepare
from .errors import one_line
from .machine import cache_bytes, crowded, set_threads
from .plain import Truth, limit, oracle
from .terminal import progress
from .timing import Ratio, interleaved

try:
    from .copying import copies, reading
except ImportError:  # an older numbanorm, without what the copies are made of
    copies = None

WRONG = "its result is wrong"  # a reason to be left out


@dataclass
class Row:
    """What was measured of a case."""

    case: Case
    threads: int
    off: dict[str, float] = field(default_factory=dict)  # each contender's largest difference from float64 ...
    units: dict[str, float] = field(default_factory=dict)  # ... and in units of rounding (see plain.oracle)
    seconds: dict[str, float] = field(default_factory=dict)  # a call as users make it, output allocated
    ratios: dict[str, Ratio] = field(default_factory=dict)  # their time over numbanorm's
    into: dict[str, float] = field(default_factory=dict)  # seconds of a call that writes into a given output
    copy: dict[str, float] = field(default_factory=dict)  # seconds of each way to copy
    read: float = 0.0  # seconds of reading x once more, where x and a group's span exceed the caches
    first_call: float = 0.0  # seconds of numbanorm's first call, compilation included
    left_out: dict[str, str] = field(default_factory=dict)  # who could not be timed, and why
    broken: list[str] = field(default_factory=list)  # those of them that raised an error, or whose result is wrong
    crowded: bool = False  # whether what else runs made its ratios worthless (see machine.crowded)

    @property
    def of_copy(self) -> float:
        """Share of the best copy's speed (and of a second read's) that numbanorm reaches into a given output.

        Moments have no output: of the speed of reading x once.
        """
        return (min(self.copy.values(), default=0.0) + self.read) / self.into[OWN] if self.into else float("nan")

    @property
    def reads_only(self) -> bool:
        """Whether there is no output to write."""
        return self.case.norm == "moments"

    @property
    def twice(self) -> bool:
        """Whether memory is read twice, which of_copy allows for."""
        return self.read > 0 and not self.reads_only and not self.case.backward

    @property
    def failed(self) -> bool:
        """Whether numbanorm is wrong, or did not run."""
        return not self.units.get(OWN, np.inf) <= limit(self.case, own=True)


def measure_all(
    cases: Sequence[Case],
    threads: Sequence[int],
    seconds: float | None,
    console: Console,
    contenders: Sequence[str] = DEFAULT,
    most: float = np.inf,
) -> list[Row]:
    """Measure all cases, with each number of threads, for `most` seconds."""

    worthless = [number for number in threads if crowded(number)]  # before what runs here adds to the load

    def one(case: Case, number: int) -> Row:
        set_threads(number)
        row = measure(case, number, seconds, contenders)
        row.crowded = number in worthless
        return row

    work = [(case.label, partial(one, case, number)) for case in cases for number in threads]
    return one_by_one(work, console, most)


def one_by_one(work: Sequence[tuple[str, Callable[[], Row]]], console: Console, most: float = np.inf) -> list[Row]:
    """Measure one row after the other, with a progress bar if there is a terminal.

    Ctrl-C ends it early, and so does the row in which it has taken `most` seconds.
    """
    rows: list[Row] = []
    start = time.perf_counter()
    with progress(console) as bar:
        task = bar.add_task("", total=len(work))
        try:
            for label, one in work:
                bar.update(task, description=label)
                rows.append(one())
                bar.advance(task)
                if time.perf_counter() - start > most and len(rows) < len(work):
                    console.print(f"The time is over: {len(rows)} of {len(work)} measured.")
                    break
        except KeyboardInterrupt:
            console.print(f"Interrupted: {len(rows)} measured.")
    return rows


def _inference() -> AbstractContextManager[Any]:
    """Have torch keep nothing for a backward pass, where it is installed."""
    try:
        import torch  # here, since it takes seconds: whoever only shows rows does without
    except ImportError:
        return nullcontext()
    return torch.inference_mode()


def measure(case: Case, threads: int, seconds: float | None, contenders: Sequence[str] = DEFAULT) -> Row:
    """Compare every contender with float64, then time those that are right, in turn.

    Half of the seconds go to calls that allocate their output, half to calls into a given output. None: no timing.
    """
    row, a = Row(case, threads), case.arrays()
    truth = oracle(case, a)
    calls: dict[str, Call] = {}
    with nullcontext() if case.backward else _inference():
        for name in contenders:
            call = _checked(row, name, truth, a)
            if call is not None:
                calls[name] = call
        del truth  # it takes four times as much memory as x
        if seconds is None or OWN not in calls:
            return row
        times = interleaved(calls, seconds / 2)
        row.seconds = {name: times[name] for name in calls}
        row.ratios = {name: times.ratio(name, OWN) for name in calls if name != OWN}
        _into(row, a, seconds / 2)
    return row


def _checked(row: Row, name: str, truth: Truth, a: Arrays) -> Call | None:
    """Return a contender's call, if it is right."""
    own = with_own_statistics(a)

    def first() -> tuple[Call, Any]:
        call = prepare(name, row.case, own)
        return call, call()

    def judge(result: Any) -> tuple[float, float]:
        y, running = outputs(row.case, own, result)
        if y.shape != truth.y.shape:
            raise ValueError(f"an output of shape {y.shape}")
        return truth.off(y), truth.units(y, *running)

    return checked(row, name, first, judge)


def checked(
    row: Row, name: str, first: Callable[[], tuple[Call, Any]], judge: Callable[[Any], tuple[float, float]]
) -> Call | None:
    """Run a contender once and compare; None, and the row says why, if it cannot or is wrong."""
    start = time.perf_counter()
    try:
        call, result = first()
        if name == OWN:
            row.first_call = time.perf_counter() - start
        row.off[name], row.units[name] = judge(result)
    except Unfit as reason:
        row.left_out[name] = str(reason)
        return None
    except Exception as error:  # whatever another library raises: the rest is still measured
        row.left_out[name] = one_line(error)
        row.broken.append(name)
        return None
    if not row.units[name] <= limit(row.case, own=name == OWN):
        row.left_out[name] = WRONG
        row.broken.append(name)
        return None
    return call


def _into(row: Row, a: Arrays, seconds: float) -> None:
    """Time calls into a given output beside copies into it. All write to the one output."""
    if copies is None:
        return
    if row.case.backward:
        call, ways = prepare(OWN, row.case, a), copies(a.x, np.empty_like(a.x))
        times = interleaved({OWN: call, "read": reading(a.x)} | ways, seconds)
        row.into, row.copy = {OWN: times[OWN]}, {name: times[name] for name in ways}
        row.read = times["read"] * (3 if reads_twice(row.case) else 1)
        return
    if row.reads_only:
        call = prepare(OWN, row.case, a)
        times = interleaved({OWN: call, "read": reading(a.x)}, seconds)
        row.into, row.read = {OWN: times[OWN]}, times["read"]
        return
    out = np.empty_like(a.x)
    calls: dict[str, Callable[[], object]] = {}
    for name in row.seconds:
        try:
            call = prepare(name, row.case, a, out)
            if call is not None:
                call()
                calls[name] = call
        except Exception as error:  # it was right without an output: only these calls are left out
            row.left_out[name] = f"into a given output, {one_line(error)}"
            row.broken.append(name)
    ways = copies(a.x, out)
    reads = {"read": reading(a.x)} if reads_twice(row.case) else {}
    times = interleaved(calls | ways | reads, seconds)
    row.into = {name: times[name] for name in calls}
    row.copy = {name: times[name] for name in ways}
    row.read = sum(times[name] for name in reads)


def reads_twice(case: Case) -> bool:
    """Whether memory has to be read twice: x is gone from the last cache, and a group from its core's."""
    return case.nbytes > cache_bytes(3) and case.span > cache_bytes(2)
