"""Compile what compare.py --device cuda will launch, in several processes, so that it measures and does not wait.

    python asv_benchmarks/compile_on_gpu.py --processes 8

Kernels are kept on disk, where the processes after these find them. Exits with 1 if a call fails.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from harness.case import Case
from harness.errors import one_line
from harness.gpu.cases import CASES


def call(case: Case, device: str) -> str:
    """Make the calls that are measured of a case; say what went wrong."""
    import torch
    from harness.contenders import ON_GPU, OWN, prepare
    from harness.gpu.measure import Gpu

    try:
        with torch.inference_mode():
            arrays = Gpu(device, torch.cuda, 0).arrays(case)
            for out in (None, torch.empty_like(arrays.x)):
                prepare(OWN, case, arrays, out, ON_GPU)()
            if device != "cpu":
                torch.cuda.synchronize()
    except Exception as error:
        return f"{case.label}: {one_line(error)}"
    return ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Share the cases out, those of the README first, as compare.py takes them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="(default: one for each core)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="at tiny sizes, for a trial")
    options = parser.parse_args(arguments)
    cases = sorted(CASES, key=lambda case: not case.readme)
    if options.tiny:
        cases = list(dict.fromkeys(case.tiny() for case in cases))
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        failed = [said for said in pool.map(call, cases, [options.device] * len(cases)) if said]
    print(*failed, f"{len(cases) - len(failed)} of {len(cases)} cases were called.", sep="\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
