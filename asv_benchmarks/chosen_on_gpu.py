"""Statistics of chosen elements on a GPU: right, against those of the host, and how long they take beside plain ones.

    python asv_benchmarks/chosen_on_gpu.py
    python asv_benchmarks/chosen_on_gpu.py --device cpu --part 1000    # a small trial without a GPU

x is read once by all of them; a mask adds a byte for each element, weights in float32 add four. Exits with 1 if a
count, a mean or a variance is wrong.
"""

import sys
from typing import Any

import numpy as np
from harness.gpu.clocks import DeviceClock
from harness.gpu.script import run
from harness.timing import PROCESSOR, interleaved

import numbanorm as nbn

CASES = [
    # name, shape, axes, dtype, shape of the mask and of the weights
    ("rows", (16384, 4096), 1, "float32", (16384, 4096)),
    ("rows, one mask", (16384, 4096), 1, "bfloat16", (1, 4096)),
    ("a few long rows", (8, 1 << 23), 1, "float32", (8, 1 << 23)),
    ("pictures, channels last", (64, 112, 112, 64), (0, 1, 2), "float32", (64, 112, 112, 1)),
    ("a table", (1 << 20, 64), 0, "float64", (1 << 20, 1)),
]
MOST = 1e-11  # relative, of a variance, and of a mean beside the deviation


def choices(torch: Any, x: Any, own: tuple[int, ...]) -> dict[str, dict[str, Any]]:
    """All ways of choosing from an array, by their names."""
    made = torch.Generator(x.device).manual_seed(1)
    where = torch.rand(own, device=x.device, generator=made) < 0.7
    weights = torch.rand(own, device=x.device, generator=made)
    return {
        "plain": {},
        "where": {"where": where},
        "weights": {"weights": weights},
        "skipna": {"skipna": True},
        "all": {"where": where, "weights": weights, "skipna": True},
    }


def error(torch: Any, x: Any, axis: Any, how: dict[str, Any]) -> float:
    """The largest error of moments on the device, against those of the host."""
    ours = nbn.moments(x, axis=axis, **how)
    there = {name: v if v is True else v.cpu() for name, v in how.items()}
    true = nbn.moments(x.cpu(), axis=axis, **there)
    count, mean, var = (a.cpu().numpy() for a in map(torch.as_tensor, (ours.count, ours.mean, ours.var())))
    of_mean = np.abs(mean - true.mean) / true.std()
    return float(np.max([np.abs(count / true.count - 1), of_mean, np.abs(var / true.var() - 1)]))


def measure(torch: Any, case: Any, device: str, part: int, seconds: float) -> bool:
    """Print the lines of a case; whether all was right."""
    name, shape, axis, dtype, own = case
    longest = shape.index(max(shape))
    shape, own = (
        tuple(-(-n // part) if i == longest and n > 1 else n for i, n in enumerate(sizes)) for sizes in (shape, own)
    )
    x = 3 + torch.randn(shape, device=device, generator=torch.Generator(device).manual_seed(0))
    x = x.to(getattr(torch, dtype))
    calls, fine = {"clone": x.clone}, True
    for of, how in choices(torch, x, own).items():
        calls[of] = lambda how=how: nbn.moments(x, axis=axis, **how)
        off = 0.0 if of == "plain" else error(torch, x, axis, how)
        if not off <= MOST:
            print(f"{name}, {of}: wrong by {off:.1e}")
            fine = False
    times = interleaved(calls, seconds, PROCESSOR if device == "cpu" else DeviceClock(torch.cuda))
    for of in calls:
        ms, ratio = times[of] * 1e3, times[of] / times["plain"]
        print(
            f"{name:26} {'x'.join(map(str, shape)):20} {dtype:9} {of:8} {ms:9.3f} ms  {ratio:5.2f} of plain", flush=True
        )
    return fine


def main(arguments: Any = None) -> int:
    """Measure all cases."""
    return run(__file__, __doc__, CASES, measure, arguments)


if __name__ == "__main__":
    sys.exit(main())
