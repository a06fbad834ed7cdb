"""Data frames and series: `moments` and `normalize` of their columns. Public functions call this where they get one."""

from .calls import moments, normalize

__all__ = ["moments", "normalize"]
