"""The named norms: a Layout each, and for some of them running statistics."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.memory import Array, together
from ..arrays.take import result_dtype, view
from ..call import known as calls
from ..cpu import engine
from ..cpu.engine import States
from ..cuda.known import Bound, running_of
from ..layout import Layout, as_int
from ..normalization import check_eps, check_number, transform
from .channels import Channels, shape_of
from .running import Running, check_momentum


def batch_norm(
    x: ArrayLike,
    running_mean: Any = None,
    running_var: Any = None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
    *,
    channel_axis: int = 1,
    out: Any = None,
) -> Any:
    """Batch normalization: every channel by its statistics over the batch, or by stored ones.

    Parameters
    ----------
    x : array_like
        Of two axes or more, such as (N, C), (N, C, L), (N, C, H, W), or with channels on another axis.
    running_mean, running_var : array of float, optional
        Stored statistics of shape (C,). In training they are updated in place, both or neither;
        otherwise they normalize x.
    weight, bias : array_like, optional
        Scale and shift of shape (C,).
    training : bool
        Normalize by the batch's own statistics, and update the running ones.
    momentum : float or None
        Share of the new batch in the running statistics, 0 to 1: ``(1 - momentum) * old + momentum * new``. None: the
        mean over all batches so far; their number is kept with the running_mean array for as long as that lives.
    eps : float
        Added to the variance.
    channel_axis : int
        Axis of the channels: 1 as in torch, -1 for channels last.
    out : array, optional
        Where to write the result; x itself to work in place.

    Returns
    -------
    array
        As x: its type, shape, memory order, device and dtype (float64 for integers and booleans).

    Raises
    ------
    ValueError
        If a shape does not fit, there is one value a channel in training, momentum is outside 0 to 1, or eps is
        negative.
    TypeError
        If an array is of a kind or dtype that is not supported.

    Notes
    -----
    S. Ioffe and C. Szegedy, arXiv:1502.03167. As in torch, x is normalized by the biased variance, and the running
    variance takes the unbiased one.

    Examples
    --------
    >>> import numbanorm as nbn
    >>> import numpy as np
    >>> x = np.array([[1.0, 10.0], [3.0, 30.0]])
    >>> mean, var = np.zeros(2), np.ones(2)
    >>> nbn.batch_norm(x, mean, var, training=True).round(3)
    array([[-1., -1.],
           [ 1.,  1.]])
    >>> mean, var
    (array([0.2, 2. ]), array([ 1.1, 20.9]))
    """
    training = bool(training)
    known = _described(x, running_mean, running_var, weight, bias, out, "batch", training, channel_axis)
    if call := calls.find(known, eps, out, x, running_mean, running_var, weight, bias):
        return _repeated(call, x, running_mean, running_var, weight, bias, eps, out, training, momentum)
    given = Channels.of(x, channel_axis, weight, bias)
    running = Running.take(x, running_mean, running_var, given.x.channels, update=training)
    layout, factor = Layout.batch(given.x.axis), check_momentum(momentum)
    if not training:
        return _normalized(x, layout, given, running, eps, out, False, known)[0]
    given.x.check_training()
    result, states = _normalized(x, layout, given, running, eps, out, True, known)
    if running is not None and states is not None and given.x.values > 0:
        running.update(states, factor)
    return result


def instance_norm(
    x: ArrayLike,
    running_mean: Any = None,
    running_var: Any = None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    use_input_stats: bool = True,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
    *,
    channel_axis: int = 1,
    out: Any = None,
) -> Any:
    """Instance normalization: every channel of every sample by its own statistics.

    Parameters
    ----------
    x : array_like
        Of three axes or more: samples, channels and at least one more.
    running_mean, running_var : array of float, optional
        Stored statistics of shape (C,): updated in place by the mean over the samples, or used where
        `use_input_stats` is False.
    weight, bias : array_like, optional
        Scale and shift of shape (C,).
    use_input_stats : bool
        False: normalize by the stored statistics instead.
    momentum : float or None
        As in `batch_norm`.
    eps : float
        Added to the variance.
    channel_axis : int
        Axis of the channels; axis 0 is the samples.
    out : array, optional
        Where to write the result; x itself to work in place.

    Returns
    -------
    array
        As x.

    Raises
    ------
    ValueError
        If a shape does not fit, there is one value a channel and sample, momentum is outside 0 to 1, or eps is
        negative.
    TypeError
        If an array is of a kind or dtype that is not supported.

    Notes
    -----
    D. Ulyanov, A. Vedaldi and V. Lempitsky, arXiv:1607.08022.

    Examples
    --------
    >>> import numbanorm as nbn
    >>> import numpy as np
    >>> x = np.array([[[1.0, 2.0, 3.0], [40.0, 50.0, 60.0]]])
    >>> nbn.instance_norm(x).round(3)
    array([[[-1.225,  0.   ,  1.225],
            [-1.225,  0.   ,  1.225]]])
    """
    use_input_stats = bool(use_input_stats)
    known = _described(x, running_mean, running_var, weight, bias, out, "instance", use_input_stats, channel_axis)
    if call := calls.find(known, eps, out, x, running_mean, running_var, weight, bias):
        return _repeated(call, x, running_mean, running_var, weight, bias, eps, out, use_input_stats, momentum)
    given = Channels.of(x, channel_axis, weight, bias)
    running = Running.take(x, running_mean, running_var, given.x.channels, update=use_input_stats)
    factor = check_momentum(momentum)
    if not use_input_stats:
        return _normalized(x, Layout.batch(given.x.axis), given, running, eps, out, False, known)[0]
    layout = Layout.instance(given.x.axis)
    layout.resolve(given.x.shape)
    if given.x.spatial == 1:
        raise ValueError(
            f"x of shape {given.x.shape} has one value for each channel of each sample: nothing is left to normalize; "
            "give it a further axis"
        )
    result, states = _normalized(x, layout, given, running, eps, out, True, known)
    if running is not None and states is not None and given.x.values > 0:
        running.update(states, factor)
    return result


def layer_norm(
    x: ArrayLike,
    normalized_shape: int | Sequence[int],
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    out: Any = None,
) -> Any:
    """Layer normalization: the last axes by their statistics, every sample and position by itself.

    Parameters
    ----------
    x : array_like
        Its last axes have the shape `normalized_shape`.
    normalized_shape : int or sequence of int
        Shape of what is normalized together.
    weight, bias : array_like, optional
        Scale and shift of shape `normalized_shape`.
    eps : float
        Added to the variance.
    out : array, optional
        Where to write the result; x itself to work in place.

    Returns
    -------
    array
        As x.

    Raises
    ------
    ValueError
        If x does not end in `normalized_shape`, weight or bias has another shape, or eps is negative.
    TypeError
        If an array is of a kind or dtype that is not supported.

    Notes
    -----
    J. L. Ba, J. R. Kiros and G. E. Hinton, arXiv:1607.06450.

    Examples
    --------
    >>> import numbanorm as nbn
    >>> import numpy as np
    >>> nbn.layer_norm(np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 60.0]]), 3).round(3)
    array([[-1.225,  0.   ,  1.225],
           [-0.926, -0.463,  1.389]])
    """
    known = _described_last(x, normalized_shape, weight, bias, out, "layer")
    if call := calls.find(known, eps, out, x, weight, bias):
        return calls.repeat(call, x, weight, bias, eps, out)[0]
    layout, weight, bias = _last_axes(x, normalized_shape, weight, bias)
    return transform(x, layout, weight, bias, eps=eps, out=out, known=known)[0]


def rms_norm(
    x: ArrayLike,
    normalized_shape: int | Sequence[int],
    weight: ArrayLike | None = None,
    eps: float | None = None,
    *,
    out: Any = None,
) -> Any:
    """Root mean square normalization: x / sqrt(mean(x**2) + eps) * weight over the last axes.

    Parameters
    ----------
    x : array_like
        Its last axes have the shape `normalized_shape`.
    normalized_shape : int or sequence of int
        Shape of what is normalized together.
    weight : array_like, optional
        Scale of shape `normalized_shape`.
    eps : float, optional
        Added to the mean square; by default the machine epsilon of x's dtype, as in torch.
    out : array, optional
        Where to write the result; x itself to work in place.

    Returns
    -------
    array
        As x.

    Raises
    ------
    ValueError
        If x does not end in `normalized_shape`, weight has another shape, or eps is negative.
    TypeError
        If an array is of a kind or dtype that is not supported.

    Notes
    -----
    B. Zhang and R. Sennrich, arXiv:1910.07467.

    Examples
    --------
    >>> import numbanorm as nbn
    >>> import numpy as np
    >>> nbn.rms_norm(np.array([[3.0, 4.0, 0.0, 0.0]]), 4).round(3)
    array([[1.2, 1.6, 0. , 0. ]])
    """
    if eps is None:
        eps = _default_eps(x)
    known = _described_last(x, normalized_shape, weight, None, out, "rms")
    if call := calls.find(known, eps, out, x, weight):
        return calls.repeat(call, x, weight, None, eps, out)[0]
    layout, weight, _ = _last_axes(x, normalized_shape, weight, None)
    return transform(x, layout, weight, eps=eps, center=False, out=out, known=known)[0]


def group_norm(
    x: ArrayLike,
    num_groups: int,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    channel_axis: int = 1,
    out: Any = None,
) -> Any:
    """Group normalization: every sample's channels in `num_groups` sets of neighbours, each by its own statistics.

    Parameters
    ----------
    x : array_like
        Of two axes or more: samples, channels, and any others.
    num_groups : int
        How many groups; it divides the number of channels.
    weight, bias : array_like, optional
        Scale and shift of shape (C,).
    eps : float
        Added to the variance.
    channel_axis : int
        Axis of the channels; axis 0 is the samples.
    out : array, optional
        Where to write the result; x itself to work in place.

    Returns
    -------
    array
        As x.

    Raises
    ------
    ValueError
        If num_groups does not divide the channels, a shape does not fit, all of x is one value a group, or eps is
        negative.
    TypeError
        If an array is of a kind or dtype that is not supported.

    Notes
    -----
    Y. Wu and K. He, arXiv:1803.08494. One group is layer norm over all but the samples; as many groups as channels
    is instance norm.

    Examples
    --------
    >>> import numbanorm as nbn
    >>> import numpy as np
    >>> x = np.array([[2.0, 3, 5, 7, 11, 13, 17, 19]]).reshape(1, 4, 1, 2)
    >>> nbn.group_norm(x, 2).round(3).ravel()
    array([-1.172, -0.651,  0.391,  1.432, -1.265, -0.632,  0.632,  1.265])
    """
    settings = "group", num_groups, type(num_groups), channel_axis, type(channel_axis)
    known = calls.describe(x, weight, bias, out, *settings)
    if call := calls.find(known, eps, out, x, weight, bias):
        return calls.repeat(call, x, weight, bias, eps, out)[0]
    given = Channels.of(x, channel_axis, weight, bias)
    num_groups = as_int(num_groups, "num_groups")
    layout = Layout.group(num_groups, given.x.axis)
    layout.resolve(given.x.shape)
    if given.x.shape[0] * given.x.channels // num_groups * given.x.spatial == 1:
        raise ValueError(f"x of shape {given.x.shape} in {num_groups} groups has one value a group; use fewer groups")
    return transform(x, layout, given.weight, given.bias, eps=eps, out=out, known=known)[0]


def batch_renorm(
    x: ArrayLike,
    running_mean: Any,
    running_var: Any,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
    *,
    r_max: float = 3.0,
    d_max: float = 5.0,
    channel_axis: int = 1,
    out: Any = None,
) -> Any:
    """Batch renormalization: batch norm whose training output follows the running statistics, within bounds.

    Parameters
    ----------
    x : array_like
        Of two axes or more.
    running_mean, running_var : array of float
        Stored statistics of shape (C,), updated in place in training.
    weight, bias : array_like, optional
        Scale and shift of shape (C,).
    training : bool
        Use the batch's statistics, corrected towards the running ones; otherwise the running ones, as batch norm.
    momentum : float or None
        As in `batch_norm`.
    eps : float
        Added to both variances.
    r_max : float
        Bound of the ratio of standard deviations, at least 1. 1 with d_max=0 is batch norm.
    d_max : float
        Bound of the distance of the means, in running standard deviations; not negative.
    channel_axis : int
        Axis of the channels.
    out : array, optional
        Where to write the result; x itself to work in place.

    Returns
    -------
    array
        As x.

    Raises
    ------
    ValueError
        If a shape does not fit, there is one value a channel in training, or a bound is out of range.
    TypeError
        If an array is of a kind or dtype that is not supported.

    Notes
    -----
    S. Ioffe, arXiv:1702.03275: ``(x - mean) / std * r + d`` with ``r = clip(std / running_std, 1 / r_max, r_max)`` and
    ``d = clip((mean - running_mean) / running_std, -d_max, d_max)``. The paper starts with r_max=1, d_max=0 and
    raises them to 3 and 5. The running variance is updated as in `batch_norm`, after its use.

    Examples
    --------
    >>> import numbanorm as nbn
    >>> import numpy as np
    >>> x = np.array([[1.0], [3.0]])
    >>> nbn.batch_renorm(x, np.array([1.0]), np.array([1.0]), training=True, eps=0)
    array([[0.],
           [2.]])
    """
    if not check_number(r_max, "r_max") >= 1:
        raise ValueError(f"r_max must be at least 1, got {r_max}")
    if not check_number(d_max, "d_max") >= 0:
        raise ValueError(f"d_max must not be negative, got {d_max}")
    given = Channels.of(x, channel_axis, weight, bias)
    running = Running.take(x, running_mean, running_var, given.x.channels, update=training)
    layout, factor, eps = Layout.batch(given.x.axis), check_momentum(momentum), check_eps(eps)
    if running is None or not training:
        return _normalized(x, layout, given, running, eps, out, False)[0]
    given.x.check_training()
    array = view(x)
    together(array, {"weight": given.weight, "bias": given.bias})
    states = engine.reduce(layout, array)
    bounds = eps, float(r_max), float(d_max)
    scale, shift = engine.pointwise("renorm", 2, *states, running.mean, running.var, *given.factors, *bounds)
    result, _ = transform(
        x, layout, given.along(scale), given.along(shift), eps=eps, states=states, out=out, apart=running.arrays
    )
    if given.x.values > 0:
        running.update(states, factor)
    return result


def batch_instance_norm(
    x: ArrayLike,
    rho: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    channel_axis: int = 1,
    out: Any = None,
) -> Any:
    """Batch-instance normalization: a blend of batch norm and instance norm, by channel.

    Parameters
    ----------
    x : array_like
        Of three axes or more: samples, channels and at least one more.
    rho : array_like
        Share of batch norm for each channel, of shape (C,), within 0 to 1; on a GPU that is not checked, as nothing
        waits for its values.
    weight, bias : array_like, optional
        Scale and shift of shape (C,).
    eps : float
        Added to both variances.
    channel_axis : int
        Axis of the channels; axis 0 is the samples.
    out : array, optional
        Where to write the result; x itself to work in place.

    Returns
    -------
    array
        As x.

    Raises
    ------
    ValueError
        If a shape does not fit, or a rho is outside 0 to 1.
    TypeError
        If an array is of a kind or dtype that is not supported.

    Notes
    -----
    H. Nam and H.-E. Kim, arXiv:1805.07925: ``(rho * x_batch + (1 - rho) * x_instance) * weight + bias``. The batch's
    statistics are merged from those of the instances, so x is read once for both.

    Examples
    --------
    >>> import numbanorm as nbn
    >>> import numpy as np
    >>> x = np.array([[[1.0, 3.0]], [[5.0, 7.0]]])
    >>> nbn.batch_instance_norm(x, [1.0]).round(3).ravel()
    array([-1.342, -0.447,  0.447,  1.342])
    >>> nbn.batch_instance_norm(x, [0.0]).round(3).ravel()
    array([-1.,  1., -1.,  1.])
    """
    given = Channels.of(x, channel_axis, weight, bias)
    layout = Layout.instance(given.x.axis)
    layout.resolve(given.x.shape)
    eps = check_eps(eps)
    share, array = given.vector(rho, "rho").reshape((given.x.channels,)), view(x)
    together(array, {"rho": share, "weight": given.weight, "bias": given.bias})
    # On a GPU one would have to wait for the answer.
    if isinstance(share, np.ndarray) and not np.all((share >= 0) & (share <= 1)):
        raise ValueError(f"rho must be within 0 to 1, got values from {share.min()} to {share.max()}; clip it")
    count, mean, m2 = engine.reduce(layout, array)
    whole = engine.merge_last((count.T, mean.T, m2.T))
    slope, shift, one = engine.pointwise("blend", 3, count, mean, m2, *whole, share, *given.factors, eps)
    spread = tuple(n if i in (0, given.x.axis) else 1 for i, n in enumerate(given.x.shape))
    return transform(
        x, layout, slope.reshape(spread), shift.reshape(spread), eps=0.0, states=(None, mean, one), out=out
    )[0]


def _normalized(
    x: Any,
    layout: Layout,
    given: Channels,
    running: Running | None,
    eps: float,
    out: Any,
    own: bool,
    known: calls.Description | None = None,
) -> tuple[Any, States | None]:
    """Normalize by x's own statistics, and return them where running ones wait for them; or by the running ones."""
    if not own and running is None:
        raise ValueError("running_mean and running_var are needed where the batch's own statistics are not used")
    return transform(
        x,
        layout,
        given.weight,
        given.bias,
        eps=eps,
        states=None if own or running is None else running.stored,
        out=out,
        keep=own and running is not None,
        apart=None if running is None else running.arrays,
        known=known,
    )


