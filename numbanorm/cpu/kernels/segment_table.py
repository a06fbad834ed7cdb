"""Entries of the tables that the kernels over segments read, int64 numbers: see `cpu.segments`, which writes them.

Behind these entries stand the bounds of bundles, the tasks, and a table as all other kernels read (`walk.slots`), for
one segment. A kernel has a copy of that table, and puts a segment's sizes into it before it walks the segment.
"""

from ...walk.slots import LOOP

OFFSETS = 0  # address of the offsets
BUNDLES, TASKS, TABLE, TABLE_SIZE = 1, 2, 3, 4  # where they begin, and how long the table is
UNITS = 5  # of a segment: groups, or tiles of columns, which are walked one by one
GROUPS = 6  # of a segment
ENTRY = 7  # of the loop over rows of x, in the table of one segment ...
STEPS = 8  # ... and its steps for each of these rows: more than one where it was merged with a loop inside of it
REPEATS_OF_ROW = 9  # if that loop is an inner one: their repeats for each row of x; else 0
SIZE_OF_ROW = 10  # elements of a group, or rows of columns, for each row of x
PART_SIZE = 11  # of a part of a long segment, in these
REVERSED = 12  # whether rows are walked from the last to the first
SHORT = 13  # whether segments are one run each, so that several short ones are settled together
PIXELS = 14  # rows of x that are walked side by side, as columns, where there are enough: see `columns`; else 1
TILE = 15  # of the table: columns of a task, groups walked side by side
ROW = 16  # the loop over rows of x as it is: its steps lead to a segment
ENTRIES = ROW + LOOP

# A task: units from, to; if parts of one unit are added up, the first of them, the one behind the last, and the place
# of the unit's states among those of parts. Where output is written, rows of x from, to, in place of parts.
UNIT, LAST_UNIT, BEGIN, END, PLACE = range(5)
TASK = 5
WHOLE = -1  # as BEGIN: units as a whole
LEAST_ROWS = 2  # of several rows of x side by side: fewer do not earn back the merge of the columns
