"""Thresholds by which a schedule is chosen, each with its reason. No kernel knows them, and no GPU."""

import os
from dataclasses import dataclass

from ..walk.families import Limits
from .kernels.constants import LANES, MAX_COLUMNS

LINE_BYTES = 64  # of a cache


def _cache_bytes() -> int:
    """Size of the last-level cache, 32 MB where the system does not tell."""
    try:
        return os.sysconf("SC_LEVEL3_CACHE_SIZE") or 32 << 20
    except (AttributeError, ValueError, OSError):
        return 32 << 20


@dataclass(frozen=True, eq=False)  # hashed as an object, since it is part of the key of each plan
class Tuning:
    """The whole table."""

    limits: Limits
    tile: int  # columns that one task walks at most, where nothing asks for more
    least_tiles: int  # tasks, where columns are cut into tiles at all ...
    least_tile: int  # ... but no tile is narrower for it
    shared_columns: int  # of a task, at least, where columns are cut because there are fewer tasks than threads
    wanted_tasks: int  # fewer groups than this are split into parts, to give every thread work
    part_elements: int  # no part is smaller: its merge must not show
    part_rows: int  # times the square of their number: rows of columns with so many parts
    merge_columns: int  # whose parts are merged by one task
    chunks: int  # into which the output of each thread is cut, for the others to help if it is late
    batch_elements: int  # of small groups that are walked side by side: they stay in the second-level cache
    shared_rows: int  # of long groups that are written side by side where their elements have the same weights
    visit_bytes: int  # of neighbouring groups, from one run of each to the next
    output_elements: int  # of a task that writes output from given statistics
    output_run: int  # runs from here on are written one by one from given statistics, shorter ones as columns
    output_columns: int  # up to which short rows that lie behind one another are written as one
    pixel_rows: int  # of pixels side by side that earn back their merge, where there are few channels
    gap_channels: int  # up to which pixels that have gaps, or are reversed inside, are walked channel by channel
    serial_work: int  # elements, up to which one thread is done before the others have woken up
    serial_output: int  # the same for output from given statistics
    run_work: int  # elements that take as long as what a run costs beside its elements, or as one that is gathered
    stream_bytes: int  # of outputs that are written past the cache: much of one would leave it before anyone reads it
    stream_least: int  # elements of the shortest run that is ...
    stream_columns: int  # ... and of columns, if they are no whole vectors: their rows are written one by one ...
    stream_halves: (
        int  # ... and of 16 bits, if runs are no whole lines: a store is half a line, and waits for the other
    )
    stream_back: int  # ... and of gradients of x
    stream_back_bytes: int  # of such gradients that are written past the cache
    stream_beside: int  # elements of the largest groups that go side by side where output goes past the cache ...
    stream_beside_halves: int  # ... of 16 bits
    stream_visit: int  # bytes of as many as do ...
    stream_visit_halves: int  # ... of 16 bits
    again_bytes: int  # of columns side by side: more of them come from memory again when they are written
    read_bytes: int  # of x from which on, if there is no output, it is read as where output goes past the cache ...
    read_run: int  # ... and of a run

    def past_cache(self, run: int, itemsize: int, elements: int, least: int, size: int | None = None) -> bool:
        """Whether an output is written past the cache, in runs of `least` elements, `size` or `stream_bytes` large."""
        if itemsize < 4 and run * itemsize % LINE_BYTES != 0:
            least = self.stream_halves
        return run >= least and elements * itemsize >= (self.stream_bytes if size is None else size)

    def gradient_past_cache(self, run: int, itemsize: int, elements: int) -> bool:
        """The same of gradients of x."""
        return self.past_cache(run, itemsize, elements, self.stream_back, self.stream_back_bytes)

    def reads_in_order(self, run: int, itemsize: int, elements: int) -> bool:
        """Whether x, of which nothing is made but statistics, is read in the order of memory, run after run."""
        return run * itemsize >= self.read_run and elements * itemsize > self.read_bytes

    def together(self, size: int, itemsize: int) -> int:
        """Elements of groups, of `size` each, that go side by side where output goes past the cache."""
        halves = itemsize < 4
        beside = self.stream_beside_halves if halves else self.stream_beside
        visit = self.stream_visit_halves if halves else self.stream_visit
        return visit // itemsize if size <= beside else size


