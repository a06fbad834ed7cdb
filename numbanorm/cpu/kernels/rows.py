"""Kernels that reduce the innermost run: layer norm, instance norm, batch norm with channels first.

Each takes tasks [first, last) of a schedule; see `walk` for its table. A group is walked as one sequence of elements,
cut into blocks of BLOCK: the sums of a block share a pivot, its first element, and blocks are merged in order. Up to
TILE neighbouring groups are walked side by side, one in each lane of what follows the sums: divisions and roots are
shared, and where the runs of neighbours lie next to each other, memory is read in order.
"""

from ...maths import accumulators, welford
from ...walk.slots import BIAS, GROUP, LOOP, LOOPS, LOW, OUT, OUTER, REPEATS, ROWS, SIZE, WEIGHT, X
from .beside import (
    about_zero,
    all_hold,
    most_in_turn,
    run_pivot,
    sums_beside,
    wide_beside,
    wide_in_order,
    write_and_sum,
)
from .compiling import inline, kernel
from .constants import ASK_BYTES, BLOCK, CHAIN, DOWN_ROWS, DOWN_RUN, NEAR_RUN, PHASES, SHARED, SIDE, TRUST
from .intrinsics import (
    behind,
    exact_in_float64,
    is_present,
    itemsize,
    load_first,
    load_int,
    load_near,
    load_one,
    load_same,
    neutral_one,
    stack,
    store_near,
    store_one,
    stream_fence,
    stream_head,
    summed_like,
)
from .lanes import LOOKS_AHEAD, WIDTH, convert, splat, total
from .runs import MANY, folded, room_for_few, room_for_many, set_coefficients, write_runs
from .team import OUTPUT, chunk_tasks, end_phase, next_task
from .walk import (
    FOLD,
    LIKE64,
    PART_SIZE,
    PARTS,
    STREAM,
    TILE,
    ZERO,
    added_to_std,
    given_statistics,
    inner_offset,
    inner_place,
    load_group,
    mean_of_four,
    moved,
    outer_place,
    settle_far,
    stream_edge,
    stream_end,
    sum_down,
    sum_near,
    sum_run,
)

SPARE = SIDE + WIDTH
SQUARE = SIDE * WIDTH  # lanes of SIDE groups


@inline
def _group_size(table):
    """Elements of a group."""
    return load_int(table, REPEATS) * load_int(table, ROWS + SIZE) * load_int(table, LOW + SIZE)


@inline
def _side(table):
    """Entry of the innermost outer loop, which leads from a group to its neighbour; of the rows if there is none."""
    outer = load_int(table, OUTER)
    return LOOPS + (outer - 1) * LOOP if outer > 0 else ROWS


@inline
def _neighbours(table, index, last, most):
    """How many of the groups from `index` to `last` are `_side` steps apart, `most` at most."""
    if most == 1 or load_int(table, OUTER) == 0:
        return 1
    size = load_int(table, _side(table) + SIZE)
    return min(min(most, last - index), size - index % size)


@inline
def _follow(table, index, last, batch):
    """Whether at least as many groups follow, `_side` steps apart from those in front of them."""
    return index % load_int(table, _side(table) + SIZE) != 0 and _neighbours(table, index, last, batch) == batch


@inline
def _reading(table):
    """Rows and their step, size of a run and its step, as far as x goes: rows that lie behind one another are one."""
    rows, row_step = load_int(table, ROWS + SIZE), load_int(table, ROWS + X)
    size, step = load_int(table, LOW + SIZE), load_int(table, LOW + X)
    if row_step == size * step:
        return 1, 0, rows * size, step
    return rows, row_step, size, step


@inline
def _position(table, start):
    """Inner repeat, row and place in the run of element `start` of a group."""
    if start == 0:
        return 0, 0, 0
    rows, _, size, _ = _reading(table)
    run = start // size
    return run // rows, run % rows, start % size


@inline
def _across(table):
    """Whether the runs of neighbouring groups are nearer to each other than the runs of one group."""
    if load_int(table, TILE) == 1:
        return False
    return load_int(table, ROWS + SIZE) == 1 or load_int(table, _side(table) + X) < abs(load_int(table, ROWS + X))


@inline
def _sums(x, narrow, table, origin, position, left, pivot):
    """Sums of x - pivot and of its square over `left` elements from `position` of the group that begins at `origin`; by
    way of float32 where `narrow` is such a number.
    """
    rows, row_step, size, step = _reading(table)
    repeat, row, i = position
    sums = splat(0.0), splat(0.0)
    while left > 0:
        offset = origin + inner_offset(table, repeat)
        while row < rows and left > 0:
            count = min(size - i, left)
            at = offset + row * row_step + i * step
            if narrow is None:
                sums = sum_run(x, at, step, count, pivot, sums)
            else:
                sums = sum_near(x, at, count, convert(pivot, narrow), sums)
            left -= count
            i = 0
            row += 1
        row = 0
        repeat += 1
    return total(sums[0]), total(sums[1])


