"""How JAX is called: a layer as Flax writes it, compiled for its shape, on arrays that are on the device before.

Statistics are those of Flax's default: E[x²] - E[x]² in float32 or wider, which XLA reads x only once for.
"""

from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import numbanorm as nbn

from ..case import Arrays, Call, Case
from ..contenders import Unfit
from ..machine import cores


def prepare(case: Case, a: Arrays, out: np.ndarray | None) -> Call | None:
    """Compile a case; a call ends when the output is there."""
    if nbn.get_num_threads() < cores():
        raise Unfit("a running JAX cannot be held to fewer threads than it finds cores")
    if out is not None:
        return None
    with jax.enable_x64(a.x.dtype == np.float64):
        arrays = tuple(
            None if array is None else jnp.asarray(array) for array in (a.x, a.weight, a.bias, a.mean, a.var)
        )
        run = jax.jit(partial(FORMULAS.get(case.norm, normalize), case)).lower(*arrays).compile()
    if case.norm in ("moments", "batch_norm"):
        return lambda: jax.block_until_ready(run(*arrays))
    return lambda: run(*arrays).block_until_ready()


def on_gpu(case: Case, a: Arrays, out: Any) -> Call | None:
    """Take torch's tensors where they lie. A call queues its work on a stream of JAX's own: `wait` waits for it."""
    if out is not None:
        return None
    arrays = tuple(jax.dlpack.from_dlpack(tensor) for tensor in (a.x, a.weight, a.bias, a.mean, a.var))
    run = compile_for(case)

    def call() -> Any:
        return run(*arrays)

    call.wait = jax.block_until_ready
    return call


@lru_cache(maxsize=1)
def compile_for(case: Case) -> Any:
    """Compile once for a case, whose arrays may be there several times."""
    shapes = (case.shape, *[(case.channels,)] * 4)
    arrays = [jax.ShapeDtypeStruct(shape, case.dtype) for shape in shapes]
    return jax.jit(partial(FORMULAS.get(case.norm, normalize), case)).lower(*arrays).compile()


def normalize(case: Case, x: Any, weight: Any, bias: Any, mean: Any, var: Any) -> Any:
    """Layer, group and instance norm."""
    return scaled(case, x, *statistics(case, x), weight, bias)


def batch_norm(case: Case, x: Any, weight: Any, bias: Any, mean: Any, var: Any) -> tuple[Any, Any, Any]:
    """Batch norm in training: returns the running statistics too."""
    own_mean, own_var = statistics(case, x)
    count = x.size // mean.size
    new_mean = 0.9 * mean + 0.1 * own_mean.reshape(-1)
    new_var = 0.9 * var + 0.1 * own_var.reshape(-1) * (count / (count - 1))
    y = scaled(case, x, own_mean, own_var, weight, bias)
    return y, new_mean.astype(mean.dtype), new_var.astype(var.dtype)


def batch_norm_eval(case: Case, x: Any, weight: Any, bias: Any, mean: Any, var: Any) -> Any:
    """Batch norm in evaluation."""
    return scaled(case, x, mean.reshape(case.affine), var.reshape(case.affine), weight, bias)


def rms_norm(case: Case, x: Any, weight: Any, bias: Any, mean: Any, var: Any) -> Any:
    """RMS norm."""
    x_wide = wide(x)
    square = jnp.square(x_wide).mean(case.axes, keepdims=True)
    return (x_wide * (jax.lax.rsqrt(square + case.eps) * weight)).astype(x.dtype)


def moments(case: Case, x: Any, weight: Any, bias: Any, mean: Any, var: Any) -> tuple[Any, Any]:
    """Mean and variance."""
    return statistics(case, x)


FORMULAS = {"batch_norm": batch_norm, "batch_norm_eval": batch_norm_eval, "rms_norm": rms_norm, "moments": moments}


def wide(x: Any) -> Any:
    """Widen float16 and bfloat16, as Flax does."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def statistics(case: Case, x: Any) -> tuple[Any, Any]:
    """Mean and variance of each group."""
    view = wide(x.reshape(case.view))
    mean = view.mean(case.axes, keepdims=True)
    return mean, jnp.maximum(0, jnp.square(view).mean(case.axes, keepdims=True) - jnp.square(mean))


def scaled(case: Case, x: Any, mean: Any, var: Any, weight: Any, bias: Any) -> Any:
    """(x - mean) / sqrt(var + eps) * weight + bias, in the dtype of x."""
    scale = jax.lax.rsqrt(wide(var) + case.eps) * weight.reshape(case.affine)
    y = (wide(x.reshape(case.view)) - mean) * scale + bias.reshape(case.affine)
    return y.reshape(x.shape).astype(x.dtype)
