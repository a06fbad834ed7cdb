"""The gate, on versions of a small package in numbanorm's place; and the slowdown that its selftest makes."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from everyday import exhaustive
from harness.cases import CASES
from harness.gate import flow
from harness.gate.guarded import read
from harness.gate.pairs import Left, Pair
from harness.gate.slower import slow_down
from harness.gate.verdict import Verdict, cells, draw, figure_of, is_slower, notes, reasons, summary
from harness.gate.versions import Source, check_out
from harness.timing import Ratio, paired, ratio_of
from rich.console import Console

BENCHMARKS = Path(__file__).parents[2] / "asv_benchmarks"

GOOD = """
import numpy as np
def set_num_threads(n): pass
def _norm(x, axes, eps, weight, bias):
    mean, var = x.mean(axes, keepdims=True, dtype=float), x.var(axes, keepdims=True, dtype=float)
    return (x - mean) / np.sqrt(var + eps) * weight + bias
def instance_norm(x, weight, bias, eps, channel_axis, out):
    return _norm(x, (2, 3), eps, weight.reshape(-1, 1, 1), bias.reshape(-1, 1, 1)).astype(x.dtype)
def group_norm(x, groups, weight, bias, eps, channel_axis, out):
    by_group = x.reshape(x.shape[0], groups, x.shape[1] // groups, -1)
    own = (p.reshape(groups, -1, 1) for p in (weight, bias))
    return _norm(by_group, (2, 3), eps, *own).reshape(x.shape).astype(x.dtype)
def rms_norm(x, shape, weight, eps, out):
    return (x / np.sqrt(np.square(x, dtype=float).mean(-1, keepdims=True) + eps) * weight).astype(x.dtype)
"""
SLOW = GOOD.replace("    return (x / np.sqrt(", "    import time; time.sleep(0.003)\n    return (x / np.sqrt(")


class Repository:
    """A repository with the benchmarks, and versions of a package."""

    def __init__(self, folder):
        self.folder = folder
        shutil.copytree(BENCHMARKS, folder / "asv_benchmarks", ignore=shutil.ignore_patterns("__pycache__", ".*"))
        self.package = folder / "numbanorm" / "__init__.py"
        self.package.parent.mkdir()
        self.git("init", "-q")
        self.commit(GOOD)

    def git(self, *arguments):
        own = ["-c", "user.name=tests", "-c", "user.email=tests@localhost", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *own, *arguments], cwd=self.folder, check=True, capture_output=True)

    def commit(self, text):
        self.package.write_text(text, "utf-8")
        self.git("add", "numbanorm")
        self.git("commit", "--allow-empty", "-m", "a version")

    def gate(self, *arguments):
        """Exit status, what was printed, and the JSON."""
        found = self.folder / "found.json"
        command = [sys.executable, "asv_benchmarks/gate.py", *arguments, "--every", "--name", "tiny", "--json", found]
        env = os.environ | {"PYTHONUTF8": "1"}  # what is printed has a ×
        done = subprocess.run(command, cwd=self.folder, capture_output=True, encoding="utf-8", check=False, env=env)
        assert not done.stderr
        return done.returncode, done.stdout, json.loads(found.read_text("utf-8")) if found.exists() else None


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path)


def norms(rows):
    return {row["pair"]["case"]["norm"] for row in rows}


def test_identical_commits_pass(repository):
    status, said, found = repository.gate("HEAD", "HEAD")
    assert status == 0
    assert norms(found["verdicts"]) == {"instance_norm", "group_norm", "rms_norm"}
    assert {one["case"]["norm"] for one in found["left out"]} == {"batch_norm", "batch_norm_eval", "layer_norm"}
    assert "has no attribute 'batch_norm'" in " ".join(said.split())
    assert "None of 3 cases is slower" in said


def test_a_slow_commit_does_not_pass(repository):
    repository.commit(SLOW)
    markdown, picture = repository.folder / "gate.md", repository.folder / "gate.png"
    status, said, found = repository.gate("HEAD~1", "HEAD", "--markdown", markdown, "--picture", picture)
    assert status == 1
    slow = [row for row in found["verdicts"] if row["slower"]]
    assert norms(slow) == {"rms_norm"}
    assert len(slow[0]["again"]) == 2
    assert "SLOWER" in said and "1 of 3 cases slower" in said
    assert "SLOWER" in markdown.read_text("utf-8")
    assert picture.stat().st_size > 1000
    assert repository.gate("HEAD", "HEAD~1")[0] == 0  # and the other way round it is faster


def test_what_cannot_be_measured_is_said_and_the_rest_is(repository):
    wrong = GOOD.replace("* weight).astype", "* weight + 0.01).astype")
    broken = wrong.replace("    by_group =", "    import os; os._exit(7)\n    by_group =")
    repository.commit(broken)
    status, said, found = repository.gate("HEAD~1", "HEAD")
    said = " ".join(said.split())
    assert status == 0
    assert norms(found["verdicts"]) == {"instance_norm"}
    assert "wrong by" in said
    assert "the process ended with 7" in said
    assert "The one case is not slower" in said


def test_nothing_measured_is_no_success(repository):
    repository.commit("def set_num_threads(n): pass")
    status, said, _ = repository.gate("HEAD~1", "HEAD")
    assert status == 3
    assert "Nothing could be measured" in said
    status, said, _ = repository.gate("nonsense", "HEAD")
    assert status == 3
    assert "git knows no commit 'nonsense'" in said
    repository.git("rm", "-rq", "numbanorm")
    repository.git("commit", "-m", "no package")
    status, said, _ = repository.gate("HEAD~1", "HEAD")
    assert status == 3
    assert "has no folder numbanorm" in said


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("harness/machine.py", "import no_such_package"),
        ("harness/gate/flow.py", "def no_such_package(:"),
        ("harness/terminal.py", "def open_console(): raise OSError('no_such_package')"),
    ],
)
def test_a_gate_that_does_not_start_does_not_say_slower(repository, file, line):
    """Python would exit with 1, which means that."""
    broken = repository.folder / "asv_benchmarks" / file
    broken.write_text(f"{broken.read_text('utf-8')}\n{line}\n", "utf-8")
    command = [sys.executable, "asv_benchmarks/gate.py", "HEAD", "HEAD"]
    done = subprocess.run(command, cwd=repository.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "no_such_package" in done.stdout + done.stderr
    assert "Nothing could be measured" in done.stdout + done.stderr


def test_uncommitted_files_are_measured_if_asked_for(repository):
    repository.package.write_text(GOOD + "\nraise RuntimeError('not committed')", "utf-8")
    status, said, _ = repository.gate("HEAD", "HEAD")
    assert status == 0
    assert "Not committed, so not measured" in said and "numbanorm/__init__.py" in said
    status, said, _ = repository.gate("HEAD", ".")
    assert status == 3
    assert "not committed" in said


def test_versions_that_share_code_are_refused(repository):
    repository.commit("import numbanorm\n" + GOOD)
    status, said, _ = repository.gate("HEAD", "HEAD")
    assert status == 3
    assert "cannot be kept apart" in " ".join(said.split())


# kernels of one's own -------------------------------------------------------------------------------------------------

MINE = """
import numpy as np
from . import parts
def softmax(x):
    return parts.over_sum(np.exp(x - x.max(-1, keepdims=True)))
"""
PARTS = "def over_sum(x):\n    return x / x.sum(-1, keepdims=True)\n"
GUARD = """
import numpy as np
from harness.case import Case
from harness.plain import Truth, epsilon

PACKAGE = "src/mine"

class Softmax(Case):
    pass

CASES = [Softmax("tiny", "softmax", (4, 5)), Softmax("small", "softmax", (8, 64))]

def prepare(module, case, arrays):
    return lambda: module.softmax(arrays.x)

def truth(case, arrays):
    e = np.exp(arrays.x.astype(float))
    y = e / e.sum(-1, keepdims=True)
    return Truth(y, y * epsilon(arrays.x.dtype))
"""


class Mine(Repository):
    """A repository with kernels of somebody else's, which the gate guards from where it lies."""

    def __init__(self, folder):
        self.folder = folder
        self.package = folder / "src" / "mine" / "__init__.py"
        self.package.parent.mkdir(parents=True)
        (self.package.parent / "parts.py").write_text(PARTS, "utf-8")
        (folder / "guard_mine.py").write_text(GUARD, "utf-8")
        self.git("init", "-q")
        self.commit(MINE)

    def commit(self, text):
        self.package.write_text(text, "utf-8")
        self.git("add", "src")
        self.git("commit", "--allow-empty", "-m", "a version")

    def gate(self, *arguments, file="guard_mine.py"):
        command = [sys.executable, BENCHMARKS / "gate.py", *arguments, "--kernels", file]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, encoding="utf-8", check=False)
        return done.returncode, " ".join(done.stdout.split())


