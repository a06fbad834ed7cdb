"""What README and docs show of speed: short, from one run, with a picture that one sees at once."""

import re
from pathlib import Path

import pytest

pytest.importorskip("ml_dtypes")
from harness.case import by
from harness.cases import CASES, FRONT
from harness.contenders import OWN
from harness.devices import DEVICES
from harness.measure import Row
from harness.report import as_markdown, marks
from harness.timing import Ratio

HOME = Path(__file__).parents[2]
README, PEERS = ((HOME / name).read_text("utf-8") for name in ("README.md", "docs/peers.md"))


def block(page):
    """What stands between the marks."""
    return re.search(r"<!-- speed table.*?-->\n(.*)<!-- end of speed table -->", page, re.DOTALL)[1]


def table(text):
    """Rows of a Markdown table, without heading."""
    return [line for line in text.splitlines() if line.startswith("|")][2:]


def test_the_readme_shows_eight_rows_of_the_run_that_peers_shows():
    ours, theirs = table(block(README)), table(block(PEERS))
    assert len(ours) == len(FRONT) == 8
    assert set(ours) <= set(theirs)
    machine, other = (text.strip().split("\n\n")[0] for text in (block(README), block(PEERS)))
    assert machine == other


@pytest.mark.parametrize("device", DEVICES)
def test_the_page_of_all_layers_has_its_marks(device):
    first, last = marks(HOME / "docs" / "performance-layers.md", DEVICES[device].section)
    assert last > first


def test_its_layers_are_of_every_norm():
    titles = {line.split(" | ")[0].removeprefix("| ") for line in table(block(README))}
    assert titles == {case.title for case in FRONT}
    assert {case.norm for case in FRONT} == {case.norm for case in CASES}


def test_a_picture_stands_above_the_fold():
    picture = re.search(r"!\[.+\]\((.+\.png)\)", README)
    assert (HOME / picture[1]).stat().st_size > 10_000
    assert README[: picture.start()].count("\n") < 10


def test_commands_say_how_long_they_take():
    """Those that a newcomer types first."""
    first = README.partition("## In short")[0]
    for words in ("tour", "--quick", "tests"):
        assert words in first.lower()
    assert len(re.findall(r"\b(?:minutes?|hour|seconds?|\d+ s)\b", first)) >= 3


def test_the_table_is_short_and_its_summary_of_all(tmp_path):
    chosen = [case for case in CASES if case.readme]
    rows = [
        Row(
            case,
            2,
            units={OWN: 0.5},
            seconds={OWN: 1e-3, "torch": 2e-3},
            ratios={"torch": Ratio(2.0, 2.0, 2.0)},
            into={OWN: 1e-3},
            copy={"a copy": 5e-4},
        )
        for case in chosen
    ]
    front = [row for row in rows if row.case in FRONT]
    text = as_markdown("a machine", rows, front)
    assert len(table(text)) == 8
    assert all(by(row.case.shape) in text for row in front)
    assert "8 of 33 rows are shown; what follows is of all." in text
    assert "faster on 33 of 33 rows" in text
    assert "rows are shown" not in as_markdown("a machine", rows)
