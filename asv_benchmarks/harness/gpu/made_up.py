"""A made-up NVIDIA driver (driver.c), for what happens before a launch: no kernel runs."""

import os
import shutil
import subprocess
from pathlib import Path


def build(folder: Path) -> Path:
    """Compile the driver into a folder, as the library that is looked for.

    Raises
    ------
    RuntimeError
        Without a C compiler.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise RuntimeError("a C compiler is needed for the made-up driver; install gcc")
    library = folder / "libcuda.so.1"
    source = Path(__file__).with_name("driver.c")
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


def environment(library: Path) -> dict[str, str]:
    """The variables of a process that takes it for the driver."""
    paths = [str(library.parent), os.environ.get("LD_LIBRARY_PATH", "")]
    return {**os.environ, "NUMBA_ENABLE_CUDASIM": "0", "LD_LIBRARY_PATH": os.pathsep.join(filter(None, paths))}
