"""Pictures of layouts: the cells drawn are elements of the array, and their colours those of the oracle's groups."""

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import oracle
import pytest
from fresh import fresh, process
from hypothesis import given, settings
from strategies import RANDOM, groupings
from test_labels import reduced_shape

import numbanorm as nbn
from numbanorm import plot
from numbanorm.call.labels import along_axes
from numbanorm.plot import cells, drawing

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
to_rgb = pytest.importorskip("matplotlib.colors").to_rgb
Figure = pytest.importorskip("matplotlib.figure").Figure
plt = pytest.importorskip("matplotlib.pyplot")

HOME = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def no_figure_is_left():
    yield
    assert not plt.get_fignums()


def new_ax():
    return Figure().add_subplot()


def elements(shape, layout, group=0):
    """Index into the array of every cell, along each of its axes, as arrays of the cells' shape."""
    names, factors = layout.left_side(len(shape)), cells.grouping_of(layout, shape).factors
    ids, sides = cells.in_part(layout, shape, group)
    index = [np.zeros(ids.shape, int)] * len(shape)
    for side, axes in enumerate(cells.sides_of(names, factors)):
        along = [1] * ids.ndim
        along[side] = -1
        of_side = np.unravel_index(sides[side].places.reshape(along), [shape[axis] for axis in axes])
        for axis, places in zip(axes, of_side, strict=True):
            index[axis] = np.broadcast_to(places, ids.shape)
    return ids, sides, tuple(index)


def painted(ax, face):
    """Cells (row, column) of a face by the colour that they are drawn in."""
    faces = {patch.get_gid(): patch for patch in ax.patches if patch.get_gid()}
    found = {}
    for gid, patch in faces.items():
        if gid.startswith(f"{face.name} color"):
            middles = {tuple(np.round(corners[:4].mean(axis=0), 9)) for corners in polygons(patch)}
            found[int(gid.split()[-1])] = {cell for cell, middle in middles_of(face).items() if middle in middles}
            assert len(found[int(gid.split()[-1])]) == len(middles)
    return found


def polygons(patch):
    return patch.get_path().vertices.reshape(-1, 5, 2)


def middles_of(face):
    every = np.ones(face.numbers.shape, bool)
    middles = np.round(face.quads(every).mean(axis=1), 9)
    return dict(zip(map(tuple, np.argwhere(every).tolist()), map(tuple, middles), strict=True))


def faces_of(ids, sides):
    return (drawing._block if len(sides) == 3 else drawing._grid)(ids, sides)[0]


@settings(max_examples=40)
@given(groupings(), RANDOM)
def test_cells_are_elements_in_the_groups_of_the_definition(grouping, rng):
    if 0 in grouping.shape:
        return
    group = int(rng.integers(grouping.num_groups))
    ids, sides, index = elements(grouping.shape, grouping.as_layout(), group)
    np.testing.assert_array_equal(ids, grouping.ids[index])
    assert group in ids
    assert max(ids.shape, default=1) <= 24
    for side in sides:
        assert (np.diff(side.places) > 0).all()


@settings(max_examples=60)
@given(RANDOM)
def test_cells_of_segments_are_elements_in_the_groups_of_the_definition(rng):
    lengths = rng.integers(0, rng.choice([2, 4, 20]), rng.integers(1, 9))
    shape = (int(lengths.sum()), *rng.integers(1, 15, rng.integers(0, 4)).tolist())
    reduced = (0, *(axis for axis in range(1, len(shape)) if rng.random() < 0.5))
    layout = nbn.Layout.segments(np.cumsum([0, *lengths]), axis=reduced)
    if not lengths.any():
        return
    group = int(rng.integers(np.prod(layout.group_shape(shape))))
    ids, sides, index = elements(shape, layout, group)
    wanted = layout.group_ids(shape)
    np.testing.assert_array_equal(ids, wanted[index])
    assert group in ids or group not in wanted
    assert max(ids.shape) <= 24 * 12
    for side in sides:
        assert (np.diff(side.places) > 0).all()
    nbn.plot.layout(layout, shape, highlight="all", ax=new_ax())


