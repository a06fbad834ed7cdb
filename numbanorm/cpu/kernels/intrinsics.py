"""What Numba's own types cannot say: typed pointers, and stores past the cache.

A kernel takes a `Pointer` for every array. It carries the element's kind in its type, so that float16, bfloat16 and
byte-swapped data are ordinary arguments, and it is read straight from the ndarray object: no per-call type look-up.
Loads give `Lanes`, and ask for no alignment.
"""

import os
from contextlib import nullcontext

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models, register_default
from numba.core.extending import intrinsic
from numba.core.pythonapi import NativeValue, unbox

from .lanes import (
    FEATURES,
    FLOAT_OF,
    FLOATS,
    I1,
    I32,
    I64,
    NUMBER_OF,
    WIDTH,
    Lanes,
    call_named,
    first_lanes,
    lanes_of,
    splat_value,
    suffix,
    vector,
)

_OBJECT_HEAD = object.__basicsize__  # an ndarray's data pointer follows its PyObject head


# -- types -----------------------------------------------------------------------------------------------------------
class Pointer(types.Type):
    """Address of elements of one `kind`: a NumPy code such as "f4" or "u1", "bf" for bfloat16, ">" before it when
    the bytes are swapped, "?" where None may be passed in the place of an array, or "none" for an argument that is
    left out for good.
    """

    def __init__(self, kind):
        self.kind = kind
        self.code = kind.lstrip(">?")
        self.swapped = kind.startswith(">")
        self.optional = kind.startswith("?")
        self.narrow = self.code in ("f4", "f2", "bf")  # at most the digits and the range of float32
        self.itemsize = {"bf": 2, "none": 0}.get(self.code, int("0" + self.code[1:2]) if self.code[1:].isdigit() else 0)
        super().__init__(name=f"Pointer({kind})")

    @property
    def storage(self):
        """LLVM integer type of an element as it lies in memory."""
        return ir.IntType(8 * self.itemsize)


@register_default(Pointer)
class _PointerModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, I64)


@unbox(Pointer)
def _unbox_pointer(typ, obj, c):
    # The caller passes exact ndarrays (or anything at all for "none", which is never followed).
    if typ.kind == "none":
        return NativeValue(ir.Constant(I64, 0))
    field = c.builder.add(c.builder.ptrtoint(obj, I64), ir.Constant(I64, _OBJECT_HEAD))
    address = c.builder.load(c.builder.inttoptr(field, I64.as_pointer()))
    if typ.optional:  # reading the field of None is harmless: some word of the interpreter's
        is_none = c.builder.icmp_unsigned("==", obj, c.pyapi.borrow_none())
        address = c.builder.select(is_none, ir.Constant(I64, 0), address)
    return NativeValue(address)


# -- helpers of the code generator -----------------------------------------------------------------------------------
def _address(builder, base, offset, typ):
    return builder.inttoptr(builder.add(base, offset), typ.as_pointer())


def _like(typ, scalar):
    """`scalar`, or a vector of it if `typ` is a vector."""
    return vector(scalar) if isinstance(typ, ir.VectorType) else scalar


def _swap(builder, pointer, bits):
    if not pointer.swapped or pointer.itemsize == 1:
        return bits
    return call_named(builder, f"llvm.bswap.{suffix(bits.type)}", bits.type, [bits])


def _decode(builder, pointer, bits, result):
    """Stored bits -> float, or a whole number of bytes (LLVM type `result`), one element or a vector."""
    bits = _swap(builder, pointer, bits)
    code, want = pointer.code, _like(bits.type, result)
    if code[0] in "iub" and code != "bf":
        if code == "b1":
            bits = builder.zext(builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, None)), bits.type)
        if result == I32:
            return (builder.sext if code[0] == "i" else builder.zext)(bits, want)
        return (builder.sitofp if code[0] == "i" else builder.uitofp)(bits, want)
    if code == "bf":
        wide = _like(bits.type, I32)
        shift = ir.Constant(wide, [16] * WIDTH) if isinstance(wide, ir.VectorType) else ir.Constant(wide, 16)
        value = builder.bitcast(builder.shl(builder.zext(bits, wide), shift), _like(bits.type, FLOATS["f4"]))
        return value if result == FLOATS["f4"] else builder.fpext(value, want)
    value = builder.bitcast(bits, _like(bits.type, FLOATS[code]))
    if code == "f2" and result == FLOATS["f8"]:  # by way of float32, for which the processors have an instruction
        value = builder.fpext(value, _like(bits.type, FLOATS["f4"]))
    if value.type == want:
        return value
    return (builder.fptrunc if (code, result) == ("f8", FLOATS["f4"]) else builder.fpext)(value, want)


