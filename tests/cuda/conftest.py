"""A GPU, or Numba's simulator of one: how tests send arrays there, and see that nothing comes back unasked."""

from contextlib import contextmanager

import numpy as np
import pytest


class GPU:
    """Sends arrays to the GPU and gets them back, while `working` forbids to get any."""

    def __init__(self, cuda, monkeypatch):
        self.cuda, self.monkeypatch = cuda, monkeypatch
        self.kind = type(cuda.device_array(1))
        self.simulated = hasattr(self.kind, "__getattr__")

    def send(self, array):
        return self.cuda.to_device(np.asarray(array))

    def get(self, array):
        assert type(array) is self.kind
        return array.copy_to_host()

    @contextmanager
    def working(self):
        def copied(*args, **keywords):
            raise AssertionError("copied to the host")

        with self.monkeypatch.context() as patched:
            patched.setattr(self.kind, "copy_to_host", copied)
            patched.setattr(self.kind, "__array__", copied, raising=False)
            yield


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
