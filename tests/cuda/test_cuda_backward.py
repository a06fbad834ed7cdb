"""Going backward on a GPU: every kernel against the oracle, over layouts, memory orders, dtypes and weights."""

import everyday
import numpy as np
import oracle
import pytest

pytest.importorskip("numba_cuda", reason="needs the package numba-cuda")
import traffic
from device_kernels import LAYER, Memory, array
from hypothesis import given
from hypothesis import strategies as st
from oracle import assert_same, assert_within
from strategies import BFLOAT16, FLOATS, ORDERS, RANDOM, arrange, arrays, groupings, values

import numbanorm as nbn
from numbanorm.arrays.take import view
from numbanorm.cuda import backward, launcher


@pytest.fixture
def memory(gpu):
    return Memory(gpu)


def run(memory, layout, grad, x, weight=None, states=None, **settings):
    """Gradients, on the host, and the order in memory of the first."""
    grad, x, weight = memory.send(grad), memory.send(x), memory.send(weight)
    if states is not None:
        states = nbn.moments(x, layout)
    made = nbn.normalize_backward(grad, x, states, layout, weight, **settings)
    return [None if one is None else memory.get(view(one)) for one in made]


def check(got, layout, grad, x, weight=None, **settings):
    """Values within the rounding; dtypes, shapes and the memory order of x."""
    ids, groups = oracle.groups(layout, x.shape)
    with np.errstate(all="ignore"):
        expected = oracle.normalize_backward(grad, x, ids, groups, weight, **settings)
        allowed = oracle.backward_tolerance(grad, x, ids, groups, expected, weight, **settings)
    assert (got[0].dtype, got[0].shape) == (x.dtype, x.shape)
    for one, wanted, tolerance, like in zip(got, expected, allowed, (x, weight, weight), strict=False):
        assert (one.dtype, one.shape) == (like.dtype, like.shape)
        assert_within(oracle.within_range(one, one.dtype), oracle.within_range(wanted, one.dtype), tolerance)
    if weight is None:
        assert got[1:] == [None, None]


# name: shape, order in memory, layout, shape of the weight
LAST3 = (0, 2, 1)
EVERY = {
    # A group has one weight, or none.
    "batch": ((4, 3, 2, 8), None, nbn.Layout.batch(), (3, 1, 1)),
    "batch in parts": ((10, 2, 4, 8), None, nbn.Layout.batch(), (2, 1, 1)),
    "many batches": ((2, 9, 3, 8), None, nbn.Layout.batch(), (9, 1, 1)),
    "instances": ((4, 3, 24), None, nbn.Layout.instance(), (3, 1)),
    "one weight of all": ((9, 30), None, LAYER, ()),
    "many values of a weight": ((60, 3), None, nbn.Layout.axes(()), (3,)),
    "rows, plain": ((7, 36), None, LAYER, None),
    "rows read twice": ((7, 520), None, LAYER, None),
    "rows in parts": ((2, 600), None, LAYER, None),
    "columns": ((9, 48), None, nbn.Layout.axes(0), (48,)),
    "columns, plain": ((3, 48), None, nbn.Layout.axes(0), None),
    "columns read twice": ((20, 200), None, nbn.Layout.axes(0), (200,)),
    "columns in parts": ((40, 24), None, nbn.Layout.axes(0), (24,)),
    "columns, odd": ((20, 37), None, nbn.Layout.axes(0), (37,)),
    # It has several, which share cells of some elements.
    "groups of two channels": ((2, 8, 20), None, nbn.Layout.group(4), (8, 1)),
    "groups, last": ((2, 8, 20), LAST3, nbn.Layout.group(4), (8, 1)),
    "groups of ten channels, last": ((2, 20, 18), LAST3, nbn.Layout.group(2), (20, 1)),
    "interleaved groups": ((2, 8, 20), LAST3, nbn.Layout("n (c g) s -> n g", g=4), (8, 1)),
    "weights by channel of a layer": ((3, 4, 20), None, nbn.Layout.layer(2), (4, 1)),
    # Or cells of few elements.
    "layer": ((9, 36), None, LAYER, (36,)),
    "layer in parts": ((2, 600), None, LAYER, (600,)),
    "layer read twice": ((7, 520), None, LAYER, (520,)),
    "layer, odd": ((9, 35), None, LAYER, (35,)),
    "layers of pictures": ((2, 12, 20), None, nbn.Layout.axes(1), (12, 1)),
    "layers of pictures, last": ((2, 12, 20), LAST3, nbn.Layout.axes(1), (12, 1)),
    "columns, weights by row": ((26, 24), None, nbn.Layout.axes(0), (26, 1)),
    "weights by element": ((9, 24), None, nbn.Layout.axes(0), (9, 24)),
    "windows": ((1, 4, 8, 3), None, nbn.Layout("n (h p) (w q) c -> n h w c", p=4, q=2), (3,)),
    "tiny runs": ((30, 5), None, LAYER, (5,)),
    "a number": ((), None, nbn.Layout.axes(None), ()),
    "six axes": ((3, 2, 2, 2, 3, 5), (1, 3, 0, 4, 2, 5), nbn.Layout.axes((0, 2, 5)), (3, 5)),
}
RARE = {"instances", "columns, plain", "weights by channel of a layer", "layer, odd", "interleaved groups", "six axes"}
RARE |= {"rows in parts", "batch in parts", "columns", "groups, last", "layers of pictures"}
RARE |= {"layer read twice", "rows, plain", "columns, odd", "many values of a weight", "weights by element", "windows"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=everyday.exhaustive if n in RARE else ()) for n in EVERY])
def test_every_way(name, memory, rng):
    shape, order, layout, of_weight = EVERY[name]
    x, grad = array(rng, shape, order=order), array(rng, shape, order=order, mean=0.2)
    weight = None if of_weight is None else array(rng, of_weight)
    check(run(memory, layout, grad, x, weight), layout, grad, x, weight)


