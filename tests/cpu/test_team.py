"""Work in phases: however many workers come, in whatever order and whenever, all tasks are done once, and in order."""

import threading
import time

import numpy as np
import pytest
from kernel_calls import kinds_of, nest_of, normalize

import numbanorm as nbn
from numbanorm.cpu import plan
from numbanorm.cpu.engine import ENGINE
from numbanorm.engine.interface import Frame, Plan, Variant

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
    nbn.set_num_threads(1)
    expected, expected_states = normalize(layout, x, weight, bias)
    made = nest_of(layout, x, expected, weight, bias)
    chosen = plan.choose(made, x.itemsize)
    assert chosen.parts > 1
    table, template = plan.split(chosen, plan.for_output(chosen, made), WORKERS)
    scratch = plan.Scratch(chosen.groups, chosen.partial_states, template.copy())
    address = launcher.address_of(Variant("normalize_split", chosen.loops.family, kinds_of(x, expected, weight, bias)))
    run = launcher.serial()

    class Call:
        def __init__(self):
            room = ENGINE.scratch(x, Plan((), (), scratch))
            self.out, self.states = np.full_like(x, np.nan), [room[name] for name in ("count", "mean", "m2")]
            self.frame = Frame(x, self.out, weight, bias, eps=1e-5, **room)

        def run(self, first, last):
            run(address, first, last, table, self.frame)

        def check(self):
            np.testing.assert_array_equal(self.out, expected)
            for got, want in zip(self.states, expected_states, strict=True):
                np.testing.assert_array_equal(got, want.ravel())
            np.testing.assert_array_equal(scratch.board, template)  # the next call's

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
    call.frame.mean[...] = 0
    for worker in (0, 1, 3, 4):
        call.run(worker, worker + 1)
    assert not call.out.any()
    assert not call.frame.mean.any()


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