@pytest.fixture
def mine(tmp_path):
    return Mine(tmp_path)


@exhaustive  # minutes of two processors
def test_kernels_of_ones_own_are_guarded(mine):
    mine.commit(MINE.replace("    return parts", "    import time; time.sleep(0.003)\n    return parts"))
    status, said = mine.gate("HEAD~1", "HEAD")
    assert status == 1
    assert "2 of 2 cases slower" in said
    status, said = mine.gate("HEAD~1", ".", "--name", "small")
    assert status == 1
    assert "1 of 1 cases slower" in said
    assert mine.gate("HEAD", "HEAD", "--name", "tiny")[0] == 0


@pytest.mark.parametrize(
    ("version", "complaint"),
    [
        (MINE.replace("(-1, k", "(0, k"), "wrong by"),
        (MINE.replace("from . import", "import mine; from . import"), "No module named 'mine'"),
        (MINE + "raise RuntimeError('not today')", "not today"),
    ],
)
def test_what_is_wrong_with_them_is_said(mine, version, complaint):
    mine.commit(version)
    status, said = mine.gate("HEAD~1", "HEAD")
    assert status == 3
    assert complaint in said


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('PACKAGE = "src/mine"', "", "guard_mine.py has no PACKAGE: the path of a package"),
        ("def prepare", "def prepares", "guard_mine.py has no prepare: a function"),
        ("CASES =", "CASE =", "guard_mine.py has no CASES: a sequence"),
    ],
)
def test_a_file_that_lacks_something_is_refused(mine, old, new, complaint, monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path[:])
    file = mine.folder / "guard_mine.py"
    file.write_text(GUARD.replace(old, new), "utf-8")
    try:
        with pytest.raises(ValueError, match=complaint):
            read(file)
        with pytest.raises(ValueError, match="there is no file"):
            read(mine.folder / "nowhere.py")
    finally:
        del sys.modules["guard_mine"]


