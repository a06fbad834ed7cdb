"""numbanorm.torch's modules and parametrizations beyond torch's, beside their definitions."""

import copy
import io

import pytest

torch = pytest.importorskip("torch")

from norms_of_torch import blended, check_close, numbers, outcome  # noqa: E402
from torch import nn  # noqa: E402
from torch.autograd import gradcheck, gradgradcheck  # noqa: E402
from torch.nn.utils import parametrizations as theirs  # noqa: E402
from torch.nn.utils import parametrize  # noqa: E402

import numbanorm.torch as ours  # noqa: E402
from numbanorm.torch import functional, parametrizations  # noqa: E402

CLOSE = {"rtol": 1e-9, "atol": 1e-11}


def standardized(weight, dim=0, ddof=0):
    axes = tuple(axis for axis in range(weight.dim()) if axis != dim)
    centered = weight - weight.mean(axes, keepdim=True)
    return centered / (weight.var(axes, correction=ddof, keepdim=True) + 1e-5).sqrt()


@pytest.mark.parametrize(("dim", "ddof"), [(0, 0), (1, 1), (-1, 0)])
def test_weight_standardize_and_its_gradients_are_those_of_the_definition(dim, ddof):
    given = [numbers(4, 3, 2, 2)]
    found = outcome(lambda w: functional.weight_standardize(w, dim, ddof=ddof), given)
    check_close(found, outcome(lambda w: standardized(w, dim % 4, ddof), given), **CLOSE)


@pytest.mark.parametrize("dim", [0, 1, -1, None])
def test_weight_norm_and_its_gradients_are_torchs(dim):
    v = numbers(4, 3, 2)
    g = torch.norm_except_dim(v, 2, -1 if dim is None else dim % 3) * 1.5
    given = [v, g]
    found = outcome(lambda v, g: functional.weight_norm(v, g, dim), given)
    check_close(found, outcome(lambda v, g: torch._weight_norm(v, g, -1 if dim is None else dim % 3), given), **CLOSE)
    leaves = [one.requires_grad_() for one in given]
    assert gradcheck(lambda v, g: functional.weight_norm(v, g, dim), leaves, fast_mode=True)
    assert gradgradcheck(lambda v, g: functional.weight_norm(v, g, dim), leaves, fast_mode=True)


def test_weight_norm_refuses_other_lengths_and_axes():
    v = numbers(4, 3)
    with pytest.raises(RuntimeError, match=r"g should have shape \[4, 1\]"):
        functional.weight_norm(v, torch.ones(4))
    with pytest.raises(IndexError, match="dim=2"):
        functional.weight_standardize(v, 2)
    with pytest.raises(NotImplementedError, match="only floats"):
        functional.weight_standardize(v.long())


@pytest.mark.parametrize("compiled", [False, True])
def test_parametrized_weight_norm_is_torchs_and_shares_its_state(compiled):
    torch._dynamo.reset()
    x, torchs = numbers(5, 4), theirs.weight_norm(nn.Linear(4, 3).double())
    mine = parametrizations.weight_norm(nn.Linear(4, 3).double())
    assert mine.state_dict().keys() == torchs.state_dict().keys()
    mine.load_state_dict(torchs.state_dict())
    with torch.no_grad():
        mine.parametrizations.weight.original0.mul_(2.0), torchs.parametrizations.weight.original0.mul_(2.0)
    run = torch.compile(mine, backend="aot_eager") if compiled else mine
    check_close(outcome(run, [x]), outcome(torchs, [x]), **CLOSE)
    for one, other in zip(mine.parameters(), torchs.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, **CLOSE)
    torch.testing.assert_close(copy.deepcopy(mine)(x), mine(x))
    weight = mine.weight.detach()
    parametrize.remove_parametrizations(mine, "weight")
    torch.testing.assert_close(mine.weight.detach(), weight)


