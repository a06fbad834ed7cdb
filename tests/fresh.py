"""Fresh processes: a Python that knows nothing yet, and what it prints."""

import os
import subprocess
import sys
from pathlib import Path

import numbanorm as nbn

HOME = str(Path(nbn.__file__).parents[1])


def process(*arguments, **env):
    """Run a fresh Python."""
    env = {**os.environ, "PYTHONPATH": HOME, **env}
    return subprocess.run(
        [sys.executable, "-P", *arguments], env=env, capture_output=True, text=True, timeout=600, check=False
    )


def fresh(*arguments, **env):
    """What a fresh Python prints."""
    done = process(*arguments, **env)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()
