"""Lanes: a vector of WIDTH numbers with the operators of a scalar.

The one scalar mathematics of `maths` runs on lanes unchanged. Nothing here relies on the auto-vectoriser or
on fast-math: the same operations are made in the same order for every run.
"""

import operator
from functools import partial
from types import FunctionType

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba.core import cgutils, types
from numba.core.datamodel import models, register_default
from numba.core.extending import intrinsic, type_callable
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature

from ...maths import accumulators, welford
from .compiling import as_parts
from .constants import LANES

WIDTH = LANES
FEATURES = get_host_cpu_features()
UNROLL = bool(FEATURES.get("avx512f"))  # 32 registers hold a second pair of sums
LOOKS_AHEAD = UNROLL  # such processors read ahead by themselves; others gain where kernels ask, and keep to its order

I1, I8, I16, I32, I64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))
FLOATS = {"f2": ir.HalfType(), "f4": ir.FloatType(), "f8": ir.DoubleType()}
FLOAT_OF = {types.float32: FLOATS["f4"], types.float64: FLOATS["f8"]}
NUMBER_OF = FLOAT_OF | {types.int32: I32}  # lanes of whole numbers are for sums of bytes


class Lanes(types.Type):
    """WIDTH values of `dtype` (float32, float64, int32, or boolean for a comparison)."""

    def __init__(self, dtype):
        self.dtype = dtype
        super().__init__(name=f"Lanes({dtype})")


@register_default(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        element = I1 if fe_type.dtype == types.boolean else NUMBER_OF[fe_type.dtype]
        super().__init__(dmm, fe_type, ir.VectorType(element, WIDTH))


# -- helpers of the code generator, here and in `intrinsics` ---------------------------------------------------------
def vector(element):
    """LLVM type of WIDTH elements."""
    return ir.VectorType(element, WIDTH)


def splat_value(builder, value):
    """Emit a scalar in every lane."""
    empty = ir.Constant(vector(value.type), ir.Undefined)
    first = builder.insert_element(empty, value, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, empty, ir.Constant(vector(I32), [0] * WIDTH))


def first_lanes(builder, count):
    """Mask of the lanes below `count`: by comparison, as to spread the bits of a number takes AVX2 40 instructions."""
    numbers = ir.Constant(vector(I32), list(range(WIDTH)))
    return builder.icmp_signed("<", numbers, splat_value(builder, builder.trunc(count, I32)))


def call_named(builder, name, result, args):
    """Emit a call of a function by its name, such as one of LLVM's own."""
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, [a.type for a in args]), name)
    return builder.call(function, args)


def suffix(typ):
    """How LLVM spells a type in the names of its functions."""
    if isinstance(typ, ir.VectorType):
        return f"v{typ.count}{suffix(typ.element)}"
    return {FLOATS["f4"]: "f32", FLOATS["f8"]: "f64"}.get(typ) or f"i{typ.width}"


def lanes_of(scalar):
    """Lanes for the scalar type that a kernel passes as `like`."""
    if scalar not in NUMBER_OF:
        raise TypeError(f"like must be a float32, float64 or int32 scalar, got {scalar}")
    return Lanes(scalar)


# -- operations ------------------------------------------------------------------------------------------------------
@intrinsic
def splat(typingctx, scalar):
    """A scalar in every lane."""

    def codegen(context, builder, sig, args):
        return splat_value(builder, args[0])

    return lanes_of(scalar)(scalar), codegen


@intrinsic
def convert(typingctx, value, like):
    """A float64 scalar, or lanes of numbers, as or rounded to `like`'s float type."""
    result = Lanes(like) if isinstance(value, Lanes) else like

    def codegen(context, builder, sig, args):
        target = context.get_value_type(result)
        if args[0].type == target:
            return args[0]
        if isinstance(value, Lanes) and value.dtype == types.int32:
            return builder.sitofp(args[0], target)
        narrower = like == types.float32
        return (builder.fptrunc if narrower else builder.fpext)(args[0], target)

    return result(value, like), codegen


@intrinsic
def first(typingctx, lanes, count):
    """Lanes below `count`, zeros above."""

    def codegen(context, builder, sig, args):
        value, n = args
        return builder.select(first_lanes(builder, n), value, ir.Constant(value.type, None))

    return lanes(lanes, types.int64), codegen


@intrinsic
def joined(typingctx, left, right, count):
    """Lanes below `count` of one, from there on of the other."""

    def codegen(context, builder, sig, args):
        a, b, n = args
        return builder.select(first_lanes(builder, n), a, b)

    return left(left, right, types.int64), codegen


@intrinsic
def lead(typingctx, lanes):
    """The first lane, as a number."""

    def codegen(context, builder, sig, args):
        return builder.extract_element(args[0], ir.Constant(I32, 0))

    return lanes.dtype(lanes), codegen


@intrinsic
def with_lead(typingctx, lanes, number):
    """Lanes with another first one."""

    def codegen(context, builder, sig, args):
        return builder.insert_element(*args, ir.Constant(I32, 0))

    return lanes(lanes, lanes.dtype), codegen


