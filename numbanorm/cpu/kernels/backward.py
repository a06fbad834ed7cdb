"""Kernels that go backward: from the gradient of a norm's output to those of its input, its weight and its bias.

`rows` and `columns` walk the loops of the two families as the kernels before them do; see `maths.gradient` for what is
computed. Two sums, of dy and of dy * t, are taken along x and the gradient, which are read side by side. Where all
elements of a run, or of a column, share a weight, its sums serve both the group and the weight. Where weights step
along a run, the group's sums are taken with them across it, and those of the weights down the runs of neighbouring
groups.

A task is a block of whole groups, read again for the output while it lies in the cache; or a part of groups, whose
sums a second launch puts together. Sums of weights are kept in slots: tasks with one slot have no weight in common,
and the slots are added up in order at the end. Slots of a frame that no gradient needs hold what is new here: the
gradient of the output takes that of the bias, since it steps through memory as x does; the sums of parts of groups
lie in `part_count`, those of weights in `part_mean`, those of biases in `part_m2`, and the settings on the `board`.
"""

from .backward_columns import columns
from .backward_rows import rows

__all__ = ["columns", "rows"]