@pytest.mark.parametrize("shape", [(6, 24), (2, 600)])
def test_weights_that_differ_in_name_only(shape, memory, rng):
    """Those of a group lie in one place in memory, and have a gradient each."""
    x, grad, of_rows = array(rng, shape), array(rng, shape), array(rng, (shape[0], 1))
    weight = np.broadcast_to(of_rows, shape)
    check(run(memory, LAYER, grad, x, weight), LAYER, grad, x, weight)
    weight = np.broadcast_to(array(rng, ()), shape[1:])
    check(run(memory, LAYER, grad, x, weight), LAYER, grad, x, weight)


def test_statistics_that_are_given_are_those_that_are_made(memory, rng):
    x, grad, weight = array(rng, (9, 36)), array(rng, (9, 36)), array(rng, (36,))
    made = [run(memory, LAYER, grad, x, weight, states) for states in (None, True)]
    for one, again in zip(*made, strict=True):
        assert_same(again, one)


WAYS = ["layer", "columns in parts", "groups of two channels"]
KINDS = [(BFLOAT16, BFLOAT16, np.float32), (np.float64,) * 3, (np.float32, np.float64, np.float64), (np.float16,) * 3]


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        pytest.param(name, kinds, id=f"{name}-{j}", marks=() if i == j % len(WAYS) else everyday.exhaustive)
        for i, name in enumerate(WAYS)
        for j, kinds in enumerate(KINDS)
    ],
)
def test_every_dtype(name, kinds, memory, rng):
    shape, _, layout, of_weight = EVERY[name]
    x, grad, weight = (array(rng, own, dtype) for own, dtype in zip((shape, shape, of_weight), kinds, strict=True))
    check(run(memory, layout, grad, x, weight), layout, grad, x, weight)


ALIGNED = [order for order in ORDERS if order != "unaligned"]


@everyday.examples(100)
@given(data=st.data())
def test_any_grouping_of_any_arrays(data):
    memory, rng = _given[0], data.draw(RANDOM)
    grouping = data.draw(groupings(max_size=300))
    shape, layout = grouping.shape, grouping.as_layout()
    of_x, of_grad = (FLOATS[rng.integers(len(FLOATS))] for _ in range(2))
    x = np.array(data.draw(arrays(shape, [of_x], special=False)), order="K")  # a GPU takes what is aligned
    grad = arrange(
        rng,
        values(rng, shape, of_grad, "centred"),
        str(rng.choice([order for order in ORDERS if order != "unaligned"])),
    )
    weight = None
    if rng.random() < 0.8:
        own = [1 if rng.random() < 0.3 else size for size in shape[rng.integers(len(shape) + 1) :]]
        order = str(rng.choice(["C", "F", "permuted", "stepped", "reversed", "broadcast"]))
        weight = arrange(rng, np.asarray(rng.standard_normal(own)).astype(FLOATS[rng.integers(len(FLOATS))]), order)
    settings = {
        "eps": data.draw(st.sampled_from([1e-5, 0.0, 1.0])),
        "eps_on": data.draw(st.sampled_from(["var", "std"])),
    }
    if x.size > grouping.num_groups:
        settings["ddof"] = int(rng.integers(2))
    check(run(memory, layout, grad, x, weight, **settings), layout, grad, x, weight, **settings)


_given = []