@settings(max_examples=40)
@given(groupings(), RANDOM)
def test_cells_of_labels_are_elements_in_the_groups_of_the_definition(grouping, rng):
    layout = grouping.as_layout()
    wanted = tuple(n for n in reduced_shape(layout, grouping.shape))
    if 0 in grouping.shape or not wanted:
        return
    labels = rng.integers(-1, 3, wanted)
    number = int(labels.max()) + 1
    ids, num_groups = oracle.labelled_groups(layout, grouping.shape, labels, number)
    ids = np.where(ids == num_groups - 1, -1, ids)
    drawn, sides = cells.in_part(layout, grouping.shape, 0, along_axes(labels, layout, grouping.shape))
    *_, index = elements(grouping.shape, layout)
    np.testing.assert_array_equal(drawn, ids[index])
    if number:
        ax = nbn.plot.layout(layout, grouping.shape, labels=labels, highlight="all", ax=new_ax())
        for face in faces_of(ids[index], sides):
            coloured = {cell for found in painted(ax, face).values() for cell in found}
            assert coloured == set(map(tuple, np.argwhere(face.numbers >= 0).tolist()))


def test_labels_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"labels have shape \(5,\).*\(6,\)"):
        nbn.plot.layout("row column -> column", (6, 4), labels=[0] * 5, ax=new_ax())
    with pytest.raises(TypeError, match="integers"):
        nbn.plot.layout("row column -> column", (6, 4), labels=[0.5] * 6, ax=new_ax())
    with pytest.raises(ValueError, match=r"there are 8, of group shape \(2, 4\)"):
        nbn.plot.layout("row column -> column", (6, 4), labels=[0, 1] * 3, highlight=8, ax=new_ax())


def test_a_million_segments_are_drawn_in_few_pieces():
    layout = nbn.Layout.segments(np.arange(0, 3_000_001, 3), axis=0)
    for highlight in (0, (500_000, 3), -1):
        ax = nbn.plot.layout(layout, (3_000_000, 64), highlight=highlight, ax=new_ax())
        assert sum(len(patch.get_path().vertices) for patch in ax.patches) < 20_000
        assert sorted(text.get_text() for text in ax.texts) == ["axis 0 = 3000000", "axis 1 = 64"]
        assert any("color" in (patch.get_gid() or "") for patch in ax.patches)


@settings(max_examples=40)
@given(groupings(), RANDOM)
def test_cells_in_colour_are_those_of_the_group(grouping, rng):
    if 0 in grouping.shape:
        return
    layout, group = grouping.as_layout(), int(rng.integers(grouping.num_groups))
    _, sides, index = elements(grouping.shape, layout, group)
    ax = nbn.plot.layout(layout, grouping.shape, highlight=group, ax=new_ax())
    for face in faces_of(grouping.ids[index], sides):
        expected = set(map(tuple, np.argwhere(face.numbers == group).tolist()))
        assert painted(ax, face) == ({0: expected} if expected else {})


@settings(max_examples=30)
@given(groupings())
def test_with_all_groups_every_cell_has_a_colour_and_a_group_has_one(grouping):
    if 0 in grouping.shape:
        return
    _, sides, index = elements(grouping.shape, grouping.as_layout())
    ax = nbn.plot.layout(grouping.as_layout(), grouping.shape, highlight="all", ax=new_ax())
    colour = {}
    for face in faces_of(grouping.ids[index], sides):
        colours = {cell: number for number, found in painted(ax, face).items() for cell in found}
        assert len(colours) == face.numbers.size
        for cell, number in colours.items():
            assert colour.setdefault(face.numbers[cell], number) == number


def test_neighbouring_groups_differ_in_colour():
    rng = np.random.default_rng(0)
    for shape, groups in (((9, 9), 5), ((5, 4, 6), 6), ((40,), 30)):
        numbers = rng.integers(0, groups, shape)
        paint = drawing._neighbours_differ(numbers, len(drawing.PALETTE), np.unique(numbers))[numbers]
        for axis in range(len(shape)):
            same_group, same_colour = np.diff(numbers, axis=axis) == 0, np.diff(paint, axis=axis) == 0
            np.testing.assert_array_equal(same_group, same_colour)


