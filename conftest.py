"""What is not collected, as examples in docstrings and documents, where an extra is missing that it imports."""

from importlib.util import find_spec

NEEDS = {
    "pandas": ["docs/scikit-learn.md", "docs/tables.md", "docs/xarray.md"],
    "sklearn": ["numbanorm/sklearn/*", "docs/scikit-learn.md"],
    "torch": ["numbanorm/torch/*"],
    "xarray": ["numbanorm/xarray/*", "docs/xarray.md"],
}
collect_ignore_glob = [path for module, paths in NEEDS.items() if not find_spec(module) for path in paths]
