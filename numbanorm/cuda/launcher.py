"""Compile and launch kernels: the one place that knows of devices, streams and the driver."""

import re
import threading
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from inspect import signature
from operator import itemgetter
from typing import Any

from numba import cuda
from numba.core import config, types

from ..arrays.memory import DeviceArray
from ..arrays.take import view
from ..walk.slots import NUMBERS, SLOTS
from .kernels import backward, backward_columns, backward_rows, chosen, columns, merging, pointwise, rows
from .kernels.constants import REALS, Code
from .plan import Step

SIMULATED = bool(config.ENABLE_CUDASIM)
_MAKERS: dict[str, Callable[[Code], Any]] = {
    "merge": merging.make_merge,
    "merge_chosen": chosen.make_merge,
    "update_running": merging.make_update_running,
    "count_batch": merging.make_count_batch,
    "matvec": pointwise.make_matvec,
    "formula": pointwise.make_formula,
    "contract": backward.make_contract,
}
_FRAMELESS = ("matvec", "formula", "backward", "descend", "totals", "contract")  # what works on no frame
_lock = threading.RLock()


_names: dict[tuple[str, str], tuple[str, ...]] = {}  # by family and operation


@lru_cache(maxsize=8)
def function_of(code: Code) -> Any:
    """The Python function of a kernel."""
    if code.family == "states":
        return _MAKERS[code.variant.operation](code)
    if code.variant.operation == "chosen":
        return chosen.make(code)
    if code.goes_back:
        return (backward_rows if code.family == "rows" else backward_columns).make(code)
    return (rows if code.family == "rows" else columns).make(code)


def names_of(code: Code) -> tuple[str, ...]:
    """What a kernel takes beside its table: slots and numbers of a frame (see `walk.slots`), or by names of its own."""
    kernel = code.family, code.variant.operation
    if kernel not in _names:  # else no function is made, which takes some ms, of a kernel that is found on disk
        _names[kernel] = tuple(signature(function_of(code)).parameters)[1:]
    return _names[kernel]


def types_of(code: Code) -> Any:
    """The types of all that: addresses and other integers, and float64."""
    return types.void(types.int64, *(types.float64 if name in REALS else types.int64 for name in names_of(code)))


def _picker(code: Code) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """A function that picks a kernel's arguments from the addresses and numbers of a frame, in their order there."""
    if code.variant.operation in _FRAMELESS:
        return tuple
    places = [(*SLOTS, *NUMBERS).index(name) for name in names_of(code)]
    return itemgetter(*places) if len(places) > 1 else lambda values: (values[places[0]],)


def ptx_of(code: Code, capability: tuple[int, int]) -> tuple[str, str]:
    """Compile a kernel: its PTX, and its name there."""
    text, _ = cuda.compile(
        function_of(code),
        types_of(code),
        device=False,
        abi="numba",
        cc=capability,
        output="ptx",
        launch_bounds=code.bounds,
    )
    return text, re.search(r"\.entry\s+([\w$]+)", text)[1]  # type: ignore[index]


def table_of(step: Step, device: int) -> DeviceArray:
    """A step's table on a device. It is sent once, and is there on return, for every stream."""
    if device not in step.tables:
        with cuda.gpus[device]:
            sent = cuda.to_device(step.table)
            cuda.default_stream().synchronize()
        step.tables[device] = view(sent)
    table: DeviceArray = step.tables[device]
    return table


if SIMULATED:

    @cache
    def _simulated(code: Code) -> tuple[Any, Any]:
        return cuda.jit(function_of(code)), _picker(code)

    def launch(step: Step, device: int, stream: int, values: Sequence[Any]) -> None:
        """Run a step in Numba's simulator, which runs one at a time."""
        with _lock:
            kernel, pick = _simulated(step.code)
            table = table_of(step, device).pointer
            kernel[step.blocks, step.code.block, stream, step.shared](table, *pick(values))