@inline
def _sums_so_far(g, fresh, room):
    """Sums, in lanes, of a group that is added up in several turns; zeros in the first."""
    if fresh:
        return splat(0.0), splat(0.0)
    return load_near(room[3], 8 * WIDTH * g, LIKE64), load_near(room[4], 8 * WIDTH * g, LIKE64)


@inline
def _keep_sums(g, sums, last, room):
    """Keep the sums of a group for its next turn, or behind the last one their totals."""
    if last:
        store_one(room[1], g, total(sums[0]))
        store_one(room[2], g, total(sums[1]))
    else:
        store_near(room[3], 8 * WIDTH * g, sums[0])
        store_near(room[4], 8 * WIDTH * g, sums[1])


@inline
def _sums_across(x, table, origin, side, batch, position, size_of_block, room):
    """The same of `batch` groups, `side` bytes apart: each run of all of them, before the next run."""
    rows, row_step, size, step = _reading(table)
    repeat, row, i = position
    left = size_of_block
    while left > 0:
        offset = origin + inner_offset(table, repeat)
        while row < rows and left > 0:
            count = min(size - i, left)
            fresh = left == size_of_block
            left -= count
            at = offset + row * row_step + i * step
            for g in range(batch):
                sums = sum_run(x, at + g * side, step, count, load_one(room[0], 8 * g), _sums_so_far(g, fresh, room))
                _keep_sums(g, sums, left == 0, room)
            i = 0
            row += 1
        row = 0
        repeat += 1


@inline
def _down(table, item):
    """Whether float32 sums are taken down the rows: where there are several, with gaps between them."""
    rows, _, size, step = _reading(table)
    few = DOWN_ROWS if size < DOWN_RUN else 2 * DOWN_ROWS
    return rows >= few and size >= WIDTH and step == item and load_int(table, PARTS) == 1


@inline
def _first_pivot(x, at, row_step, size, g, center, pivots):
    """Keep as a group's pivot the mean, as of `near_mean`, of some lanes of four rows; 0 where `center` is 0.

    They are spread over the rows: corners of pictures are often unlike the rest.
    """
    pivot = 0.0
    if center != 0:
        step = row_step + (size - WIDTH) // 3 * itemsize(x)
        pivot = mean_of_four(x, at, step)
    store_one(pivots, g, pivot)


@inline
def _sums_down(x, narrow, table, origin, side, batch, position, size_of_block, center, room):
    """Pivots and sums, by way of float32, of whole rows of `batch` groups, `side` bytes apart: a few rows of all of
    them, before the next few. With AVX-512 pivots are taken early, as in `sums_beside`; with AVX2 images of 7 x 7 and
    14 x 14 took 1.2 to 1.5 times as long so.
    """
    pivots = room[0]
    _, row_step, size, _ = _reading(table)
    repeat, row, _ = position
    at = origin + inner_offset(table, repeat) + row * row_step
    left = size_of_block // size
    chains = (left + CHAIN - 1) // CHAIN
    fresh = True
    if LOOKS_AHEAD:
        _first_pivot(x, at, row_step, size, ZERO, center, pivots)
    while chains > 0:
        rows = (left + chains - 1) // chains
        chains -= 1
        left -= rows
        for g in range(batch):
            near = at + g * side
            if fresh and not LOOKS_AHEAD:
                _first_pivot(x, near, row_step, size, g, center, pivots)
            pivot = load_one(pivots, 8 * g)
            if LOOKS_AHEAD and fresh and g + 1 < batch:
                _first_pivot(x, near + side, row_step, size, g + 1, center, pivots)
            sums = sum_down(x, near, row_step, rows, size, convert(pivot, narrow), _sums_so_far(g, fresh, room))
            _keep_sums(g, sums, chains == 0, room)
        at += rows * row_step
        fresh = False


@inline
def _far_mean(x, table, origin, position, left):
    """Mean of `left` elements from `position` of a group, whose sum, or distances, may overflow."""
    rows, row_step, size, step = _reading(table)
    repeat, row, i = position
    n, mean = float(left), 0.0
    while left > 0:
        offset = origin + inner_offset(table, repeat)
        while row < rows and left > 0:
            count = min(size - i, left)
            for k in range(i, i + count):
                mean += load_one(x, offset + row * row_step + k * step) / n
            left -= count
            i = 0
            row += 1
        row = 0
        repeat += 1
    return mean


