"""The command line: `python -m numbanorm info` and `python -m numbanorm warmup`."""

import argparse
import ctypes
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path

from . import __version__, get_num_threads
from .engine import available_threads
from .warmup import Signature, prepare, show, signatures

MEND = "set NUMBANORM_CACHE_DIR to a folder that you can write and nobody else can"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, and return its exit status."""
    parser = argparse.ArgumentParser("python -m numbanorm", description="Fast normalization of arrays.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="print versions, processor, threads and the folder of compiled kernels")
    ahead = commands.add_parser("warmup", help="compile kernels ahead of time, and keep them on disk")
    ahead.add_argument("dtypes", nargs="*", default=["float32"], help="of the arrays to come (default: float32)")
    ahead.add_argument("--jobs", type=int, default=available_threads(), help="processes (default: all processors)")
    ahead.add_argument("--quiet", action="store_true", help="print nothing but errors")
    given = parser.parse_args(arguments)
    if given.command == "info":
        info()
        return 0
    if given.jobs < 1:
        ahead.error(f"--jobs must be at least 1, got {given.jobs}")
    try:
        needed = signatures(given.dtypes)
    except (TypeError, ValueError) as error:
        ahead.error(str(error))
    return warmup(needed, given.jobs, given.quiet)


def warmup(needed: Sequence[Signature], jobs: int, quiet: bool) -> int:
    """Compile kernels that are not on disk yet. The exit status is 1 if they are not there afterwards."""
    from .kernels.cpu import cache

    folder = cache.folder()
    if folder is None:  # compiling for this process alone would help nobody
        print(f"nothing could be kept: there is no place for a cache; {MEND}", file=sys.stderr)
        return 1
    start, done = time.perf_counter(), compiled(needed, jobs)
    if quiet:
        for _ in done:
            pass
    else:
        show(done, len(needed))
    if not all(map(found, needed)):  # a full disk, or a Numba with another kind of cache
        print(f"the compiled kernels could not be kept in {folder}: is there room?", file=sys.stderr)
        return 1
    if not quiet:
        print(f"{len(needed)} kernels are ready ({time.perf_counter() - start:.1f} s), in {_cache()}")
    return 0


def found(signature: Signature) -> bool:
    """Load a kernel in this process, which compiles none; whether it was on disk."""
    prepare(signature)
    function = getattr(import_module(f"numbanorm.kernels.cpu.{signature.family}"), signature.name)
    return not function.stats.cache_misses


def kept(folder: Path) -> tuple[int, int]:
    """Number of kernels in a cache folder, and its size in bytes."""
    files = [path for path in folder.iterdir() if path.is_file()]
    return sum(path.suffix == ".nbc" for path in files), sum(path.stat().st_size for path in files)


def compiled(needed: Sequence[Signature], jobs: int) -> Iterator[Signature]:
    """Compile kernels in several processes, and give back each when it is done.

    Numba's index of a function's kernels on disk has no lock: no two kernels of one function are compiled at a time.
    """
    waiting: dict[tuple[str, str], list[Signature]] = {}
    for signature in needed:
        waiting.setdefault(signature[:2], []).append(signature)
    with ProcessPoolExecutor(min(jobs, len(waiting)), mp_context=get_context("spawn")) as pool:
        running = {pool.submit(prepare, line.pop(0)) for line in sorted(waiting.values(), key=_cost, reverse=True)}
        while running:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for signature in (future.result() for future in finished):
                if line := waiting[signature[:2]]:
                    running.add(pool.submit(prepare, line.pop(0)))
                yield signature


def _cost(line: Sequence[Signature]) -> int:
    """How long the kernels of one function take, roughly: those that make statistics take five times as long."""
    return len(line) * (5 if line[0].name in ("normalize", "moments") else 1)


def info() -> None:
    """Print what a report of a problem should say."""
    lines = {"numbanorm": __version__, "Python": f"{platform.python_version()}, {platform.platform()}"}
    for name in ("numpy", "numba", "llvmlite", "torch", "ml_dtypes"):
        lines[name] = _version(name)
    lines["CPU"] = _cpu()
    lines["threads"] = str(get_num_threads())
    for name, find in (("threading layer", _layer), ("cache folder", _cache)):
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


def _cache() -> str:
    from .kernels.cpu import cache

    folder = cache.folder()
    if folder is None:
        return f"none: {MEND}"
    number, size = kept(folder)
    return f"{folder} ({number} kernels, {size / 1e6:.1f} MB)"


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
    sys.exit(main())
