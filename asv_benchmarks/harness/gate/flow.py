"""The gate: from two commits to a verdict (see gate.py, the script)."""

import argparse
import os
import signal
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from rich.console import Console

import numbanorm as nbn

from ..case import NORMS, Case
from ..cases import CASES, GATE, select
from ..machine import machine, warning
from ..report import show
from ..terminal import open_console, progress
from .guarded import NUMBANORM, Guarded, read
from .pairs import Left, Pair, Version, compare, compile_all
from .slower import slow_down
from .verdict import Verdict, cells, draw, notes, reasons, summary, write_files
from .versions import WORKTREE, changed, check_out, commit_of

PAIRS = 60  # on one thread, ...
PAIRS_AGAIN = 120  # ... of suspects, in each of two fresh processes
PAIRS_ON_ALL = 20  # ... and on all threads
ROUNDS = 8  # tries to slow down by as much as is wanted ...
LEAST = 0.05  # ... by this share of the blocks at least ...
CLOSE = 0.01  # ... give or take so much of a call ...
ENOUGH = 1 / 3  # ... or, on a machine too noisy for that, so much of what is wanted
INJECTED = "group_norm"  # the norm that the selftest slows down: runs of rows, as with channels first


class Gate:
    """Two versions, the cases, and where to say what is going on."""

    def __init__(self, versions: tuple[Version, Version], cases: Sequence[Case], console: Console) -> None:
        self.versions = versions
        self.cases = cases
        self.console = console
        self.threads = nbn.get_num_threads()
        self.left: list[Left] = []

    def measure(self) -> list[Verdict]:
        """Compile, compare, and compare suspects again."""
        numbers = [1, self.threads] if self.threads > 1 else [1]
        compiling = self.console.status("compiling both versions, or loading what was compiled before")
        with compiling, ThreadPoolExecutor() as pool:  # both at once: compiling is most of a first run
            failures = list(pool.map(lambda version: list(compile_all(version, self.cases, numbers)), self.versions))
        self.left = list(dict.fromkeys(one for found in failures for one in found if isinstance(one, Left)))
        failed = {one.case for one in self.left}
        cases = [case for case in self.cases if case not in failed]
        verdicts = {pair.case: Verdict(pair) for pair in self._compared(cases, 1, PAIRS)}
        for swapped in (True, False):
            suspects = [case for case, verdict in verdicts.items() if verdict.slower]
            for pair in self._compared(suspects, 1, PAIRS_AGAIN, swapped):
                verdicts[pair.case].again.append(pair)
        if self.threads > 1:
            for pair in self._compared(list(verdicts), self.threads, PAIRS_ON_ALL):
                verdicts[pair.case].together = pair
        return list(verdicts.values())

    def _compared(self, cases: Sequence[Case], threads: int, pairs: int, swapped: bool = False) -> Iterable[Pair]:
        """Yield what could be measured, note what could not, and show how far it is."""
        if not cases:
            return
        with progress(self.console) as bar:
            task = bar.add_task(f"on {threads} thread{'s' * (threads > 1)}", total=len(cases))
            for found in compare(self.versions, cases, threads, pairs, swapped):
                if isinstance(found, Pair):
                    yield found
                else:
                    self.left.append(found)
                bar.advance(task)


def versions_of(base: str, head: str, folder: Path, guarded: Guarded = NUMBANORM) -> tuple[Version, Version]:
    """Check out two commits side by side."""
    made, source = [], guarded.source
    for role, name in (("base", base), ("head", head)):
        commit = commit_of(name, source)
        title = name if commit.startswith(name) else f"{name} ({commit})"
        made.append(Version(title, check_out(commit, folder / role, source), f"{source.name}_{role}", guarded))
    return made[0], made[1]


def gate(args: argparse.Namespace, console: Console) -> int:
    """Compare two commits and report."""
    with tempfile.TemporaryDirectory(prefix="numbanorm-gate-") as folder:
        try:
            guarded = read(args.kernels) if args.kernels else NUMBANORM
            versions = versions_of(args.base, args.head, Path(folder), guarded)
            if WORKTREE not in (args.base, args.head) and (files := changed(guarded.source)):
                console.print(f"Not committed, so not measured ('.' would be): {', '.join(files)}", style="yellow")
        except ValueError as error:
            console.print(f"Nothing could be measured: {error}.", style="red", markup=False)
            return 3
        start = time.perf_counter()
        title = f"{versions[0].title} before, {versions[1].title} after\n{machine(1)}"
        console.print(title, markup=False)
        measured = Gate(versions, chosen(args, guarded), console)
        verdicts = measured.measure()
    if verdicts:
        show([cells(verdict) for verdict in verdicts], console)
        for note in notes(verdicts):
            console.print(note, markup=False)
    for reason in reasons(measured.left):
        console.print(reason, style="red", markup=False)
    console.print(f"{summary(verdicts)} {time.perf_counter() - start:.0f} s.", style="bold", markup=False)
    write_files(title, verdicts, measured.left, args.markdown, args.json)
    if args.picture and verdicts:
        draw(title, verdicts, args.picture)
    return 3 if not verdicts else int(any(verdict.slower for verdict in verdicts))


