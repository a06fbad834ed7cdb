"""A type checker's view of the package as it is installed: what is right passes, what is wrong is found."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from everyday import exhaustive

torch = pytest.mark.skipif(find_spec("torch") is None, reason="needs torch")


def errors(program, folder, cache):
    """Check a program from a folder in which there is no package: mypy finds what is installed, or nothing."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={cache}", program]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    return re.findall(r"^.*: error: .*", done.stdout, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["typing_user.py", pytest.param("typing_torch.py", marks=[torch, exhaustive])])
def test_wrong_lines_are_found_and_no_others(name, tmp_path, cache):
    program = Path(__file__).with_name(name)
    lines = enumerate(program.read_text(encoding="utf-8").splitlines(), 1)
    wrong = {f"{program}:{number}" for number, line in lines if "# wrong: " in line}
    said = errors(program, tmp_path, cache.mkdir("mypy"))
    assert {line.partition(": error: ")[0] for line in said} == wrong, "\n".join(said)
