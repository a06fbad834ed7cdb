"""normalize_backward() against the oracle and against autograd: any grouping, dtype, memory order and weight."""

import tracemalloc

import numpy as np
import oracle
import pytest
from everyday import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle import assert_same, assert_within
from strategies import BFLOAT16, ORDERS, RANDOM, arrange, arrays, groupings, values

import numbanorm as nbn

F2, F4, F8, SWAPPED = np.dtype("f2"), np.dtype("f4"), np.dtype("f8"), np.dtype(">f4")
# Of x, grad and weight: each is compiled.
KINDS = [(F4, F4, F4), (F8, F8, F8)]
MORE = [(F4, F4, None), (F8, F8, None), (BFLOAT16, BFLOAT16, F4), (F2, F2, F2), (F4, F8, F8), (SWAPPED, F4, F4)]


def drawn(data, kinds, max_size=6000):
    """A grouping, and x, grad and weight of these dtypes in any memory order; the weight of any broadcast shape."""
    of_x, of_grad, of_weight = kinds
    grouping = data.draw(groupings(max_size=max_size))
    rng, shape = data.draw(RANDOM), grouping.shape
    x = data.draw(arrays(shape, [of_x], special=False))
    grad = arrange(rng, values(rng, shape, of_grad, "centred"), str(rng.choice(ORDERS)))
    weight = None
    if of_weight is not None:
        own = [1 if rng.random() < 0.3 else size for size in shape[rng.integers(len(shape) + 1) :]]
        order = str(rng.choice(["C", "F", "permuted", "stepped", "reversed", "broadcast"]))
        weight = arrange(rng, np.asarray(rng.standard_normal(own)).astype(of_weight), order)
    return grouping, x, grad, weight


def check(got, grad, x, ids, num_groups, weight, **settings):
    """Values within the rounding; dtypes, shapes and the memory order of x."""
    with np.errstate(all="ignore"):
        expected = oracle.normalize_backward(grad, x, ids, num_groups, weight, **settings)
        allowed = oracle.backward_tolerance(grad, x, ids, num_groups, expected, weight, **settings)
    dx, *others = got
    dtype = oracle.result_dtype(x.dtype)
    assert (dx.dtype, dx.shape) == (dtype, x.shape)
    assert dx.strides == np.empty_like(x, dtype).strides
    assert_within(oracle.within_range(dx, dtype), oracle.within_range(expected[0], dtype), allowed[0])
    if weight is None:
        assert others == [None, None]
        return
    for name, one, wanted, tolerance in zip(("dweight", "dbias"), others, expected[1:], allowed[1:], strict=True):
        dtype = oracle.result_dtype(weight.dtype)
        assert (one.dtype, one.shape) == (dtype, weight.shape), name
        assert_within(oracle.within_range(one, dtype), oracle.within_range(wanted, dtype), tolerance)


def name_of(kinds):
    return "-".join("none" if kind is None else kind.str if kind != BFLOAT16 else "bf" for kind in kinds)


@pytest.mark.parametrize("kinds", [*KINDS, *(pytest.param(k, marks=pytest.mark.exhaustive) for k in MORE)], ids=name_of)
@examples(300)
@given(data=st.data())
def test_any_grouping_of_any_arrays(data, kinds):
    grouping, x, grad, weight = drawn(data, kinds)
    ids, layout = grouping.as_layout().group_ids(grouping.shape), grouping.as_layout()
    chosen = {"eps": data.draw(st.sampled_from([1e-5, 0.0, 1.0]))}
    size = x.size // max(1, grouping.num_groups)
    if size > 1:
        chosen["ddof"] = data.draw(st.sampled_from([0, 0, 1]))
    chosen["eps_on"] = data.draw(st.sampled_from(["var", "var", "std"]))
    moments = nbn.moments(x, layout) if data.draw(st.booleans()) else None
    before = [None if a is None else a.tobytes() for a in (x, grad, weight)]
    got = nbn.normalize_backward(grad, x, moments, grouping.layout, weight, **chosen, **grouping.keywords)
    check(got, grad, x, ids, grouping.num_groups, weight, **chosen)
    assert [None if a is None else a.tobytes() for a in (x, grad, weight)] == before


