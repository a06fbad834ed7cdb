"""A kernel of one's own under guard: did a commit make it slower? Here it is the group norm of variant.py.

Such a file says where the kernels are, on what they are measured, and how they are called. Copy it into your repository
and change those three. The gate imports what two commits have at PACKAGE side by side, calls both in turn on the same
arrays, and exits with 1 if a case is slower, with 0 if none is, and with 3 if nothing could be measured:

    python asv_benchmarks/gate.py HEAD . --kernels examples/guard.py
"""

from harness.case import Case  # from asv_benchmarks/, where the gate lies

# The path of a package or module, from the top of the repository in which this file lies. A package imports its own
# modules relatively, so that two versions of it can stand side by side.
PACKAGE = "examples/variant.py"

CASES = [
    Case("sd-unet.mid.gn", "group_norm", (2, 1280, 8, 8), groups=32),
    Case("sd-unet.down2.gn", "group_norm", (2, 1280, 16, 16), groups=32),
]


def prepare(module, case, arrays):
    """Return a call without arguments; `arrays` has x, weight and bias, and module is one version of PACKAGE."""
    return module.prepare(case, arrays, None)


# A norm of harness.case.NORMS is compared with float64. For another function, give Case any name in the norm's place,
# and say what is right: def truth(case, arrays): return harness.plain.Truth(y, unit), where `unit` is the size of one
# rounding error of y; 16384 of them pass in float32, and 4 in float16 and bfloat16.