@pytest.mark.parametrize(
    ("element", "seen"),
    [
        ((0, 0, 0), {"top": (0, 1), "left": (-1, 0), "right": (1, 0)}),  # the corner in front, at x = y = 0
        ((2, 0, 0), {"top": (-1, 1), "left": (-1, 1)}),
        ((0, 3, 0), {"left": (-1, -1), "right": (1, -1)}),
        ((0, 0, 4), {"top": (1, 1), "right": (1, 1)}),
        ((2, 3, 0), {"left": (-1, -1)}),
        ((0, 3, 4), {"right": (1, -1)}),
        ((2, 0, 4), {"top": (0, 1)}),
        ((2, 3, 4), {}),
        ((1, 1, 1), {}),
    ],
)
def test_each_element_is_on_the_faces_where_it_is_seen(element, seen):
    """The axes go from the corner in front to the left, down and to the right."""
    ax = nbn.plot.layout("a b c -> a b c", (3, 4, 5), highlight=element, ax=new_ax())
    faces = {gid.split()[0]: patch for patch in ax.patches if "color" in (gid := patch.get_gid() or "")}
    assert set(faces) == set(seen)
    for name, (across, up) in seen.items():
        x, y = polygons(faces[name])[0, :4].mean(axis=0)
        assert across in (0, np.sign(x))
        assert up in (0, np.sign(y))


def test_any_array_of_groups_can_be_drawn():
    """As labels and segments will be."""
    ids = np.random.default_rng(0).integers(0, 4, (4, 5, 6))
    sides = [cells.Side(np.arange(n), name) for n, name in zip(ids.shape, "abc", strict=True)]
    for group, one in ((2, False), (None, True)):
        ax = new_ax()
        drawing.draw(ax, ids, sides, group, plot._as_colors(None, one), "black")
        for face in drawing._block(ids, sides)[0]:
            coloured = {cell for found in painted(ax, face).values() for cell in found}
            assert coloured == set(map(tuple, np.argwhere((face.numbers == group) | (group is None)).tolist()))


@pytest.mark.parametrize(
    ("pattern", "sizes", "shape", "labels"),
    [
        ("N C H W -> C", {}, (4, 6, 2, 3), ["N", "C", "H, W"]),
        ("n h w (g c) -> n g", {"g": 2}, (2, 3, 3, 4), ["n", "h, w", "(g c)"]),
        ("n c (h p) (w q) -> n h w", {"p": 2, "q": 2}, (2, 3, 6, 6), ["n, c", "(h p)", "(w q)"]),
        ("n (g c) h w -> n g", {"g": 32}, (32, 320, 64, 64), ["n = 32", "(g c) = 32 × 10", "h, w = 64 × 64"]),
        ("a (b c) (d e) f g -> a", {"b": 2, "d": 5}, (2, 8, 5, 5, 4), ["a", "(b c)", "(d e), f, g = 5·1 × 5 × 4"]),
        ("row column -> column", {}, (1000, 5), ["row = 1000", "column"]),
        ("n ... -> n", {}, (2, 3, 4, 5), ["n", "axis 1", "axes 2, 3 = 4 × 5"]),
        ("a 1 b -> a", {}, (2, 1, 3), ["a", "b"]),
        ("->", {}, (), []),
    ],
)
def test_sides_are_labelled_with_the_patterns_names_and_sizes_of_what_is_left_out(pattern, sizes, shape, labels):
    ax = nbn.plot.layout(pattern, shape, ax=new_ax(), **sizes)
    assert sorted(text.get_text() for text in ax.texts) == sorted(labels)


def test_named_layouts_number_their_axes():
    ax = nbn.plot.layout(nbn.Layout.group(2), (3, 4, 2, 2), ax=new_ax())
    assert sorted(text.get_text() for text in ax.texts) == ["(g c)", "axes 2, 3", "axis 0"]


