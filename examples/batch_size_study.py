"""What batch size does to each norm: the error of a small convolutional network, trained with every norm by numbanorm.

Data are scikit-learn's digits: 1,797 pictures of 8 by 8, of which 500 are held back. For every batch size the networks
see the same pictures equally often; the learning rate goes with the batch size. Errors are those on the pictures held
back, after training, averaged over seeds, which choose these pictures, the weights and the order.

    python examples/batch_size_study.py            # minutes on two cores: prints a table
    python examples/batch_size_study.py --quick    # a few runs, to see that it works
    python examples/batch_size_study.py --markdown docs/batch-size.md --picture docs/batch-size.png
"""

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import numbanorm as nbn
import numbanorm.torch as norms

sys.path.insert(0, str(Path(__file__).parents[1] / "asv_benchmarks"))
from harness.machine import cores, machine
from harness.report import Cells, markdown, show, write_markdown
from harness.terminal import open_console, progress

TABLE = "table of errors by batch size"  # the name of its marks in a Markdown file
HELD_BACK = 500
BATCHES = (32, 16, 8, 4, 2)
RATE = 0.05  # for batches of 32
MADE: Mapping[str, Callable[[int], nn.Module]] = {
    "batch norm": norms.BatchNorm2d,
    "batch renorm": norms.BatchRenorm,
    "group norm": lambda channels: norms.GroupNorm(8, channels),
    "layer norm": lambda channels: norms.GroupNorm(1, channels),
    "instance norm": lambda channels: norms.InstanceNorm2d(channels, affine=True),
    "batch-instance norm": norms.BatchInstanceNorm,
    "none": lambda channels: nn.Identity(),
}
# ResNet-50 on ImageNet, top-1 errors in percent: Y. Wu and K. He, "Group normalization", 2018, table 2 and section 4.1.
PAPER = {
    "batch norm": (23.6, 23.7, 24.8, 27.3, 34.7),
    "batch renorm": (None, None, None, 26.3, None),
    "group norm": (24.1, 24.2, 24.0, 24.2, 24.1),
}


class Run(NamedTuple):
    """One training."""

    norm: str
    batch: int
    seed: int
    epochs: int


def network(norm: str) -> nn.Sequential:
    """Three convolutions, each with a norm, and a linear layer on the average over the picture."""
    layers: list[nn.Module] = []
    for before, after, stride in ((1, 16, 1), (16, 32, 2), (32, 32, 1)):
        convolution = nn.Conv2d(before, after, 3, stride, padding=1, bias=norm == "none")
        layers += [convolution, MADE[norm](after), nn.ReLU(inplace=norm != "none")]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def relax(model: nn.Module, share: float) -> None:
    """Bound batch renormalization as its paper does: batch norm at first, and freer from step to step."""
    for module in model.modules():
        if isinstance(module, norms.BatchRenorm):
            free = min(1.0, max(0.0, 4 * share - 1))  # in the second quarter of the training
            module.r_max, module.d_max = 1 + 2 * free, 5 * free