def test_parametrized_weight_standardization():
    layer = parametrizations.weight_standardize(nn.Conv2d(3, 4, 2).double())
    torch.testing.assert_close(layer.weight, standardized(layer.parametrizations.weight.original))


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_standardized_convolutions_load_states_of_torchs_and_use_other_weights(axes):
    mine = getattr(ours, f"StandardizedConv{axes}d")(3, 4, 2, stride=2, padding=1).double()
    other = getattr(nn, f"Conv{axes}d")(3, 4, 2, stride=2, padding=1).double()
    mine.load_state_dict(other.state_dict())
    assert isinstance(mine, type(other))
    x = numbers(2, 3, *(4, 5, 6)[:axes])
    expected = torch.func.functional_call(other, {"weight": standardized(other.weight)}, (x,))
    torch.testing.assert_close(mine(x), expected, **CLOSE)
    mine(x).sum().backward()
    assert mine.weight.grad.shape == mine.weight.shape


@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 2, 3)])
def test_batch_renorm_within_narrow_bounds_is_batch_norm_and_follows_stored_statistics_within_wide_ones(shape):
    kind = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d
    norm, batch, x = ours.BatchRenorm(4, r_max=1.0, d_max=0.0).double(), kind(4).double(), numbers(*shape)
    norm.load_state_dict(batch.state_dict())
    for _ in range(2):
        torch.testing.assert_close(norm(x), batch(x), **CLOSE)
    check_close(tuple(norm.state_dict().values()), tuple(batch.state_dict().values()), **CLOSE)
    norm.r_max = norm.d_max = 1e6
    torch.testing.assert_close(norm(x), batch.eval()(x), **CLOSE)
    evaluated = functional.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    torch.testing.assert_close(norm.eval()(x), evaluated, **CLOSE)
    assert "r_max=1000000.0" in repr(norm)


def test_batch_renorm_without_a_momentum_takes_the_mean_over_all_batches():
    norm, batch = ours.BatchRenorm(4, momentum=None), nn.BatchNorm1d(4, momentum=None)
    for _ in range(3):
        x = torch.randn(5, 4)
        norm(x), batch(x)
    torch.testing.assert_close(norm.running_var, batch.running_var)


def test_batch_instance_norm_blends_and_clips_its_share():
    norm, x = ours.BatchInstanceNorm(4).double(), numbers(3, 4, 2, 3)
    with torch.no_grad():
        norm.rho.copy_(torch.tensor([-0.5, 0.25, 1.0, 1.5]))
    clipped = torch.tensor([0.0, 0.25, 1.0, 1.0]).double()
    torch.testing.assert_close(norm.eval()(x), blended(x, clipped), **CLOSE)
    assert norm.rho[0] == -0.5, "evaluation writes nothing"
    first = norm.train()(x)
    assert torch.equal(norm.rho.detach(), clipped)
    torch.testing.assert_close(first, blended(x, clipped), **CLOSE)
    (first.square().sum() + norm(x).sum()).backward()  # two passes before one goes back
    assert norm.rho.grad.shape == (4,)


@pytest.mark.parametrize("make", [lambda: ours.BatchRenorm(4), lambda: ours.BatchInstanceNorm(4)])
def test_they_are_copied_saved_compiled_and_left_by_convert(make):
    norm, x, memory = make(), torch.randn(3, 4, 2, 3), io.BytesIO()
    norm(x)
    torch.save(norm, memory)
    memory.seek(0)
    for other in (copy.deepcopy(norm), torch.load(memory, weights_only=False)):
        assert torch.equal(other.eval()(x), norm.eval()(x))
    norm.train()
    torch._dynamo.reset()
    compiled, eager = copy.deepcopy(norm), copy.deepcopy(norm)
    run = torch.compile(compiled, backend="aot_eager", fullgraph=True)
    for _ in range(2):
        torch.testing.assert_close(run(x), eager(x))
    for one, other in zip(compiled.state_dict().values(), eager.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other)
    said = ours.convert(nn.Sequential(norm, nn.LayerNorm(3)))
    assert said.swapped == {"1": "LayerNorm"} and not said.left
