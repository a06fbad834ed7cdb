"""Plain Python twins of `intrinsics`, for Numba's simulator, in which addresses are those of the host's memory.

They count the bytes that kernels move, when a `Traffic` is listening.
"""

import ctypes
import threading
from collections import Counter
from typing import ClassVar

import numpy as np
from numba.cuda.simulator.kernel import _get_kernel_context

from .constants import ITEMSIZES


class Area:
    """Bytes side by side in memory, and what kernels did with them."""

    def __init__(self, address, size):
        self.address, self.size = address, size
        self.reads, self.writes = np.zeros(size, np.int64), np.zeros(size, np.int64)  # of each byte
        self.loads, self.stores = Counter(), Counter()  # how many there were, by their size in bytes

    def holds(self, address, size):
        """Whether all of an access lies within."""
        return self.address <= address and address + size <= self.address + self.size

    def count(self, address, size, write):
        """One access."""
        times, sizes = (self.writes, self.stores) if write else (self.reads, self.loads)
        times[address - self.address :][:size] += 1
        sizes[size] += 1


class Traffic:
    """Counts the bytes that kernels read and write while it is entered, in areas that have names.

    Each is given as (address, size), and no access may be outside of them. Reads of tables do not count.
    """

    listening: ClassVar[list["Traffic"]] = []

    def __init__(self, **areas):
        self.areas = {name: Area(*area) for name, area in areas.items()}
        self.lock = threading.Lock()

    def __enter__(self):
        self.listening.append(self)
        return self

    def __exit__(self, *exception):
        self.listening.remove(self)

    def count(self, address, size, write):
        """One access."""
        area = next((area for area in self.areas.values() if area.holds(address, size)), None)
        assert area is not None, "an access outside of the arrays"
        with self.lock:
            area.count(address, size, write)


def _memory(address, size, write=False):
    for traffic in Traffic.listening:
        traffic.count(int(address), size, write)
    return (ctypes.c_ubyte * size).from_address(int(address))


def _dtype(kind):
    return np.dtype({"bf": "u2", "b1": "?"}.get(kind, kind))


def _decode(kind, raw):
    if kind == "bf":
        return (raw.astype(np.uint32) << 16).view(np.float32)
    return raw


def _encode(kind, values):
    if kind != "bf":
        with np.errstate(over="ignore"):
            return values.astype(_dtype(kind))
    bits = values.astype(np.float32).view(np.uint32)
    rounded = bits + ((bits >> 16) & 1) + 0x7FFF
    quiet = np.uint32(0x7FFFFFFF)  # what the instruction gives for any NaN
    return (np.where(np.isnan(values), quiet, rounded) >> 16).astype(np.uint16)


def device(function):
    """A part of a kernel."""
    return function


def loader(kind, count):
    """A function load(values, at, address)."""
    size = count * ITEMSIZES[kind]

    def load(values, at, address):
        assert address % min(size, 16) == 0, "a wide load from an address that is not aligned"
        values[at : at + count] = _decode(kind, np.frombuffer(_memory(address, size), _dtype(kind)))

    return load


class Kept:
    """Dynamic shared memory of a block: of exactly so many bytes as the launch asks for, each for the one thread that
    writes it, for nothing orders the threads.
    """

    def __init__(self):
        self.bytes = _get_kernel_context().shared.array(0, np.dtype(np.uint8)).copy()
        self.owners = np.full(self.bytes.size, -1)

    def slot(self, at, size):
        """Where an access lies: the slice of its bytes."""
        assert at % size == 0, "a wide access to shared memory that is not aligned"
        assert 0 <= at <= self.bytes.size - size, "an access outside of shared memory"
        return slice(int(at), int(at) + size)


def _kept():
    """Dynamic shared memory of this thread's block, and the number of the thread."""
    thread = threading.current_thread()
    of_block = thread._manager.__dict__
    return of_block.get("kept") or of_block.setdefault("kept", Kept()), thread.thread_id


def keeper(kind, count):
    """A function keep(values, at, address, kept)."""
    load, size = loader(kind, count), count * ITEMSIZES[kind]

    def keep(values, at, address, kept):
        load(values, at, address)
        memory, thread = _kept()
        slot = memory.slot(kept, size)
        assert np.isin(memory.owners[slot], (-1, thread)).all(), "shared memory of another thread"
        memory.bytes[slot] = (ctypes.c_ubyte * size).from_address(int(address))
        memory.owners[slot] = thread

    return keep


def taker(kind, count):
    """A function take(values, at, kept)."""
    size = count * ITEMSIZES[kind]

    def take(values, at, kept):
        memory, thread = _kept()
        slot = memory.slot(kept, size)
        assert (memory.owners[slot] == thread).all(), "shared memory that this thread has not written"
        values[at : at + count] = _decode(kind, memory.bytes[slot].view(_dtype(kind)))

    return take


def storer(kind, count):
    """A function store(address, values, at)."""
    size = count * ITEMSIZES[kind]

    def store(address, values, at):
        assert address % min(size, 16) == 0, "a wide store to an address that is not aligned"
        _memory(address, size, True)[:] = _encode(kind, values[at : at + count]).tobytes()

    return store


def one_loader(kind):
    """A function load(address)."""

    def load(address):
        return np.float64(_decode(kind, np.frombuffer(_memory(address, ITEMSIZES[kind]), _dtype(kind)))[0])

    return load


def load_int(address, index):
    """Entry `index` of a table of int64, which is not counted as traffic."""
    return ctypes.c_int64.from_address(int(address) + 8 * int(index)).value


def store_int(address, index, value):
    """Entry `index` of an array of int64, which is not counted as traffic."""
    ctypes.c_int64.from_address(int(address) + 8 * int(index)).value = int(value)


def one_storer(kind):
    """A function store(address, value)."""

    def store(address, value):
        _memory(address, ITEMSIZES[kind], True)[:] = _encode(kind, np.array([value], np.float64)).tobytes()

    return store


def divide(a, b):
    """Quotient of two numbers that are not negative."""
    return a // b


def sync():
    """Wait for all threads of the block."""
    threading.current_thread().syncthreads()


def thread_index():
    """Of this thread in its block."""
    return threading.current_thread().threadIdx.x


def block_index():
    """Of this block."""
    return threading.current_thread().blockIdx.x


def shuffle(value, mask):
    """The value of another lane. All threads of the block call it together: the simulator knows no warps."""
    thread = threading.current_thread()
    thread.shuffles = getattr(thread, "shuffles", 0) + 1
    # Two rooms in turn: when one is written again, all have passed the barrier after they read it.
    room = thread._manager.__dict__.setdefault(f"shuffled{thread.shuffles % 2}", {})
    room[thread.thread_id] = value
    thread.syncthreads()
    return room[thread.thread_id ^ mask]


def folder(times):
    """A function fold(body, value, arguments)."""

    def fold(body, value, arguments):
        for i in range(times):
            value = body(i, value, *arguments)
        return value

    return fold


def applier(number):
    """A function apply(function, values, results)."""

    def apply(function, values, results):
        for i, value in enumerate(function(*values[:number])):
            results[i] = value

    return apply
