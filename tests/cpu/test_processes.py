"""Threads, forks, threading layers and interrupts: right results, the same bits, and no end. See processes.py."""

import processes
import pytest


def combinations():
    for name, case in processes.CASES.items():
        for layer in processes.LAYERS:
            for torch in (False, True):
                # The default is one of the others; nothing of torch is compiled.
                slow = torch and (case.cold or layer == "default")
                marks = [pytest.mark.slow] if slow else []
                yield pytest.param(name, layer, torch, marks=marks, id=f"{name}-{layer}{'-torch' * torch}")


@pytest.mark.parametrize("name, layer, torch", list(combinations()))
def test_case(name, layer, torch):
    case = processes.CASES[name]
    if case.torch and torch:
        pytest.skip("uses torch anyway")
    if reason := processes.unfit(case, layer, torch):
        pytest.skip(reason)
    processes.run(case, layer, torch)
