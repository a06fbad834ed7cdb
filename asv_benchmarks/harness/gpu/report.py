"""What was measured on a GPU, in the styles of tables that ../report.py has."""

from collections.abc import Sequence

from ..case import by
from ..contenders import OWN
from ..report import Cells, accuracy, beside, in_order, of_copy, others, page, short
from .measure import GpuRow


def queued_others(rows: Sequence[GpuRow]) -> list[str]:
    """Return who was timed in a queue beside numbanorm."""
    return in_order(name for row in rows for name in row.queued_ratios)


def cells(row: GpuRow, on_device: Sequence[str], queued: Sequence[str]) -> Cells:
    """Write one row of the table of times."""
    device = {name: short(row.ratios[name].median) if name in row.ratios else "-" for name in on_device}
    queue = {name: short(row.queued_ratios[name].median) if name in row.queued_ratios else "-" for name in queued}
    return {
        "layer": row.case.title,
        "shape": by(row.case.shape),
        OWN: milliseconds(row.seconds),
        **{f"× {name}": ratio for name, ratio in device.items()},
        "queued": milliseconds(row.queued),
        **{f"queued × {name}": ratio for name, ratio in queue.items()},
        "GB/s": gigabytes(row.speed),
        "copy GB/s": gigabytes(row.copy_speed),
        "of copy": short(row.of_copy) + "*" * row.twice,
        "error": short(row.units[OWN]) if OWN in row.units else "-",
    }


def milliseconds(seconds: dict[str, float]) -> str:
    """Write numbanorm's time."""
    return f"{seconds[OWN] * 1e3:.3g}" if OWN in seconds else "-"


def gigabytes(speed: float) -> str:
    """Write a speed; NaN is none."""
    return "-" if speed != speed else f"{speed / 1e9:.0f}" if speed >= 1e10 else f"{speed / 1e9:.2g}"


def table_cells(rows: Sequence[GpuRow]) -> list[Cells]:
    """Write all rows."""
    return [cells(row, others(rows), queued_others(rows)) for row in rows]


def note(rows: Sequence[GpuRow]) -> str:
    """Say what the columns of the table are."""
    parts = [
        "Times in ms, output allocated: on the device; queued: by the caller's clock, a call in a long queue.",
        "×: another's time by numbanorm's.",
        "GB/s: of x read once and y written once, into a given output; copy: the faster of torch's copy_ and clone.",
        "of copy: share of that speed",
    ]
    if any(row.twice for row in rows):
        parts[-1] += "; *: of a copy and a further read (half a copy), where memory must be read twice"
    parts[-1] += "."
    if any(row.sets > 1 for row in rows):
        parts.append("What does not fit L2 is read from several copies in turn, so that it comes from memory.")
    parts.append("error: numbanorm's largest difference from float64, in units of rounding.")
    return " ".join(parts)


def summary(rows: Sequence[GpuRow]) -> list[str]:
    """Say how numbanorm compares: on the device, in a queue where launching decides, and beside a copy."""
    lines: list[str] = []
    for name in others(rows):
        lines += beside(name, [row for row in rows if name in row.ratios], "on the device")
    bound = [row for row in rows if row.launch_bound]
    for name in queued_others(bound):
        there = [row for row in bound if name in row.queued_ratios]
        lines += beside(name, there, "queued, where launching takes longest", lambda row, to: row.queued_ratios[to])
    timed = [row for row in rows if row.into]
    lines += of_copy("a copy", [row for row in timed if row.sets > 1], "from memory")
    lines += of_copy("a copy", [row for row in timed if row.sets == 1], "in L2")
    return lines


def as_markdown(machine: str, rows: Sequence[GpuRow], shown: Sequence[GpuRow] = ()) -> str:
    """Write table, notes and summary; of some rows only, if they are given, and then the summary is of all."""
    return page(machine, table_cells(shown or rows), note(rows), (*summary(rows), accuracy(rows)))