TUNING = Tuning(
    limits=Limits(lanes=LANES, long_run=256, tiny_run=8, many_rows=8, max_columns=MAX_COLUMNS),
    tile=2048,  # 512 is 10 to 20% slower
    least_tiles=8,  # with 2 to 4, threads wait for each other
    least_tile=768,
    shared_columns=512,  # of 2048 columns of 7 x 7, two threads: 1.1 to 1.3 times as fast as by one
    wanted_tasks=32,  # 64 cost more merges
    part_elements=16384,
    part_rows=16,  # 32 parts took 1.2 to 1.5 times as long
    merge_columns=256,
    chunks=2,
    batch_elements=32768,
    shared_rows=4,  # rows of 2048 past the cache: 1.3 times as fast; of 3072 and 4096 in it: 1.3 to 1.5
    visit_bytes=16384,  # 14 x 14: 1.2 (in the cache), 1.7 times as fast as 3 KB; 7 x 7 and 28 x 28: 0.9 to 1.1
    output_elements=16384,  # four times that left threads idle
    output_run=16,  # 1.2 to 1.6 times as fast
    output_columns=512,  # 10 to 50% faster for 24 to 64 columns
    pixel_rows=2,
    gap_channels=12,  # float32: 7 times as fast for 2, 1.1 for 12, 0.9 for 15
    serial_work=49152,
    serial_output=65536,
    run_work=16,
    # With x, as large, half of the cache. From there on one thread is 1.1 to 1.6 times as fast (AVX2), two 0.9 to 1.1,
    # and with a pass over the output 1.0 to 1.2 in both cases. Up to 6 MB of 32 it is slower: 0.8 to 0.95, 0.6 to 0.8.
    stream_bytes=_cache_bytes() // 4,
    stream_least=36,  # rows and pictures of 36 to 48: 1.05 to 1.7 times as fast (AVX2), 48: 0.9 to 1.1 (AVX-512)
    stream_columns=65,  # 52 and 56 channels took 1.5 to 2 times as long; of 72 and more: 1.2 to 1.7 times as fast
    stream_halves=768,  # runs of 196 took three times as long, and of 500 a fifth longer; of 784 and 1000: 1.0 to 1.2
    stream_back=64,  # rows of 64 to 192: 1.1 to 1.35 times as fast; pictures of 7 x 7: 0.9
    # With x and the gradient that comes in, three eighths of the cache. From there on 1.05 to 1.8 times as fast by one
    # thread and by two (AVX2), with a pass over the output 1.1 to 1.2; of 3 MB, where the cache has 32, 0.8 to 0.95.
    stream_back_bytes=_cache_bytes() // 8,
    stream_beside=512,  # rows of 448 and 512: 1.1 to 1.4 times as fast as one by one; of 640 with weights and 768: 0.9
    stream_beside_halves=1280,  # rows of 512 to 1024: 1.15 to 1.5 times as fast; of 1280: 1.0 to 1.1, of 1600: 0.95
    stream_visit=8192,  # rows of 192 to 384: 1.1 times as fast as with 12 KB, of float64 and 24 KB: 1.2 to 1.3
    stream_visit_halves=12288,  # 1.05 to 1.15 times as fast as with 8 KB
    again_bytes=_cache_bytes(),  # 2304 to 4096 columns: 1.1 to 1.7 times as fast by one thread, of less 0.75 to 1.0
    read_bytes=2 * _cache_bytes() // 3,  # statistics of rows of 49 to 392: 1.2 to 2 times as fast; below, of 768: 0.8
    read_run=192,  # rows of 49 float16: 0.85; of 96: 1.15
)
