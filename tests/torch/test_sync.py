"""SyncBatchNorm on several workers beside batch norm of one that has the whole batch."""

import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

from fresh import HOME  # noqa: E402
from norms_of_torch import check_close, numbers  # noqa: E402
from torch import nn  # noqa: E402

import numbanorm.torch as ours  # noqa: E402

WORKER = """
import sys, torch, torch.distributed as dist
from datetime import timedelta
import numbanorm.torch as ours
folder, rank, world = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=world, timeout=timedelta(seconds=300))
results = []
for case in torch.load(f"{folder}/cases"):
    norm = ours.SyncBatchNorm(4, momentum=case["momentum"], affine=case["affine"]).to(case["x"].dtype)
    norm.load_state_dict(case["state"])
    order = torch.channels_last if case["last"] else torch.contiguous_format
    x = case["x"].split(case["sizes"])[rank].contiguous(memory_format=order).requires_grad_()
    grad = case["grad"].split(case["sizes"])[rank]
    try:
        y = norm(x)
    except ValueError as error:
        results.append(str(error))
        continue
    y.backward(grad)
    results.append([y.detach(), x.grad, *(p.grad for p in norm.parameters()), *norm.state_dict().values()])
    assert not len(x) or y.is_contiguous(memory_format=order)
torch.save(results, f"{folder}/results{rank}")
dist.destroy_process_group()
"""


def cases():
    made = []
    for dtype, sizes, affine, last, momentum in (
        (torch.float64, [5, 2], True, False, 0.3),
        (torch.float64, [7, 0], True, True, None),
        (torch.float64, [0, 7], False, False, 0.1),
        (torch.float32, [1, 6], True, True, 0.1),
        (torch.float64, [1, 0], True, False, 0.1),  # one value a channel: refused by all, and none waits
    ):
        shape = (sum(sizes), 4, 2, 3) if sum(sizes) > 1 else (1, 4, 1, 1)
        x, grad = numbers(*shape, shift=3.0, dtype=dtype), numbers(*shape, seed=1, dtype=dtype)
        norm = nn.BatchNorm2d(4, momentum=momentum, affine=affine)
        for seed, one in enumerate(norm.parameters()):
            one.data = numbers(4, seed=seed, dtype=dtype)
        said = {"x": x, "grad": grad, "sizes": sizes, "affine": affine, "last": last, "momentum": momentum}
        made.append(said | {"state": norm.state_dict()})
    return made


def test_statistics_and_gradients_are_those_of_one_worker_with_the_whole_batch(tmp_path):
    given, world = cases(), 2
    torch.save(given, tmp_path / "cases")
    command = [sys.executable, "-W", "ignore", "-c", WORKER, str(tmp_path)]
    workers = [
        subprocess.Popen([*command, str(rank), str(world)], cwd=HOME, stderr=subprocess.PIPE, text=True)
        for rank in range(world)
    ]
    errors = [worker.communicate(timeout=500)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], errors
    found = list(zip(*(torch.load(tmp_path / f"results{rank}") for rank in range(world)), strict=True))
    for case, parts in zip(given[:-1], found[:-1], strict=True):
        norm = nn.BatchNorm2d(4, momentum=case["momentum"], affine=case["affine"]).double()
        norm.load_state_dict(case["state"])
        x = case["x"].double().requires_grad_()
        y = norm(x)
        y.backward(case["grad"].double())
        parameters = list(norm.parameters())
        unit = 1e-10 if case["x"].dtype == torch.float64 else 1e-6
        close = {"rtol": 8 * unit, "atol": 8 * unit}
        of = len(parameters)
        wholes = [torch.cat([part[at] for part in parts]).double() for at in (0, 1)]
        sums = [sum(part[2 + at] for part in parts).double() for at in range(of)]
        check_close(wholes + sums, [y.detach(), x.grad, *(one.grad for one in parameters)], **close)
        for part in parts:
            for one, other in zip(part[2 + of :], norm.state_dict().values(), strict=True):
                torch.testing.assert_close(one.double(), other.double(), **close)
        assert all(torch.equal(a, b) for a, b in zip(*(part[2 + of :] for part in parts), strict=True)), "not one bit"
    assert all("Expected more than 1 value per channel" in error for error in found[-1])


def test_without_other_workers_and_in_evaluation_it_is_batch_norm():
    mine, other, x = ours.SyncBatchNorm(4), nn.BatchNorm2d(4), torch.randn(3, 4, 2, 3)
    for training in (True, False):
        mine.train(training), other.train(training)
        torch.testing.assert_close(mine(x), other(x))
    check_close(list(mine.state_dict().values()), list(other.state_dict().values()))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        mine.train()(torch.zeros(1, 4))


def test_convert_swaps_it_both_ways():
    model = nn.Sequential(nn.SyncBatchNorm(4))
    assert ours.convert(model).swapped == {"0": "SyncBatchNorm"} and type(model[0]) is ours.SyncBatchNorm
    assert model(torch.randn(3, 4)).shape == (3, 4)
    ours.revert(model)
    assert type(model[0]) is nn.SyncBatchNorm