def _described(
    x: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any,
    bias: Any,
    out: Any,
    name: str,
    own: bool,
    channel_axis: int,
) -> calls.Description | None:
    """Describe a call with or without running statistics."""
    stored = None
    if running_mean is not None or running_var is not None:
        stored = calls.describe(running_mean, running_var, None, None)
        if stored is None:
            return None
    return calls.describe(x, weight, bias, out, name, own, channel_axis, type(channel_axis), stored=stored)


def _repeated(
    call: calls.Known,
    x: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any,
    bias: Any,
    eps: float,
    out: Any,
    own: bool,
    momentum: float | None,
) -> Any:
    """Make a known call by x's own statistics, or by the running ones."""
    factor = check_momentum(momentum)
    if running_mean is None or (isinstance(call, Bound) and not own):  # which knows its running statistics
        return calls.repeat(call, x, weight, bias, eps, out)[0]
    if isinstance(call, Bound):
        mean, var = running_of(call)
        running = Running(mean, var, running_mean)
    else:
        running = Running(running_mean, running_var, running_mean)
        if not own:
            return calls.repeat(call, x, weight, bias, eps, out, states=running.stored)[0]
        running.check_memory(x)
    result, states = calls.repeat(call, x, weight, bias, eps, out, keep=True)
    running.update(states, factor)  # type: ignore[arg-type]
    return result


