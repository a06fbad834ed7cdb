"""Short calls that are repeated without their checks: the same bits as with them, and none that checks would refuse."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from everyday import exhaustive  # noqa: E402
from norms_of_torch import AFFINE, NORMS, SHAPE, arguments, numbers, stored  # noqa: E402

from numbanorm.call import short as on_addresses  # noqa: E402
from numbanorm.torch import functional as ours  # noqa: E402
from numbanorm.torch import short  # noqa: E402

REPEATED = ["layer", "group", "batch", "batch that moves", "batch, stored", "instance", "instance, stored", "rms"]


@pytest.fixture(autouse=True)
def nothing_is_known():
    short._known.clear()


@pytest.fixture
def runs(monkeypatch):
    """Names of what was repeated."""
    seen = []
    for name in ("run", "run_kept", "back"):
        original = getattr(short.Call, name)

        def seen_and_done(*args, name=name, original=original):
            seen.append(name)
            return original(*args)

        monkeypatch.setattr(short.Call, name, seen_and_done)
    return seen


def bits(tensors):
    return [one.detach().double().numpy().tobytes() for one in tensors if one is not None]


def there_and_back(norm, given, grad):
    """Output and gradients."""
    leaves = [one if one is None else one.detach().clone().requires_grad_() for one in given]
    y = norm(*leaves)
    return y, *torch.autograd.grad(y, [one for one in leaves if one is not None], grad)


def wide_and_narrow():
    narrow = [torch.float64, torch.float16]
    return [torch.float32, torch.bfloat16, *(pytest.param(dtype, marks=exhaustive) for dtype in narrow)]


@pytest.mark.parametrize("dtype", wide_and_narrow())
@pytest.mark.parametrize("affine", AFFINE)
@pytest.mark.parametrize("name", REPEATED)
def test_a_repeated_call_gives_the_same_bits(name, affine, dtype, runs):
    given, grad = arguments(name, affine, dtype), numbers(*SHAPE, seed=9, dtype=dtype)
    if name == "rms":
        given = given[:2]
    norm = NORMS[name][0]
    first = norm(*given)
    assert not runs
    again = norm(*given)
    assert runs == ["run_kept" if "moves" in name else "run"]
    assert bits([again]) == bits([first])
    assert (again.dtype, again.stride(), again.shape) == (first.dtype, first.stride(), first.shape)
    short._known.clear()
    runs.clear()
    expected = there_and_back(norm, given, grad)
    assert not runs
    found = there_and_back(norm, given, grad)
    assert bits(found) == bits(expected)
    assert [(one.dtype, one.shape) for one in found] == [(one.dtype, one.shape) for one in expected]
    assert runs == (["run"] if "stored" in name else ["run_kept", "back"])


def test_running_statistics_move_as_before(runs):
    x, (mean, var) = numbers(*SHAPE, dtype=torch.float32), stored(torch.float32)
    expected, found = [mean.clone(), var.clone()], [mean.clone(), var.clone()]
    for share in (0.1, 0.5, 1.0):
        ours.batch_norm(x, *found, training=True, momentum=share)
    assert runs == ["run_kept"] * 2
    for share in (0.1, 0.5, 1.0):
        short._known.clear()
        ours.batch_norm(x, *expected, training=True, momentum=share)
    assert runs == ["run_kept"] * 2
    assert bits(found) == bits(expected)
    version = found[0]._version
    ours.batch_norm(x, *found, training=True)
    assert found[0]._version > version, "autograd has to see that it was written"


def test_other_values_of_eps_are_used():
    x = numbers(8, 4, dtype=torch.float32)
    for eps in (1e-5, 1.0, 0.0):
        expected = torch.nn.functional.layer_norm(x, (4,), eps=eps)
        torch.testing.assert_close(ours.layer_norm(x, (4,), eps=eps), expected, rtol=1e-5, atol=1e-6)
    for dtype in (torch.float32, torch.float64):
        y = numbers(8, 4, dtype=dtype) * 1e-4
        for _ in range(2):
            found = ours.rms_norm(y, (4,))
            torch.testing.assert_close(found, torch.nn.functional.rms_norm(y, (4,)), rtol=1e-5, atol=1e-6)


def test_gradients_of_other_orders_of_memory(runs):
    x = numbers(*SHAPE, dtype=torch.float32).requires_grad_()
    grads = numbers(*SHAPE, seed=2, dtype=torch.float32), torch.ones(()).expand(SHAPE)
    grads = *grads, grads[0].contiguous(memory_format=torch.channels_last), torch.complex(*grads).conj().imag
    expected = []
    for grad in grads:
        short._known.clear()
        expected.append(torch.autograd.grad(ours.group_norm(x, 2), x, grad)[0])
    ours.group_norm(x, 2)
    for grad, dx in zip(grads, expected, strict=True):
        found = torch.autograd.grad(ours.group_norm(x, 2), x, grad)[0]
        torch.testing.assert_close(found, dx, rtol=1e-6, atol=1e-6)


def test_gradients_beyond_float16_are_infinite_as_torchs_are(runs):
    """And nobody is warned of it."""
    x, grad = numbers(8, 4, dtype=torch.float16), torch.full((8, 4), 6e4, dtype=torch.float16)
    for norm in (torch.nn.functional.layer_norm, ours.layer_norm, ours.layer_norm):
        weight, bias = torch.ones(4).half().requires_grad_(), torch.zeros(4).half().requires_grad_()
        norm(x, (4,), weight, bias).backward(grad)
        assert torch.isinf(bias.grad).all()
    assert runs == ["run_kept", "back"]


def known_calls():
    """Arguments of calls that are known afterwards."""
    x, w, b = numbers(8, 4, dtype=torch.float32), torch.full((4,), 2.0), torch.full((4,), 3.0)
    mean, var = torch.zeros(4), torch.ones(4)
    for leaf in (False, True):
        y = x.clone().requires_grad_(leaf)
        ours.layer_norm(y, (4,), w, b)
        ours.group_norm(y, 2, w, b)
        ours.batch_norm(y, mean.clone(), var.clone(), w, b)
        ours.batch_norm(y, mean.clone(), var.clone(), w, b, training=True)
        ours.batch_norm(y, None, None, w, b, training=True)
    return x, w, b, mean, var


def test_what_checks_refuse_is_refused_as_ever():
    x, w, b, mean, var = known_calls()
    layer = torch.nn.functional.layer_norm
    for eps in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="eps must not be negative"):
            ours.layer_norm(x, (4,), w, b, eps)
    with pytest.raises(RuntimeError, match="not on the expected device"):
        ours.layer_norm(x, (4,), w.to("meta"), b)
    with pytest.raises(TypeError, match="must be Tensor"):
        ours.layer_norm(x.numpy(), (4,), w, b)
    with pytest.raises(RuntimeError, match="same shape as normalized_shape"):
        ours.layer_norm(x, (4,), w.reshape(2, 2), b)
    with pytest.raises(ValueError, match="both be None or neither"):
        ours.batch_norm(x, None, var, w, b, training=True)
    with pytest.raises(RuntimeError, match="running_var must be defined"):
        ours.batch_norm(x, mean, None, w, b)
    with pytest.raises(RuntimeError, match="has no gradient"):
        ours.batch_norm(x, mean.clone().requires_grad_(), var, w, b)
    with pytest.raises(ValueError, match="momentum"):
        ours.batch_norm(x, mean, var, w, b, training=True, momentum=2.0)
    with pytest.raises(ValueError, match="share memory"):
        ours.batch_norm(x, var, var, w, b, training=True)
    with pytest.raises(ValueError, match="part of x"):
        ours.batch_norm(x, mean, x[2], w, b, training=True)
    with torch.inference_mode():
        own = torch.zeros(4)
    with pytest.raises(RuntimeError, match="Inplace update to inference tensor"):
        ours.batch_norm(x, own, var, w, b, training=True)
    assert not mean.any() and (var == 1).all(), "nothing was written"
    list_of_sizes = ours.layer_norm(x, [4], w, b)
    torch.testing.assert_close(list_of_sizes, layer(x, (4,), w, b))


def test_tensors_that_are_not_what_their_memory_says():
    x, w, b, *_ = known_calls()
    twice = torch.complex(w, -w).conj().imag  # w, by way of a flag
    assert twice.is_neg()
    neg = torch._neg_view(x)
    layer = torch.nn.functional.layer_norm
    torch.testing.assert_close(ours.layer_norm(neg, (4,), w, b), layer(neg, (4,), w, b))
    torch.testing.assert_close(ours.layer_norm(x, (4,), twice, b), layer(x, (4,), twice, b))
    torch.testing.assert_close(ours.layer_norm(x, (4,), w[::1].flip(0), b), layer(x, (4,), w.flip(0), b))
    gaps = torch.stack([w, b], 1)[:, 0]
    torch.testing.assert_close(ours.layer_norm(x, (4,), gaps, b), layer(x, (4,), w, b))
    columns = x.t().contiguous().t()
    torch.testing.assert_close(ours.layer_norm(columns, (4,), w, b), layer(x, (4,), w, b))


@pytest.mark.parametrize("leaf", [False, True])
def test_memory_that_was_freed_is_refused(leaf):
    x, w, b, mean, var = known_calls()
    freed = torch.ones(4)
    freed.untyped_storage().resize_(0)
    gone = torch.ones(8, 4)
    gone.untyped_storage().resize_(0)
    x, gone = x.requires_grad_(leaf), gone.requires_grad_(leaf)
    for given in ((gone, w, b), (x, freed, b), (x, w, freed)):
        with pytest.raises(RuntimeError, match="not allocated"):
            ours.layer_norm(given[0], (4,), *given[1:])
    for statistics in ((freed, var), (mean, freed)):
        with pytest.raises(RuntimeError, match="not allocated"):
            ours.batch_norm(x, *statistics, w, b)
    if leaf:
        ours.layer_norm(x, (4,), w, b).sum().backward()
        own = torch.ones(8, 4).requires_grad_()
        y = ours.layer_norm(own, (4,), w, b)
        own.untyped_storage().resize_(0)
        with pytest.raises(RuntimeError, match="not allocated"):
            y.sum().backward()


@pytest.mark.filterwarnings("ignore")  # torch's compilers warn of themselves
def test_whoever_looks_on_is_shown_operators():
    x, w, b, *_ = known_calls()
    y = ours.layer_norm(x, (4,), w, b)
    assert torch.equal(torch.func.vmap(lambda row: ours.layer_norm(row, (4,), w, b))(x[None].expand(3, 8, 4))[1], y)
    leaf = x.clone().requires_grad_()
    (dx,) = torch.autograd.grad(ours.layer_norm(leaf, (4,), w, b).square().sum(), leaf, create_graph=True)
    assert dx.requires_grad
    tangent = torch.func.jvp(lambda x: ours.layer_norm(x, (4,), w, b), (x,), (torch.ones_like(x),))[1]
    torch.testing.assert_close(tangent, torch.zeros_like(x), rtol=0, atol=1e-5)
    compiled = torch.compile(lambda x: ours.layer_norm(x, (4,), w, b), fullgraph=True, backend="eager")
    assert torch.equal(compiled(x), y)
    with torch.utils.flop_counter.FlopCounterMode(display=False):  # sees operators
        assert torch.equal(ours.layer_norm(x, (4,), w, b), y)

    class Named(torch.Tensor):
        pass

    assert type(ours.layer_norm(x.as_subclass(Named), (4,), w, b)) is Named


def test_a_value_of_ctypes_stands_for_an_array():
    assert on_addresses.usable()


def test_large_calls_are_not_short(runs):
    x = torch.ones(300, 300)
    for _ in range(3):
        ours.layer_norm(x, (300,))
    assert not runs
    assert list(short._known.values()) == [None]


def test_calls_are_forgotten_before_they_are_too_many(monkeypatch):
    monkeypatch.setattr(short, "MOST", 3)
    for rows in range(1, 9):
        ours.layer_norm(torch.ones(rows, 4), (4,))
    assert len(short._known) <= 3


def test_known_calls_keep_no_memory(rng):
    x = torch.from_numpy(rng.standard_normal((8, 4)).astype(np.float32))
    storage = torch.multiprocessing.reductions.StorageWeakRef(x.untyped_storage())
    ours.layer_norm(x.requires_grad_(), (4,), torch.ones(4)).sum().backward()
    ours.layer_norm(x, (4,), torch.ones(4)).sum().backward()
    del x
    assert storage.expired()
