"""Groups that are no axes as cases: numbanorm against the plain float64 of each, and what is wrong is found."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from harness.case import with_own_statistics
from harness.cases import GATE
from harness.containers import CALLS as CALLS_OF_CONTAINERS
from harness.containers import CONTAINED
from harness.gate.guarded import NUMBANORM
from harness.gate.pairs import Version, _checked
from harness.grouped import CALLS, GROUPED
from harness.plain import as_one

import numbanorm as nbn

SMALL = [replace(case, shape=(60, *case.shape[1:]), number=min(case.number, 7)) for case in GROUPED]


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_results_are_those_of_float64(case):
    a = with_own_statistics(case.arrays())
    truth = NUMBANORM.truth(case, a)
    assert truth.units(as_one(NUMBANORM.call(nbn, case, a)())) <= NUMBANORM.limit(case)


LIBRARIES = {"Dask": "dask.array", "frame": "pandas", "scaler": "sklearn", "months": "xarray"}


@pytest.mark.parametrize("case", CONTAINED, ids=lambda case: case.name)
def test_containers_have_results_of_float64_and_others_are_wrong(case):
    pytest.importorskip(LIBRARIES.get(case.kind, "numpy"))
    case = replace(case, shape=(60, case.shape[1]), number=min(case.number, 7))
    a = case.arrays()
    truth = NUMBANORM.truth(case, a)
    y = as_one(NUMBANORM.call(nbn, case, a)())
    assert truth.units(y.reshape(truth.y.shape)) <= NUMBANORM.limit(case)
    a.x[:] = a.x[:, ::-1].copy()
    other = as_one(NUMBANORM.call(nbn, case, a)())
    assert not truth.units(other.reshape(truth.y.shape)) <= NUMBANORM.limit(case)


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_what_ignores_the_groups_is_wrong(case):
    def moments(x, axis, **ignored):
        return nbn.Moments(*(np.resize(p, (max(case.number, 1), *x.shape[1:])) for p in plain(nbn.moments(x, axis=0))))

    plain = lambda m: (m.count, m.mean, m.m2)  # noqa: E731
    deaf = SimpleNamespace(moments=moments, normalize=lambda x, *_, **ignored: nbn.normalize(x), Layout=nbn.Layout)
    if case.kind == "skipna":
        deaf.moments = lambda x, axis, **ignored: nbn.moments(np.nan_to_num(x), axis=0)
    a = case.arrays()
    assert not case.truth(a).units(as_one(case.call(deaf, a)())) <= case.limit


@pytest.mark.parametrize("case", [case for case in GATE if case.dtype == "float32"], ids=lambda case: case.label)
def test_the_gate_finds_every_case_right(case, tmp_path, monkeypatch):
    pytest.importorskip(LIBRARIES.get(getattr(case, "kind", ""), "numpy"))
    monkeypatch.setattr("harness.gate.pairs.check_apart", lambda source: None)  # here is one version, under its name
    case = case.tiny()
    a = case.arrays()
    assert callable(_checked(Version("as it is", tmp_path, "numbanorm"), nbn, case, a, NUMBANORM.truth(case, a)))


def test_every_kind_is_measured():
    assert {case.kind for case in GROUPED} == set(CALLS)
    assert {case.kind for case in CONTAINED} == set(CALLS_OF_CONTAINERS)
