"""Code of processes that compile for a GPU where there is none: without Numba's simulator the compiler is real.

The simulator is chosen when Numba is imported, so a test starts a process of its own, with NUMBA_ENABLE_CUDASIM=0.
"""

# Numba asks which device a part of a kernel is for, also where there is none.
NO_GPU = """
from types import SimpleNamespace

import numba.cuda.dispatcher

numba.cuda.dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=(9, 0))
"""

# What kernels are compiled for: those that walk x, and those of states.
CODES = """
from numbanorm.cuda.kernels.constants import FAR, ITEMSIZES, NEAR, NONE, ONE, Code
from numbanorm.engine.interface import Kinds, Variant


def walking(operation, family, kinds, **about):
    return Code(Variant(operation, family, Kinds(*kinds)), **about)


def states(operation, block=32, of_x="none", **about):
    return Code(Variant(operation, "states", Kinds(of_x)), block, **about)
"""
