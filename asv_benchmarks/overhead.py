"""What a known call on the host costs beside its kernel, for two versions of numbanorm in one process, in turn.

    python asv_benchmarks/overhead.py [BASE [HEAD]]
    python asv_benchmarks/overhead.py --torch [--markdown docs/training.md]

Each is a commit, a folder with the package in it, or '.' for the files as they are; the last is HEAD's default. Without
any, the files as they are stand alone. A known call has arrays of a shape, strides and dtype that were seen before.
These have 32 numbers, on one thread, so that nearly all of the time is Python's; entering the compiled kernel, and the
kernel, are 7 to 20% of it at 2dae86f. Versions take turns in the order A B B A. A time is the median over turns, a
ratio that of pairs of turns, with its 95% interval.

With --torch the calls are those of numbanorm.torch on layers of 512 numbers, beside torch's own.
"""

import argparse
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from harness.gate.versions import WORKTREE, check_apart, load, written
from harness.timing import paired, ratio_of

TABLE = "table of tiny layers"  # the name of its marks in a Markdown file
HEADS = ("µs a call", "torch", "numbanorm", "numbanorm / torch")


def arrays():
    """Rows and an image of 32 numbers, and what is the same for all of a feature or channel."""
    rng = np.random.default_rng(0)

    def random(*shape):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)

    return SimpleNamespace(
        rows=random(2, 16), scale=random(16), shift=random(16), image=random(1, 8, 2, 2), out=random(1, 8, 2, 2),
        weight=random(8), bias=random(8), mean=random(8), var=random(8),
    )  # fmt: skip


def calls(nbn, a):
    """Calls of one version."""
    affine = a.weight, a.bias
    return {
        "group norm": lambda: nbn.group_norm(a.image, 2, *affine),
        "group norm, out=": lambda: nbn.group_norm(a.image, 2, *affine, out=a.out),
        "layer norm": lambda: nbn.layer_norm(a.rows, 16, a.scale, a.shift),
        "layer norm, x alone": lambda: nbn.layer_norm(a.rows, 16),
        "RMS norm": lambda: nbn.rms_norm(a.rows, 16, a.scale),
        "batch norm, evaluation": lambda: nbn.batch_norm(a.image, a.mean, a.var, *affine),
        "batch norm, training": lambda: nbn.batch_norm(a.image, a.mean, a.var, *affine, training=True),
        "instance norm": lambda: nbn.instance_norm(a.image, weight=a.weight, bias=a.bias),
        "normalize, pattern": lambda: nbn.normalize(a.image, "n (g c) h w -> n g", g=2),
    }


def layers_of_torch():
    """By name: a call of torch's and the same of numbanorm's, on tensors of 512 numbers."""
    import torch
    from torch.nn import functional as theirs

    import numbanorm.torch as norms
    from numbanorm.torch import functional as ours

    generator = torch.Generator().manual_seed(0)

    def leaf(*shape):
        return (torch.rand(*shape, generator=generator) + 0.5).requires_grad_()

    rows, image, wide, scale, shift, mean, var = (
        leaf(8, 64),
        leaf(4, 8, 4, 4),
        leaf(64),
        leaf(8),
        leaf(8),
        leaf(8),
        leaf(8),
    )
    mean, var = mean.detach(), var.detach()

    def without(call):
        def run(module):
            with torch.no_grad():
                return call(module)

        return run

    def step(name, x, *arguments):
        layers = {theirs: getattr(torch.nn, name)(*arguments), ours: getattr(norms, name)(*arguments)}
        grad = torch.rand(x.shape, generator=generator)

        def run(module):
            layers[module](x).backward(grad)
            return x.grad

        return run

    calls = {
        "layer norm, inference": without(lambda of: of.layer_norm(rows, (64,), wide, wide)),
        "group norm, inference": without(lambda of: of.group_norm(image, 2, scale, shift)),
        "batch norm, evaluation": without(lambda of: of.batch_norm(image, mean, var, scale, shift)),
        "batch norm, training without gradients": without(
            lambda of: of.batch_norm(image, mean, var, scale, shift, True)
        ),
        "layer norm, forward": lambda of: of.layer_norm(rows, (64,), wide, wide),
        "LayerNorm, forward and backward": step("LayerNorm", rows, 64),
        "GroupNorm, forward and backward": step("GroupNorm", image, 2, 8),
        "BatchNorm2d, forward and backward": step("BatchNorm2d", image, 8),
    }
    return {name: (partial(call, theirs), partial(call, ours)) for name, call in calls.items()}


