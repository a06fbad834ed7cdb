"""What each CUDA kernel reads and writes, against the least that must be moved. It needs no GPU.

    python asv_benchmarks/traffic.py

A model of the kernels in numbanorm/cuda/kernels, and not a measurement: tests/cuda/test_traffic.py holds it to what
the kernels do in Numba's simulator, byte by byte.
"""

import os
from math import prod
from typing import NamedTuple

if __name__ == "__main__":  # the simulator's side of numbanorm can be imported where there is no CUDA
    os.environ["NUMBA_ENABLE_CUDASIM"] = "1"

from numbanorm import Layout
from numbanorm.arrays.memory import strides_of
from numbanorm.cuda import backward, plan
from numbanorm.cuda.kernels.constants import FAR, ITEMSIZES, NEAR, NONE, ONE, REGISTERS, VECTOR_BYTES, WARP, is_wide
from numbanorm.cuda.kernels.walk import MERGED, PART_SIZE, PARTS, ROW_COUNT, TASKS, UNITS
from numbanorm.walk import nest
from numbanorm.walk.slots import GROUP, HIGH, LOW, SIZE

STATES = (8, 8, 8)  # bytes of a group's count, mean and m2
IN_TWO = (8, 8, 8, 8)  # and of what rounding took from the mean
RUNNING = (0, 4, 4)  # of running statistics in float32, which have no count

# An H100.
CACHE = 50 * 10**6
PROCESSORS = 132


class Moved(NamedTuple):
    """Bytes that a kernel loads and stores."""

    x: int = 0  # loaded by threads that have work
    again: int = 0  # of these: read before, by the same kernel, and neither in registers nor kept in shared memory
    pivots: int = 0  # of x: single elements, from which distances are taken, by each thread for itself
    out: int = 0
    weight: int = 0
    bias: int = 0
    states: int = 0  # that are read, each counted once
    states_loaded: int = 0  # each thread loads those of its group
    states_stored: int = 0

    @property
    def moved(self) -> int:
        """What memory moves if only weights, and what several threads read at once, come from caches."""
        return self.x + self.out + self.states + self.states_stored


def of(step, *, center=True, keep=False, given=STATES, made=STATES):
    """What one step of a plan moves.

    `keep`: a kernel that writes output leaves its states, too. `given`: bytes of each of a group's states, for output
    from given ones. `made`: of those that are made, `IN_TWO` by a plan of moments.
    """
    operation = step.code.variant.operation
    if operation in ("chosen", "merge_chosen"):
        return (_chosen if operation == "chosen" else _merge_chosen)(step)
    if step.code.goes_back:
        return _back(step)
    if step.code.family == "states":
        return _merge(step, center, made)
    left = 0
    if step.code.statistics and (keep or not step.code.output):
        left = sum(STATES if step.table[MERGED] else made)
    return (_rows if step.code.family == "rows" else _columns)(step, center, given, left)


def least(loops, operands, states=0):
    """The fewest bytes of a call on a nest: every element of an operand once, and so many bytes of each group."""
    x, out, weight, bias = operands
    elements = prod(loop.size for loop in loops.loops)
    weights = prod(loop.size for loop in loops.loops if loop.weight) * weight.itemsize
    biases = prod(loop.size for loop in loops.loops if loop.bias) * bias.itemsize
    return elements * (x.itemsize + out.itemsize) + weights + biases + loops.groups * states


def _pieces(size, part_size):
    """Sizes of the parts: the last may be smaller."""
    return [min(part_size, size - start) for start in range(0, size, part_size)]


