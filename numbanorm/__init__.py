"""Mean and variance over any grouping of any array, and the normalizations built on them, as parallel Numba kernels.

A pattern says which elements share statistics; `batch_norm`, `layer_norm` and the like are patterns with a name. Arrays
of NumPy, torch and CuPy, on the CPU or an NVIDIA GPU, give results of the same library. Numba waits for the first call.

>>> import numbanorm as nbn
>>> import numpy as np
>>> x = np.array([[1.0, 3.0, 10.0, 30.0]])
>>> nbn.normalize(x, "n (g c) -> n g", g=2).round(3)
array([[-1.,  1., -1.,  1.]])
"""

from typing import TYPE_CHECKING, Any

from .ahead import warmup
from .cpu.threads import get_num_threads, set_num_threads
from .layout import Layout
from .normalization import normalize
from .norms.batch import batch_norm, batch_renorm
from .norms.group import group_norm
from .norms.instance import batch_instance_norm, instance_norm
from .norms.layer import layer_norm, rms_norm
from .norms.weights import spectral_norm, weight_norm, weight_standardize
from .statistics import Moments, moments

if TYPE_CHECKING:
    from . import plot as plot

__version__ = "0.1.0"
__all__ = [
    "Layout",
    "Moments",
    "batch_instance_norm",
    "batch_norm",
    "batch_renorm",
    "get_num_threads",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "moments",
    "normalize",
    "rms_norm",
    "set_num_threads",
    "spectral_norm",
    "warmup",
    "weight_norm",
    "weight_standardize",
]


if not TYPE_CHECKING:  # a type checker would take any name for one of the package

    def __getattr__(name: str) -> Any:
        """Integrations are imported when they are first used."""
        if name == "plot":
            from importlib import import_module

            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Public names, and no modules: what an interactive session completes."""
    return sorted(name for name in globals() if name in __all__ or name.startswith("__"))
