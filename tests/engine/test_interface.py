"""The interface between what is common to all engines and each engine: its methods, and that nothing else is needed."""

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import oracle
import pytest
from known_calls import CALLS, images, some_vectors
from numpy_engine import NumpyEngine
from oracle import assert_within
from strategies import FLOATS, ORDERS, arrange

import numbanorm as nbn
from numbanorm.call.choose import engine_of
from numbanorm.cpu.engine import HostEngine
from numbanorm.engine import interface

METHODS = [name for name, item in vars(interface.Engine).items() if inspect.isfunction(item) and name[0] != "_"]
TESTS, HOME = str(Path(__file__).parents[1]), str(Path(nbn.__file__).parents[1])


def parameters(function):
    """Names, kinds and defaults of a function's parameters, without annotations."""
    return [p.replace(annotation=p.empty) for p in inspect.signature(function).parameters.values()]


def cuda_engine():
    pytest.importorskip("numba_cuda")
    from numbanorm.cuda.engine import CudaEngine

    return CudaEngine


ENGINES = {"host": lambda: HostEngine, "numpy": lambda: NumpyEngine, "cuda": cuda_engine}


def test_the_interface_stays_small():
    assert 1 <= len(METHODS) <= 10


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("engine", ENGINES)
def test_engines_have_every_method(engine, method):
    assert parameters(getattr(ENGINES[engine](), method)) == parameters(getattr(interface.Engine, method))


@pytest.mark.parametrize("engine", ENGINES)
def test_engines_have_no_other_methods(engine):
    """What is not in the interface, nobody but the engine itself may call."""
    public = {name for name in vars(ENGINES[engine]()) if not name.startswith("_")}
    assert public == set(METHODS)


# nothing but these methods is needed ----------------------------------------------------------------------------------


@pytest.fixture
def engine(numpy_engine):
    assert engine_of(np.zeros(1)) is numpy_engine
    return numpy_engine


NORMS = {
    "batch": (
        lambda x, c: nbn.batch_norm(x, None, None, *c[:2], training=True),
        lambda x, c: oracle.batch_norm(x, *c[:2]),
    ),
    "batch, stored": (
        lambda x, c: nbn.batch_norm(x, c[2], c[3], *c[:2]),
        lambda x, c: oracle.batch_norm_stored(x, c[2], c[3], *c[:2]),
    ),
    "group": (lambda x, c: nbn.group_norm(x, 3, *c[:2]), lambda x, c: oracle.group_norm(x, 3, *c[:2])),
    "instance": (lambda x, c: nbn.instance_norm(x, None, None, *c[:2]), lambda x, c: oracle.instance_norm(x, *c[:2])),
    "layer": (lambda x, c: nbn.layer_norm(x, x.shape[1:]), lambda x, c: oracle.layer_norm(x, x.shape[1:])),
    "rms": (lambda x, c: nbn.rms_norm(x, x.shape[2:], eps=0.5), lambda x, c: oracle.rms_norm(x, x.shape[2:], eps=0.5)),
    "batch renorm": (
        lambda x, c: nbn.batch_renorm(x, c[2].copy(), c[3].copy(), *c[:2], training=True, r_max=1.2, d_max=0.3),
        lambda x, c: oracle.batch_renorm(x, c[2], c[3], *c[:2], r_max=1.2, d_max=0.3),
    ),
    "batch instance": (
        lambda x, c: nbn.batch_instance_norm(x, np.linspace(0, 1, 6), *c[:2]),
        lambda x, c: oracle.batch_instance_norm(x, np.linspace(0, 1, 6), *c[:2]),
    ),
    "weight": (lambda x, c: nbn.weight_norm(x, c[0][:4]), lambda x, c: oracle.weight_norm(x, c[0][:4])),
    "all weights": (
        lambda x, c: nbn.weight_norm(x, 3.0, axis=None),
        lambda x, c: oracle.weight_norm(x, 3.0, None),
    ),
    "standardize": (lambda x, c: nbn.weight_standardize(x, ddof=1), lambda x, c: oracle.weight_standardize(x, ddof=1)),
    "spectral": (
        lambda x, c: nbn.spectral_norm(x, c[0][:4], num_iterations=2)[0],
        lambda x, c: oracle.spectral_norm(x, c[0][:4], num_iterations=2)[0],
    ),
    "normalize": (
        lambda x, c: nbn.normalize(x, "n (g c) h w -> g n", c[0][:, None, None], g=2),
        lambda x, c: oracle.normalize(
            x, *oracle.groups(nbn.Layout("n (g c) h w -> g n", g=2), x.shape), c[0][:, None, None]
        ),
    ),
    "given moments": (
        lambda x, c: nbn.normalize(x, axis=0, moments=nbn.moments(x, axis=0)),
        lambda x, c: oracle.normalize(x, *oracle.groups(nbn.Layout.axes(0), x.shape)),
    ),
}