def _encode(builder, pointer, value):
    """Float vector -> the bits to store."""
    code, bits = pointer.code, vector(pointer.storage)
    if code == "f8":
        value = value if value.type.element == FLOATS["f8"] else builder.fpext(value, vector(FLOATS["f8"]))
    elif value.type.element == FLOATS["f8"]:
        value = builder.fptrunc(value, vector(FLOATS["f4"]))
    if code == "f2":
        value = builder.fptrunc(value, vector(FLOATS["f2"]))
    if code != "bf":
        return _swap(builder, pointer, builder.bitcast(value, bits))

    # bfloat16: round to nearest, ties to even; a NaN keeps its sign and gets a quiet, non-zero mantissa
    def many(n):
        return ir.Constant(vector(I32), [n] * WIDTH)

    raw = builder.bitcast(value, vector(I32))
    odd = builder.and_(builder.lshr(raw, many(16)), many(1))
    rounded = builder.add(raw, builder.add(odd, many(0x7FFF)))
    quiet = builder.or_(raw, many(0x00400000))
    high = builder.select(builder.fcmp_unordered("uno", value, value), quiet, rounded)
    return _swap(builder, pointer, builder.trunc(builder.lshr(high, many(16)), bits))


# -- loads -----------------------------------------------------------------------------------------------------------
def _outlined(builder, name, result, args, body):
    """Call a function of the module made by `body`: rare code that would only swell the loops around it."""
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, [a.type for a in args]), name)
    if function.is_declaration:
        function.linkage = "internal"
        function.attributes.add("noinline")
        inner = ir.IRBuilder(function.append_basic_block())
        inner.ret(body(inner, *function.args)) if result != ir.VoidType() else (
            body(inner, *function.args),
            inner.ret_void(),
        )
    return builder.call(function, args)


def _gather(builder, base, offset, step, storage, count):
    """Separate loads, `step` bytes apart, of WIDTH elements (`count` None) or the first `count`.

    Lanes past the last repeat it, so that nothing outside is read.
    """

    def body(builder, base, offset, step, last=None):
        bits = ir.Constant(vector(storage), ir.Undefined)
        for lane in range(WIDTH):
            index = ir.Constant(I64, lane)
            if last is not None:
                index = builder.select(builder.icmp_signed("<", index, last), index, last)
            at = builder.add(offset, builder.mul(index, step))
            one = builder.load(_address(builder, base, at, storage), align=1)
            bits = builder.insert_element(bits, one, ir.Constant(I32, lane))
        return bits

    if count is None:
        return _outlined(builder, f"numbanorm_gather_{storage}", vector(storage), [base, offset, step], body)
    args = [base, offset, step, builder.sub(count, ir.Constant(I64, 1))]
    return _outlined(builder, f"numbanorm_gather_first_{storage}", vector(storage), args, body)


def _takes_masks(storage):
    """Whether the processor loads and stores some lanes of this type only. If not, LLVM would ask for each lane."""
    return storage.width >= 32 or FEATURES.get("avx512bw", False)


_PIECES = [1 << n for n in range(WIDTH.bit_length())]  # 1, 2, 4, ... WIDTH lanes: the bits of a count of lanes


