"""What numba.cuda cannot say: wide loads and stores of any element type, from addresses.

Each has a twin in plain Python in `twins`, for Numba's simulator; `machine` chooses between the two.
Kernels take addresses as integers. An element's `kind` is the name it has on the CPU: "f4", "bf", "u1", ...
"""

import math

from llvmlite import ir
from numba import cuda
from numba.core.errors import TypingError
from numba.cuda import cgutils, types
from numba.cuda.extending import intrinsic, overload

from ...maths import welford
from .constants import ITEMSIZES

# A part of a kernel. It is always inlined: values in registers must not become arguments.
device = cuda.jit(device=True, forceinline=True)

I16, I32, I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
HALF, FLOAT, DOUBLE = ir.HalfType(), ir.FloatType(), ir.DoubleType()
GLOBAL, SHARED = 1, 3  # LLVM's numbers of address spaces
KEPT = "numbanorm_kept"  # the name of dynamic shared memory


@overload(welford.where, target="cuda")
def _where(condition, a, b):
    return lambda condition, a, b: a if condition else b


@overload(welford.sqrt, target="cuda")
def _sqrt(value):
    return lambda value: math.sqrt(value)


@overload(welford.multiply_add, target="cuda")
def _multiply_add(a, b, c):
    return lambda a, b, c: a * b + c  # the compiler makes one instruction of it


# -- decoding and encoding -------------------------------------------------------------------------------------------
def _decode(builder, kind, bits, result):
    """Bits of one element, an integer of its size -> a float of the type `result`."""
    if kind == "bf":
        value = builder.bitcast(builder.shl(builder.zext(bits, I32), ir.Constant(I32, 16)), FLOAT)
    elif kind == "f2":
        value = builder.fpext(builder.bitcast(bits, HALF), FLOAT)
    elif kind in ("f4", "f8"):
        value = builder.bitcast(bits, FLOAT if kind == "f4" else DOUBLE)
    else:
        if kind == "b1":
            bits = builder.zext(builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0)), bits.type)
        return (builder.sitofp if kind[0] == "i" else builder.uitofp)(bits, result)
    return _as_float(builder, value, result)


def _as_float(builder, value, result):
    if value.type == result:
        return value
    return builder.fpext(value, result) if result == DOUBLE else builder.fptrunc(value, result)


def _assembled(builder, text, result, constraints, values):
    return builder.asm(ir.FunctionType(result, [v.type for v in values]), text, constraints, values, side_effect=False)


def _encode(builder, kind, values):
    """Floats -> bits: one integer for each element, or for each two of 16 bits."""
    if kind in ("f4", "f8"):
        typ, bits = (FLOAT, I32) if kind == "f4" else (DOUBLE, I64)
        return [builder.bitcast(_as_float(builder, v, typ), bits) for v in values]
    values = [_as_float(builder, v, FLOAT) for v in values]
    name = {"bf": "bf16", "f2": "f16"}[kind]
    if len(values) == 1:
        return [_assembled(builder, f"cvt.rn.{name}.f32 $0, $1;", I16, "=h,f", values)]
    text = f"cvt.rn.{name}x2.f32 $0, $1, $2;"
    pairs = zip(values[1::2], values[::2], strict=True)  # the second element lies in the upper half
    return [_assembled(builder, text, I32, "=r,f,f", list(pair)) for pair in pairs]