@examples(100)
@given(data=st.data())
def test_gradients_of_autograd(data):
    torch = pytest.importorskip("torch")
    grouping, x, grad, weight = drawn(data, (F8, F8, F8), max_size=600)
    ids = torch.from_numpy(grouping.as_layout().group_ids(grouping.shape))
    if not x.size:
        return
    taken = [torch.from_numpy(np.array(a)).requires_grad_() for a in (x, weight, np.zeros_like(weight))]
    flat, n = ids.reshape(-1), torch.bincount(ids.reshape(-1), minlength=grouping.num_groups)
    mean = torch.zeros(grouping.num_groups, dtype=torch.float64).index_add(0, flat, taken[0].reshape(-1)) / n
    distance = taken[0] - mean[ids]
    var = torch.zeros_like(mean).index_add(0, flat, distance.reshape(-1) ** 2) / n
    y = distance / torch.sqrt(var + 1e-2)[ids] * taken[1] + taken[2]
    expected = [a.numpy() for a in torch.autograd.grad(y, taken, torch.from_numpy(np.array(grad)))]
    got = nbn.normalize_backward(grad, x, None, grouping.layout, weight, eps=1e-2, **grouping.keywords)
    with np.errstate(all="ignore"):
        ids = ids.numpy()
        allowed = oracle.backward_tolerance(grad, x, ids, grouping.num_groups, expected, weight, 1e-2)
    for one, wanted, tolerance in zip(got, expected, allowed, strict=True):
        assert_within(one, wanted, 4 * tolerance)  # autograd's own rounding is in it


@pytest.mark.parametrize("kinds", KINDS, ids=name_of)
@settings(examples(300), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_groups_in_parts_and_tasks_of_any_cut(cut_small, threads, data, kinds):
    grouping, x, grad, weight = drawn(data, kinds)
    ids = grouping.as_layout().group_ids(grouping.shape)
    got = []
    for number in (1, 3):
        nbn.set_num_threads(number)
        got.append(nbn.normalize_backward(grad, x, None, grouping.layout, weight, **grouping.keywords))
    check(got[0], grad, x, ids, grouping.num_groups, weight)
    for one, other in zip(*got, strict=True):
        assert_same(one, other)


LARGE = [
    ((600, 768), "n c -> n", (768,)),
    ((3000, 96), "n c -> n", (96,)),
    ((2, 70001), "n c -> n", (70001,)),
    ((8, 70, 30, 31), "n c h w -> c", (70, 1, 1)),
    ((8, 70, 7, 7), "n c h w -> c", (70, 1, 1)),
    ((1, 3, 300, 301), "n c h w -> c", (3, 1, 1)),
    ((3, 64, 30, 31), "n (g c) h w -> n g", (64, 1, 1)),
    ((3, 64, 30, 31), "n c h w -> n c", (64, 1, 1)),
    ((3, 67, 30, 31), "n c h w -> n h w", (67, 1, 1)),
]


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize(("shape", "pattern", "of_weight"), LARGE, ids=str)
def test_large_arrays_on_any_number_of_threads(rng, threads, shape, pattern, of_weight, last):
    if last and len(shape) < 4:
        pytest.skip("there is one order of memory")
    layout = nbn.Layout(pattern, **({"g": 8} if "g" in pattern else {}))
    x, grad = rng.standard_normal((2, *shape)).astype(np.float32)
    if last:
        x, grad = (np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) for a in (x, grad))
    weight = rng.random(of_weight).astype(np.float32)
    got = []
    for number in (1, 2, threads):
        nbn.set_num_threads(number)
        got.append(nbn.normalize_backward(grad, x, None, layout, weight))
    check(got[0], grad, x, layout.group_ids(shape), int(np.prod(layout.group_shape(shape))), weight)
    for others in got[1:]:
        for one, other in zip(got[0], others, strict=True):
            assert_same(other, one)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("pattern", ["n c -> n", "n c -> c"])
