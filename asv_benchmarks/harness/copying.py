"""Copies of an array's bytes into another array: the least work that any function of it does, in several ways.

Which copy is fastest depends on the size and on the number of threads. The yardstick is the fastest of all. Where an
array has to be read twice, once more reading it is added.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from typing import Any

import numpy as np
from numba import float32, get_num_threads, int64, njit, prange
from numba.core import types

from numbanorm.cpu.kernels.intrinsics import (
    Pointer,
    load,
    load_first,
    store,
    store_first,
    store_stream,
    stream_fence,
    stream_head,
)
from numbanorm.cpu.kernels.lanes import WIDTH, splat

WORD = 4  # bytes are copied as float32, whose lanes fill whole registers
LINE = 4 * WIDTH  # words of one turn of the loop: four vectors
SHARE = 1 << 16  # bytes: no thread copies less, as waking it takes longer


def copies(x: np.ndarray, out: np.ndarray) -> dict[str, Callable[[], object]]:
    """Return calls that copy contiguous `x` into contiguous `out`, each with the threads that are set by now."""
    source, target = (a.reshape(-1).view(np.uint8) for a in (x, out))
    ways: dict[str, Callable[[], object]] = {"NumPy's copyto": partial(np.copyto, target, source)}
    with suppress(ImportError):  # one way less
        import torch  # here, since it takes seconds: whoever only shows what was measured does without

        ways["torch's copy_"] = partial(torch.from_numpy(target).copy_, torch.from_numpy(source))
    if source.size % WORD == 0:
        shares = max(1, min(get_num_threads(), source.size // SHARE))
        for name, stream in (("vector stores", 0), ("streaming stores", 1)):
            arguments = (source.size // WORD, shares, stream, source, target)
            ways[name] = partial(_compiled(_copy_shares if shares > 1 else _copy_alone), *arguments)
    return ways


def reading(x: np.ndarray) -> Callable[[], object]:
    """Return a call that reads all of contiguous `x`, and adds it up for want of a cheaper use."""
    shares = max(1, min(get_num_threads(), x.nbytes // SHARE))
    source, sums = x.reshape(-1).view(np.uint8), np.empty(shares * WIDTH, np.float32)
    return partial(_compiled(_read_shares), source.size // WORD, shares, 0, source, sums)


@njit(nogil=True, error_model="numpy")
def _copy_part(first, last, stream, x, out):
    """Copy words [first, last), past the cache if `stream`."""
    i, like = first, float32(0)
    if stream and stream_head(out, WORD * first) == 0:
        while i + LINE <= last:
            for part in range(0, LINE, WIDTH):
                store_stream(out, WORD * (i + part), load(x, WORD * (i + part), WORD, like))
            i += LINE
        stream_fence()
    while i + LINE <= last:
        for part in range(0, LINE, WIDTH):
            store(out, WORD * (i + part), WORD, load(x, WORD * (i + part), WORD, like))
        i += LINE
    while i < last:
        count = min(WIDTH, last - i)
        store_first(out, WORD * i, WORD, count, load_first(x, WORD * i, WORD, count, like))
        i += count


@njit(nogil=True, error_model="numpy")
def _copy_alone(words, shares, stream, x, out):
    """Copy with the caller's thread."""
    head = min(max(0, stream_head(out, 0)), words)
    _copy_part(0, head, 0, x, out)
    _copy_part(head, words, stream, x, out)


@njit(nogil=True, parallel=True, error_model="numpy")
def _copy_shares(words, shares, stream, x, out):
    """Copy in equal shares, one for each thread, each from an address that streaming stores take."""
    head = min(max(0, stream_head(out, 0)), words)
    lines = (words - head) // WIDTH
    for share in prange(shares):
        first = head + int64(share) * lines // shares * WIDTH
        last = head + (int64(share) + 1) * lines // shares * WIDTH
        if share == 0:
            _copy_part(0, head, 0, x, out)
        if share == shares - 1:
            last = words
        _copy_part(first, last, stream, x, out)


@njit(nogil=True, parallel=True, error_model="numpy")
def _read_shares(words, shares, stream, x, sums):
    """Add up in equal shares, each in four vectors; what does not fill them is left out."""
    lines = words // LINE
    for share in prange(shares):
        i, last = int64(share) * lines // shares * LINE, (int64(share) + 1) * lines // shares * LINE
        like = float32(0)
        a, b, c, d = splat(like), splat(like), splat(like), splat(like)
        while i < last:
            a = a + load(x, WORD * i, WORD, like)
            b = b + load(x, WORD * (i + WIDTH), WORD, like)
            c = c + load(x, WORD * (i + 2 * WIDTH), WORD, like)
            d = d + load(x, WORD * (i + 3 * WIDTH), WORD, like)
            i += LINE
        store(sums, WORD * WIDTH * int64(share), WORD, (a + b) + (c + d))


@cache
def _compiled(function: Any) -> Any:
    """Compile for addresses in the place of arrays, as numbanorm's kernels are."""
    pointer = Pointer("f4")
    return function.compile(types.void(types.int64, types.int64, types.int64, pointer, pointer))
