"""What a call with arrays on a GPU costs the processor, up to its launch. It needs no GPU, but a C compiler.

    python asv_benchmarks/launches.py

A made-up driver takes the launches and does nothing. What the real one takes for them is left out: some 2 µs each.
torch's tensors lie on the host, and say that they lie on a GPU. Beside them stand torch's own functions on such tensors
of the host, of 256 numbers at most: their times have that little work in them, and no launch.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

from harness.gpu import made_up

INSIDE = "NUMBANORM_MADE_UP_DRIVER"
PACKAGES = ("numba-cuda", "cuda-core")  # beside those that every report names


def pretend():
    """Make torch allocate on the host what is to lie on a GPU; return a function that sends a tensor there."""
    import torch

    class OnGPU(torch.Tensor):
        is_cuda, device = True, torch.device("cuda", 0)
        __torch_function__ = torch._C._disabled_torch_function_impl

    def empty(shape, strides, dtype, device):
        return new(shape, strides, dtype=dtype).as_subclass(OnGPU)

    new, torch.empty_strided = torch.empty_strided, empty
    torch._C._cuda_getCurrentRawStream = lambda device: 0
    return lambda tensor: tensor.as_subclass(OnGPU)


def arrays(send):
    """Rows and images of a few numbers, and what is the same for all of a feature or channel."""
    import torch

    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return send(torch.rand(*shape, generator=generator))

    return SimpleNamespace(
        rows=random(4, 64), scale=random(64), shift=random(64), images=random(2, 8, 4, 4),
        weight=random(8), bias=random(8), mean=random(8), var=random(8),
    )  # fmt: skip


def ours(a):
    """Calls of numbanorm."""
    import numbanorm as nbn

    affine = a.weight, a.bias
    return {
        "layer norm": lambda: nbn.layer_norm(a.rows, 64, a.scale, a.shift),
        "RMS norm": lambda: nbn.rms_norm(a.rows, 64, a.scale),
        "group norm": lambda: nbn.group_norm(a.images, 2, *affine),
        "instance norm": lambda: nbn.instance_norm(a.images, weight=a.weight, bias=a.bias),
        "batch norm, evaluation": lambda: nbn.batch_norm(a.images, a.mean, a.var, *affine),
        "batch norm, training": lambda: nbn.batch_norm(a.images, a.mean, a.var, *affine, training=True),
    }


def theirs(a):
    """The same of torch."""
    import torch
    from torch.nn import functional as F

    torch.set_num_threads(1)
    affine = a.weight, a.bias
    return {
        "layer norm": lambda: F.layer_norm(a.rows, (64,), a.scale, a.shift),
        "RMS norm": lambda: F.rms_norm(a.rows, (64,), a.scale),
        "group norm": lambda: F.group_norm(a.images, 2, *affine),
        "instance norm": lambda: F.instance_norm(a.images, weight=a.weight, bias=a.bias),
        "batch norm, evaluation": lambda: F.batch_norm(a.images, a.mean, a.var, *affine),
        "batch norm, training": lambda: F.batch_norm(a.images, a.mean, a.var, *affine, training=True),
    }


def measure(seconds):
    """Print a table, in µs."""
    from harness.machine import machine, warning
    from harness.timing import interleaved
    from numba import cuda

    calls = {"torch, host": theirs(arrays(lambda tensor: tensor))}
    calls["tensors"] = ours(arrays(pretend()))
    calls["Numba's arrays"] = ours(arrays(lambda tensor: cuda.to_device(tensor.numpy())))
    print(f"{machine(1)}\n{', '.join(f'{name} {version(name)}' for name in PACKAGES)}. {warning()}\n")
    print(f"{'µs a call':24}" + "".join(f"{name:>16}" for name in calls))
    for name in calls["tensors"]:
        times = interleaved({who: of[name] for who, of in calls.items()}, seconds)
        print(f"{name:24}" + "".join(f"{1e6 * times[who]:16.1f}" for who in calls), flush=True)


def main(arguments=None):
    """Build the driver, and measure in a process that finds it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="for each row (default: 3)")
    options = parser.parse_args(arguments)
    if os.environ.get(INSIDE):
        measure(options.seconds)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        try:
            library = made_up.build(Path(folder))
        except RuntimeError as error:
            parser.error(str(error))
        command = [sys.executable, __file__, "--seconds", str(options.seconds)]
        return subprocess.run(command, env=made_up.environment(library) | {INSIDE: "1"}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