def beside_torch(pairs, file):
    """Print a table of tiny layers beside torch's, in µs; or put it between its marks in a Markdown file."""
    import torch
    from harness.machine import machine, warning
    from harness.report import markdown, write_markdown

    import numbanorm as nbn

    torch.set_num_threads(1)
    nbn.set_num_threads(1)
    rows = []
    for name, (theirs, ours) in layers_of_torch().items():
        for _ in range(3):  # the first compiles, the second is known
            theirs(), ours()
        times = paired(theirs, ours, pairs)
        before, after = (1e6 * statistics.median(side) for side in zip(*times, strict=True))
        ratio = ratio_of((second, first) for first, second in times)
        rows.append(dict(zip(HEADS, (name, f"{before:.1f}", f"{after:.1f}", f"{ratio.median:.2f}"), strict=True)))
        print(f"{name:40}{before:8.1f}{after:8.1f}{ratio.median:8.2f}", flush=True)
    if file:
        write_markdown(file, f"{markdown(rows, names=1)}\n{machine(1)}. {warning()}".rstrip(), TABLE)


def measure(modules, titles, pairs):
    """Print a table, in µs. One version alone is both sides of its pairs."""
    a = arrays()
    for nbn in modules:
        nbn.set_num_threads(1)
    each = [calls(nbn, a) for nbn in modules]
    for name in each[0]:  # the first call compiles and remembers
        results = [of[name]().copy() for of in each]  # a copy: `out` is the same array
        np.testing.assert_allclose(results[-1], results[0], 1e-4, 1e-4, err_msg=f"{name}: the two versions differ")
    check_apart()
    from harness.machine import machine, warning  # only now: it imports the package by its own name

    two = len(modules) > 1
    print(f"{' before, '.join(titles)}{' after' * two}\n{machine(1)}. {warning()}\n")
    heads = f"{'before':>16}{'after':>16}{'after / before':>16}{'95%':>18}" if two else f"{'now':>16}"
    print(f"{'µs a call':24}{heads}")
    ratios = []
    for name in each[0]:
        times = paired(each[0][name], each[-1][name], pairs)
        before, after = (1e6 * statistics.median(side) for side in zip(*times, strict=True))
        ratio = ratio_of((second, first) for first, second in times)
        ratios.append(ratio.median)
        rest = f"{after:16.2f}{ratio.median:16.3f}{ratio.low:10.3f} to {ratio.high:.3f}" if two else ""
        print(f"{name:24}{before:16.2f}{rest}", flush=True)
    if two:
        print(f"{'geometric mean':24}{statistics.geometric_mean(ratios):48.3f}")


def main(arguments=None):
    """Load the versions beside each other, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("base", nargs="?", help="a commit or a folder: the version before")
    parser.add_argument("head", nargs="?", default=WORKTREE, help="the version after (default: the files as they are)")
    parser.add_argument("--torch", action="store_true", help="numbanorm.torch on tiny layers, beside torch")
    parser.add_argument(
        "--markdown", metavar="FILE", type=Path, help="with --torch: put the table between its marks in this file"
    )
    parser.add_argument("--pairs", type=int, default=400, help="of turns of a millisecond, for each row (default: 400)")
    options = parser.parse_args(arguments)
    if options.torch:
        return beside_torch(options.pairs, options.markdown)
    names = (options.base, options.head) if options.base else (WORKTREE,)
    with tempfile.TemporaryDirectory(prefix="numbanorm-overhead-") as name:
        folders = [Path(name, role) for role in ("base", "head")][: len(names)]
        try:
            titles = [written(*one) for one in zip(names, folders, strict=True)]
        except ValueError as error:
            parser.error(str(error))
        measure([load(folder, f"numbanorm_{folder.name}") for folder in folders], titles, options.pairs)


if __name__ == "__main__":
    sys.exit(main())
