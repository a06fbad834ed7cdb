"""The named norms against torch's functions of the same name, and against the oracle where torch has none."""

import copy

import numpy as np
import oracle
import pytest
from everyday import every
from oracle import assert_within

import numbanorm as nbn

torch = pytest.importorskip("torch")
functional = torch.nn.functional

SHAPES = [(5, 6), (3, 6, 7), (2, 6, 5, 4), (4, 12, 17, 9), (2, 6, 3, 4, 5), (1, 6, 2), (0, 6, 4, 4), (3, 6, 0), (0, 6)]
LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
DTYPES = [torch.float32, torch.float64]


def tensors(shape, dtype, affine, channels_last=False, offset=0.5):
    """x, and a weight and a bias for its channels (or None)."""
    generator = torch.Generator().manual_seed(1)
    x = offset + torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    if channels_last:
        x = x.to(memory_format=LAST[x.ndim])
    c = torch.randn((2, shape[1]), generator=generator, dtype=torch.float64).to(dtype)
    return x, *(c if affine else (None, None))


def arrays(*items):
    return [item if item is None else item.numpy() for item in items]


def wider(*items):
    return [item if item is None else item.double() for item in items]


def check(got, expected, exact):
    """`expected`: torch's answer in the same dtype. `exact`: torch's answer in float64, which has to be nearer."""
    assert got.dtype == expected.numpy().dtype
    assert got.strides == tuple(expected.element_size() * step for step in expected.stride()) or got.size == 0
    unit = np.finfo(got.dtype).eps
    size = np.abs(exact.numpy()).max(initial=1.0)
    assert_within(got, expected.numpy(), 32 * unit * size)
    assert_within(got, exact.numpy(), 8 * unit * size)


def cases(*extra):
    """Every shape, contiguous and channels last, in both dtypes, affine or not."""
    for shape in [*SHAPES, *extra]:
        for channels_last in [False, True] if len(shape) in LAST else [False]:
            for dtype in DTYPES:
                for affine in [False, True]:
                    name = f"{'x'.join(map(str, shape))}{'-last' * channels_last}-{str(dtype)[6:]}{'-affine' * affine}"
                    yield pytest.param(shape, dtype, affine, channels_last, id=name)


every_case = pytest.mark.parametrize(("shape", "dtype", "affine", "channels_last"), list(cases()))


def running(shape, dtype):
    return torch.linspace(-1, 1, shape[1], dtype=dtype), torch.linspace(0.5, 3, shape[1], dtype=dtype)


def check_running(ours, theirs, unit):
    for got, expected in zip(ours, theirs, strict=True):
        assert_within(got, expected.numpy(), 16 * unit * np.maximum(np.abs(expected.numpy()), 1))


@every_case
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("momentum", [0.1, 0.7])
def test_batch_norm(shape, dtype, affine, channels_last, training, momentum):
    x, weight, bias = tensors(shape, dtype, affine, channels_last)
    theirs = running(shape, dtype)
    ours = [a.copy() for a in arrays(*theirs)]
    exact = functional.batch_norm(*wider(x, *running(shape, dtype), weight, bias), training, momentum, 1e-3)
    expected = functional.batch_norm(x, *theirs, weight, bias, training, momentum, 1e-3)
    got = nbn.batch_norm(x.numpy(), *ours, *arrays(weight, bias), training, momentum, 1e-3)
    check(got, expected, exact)
    check_running(ours, theirs, torch.finfo(dtype).eps)


@every_case
def test_batch_norm_without_running_statistics(shape, dtype, affine, channels_last):
    x, weight, bias = tensors(shape, dtype, affine, channels_last)
    expected = functional.batch_norm(x, None, None, weight, bias, True)
    got = nbn.batch_norm(x.numpy(), weight=arrays(weight)[0], bias=arrays(bias)[0], training=True)
    check(got, expected, functional.batch_norm(x.double(), None, None, *wider(weight, bias), True))


@every_case
@pytest.mark.parametrize("num_groups", [1, 2, 6])
def test_group_norm(shape, dtype, affine, channels_last, num_groups):
    x, weight, bias = tensors(shape, dtype, affine, channels_last)
    expected = functional.group_norm(x, num_groups, weight, bias)
    got = nbn.group_norm(x.numpy(), num_groups, *arrays(weight, bias))
    if x.numel() == shape[0] * num_groups > 0:  # one value a group: torch gives its rounding over sqrt(eps)
        np.testing.assert_array_equal(got, np.broadcast_to(bias.numpy() if affine else 0, shape))
        return
    if channels_last and expected.numel():
        expected = expected.to(memory_format=LAST[x.ndim])  # torch does not always keep the order
    check(got, expected, functional.group_norm(x.double(), num_groups, *wider(weight, bias)))