def error_of(run: Run) -> float:
    """Train once; return the error in percent."""
    torch.set_num_threads(1)
    nbn.set_num_threads(1)
    torch.manual_seed(run.seed)
    digits, rng = load_digits(), np.random.default_rng(run.seed)
    images = torch.from_numpy(digits.images.astype(np.float32)[:, None] / 8 - 1)
    targets, order = torch.from_numpy(digits.target), rng.permutation(len(digits.target))
    held, own = order[:HELD_BACK], order[HELD_BACK:]
    model, steps = network(run.norm), run.epochs * (len(own) // run.batch)
    optimizer = torch.optim.SGD(model.parameters(), RATE * run.batch / 32, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    step = 0
    for _ in range(run.epochs):
        mixed = rng.permutation(own)
        for i in range(0, len(own) - run.batch + 1, run.batch):
            relax(model, step / steps)
            chosen = mixed[i : i + run.batch]
            loss = nn.functional.cross_entropy(model(images[chosen]), targets[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
    model.eval()
    with torch.no_grad():
        wrong = model(images[held]).argmax(1) != targets[held]
    return 100 * float(wrong.double().mean())


def trained(runs: Sequence[Run], console: Any) -> dict[Run, float]:
    """Train all, one run a core, the longest first."""
    found: dict[Run, float] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(cores(), len(runs)), context) as pool, progress(console) as bar:
        waiting = {pool.submit(error_of, run): run for run in sorted(runs, key=lambda run: run.batch)}
        task = bar.add_task("trained", total=len(runs))
        for one in as_completed(waiting):
            found[waiting[one]] = one.result()
            bar.advance(task)
    return found


def cells_of(found: Mapping[Run, float], names: Sequence[str], batches: Sequence[int]) -> list[Cells]:
    """Write a row for each norm: mean error, and standard deviation over seeds; below it the paper's."""
    rows = []
    for name in names:
        row = {"norm": name, "of": "digits"}
        for batch in batches:
            errors = [error for run, error in found.items() if (run.norm, run.batch) == (name, batch)]
            spread = f" ± {np.std(errors, ddof=1):.1f}" if len(errors) > 1 else ""
            row[f"batches of {batch}"] = f"{np.mean(errors):.1f}{spread}"
        rows.append(row)
    for name in names:
        if name in PAPER and tuple(batches) == BATCHES:
            theirs = {
                f"batches of {batch}": f"{error or '-'}" for batch, error in zip(batches, PAPER[name], strict=True)
            }
            rows.append({"norm": name, "of": "ImageNet, by its paper"} | theirs)
    return rows


def draw(found: Mapping[Run, float], names: Sequence[str], batches: Sequence[int], path: Path) -> None:
    """Draw errors by batch size, beside those of the paper."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    ours, theirs = figure.subplots(1, 2)
    for number, name in enumerate(names):
        of_batch = [[e for run, e in found.items() if (run.norm, run.batch) == (name, batch)] for batch in batches]
        means = [np.mean(errors) for errors in of_batch]
        spread = [np.std(errors, ddof=1) if len(errors) > 1 else 0.0 for errors in of_batch]
        ours.errorbar(batches, means, spread, marker="o", capsize=2, color=f"C{number}", label=name)
        if name in PAPER:
            points = [(b, e) for b, e in zip(BATCHES, PAPER[name], strict=True) if e is not None]
            theirs.plot(*zip(*points, strict=True), marker="o", color=f"C{number}")
    for ax, title in ((ours, "digits, three convolutions, here"), (theirs, "ImageNet, ResNet-50, Wu and He (2018)")):
        ax.set_xscale("log", base=2)
        ax.set_xticks(batches, [str(batch) for batch in batches])
        ax.invert_xaxis()
        ax.set_title(title, fontsize=10)
        ax.set_xlabel("batch size")
    ours.set_yscale("log")
    ours.set_ylabel("error, %")
    figure.legend(loc="outside lower center", ncols=len(names), frameon=False, fontsize=8, columnspacing=1.0)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--norms", nargs="+", choices=MADE, default=list(MADE), metavar="NORM", help=", ".join(MADE))
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES), metavar="N")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each kind (default: 3)")
    parser.add_argument("--epochs", type=int, default=8, help="how often each picture is seen (default: 8)")
    parser.add_argument("--quick", action="store_true", help="two norms, two batch sizes, one seed, one epoch")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="put the table between the marks of this file")
    parser.add_argument("--picture", type=Path, metavar="FILE")
    args = parser.parse_args(arguments)
    if args.quick:
        args.norms, args.batches, args.seeds, args.epochs = ["batch norm", "group norm"], [32, 8], 1, 1
    console, start = open_console(), time.perf_counter()
    where = machine(1)
    console.print(where, markup=False)
    runs = [
        Run(norm, batch, seed, args.epochs)
        for norm in args.norms
        for batch in args.batches
        for seed in range(args.seeds)
    ]
    found = trained(runs, console)
    cells = cells_of(found, args.norms, args.batches)
    show(cells, console)
    text = (
        f"Errors in percent, mean and standard deviation of {args.seeds} seeds, {args.epochs} epochs; "
        f"{len(runs)} trainings in {time.perf_counter() - start:.0f} s."
    )
    console.print(text, markup=False)
    if args.markdown:
        on = where.replace("\n", "  \n")
        write_markdown(args.markdown, f"{on}\n\n{markdown(cells)}\n{text}\n", TABLE)
    if args.picture:
        draw(found, args.norms, args.batches, args.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
