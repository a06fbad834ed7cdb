"""Wrong input: refused with a message that names it, what was given and what fits, before anything is touched.

Nothing here needs a kernel, and none is compiled: on the host's own engine refusals come before that, and what else is
called runs on NumPy's.
"""

import re

import numpy as np
import pytest

import numbanorm as nbn
from numbanorm import Layout

SHAPE = (2, 6, 4, 5)


@pytest.fixture(autouse=True, params=["host", "numpy"])
def engine(request):
    """Each of the two engines, without kernels; those who ask for one have that one."""
    request.getfixturevalue({"host": "no_kernels", "numpy": "numpy_engine"}[request.param])
    return request.param


on_numpys_engine = pytest.mark.parametrize("engine", ["numpy"], indirect=True)


def ones(*shape, dtype=np.float32):
    return np.ones(shape or SHAPE, dtype)


def refused(call, error, fragments):
    """The error, and every fragment (a regular expression) somewhere in its message."""
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    for fragment in fragments:
        assert re.search(fragment, message), f"{fragment!r} is not in {message!r}"
    assert len(message.split()) > 5, f"{message!r} says too little"


def table(rows):
    return pytest.mark.parametrize(("call", "error", "fragments"), [pytest.param(*row[1:], id=row[0]) for row in rows])


def pattern_row(pattern, *fragments, error=ValueError, **sizes):
    """A row for a pattern that does not fit `SHAPE`: the message has the pattern in it."""
    name = f"{pattern} {sizes or ''}".strip()
    return name, lambda: nbn.normalize(ones(), pattern, **sizes), error, [re.escape(pattern), *fragments]


GIVEN = re.escape(str(SHAPE))


@table(
    [
        # does not parse
        pattern_row("n c h w", "->"),
        pattern_row("n c h w -> c -> n", "->"),
        pattern_row("n (c h w -> n", r"\(", r"close '\(c h w'"),
        pattern_row("n (c h w", r"close '\(c h w'"),
        pattern_row("n c) h w -> n", r"\)"),
        pattern_row("n ((a b) c) h w -> n", r"\(|nest"),
        pattern_row("n c h, w -> n", ",", "spaces"),
        pattern_row("n [c] h w -> n", r"\[", r"\( and \)"),
        pattern_row("n c h 2 -> n", "2", "name the axis"),
        pattern_row("n (c 2) h w -> n", "2", "p=2"),
        pattern_row("n c h 1w -> n", "'1w'", "digit"),
        pattern_row("n c . w -> n", r"\.", r"write '\.\.\.'"),
        pattern_row("n * w -> n", r"\*", r"write '\.\.\.'"),
        pattern_row("n … w -> n", "…", r"write '\.\.\.'"),
        pattern_row("n c h w → c", "→", "write the arrow as '->'"),
        pattern_row("n c h w => c", "=", "write the arrow as '->'"),
        pattern_row("n c h w --> c", "-", "write the arrow as '->'"),
        pattern_row("n c h w - > c", "-", "write the arrow as '->'"),
        pattern_row("n c h w > c", ">", "write the arrow as '->'"),
        pattern_row("batch", "->", r"Layout\.batch\(\)"),
        pattern_row("n (... c) h w -> n", r"\.\.\."),
        # names
        pattern_row("n c c w -> n", "twice", "c"),
        pattern_row("n c h w -> n n", "twice", "n"),
        pattern_row("... c ... -> c", "twice", r"\.\.\."),
        pattern_row("n c h w -> n q", "q"),
        pattern_row("n c h w -> C", "C", r"did you mean c\?"),
        pattern_row("batch channels h w -> chanels", r"did you mean channels\?"),
        pattern_row("nchw->c", "'nchw' is one name", "spaces", "'n c h w'"),
        pattern_row("nchw->nc", "spaces", "'n c h w'"),
        pattern_row("NCHW->C", "spaces", "'N C H W'"),
        pattern_row("n chw -> n c", "'chw' is one name", "'c h w'"),
        pattern_row("nchw -> nchw", "spaces", "'n c h w'", "1 axis", "4"),
        pattern_row("n αb γd w -> n", "'αb'", "letters"),
        pattern_row("n c2² h w -> n", "'c2²'", "letters"),
        pattern_row("n ｃ h w -> n", "letters"),
        pattern_row("n class h w -> n", "'class'", "keyword"),
        pattern_row("n (x c) h w -> n", "'x'", "parameter", "x1"),
        pattern_row("n c h out -> n", "'out'", "parameter"),
        pattern_row("n c h w -> n ...", r"\.\.\."),
        # sizes
        pattern_row("n (g c) h w -> n g", GIVEN, "g", "c"),
        pattern_row("n (g c) h w -> n g", GIVEN, "4", "6", "divide", "1, 2, 3 or 6 would", g=4),
        pattern_row("n (g c) h w -> n g", GIVEN, "6", "8", g=2, c=4),
        pattern_row("n (g c) h w -> n g", "0", "positive", g=0),
        pattern_row("n (g c) h w -> n g", "-2", "positive", g=-2),
        pattern_row("n (g c) h w -> n g", "2.5", "integer", g=2.5, error=(ValueError, TypeError)),
        pattern_row("n (g c) h w -> n g", "'k'", "n, g, c, h, w", g=2, k=3, error=TypeError),
        pattern_row("n c h w -> n", GIVEN, "7", "6", c=7),
        # the number of axes
        pattern_row("n c h -> n", "4", "3"),
        pattern_row("n c d h w -> n", "4", "5"),
        pattern_row("n c d h w ... -> n", "4", "5"),
        pattern_row("n 1 h w -> n", GIVEN, "6"),
    ]
)
def test_patterns(call, error, fragments):
    refused(call, error, fragments)


