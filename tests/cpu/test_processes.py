"""Threads, forks, threading layers and interrupts: right results, the same bits, and no end. See processes.py."""

import processes
import pytest

# The default run has each case on both kinds of threads: Numba's on OpenMP, and this package's where Numba has its
# workqueue. The other layers, and torch beside each, have these.
EVERYWHERE = ("any_number_of_threads", "threads_at_once", "fork_after_use")


def combinations():
    for name, case in processes.CASES.items():
        for layer in processes.LAYERS:
            for torch in (False, True):
                marks = []
                if name not in EVERYWHERE and (torch or layer not in ("omp", "workqueue")):
                    marks.append(pytest.mark.exhaustive)
                # The default is one of the others; nothing of torch is compiled.
                if torch and (case.cold or layer == "default"):
                    marks.append(pytest.mark.slow)
                yield pytest.param(name, layer, torch, marks=marks, id=f"{name}-{layer}{'-torch' * torch}")


@pytest.mark.parametrize("name, layer, torch", list(combinations()))
def test_case(name, layer, torch):
    case = processes.CASES[name]
    if case.torch and torch:
        pytest.skip("uses torch anyway")
    if reason := processes.unfit(case, layer, torch):
        pytest.skip(reason)
    processes.run(case, layer, torch)
