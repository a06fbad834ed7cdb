"""The norms of `torch.nn.functional`, by the same names and signatures, and those that torch lacks.

Tensors lie on the CPU or on CUDA, and are of float64, float32, float16 or bfloat16; weight and bias may be of another
of these. Results have the dtype and memory format of the input. Statistics are taken and kept in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_variadic

from ..call.arguments import EpsOn, as_layout, on_std
from ..layout import Layout, Segments, as_int
from . import norm
from .checks import (
    as_eps,
    broadcasts,
    check_axes,
    check_batch,
    check_last,
    check_running,
    check_share,
    check_tensors,
    check_vectors,
)
from .norm import Rule
from .routes import is_plain, normalized, repeated

__all__ = [
    "batch_instance_norm",
    "batch_norm",
    "batch_renorm",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "normalize",
    "rms_norm",
    "weight_norm",
    "weight_standardize",
]


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Layer normalization: see `torch.nn.functional.layer_norm`.

    Parameters
    ----------
    input : Tensor
        Its last axes have the shape `normalized_shape`.
    normalized_shape : sequence of int
        Shape of what is normalized together.
    weight, bias : Tensor, optional
        Scale and shift of that shape.
    eps : float
        Added to the variance.

    Raises
    ------
    RuntimeError
        If a shape does not fit.
    NotImplementedError
        If a tensor is not of floats, or lies elsewhere than on the CPU or CUDA.

    Examples
    --------
    >>> import torch
    >>> from numbanorm.torch.functional import layer_norm
    >>> layer_norm(torch.tensor([[1.0, 2.0, 3.0]]), (3,))
    tensor([[-1.2247,  0.0000,  1.2247]])
    """
    if has_torch_function_variadic(input, weight, bias):
        more = {"weight": weight, "bias": bias, "eps": eps}
        return handle_torch_function(layer_norm, (input, weight, bias), input, normalized_shape, **more)
    call = "layer_norm", normalized_shape
    if (made := repeated(call, input, weight, bias, eps)) is not None:
        return made
    axes = check_last("layer_norm", input, normalized_shape, weight, bias)
    ways = norm.layer, norm.known_layer, (input.dim(), axes)
    return normalized(input, weight, bias, *ways, Rule(as_eps(eps)), call=call)


def rms_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """Root mean square normalization: see `torch.nn.functional.rms_norm`.

    Parameters
    ----------
    input, normalized_shape, weight
        As in `layer_norm`.
    eps : float, optional
        Added to the mean square; by default the machine epsilon of the input's dtype, and of float32 for narrower ones.

    Examples
    --------
    >>> import torch
    >>> from numbanorm.torch.functional import rms_norm
    >>> rms_norm(torch.tensor([[3.0, 4.0, 0.0, 0.0]]), (4,))
    tensor([[1.2000, 1.6000, 0.0000, 0.0000]])
    """
    if has_torch_function_variadic(input, weight):
        return handle_torch_function(rms_norm, (input, weight), input, normalized_shape, weight=weight, eps=eps)
    call = "rms_norm", normalized_shape, eps is None
    if (made := repeated(call, input, weight, None, eps)) is not None:
        return made
    axes = check_last("rms_norm", input, normalized_shape, weight, None)
    rule = Rule(_least_eps(input.dtype) if eps is None else as_eps(eps), False)
    return normalized(input, weight, None, norm.layer, norm.known_layer, (input.dim(), axes), rule, call=call)


