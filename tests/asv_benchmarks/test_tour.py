"""The tour of a newcomer's first minutes: it explains what it shows, and its worst row. Its program runs in CI."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from everyday import exhaustive

pytest.importorskip("ml_dtypes")
from harness.case import Case
from harness.contenders import OWN
from harness.measure import Row
from harness.timing import Ratio

EXAMPLES = Path(__file__).parents[2] / "examples"
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(EXAMPLES))
    from explain import worst_row

LAYER = Case("layer", "layer_norm", (3, 8), last=True)


def row(ratio, low, high, own=1e-3, into=1e-3, copy=5e-4, crowded=False, name="layer"):
    """A row in which torch takes `ratio` times as long."""
    return Row(
        Case(name, "layer_norm", (3, 8), last=True),
        2,
        seconds={OWN: own, "torch": ratio * own},
        ratios={"torch": Ratio(ratio, low, high)},
        into={OWN: into},
        copy={"a copy": copy},
        crowded=crowded,
    )


def test_the_worst_row_is_named():
    said = worst_row([row(2.0, 1.9, 2.1), row(0.8, 0.7, 0.9, name="loser"), row(1.0, 0.9, 1.1)])
    assert "The worst row is loser, 3×8: there torch needs only 0.80 of numbanorm's time." in said
    assert "interval" not in said
    assert "still 1.50 times as fast as torch" in worst_row([row(1.5, 1.4, 1.6)])
    assert worst_row([]) == worst_row([Row(LAYER, 1)]) == ""


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (row(0.9, 0.8, 1.2), "interval of that is 0.80 to 1.20"),
        (row(0.9, 0.8, 0.95, own=1e-5, into=1e-5, copy=5e-6), "A call takes 10 µs"),
        (row(0.9, 0.8, 0.95, own=2e-3, into=1e-3), "(out=) numbanorm takes 1 ms in place of 2"),
        (row(0.9, 0.8, 0.95, copy=9e-4), "90% of the speed of a copy: memory is the limit"),
        (row(0.9, 0.8, 0.95), "50% of the speed of a copy: there is something left to gain"),
        (row(0.4, 0.3, 0.5, crowded=True), "The machine was busy"),
    ],
)
def test_the_worst_row_is_explained(found, reason):
    assert reason in worst_row([found])


@exhaustive  # the default run of CI makes the tour itself
@pytest.mark.parametrize("columns", [80, 100, 120])
def test_the_tour_is_readable_from_80_columns_up(columns, tmp_path):
    """Every name is whole, every step says what it shows, and no line is longer than the terminal."""
    env = os.environ | {"COLUMNS": str(columns), "PYTHONUTF8": "1"}
    for package in ("matplotlib", "sklearn", "torch"):
        pytest.importorskip(package)
    command = [sys.executable, EXAMPLES / "tour.py", "--quick", "--threads", "1", "--output", tmp_path]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, env=env)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= columns
    said = " ".join(done.stdout.split())
    for step in ("1. Real data", "2. The same photographs", "3. Speed", "4. Accuracy", "The worst row is "):
        assert step in said
    for name in ("wine, by column", "digits, by column", "photographs, per patch", "569×30", "442×10", "mlp.bn"):
        assert not set(name.split()) - set(said.split()), name  # its words may stand one below the other
    assert not re.search(r"\w…", said)  # what is cut; from … to has spaces around it
    assert (tmp_path / "photographs.png").exists()
