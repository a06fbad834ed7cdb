"""What compare.py measures on: the processor, or a GPU. Both classes have the same members."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console

import numbanorm as nbn

from . import measure, report
from .case import Case
from .cases import CASES
from .contenders import CONTENDERS, DEFAULT, DEFAULT_ON_GPU, ON_GPU
from .gpu import device
from .gpu.cases import CASES as GPU_CASES
from .machine import machine, warning


class Processor:
    """NumPy's arrays, with each number of threads in turn."""

    cases = CASES
    usual = DEFAULT
    contenders = CONTENDERS
    section = report.TABLE  # of a Markdown file
    report = report

    def __init__(self, threads: Sequence[int] | None) -> None:
        self.threads = threads or [nbn.get_num_threads()]

    def machine(self, contenders: Sequence[str], most: bool = False) -> str:
        """Say on what was measured, in two lines; `most`: with the most threads only."""
        return machine(self.threads[-1] if most else " and ".join(map(str, self.threads)), contenders)

    def warning(self) -> str:
        """Say that others use it."""
        return warning(self.threads[-1])

    def measure_all(
        self, cases: Sequence[Case], seconds: float, console: Console, contenders: Sequence[str], most: float
    ) -> list[Any]:
        """Measure one case after the other, for `most` seconds."""
        return measure.measure_all(cases, self.threads, seconds, console, contenders, most)

    def once(self, rows: Sequence[Any]) -> list[Any]:
        """Return one row for each case: that with the most threads."""
        return [row for row in rows if row.threads == self.threads[-1]]


class Cuda:
    """Torch's tensors on its current GPU."""

    cases = GPU_CASES
    usual = DEFAULT_ON_GPU
    contenders = ON_GPU
    section = "GPU speed table"

    def __init__(self, threads: Sequence[int] | None) -> None:
        """Find the GPU.

        Raises
        ------
        device.NoGPU
            If there is none.
        """
        if threads:
            raise device.NoGPU("--threads is for the processor")
        self.torch = device.find()
        from .gpu import measure, report  # which need torch

        self.report = report
        self._measure_all = measure.measure_all

    def machine(self, contenders: Sequence[str], most: bool = False) -> str:
        """Say on what was measured, in two lines."""
        return device.machine(self.torch, contenders)

    def warning(self) -> str:
        """Say that others use the GPU, or the processor that launches."""
        return device.warning() or warning()

    def measure_all(
        self, cases: Sequence[Case], seconds: float, console: Console, contenders: Sequence[str], most: float
    ) -> list[Any]:
        """Measure one case after the other, for `most` seconds."""
        return self._measure_all(cases, seconds, console, contenders, most=most)

    def once(self, rows: Sequence[Any]) -> list[Any]:
        """Return one row for each case: all."""
        return list(rows)


DEVICES = {"cpu": Processor, "cuda": Cuda}
