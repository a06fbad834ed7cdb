"""Layout against reshapes and transpositions done by hand."""

import base64
import inspect
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from strategies import axis_grouping, groupings, ids_by_hand, named_grouping, pattern_grouping

import numbanorm as nbn
from numbanorm.patterns import RESERVED


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


# equal by meaning ----------------------------------------------------------------------------------------------------

EQUAL = [
    (nbn.Layout("n c -> c"), nbn.Layout("n  c->c")),
    (nbn.Layout("n c -> c"), nbn.Layout("a b -> b")),
    (nbn.Layout("n (g c) -> n g", g=4), nbn.Layout("a(b d)->a b", b=4)),
    (nbn.Layout("(a b) c -> c a", a=2, b=3), nbn.Layout("(a b) c -> c a", b=3, a=2)),
    (nbn.Layout("n (g c) -> n g", g=1), nbn.Layout("n c -> n 1")),
    (nbn.Layout("(a b) c -> c", a=2, b=3), nbn.Layout("a c -> c", a=6)),
    (nbn.Layout("(a b) c -> c", a=2), nbn.Layout("(b a) c -> c", a=2)),
    (nbn.Layout("(a b) -> (a b)", a=2), nbn.Layout("(a b) -> (a b)", b=2)),
    (nbn.Layout.batch(), nbn.Layout("n c ... -> c")),
    (nbn.Layout.batch(-1), nbn.Layout("... c -> c")),
    (nbn.Layout.batch(0), nbn.Layout("c ... -> c")),
    (nbn.Layout.instance(), nbn.Layout("n c ... -> n c")),
    (nbn.Layout.instance(-1), nbn.Layout("n ... c -> n c")),
    (nbn.Layout.group(4), nbn.Layout("n (g c) ... -> n g", g=4)),
    (nbn.Layout.group(1), nbn.Layout("n c ... -> n 1")),
    (nbn.Layout.layer(2), nbn.Layout("... h w -> ...")),
    (nbn.Layout.layer(1), nbn.Layout.axes(-1)),
    (nbn.Layout.axes((2, 0)), nbn.Layout.axes((0, 2))),
    (nbn.Layout.axes((0, 2)), nbn.Layout("a b c ... -> b ...")),
    (nbn.Layout.axes((0, -1)), nbn.Layout("a ... b -> ...")),
    (nbn.Layout.axes(None), nbn.Layout("... ->")),
    (nbn.Layout.axes(()), nbn.Layout("... -> ...")),
    (nbn.Layout.batch(10**9), nbn.Layout.batch(10**9)),
]
DIFFERENT = [
    (nbn.Layout.batch(), nbn.Layout("n c h w -> c")),  # which fits four axes only
    (nbn.Layout.batch(), nbn.Layout("n c -> c")),
    (nbn.Layout.batch(), nbn.Layout.batch(-1)),
    (nbn.Layout.axes((3, -3)), nbn.Layout.axes((3, 1))),  # the same for four axes
    (nbn.Layout.axes((3, -3)), nbn.Layout.axes((3, -4))),
    (nbn.Layout("n c -> n c"), nbn.Layout("n c -> c n")),
    (nbn.Layout("n c -> n c"), nbn.Layout("n c -> (n c)")),
    (nbn.Layout("n c -> n"), nbn.Layout("n c -> n 1")),
    (nbn.Layout("n c -> n"), nbn.Layout("n 1 -> n")),
    (nbn.Layout("n c -> n"), nbn.Layout("n (a b) -> n", a=2)),  # which fits no odd axis
    (nbn.Layout("n c -> n"), nbn.Layout("n (a b) -> n")),  # which fits nothing
    (nbn.Layout("n c -> n"), nbn.Layout("n c -> n", c=6)),
    (nbn.Layout("n (g c) -> n g", g=2), nbn.Layout("n (g c) -> n g", c=2)),
    (nbn.Layout("(a b) -> a", a=2, b=2), nbn.Layout("(a b) -> b", a=2, b=2)),
    (nbn.Layout("... a -> ..."), nbn.Layout("a ... -> ...")),
    (nbn.Layout("... -> ..."), nbn.Layout("... ->")),
    (nbn.Layout.axes((0, 0)), nbn.Layout.axes((1, 1))),
    (nbn.Layout("n c -> c"), "n c -> c"),
]


