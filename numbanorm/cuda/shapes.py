"""Launch shapes: how many threads share what, in one table apart from the kernels."""

from dataclasses import dataclass

from ..walk.families import Limits
from .kernels.constants import DECLARED, is_wide

# Where loops belong decides the order of every sum. These are the GPU's own: what is tuned for the CPU must not change
# the results of a GPU.
LIMITS = Limits(lanes=16, long_run=256, tiny_run=8, many_rows=8, max_columns=4096)


@dataclass(frozen=True)
class Team:
    """Threads that share a group of the rows family, or a tile of the columns family.

    Of rows, a group of up to `threads` times `values` elements stays in registers between its statistics and its
    output. Of columns, `threads` lie side by side, and the rest of the block takes further rows.
    """

    threads: int
    values: int  # of one thread, in registers, at most: see `held`
    block: int
    registers: int  # bound: what a thread may use, so that enough of them run at once

    def held(self, kind: str, vector: int, decode: bool) -> int:
        """Values of a kind that a thread holds in registers, in whole vectors.

        Of float64 not half as many, because what is made of them is wider, too; and where rows are looked for, that
        takes registers as well.
        """
        values = self.values * (3 if is_wide(kind) else 8) // 8 * (3 if decode else 4) // 4
        return max(vector, values // vector * vector)


@dataclass(frozen=True)
class Shapes:
    """The whole table."""

    rows: tuple[Team, ...]  # by the size of the group: the first that holds it ...
    loop: Team  # ... and what takes larger ones piece by piece
    columns: tuple[Team, ...]  # by the number of vectors side by side: the first that they fill, else the last
    chosen: tuple[
        Team, ...
    ]  # of groups of which elements are chosen: the first that goes through one in a few turns ...
    backward: tuple[Team, ...]  # going backward, by the size of the group: as `rows`, and the last for larger ones, too
    backward_columns: tuple[Team, ...]  # as `columns`
    cell: int  # elements of a cell, from which on sums are taken of cells: see `cuda.backward`
    members: int  # of a sum of sums, before it is cut into parts
    turns: int  # ... of so many tiles at most; else the last. Columns of such have the teams of all columns.
    states: int  # threads of a block that works on states: of a multiple of warps
    blocks: int  # fewer tasks than this are cut into parts, unless they stay in registers; see `cut_below` ...
    parts: int  # ... for so many blocks
    part: int  # elements of a part at least: its merge must not show
    rounds: int  # times that a block which only writes output fills its registers
    shared: int  # bytes of dynamic shared memory that a block of rows may have ...
    shared_columns: int  # ... and one of columns

    def cut_below(self, kept: bool) -> int:
        """The number of tasks from which on they stay whole.

        Tasks that can be kept in shared memory are cut only if there is not one for each multiprocessor: kept, a byte
        of x is moved once, and in parts twice.
        """
        return self.blocks // 2 if kept else self.blocks


SHAPES = Shapes(
    # A thread that holds 32 float32 takes some 100 registers on compute capability 9.0, and up to 170 on 8.0 if it may;
    # held to 128 there, it spills. With 384 to 512 threads a multiprocessor has 48 to 64 KB on their way from memory,
    # three times what its latency asks for.
    rows=(
        Team(threads=8, values=16, block=128, registers=160),
        Team(threads=16, values=16, block=128, registers=160),
        Team(threads=32, values=16, block=128, registers=160),
        Team(threads=32, values=32, block=128, registers=160),
        Team(threads=64, values=32, block=64, registers=160),
        Team(threads=128, values=32, block=128, registers=160),
        Team(threads=256, values=32, block=256, registers=170),
    ),
    loop=Team(threads=256, values=24, block=256, registers=170),
    columns=(
        # 8 columns of a thread have 16 float64 of statistics, so a thread needs more registers.
        Team(threads=32, values=16, block=128, registers=160),
        Team(threads=8, values=16, block=128, registers=160),
        Team(threads=1, values=16, block=128, registers=160),
    ),
    # Beside each value a thread holds what it counts, and both in float64 while it adds them up: some 150 registers.
    # With three blocks of 128 threads a multiprocessor has 24 KB of x on their way from memory.
    chosen=(
        Team(threads=8, values=16, block=128, registers=160),
        Team(threads=32, values=16, block=128, registers=160),
        Team(threads=128, values=16, block=128, registers=160),
    ),
    # A thread holds the gradient beside x, and weights if they differ.
    backward=(
        Team(threads=8, values=16, block=128, registers=160),
        Team(threads=16, values=16, block=128, registers=160),
        Team(threads=32, values=16, block=128, registers=160),
        Team(threads=64, values=16, block=64, registers=160),
        Team(threads=128, values=16, block=128, registers=160),
        Team(threads=256, values=16, block=256, registers=128),
        Team(threads=512, values=16, block=512, registers=128),
    ),
    # 8 columns of a thread, with both sums and a line for each, take up to 180 registers.
    backward_columns=(
        Team(threads=32, values=16, block=128, registers=200),
        Team(threads=8, values=16, block=128, registers=200),
        Team(threads=1, values=16, block=128, registers=200),
    ),
    cell=16,
    members=4096,
    turns=4,
    states=256,
    blocks=264,  # two for each of the 132 multiprocessors of an H100
    parts=1056,  # four times that, so that the last ones to end do not wait for long
    part=2048,
    rounds=4,
    # A multiprocessor of an H100 has 228 KB, 1 KB less for each block, and kernels declare some of it themselves. One
    # block of rows has 24 KB on their way from memory, enough for its latency; one of columns has 8 KB, so three are
    # to fit, for which there are registers.
    shared=227 * 1024 - DECLARED["rows"],
    shared_columns=228 * 1024 // 3 - 1024 - DECLARED["columns"],
)
