"""numbanorm.torch.functional under torch's compilers, exporters, tracers and transforms."""

import io

import pytest

torch = pytest.importorskip("torch")

from norms_of_torch import NORMS, SHAPE, arguments, check_close, numbers, outcome  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402
from torch.fx.experimental.proxy_tensor import make_fx  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

from numbanorm import Layout  # noqa: E402
from numbanorm.torch import functional as ours  # noqa: E402

CLOSE = {"rtol": 1e-8, "atol": 1e-10}
norms = pytest.mark.parametrize("name", NORMS)
pytestmark = pytest.mark.filterwarnings("ignore")  # torch's compilers warn of themselves


class Module(torch.nn.Module):
    def __init__(self, name):
        super().__init__()
        self.name = name
        _, *parameters = arguments(name)
        self.given = torch.nn.ParameterList([one for one in parameters if one is not None])

    def forward(self, x):
        return NORMS[self.name][0](x, *self.given)


@norms
@pytest.mark.parametrize("backend", [pytest.param("eager", marks=pytest.mark.exhaustive), "aot_eager"])
def test_compile_of_the_whole_graph(name, backend):
    torch._dynamo.reset()
    compiled = torch.compile(NORMS[name][0], fullgraph=True, backend=backend)
    check_close(outcome(compiled, arguments(name)), outcome(NORMS[name][0], arguments(name)), **CLOSE)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["batch that moves", "layer"])
def test_compile_with_torchs_own_compiler(name):
    torch._dynamo.reset()
    compiled = torch.compile(NORMS[name][0], fullgraph=True)
    check_close(outcome(compiled, arguments(name)), outcome(NORMS[name][0], arguments(name)), **CLOSE)


def test_compiled_running_statistics_move():
    torch._dynamo.reset()
    x = numbers(5, 4)
    for norm in (ours.batch_norm, ours.batch_renorm):
        found, expected = ((torch.zeros(4).double(), torch.ones(4).double()) for _ in range(2))
        compiled = torch.compile(norm, fullgraph=True, backend="aot_eager")
        for _ in range(2):
            compiled(x, *found, training=True)
            norm(x, *expected, training=True)
        check_close(found, expected, **CLOSE)


@norms
def test_export(name):
    module, x = Module(name), arguments(name)[0]
    program = torch.export.export(module, (x,))
    assert any("numbanorm" in str(node.target) for node in program.graph.nodes)
    torch.testing.assert_close(program.module()(x), module(x), **CLOSE)


@pytest.mark.parametrize("name", [name for name in NORMS if name != "pattern"])
def test_export_with_a_batch_of_any_size(name):
    module = Module(name)
    program = torch.export.export(module, (arguments(name)[0],), dynamic_shapes=({0: torch.export.Dim("n", min=2)},))
    x = numbers(7, 4, 2, 3)
    torch.testing.assert_close(program.module()(x), module(x), **CLOSE)


@norms
def test_trace_records_the_operator(name):
    """Not its result, which would be a constant."""
    module, x = Module(name), arguments(name)[0]
    traced = torch.jit.trace(module, (x,), check_trace=False)
    torch.testing.assert_close(traced(2.0 * x + x.square()), module(2.0 * x + x.square()), **CLOSE)


@norms
def test_fake_and_meta_tensors_have_the_shape_and_no_values(name):
    given = [one for one in arguments(name) if one is not None]
    x = given[0].contiguous(memory_format=torch.channels_last)
    y = NORMS[name][0](x, *given[1:])
    if name in ("batch", "layer", "group", "instance", "rms", "pattern", "batch-instance"):
        meta = NORMS[name][0](*(one.to("meta") for one in (x, *given[1:])))
        assert meta.is_meta and meta.shape == y.shape and meta.stride() == y.stride()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = NORMS[name][0](*(mode.from_tensor(one) for one in (x, *given[1:])))
    assert fake.shape == y.shape and fake.stride() == y.stride() and fake.dtype == y.dtype


@norms
def test_symbolic_trace_of_operators(name):
    given = [one for one in arguments(name) if one is not None]
    graph = make_fx(lambda *given: NORMS[name][0](*given))(*given)
    torch.testing.assert_close(graph(*given), NORMS[name][0](*given), **CLOSE)


