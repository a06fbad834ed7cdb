"""torch's own samples, of its OpInfo and of its module inputs, through numbanorm.torch.

What is right is torch in float64, by torch's own tolerances for the dtype: of half precision, and of sums that cancel,
torch's own results are not as close as that.
"""

import copy
import warnings
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest")  # which torch.testing._internal imports

from everyday import exhaustive  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as theirs  # noqa: E402

import numbanorm.torch as modules  # noqa: E402
from numbanorm.torch import functional as ours  # noqa: E402

NAMES = ("batch_norm", "group_norm", "instance_norm", "layer_norm", "rms_norm")
MODULES = tuple(name for name in modules.modules.__all__ if hasattr(nn, name))
HALVES = (torch.float16, torch.bfloat16)
DTYPES = (torch.float32, torch.float64, *HALVES)
dtypes = pytest.mark.parametrize(
    "dtype", [pytest.param(one, marks=exhaustive if one in HALVES else ()) for one in DTYPES], ids=str
)


@pytest.fixture(scope="module")
def known():
    """torch's tables. Importing them takes seconds, which whoever only collects tests should not wait for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_methods_invocations import op_db
        from torch.testing._internal.common_modules import ModuleErrorEnum, module_db
    ops = {one.name.removeprefix("nn.functional."): one for one in op_db if not one.variant_test_name}
    classes = {one.module_cls.__name__: one for one in module_db}
    return SimpleNamespace(ops=ops, modules=classes, construction=ModuleErrorEnum.CONSTRUCTION_ERROR)


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def leaf(value, dtype=None):
    """A tensor of its own, as a sample's are used more than once and some are written."""
    if not torch.is_tensor(value):
        return value
    return value.detach().clone().to(dtype or value.dtype).requires_grad_(value.requires_grad)


def directions(y, dtype):
    """The gradient of an output, of numbers that the dtype has."""
    made = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return made.to(dtype).to(y.dtype)


def outcome(norm, sample, wide=None):
    """By name: the output, what was given and may have been written, and gradients of all that wants one."""
    named = {"input": sample.input, **{f"args[{i}]": one for i, one in enumerate(sample.args)}, **sample.kwargs}
    given = {name: leaf(one, wide) for name, one in named.items()}
    args = [given.pop(name) for name in ("input", *(f"args[{i}]" for i in range(len(sample.args))))]
    y = norm(*args, **given)
    given = dict(zip(named, (*args, *given.values()), strict=True))
    tensors = {name: one for name, one in given.items() if torch.is_tensor(one)}
    wanted = {name: one for name, one in tensors.items() if one.requires_grad}
    made = {"output": y.detach(), **{name: one.detach() for name, one in tensors.items()}}
    grads = torch.autograd.grad(y, wanted.values(), directions(y, sample.input.dtype)) if y.requires_grad else ()
    return made | {f"gradient of {name}": one for name, one in zip(wanted, grads, strict=bool(grads))}


def check(found, exact, like, dtype, label, slack=None):
    """Of torch's dtypes and shapes, and within torch's tolerances."""
    rtol, atol = torch.testing._comparison.default_tolerances(dtype)
    assert found.keys() == exact.keys() == like.keys()
    for name, one in found.items():
        said = f"{name} of {label}"
        assert (one.dtype, one.shape) == (like[name].dtype, like[name].shape), said
        assert not one.numel() or one.stride() == like[name].stride(), said
        least = max(atol, (slack or {}).get(name, 0.0))
        torch.testing.assert_close(
            one.double(), exact[name].double(), rtol=rtol, atol=least, msg=lambda m, said=said: f"{said}: {m}"
        )


NEGATIVE_EPS = "a negative eps is refused: the root of var + eps may not exist. torch does so for batch norm"
MOMENTUM = "momentum below 0 is refused, by which stored variances become negative"
NO_CHANNELS = "a vector has no axis of channels, which torch does not look for in an empty one"
# What torch takes and numbanorm.torch refuses. Each sample of these is run once more, as it would be taken.
REFUSED = {
    "batch_norm": {MOMENTUM, NO_CHANNELS},
    "group_norm": {NEGATIVE_EPS},
    "instance_norm": {MOMENTUM},
    "layer_norm": {NEGATIVE_EPS},
    "rms_norm": {NEGATIVE_EPS},
}
SAID = {
    NEGATIVE_EPS: (ValueError, "eps must not be negative"),
    MOMENTUM: (ValueError, "momentum must be within 0 to 1"),
    NO_CHANNELS: (RuntimeError, "at least 2 dimensions"),
}


