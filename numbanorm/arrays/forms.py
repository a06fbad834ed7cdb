"""Element types: what kernels call them, and which results have."""

from functools import cache
from typing import Any

import numpy as np

_NUMPY_DTYPES = [np.dtype(code) for code in ("f8", "f4", "f2", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")]
KINDS = {dtype: dtype.kind + str(dtype.itemsize) for dtype in _NUMPY_DTYPES}  # what kernels call them

RESULTS = frozenset({"f8", "f4", "f2", "bf"})  # kinds of results
_FLOATS = "give float64, float32, float16 or bfloat16"


def kind(dtype: np.dtype, name: str = "x") -> str:
    """The name by which kernels know a dtype: "f4", "bf", ">f8", ...

    Raises
    ------
    TypeError
        If no kernel reads such elements.
    """
    known = _kind(dtype)
    if known:
        return known
    raise TypeError(
        f"{name} has dtype {dtype}; supported are float64, float32, float16, bfloat16, integers and booleans: "
        + _mend(dtype).format(name)
    )


def _mend(dtype: np.dtype) -> str:
    """How to get numbers that are supported from an array of another dtype."""
    if dtype.names:
        return "pass one of its fields, such as {0}[%r]" % dtype.names[0]  # noqa: UP031 - {0} is filled in later
    return _MENDS.get(dtype.kind, "convert with {0}.astype(...)")


_MENDS = {
    "O": "these are Python objects; where they are numbers or None, convert with {0}.astype(float)",
    "c": "pass {0}.real and {0}.imag apart; {0}.astype(float) would drop the imaginary part",
    "U": "this is text; where it spells numbers, convert with {0}.astype(float)",
    "M": "these are dates; make numbers of them, such as ({0} - {0}.min()) / np.timedelta64(1, 's')",
    "m": "these are spans of time; make numbers of them, such as {0} / np.timedelta64(1, 's')",
}
_MENDS |= dict.fromkeys("ST", _MENDS["U"])


@cache
def _kind(dtype: np.dtype) -> str:
    """The kind of a dtype, empty if there is none."""
    if dtype.kind == "T":  # NumPy's newer text has no byte order to ask for
        return ""
    if native := KINDS.get(dtype.newbyteorder("=")):
        return native if dtype.isnative else ">" + native
    return "bf" if dtype.name == "bfloat16" else ""


@cache
def result_dtype(dtype: np.dtype) -> np.dtype:
    """Dtype of the result of normalizing: the input's own, or float64 for integers and booleans."""
    # Equal dtypes may differ in metadata, and the first one would decide for all: by the type, there is none.
    return np.dtype(np.float64 if dtype.kind in "iub" else dtype.type)


def float_dtype(dtype: Any) -> np.dtype:
    """NumPy's dtype for the one that a caller wants of a result, by any name: of NumPy, torch or ml_dtypes.

    Raises
    ------
    TypeError
        If no result has such elements.
    """
    wanted = str(dtype).removeprefix("torch.") if type(dtype).__module__ == "torch" else dtype
    try:
        known = bfloat16("dtype") if isinstance(wanted, str) and wanted == "bfloat16" else np.dtype(wanted)
    except TypeError as error:
        raise error if wanted == "bfloat16" else TypeError(f"dtype={dtype!r} is no dtype; {_FLOATS}") from None
    if _kind(known).lstrip(">") in RESULTS:
        return known.newbyteorder("=")
    raise TypeError(f"dtype={dtype!r}, but results are of a float type; {_FLOATS}")


def bfloat16(name: str) -> np.dtype:
    """NumPy's dtype of that name, which another package has.

    Raises
    ------
    TypeError
        Without that package.
    """
    try:
        import ml_dtypes
    except ImportError:
        raise TypeError(f"{name} is bfloat16, which needs the package ml_dtypes; install numbanorm[bfloat16]") from None
    return np.dtype(ml_dtypes.bfloat16)