@pytest.fixture(autouse=True)
def _for_hypothesis(request):
    """Hypothesis cannot take a fixture that lives for one test."""
    if request.node.name.startswith("test_any"):
        _given[:] = [request.getfixturevalue("memory")]


# promises -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", everyday.every(WAYS, WAYS[-1:]))
def test_the_same_bits_every_time_and_without_asking_the_device(name, gpu, memory, rng):
    shape, _, layout, of_weight = EVERY[name]
    x, grad, weight = (memory.send(array(rng, own)) for own in (shape, shape, of_weight))
    with gpu.working():
        made = [nbn.normalize_backward(grad, x, None, layout, weight) for _ in range(2)]
    for one, again in zip(*made, strict=True):
        assert_same(memory.get(view(one)), memory.get(view(again)))


@pytest.mark.parametrize("scale", [1e-30, 1e30])
@pytest.mark.parametrize("axis", [0, 1])
def test_values_whose_coefficients_do_not_fit_float32(scale, axis, memory, rng):
    x, grad, weight = (array(rng, shape, mean=0.1) for shape in ((12, 20), (12, 20), (20,)))
    x, layout = (x * np.float32(scale)), nbn.Layout.axes(axis)
    check(run(memory, layout, grad, x, weight, eps=0.0), layout, grad, x, weight, eps=0.0)


def test_a_constant_group_without_eps_has_no_gradient(memory, rng):
    x, grad, weight = np.full((3, 40), 7.0, np.float32), array(rng, (3, 40)), np.ones(40, np.float32)
    dx, dweight, dbias = run(memory, LAYER, grad, x, weight, eps=0.0)
    assert not dx.any()
    assert not dweight.any()
    np.testing.assert_allclose(dbias, grad.sum(axis=0), rtol=1e-5)


@pytest.mark.parametrize("axis", [0, 1])
def test_what_is_not_finite_stays_in_its_group(axis, memory, rng):
    x, grad, layout = array(rng, (12, 20)), array(rng, (12, 20)), nbn.Layout.axes(axis)
    clean = run(memory, layout, grad, x)[0]
    x[7, 9] = np.nan
    spoilt = np.zeros(x.shape, bool)
    spoilt[(7, slice(None)) if axis == 1 else (slice(None), 9)] = True
    dx = run(memory, layout, grad, x)[0]
    assert np.isnan(dx[spoilt]).all()
    assert_same(dx[~spoilt], clean[~spoilt])


@pytest.mark.parametrize("shape", [(0, 5), (5, 0)])
def test_arrays_without_elements(shape, memory):
    x, weight = np.zeros(shape, np.float32), np.ones(shape[-1:], np.float32)
    dx, dweight, dbias = run(memory, nbn.Layout.axes(0), x, x, weight)
    assert dx.shape == shape
    assert (dweight.shape, dbias.shape) == (weight.shape, weight.shape)
    assert not dweight.any()
    assert not dbias.any()


@pytest.mark.parametrize("offset", everyday.every([0, 1e5], [1e5]))
def test_accuracy_does_not_depend_on_the_mean(offset, memory, rng):
    """In units of float32's rounding, of the largest gradient."""
    x, grad, weight = (array(rng, shape, mean=0.0) for shape in ((16, 80), (16, 80), (80,)))
    x += np.float32(offset)
    ids, groups = oracle.groups(LAYER, x.shape)
    expected = oracle.normalize_backward(grad, x, ids, groups, weight)
    got = run(memory, LAYER, grad, x, weight)
    assert max(np.abs(a - b).max() / np.abs(b).max() * 2**24 for a, b in zip(got, expected, strict=True)) < 8


MOVED = ["batch", "rows read twice", "columns read twice", "columns, odd", "groups of two channels", "layer"]
MOVED += ["layers of pictures", "columns, weights by row"]


# what is launched -----------------------------------------------------------------------------------------------------

LAUNCHED = {
    "many batches": ["backward", "contract"],
    "batch in parts": ["totals", "contract", "descend", "contract"],
    "rows, plain": ["backward"],
    "groups of two channels": ["totals", "contract", "contract", "descend"],
    "layer": ["backward", "totals", "contract"],
}


