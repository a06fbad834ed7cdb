"""Dask arrays: `moments` and norms stay lazy, chunk by chunk. Public functions call this where they are given one."""

from .calls import moments, normalize, normalized
from .lazy import LazyMoments

__all__ = ["LazyMoments", "moments", "normalize", "normalized"]