def why_refused(name, sample):
    more = sample.kwargs
    if (more.get("eps") or 0.0) < 0.0:
        return NEGATIVE_EPS
    if more.get("momentum", 0.1) < 0.0 and more.get("training", more.get("use_input_stats", name == "instance_norm")):
        return MOMENTUM
    return NO_CHANNELS if name == "batch_norm" and sample.input.shape == (0,) else None


def as_taken(sample, why):
    """A sample with what is refused made positive; None if there is no such sample."""
    if why == NO_CHANNELS:
        return None
    name = "eps" if why == NEGATIVE_EPS else "momentum"
    return changed(sample, {name: min(1.0, -sample.kwargs[name])})


def changed(sample, more):
    return SimpleNamespace(input=sample.input, args=sample.args, kwargs=sample.kwargs | more)


def defined(name, sample):
    """A sample for float64, with the eps that torch takes for the sample's own dtype."""
    if name == "rms_norm" and sample.kwargs.get("eps") is None:
        own = torch.float64 if sample.input.dtype == torch.float64 else torch.float32
        return changed(sample, {"eps": torch.finfo(own).eps})
    return sample


def slack_of(name, sample, dtype):
    """One value a group has no gradient: what is left is how dy * weight / sqrt(eps) was rounded before it cancels."""
    if name != "layer_norm" or sample.input.shape != sample.args[0] or sample.input.numel() != 1:
        return None
    terms = float(directions(sample.input, dtype) * sample.args[1].detach()) / 1e-5**0.5
    return {"gradient of input": abs(terms) * 2.0**-24 if dtype != torch.float64 else 0.0}


def test_all_that_torch_has_by_the_same_name_is_here(known):
    """`normalize` is torch's by its name alone: there it divides by p-norms, and takes no layout."""
    assert {name for name in ours.__all__ if hasattr(theirs, name)} == {*NAMES, "normalize"}
    assert set(NAMES) <= known.ops.keys() and set(MODULES) == set(modules.modules.__all__) <= known.modules.keys()


@dtypes
@pytest.mark.parametrize("name", NAMES)
def test_samples_of_functions(known, name, dtype):
    mine, other, seen = getattr(ours, name), getattr(theirs, name), set()
    for number, sample in enumerate(known.ops[name].sample_inputs("cpu", dtype, requires_grad=True)):
        label = f"sample {number}, {sample}"
        if why := why_refused(name, sample):
            seen.add(why)
            kind, said = SAID[why]
            other(leaf(sample.input), *map(leaf, sample.args), **{k: leaf(v) for k, v in sample.kwargs.items()})
            with pytest.raises(kind, match=said):
                mine(sample.input, *sample.args, **sample.kwargs)
            if (sample := as_taken(sample, why)) is None:
                continue
        found = outcome(mine, sample)
        exact, like = outcome(other, defined(name, sample), torch.float64), outcome(other, sample)
        check(found, exact, like, dtype, label, slack_of(name, sample, dtype))
        again = outcome(mine, sample)  # calls that come again take a shorter way
        assert all(torch.equal(one, again[key]) for key, one in found.items()), label
        with torch.no_grad():
            assert torch.equal(outcome(mine, sample)["output"], found["output"]), label
    assert seen == REFUSED[name]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("grad", [False, True])
def test_the_eps_of_rms_norm_is_torchs_where_it_matters(dtype, grad):
    """No sample has values as small as that: half precision takes the machine epsilon of float32."""
    x = torch.tensor([[1e-3, -2e-3, 3e-3]], dtype=dtype, requires_grad=grad)
    torch.testing.assert_close(ours.rms_norm(x, (3,)), theirs.rms_norm(x, (3,)))


