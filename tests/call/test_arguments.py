"""Arguments that equal right ones and are none, keywords that nobody has, flags, and numbers."""

import inspect
import re
import subprocess
import sys

import numpy as np
import pytest
from fresh import fresh

import numbanorm as nbn
from numbanorm import Layout
from numbanorm.call.arguments import as_layout, check_flag, check_number

SHAPE = (2, 6, 4, 5)


def ones(*shape):
    return np.ones(shape or SHAPE, np.float32)


def message(call, error=TypeError):
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


# what equals a right argument and is none ----------------------------------------------------------------------------

# A right call, and calls whose arguments equal it, but are of a type that is refused.
PAIRS = [
    ("nbn.group_norm(x, 2)", "nbn.group_norm(x, 2.0)", "nbn.group_norm(x, np.float64(2))"),
    ("nbn.group_norm(x, 1)", "nbn.group_norm(x, True)", "nbn.group_norm(x, np.True_)", "nbn.group_norm(x, 1 + 0j)"),
    ("nbn.group_norm(x, 2, channel_axis=1)", "nbn.group_norm(x, 2, channel_axis=True)"),
    ("nbn.batch_norm(x, training=True)", "nbn.batch_norm(x, training=1)", "nbn.batch_norm(x, training=1.0)"),
    ("nbn.batch_norm(x, mean, var)", "nbn.batch_norm(x, mean, var, training=0)"),
    ("nbn.batch_norm(x, training=True, channel_axis=1)", "nbn.batch_norm(x, training=True, channel_axis=1.0)"),
    ("nbn.instance_norm(x)", "nbn.instance_norm(x, use_input_stats=1)", "nbn.instance_norm(x, channel_axis=1.0)"),
    ("nbn.layer_norm(x, (4, 5))", "nbn.layer_norm(x, (4.0, 5))", "nbn.layer_norm(x, [4, 5.0])"),
    ("nbn.layer_norm(y, 1)", "nbn.layer_norm(y, True)", "nbn.layer_norm(y, (True,))", "nbn.layer_norm(y, 1.0)"),
    ("nbn.rms_norm(x, 5)", "nbn.rms_norm(x, 5.0)", "nbn.rms_norm(x, (np.float32(5),))"),
    ("nbn.normalize(x, P, g=2)", "nbn.normalize(x, P, g=2.0)", "nbn.normalize(x, P, g=np.float64(2))"),
    ("nbn.normalize(x, P, g=1)", "nbn.normalize(x, P, g=True)", "nbn.normalize(x, P, g=np.True_)"),
    ("nbn.moments(x, P, g=2)", "nbn.moments(x, P, g=2.0)", "nbn.moments(x, P, g=np.float64(2))"),
    ("nbn.moments(x, P, g=1)", "nbn.moments(x, P, g=True)", "nbn.moments(x, P, g=np.True_)"),
    ("nbn.moments(x, axis=1)", "nbn.moments(x, axis=1.0)", "nbn.moments(x, axis=True)", "nbn.moments(x, axis=(1.0,))"),
    ("nbn.normalize(x, axis=(0, 1))", "nbn.normalize(x, axis=(0.0, 1))", "nbn.normalize(x, axis=(False, True))"),
    ("nbn.normalize(x, axis=0)", "nbn.normalize(x, axis=-0.0)", "nbn.normalize(x, axis=False)"),
    ("nbn.normalize(x, axis=0, return_moments=True)", "nbn.normalize(x, axis=0, return_moments=1)"),
    ("nbn.weight_norm(y, np.ones(3))", "nbn.weight_norm(y, np.ones(3), axis=0.0)"),
    ("nbn.weight_standardize(x, axis=0)", "nbn.weight_standardize(x, axis=False)"),
    ("nbn.Layout.group(2)", "nbn.Layout.group(2.0)", "nbn.Layout.group(num_groups=2.0)"),
    ("nbn.Layout.layer(1)", "nbn.Layout.layer(True)", "nbn.Layout.layer(1.0)"),
    ("nbn.Layout.batch(1)", "nbn.Layout.batch(True)", "nbn.Layout.batch(channel_axis=1.0)"),
    ("nbn.Layout.axes((0, 1))", "nbn.Layout.axes((False, True))", "nbn.Layout.axes([0.0, 1])"),
    ("nbn.Layout.batch().group_shape((2, 6))", "nbn.Layout.batch().group_shape((2.0, 6))"),
    ("nbn.Layout.batch().group_shape((1, 6))", "nbn.Layout.batch().group_shape((True, 6))"),
    ("nbn.Layout.batch().group_ids((2, 6))", "nbn.Layout.batch().group_ids((2, 6.0))"),
]

PROGRAM = """
import numpy as np
import numbanorm as nbn
x, y, P = np.ones((2, 6, 4, 5), np.float32), np.ones((3, 1), np.float32), "n (g c) h w -> n g"
mean, var = np.zeros(6), np.ones(6)
for right, *wrong in {pairs}:
    if {right_first}:
        eval(right)
    for call in wrong:
        try:
            eval(call)
        except (TypeError, ValueError):
            pass
        else:
            print("taken:", call)
    eval(right)
"""


