"""What public functions hand to the integration that takes a call: arguments as the caller gave them, unchecked."""

from typing import Any, NamedTuple


class Selection(NamedTuple):
    """Which elements make the statistics, how much each counts, and by which labels: as in `numbanorm.moments`."""

    where: Any
    weights: Any
    labels: Any
    num_labels: Any
    skipna: Any
    weights_are: Any


class Output(NamedTuple):
    """How the result of `numbanorm.normalize` is made, and what comes with it."""

    weight: Any
    bias: Any
    eps: Any
    ddof: Any
    eps_on: Any
    moments: Any
    out: Any
    dtype: Any
    return_moments: Any
