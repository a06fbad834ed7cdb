"""The instructions of the machine at hand: a GPU, or Numba's simulator of one."""

from importlib import import_module

from numba.core import config

_chosen = import_module(".twins" if config.ENABLE_CUDASIM else ".intrinsics", __package__)

applier = _chosen.applier
block_index = _chosen.block_index
device = _chosen.device
divide = _chosen.divide
folder = _chosen.folder
keeper = _chosen.keeper
load_int = _chosen.load_int
loader = _chosen.loader
one_loader = _chosen.one_loader
one_storer = _chosen.one_storer
shuffle = _chosen.shuffle
store_int = _chosen.store_int
storer = _chosen.storer
sync = _chosen.sync
taker = _chosen.taker
thread_index = _chosen.thread_index
