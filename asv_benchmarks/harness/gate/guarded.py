"""What the gate guards: numbanorm's layers, or kernels of one's own, of which a file says where they are and how they
are called (see examples/guard.py).
"""

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from ..case import Arrays, Call, Case
from ..grouped import Grouped
from ..libraries import own
from ..plain import Truth, limit, oracle
from .versions import OWN, Source, git

NEEDED = {
    "PACKAGE": "the path of a package or module, from the top of its repository",
    "CASES": "a sequence of harness.case.Case",
    "prepare": "a function: prepare(module, case, arrays) returns a call without arguments",
}


@dataclass(frozen=True)
class Guarded:
    """A package, and the file that says how it is called; none for numbanorm."""

    source: Source = OWN
    file: Path | None = None

    @property
    def cases(self) -> Sequence[Case]:
        """Return what it is measured on, if a file says so."""
        return _module(self.file).CASES if self.file else ()

    def call(self, module: ModuleType, case: Case, a: Arrays) -> Call:
        """Return how a version is called."""
        if self.file:
            return _module(self.file).prepare(module, case, a)
        if isinstance(case, Grouped):
            return case.call(module, a)
        call = own.prepare(module, case, a, None)
        assert call is not None  # only where an output is given
        return call

    def truth(self, case: Case, a: Arrays) -> Truth:
        """Return what the call has to give."""
        if isinstance(case, Grouped):
            return case.truth(a)
        return getattr(_module(self.file), "truth", oracle)(case, a) if self.file else oracle(case, a)

    def limit(self, case: Case) -> float:
        """Return how many units of rounding it may be off by."""
        return case.limit if isinstance(case, Grouped) else limit(case, own=self.file is None)


NUMBANORM = Guarded()


def read(file: Path) -> Guarded:
    """Read a file about kernels of one's own.

    Raises
    ------
    ValueError
        If it is not there, lacks something, or lies in no repository.
    """
    file = file.resolve()
    if not file.is_file():
        raise ValueError(f"there is no file {file}")
    module = _module(file)
    for name, what in NEEDED.items():
        if not hasattr(module, name):
            raise ValueError(f"{file.name} has no {name}: {what}")
    top = git("rev-parse", "--show-toplevel", repository=file.parent).decode().strip()
    return Guarded(Source(Path(top), Path(module.PACKAGE).as_posix()), file)


def _module(file: Path) -> ModuleType:
    """Import it by its name, by which the processes that measure find the classes of its cases."""
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    module = importlib.import_module(file.stem)
    if Path(module.__file__ or "").resolve() != file:
        raise ValueError(f"{file} cannot be imported: there is another module '{file.stem}'; rename it")
    return module
