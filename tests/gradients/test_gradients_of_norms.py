"""Gradients of the named norms, beside torch's: its own norms where it has them, its autograd of formulas elsewhere."""

import numpy as np
import pytest

import numbanorm as nbn

torch = pytest.importorskip("torch")
F = torch.nn.functional
EPS = 1e-3


def tensors(rng, shape, *others):
    """x, a gradient, and positive parameters of these shapes, in float64."""
    x = rng.standard_normal((2, *shape)) * 2 + 1
    return [torch.as_tensor(a) for a in (*x, *(rng.random(of) + 0.5 for of in others))]


def gradients(forward, grad, *inputs):
    """What autograd makes of a function's result."""
    taken = [a.clone(memory_format=torch.preserve_format).requires_grad_() for a in inputs]
    return torch.autograd.grad(forward(*taken), taken, grad)


def assert_near(got, expected):
    for one, wanted in zip(got, expected, strict=True):
        assert (one.dtype, one.shape) == (wanted.dtype, wanted.shape)
        np.testing.assert_allclose(one, wanted, rtol=1e-11, atol=1e-11 * float(abs(wanted).max()))


def bias_of(weight):
    return torch.zeros_like(weight)


ORDERS = {"first": torch.contiguous_format, "last": torch.channels_last}
by_order = pytest.mark.parametrize("order", ORDERS)


@by_order
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm(rng, order, training):
    x, grad, w, mean, var = tensors(rng, (4, 6, 5, 7), 6, 6, 6)
    x, grad = (a.contiguous(memory_format=ORDERS[order]) for a in (x, grad))
    given = (None, None) if training else (mean, var)
    expected = gradients(lambda x, w, b: F.batch_norm(x, *given, w, b, training, eps=EPS), grad, x, w, bias_of(w))
    assert_near(nbn.batch_norm_backward(grad, x, *given, w, training, EPS), expected)
    if training:
        m = nbn.batch_norm(x, None, None, w, None, True, eps=EPS, return_moments=True)[1]
        assert_near(nbn.batch_norm_backward(grad, x, None, None, w, True, EPS, moments=m), expected)
    moved = [a.permute(0, 2, 3, 1) for a in (grad, x)]
    got = nbn.batch_norm_backward(*moved, *given, w, training, EPS, channel_axis=-1)
    assert_near((got[0].permute(0, 3, 1, 2), *got[1:]), expected)


@by_order
@pytest.mark.parametrize("own", [True, False])
def test_instance_norm(rng, order, own):
    x, grad, w, mean, var = tensors(rng, (4, 6, 5, 7), 6, 6, 6)
    x, grad = (a.contiguous(memory_format=ORDERS[order]) for a in (x, grad))
    given = (None, None) if own else (mean, var)
    expected = gradients(lambda x, w, b: F.instance_norm(x, *given, w, b, own, eps=EPS), grad, x, w, bias_of(w))
    assert_near(nbn.instance_norm_backward(grad, x, *given, w, own, EPS), expected)


@by_order
def test_group_norm(rng, order):
    x, grad, w = tensors(rng, (4, 6, 5, 7), 6)
    x, grad = (a.contiguous(memory_format=ORDERS[order]) for a in (x, grad))
    expected = gradients(lambda x, w, b: F.group_norm(x, 3, w, b, EPS), grad, x, w, bias_of(w))
    m = nbn.group_norm(x, 3, w, eps=EPS, return_moments=True)[1]
    for moments in (None, m):
        assert_near(nbn.group_norm_backward(grad, x, 3, w, EPS, moments=moments), expected)


@pytest.mark.parametrize("sizes", [(7,), (5, 7)])
def test_layer_norm(rng, sizes):
    x, grad, w = tensors(rng, (4, 6, 5, 7), sizes)
    expected = gradients(lambda x, w, b: F.layer_norm(x, sizes, w, b, EPS), grad, x, w, bias_of(w))
    assert_near(nbn.layer_norm_backward(grad, x, sizes, w, EPS), expected)
    assert_near(nbn.layer_norm_backward(grad, x, sizes)[:1], gradients(lambda x: F.layer_norm(x, sizes), grad, x))


def test_layer_norm_of_any_axes(rng):
    x, grad, w = tensors(rng, (4, 6, 5, 7), (5, 6))

    def forward(x, w, b):
        return F.layer_norm(x.permute(0, 3, 2, 1), (5, 6), w, b, EPS).permute(0, 3, 2, 1)

    expected = gradients(forward, grad, x, w, bias_of(w))
    assert_near(nbn.layer_norm_backward(grad, x, (5, 6), w, EPS, axis=(2, 1)), expected)


@pytest.mark.parametrize("eps", [EPS, None])
def test_rms_norm(rng, eps):
    x, grad, w = tensors(rng, (4, 6, 7), 7)
    expected = gradients(lambda x, w: F.rms_norm(x, (7,), w, eps), grad, x, w)
    m = nbn.rms_norm(x, 7, w, eps, return_moments=True)[1]
    for moments in (None, m):
        assert_near(nbn.rms_norm_backward(grad, x, 7, w, eps, moments=moments), expected)
    assert nbn.rms_norm_backward(grad, x, 7)[1] is None