@every_case
@pytest.mark.parametrize(("use_input_stats", "tracked"), [(True, True), (True, False), (False, True)])
def test_instance_norm(shape, dtype, affine, channels_last, use_input_stats, tracked):
    x, weight, bias = tensors(shape, dtype, affine, channels_last)
    theirs = running(shape, dtype) if tracked else (None, None)
    ours = [a if a is None else a.copy() for a in arrays(*theirs)]
    arguments = arrays(weight, bias), use_input_stats, 0.3, 1e-4
    if use_input_stats and len(shape) == 2:  # one value an instance: torch raises
        with pytest.raises(ValueError, match=r"one value|one spatial|more than"):
            nbn.instance_norm(x.numpy(), *ours, *arguments[0], *arguments[1:])
        return
    if affine and shape[0] == 0:  # torch fails
        assert nbn.instance_norm(x.numpy(), *ours, *arguments[0], *arguments[1:]).shape == shape
        return
    fresh = running(shape, torch.float64) if tracked else (None, None)
    exact = functional.instance_norm(x.double(), *fresh, *wider(weight, bias), *arguments[1:])
    expected = functional.instance_norm(x, *theirs, weight, bias, *arguments[1:])
    got = nbn.instance_norm(x.numpy(), *ours, *arguments[0], *arguments[1:])
    if channels_last:
        expected = expected.to(memory_format=LAST[x.ndim])
    check(got, expected, exact)
    if tracked and x.numel():  # torch fills the running statistics of an empty batch with NaN
        check_running(ours, theirs, torch.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("shape", [(7,), (5, 33), (2, 3, 768), (0, 8), (3, 4, 5, 6), (2, 3, 2, 2, 5), (4, 0), (2, 1)])
@pytest.mark.parametrize("num_axes", [1, 2, 3])
def test_layer_and_rms_norm(shape, dtype, affine, num_axes):
    if num_axes > len(shape):
        pytest.skip("fewer axes")
    normalized_shape = shape[-num_axes:]
    x = tensors((*shape, 1), dtype, False)[0][..., 0]
    weight, bias = (torch.randn(normalized_shape, dtype=dtype) if affine else None for _ in range(2))
    expected = functional.layer_norm(x, normalized_shape, weight, bias, 1e-4)
    got = nbn.layer_norm(x.numpy(), normalized_shape, *arrays(weight, bias), 1e-4)
    check(got, expected, functional.layer_norm(x.double(), normalized_shape, *wider(weight, bias), 1e-4))
    for eps in [None, 1e-3]:
        expected = functional.rms_norm(x, normalized_shape, weight, eps)
        got = nbn.rms_norm(x.numpy(), normalized_shape, *arrays(weight), eps)
        exact = functional.rms_norm(x.double(), normalized_shape, *wider(weight), eps or torch.finfo(dtype).eps)
        check(got, expected, exact)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, *DTYPES])
def test_the_eps_of_rms_norm_is_torchs_where_it_matters(dtype):
    x = torch.tensor([[1e-3, -2e-3, 3e-3]], dtype=dtype)
    torch.testing.assert_close(nbn.rms_norm(x, 3), functional.rms_norm(x, (3,)))
    grad, leaf = torch.tensor([[1.0, 0.0, 0.5]], dtype=dtype), x.clone().requires_grad_()
    functional.rms_norm(leaf, (3,)).backward(grad)
    torch.testing.assert_close(nbn.rms_norm_backward(grad, x, 3)[0], leaf.grad, rtol=1e-2, atol=0)


def test_an_integer_normalized_shape(rng):
    x = rng.standard_normal((3, 8))
    np.testing.assert_array_equal(nbn.layer_norm(x, 8), nbn.layer_norm(x, (8,)))
    np.testing.assert_array_equal(nbn.rms_norm(x, 8), nbn.rms_norm(x, [8]))


