"""What is baked into kernels: the sizes of elements and vectors, and all that one of them is compiled for."""

from typing import Any, NamedTuple

ITEMSIZES = {"f8": 8, "f4": 4, "f2": 2, "bf": 2, "b1": 1, "i1": 1, "u1": 1, "i2": 2, "u2": 2, "i4": 4, "u4": 4}
ITEMSIZES |= {"i8": 8, "u8": 8}
VECTOR_BYTES = 16  # the widest load
WARP = 32
ACROSS = 8  # threads side by side where pairs of sums are added up
REGISTERS = 1 << 16  # of a multiprocessor
DECLARED = {
    "rows": 768,
    "columns": 8704,
    "chosen": 2560,
}  # bytes of shared memory, at most, that kernels declare for states
MOST, OUTPUTS = 10, 4  # arguments and results of a formula
REALS = ("eps", "momentum", *(f"n{i}" for i in range(MOST)))  # what kernels take as float64; all else is an integer

# How a weight or bias lies along a vector of x.
NONE, ONE, NEAR, FAR = range(4)  # there is none; one for the vector; side by side and aligned; with any step


def is_wide(kind: str) -> bool:
    """Whether elements of a kind are worked on in float64: they have more digits, or range, than float32."""
    return kind not in ("f4", "f2", "bf")


class Code(NamedTuple):
    """What a kernel is compiled for: a variant, and how its work is shared out. Its repr is its name on disk.

    Operations of the families "rows" and "columns" are normalize, moments, apply, and chosen: moments of what a mask,
    in the place of the bias, and weights choose; and going backward (see `kernels.backward`), totals: sums; descend:
    the gradient of x; and backward: both. Of "states", which are merge, merge_chosen, contract, update_running, matvec
    and formula, only the first two numbers count.
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
    skips: bool = False  # chosen: NaN is left out
    squares: bool = False  # chosen: the sum of squared weights is made
    by_row: bool = False  # going backward: the weight, or what is in its place, differs between rows of a group ...
    by_operand: bool = False  # ... where statistics are, since what is added up is no group
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
        """Whether it works in float64: x, the output or its gradient has more digits or range than float32."""
        return is_wide(self.kinds.x) or self.kinds.out == "f8" or (self.goes_back and self.kinds.bias == "f8")

    @property
    def statistics(self) -> bool:
        """Whether they are taken from x, else they are given."""
        return self.variant.operation in ("normalize", "moments")

    @property
    def output(self) -> bool:
        """Whether it is written."""
        return self.variant.operation in ("normalize", "apply", "backward", "descend")

    @property
    def goes_back(self) -> bool:
        """Whether the gradient of the output is in the place of the bias."""
        return self.variant.operation in ("backward", "descend", "totals")

    @property
    def sums(self) -> bool:
        """Whether it takes the sums that going backward is made of."""
        return self.variant.operation in ("backward", "totals")

    @property
    def _differs(self) -> bool:
        """Whether what is in the place of the weight differs within a group, or a column."""
        return self.by_row or (self.family == "rows" and self.weight in (NEAR, FAR))

    @property
    def inside(self) -> bool:
        """Whether sums are taken with weights that differ within a group."""
        return self._differs and not self.by_operand

    @property
    def varying(self) -> bool:
        """Whether statistics differ within what is added up."""
        return self._differs and self.by_operand

    @property
    def alike(self) -> bool:
        """Whether all elements of a vector have the same statistics."""
        return self.weight == ONE if self.by_operand else self.family == "rows"

    @property
    def of_weight(self) -> int:
        """How a weight lies along a vector, if there is one."""
        return NONE if self.by_operand else self.weight

    @property
    def bounds(self) -> tuple[int, ...]:
        """Threads of a block, and how many blocks of them a multiprocessor must have registers for."""
        return (self.block, max(1, REGISTERS // (self.registers * self.block))) if self.registers else (self.block,)