def test_complex_samples_are_refused(known):
    """torch's RMS norm alone has them."""
    taken = {name: known.ops[name].supported_dtypes("cpu") - set(DTYPES) for name in NAMES}
    assert {name for name, others in taken.items() if others} == {"rms_norm"}
    for dtype in taken["rms_norm"]:
        assert dtype.is_complex
        for sample in known.ops["rms_norm"].sample_inputs("cpu", dtype):
            with pytest.raises(NotImplementedError, match="only floats have gradients"):
                ours.rms_norm(sample.input, *sample.args, **sample.kwargs)


# torch.nn.functional.layer_norm has no table of errors; the operator behind it has, with the same arguments.
@pytest.mark.parametrize("op, name", [("group_norm",) * 2, ("rms_norm",) * 2, ("native_layer_norm", "layer_norm")])
def test_wrong_samples_of_functions(known, op, name):
    wrong = list(known.ops[op].error_inputs("cpu"))
    assert wrong
    for one in wrong:
        sample = one.sample_input
        with pytest.raises(one.error_type, match=one.error_regex):
            getattr(ours, name)(sample.input, *sample.args, **sample.kwargs)


def test_no_other_function_has_wrong_samples(known):
    having = {name for name in (*NAMES, "native_layer_norm") if known.ops[name].error_inputs_func is not None}
    assert having == {"group_norm", "rms_norm", "native_layer_norm"}


def samples_of(known, name, dtype, training):
    info = known.modules[name]
    made = info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=True, training=training)
    assert made
    return [(one.desc or "as it is", one.constructor_input, one.forward_input) for one in made]


def step(module, given, dtype, wide=None):
    """By name: output, state after the call, and gradients of the input and of parameters."""
    x = leaf(given.args[0], wide)
    y = module(x, *given.args[1:], **given.kwargs)
    y.backward(directions(y, dtype))
    made = {"output": y.detach(), "gradient of input": x.grad, **module.state_dict()}
    return made | {f"gradient of {name}": one.grad for name, one in module.named_parameters()}


@dtypes
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", MODULES)
def test_samples_of_modules(known, name, training, dtype):
    for desc, made_of, given in samples_of(known, name, dtype, training):
        mine, other = (
            getattr(one, name)(*made_of.args, **made_of.kwargs, dtype=dtype).train(training) for one in (modules, nn)
        )
        for parameter in other.parameters():
            nn.init.normal_(parameter)
        for key, buffer in other.named_buffers():
            if buffer.is_floating_point():
                nn.init.uniform_(buffer, 0.5 if key == "running_var" else -1.0, 2.0)
        mine.load_state_dict(other.state_dict())
        exact = copy.deepcopy(other).double()
        results = step(mine, given, dtype), step(exact, given, dtype, torch.float64), step(other, given, dtype)
        check(*results, dtype, f"{name}, {desc}")


# torch refuses eps=0 of batch norm in training, where equal values give 0 / 0 there. Here they give their bias.
TAKEN = {"eps": 0.0}


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith(("Batch", "Group"))])
def test_wrong_samples_of_modules(known, name):
    info = known.modules[name]
    wrong = info.module_error_inputs_func(info, device="cpu", dtype=torch.float32, requires_grad=False, training=True)
    assert wrong
    for one in wrong:
        made_of, given = one.module_error_input.constructor_input, one.module_error_input.forward_input
        if one.error_on == known.construction:
            with pytest.raises(one.error_type, match=one.error_regex):
                getattr(modules, name)(*made_of.args, **made_of.kwargs)
            continue
        mine = getattr(modules, name)(*made_of.args, **made_of.kwargs)
        if made_of.kwargs == TAKEN:
            x = given.args[0].double()
            dims = [axis for axis in range(x.dim()) if axis != 1]
            expected = (x - x.mean(dims, keepdim=True)) / x.std(dims, correction=0, keepdim=True)
            torch.testing.assert_close(mine(given.args[0]), expected.float())
            assert not mine(torch.ones_like(given.args[0])).any()
            continue
        with pytest.raises(one.error_type, match="eps must"):
            mine(*given.args, **given.kwargs)


def test_no_other_module_has_wrong_samples(known):
    having = {name for name in MODULES if known.modules[name].module_error_inputs_func is not None}
    assert having == {"BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "GroupNorm"}
