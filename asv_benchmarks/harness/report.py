"""What was measured as a table in the terminal, as Markdown and as JSON."""

import dataclasses
import json
import math
import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from .case import by
from .contenders import ON_GPU, OWN, names
from .measure import WRONG, Row
from .timing import Ratio

Cells = dict[str, str]
TABLE = "speed table"  # the name of its marks in a Markdown file
WIDE = 10  # columns: of more, the headings are in several lines
FEW = 2  # contenders whose times are columns too; of more, the ratios alone


def short(number: float) -> str:
    """Write a ratio: 0.92, 8.31, 41."""
    if math.isnan(number):
        return "-"
    return f"{number:.2f}" if number < 10 else f"{number:.0f}"


def others(rows: Sequence[Row]) -> list[str]:
    """Return who was timed beside numbanorm, in the order of the table of contenders."""
    return in_order(name for row in rows for name in row.ratios)


def in_order(contenders: Iterable[str]) -> list[str]:
    """Sort as the tables of contenders do; whoever is not in them comes last."""
    known = [*names(), *names(ON_GPU)]
    return sorted(dict.fromkeys(contenders), key=lambda name: known.index(name) if name in known else len(known))


def speed_cells(row: Row, beside: Sequence[str], threads: bool = False) -> Cells:
    """Write one row of the table of times."""
    timed = (OWN, *(beside if len(beside) <= FEW else ()))
    milliseconds = {name: f"{row.seconds[name] * 1e3:.3g}" if name in row.seconds else "-" for name in timed}
    ratios = {name: short(row.ratios[name].median) if name in row.ratios else "-" for name in beside}
    return {
        "layer": row.case.title,
        "shape": by(row.case.shape),
        **({"threads": str(row.threads)} if threads else {}),
        **milliseconds,
        **{f"× {name}": ratio for name, ratio in ratios.items()},
        "of copy": short(row.of_copy) + "*" * row.twice,
        "error": short(row.units[OWN]) if OWN in row.units else "-",
    }


def table_cells(rows: Sequence[Row]) -> list[Cells]:
    """Write all rows; the number of threads is a column if there are several."""
    several = len({row.threads for row in rows}) > 1
    return [speed_cells(row, others(rows), several) for row in rows]


def note(rows: Sequence[Row]) -> str:
    """Say what the columns of the table are."""
    beside = others(rows)
    parts = ["Times in ms, output allocated."]
    if beside:
        parts.append(
            f"{', '.join(f'× {name}' for name in beside)}: {'their' if beside[1:] else 'its'} time by numbanorm's."
        )
    parts.append("of copy: share of the speed of the fastest copy of the same bytes, both into a given output")
    if any(row.twice for row in rows):
        parts[-1] += "; *: of a copy and a further read, where memory must be read twice"
    if any(row.case.backward for row in rows):
        parts[-1] += (
            "; backward, calls that allocate: of a copy and one more read, or three where memory must be read twice"
        )
    if any(row.reads_only for row in rows):
        parts[-1] += "; of mean and variance, which have no output: share of the speed of reading x once"
    parts[-1] += "."
    parts.append("error: numbanorm's largest difference from float64, in units of rounding.")
    if "NumPy" in beside:
        parts.append("NumPy works in place.")
    return " ".join(parts)


def left_out(rows: Sequence[Row]) -> list[str]:
    """Say who was not timed and why, one line for all rows with the same reason."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        for name, why in row.left_out.items():
            found.setdefault((name, why), []).append(row)
    lines = []
    for (name, why), those in found.items():
        if why == WRONG:
            worst = max(those, key=lambda row: row.units[name])
            why += f", by {worst.units[name]:.3g} units of rounding" + f" on {worst.case.label}" * (len(those) > 1)
        lines.append(f"{name} left out of {those[0].case.label if len(those) == 1 else f'{len(those)} rows'}: {why}")
    return lines


def show(rows: Sequence[Cells], console: Console, names: int = 2) -> None:
    """Print a table. The first columns are names, the others numbers.

    Where it is too wide, the names stand one below the other, and the headings in several lines. If that does not do,
    the numbers go into several tables.
    """
    whole = _table(rows, names, folded=len(rows[0]) > WIDE)
    if _fits(whole, console):
        console.print(whole)
        return
    keys = list(rows[0])
    joined = [{"\n  ".join(keys[:names]): "\n  ".join(row[key] for key in keys[:names])} for row in rows]
    numbers = keys[names:]
    while numbers:
        count = len(numbers)
        while True:
            part = [name | {key: row[key] for key in numbers[:count]} for name, row in zip(joined, rows, strict=True)]
            table = _table(part, 1, folded=True)
            if count == 1 or _fits(table, console):
                break
            count -= 1
        console.print(table)
        numbers = numbers[count:]


def _table(rows: Sequence[Cells], names: int, folded: bool) -> Table:
    """Make a table; `folded`: with headings of several lines."""
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    for number, heading in enumerate(rows[0]):
        column = [row[heading] for row in rows]
        if folded:
            heading = re.sub(r"(?<=[.-])|[^\S\n]+", "\n", heading)
        widest = max(cell_len(line) for text in (heading, *column) for line in text.split("\n"))
        whole = {"no_wrap": True, "min_width": widest} if number else {}
        table.add_column(heading, justify="left" if number < names else "right", **whole)
    for row in rows:
        table.add_row(*row.values())
    return table


def _fits(table: Table, console: Console) -> bool:
    """Whether a table is narrow enough, with its first column between words on several lines if need be."""
    return table.__rich_measure__(console, console.options.update(max_width=10_000)).minimum <= console.width


def markdown(rows: Sequence[Cells], names: int = 2) -> str:
    """Write a table as Markdown. The first columns are names, the others numbers."""
    head = list(rows[0])
    lines = [head, [":--" if number < names else "--:" for number in range(len(head))], *(row.values() for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def summary(rows: Sequence[Row]) -> list[str]:
    """Say how numbanorm compares, for each number of threads: geometric mean, worst row, rows won."""
    lines = []
    for threads in sorted({row.threads for row in rows}):
        here = [row for row in rows if row.threads == threads]
        words = f"{threads} thread{'s' * (threads > 1)}"
        if any(row.crowded for row in here):
            lines.append(f"On {words} ratios say nothing, as the machine was busy: measure with --threads 1.")
            continue
        for name in others(rows):
            lines += beside(name, [row for row in here if name in row.ratios], words)
        timed = [row for row in here if row.into]
        lines += of_copy("a copy", [row for row in timed if not row.reads_only], words)
        lines += of_copy("reading x once", [row for row in timed if row.reads_only], words)
    return lines


def of_copy(yardstick: str, rows: Sequence[Row], words: str) -> Iterable[str]:
    """Say which share of a yardstick's speed is reached, if there are rows."""
    if rows:
        worst = min(rows, key=lambda row: row.of_copy)
        mean = statistics.geometric_mean(row.of_copy for row in rows)
        where = f"{short(worst.of_copy)}, {worst.case.label}"
        yield f"Beside {yardstick}, {words}: {mean:.2f} of its speed (geometric mean); least {where}."


