"""Work in phases on one launch: its threads share tasks, and wait for each other between phases.

A board is int64 numbers (`cpu.plan.split`). Its first line of the cache is the
header, then comes a line for each phase, with the number of its ended tasks, and one for each phase and worker, with
the number of tasks that were taken of this worker's share: no two workers write to the same line. A worker takes its
own share first, in order, so that a core meets the same memory again in the next phase, and then helps the others.

Nothing waits for a worker that has not begun: a task belongs to the thread that took it, and a thread waits only for
tasks that running threads took. So it does not matter how many threads come, or when; one alone does it all.
"""

from .compiling import inline
from .constants import LINE, PHASES
from .intrinsics import add_shared, load_int, load_shared, yield_thread

# The header: how many workers there are; where the tables of the merge and of the output begin; how many tasks there
# are in each phase (states of the parts, merge, output), the last being chunks of so many tasks of the output's.
WORKERS, MERGE, OUTPUT, TASKS, OUTPUT_TASKS = 0, 1, 2, 3, 6
SPINS = 1000  # looks at a number before the processor is offered to others


@inline
def next_task(board, phase, worker, share):
    """Take a task: (share, task), looking from this share on; task -1 if none is left."""
    workers, tasks = load_int(board, WORKERS), load_int(board, TASKS + phase)
    while share < worker + workers:
        owner = share % workers
        task = owner * tasks // workers
        task += add_shared(board, LINE * (1 + PHASES + phase * workers + owner), 1)
        if task < (owner + 1) * tasks // workers:
            return share, task
        share += 1
    return share, -1


@inline
def end_phase(board, phase, ended):
    """Report ended tasks, and wait for all others of the phase. After the last phase nobody needs to wait."""
    if phase == PHASES - 1:
        return
    at, tasks = LINE * (1 + phase), load_int(board, TASKS + phase)
    add_shared(board, at, ended)
    looks = 0
    while load_shared(board, at) < tasks:
        looks += 1
        if looks > SPINS:
            yield_thread()


@inline
def chunk_tasks(board, chunk):
    """First and last task, of the output's schedule, of a chunk."""
    chunks, tasks = load_int(board, TASKS + 2), load_int(board, OUTPUT_TASKS)
    return chunk * tasks // chunks, (chunk + 1) * tasks // chunks
