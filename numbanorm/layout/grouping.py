"""What a layout makes of one shape: every axis in factors, of which some are kept and some are reduced."""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from ..patterns import Axis
from .arguments import names_of_divisors


class Factor(NamedTuple):
    """One factor of an array axis: `size` steps, each of `stride` elements along `axis`.

    `group_stride` is its stride in the flattened statistics, 0 where it is reduced.
    """

    axis: int
    size: int
    stride: int
    group_stride: int


class Grouping(NamedTuple):
    """A Layout applied to one shape: the factors of every axis in order, and the shape of the statistics."""

    factors: tuple[Factor, ...]
    group_shape: tuple[int, ...]

    @property
    def group_size(self) -> int:
        """How many elements a group has."""
        return prod(factor.size for factor in self.factors if not factor.group_stride)


def grouping_of(
    left: Sequence[Axis], right: Sequence[Axis], sizes: dict[str, int], text: str, shape: tuple[int, ...]
) -> Grouping:
    """Both sides of a pattern applied to a shape; `text`: the layout, for messages."""
    sizes = dict(sizes)
    for item, length in zip(left, shape, strict=True):
        _factorise(item, length, sizes, text, shape)
    group_shape = tuple(prod(sizes[name] for name in item) for item in right)
    group_strides, stride = {}, 1
    for name in reversed([name for item in right for name in item]):
        group_strides[name] = stride
        stride *= sizes[name]
    factors = []
    for axis, item in enumerate(left):
        stride = prod(sizes[name] for name in item)
        for name in item:
            stride = stride // sizes[name] if sizes[name] else 0
            factors.append(Factor(axis, sizes[name], stride, group_strides.get(name, 0)))
    return Grouping(tuple(factors), group_shape)


def _factorise(item: Axis, length: int, sizes: dict[str, int], text: str, shape: tuple[int, ...]) -> None:
    """Find the one unknown size of an axis, or check that the known ones fit."""
    unknown = [name for name in item if name not in sizes]
    known = prod(sizes[name] for name in item if name in sizes)
    written = f"({' '.join(item)})" if len(item) != 1 else item[0]
    if len(unknown) > 1:
        raise ValueError(
            f"{text} on shape {shape}: {written} needs all sizes but one; give {' or '.join(f'{n}=' for n in unknown)}"
        )
    if unknown:
        if length % known:
            given = ", ".join(f"{name}={sizes[name]}" for name in item if name in sizes)
            fits = f"; {names_of_divisors(length)} would" if len(item) == 2 else ""
            raise ValueError(
                f"{text} on shape {shape}: {given} does not divide {length}, the length of {written}{fits}"
            )
        sizes[unknown[0]] = length // known
    elif known != length:
        given = ", ".join(f"{name}={sizes[name]}" for name in item) or "1"
        raise ValueError(f"{text} on shape {shape}: {written} with {given} is {known} long, but the axis is {length}")