def _described_last(
    x: Any, normalized_shape: Any, weight: Any, bias: Any, out: Any, name: str
) -> calls.Description | None:
    """Describe a call that normalizes the last axes."""
    if type(normalized_shape) is int:
        normalized_shape = (normalized_shape,)
    elif not isinstance(normalized_shape, tuple | list):
        return None
    return calls.describe(x, weight, bias, out, name, *normalized_shape, *map(type, normalized_shape))


_eps_of: dict[Any, float] = {}  # by dtype, of any library


def _default_eps(x: Any) -> float:
    """Machine epsilon of the result for x."""
    try:
        return _eps_of[x.dtype]
    except (AttributeError, KeyError, TypeError):
        eps = _smallest_step(result_dtype(view(x).dtype))
    with suppress(AttributeError, TypeError):
        _eps_of[x.dtype] = eps
    return eps


def _smallest_step(dtype: np.dtype) -> float:
    return 2.0**-7 if dtype.name == "bfloat16" else float(np.finfo(dtype).eps)


def _last_axes(x: Any, normalized_shape: Any, weight: Any, bias: Any) -> tuple[Layout, Any, Any]:
    """Layout of the last axes, and weight and bias checked against their shape."""
    sizes = (normalized_shape,) if hasattr(normalized_shape, "__index__") else tuple(normalized_shape)
    sizes = tuple(as_int(n, "normalized_shape") for n in sizes)
    shape = shape_of(x)
    if not sizes:
        raise ValueError(f"normalized_shape is empty; x has shape {shape}, give at least its last axis")
    if len(shape) < len(sizes) or shape[len(shape) - len(sizes) :] != sizes:
        raise ValueError(f"normalized_shape={sizes} is not the end of x's shape {shape}; pass its last axes")
    checked: list[Array | None] = []
    for value, name in ((weight, "weight"), (bias, "bias")):
        array = None if value is None else view(value, name)
        if array is not None and array.shape != sizes:
            raise ValueError(f"{name} has shape {array.shape}, but normalized_shape is {sizes}; pass that shape")
        checked.append(array)
    return Layout.layer(len(sizes)), checked[0], checked[1]
