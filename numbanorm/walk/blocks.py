"""A layout on an array that is cut into blocks: what it makes of one block, and which groups those are.

An axis that a layout splits into factors may be cut between two steps of its slowest factor only: at multiples of its
`unit`. Then one pattern serves every block. Of its groups, those axes come first whose slowest factor is kept, in
order: there a block has some of the groups, in a slice. Behind them come all other kept factors, of which it has all.
"""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

from ..layout import Layout


class Blocks(NamedTuple):
    """A layout, ready for the blocks of arrays of one shape."""

    layout: Layout  # of a block
    units: tuple[int, ...]  # of every axis
    outer: tuple[int, ...]  # the axes whose slowest factor is kept
    inner: tuple[int, ...]  # sizes of the other kept factors
    order: tuple[int, ...]  # for each kept factor, as the caller's groups have them, its place among those of a block
    reduced: tuple[bool, ...]  # of every axis, whether its slowest factor is reduced
    labels: tuple[int, ...]  # of every axis, how much its further factors reduce; 0: nothing of it is reduced

    def groups_of(self, block: Sequence[slice]) -> tuple[slice, ...]:
        """Where the groups of a block lie among all."""
        return tuple(slice(block[a].start // self.units[a], block[a].stop // self.units[a]) for a in self.outer)

    def shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Of the groups of an array, or a block, as blocks have them."""
        return (*(shape[a] // self.units[a] for a in self.outer), *self.inner)

    def to_callers(self, states: Any, shape: tuple[int, ...]) -> Any:
        """Statistics of all groups, with those axes in the order and shape that the caller's layout has."""
        return states.transpose(self.order).reshape(shape)

    def from_callers(self, states: Any, shape: Sequence[int]) -> Any:
        """The other way round: as blocks of an array of this shape have them."""
        sizes = self.shape(shape)
        inverse = sorted(range(len(self.order)), key=self.order.__getitem__)
        return states.reshape([sizes[place] for place in self.order]).transpose(inverse)


def blocks_of(layout: Layout, shape: Sequence[int]) -> Blocks:
    """Make a layout ready for the blocks of an array, which has no axis of length 0.

    Raises
    ------
    ValueError
        If the layout does not fit the shape.
    TypeError
        If it is of segments.
    """
    left, right = layout.left_side(len(shape)), layout.right_side(len(shape))
    factors = iter(layout.resolve(shape).factors)
    sizes = [[next(factors).size for _ in item] for item in left]
    names = [_names(axis, len(item)) for axis, item in enumerate(left)]
    renamed = {
        old: new for item, new_item in zip(left, names, strict=True) for old, new in zip(item, new_item, strict=True)
    }
    size_of = {name: n for item, ns in zip(names, sizes, strict=True) for name, n in zip(item, ns, strict=True)}
    callers = [renamed[name] for item in right for name in item]
    kept = set(callers)
    outer = [axis for axis, item in enumerate(names) if item and item[0] in kept]
    inner = [name for item in names for name in item[1:] if name in kept]
    of_block = [*(names[axis][0] for axis in outer), *inner]
    text = f"{' '.join(map(_written, names))} -> {' '.join(of_block)}"
    further = [[name for name in item[1:] if name not in kept] for item in names]
    return Blocks(
        Layout(text, **{name: size_of[name] for item in names for name in item[1:]}),
        tuple(prod(ns[1:]) for ns in sizes),
        tuple(outer),
        tuple(size_of[name] for name in inner),
        tuple(of_block.index(name) for name in callers),
        tuple(bool(item) and item[0] not in kept for item in names),
        tuple(
            0 if all(name in kept for name in item) else prod(size_of[name] for name in rest)
            for item, rest in zip(names, further, strict=True)
        ),
    )


def _names(axis: int, number: int) -> tuple[str, ...]:
    return (f"d{axis}",) if number == 1 else tuple(f"d{axis}_{i}" for i in range(number))


def _written(item: tuple[str, ...]) -> str:
    return item[0] if len(item) == 1 else f"({' '.join(item)})" if item else "1"
