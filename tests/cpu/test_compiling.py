"""How parts of kernels are compiled."""

import gc

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
