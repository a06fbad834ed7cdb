"""Estimators for scikit-learn whose statistics are numbanorm's. It needs scikit-learn 1.6 or later.

`StandardScaler` is scikit-learn's, with these kernels; `GroupStandardScaler` takes statistics within each group of
rows: ``pip install numbanorm[sklearn]``, and docs/scikit-learn.md for a task from beginning to end.
"""

from .groups import GroupStandardScaler
from .standard import StandardScaler

__all__ = ["GroupStandardScaler", "StandardScaler"]
