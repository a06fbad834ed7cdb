"""normalize() against the oracle: any grouping, dtype, memory order, weight and bias; out; other array types."""

import numpy as np
import oracle
import pytest
from everyday import dtypes, every, examples, exhaustive, floats, weights_for
from hypothesis import given
from hypothesis import strategies as st
from oracle import assert_same, assert_within
from strategies import BFLOAT16, FLOATS, ORDERS, arrange, arrays, groupings

import numbanorm as nbn


def check(got, x, ids, num_groups, weight=None, bias=None, eps=1e-5, stats=None):
    """Values within the rounding; dtype, shape and memory order of the input."""
    with np.errstate(all="ignore"):
        expected = oracle.normalize(x, ids, num_groups, weight, bias, eps, stats)
        allowed = oracle.output_tolerance(x, ids, num_groups, expected, weight, bias, eps, stats)
    dtype = oracle.result_dtype(x.dtype)
    assert type(got) is np.ndarray
    assert (got.dtype, got.shape) == (dtype, x.shape)
    assert got.strides == np.empty_like(x, dtype).strides
    assert_within(oracle.within_range(got, dtype), oracle.within_range(expected, dtype), allowed)


@dtypes
@examples(500)
@given(data=st.data())
def test_any_grouping_of_any_array(data, dtypes):
    grouping = data.draw(groupings())
    x = data.draw(arrays(grouping.shape, dtypes))
    weight, bias = data.draw(weights_for(x, dtypes))
    eps = data.draw(st.sampled_from([1e-5, 0.0, 1e-3, 1.0]))
    before = x.copy()
    got = nbn.normalize(x, grouping.layout, weight, bias, eps=eps, **grouping.keywords)
    ids = grouping.as_layout().group_ids(grouping.shape)
    check(got, x, ids, grouping.num_groups, weight, bias, eps)
    assert x.tobytes() == before.tobytes()


@dtypes
@examples(300)
@given(data=st.data())
def test_moments_beside_the_output_are_moments(data, dtypes):
    grouping = data.draw(groupings())
    x = data.draw(arrays(grouping.shape, dtypes))
    weight, bias = data.draw(weights_for(x, dtypes))
    plain = nbn.normalize(x, grouping.layout, weight, bias, **grouping.keywords)
    got, m = nbn.normalize(x, grouping.layout, weight, bias, return_moments=True, **grouping.keywords)
    assert_same(got, plain)
    ids = grouping.as_layout().group_ids(grouping.shape)
    count, mean, m2 = (a.reshape(grouping.group_shape) for a in oracle.moments(x, ids, grouping.num_groups))
    np.testing.assert_array_equal(m.count, count)
    of_mean = oracle.mean_tolerance(x, ids, grouping.num_groups, mean.ravel()).reshape(grouping.group_shape)
    assert_within(m.mean, mean, of_mean)
    with np.errstate(invalid="ignore"):
        assert_within(m.m2, m2, oracle.variance_tolerance(x.dtype, count, mean, m2 / count) * m2)


@floats
@examples(300)
@given(data=st.data())
def test_given_moments_are_used(data, dtypes):
    grouping = data.draw(groupings())
    x, other = data.draw(arrays(grouping.shape, dtypes)), data.draw(arrays(grouping.shape, FLOATS[:2], special=False))
    weight, bias = data.draw(weights_for(x, dtypes))
    given_moments = nbn.moments(other, grouping.layout, **grouping.keywords)
    got = nbn.normalize(x, grouping.layout, weight, bias, moments=given_moments, **grouping.keywords)
    ids = grouping.as_layout().group_ids(grouping.shape)
    stats = tuple(np.ravel(a) for a in (given_moments.count, given_moments.mean, given_moments.m2))
    check(got, x, ids, grouping.num_groups, weight, bias, stats=stats)


@examples(300)
@given(st.data())
def test_out_in_any_memory_order(data):
    """Also in place."""
    grouping = data.draw(groupings())
    x = data.draw(arrays(grouping.shape, FLOATS))
    ids = grouping.as_layout().group_ids(grouping.shape)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    order = data.draw(st.sampled_from([order for order in ORDERS if order not in ("broadcast", "read-only")]))
    apart, in_place = arrange(rng, np.full(grouping.shape, 7, x.dtype), order), arrange(rng, x, order)
    for source, out in [(x, apart), (in_place, in_place)]:
        expected = oracle.normalize(x, ids, grouping.num_groups)
        allowed = oracle.output_tolerance(x, ids, grouping.num_groups, expected)
        assert nbn.normalize(source, grouping.layout, out=out, **grouping.keywords) is out
        assert_within(out, expected, allowed)


