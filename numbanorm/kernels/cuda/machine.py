"""The instructions of the machine at hand: a GPU, or Numba's simulator of one."""

from numba.core import config

if config.ENABLE_CUDASIM:
    from .twins import (
        applier,
        block_index,
        device,
        divide,
        folder,
        load_int,
        loader,
        one_loader,
        one_storer,
        shuffle,
        storer,
        sync,
        thread_index,
    )
else:
    from .intrinsics import (
        applier,
        block_index,
        device,
        divide,
        folder,
        load_int,
        loader,
        one_loader,
        one_storer,
        shuffle,
        storer,
        sync,
        thread_index,
    )

__all__ = [
    "applier",
    "block_index",
    "device",
    "divide",
    "folder",
    "load_int",
    "loader",
    "one_loader",
    "one_storer",
    "shuffle",
    "storer",
    "sync",
    "thread_index",
]