def _load_first(builder, address, count, storage):
    """The first `count` elements side by side at `address`; zeros above."""
    lanes = vector(storage)
    if _takes_masks(storage):
        name = f"llvm.masked.load.{suffix(lanes)}.p0"
        mask = first_lanes(builder, count)
        return call_named(builder, name, lanes, [address, ir.Constant(I32, 1), mask, ir.Constant(lanes, None)])

    def body(builder, address, count):
        bits, at = ir.Constant(lanes, None), count
        for n in _PIECES:  # from the last, which the pieces before it move up
            before = builder.block
            with builder.if_then(_has_bit(builder, count, n)):
                first = builder.sub(at, ir.Constant(I64, n))
                piece = builder.load(_piece(builder, address, first, n, storage), align=1)
                empty = ir.Constant(piece.type, ir.Undefined)
                wide = builder.shuffle_vector(piece, empty, _numbers([i % n for i in range(WIDTH)]))
                moved = builder.shuffle_vector(wide, bits, _numbers([*range(n), *range(WIDTH, 2 * WIDTH - n)]))
                then = builder.block
            bits, at = _either(builder, bits, before, moved, then), _either(builder, at, before, first, then)
        return bits

    return _outlined(builder, f"numbanorm_first_{storage}", lanes, [address, count], body)


def _store_first(builder, address, count, bits):
    """Write the first `count` lanes side by side to `address`.

    Not by a mask where masks are vectors (AVX2): on AMD rows of 15 took 1.6 times as long so.
    """
    storage = bits.type.element
    if _takes_masks(storage) and FEATURES.get("avx512vl", False):
        name = f"llvm.masked.store.{suffix(bits.type)}.p0"
        call_named(builder, name, ir.VoidType(), [bits, address, ir.Constant(I32, 1), first_lanes(builder, count)])
        return

    def body(builder, address, count, bits):
        at = ir.Constant(I64, 0)
        for n in reversed(_PIECES):
            before = builder.block
            with builder.if_then(_has_bit(builder, count, n)):
                piece = builder.shuffle_vector(bits, bits, _numbers(range(n)))
                builder.store(piece, _piece(builder, address, at, n, storage), align=1)
                rest = builder.shuffle_vector(bits, bits, _numbers([(i + n) % WIDTH for i in range(WIDTH)]))
                behind = builder.add(at, ir.Constant(I64, n))
                then = builder.block
            bits, at = _either(builder, bits, before, rest, then), _either(builder, at, before, behind, then)

    _outlined(builder, f"numbanorm_store_first_{storage}", ir.VoidType(), [address, count, bits], body)


def _has_bit(builder, count, n):
    return builder.icmp_signed("!=", builder.and_(count, ir.Constant(I64, n)), ir.Constant(I64, 0))


def _piece(builder, address, at, n, storage):
    """Pointer to `n` elements, `at` elements behind `address`."""
    start = builder.gep(builder.bitcast(address, storage.as_pointer()), [at])
    return builder.bitcast(start, ir.VectorType(storage, n).as_pointer())


def _numbers(values):
    """Lanes that a shuffle picks."""
    return ir.Constant(ir.VectorType(I32, len(values)), list(values))


def _either(builder, value, block, other, other_block):
    chosen = builder.phi(value.type)
    chosen.add_incoming(value, block)
    chosen.add_incoming(other, other_block)
    return chosen


def _load_lanes(builder, pointer, base, offset, step, count):
    """The stored bits of WIDTH elements (`count` None) or of the first `count`, whatever the step between them."""
    storage, lanes = pointer.storage, vector(pointer.storage)
    near = builder.icmp_signed("==", step, ir.Constant(I64, pointer.itemsize))
    with builder.if_else(near, likely=True) as (then, otherwise):
        with then:
            address = _address(builder, base, offset, lanes)
            if count is None:
                together = builder.load(address, align=1)
            else:
                together = _load_first(builder, address, count, storage)
            then_block = builder.block
        with otherwise:
            same = builder.icmp_signed("==", step, ir.Constant(I64, 0))
            with builder.if_else(same) as (if_same, if_apart):
                with if_same:
                    one = builder.load(_address(builder, base, offset, storage), align=1)
                    repeated = splat_value(builder, one)
                    same_block = builder.block
                with if_apart:
                    apart = _gather(builder, base, offset, step, storage, count)
                    apart_block = builder.block
            far = builder.phi(lanes)
            far.add_incoming(repeated, same_block)
            far.add_incoming(apart, apart_block)
            otherwise_block = builder.block
    bits = builder.phi(lanes)
    bits.add_incoming(together, then_block)
    bits.add_incoming(far, otherwise_block)
    return bits


