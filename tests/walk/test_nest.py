"""LoopNest against NumPy: its loops visit what strides and `group_ids` say, no more and no less."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import ORDERS, RANDOM, arrange, groupings

import numbanorm as nbn
from numbanorm.walk import nest

OWNED = [order for order in ORDERS if order != "broadcast"]  # what an output may be


def steps_of(offset_strides, shape):
    """The sum of index * stride, for every element of a shape."""
    total = np.zeros(shape, np.int64)
    for axis, (size, stride) in enumerate(zip(shape, offset_strides, strict=True)):
        along = [1] * len(shape)
        along[axis] = size
        total += (np.arange(size) * stride).reshape(along)
    return total.ravel()


def as_sorted(columns):
    columns = [np.asarray(c) for c in columns]
    return np.stack(columns)[:, np.lexsort(columns)]


def expected_visits(layout, shape, strides):
    """Byte offsets of x, out, weight and bias, and the group, of every element; sorted."""
    offsets = [steps_of(s or (0,) * len(shape), shape) for s in strides]
    return as_sorted([*offsets, layout.group_ids(shape).ravel()])


def visits(made):
    """The same from the loops."""
    shape = [loop.size for loop in made.loops]
    numbers = [(b, [loop.strides[i] for loop in made.loops]) for i, b in enumerate(made.base)]
    return as_sorted([base + steps_of(strides, shape) for base, strides in numbers])


def check(layout, shape, strides):
    made = nest.build(layout.resolve(shape), strides)
    np.testing.assert_array_equal(visits(made), expected_visits(layout, shape, strides))
    assert made.groups == np.prod(layout.group_shape(shape), dtype=int)
    return made


def check_form(made, written):
    """Loops run forwards through the output (or x), from the largest step to the smallest, merged where they can be."""
    for loop in made.loops:
        assert loop.size > 1
        assert (loop.out or loop.x) >= 0
    steps = [abs(loop.out) if written else abs(loop.x) for loop in made.loops]
    assert steps == sorted(steps, reverse=True)
    for outer, inner in itertools.pairwise(made.loops):
        assert outer.kept != inner.kept or any(
            o != i * inner.size for o, i in zip(outer.strides, inner.strides, strict=True)
        )


@st.composite
def operands(draw, shape):
    """Strides of x, out, weight and bias, of arrays in any order; weight and bias broadcast; some are left out."""
    rng = draw(RANDOM)
    x = arrange(rng, np.empty(shape, "int8"), rng.choice(ORDERS))
    strides = [x.strides, None, None, None]
    if rng.random() < 0.7:
        same = rng.random() < 0.5
        strides[1] = (
            tuple(8 * s for s in x.strides) if same else arrange(rng, np.empty(shape), rng.choice(OWNED)).strides
        )
    for i in (2, 3):
        if rng.random() < 0.5:
            own = [1 if rng.random() < 0.4 else size for size in shape[rng.integers(len(shape) + 1) :]]
            small = arrange(rng, np.empty(own, "float32"), rng.choice(ORDERS))
            strides[i] = np.broadcast_to(small, shape).strides
    return strides


@settings(max_examples=300)
@given(st.data())
def test_a_nest_visits_every_element_once(data):
    grouping = data.draw(groupings(max_size=600).filter(lambda g: 0 not in g.shape))
    strides = data.draw(operands(grouping.shape))
    check_form(check(grouping.as_layout(), grouping.shape, strides), strides[1])


@settings(max_examples=300)
@given(st.data())
def test_a_nest_of_any_strides(data):
    """Overlapping, zero, negative, unequal: also what no single array has."""
    grouping = data.draw(groupings(max_size=200).filter(lambda g: 0 not in g.shape))
    rng = data.draw(RANDOM)
    strides = [tuple(map(int, rng.integers(-3, 4, len(grouping.shape)))) for _ in nest.OPERANDS]
    check(grouping.as_layout(), grouping.shape, strides)


def roles(made):
    """Sizes of the loops as the kernels see them: +size kept, -size reduced."""
    return [loop.size if loop.kept else -loop.size for loop in made.loops]


N, C, H, W = SHAPE = 4, 6, 5, 7
X = np.empty(SHAPE, np.float32)
LAST = np.moveaxis(np.empty((N, H, W, C), np.float32), -1, 1)
CHANNEL = np.empty((C, 1, 1), np.float32)
BATCH, INSTANCE, LAYER = nbn.Layout.batch(), nbn.Layout.instance(), nbn.Layout.layer(3)
GROUP = nbn.Layout.group(2)

FORMS = {
    "layer": (X, nbn.Layout.layer(1), None, [N * C * H, -W]),
    "layer with weight": (X, LAYER, np.empty((C, H, W), np.float32), [N, -C * H * W]),
    "batch": (X, BATCH, CHANNEL, [-N, C, -H * W]),
    "batch, channels last": (LAST, BATCH, CHANNEL, [-N * H * W, C]),
    "instance": (X, INSTANCE, None, [N * C, -H * W]),
    "instance with weight": (X, INSTANCE, CHANNEL, [N, C, -H * W]),
    "instance, channels last": (LAST, INSTANCE, CHANNEL, [N, -H * W, C]),
    "group": (X, GROUP, None, [N * 2, -C // 2 * H * W]),
    "group with weight": (X, GROUP, CHANNEL, [N, 2, -C // 2, -H * W]),
    "group, channels last": (LAST, GROUP, CHANNEL, [N, -H * W, 2, -C // 2]),
    "all": (X, nbn.Layout.axes(None), None, [-N * C * H * W]),
    "none": (X, nbn.Layout.axes(()), None, [N * C * H * W]),
    "a table's columns": (X[0, 0], nbn.Layout.axes(0), None, [-H, W]),
    "F order": (np.asfortranarray(X), nbn.Layout.axes(None), None, [-N * C * H * W]),
    "reversed": (X[::-1, ::-1, ::-1, ::-1], LAYER, None, [N, -C * H * W]),
    "one axis reversed": (X[:, :, ::-1], LAYER, None, [N, -C, -H, -W]),
    "every other": (X[..., ::2], LAYER, None, [N, -C * H, -4]),
    "windows": (X[:, :, :4, :6], nbn.Layout("n c (h p) (w q) -> n h w", p=2, q=3), None, [N, -C, 2, -2, 2, -3]),
    "one constant": (np.broadcast_to(np.float32(1), SHAPE), LAYER, None, [N, -C * H * W]),
    "single axes": (X[:1, :, :1], BATCH, CHANNEL, [C, -W]),
    "a number": (X[0, 0, 0, 0], nbn.Layout.axes(None), None, []),
}


@pytest.mark.parametrize("name", FORMS)
def test_loops_are_merged(name):
    x, layout, weight, expected = FORMS[name]
    out = np.empty_like(x)
    weight_strides = None if weight is None else np.broadcast_to(weight, x.shape).strides
    made = check(layout, x.shape, [x.strides, out.strides, weight_strides, weight_strides])
    assert roles(made) == expected


def test_statistics_alone_merge_further():
    with_weight = check(INSTANCE, SHAPE, [X.strides, X.strides, np.broadcast_to(CHANNEL, SHAPE).strides, None])
    alone = check(INSTANCE, SHAPE, [X.strides, None, None, None])
    assert (roles(with_weight), roles(alone)) == ([N, C, -H * W], [N * C, -H * W])


def test_the_output_decides_the_order():
    out = np.asfortranarray(X)
    made = check(LAYER, SHAPE, [X.strides, out.strides, None, None])
    assert [loop.out for loop in made.loops] == sorted(out.strides, reverse=True)


def test_reversed_axes_begin_at_their_other_end():
    """What counts is the output: where it runs backwards, x, weight, bias and the groups are walked backwards too."""
    made = check(nbn.Layout.axes(()), (5,), [(4,), (-8,), (4,), None])
    assert made.base == (16, -32, 16, 0, 4)
    assert made.loops == (nest.Loop(5, -4, 8, -4, 0, -1),)
    assert made.loops[0].kept
    made = check(nbn.Layout.axes(0), (5,), [(-4,), None, None, None])
    assert (made.base, made.loops) == ((-16, 0, 0, 0, 0), (nest.Loop(5, 4, 0, 0, 0, 0),))