def selftest(args: argparse.Namespace, console: Console) -> int:
    """Measure the files as they are beside themselves, and beside themselves slowed down, several times."""
    cases = [case for case in chosen(args) if case.norm == INJECTED and not case.last and not case.backward]
    if not cases:
        console.print(f"Nothing could be measured: no case of {INJECTED} with channels first was chosen.", style="red")
        return 3
    console.print(machine(1))
    with tempfile.TemporaryDirectory(prefix="numbanorm-gate-") as name:
        folder = Path(name)
        own, twin = versions_of(WORKTREE, WORKTREE, folder)
        try:
            slow, slowed = _slowed(own, cases, args.percent / 100, folder, console)
        except ValueError as error:
            console.print(f"Nothing could be measured: {error}.", style="red", markup=False)
            return 3
        alarms = [_alarm("identical", Gate((own, twin), cases, console)) for _ in range(args.runs)]
        caught = [_alarm(slow.title, Gate((own, slow), slowed, console)) for _ in range(args.runs)]
    console.print(f"identical code: {alarms.count(True)} false alarms in {args.runs} runs", style="bold")
    console.print(f"{slow.title}: caught {caught.count(True)} times in {args.runs} runs", style="bold")
    if None in alarms + caught:
        return 3
    return int(any(alarms) or not all(caught))


def _slowed(
    own: Version, cases: Sequence[Case], wanted: float, folder: Path, console: Console
) -> tuple[Version, list[Case]]:
    """Return the files as they are, with as much work added as slows the case that it slows most by about `wanted`.

    Other machine code takes other time, too. Cases that the least share slows by more are left out: with the version
    come those that are not.
    """
    tries: list[tuple[float, float, Version]] = []
    left = list(cases)
    for number in range(ROUNDS):
        # All tries together say what a share costs: each by itself is off by the machine's noise.
        cost = sum(found for _, found, _ in tries) / sum(share for share, _, _ in tries) if tries else 1.0
        share = max(wanted / max(cost, CLOSE), LEAST)
        slow = Version("", folder / f"slow{number}", f"numbanorm_slow{number}")
        check_out(WORKTREE, slow.folder)
        slow_down(slow.folder, share)
        pairs = list(compare((own, slow), left, 1, PAIRS))
        slower = {pair.case: pair.ratio.median - 1 for pair in pairs if isinstance(pair, Pair)}
        if not slower:
            raise ValueError(reasons(one for one in pairs if isinstance(one, Left))[0])
        found = max(slower.values())
        console.print(f"{share:.0%} of the blocks summed once more: {found:.1%} slower")
        if share == LEAST and found > (1 + ENOUGH) * wanted and min(slower.values()) < wanted:
            left = [case for case in left if slower.get(case, 0.0) <= wanted]
            tries.clear()
            continue
        tries.append((share, found, replace(slow, title=f"{found:.1%} slower")))
        if abs(found - wanted) < CLOSE:
            break
    _, found, slow = min(tries, key=lambda one: abs(one[1] - wanted), default=(0.0, 0.0, own))
    if abs(found - wanted) > ENOUGH * wanted:
        raise ValueError(f"no share of the blocks slows calls by about {wanted:.0%}; is the machine busy?")
    return slow, left


def _alarm(what: str, gate: Gate) -> bool | None:
    """Run a gate; whether it finds a case slower, None if it could measure nothing."""
    verdicts = gate.measure()
    for reason in reasons(gate.left):
        gate.console.print(reason, style="red", markup=False)
    ratios = ", ".join(f"{verdict.pair.ratio.median:.3f}" for verdict in verdicts)
    gate.console.print(f"{what}, after / before: {ratios}. {summary(verdicts)}", markup=False)
    return any(verdict.slower for verdict in verdicts) if verdicts else None


def chosen(args: argparse.Namespace, guarded: Guarded = NUMBANORM) -> list[Case]:
    """Return the cases that the command line asks for, in the order of their norms."""
    return select(guarded.cases or (CASES if args.every else GATE), args.norm, args.name)


def arguments(description: str) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", nargs="?", help="the commit before")
    parser.add_argument("head", nargs="?", help="the commit after")
    which = parser.add_argument_group("which cases (default: those of the gate)")
    which.add_argument("--norm", nargs="+", choices=NORMS, help="of these norms")
    which.add_argument("--name", metavar="TEXT", help="with this text in their label")
    which.add_argument("--every", action="store_true", help="of the whole table, which takes many times as long")
    which.add_argument("--kernels", type=Path, metavar="FILE", help="kernels of your own: see examples/guard.py")
    to = parser.add_argument_group("where the results go, beside the terminal")
    to.add_argument("--markdown", type=Path, metavar="FILE", help="the table")
    to.add_argument("--json", type=Path, metavar="FILE", help="everything")
    to.add_argument("--picture", type=Path, metavar="FILE", help="ratios and their intervals")
    test = parser.add_argument_group("the gate itself")
    test.add_argument("--selftest", action="store_true", help="see that identical code passes and slower code does not")
    test.add_argument("--runs", type=int, default=10, metavar="N", help="of each (default: 10)")
    test.add_argument("--percent", type=float, default=15, metavar="P", help="by which to slow down (default: 15)")
    args = parser.parse_args()
    if args.selftest == bool(args.base and args.head):
        parser.error("give two commits, or --selftest")
    if args.selftest and args.kernels:
        parser.error("--selftest slows numbanorm's kernels down: leave --kernels out")
    return args


def main(description: str) -> int:
    """Measure and report."""
    args = arguments(description)
    console = open_console()
    os.environ.setdefault("NUMBANORM_QUIET", "1")  # in the processes that compile: it is said here
    if busy := warning():
        console.print(busy, style="yellow")
    try:
        return selftest(args, console) if args.selftest else gate(args, console)
    except KeyboardInterrupt:
        console.print("Interrupted.")
        return 128 + signal.SIGINT
    except Exception:  # Python would exit with 1, which means slower
        console.print_exception()
        return 3