@pytest.mark.parametrize("dtype", [*FLOATS, np.dtype(">f4"), np.dtype("int16")], ids=str)
@pytest.mark.parametrize("name", NORMS)
def test_norms_on_numpys_engine(name, dtype, engine, rng):
    ours, definition = NORMS[name]
    x = (5 + 3 * rng.standard_normal((4, 6, 3, 5))).astype(dtype)
    channels = rng.uniform(0.5, 1.5, (4, 6))
    expected = definition(x, channels)
    unit = float(oracle.ml_dtypes.finfo(oracle.result_dtype(dtype)).eps)
    for _ in range(2):  # the second is known, where it can be
        got = ours(x, channels)
        assert (got.dtype, got.shape) == (oracle.result_dtype(dtype), x.shape)
        assert_within(got, expected, unit * np.abs(expected) + 1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("order", ORDERS)
def test_moments_on_numpys_engine(order, engine, rng):
    x = arrange(rng, rng.standard_normal((4, 6, 5)), order)
    layout = nbn.Layout("n (g c) w -> g n", g=2)
    expected = oracle.moments(x, *oracle.groups(layout, x.shape))
    got, m = nbn.normalize(x, layout, return_moments=True)
    for states in (nbn.moments(x, layout), m):
        for ours, theirs in zip((states.count, states.mean, states.m2), expected, strict=True):
            np.testing.assert_allclose(ours.ravel(), theirs, rtol=1e-13, atol=1e-14)
    halves = nbn.moments(x[:, :, :2], layout) + nbn.moments(x[:, :, 2:], layout)
    np.testing.assert_allclose(halves.var(1), (m.m2 / (m.count - 1)), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(halves.std(), np.sqrt(m.m2 / m.count), rtol=1e-12, atol=1e-14)
    assert_within(got, oracle.normalize(x, *oracle.groups(layout, x.shape)), 1e-12)


BIAS_ALONE = {"layer, bias": lambda x, v, **o: nbn.layer_norm(x, x.shape[3], bias=np.full(x.shape[3], v[0, 0]), **o)}


@pytest.mark.parametrize("into", ["new", "out", "in place"])
@pytest.mark.parametrize("name", [*CALLS, *BIAS_ALONE])
def test_known_calls_on_numpys_engine(name, into, engine, rng):
    """As on the host: the second call gives what a first one gives, running statistics too."""
    call, first, second = (CALLS | BIAS_ALONE)[name], images(rng), images(rng)
    vectors = some_vectors(rng)
    fresh, known = vectors.copy(), vectors.copy()
    expected = call(second, fresh)
    for x, own in ((first, vectors.copy()), (second, known)):
        x = x.copy()
        out = {"new": None, "out": np.empty_like(x), "in place": x}[into]
        got = call(x, own, out=out)
        assert out is None or got is out
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(known, fresh)
    assert not np.array_equal(call(first, vectors), expected)


@pytest.mark.parametrize("shape", [(0, 6, 3, 5), (4, 6, 0, 5)])
@pytest.mark.parametrize("name", ["batch", "batch, stored", "group", "layer", "rms", "batch renorm", "batch instance"])
def test_empty_arrays_on_numpys_engine(name, shape, engine, rng):
    assert NORMS[name][0](np.ones(shape), rng.uniform(0.5, 1.5, (4, 6))).shape == shape


# and it compiles nothing ----------------------------------------------------------------------------------------------

CALL = """
import sys
sys.path[:0] = [{tests!r}, {home!r}]
import numpy as np
import numbanorm as nbn
from numbanorm.call import choose
from numpy_engine import NumpyEngine

choose.CPU = NumpyEngine()
x = np.arange(48.0).reshape(2, 4, 6)
mean, var = np.zeros(4), np.ones(4)
for _ in range(2):
    nbn.batch_norm(x, mean, var, training=True)
    nbn.layer_norm(x, 6, np.ones(6))
    nbn.moments(x, "n (g c) w -> n g", g=2)
assert "numba" not in sys.modules
nbn.instance_norm(x, mean, var)
nbn.spectral_norm(x)
nbn.batch_instance_norm(x, np.ones(4))
assert "numbanorm.cpu.launcher" not in sys.modules
assert not [name for name in sys.modules if name.startswith("numbanorm.cpu.kernels.") and name != {constants!r}]
"""


def test_numpys_engine_compiles_nothing():
    """Calls without formulas do not even import Numba; others import it for `maths`, and no kernel."""
    code = CALL.format(tests=TESTS, home=HOME, constants="numbanorm.cpu.kernels.constants")
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_kernels_are_refused_beside_numpys_engine(engine):
    """The fixture sees to it that no test on this engine runs a kernel unawares."""
    plan = interface.Frame(np.ones((2, 3)), np.ones((2, 3)))
    with pytest.raises(AssertionError, match="needs a kernel"):
        HostEngine().plan("normalize", nbn.Layout.axes(0), plan)
