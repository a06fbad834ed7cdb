"""Peak memory of a process that normalizes 256 MB into a given output: a copy made on the way would show.

The floor is the input, the output, and about 170 MB for Python with NumPy and Numba.
"""

from contextlib import suppress

import numpy as np
from harness.case import Case
from harness.libraries.own import CALLS

import numbanorm as nbn

from .choice import CHOICE

LARGE = {
    "batch norm, training": Case("large", "batch_norm", (64, 64, 128, 128)),
    "group norm": Case("large", "group_norm", (64, 64, 128, 128), groups=8),
    "group norm, channels last": Case("large", "group_norm", (64, 128, 128, 64), groups=8, last=True),
    "layer norm": Case("large", "layer_norm", (65536, 1024), last=True),
    "layer norm over axis 1": Case("large", "layer_norm", (64, 64, 128, 128)),
}


class Peak:
    params = (list(LARGE),)
    param_names = ("norm",)
    timeout = 120

    def setup_cache(self):
        """Put the kernels on disk: compiling takes 80 MB, which the first run of a commit would show alone."""
        for norm in LARGE:
            with suppress(NotImplementedError):
                self.setup(norm)
                self.call()

    def setup(self, norm):
        case = LARGE[norm]
        if CHOICE == "tiny":
            case = case.tiny()
        x, out = np.empty(case.shape, np.float32), np.empty(case.shape, np.float32)
        x.fill(1)  # making random numbers would take memory of its own
        try:
            self.call = CALLS[case.norm](nbn, case, case.arrays(x), out)
        except AttributeError as error:  # an older numbanorm that lacks a function
            raise NotImplementedError(error) from error

    def peakmem_into(self, norm):
        self.call()