@table(
    [
        ("axis too large", lambda: nbn.moments(ones(), axis=4), ValueError, ["axis", "4", "-4", "3"]),
        ("axis too small", lambda: nbn.normalize(ones(), axis=(0, -5)), ValueError, ["axis", "-5", "4"]),
        ("axis twice", lambda: nbn.normalize(ones(), axis=(1, 1)), ValueError, ["axis", "twice"]),
        ("axis twice in two ways", lambda: nbn.moments(ones(), axis=(1, -3)), ValueError, ["axis", "twice"]),
        ("axis not an integer", lambda: nbn.moments(ones(), axis=1.5), TypeError, ["axis", "1.5"]),
        ("axis a name", lambda: nbn.moments(ones(), axis="c"), TypeError, ["axis", "c"]),
        ("layout and axis", lambda: nbn.moments(ones(), "n ... -> n", axis=1), ValueError, ["layout", "axis"]),
        ("layout a number", lambda: nbn.moments(ones(), 1), TypeError, ["layout|pattern", "int", "axis=1"]),
        ("layout axes", lambda: nbn.moments(ones(), (0, 1)), TypeError, ["layout", r"axis=\(0, 1\)"]),
        ("layout an array", lambda: nbn.moments(ones(), np.array([0, 1])), TypeError, ["layout", "axis="]),
        (
            "layout of bytes",
            lambda: nbn.moments(ones(), b"n c h w -> c"),
            TypeError,
            ["layout", "bytes", "'n c h w -> c'"],
        ),
        ("layout not made", lambda: nbn.moments(ones(), Layout.batch), TypeError, ["layout", "call it"]),
        ("sizes alone", lambda: nbn.moments(ones(), g=2), TypeError, ["'g'"]),
        ("sizes of a Layout", lambda: nbn.moments(ones(), Layout.batch(), g=2), TypeError, ["'g'"]),
        ("no axes at all", lambda: nbn.moments(np.float32(1), axis=0), ValueError, ["axis 0", "0 axes", "none"]),
        ("shape a number", lambda: Layout.batch().group_shape(4), TypeError, ["shape", "4", r"x\.shape"]),
        ("shape an array", lambda: Layout.batch().group_ids(ones()), TypeError, ["shape", GIVEN, r"x\.shape"]),
        ("shape text", lambda: Layout.batch().group_shape("45"), TypeError, ["shape", "'45'", r"x\.shape"]),
        ("shape negative", lambda: Layout.batch().group_shape((-2, 6)), ValueError, ["-2", "negative"]),
        ("no channel axis", lambda: Layout.batch(4).group_ids(SHAPE), ValueError, ["4", "axes|axis"]),
        ("channels are the batch", lambda: Layout.instance(0).group_ids(SHAPE), ValueError, ["axis 0"]),
        ("groups do not divide", lambda: Layout.group(4).group_ids(SHAPE), ValueError, [GIVEN, "4", "1, 2, 3 or 6"]),
        ("no groups", lambda: Layout.group(0), ValueError, ["num_groups", "0"]),
        ("no axes for a layer", lambda: Layout.layer(0), ValueError, ["num_axes", "0"]),
        ("too many axes for a layer", lambda: Layout.layer(5).group_ids(SHAPE), ValueError, ["5", "4"]),
    ]
)
def test_layouts(call, error, fragments):
    refused(call, error, fragments)


