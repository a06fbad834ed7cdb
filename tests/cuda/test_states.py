"""States across the threads of a warp and of a block: what each thread is left with."""

import time
from threading import Thread

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="needs the package numba-cuda")

from numba import cuda

THREADS = 64
SHAPE = 3, THREADS


def test_all_threads_have_the_same_bits(gpu, rng):
    """Chan's formula is not symmetric in its rounding, so the lower lane's state must come first for both of two."""
    from numbanorm.cuda.kernels.states import ROOM, make_merge_team, make_sum_team, merge_lanes

    merge_team, sum_team = make_merge_team(THREADS), make_sum_team(THREADS)[0]

    @cuda.jit
    def kernel(states, merged, whole, total):
        thread = cuda.threadIdx.x
        room = cuda.shared.array(ROOM, np.float64)
        total[thread] = sum_team(states[1, thread], room, 0)
        cuda.syncthreads()
        n, mean, m2 = merge_lanes(states[0, thread], states[1, thread], states[2, thread], 16)
        merged[0, thread], merged[1, thread], merged[2, thread] = n, mean, m2
        n, mean, m2 = merge_team(states[0, thread], states[1, thread], states[2, thread], room)
        whole[0, thread], whole[1, thread], whole[2, thread] = n, mean, m2

    states = np.array([rng.integers(0, 5, THREADS), rng.standard_normal(THREADS), rng.random(THREADS)], np.float64)
    states[1:, states[0] == 0] = 0.0
    merged, whole, total = (gpu.send(np.zeros(shape)) for shape in (SHAPE, SHAPE, THREADS))
    kernel[1, THREADS](gpu.send(states), merged, whole, total)
    merged, whole, total = gpu.get(merged), gpu.get(whole), gpu.get(total)
    for team in range(0, THREADS, 16):
        check(merged[:, team : team + 16], states[:, team : team + 16])
    check(whole, states)
    assert np.unique(total).size == 1
    np.testing.assert_allclose(total[0], states[1].sum(), rtol=1e-13)


def check(got, states):
    """One state in all threads, that of all values together."""
    for numbers in got:
        assert np.unique(numbers).size == 1
    n, mean, m2 = states
    both = np.sum(n * mean) / n.sum()
    np.testing.assert_allclose(got[:, 0], [n.sum(), both, np.sum(m2 + n * (mean - both) ** 2)], rtol=1e-13)


def test_threads_of_a_simulated_block_share_their_memory(gpu):
    """However they take turns: Numba's own simulator may give two threads an array each."""
    if not gpu.simulated:
        pytest.skip("on a GPU")
    from numba.cuda.simulator.kernelapi import FakeCUDAShared

    class Slow(dict):
        def get(self, *arguments):
            found = super().get(*arguments)
            time.sleep(0.01)
            return found

    shared, found = FakeCUDAShared(0), []
    shared._allocations = Slow()
    threads = [Thread(target=lambda: found.append(shared.array(THREADS, np.float64))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(array is found[0] for array in found)
