"""The way back as a case: every contender against float64, a wrong one found, and the gate's cases among them."""

from dataclasses import replace

import numpy as np
import pytest
from harness.case import NORMS
from harness.cases import CASES, GATE
from harness.contenders import BACKWARD, OWN
from harness.measure import WRONG, measure_all
from rich.console import Console

HAVE = [norm for norm in NORMS if norm != "moments"]


def small(norm, last=False):
    case = next(case for case in CASES if case.norm == norm and case.last == (last or norm == "rms_norm"))
    return replace(case.tiny(), backward=True)


def measured(case, contenders):
    return measure_all([case], [1], 0.0, Console(quiet=True), contenders)[0]


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("norm", HAVE)
def test_gradients_are_those_of_float64(norm, last):
    row = measured(small(norm, last), [OWN, "NumPy"])
    assert row.left_out == {}
    assert 0 < row.of_copy < 100
    assert set(row.ratios) == {"NumPy"}


@pytest.mark.parametrize("norm", HAVE)
def test_torch_agrees(norm):
    pytest.importorskip("torch")
    row = measured(small(norm), [OWN, "torch"])
    assert row.left_out == {}
    assert set(row.ratios) == {"torch"}


@pytest.mark.parametrize("part", [0, 1, 2], ids=["x", "weight", "bias"])
def test_a_wrong_gradient_is_found(part, monkeypatch):
    right = BACKWARD["NumPy"]

    def wrong(case, a, out):
        def call():
            found = [np.array(one) for one in right(case, a, out)()]
            found[part].flat[-1] += 1
            return tuple(found)

        return call

    monkeypatch.setitem(BACKWARD, "wrong", wrong)
    assert measured(small("group_norm"), [OWN, "wrong"]).left_out == {"wrong": WRONG}


def test_nobody_else_goes_back():
    assert measured(small("layer_norm"), [OWN, "JAX"]).left_out == {"JAX": "its way back is not measured"}


def test_the_gate_guards_every_norms_way_back():
    guarded = [case for case in GATE if case.backward]
    assert {case.norm for case in guarded} == set(HAVE) - {"batch_norm_eval"}
    assert len({case.label for case in GATE}) == len(GATE)