def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Group normalization: see `torch.nn.functional.group_norm`.

    Parameters
    ----------
    input : Tensor
        Of shape (N, C, ...).
    num_groups : int
        How many groups; it divides C.
    weight, bias : Tensor, optional
        Scale and shift of shape (C,).
    eps : float
        Added to the variance.

    Examples
    --------
    >>> import torch
    >>> from numbanorm.torch.functional import group_norm
    >>> group_norm(torch.tensor([[1.0, 3.0, 10.0, 30.0]]), 2)
    tensor([[-1.0000,  1.0000, -1.0000,  1.0000]])
    """
    if has_torch_function_variadic(input, weight, bias):
        more = {"weight": weight, "bias": bias, "eps": eps}
        return handle_torch_function(group_norm, (input, weight, bias), input, num_groups, **more)
    call = "group_norm", num_groups, type(num_groups)
    if (made := repeated(call, input, weight, bias, eps)) is not None:
        return made
    check_tensors("group_norm", input, weight=weight, bias=bias)
    check_axes(input)
    check_vectors(input, "weight", weight, "bias", bias)
    shape, channels = input.shape, input.shape[1]
    if num_groups < 1 or channels % num_groups:
        raise RuntimeError(
            f"Expected number of channels in input to be divisible by num_groups, but got input of shape "
            f"{list(shape)} and num_groups={num_groups}"
        )
    if input.numel() == shape[0] * num_groups and shape[0] == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {list(shape)}")
    ways = norm.group, norm.known_group, (input.dim(), num_groups)
    return normalized(input, weight, bias, *ways, Rule(as_eps(eps)), call=call)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Batch normalization: see `torch.nn.functional.batch_norm`.

    Parameters
    ----------
    input : Tensor
        Of shape (N, C, ...).
    running_mean, running_var : Tensor or None
        Stored statistics of shape (C,): moved in training, and used otherwise.
    weight, bias : Tensor, optional
        Scale and shift of shape (C,).
    training : bool
        Use the batch's own statistics.
    momentum : float
        Share of the new batch in the stored statistics.
    eps : float
        Added to the variance.

    Raises
    ------
    ValueError
        In training, if there is one value a channel.
    RuntimeError
        If a shape does not fit, or stored statistics are missing, or record gradients.

    Examples
    --------
    >>> import torch
    >>> from numbanorm.torch.functional import batch_norm
    >>> batch_norm(torch.tensor([[1.0], [3.0]]), None, None, training=True)
    tensor([[-1.0000],
            [ 1.0000]])
    """
    tensors = (input, running_mean, running_var, weight, bias)
    if has_torch_function_variadic(*tensors):
        more = {"weight": weight, "bias": bias, "training": training, "momentum": momentum, "eps": eps}
        return handle_torch_function(batch_norm, tensors, input, running_mean, running_var, **more)
    call = "batch_norm", bool(training), running_mean is None, running_var is None
    share = momentum if training and running_mean is not None else None
    if (made := repeated(call, input, weight, bias, eps, running_mean, running_var, share)) is not None:
        return made
    running = check_batch("batch_norm", input, running_mean, running_var, weight, bias, training)
    ways = norm.batch, norm.known_batch, (input.dim(),), Rule(as_eps(eps))
    return _by_batch(input, weight, bias, *ways, running, training, momentum, call)


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Instance normalization: see `torch.nn.functional.instance_norm`.

    Parameters
    ----------
    input : Tensor
        Of shape (N, C, ...), with three axes or more.
    running_mean, running_var : Tensor or None
        Stored statistics of shape (C,): moved by the mean over all samples, or used without `use_input_stats`.
    weight, bias, momentum, eps
        As in `batch_norm`.
    use_input_stats : bool
        Use each sample's own statistics.

    Examples
    --------
    >>> import torch
    >>> from numbanorm.torch.functional import instance_norm
    >>> instance_norm(torch.tensor([[[1.0, 3.0]]]))
    tensor([[[-1.0000,  1.0000]]])
    """
    tensors = (input, running_mean, running_var, weight, bias)
    if has_torch_function_variadic(*tensors):
        more = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
        more |= {"use_input_stats": use_input_stats, "momentum": momentum, "eps": eps}
        return handle_torch_function(instance_norm, tensors, input, **more)
    call = "instance_norm", bool(use_input_stats), running_mean is None, running_var is None
    share = momentum if use_input_stats and running_mean is not None else None
    if (made := repeated(call, input, weight, bias, eps, running_mean, running_var, share)) is not None:
        return made
    check_tensors("instance_norm", input, running_mean, running_var, weight=weight, bias=bias)
    check_axes(input)
    if use_input_stats and input.numel() == input.shape[0] * input.shape[1]:
        raise ValueError(f"Expected more than 1 spatial element when training, got input size {input.shape}")
    running = check_running(input, running_mean, running_var, use_input_stats, "use_input_stats is false")
    check_vectors(input, "weight", weight, "bias", bias)
    form, known = (norm.instance, norm.known_instance) if use_input_stats else (norm.batch, norm.known_batch)
    ways = form, known, (input.dim(),), Rule(as_eps(eps))
    return _by_batch(input, weight, bias, *ways, running, use_input_stats, momentum, call)


def batch_renorm(
    input: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    r_max: float = 3.0,
    d_max: float = 5.0,
) -> Tensor:
    """Batch renormalization: batch norm whose training output follows the stored statistics, within bounds.

    Parameters
    ----------
    input, running_mean, running_var, weight, bias, training, momentum, eps
        As in `batch_norm`; stored statistics are needed in training, too.
    r_max, d_max : float
        Bounds of the ratio of deviations and of the distance of means, as in `numbanorm.batch_renorm`.

    Notes
    -----
    S. Ioffe, arXiv:1702.03275. r and d are constants for gradients, as the paper has it.

    Examples
    --------
    >>> import torch
    >>> from numbanorm.torch.functional import batch_renorm
    >>> batch_renorm(torch.tensor([[1.0], [3.0]]), torch.ones(1), torch.ones(1), training=True, eps=0.0)
    tensor([[0.],
            [2.]])
    """
    tensors = (input, running_mean, running_var, weight, bias)
    if has_torch_function_variadic(*tensors):
        more = {"weight": weight, "bias": bias, "training": training, "momentum": momentum, "eps": eps}
        more |= {"r_max": r_max, "d_max": d_max}
        return handle_torch_function(batch_renorm, tensors, input, running_mean, running_var, **more)
    if not r_max >= 1 or not d_max >= 0:
        raise ValueError(f"r_max must be at least 1 and d_max not negative, got {r_max} and {d_max}")
    running = check_batch("batch_renorm", input, running_mean, running_var, weight, bias, training)
    if running is None:
        raise RuntimeError("running_mean and running_var must be defined for batch_renorm, in training, too")
    settings, rule = (input.dim(),), Rule(as_eps(eps))
    ways = norm.batch, norm.known_batch, settings, rule
    if not training:
        return normalized(input, weight, bias, *ways, stored=running)
    with torch.no_grad():
        mean, var = (one.double().clone() for one in running)  # of before
        own_mean, own_var = _moments_of_batch(input.detach())
        std = (var + rule.eps).sqrt()
        r = ((own_var + rule.eps).sqrt() / std).clamp(1 / r_max, r_max)
        d = ((own_mean - mean) / std).clamp(-d_max, d_max)
    scale = r if weight is None else weight * r
    shift = d if weight is None else weight * d
    shift = shift if bias is None else shift + bias
    return normalized(input, scale, shift, *ways, running=(*running, momentum))


def batch_instance_norm(
    input: Tensor,
    rho: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Batch-instance normalization: a blend of batch norm and instance norm, by channel.

    Parameters
    ----------
    input : Tensor
        Of shape (N, C, ...), with three axes or more.
    rho : Tensor
        Share of batch norm for each channel, of shape (C,), within 0 to 1; differentiable.
    weight, bias, eps
        As in `batch_norm`.

    Notes
    -----
    H. Nam and H.-E. Kim, arXiv:1805.07925: ``(rho * x_batch + (1 - rho) * x_instance) * weight + bias``.

    Examples
    --------
    >>> import torch
    >>> from numbanorm.torch.functional import batch_instance_norm
    >>> batch_instance_norm(torch.tensor([[[1.0, 3.0]], [[5.0, 7.0]]]), torch.tensor([0.0]))
    tensor([[[-1.0000,  1.0000]],
    <BLANKLINE>
            [[-1.0000,  1.0000]]])
    """
    tensors = (input, rho, weight, bias)
    if has_torch_function_variadic(*tensors):
        return handle_torch_function(batch_instance_norm, tensors, input, rho, weight=weight, bias=bias, eps=eps)
    check_tensors("batch_instance_norm", input, rho, weight=weight, bias=bias)
    check_axes(input)
    check_vectors(input, "rho", rho, "weight", weight, "bias", bias)
    if input.numel() == input.shape[0] * input.shape[1]:
        raise ValueError(f"Expected more than 1 spatial element when training, got input size {input.shape}")
    if not torch.compiler.is_compiling() and is_plain(rho):
        check_share(rho.detach())
    share = rho.double()
    scale, rest = (share, 1 - share) if weight is None else (share * weight, (1 - share) * weight)
    settings, rule = (input.dim(),), Rule(as_eps(eps))
    by_batch = normalized(input, scale, bias, norm.batch, norm.known_batch, settings, rule)
    return by_batch + normalized(input, rest, None, norm.instance, norm.known_instance, settings, rule)


