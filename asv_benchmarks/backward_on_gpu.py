"""Going backward on a GPU: right, against the host, and how long it takes beside copies and torch.

    python asv_benchmarks/backward_on_gpu.py
    python asv_benchmarks/backward_on_gpu.py --device cpu --part 64    # a small trial without a GPU

The least that a call moves is x and the gradient once, and as much written: one and a half times a copy. Exits with 1
if a gradient is wrong.
"""

import sys
from typing import Any

from harness.gpu.clocks import DeviceClock
from harness.gpu.script import run
from harness.timing import PROCESSOR, interleaved

import numbanorm as nbn

CASES = [
    # name, shape, whether channels lie last in memory, dtype, norm and what it is told
    ("bert-base.ln", (32, 512, 768), False, "float32", "layer_norm", 768),
    ("gpt3-175b.ln", (2048, 12288), False, "bfloat16", "layer_norm", 12288),
    ("llama-2-7b.norm", (8192, 4096), False, "bfloat16", "rms_norm", 4096),
    ("resnet50.layer1.bn3", (128, 256, 56, 56), False, "float32", "batch_norm", None),
    ("resnet50.layer1.bn3", (128, 256, 56, 56), True, "float32", "batch_norm", None),
    ("resnet50.layer4.bn3", (128, 2048, 7, 7), False, "float32", "batch_norm", None),
    ("sd-unet.down0.gn", (16, 320, 64, 64), False, "float32", "group_norm", 32),
    ("sd-unet.down0.gn", (16, 320, 64, 64), True, "float32", "group_norm", 32),
    ("style-transfer.in1", (16, 32, 256, 256), False, "float32", "instance_norm", None),
    ("odd.run131072.ln", (256, 131072), False, "float32", "layer_norm", 131072),
]
MOST = {"float32": 1e-5, "bfloat16": 2e-2}  # of the largest gradient


def ours(case: Any, grad: Any, x: Any, weight: Any, kept: Any) -> Any:
    """A call of numbanorm's."""
    *_, norm, setting = case
    function = getattr(nbn, f"{norm}_backward")
    if norm == "batch_norm":
        return lambda: function(grad, x, weight=weight, training=True, moments=kept)
    if norm == "instance_norm":
        return lambda: function(grad, x, weight=weight, moments=kept)
    return lambda: function(grad, x, setting, weight, moments=kept)


def statistics(case: Any, x: Any) -> Any:
    """Those of the forward call."""
    *_, norm, setting = case
    function = getattr(nbn, norm)
    if norm == "batch_norm":
        return function(x, training=True, return_moments=True)[1]
    return function(x, *((setting,) if setting else ()), return_moments=True)[1]


def theirs(torch: Any, case: Any, grad: Any, x: Any, weight: Any) -> Any:
    """The same of torch's, which keeps its graph."""
    *_, norm, setting = case
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    functions = torch.nn.functional
    if norm in ("layer_norm", "rms_norm"):
        y = getattr(functions, norm)(x, (setting,), weight)
    elif norm == "group_norm":
        y = functions.group_norm(x, setting, weight)
    elif norm == "batch_norm":
        y = functions.batch_norm(x, None, None, weight, training=True)
    else:
        y = functions.instance_norm(x, weight=weight)
    return lambda: torch.autograd.grad(y, (x, weight), grad, retain_graph=True)


def measure(torch: Any, case: Any, device: str, part: int, seconds: float) -> bool:
    """Print the lines of a case; whether all was right."""
    name, shape, last, dtype, norm, _ = case
    shape = (-(-shape[0] // part), *shape[1:])
    made = torch.Generator(device).manual_seed(0)
    x, grad = (torch.randn(shape, device=device, generator=made).to(getattr(torch, dtype)) for _ in range(2))
    if last:
        x, grad = (one.contiguous(memory_format=torch.channels_last) for one in (x, grad))
    size = shape[-1] if norm in ("layer_norm", "rms_norm") else shape[1]
    weight = torch.rand(size, device=device, generator=made).to(getattr(torch, dtype))
    kept, fine = statistics(case, x), True
    calls = {"clone": x.clone, "numbanorm": ours(case, grad, x, weight, kept)}
    calls["torch"] = theirs(torch, case, grad, x, weight)
    there = [one.detach().cpu() for one in (grad, x, weight)]
    true = ours(case, *there, None)()
    for of, one, wanted in zip(("dx", "dweight"), calls["numbanorm"](), true, strict=False):
        off = float((one.detach().cpu().double() - wanted.double()).abs().max() / wanted.double().abs().max())
        if not off <= MOST[dtype]:
            print(f"{name}, {of}: wrong by {off:.1e} of the largest")
            fine = False
    times = interleaved(calls, seconds, PROCESSOR if device == "cpu" else DeviceClock(torch.cuda))
    for of in calls:
        time = times[of]
        said = f"{name}{', last' * last:6} {'x'.join(map(str, shape)):18} {dtype:9} {of:10}"
        print(f"{said} {time * 1e3:9.3f} ms  {time / (1.5 * times['clone']):6.2f} times the least", flush=True)
    return fine


def main(arguments: Any = None) -> int:
    """Measure all cases."""
    return run(__file__, __doc__, CASES, measure, arguments)


if __name__ == "__main__":
    sys.exit(main())
