"""What the gate says: which cases are slower, as a table in the terminal, as Markdown, as JSON and as a picture."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..case import by
from ..report import Cells, markdown
from ..timing import Ratio
from .pairs import Left, Pair

SLOWER = 1.07  # a median above it, and an interval above 1, make a suspect; one thread decides
SLOWER_ON_ALL = 1.15  # the same on all threads, which is reported only: what else runs weighs more there


@dataclass
class Verdict:
    """What was found of a case: on one thread, again if it was suspected, and on all threads."""

    pair: Pair
    again: list[Pair] = field(default_factory=list)  # in fresh processes, until one acquits it
    together: Pair | None = None  # on all threads

    @property
    def slower(self) -> bool:
        """Whether it was slower every time."""
        return all(is_slower(pair) for pair in (self.pair, *self.again))

    @property
    def words(self) -> str:
        """Say it in a word or two."""
        if self.slower:
            return "SLOWER"
        if self.again:
            return f"not again: {', '.join(f'{pair.ratio.median:.2f}' for pair in self.again)}"
        if is_slower(self.pair.turned()):
            return "faster"
        return ""


def is_slower(pair: Pair, limit: float = SLOWER) -> bool:
    """Ask for an effect, and for confidence in it."""
    return pair.ratio.median > limit and pair.ratio.low > 1


def cells(verdict: Verdict) -> Cells:
    """Write one row."""
    pair, together = verdict.pair, verdict.together
    row = {
        "layer": pair.case.title,
        "shape": by(pair.case.shape),
        "before, µs": f"{pair.before * 1e6:.3g}",
        "after, µs": f"{pair.after * 1e6:.3g}",
        "after / before": f"{pair.ratio.median:.3f}",
        "95%": interval(pair.ratio),
        "all threads": "",
        "": verdict.words,
    }
    if together:
        row["all threads"] = f"{together.ratio.median:.2f}" + "*" * is_slower(together, SLOWER_ON_ALL)
    return row


def notes(verdicts: Iterable[Verdict]) -> list[str]:
    """Explain the asterisk of `cells`, if there is one."""
    if any(verdict.together and is_slower(verdict.together, SLOWER_ON_ALL) for verdict in verdicts):
        return [
            f"*: above {SLOWER_ON_ALL} on all threads, which does not count: a call waits for the slowest of them, "
            "and whatever else runs makes one slow. If it stays on an idle machine, look into it."
        ]
    return []


def interval(ratio: Ratio) -> str:
    """Write an interval."""
    return f"{ratio.low:.3f} to {ratio.high:.3f}"


def reasons(left: Iterable[Left]) -> list[str]:
    """Say in one line each why cases were left out."""
    cases: dict[str, list[str]] = {}
    for one in left:
        cases.setdefault(one.reason, []).append(one.case.label)
    return [
        f"left out: {reason} ({labels[0]}{f' and {len(labels) - 1} more' if len(labels) > 1 else ''})"
        for reason, labels in cases.items()
    ]


def summary(verdicts: Sequence[Verdict]) -> str:
    """Say it all in one line."""
    slower = [verdict for verdict in verdicts if verdict.slower]
    if not verdicts:
        return "Nothing could be measured."
    if not slower:
        return f"{f'None of {len(verdicts)} cases is' if verdicts[1:] else 'The one case is not'} slower on one thread."
    worst = max(slower, key=lambda verdict: verdict.pair.ratio.median)
    most = f"{100 * (worst.pair.ratio.median - 1):.0f}%: {worst.pair.case.label}"
    return f"{len(slower)} of {len(verdicts)} cases slower on one thread, the most by {most}."


def write_files(
    title: str, verdicts: Sequence[Verdict], left: Sequence[Left], to_markdown: Path | None, to_json: Path | None
) -> None:
    """Write what is asked for."""
    for path in filter(None, (to_markdown, to_json)):
        path.parent.mkdir(parents=True, exist_ok=True)
    if to_markdown:
        lines = [title.replace("\n", "  \n"), "", f"**{summary(verdicts)}**", ""]
        if verdicts:
            lines += [markdown([cells(verdict) for verdict in verdicts]), *notes(verdicts)]
        to_markdown.write_text("\n".join([*lines, *(f"- {reason}" for reason in reasons(left))]) + "\n", "utf-8")
    if to_json:
        found = {
            "title": title.splitlines(),
            "verdicts": [{**dataclasses.asdict(verdict), "slower": verdict.slower} for verdict in verdicts],
            "left out": [dataclasses.asdict(one) for one in left],
        }
        to_json.write_text(json.dumps(found, indent=1), "utf-8")


def draw(title: str, verdicts: Sequence[Verdict], path: Path) -> None:
    """Draw each case's ratio and its interval, on one thread and on all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure_of(title, verdicts).savefig(path, dpi=100)


def figure_of(title: str, verdicts: Sequence[Verdict]) -> Any:
    """Return the picture."""
    from matplotlib.figure import Figure  # takes a second to import

    figure = Figure(figsize=(9, 0.3 * len(verdicts) + 1.8), layout="constrained")
    figure.suptitle(title, fontsize=9)
    ax = figure.subplots()
    for place, verdict in enumerate(verdicts):
        _dot(ax, place - 0.12, verdict.pair, *(_SLOW if verdict.slower else _FINE))
        if verdict.together:
            _dot(ax, place + 0.2, verdict.together, *_TOGETHER)
    ax.axvline(1, color="black", linewidth=0.8)
    ax.axvline(SLOWER, color=_SLOW[1], linewidth=0.8, linestyle=":", label=f"limit, {SLOWER}")
    labels = [f"{verdict.pair.case.title}  {by(verdict.pair.case.shape)}" for verdict in verdicts]
    ax.set_yticks(range(len(verdicts)), labels, fontsize=8)
    ax.set_ylim(len(verdicts) - 0.5, -0.5)
    medians = [pair.ratio.median for verdict in verdicts for pair in (verdict.pair, verdict.together) if pair]
    _scale(ax, min(0.9, *medians), max(1.1, *medians))  # on all threads intervals may be very long
    ax.set_xlabel("time after / time before, with its 95% interval")
    ax.spines[["top", "right"]].set_visible(False)
    handles, names = ax.get_legend_handles_labels()
    each = dict(zip(names, handles, strict=True))
    figure.legend(each.values(), each, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return figure


_FINE = ("one thread", "#1f77b4", "#1f77b4")  # what a point is, the colour of its edge, and that of its face
_SLOW = ("one thread, slower", "#d62728", "#d62728")
_TOGETHER = ("all threads, which do not count", "#999999", "white")


def _scale(ax: Any, least: float, most: float) -> None:
    """Twice as fast is as far from 1 as twice as slow. There is room for the points at both ends."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

    room = (most / least) ** 0.04
    ax.set_xscale("log")
    ax.set_xlim(least / room, most * room)
    ax.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _dot(ax: Any, place: float, pair: Pair, name: str, colour: str, face: str) -> None:
    ratio = pair.ratio
    ax.plot([ratio.low, ratio.high], [place, place], color=colour, linewidth=1.2)
    ax.plot(ratio.median, place, "o", color=colour, markerfacecolor=face, markersize=5, label=name)
