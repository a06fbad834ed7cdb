"""What both engines fulfil: one frame of operands, a plan of steps over it, and ten methods.

All that is the same on the host and on a GPU is written above this interface, in `call`. What a step is made of, only
its own engine knows.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..arrays.memory import Array, Shape
from ..layout import Layout

# What a plan is asked for. normalize: output by the statistics of x's own groups. apply: output by given ones, of which
# m2 is the variance where there is no count. moments: statistics. merge: of the partial states, along their last axis.
# update_running: running statistics move towards the states, by the share `momentum`; one more batch is counted, if
# there is a counter.
Operation = Literal["normalize", "apply", "moments", "merge", "update_running"]


class Frame(NamedTuple):
    """All that a step may read or write: the slots of `walk.slots`, in their order, and the numbers."""

    x: Array | None = None
    out: Array | None = None
    weight: Array | None = None
    bias: Array | None = None
    count: Array | None = None  # type: ignore[assignment]
    mean: Array | None = None
    m2: Array | None = None
    rest: Array | None = None
    part_count: Array | None = None
    part_mean: Array | None = None
    part_m2: Array | None = None
    part_rest: Array | None = None
    board: Array | None = None
    running_mean: Array | None = None
    running_var: Array | None = None
    num_batches_tracked: Array | None = None
    eps: float = 0.0
    center: int = 1  # 0: moments about zero
    momentum: float = 0.0  # negative: the share of the last batch of `num_batches_tracked`
    ddof: int = 0
    eps_on_std: int = 0  # 1: eps is added to the standard deviation, not to the variance


class Kinds(NamedTuple):
    """Element types of a frame, as kernels name them: "f4", "bf", ...; "none" for what is left out."""

    x: str = "none"
    out: str = "none"
    weight: str = "none"
    bias: str = "none"
    mean: str = "f8"
    m2: str = "f8"
    rest: str = "none"
    part_rest: str = "none"
    running_mean: str = "none"
    running_var: str = "none"


class Variant(NamedTuple):
    """What a kernel is compiled for. Its repr is its name on disk."""

    operation: str
    family: str
    kinds: Kinds

    def __str__(self) -> str:
        kinds = [f"{name} {kind}" for name, kind in self.kinds._asdict().items() if kind != "none"]
        return f"{self.family}.{self.operation}({', '.join(kinds)})"


class Plan(NamedTuple):
    """Steps over one frame, for all arrays of the same shapes, strides and dtypes. None: there are no elements."""

    steps: tuple[Any, ...]
    group_shape: Shape
    scratch: Any = None  # what the steps hand to each other: see `Engine.scratch`


# What calls of the same description repeat: see `Engine.bind`.
Repeat = Callable[..., "tuple[Any, Frame | None] | None"]


class Engine(Protocol):
    """Runs plans where its arrays lie."""

    def plan(self, operation: Operation, layout: Layout | None, frame: Frame) -> Plan:
        """Plan an operation; cached. It touches no memory.

        Raises
        ------
        ValueError
            If weight or bias does not broadcast to x, or arrays are not aligned where that is needed.
        TypeError
            If there are no kernels for a dtype.
        """

    def launch(self, step: Any, frame: Frame) -> None:
        """Run a step of a plan; or queue it, on the stream of the arrays."""

    def bind(self, plan: Plan, frame: Frame, out_given: bool, keep: bool = False) -> Repeat | None:
        """Make a call that passed all checks repeatable, for other arrays of its description.

        The result is a function repeat(x, out, weight, bias, running_mean, running_var, eps, addresses): arrays as the
        caller gave them (out None: a new one is made), and `addresses` theirs on a GPU. It gives the output, and a
        frame with states and running statistics where these are to be updated; or None, if memory that it would write
        wants a check. None in its place: such a call has to be checked every time. With `keep` the frame has states in
        any case.
        """

    def empty(self, like: Array, shape: Shape, dtype: Any = np.float64, strides: Shape | None = None) -> Any:
        """A new array where `like` lies, not filled; in C order without strides."""

    def scratch(self, like: Array, plan: Plan) -> Mapping[str, Any]:
        """Memory for what the steps of a plan hand to each other, by slot."""

    def pointwise(self, formula: str, outputs: int, *arrays: Any, dtype: Any = np.float64) -> tuple[Any, ...]:
        """Apply a function of `maths.coefficients` to arrays and numbers that broadcast, element by element in float64.

        It gives so many results, in C order and new unless they equal an argument.
        """

    def matvec(self, matrix: Array, vector: Array) -> Any:
        """A matrix times a vector, in float64."""

    def mean_of_rows(self, table: Array) -> Any:
        """Mean over the first of two axes, in float64."""

    def peek(self, array: Array) -> NDArray[Any] | None:
        """The values of an array; None where looking at them would have to wait."""

    def send(self, array: Array, like: Array) -> Any:
        """An array where `like` lies: the array itself, or a copy if it lies on the host and `like` does not."""


def execute(engine: Engine, plan: Plan, frame: Frame) -> None:
    """Run the steps of a plan over a frame, in order, with what they hand to each other."""
    if plan.scratch is not None:
        scratch = engine.scratch(frame.x, plan)  # type: ignore[arg-type]
        frame = frame._replace(**{slot: array for slot, array in scratch.items() if getattr(frame, slot) is None})
    for step in plan.steps:
        engine.launch(step, frame)