def test_what_is_not_finite_stays_in_its_group(rng, bad, pattern):
    """In dx; a weight's gradient has a sum of all groups that share it."""
    x, grad = rng.standard_normal((2, 40, 50)).astype(np.float32)
    clean = nbn.normalize_backward(grad, x, None, pattern)[0]
    x[7, 9] = bad
    dx = nbn.normalize_backward(grad, x, None, pattern)[0]
    spoilt = np.zeros(x.shape, bool)
    spoilt[(7, slice(None)) if pattern == "n c -> n" else (slice(None), 9)] = True
    assert np.isnan(dx[spoilt]).any()
    np.testing.assert_allclose(dx[~spoilt], clean[~spoilt], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
@pytest.mark.parametrize("shape", [(40, 100), (100, 40)])
@pytest.mark.parametrize("axis", [0, 1])
def test_values_whose_coefficients_do_not_fit_float32(rng, scale, shape, axis):
    x, grad = rng.standard_normal((2, *shape))
    x = (x * scale).astype(np.float32)
    grad, weight = grad.astype(np.float32), rng.random(shape[1]).astype(np.float32)
    layout = nbn.Layout.axes(axis)
    got = nbn.normalize_backward(grad, x, None, layout, weight, eps=0.0)
    check(got, grad, x, layout.group_ids(shape), shape[1 - axis], weight, eps=0.0)


def test_weights_of_channels_whose_products_do_not_fit_float32(rng):
    """Of one channel among many: its weight by one over the deviation, though not the output that they make."""
    x, grad = rng.standard_normal((2, 2, 38, 50))
    x, grad = (x * 1e-10).astype(np.float32), (grad * 1e-20).astype(np.float32)
    weight = np.ones((38, 1), np.float32)
    weight[17] = 1e30
    layout = nbn.Layout("n (g c) w -> n g", g=2)
    got = nbn.normalize_backward(grad, x, None, layout, weight, eps=0.0)
    assert np.isfinite(got[0]).all()
    check(got, grad, x, layout.group_ids(x.shape), 4, weight, eps=0.0)


def test_a_constant_group_without_eps_has_no_gradient(rng):
    x, grad = np.full((3, 100), 7.0, np.float32), rng.standard_normal((3, 100)).astype(np.float32)
    dx, dweight, dbias = nbn.normalize_backward(grad, x, None, "n c -> n", np.ones(100, np.float32), eps=0.0)
    assert not dx.any()
    assert not dweight.any()
    np.testing.assert_allclose(dbias, grad.sum(axis=0), rtol=1e-5)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0,)])
def test_arrays_without_elements(shape):
    x = np.zeros(shape, np.float32)
    weight = np.ones(shape[-1:], np.float32)
    dx, dweight, dbias = nbn.normalize_backward(x, x, None, axis=0, weight=weight)
    assert dx.shape == shape
    assert not dweight.any()
    assert not dbias.any()


def test_nothing_of_the_size_of_x_is_made_beside_dx(rng):
    x = rng.standard_normal((64, 64, 32, 32)).astype(np.float32)
    weight, moments = np.ones((64, 1, 1), np.float32), nbn.moments(x, "n c h w -> c")
    nbn.normalize_backward(x, x, moments, "n c h w -> c", weight)
    tracemalloc.start()
    nbn.normalize_backward(x, x, moments, "n c h w -> c", weight)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.nbytes + (3 << 20)  # large arrays begin on a page of 2 MB


@pytest.mark.parametrize("offset", [0, 1e3, 1e5])
@pytest.mark.parametrize(("pattern", "of_weight"), [("n c -> n", (768,)), ("n c -> c", (768,))])
def test_accuracy_does_not_depend_on_the_mean(rng, offset, pattern, of_weight):
    """In units of float32's rounding, of the largest gradient; see docs/training.md."""
    x = (rng.standard_normal((2048, 768)) + offset).astype(np.float32)
    grad, weight = rng.standard_normal((2048, 768)).astype(np.float32), rng.random(of_weight).astype(np.float32)
    layout = nbn.Layout(pattern)
    got = nbn.normalize_backward(grad, x, None, layout, weight)
    ids, groups = layout.group_ids(x.shape), int(np.prod(layout.group_shape(x.shape)))
    expected = oracle.normalize_backward(grad, x, ids, groups, weight)
    units = [np.abs(a - b).max() / np.abs(b).max() * 2**24 for a, b in zip(got, expected, strict=True)]
    assert max(units) < 8
