"""What the norms by channel share: x's shape, and weight and bias of one value a channel."""

from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

from ..arrays.memory import Array
from ..arrays.take import shape_of, view
from ..layout import as_int


class Shape(NamedTuple):
    """What a norm by channel needs to know of x's shape."""

    shape: tuple[int, ...]
    axis: int
    channels: int
    values: int  # of one channel
    spatial: int  # values of one channel of one sample

    @classmethod
    @lru_cache(maxsize=1024)
    def of(cls, shape: tuple[int, ...], channel_axis: int) -> "Shape":
        """Read a shape, or refuse it."""
        if len(shape) < 2:
            raise ValueError(
                f"x has shape {shape}; a norm by channel needs two axes or more, samples and channels"
                "; for one sample pass x[None]"
            )
        if not -len(shape) <= channel_axis < len(shape):
            raise ValueError(
                f"channel_axis={channel_axis} is out of range for x of shape {shape}; use {-len(shape)} to "
                f"{len(shape) - 1}"
            )
        axis = channel_axis % len(shape)
        values = prod(n for i, n in enumerate(shape) if i != axis)
        spatial = prod(n for i, n in enumerate(shape) if i not in (0, axis))
        return cls(shape, axis, shape[axis], values, spatial)

    def check_training(self) -> None:
        """Refuse one value a channel: it has no spread to learn from."""
        if self.values == 1:
            raise ValueError(
                f"training needs more than one value a channel; x has shape {self.shape}, pass a larger batch"
            )


def no_vector(name: str, given: tuple[int, ...], x: Shape) -> str:
    """A message for an argument that has not one value a channel."""
    fits = f"{name} has shape {given}, but x of shape {x.shape} has {x.channels} channels on axis {x.axis}; "
    if given == ():
        return f"{fits}for one number for all pass numpy.full({x.channels}, {name}), of shape ({x.channels},)"
    if prod(given) == x.channels:
        return f"{fits}pass shape ({x.channels},), as {name}.reshape(-1) has it"
    return f"{fits}pass shape ({x.channels},){other_axis(x, given[0]) if len(given) == 1 else ''}"


def other_axis(x: Shape, channels: int) -> str:
    """The end of a message: where else as many channels may lie as a caller means; empty if nowhere."""
    last = len(x.shape) - 1
    found = [axis for axis in (last, *range(1, last)) if axis != x.axis and x.shape[axis] == channels]
    if not found:
        return ""
    of_last = "-1, for channels last" if found[0] == last else str(found[0])
    return f"; or channel_axis={of_last}, if the channels are the {channels} on axis {found[0]}"


class Channels(NamedTuple):
    """x's shape, and weight and bias shaped to broadcast along the channel axis."""

    x: Shape
    weight: Array | None
    bias: Array | None

    @classmethod
    def of(cls, x: Any, channel_axis: int, weight: Any, bias: Any) -> "Channels":
        """Read x's shape, and check weight and bias against it."""
        bare = cls(Shape.of(shape_of(x), as_int(channel_axis, "channel_axis")), None, None)
        if weight is None and bias is None:
            return bare
        return cls(
            bare.x,
            None if weight is None else bare.vector(weight, "weight"),
            None if bias is None else bare.vector(bias, "bias"),
        )

    def along(self, vector: Array) -> Array:
        """A vector of one value a channel, shaped to broadcast along the channel axis."""
        return vector.reshape((self.x.channels, *(1,) * (len(self.x.shape) - 1 - self.x.axis)))

    def by_sample(self, table: Array) -> Array:
        """A table of one value for each sample and channel, shaped to broadcast along all other axes."""
        return table.reshape(tuple(n if i in (0, self.x.axis) else 1 for i, n in enumerate(self.x.shape)))

    def vector(self, value: Any, name: str) -> Array:
        """Check an argument of one value a channel, and shape it to broadcast."""
        if isinstance(value, bool) and name in ("weight", "bias"):
            raise TypeError(
                f"{name} must have one value a channel, got {value}; pass flags by name, as training={value}"
            )
        array: Array = view(value, name)
        if array.shape != (self.x.channels,):
            raise ValueError(no_vector(name, array.shape, self.x))
        return self.along(array)

    @property
    def factors(self) -> tuple[Array | float, Array | float]:
        """Weight and bias as vectors; where there is none, a number that changes nothing, not even the sign of 0."""
        return (
            1.0 if self.weight is None else self.weight.reshape((self.x.channels,)),
            -0.0 if self.bias is None else self.bias.reshape((self.x.channels,)),
        )
