"""What the tour's tables mean: which row is the worst, and why, from what was measured."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "asv_benchmarks"))
from harness.contenders import OWN
from harness.measure import Row
from harness.report import short

SHORT = 30e-6  # seconds of a call of which much is not the kernel
KEPT = 1.5  # times as long without a given output: from there on memory is what it waits for
NEAR = 0.7  # of a copy's speed: from there on little is left to gain


def worst_row(rows: Sequence[Row]) -> str:
    """Say on which row numbanorm does worst, beside whom, and why."""
    found = [(ratio.median, name, row) for row in rows for name, ratio in row.ratios.items()]
    if not found:
        return ""
    ratio, name, row = min(found, key=lambda one: one[0])
    said = f"The worst row is {row.case.label}: "
    if row.crowded:
        return f"{said}{short(ratio)} beside {name}. The machine was busy, so neither this row nor another says much."
    if ratio >= 1:
        said += f"numbanorm is still {short(ratio)} times as fast as {name} there."
    else:
        said += f"there {name} needs only {short(ratio)} of numbanorm's time."
    return " ".join([said, *reasons(row, name)])


def reasons(row: Row, name: str) -> list[str]:
    """Say what the measurement knows of the reason."""
    ratio, own, found = row.ratios[name], row.seconds[OWN], []
    if ratio.low < 1 < ratio.high:
        found.append(f"The 95% interval of that is {ratio.low:.2f} to {ratio.high:.2f}, so it may be chance.")
    if own < SHORT:
        found.append(
            f"A call takes {own * 1e6:.0f} µs. Much of that is no kernel's: Python's way into it, the output's memory, "
            "and waking threads, with any library."
        )
    if row.into and own > KEPT * row.into[OWN]:
        found.append(
            f"Into a given output (out=) numbanorm takes {row.into[OWN] * 1e3:.3g} ms in place of {own * 1e3:.3g}: the "
            "rest is new memory, which the system hands out page by page."
        )
    if row.of_copy > NEAR:
        found.append(f"It runs at {row.of_copy:.0%} of the speed of a copy: memory is the limit, for everybody.")
    elif not found and not np.isnan(row.of_copy):
        found.append(f"It runs at {row.of_copy:.0%} of the speed of a copy: there is something left to gain.")
    return found
