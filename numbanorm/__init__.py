"""Mean and variance over any grouping of any array, and the normalizations built on them.

Importing this package does not import Numba: that happens with the first call.
"""

from .engine import get_num_threads, set_num_threads
from .layout import Layout
from .moments import Moments, moments
from .normalize import normalize
from .norms import (
    batch_instance_norm,
    batch_norm,
    batch_renorm,
    group_norm,
    instance_norm,
    layer_norm,
    rms_norm,
)
from .reparam import spectral_norm, weight_norm, weight_standardize
from .warmup import warmup

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