@inline
def _firsts(x, at, side, batch, center, values):
    """Of each group its element at byte `at`, as a pivot; zeros where `center` is 0."""
    if batch == 1:
        value = 0.0
        if center != 0:
            value = welford.finite_or_zero(load_one(x, at))
        store_one(values, 0, value)
        return
    for begin in range(0, batch, WIDTH):
        store_near(values, 8 * begin, _some_firsts(x, at + begin * side, side, min(WIDTH, batch - begin), center))


@inline
def _some_firsts(x, at, side, number, center):
    if center == 0:
        return splat(0.0)
    return welford.finite_or_zero(load_first(x, at, side, number, LIKE64))


@inline
def _wide_sums(x, table, origin, side, batch, position, at, size, center, room):
    """Sums of a block in float64, about its first element, at byte `at`, or about its mean where that is not exact."""
    pivots, sums, squares, _, _ = room
    across, (_, _, run, step) = batch > 1 and _across(table), _reading(table)
    beside = across and run - position[2] >= size
    again = center != 0 and not exact_in_float64(x)
    in_order = beside and center != 0 and not again and load_int(table, STREAM) != 0
    if not in_order:
        _firsts(x, origin + at, side, batch, center, pivots)
    while True:
        if in_order:
            wide_in_order(x, origin + at, step, side, batch, size, room)
        elif beside:
            wide_beside(x, origin + at, step, side, batch, size, room)
        elif across:
            _sums_across(x, table, origin, side, batch, position, size, room)
        else:
            for g in range(batch):
                s, q = _sums(x, None, table, origin + g * side, position, size, load_one(pivots, 8 * g))
                store_one(sums, g, s)
                store_one(squares, g, q)
        if not again:
            break
        again = False  # once more about the mean: the block is still in the cache
        if batch == 1:
            shift = welford.finite_or_zero(load_one(sums, 0) / float(size))
            store_one(pivots, 0, load_one(pivots, 0) + shift)
        else:
            for g in range(0, batch, WIDTH):
                shifts = welford.finite_or_zero(load_near(sums, 8 * g, LIKE64) / float(size))
                store_near(pivots, 8 * g, load_near(pivots, 8 * g, LIKE64) + shifts)
    if center != 0 and not exact_in_float64(x):
        for g in range(batch):
            s = load_one(sums, 8 * g)
            if s - s != 0.0:
                settle_far(g, _far_mean(x, table, origin + g * side, position, size), room)


@inline
def _narrow_sums(x, narrow, table, origin, side, batch, position, at, size, center, room):
    """Sums of a block by way of float32, about the mean of its first elements; in float64 where those will not do."""
    pivots, sums, squares, _, _ = room
    down, count = _down(table, itemsize(x)), min(_reading(table)[2] - position[2], size)
    summed = down or (batch > 1 and count == size)
    if down:
        _sums_down(x, narrow, table, origin, side, batch, position, size, center, room)
    elif summed:
        sums_beside(x, narrow, table, origin + at, side, batch, size, center, room)
    else:
        for g in range(batch):
            store_one(pivots, g, run_pivot(x, origin + at + g * side, count, center))
    if summed and all_hold(float(size), batch, center, room):
        return
    for g in range(batch):
        near, pivot, serve, turn, s, q = origin + g * side, load_one(pivots, 8 * g), 0.0, 0, 0.0, 0.0
        while serve == 0.0 and (turn == 0 or (turn == 1 and center != 0 and q > 0.0)):
            if turn != 0:  # the first values lie elsewhere: once more about the mean, as near as float32 has it
                pivot = convert(convert(welford.finite_or_zero(pivot + s / float(size)), narrow), LIKE64)
            if turn == 0 and summed:
                s, q = load_one(sums, 8 * g), load_one(squares, 8 * g)
            else:
                s, q = _sums(x, narrow, table, near, position, size, pivot)
            about = s if center != 0 else 0.0
            serve = accumulators.hold(float(size), pivot, (about, q), TRUST)
            turn += 1
        if serve == 0.0:
            pivot = 0.0
            if center != 0:
                pivot = welford.finite_or_zero(load_one(x, near + at))
            s, q = _sums(x, None, table, near, position, size, pivot)
        store_one(pivots, g, pivot)
        store_one(sums, g, s)
        store_one(squares, g, q)


