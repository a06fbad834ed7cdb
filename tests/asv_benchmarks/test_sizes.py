"""asv_benchmarks/sizes.py: its families, and its table of shares beside an earlier version. No times are compared."""

import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

import numbanorm as nbn

pytest.importorskip("ml_dtypes")
import sizes
from harness.contenders import OWN
from harness.machine import set_threads
from harness.report import marks

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
ASKED = [4**power for power in range(1, 8)]  # 256 KB to 1 GB


@pytest.fixture(autouse=True)
def same_threads():
    """Put the number of threads back."""
    before = nbn.get_num_threads()
    yield
    set_threads(before)


@pytest.mark.parametrize("units", ASKED)
def test_every_family_has_the_size_that_is_asked_for(units):
    for name, case in sizes.families(units).items():
        assert np.prod(case.shape, dtype=float) == pytest.approx(units * sizes.UNIT, rel=0.05), name


@pytest.mark.parametrize("units", [1, *ASKED])
def test_channels_make_whole_groups(units):
    for name, case in sizes.families(units).items():
        assert case.channels % case.groups == 0, name


def test_families_are_of_the_runs_that_they_are_named_for():
    for units in ASKED:
        made = sizes.families(units)
        assert made["layer norm, 768"].shape[-1] == 768
        assert made["group norm, groups of 64 KB"].span == 64 << 10
        for side in (56, 14, 7):
            assert made[f"batch norm, training, {side}×{side}"].shape[2] == side * side
        assert made["RGB, channels last"].shape[-1] == 3


def test_an_image_of_bytes_becomes_float32_with_weights_that_are_no_bytes():
    a, out = sizes.arrays(sizes.families(1)["RGB, channels last, uint8 to float32"])
    assert a.x.dtype == np.uint8 and a.x.std() > 20
    assert a.weight.dtype == out.dtype == np.float32
    assert 0.5 <= a.weight.min() < a.weight.max() <= 1.5
    source, target = sizes.moved(a.x, out)
    assert source.nbytes == target.nbytes
    assert abs(2 * source.nbytes - a.x.nbytes - out.nbytes) < 8  # a copy of as many bytes


def test_arrays_that_are_no_multiple_of_the_beginning_are_filled():
    a, out = sizes.arrays(sizes.families(4)["batch norm, training, 7×7"])
    assert a.x.size % sizes.UNIT
    assert a.x[-1].std() == pytest.approx(2, rel=0.1)
    assert not out.any()


class Before:
    """A version that has no group norm, and a layer norm that copies."""

    def __init__(self):
        self.threads = []

    def set_num_threads(self, number):
        self.threads.append(number)

    def layer_norm(self, x, *_, out):
        np.copyto(out, x)


def shares(name, **others):
    chosen = {"most": 64 << 10, "seconds": 0.0, "threads": [1], "picture": None, "title": "a stand-in", "name": name}
    args = Namespace(versions={"before": Before(), OWN: nbn}, **chosen | others)
    return args, *sizes.share(args, iter)


def test_an_earlier_version_stands_before_the_arrow(threads):
    args, cells, text = shares("layer norm, 2048", threads=[1, 2])
    assert [row["threads"] for row in cells] == ["1", "2"]
    for row in cells:
        before, now = row["64 KB"].split(" → ")
        assert float(before) > 0 and float(now) > 0
    assert args.versions["before"].threads == [1, 2]
    assert "Before is a stand-in" in text


def test_what_an_earlier_version_lacks_is_left_out():
    _, cells, _ = shares("group norm, 320")
    assert cells[0]["64 KB"].startswith("- → ")


def test_what_this_version_lacks_is_an_error():
    with pytest.raises(AttributeError):
        sizes.callable_by({OWN: Before()}, *case_and_arrays("group norm"))


def case_and_arrays(name):
    case = sizes.families(1)[name]
    return case, *sizes.arrays(case)


def test_a_size_whose_memory_is_read_twice_is_marked(monkeypatch):
    monkeypatch.setattr(sizes, "reads_twice", lambda case: case.last)
    assert shares("layer norm, 768")[1][0]["64 KB"].endswith("*")
    assert not shares("instance norm")[1][0]["64 KB"].endswith("*")


def test_a_picture_has_a_panel_for_each_norm(tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "made" / "share.png"
    shares("layer norm", picture=path)
    assert path.stat().st_size > 5000


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--name", "nonsense"], "there are layer norm, 768;"),
        (["--beside", "nonsense"], "no commit 'nonsense'"),
        (["--threads", "0"], "between 1 and"),
    ],
)
def test_wrong_arguments_are_refused_before_all_measuring(wrong, said, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["sizes.py", "share", *wrong])
    with pytest.raises(SystemExit) as stopped:
        sizes.arguments(tmp_path)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_the_page_has_the_marks_of_every_table():
    for what in sizes.WHAT:
        first, last = marks(PAGE, f"table of {what}")
        assert last > first