def _decode_lanes(builder, pointer, base, offset, step, count, neutral, like):
    """WIDTH elements, or the first `count`, as lanes; `neutral` in every lane for a pointer of kind "none"."""
    if pointer.kind == "none":
        return splat_value(builder, neutral)
    return _decode(builder, pointer, _load_lanes(builder, pointer, base, offset, step, count), NUMBER_OF[like])


def _decode_one(builder, pointer, base, offset):
    """One element as a float64."""
    bits = builder.load(_address(builder, base, offset, pointer.storage), align=1)
    return _decode(builder, pointer, bits, FLOATS["f8"])


@intrinsic
def load(typingctx, pointer, offset, step, like):
    """WIDTH elements at byte `offset`, `step` bytes apart, as lanes of `like`'s type.

    A pointer of kind "none" gives `like` itself in every lane: the neutral weight or bias.
    """
    result = lanes_of(like)

    def codegen(context, builder, sig, args):
        base, at, by, neutral = args
        return _decode_lanes(builder, pointer, base, at, by, None, neutral, like)

    return result(pointer, types.int64, types.int64, like), codegen


@intrinsic
def load_first(typingctx, pointer, offset, step, count, like):
    """As `load`, only the first `count` lanes (at least 1); what the others hold is not defined."""
    result = lanes_of(like)

    def codegen(context, builder, sig, args):
        base, at, by, n, neutral = args
        return _decode_lanes(builder, pointer, base, at, by, n, neutral, like)

    return result(pointer, types.int64, types.int64, types.int64, like), codegen


@intrinsic
def load_near(typingctx, pointer, offset, like):
    """As `load`, of elements side by side: with a fraction of the code to compile."""
    result = lanes_of(like)

    def codegen(context, builder, sig, args):
        bits = builder.load(_address(builder, args[0], args[1], vector(pointer.storage)), align=1)
        return _decode(builder, pointer, bits, NUMBER_OF[like])

    return result(pointer, types.int64, like), codegen


@intrinsic
def load_same(typingctx, pointer, offset, like):
    """As `load`, of one element into every lane."""
    result = lanes_of(like)

    def codegen(context, builder, sig, args):
        bits = builder.load(_address(builder, args[0], args[1], pointer.storage), align=1)
        return splat_value(builder, _decode(builder, pointer, bits, FLOAT_OF[like]))

    return result(pointer, types.int64, like), codegen


@intrinsic
def load_one(typingctx, pointer, offset):
    """The element at byte `offset` as a float64."""

    def codegen(context, builder, sig, args):
        return _decode_one(builder, pointer, *args)

    return types.float64(pointer, types.int64), codegen


@intrinsic
def coefficient(typingctx, value, index, like):
    """Lanes of a coefficient from element `index` on: the number itself, or lanes of it, or what a pointer of `like`'s
    kind holds.
    """
    result = lanes_of(like)

    def codegen(context, builder, sig, args):
        base, i, _ = args
        if isinstance(value, Lanes):
            return base
        if not isinstance(value, Pointer):
            return splat_value(builder, base)
        offset = builder.mul(i, ir.Constant(I64, value.itemsize))
        return builder.load(_address(builder, base, offset, vector(FLOAT_OF[like])), align=value.itemsize)

    return result(value, types.int64, like), codegen


@intrinsic
def load_int(typingctx, pointer, index):
    """Element `index` of an int64 table."""

    def codegen(context, builder, sig, args):
        base, i = args
        return builder.load(_address(builder, base, builder.shl(i, ir.Constant(I64, 3)), I64))

    return types.int64(pointer, types.int64), codegen


