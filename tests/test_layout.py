"""Layout against reshapes and transpositions done by hand."""

import base64
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from strategies import axis_grouping, groupings, ids_by_hand, named_grouping, pattern_grouping

import numbanorm as nbn


def check(grouping):
    layout = grouping.as_layout()
    ids = layout.group_ids(grouping.shape)
    assert tuple(layout.group_shape(grouping.shape)) == grouping.group_shape
    assert ids.dtype == np.int64
    assert ids.shape == grouping.shape
    np.testing.assert_array_equal(ids, grouping.ids)


@settings(max_examples=300)
@given(groupings([pattern_grouping]))
def test_patterns(grouping):
    check(grouping)


@settings(max_examples=100)
@given(groupings([axis_grouping]))
def test_axes(grouping):
    check(grouping)


@settings(max_examples=100)
@given(groupings([named_grouping]))
def test_named(grouping):
    check(grouping)


def numbers(*shape):
    return np.arange(np.prod(shape, dtype=int)).reshape(shape)


@pytest.mark.parametrize(
    ("pattern", "sizes", "shape", "by_hand"),
    [
        # one row of the result of `by_hand` is one group, rows in the order of the ids
        ("n (g c) h w -> n g", {"g": 3}, (2, 6, 2, 5), lambda x: x.reshape(6, 20)),
        ("n (c g) h w -> n g", {"g": 3}, (2, 6, 2, 5), lambda x: x.reshape(2, 2, 3, 10).swapaxes(1, 2).reshape(6, 20)),
        ("n (g c) h w -> g n", {"c": 2}, (2, 6, 2, 5), lambda x: x.reshape(2, 3, 20).swapaxes(0, 1).reshape(6, 20)),
        (
            "n c (h p) (w q) -> n h w",
            {"p": 2, "q": 3},
            (2, 3, 4, 6),
            lambda x: x.reshape(2, 3, 2, 2, 2, 3).transpose(0, 2, 4, 1, 3, 5).reshape(8, 18),
        ),
        (
            "n (h p) (w q) c -> (w n) c h",
            {"p": 2, "w": 2},
            (2, 4, 6, 3),
            lambda x: x.reshape(2, 2, 2, 2, 3, 3).transpose(3, 0, 5, 1, 2, 4).reshape(24, 6),
        ),
        ("... c -> c", {}, (2, 3, 4), lambda x: x.reshape(6, 4).T),
        ("... c -> ...", {}, (2, 3, 4), lambda x: x.reshape(6, 4)),
        ("n ... c -> c ...", {}, (2, 3, 4, 5), lambda x: x.transpose(3, 1, 2, 0).reshape(60, 2)),
        ("n c -> n 1 c", {}, (2, 3), lambda x: x.reshape(6, 1)),
        ("n 1 c ->", {}, (2, 1, 3), lambda x: x.reshape(1, 6)),
        ("->", {}, (), lambda x: x.reshape(1, 1)),
        ("...->", {}, (), lambda x: x.reshape(1, 1)),
        (
            "  n(a   b)c->(n a)c",
            {"a": 2, "b": 2},
            (3, 4, 2),
            lambda x: x.reshape(6, 2, 2).swapaxes(1, 2).reshape(12, 2),
        ),
    ],
)
def test_groups_of_a_pattern(pattern, sizes, shape, by_hand):
    x = numbers(*shape)
    expected = np.empty(x.size, np.int64)
    for group, members in enumerate(by_hand(x)):
        expected[members] = group
    np.testing.assert_array_equal(nbn.Layout(pattern, **sizes).group_ids(shape), expected.reshape(shape))


@pytest.mark.parametrize(
    ("layout", "pattern", "sizes"),
    [
        (nbn.Layout.batch(), "n c ... -> c", {}),
        (nbn.Layout.batch(channel_axis=-1), "... c -> c", {}),
        (nbn.Layout.instance(), "n c ... -> n c", {}),
        (nbn.Layout.instance(channel_axis=-1), "n ... c -> n c", {}),
        (nbn.Layout.layer(2), "... h w -> ...", {}),
        (nbn.Layout.group(4), "n (g c) ... -> n g", {"g": 4}),
        (nbn.Layout.group(2, channel_axis=-1), "n ... (g c) -> n g", {"g": 2}),
        (nbn.Layout.axes((0, -1)), "n c h w -> c h", {}),
        (nbn.Layout.axes((3, 0)), "n c h w -> c h", {}),
        (nbn.Layout.axes(()), "...  -> ...", {}),
        (nbn.Layout.axes(-2), "a b c d -> a b d", {}),
    ],
)
def test_constructors_mean_their_patterns(layout, pattern, sizes):
    shape = (3, 8, 5, 4)
    same = nbn.Layout(pattern, **sizes)
    assert tuple(layout.group_shape(shape)) == tuple(same.group_shape(shape))
    np.testing.assert_array_equal(layout.group_ids(shape), same.group_ids(shape))


