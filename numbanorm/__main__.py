"""The command line: `numbanorm info` and `numbanorm warmup`, or `python -m numbanorm` with the same words."""

import argparse
import ctypes
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import ExitStack
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path

from . import __version__, get_num_threads
from .ahead import prepare, show, variants
from .cpu.processors import available
from .engine.compiler import require_compiler
from .engine.interface import Variant
from .engine.notice import MEND


def main(arguments: Sequence[str] | None = None, program: str = "numbanorm") -> int:
    """Run one command, and return its exit status."""
    parser = argparse.ArgumentParser(program, description="Fast normalization of arrays.")
    parser.add_argument("--version", action="version", version=f"numbanorm {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="print versions, processor, threads and the folder of compiled kernels")
    ahead = commands.add_parser("warmup", help="compile kernels for the CPU ahead of time, and keep them on disk")
    ahead.add_argument("dtypes", nargs="*", default=["float32"], help="of the arrays to come (default: float32)")
    ahead.add_argument("--jobs", type=int, default=available(), help="processes (default: all processors)")
    ahead.add_argument("--quiet", action="store_true", help="print nothing but errors")
    given = parser.parse_args(arguments)
    if given.command == "info":
        info()
        return 0
    if given.jobs < 1:
        ahead.error(f"--jobs must be at least 1, got {given.jobs}")
    try:
        require_compiler()
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    try:
        needed = variants(given.dtypes)
    except (TypeError, ValueError) as error:
        ahead.error(str(error))
    return warmup(needed, given.jobs, given.quiet)


def warmup(needed: Sequence[Variant], jobs: int, quiet: bool) -> int:
    """Compile kernels that do not ship and are not on disk yet. The exit status is 1 if not all are there then."""
    from .cpu import shipped
    from .engine import disk

    total, needed = len(needed), [variant for variant in needed if not shipped.ships(variant)]
    if not needed:
        if not quiet:
            print(f"{total} kernels are ready: they came with the package")
        return 0
    folder = disk.folder("cpu")
    if folder is None:  # compiling for this process alone would help nobody
        print(f"nothing could be kept: there is no place for a cache; {MEND}", file=sys.stderr)
        return 1
    writable = os.access(folder, os.W_OK)  # else all there is to do is to look whether everything is there
    start, done = time.perf_counter(), compiled(needed if writable else (), jobs)
    if quiet:
        for _ in done:
            pass
    else:
        show(done, len(needed))
    if not all(map(found, needed)):  # a full disk, or a Numba with another kind of cache
        reason = "is there room?" if writable else "it can only be read"
        print(f"the compiled kernels could not be kept in {folder}: {reason}", file=sys.stderr)
        return 1
    if not quiet:
        came = f", and {total - len(needed)} came with the package" if total > len(needed) else ""
        print(f"{len(needed)} kernels are ready ({time.perf_counter() - start:.1f} s), in {_cache()}{came}")
    return 0


def found(variant: Variant) -> bool:
    """Load a kernel in this process, which compiles none; whether it was on disk."""
    prepare(variant)
    function = getattr(import_module(f"numbanorm.cpu.kernels.{variant.family}"), variant.operation)
    return not function.stats.cache_misses


def kept(folder: Path) -> tuple[int, int]:
    """Number of kernels in a cache folder, and its size in bytes."""
    files = [path for path in folder.iterdir() if path.is_file()]
    return sum(path.suffix == ".nbc" for path in files), sum(path.stat().st_size for path in files)


def compiled(needed: Sequence[Variant], jobs: int) -> Iterator[Variant]:
    """Compile kernels in several processes, and give back each when it is done.

    Kernels of one family for one kind of x share functions that a process compiles once: it keeps to them while there
    are any, and then helps where most is left.
    """
    waiting: dict[tuple[str, str], list[Variant]] = {}
    for variant in sorted(needed, key=_cost):
        waiting.setdefault((variant.family, variant.kinds.x), []).append(variant)
    with ExitStack() as stack:
        running = {}

        def begin(process: ProcessPoolExecutor, group: tuple[str, str] | None = None) -> None:
            if group not in waiting:
                group = max(waiting, key=lambda group: sum(map(_cost, waiting[group])))
            running[process.submit(prepare, waiting[group].pop())] = process, group
            if not waiting[group]:
                del waiting[group]

        for _ in range(min(jobs, len(needed))):
            begin(stack.enter_context(ProcessPoolExecutor(1, mp_context=get_context("spawn"))))
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                process, group = running.pop(future)
                if waiting:
                    begin(process, group)
                yield future.result()


def _cost(variant: Variant) -> int:
    """How long a kernel takes, roughly: one that makes statistics and output takes several times as long."""
    return 4 if variant.operation == "normalize" else 1


def info() -> None:
    """Print what a report of a problem should say."""
    lines = {"numbanorm": __version__, "Python": f"{platform.python_version()}, {platform.platform()}"}
    for name in ("numpy", "numba", "llvmlite", "numba-cuda", "cuda-core", "torch", "ml_dtypes"):
        lines[name] = _version(name)
    lines["CPU"] = _cpu()
    lines["threads"] = str(get_num_threads())
    for name, find in (("threading layer", _layer), ("shipped kernels", _shipped), ("cache folder", _cache)):
        try:
            lines[name] = find()
        except Exception as error:  # whatever is wrong with this installation is what it is for
            lines[name] = f"none: {' '.join(str(error).split())}"
    lines["GPU"] = ", ".join(_gpus()) or "none found"
    width = max(map(len, lines))
    for name, value in lines.items():
        print(f"{name:{width}}  {value}")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _cpu() -> str:
    """Model of the processor, and what LLVM takes it for."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    try:
        from llvmlite import binding

        features = binding.get_host_cpu_features()
        vectors = next((name for name in ("avx512f", "avx2", "neon") if features.get(name)), "no wide vectors")
        return f"{model} ({binding.get_host_cpu_name()}, {vectors})"
    except Exception:
        return model


def _layer() -> str:
    """Numba's threading layer, which has to be started to be known."""
    import numba

    numba.get_num_threads()
    return str(numba.threading_layer())


def _shipped() -> str:
    from .cpu import shipped

    return shipped.found()


def _cache() -> str:
    from .engine import disk

    folders = [folder for folder in map(disk.folder, ("cpu", "cuda")) if folder is not None]
    if not folders:
        return f"none: {MEND}"
    numbers, sizes = zip(*map(kept, folders), strict=True)
    return f"{folders[0].parent} ({sum(numbers)} kernels, {sum(sizes) / 1e6:.1f} MB)"


def _gpus() -> list[str]:
    """Names of the NVIDIA GPUs, from the driver itself."""
    try:
        cuda = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return []
    number, device, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(256)
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(number)):
        return []
    names = []
    for i in range(number.value):
        if not cuda.cuDeviceGet(ctypes.byref(device), i) and not cuda.cuDeviceGetName(name, len(name), device):
            names.append(name.value.decode(errors="replace"))
    return names


if __name__ == "__main__":
    sys.exit(main(program="python -m numbanorm"))
