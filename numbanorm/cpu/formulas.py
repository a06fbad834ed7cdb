"""The functions of `maths.coefficients` as plain Python, for NumPy's operators: without Numba, if it is not there yet.

The modules of `maths` import a decorator of Numba's, which hands back the function that it is given, and takes half a
second to import. Here their code is run once more with a decorator that does only that.
"""

import builtins
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import Any

_MATHS = f"{__package__.rpartition('.')[0]}.maths"
_NUMBA = SimpleNamespace(register_jitable=lambda function: function)


def coefficients() -> Any:
    """A module like `maths.coefficients`; ImportError if its code is not to be had like this."""
    return _Twins().of("coefficients")


class _Twins:
    """Modules of `maths` that do not import Numba, by their names. They are not in `sys.modules`."""

    def __init__(self) -> None:
        self.made: dict[str, ModuleType] = {}

    def of(self, name: str) -> ModuleType:
        if name not in self.made:
            full = f"{_MATHS}.{name}"
            spec = find_spec(full)
            loader: Any = None if spec is None else spec.loader
            if not hasattr(loader, "get_code"):
                raise ImportError(f"no code of {full}")
            twin = ModuleType(full)
            vars(twin)["__builtins__"] = {**vars(builtins), "__import__": self._import}
            vars(twin)["__package__"] = _MATHS
            exec(loader.get_code(full), vars(twin))
            self.made[name] = twin
        return self.made[name]

    def _import(self, name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        if name == "numba.core.extending":
            return _NUMBA
        if level == 1:
            return self.of(name)
        return builtins.__import__(name, globals, locals, fromlist, level)