@pytest.mark.parametrize("right_first", [True, False])
def test_what_equals_a_right_argument_is_refused_in_any_order(right_first):
    assert fresh("-c", PROGRAM.format(pairs=PAIRS, right_first=right_first)) == ""


@pytest.mark.parametrize("first", ["ints", "others"])
def test_results_are_of_the_right_type_whatever_came_before(first):
    """4 and np.int64(4) are equal, and so are dtypes with and without metadata: neither decides for the other."""
    program = f"""
import numpy as np
import numbanorm as nbn
noted = np.dtype(np.float32, metadata={{"unit": "m"}})
arrays = [np.ones((2, 6, 4, 5), dtype) for dtype in (np.float32, noted)]
others = [lambda n: n, np.int64, np.uint8]
if {first == "others"}:
    others, arrays = others[::-1], arrays[::-1]
for made in others:
    layout = nbn.Layout("n (g c) h w -> n g", g=made(3))
    named = nbn.Layout.group(made(3), channel_axis=made(1))
    for shape in (layout.group_shape([made(n) for n in (2, 6, 4, 5)]), named.group_shape((made(2), 6, 4, made(5)))):
        print(shape, [type(n).__name__ for n in shape])
    print(layout, named, nbn.Layout.axes(made(1)), nbn.Layout(np.str_("n c -> c")))
    for x in arrays:
        y, z = nbn.group_norm(x, made(3)), nbn.normalize(x, "n (g c) h w -> n g", g=made(3))
        print(y.dtype, y.dtype.metadata, z.dtype, z.dtype.metadata, nbn.rms_norm(x, made(5)).dtype.metadata)
"""
    lines = set(fresh("-c", program).splitlines())
    assert lines == {
        "(2, 3) ['int', 'int']",
        "Layout('n (g c) h w -> n g', g=3) Layout.group(3, channel_axis=1) Layout.axes((1,)) Layout('n c -> c')",
        "float32 None float32 None None",
    }


@pytest.mark.parametrize("order", [1, -1])
def test_byte_orders_do_not_decide_for_each_other(order):
    program = f"""
import numpy as np
import numbanorm as nbn
for dtype in (">f4", "<f4", "=f4")[::{order}]:
    y = nbn.layer_norm(np.array([[1.0, 3.0]], dtype), 2, eps=0)
    print(y.dtype.isnative, y.tolist())
"""
    assert set(fresh("-c", program).splitlines()) == {"True [[-1.0, 1.0]]"}


def test_a_number_that_changes_is_read_anew(numpy_engine):
    """A tensor equals itself, whatever it holds by then."""
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    groups = torch.tensor(2)
    calls = [
        lambda n: nbn.group_norm(x, n),
        lambda n: nbn.normalize(x, "n (g c) h w -> n g", g=n),
        lambda n: nbn.normalize(x, Layout.group(n)),
        lambda n: nbn.moments(x, "n (g c) h w -> n g", g=n).mean,
    ]
    for call in calls:
        for number in (2, 3):
            groups.fill_(number)
            np.testing.assert_array_equal(call(groups), call(number))


# keywords that nobody has --------------------------------------------------------------------------------------------

FUNCTIONS = {"moments": nbn.moments, "normalize": nbn.normalize}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("keyword", ["esp", "dim", "keepdims", "nan_policy", "banana", "correction", "G", "axes", "x2"])
@pytest.mark.parametrize(
    "layout",
    [{}, {"axis": 0}, {"layout": "n c h w -> c"}, {"layout": Layout.batch()}],
    ids=["none", "axis", "pattern", "Layout"],
)
def test_unknown_keywords_are_refused_by_name(name, keyword, layout):
    function = FUNCTIONS[name]
    said = message(lambda: function(ones(), **layout, **{keyword: 1}))
    assert said.startswith(f"{name}() got an unexpected keyword argument '{keyword}'")
    for parameter in list(inspect.signature(function).parameters)[:-1]:
        assert re.search(rf"\b{parameter}\b", said), f"{parameter} is not in {said!r}"