# -- integers --------------------------------------------------------------------------------------------------------
def _widened(builder, value, like):
    """Integers of `like`'s type as int64; what that does not hold, as its largest number."""
    wide = _like(value.type, I64)
    if like.bitwidth < 64:
        return (builder.sext if like.signed else builder.zext)(value, wide)
    if like.signed:
        return value
    most = ir.Constant(wide, [2**63 - 1] * WIDTH) if isinstance(wide, ir.VectorType) else ir.Constant(I64, 2**63 - 1)
    return builder.select(builder.icmp_signed("<", value, ir.Constant(wide, None)), most, value)


@intrinsic
def load_integer(typingctx, address, offset, like):
    """The integer of `like`'s type at an address as int64; what that does not hold, as its largest number."""

    def codegen(context, builder, sig, args):
        value = builder.load(_address(builder, args[0], args[1], ir.IntType(like.bitwidth)), align=1)
        return _widened(builder, value, like)

    return types.int64(types.int64, types.int64, like), codegen


@intrinsic
def bytes_of(typingctx, like):
    """Bytes of an integer of `like`'s type, a constant of the compiled code."""

    def codegen(context, builder, sig, args):
        return ir.Constant(I64, like.bitwidth // 8)

    return types.int64(like), codegen


@intrinsic
def copy_integers(typingctx, address, offset, into, index, like):
    """WIDTH integers side by side, as `load_integer` has each, to an array of int64 from an index on."""

    def codegen(context, builder, sig, args):
        address, offset, into, index, _ = args
        typ = vector(ir.IntType(like.bitwidth))
        value = _widened(builder, builder.load(_address(builder, address, offset, typ), align=1), like)
        at = builder.shl(index, ir.Constant(I64, 3))
        builder.store(value, _address(builder, into, at, vector(I64)), align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, into, types.int64, like), codegen


def _integers(builder, pointer, index):
    at = builder.shl(index, ir.Constant(I64, 3))
    return builder.load(_address(builder, pointer, at, vector(I64)), align=8)


@intrinsic
def highest_of(typingctx, pointer, index):
    """The highest of WIDTH int64 from an index on."""

    def codegen(context, builder, sig, args):
        return call_named(builder, f"llvm.vector.reduce.smax.v{WIDTH}i64", I64, [_integers(builder, *args)])

    return types.int64(pointer, types.int64), codegen


@intrinsic
def lowest_of(typingctx, pointer, index):
    """The lowest of WIDTH int64 from an index on."""

    def codegen(context, builder, sig, args):
        return call_named(builder, f"llvm.vector.reduce.smin.v{WIDTH}i64", I64, [_integers(builder, *args)])

    return types.int64(pointer, types.int64), codegen


# -- stores ----------------------------------------------------------------------------------------------------------
def _scatter(builder, base, offset, step, bits, count):
    """Separate stores, `step` bytes apart, of all lanes (`count` None) or the first `count`."""

    def body(builder, base, offset, step, bits, count=None):
        for lane in range(WIDTH):
            index = ir.Constant(I64, lane)
            with nullcontext() if count is None else builder.if_then(builder.icmp_signed("<", index, count)):
                one = builder.extract_element(bits, ir.Constant(I32, lane))
                at = builder.add(offset, builder.mul(index, step))
                builder.store(one, _address(builder, base, at, one.type), align=1)

    args, name = [base, offset, step, bits], f"numbanorm_scatter_{bits.type.element}"
    if count is not None:
        args, name = [*args, count], f"numbanorm_scatter_first_{bits.type.element}"
    _outlined(builder, name, ir.VoidType(), args, body)


def _store_lanes(builder, pointer, base, offset, step, value, count):
    bits = _encode(builder, pointer, value)
    near = builder.icmp_signed("==", step, ir.Constant(I64, pointer.itemsize))
    with builder.if_else(near, likely=True) as (then, otherwise):
        with then:
            address = _address(builder, base, offset, bits.type)
            if count is None:
                builder.store(bits, address, align=1)
            else:
                _store_first(builder, address, count, bits)
        with otherwise:
            _scatter(builder, base, offset, step, bits, count)


@intrinsic
def store(typingctx, pointer, offset, step, lanes):
    """Write WIDTH lanes at byte `offset`, `step` bytes apart, rounded to the pointer's kind."""

    def codegen(context, builder, sig, args):
        base, at, by, value = args
        _store_lanes(builder, pointer, base, at, by, value, None)
        return context.get_dummy_value()

    return types.void(pointer, types.int64, types.int64, lanes), codegen


@intrinsic
def store_near(typingctx, pointer, offset, lanes):
    """As `store`, side by side."""

    def codegen(context, builder, sig, args):
        bits = _encode(builder, pointer, args[2])
        builder.store(bits, _address(builder, args[0], args[1], bits.type), align=1)
        return context.get_dummy_value()

    return types.void(pointer, types.int64, lanes), codegen


@intrinsic
def store_first(typingctx, pointer, offset, step, count, lanes):
    """As `store`, only the first `count` lanes."""

    def codegen(context, builder, sig, args):
        base, at, by, n, value = args
        _store_lanes(builder, pointer, base, at, by, value, n)
        return context.get_dummy_value()

    return types.void(pointer, types.int64, types.int64, types.int64, lanes), codegen


@intrinsic
def store_stream(typingctx, pointer, offset, lanes):
    """Write WIDTH contiguous lanes past the cache. The address must be one that `stream_head` says it takes;
    `stream_fence` makes the stores visible to other threads.
    """

    def codegen(context, builder, sig, args):
        base, at, value = args
        bits = _encode(builder, pointer, value)
        written = builder.store(bits, _address(builder, base, at, bits.type), align=WIDTH * pointer.itemsize)
        one = builder.module.add_metadata([ir.Constant(I32, 1)])
        written.set_metadata("nontemporal", one)
        return context.get_dummy_value()

    return types.void(pointer, types.int64, lanes), codegen


@intrinsic
def stream_fence(typingctx):
    """Order streaming stores before everything that follows."""

    def codegen(context, builder, sig, args):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def stream_head(typingctx, pointer, offset):
    """How many elements lie between byte `offset` and the next address that `store_stream` takes; -1 if none does."""

    def codegen(context, builder, sig, args):
        base, at = args
        align, size = WIDTH * pointer.itemsize, pointer.itemsize
        behind = builder.and_(builder.sub(ir.Constant(I64, 0), builder.add(base, at)), ir.Constant(I64, align - 1))
        whole = builder.icmp_unsigned("==", builder.and_(behind, ir.Constant(I64, size - 1)), ir.Constant(I64, 0))
        head = builder.lshr(behind, ir.Constant(I64, size.bit_length() - 1))
        return builder.select(whole, head, ir.Constant(I64, -1))

    return types.int64(pointer, types.int64), codegen


@intrinsic
def store_int(typingctx, pointer, index, value):
    """Write element `index` of an int64 table."""

    def codegen(context, builder, sig, args):
        base, i, number = args
        builder.store(number, _address(builder, base, builder.shl(i, ir.Constant(I64, 3)), I64))
        return context.get_dummy_value()

    return types.void(pointer, types.int64, types.int64), codegen


@intrinsic
def store_one(typingctx, pointer, index, value):
    """Write a float64 at element `index`; nothing where None was passed."""

    def codegen(context, builder, sig, args):
        base, i, number = args
        present = builder.icmp_unsigned("!=", base, ir.Constant(I64, 0))
        with builder.if_then(present) if pointer.optional else nullcontext():
            builder.store(number, _address(builder, base, builder.shl(i, ir.Constant(I64, 3)), FLOATS["f8"]))
        return context.get_dummy_value()

    return types.void(pointer, types.int64, types.float64), codegen


# -- what threads share ----------------------------------------------------------------------------------------------
def _shared(builder, base, index):
    return _address(builder, base, builder.shl(index, ir.Constant(I64, 3)), I64)


@intrinsic
def add_shared(typingctx, pointer, index, value):
    """Add to the int64 at an index, in one step for all threads; returns what was there."""

    def codegen(context, builder, sig, args):
        base, i, number = args
        return builder.atomic_rmw("add", _shared(builder, base, i), number, "acq_rel")

    return types.int64(pointer, types.int64, types.int64), codegen


@intrinsic
def load_shared(typingctx, pointer, index):
    """The int64 at an index, and with it all that other threads wrote before they added to it."""

    def codegen(context, builder, sig, args):
        return builder.load_atomic(_shared(builder, *args), "acquire", 8)

    return types.int64(pointer, types.int64), codegen


@intrinsic
def yield_thread(typingctx):
    """Let another thread have the processor."""

    def codegen(context, builder, sig, args):
        call_named(builder, "SwitchToThread" if os.name == "nt" else "sched_yield", I32, [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def touch(typingctx, pointer, offset):
    """Read the byte at `offset` for nothing but to have its line in the cache."""

    def codegen(context, builder, sig, args):
        byte = builder.load(_address(builder, *args, ir.IntType(8)), align=1)
        builder.asm(ir.FunctionType(ir.VoidType(), [I32]), "", "r", [builder.zext(byte, I32)], True)  # or it would go
        return context.get_dummy_value()

    return types.void(pointer, types.int64), codegen


@intrinsic
def prefetch(typingctx, pointer, offset):
    """Ask for the line at byte `offset`, which will be read; it need not be memory of anyone's."""

    def codegen(context, builder, sig, args):
        address = _address(builder, *args, ir.IntType(8))
        write, near, data = (ir.Constant(I32, n) for n in (0, 3, 1))
        call_named(builder, "llvm.prefetch.p0", ir.VoidType(), [address, write, near, data])
        return context.get_dummy_value()

    return types.void(pointer, types.int64), codegen


# -- about pointers --------------------------------------------------------------------------------------------------
@intrinsic
def numbers_at(typingctx, address):
    """Float64 numbers at an address."""

    def codegen(context, builder, sig, args):
        return args[0]

    return Pointer("f8")(types.int64), codegen


@intrinsic
def integers_at(typingctx, address):
    """Int64 numbers at an address."""

    def codegen(context, builder, sig, args):
        return args[0]

    return Pointer("i8")(types.int64), codegen


@intrinsic
def behind(typingctx, pointer, index):
    """The same array of 8-byte numbers, from one of them on."""
    result = Pointer(pointer.kind.lstrip("?"))

    def codegen(context, builder, sig, args):
        return builder.add(args[0], builder.shl(args[1], ir.Constant(I64, 3)))

    return result(pointer, types.int64), codegen


@intrinsic
def itemsize(typingctx, pointer):
    """Bytes of an element, a constant of the compiled code."""

    def codegen(context, builder, sig, args):
        return ir.Constant(I64, pointer.itemsize)

    return types.int64(pointer), codegen


@intrinsic
def absent(typingctx):
    """A pointer of kind "none"."""

    def codegen(context, builder, sig, args):
        return ir.Constant(I64, 0)

    return Pointer("none")(), codegen


@intrinsic
def in_order(typingctx, number):
    """The same integer, and no load or store is moved from one side of it to the other: what is loaded early takes
    registers, and where they do not suffice, a way through memory.
    """

    def codegen(context, builder, sig, args):
        return builder.asm(ir.FunctionType(I64, [I64]), "", "=r,0,~{memory}", [args[0]], True)

    return types.int64(types.int64), codegen


@intrinsic
def opaque(typingctx, number):
    """The same integer, of which the compiler knows nothing: it may not work out ahead what a loop makes of it, for
    want of registers.
    """

    def codegen(context, builder, sig, args):
        return builder.asm(ir.FunctionType(I64, [I64]), "", "=r,0", [args[0]], False)

    return types.int64(types.int64), codegen


@intrinsic
def is_present(typingctx, pointer):
    """Whether an optional array was passed. Of kind "none" it was not, and code for it is left out."""

    def codegen(context, builder, sig, args):
        if pointer.kind == "none":
            return ir.Constant(ir.IntType(1), 0)
        return builder.icmp_unsigned("!=", args[0], ir.Constant(I64, 0))

    return types.boolean(pointer), codegen


@intrinsic(prefer_literal=True)
def stack(typingctx, count, like):
    """Room on the stack for a literal `count` of `like`'s type, aligned for lanes; a pointer: of its elements.

    That of four times as many is aligned for two, so that lanes which begin anywhere in the first of two cross no page.
    """
    kinds = {types.float32: "f4", types.float64: "f8", types.int64: "i8"}
    result = Pointer(like.kind.lstrip("?") if isinstance(like, Pointer) else kinds[like])

    def codegen(context, builder, sig, args):
        with builder.goto_entry_block():  # not cgutils.alloca_once, which would fill it with zeros at every call
            room = builder.alloca(ir.ArrayType(result.storage, count.literal_value))
        room.align = result.itemsize * (2 * WIDTH if count.literal_value == 4 * WIDTH else WIDTH)
        return builder.ptrtoint(room, I64)

    return result(count, like), codegen


@intrinsic
def viewed(typingctx, pointer, skip, like):
    """The same memory as an array of `like`'s type, from its element `skip` on."""
    result = Pointer({types.float32: "f4", types.float64: "f8"}[like])

    def codegen(context, builder, sig, args):
        return builder.add(args[0], builder.mul(args[1], ir.Constant(I64, result.itemsize)))

    return result(pointer, types.int64, like), codegen


@intrinsic
def made_in_float32(typingctx, x, out):
    """Whether output is made in float32: it has at most its digits, and so have the elements of x."""

    def codegen(context, builder, sig, args):
        return ir.Constant(I1, _in_float32(x, out))

    return types.boolean(x, out), codegen


@intrinsic
def summed_like(typingctx, x, out):
    """A number of float32 where sums may be taken in its lanes, as output is made in it; else None.

    A function that is given None is compiled without what it does otherwise.
    """
    result = types.float32 if _in_float32(x, out) and not _is_bytes(x) else types.none

    def codegen(context, builder, sig, args):
        return ir.Constant(FLOATS["f4"], -0.0) if result == types.float32 else context.get_dummy_value()

    return result(x, out), codegen


@intrinsic
def counted_like(typingctx, pointer):
    """An int32 where sums are taken in its lanes, as elements are bytes; else None, as by `summed_like`."""
    result = types.int32 if _is_bytes(pointer) else types.none

    def codegen(context, builder, sig, args):
        return ir.Constant(I32, 0) if result == types.int32 else context.get_dummy_value()

    return result(pointer), codegen


@intrinsic
def made_like(typingctx, x, out):
    """A number of the precision in which output is made; as a bias, it leaves every number as it is.

    A branch on `made_in_float32` would do the same, but both its sides would be compiled.
    """
    result = types.float32 if _in_float32(x, out) else types.float64

    def codegen(context, builder, sig, args):
        return ir.Constant(FLOAT_OF[result], -0.0)

    return result(x, out), codegen


def _in_float32(x, out):
    return out.narrow and (x.narrow or x.itemsize <= 2)


def _is_bytes(x):
    return x.code in ("u1", "i1", "b1")


@intrinsic
def exact_in_float64(typingctx, pointer):
    """Whether a float64 holds the elements with digits to spare: one pass of sums is then as good as two."""

    def codegen(context, builder, sig, args):
        return ir.Constant(I1, int(pointer.itemsize <= 2 or pointer.code == "f4"))

    return types.boolean(pointer), codegen


@intrinsic
def neutral_one(typingctx, pointer, offset, neutral):
    """The element at byte `offset` as a float64, `neutral` for a pointer of kind "none"."""

    def codegen(context, builder, sig, args):
        base, at, otherwise = args
        return otherwise if pointer.kind == "none" else _decode_one(builder, pointer, base, at)

    return types.float64(pointer, types.int64, types.float64), codegen
