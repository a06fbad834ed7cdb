"""Work in phases: however many workers come, in whatever order and whenever, all tasks are done once, and in order."""

import threading
import time

import numpy as np
import pytest

import numbanorm as nbn
from numbanorm.cpu import engine
from numbanorm.cpu import plan as schedule

WORKERS = 5
CASES = {
    "rows": ((3, 50_001), nbn.Layout.layer(), ()),
    "rows of channels": ((4, 6, 10_000), nbn.Layout.batch(), (6, 1)),
    "columns": ((4000, 40), nbn.Layout.axes(0), (40,)),
    "groups of columns": ((2, 2000, 24), nbn.Layout("n s (g c) -> n g", g=4), (24,)),
    "columns in tiles": ((300, 5000), nbn.Layout.axes(0), ()),
}


@pytest.fixture(params=CASES)
def team(request, rng, threads):
    """Start a fresh call, as a function that runs some of its workers; and a check that all is done, and right."""
    from numbanorm.cpu import launcher

    shape, layout, of_weight = CASES[request.param]
    x = rng.standard_normal(shape).astype(np.float32)
    weight, bias = (rng.standard_normal(of_weight).astype(np.float32) for _ in range(2))
    expected = np.empty_like(x)
    nbn.set_num_threads(1)
    expected_states = engine.normalize(layout, x, expected, weight, bias, 1e-5, keep=True)
    made = engine.plan(layout, x, expected, weight, bias)
    split = schedule.split(made.schedule, made.output, WORKERS)
    template = split.board.copy()
    kernel = launcher.compiled_kernel(made.schedule.family, "normalize_split", made.kinds)
    assert made.schedule.parts > 1

    class Call:
        def __init__(self):
            self.out = np.full_like(x, np.nan)
            self.count, self.mean, self.m2 = split.board.copy(), np.empty(split.states), np.empty(split.states)

        def run(self, first, last):
            states = self.count, self.mean, self.m2
            kernel.run(first, last, split.table, x, self.out, weight, bias, 1e-5, 1, *states)

        def check(self):
            np.testing.assert_array_equal(self.out, expected)
            count = self.count[split.before :]
            for got, want in zip((count, self.mean, self.m2), expected_states, strict=True):
                np.testing.assert_array_equal(got[: split.groups], want.ravel())
            np.testing.assert_array_equal(split.board, template)  # the next call's

    return Call


@pytest.mark.parametrize("worker", range(WORKERS))
def test_one_worker_alone_does_it_all(team, worker):
    call = team()
    call.run(worker, worker + 1)
    call.check()


def test_who_comes_late_finds_nothing_to_do(team):
    call = team()
    call.run(2, 3)
    call.out[...] = 0
    call.mean[...] = 0
    for worker in (0, 1, 3, 4):
        call.run(worker, worker + 1)
    assert not call.out.any()
    assert not call.mean.any()


def test_one_thread_for_several_workers(team):
    """As where Numba has fewer threads than there are workers."""
    call = team()
    call.run(0, WORKERS)
    call.check()


@pytest.mark.parametrize("delay", [0.0, 1e-4])
def test_workers_that_come_when_they_like(team, delay, rng):
    for _ in range(40):
        call, waits = team(), delay * rng.random(WORKERS)

        def work(worker, call=call, waits=waits):
            time.sleep(waits[worker])
            call.run(worker, worker + 1)

        threads = [threading.Thread(target=work, args=(n,)) for n in rng.permutation(WORKERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        call.check()


def test_more_threads_than_processors(team, threads):
    """Those that wait give their processor to those that work."""
    calls = [team() for _ in range(8)]

    def work(call, worker):
        call.run(worker, worker + 1)

    everybody = [threading.Thread(target=work, args=(call, n)) for call in calls for n in range(WORKERS)]
    for thread in everybody:
        thread.start()
    for thread in everybody:
        thread.join()
    for call in calls:
        call.check()
