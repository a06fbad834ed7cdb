"""Cases of every norm at tiny sizes, and measuring them on a GPU that is none."""

from dataclasses import replace

from gpu_stand_in import Processor
from harness.contenders import ON_GPU, OWN
from harness.gpu.cases import CASES
from harness.gpu.measure import Gpu, measure_all
from rich.console import Console

SMALL = [replace(next(c for c in CASES if c.norm == norm and c.last == last).tiny(), dtype=dtype)
         for norm in ON_GPU for last in (False, True) for dtype in ("float32", "bfloat16")
         if last or norm != "rms_norm"]  # fmt: skip

FEW = [case for case in SMALL if case.dtype == "float32" or case.norm == "rms_norm"]  # whose kernels others need, too


def stand_in():
    """Return a GPU that is none: the processor's tensors, 16 KB of L2."""
    return Gpu("cpu", Processor(), 1 << 14)


def measured(gpu, cases, contenders, **more):
    return measure_all(cases, 0.0, Console(quiet=True), [OWN, *contenders], gpu, **more)
