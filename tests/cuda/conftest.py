"""A GPU, or Numba's simulator of one: how tests send arrays there, and see that nothing comes back unasked."""

import os
import sys
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
from small import SMALL


class GPU:
    """Sends arrays to the GPU and gets them back, while `working` forbids to get any."""

    def __init__(self, cuda, monkeypatch):
        self.cuda, self.monkeypatch = cuda, monkeypatch
        self.kind = type(cuda.device_array(1))
        self.simulated = hasattr(self.kind, "__getattr__")

    def send(self, array):
        array = np.asarray(array)
        if array.dtype.name != "bfloat16":
            return self.cuda.to_device(array)
        return self.cuda.to_device(array.view(np.uint16)).view(array.dtype)  # Numba copies what has a buffer

    def get(self, array):
        assert type(array) is self.kind
        bits = array.view(np.uint16) if array.dtype.name == "bfloat16" else array
        return bits.copy_to_host().view(array.dtype)

    @contextmanager
    def working(self):
        def copied(*args, **keywords):
            raise AssertionError("copied to the host")

        with self.monkeypatch.context() as patched:
            patched.setattr(self.kind, "copy_to_host", copied)
            patched.setattr(self.kind, "__array__", copied, raising=False)
            yield


class Host:
    """The same for arrays of the host."""

    send = staticmethod(np.array)
    working = staticmethod(nullcontext)

    def get(self, array):
        assert type(array) is np.ndarray
        return array


def pytest_collection_modifyitems(items):
    """On a GPU, all tests that work on one are among those that `-m gpu` selects."""
    if find_spec("numba_cuda") and os.environ.get("NUMBA_ENABLE_CUDASIM") != "1":
        for item in items:
            place = item.callspec.params.get("place") if hasattr(item, "callspec") else None
            if "gpu" in getattr(item, "fixturenames", ()) or place == "cuda":
                item.add_marker("gpu")


@pytest.fixture
def real_table():
    """Ask for the real launch table: see `small_table`."""


@pytest.fixture(autouse=True)
def small_table(request, monkeypatch):
    """Make the launch table small, so that small arrays reach every entry of it, and the simulator need not run
    hundreds of threads for each of them.
    """
    if "real_table" in request.fixturenames or not find_spec("numba_cuda"):
        yield
        return
    from numbanorm.call import known
    from numbanorm.cuda import backward, chosen, engine, plan

    def forget():
        of_engine = engine._plan, engine._merge, engine._update, engine._formula, engine._matvec
        for cached in (*of_engine, chosen.planned, backward._plan):
            cached.cache_clear()
        known.forget()

    for planned in (plan, chosen, backward):
        monkeypatch.setattr(planned, "SHAPES", SMALL)
    forget()
    yield
    forget()


@pytest.fixture
def gpu(monkeypatch):
    pytest.importorskip("numba_cuda", reason="needs the package numba-cuda")
    from numba import cuda
    from numba.core import config

    if not cuda.is_available():
        pytest.skip("no GPU, and Numba was imported without its simulator")
    if config.ENABLE_CUDASIM:
        import simulator

        simulator.make_fast()
    return GPU(cuda, monkeypatch)


@pytest.fixture(params=["cpu", "cuda"])
def place(request):
    """Run a test for arrays of the host, and for those of the GPU."""
    return Host() if request.param == "cpu" else request.getfixturevalue("gpu")


@pytest.fixture
def watch(gpu, monkeypatch):
    """Count what each step moves: a function watch(**arrays) that returns a list of (step, its areas)."""
    if not gpu.simulated:
        pytest.skip("only the simulator counts")
    from numbanorm.arrays import give
    from numbanorm.cuda import launcher
    from numbanorm.cuda.kernels.twins import Traffic

    seen, areas = [], {}
    launch, empty = launcher.launch, give.empty

    def counted(step, *arguments):
        with Traffic(**areas) as counts:
            launch(step, *arguments)
        seen.append((step, counts.areas))

    def named(*description):  # states: all that is made from `watch` on
        made = empty(*description)
        areas[f"states{len(areas)}"] = made.pointer, made.nbytes
        return made

    def watch(**arrays):
        areas.clear()
        areas.update({name: (a.pointer, a.nbytes) for name, a in arrays.items() if a is not None})
        return seen

    monkeypatch.setattr(launcher, "launch", counted)
    monkeypatch.setattr(give, "empty", named)
    return watch


# Other libraries: stand-ins over the host's memory, which is that of the simulator's GPU.


@pytest.fixture
def simulated(gpu):
    """Ask for the simulator, to which any address of the host is one on the GPU."""
    if not gpu.simulated:
        pytest.skip("its memory is not the host's")
    return gpu


@pytest.fixture
def cupy_like(simulated, monkeypatch):
    """As much of CuPy as is asked of it: ndarray, the current stream, and memory."""

    class Array:
        device = SimpleNamespace(id=0)
        __cuda_array_interface__ = "is not asked"

        def __init__(self, shape, dtype, memory, strides):
            self.hold(np.ndarray(shape, dtype, memory.buffer, 0, strides))

        def hold(self, array):
            self.array, self.shape, self.strides, self.dtype = array, array.shape, array.strides, array.dtype
            self.data = SimpleNamespace(ptr=array.ctypes.data)

        def reshape(self, shape):
            return send(self.array.reshape(shape))

        def get(self):
            return self.array.copy()

        def set(self, array):
            self.array[...] = array

    def send(array):
        made = Array.__new__(Array)
        made.hold(array)
        return made

    module = SimpleNamespace(ndarray=Array, stream=0x70, send=send)
    module.cuda = SimpleNamespace(
        get_current_stream=lambda device: SimpleNamespace(ptr=module.stream),
        alloc=lambda size: SimpleNamespace(buffer=np.empty(size, np.uint8)),
        Device=lambda device: nullcontext(),
    )
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


@pytest.fixture
def torch_like(simulated, monkeypatch):
    """Send a tensor to a GPU that is the host: a class of tensors that say they lie on one."""
    torch = pytest.importorskip("torch")

    class OnDevice(torch.Tensor):
        is_cuda, is_cpu = True, False
        device = torch.device("cuda", 0)

    def empty(shape, strides, dtype, device):
        assert device == OnDevice.device
        return real(shape, strides, dtype=dtype).as_subclass(OnDevice)

    def send(tensor):
        return tensor.as_subclass(OnDevice)

    real, send.stream = torch.empty_strided, 0x50
    monkeypatch.setattr(torch, "empty_strided", empty)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=send.stream))
    return send