else:
    from cuda.bindings import driver
    from cuda.core import Device, LaunchConfig, ObjectCode, Program, ProgramOptions, Stream
    from cuda.core import launch as _launch

    from ..engine import notice
    from . import cubins

    _stream = lru_cache(maxsize=256)(Stream.from_handle)

    def _compiled(code: Code, capability: tuple[int, int]) -> tuple[bytes, str]:
        """Compile a kernel, and keep its machine code: that, and its name there."""
        notice.compiling("cuda")
        text, name = ptx_of(code, capability)
        program = Program(text, "ptx", ProgramOptions(arch="sm_{}{}".format(*capability)))
        cubin = program.compile("cubin").code
        if program.backend == "nvJitLink":  # else it is the driver's, of which nothing is known here
            cubins.save(code, capability, cubin, name)
        return cubin, name

    @cache
    def cubin_of(code: Code, capability: tuple[int, int]) -> tuple[Any, str]:
        """Machine code of a kernel, and its name there: from disk, else compiled."""
        with _lock:
            cubin, name = cubins.load(code, capability) or _compiled(code, capability)
            return ObjectCode.from_cubin(cubin), name

    @cache
    def _loaded(code: Code, device: int) -> Any:
        capability = tuple(Device(device).compute_capability)
        cubin, name = cubin_of(code, capability)
        try:
            return cubin.get_kernel(name)
        except Exception:  # the driver refuses it: if it was on disk, what is compiled now may do
            with _lock:
                compiled, name = _compiled(code, capability)
            return ObjectCode.from_cubin(compiled).get_kernel(name)

    @cache
    def _keeper(code: Code, device: int) -> tuple[Any, int]:
        """A kernel that keeps, and how many bytes of shared memory it may have for that: all that it does not declare.

        They have to be asked for, or it gets no more than 48 KB. If the driver refuses, it is to use none.
        """
        loaded, attribute = _loaded(code, device), driver.CUfunction_attribute
        optin = driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
        _, most = driver.cuDeviceGetAttribute(optin, device)
        _, declared = driver.cuKernelGetAttribute(attribute.CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, loaded.handle, device)
        asked = attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        (error,) = driver.cuKernelSetAttribute(asked, most - declared, loaded.handle, device)
        return loaded, most - declared if error == driver.CUresult.CUDA_SUCCESS else 0

    def _fitting(step: Step, device: int) -> tuple[Any, Any]:
        """A launch, and its kernel: where shared memory does not suffice, the one that reads x twice instead."""
        code, shared = step.code, step.shared
        if shared > 0:
            loaded, most = _keeper(code, device)
            if shared <= most:
                return LaunchConfig(grid=step.blocks, block=code.block, shmem_size=shared), loaded
            code = code._replace(kept=False)
        return LaunchConfig(grid=step.blocks, block=code.block, shmem_size=0), _loaded(code, device)

    def _queue(step: Step, device: int, stream: int, table: int, values: Sequence[Any]) -> None:
        """Launch on the thread's current device."""
        try:
            pick, how, kernel = step.kernels[device]
        except KeyError:  # found once: later calls of the same description have it there
            pick, how, kernel = step.kernels[device] = _picker(step.code), *_fitting(step, device)
        _launch(_stream(stream), how, kernel, table, *pick(values))

    def launch(step: Step, device: int, stream: int, values: Sequence[Any]) -> None:
        """Launch a step on a device's stream; the thread's current device stays what it is.

        Parameters
        ----------
        step : Step
            Which kernel, and over what.
        device, stream : int
            Where.
        values : sequence
            Addresses (0 where there is none) and numbers in the order of a frame; or all that a kernel takes which
            works on no frame. Floats must be floats, and integers int.
        """
        table = table_of(step, device).pointer
        error, current = driver.cuCtxGetDevice()
        if error == driver.CUresult.CUDA_SUCCESS and int(current) == device:
            _queue(step, device, stream, table, values)
            return
        _, before = driver.cuCtxGetCurrent()
        Device(device).set_current()
        try:
            _queue(step, device, stream, table, values)
        finally:
            driver.cuCtxSetCurrent(before)
