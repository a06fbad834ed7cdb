"""How parts of kernels are compiled."""

import gc
import os

import pytest
from numba import types
from numba.core.extending import intrinsic
from processes import run_python

from numbanorm.cpu.kernels import compiling


def test_parts_make_no_machine_code_with_this_numba():
    """Else kernels are right all the same, but compile half as long again: see `compiling`."""
    assert compiling._usable()


def test_the_collector_is_as_it_was():
    for enabled in (True, False):
        (gc.enable if enabled else gc.disable)()
        try:
            with compiling.without_collector():
                assert not gc.isenabled()
                with compiling.without_collector():
                    assert not gc.isenabled()
                assert not gc.isenabled()
            assert gc.isenabled() == enabled
        finally:
            gc.enable()


MATHS = """
import numbanorm.cpu.kernels.lanes  # noqa: F401  # which has `maths` compiled as parts
from numba import types
from numbanorm.cpu.kernels import compiling
from numbanorm.maths import welford

made = []
parts = compiling._PartLibrary
original = parts.finalize
parts.finalize = lambda library: (made.append(library.name), original(library))[1]

@compiling.kernel
def whole(x):
    return welford.finite_or_zero(x) + min(x, 1.0)

whole.compile(types.float64(types.float64))
(compiled,) = whole.overloads.values()
print(any("finite_or_zero" in name for name in made), isinstance(compiled.library, parts))
"""


def test_maths_in_a_kernel_is_compiled_as_parts():
    """One library of all has machine code: the kernel's own. In a process where nothing is compiled yet."""
    assert run_python(MATHS) == "True False"


def _kept():
    return [vars(context).get("load_additional_registries") for context in compiling._contexts()]


def test_numbas_registries_are_loaded_as_before_afterwards():
    with compiling.without_collector(), compiling.registries_known():
        assert all(_kept())
    assert not any(_kept())
    with pytest.raises(RuntimeError), compiling.without_collector(), compiling.registries_known():
        raise RuntimeError
    assert not any(_kept())


FORK = """
import os
import numbanorm.cpu.kernels.lanes  # noqa: F401  # which has `maths` compiled as parts
from numbanorm.cpu.kernels import compiling

def kept():
    return any("load_additional_registries" in vars(context) for context in compiling._contexts())

with compiling.without_collector(), compiling.registries_known():
    child = os.fork()
    if child == 0:
        os._exit(int(kept()))
    print(os.waitpid(child, 0)[1], kept())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX")
def test_a_child_of_a_process_that_compiles_loads_them_too():
    """Nobody would put them back there."""
    assert run_python(FORK) == "0 True"


def test_what_is_registered_meanwhile_is_found():
    """An intrinsic gets its code only when a call of it is typed, in any of the registries that Numba knows."""

    @intrinsic
    def three(typingctx):
        return types.int64(), lambda context, builder, sig, args: context.get_constant(types.int64, 3)

    @compiling.inline
    def part(x):
        return x + three()

    @compiling.kernel
    def whole(x):
        return part(x)

    with compiling.without_collector(), compiling.registries_known():
        whole.compile(types.int64(types.int64))
    assert whole.overloads
