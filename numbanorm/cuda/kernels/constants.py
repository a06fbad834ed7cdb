"""What is baked into kernels: the sizes of elements and vectors, and all that one of them is compiled for."""

from typing import Any, NamedTuple

ITEMSIZES = {"f8": 8, "f4": 4, "f2": 2, "bf": 2, "b1": 1, "i1": 1, "u1": 1, "i2": 2, "u2": 2, "i4": 4, "u4": 4}
ITEMSIZES |= {"i8": 8, "u8": 8}
VECTOR_BYTES = 16  # the widest load
WARP = 32
REGISTERS = 1 << 16  # of a multiprocessor
DECLARED = {"rows": 768, "columns": 8704}  # bytes of shared memory, at most, that kernels declare for states
MOST, OUTPUTS = 10, 3  # arguments and results of a formula
REALS = ("eps", "momentum", *(f"n{i}" for i in range(MOST)))  # what kernels take as float64; all else is an integer

# How a weight or bias lies along a vector of x.
NONE, ONE, NEAR, FAR = range(4)  # there is none; one for the vector; side by side and aligned; with any step


def is_wide(kind: str) -> bool:
    """Whether elements of a kind are worked on in float64: they have more digits, or range, than float32."""
    return kind not in ("f4", "f2", "bf")


class Code(NamedTuple):
    """What a kernel is compiled for: a variant, and how its work is shared out. Its repr is its name on disk.

    Operations of the families "rows" and "columns" are normalize, moments and apply; of "states", which are merge,
    update_running, matvec and formula, only the first two numbers count.
    """

    variant: Any  # an `engine.interface.Variant`: operation, family, kinds of elements
    block: int  # its threads
    vector: int = 1  # elements of a load
    threads: int = 1  # of a team; or across the columns
    values: int = 1  # of a thread, in registers
    registers: int = 0  # bound; 0: there is none
    whole: bool = False  # all of a task stays in registers
    near: bool = False  # along the innermost loop, the elements of x, and of out, are next to each other
    span: bool = False  # columns: `high` and `low` are one run, in x, out, weight and bias
    decode: bool = False  # rows: what a task walks is no single run; columns: weight and bias differ from row to row
    weight: int = NONE  # how it lies along a vector
    bias: int = NONE
    kept: bool = False  # what a block can no longer hold in registers stays in shared memory until the output
    function: Any = None  # of a formula, how many arrays it takes, and how many results it gives
    arrays: int = 0
    outputs: int = 0

    @property
    def family(self) -> str:
        """Which kernels walk it."""
        return self.variant.family

    @property
    def kinds(self) -> Any:
        """Element types, by slot."""
        return self.variant.kinds

    @property
    def wide(self) -> bool:
        """Whether it works in float64: x, or the output, has more digits or range than float32."""
        return is_wide(self.kinds.x) or self.kinds.out == "f8"

    @property
    def statistics(self) -> bool:
        """Whether they are taken from x, else they are given."""
        return self.variant.operation in ("normalize", "moments")

    @property
    def output(self) -> bool:
        """Whether it is written."""
        return self.variant.operation in ("normalize", "apply")

    @property
    def bounds(self) -> tuple[int, ...]:
        """Threads of a block, and how many blocks of them a multiprocessor must have registers for."""
        return (self.block, max(1, REGISTERS // (self.registers * self.block))) if self.registers else (self.block,)
