"""Two versions of numbanorm on the same arrays in one process, in turn; the process is a fresh one."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType

import numba
import numpy as np

from ..case import Arrays, Call, Case, with_own_statistics
from ..errors import one_line
from ..plain import Truth, as_one
from ..timing import Ratio, paired, ratio_of
from .guarded import NUMBANORM, Guarded
from .versions import check_apart, load

LONGEST = 200  # characters of a reason
PATIENCE = 180.0  # seconds without a word, after which a process is given up


@dataclass(frozen=True)
class Pair:
    """How a case's time changed from one version to another."""

    case: Case
    threads: int
    before: float  # seconds, median
    after: float
    ratio: Ratio  # after / before

    def turned(self) -> "Pair":
        """Return the same the other way round."""
        turned = Ratio(1 / self.ratio.median, 1 / self.ratio.high, 1 / self.ratio.low)
        return Pair(self.case, self.threads, self.after, self.before, turned)


@dataclass(frozen=True)
class Left:
    """A case that was left out, and why."""

    case: Case
    reason: str


Found = Pair | Left


@dataclass(frozen=True)
class Version:
    """A version: what it is called in messages, the folder it was written to, the name that it is imported under, and
    of what it is a version.
    """

    title: str
    folder: Path
    module: str
    guarded: Guarded = NUMBANORM


def compare(
    versions: tuple[Version, Version], cases: Sequence[Case], threads: int, pairs: int, swapped: bool = False
) -> Iterator[Found]:
    """Compare two versions in a fresh process; if that ends early, or hangs, in another one from the next case on.

    Swapped: the later version is loaded first, and takes the first turn.
    """
    return _in_processes(_compare, cases, versions, threads, pairs, swapped)


def compile_all(version: Version, cases: Sequence[Case], threads: Sequence[int]) -> Iterator[Found]:
    """Call a version once for each case in a fresh process, so that its kernels lie in the cache."""
    return _in_processes(_compile_all, cases, version, threads)


def _in_processes(work: Callable[..., None], cases: Sequence[Case], *arguments: object) -> Iterator[Found]:
    """Let processes work through the cases, and pass on what they find. Each case ends with None."""
    spawn = multiprocessing.get_context("spawn")
    cases = list(cases)
    while cases:
        here, there = spawn.Pipe(duplex=False)
        process = spawn.Process(target=_quietly, args=(work, there, cases, *arguments), daemon=True)
        process.start()
        there.close()
        reason = ""
        try:
            while cases and not reason:
                if not here.poll(PATIENCE):
                    reason = f"nothing came for {PATIENCE:.0f} s"
                elif (found := here.recv()) is None:
                    cases.pop(0)
                else:
                    yield found
        except EOFError:
            process.join()
            if process.exitcode == -signal.SIGINT:
                raise KeyboardInterrupt from None
            reason = f"the process ended with {process.exitcode}"
        finally:
            process.kill()
            process.join()
            here.close()
        if reason:
            yield Left(cases.pop(0), reason)


def _quietly(work: Callable[..., None], *arguments: object) -> None:
    """Work; Ctrl-C ends this process without a word, and the one that started it says it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    work(*arguments)


def _compare(
    answer: Connection,
    cases: Sequence[Case],
    versions: tuple[Version, Version],
    threads: int,
    pairs: int,
    swapped: bool,
) -> None:
    order = versions[::-1] if swapped else versions
    modules = _load(answer, cases, *order)
    for case in cases if modules else ():
        a, reasons = case.arrays(), []
        truth = versions[0].guarded.truth(case, a)
        calls: dict[Version, Call] = {}
        for version in order:
            try:
                calls[version] = _checked(version, modules[version], case, a, truth)
            except Exception as error:  # whatever a version raises: the other cases are still measured
                reasons.append(f"{version.title}: {_one_line(error)}")
        del truth
        if reasons:
            answer.send(Left(case, "; ".join(reasons)))
        else:
            for module in modules.values():
                _set_threads(module, threads)
            times = paired(calls[order[0]], calls[order[1]], pairs)
            times = [(b, a) for a, b in times] if swapped else times
            before, after = (float(np.median(side)) for side in zip(*times, strict=True))
            answer.send(Pair(case, threads, before, after, ratio_of((b, a) for a, b in times)))
        answer.send(None)


def _load(answer: Connection, cases: Sequence[Case], *versions: Version) -> dict[Version, ModuleType]:
    """Import versions; if one cannot be, nothing, and all cases are left out for that."""
    modules = {}
    for version in versions:
        try:
            modules[version] = load(version.folder, version.module, version.guarded.source)
        except Exception as error:
            for case in cases:
                answer.send(Left(case, f"{version.title}: {_one_line(error)}"))
                answer.send(None)
            return {}
    return modules


def _checked(version: Version, module: ModuleType, case: Case, a: Arrays, truth: Truth) -> Call:
    """Run a version once, compare it with float64, and return the call to be timed."""
    fresh = with_own_statistics(a)
    y = version.guarded.call(module, case, fresh)()
    check_apart(version.guarded.source)
    off = truth.units(as_one(y).reshape(truth.y.shape), fresh.mean, fresh.var)
    if not off <= version.guarded.limit(case):
        raise ValueError(f"wrong by {off:.3g} units of rounding")
    return version.guarded.call(module, case, a)


def _set_threads(module: ModuleType, number: int) -> None:
    """Let a version use so many threads: by a function of its own, else of Numba's."""
    if hasattr(module, "set_num_threads"):
        module.set_num_threads(number)
    else:
        numba.set_num_threads(min(number, numba.config.NUMBA_NUM_THREADS))


def _compile_all(answer: Connection, cases: Sequence[Case], version: Version, threads: Sequence[int]) -> None:
    modules = _load(answer, cases, version)
    for case in cases if modules else ():
        module = modules[version]
        try:
            call = version.guarded.call(module, case, case.arrays())
            for number in threads:
                _set_threads(module, number)
                call()
        except Exception as error:
            answer.send(Left(case, f"{version.title}: {_one_line(error)}"))
        answer.send(None)


def _one_line(error: Exception) -> str:
    words = one_line(error)
    return words if len(words) <= LONGEST else f"{words[:LONGEST]} ..."