def _again(code, size, held):
    """How much of so much is read a second time: all but the tile that a block has in registers when it turns back, or
    nothing, if the others are kept in shared memory.
    """
    if not (code.statistics and code.output) or code.whole or code.kept:
        return 0
    return max(0, -(-size // held) - 1) * held


def _parameters(code, places, which):
    """Bytes of weight, or bias, loaded at so many places."""
    way, kind = (code.weight, code.bias)[which], code.kinds[2 + which]
    return places * {NONE: 0, ONE: 1, NEAR: code.vector, FAR: code.vector}[way] * ITEMSIZES.get(kind, 0)


def _rows(step, center, given, left):
    code, table = step.code, step.table.tolist()
    tasks, groups, units = table[TASKS], table[TASKS] // table[PARTS], table[UNITS]
    teams, itemsize = step.blocks * (code.block // code.threads), ITEMSIZES[code.kinds.x]
    held, unit = code.threads * (code.values // code.vector), code.vector * itemsize
    pieces = _pieces(units, table[PART_SIZE])
    second = [_again(code, size, held) for size in pieces]
    pivots = is_wide(code.kinds.x) + code.whole if center and code.statistics else 0
    # Weights that are the same for all of a group are loaded once by each thread, others for each vector written.
    once = not code.decode and code.weight in (NONE, ONE) and code.bias in (NONE, ONE)
    places = (teams * code.threads if once else groups * units) if code.output else 0
    reads = not code.statistics
    return Moved(
        x=groups * (units + sum(second)) * unit,
        again=groups * sum(second) * unit,
        pivots=teams * code.threads * pivots * itemsize,
        out=groups * units * code.vector * ITEMSIZES[code.kinds.out] if code.output else 0,
        weight=_parameters(code, places, 0),
        bias=_parameters(code, places, 1),
        states=reads * groups * sum(given),
        states_loaded=reads * teams * code.threads * sum(given),
        states_stored=tasks * left,
    )


def _columns(step, center, given, left):
    code, table = step.code, step.table.tolist()
    tiles, units, rows = table[TASKS], table[UNITS], table[ROW_COUNT]
    pieces, outer = _pieces(rows, table[PART_SIZE]), step.blocks // (tiles * table[PARTS])
    down, itemsize = code.block // code.threads, ITEMSIZES[code.kinds.x]
    held, unit = down * (code.values // code.vector), code.vector * itemsize
    second = sum(_again(code, size, held) for size in pieces)
    threads = step.blocks * code.block
    bases = is_wide(code.kinds.x) and center and code.statistics
    # Weights that are the same for all of a column are loaded once by each thread, others for each vector written.
    places = (outer * units * rows if code.decode else threads) if code.output else 0
    kept = prod(table[loop + SIZE] for loop in (HIGH, LOW) if table[loop + GROUP])
    reads = not code.statistics
    return Moved(
        x=outer * units * (rows + second) * unit,
        again=outer * units * second * unit,
        pivots=bases * threads * unit,
        out=outer * units * rows * code.vector * ITEMSIZES[code.kinds.out] if code.output else 0,
        weight=_parameters(code, places, 0),
        bias=_parameters(code, places, 1),
        states=reads * outer * kept * sum(given),
        states_loaded=reads * threads * code.vector * sum(given),
        states_stored=outer * len(pieces) * units * code.vector * left,
    )


def _chosen(step):
    """Statistics of what is chosen: x once, and beside each vector of it what there is of a mask and of weights."""
    code, table = step.code, step.table.tolist()
    parts, units, state = table[PARTS], table[UNITS], sum(IN_TWO) + 8 * code.squares
    if code.family == "rows":
        vectors, states = table[TASKS] // parts * units, table[TASKS]
    else:
        outer = step.blocks // (table[TASKS] * parts)
        vectors, states = outer * units * table[ROW_COUNT], outer * parts * units * code.vector
    places = [_parameters(code, vectors, which) for which in (0, 1)]
    return Moved(vectors * code.vector * ITEMSIZES[code.kinds.x], 0, 0, 0, *places, states_stored=states * state)


def _back(step):
    """Going backward: x, and the gradient of the output in the place of the bias, side by side; weights that differ
    within a group beside them, and others once by each thread that writes. Statistics and sums come from caches.
    """
    code, table = step.code, step.table.tolist()
    rows, units = code.family == "rows", table[UNITS]
    across = code.threads if rows else code.block // code.threads
    held, length = across * (code.values // code.vector), units if rows else table[ROW_COUNT]
    outer = table[TASKS] // table[PARTS] if rows else step.blocks // (table[TASKS] * table[PARTS]) * units
    twice = code.sums and code.output and not code.whole
    again = outer * max(0, -(-length // held) - 1) * held if twice else 0
    vectors, width = outer * length + again, code.vector * ITEMSIZES[code.kinds.x]
    places = vectors if code.inside else step.blocks * code.block * code.output
    return Moved(
        x=vectors * width,
        again=again * width,
        out=outer * length * code.vector * ITEMSIZES[code.kinds.out] if code.output else 0,
        weight=0 if code.by_operand else _parameters(code, places, 0),
        bias=_parameters(code, vectors, 1),
    )


def _merge_chosen(step):
    """As `_merge`, of states with the mean in two parts."""
    table, state = step.table.tolist(), sum(IN_TWO) + 8 * step.code.squares
    reduced = prod(table[loop + SIZE] for loop in (HIGH, LOW) if not table[loop + GROUP])
    read, groups = table[PARTS] * reduced * state, table[TASKS]
    loaded = step.blocks * (step.code.block // WARP) * read
    return Moved(states=groups * read, states_loaded=loaded, states_stored=groups * state)


def _merge(step, center, made):
    """A warp for each group; those beyond the last group read its states once more."""
    table, of_x = step.table.tolist(), step.code.kinds.x
    reduced = prod(table[loop + SIZE] for loop in (HIGH, LOW) if not table[loop + GROUP])
    read, groups = table[PARTS] * reduced * sum(STATES), table[TASKS]
    return Moved(
        pivots=groups * ITEMSIZES[of_x] * (is_wide(of_x) and center),
        states=groups * read,
        states_loaded=step.blocks * (step.code.block // WARP) * read,
        states_stored=groups * sum(made),
    )


def cached(step, moved):
    """Bytes of x that a kernel reads a second time and finds in the L2 cache, at most: if it drops the oldest first.

    Within a launch a block reads its group again backwards, while the output drives out what it would come to last: of
    the groups of all blocks that run at once, so much is left as fits beside as much output. After a launch of its
    own, output begins with what was read first, which is lost if not all of x fits; else x is found until output has
    filled the rest of the cache.
    """
    code = step.code
    if code.variant.operation == "normalize" and moved.again:
        at_once = PROCESSORS * max(1, REGISTERS // (code.registers * code.block))
        in_flight = (moved.x - moved.again + moved.out) * min(step.blocks, at_once) / step.blocks
        return round(moved.again * min(1, CACHE / in_flight))
    if code.variant.operation == "apply":
        return round(min(moved.x, max(0, CACHE - moved.x) * moved.x / moved.out))
    return 0


CHANNELS_LAST = (0, 2, 3, 1)
LAYERS = [
    # name, kind, shape, order in memory, layout, shape of weight and bias, what is called, whether states are kept
    ("layer norm", "f4", (4096, 768), None, Layout.layer(), (768,), "normalize", False),
    ("layer norm", "bf", (4096, 4096), None, Layout.layer(), (4096,), "normalize", False),
    ("layer norm", "f4", (8, 65536), None, Layout.layer(), (65536,), "normalize", False),
    ("RMS norm", "bf", (4096, 8192), None, Layout.layer(), (8192,), "normalize", False),
    ("instance norm", "f4", (8, 64, 128, 128), None, Layout.instance(), (64, 1, 1), "normalize", False),
]
for _name, _order in (("NCHW", None), ("NHWC", CHANNELS_LAST)):
    for _kind in ("f4", "bf"):
        _layer = _kind, (2, 320, 64, 64), _order, Layout.group(32), (320, 1, 1)
        LAYERS.append((f"group norm {_name}", *_layer, "normalize", False))
    for _shape in ((32, 64, 56, 56), (32, 2048, 7, 7)):
        _layer = "f4", _shape, _order, Layout.batch(), (_shape[1], 1, 1)
        LAYERS.append((f"batch norm {_name}, training", *_layer, "normalize", True))
        LAYERS.append((f"batch norm {_name}, evaluation", *_layer, "apply", False))


def planned(kind, shape, order, layout, of_weight, biased=True, what="normalize"):
    """Nest, operands and steps of a layer whose arrays are aligned."""
    of_all = plan.Operand(kind, VECTOR_BYTES)
    operands = of_all, of_all, of_all, of_all if biased else plan.Operand("none", VECTOR_BYTES)
    strides = strides_of(shape, ITEMSIZES[kind], order)
    affine = nest.stretched("weight", shape, of_weight, strides_of(of_weight, ITEMSIZES[kind]))
    loops = nest.build(layout.resolve(shape), [strides, strides, affine, affine if biased else None])
    return loops, operands, plan.steps(loops, what, operands)[0]


def lines(name, kind, shape, order, layout, of_weight, what, keep):
    """Lines of the table for one layer: its kernels, and the sum of them if there are several."""
    centered = name != "RMS norm"  # which has no mean, and no bias
    loops, operands, steps = planned(kind, shape, order, layout, of_weight, centered, what)
    given, made = RUNNING if what == "apply" else STATES, IN_TWO if what == "moments" else STATES
    affine = (1 + centered) * prod(of_weight) * ITEMSIZES[kind]
    fewest = least(loops, operands, sum(given) if what == "apply" or keep else 0)
    title, total, found = f"{name} {'x'.join(map(str, shape))} {kind}", 0, []
    for step in steps:
        moved = of(step, center=centered, keep=keep, given=given, made=made)
        second = cached(step, moved) if what == "normalize" else 0
        total += moved.moved
        columns = (moved.x, moved.again, moved.out, moved.states + moved.states_stored, moved.weight + moved.bias)
        columns += (moved.pivots, second)
        found.append([title, step.code.variant.operation, *(f"{n / 1e6:.3f}" for n in columns), "", "", ""])
        title = ""
    found[-1][-3:] = f"{total / 1e6:.3f}", f"{fewest / 1e6:.3f}", f"{(total + affine) / fewest:.3f}"
    return found


BACK = [
    # name, kind, shape, order in memory, layout, shape of the weight
    ("layer norm", "f4", (4096, 768), None, Layout.layer(), (768,)),
    ("layer norm", "bf", (4096, 4096), None, Layout.layer(), (4096,)),
    ("layer norm, plain", "f4", (4096, 768), None, Layout.layer(), None),
    ("group norm NCHW", "f4", (2, 320, 64, 64), None, Layout.group(32), (320, 1, 1)),
    ("group norm NHWC", "f4", (2, 320, 64, 64), CHANNELS_LAST, Layout.group(32), (320, 1, 1)),
    ("batch norm NCHW", "f4", (32, 64, 56, 56), None, Layout.batch(), (64, 1, 1)),
    ("batch norm NHWC", "f4", (32, 64, 56, 56), CHANNELS_LAST, Layout.batch(), (64, 1, 1)),
    ("instance norm", "f4", (8, 64, 128, 128), None, Layout.instance(), (64, 1, 1)),
]


def planned_back(kind, shape, order, layout, of_weight):
    """Steps that go backward through a layer whose arrays are aligned, in one order of memory."""
    one, item, own = plan.Operand(kind, VECTOR_BYTES), ITEMSIZES[kind], of_weight or ()
    strides = strides_of(shape, item, order)
    slots, weight = (nest.stretched("weight", shape, own, strides_of(own, size)) for size in (1, item))
    operands = one, one, plan.Operand("none", VECTOR_BYTES) if of_weight is None else one, one
    given = [strides, strides, None if of_weight is None else weight, strides]
    axes = backward.axes_of(layout.resolve(shape), given, slots, operands)
    return [launch.step for launch in backward.planned(axes, True, True).launches]


def lines_back(name, kind, *layer):
    """Lines of the second table: each kernel that walks x, and how often all of them move a byte of each."""
    title, found, total = f"{name} {'x'.join(map(str, layer[0]))} {kind}", [], 0
    size = prod(layer[0]) * ITEMSIZES[kind]
    for step in planned_back(kind, *layer):
        if step.code.goes_back:
            moved = of(step)
            total += moved.x + moved.bias + moved.out
            columns = (moved.x, moved.again, moved.bias, moved.out)
            found.append([title, step.code.variant.operation, *(f"{n / 1e6:.3f}" for n in columns), ""])
            title = ""
    found[-1][-1] = f"{total / (3 * size):.3f}"
    return found


HEAD_BACK = ["going backward", "kernel", "x", "again", "gradient", "out", "ratio"]
HEAD = ["layer", "kernel", "x", "again", "out", "states", "weights", "extra", "from L2", "sum", "least", "ratio"]
NOTES = """In MB, for normalize in one launch, or moments, merge and apply.
again: of x, what the same kernel reads a second time. states: read, each once, and written.
weights: loads issued; they come from caches, so the sum leaves them out, and the ratio has each element once, as the
least has. extra: loads of the elements from which distances are taken; from caches, too.
from L2: of what is read a second time, what an L2 cache of 50 MB can give at most. The sum and the ratio count it as
moved."""


def main():
    """Print the table."""
    _print([HEAD, *(line for layer in LAYERS for line in lines(*layer))])
    print(f"\n{NOTES}\n")
    _print([HEAD_BACK, *(line for layer in BACK for line in lines_back(*layer))])
    print("\nThe least, a ratio of 1, reads x and the gradient once, and writes once.")


def _print(table):
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for row in table:
        cells = (c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        print("  ".join(cells).rstrip())


if __name__ == "__main__":
    main()
