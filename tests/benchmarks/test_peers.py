"""Peers side by side, a table for each layer: see asv_benchmarks/README.md.

Off by default, as pytest-benchmark is in the extra `benchmarks`. All run with as many threads as there are.
"""

import math

import pytest
from harness.case import NORMS
from harness.cases import CASES
from harness.contenders import DEFAULT, OWN, Unfit, outputs, prepare
from harness.machine import set_threads
from harness.plain import limit, oracle

import numbanorm as nbn

MOST = 4_000_000  # elements
EACH = 2  # layers of each norm
CHOSEN = [
    case
    for norm in NORMS
    for case in [c for c in CASES if c.norm == norm and c.readme and math.prod(c.shape) <= MOST][:EACH]
]


@pytest.mark.parametrize("peer", DEFAULT)
@pytest.mark.parametrize("case", CHOSEN, ids=lambda case: f"{case.norm}: {case.label.replace('×', 'x')}")
def test_norm(benchmark, case, peer):
    benchmark.group = case.label
    set_threads(nbn.get_num_threads())
    arrays = case.arrays()
    truth = oracle(case, arrays)
    try:
        call = prepare(peer, case, arrays)
    except Unfit as reason:
        pytest.skip(f"{peer}: {reason}")
    y, _ = outputs(case, arrays, call())
    assert truth.units(y) <= limit(case, own=peer == OWN)
    benchmark(call)