WRONG_KINDS = {
    "masked": np.ma.masked_array(np.ones(6), [0, 1, 0, 0, 0, 0]),
    "masked without a mask": np.ma.masked_array(np.ones(6)),
    "object": np.array([1.0, None, 2.0], object),
    "complex": np.ones(6, np.complex64),
    "strings": np.array(["1.0", "2.0"]),
    "bytes": np.array([b"1", b"2"]),
    "dates": np.array(["2020-01-01", "2020-01-02"], "datetime64[D]"),
    "time spans": np.array([1, 2], "timedelta64[s]"),
    "long double": np.ones(6, np.longdouble),
    "structured": np.ones(6, [("a", "f4"), ("b", "f4")]),
    "void": np.zeros(6, "V2"),
}


@pytest.mark.parametrize("kind", WRONG_KINDS)
@pytest.mark.parametrize("where", ["moments", "x", "weight", "bias", "out"])
def test_wrong_kinds_of_arrays(kind, where):
    wrong = WRONG_KINDS[kind]
    if kind == "long double" and wrong.dtype == np.float64:
        pytest.skip("long double is float64 here")
    x = np.linspace(0, 1, wrong.size)
    calls = {
        "moments": lambda: nbn.moments(wrong),
        "x": lambda: nbn.normalize(wrong),
        **{name: lambda: nbn.normalize(x, **{where: wrong}) for name in ("weight", "bias", "out")},
    }
    named = "mask" if "masked" in kind else re.escape(str(wrong.dtype))
    refused(calls[where], TypeError, [named] if where in ("moments", "x") else [where, named])


@pytest.mark.parametrize("wrong", [None, "text", {}, [None, 1.0]], ids=repr)
def test_what_makes_no_array_of_numbers(wrong):
    refused(lambda: nbn.normalize(wrong), TypeError, ["x"])


@pytest.mark.parametrize("wrong", [[1.0, 2.0], 1.0, "text", range(2)], ids=repr)
def test_out_that_is_not_an_array(wrong):
    refused(lambda: nbn.normalize(ones(2), out=wrong), TypeError, ["out", type(wrong).__name__])


@table(
    [
        ("nan", lambda: nbn.normalize(ones(), eps=np.nan), ValueError, ["eps", "nan"]),
        *(
            (f"{name} {eps}", lambda f=function, eps=eps: f(eps), ValueError, ["eps", "-"])
            for eps in (-1e-5, -np.inf)
            for name, function in {
                "normalize": lambda eps: nbn.normalize(ones(), eps=eps),
                "batch_norm": lambda eps: nbn.batch_norm(ones(), training=True, eps=eps),
                "layer_norm": lambda eps: nbn.layer_norm(ones(), 5, eps=eps),
                "group_norm": lambda eps: nbn.group_norm(ones(), 2, eps=eps),
                "instance_norm": lambda eps: nbn.instance_norm(ones(), eps=eps),
                "rms_norm": lambda eps: nbn.rms_norm(ones(), 5, eps=eps),
                "batch_renorm": lambda eps: nbn.batch_renorm(ones(), np.zeros(6), np.ones(6), eps=eps),
                "batch_instance_norm": lambda eps: nbn.batch_instance_norm(ones(), np.ones(6), eps=eps),
                "weight_standardize": lambda eps: nbn.weight_standardize(ones(), eps=eps),
                "spectral_norm": lambda eps: nbn.spectral_norm(ones(), eps=eps),
            }.items()
        ),
    ]
)
def test_eps(call, error, fragments):
    refused(call, error, fragments)