@pytest.mark.parametrize(
    ("call", "mend"),
    [
        (lambda: nbn.normalize(ones(), esp=0), "did you mean eps?"),
        (lambda: nbn.normalize(ones(), axis=0, wieght=1), "did you mean weight?"),
        (lambda: nbn.normalize(ones(), return_moment=True), "did you mean return_moments?"),
        (lambda: nbn.normalize(ones(), epsilon=0), "write eps="),
        (lambda: nbn.normalize(ones(), dim=0), "write axis="),
        (lambda: nbn.moments(ones(), dim=0, keepdim=True), "write axis="),
        (lambda: nbn.normalize(ones(), gamma=1), "write weight="),
        (lambda: nbn.normalize(ones(), beta=1), "write bias="),
        (lambda: nbn.normalize(ones(), inplace=True), "out=x"),
        (lambda: nbn.normalize(ones(), num_groups=2), "group_norm"),
        (lambda: nbn.normalize(ones(), training=True), "batch_norm"),
        (lambda: nbn.normalize(ones(), "n c h w -> c", channel_axis=-1), "pattern"),
        (lambda: nbn.normalize(ones(), normalized_shape=5), "layer_norm"),
        (lambda: nbn.normalize(ones(), mean=0, std=1), "moments="),
        (lambda: nbn.moments(ones(), ddof=1), "var(ddof=1)"),
        (lambda: nbn.moments(ones(), keepdims=True), "Layout.expand"),
        (lambda: nbn.moments(ones(), dtype="f4"), "float64"),
        (lambda: nbn.moments(ones(), "n (grp c) h w -> n grp", gpr=2), "did you mean grp?"),
        (lambda: nbn.moments(ones(), "n (g c) h w -> n g", G=2), "did you mean g?"),
        (lambda: nbn.moments(ones(), "n (g c) h w -> n g", k=2), "sizes of n, g, c, h, w in 'n (g c) h w -> n g'"),
        (lambda: nbn.moments(ones(), Layout.batch(), g=2), "Layout.batch(channel_axis=1) got its sizes"),
        (lambda: Layout("n (grp c) -> n grp", gpr=2), "did you mean grp?"),
        (lambda: Layout("n (g c) -> n g", k=2), "n, g, c"),
        (lambda: Layout("-> ", k=2), "no axis"),
    ],
)
def test_unknown_keywords_get_a_mend(call, mend):
    assert mend in message(call)


def test_the_signature_decides_what_to_write():
    """Advice for what is missing goes with the day that a function takes it."""

    def function(x, *, axis=None, ddof=0, dtype=None, skipna=False, **sizes):
        as_layout(None, axis, sizes, function)

    assert "write ddof=" in message(lambda: function(0, correction=1))
    assert "skipna=True" in message(lambda: function(0, nan_policy="omit"))
    assert "did you mean dtype?" in message(lambda: function(0, dtyp="f4"))
    assert "It takes x, axis, ddof, dtype, skipna;" in message(lambda: function(0, banana=1))


def test_hints_cost_nothing_when_imported():
    code = "import sys, numbanorm; sys.exit('difflib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# flags and numbers ---------------------------------------------------------------------------------------------------

WRONG_FLAGS = ["no", "False", "", None, 0, 1, 0.1, [], [True], np.array([True]), np.array(True), np.ones(2, bool)]


@pytest.mark.parametrize("wrong", WRONG_FLAGS, ids=repr)
def test_flags_are_true_or_false(wrong, numpy_engine):
    mean, var, x = np.zeros(6), np.ones(6), ones()
    for name, call in {
        "training": lambda: nbn.batch_norm(x, mean, var, training=wrong),
        "use_input_stats": lambda: nbn.instance_norm(x, mean, var, use_input_stats=wrong),
        "return_moments": lambda: nbn.normalize(x, axis=0, return_moments=wrong),
    }.items():
        assert f"{name} must be True or False, got" in message(call)
    assert "training must be" in message(lambda: nbn.batch_renorm(x, mean, var, training=wrong))
    assert (mean == 0).all() and (var == 1).all()


def test_flags_of_numpy_are_flags(numpy_engine):
    x = np.arange(24, dtype=np.float64).reshape(4, 6)
    mean, var = np.ones(6), np.full(6, 2.0)
    np.testing.assert_array_equal(nbn.batch_norm(x, training=np.True_), nbn.batch_norm(x, training=True))
    np.testing.assert_array_equal(nbn.batch_norm(x, mean, var, training=np.False_), nbn.batch_norm(x, mean, var))
    assert isinstance(nbn.normalize(x, axis=0, return_moments=np.False_), np.ndarray)
    assert len(nbn.normalize(x, axis=0, return_moments=np.True_)) == 2
    assert check_flag(np.True_, "flag") is True


WRONG_NUMBERS = ["1e-5", b"1", None, True, np.True_, 1j, np.complex64(1), [1.0], np.array([1e-5]), np.ones(2), 10**400]


@pytest.mark.parametrize("wrong", WRONG_NUMBERS, ids=lambda wrong: repr(wrong)[:20])
def test_numbers_are_numbers(wrong):
    assert "eps must be a number, got" in message(lambda: nbn.normalize(ones(), axis=0, eps=wrong))
    assert "r_max must be a number, got" in message(
        lambda: nbn.batch_renorm(ones(), np.zeros(6), np.ones(6), training=True, r_max=wrong)
    )
    if wrong is not None:
        assert "momentum must be a number, got" in message(
            lambda: nbn.batch_norm(ones(), np.zeros(6), np.ones(6), training=True, momentum=wrong)
        )


@pytest.mark.parametrize("right", [1, 0.25, np.float32(0.25), np.array(0.25), np.int8(1)], ids=repr)
def test_numbers_of_any_type_are_floats(right):
    assert (check_number(right, "number"), type(check_number(right, "number"))) == (float(right), float)


def test_tensors_of_one_number():
    torch = pytest.importorskip("torch")
    assert check_number(torch.tensor(0.25), "number") == 0.25
    for wrong in (torch.ones(1), torch.ones(2), torch.tensor(True), torch.tensor(1j)):
        assert "number must be a number, got" in message(lambda wrong=wrong: check_number(wrong, "number"))