@intrinsic
def total(typingctx, lanes):
    """Sum of all lanes, halved in a fixed order."""

    def codegen(context, builder, sig, args):
        (value,) = args
        width = WIDTH
        while width > 1:
            width //= 2
            low = ir.Constant(ir.VectorType(I32, width), list(range(width)))
            high = ir.Constant(ir.VectorType(I32, width), list(range(width, 2 * width)))
            value = builder.fadd(builder.shuffle_vector(value, value, low), builder.shuffle_vector(value, value, high))
        return builder.extract_element(value, ir.Constant(I32, 0))

    return lanes.dtype(lanes), codegen


@intrinsic(prefer_literal=True)
def halved(typingctx, left, right, width):
    """Of two lanes, each in groups of `width`, a literal, the sums of the halves of every group: those of the left
    lanes before those of the right ones. By width 16, 8, 4, 2, it makes the `total` of each of 16 lanes.
    """

    def codegen(context, builder, sig, args):
        a, b, _ = args
        size = width.literal_value
        low = [k for at in range(0, 2 * WIDTH, size) for k in range(at, at + size // 2)]
        halves = [ir.Constant(vector(I32), [k + shift for k in low]) for shift in (0, size // 2)]
        return builder.fadd(*(builder.shuffle_vector(a, b, half) for half in halves))

    return left(left, right, width), codegen


@intrinsic(prefer_literal=True)
def every_other(typingctx, lanes, begin):
    """Every other of the lanes, the first of them `begin`, a literal of 0 or 1; behind them the others."""

    def codegen(context, builder, sig, args):
        at = begin.literal_value
        numbers = [*range(at, WIDTH, 2), *range(1 - at, WIDTH, 2)]
        return builder.shuffle_vector(args[0], args[0], ir.Constant(vector(I32), numbers))

    return lanes(lanes, begin), codegen


_FLOAT_OPS = {operator.add: "fadd", operator.sub: "fsub", operator.mul: "fmul", operator.truediv: "fdiv"}


def _emit(builder, a, b, name):
    """An operation by its name for floats, on lanes of floats or of whole numbers."""
    return getattr(builder, name[1:] if a.type.element == I32 else name)(a, b)


def _pair(args):
    """The Lanes type of an operation on lanes and lanes, or lanes and a scalar; None if it is neither."""
    lanes = [a for a in args if isinstance(a, Lanes)]
    if len(args) != 2 or not lanes or lanes[0].dtype == types.boolean:
        return None
    return lanes[0]


def _operands(context, builder, sig, args, lanes):
    for value, typ in zip(args, sig.args, strict=True):
        yield value if isinstance(typ, Lanes) else splat_value(builder, context.cast(builder, value, typ, lanes.dtype))


def _define(op, emit, boolean=False):
    @infer_global(op)
    class _Template(AbstractTemplate):
        def generic(self, args, kws):
            lanes = _pair(args)
            return lanes and signature(Lanes(types.boolean) if boolean else lanes, *args)

    def codegen(context, builder, sig, args):
        return emit(builder, *_operands(context, builder, sig, args, _pair(sig.args)))

    for left, right in ((Lanes, Lanes), (Lanes, types.Number), (types.Number, Lanes)):
        lower_builtin(op, left, right)(codegen)


for _op, _name in _FLOAT_OPS.items():
    _define(_op, partial(_emit, name=_name))
_define(operator.eq, lambda builder, a, b: builder.fcmp_ordered("==", a, b), boolean=True)
_define(operator.gt, lambda builder, a, b: builder.fcmp_ordered(">", a, b), boolean=True)


@type_callable(welford.where)
def _type_where(context):
    def typer(condition, a, b):
        lanes = next((value for value in (a, b) if isinstance(value, Lanes)), a)
        return Lanes(a) if isinstance(condition, Lanes) and not isinstance(lanes, Lanes) else lanes

    return typer


@lower_builtin(welford.where, types.Any, types.Any, types.Any)
def _where(context, builder, sig, args):
    """Also where one value is lanes and the other a number."""
    result = sig.return_type
    if not isinstance(result, Lanes):
        return builder.select(args[0], args[1], context.cast(builder, args[2], sig.args[2], result))
    return builder.select(args[0], *_operands(context, builder, signature(result, *sig.args[1:]), args[1:], result))


@type_callable(welford.sqrt)
def _type_sqrt(context):
    return lambda value: value


@lower_builtin(welford.sqrt, types.Any)
def _sqrt(context, builder, sig, args):
    (value,) = args
    return call_named(builder, f"llvm.sqrt.{suffix(value.type)}", value.type, [value])


@type_callable(welford.multiply_add)
def _type_multiply_add(context):
    return lambda a, b, c: next((value for value in (a, b, c) if isinstance(value, Lanes)), a)


@lower_builtin(welford.multiply_add, types.Any, types.Any, types.Any)
def _multiply_add(context, builder, sig, args):
    """In one instruction where the processor has it; lanes with lanes or with numbers."""
    result = sig.return_type
    if isinstance(result, Lanes):
        args = list(_operands(context, builder, sig, args, result))
    else:
        args = [context.cast(builder, value, typ, result) for value, typ in zip(args, sig.args, strict=True)]
    if args[0].type == vector(I32):
        return builder.add(builder.mul(*args[:2]), args[2])
    return call_named(builder, f"llvm.fmuladd.{suffix(args[0].type)}", args[0].type, args)


as_parts(
    function
    for module in (accumulators, welford)
    for function in vars(module).values()
    if isinstance(function, FunctionType) and function.__module__ == module.__name__
    if function not in (welford.multiply_add, welford.sqrt, welford.where)
)