def given(name, *args, **keywords):
    return lambda: getattr(nbn, name)(*args, **keywords)


stats = np.zeros(6), np.ones(6)
one_value = re.escape("(1, 6)")


@table(
    [
        (
            "groups do not divide",
            given("group_norm", ones(), 4),
            ValueError,
            [GIVEN, "num_groups=4", "6 channels", "1, 2, 3 or 6 would", "^(?!.*g=)"],
        ),
        (
            "groups divide the last axis",
            given("group_norm", ones(2, 4, 5, 32), 8),
            ValueError,
            ["num_groups=8", "4 channels", "1, 2 or 4 would", "channel_axis=-1"],
        ),
        ("groups of 5040 channels", given("group_norm", ones(1, 5040), 11), ValueError, ["1, 2, 3, 4", r"\.\.\. 5040"]),
        ("groups of no channel", given("group_norm", ones(1, 7), 2), ValueError, ["1 or 7 would"]),
        ("groups not an integer", given("group_norm", ones(), "2"), TypeError, ["num_groups", "'2'"]),
        ("no groups", given("group_norm", ones(), 0), ValueError, ["num_groups", "0"]),
        ("group norm of one axis", given("group_norm", ones(4), 2), ValueError, ["axis|axes", r"x\[None\]"]),
        ("group norm of one value", given("group_norm", ones(1, 4), 4), ValueError, [re.escape("(1, 4)")]),
        ("one value a channel", given("batch_norm", ones(1, 6), training=True), ValueError, [one_value, "channel"]),
        (
            "one value a channel, renorm",
            given("batch_renorm", ones(1, 6), *stats, training=True),
            ValueError,
            [one_value, "channel"],
        ),
        ("one value an instance", given("instance_norm", ones(2, 6, 1)), ValueError, [re.escape("(2, 6, 1)")]),
        ("evaluation without statistics", given("batch_norm", ones()), ValueError, ["running_mean", "training=True"]),
        (
            "instances without statistics",
            given("instance_norm", ones(), use_input_stats=False),
            ValueError,
            ["running_mean", "use_input_stats=True"],
        ),
        *(
            (
                f"renorm without statistics, training={training}",
                given("batch_renorm", ones(), None, None, training=training),
                ValueError,
                ["running_mean", "in training, too", "zeros", "ones", "^(?!.*training=True)"],
            )
            for training in (True, False)
        ),
        ("one running array", given("batch_norm", ones(), stats[0]), ValueError, ["running_var is not", "both"]),
        ("the other running array", given("batch_norm", ones(), None, stats[1]), ValueError, ["running_mean is not"]),
        *(
            (f"{name}, channels last", call, ValueError, [r"32,", "channel_axis=-1", "4 channels", r"\(4,\)"])
            for name, call in {
                "batch_norm": given("batch_norm", ones(2, 4, 5, 32), training=True, weight=ones(32)),
                "running": given("batch_norm", ones(2, 4, 5, 32), ones(32), ones(32)),
                "running, training": given("batch_norm", ones(2, 4, 5, 32), ones(32), ones(32), training=True),
                "batch_renorm": given("batch_renorm", ones(2, 4, 5, 32), ones(32), ones(32), training=True),
                "group_norm": given("group_norm", ones(2, 4, 5, 32), 2, bias=ones(32)),
                "instance_norm": given("instance_norm", ones(2, 4, 5, 32), weight=ones(32)),
                "batch_instance_norm": given("batch_instance_norm", ones(2, 4, 5, 32), ones(32)),
            }.items()
        ),
        (
            "channels in the middle",
            given("batch_norm", ones(2, 4, 32, 5), training=True, weight=ones(32)),
            ValueError,
            ["channel_axis=2", "32 on axis 2"],
        ),
        (
            "weight a number",
            given("batch_norm", ones(), *stats, 2.0),
            ValueError,
            ["weight", r"numpy\.full\(6, weight\)"],
        ),
        ("weight a flag", given("batch_norm", ones(), *stats, True), TypeError, ["weight", "training=True"]),
        ("weight not flat", given("batch_norm", ones(), *stats, ones(6, 1, 1)), ValueError, [r"weight\.reshape\(-1\)"]),
        ("rho a number", given("batch_instance_norm", ones(), 0.5), ValueError, ["rho", r"numpy\.full\(6, rho\)"]),
        ("channel axis too large", given("group_norm", ones(), 2, channel_axis=4), ValueError, ["=4", "-4 to 3"]),
        ("channel axes", given("group_norm", ones(), 2, channel_axis=(1, 2)), TypeError, ["channel_axis", "int"]),
        ("weight too long", given("batch_norm", ones(), *stats, np.ones(7)), ValueError, ["weight", "7", "6"]),
        ("bias too short", given("group_norm", ones(), 2, None, np.ones(5)), ValueError, ["bias", "5", "6"]),
        ("bias not flat", given("instance_norm", ones(), bias=ones(6, 1)), ValueError, ["bias", "6"]),
        ("layer weight", given("layer_norm", ones(), (4, 5), ones(5)), ValueError, ["weight", r"\(4, 5\)"]),
        ("rms weight", given("rms_norm", ones(), 5, ones(4)), ValueError, ["weight", "5", "4"]),
        (
            "layer shape",
            given("layer_norm", ones(), (3, 5)),
            ValueError,
            ["normalized_shape", r"\(3, 5\)", GIVEN, r"pass \(4, 5\)"],
        ),
        ("rms shape", given("rms_norm", ones(), 4), ValueError, ["normalized_shape", "4", GIVEN, "pass 5"]),
        *(
            (f"{name} of {wrong}", given(name, ones(), wrong), error, ["normalized_shape", *fragments])
            for name in ("layer_norm", "rms_norm")
            for wrong, error, fragments in [
                (None, TypeError, ["None", "int"]),
                (5.0, TypeError, ["5.0", "int"]),
                ("5", TypeError, ["'5'", "int"]),
                ((4, None), TypeError, ["None", "int"]),
                ({4, 5}, TypeError, ["order", "tuple"]),
                (-1, ValueError, ["-1", "axes, not sizes", "pass 5"]),
                ((-2, -1), ValueError, ["axes, not sizes", r"pass \(4, 5\)"]),
                (np.array([4.0, 5.0]), TypeError, ["float64", "int"]),
                (np.array([[4, 5]]), TypeError, ["int"]),
                (True, TypeError, ["True", "int"]),
            ]
        ),
        ("layer norm of a number", given("layer_norm", np.float32(1), 1), ValueError, [r"\(\)", "no axes"]),
        ("layer weight a number", given("layer_norm", ones(), (4, 5), 2.0), ValueError, [r"numpy\.full\(\(4, 5\)"]),
        ("long layer shape", given("layer_norm", ones(5), (4, 5)), ValueError, ["normalized_shape", r"\(5,\)"]),
        ("no layer shape", given("layer_norm", ones(), ()), ValueError, ["normalized_shape"]),
        ("rho too large", given("batch_instance_norm", ones(), np.full(6, 1.5)), ValueError, ["rho", "1.5"]),
        ("rho negative", given("batch_instance_norm", ones(), np.full(6, -0.1)), ValueError, ["rho", "-0.1"]),
        ("rho nan", given("batch_instance_norm", ones(), np.full(6, np.nan)), ValueError, ["rho", "nan"]),
        ("rho too long", given("batch_instance_norm", ones(), np.ones(7)), ValueError, ["rho", "7", "6"]),
        ("r_max", given("batch_renorm", ones(), *stats, r_max=0.5), ValueError, ["r_max", "0.5"]),
        ("d_max", given("batch_renorm", ones(), *stats, d_max=-1.0), ValueError, ["d_max", "-1"]),
        ("g too long", given("weight_norm", ones(), np.ones(3)), ValueError, ["g", "3", "2"]),
        ("g not a scalar", given("weight_norm", ones(), np.ones(3), axis=None), ValueError, ["g", "3"]),
        ("weight axis", given("weight_norm", ones(), np.ones(2), axis=4), ValueError, ["axis", "4", "-4 to 3"]),
        ("weight axes", given("weight_norm", ones(), np.ones(2), axis=(0, 1)), TypeError, ["^axis", "int"]),
        ("weight axis text", given("weight_norm", ones(), np.ones(2), axis="0"), TypeError, ["^axis", "'0'", "int"]),
        ("standard axis None", given("weight_standardize", ones(), axis=None), TypeError, ["^axis", "int", "None"]),
        ("spectral axis None", given("spectral_norm", ones(), axis=None), TypeError, ["^axis", "int", "None"]),
        ("a number for a weight", given("weight_standardize", np.float32(1)), ValueError, ["axis 0", r"\(\)", "axes"]),
        ("standard axis", given("weight_standardize", ones(), axis=-5), ValueError, ["axis", "-5"]),
        ("spectral axis", given("spectral_norm", ones(), axis=4), ValueError, ["axis", "4"]),
        ("u too long", given("spectral_norm", ones(), np.ones(3)), ValueError, ["u", "3", "2"]),
        ("iterations", given("spectral_norm", ones(), num_iterations=-1), ValueError, ["num_iterations", "-1"]),
        ("no threads", given("set_num_threads", 0), ValueError, ["0"]),
        ("threads in words", given("set_num_threads", "2"), TypeError, ["'2'", "int"]),
        ("half a thread", given("set_num_threads", 1.5), (TypeError, ValueError), ["1.5|float"]),
        ("complex weights", given("spectral_norm", ones(dtype=complex)), TypeError, ["complex"]),
    ]
)
def test_named_norms(call, error, fragments):
    refused(call, error, fragments)