def normalize(
    input: Tensor,
    layout: str | Layout | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    axis: int | Sequence[int] | None = None,
    eps: float = 1e-5,
    ddof: int = 0,
    eps_on: EpsOn = "var",
    **sizes: int,
) -> Tensor:
    """Normalize over any layout: see `numbanorm.normalize`.

    Parameters
    ----------
    input : Tensor
        What is normalized.
    layout, axis, **sizes
        Which elements share statistics: a pattern such as ``"n (g c) h w -> n g", g=32``, a `Layout`, or axes.
    weight, bias : Tensor, optional
        Scale and shift, in any shape that broadcasts against the input.
    eps, ddof, eps_on
        As in `numbanorm.normalize`.

    Examples
    --------
    >>> import torch
    >>> from numbanorm.torch.functional import normalize
    >>> normalize(torch.tensor([[1.0, 3.0, 10.0, 30.0]]), "n (g c) -> n g", g=2)
    tensor([[-1.0000,  1.0000, -1.0000,  1.0000]])
    """
    if has_torch_function_variadic(input, weight, bias):
        more = {"weight": weight, "bias": bias, "axis": axis, "eps": eps, "ddof": ddof, "eps_on": eps_on, **sizes}
        return handle_torch_function(normalize, (input, weight, bias), input, layout, **more)
    check_tensors("normalize", input, weight=weight, bias=bias)
    shape = tuple(index(size) for size in input.shape)  # numbers, where torch's compiler has symbols
    for name, parameter in (("weight", weight), ("bias", bias)):
        if parameter is not None and not broadcasts(parameter.shape, shape):
            raise RuntimeError(f"{name} of shape {list(parameter.shape)} does not broadcast against {list(shape)}")
    said = layout, axis, tuple(sizes.items()), shape, ddof
    of, settings = (
        (norm.of_parts, _parts_of(*said))
        if torch.compiler.is_compiling()
        else (norm.of_layout, (_layout_of(*said), shape))
    )
    rule = Rule(as_eps(eps), True, int(ddof), on_std(eps_on))
    return normalized(input, weight, bias, of, of, settings, rule)


