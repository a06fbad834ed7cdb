"""Calls planned by other thresholds, so that small arrays are walked in every way."""

from contextlib import contextmanager

import numbanorm as nbn


@contextmanager
def planned_by(planning, tuning, threads=None):
    """Let a module of `numbanorm.cpu` plan by another tuning, for so many threads."""
    before, planning.TUNING = planning.TUNING, tuning
    number = nbn.get_num_threads()
    try:
        nbn.set_num_threads(threads or number)
        yield
    finally:
        planning.TUNING = before
        nbn.set_num_threads(number)
