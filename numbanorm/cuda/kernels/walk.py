"""Reading a launch's table (see `walk.slots`), and finding the place of an element.

A place is the byte offsets of x, out, weight and bias, and the group's index.
"""

from ...walk.slots import BASE, BIAS, GROUP, INNER, LOOP, LOOPS, OUT, OUTER, REPEATS, ROWS, SETTINGS, SIZE, WEIGHT, X
from .machine import device, divide, load_int

# Of a table, beside what `walk.slots` has. `plan` fills them in this order.
PARTS, PART_SIZE, TASKS, UNITS, ROW_COUNT, MERGED, KINDS = range(SETTINGS, SETTINGS + 7)
MEAN_STEP, VAR_STEP = PARTS, PART_SIZE  # of running statistics: bytes from one to the next


@device
def parted(index, parts):
    """An index of parts of what is cut: the index of the whole, and of the part in it."""
    if parts > 1:  # a division of 64 bits takes as long as reading from L2
        whole = divide(index, parts)
        return whole, index - whole * parts
    return index, 0


@device
def moved(table, place, entry, steps):
    """A place, that many steps on along the loop at `entry`."""
    x, out, weight, bias, group = place
    return (
        x + steps * load_int(table, entry + X),
        out + steps * load_int(table, entry + OUT),
        weight + steps * load_int(table, entry + WEIGHT),
        bias + steps * load_int(table, entry + BIAS),
        group + steps * load_int(table, entry + GROUP),
    )


@device
def located(table, place, at, count, index):
    """A place, at `index` of `count` nested loops from entry `at` on."""
    loop = count - 1
    while loop > 0:  # a range downwards costs a kernel more than what is in the loop
        entry = at + loop * LOOP
        size = load_int(table, entry + SIZE)
        above = divide(index, size)
        place = moved(table, place, entry, index - above * size)
        index = above
        loop -= 1
    if count > 0:
        place = moved(table, place, at, index)
    return place


@device
def outer_place(table, index):
    """The place at an index of the kept loops outside."""
    base = load_int(table, BASE), load_int(table, BASE + 1), load_int(table, BASE + 2), load_int(table, BASE + 3)
    return located(table, base + (load_int(table, BASE + 4),), LOOPS, load_int(table, OUTER), index)


@device
def row_place(table, place, row):
    """A place, at a row of its group: the reduced loops around the innermost."""
    if load_int(table, REPEATS) > 1:
        rows = load_int(table, ROWS + SIZE)
        repeat = divide(row, rows)
        row -= repeat * rows
        place = located(table, place, LOOPS + load_int(table, OUTER) * LOOP, load_int(table, INNER), repeat)
    return moved(table, place, ROWS, row)