@pytest.mark.parametrize("name", LAUNCHED)
def test_launches(name, memory, monkeypatch, rng):
    """Of walks over x and of sums of sums: an array is not walked more often than it must be."""
    launched, real = [], launcher.launch

    def launch(step, *arguments):
        launched.append(step.code.variant.operation)
        real(step, *arguments)

    monkeypatch.setattr(launcher, "launch", launch)
    shape, _, layout, of_weight = EVERY[name]
    x, grad, weight = (own and memory.send(array(rng, own)) for own in (shape, shape, of_weight))
    states = nbn.moments(x, layout)
    del launched[:]
    nbn.normalize_backward(grad, x, states, layout, weight)
    ours = {"backward", "totals", "descend", "contract"}
    assert [one for one in launched if one in ours] == LAUNCHED[name]


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in MOVED else everyday.exhaustive) for n in EVERY])
def test_kernels_move_what_the_model_says(name, watch, memory, rng):
    """Bytes of x, of the gradient, of weights and of the output; each in pieces as wide as a plan says."""
    shape, order, layout, of_weight = EVERY[name]
    x, grad = (memory.send(array(rng, shape, order=order)) for _ in range(2))
    weight = None if of_weight is None else memory.send(array(rng, of_weight))
    seen = watch(x=x, weight=weight, bias=grad)
    dx = view(nbn.normalize_backward(grad, x, None, layout, weight)[0])
    ours = [(step, areas) for step, areas in seen if step.code.goes_back]
    for step, areas in ours:
        expected, code = traffic.of(step), step.code
        for of, slot in ((expected.x, "x"), (expected.bias, "bias"), (expected.weight, "weight")):
            loads = areas[slot].loads if slot in areas else {}
            assert sum(size * count for size, count in loads.items()) == of, slot
        assert set(areas["x"].loads) == {code.vector * 4}
        out = next(area for area in areas.values() if area.address == dx.pointer)
        assert out.stores == ({code.vector * 4: expected.out // code.vector // 4} if expected.out else {})
        assert not out.loads
    written = sum(traffic.of(step).out for step, _ in ours)
    assert written == x.nbytes


@pytest.mark.parametrize("layer", traffic.BACK, ids=lambda layer: f"{layer[0]} {layer[1]}")
def test_layers_of_the_table_of_traffic(layer, real_table):
    """With the real launch table: x and the gradient are read twice at most, in vectors of 128 bits."""
    steps = [step for step in traffic.planned_back(*layer[1:]) if step.code.goes_back]
    size = int(np.prod(layer[2])) * {"f4": 4, "bf": 2}[layer[1]]
    moved = [traffic.of(step) for step in steps]
    assert sum(one.out for one in moved) == size
    assert size <= sum(one.x for one in moved) == sum(one.bias for one in moved) <= 2 * size
    assert all(step.code.vector * size // int(np.prod(layer[2])) == 16 for step in steps)


# named norms ----------------------------------------------------------------------------------------------------------

NORMS = {
    # name: a call on the gradient, x, and three arrays of one value a channel, of which the last is within 0 to 1
    "batch norm, training": lambda g, x, w, m, v: nbn.batch_norm_backward(g, x, weight=w, training=True),
    "batch norm, evaluation": lambda g, x, w, m, v: nbn.batch_norm_backward(g, x, m, v, w),
    "batch norm, evaluation, plain": lambda g, x, w, m, v: nbn.batch_norm_backward(g, x, m, v),
    "instance norm": lambda g, x, w, m, v: nbn.instance_norm_backward(g, x, weight=w),
    "instance norm, stored": lambda g, x, w, m, v: nbn.instance_norm_backward(g, x, m, v, w, False),
    "group norm": lambda g, x, w, m, v: nbn.group_norm_backward(g, x, 3, w),
    "layer norm": lambda g, x, w, m, v: nbn.layer_norm_backward(g, x, 6, w, axis=1),
    "RMS norm": lambda g, x, w, m, v: nbn.rms_norm_backward(g, x, (6, 10)),
    "batch renormalization": lambda g, x, w, m, v: nbn.batch_renorm_backward(g, x, m, v, w, training=True),
    "batch renormalization, plain": lambda g, x, w, m, v: nbn.batch_renorm_backward(g, x, m, v, training=True),
    "batch renormalization, evaluation": lambda g, x, w, m, v: nbn.batch_renorm_backward(g, x, m, v, w),
    "batch-instance norm": lambda g, x, w, m, v: nbn.batch_instance_norm_backward(g, x, v, w),
    "batch-instance norm, plain": lambda g, x, w, m, v: nbn.batch_instance_norm_backward(g, x, v),
    "weight norm": lambda g, x, w, m, v: nbn.weight_norm_backward(g, x, w, axis=1),
    "weight standardization": lambda g, x, w, m, v: nbn.weight_standardize_backward(g, x, ddof=1, eps_on="std"),
}


@pytest.mark.parametrize("dtype", everyday.every([np.float32, np.float64, BFLOAT16], [np.float32]))
@pytest.mark.parametrize("name", NORMS)
def test_norms_have_the_gradients_of_the_host(name, dtype, memory, rng):
    g, x = (array(rng, (4, 6, 10), dtype, mean=0.3) for _ in range(2))
    w, m, v = array(rng, (6,), dtype), array(rng, (6,), mean=0.2), rng.random(6).astype(np.float32)
    expected = NORMS[name](g, x, w, m, v)
    made = NORMS[name](*map(memory.send, (g, x, w, m, v)))
    made, expected = (one if isinstance(one, tuple) else (one,) for one in (made, expected))
    for one, wanted in zip(made, expected, strict=True):
        if wanted is None:
            assert one is None
            continue
        one = memory.get(view(one))
        assert (one.dtype, one.shape) == (wanted.dtype, wanted.shape)
        reach = np.abs(oracle.wide(wanted)).max()
        assert_within(one, wanted, 8 * reach * oracle.working_eps(wanted.dtype) + 2 * reach * unit(wanted.dtype))


def unit(dtype):
    """Of a result's own rounding."""
    return {"bfloat16": 2.0**-8, "float32": 2.0**-23}.get(dtype.name, 2.0**-52)


def test_layer_norm_of_two_axes_in_another_order(memory, rng):
    """Sums that are transposed are given as the caller has the weight."""
    for dtype in (np.float32, np.float64):
        g, x, w = (array(rng, shape, dtype) for shape in ((4, 6, 4), (4, 6, 4), (4, 4)))
        expected = nbn.layer_norm_backward(g, x, (4, 4), w, axis=(2, 0))
        made = nbn.layer_norm_backward(*map(memory.send, (g, x)), (4, 4), memory.send(w), axis=(2, 0))
        for one, wanted in zip(made, expected, strict=True):
            np.testing.assert_allclose(memory.get(view(one)), wanted, rtol=2e-5, atol=2e-5)


# wrong input ----------------------------------------------------------------------------------------------------------


RAGGED = nbn.Layout.segments([0, 1, 2, 3, 4])


def test_wrong_input_is_refused_before_anything_runs(memory, monkeypatch, rng):
    x, w = array(rng, (4, 6)), np.ones(6, np.float32)
    there, weight, integers = memory.send(x), memory.send(w), memory.send(np.ones((4, 6), np.int32))
    m, other = nbn.moments(there, LAYER), nbn.moments(there, nbn.Layout.axes(0))

    def launch(*arguments):
        raise AssertionError("launched")

    monkeypatch.setattr(launcher, "launch", launch)
    rows = [
        (lambda: nbn.normalize_backward(x, there, m, LAYER), TypeError, "grad lies on the host"),
        (lambda: nbn.normalize_backward(there, x, None, LAYER), TypeError, "grad lies on GPU"),
        (lambda: nbn.normalize_backward(there, there, m, LAYER, w), TypeError, "weight lies on the host"),
        (lambda: nbn.normalize_backward(there, there, nbn.moments(x, LAYER), LAYER), TypeError, "moments"),
        (lambda: nbn.normalize_backward(integers, there, m, LAYER), TypeError, "grad has dtype int32.*astype"),
        (lambda: nbn.spectral_norm_backward(there, there), TypeError, "spectral_norm_backward works on the host"),
        (lambda: nbn.normalize_backward(integers, integers, m, LAYER), TypeError, "x has dtype int32.*astype"),
        (lambda: nbn.normalize_backward(there, there, other, LAYER), ValueError, "return_moments"),
        (lambda: nbn.normalize_backward(there, there, m, LAYER, memory.send(w[:4])), ValueError, "does not broadcast"),
        (lambda: nbn.normalize_backward(there, there, m, LAYER, eps=-1), ValueError, "eps"),
        (
            lambda: nbn.normalize_backward(there, there, m, nbn.Layout.segments([0, 1, 2, 3, 4])),
            TypeError,
            "segments.*host",
        ),
        (lambda: nbn.batch_norm_backward(there, there, weight=weight), ValueError, "running_mean"),
    ]
    rows.append((lambda: nbn.normalize_backward(there, there, m, RAGGED), TypeError, "segments.*host"))
    for call, error, fragment in rows:
        with pytest.raises(error, match=fragment):
            call()


def test_plans_do_not_depend_on_addresses_but_for_their_alignment(memory, rng):
    x, grad = (memory.send(array(rng, (6, 30))) for _ in range(2))
    states = nbn.moments(x, LAYER)
    nbn.normalize_backward(grad, x, states, LAYER)
    before = backward._plan.cache_info().misses
    nbn.normalize_backward(grad, memory.send(array(rng, (6, 30))), states, LAYER)
    assert backward._plan.cache_info().misses == before