def test_a_package_that_is_not_there_is_refused(tmp_path):
    source = Source(Mine(tmp_path).folder, "src/yours")
    for commit in ("HEAD", "."):
        with pytest.raises(ValueError, match="no folder src/yours"):
            check_out(commit, tmp_path / "out", source)


def test_a_file_named_like_another_module_is_refused(mine):
    (mine.folder / "compare.py").write_text(GUARD, "utf-8")  # as a file beside the gate is called
    status, said = mine.gate("HEAD", "HEAD", file="compare.py")
    assert status == 3
    assert "another module 'compare'; rename it" in said


@pytest.mark.slow
@exhaustive
def test_the_example_runs(mine):
    shutil.copytree(BENCHMARKS.parent / "examples", mine.folder / "examples")
    mine.git("add", "examples")
    mine.git("commit", "-m", "the example")
    status, said = mine.gate("HEAD", ".", "--name", "mid", file="examples/guard.py")
    assert status == 0
    assert "The one case is not slower" in said


@exhaustive  # every kernel is compiled again; the self-test of the gate sees the slowdown
def test_the_slowdown_is_in_the_kernels(tmp_path):
    package = Path(__file__).parents[2] / "numbanorm"
    shutil.copytree(package, tmp_path / "numbanorm", ignore=shutil.ignore_patterns("__pycache__"))
    changed = slow_down(tmp_path, 0.25)
    assert changed == tmp_path / "numbanorm" / "cpu" / "kernels" / "rows.py"
    once = "_block_sums_once(x, narrow, table, origin, side, batch, start, stop, center, room)"
    assert once in changed.read_text("utf-8")
    for path in package.rglob("*.py"):  # and nothing else
        copied = tmp_path / "numbanorm" / path.relative_to(package)
        assert (copied.read_text("utf-8") == path.read_text("utf-8")) == (copied != changed)
    code = "import sys, numpy as np; sys.path.insert(0, sys.argv[1]); import numbanorm as n;"
    code += "x = np.random.default_rng(0).standard_normal((2, 8, 4, 4)); y = n.group_norm(x, 4);"
    code += "assert n.__file__.startswith(sys.argv[1]); print(float(abs(y.reshape(2, 4, -1).mean(-1)).max()) < 1e-12)"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.strip() == "True"


