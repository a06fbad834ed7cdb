"""Compile and launch kernels: the one place that knows of devices, streams and the driver."""

import re
import threading
from functools import cache, lru_cache
from typing import Any, cast

import numpy as np
from numba import cuda
from numba.core import config, types
from numpy.typing import NDArray

from .kernels import columns, merging, pointwise, rows
from .kernels.shapes import Code

SIMULATED = bool(config.ENABLE_CUDASIM)
_NUMBER, _REAL = types.int64, types.float64
# table, x, out, weight, bias, eps, center, count, mean, m2; and of a formula: table, results, arrays, numbers.
_WALK = types.void(*[_NUMBER] * 5, _REAL, *[_NUMBER] * 4)
_FORMULA = types.void(*[_NUMBER] * (1 + pointwise.OUTPUTS + pointwise.MOST), *[_REAL] * pointwise.MOST)
_REGISTERS = 1 << 16  # of a multiprocessor
_lock = threading.RLock()


def function_of(kernel: tuple[Any, ...]) -> Any:
    """The Python function of a kernel: a `Code`, or the name of another and what it is compiled for."""
    if isinstance(kernel, Code):
        return (rows if kernel.family == "rows" else columns).make(kernel)
    name, *of = kernel
    make: dict[str, Any] = {
        "merge": merging.make_merge,
        "move": merging.make_move,
        "matvec": pointwise.make_matvec,
        "formula": pointwise.make_formula,
    }
    return make[name](*of)


def signature_of(kernel: tuple[Any, ...]) -> Any:
    """Its types: addresses and other integers, and float64."""
    return _FORMULA if kernel[0] == "formula" else _WALK


def bounds_of(kernel: tuple[Any, ...]) -> tuple[int, ...]:
    """Threads of a block, and how many blocks of them a multiprocessor must have registers for."""
    if not isinstance(kernel, Code):
        return (kernel[-1],)
    return kernel.block, max(1, _REGISTERS // (kernel.registers * kernel.block))


def ptx_of(kernel: tuple[Any, ...], capability: tuple[int, int]) -> tuple[str, str]:
    """Compile a kernel: its PTX, and its name there."""
    text, _ = cuda.compile(
        function_of(kernel),
        signature_of(kernel),
        device=False,
        abi="numba",
        cc=capability,
        output="ptx",
        launch_bounds=bounds_of(kernel),
    )
    return text, re.search(r"\.entry\s+([\w$]+)", text)[1]  # type: ignore[index]


def send_table(table: NDArray[np.int64], device: int) -> Any:
    """A table on a device, as an array of Numba's. It is there on return, for every stream."""
    with cuda.gpus[device]:
        sent = cuda.to_device(table)
        cuda.default_stream().synchronize()
    return sent


if SIMULATED:

    @cache
    def _simulated(kernel: tuple[Any, ...]) -> Any:
        return cuda.jit(function_of(kernel))

    def launch(
        kernel: tuple[Any, ...], blocks: int, threads: int, shared: int, device: int, stream: int, *arguments: Any
    ) -> None:
        """Run a kernel in Numba's simulator, which runs one at a time."""
        with _lock:
            _simulated(kernel)[blocks, threads, stream, shared](*arguments)

else:
    from cuda.bindings import driver
    from cuda.core import Device, LaunchConfig, ObjectCode, Program, ProgramOptions, Stream
    from cuda.core import launch as _launch

    from . import cubins

    _configs = lru_cache(maxsize=4096)(
        lambda blocks, threads, shared: LaunchConfig(grid=blocks, block=threads, shmem_size=shared)
    )
    _stream = lru_cache(maxsize=256)(Stream.from_handle)

    def _compiled(kernel: tuple[Any, ...], capability: tuple[int, int]) -> tuple[bytes, str]:
        """Compile a kernel, and keep its machine code: that, and its name there."""
        text, name = ptx_of(kernel, capability)
        program = Program(text, "ptx", ProgramOptions(arch="sm_{}{}".format(*capability)))
        cubin = program.compile("cubin").code
        if program.backend == "nvJitLink":  # else it is the driver's, of which nothing is known here
            cubins.save(kernel, capability, cubin, name)
        return cubin, name

    @cache
    def cubin_of(kernel: tuple[Any, ...], capability: tuple[int, int]) -> tuple[Any, str]:
        """Machine code of a kernel, and its name there: from disk, else compiled."""
        with _lock:
            cubin, name = cubins.load(kernel, capability) or _compiled(kernel, capability)
            return ObjectCode.from_cubin(cubin), name

    @cache
    def _loaded(kernel: tuple[Any, ...], device: int) -> Any:
        capability = tuple(Device(device).compute_capability)
        code, name = cubin_of(kernel, capability)
        try:
            return code.get_kernel(name)
        except Exception:  # the driver refuses it: if it was on disk, what is compiled now may do
            with _lock:
                cubin, name = _compiled(kernel, capability)
            return ObjectCode.from_cubin(cubin).get_kernel(name)

    @cache
    def _keeper(kernel: tuple[Any, ...], device: int) -> tuple[Any, int]:
        """A kernel that keeps, and how many bytes of shared memory it may have for that: all that it does not declare.

        They have to be asked for, or it gets no more than 48 KB. If the driver refuses, it is to use none.
        """
        loaded, attribute = _loaded(kernel, device), driver.CUfunction_attribute
        optin = driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
        _, most = driver.cuDeviceGetAttribute(optin, device)
        _, declared = driver.cuKernelGetAttribute(attribute.CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, loaded.handle, device)
        asked = attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        (error,) = driver.cuKernelSetAttribute(asked, most - declared, loaded.handle, device)
        return loaded, most - declared if error == driver.CUresult.CUDA_SUCCESS else 0

    def _fitting(kernel: tuple[Any, ...], blocks: int, threads: int, shared: int, device: int) -> tuple[Any, Any]:
        """A launch, and its kernel: where shared memory does not suffice, the one that reads x twice instead."""
        if shared > 0:
            loaded, most = _keeper(kernel, device)
            if shared <= most:
                return _configs(blocks, threads, shared), loaded
            kernel = cast(Code, kernel)._replace(kept=False)
        return _configs(blocks, threads, 0), _loaded(kernel, device)

    def launch(
        kernel: tuple[Any, ...], blocks: int, threads: int, shared: int, device: int, stream: int, *arguments: Any
    ) -> None:
        """Launch a kernel on a device's stream; the thread's current device stays what it is."""
        error, current = driver.cuCtxGetDevice()
        if error == driver.CUresult.CUDA_SUCCESS and int(current) == device:
            _launch(_stream(stream), *_fitting(kernel, blocks, threads, shared, device), *arguments)
            return
        _, before = driver.cuCtxGetCurrent()
        Device(device).set_current()
        try:
            _launch(_stream(stream), *_fitting(kernel, blocks, threads, shared, device), *arguments)
        finally:
            driver.cuCtxSetCurrent(before)
