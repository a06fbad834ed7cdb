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
from .streams import stream

if TYPE_CHECKING:  # what is imported when it is first used
    from . import plot as plot
    from .gradients.axes import layer_norm_backward, rms_norm_backward
    from .gradients.channels import (
        batch_instance_norm_backward,
        batch_norm_backward,
        batch_renorm_backward,
        group_norm_backward,
        instance_norm_backward,
    )
    from .gradients.layouts import normalize_backward
    from .gradients.weights import spectral_norm_backward, weight_norm_backward, weight_standardize_backward

__version__ = "0.1.0"
__all__ = [
    "Layout",
    "Moments",
    "batch_instance_norm",
    "batch_instance_norm_backward",
    "batch_norm",
    "batch_norm_backward",
    "batch_renorm",
    "batch_renorm_backward",
    "get_num_threads",
    "group_norm",
    "group_norm_backward",
    "instance_norm",
    "instance_norm_backward",
    "layer_norm",
    "layer_norm_backward",
    "moments",
    "normalize",
    "normalize_backward",
    "rms_norm",
    "rms_norm_backward",
    "set_num_threads",
    "spectral_norm",
    "spectral_norm_backward",
    "stream",
    "warmup",
    "weight_norm",
    "weight_norm_backward",
    "weight_standardize",
    "weight_standardize_backward",
]


_GRADIENTS = {  # by the module that has them
    "layouts": ("normalize_backward",),
    "axes": ("layer_norm_backward", "rms_norm_backward"),
    "channels": (
        "batch_instance_norm_backward",
        "batch_norm_backward",
        "batch_renorm_backward",
        "group_norm_backward",
        "instance_norm_backward",
    ),
    "weights": ("spectral_norm_backward", "weight_norm_backward", "weight_standardize_backward"),
}

if not TYPE_CHECKING:  # a type checker would take any name for one of the package

    def __getattr__(name: str) -> Any:
        """Integrations, and what goes backward, are imported when they are first used."""
        from importlib import import_module

        if name == "plot":
            return import_module(f"{__name__}.{name}")
        for module, names in _GRADIENTS.items():
            if name in names:
                globals()[name] = getattr(import_module(f"{__name__}.gradients.{module}"), name)
                return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Public names, and no modules: what an interactive session completes."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