@pytest.mark.parametrize("name", ["batch_norm", "instance_norm", "batch_renorm"])
@pytest.mark.parametrize("momentum", [-0.1, 1.1, np.nan])
def test_momentum(name, momentum):
    refused(given(name, ones(), *stats, momentum=momentum), ValueError, ["momentum", re.escape(str(momentum))])


@on_numpys_engine
def test_moments_of_another_shape():
    m = nbn.moments(ones(), axis=0)
    refused(given("normalize", ones(), axis=1, moments=m), ValueError, ["moments", r"\(6, 4, 5\)", r"\(2, 4, 5\)"])
    refused(given("normalize", ones(), axis=0, moments=(1, 2)), TypeError, ["moments", "tuple"])


@on_numpys_engine
def test_torch_tensors_that_require_grad():
    torch = pytest.importorskip("torch")
    x = torch.ones(2, 6, requires_grad=True)
    refused(given("normalize", x), TypeError, ["grad", "detach|no_grad"])
    refused(given("normalize", x.detach(), out=torch.ones(2, 6, requires_grad=True)), TypeError, ["out", "grad"])
    refused(given("normalize", torch.ones(2, 6, dtype=torch.complex64)), TypeError, ["complex"])


# nothing is touched --------------------------------------------------------------------------------------------------