@pytest.mark.parametrize("training", [True, False])
def test_batch_renorm_holds_r_and_d_constant(rng, training):
    x, grad, w, mean, var = tensors(rng, (8, 6, 5), 6, 6, 6)
    bounds = {"r_max": 1.2, "d_max": 0.3}

    def forward(x, w, b):
        if not training:
            return F.batch_norm(x, mean, var, w, b, False, eps=EPS)
        t = F.batch_norm(x, None, None, training=True, eps=EPS)
        std, running = torch.sqrt(x.var((0, 2), unbiased=False) + EPS), torch.sqrt(var + EPS)
        r = torch.clip(std / running, 1 / 1.2, 1.2).detach()[:, None]
        d = torch.clip((x.mean((0, 2)) - mean) / running, -0.3, 0.3).detach()[:, None]
        return (t * r + d) * w[:, None] + b[:, None]

    expected = gradients(forward, grad, x, w, bias_of(w))
    assert_near(nbn.batch_renorm_backward(grad, x, mean, var, w, training, EPS, **bounds), expected)


def test_batch_instance_norm(rng):
    x, grad, rho, w = tensors(rng, (8, 6, 5), 6, 6)
    rho = rho - 0.5

    def forward(x, rho, w, b):
        rho, w, b = (a[:, None] for a in (rho, w, b))
        t, s = F.batch_norm(x, None, None, training=True, eps=EPS), F.instance_norm(x, eps=EPS)
        return (rho * t + (1 - rho) * s) * w + b

    expected = gradients(forward, grad, x, rho, w, bias_of(w))
    assert_near(nbn.batch_instance_norm_backward(grad, x, rho, w, EPS), expected)
    alone = gradients(lambda x, rho: forward(x, rho, torch.ones_like(w), bias_of(w)), grad, x, rho)
    got = nbn.batch_instance_norm_backward(grad, x, rho, eps=EPS)
    assert_near(got[:2], alone)
    assert got[2:] == (None, None)


@pytest.mark.parametrize("axis", [0, 1, -1, None])
def test_weight_norm(rng, axis):
    v, grad, g = tensors(rng, (4, 6, 5), () if axis is None else (4, 6, 5)[axis])

    def forward(v, g):
        others = [a for a in range(3) if axis is None or a != axis % 3]
        shape = [1 if a in others else v.shape[a] for a in range(3)]
        return v / torch.linalg.vector_norm(v, dim=others, keepdim=True) * g.reshape(shape)

    assert_near(nbn.weight_norm_backward(grad, v, g, axis=axis), gradients(forward, grad, v, g))


@pytest.mark.parametrize("settings", [{}, {"ddof": 1}, {"eps_on": "std"}, {"axis": 1}], ids=str)
def test_weight_standardize(rng, settings):
    w, grad = tensors(rng, (4, 6, 5))
    ddof, on_std, axis = settings.get("ddof", 0), "eps_on" in settings, settings.get("axis", 0)

    def forward(w):
        others = [a for a in range(3) if a != axis]
        var = w.var(others, keepdim=True, correction=ddof)
        return (w - w.mean(others, keepdim=True)) / (var.sqrt() + EPS if on_std else torch.sqrt(var + EPS))

    got = nbn.weight_standardize_backward(grad, w, eps=EPS, **settings)
    assert_near([got], gradients(forward, grad, w))


@pytest.mark.parametrize("shape", [(4, 6, 5), (7,), (1, 3), (5, 2)], ids=str)
@pytest.mark.parametrize("settings", [{}, {"num_iterations": 0}, {"num_iterations": 3}, {"axis": -1}], ids=str)
def test_spectral_norm(rng, shape, settings):
    axis, steps = settings.get("axis", 0), settings.get("num_iterations", 1)
    w, grad, u = tensors(rng, shape, shape[axis])

    def forward(w):
        """Both vectors are constants."""
        matrix = w.movedim(axis, 0).reshape(w.shape[axis], -1)
        with torch.no_grad():
            left = u
            right = torch.nn.functional.normalize(matrix.T @ left, dim=0)
            for step in range(steps):
                left = torch.nn.functional.normalize(matrix @ right, dim=0)
                right = torch.nn.functional.normalize(matrix.T @ left, dim=0) if step + 1 < steps else right
        return w / (left @ matrix @ right)

    assert_near([nbn.spectral_norm_backward(grad, w, u, **settings)], gradients(forward, grad, w))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch prefers another function, which turns u and v around
def test_spectral_norm_goes_back_as_torchs_does(rng):
    w, grad = tensors(rng, (6, 3, 3, 2), ())[0], tensors(rng, (6, 3, 3, 2), ())[1]
    layer = torch.nn.Module()
    layer.weight = torch.nn.Parameter(w.clone())
    layer.forward = lambda: layer.weight
    layer = torch.nn.utils.spectral_norm(layer, n_power_iterations=2, dim=0)
    u = layer.weight_u.clone()
    layer().backward(grad)
    got = nbn.spectral_norm_backward(grad, w, u, num_iterations=2)
    torch.testing.assert_close(got, layer.weight_orig.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_spectral_norm_keeps_dtype_and_order_of_memory(rng, dtype):
    w, grad = rng.standard_normal((2, 3, 4, 5)).astype(dtype)
    w = np.asfortranarray(w)
    got = nbn.spectral_norm_backward(grad, w, axis=1)
    assert (got.dtype, got.strides) == (w.dtype, w.strides)
    exact = nbn.spectral_norm_backward(grad.astype(float), w.astype(float), axis=1)
    np.testing.assert_allclose(got.astype(float), exact, rtol=2 * float(np.finfo(dtype).eps), atol=1e-3)