def test_large_shapes_are_drawn_in_few_pieces():
    for shape, axes in (((32, 320, 64, 64), (0, 2, 3)), ((2**40, 2**20), (0,)), ((2,) * 40, (0, 5, 7, 30))):
        ax = nbn.plot.layout(nbn.Layout.axes(axes), shape, highlight="all", ax=new_ax())
        assert sum(len(patch.get_path().vertices) for patch in ax.patches) < 20_000


def test_a_group_inside_the_block_is_seen():
    shape = (3, 3, 3)
    behind = nbn.plot.layout("a b c -> a b c", shape, highlight=(1, 1, 1), ax=new_ax())
    gids = [patch.get_gid() or "" for patch in behind.patches]
    assert [gid for gid in gids if gid.startswith("inside")] == ["inside top", "inside left", "inside right"]
    assert not [gid for gid in gids if "color" in gid]


def test_groups_are_given_by_number_or_by_index():
    drawn = [
        [patch.get_path().vertices.tolist() for patch in nbn.plot.layout("a b c -> a b", (2, 3, 2), highlight=h, ax=a)
         .patches]
        for h, a in ((h, new_ax()) for h in (5, -1, (1, 2), [1, -1], np.int64(5)))
    ]  # fmt: skip
    assert all(one == drawn[0] for one in drawn)


def test_an_array_may_stand_for_its_shape():
    x = np.empty((4, 6, 2), np.float32)
    texts = [len(nbn.plot.layout("a b c -> a", given, ax=new_ax()).patches) for given in (x, x.shape, list(x.shape))]
    assert texts[0] == texts[1] == texts[2]


def test_lines_and_text_follow_the_style_and_the_colour_is_as_asked():
    with matplotlib.rc_context({"text.color": "orange"}):
        ax = nbn.plot.layout("a b -> a", (2, 3), ax=new_ax(), color="C2")
    assert {to_rgb(text.get_color()) for text in ax.texts} == {to_rgb("orange")}
    patch = next(patch for patch in ax.patches if patch.get_gid() == "flat color 0")
    np.testing.assert_allclose(patch.get_facecolor()[:3], to_rgb("C2"))