SUMS = """
done = []

def _block_sums(x, origin, start, stop, center=1):
    done.append(start)
    return center

def all_of(blocks):
    return {_block_sums(None, 4096, start=64 * block, stop=64 * block + 64, center=7) for block in range(blocks)}
"""


def test_a_share_is_done_once_more(tmp_path):
    """Wherever the function stands, and however it is called."""
    (tmp_path / "numbanorm" / "deep").mkdir(parents=True)
    (tmp_path / "numbanorm" / "others.py").write_text("def _block_sums(x, rows): pass", "utf-8")
    (tmp_path / "numbanorm" / "deep" / "sums.py").write_text(SUMS, "utf-8")
    slowed = {}
    exec(slow_down(tmp_path, 0.25).read_text("utf-8"), slowed)
    assert slowed["all_of"](1000) == {7}
    times = Counter(slowed["done"])
    assert sorted(times) == list(range(0, 64000, 64))
    assert set(times.values()) == {1, 2}
    assert 240 <= sum(times.values()) - 1000 <= 260


def test_more_than_all_is_done_more_often(tmp_path):
    (tmp_path / "numbanorm").mkdir()
    (tmp_path / "numbanorm" / "sums.py").write_text(SUMS, "utf-8")
    slowed = {}
    exec(slow_down(tmp_path, 1.5).read_text("utf-8"), slowed)
    slowed["all_of"](1000)
    assert set(Counter(slowed["done"]).values()) == {2, 3}


def test_cases_that_even_the_least_share_slows_too_much_are_left_out(tmp_path, monkeypatch):
    """Not the others: for them a share is found that slows by what is wanted."""
    begins = dict(zip(CASES[:3], (0.0, 0.3, 0.02), strict=True))  # what other machine code costs, and a share of a call
    shares = []

    def compare(versions, cases, threads, pairs):
        for case in cases:
            ratio = 1 + begins[case] + shares[-1] / 2
            yield Pair(case, threads, 1.0, ratio, Ratio(ratio, ratio, ratio))

    monkeypatch.setattr(flow, "check_out", lambda *_: None)
    monkeypatch.setattr(flow, "slow_down", lambda _, share: shares.append(share))
    monkeypatch.setattr(flow, "compare", compare)
    slow, left = flow._slowed(None, list(begins), 0.15, tmp_path, Console(quiet=True))
    assert left == [CASES[0], CASES[2]]
    assert flow.LEAST in shares
    assert 0.1 <= float(slow.title.partition("%")[0]) / 100 <= 0.2


def test_nowhere_to_slow_down(tmp_path):
    (tmp_path / "numbanorm").mkdir()
    for text in ("def moments(): pass", "def _block_sums(x, rows): pass", SUMS + SUMS):
        (tmp_path / "numbanorm" / "rows.py").write_text(text, "utf-8")
        with pytest.raises(ValueError, match="not one to slow down"):
            slow_down(tmp_path, 0.5)


def pair(median, low, high, threads=1, case=CASES[0]):
    return Pair(case, threads, 1e-3, median * 1e-3, Ratio(median, low, high))


@pytest.mark.parametrize(
    ("ratio", "slower"),
    [
        ((1.08, 1.01, 1.2), True),
        ((1.06, 1.05, 1.07), False),  # no effect
        ((1.2, 0.99, 1.3), False),  # no confidence
        ((0.5, 0.4, 0.6), False),
    ],
)
def test_effect_and_confidence(ratio, slower):
    assert is_slower(pair(*ratio)) == slower
    assert Verdict(pair(*ratio)).slower == slower


def test_one_acquittal_is_enough():
    slow, fine = pair(1.2, 1.1, 1.3), pair(1.01, 0.99, 1.02)
    assert Verdict(slow, [slow, slow]).slower
    assert not Verdict(slow, [slow, fine]).slower
    assert Verdict(slow, [fine]).words == "not again: 1.01"
    assert Verdict(pair(0.8, 0.7, 0.9)).words == "faster"
    assert Verdict(fine).words == ""


