"""All that needs a GPU in one go: tests marked gpu, the small ones under compute-sanitizer, and the measurements.

    python asv_benchmarks/gpu.py build/gpu --minutes 28

Every step has its share of the time, goes on after a failure of the one before, and writes to the folder. The exit
status is 0 if all that could run did well, 1 if not, 2 without a GPU. For Linux.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.gpu.device import NoGPU, find, machine

ROOT = Path(__file__).parents[1]
GRACE = 30  # seconds to report what was found by then, after the time is over
CLOSING = 60  # seconds that compare.py is given for the case in hand and its files
TAIL = 25  # lines of a step's output that are shown; its file has all
SECONDS = 1.0  # for each case of compare.py
WRONG = 86  # what compute-sanitizer exits with if it has found something
NO_TESTS = 5  # what pytest exits with
MOST = 15  # processes that compile, and have a part of the GPU's memory each


@dataclass(frozen=True)
class Step:
    """A command, made when it is known how many seconds it has."""

    name: str
    share: float  # of the time, before what others leave
    command: Callable[[float], Sequence[str | Path]]
    lacking: str = ""  # why it cannot run


@dataclass(frozen=True)
class Outcome:
    """What became of a step."""

    name: str
    what: str  # ok, failed (1), over time, ...
    seconds: float
    last: str  # line of its output

    @property
    def fine(self) -> bool:
        """Whether it did well, or could not run."""
        return self.what == "ok" or self.what.startswith("left out")

    def __str__(self) -> str:
        """Write it in one line."""
        return f"{self.name:10} {self.what:20} {self.seconds:5.0f} s  {self.last}".rstrip()


def steps(folder: Path) -> list[Step]:
    """Return what is to be done. compare.py comes last: it makes use of whatever time the others leave."""
    tests = [sys.executable, "-m", "pytest", "-m", "gpu", "--durations=10"]
    processes = max(1, min(MOST, (os.cpu_count() or 1) - 1))
    sanitizer = shutil.which("compute-sanitizer", path=f"{os.environ.get('PATH', '')}:/usr/local/cuda/bin")
    lacking = "" if sanitizer else "compute-sanitizer is not installed"

    def script(name: str) -> list[str | Path]:
        return [sys.executable, ROOT / "asv_benchmarks" / name]

    def sanitized(tool: str) -> list[str]:
        options = [f"--tool={tool}", f"--error-exitcode={WRONG}", "--target-processes=all"]
        return [sanitizer or "", *options, *tests, "-k", "small", "-n", "0"]

    def compared(seconds: float) -> list[str | Path]:
        minutes = max(0.5, (seconds - CLOSING) / 60)
        how = ["--device", "cuda", "--contenders", "all", "--seconds", str(SECONDS), "--minutes", f"{minutes:.2f}"]
        files = [(f"--{kind}", folder / f"compare.{end}") for kind, end in FILES.items()]
        return [*script("compare.py"), *how, *(word for pair in files for word in pair)]

    return [
        # Compiling takes most of the time, so there are many processes; but they share one GPU's memory.
        Step("tests", 0.3, lambda _: [*tests, "-n", str(processes)]),
        Step("compile", 0.12, lambda _: [*script("compile_on_gpu.py"), "--processes", str(processes)]),
        Step("memcheck", 0.08, lambda _: sanitized("memcheck"), lacking),
        Step("racecheck", 0.08, lambda _: sanitized("racecheck"), lacking),
        # Right against the host's, and beside plain statistics.
        Step("chosen", 0.06, lambda _: script("chosen_on_gpu.py")),
        Step("backward", 0.1, lambda _: script("backward_on_gpu.py")),
        Step("compare", 0.26, compared),
    ]


FILES = {"json": "json", "markdown": "md", "picture": "png"}  # of compare.py, by its options


def run_all(todo: Sequence[Step], folder: Path, seconds: float) -> list[Outcome]:
    """Run one step after the other. What one leaves of its time goes to those after it."""
    end = time.monotonic() + seconds
    found = []
    for number, step in enumerate(todo):
        ahead = sum(other.share for other in todo[number:] if not other.lacking)
        if step.lacking:
            found.append(Outcome(step.name, "left out", 0, step.lacking))
            continue
        left = max(0.0, end - time.monotonic()) * step.share / ahead
        print(f"== {step.name}, {left:.0f} s", flush=True)
        found.append(run(step, folder, left))
        print(*lines(folder, step)[-TAIL:], found[-1], sep="\n", flush=True)
    return found


def run(step: Step, folder: Path, seconds: float) -> Outcome:
    """Run one step in a group of processes of its own, which ends with it."""
    start = time.monotonic()
    with log(folder, step).open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            [str(word) for word in step.command(seconds)],
            cwd=ROOT,
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"},
            start_new_session=True,
        )
        try:
            status = process.wait(seconds)
            what = {0: "ok", NO_TESTS: "no tests", WRONG: "errors"}.get(status, f"failed ({status})")
        except subprocess.TimeoutExpired:
            what = "over time"
            stop(process)
    last = next((line for line in reversed(lines(folder, step)) if line.strip()), "")
    return Outcome(step.name, what, time.monotonic() - start, last)


def stop(process: subprocess.Popen) -> None:
    """End a step as Ctrl-C does, so that it reports what it has; if it does not, with all that it has started."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def log(folder: Path, step: Step) -> Path:
    """Return the file of a step's output."""
    return folder / f"{step.name}.txt"


def lines(folder: Path, step: Step) -> list[str]:
    """Return what a step printed."""
    return log(folder, step).read_text("utf-8", errors="replace").splitlines()


def main() -> int:
    """Run all steps and sum up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where all results go")
    parser.add_argument("--minutes", type=float, default=28, help="for all steps together (default: 28)")
    args = parser.parse_args()
    try:
        where = machine(find(), ["JAX", "CuPy"])
    except NoGPU as error:
        print(f"gpu.py: nothing can be run: {error}.", file=sys.stderr)
        return 2
    folder = args.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    print(where, flush=True)
    found = run_all(steps(folder), folder, 60 * args.minutes)
    summary = "\n".join((where, "", *map(str, found)))
    (folder / "summary.txt").write_text(summary + "\n", "utf-8")
    print(f"\n{summary}")
    return 0 if all(outcome.fine for outcome in found) else 1


if __name__ == "__main__":
    sys.exit(main())
