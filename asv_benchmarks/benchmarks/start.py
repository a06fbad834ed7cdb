"""How long numbanorm takes to start, each time in a fresh process: its import, and the first call of a norm.

The interpreter's own start is not part of it, nor the import of NumPy, nor for calls that of Numba.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

HARNESS = Path(__file__).parents[1].as_posix()
CALLS = {
    "batch norm, training": "numbanorm.batch_norm(x, a, b, a, b, training=True)",
    "batch norm, evaluation": "numbanorm.batch_norm(x, a, b, a, b)",
    "layer norm": "numbanorm.layer_norm(x, 64, a, b)",
    "group norm": "numbanorm.group_norm(x, 8, a, b)",
}

# asv writes these programs between triple quotes of its own.
BEFORE = """
import os, tempfile
empty = tempfile.TemporaryDirectory()
os.environ["NUMBANORM_CACHE_DIR"] = {folder}
import numba, numbanorm, numpy
x = numpy.ones((8, 64, 64, 64), numpy.float32)
a, b = numpy.ones((2, 64), numpy.float32)
"""


class _Start:
    number = 1  # a second import, or a second call, is another thing
    rounds = 1
    warmup_time = 0


class Import(_Start):
    repeat = 9

    def timeraw_beyond_numpy(self):
        return "import numbanorm", "import numpy, numpy.typing"


class ColdCall(_Start):
    """The first call of a norm when all that it needs is still to compile."""

    params = (list(CALLS),)
    param_names = ("norm",)
    repeat = 3

    def timeraw_first(self, norm):
        return CALLS[norm], BEFORE.format(folder="empty.name")


class WarmCall(_Start):
    """The first call of a norm in a process when its kernels are on disk."""

    params = (list(CALLS),)
    param_names = ("norm",)
    repeat = 7

    def setup(self, norm):
        self.folder = tempfile.TemporaryDirectory()
        self.before = BEFORE.format(folder=f"'{Path(self.folder.name).as_posix()}'")
        subprocess.run([sys.executable, "-c", self.before + CALLS[norm]], check=True)

    def teardown(self, norm):
        self.folder.cleanup()

    def timeraw_first(self, norm):
        return CALLS[norm], self.before