@pytest.mark.parametrize(("one", "other"), EQUAL, ids=str)
def test_layouts_of_one_meaning_are_equal(one, other):
    assert one == other
    assert hash(one) == hash(other)
    assert len({one, other}) == 1


@pytest.mark.parametrize(("one", "other"), DIFFERENT, ids=str)
def test_layouts_of_two_meanings_are_not(one, other):
    assert one != other


def resolved(layout, shape):
    try:
        return layout.group_shape(shape), layout.group_ids(shape).tolist()
    except ValueError:
        return None


@settings(max_examples=200)
@given(groupings(max_size=60), groupings(max_size=60))
def test_equality_is_what_the_definition_says(one, other):
    """Equal layouts give the same on every shape; and what gives the same for its own shape may still differ."""
    shapes = [one.shape, other.shape, (*one.shape, 2), (2, *other.shape), one.shape[1:], (1,) * 4, (6, 6), (4, 2, 6)]
    first, second = one.as_layout(), other.as_layout()
    same = all(resolved(first, shape) == resolved(second, shape) for shape in shapes)
    assert same or first != second
    if first == second:
        assert hash(first) == hash(second)


def test_equal_layouts_keep_the_factors_that_they_write():
    one, other = nbn.Layout("(h q) -> q", h=1), nbn.Layout("q -> q")
    assert one == other
    for layout, sizes in ((other, [31]), (one, [1, 31]), (other, [31])):
        assert [factor.size for factor in layout.resolve((31,)).factors] == sizes


def test_an_equal_layout_serves_a_known_call(numpy_engine):
    x = numbers(4, 6).astype(np.float32)
    expected = nbn.normalize(x, nbn.Layout.batch())
    np.testing.assert_array_equal(nbn.normalize(x, nbn.Layout("n c ... -> c")), expected)
    with pytest.raises(ValueError, match="2 axes on the left"):  # not the one that was resolved before
        nbn.Layout("n c -> c").resolve((4, 6, 2))


# names ---------------------------------------------------------------------------------------------------------------


def test_parameters_of_functions_are_no_names_of_axes():
    """Of all functions that take sizes as keywords: another parameter there is one more reserved name."""
    taken = {"self"}
    for item in (getattr(nbn, name) for name in nbn.__all__):
        parameters = inspect.signature(item).parameters.values()
        if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
            taken |= {p.name for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD}
    assert {"x", "layout", "axis", "eps", "pattern"} < taken <= RESERVED
    for name in taken:
        with pytest.raises(ValueError, match=f"{name!r} cannot name an axis"):
            nbn.Layout(f"n ({name} c) -> n")


@pytest.mark.parametrize("name", ["a", "Z", "_", "a_1", "batch", "channels_last", "match", "self_", "x1", "w" * 300])
def test_names_that_could_be_keywords_name_axes(name):
    assert nbn.Layout(f"n ({name} k) -> n {name}", **{name: 2}).group_shape((3, 4)) == (3, 2)


# values seen at the shape of the array -------------------------------------------------------------------------------


def at_every_element(layout, values, shape):
    """By the definition."""
    if 0 in layout.group_shape(shape):
        return np.empty(shape)
    return np.asarray(values).reshape(-1)[layout.group_ids(shape)]


@settings(max_examples=200)
@given(groupings())
def test_expanded_values_are_those_of_each_elements_group(grouping):
    layout, rng = grouping.as_layout(), np.random.default_rng(0)
    wide = rng.standard_normal([2 * n for n in grouping.group_shape])
    values = wide[tuple(slice(None, None, -2) for _ in grouping.group_shape)]
    before = values.copy()
    expanded = layout.expand(values, grouping.shape)
    np.testing.assert_array_equal(expanded, at_every_element(layout, values, grouping.shape))
    np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize(
    ("layout", "shape", "strides"),
    [
        (nbn.Layout.batch(), (2, 6, 4, 5), (0, 8, 0, 0)),
        (nbn.Layout.batch(-1), (2, 4, 5, 6), (0, 0, 0, 8)),
        (nbn.Layout.instance(), (2, 6, 4), (48, 8, 0)),
        (nbn.Layout.layer(2), (3, 4, 5), (8, 0, 0)),
        (nbn.Layout("a b c -> c a"), (2, 3, 4), (8, 0, 16)),
        (nbn.Layout.axes(None), (2, 3), (0, 0)),
        (nbn.Layout("(a b) c -> (b a)", a=2, b=1), (2, 3), (8, 0)),
    ],
    ids=str,
)
def test_expanded_values_are_a_view(layout, shape, strides):
    values = np.arange(np.prod(layout.group_shape(shape), dtype=int), dtype=float).reshape(layout.group_shape(shape))
    expanded = layout.expand(values, shape)
    assert (expanded.shape, expanded.strides) == (shape, strides)
    assert np.shares_memory(expanded, values)
    assert not expanded.flags.writeable


