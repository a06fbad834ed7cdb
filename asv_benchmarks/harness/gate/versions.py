"""Versions of numbanorm beside each other in one process: each is imported from a folder, under a name of its own.

Modules of the package import each other relatively, so any name will do. Compiled kernels are kept apart by it, too.
"""

import importlib.util
import io
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

PACKAGE = "numbanorm"
REPOSITORY = Path(__file__).parents[3]
WORKTREE = "."  # in the place of a commit: the files as they are now


def git(*arguments: str) -> bytes:
    """Run git in the repository.

    Raises
    ------
    ValueError
        With git's own words, in one line.
    """
    done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, check=False)
    if done.returncode:
        raise ValueError(" ".join(done.stderr.decode(errors="replace").split()) or f"git {arguments[0]} failed")
    return done.stdout


def commit_of(name: str) -> str:
    """Return the hash of a commit, in short; the working tree is WORKTREE."""
    if name == WORKTREE:
        return WORKTREE
    try:
        return git("rev-parse", "--short=10", "--verify", "--end-of-options", f"{name}^{{commit}}").decode().strip()
    except ValueError:
        raise ValueError(
            f"git knows no commit {name!r}: give a hash, a branch, HEAD~1 or '.' for the files as they are; "
            "a shallow clone has no history (git fetch --unshallow)"
        ) from None


def changed() -> list[str]:
    """Return the files of the package that differ from HEAD."""
    return [line[3:] for line in git("status", "--porcelain", "--", PACKAGE).decode().splitlines()]


def check_out(commit: str, folder: Path) -> Path:
    """Write a commit's package into a folder; returns the folder."""
    if commit == WORKTREE:
        shutil.copytree(REPOSITORY / PACKAGE, folder / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
        return folder
    try:
        files = git("archive", "--format=zip", commit, PACKAGE)
    except ValueError:
        raise ValueError(f"commit {commit} has no folder {PACKAGE}") from None
    with zipfile.ZipFile(io.BytesIO(files)) as archive:
        archive.extractall(folder)
    return folder


def load(folder: Path, name: str) -> ModuleType:
    """Import the package in a folder as a module of another name."""
    inside = folder / PACKAGE
    spec = importlib.util.spec_from_file_location(
        name, inside / "__init__.py", submodule_search_locations=[str(inside)]
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def check_apart() -> None:
    """Raise ImportError if a version imported the package by its own name: then two versions would share code."""
    if PACKAGE in sys.modules:
        raise ImportError(f"a version imports '{PACKAGE}' by that name, not relatively: two cannot be kept apart")
