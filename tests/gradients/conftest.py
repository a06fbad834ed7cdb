"""Thresholds at which small arrays are cut as large ones are: into many tasks, parts of groups, and streamed output."""

from dataclasses import replace

import pytest

from numbanorm.cpu import backward
from numbanorm.gradients import known

SMALL = {
    "SERIAL": 0,
    "TASK": 64,
    "PART": 64,
    "PART_ROWS": 4,
    "LOW_PART": 64,
    "FAR_BYTES": 4096,
    "FEWER_BYTES": 4096,
    "TUNING": replace(backward.TUNING, stream_back_bytes=1024, stream_halves=0, stream_back=16),
}


def forget():
    known.forget()
    backward._plan.cache_clear()


@pytest.fixture
def cut_small(monkeypatch):
    for name, value in SMALL.items():
        monkeypatch.setattr(backward, name, value)
    forget()
    yield
    forget()
