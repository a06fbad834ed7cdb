"""Peers side by side, a table for each layer: see asv_benchmarks/README.md.

Off by default, as pytest-benchmark is in the extra `benchmarks`. All run with as many threads as there are.
"""

import math
import sys
from pathlib import Path

import pytest

import numbanorm as nbn

sys.path.insert(0, str(Path(__file__).parents[2] / "asv_benchmarks"))
from harness.case import NORMS
from harness.cases import CASES
from harness.contenders import CONTENDERS, to_numpy
from harness.machine import set_threads
from harness.measure import limit
from harness.plain import oracle

PEERS = ("numbanorm", "NumPy", "torch")
MOST = 4_000_000  # elements
EACH = 2  # layers of each norm
CHOSEN = [
    case
    for norm in NORMS
    for case in [c for c in CASES if c.norm == norm and c.readme and math.prod(c.shape) <= MOST][:EACH]
]


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("case", CHOSEN, ids=lambda case: f"{case.norm}: {case.label.replace('×', 'x')}")
def test_norm(benchmark, case, peer):
    if peer not in CONTENDERS[case.norm]:
        pytest.skip(f"{peer} is not installed")
    benchmark.group = case.label
    set_threads(nbn.get_num_threads())
    arrays = case.arrays()
    truth = oracle(case, arrays)
    call = CONTENDERS[case.norm][peer](case, arrays, None)
    assert truth.units(to_numpy(case, call())) <= limit(case, peer)
    benchmark(call)