def wrong_outs():
    """(name, x, out, keywords, error, fragments): the parts of `out` that must not change are all of it."""
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    home = np.arange(48, dtype=np.float32)
    fixed = np.zeros_like(x)
    fixed.flags.writeable = False
    stretched = np.lib.stride_tricks.as_strided(home, (4, 6), (4, 4))
    return [
        ("shape", x, np.zeros((6, 4), np.float32), {}, ValueError, [r"\(6, 4\)", r"\(4, 6\)"]),
        ("more axes", x, np.zeros((1, 4, 6), np.float32), {}, ValueError, [r"\(1, 4, 6\)", r"\(4, 6\)"]),
        ("dtype", x, np.zeros((4, 6)), {"dtype": "f4"}, TypeError, ["float64", "float32"]),
        ("integers", x, np.zeros((4, 6), np.int32), {}, TypeError, ["int32", "float"]),
        ("read-only", x, fixed, {}, ValueError, ["read-only|writ"]),
        ("over itself", x, stretched, {}, ValueError, ["overlap"]),
        ("broadcast", x, np.broadcast_to(np.zeros(6, np.float32), (4, 6)), {}, ValueError, ["overlap|writ|read-only"]),
        ("x shifted", home[:24].reshape(4, 6), home[1:25].reshape(4, 6), {}, ValueError, ["overlap", "x"]),
        ("x reversed", home[:24].reshape(4, 6), home[:24].reshape(4, 6)[::-1], {}, ValueError, ["overlap", "x"]),
        ("x transposed", home[:36].reshape(6, 6), home[:36].reshape(6, 6).T, {}, ValueError, ["overlap", "x"]),
        ("weight", x, home[:24].reshape(4, 6), {"weight": home[2:8]}, ValueError, ["overlap", "weight"]),
        ("bias", x, home[:24].reshape(4, 6), {"bias": home[23:24]}, ValueError, ["overlap", "bias"]),
        ("bias itself", x, home[:24].reshape(4, 6), {"bias": home[:24].reshape(4, 6)}, ValueError, ["overlap", "bias"]),
    ]


