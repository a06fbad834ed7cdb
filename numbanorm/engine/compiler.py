"""Whether kernels can be compiled, and whether Numba is set as it comes."""

import os
import sys

# Settings of Numba's that no machine code of a kernel depends on. Of others it is not known here.
_HARMLESS = (
    "CACHE_",
    "COLOR_SCHEME",
    "CUDA_",
    "DISABLE_CUDA",
    "DISABLE_ERROR_MESSAGE_HIGHLIGHTING",
    "DISABLE_PERFORMANCE_WARNINGS",
    "ENABLE_CUDASIM",
    "FULL_TRACEBACKS",
    "NUM_THREADS",
    "THREADING_LAYER",
    "WARNINGS",
)


def require_compiler() -> None:
    """Refuse to go on where Numba was told to compile nothing: what it decorates then stays plain Python.

    Asked before anything that needs Numba is imported, so that nothing stays half made. It imports Numba.

    Raises
    ------
    RuntimeError
        If NUMBA_DISABLE_JIT is set.
    """
    from numba.core import config

    if config.DISABLE_JIT:
        raise RuntimeError(
            "numbanorm's kernels have to be compiled, but NUMBA_DISABLE_JIT is set, with which Numba compiles nothing; "
            "unset it and start Python anew"
        )


def is_plain() -> bool:
    """Whether Numba compiles as it comes, told nothing that changes machine code. Numba is not imported for it.

    It is told by variables of the environment, by a file in the working directory as it is imported, and in Python.
    """
    told = {name.removeprefix("NUMBA_") for name in os.environ if name.startswith("NUMBA_")}
    if not all(name.startswith(_HARMLESS) for name in told):
        return False
    config = sys.modules.get("numba.core.config")
    if config is None:
        return not os.path.exists(".numba_config.yaml")
    known = getattr(config, "CPU_NAME", None), getattr(config, "CPU_FEATURES", None), getattr(config, "OPT", 3)
    return known == (None, None, 3) and not (config.DISABLE_JIT or config.BOUNDSCHECK)