# running statistics ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [None, 0.1, 0.0, 1.0])
@pytest.mark.parametrize(
    ("module", "function", "training"),
    [
        (torch.nn.BatchNorm2d, nbn.batch_norm, {"training": True}),
        (torch.nn.InstanceNorm2d, nbn.instance_norm, {"use_input_stats": True}),
    ],
)
def test_running_statistics_over_batches(module, function, training, momentum):
    """As torch's module keeps them: `momentum=None` is the mean over all batches so far."""
    if module is torch.nn.InstanceNorm2d and momentum is None:
        pytest.skip("torch's InstanceNorm takes momentum None as 0")
    layer = module(6, momentum=momentum, track_running_stats=True).double()
    mean, var, seen = np.zeros(6), np.ones(6), np.zeros((), np.int64)
    for seed in range(4):
        x = torch.randn(3, 6, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + seed
        expected = layer(x)
        got = function(x.numpy(), mean, var, momentum=momentum, num_batches_tracked=seen, **training)
        np.testing.assert_allclose(got, expected.detach().numpy(), rtol=0, atol=1e-13)
        np.testing.assert_allclose(mean, layer.running_mean.numpy(), rtol=1e-13)
        np.testing.assert_allclose(var, layer.running_var.numpy(), rtol=1e-13)


@pytest.mark.parametrize("dtype", every(["float32", "float64", "float16"], ["float32", "float64"]))
@pytest.mark.parametrize("training", [True, False])
def test_running_arrays_of_another_dtype(dtype, training, rng):
    x = rng.standard_normal((8, 3, 5)).astype(np.float32)
    mean, var = np.full(3, 0.25, dtype), np.full(3, 2.0, dtype)
    got = nbn.batch_norm(x, mean, var, training=training, momentum=0.5)
    unit = np.finfo(dtype).eps
    if training:
        batch_mean, batch_var = oracle.batch_statistics(x)
        assert_within(mean, 0.125 + 0.5 * batch_mean, unit)
        assert_within(var, 1 + 0.5 * batch_var, 2 * unit)
        expected = oracle.batch_norm(x)
    else:
        expected = oracle.batch_norm_stored(x, np.full(3, 0.25), np.full(3, 2.0))
    assert (mean.dtype, var.dtype, got.dtype) == (dtype, dtype, np.float32)
    assert_within(got, expected, 8 * np.finfo(np.float32).eps * 4)


def test_evaluation_leaves_the_running_statistics(rng):
    mean, var = np.zeros(6), np.ones(6)
    nbn.batch_norm(rng.standard_normal((2, 6, 3)) + 5, mean, var, training=False)
    nbn.instance_norm(rng.standard_normal((2, 6, 3)) + 5, mean, var, use_input_stats=False)
    nbn.batch_renorm(rng.standard_normal((2, 6, 3)) + 5, mean, var, training=False)
    np.testing.assert_array_equal(mean, 0)
    np.testing.assert_array_equal(var, 1)


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("shape", [(0, 6, 4), (3, 6, 0)])
def test_empty_batches_leave_the_running_statistics(shape, momentum, no_kernels):
    mean, var = np.full(6, 2.0), np.full(6, 3.0)
    x = np.ones(shape)
    for got in [
        nbn.batch_norm(x, mean, var, training=True, momentum=momentum, num_batches_tracked=np.zeros((), int)),
        nbn.instance_norm(x, mean, var, use_input_stats=True),
        nbn.batch_renorm(x, mean, var, training=True),
    ]:
        assert got.shape == shape
    np.testing.assert_array_equal(mean, 2)
    np.testing.assert_array_equal(var, 3)


# norms that torch does not have ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("r_max", "d_max"), [(1.0, 0.0), (3.0, 5.0), (1.5, 0.2), (1e9, 1e9)])
@pytest.mark.parametrize("channel_axis", [1, -1])
def test_batch_renorm(r_max, d_max, channel_axis, rng):
    x = 3 + 2 * rng.standard_normal((4, 6, 5, 6))
    mean, var = rng.standard_normal(6), rng.random(6) * 4 + 0.5
    weight, bias = rng.standard_normal((2, 6))
    ours = mean.copy(), var.copy()
    limits = {"r_max": r_max, "d_max": d_max, "channel_axis": channel_axis}
    got = nbn.batch_renorm(x, *ours, weight, bias, True, 0.2, **limits)
    expected = oracle.batch_renorm(x, mean, var, weight, bias, **limits)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-13 * np.abs(expected).max())
    batch_mean, batch_var = oracle.batch_statistics(x, channel_axis)
    np.testing.assert_allclose(ours[0], 0.8 * mean + 0.2 * batch_mean, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(ours[1], 0.8 * var + 0.2 * batch_var, rtol=1e-13)
    stored = nbn.batch_renorm(x, *ours, weight, bias, False, **limits)
    plain = nbn.batch_norm(x, *ours, weight, bias, False, channel_axis=channel_axis)
    np.testing.assert_array_equal(stored, plain)


def test_batch_renorm_is_batch_norm_at_first(rng):
    """The paper's start, r_max 1 and d_max 0."""
    x = rng.standard_normal((4, 6, 5))
    got = nbn.batch_renorm(x, np.zeros(6), np.ones(6), training=True, r_max=1.0, d_max=0.0)
    np.testing.assert_allclose(got, nbn.batch_norm(x, training=True), rtol=0, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("channel_axis", [1, -1])
def test_batch_instance_norm(dtype, channel_axis, rng):
    x = (1 + rng.standard_normal((4, 6, 5, 6))).astype(dtype)
    rho, weight, bias = np.linspace(0, 1, 6), *rng.standard_normal((2, 6))
    got = nbn.batch_instance_norm(x, rho, weight, bias, channel_axis=channel_axis)
    expected = oracle.batch_instance_norm(x, rho, weight, bias, channel_axis=channel_axis)
    assert got.dtype == dtype
    assert_within(got, expected, 8 * np.finfo(dtype).eps * np.abs(expected).max())


@pytest.mark.parametrize("rho", [0.0, 1.0])
def test_ends_of_rho(rho, rng):
    x = rng.standard_normal((4, 6, 5))
    got = nbn.batch_instance_norm(x, np.full(6, rho))
    end = nbn.batch_norm(x, training=True) if rho else nbn.instance_norm(x)
    np.testing.assert_allclose(got, end, rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", ["batch_norm", "group_norm", "instance_norm", "batch_renorm", "batch_instance_norm"])
def test_out_and_channels_last(name, rng):
    """`channel_axis=-1` means the transposed thing, and `out` is what comes back."""
    x = rng.standard_normal((4, 5, 6, 8)).astype(np.float32)
    weight, bias = rng.standard_normal((2, 8))
    arguments = {
        "batch_norm": lambda: [None, None, weight, bias, True],
        "group_norm": lambda: [4, weight, bias],
        "instance_norm": lambda: [None, None, weight, bias],
        "batch_renorm": lambda: [np.zeros(8), np.ones(8), weight, bias, True],
        "batch_instance_norm": lambda: [np.full(8, 0.25), weight, bias],
    }[name]
    function, out = getattr(nbn, name), np.empty_like(x)
    assert function(x, *arguments(), channel_axis=-1, out=out) is out
    first = function(np.ascontiguousarray(np.moveaxis(x, -1, 1)), *arguments())
    np.testing.assert_allclose(out, np.moveaxis(first, 1, -1), rtol=0, atol=4e-6)
    in_place = copy.copy(x)
    assert function(in_place, *arguments(), channel_axis=-1, out=in_place) is in_place
    np.testing.assert_array_equal(in_place, out)


# other axes, other results --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("axis", "sizes"), [(1, 6), (-3, (6,)), ((1, 3), (6, 4)), ((3, 1), (4, 6)), ((2, 3), (5, 4))])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layer_norm_of_axes_that_are_not_last(axis, sizes, dtype, rng):
    x, shape = rng.standard_normal((2, 6, 5, 4)).astype(dtype), np.atleast_1d(sizes)
    weight, bias = rng.standard_normal((2, *shape)).astype(dtype)
    axes = np.atleast_1d(axis)
    last = np.arange(-len(axes), 0)
    for order in (x, np.asfortranarray(x), np.ascontiguousarray(np.moveaxis(x, 1, -1)).transpose(0, 3, 1, 2)):
        got = nbn.layer_norm(order, sizes, weight, bias, axis=axis)
        moved = np.moveaxis(x.astype(np.float64), axes, last)
        expected = np.moveaxis(oracle.layer_norm(moved, tuple(shape), weight, bias), last, axes)
        assert_within(got, expected, 8 * np.finfo(dtype).eps * np.abs(expected).max())
        np.testing.assert_array_equal(nbn.layer_norm(order, sizes, weight, bias, axis=axis), got)


def test_layer_norm_refuses_axes_that_do_not_fit(rng):
    x = rng.standard_normal((2, 6, 5, 4))
    for sizes, axis, message in [(5, 1, r"so pass \(6,\)"), ((6, 5), 1, "is not the size"), (6, 7, "out of range")]:
        with pytest.raises(ValueError, match=message):
            nbn.layer_norm(x, sizes, axis=axis)
    with pytest.raises(ValueError, match="axis twice"):
        nbn.layer_norm(x, (6, 6), axis=(1, 1))
    with pytest.raises(TypeError, match="axis must be an int"):
        nbn.layer_norm(x, 6, axis=1.0)
    with pytest.raises(ValueError, match="weight has shape"):
        nbn.layer_norm(x, 6, np.ones(4), axis=1)


STATE = {"running_mean": np.zeros(6), "running_var": np.ones(6)}
WITH_MOMENTS = {
    "batch_norm": (lambda x, **how: nbn.batch_norm(x, training=True, **how), (0, 2, 3)),
    "batch_renorm": (lambda x, **how: nbn.batch_renorm(x, np.zeros(6), np.ones(6), training=True, **how), (0, 2, 3)),
    "instance_norm": (nbn.instance_norm, (2, 3)),
    "batch_instance_norm": (lambda x, **how: nbn.batch_instance_norm(x, np.full(6, 0.5), **how), (2, 3)),
    "group_norm": (lambda x, **how: nbn.group_norm(x, 1, **how), (1, 2, 3)),
    "layer_norm": (lambda x, **how: nbn.layer_norm(x, (5, 4), **how), (2, 3)),
}


@pytest.mark.parametrize("name", WITH_MOMENTS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_moments_and_dtypes_of_norms(name, dtype, rng):
    norm, axes = WITH_MOMENTS[name]
    x = rng.standard_normal((3, 6, 5, 4)).astype(np.float32)
    plain = norm(x)
    for _ in range(2):
        got, m = norm(x, return_moments=True, dtype=dtype)
        assert got.dtype == norm(x, dtype=dtype).dtype == dtype
        assert_within(got, plain, np.finfo(dtype).eps * np.abs(plain))
        expected = nbn.moments(x, axis=axes)
        np.testing.assert_array_equal(m.count.ravel(), expected.count.ravel())
        np.testing.assert_allclose(m.mean.ravel(), expected.mean.ravel(), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(m.m2.ravel(), expected.m2.ravel(), rtol=1e-12)


def test_moments_of_rms_norm_are_about_zero(rng):
    x = rng.standard_normal((3, 40))
    _, m = nbn.rms_norm(x, 40, return_moments=True)
    np.testing.assert_array_equal(m.mean, 0)
    np.testing.assert_allclose(m.var(), np.mean(x**2, axis=1), rtol=1e-13)


def test_stored_statistics_have_no_moments_to_return(rng):
    x = rng.standard_normal((3, 6, 5, 4))
    for call in (
        lambda: nbn.batch_norm(x, **STATE, return_moments=True),
        lambda: nbn.batch_renorm(x, **STATE, return_moments=True),
        lambda: nbn.instance_norm(x, **STATE, use_input_stats=False, return_moments=True),
    ):
        with pytest.raises(ValueError, match="return_moments=True gives x's own statistics"):
            call()


def test_numpys_settings_for_errors_do_not_reach_inside(rng):
    """Overflows, underflows and divisions by zero that a caller lets NumPy raise are the caller's own."""
    x = np.concatenate([rng.standard_normal((3, 6, 5)), np.zeros((1, 6, 5)), np.full((1, 6, 5), 1e300)]) * 1e-160
    mean, var = np.zeros(6), np.zeros(6)
    with np.errstate(all="ignore"):
        inputs = x, x * 1e160, x.astype(np.float32)
    with np.errstate(all="raise"):
        for y in inputs:
            nbn.batch_norm(y, mean, var, training=True, eps=0.0)
            nbn.batch_norm(y, mean, var, eps=0.0)
            nbn.instance_norm(y, mean, var, eps=0.0)
            nbn.batch_renorm(y, mean, np.zeros(6), training=True, eps=0.0)
            nbn.batch_instance_norm(y, np.full(6, 0.5), eps=0.0)
            nbn.weight_norm(y, np.zeros(5))
            nbn.weight_standardize(y, ddof=1)
            nbn.spectral_norm(y, num_iterations=2)
            m = nbn.moments(y, axis=0) + nbn.moments(y, axis=0)
            m.var(30), m.std(30), repr(m), m == m
            nbn.normalize(y, axis=0, moments=m, eps=0.0, dtype="f2")
