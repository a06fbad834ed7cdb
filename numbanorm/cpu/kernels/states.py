"""Kernels on the states of groups, which lie side by side."""

from ...maths import welford
from ...walk.slots import SETTINGS
from .compiling import kernel
from .intrinsics import load_first, load_int, store_first
from .lanes import WIDTH
from .walk import LIKE64

MEAN_STEP, VAR_STEP = SETTINGS, SETTINGS + 1  # bytes from one running statistic to the next


@kernel
def update_running(first, last, table, frame):
    """Move running statistics towards the mean and the variance, with `ddof`, of every group."""
    count, mean, m2 = frame.count, frame.mean, frame.m2
    running_mean, running_var = frame.running_mean, frame.running_var
    momentum, ddof = frame.momentum, float(frame.ddof)
    mean_step, var_step = load_int(table, MEAN_STEP), load_int(table, VAR_STEP)
    for group in range(first, last, WIDTH):
        width, at = min(WIDTH, last - group), 8 * group
        old = load_first(running_mean, group * mean_step, mean_step, width, LIKE64)
        new = load_first(mean, at, 8, width, LIKE64)
        store_first(running_mean, group * mean_step, mean_step, width, welford.move(old, new, momentum))
        old = load_first(running_var, group * var_step, var_step, width, LIKE64)
        new = load_first(m2, at, 8, width, LIKE64) / (load_first(count, at, 8, width, LIKE64) - ddof)
        store_first(running_var, group * var_step, var_step, width, welford.move(old, new, momentum))