def test_all_threads_are_reported_and_do_not_decide():
    verdict = Verdict(pair(1.0, 0.99, 1.01), together=pair(1.4, 1.3, 1.5, threads=4))
    assert not verdict.slower
    assert cells(verdict)["all threads"] == "1.40*"
    assert "slow" not in " ".join(cells(verdict).values()).lower()  # which would frighten beside "None is slower"
    assert len(notes([verdict])) == 1
    assert "1.15" in notes([verdict])[0] and "not" in notes([verdict])[0]
    quiet = Verdict(pair(1.0, 0.99, 1.01), together=pair(1.1, 1.05, 1.2, threads=4))
    assert cells(quiet)["all threads"] == "1.10"
    assert notes([quiet]) == []


def test_the_summary_says_who_decides():
    fine = pair(1.0, 0.9, 1.1)
    assert "on one thread" in summary([Verdict(fine), Verdict(fine)])
    assert "on one thread" in summary([Verdict(fine)])


def test_summary_and_reasons(tmp_path):
    slow, fine = Verdict(pair(1.2, 1.1, 1.3)), Verdict(pair(1.0, 0.9, 1.1, case=CASES[1]))
    assert summary([]) == "Nothing could be measured."
    assert "2 cases" in summary([slow, fine]) and "20%" in summary([slow, fine])
    left = [Left(CASES[0], "gone"), Left(CASES[1], "gone"), Left(CASES[2], "wrong")]
    assert reasons(left) == [
        f"left out: gone ({CASES[0].label} and 1 more)",
        f"left out: wrong ({CASES[2].label})",
    ]
    draw("title", [slow, fine], tmp_path / "new" / "gate.png")
    assert (tmp_path / "new" / "gate.png").exists()


EXTREME = [
    Verdict(pair(1.0, 0.9, 1.1), together=pair(3.23, 3.0, 4.0, threads=4)),
    Verdict(pair(1.3, 1.2, 1.4), [pair(1.3, 1.2, 1.4)] * 2, pair(0.2, 0.1, 0.9, threads=4, case=CASES[1])),
]


@pytest.mark.parametrize("verdicts", [EXTREME, EXTREME[:1], EXTREME[1:], [Verdict(pair(1.0, 0.99, 1.01))]])
def test_the_picture_shows_whole_markers_and_says_what_their_colours_are(verdicts):
    pytest.importorskip("matplotlib")
    from matplotlib.colors import same_color

    figure = figure_of("title", verdicts)
    figure.canvas.draw()
    (ax,), (legend,) = figure.axes, figure.legends
    named = [(line.get_color(), line.get_markerfacecolor()) for line in legend.get_lines() if line.get_marker() == "o"]
    points = [line for line in ax.lines if line.get_marker() == "o" and len(line.get_xdata())]
    assert len(points) == sum(1 + bool(verdict.together) for verdict in verdicts)
    assert len(named) == len({(line.get_color(), line.get_markerfacecolor()) for line in points})
    frame = ax.get_window_extent()
    for line in points:
        assert any(same_color(line.get_color(), c) and same_color(line.get_markerfacecolor(), f) for c, f in named)
        ((x, y),) = ax.transData.transform(line.get_xydata())
        radius = line.get_markersize() / 2 * figure.dpi / 72
        assert frame.x0 <= x - radius and x + radius <= frame.x1
        assert frame.y0 <= y - radius and y + radius <= frame.y1


def test_pairs_are_timed_in_turn():
    calls = []
    times = paired(lambda: calls.append("a"), lambda: calls.append("b"), 4)
    assert len(times) == 4
    assert min(min(time) for time in times) > 0
    turns = "".join(calls)
    number = (len(turns) - 6) // 8  # calls in a turn, after those that warm up
    assert turns[6:] == "".join(letter * number for letter in "abbaabba")


def test_ratio_of_pairs():
    ratio = ratio_of([(2.0, 1.0), (4.0, 2.0), (30.0, 10.0)])
    assert ratio.low <= ratio.median == 2.0 <= ratio.high
