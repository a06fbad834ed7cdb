"""numbanorm.torch's modules, and models whose norms are swapped, beside torch's."""

import copy
import io
import pickle

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn.utils import parametrize  # noqa: E402

import numbanorm.torch as ours  # noqa: E402

MAKE = {
    "BatchNorm1d": ((4,), (5, 4, 3)),
    "BatchNorm2d": ((4,), (3, 4, 2, 3)),
    "BatchNorm3d": ((4,), (2, 4, 2, 3, 2)),
    "InstanceNorm1d": ((4, 1e-5, 0.1, True, True), (5, 4, 3)),
    "InstanceNorm2d": ((4, 1e-5, 0.1, True, True), (4, 2, 3)),  # one sample, without an axis for it
    "InstanceNorm3d": ((4,), (2, 4, 2, 3, 2)),
    "GroupNorm": ((2, 4), (3, 4, 5)),
    "LayerNorm": ((4,), (3, 4)),
    "RMSNorm": ((4,), (3, 4)),
}
modules = pytest.mark.parametrize("name", MAKE)


@pytest.fixture(autouse=True)
def one_thread():
    """Of torch's: models are tiny, and other tests run beside these."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pair(name):
    given, shape = MAKE[name]
    mine, other = getattr(ours, name)(*given), getattr(nn, name)(*given)
    torch.manual_seed(0)
    for parameter in other.parameters():
        nn.init.normal_(parameter)
    mine.load_state_dict(other.state_dict())
    return mine, other, torch.randn(shape)


@modules
def test_modules_are_torchs_own_but_for_who_computes(name):
    mine, other, x = pair(name)
    assert isinstance(mine, getattr(nn, name)) and repr(mine) == repr(other)
    for training in (True, False):
        mine.train(training), other.train(training)
        torch.testing.assert_close(mine(x), other(x))
    assert mine.state_dict().keys() == other.state_dict().keys()
    for key, value in other.state_dict().items():
        torch.testing.assert_close(mine.state_dict()[key], value)


@modules
def test_modules_are_copied_pickled_and_saved(name):
    mine, _, x = pair(name)
    mine.eval()
    memory = io.BytesIO()
    torch.save(mine, memory)
    memory.seek(0)
    saved = torch.load(memory, weights_only=False)
    for other in (copy.deepcopy(mine), pickle.loads(pickle.dumps(mine)), saved):
        assert type(other) is type(mine) and torch.equal(other(x), mine(x))


@pytest.mark.parametrize("momentum", [None, 0.3])
@pytest.mark.parametrize("track", [False, True])
def test_batch_norm_without_a_momentum_or_stored_statistics(momentum, track):
    mine, other = (kind.BatchNorm1d(4, momentum=momentum, track_running_stats=track) for kind in (ours, nn))
    for training in (True, True, False):
        x = torch.randn(5, 4)
        mine.train(training), other.train(training)
        torch.testing.assert_close(mine(x), other(x))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU())
        self.end = nn.Sequential(nn.InstanceNorm2d(8, affine=True), nn.Flatten(), nn.Linear(8 * 36, 5))

    def forward(self, x):
        x = self.first(x)
        return self.end(x + self.second(x))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True) for _ in range(2))
        self.norm, self.end = nn.RMSNorm(16), nn.Linear(16, 5)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.end(self.norm(x).mean(1))


MODELS = {"residual": (Residual, (6, 3, 6, 6)), "transformer": (Transformer, (6, 7, 16))}
models = pytest.mark.parametrize("name", MODELS)


def made(name, seed=0):
    torch.manual_seed(seed)
    kind, shape = MODELS[name]
    model = kind()
    return model, torch.randn(shape), torch.randint(0, 5, (6,))


def losses(model, x, target, steps=20):
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    found = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), target)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return torch.tensor(found)


@models
def test_a_converted_model_trains_as_before(name):
    model, x, target = made(name)
    converted = copy.deepcopy(model)
    assert not ours.convert(converted).left
    expected, found = losses(model, x, target), losses(converted, x, target)
    assert expected[-1] < expected[0] / 2
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.exhaustive)])
@models
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of itself
def test_a_converted_model_trains_as_before_when_it_is_compiled(name, backend):
    torch._dynamo.reset()
    model, x, target = made(name)
    converted = copy.deepcopy(model)
    ours.convert(converted)
    expected, found = losses(model, x, target), losses(torch.compile(converted, backend=backend), x, target)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    for one, other in zip(converted.buffers(), model.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@models
def test_an_optimizer_goes_on_through_convert_and_revert(name):
    model, x, target = made(name)
    other, found, expected = copy.deepcopy(model), [], []
    for trained, values in ((model, found), (other, expected)):
        optimizer = torch.optim.Adam(trained.parameters(), 1e-3)
        for step in range(6):
            if trained is model and step in (2, 4):
                (ours.convert if step == 2 else ours.revert)(trained)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(trained(x), target)
            loss.backward()
            optimizer.step()
            values.append(loss.item())
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=1e-4, atol=1e-5)


@models
def test_a_converted_model_is_copied_pickled_and_saved(name):
    model, x, _ = made(name)
    ours.convert(model)
    expected, memory = model.eval()(x), io.BytesIO()
    torch.save(model, memory)
    memory.seek(0)
    saved = torch.load(memory, weights_only=False)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), saved):
        assert [type(one) for one in other.modules()] == [type(one) for one in model.modules()]
        assert torch.equal(other(x), expected)


@models
def test_states_load_in_either_direction_and_revert_goes_back(name):
    model, x, _ = made(name)
    before = [type(one) for one in model.modules()]
    model.eval()
    expected, state = model(x), copy.deepcopy(model.state_dict())
    said = ours.convert(model)
    assert any(type(one).__module__.startswith("numbanorm") for one in model.modules())
    torch.testing.assert_close(model(x), expected)
    model.load_state_dict(state)
    other, _, _ = made(name, 1)
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other.eval()(x), expected)
    assert ours.revert(model).swapped.keys() == said.swapped.keys()
    assert [type(one) for one in model.modules()] == before
    assert torch.equal(model(x), expected)


def test_convert_keeps_all_that_a_module_has():
    norm = nn.BatchNorm2d(4).eval()
    seen = []
    norm.register_forward_hook(lambda *_: seen.append(1))
    norm.weight.requires_grad_(False)
    held = [id(one) for one in (*norm.parameters(), *norm.buffers())]
    model = nn.Sequential(norm, norm)
    assert ours.convert(model).swapped == {"0": "BatchNorm2d"}
    assert model[0] is model[1] is norm and type(norm) is ours.BatchNorm2d
    assert [id(one) for one in (*norm.parameters(), *norm.buffers())] == held
    assert not norm.training and not norm.weight.requires_grad
    model(torch.randn(2, 4, 3, 3))
    assert seen == [1, 1]


def test_convert_keeps_parametrizations():
    class Double(nn.Module):
        def forward(self, weight):
            return 2 * weight

    norm = nn.LayerNorm(4)
    parametrize.register_parametrization(norm, "weight", Double())
    x = torch.randn(3, 4)
    expected = norm(x)
    assert ours.convert(norm).swapped == {"": "LayerNorm"}
    assert isinstance(norm, ours.LayerNorm) and parametrize.is_parametrized(norm, "weight")
    torch.testing.assert_close(norm(x), expected)
    other = copy.deepcopy(norm)
    assert isinstance(other, ours.LayerNorm) and torch.equal(other(x), norm(x))
    with torch.no_grad():
        other.parametrizations.weight.original.mul_(2.0)
    assert not torch.equal(other(x), norm(x))
    ours.revert(norm)
    assert not isinstance(norm, ours.LayerNorm) and torch.equal(norm(x), expected)
    parametrize.remove_parametrizations(norm, "weight")
    assert type(norm) is nn.LayerNorm


def test_convert_says_what_it_leaves():
    class Own(nn.LayerNorm):
        def forward(self, x):
            return x

    replaced = nn.LayerNorm(4)
    replaced.forward = lambda x: x
    model = nn.ModuleDict({"own": Own(4), "lazy": nn.LazyBatchNorm1d(), "replaced": replaced})
    said = ours.convert(model)
    assert not said.swapped and said.left.keys() == {"own", "lazy", "replaced"}
    assert "3 left" in str(said) and "has no shape yet" in said.left["lazy"]


def test_convert_refuses_what_is_no_module():
    with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module, got list"):
        ours.convert([nn.LayerNorm(4)])
