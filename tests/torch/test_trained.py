"""Statistics of other data, and batch norms folded into convolutions."""

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import numbanorm.torch as ours  # noqa: E402
from numbanorm.torch import functional  # noqa: E402


def model(norm=nn.BatchNorm2d):
    torch.manual_seed(0)
    made = nn.Sequential(
        norm(3), nn.Conv2d(3, 4, 2, bias=False), norm(4), nn.Dropout(0.5), nn.Sequential(nn.Conv2d(4, 5, 1), norm(5))
    )
    return made.double()


def values(*sizes):
    return [torch.randn(size, 3, 4, 5, dtype=torch.float64) * 3 + 7 for size in sizes]


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, ours.BatchNorm2d, ours.BatchRenorm, ours.SyncBatchNorm])
def test_statistics_are_those_of_the_whole_data_set(norm):
    made, batches = model(norm).train(), values(5, 2, 3)
    made[3].eval()
    modes = [one.training for one in made.modules()]
    counts = ours.recompute_statistics(made, ((batch, "a label") for batch in batches))
    assert counts == {"0": 200, "2": 120, "4.1": 120}
    whole = torch.cat(batches)
    torch.testing.assert_close(made[0].running_mean, whole.mean((0, 2, 3)), rtol=1e-12, atol=0)
    torch.testing.assert_close(made[0].running_var, whole.var((0, 2, 3)), rtol=1e-12, atol=0)
    inner = torch.cat([made[1](functional.batch_norm(one, None, None, training=True)) for one in batches])
    torch.testing.assert_close(made[2].running_var, inner.var((0, 2, 3)), rtol=1e-12, atol=0)
    assert all(one.num_batches_tracked == 3 for one in (made[0], made[2]))
    assert [one.training for one in made.modules()] == modes and not made[0]._forward_pre_hooks


def test_progress_is_shown(capfd):
    ours.recompute_statistics(model(), values(2, 3), progress=True)
    assert capfd.readouterr().err.splitlines()[-1].strip() == "2/2 100% batches read"


def test_without_enough_values_nothing_is_written():
    made = model()
    before = [one.clone() for one in made.state_dict().values()]
    with pytest.raises(ValueError, match="loader gave no batches"):
        ours.recompute_statistics(made, [])
    with pytest.raises(RuntimeError):
        ours.recompute_statistics(made, [torch.zeros(2, 9, 4, 4)])
    made.add_module("unused", nn.BatchNorm1d(2))
    made.unused.forward = lambda x: x
    before += [one.clone() for one in made.unused.state_dict().values()]
    made.unused.register_forward_pre_hook(lambda module, given: (given[0][:0, :2],))
    with pytest.raises(ValueError, match="saw 0 values a channel"):
        ours.recompute_statistics(made, values(2))
    assert all(torch.equal(a, b) for a, b in zip(made.state_dict().values(), before, strict=True))


@pytest.mark.parametrize("converted", [False, True])
def test_a_folded_model_gives_the_same(converted):
    made, (x,) = model(), values(4)
    ours.recompute_statistics(made, [x])
    for one in made.modules():
        if isinstance(one, nn.BatchNorm2d):
            nn.init.normal_(one.weight), nn.init.normal_(one.bias)
    if converted:
        ours.convert(made)
    with pytest.raises(ValueError, match=r"'2' is in training.*model\.eval"):
        ours.fold(made)
    expected = made.eval()(x)
    assert ours.fold(made) == ["2", "4.1"]
    assert type(made[2]) is nn.Identity and isinstance(made[0], nn.BatchNorm2d)
    torch.testing.assert_close(made(x), expected, rtol=1e-10, atol=1e-12)
    assert ours.fold(made) == []


def test_what_would_not_give_the_same_is_left():
    shared, norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)
    hooked = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    hooked[0].register_forward_hook(lambda *_: None)
    weighted = ours.parametrizations.weight_norm(nn.Conv2d(3, 3, 1))
    made = nn.Sequential(
        shared, nn.BatchNorm2d(3), shared, nn.Conv2d(3, 3, 1), norm, hooked, weighted, nn.BatchNorm2d(3)
    )
    assert ours.fold(made.eval()) == []
    with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module"):
        ours.fold(shared.weight)
