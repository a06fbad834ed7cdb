"""Whether kernels can be compiled. Numba is imported when that is asked."""


def require_compiler() -> None:
    """Refuse to go on where Numba was told to compile nothing: what it decorates then stays plain Python.

    Asked before anything with kernels is imported, so that nothing stays half made.

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