@pytest.mark.parametrize("row", wrong_outs(), ids=lambda row: row[0])
def test_out_is_refused_untouched(row):
    _, x, out, keywords, error, fragments = row
    before = out.copy()
    refused(lambda: nbn.normalize(x, axis=1, out=out, **keywords), error, ["out", *fragments])
    np.testing.assert_array_equal(out, before)


@pytest.mark.parametrize(
    ("wrong", "error", "fragments"),
    [
        ({"eps": -1.0}, ValueError, ["eps"]),
        ({"momentum": 1.5}, ValueError, ["momentum"]),
        ({"weight": np.ones(7)}, ValueError, ["weight"]),
        ({"bias": np.ones(5)}, ValueError, ["bias"]),
        ({"bias": np.ones(6, complex)}, TypeError, ["bias"]),
        ({"x": np.ma.masked_array(ones())}, TypeError, ["mask"]),
        ({"x": ones(2, 7, 4, 5)}, ValueError, ["running_mean"]),
        ({"x": ones(1, 6)}, ValueError, [r"\(1, 6\)"]),
        ({"out": np.zeros((2, 6, 4), np.float32)}, ValueError, ["out"]),
        ({"channel_axis": 4}, ValueError, ["axis"]),
        ({"running_var": np.ones(5)}, ValueError, ["running_var", "5", "6"]),
        ({"running_var": np.ones(6, int)}, TypeError, ["running_var", "int"]),
        ({"running_var": [1.0] * 6}, TypeError, ["running_var", "list"]),
        ({"running_var": np.broadcast_to(1.0, 6)}, ValueError, ["running_var", "read-only|writ"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("name", ["batch_norm", "instance_norm", "batch_renorm"])
def test_running_statistics_and_out_stay_untouched(name, wrong, error, fragments, engine):
    arguments = {"x": ones(), "running_mean": np.full(6, 2.0), "running_var": np.full(6, 3.0)}
    arguments |= {"out": np.full(SHAPE, 9, np.float32), **wrong}
    arguments |= {"use_input_stats": True} if name == "instance_norm" else {"training": True}
    if arguments["x"].shape != SHAPE:
        arguments["out"] = np.full(arguments["x"].shape, 9, np.float32)
    if name == "batch_renorm" and "out" in wrong and engine == "host":
        pytest.skip("its output is looked at when the batch's moments are known, for which it needs a kernel")
    before = {key: np.copy(arguments[key]) for key in ("running_mean", "running_var", "out")}
    refused(lambda: getattr(nbn, name)(**arguments), error, fragments)
    for key, value in before.items():
        np.testing.assert_array_equal(arguments[key], value)
