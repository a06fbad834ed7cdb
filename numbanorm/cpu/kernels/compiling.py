"""How kernels and their parts are compiled."""

import gc
from contextlib import contextmanager
from functools import partial

from numba import njit

# A part of a kernel: never called from Python, so it needs no wrappers.
inline = partial(njit, forceinline=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)

# A kernel: void(first, last, table, frame), called by its address only.
kernel = partial(njit, nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)


@contextmanager
def without_collector():
    """Compile without Python's collector of cycles, which looks through Numba's many objects for nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
