"""Versions of numbanorm beside each other in one process: each is imported from a folder, under a name of its own.

Modules of the package import each other relatively, so any name will do. Compiled kernels are kept apart by it, too.
"""

import importlib.util
import io
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

PACKAGE = "numbanorm"
REPOSITORY = Path(__file__).parents[3]
WORKTREE = "."  # in the place of a commit: the files as they are now


@dataclass(frozen=True)
class Source:
    """What versions are made of: a package, or a module of one file, by its path in a repository."""

    repository: Path = REPOSITORY
    path: str = PACKAGE

    @property
    def name(self) -> str:
        """Return the name under which it is usually imported."""
        return Path(self.path).stem

    @property
    def kind(self) -> str:
        """Return what it is."""
        return "file" if self.path.endswith(".py") else "folder"


OWN = Source()


def git(*arguments: str, repository: Path = REPOSITORY) -> bytes:
    """Run git in a repository.

    Raises
    ------
    ValueError
        With git's own words, in one line.
    """
    done = subprocess.run(["git", *arguments], cwd=repository, capture_output=True, check=False)
    if done.returncode:
        raise ValueError(" ".join(done.stderr.decode(errors="replace").split()) or f"git {arguments[0]} failed")
    return done.stdout


def commit_of(name: str, source: Source = OWN) -> str:
    """Return the hash of a commit, in short; the working tree is WORKTREE."""
    if name == WORKTREE:
        return WORKTREE
    try:
        asked = "rev-parse", "--short=10", "--verify", "--end-of-options", f"{name}^{{commit}}"
        return git(*asked, repository=source.repository).decode().strip()
    except ValueError:
        raise ValueError(
            f"git knows no commit {name!r}: give a hash, a branch, HEAD~1 or '.' for the files as they are; "
            "a shallow clone has no history (git fetch --unshallow)"
        ) from None


def changed(source: Source = OWN) -> list[str]:
    """Return the files of the package that differ from HEAD."""
    lines = git("status", "--porcelain", "--", source.path, repository=source.repository).decode().splitlines()
    return [line[3:] for line in lines]


def check_out(commit: str, folder: Path, source: Source = OWN) -> Path:
    """Write a commit's package into a folder; returns the folder."""
    if commit == WORKTREE:
        there, here = source.repository / source.path, folder / source.path
        here.parent.mkdir(parents=True, exist_ok=True)
        if there.is_dir():
            shutil.copytree(there, here, ignore=shutil.ignore_patterns("__pycache__"))
        elif there.exists():
            shutil.copyfile(there, here)
        else:
            raise ValueError(f"there is no {source.kind} {source.path} in {source.repository}")
        return folder
    try:
        files = git("archive", "--format=zip", commit, source.path, repository=source.repository)
    except ValueError:
        raise ValueError(f"commit {commit} has no {source.kind} {source.path}") from None
    with zipfile.ZipFile(io.BytesIO(files)) as archive:
        archive.extractall(folder)
    return folder


def written(name: str, folder: Path) -> str:
    """Write a version into a folder, so that no edit meets it: a commit's, or of a folder; return what to call it."""
    if name != WORKTREE and Path(name, PACKAGE).is_dir():
        shutil.copytree(Path(name, PACKAGE), folder / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
        return name
    check_out(commit := commit_of(name), folder)
    return name if commit.startswith(name) else f"{name} ({commit})"


def load(folder: Path, name: str, source: Source = OWN) -> ModuleType:
    """Import the package in a folder as a module of another name."""
    inside = folder / source.path
    first = inside / "__init__.py" if inside.is_dir() else inside
    within = [str(inside)] if inside.is_dir() else None
    spec = importlib.util.spec_from_file_location(name, first, submodule_search_locations=within)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def check_apart(source: Source = OWN) -> None:
    """Raise ImportError if a version imported the package by its own name: then two versions would share code."""
    if source.name in sys.modules:
        raise ImportError(f"a version imports '{source.name}' by that name, not relatively: two cannot be kept apart")
