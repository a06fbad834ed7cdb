"""Mean and variance over any grouping of any array, and the normalizations built on them.

Importing this package does not import Numba: that happens with the first call.
"""

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