def weight_standardize(weight: Tensor, dim: int = 0, *, eps: float = 1e-5, ddof: int = 0) -> Tensor:
    """Standardize a weight: mean 0 and variance 1 for each slice along an axis, usually that of outputs.

    Parameters
    ----------
    weight : Tensor
        Of two axes or more.
    dim : int
        The axis that is kept.
    eps : float
        Added to the variance.
    ddof : int
        Taken from the number of values: 1 for the unbiased variance.

    Notes
    -----
    S. Qiao et al., arXiv:1903.10520.

    Examples
    --------
    >>> import torch
    >>> from numbanorm.torch.functional import weight_standardize
    >>> weight_standardize(torch.tensor([[1.0, 3.0], [5.0, 5.0]]))
    tensor([[-1.0000,  1.0000],
            [ 0.0000,  0.0000]])
    """
    if has_torch_function_variadic(weight):
        return handle_torch_function(weight_standardize, (weight,), weight, dim, eps=eps, ddof=ddof)
    check_tensors("weight_standardize", weight)
    return normalize(weight, axis=_all_but(weight, dim), eps=eps, ddof=ddof)


def weight_norm(v: Tensor, g: Tensor, dim: int | None = 0) -> Tensor:
    """Weight normalization, g * v / norm(v), with one norm for each slice along an axis.

    Parameters
    ----------
    v : Tensor
        Direction of the weight. A slice of zeros has none, and gives zeros.
    g : Tensor
        Length of each slice: of v's shape, with 1 on every other axis.
    dim : int or None
        The axis that is kept; None: one norm over all of v.

    Notes
    -----
    T. Salimans and D. P. Kingma, arXiv:1602.07868.

    Examples
    --------
    >>> import torch
    >>> from numbanorm.torch.functional import weight_norm
    >>> weight_norm(torch.tensor([[3.0, 4.0]]), torch.tensor([[10.0]]))
    tensor([[6., 8.]])
    """
    if has_torch_function_variadic(v, g):
        return handle_torch_function(weight_norm, (v, g), v, g, dim=dim)
    check_tensors("weight_norm", v, g)
    axes = tuple(range(v.dim())) if dim is None else _all_but(v, dim)
    wanted = [1 if axis in axes else size for axis, size in enumerate(v.shape)]
    if list(g.shape) != wanted and (dim is not None or g.numel() != 1):
        raise RuntimeError(f"g should have shape {wanted} for v of shape {list(v.shape)}, but has {list(g.shape)}")
    size = 1
    for axis in axes:
        size *= v.shape[axis]
    return normalized(v, g.double() / size**0.5, None, norm.over, norm.known_over, (axes,), Rule(0.0, False))


