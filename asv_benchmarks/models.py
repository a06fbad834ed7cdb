"""How long a training step of a whole model takes, before and after `numbanorm.torch.convert`.

    python asv_benchmarks/models.py [--threads 1,2] [--markdown README.md]

A step is forward, loss and backward, on noise, with weights as torch makes them. Both models have the same weights;
they take turns in one process, and their losses and gradients are compared first. The norms' share is that of the
profile of torch's own model.
"""

import argparse
import copy
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from harness.machine import cores, machine, warning
from harness.report import Cells, markdown, write_markdown
from harness.timing import paired, ratio_of
from torch import Tensor, nn

import numbanorm as nbn
from numbanorm.torch import convert

TABLE = "table of models"  # the name of its marks in a Markdown file


class Residual(nn.Module):
    """Adds what a path makes of its input to it, or to what another path makes of it."""

    def __init__(self, path: nn.Module, beside: nn.Module | None = None, after: nn.Module | None = None) -> None:
        super().__init__()
        self.path, self.beside, self.after = path, beside or nn.Identity(), after or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Add both."""
        return self.after(self.path(x) + self.beside(x))


def resnet50(width: int = 64) -> nn.Module:
    """The convolutions and batch norms of ResNet-50: K. He et al., arXiv:1512.03385, table 1."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    layers.append(nn.MaxPool2d(3, 2, 1))
    before = width
    for stage, blocks in enumerate((3, 4, 6, 3)):
        inner, after = width << stage, 4 * width << stage
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            path: list[nn.Module] = []
            for a, b, size, step in ((before, inner, 1, 1), (inner, inner, 3, stride), (inner, after, 1, 1)):
                path += [nn.Conv2d(a, b, size, step, size // 2, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
            beside = None
            if not block:
                beside = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
            layers.append(Residual(nn.Sequential(*path[:-1]), beside, nn.ReLU()))
            before = after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 1000))


def unet_level(before: int, after: int, inside: nn.Module | None = None) -> nn.Module:
    """Two residual blocks with group norm, as diffusion models have them, and a coarser level between them."""

    def block(a: int, b: int) -> nn.Module:
        path = [part for c in (a, b) for part in (nn.GroupNorm(32, c), nn.SiLU(), nn.Conv2d(c, b, 3, padding=1))]
        return Residual(nn.Sequential(*path), nn.Conv2d(a, b, 1) if a != b else None)

    middle: list[nn.Module] = []
    if inside is not None:
        down, up = nn.Conv2d(after, after, 3, 2, 1), nn.Upsample(scale_factor=2)
        middle = [Residual(nn.Sequential(down, inside, up))]
    return nn.Sequential(block(before, after), *middle, block(after, before))


def unet(width: int = 64) -> nn.Module:
    """Three levels of a U-Net."""
    levels = unet_level(width, width, unet_level(width, 2 * width, unet_level(2 * width, 4 * width)))
    return nn.Sequential(
        nn.Conv2d(4, width, 3, padding=1), levels, nn.GroupNorm(32, width), nn.Conv2d(width, 4, 3, padding=1)
    )


def transformer(width: int = 768) -> nn.Module:
    """A block of a transformer of BERT's or ViT's size, without dropout, which would tell both apart."""
    return nn.TransformerEncoderLayer(width, width // 64, 4 * width, 0.0, batch_first=True, norm_first=True)


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], Callable[[], nn.Module], tuple[int, ...]]] = {
    "ResNet-50, batch norm": (resnet50, (4, 3, 224, 224), lambda: resnet50(4), (4, 3, 96, 96)),
    "U-Net, group norm": (unet, (2, 4, 64, 64), lambda: unet(32), (1, 4, 8, 8)),
    "transformer block, layer norm": (transformer, (8, 197, 768), lambda: transformer(64), (2, 5, 64)),
}


def step_of(model: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    """A training step without its optimizer, which is the same for both."""

    def step() -> Tensor:
        model.zero_grad(set_to_none=True)
        loss = model(x).square().mean()
        loss.backward()
        return loss

    return step


def check(theirs: nn.Module, ours: nn.Module, x: Tensor) -> None:
    """Refuse to time models that do not do the same. In float64: in float32 rounding grows from layer to layer."""
    models = [copy.deepcopy(model).double() for model in (theirs, ours)]
    losses = [float(step_of(model, x.double())().detach()) for model in models]
    torch.testing.assert_close(*map(torch.tensor, losses), rtol=1e-6, atol=0.0)
    all_of = [torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]) for model in models]
    apart = (all_of[0] - all_of[1]).norm() / all_of[0].norm()
    assert apart < 1e-6, f"gradients differ by {apart:.1e} of their norm"


def share_of_norms(step: Callable[[], Any]) -> float:
    """Which share of torch's own step its norms take."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        step()
    events = profile.key_averages()
    norms = ("native_batch_norm", "native_layer_norm", "native_group_norm")
    return sum(e.self_cpu_time_total for e in events if any(n in e.key for n in norms)) / sum(
        e.self_cpu_time_total for e in events
    )


def measured(threads: int, pairs: int, quick: bool) -> Iterator[Cells]:
    """Time every model on so many threads."""
    torch.set_num_threads(threads)
    nbn.set_num_threads(threads)
    for name, (make, shape, make_small, small) in MODELS.items():
        torch.manual_seed(0)
        theirs, x = (make_small(), torch.randn(small)) if quick else (make(), torch.randn(shape))
        ours = copy.deepcopy(theirs)
        convert(ours)
        check(theirs, ours, x)
        steps = step_of(theirs, x), step_of(ours, x)
        times = paired(*steps, pairs)
        before, after = (1e3 * statistics.median(side) for side in zip(*times, strict=True))
        yield {
            "model": name,
            "input": "×".join(map(str, x.shape)),
            "threads": str(threads),
            "torch, ms": f"{before:.0f}",
            "converted, ms": f"{after:.0f}",
            "torch / converted": f"{ratio_of(times).median:.2f}",
            "norms' share of torch's step": f"{100 * share_of_norms(steps[0]):.0f}%",
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", default=f"1,{cores()}", help="comma-separated (default: 1 and all)")
    parser.add_argument("--pairs", type=int, default=10, help="of steps, for each model (default: 10)")
    parser.add_argument("--quick", action="store_true", help="small models, to see that it works")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="put the table between the marks of this file")
    args = parser.parse_args(arguments)
    rows = []
    numbers = sorted({int(number) for number in args.threads.split(",")})
    about = f"{machine(','.join(map(str, numbers)))}. {warning()}".rstrip()
    print(about)
    for threads in numbers:
        for row in measured(threads, args.pairs, args.quick):
            print("  ".join(row.values()), flush=True)
            rows.append(row)
    if args.markdown:
        write_markdown(args.markdown, f"{markdown(rows)}\n{about}\n", TABLE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