def test_without_axes_it_makes_one_figure_as_pyplot_does():
    ax = nbn.plot.layout("a b -> a", (2, 3))
    assert plt.get_fignums() == [ax.figure.number]
    plt.close(ax.figure)


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "said"),
    [
        (("n c -> c", (2, 3, 4)), {}, ValueError, "has 2 axes on the left, but the array has 3"),
        (("n (g c) -> n g", (2, 6)), {"g": 4}, ValueError, "1, 2, 3 or 6 would"),
        (("n c -> c", (0, 3)), {}, ValueError, "no elements to draw; give one without 0"),
        (("n c -> c", 3), {}, TypeError, "shape must be a sequence of ints"),
        ((3, (2, 3)), {}, TypeError, "layout must be a pattern or a Layout"),
        (("n c -> c", (2, 3)), {"g": 2}, TypeError, "unexpected keyword argument 'g'"),
        (("n c -> c", (2, 3)), {"highlight": 3}, ValueError, "there are 3, of group shape (3,)"),
        (("n c -> c", (2, 3)), {"highlight": -4}, ValueError, "there are 3, of group shape (3,)"),
        (("n c -> c", (2, 3)), {"highlight": (0, 1)}, ValueError, "its index in the group shape, or 'all'"),
        (("n c -> c", (2, 3)), {"highlight": "every"}, ValueError, "its index in the group shape, or 'all'"),
        (("n c -> c", (2, 3)), {"highlight": True}, TypeError, "highlight must be an int"),
        (("n c -> c", (2, 3)), {"highlight": 1.0}, TypeError, "highlight must be an int"),
        (("n c -> c", (2, 3)), {"highlight": None}, TypeError, "its index in the group shape, or 'all'"),
        (("n c -> c", (2, 3)), {"color": "no such"}, ValueError, "color='no such' is no color; give what matplotlib"),
        (("n c -> c", (2, 3)), {"color": []}, ValueError, "color=[] is no color"),
        (("n c -> c", (2, 3)), {"color": "none"}, ValueError, "color='none' is no color"),
        (("n c -> c", (2, 3)), {"ax": "ax"}, TypeError, "ax must be one of matplotlib's Axes, got 'ax' (str)"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_figure_is_made(arguments, keywords, error, said):
    with pytest.raises(error) as caught:
        nbn.plot.layout(*arguments, **keywords)
    assert said in str(caught.value)


@pytest.mark.parametrize("projection", ["3d", "polar"])
def test_axes_of_another_projection_are_refused(projection):
    with pytest.raises(ValueError, match="the picture is flat; make ax without projection="):
        nbn.plot.layout("a b -> a", (2, 3), ax=Figure().add_subplot(projection=projection))


# in notebooks -----------------------------------------------------------------------------------------------------

LAYOUTS = [
    nbn.Layout("n (g c) h w -> n g", g=32),
    nbn.Layout("... c -> ..."),
    nbn.Layout("->"),
    nbn.Layout("(h p) 1 -> h", p=4),
    nbn.Layout("a b c d e f -> a c e"),
    nbn.Layout.batch(),
    nbn.Layout.group(3, channel_axis=-1),
    nbn.Layout.layer(5),
    nbn.Layout.axes(None),
    nbn.Layout.axes((0, -1)),
    nbn.Layout.segments([0, 3, 3, 8], axis=0),
    nbn.Layout.segments(range(0, 100_000, 9), "t (g c) -> g", g=2),
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=repr)
def test_a_notebook_shows_text_and_picture_in_the_colour_of_its_text(layout):
    html = layout._repr_html_()
    seen = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: seen.append(tag)
    parser.handle_data = seen.append
    parser.feed(html)
    assert repr(layout) in seen
    assert {"code", "svg", "path"} <= set(seen)
    assert "currentColor" in html
    assert "#010203" not in html and "<?xml" not in html
    assert not [text for text in seen if "×" in text], "the sizes are an example's"


def test_a_layout_that_fits_no_shape_is_shown_as_text():
    assert nbn.Layout("(a b) -> a")._repr_html_() is None
    assert nbn.Layout.segments([0, 0])._repr_html_() is None


def test_matplotlib_is_imported_when_something_is_drawn():
    code = """
import sys, numbanorm as nbn
layout = nbn.Layout("a b -> a")
repr(layout), nbn.plot
print("matplotlib" in sys.modules, end=" ")
layout._repr_html_()
print("matplotlib" in sys.modules, "matplotlib.pyplot" in sys.modules)
"""
    assert fresh("-c", code) == "False True False"


def test_without_matplotlib_a_picture_says_what_to_install_and_a_layout_is_text():
    code = """
import sys
sys.modules["matplotlib"] = None
import numbanorm as nbn
layout = nbn.Layout("a b -> a")
print(layout, layout._repr_html_())
nbn.plot.layout(layout, (2, 3))
"""
    done = process("-c", code)
    assert done.stdout.strip() == "Layout('a b -> a') None"
    assert "ImportError: numbanorm.plot needs matplotlib; install numbanorm[plot]" in done.stderr


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'numbanorm' has no attribute 'plots'"):
        nbn.plots  # noqa: B018


# the pages' pictures ----------------------------------------------------------------------------------------------


def test_the_script_draws_every_picture_that_the_pages_show(tmp_path):
    subprocess.run([sys.executable, HOME / "examples/layouts.py", tmp_path], check=True)
    drawn = {path.name for path in tmp_path.iterdir()}
    assert drawn == {path.name for path in (HOME / "docs").glob("*.svg")}
    pages = "".join((HOME / page).read_text("utf-8") for page in ("README.md", "docs/choosing.md", "docs/groups.md"))
    assert all(name in pages for name in drawn)
