"""Hypothesis strategies: arrays of any dtype and memory order, groupings with ids made by hand, and loop nests."""

from dataclasses import dataclass, field
from math import prod

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

import numbanorm as nbn
from numbanorm.cpu.tuning import TUNING
from numbanorm.layout import Factor
from numbanorm.layout import Grouping as Resolved
from numbanorm.walk import nest

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = [np.dtype(t) for t in ("float64", "float32", "float16")] + [BFLOAT16]
INTEGERS = [np.dtype(t) for t in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")]
SWAPPED = [np.dtype(t).newbyteorder() for t in ("float64", "float32", "float16", "int32")]
ALONE = [np.dtype(t) for t in ("int8", "uint16", "int64", "bool", np.dtype("float32").newbyteorder())]
DTYPES = [*FLOATS, *INTEGERS, np.dtype(bool), *SWAPPED]

# Around the lanes of a vector (16, 32) and their tails, and beyond a block of 64 rows.
SIZES = [1, 2, 3, 7, 8, 16, 17, 31, 33, 49, 64, 65, 129]
MAX_SIZE = 6000
NAMES = "n c h w d g p q a b t batch x1 s_2 Width".split()

ORDERS = ["C", "F", "permuted", "stepped", "reversed", "broadcast", "unaligned", "read-only"]


# groupings --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Grouping:
    """A shape, how to ask for its groups (`layout` or `axis`, and sizes), and the group of each element by hand."""

    shape: tuple
    group_shape: tuple
    ids: np.ndarray = field(repr=False)
    layout: object = None
    keywords: dict = field(default_factory=dict)

    @property
    def num_groups(self):
        return int(np.prod(self.group_shape, dtype=np.int64))

    def as_layout(self):
        """The Layout that means the same as `layout` and `keywords`."""
        if isinstance(self.layout, str):
            return nbn.Layout(self.layout, **self.keywords)
        if self.layout is not None:
            return self.layout
        axis = self.keywords.get("axis")
        return nbn.Layout.axes(tuple(range(len(self.shape))) if axis is None else axis)


def ids_by_hand(sizes, kept):
    """Ids in an array whose axes have these sizes, before merging any: C order over the kept axes, in their order."""
    index = np.indices(sizes, dtype=np.int64) if sizes else np.zeros((0,), np.int64)
    ids = np.zeros(sizes, np.int64)
    for axis in kept:
        ids = ids * sizes[axis] + index[axis]
    return ids


def random_shape(rng, ndim, max_size):
    """Axes around the lanes and blocks; now and then a long one or an empty one."""
    shape = [1] * ndim
    order = list(rng.permutation(ndim))
    if order and max_size >= MAX_SIZE and rng.random() < 0.2:
        shape[order.pop()] = int(rng.integers(1000, 5001))
    while order:
        room = max_size / max(np.prod(shape), 1)
        shape[order.pop()] = int(rng.choice([s for s in SIZES if s <= max(room ** (0.6 if order else 1.0), 1)]))
    if ndim and rng.random() < 0.05:
        shape[rng.integers(ndim)] = 0
    return tuple(shape)


def axis_grouping(rng, shape):
    """``axis=``: an integer, a tuple in any order, negative or not, or nothing at all."""
    ndim = len(shape)
    if rng.random() < 0.1:
        return Grouping(shape, (), ids_by_hand(shape, []))
    reduced = [int(a) for a in rng.permutation(ndim)[: rng.integers(ndim + 1)]]
    axis = tuple(a - ndim if rng.random() < 0.5 else a for a in reduced)
    kept = [a for a in range(ndim) if a not in reduced]
    keywords = {"axis": axis[0] if len(axis) == 1 and rng.random() < 0.5 else axis}
    return Grouping(shape, tuple(shape[a] for a in kept), ids_by_hand(shape, kept), None, keywords)


def named_grouping(rng, shape):
    """The named constructors, for two axes or more."""
    ndim, kind = len(shape), rng.choice(["batch", "instance", "layer", "group"])
    if kind == "layer":
        num_axes = int(rng.integers(1, ndim + 1))
        kept = range(ndim - num_axes)
        return Grouping(shape, shape[: len(kept)], ids_by_hand(shape, kept), nbn.Layout.layer(num_axes))
    channel = int(rng.integers(1, ndim))
    given_axis = channel - int(rng.choice([0, ndim]))
    if kind == "batch":
        return Grouping(shape, (shape[channel],), ids_by_hand(shape, [channel]), nbn.Layout.batch(given_axis))
    if kind == "instance":
        layout = nbn.Layout.instance(given_axis)
        return Grouping(shape, (shape[0], shape[channel]), ids_by_hand(shape, [0, channel]), layout)
    num_groups = int(rng.choice(divisors(shape[channel])))
    split = (*shape[:channel], num_groups, shape[channel] // num_groups, *shape[channel + 1 :])
    ids = ids_by_hand(split, [0, channel]).reshape(shape)
    return Grouping(shape, (shape[0], num_groups), ids, nbn.Layout.group(num_groups, given_axis))


def divisors(size):
    return [d for d in range(1, size + 1) if size % d == 0] or [1, 2, 3]


def split_axis(rng, size, names):
    """One axis cut into named factors: [(name, size)], how the pattern writes them, and the sizes to be given."""
    factors, rest = [], size
    while len(factors) < 2 and rest != 1 and rng.random() < 0.4:
        factors.append(int(rng.choice(divisors(rest))))
        rest //= factors[-1]
    factors.insert(rng.integers(len(factors) + 1), rest)
    named = [(names.pop(), factor) for factor in factors]
    if len(named) == 1:
        return named, named[0][0], {}
    unknown = str(rng.choice([name for name, factor in named if factor == 0] or ["", *dict(named)]))
    return named, f"({' '.join(dict(named))})", {n: s for n, s in named if n != unknown}


def merge_some(rng, items):
    """Cut a list into pieces of one item, or of two or three: the parentheses of a right side."""
    pieces = []
    while items:
        length = 1 if items[0][0] == "..." else rng.choice([1, 1, 1, 2, 3])
        piece, items = items[:length], items[length:]
        dots = [i for i, (text, _) in enumerate(piece) if text == "..."]
        if len(piece) > 1 and dots:
            piece, items = piece[: dots[0]], piece[dots[0] :] + items
        pieces.append(piece)
    return pieces


def pattern_grouping(rng, shape):
    """Patterns: factorised axes, windows, an ellipsis; the right side in any order, merged axes, ones."""
    names, ndim = rng.permutation(NAMES).tolist(), len(shape)
    start = int(rng.integers(ndim + 1)) if rng.random() < 0.4 else None  # where the ellipsis stands
    hidden = range(start, int(rng.integers(start, ndim + 1))) if start is not None else ()
    left, items, sizes, given_sizes = [], [], [], {}  # items: what may be kept, with its places in `sizes`
    for axis in range(ndim + 1):
        if axis == start:
            left.append("...")
            items.append(("...", range(len(sizes), len(sizes) + len(hidden))))
            sizes += [shape[a] for a in hidden]
        if axis == ndim or axis in hidden:
            continue
        if shape[axis] == 1 and rng.random() < 0.3:
            left.append("1")
            continue
        named, text, known = split_axis(rng, shape[axis], names)
        left.append(text)
        given_sizes |= known
        items += [(name, [len(sizes) + i]) for i, (name, _) in enumerate(named)]
        sizes += [size for _, size in named]
    kept = [items[i] for i in rng.permutation(len(items)) if rng.random() < 0.5]
    right, group_shape = [], []
    for piece in merge_some(rng, kept):
        piece_sizes = [sizes[a] for _, places in piece for a in places]
        merged = len(piece) > 1
        right.append(f"({' '.join(text for text, _ in piece)})" if merged else piece[0][0])
        group_shape += [int(np.prod(piece_sizes))] if merged else piece_sizes
        if rng.random() < 0.1:
            right.append("1")
            group_shape.append(1)
    ids = ids_by_hand(tuple(sizes), [a for _, places in kept for a in places]).reshape(shape)
    return Grouping(shape, tuple(group_shape), ids, f"{' '.join(left)} -> {' '.join(right)}", given_sizes)


# A range this small is drawn evenly; hypothesis favours short numbers in a larger one.
RANDOM = st.integers(0, 2**24 - 1).map(np.random.default_rng)


@st.composite
def groupings(draw, kinds=(pattern_grouping, axis_grouping, named_grouping), max_size=MAX_SIZE):
    """One seed is all that Hypothesis draws here: with a draw for each choice it repeats small cases."""
    rng = draw(RANDOM)
    kind = kinds[rng.integers(len(kinds))]
    ndim = rng.choice(6, p=[0.02, 0.08, 0.3, 0.3, 0.18, 0.12])
    return kind(rng, random_shape(rng, max(ndim, 2) if kind is named_grouping else ndim, max_size))


# arrays -----------------------------------------------------------------------------------------------------------


def is_float(dtype):
    return dtype == BFLOAT16 or dtype.kind == "f"


def values(rng, shape, dtype, kind):
    """Numbers that `dtype` holds. `kind`: centred, offset, constant, outlier (a group's first value, perhaps)."""
    if dtype.kind == "b":
        return np.asarray(rng.random(shape) < (0.0 if kind == "constant" else 0.4))
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        low, high = (info.min, info.max) if kind == "centred" else (max(info.min, 90), 120)
        low = high if kind == "constant" else low
        return np.asarray(rng.integers(low, high, shape, dtype.newbyteorder("="), endpoint=True), dtype)
    largest = 3 if dtype.itemsize == 2 else 6 if dtype.itemsize == 4 else 9
    scale = 10.0 ** rng.integers(-2, 3)
    offset = 0.0 if kind == "centred" else scale * 10.0 ** rng.integers(0, largest - 1) * rng.choice([-1, 1])
    x = np.asarray(offset + (0.0 if kind == "constant" else scale) * rng.standard_normal(shape))
    if kind == "outlier" and x.size:
        x.reshape(-1)[0] = 100 * scale
    return x.astype(dtype)


def arrange(rng, x, order):
    """An array equal to `x`, laid out in memory in another way ("broadcast" makes one axis constant first)."""
    if order == "F":
        return np.array(x, order="F")
    if order == "permuted":
        axes = rng.permutation(x.ndim)
        return np.array(x.transpose(axes), order="C").transpose(np.argsort(axes))
    if order in ("stepped", "reversed"):
        steps = rng.integers(1, 4, x.ndim) if order == "stepped" else rng.choice([-1, 1, -2], x.ndim)
        home = np.zeros([size * abs(int(step)) for size, step in zip(x.shape, steps, strict=True)], x.dtype)
        view = home[(..., *(slice(None, None, int(step)) for step in steps))]
        view[...] = x
        return view
    if order == "broadcast" and x.ndim and x.size:
        axis = int(rng.integers(x.ndim))
        return np.broadcast_to(x.take([0], axis), x.shape)
    if order == "unaligned":
        view = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
        view[...] = x
        return view
    x = np.array(x, order="C")
    x.flags.writeable = order != "read-only"
    return x


@st.composite
def arrays(draw, shape, dtypes=DTYPES, special=True):
    """Values of any distribution in any memory order, with NaN and infinities now and then where the dtype has them."""
    dtype, order = draw(st.sampled_from(dtypes)), draw(st.sampled_from(ORDERS))
    kind = draw(st.sampled_from(["centred", "offset", "outlier", "constant"]))
    rng = draw(RANDOM)
    x = values(rng, shape, dtype, kind)
    if special and x.size and is_float(dtype) and rng.random() < 0.1:
        for _ in range(3):
            x[tuple(rng.integers(x.shape))] = rng.choice([np.nan, np.inf, -np.inf])
    return arrange(rng, x, order)


def native_float(dtype):
    return dtype.newbyteorder("=") if dtype.kind == "f" else np.dtype("float64")


def pairs_of(dtype):
    """The dtypes of weight and bias that the tests use with `dtype` (None: none): each pair is compiled, for 10 s."""
    if not is_float(dtype) or not dtype.isnative:
        return [(None, None)] if dtype in ALONE else [(native_float(dtype),) * 2]
    if dtype.itemsize == 2:
        return [(None, None), (dtype, dtype), ("float32", "float32")]
    pairs = [(None, None), (dtype, dtype), (dtype, None), (None, dtype)]
    return pairs if dtype.itemsize == 8 else [*pairs, ("float64", "float64")]


@st.composite
def parameters(draw, x):
    """A weight and a bias that broadcast against `x`, or None."""
    pair = draw(st.sampled_from(pairs_of(x.dtype)))
    rng = draw(RANDOM)

    def make(dtype):
        shape = [1 if rng.random() < 0.3 else size for size in x.shape[rng.integers(x.ndim + 1) :]]
        return arrange(rng, np.asarray(rng.standard_normal(shape)).astype(dtype), rng.choice(["C", "F", "stepped"]))

    return tuple(dtype and make(dtype) for dtype in pair)


# loop nests -------------------------------------------------------------------------------------------------------

LIMITS = TUNING.limits
LOOP_SIZES = [2, 3, LIMITS.lanes - 1, LIMITS.lanes, 49, LIMITS.long_run - 1, LIMITS.long_run, 1000, TUNING.tile + 1]
LOOP_SIZES += [LIMITS.max_columns, LIMITS.max_columns + 1, 100_000]


def contiguous(sizes, order, itemsize):
    """Byte strides of a contiguous array whose axes lie in memory in this order, the last the innermost."""
    strides, step = [0] * len(sizes), itemsize
    for axis in reversed(order):
        strides[axis] = step
        step *= sizes[axis]
    return strides


@st.composite
def nests(draw):
    """The nest of any array of up to 2^40 elements: axes kept or reduced, x and out in an order of their own."""
    rng = draw(RANDOM)
    sizes = [int(rng.choice(LOOP_SIZES)) for _ in range(rng.integers(7))]
    while prod(sizes) > 2**40:
        sizes.remove(max(sizes))
    ndim = len(sizes)
    kept = rng.random(ndim) < 0.5
    among_kept = contiguous([s if k else 1 for s, k in zip(sizes, kept, strict=True)], range(ndim), 1)
    factors = [Factor(i, sizes[i], 1, among_kept[i] if kept[i] else 0) for i in range(ndim)]
    order = rng.permutation(ndim) if rng.random() < 0.5 else range(ndim)
    x = contiguous(sizes, order, 4)
    if rng.random() < 0.3:
        x = [s * int(rng.choice([1, 1, 2, -1])) for s in x]
    out = None if rng.random() < 0.3 else x if rng.random() < 0.7 else contiguous(sizes, rng.permutation(ndim), 4)
    along = [s if rng.random() < 0.5 else 0 for s in contiguous(sizes, order, 4)]
    weight, bias = ((along if rng.random() < 0.7 else None) for _ in range(2))
    group_shape = tuple(s for s, k in zip(sizes, kept, strict=True) if k)
    return nest.build(Resolved(tuple(factors), group_shape), [x, out, weight, bias])