def test_same_bits_with_and_without_out(rng):
    x = rng.standard_normal((3, 8, 20, 33)).astype(np.float32)
    expected = nbn.normalize(x, "n (g c) h w -> n g", g=2)
    out = np.empty_like(x)
    nbn.normalize(x, "n (g c) h w -> n g", g=2, out=out)
    assert_same(out, expected)
    nbn.normalize(x, "n (g c) h w -> n g", g=2, out=x)
    assert_same(x, expected)


def test_neighbours_of_out_are_no_overlap():
    """Memory side by side, and interleaved, is fine."""
    home = np.arange(48, dtype=np.float32).reshape(4, 12)
    expected = nbn.normalize(home[:, ::2].copy(), axis=1)
    np.testing.assert_array_equal(nbn.normalize(home[:, ::2], axis=1, out=home[:, 1::2]), expected)


@pytest.mark.parametrize("dtype", every(["int8", "uint16", "int64", "bool"], ["int8"]))
def test_out_of_integers_is_float64(dtype, rng):
    x = rng.integers(0, 2, (5, 8)).astype(dtype)
    out = np.empty((5, 8))
    nbn.normalize(x, axis=1, out=out)
    check(out, x, *oracle.groups(nbn.Layout.axes(1), x.shape))


@pytest.mark.parametrize("shape", [(4, 3, 2), (3, 2), (2,), (1, 3, 1), (), (1, 1, 1, 1)])
@pytest.mark.parametrize("what", ["weight", "bias"])
def test_broadcasting_is_numpys(what, shape, rng):
    if len(shape) > 3:
        with pytest.raises(ValueError, match=what):
            nbn.normalize(np.ones((4, 3, 2)), axis=0, **{what: np.ones(shape)})
        return
    x, parameter = rng.standard_normal((4, 3, 2)), rng.standard_normal(shape)
    got = nbn.normalize(x, axis=0, **{what: parameter})
    check(got, x, *oracle.groups(nbn.Layout.axes(0), x.shape), **{what: parameter})


def test_weight_as_list_and_scalar(rng):
    x = rng.standard_normal((4, 3))
    expected = nbn.normalize(x, axis=0, weight=np.array([1.0, 2.0, 3.0]), bias=np.array(5.0))
    np.testing.assert_array_equal(nbn.normalize(x, axis=0, weight=[1.0, 2.0, 3.0], bias=5.0), expected)


@pytest.mark.parametrize("dtype", every(FLOATS, FLOATS[:2]))
@pytest.mark.parametrize("order", ["F", "stepped", "reversed", "unaligned", "read-only"])
def test_weight_in_any_memory_order(dtype, order, rng):
    x = rng.standard_normal((6, 50)).astype(dtype)
    weight = rng.standard_normal((6, 50)).astype(dtype)
    expected = nbn.normalize(x, "r c -> r", weight, weight)
    strange = arrange(rng, weight, order)
    assert_same(nbn.normalize(x, "r c -> r", strange, strange), expected)


def test_byte_swapped_parameters(rng):
    x, weight = rng.standard_normal((2, 6, 50))
    expected = nbn.normalize(x, "r c -> r", weight, weight)
    swapped = weight.astype(weight.dtype.newbyteorder())
    np.testing.assert_array_equal(nbn.normalize(x, "r c -> r", swapped, swapped), expected)


def test_memory_mapped_files(tmp_path, rng):
    values = rng.standard_normal((30, 40)).astype(np.float32)
    np.save(tmp_path / "x.npy", values)
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    got = nbn.normalize(x, axis=0)
    np.testing.assert_array_equal(got, nbn.normalize(values, axis=0))
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), values)
    out = np.lib.format.open_memmap(tmp_path / "out.npy", "w+", np.float32, x.shape)
    nbn.normalize(x, axis=0, out=out)
    out.flush()
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), got)