@inline
def _block_sums(x, narrow, table, origin, side, batch, start, stop, center, room):
    """Sums of a block about a pivot; about zero where `center` is 0."""
    position = _position(table, start)
    repeat, row, i = position
    _, row_step, run, step = _reading(table)
    at = inner_offset(table, repeat) + row * row_step + i * step
    near = False
    if narrow is not None:
        near = (step == itemsize(x) and run >= NEAR_RUN) or _down(table, itemsize(x))
        if near:
            _narrow_sums(x, narrow, table, origin, side, batch, position, at, stop - start, center, room)
    if not near:
        _wide_sums(x, table, origin, side, batch, position, at, stop - start, center, room)
    about_zero(batch, center, room)


@inline
def _block_stop(x, narrow, table, start, last):
    """Where the block ends that begins with element `start`: behind whole rows where sums are taken down them, of which
    all blocks have as many, or one less.
    """
    stop = min(start + BLOCK, last)
    if narrow is not None:
        if _down(table, itemsize(x)):
            rows, _, size, _ = _reading(table)
            row, most = start // size % rows, max(2 * CHAIN, BLOCK // size)
            blocks = (rows + most - 1) // most
            block = (row * blocks + rows - 1) // rows
            stop = start + ((block + 1) * rows // blocks - row) * size
    return stop


@inline
def _add_block(n, nb, batch, room, bases, mean, m2):
    """Merge the sums of a block of nb values into states of n values; returns how many they are together."""
    pivots, sums, squares, _, _ = room
    if batch == 1:  # not as lanes: the next block would wait for its own numbers on their way to memory
        pivot = load_one(pivots, 0) - load_one(bases, 0)
        mean_1, m2_1 = accumulators.settle(nb, pivot, (load_one(sums, 0), load_one(squares, 0)))
        if n > 0.0:
            _, mean_1, m2_1 = accumulators.merge(n, load_one(mean, 0), load_one(m2, 0), nb, mean_1, m2_1)
        store_one(mean, 0, mean_1)
        store_one(m2, 0, m2_1)
        return n + nb
    for at in range(0, 8 * batch, 8 * WIDTH):
        pivot_b = load_near(pivots, at, LIKE64) - load_near(bases, at, LIKE64)
        mean_b, m2_b = accumulators.settle(nb, pivot_b, (load_near(sums, at, LIKE64), load_near(squares, at, LIKE64)))
        if n > 0.0:
            mean_a, m2_a = load_near(mean, at, LIKE64), load_near(m2, at, LIKE64)
            _, mean_b, m2_b = accumulators.merge(n, mean_a, m2_a, nb, mean_b, m2_b)
        store_near(mean, at, mean_b)
        store_near(m2, at, m2_b)
    return n + nb


@inline
def _bases(x, origin, side, batch, center, bases):
    """What means of groups are distances from: their first elements, where these are numbers."""
    _firsts(x, origin, side, batch, center, bases)
    if batch == 1:
        store_one(bases, 0, welford.base_or_zero(load_one(bases, 0)))
    else:
        for at in range(0, 8 * batch, 8 * WIDTH):
            store_near(bases, at, welford.base_or_zero(load_near(bases, at, LIKE64)))


@inline
def _moments(x, narrow, table, origin, side, batch, first_part, last_part, center, room, states):
    """States of `batch` groups over parts [first_part, last_part), merged in order; returns the count of each.

    Means are merged as distances from `bases`, each group's first element, so that a large mean costs no digits.
    """
    mean, m2, bases = states
    size, group_size = load_int(table, PART_SIZE), _group_size(table)
    late = batch > 1 and center != 0  # past the cache, elements far apart would be read out of the order of memory
    if not late:
        _bases(x, origin, side, batch, center, bases)
    n, mean_1, m2_1 = 0.0, 0.0, 0.0
    for part in range(first_part, last_part):
        start = part * size
        last = min(start + size, group_size)
        n_part = 0.0
        while start < last:
            stop = _block_stop(x, narrow, table, start, last)
            _block_sums(x, narrow, table, origin, side, batch, start, stop, center, room)
            if late:
                _bases(x, origin, side, batch, center, bases)
                late = False
            n_part = _add_block(n_part, float(stop - start), batch, room, bases, mean, m2)
            start = stop
        if last_part > 1:  # then the batch is one group
            n, mean_1, m2_1 = accumulators.merge(n, mean_1, m2_1, n_part, load_one(mean, 0), load_one(m2, 0))
            store_one(mean, 0, mean_1)
            store_one(m2, 0, m2_1)
        n = n_part if n == 0.0 else n
    return n


@inline
def _is_single_run(x, narrow, table):
    """Whether a group is one run of elements side by side, whose sums are one block's, by way of float32."""
    _, _, size, step = _reading(table)
    return narrow is not None and NEAR_RUN <= size <= BLOCK and size == _group_size(table) and step == itemsize(x)


@inline
def _near_sums_of_run(x, narrow, at, size, center):
    """Pivot and sums, by way of float32, of a run of elements side by side, and whether they serve."""
    pivot, zero = run_pivot(x, at, size, center), splat(0.0)
    sums = sum_near(x, at, size, convert(pivot, narrow), (zero, zero))
    s, q = total(sums[0]), total(sums[1])
    if center == 0:
        s = 0.0
    return pivot, s, q, accumulators.hold(float(size), pivot, (s, q), TRUST)


@inline
def _moments_of_run(x, narrow, at, size, center, states, rest):
    """`_moments` and `_made_whole` of a group that is a single run, with nothing put down in between: past the cache,
    what happens between two rows takes as long as a quarter of them. Returns m2, and whether the sums serve.
    """
    mean, m2, bases = states
    m2_1, serves = 0.0, 0.0
    if narrow is not None:
        n, base = float(size), 0.0
        if center != 0:
            base = welford.base_or_zero(load_one(x, at))
        pivot, s, q, serves = _near_sums_of_run(x, narrow, at, size, center)
        distance, m2_1 = accumulators.settle(n, pivot - base, (s, q))
        store_one(mean, 0, distance + base)
        store_one(m2, 0, m2_1)
        if is_present(rest):
            store_one(bases, 0, accumulators.two_sum(base, distance)[1])
    return m2_1, serves


@inline
def _settle_beside(x, at, side, batch, n, center, room, states, rest):
    """`_moments` and `_made_whole` of groups of one run each, whose sums are there, if these serve. Returns whether."""
    if not all_hold(n, batch, center, room):
        return 0.0
    mean, m2, bases = states
    about_zero(batch, center, room)
    _bases(x, at, side, batch, center, bases)
    _add_block(0.0, n, batch, room, bases, mean, m2)
    _made_whole(batch, states, rest)
    return 1.0


@inline
def _room():
    """The arrays of `_sums` and `_moments`: one number for each of SIDE groups, and their lanes."""
    numbers = stack(SIDE, LIKE64), stack(SPARE, LIKE64), stack(SPARE, LIKE64)
    return numbers[0], numbers[1], numbers[2], stack(SQUARE, LIKE64), stack(SQUARE, LIKE64)


@inline
def _state_arrays():
    """Mean and m2 of SIDE groups, and the bases of their means."""
    return stack(SIDE, LIKE64), stack(SIDE, LIKE64), stack(SIDE, LIKE64)


@inline
def _made_whole(batch, states, rests):
    """Means in the place of their distances from the groups' bases. If there are `rests`, what rounding takes from them
    is in the place of the bases.
    """
    mean, _, bases = states
    if batch == 1:
        distance, base = load_one(mean, 0), load_one(bases, 0)
        store_one(mean, 0, distance + base)
        if is_present(rests):
            store_one(bases, 0, accumulators.two_sum(base, distance)[1])
        return
    for at in range(0, 8 * batch, 8 * WIDTH):
        distance, base = load_near(mean, at, LIKE64), load_near(bases, at, LIKE64)
        store_near(mean, at, distance + base)
        if is_present(rests):
            store_near(bases, at, accumulators.two_sum(base, distance)[1])


@inline
def _write_states(table, group, batch, n, states, counts, means, m2s, rests):
    """Write the states of `batch` neighbours to the arrays of all groups, if there are any."""
    if not is_present(counts):
        return
    mean, m2, bases = states
    step = load_int(table, _side(table) + GROUP)
    for g in range(batch):
        store_one(counts, group + g * step, n)
        store_one(means, group + g * step, load_one(mean, 8 * g))
        store_one(m2s, group + g * step, load_one(m2, 8 * g))
        if is_present(rests):
            store_one(rests, group + g * step, welford.finite_or_zero(load_one(bases, 8 * g)))


@inline
def _ends(mean, inverse, k, across):
    """Lanes of the means and inverse standard deviations of runs: of as many groups, or of one.

    Those of one are read as a number, like all that belongs to a group by itself. A vector that is read right behind a
    number written into it waits until all stores before have left the core, which streaming stores take long to do.
    """
    if across:
        return load_near(mean, k, LIKE64), load_near(inverse, k, LIKE64)
    return load_same(mean, k, LIKE64), load_same(inverse, k, LIKE64)


@inline
def _at_a_time(out, table, place, entry, runs, size):
    """How many elements of each of `runs` runs are written before any more of one: all, or as many as weight and bias
    of them stay in the first-level cache, where the runs share these. Where output goes past the cache, each piece has
    to begin with a line of it.
    """
    alone = load_int(table, entry + WEIGHT) | load_int(table, entry + BIAS)
    if runs < 2 or size < 2 * SHARED or folded(table) or alone != 0:
        return size
    if load_int(table, STREAM) != 0:
        odd = load_int(table, entry + OUT) % (WIDTH * itemsize(out))
        if odd != 0 or stream_head(out, place[1]) != 0:
            return size
    return SHARED


@inline
def _are_one_loop(table):
    """Whether the rows of neighbouring groups follow one another as those of a group do, and so few of them that some
    groups are written together.
    """
    rows, side, apart = load_int(table, ROWS + SIZE), _side(table), ZERO
    for operand in (X, OUT, WEIGHT, BIAS):
        apart |= load_int(table, side + operand) - rows * load_int(table, ROWS + operand)
    return 1 < rows and 2 * rows <= SIDE and load_int(table, REPEATS) == 1 and apart == 0


@inline
def _repeated(numbers, begin, groups, rows, into):
    """Keep the numbers of some groups, each as often as a group has rows."""
    for g in range(groups):
        number = load_same(numbers, 8 * (begin + g), LIKE64)
        for row in range(0, rows, WIDTH):
            store_near(into, 8 * (g * rows + row), number)


@inline
def _finish_groups(x, out, w, b, table, place, batch, mean, inverse, room, edge, ask, ahead):
    """Write `batch` neighbouring groups, in the order of memory as `_sums` reads them; to `ask` for x, see
    `walk.scale_near`. What is `ahead`: a number of the precision of sums, whether groups are one run each and take
    turns, whether as many follow, and what is needed to add these up, too. Returns whether sums were made.
    """
    rows, size, across = load_int(table, ROWS + SIZE), load_int(table, LOW + SIZE), _across(table)
    if ahead is not None:
        across = across or ahead[1]
    entry, abreast = (_side(table), batch) if across else (ROWS, 1)
    one = batch > 1 and not across and _are_one_loop(table)
    if one:
        abreast = SIDE // rows
    means, inverses = stack(SPARE, LIKE64), stack(SPARE, LIKE64)
    once = across and folded(table) and load_int(table, FOLD) != 0  # each group has one weight and bias
    unfit = 0.0
    for lead in range(0, batch, abreast):
        origin, groups = moved(table, place, _side(table), lead), min(abreast, batch - lead)
        if one:
            _repeated(mean, lead, groups, rows, means)
            _repeated(inverse, lead, groups, rows, inverses)
        for repeat in range(load_int(table, REPEATS)):
            row, at = ZERO, inner_place(table, origin, repeat)
            while row < rows:
                runs = groups
                if not across:
                    runs = groups * rows if one else min(WIDTH, rows - row)
                if not once or (repeat == 0 and row == 0):
                    unfit = 0.0
                    for g in range(0, runs, WIDTH):
                        near, width = moved(table, at, entry, g), min(WIDTH, runs - g)
                        if one:
                            mu, slope = _ends(means, inverses, 8 * g, True)
                        else:
                            mu, slope = _ends(mean, inverse, 8 * (lead + (g if across else 0)), across)
                        unfit += set_coefficients(x, out, w, b, table, near, entry, width, g, mu, slope, room)
                piece, begin = _at_a_time(out, table, at, entry, runs, size), ZERO
                while begin < size:
                    near, part = moved(table, at, LOW + ZERO, begin), min(piece, size - begin)
                    if ahead is not None:
                        narrow, _, follow, center, sums = ahead
                        if follow and unfit == 0.0:
                            write_and_sum(
                                x, narrow, out, w, b, table, near, entry, runs, part, center, room, edge, sums
                            )
                            return True
                    write_runs(x, out, w, b, table, near, entry, runs, part, 0, unfit, room, edge, ask)
                    begin += piece
                done = 1 if across else runs
                at = moved(table, at, ROWS + ZERO, done)
                row += done
    return False


@inline
def _reduce_tasks(first, last, table, x, narrow, center, room, states, count, mean, m2, rest):
    """States of some (group, part), into `count`, `mean`, `m2`: by group, or by task where there are several parts.
    Only the former have a `rest`.
    """
    parts, side = load_int(table, PARTS), load_int(table, _side(table) + X)
    task = first
    while task < last:
        group, part = task // parts, task % parts
        origin, _, _, _, k = outer_place(table, group)
        batch = _neighbours(table, group, last, load_int(table, TILE)) if parts == 1 else 1
        n = _moments(x, narrow, table, origin, side, batch, part, part + 1, center, room, states)
        if parts == 1:
            _made_whole(batch, states, rest)
            _write_states(table, k, batch, n, states, count, mean, m2, rest)
        else:
            store_one(count, task, n)
            store_one(mean, task, load_one(states[0], 0))
            store_one(m2, task, load_one(states[1], 0))
        task += batch


@inline
def _merge_group(group, table, x, center, counts, means, m2s, count, mean, m2, rest):
    """Merge the states of a group's parts, part after part, into that of the group."""
    parts = load_int(table, PARTS)
    n, mu, q = 0.0, 0.0, 0.0
    for part in range(group * parts, group * parts + parts):
        nb, mean_b, m2_b = load_group(counts, means, m2s, part)
        n, mu, q = accumulators.merge(n, mu, q, nb, mean_b, m2_b)
    origin, _, _, _, k = outer_place(table, group)
    low = 0.0
    if center != 0:
        base = welford.base_or_zero(neutral_one(x, origin, 0.0))
        low = accumulators.two_sum(base, mu)[1]
        mu += base
    store_one(count, k, n)
    store_one(mean, k, mu)
    store_one(m2, k, q)
    if is_present(rest):
        store_one(rest, k, welford.finite_or_zero(low))


@inline
def _merge_given(group, table, counts, means, m2s, rests, count, mean, m2, rest):
    """Merge given states of a group, whose means are whole and in two parts: as distances from the first mean."""
    begin = group * load_int(table, PARTS)
    end = begin + load_int(table, PARTS)
    n, mu, q, base = 0.0, 0.0, 0.0, 0.0
    for part in range(begin, end):
        nb, mean_b, m2_b = load_group(counts, means, m2s, part)
        if n == 0.0:
            base = welford.base_or_zero(mean_b)
        n, mu, q = accumulators.merge(n, mu, q, nb, (mean_b - base) + neutral_one(rests, 8 * part, 0.0), m2_b)
    whole, low = accumulators.two_sum(base, mu)
    store_one(count, group, n)
    store_one(mean, group, whole)
    store_one(m2, group, q)
    store_one(rest, group, welford.finite_or_zero(low))


@kernel
def moments(first, last, table, frame):
    """State of each group; or of each part of it, where there are several."""
    whole = load_int(table, PARTS) == 1
    count = frame.count if whole else frame.part_count
    mean = frame.mean if whole else frame.part_mean
    m2 = frame.m2 if whole else frame.part_m2
    rest = frame.rest
    _reduce_tasks(first, last, table, frame.x, None, frame.center, _room(), _state_arrays(), count, mean, m2, rest)


@kernel
def normalize(first, last, table, frame):
    """A few groups in one go: statistics, then output while they are in the cache. Writes their states if asked."""
    x, out, w, b, spread, center = frame.x, frame.out, frame.weight, frame.bias, added_to_std(frame), frame.center
    count, mean, m2, rest = frame.count, frame.mean, frame.m2, frame.rest
    parts, narrow, edge = load_int(table, PARTS), summed_like(x, out), stream_edge(out)
    room, states = _room(), _state_arrays()
    inverse = stack(SIDE, LIKE64)
    coefficients = room_for_few()
    side, size = load_int(table, _side(table) + X), _group_size(table)
    single = parts == 1 and _is_single_run(x, narrow, table)
    most, turns, ready = load_int(table, TILE), False, False
    if not LOOKS_AHEAD and single:
        together = most_in_turn(x, out, w, b, table, _side(table), size)
        turns = together > 1
        most = max(most, together)
    group = first
    while group < last:
        place = outer_place(table, group)
        batch = _neighbours(table, group, last, most)
        n, m2_1, serves = float(size), 0.0, 0.0
        if ready:
            serves = _settle_beside(x, place[0], side, batch, n, center, room, states, rest)
        elif single and batch == 1:
            m2_1, serves = _moments_of_run(x, narrow, place[0], size, center, states, rest)
        if serves == 0.0:
            n = _moments(x, narrow, table, place[0], side, batch, 0, parts, center, room, states)
            _made_whole(batch, states, rest)
            m2_1 = load_one(states[1], 0)
        _write_states(table, place[4], batch, n, states, count, mean, m2, rest)
        if batch == 1:  # a division and a root of one number take a tenth of those of all lanes
            store_one(inverse, 0, welford.inverse_std(m2_1, n, spread))
        else:
            for at in range(0, 8 * batch, 8 * WIDTH):
                store_near(inverse, at, welford.inverse_std(load_near(states[1], at, LIKE64), n, spread))
        group += batch
        follow = turns and batch > 1 and stream_head(out, place[1]) >= 0 and _follow(table, group, last, batch)
        ask = side * batch if size * batch * itemsize(x) <= ASK_BYTES else ZERO  # nothing new
        ahead = narrow, turns, follow, center, room
        ready = _finish_groups(x, out, w, b, table, place, batch, states[0], inverse, coefficients, edge, ask, ahead)
    stream_end(out, edge)
    stream_fence()


@inline
def _depend_on_side(table):
    """Whether statistics, weight and bias of a run depend on its place on the innermost outer loop alone."""
    apart = 0
    for entry in range(LOOPS, _side(table), LOOP):
        apart |= load_int(table, entry + WEIGHT) | load_int(table, entry + BIAS) | load_int(table, entry + GROUP)
    return apart == 0


@inline
def _write_tasks(first, last, table, x, out, w, b, spread, room, count, mean, m2):
    """Output of some (run, part), from the states of the groups; without counts, m2 is the variance.

    The schedule's outer loops are all loops but the run, in the order of memory. Where all samples have the same
    coefficients, as from stored statistics by channel, they are made once, for MANY channels at a time.
    """
    parts, part_size, edge = load_int(table, PARTS), load_int(table, PART_SIZE), stream_edge(out)
    side = _side(table)
    across, step = load_int(table, side + SIZE), load_int(table, side + GROUP)
    again = parts == 1 and last - first >= 2 * across and _depend_on_side(table)
    begin, end = (0, across) if again else (first, last)
    while begin < end:
        index, start = begin // parts, begin % parts * part_size
        place = moved(table, outer_place(table, index), LOW + ZERO, start)
        size = min(part_size, load_int(table, LOW + SIZE) - start)
        runs = _neighbours(table, index, end, MANY) if parts == 1 else 1
        unfit = 0.0
        for g in range(0, runs, WIDTH):
            near = moved(table, place, side, g)
            width = min(WIDTH, runs - g)
            mu, inverse = given_statistics(place[4] + g * step, step, width, spread, count, mean, m2)
            unfit += set_coefficients(x, out, w, b, table, near, side, width, g, mu, inverse, room)
        sample = first // across if again else 0
        while True:
            lead = sample * across + begin
            low, high = max(first, lead), min(last, lead + runs)
            if low < high:
                if again:
                    place = outer_place(table, low)
                write_runs(x, out, w, b, table, place, side, high - low, size, low - lead, unfit, room, edge, None)
            sample += 1
            if not again or sample * across >= last:
                break
        begin += runs
    stream_end(out, edge)
    stream_fence()


@kernel
def apply(first, last, table, frame):
    """Output of each (run, part), from given states of the groups; without counts, m2 is the variance."""
    x, out, w, b, spread = frame.x, frame.out, frame.weight, frame.bias, added_to_std(frame)
    _write_tasks(first, last, table, x, out, w, b, spread, room_for_many(), frame.count, frame.mean, frame.m2)


@kernel
def normalize_split(first, last, table, frame):
    """Few large groups, by workers `first` to `last`: states of the parts, their merge, output; see `team`.

    The output's table lies behind the first.
    """
    x, out, w, b, spread, center = frame.x, frame.out, frame.weight, frame.bias, added_to_std(frame), frame.center
    count, mean, m2 = behind(frame.count, 0), behind(frame.mean, 0), behind(frame.m2, 0)
    parts, board = (frame.part_count, frame.part_mean, frame.part_m2), frame.board
    room, states, coefficients, narrow = _room(), _state_arrays(), room_for_many(), summed_like(x, out)
    writing = behind(table, load_int(board, OUTPUT))
    for worker in range(first, last):
        for phase in range(PHASES):
            share, ended = worker, ZERO
            while True:
                share, task = next_task(board, phase, worker, share)
                if task < 0:
                    break
                if phase == 0:
                    _reduce_tasks(task, task + 1, table, x, narrow, center, room, states, *parts, frame.rest)
                elif phase == 1:
                    _merge_group(task, table, x, center, *parts, count, mean, m2, frame.rest)
                else:
                    begin, end = chunk_tasks(board, task)
                    _write_tasks(begin, end, writing, x, out, w, b, spread, coefficients, count, mean, m2)
                ended += 1
            end_phase(board, phase, ended)


@kernel
def merge(first, last, table, frame):
    """Merge the parts' states that `moments` left; a task is a group. Means are distances from x, if there is one."""
    states = frame.count, frame.mean, frame.m2, frame.rest
    parts = frame.part_count, frame.part_mean, frame.part_m2
    for group in range(first, last):
        if is_present(frame.part_rest):
            _merge_given(group, table, *parts, frame.part_rest, *states)
        else:
            _merge_group(group, table, frame.x, frame.center, *parts, *states)