def _pieces(size):
    """Sizes in bytes of the loads or stores that move so many bytes."""
    return [16] * (size // 16) or [size]


def _in_global(builder, address):
    """A function place(typ, offset): a pointer to a type, so many bytes after an address."""

    def place(typ, offset):
        return builder.inttoptr(builder.add(address, ir.Constant(I64, offset)), typ.as_pointer(GLOBAL))

    return place


def _in_shared(builder, at):
    """The same for what lies `at` bytes after the beginning of dynamic shared memory.

    Each module names it for itself; the linker makes one of them, of as many bytes as the launch asks for.
    """
    area = builder.module.globals.get(KEPT)
    if area is None:
        area = ir.GlobalVariable(builder.module, ir.ArrayType(ir.IntType(8), 0), KEPT, SHARED)
        area.linkage, area.align = "external", 16

    def place(typ, offset):
        byte = builder.gep(area, [ir.Constant(I64, 0), builder.add(at, ir.Constant(I64, offset))])
        return builder.bitcast(byte, typ.as_pointer(SHARED))

    return place


def _load_words(builder, kind, count, place):
    """`count` elements at a place that is aligned to them: integers of their size, or of two elements of 16 bits."""
    itemsize, found = ITEMSIZES[kind], []
    if kind == "b1" and count > 1:  # flags that lie along a vector of something wider
        byte, together = ir.IntType(8), builder.load(place(ir.IntType(8 * count), 0), align=count)
        return [builder.trunc(builder.lshr(together, ir.Constant(together.type, 8 * i)), byte) for i in range(count)]
    if itemsize == 1 or count == 1:
        typ = ir.IntType(8 * itemsize)
        return [builder.load(place(typ, i * itemsize), align=itemsize) for i in range(count)]
    word = I64 if itemsize == 8 else I32
    for number, size in enumerate(_pieces(count * itemsize)):
        words = 8 * size // word.width
        typ = ir.VectorType(word, words) if words > 1 else word
        together = builder.load(place(typ, 16 * number), align=size)
        if words > 1:
            found += [builder.extract_element(together, ir.Constant(I32, i)) for i in range(words)]
        else:
            found.append(together)
    return found


def _elements_of(builder, kind, words):
    """Words -> integers of the size of an element."""
    if words[0].type.width == 8 * ITEMSIZES[kind]:
        return words
    upper = [builder.trunc(builder.lshr(word, ir.Constant(I32, 16)), I16) for word in words]
    return [half for pair in zip([builder.trunc(w, I16) for w in words], upper, strict=True) for half in pair]


def _store_words(builder, size, place, words):
    """Integers to a place that is aligned to them; together they have `size` bytes."""
    width = words[0].type.width // 8
    for number, piece in enumerate(_pieces(size)):
        mine = words[number * 16 // width :][: piece // width]
        typ = ir.VectorType(mine[0].type, len(mine)) if len(mine) > 1 else mine[0].type
        value = ir.Constant(typ, ir.Undefined) if len(mine) > 1 else mine[0]
        for i, word in enumerate(mine if len(mine) > 1 else ()):
            value = builder.insert_element(value, word, ir.Constant(I32, i))
        builder.store(value, place(typ, 16 * number), align=piece)


def _elements(context, builder, typ, array, at, count):
    """Pointers to `count` elements of a local array, from `at` on."""
    data = context.make_array(typ)(context, builder, array).data
    at = builder.sext(at, I64) if at.type.width < 64 else at
    return [builder.gep(data, [builder.add(at, ir.Constant(I64, i))]) for i in range(count)]


def _set_elements(context, builder, kind, signature, args, words):
    """Words, decoded, to a local array args[0] of floats, from args[1] on."""
    typ, bits = signature.args[0], _elements_of(builder, kind, words)
    result = context.get_value_type(typ.dtype)
    for word, place in zip(bits, _elements(context, builder, typ, args[0], args[1], len(bits)), strict=True):
        builder.store(_decode(builder, kind, word, result), place)
    return context.get_dummy_value()


# -- what kernels call -----------------------------------------------------------------------------------------------
def loader(kind, count):
    """A function load(values, at, address): `count` elements from an address that is aligned to all of them (or to 16
    bytes), into a local array of floats.
    """

    @intrinsic
    def load(typingctx, values, at, address):
        def codegen(context, builder, signature, args):
            words = _load_words(builder, kind, count, _in_global(builder, args[2]))
            return _set_elements(context, builder, kind, signature, args, words)

        return types.void(values, at, types.int64), codegen

    return load


def keeper(kind, count):
    """A function keep(values, at, address, kept): what `loader` does; and the same bits go to dynamic shared memory,
    `kept` bytes from its beginning, which must be aligned like the address.
    """

    @intrinsic
    def keep(typingctx, values, at, address, kept):
        def codegen(context, builder, signature, args):
            words = _load_words(builder, kind, count, _in_global(builder, args[2]))
            _store_words(builder, count * ITEMSIZES[kind], _in_shared(builder, args[3]), words)
            return _set_elements(context, builder, kind, signature, args, words)

        return types.void(values, at, types.int64, types.int64), codegen

    return keep


def taker(kind, count):
    """A function take(values, at, kept): what this thread's `keeper` has left there, into a local array of floats."""

    @intrinsic
    def take(typingctx, values, at, kept):
        def codegen(context, builder, signature, args):
            words = _load_words(builder, kind, count, _in_shared(builder, args[2]))
            return _set_elements(context, builder, kind, signature, args, words)

        return types.void(values, at, types.int64), codegen

    return take


def storer(kind, count):
    """A function store(address, values, at): the reverse of `loader`, rounding to the nearest."""

    @intrinsic
    def store(typingctx, address, values, at):
        def codegen(context, builder, signature, args):
            places = _elements(context, builder, values, args[1], args[2], count)
            words = _encode(builder, kind, [builder.load(place) for place in places])
            _store_words(builder, count * ITEMSIZES[kind], _in_global(builder, args[0]), words)
            return context.get_dummy_value()

        return types.void(types.int64, values, at), codegen

    return store


def one_loader(kind):
    """A function load(address): one element as a float64."""

    @intrinsic
    def load(typingctx, address):
        def codegen(context, builder, signature, args):
            return _decode(builder, kind, _load_words(builder, kind, 1, _in_global(builder, args[0]))[0], DOUBLE)

        return types.float64(types.int64), codegen

    return load


@intrinsic
def load_int(typingctx, address, index):
    """Entry `index` of a table of int64."""

    def codegen(context, builder, signature, args):
        at = builder.add(args[0], builder.mul(args[1], ir.Constant(I64, 8)))
        entry = builder.load(builder.inttoptr(at, I64.as_pointer(GLOBAL)), align=8)
        entry.set_metadata("invariant.load", builder.module.add_metadata([]))  # no kernel writes what it reads so
        return entry

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def store_int(typingctx, address, index, value):
    """The reverse of `load_int`."""

    def codegen(context, builder, signature, args):
        at = builder.add(args[0], builder.mul(args[1], ir.Constant(I64, 8)))
        builder.store(args[2], builder.inttoptr(at, I64.as_pointer(GLOBAL)), align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


def one_storer(kind):
    """A function store(address, value): the reverse of `one_loader`."""

    @intrinsic
    def store(typingctx, address, value):
        def codegen(context, builder, signature, args):
            bits = _encode(builder, kind, [args[1]])
            _store_words(builder, ITEMSIZES[kind], _in_global(builder, args[0]), bits)
            return context.get_dummy_value()

        return types.void(types.int64, types.float64), codegen

    return store


@intrinsic
def divide(typingctx, a, b):
    """Quotient of two numbers that are not negative."""

    def codegen(context, builder, signature, args):
        return builder.udiv(*args)

    return types.int64(types.int64, types.int64), codegen


@device
def shuffle(value, mask):
    """The value of the lane whose number differs from this one's in the bits of `mask`."""
    return cuda.shfl_xor_sync(0xFFFFFFFF, value, mask)


@device
def sync():
    """Wait for all threads of the block."""
    cuda.syncthreads()


@device
def thread_index():
    """Of this thread in its block."""
    return types.int64(types.uint32(cuda.threadIdx.x))  # never negative: what it is divided by becomes a shift


@device
def block_index():
    """Of this block."""
    return types.int64(types.uint32(cuda.blockIdx.x))


def folder(times):
    """A function fold(body, value, arguments): value = body(i, value, *arguments) for i from 0 to `times`, as straight
    code. Values that a body indexes by i stay in registers, which loops do not promise.
    """

    @intrinsic
    def fold(typingctx, body, value, arguments):
        called = body.get_call_type(typingctx, (types.int64, value, *arguments), {})
        if called.return_type != value:
            raise TypingError(f"{body} turns {value} into {called.return_type}")

        def codegen(context, builder, signature, args):
            call, others = context.get_function(body, called), cgutils.unpack_tuple(builder, args[2])
            result = args[1]
            for i in range(times):
                result = call(builder, [ir.Constant(I64, i), result, *others])
            return result

        return value(body, value, arguments), codegen

    return fold


def applier(number):
    """A function apply(function, values, results): results = function(values[0], ... values[number - 1]), a tuple."""

    @intrinsic
    def apply(typingctx, function, values, results):
        called = function.get_call_type(typingctx, (values.dtype,) * number, {})

        def codegen(context, builder, signature, args):
            _, values, results = signature.args
            given = [builder.load(p) for p in _elements(context, builder, values, args[1], ir.Constant(I64, 0), number)]
            made = cgutils.unpack_tuple(builder, context.get_function(function, called)(builder, given))
            places = _elements(context, builder, results, args[2], ir.Constant(I64, 0), len(made))
            for value, place in zip(made, places, strict=True):
                builder.store(value, place)
            return context.get_dummy_value()

        return types.void(function, values, results), codegen

    return apply