# torch tensors on the CPU -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype", every(["float64", "float32", "float16", "bfloat16", "int64", "bool"], ["float32", "bfloat16"])
)
def test_torch_tensors_give_torch_tensors(dtype):
    torch = pytest.importorskip("torch")
    x = (100 * torch.rand(2, 6, 5, 4)).to(getattr(torch, dtype)).to(memory_format=torch.channels_last)
    array = x.to(torch.float32).numpy().astype(BFLOAT16) if dtype == "bfloat16" else x.numpy()
    got = nbn.normalize(x, "n (g c) h w -> n g", g=2)
    expected = nbn.normalize(array, "n (g c) h w -> n g", g=2)
    assert got.dtype == (x.dtype if x.is_floating_point() else torch.float64)
    assert got.stride() == x.stride()
    np.testing.assert_array_equal(got.double().numpy(), expected.astype(np.float64))
    m = nbn.moments(x, axis=(0, 2, 3))
    np.testing.assert_array_equal(m.mean, nbn.moments(array, axis=(0, 2, 3)).mean)


def test_torch_out_weight_and_bias():
    torch = pytest.importorskip("torch")
    x, weight, bias = torch.randn(2, 6, 5), torch.randn(5), torch.randn(5)
    out = torch.empty_like(x)
    assert nbn.normalize(x, "... c -> ...", weight, bias, out=out) is out
    expected = nbn.normalize(x.numpy(), "... c -> ...", weight.numpy(), bias.numpy())
    np.testing.assert_array_equal(out.numpy(), expected)


# what a result is made of, and into -----------------------------------------------------------------------------------


@examples(300)
@given(data=st.data(), ddof=st.sampled_from([0, 1, 2]), eps_on=st.sampled_from(["var", "std"]))
def test_ddof_and_where_eps_is_added(data, ddof, eps_on):
    grouping = data.draw(groupings())
    x = data.draw(arrays(grouping.shape, FLOATS[:2], special=False))
    ids, eps = grouping.as_layout().group_ids(grouping.shape), data.draw(st.sampled_from([1e-5, 0.0, 0.5]))
    size = x.size // max(1, grouping.num_groups)
    how = {"ddof": ddof, "eps_on": eps_on, "eps": eps}
    if x.size and size <= ddof:
        with pytest.raises(ValueError, match=f"ddof={ddof} needs groups of more than {ddof} values"):
            nbn.normalize(x, grouping.layout, **how, **grouping.keywords)
        return
    expected = oracle.normalize(x, ids, grouping.num_groups, **how)
    allowed = 4 * oracle.output_tolerance(x, ids, grouping.num_groups, expected, eps=0.0 if eps_on == "std" else eps)
    assert_within(nbn.normalize(x, grouping.layout, **how, **grouping.keywords), expected, allowed)


def test_ddof_of_given_moments(rng):
    x = rng.standard_normal((4, 30))
    got = nbn.normalize(x, axis=1, moments=nbn.moments(x, axis=1), ddof=1, eps=0.0)
    np.testing.assert_array_equal(got, nbn.normalize(x, axis=1, ddof=1, eps=0.0))
    np.testing.assert_allclose(got.std(axis=1, ddof=1), 1, rtol=1e-14)


PAIRS = [("uint8", "float32"), ("float32", "float64"), ("float32", "float16")]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        pytest.param(x, y, marks=() if (x, y) in PAIRS else exhaustive)
        for x in ["uint8", "int16", "int64", "bool", "float16", "bfloat16", "float32", "float64"]
        for y in ["float16", "bfloat16", "float32", "float64"]
    ],
)
@pytest.mark.parametrize("layout", ["n c h w -> n", "n c h w -> c", "n h w c -> n c"])
def test_any_float_type_may_be_asked_for(given, wanted, layout, rng):
    """As accurate as that type, or x, allows: a wider result has more digits than one that is converted afterwards."""
    given, wanted = (BFLOAT16 if name == "bfloat16" else np.dtype(name) for name in (given, wanted))
    x = (100 + 20 * rng.standard_normal((4, 6, 9, 5))).astype(given)
    ids, num = oracle.groups(nbn.Layout(layout), x.shape)
    expected = oracle.normalize(x, ids, num)
    narrow = {np.dtype(d) for d in ("uint8", "int16", "bool", "float16", "float32")} | {BFLOAT16}
    working = oracle.EPS64 if wanted == np.float64 or given not in narrow else oracle.EPS32
    unit = 2.0**-8 if wanted == BFLOAT16 else float(np.finfo(wanted).eps)
    size = np.abs(expected).max()
    for got in (nbn.normalize(x, layout, dtype=wanted), nbn.normalize(x, layout, out=np.empty(x.shape, wanted))):
        assert got.dtype == wanted
        assert_within(got, expected, 0.51 * unit * np.abs(expected) + 6 * working * size)


