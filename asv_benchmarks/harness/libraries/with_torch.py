"""How torch is called: tensors outside of autograd, and channels last in its own channels_last format.

None of its norms takes an output. On a GPU the arrays of a case are its tensors already.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from ..case import Arrays, Call, Case

AS_IT_LIES = ("layer_norm", "rms_norm", "moments")  # norms that take channels where they are


def tensor(array: Any) -> Any:
    """View an array as a tensor."""
    if isinstance(array, torch.Tensor):
        return array
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def image(case: Case, x: Any) -> Any:
    """View x as torch wants images: channels on axis 1, and if they are last in memory, in its channels_last format."""
    return tensor(x).movedim(-1, 1) if case.last else tensor(x)


def function_of(case: Case, a: Arrays) -> tuple[Any, tuple]:
    """Return the function of torch that does the case, and its arguments."""
    weight, bias = (None if p is None else tensor(p) for p in (a.weight, a.bias))
    if case.norm in ("batch_norm", "batch_norm_eval"):
        stored = tensor(a.mean), tensor(a.var), weight, bias
        return functional.batch_norm, (image(case, a.x), *stored, case.norm == "batch_norm", 0.1, case.eps)
    if case.norm == "rms_norm":
        return functional.rms_norm, (tensor(a.x), (case.channels,), weight, case.eps)
    if case.norm == "group_norm":
        return functional.group_norm, (image(case, a.x), case.groups, weight, bias, case.eps)
    if case.norm == "instance_norm":
        return instance_norm, (image(case, a.x), weight, bias, case.eps)
    if case.norm == "moments":
        return mean_and_variance, (tensor(a.x), case.axes)
    function = functional.layer_norm if case.last else layer_norm_first
    return function, (tensor(a.x), (case.channels,), weight, bias, case.eps)


def instance_norm(x: Any, weight: Any, bias: Any, eps: float) -> Any:
    """Without running statistics."""
    return functional.instance_norm(x, weight=weight, bias=bias, eps=eps)


def layer_norm_first(x: Any, shape: tuple[int, ...], weight: Any, bias: Any, eps: float) -> Any:
    """Over axis 1 as torchvision's ConvNeXt does it: permute, normalize, permute back."""
    there, back = [0, *range(2, x.ndim), 1], [0, x.ndim - 1, *range(1, x.ndim - 1)]
    return functional.layer_norm(x.permute(there), shape, weight, bias, eps).permute(back)


def mean_and_variance(x: Any, axes: tuple[int, ...]) -> tuple[Any, Any]:
    """In one call; in the dtype of x."""
    var, mean = torch.var_mean(x, axes, correction=0)
    return mean, var


def eager(case: Case, a: Arrays, out: np.ndarray | None) -> Call | None:
    """As users call it, eagerly."""
    function, arguments = function_of(case, a)
    return None if out is not None else lambda: function(*arguments)


def backward(case: Case, a: Arrays, out: np.ndarray | None) -> Call | None:
    """Return autograd's way back from a forward pass that was run once; gradients in torch's order of memory."""
    if out is not None:
        return None
    inputs = {name: tensor(p) for name, p in vars(a).items() if name in ("x", "weight", "bias") and p is not None}
    for one in inputs.values():
        one.requires_grad_()
    function, arguments = function_of(case, Arrays(**(vars(a) | inputs)))
    y = function(*arguments)
    grad = tensor(a.grad) if case.norm in AS_IT_LIES else image(case, a.grad)
    wanted = [one for name, one in inputs.items() if (name, case.norm) != ("bias", "rms_norm")]
    return lambda: torch.autograd.grad(y, wanted, grad, retain_graph=True)


def compiled(case: Case, a: Arrays, out: np.ndarray | None) -> Call | None:
    """The same function through torch.compile, for this shape and the threads that are set by now."""
    if out is not None:
        return None
    function, arguments = function_of(case, a)
    fast = compile_for(function, case, torch.get_num_threads())
    return lambda: fast(*arguments)


@lru_cache(maxsize=1)
def compile_for(function: Any, case: Case, threads: int) -> Any:
    """Compile once for a case, whose arrays may be there several times."""
    torch.compiler.reset()  # else a function that has seen eight shapes is run eagerly
    return torch.compile(function, dynamic=False)


def in_order(case: Case, y: Any) -> Any:
    """Return an output in the case's order of axes: see image()."""
    return y.movedim(1, -1) if case.last and case.norm not in AS_IT_LIES else y


def to_numpy(case: Case, y: Any) -> np.ndarray:
    """Return an output in the case's order of axes; bfloat16, which NumPy does not know, as float32."""
    y = in_order(case, y)
    return (y.float() if y.dtype == torch.bfloat16 else y).numpy()
