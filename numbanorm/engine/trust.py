"""Whom to trust with files whose content is executed."""

import os


def is_trusted(about: os.stat_result) -> bool:
    """Whether a file or folder belongs to root or to this user, and nobody else can write it."""
    return not hasattr(os, "getuid") or (about.st_uid in (0, os.getuid()) and not about.st_mode & 0o022)
