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

from numba import njit, types, version_info
from numba.core.compiler_lock import global_compiler_lock
from numba.core.extending import overload
from numba.core.registry import cpu_target

_options = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}

# Decorator of a kernel: without the GIL, and without a way in from Python. It is called by its address.
kernel = partial(njit, nogil=True, **_options)

try:
    from llvmlite.binding import create_new_function_pass_manager
    from numba.core.codegen import JITCodeLibrary
    from numba.core.compiler import Compiler
    from numba.core.compiler_machinery import PassManager
    from numba.core.cpu import CPUContext
    from numba.core.typed_passes import (
        AnnotateTypes,
        IRLegalization,
        NativeLowering,
        NoPythonBackend,
        NopythonTypeInference,
        PreLowerStripPhis,
    )
    from numba.core.untyped_passes import (
        DeadBranchPrune,
        FixupArgs,
        GenericRewrites,
        IRProcessing,
        ReconstructSSA,
        TranslateByteCode,
    )

    _NEW_PASSES = version_info[:2] >= (0, 62)  # LLVM's new way to run passes

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

        def _optimize_functions(self, module):
            """Have variables in registers, and no more: not all that Numba does, and not for declarations too."""
            if not _NEW_PASSES:
                super()._optimize_functions(module)
                return
            module.data_layout = self._codegen._data_layout
            passes = create_new_function_pass_manager()
            passes.add_sroa_pass()
            passes.add_simplify_cfg_pass()
            builder = self._codegen._pass_builder()
            for function in module.functions:
                if not function.is_declaration:
                    passes.run(function, builder)

        def _optimize_final_module(self):
            made = self._codegen._module_pass_manager(loop_vectorize=False, slp_vectorize=False, opt=0, cost="cheap")
            passes, *builder = made if _NEW_PASSES else (made,)
            passes.run(self._final_module, *builder)

        def _finalize_final_module(self):
            self._finalize_dynamic_globals()
            self._finalized = True

        def get_pointer_to_function(self, name):
            self._ensure_finalized()
            return 0

    _sizes: dict[str, int] = {}

    def _size_of(context, typ):
        """Size of a type. Numba asks for that of every variable, and LLVM makes a module to answer."""
        name = str(typ)
        if name not in _sizes:
            _sizes[name] = type(context).get_abi_sizeof(context, typ)
        return _sizes[name]

    # What a part goes through. Numba's own way has a dozen passes more, for closures, containers of several types,
    # `with`, array expressions and the like, which parts have not.
    _PASSES = (
        TranslateByteCode,
        FixupArgs,
        IRProcessing,
        DeadBranchPrune,
        GenericRewrites,
        ReconstructSSA,
        NopythonTypeInference,
        PreLowerStripPhis,
        IRLegalization,
        AnnotateTypes,
        NativeLowering,
        NoPythonBackend,
    )

    class _PartCompiler(Compiler):
        """Numba's compiler with fewer passes, given the library that it would make itself."""

        def define_pipelines(self):
            if not _usable():
                return super().define_pipelines()
            passes = PassManager("part")
            for one in _PASSES:
                passes.add_pass(one, one.__name__)
            passes.finalize()
            return [passes]

        def compile_extra(self, func, *args, **kwargs):
            if _usable() and self.state.library is None:
                context = self.state.targetctx  # a copy, for this part alone
                context.get_abi_sizeof = partial(_size_of, context)
                self.state.library = _PartLibrary(self.state.targetctx.codegen(), func.__qualname__)
            return super().compile_extra(func, *args, **kwargs)

    _of_parts = {"pipeline_class": _PartCompiler}
    njit(**_of_parts)(lambda: None)  # whether it is an option
except Exception:  # this Numba has no such names
    _of_parts = {}

# Decorator of a part of kernels.
inline = partial(njit, forceinline=True, **_options, **_of_parts)


def as_parts(functions):
    """Have functions of `maths` compiled as parts too, where kernels for the CPU call them."""
    if not _of_parts:
        return
    for function in functions:

        @overload(function, {"forceinline": True, **_options, **_of_parts}, strict=False, target="cpu")
        def _same(*args, function=function):
            return function


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


class _LoadKnown:
    """Loads what is new in the registries that a context of Numba's knows, and imports nothing."""

    def __init__(self, context):
        self._context = context
        self._seen = {}

    def __call__(self):
        for registry, loader in tuple(self._context._registries.items()):
            size = sum(len(getattr(registry, items)) for items in loader.registry_items)
            if self._seen.get(registry) != size:
                self._seen[registry] = size
                self._context.install_registry(registry)


def _contexts():
    return cpu_target.typing_context, cpu_target.target_context


@contextmanager
def registries_known():
    """Compile with Numba's modules imported once, before. Else it imports all of them and looks through what each has
    registered whenever a kernel calls an intrinsic, a thousand times.

    To be entered inside `without_collector`, so by one thread at a time.
    """
    try:
        for context in _contexts():
            context.refresh()
            context.load_additional_registries = _LoadKnown(context)
    except Exception:  # this Numba has no such names
        _forget()
    try:
        yield
    finally:
        _forget()


def _forget():
    for context in _contexts():
        vars(context).pop("load_additional_registries", None)


def _resume():
    """In a child, nobody would end the pause of a thread of its parent."""
    global _paused
    _forget()
    if _paused:
        _paused = False
        gc.enable()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_resume)