@pytest.mark.parametrize("dtype", [np.float32, "f4", "float32", np.dtype("f4"), np.dtype(">f4")])
def test_a_dtype_by_any_name(dtype, rng):
    x = rng.integers(0, 255, (3, 40)).astype(np.uint8)
    for _ in range(2):
        assert nbn.layer_norm(x, 40, dtype=dtype).dtype == np.float32
        assert nbn.layer_norm(x, 40).dtype == np.float64


def test_a_dtype_of_torch(rng):
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(rng.integers(0, 255, (3, 40)).astype(np.uint8))
    for dtype in (torch.float32, np.float32):
        assert nbn.layer_norm(x, 40, dtype=dtype).dtype == torch.float32
    for dtype in (torch.bfloat16, torch.float16):
        assert nbn.layer_norm(x.float(), 40, dtype=dtype).dtype == dtype
    np.testing.assert_array_equal(nbn.layer_norm(x, 40, dtype=torch.float32), nbn.layer_norm(x.numpy(), 40, dtype="f4"))


@pytest.mark.parametrize("dtype", ["int32", bool, complex, "no dtype", np.longdouble, 3, object])
def test_a_dtype_that_no_result_has(dtype, rng):
    with pytest.raises(TypeError, match="give float64, float32, float16 or bfloat16"):
        nbn.normalize(rng.standard_normal((3, 4)), axis=1, dtype=dtype)
    with pytest.raises(TypeError, match="results are of a float type"):
        nbn.normalize(rng.standard_normal((3, 4)), axis=1, out=np.zeros((3, 4), np.int32))
    with pytest.raises(TypeError, match="out has dtype float64, but dtype=float32"):
        nbn.normalize(rng.standard_normal((3, 4)), axis=1, dtype="f4", out=np.zeros((3, 4)))


@pytest.mark.parametrize("eps_on", ["variance", None, 1, True])
def test_eps_belongs_to_the_variance_or_the_deviation(eps_on, rng):
    with pytest.raises(ValueError, match="eps_on must be 'var'"):
        nbn.normalize(rng.standard_normal((3, 4)), axis=1, eps_on=eps_on)


# values at the end of float64's range ---------------------------------------------------------------------------------

FAR = 1.7e308


@pytest.mark.parametrize("layout", ["r c -> r", "c r -> r", "r (c d) -> r d", "n ->"])
@pytest.mark.parametrize("size", [2, 6, 66, 4200])
def test_means_of_values_too_far_apart_for_a_difference(layout, size):
    row = np.where(np.arange(size) % 3 == 0, FAR, -FAR)
    x = {"c r -> r": np.stack([row] * 20, 1), "n ->": row}.get(layout, np.stack([row] * 20))
    sizes = {"d": 2} if "d" in layout else {}
    m = nbn.moments(x, layout, **sizes)
    members = row.reshape(-1, 2).T if sizes else row[None]
    expected = np.array([np.sum(r / r.size) for r in members])
    np.testing.assert_allclose(m.mean, np.broadcast_to(expected if sizes else expected[0], m.shape), rtol=1e-12)
    assert np.all((m.m2 == np.inf) | (m.m2 == 0))
    parts = nbn.moments(row[: size // 2], axis=0) + nbn.moments(row[size // 2 :], axis=0)
    np.testing.assert_allclose(parts.mean, np.sum(row / size), rtol=1e-12)


def test_equal_values_at_the_end_of_the_range():
    m = nbn.moments(np.full((3, 5000), FAR), axis=1)
    np.testing.assert_array_equal(m.mean, FAR)
    np.testing.assert_array_equal(m.m2, 0)
