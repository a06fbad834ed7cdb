"""Compile ahead of time: the kernels that common calls need."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .arrays.forms import bfloat16, kind, result_dtype
from .engine.interface import Kinds, Variant


def warmup(dtypes: DTypeLike | Sequence[DTypeLike] = ("float32",), *, progress: bool = False) -> None:
    """Compile the kernels of all norms ahead of time, or load them from the cache folder.

    Without it each kernel is compiled at the first call that needs it. Compiling them all takes about two minutes a
    dtype, of one processor; loading them, which is what the next process does, takes half a second. ``python -m
    numbanorm warmup`` shares the work among all processors: a minute or two on two. These are the kernels for the CPU:
    which CUDA kernels are needed depends on shapes. Those that go backward are compiled when they are called.

    Parameters
    ----------
    dtypes : dtype or sequence of dtypes
        Of the arrays to come. The kernels serve arrays of any shape, strides and library, in all functions of this
        package, with and without weight and bias of that dtype; other combinations are compiled when they are called.
    progress : bool
        Show on standard error how far it is: with a bar in a terminal or notebook, a fine one if rich is installed
        (``numbanorm[progress]``; in a notebook with ipywidgets), elsewhere with a line for each kernel.

    Raises
    ------
    TypeError
        If there are no kernels for one of the dtypes.
    ValueError
        If there is no dtype at all.

    Examples
    --------
    >>> import numbanorm as nbn
    >>> nbn.warmup()  # doctest: +SKIP
    >>> nbn.warmup(["float32", "complex64"])
    Traceback (most recent call last):
        ...
    TypeError: there are no kernels for dtype complex64; ...
    """
    needed = variants(dtypes)
    done = map(prepare, needed)
    if progress:
        show(done, len(needed))
    else:
        for _ in done:
            pass


COMMON = (Variant("merge", "rows", Kinds()),)  # kernels that arrays of any dtype need


def variants(dtypes: DTypeLike | Sequence[DTypeLike]) -> list[Variant]:
    """All kernels that the norms need for arrays of these dtypes, each once."""
    needed = list(COMMON)
    for dtype in _as_dtypes(dtypes):
        needed += of_kinds(kind(dtype), kind(result_dtype(dtype)))
    return list(dict.fromkeys(needed))


def of_kinds(x: str, out: str) -> list[Variant]:
    """The same for x and results of these kinds, but for what is common to all."""
    needed = []
    callers = [("none", "none"), (out, "none"), (out, out)]  # weight and bias of the caller
    made = [("f8", "none"), ("f8", "f8")]  # and those that norms make from statistics
    for family in ("rows", "columns"):
        for operation in ("normalize", "normalize_split"):
            needed += [Variant(operation, family, Kinds(x, out, *pair)) for pair in callers]
        needed += [Variant("apply", family, Kinds(x, out, *pair, "f8", "f8")) for pair in [callers[0], *made]]
        needed += [Variant("apply", family, Kinds(x, out, *pair, out, out)) for pair in callers]
        needed += [Variant(operation, family, Kinds(x, rest="f8")) for operation in ("moments", "merge")]
    return [*dict.fromkeys(needed), Variant("update_running", "states", Kinds(running_mean=out, running_var=out))]


def prepare(variant: Variant) -> Variant:
    """Compile or load one kernel, and return what it is."""
    from .cpu import launcher

    launcher.prepare(variant)
    return variant


def show(done: Iterable[Variant], total: int) -> None:
    """Wait for all kernels, and show on standard error how many are done: one bar, or lines where it is not seen."""
    from .engine.notice import in_notebook

    terminal = sys.stderr.isatty()
    if not (terminal or in_notebook()):
        for number, variant in enumerate(done, 1):
            print(f"{number:3}/{total} {variant}", file=sys.stderr, flush=True)
    elif bar := bar_of_rich(terminal):
        with bar:
            task = bar.add_task("compiling", total=total)
            for variant in done:
                bar.update(task, advance=1, description=str(variant))
    else:
        _bar_of_text(done, total)


def bar_of_rich(terminal: bool) -> Any:
    """A bar, if rich is installed. In a notebook it is a widget."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        if not terminal:
            import_module("ipywidgets")
    except ImportError:
        return None
    columns = (MofNCompleteColumn(), BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    return Progress(*columns, console=Console(stderr=True))


def _bar_of_text(done: Iterable[Variant], total: int) -> None:
    """One line, written again for each kernel. It ends before the terminal does, where it could not be rewritten."""
    from shutil import get_terminal_size  # with it come compressors: not where this module is imported

    width, bar = get_terminal_size().columns - 1, 24

    def write(number: int, text: object) -> None:
        parts = bar * number // total
        line = f"{number:3}/{total} {'#' * parts}{'-' * (bar - parts)} {text}"
        print(f"\r{line[:width]:{width}}", end="", file=sys.stderr, flush=True)

    write(0, "compiling")
    for number, variant in enumerate(done, 1):
        write(number, variant)
    print(file=sys.stderr)


def _as_dtypes(dtypes: Any) -> list[np.dtype]:
    """The dtypes that a caller names, which may be one or several; refused if no kernel reads them."""
    several = list(dtypes) if isinstance(dtypes, Sequence) and not isinstance(dtypes, str) else [dtypes]
    if not several:
        raise ValueError("dtypes is empty; name at least one, such as 'float32'")
    return [_as_dtype(dtype) for dtype in several]


def _as_dtype(dtype: Any) -> np.dtype:
    if isinstance(dtype, str) and dtype == "bfloat16":
        return bfloat16("one of dtypes")
    mend = "give float64, float32, float16, bfloat16, an integer type or bool, as a name or a NumPy dtype"
    if dtype is None:  # which NumPy takes for float64
        raise TypeError(f"dtypes names None; {mend}")
    try:
        known = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"dtypes names {dtype!r}, which is no dtype; {mend}") from None
    try:
        kind(known)
    except TypeError:
        raise TypeError(f"there are no kernels for dtype {known}; {mend}") from None
    return known
