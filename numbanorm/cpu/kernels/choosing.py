"""Lanes of what is chosen: masks as comparisons have them."""

from llvmlite import ir
from numba.core import types
from numba.core.extending import intrinsic

from .intrinsics import _load_lanes
from .lanes import I1, I64, WIDTH, Lanes, call_named, first_lanes, suffix, vector

_MASK = Lanes(types.boolean)


def _chosen(builder, pointer, base, offset, step, count):
    if pointer.kind == "none":
        return ir.Constant(vector(I1), [1] * WIDTH)
    bits = _load_lanes(builder, pointer, base, offset, step, count)
    return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, None))


@intrinsic
def chosen(typingctx, pointer, offset, step):
    """Which of WIDTH elements of a mask at byte `offset`, `step` bytes apart, are True; all if there is no mask."""

    def codegen(context, builder, sig, args):
        return _chosen(builder, pointer, *args, None)

    return _MASK(pointer, types.int64, types.int64), codegen


@intrinsic
def chosen_first(typingctx, pointer, offset, step, count):
    """As `chosen`, of the first `count` lanes (at least 1); False in the others."""

    def codegen(context, builder, sig, args):
        there = first_lanes(builder, args[3])
        return builder.and_(there, _chosen(builder, pointer, *args))

    return _MASK(pointer, types.int64, types.int64, types.int64), codegen


@intrinsic
def is_chosen(typingctx, pointer, offset):
    """Whether the element of a mask at byte `offset` is True; yes if there is no mask."""

    def codegen(context, builder, sig, args):
        if pointer.kind == "none":
            return ir.Constant(I1, 1)
        address = builder.inttoptr(builder.add(*args), pointer.storage.as_pointer())
        bits = builder.load(address, align=1)
        return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, None))

    return types.boolean(pointer, types.int64), codegen


def _turned(builder, before, after):
    """The bits in which the ranges of two numbers differ: from one to the next they are 16 times as wide."""
    lanes = isinstance(before.type, ir.VectorType)
    word = vector(I64) if lanes else I64
    changed = builder.xor(builder.bitcast(before, word), builder.bitcast(after, word))
    ranges = ir.Constant(word, [_RANGE] * WIDTH) if lanes else ir.Constant(word, _RANGE)
    return builder.and_(changed, ranges)


_RANGE = -1 << 54  # the sign, and all but two bits of the exponent


@intrinsic
def turns(typingctx, before, after):
    """Whether a sum has got into another range; in lanes which have."""

    def codegen(context, builder, sig, args):
        changed = _turned(builder, *args)
        return builder.icmp_unsigned("!=", changed, ir.Constant(changed.type, None))

    return (_MASK if isinstance(before, Lanes) else types.boolean)(before, after), codegen


@intrinsic
def any_turns(typingctx, before, after):
    """Whether a sum in any lane has got into another range."""

    def codegen(context, builder, sig, args):
        changed = _turned(builder, *args)
        either = call_named(builder, f"llvm.vector.reduce.or.{suffix(changed.type)}", I64, [changed])
        return builder.icmp_unsigned("!=", either, ir.Constant(I64, 0))

    return types.boolean(before, after), codegen