def on_ratios(row: Row, name: str) -> Ratio:
    """Return another's time over numbanorm's."""
    return row.ratios[name]


def beside(
    name: str, rows: Sequence[Row], words: str, ratio_to: Callable[[Row, str], Ratio] = on_ratios
) -> Iterable[str]:
    """Say how numbanorm compares with another, if there are rows."""
    if rows:
        ratios = [ratio_to(row, name).median for row in rows]
        least, worst = min(zip(ratios, rows, strict=True), key=lambda pair: pair[0])
        yield (
            f"Beside {name}, {words}: {statistics.geometric_mean(ratios):.1f} times as fast (geometric mean), "
            f"faster on {sum(ratio > 1 for ratio in ratios)} of {len(rows)} rows; "
            f"worst {short(least)}, {worst.case.label}."
        )


def accuracy(rows: Sequence[Row]) -> str:
    """Say how far each contender is from float64."""
    parts = []
    for name in in_order(name for row in rows for name in row.units):
        worst = max((row for row in rows if name in row.units), key=lambda row: row.units[name])
        parts.append(f"{name} {worst.units[name]:.3g} ({worst.case.label})")
    return f"Largest difference from float64, in units of rounding: {'; '.join(parts)}."


def as_markdown(machine: str, rows: Sequence[Row], shown: Sequence[Row] = ()) -> str:
    """Write table, notes and summary; of some rows only, if they are given, and then the summary is of all."""
    lines = (*summary(rows), accuracy(rows))
    if shown and len(shown) < len(rows):
        lines = (f"{len(shown)} of {len(rows)} rows are shown; what follows is of all.", *lines)
    return page(machine, table_cells(shown or rows), note(rows), lines)


def page(machine: str, cells: Sequence[Cells], note: str, lines: Iterable[str]) -> str:
    """Put a table, what its columns are, and what it says onto a page."""
    says = "\n".join(f"- {line}" for line in lines)
    return f"{_in_lines(machine)}\n\n{markdown(cells)}\n{note}\n\n{says}\n"


def marks(path: Path, name: str = TABLE) -> tuple[int, int]:
    """Return the lines of a file that are the marks <!-- NAME ... --> and <!-- end of NAME -->.

    Raises
    ------
    ValueError
        If they are not there, or not once.
    """
    begin, end = f"<!-- {name}", f"<!-- end of {name} -->"
    lines = path.read_text("utf-8").splitlines()
    first = [number for number, line in enumerate(lines) if line.startswith(begin)]
    last = [number for number, line in enumerate(lines) if line == end]
    if len(first) != 1 or len(last) != 1 or last[0] < first[0]:
        raise ValueError(f"{path} needs one line that starts with '{begin}', and below it one line '{end}'")
    return first[0], last[0]


def write_markdown(path: Path, text: str, name: str = TABLE) -> None:
    """Put text between the marks of a file, or into a new file."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"<!-- {name} -->\n<!-- end of {name} -->\n", "utf-8")
    first, last = marks(path, name)
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join([*lines[: first + 1], f"\n{text}\n", *lines[last:]]), "utf-8")


def check_marks(path: Path | None, name: str = TABLE) -> None:
    """Before all the measuring, refuse a file that is there and lacks its marks, as `marks` does."""
    if path and path.exists():
        marks(path, name)


def write_table(
    path: Path | None, machine: str, cells: Sequence[Cells], name: str, text: str = "", names: int = 2
) -> None:
    """Put a table between the marks of a file, if one is named; above it a text, and on what it was measured."""
    if path:
        above = f"{text}\n\n" if text else ""
        write_markdown(path, f"{above}{_in_lines(machine)}\n\n{markdown(cells, names)}", name)


def _in_lines(text: str) -> str:
    """Markdown makes one line of several, if they do not end with two spaces."""
    return text.replace("\n", "  \n")


def write_json(path: Path, machine: str, rows: Sequence[Row]) -> None:
    """Write everything that was measured."""
    found = [{**dataclasses.asdict(row), "label": row.case.label, "of_copy": row.of_copy} for row in rows]
    for row in found:
        if math.isnan(row["of_copy"]):
            row["of_copy"] = None  # JSON has no NaN
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine.splitlines(), "rows": found}, indent=1, allow_nan=False), "utf-8")
