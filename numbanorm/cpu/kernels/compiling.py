"""How kernels and their parts are compiled: decorators for both, and a pause for Python's collector meanwhile.

A kernel is dozens of parts, all inlined. Numba optimises each part in full and makes machine code of it that nobody
calls, and then does both again for the kernel: half of the time of a compilation. Here a part's library runs the cheap
passes only and makes no machine code. The kernel that it ends up in is optimised in full, as ever: to the same bits.

That takes names of Numba's that are not public. Where they are missing, or a trial fails, parts are compiled as usual.
"""

import ctypes
import gc
import os
from contextlib import contextmanager
from functools import partial
from inspect import getsource

from numba import njit, types
from numba.core.compiler_lock import global_compiler_lock

_options = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}

# Decorator of a kernel: without the GIL, and without a way in from Python. It is called by its address.
kernel = partial(njit, nogil=True, **_options)

try:
    from numba.core.codegen import JITCodeLibrary
    from numba.core.compiler import Compiler
    from numba.core.cpu import CPUContext

    class _NoEnvironment:
        """The code generator of a part's library: no machine code of it is there to be told of an environment, the
        place of Python objects. A part has none.
        """

        def __init__(self, codegen):
            self._codegen = codegen

        def __getattr__(self, name):
            return getattr(self._codegen, name)

        def set_env(self, env_name, env):
            pass

    class _PartLibrary(JITCodeLibrary):
        """Code that is only linked into other code."""

        @property
        def codegen(self):
            return _NoEnvironment(self._codegen)

        def _optimize_final_module(self):
            made = self._codegen._module_pass_manager(loop_vectorize=False, slp_vectorize=False, opt=0, cost="cheap")
            manager, *builder = made if isinstance(made, tuple) else (made,)  # a builder since Numba 0.62
            manager.run(self._final_module, *builder)

        def _finalize_final_module(self):
            self._finalize_dynamic_globals()
            self._finalized = True

        def get_pointer_to_function(self, name):
            self._ensure_finalized()
            return 0

    class _PartCompiler(Compiler):
        """Numba's compiler, given the library that it would make itself."""

        def compile_extra(self, func, *args, **kwargs):
            if _usable() and self.state.library is None:
                self.state.library = _PartLibrary(self.state.targetctx.codegen(), func.__qualname__)
            return super().compile_extra(func, *args, **kwargs)

    _of_parts = {"pipeline_class": _PartCompiler}
    njit(**_of_parts)(lambda: None)  # whether it is an option
except Exception:  # this Numba has no such names
    _of_parts = {}

# Decorator of a part of kernels.
inline = partial(njit, forceinline=True, **_options, **_of_parts)

_tried = None


def _usable():
    """Whether the libraries of parts do what they should with this Numba: tried once, before the first is compiled."""
    global _tried
    if _tried is None:
        _tried = True  # while it is tried
        try:
            _tried = _trial()
        except Exception:
            _tried = False
    return _tried


def _trial():
    """Compile a kernel of one part, take it apart as for the disk, and run it."""
    # Were a part's environment set in another way, Numba would write to where no such variable is.
    if "library.codegen.set_env(" not in getsource(CPUContext.get_executable):
        return False

    @inline
    def part(x):
        return x + 1.0

    @kernel
    def whole(x):
        return part(x) * part(2.0 * x)

    signature = types.float64(types.float64)
    whole.compile(signature)
    compiled = whole.overloads[signature.args]
    compiled._reduce()
    address = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    run = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_double)(address)
    result, error = ctypes.c_double(), ctypes.c_void_p()
    return run(ctypes.byref(result), ctypes.byref(error), 3.0) == 0 and result.value == 28.0


_paused = False


@contextmanager
def without_collector():
    """Compile without Python's cyclic collector: it would walk through all that Numba holds, over and over.

    One thread at a time may do so, so that the last to end is the one that found the collector at work.
    """
    global _paused
    with global_compiler_lock:
        on = gc.isenabled()
        try:
            _paused = _paused or on
            gc.disable()
            yield
        finally:
            if on:
                gc.enable()
                _paused = False


def _resume():
    """In a child, nobody would end the pause of a thread of its parent."""
    global _paused
    if _paused:
        _paused = False
        gc.enable()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_resume)