def test_values_of_a_part_of_an_axis_are_copied_along_that_axis_only():
    expanded = nbn.Layout.group(2).expand(np.arange(6.0).reshape(3, 2), (3, 8, 100, 100))
    assert expanded.strides == (64, 8, 0, 0)
    assert expanded.base.nbytes <= 3 * 8 * 8
    assert not expanded.flags.writeable


@pytest.mark.parametrize("dtype", ["f4", "i8", "?", ">f8", "c8", "U3"])
def test_values_of_any_dtype_are_expanded(dtype):
    values = np.arange(3).astype(dtype)
    expanded = nbn.Layout.batch().expand(values, (2, 3))
    assert expanded.dtype == values.dtype
    assert (expanded == values).all()


def test_lists_and_numbers_are_expanded():
    np.testing.assert_array_equal(nbn.Layout.batch().expand([1, 2], (2, 2)), [[1, 2], [1, 2]])
    np.testing.assert_array_equal(nbn.Layout.axes(None).expand(3.0, [2, 2]), [[3, 3], [3, 3]])


def test_tensors_expand_to_tensors():
    torch = pytest.importorskip("torch")
    for layout, shape in [
        (nbn.Layout.batch(), (2, 6, 4)),
        (nbn.Layout.group(2), (3, 6, 5)),
        (nbn.Layout("n (c g) h -> h n g", g=2), (3, 6, 5)),
        (nbn.Layout.batch(), (2, 0, 4)),
        (nbn.Layout.layer(1), (2, 0)),
    ]:
        values = torch.rand(layout.group_shape(shape), dtype=torch.float32)
        expanded = layout.expand(values, torch.Size(shape))
        assert (type(expanded), expanded.dtype, tuple(expanded.shape)) == (torch.Tensor, torch.float32, shape)
        np.testing.assert_array_equal(expanded.numpy(), at_every_element(layout, values, shape))
    values = torch.rand(6)
    assert nbn.Layout.batch().expand(values, (2, 6, 4)).data_ptr() == values.data_ptr()


def test_the_inverse_of_normalize(numpy_engine, rng):
    x = rng.standard_normal((4, 6, 5)).astype(np.float32)
    for layout in (nbn.Layout.batch(), nbn.Layout.group(3), nbn.Layout("n c l -> l n")):
        y, m = nbn.normalize(x, layout, return_moments=True)
        back = y * layout.expand(np.sqrt(m.var() + 1e-5), x.shape) + layout.expand(m.mean, x.shape)
        np.testing.assert_allclose(back, x, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        (np.ones(3), ValueError, r"\(3,\).*\(6,\).*moments\.mean"),
        (np.ones((2, 6)), ValueError, r"\(2, 6\).*\(6,\)"),
        (1.0, ValueError, r"\(\).*\(6,\)"),
        (None, TypeError, "None"),
        ("a", TypeError, "str"),
        ({}, TypeError, "dict"),
        (nbn.Moments.empty(6), TypeError, r"Moments.*|moments\.mean"),
        (np.ma.ones(6), TypeError, r"mask.*filled"),
    ],
    ids=str,
)
def test_what_cannot_be_expanded(values, error, words):
    with pytest.raises(error, match=words):
        nbn.Layout.batch().expand(values, (2, 6))


def test_values_are_expanded_only_to_shapes_that_fit():
    with pytest.raises(ValueError, match="divide"):
        nbn.Layout.group(4).expand(np.ones((2, 4)), (2, 6))
    with pytest.raises(TypeError, match=r"x\.shape"):
        nbn.Layout.batch().expand(np.ones(6), np.ones((2, 6)))
