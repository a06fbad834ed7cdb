"""Entries of the tables that the kernels of `labels` read, int64 numbers.

No other table has addresses in it: the memory of labels and of their states belongs to one call, and so does its table.
Loops are those of `walk.slots`, six entries each. In a loop over reduced elements, the step of the group's index is
that of the labels, in bytes.
"""

from ...walk.slots import LOOP

# Addresses: of the labels, of the table of states, of how many values each row of it has (where groups lie side by
# side), of what is known of blocks of labels, of the bounds of label ranges, of the low parts of the means (0: nobody
# wants them), and of the coefficients of the output.
LABELS, STATES, COUNTS, BLOCKS, CUTS, REST, COEFFICIENTS = range(7)
CODE = 7  # bytes of a label, negative if it is unsigned
DIRECT = 8  # whether labels of a loop lie side by side as int64, and need no copy
NUM_LABELS, GROUPS, ELEMENTS = 9, 10, 11  # ELEMENTS: in a group before it is split
PARTS, PART_SIZE, RANGES = 12, 13, 14
SET, ROW, HEAD, PADDED = 15, 16, 17, 18  # of the table of states, in numbers: see `cpu.labels.Schedule`
TILE, TILES = 19, 20  # columns of a task, and how many tiles there are
CHUNK, PAIRS = 21, 22  # of the merge: pairs of outer group and label in a task, and in all; or states, of coefficients
FAR = 23  # whether states lie beyond the cache, so that they are asked for ahead
END = 24  # bytes of x from its first element on that may be read
STRAYS = 25  # address of what each task tells where labels have no ranges: whether it met any that may be too high
STREAM = 26  # whether output that lies side by side is written past the cache
KEPT, REDUCED = 27, 28  # how many loops there are of each
BASE = 29  # offsets of x, out, weight, bias, the group's index, and the labels
RUN = BASE + 6  # the innermost reduced loop
COLUMN = RUN + LOOP  # the loop over groups side by side
LOOPS = COLUMN + LOOP  # the kept ones, then the reduced ones

SEGMENT = 1024  # labels that are read at once: 8 KB of the first-level cache
SCAN = 4 * SEGMENT  # labels of a block of which it is known ...
BLOCK_WORDS = 3  # ... what its lowest and its highest label is, and whether most equal the one before
SPARE = 8  # states of chosen elements behind those of all labels, for what does not count: one waits for its last sum