def _all_but(weight: Any, dim: int) -> tuple[int, ...]:
    """All axes but one."""
    if weight.dim() < 2 or not -weight.dim() <= dim < weight.dim():
        raise IndexError(f"expected a weight of two axes or more that has dim={dim}, but got {list(weight.shape)}")
    return tuple(axis for axis in range(weight.dim()) if axis != dim % weight.dim())


def _layout_of(layout: Any, axis: Any, sizes: tuple[tuple[str, int], ...], shape: tuple[int, ...], ddof: int) -> Layout:
    """The layout that a caller's arguments mean, if it and ddof fit a shape."""
    chosen = as_layout(layout, axis, dict(sizes), normalize)
    if isinstance(chosen, Segments):
        raise NotImplementedError(
            "Layout.segments has no gradients in numbanorm.torch yet; numbanorm.normalize takes it, without gradients"
        )
    degrees, size = as_int(ddof, "ddof"), chosen.resolve(shape).group_size
    if degrees < 0 or (0 not in shape and size <= degrees):
        raise ValueError(f"ddof={ddof} needs groups of more than {ddof} values, but those of input have {size}")
    return chosen


@torch.compiler.assume_constant_result  # of constants: layouts are objects that torch's compiler does not follow
def _parts_of(*said: Any) -> tuple[Any, ...]:
    """Axes that are split, and those that are reduced then."""
    if isinstance(said[0], Layout) and not hasattr(said[0], "_hash"):
        raise TypeError(
            "layout is made within a function that torch.compile follows, which makes no such objects; make it outside "
            "of that function, or pass its pattern"
        )
    form = norm.of_layout(_layout_of(*said), said[-2])
    return form.split, form.dims


def _by_batch(
    x: Any,
    weight: Any,
    bias: Any,
    form: Any,
    known: Any,
    settings: Any,
    rule: Rule,
    running: Any,
    own: Any,
    share: Any,
    call: Any,
) -> Any:
    """By the statistics of x, towards which running ones move, or by running ones."""
    ways = form, known, settings, rule
    if not own:
        return normalized(x, weight, bias, *ways, stored=running, call=call)
    moved = None
    if running is not None and x.numel():
        if not 0 <= share <= 1:
            raise ValueError(f"momentum must be within 0 to 1, got {share}")
        moved = (*running, float(share))
    return normalized(x, weight, bias, *ways, running=moved, call=call)


def _moments_of_batch(x: Any) -> tuple[Any, Any]:
    """Mean and variance of every channel."""
    form = norm.batch(x.dim())
    count = x.numel() // x.shape[1] if x.numel() else 1
    if torch.compiler.is_compiling():
        _, mean, m2 = torch.ops.numbanorm.norm.default(x, None, None, None, None, list(form.dims), 1e-5, True, 0, False)
        return mean, m2 / count
    values = x.double()
    return values.mean(form.dims), values.var(form.dims, correction=0)


def _least_eps(dtype: Any) -> float:
    """The machine epsilon of what torch computes with."""
    return torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).eps