def test_every_group_number_is_in_use():
    ids = nbn.Layout("n (g c) h w -> w n g", g=2).group_ids((3, 4, 2, 5))
    np.testing.assert_array_equal(np.unique(ids), np.arange(5 * 3 * 2))


def test_one_layout_serves_every_shape():
    layout = nbn.Layout("n (g c) ... -> n g", g=2)
    for shape in [(3, 4), (1, 6, 2), (2, 2, 3, 4, 5), (0, 2), (2, 0, 3)]:
        assert tuple(layout.group_shape(shape)) == (shape[0], 2)
        split = (shape[0], 2, shape[1] // 2, *shape[2:])
        np.testing.assert_array_equal(layout.group_ids(shape), ids_by_hand(split, [0, 1]).reshape(shape))


@settings(max_examples=50)
@given(groupings(max_size=60))
def test_layouts_can_be_compared_hashed_and_pickled(grouping):
    layout, again = grouping.as_layout(), grouping.as_layout()
    assert layout == again
    assert hash(layout) == hash(again)
    copy = pickle.loads(pickle.dumps(layout))
    assert copy == layout
    np.testing.assert_array_equal(copy.group_ids(grouping.shape), grouping.ids)


# Written by the first version of this library, which had all of it in other modules. Layout stays where it was.
OLD_PICKLE = base64.b64decode(
    "gAJdcQAoY251bWJhbm9ybS5sYXlvdXQKX3JlYnVpbGQKcQFYEgAAAG4gKGcgYykgaCB3IC0+IG4gZ3ECWAEAAABncQNLIIZxBIVxBYZxBoVxB1Jx"
    "CGgBWAwAAAAuLi4gYyAtPiAuLi5xCSmGcQqFcQtScQxoAVgUAAAATGF5b3V0LmF4ZXMoKDAsIC0xKSlxDYVxDlJxD2gBWBEAAABMYXlvdXQuYXhl"
    "cyhOb25lKXEQhXERUnESaAFYDwAAAExheW91dC5heGVzKCgpKXEThXEUUnEVaAFYHAAAAExheW91dC5iYXRjaChjaGFubmVsX2F4aXM9MSlxFoVx"
    "F1JxGGgBWB0AAABMYXlvdXQuYmF0Y2goY2hhbm5lbF9heGlzPS0xKXEZhXEaUnEbaAFYHwAAAExheW91dC5pbnN0YW5jZShjaGFubmVsX2F4aXM9"
    "MilxHIVxHVJxHmgBWBgAAABMYXlvdXQubGF5ZXIobnVtX2F4ZXM9MylxH4VxIFJxIWgBWB8AAABMYXlvdXQuZ3JvdXAoOCwgY2hhbm5lbF9heGlz"
    "PTEpcSKFcSNScSRoAVggAAAATGF5b3V0Lmdyb3VwKDQsIGNoYW5uZWxfYXhpcz0tMSlxJYVxJlJxJ2Uu"
)
IN_OLD_PICKLE = [
    nbn.Layout("n (g c) h w -> n g", g=32),
    nbn.Layout("... c -> ..."),
    nbn.Layout.axes((0, -1)),
    nbn.Layout.axes(None),
    nbn.Layout.axes(()),
    nbn.Layout.batch(),
    nbn.Layout.batch(-1),
    nbn.Layout.instance(2),
    nbn.Layout.layer(3),
    nbn.Layout.group(8),
    nbn.Layout.group(4, channel_axis=-1),
]


def test_pickles_of_old_versions_are_read():
    assert pickle.loads(OLD_PICKLE) == IN_OLD_PICKLE
    assert [repr(layout) for layout in pickle.loads(OLD_PICKLE)] == [repr(layout) for layout in IN_OLD_PICKLE]
    shape = (2, 64, 3, 8)
    for old, new in zip(pickle.loads(OLD_PICKLE), IN_OLD_PICKLE, strict=True):
        np.testing.assert_array_equal(old.group_ids(shape), new.group_ids(shape))


def test_old_versions_read_new_pickles():
    """Pickles say the same as ever: which module, which function, which arguments."""
    assert pickle.dumps(IN_OLD_PICKLE, 2) == OLD_PICKLE


def test_layouts_differ():
    layouts = [nbn.Layout("n (g c) -> n g", g=2), nbn.Layout("n (g c) -> n g", g=3), nbn.Layout("n (c g) -> n g", g=2)]
    assert len(set(layouts)) == len(layouts)
    assert "n (g c) -> n g" in repr(layouts[0])