@norms
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoint(name, reentrant):
    def saved(*given):
        return checkpoint(NORMS[name][0], *given, use_reentrant=reentrant)

    check_close(outcome(saved, arguments(name)), outcome(NORMS[name][0], arguments(name)), **CLOSE)


def differentiable(name, which):
    """A function of all that is given to a norm, ours or the one that is right."""

    def value(*given):
        return NORMS[name][which](*given).sin().sum()

    return value


def given_to(name):
    return [one for one in arguments(name) if one is not None]


pure = pytest.mark.parametrize("name", [name for name in NORMS if name not in ("batch that moves", "batch renorm")])


@pure
def test_grad_of_func(name):
    given = given_to(name)
    places = tuple(range(len(given)))
    found, expected = (torch.func.grad(differentiable(name, which), places)(*given) for which in (0, 1))
    check_close(found, expected, **CLOSE)


def test_grad_of_func_where_statistics_are_arguments():
    x, mean, var = numbers(5, 4), torch.zeros(4).double(), torch.ones(4).double()

    def value(x, mean, var, norm):
        mean, var = mean.clone(), var.clone()
        return norm(x, mean, var, training=True).sin().sum(), (mean, var)

    found, expected = (
        torch.func.grad(value, has_aux=True)(x, mean, var, norm)
        for norm in (ours.batch_norm, torch.nn.functional.batch_norm)
    )
    check_close((found[0], *found[1]), (expected[0], *expected[1]), **CLOSE)


@pure
@pytest.mark.parametrize("batched", ["x", "all", "parameters"])
def test_vmap(name, batched):
    given = given_to(name)
    if batched != "x":
        more = [torch.stack([one, one * 0.5, one.square() % 1], -1) for one in given]
        at = tuple(-1 if batched == "all" or i else None for i in range(len(given)))
        given = [given[0] if a is None else one for one, a in zip(more, at, strict=True)]
        if batched == "parameters" and len(given) == 1:
            pytest.skip("this norm has none")
    else:
        given[0] = torch.stack([given[0], given[0] * 0.5 + 1.0, given[0].square()], 2)
        at = (2, *(None for _ in given[1:]))
    found = torch.vmap(NORMS[name][0], in_dims=at)(*given)
    one_by_one = [
        NORMS[name][1](*(one if a is None else one.select(a, i) for one, a in zip(given, at, strict=True)))
        for i in range(3)
    ]
    torch.testing.assert_close(found, torch.stack(one_by_one), **CLOSE)


@pure
def test_gradients_sample_by_sample(name):
    given = given_to(name)
    x = torch.stack([given[0], given[0] * 0.5 + 1.0, given[0].square()])
    places, at = tuple(range(len(given))), (0, *(None for _ in given[1:]))
    of_each = torch.vmap(torch.func.grad(differentiable(name, 0), places), at)(x, *given[1:])
    expected = [torch.func.grad(differentiable(name, 1), places)(one, *given[1:]) for one in x]
    check_close(of_each, tuple(torch.stack(parts) for parts in zip(*expected, strict=True)), **CLOSE)


@pure
def test_grad_of_vmap(name):
    given = given_to(name)
    x = torch.stack([given[0], given[0] * 0.5 + 1.0])
    places, at = tuple(range(len(given))), (0, *(None for _ in given[1:]))

    def value(which):
        return lambda *given: torch.vmap(NORMS[name][which], at)(*given).sin().sum()

    found = torch.func.grad(value(0), places)(x, *given[1:])
    expected = torch.func.grad(
        lambda *given: torch.stack([NORMS[name][1](one, *given[1:]) for one in given[0]]).sin().sum(), places
    )(x, *given[1:])
    check_close(found, expected, **CLOSE)


@pure
def test_jvp(name):
    given = given_to(name)
    tangents = [numbers(*one.shape, seed=4) for one in given]
    found, expected = (torch.func.jvp(NORMS[name][which], tuple(given), tuple(tangents)) for which in (0, 1))
    check_close(found, expected, **CLOSE)


@pure
def test_tangents_of_forward_mode(name):
    given = given_to(name)
    with torch.autograd.forward_ad.dual_level():
        duals = [torch.autograd.forward_ad.make_dual(one, numbers(*one.shape, seed=4)) for one in given]
        found = torch.autograd.forward_ad.unpack_dual(NORMS[name][0](*duals)).tangent
    expected = torch.func.jvp(NORMS[name][1], tuple(given), tuple(numbers(*one.shape, seed=4) for one in given))[1]
    torch.testing.assert_close(found, expected, **CLOSE)


@pure
@pytest.mark.parametrize("outer", [torch.func.jacfwd, torch.func.jacrev])
def test_hessian(name, outer):
    x, *others = given_to(name)
    x = x[:2]

    def hessian(which):
        return outer(torch.func.jacrev(lambda x: differentiable(name, which)(x, *others)))(x)

    torch.testing.assert_close(hessian(0), hessian(1), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("transform", ["grad", "jacfwd", "vmap", pytest.param("hessian", marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("name", ["layer", "batch", "pattern"])
def test_compiled_transforms_of_func_are_right(name, transform):
    """An operator has no gradient there, and that of an autograd.Function would be dropped: wrong, and silent."""
    torch._dynamo.reset()
    x = numbers(3, *SHAPE)[:2] if transform == "vmap" else numbers(*SHAPE)[:2]
    of, expected = (getattr(torch.func, transform)(lambda x, f=f: f(x).sin().sum()) for f in NORMS[name][:2])
    found = torch.compile(of, backend="aot_eager", fullgraph=True)(x)
    torch.testing.assert_close(found, expected(x), **CLOSE)


def test_a_compiled_gradient_of_func_moves_running_statistics():
    torch._dynamo.reset()
    x = numbers(5, 4)

    def value(x, mean, var):
        mean, var = mean.clone(), var.clone()
        return ours.batch_norm(x, mean, var, training=True).sin().sum(), (mean, var)

    of, given = torch.func.grad(value, has_aux=True), (x, torch.zeros(4).double(), torch.ones(4).double())
    found, expected = torch.compile(of, backend="aot_eager", fullgraph=True)(*given), of(*given)
    check_close((found[0], *found[1]), (expected[0], *expected[1]), **CLOSE)


def test_compiled_normalize_takes_layouts_of_any_kind():
    layout = Layout.group(2)
    for norm in (lambda x: ours.normalize(x, layout), lambda x: ours.normalize(x, axis=(0, -1), ddof=1)):
        torch._dynamo.reset()
        compiled = torch.compile(norm, fullgraph=True, backend="aot_eager")
        for shape in ((3, 4, 5), (2, 8, 5)):
            check_close(outcome(compiled, [numbers(*shape)]), outcome(norm, [numbers(*shape)]), **CLOSE)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        (lambda x: ours.normalize(x, Layout.group(2)), "make it outside of that function, or pass its pattern"),
        (lambda x: ours.normalize(x, "n (g c) -> n g", g=3), "g=3 does not divide 4"),
        (lambda x: ours.normalize(x, axis=0, ddof=9), "ddof=9 needs groups of more than 9 values"),
    ],
)
def test_compiled_normalize_refuses_by_the_same_words(wrong, match):
    torch._dynamo.reset()
    with pytest.raises(Exception, match=match):
        torch.compile(wrong, fullgraph=True, backend="eager")(numbers(3, 4))


@pytest.mark.parametrize("name", ["layer", "batch", "group"])
def test_the_operators_keep_what_they_promise_torch(name):
    """torch's own test of an operator: schema, fake, autograd and dynamic shapes."""
    x, weight, bias = (one.requires_grad_() for one in arguments(name))
    dims = {"layer": [2, 3], "batch": [0, 2, 3], "group": [2, 3]}[name]
    weight, bias = (one.detach().reshape(*one.shape, *(1,) * (name != "layer") * 2) for one in (weight, bias))
    rule = (dims, 1e-5, True, 0, False)
    torch.library.opcheck(torch.ops.numbanorm.norm.default, (x, weight.requires_grad_(), bias, None, None, *rule))
    grad = numbers(*x.shape, seed=4)
    torch.library.opcheck(
        torch.ops.numbanorm.norm_backward.default, (grad, x.detach(), weight.detach(), *[None] * 4, *rule)
    )


def test_a_program_that_was_exported_is_saved_and_loaded():
    program, memory = torch.export.export(Module("layer"), (arguments("layer")[0],)), io.BytesIO()
    torch.export.save(program, memory)
    memory.seek(0)
    x = arguments("layer")[0]
    torch.testing.assert_close(torch.export.load(memory).module()(x), Module("layer")(x))
