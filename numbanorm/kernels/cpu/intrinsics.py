"""What Numba's own types cannot say: typed pointers, lanes of a vector register, and stores past the cache.

A kernel takes a `Pointer` for every array. It carries the element's kind in its type, so that float16, bfloat16 and
byte-swapped data are ordinary arguments, and it is read straight from the ndarray object: no per-call type look-up.
`Lanes` is a vector of WIDTH numbers with the operators of a scalar, so the one scalar mathematics of
`kernels.welford` runs on it unchanged. Nothing here relies on the auto-vectoriser or on fast-math: the same
operations are made in the same order on every machine.
"""

import operator
from contextlib import nullcontext

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba.core import cgutils, types
from numba.core.datamodel import models, register_default
from numba.core.extending import intrinsic, type_callable
from numba.core.imputils import lower_builtin
from numba.core.pythonapi import NativeValue, unbox
from numba.core.typing.templates import AbstractTemplate, infer_global, signature

from .. import welford

WIDTH = 16  # lanes: one 64-byte line of float32; two AVX-512 or four AVX registers of float64
UNROLL = bool(get_host_cpu_features().get("avx512f"))  # 32 registers hold a second pair of sums

_I1, _I8, _I16, _I32, _I64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))
_F = {"f2": ir.HalfType(), "f4": ir.FloatType(), "f8": ir.DoubleType()}
_FLOAT = {types.float32: _F["f4"], types.float64: _F["f8"]}
_OBJECT_HEAD = object.__basicsize__  # an ndarray's data pointer follows its PyObject head


# -- types -------------------------------------------------------------------------------------------------------
class Pointer(types.Type):
    """Address of elements of one `kind`: a NumPy code such as "f4" or "u1", "bf" for bfloat16, ">" before it when
    the bytes are swapped, "?" where None may be passed in the place of an array, or "none" for an argument that is
    left out for good."""

    def __init__(self, kind):
        self.kind = kind
        self.code = kind.lstrip(">?")
        self.swapped = kind.startswith(">")
        self.optional = kind.startswith("?")
        self.itemsize = {"bf": 2, "none": 0}.get(self.code, int("0" + self.code[1:2]) if self.code[1:].isdigit() else 0)
        super().__init__(name=f"Pointer({kind})")

    @property
    def storage(self):
        """LLVM integer type of an element as it lies in memory."""
        return ir.IntType(8 * self.itemsize)


class Lanes(types.Type):
    """WIDTH values of `dtype` (float32, float64, or boolean for a comparison)."""

    def __init__(self, dtype):
        self.dtype = dtype
        super().__init__(name=f"Lanes({dtype})")


@register_default(Pointer)
class _PointerModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, _I64)


@register_default(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        element = _I1 if fe_type.dtype == types.boolean else _FLOAT[fe_type.dtype]
        super().__init__(dmm, fe_type, ir.VectorType(element, WIDTH))


@unbox(Pointer)
def _unbox_pointer(typ, obj, c):
    # The caller passes exact ndarrays (or anything at all for "none", which is never followed).
    if typ.kind == "none":
        return NativeValue(ir.Constant(_I64, 0))
    field = c.builder.add(c.builder.ptrtoint(obj, _I64), ir.Constant(_I64, _OBJECT_HEAD))
    address = c.builder.load(c.builder.inttoptr(field, _I64.as_pointer()))
    if typ.optional:  # reading the field of None is harmless: some word of the interpreter's
        is_none = c.builder.icmp_unsigned("==", obj, c.pyapi.borrow_none())
        address = c.builder.select(is_none, ir.Constant(_I64, 0), address)
    return NativeValue(address)


# -- helpers of the code generator ---------------------------------------------------------------------------------
def _vector(element):
    return ir.VectorType(element, WIDTH)


def _splat(builder, value):
    empty = ir.Constant(_vector(value.type), ir.Undefined)
    first = builder.insert_element(empty, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, empty, ir.Constant(_vector(_I32), [0] * WIDTH))


def _first_lanes(builder, count):
    """Mask of the lanes below `count`."""
    iota = ir.Constant(_vector(_I64), list(range(WIDTH)))
    return builder.icmp_signed("<", iota, _splat(builder, count))


def _call(builder, name, result, args):
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, [a.type for a in args]), name)
    return builder.call(function, args)


def _suffix(typ):
    if isinstance(typ, ir.VectorType):
        return f"v{typ.count}{_suffix(typ.element)}"
    return {_F["f4"]: "f32", _F["f8"]: "f64"}.get(typ) or f"i{typ.width}"


def _address(builder, base, offset, typ):
    return builder.inttoptr(builder.add(base, offset), typ.as_pointer())


def _like(typ, scalar):
    """`scalar`, or a vector of it if `typ` is a vector."""
    return _vector(scalar) if isinstance(typ, ir.VectorType) else scalar


def _swap(builder, pointer, bits):
    if not pointer.swapped or pointer.itemsize == 1:
        return bits
    return _call(builder, f"llvm.bswap.{_suffix(bits.type)}", bits.type, [bits])


def _decode(builder, pointer, bits, result):
    """Stored bits -> float (LLVM type `result`), one element or a vector."""
    bits = _swap(builder, pointer, bits)
    code, want = pointer.code, _like(bits.type, result)
    if code[0] in "iub" and code != "bf":
        if code == "b1":
            bits = builder.zext(builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, None)), bits.type)
        return (builder.sitofp if code[0] == "i" else builder.uitofp)(bits, want)
    if code == "bf":
        wide = _like(bits.type, _I32)
        shift = ir.Constant(wide, [16] * WIDTH) if isinstance(wide, ir.VectorType) else ir.Constant(wide, 16)
        value = builder.bitcast(builder.shl(builder.zext(bits, wide), shift), _like(bits.type, _F["f4"]))
        return value if result == _F["f4"] else builder.fpext(value, want)
    value = builder.bitcast(bits, _like(bits.type, _F[code]))
    if code == "f2" and result == _F["f8"]:  # by way of float32, for which the processors have an instruction
        value = builder.fpext(value, _like(bits.type, _F["f4"]))
    if value.type == want:
        return value
    return (builder.fptrunc if (code, result) == ("f8", _F["f4"]) else builder.fpext)(value, want)


def _encode(builder, pointer, value):
    """Float vector -> the bits to store."""
    code, bits = pointer.code, _vector(pointer.storage)
    if code == "f8":
        value = value if value.type.element == _F["f8"] else builder.fpext(value, _vector(_F["f8"]))
    elif value.type.element == _F["f8"]:
        value = builder.fptrunc(value, _vector(_F["f4"]))
    if code == "f2":
        value = builder.fptrunc(value, _vector(_F["f2"]))
    if code != "bf":
        return _swap(builder, pointer, builder.bitcast(value, bits))
    # bfloat16: round to nearest, ties to even; a NaN keeps its sign and gets a quiet, non-zero mantissa
    def many(n):
        return ir.Constant(_vector(_I32), [n] * WIDTH)

    raw = builder.bitcast(value, _vector(_I32))
    odd = builder.and_(builder.lshr(raw, many(16)), many(1))
    rounded = builder.add(raw, builder.add(odd, many(0x7FFF)))
    quiet = builder.or_(raw, many(0x00400000))
    high = builder.select(builder.fcmp_unordered("uno", value, value), quiet, rounded)
    return _swap(builder, pointer, builder.trunc(builder.lshr(high, many(16)), bits))


def _result_type(scalar):
    """Lanes for the float scalar type that a kernel passes as `like`."""
    if scalar not in _FLOAT:
        raise TypeError(f"like must be a float32 or float64 scalar, got {scalar}")
    return Lanes(scalar)


# -- loads -----------------------------------------------------------------------------------------------------------
def _outlined(builder, name, result, args, body):
    """Call a function of the module made by `body`: rare code that would only swell the loops around it."""
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, [a.type for a in args]), name)
    if function.is_declaration:
        function.linkage = "internal"
        function.attributes.add("noinline")
        inner = ir.IRBuilder(function.append_basic_block())
        inner.ret(body(inner, *function.args)) if result != ir.VoidType() else (body(inner, *function.args), inner.ret_void())
    return builder.call(function, args)


def _gather(builder, base, offset, step, storage, last):
    """WIDTH separate loads `step` bytes apart; lanes past `last` repeat it, so that nothing outside is read."""

    def body(builder, base, offset, step, last):
        bits = ir.Constant(_vector(storage), ir.Undefined)
        for lane in range(WIDTH):
            index = ir.Constant(_I64, lane)
            index = builder.select(builder.icmp_signed("<", index, last), index, last)
            at = builder.add(offset, builder.mul(index, step))
            one = builder.load(_address(builder, base, at, storage), align=1)
            bits = builder.insert_element(bits, one, ir.Constant(_I32, lane))
        return bits

    args = [base, offset, step, last]
    return _outlined(builder, f"numbanorm_gather_{storage}", _vector(storage), args, body)


def _load_lanes(builder, pointer, base, offset, step, count):
    """The stored bits of WIDTH elements (`count` None) or of the first `count`, whatever the step between them."""
    storage, vector = pointer.storage, _vector(pointer.storage)
    near = builder.icmp_signed("==", step, ir.Constant(_I64, pointer.itemsize))
    with builder.if_else(near, likely=True) as (then, otherwise):
        with then:
            address = _address(builder, base, offset, vector)
            if count is None:
                together = builder.load(address, align=1)
            else:
                mask, zeros = _first_lanes(builder, count), ir.Constant(vector, None)
                name = f"llvm.masked.load.{_suffix(vector)}.p0"
                together = _call(builder, name, vector, [address, ir.Constant(_I32, 1), mask, zeros])
            then_block = builder.block
        with otherwise:
            same = builder.icmp_signed("==", step, ir.Constant(_I64, 0))
            with builder.if_else(same) as (if_same, if_apart):
                with if_same:
                    one = builder.load(_address(builder, base, offset, storage), align=1)
                    repeated = _splat(builder, one)
                    same_block = builder.block
                with if_apart:
                    last = ir.Constant(_I64, WIDTH - 1)
                    if count is not None:
                        last = builder.sub(count, ir.Constant(_I64, 1))
                    apart = _gather(builder, base, offset, step, storage, last)
                    apart_block = builder.block
            far = builder.phi(vector)
            far.add_incoming(repeated, same_block)
            far.add_incoming(apart, apart_block)
            otherwise_block = builder.block
    bits = builder.phi(vector)
    bits.add_incoming(together, then_block)
    bits.add_incoming(far, otherwise_block)
    return bits


@intrinsic
def load(typingctx, pointer, offset, step, like):
    """WIDTH elements at byte `offset`, `step` bytes apart, as lanes of `like`'s type.

    A pointer of kind "none" gives `like` itself in every lane: the neutral weight or bias.
    """
    result = _result_type(like)

    def codegen(context, builder, sig, args):
        base, at, by, neutral = args
        if pointer.kind == "none":
            return _splat(builder, neutral)
        bits = _load_lanes(builder, pointer, base, at, by, None)
        return _decode(builder, pointer, bits, _FLOAT[like])

    return result(pointer, types.int64, types.int64, like), codegen


@intrinsic
def load_first(typingctx, pointer, offset, step, count, like):
    """As `load`, only the first `count` lanes (at least 1); what the others hold is not defined."""
    result = _result_type(like)

    def codegen(context, builder, sig, args):
        base, at, by, n, neutral = args
        if pointer.kind == "none":
            return _splat(builder, neutral)
        bits = _load_lanes(builder, pointer, base, at, by, n)
        return _decode(builder, pointer, bits, _FLOAT[like])

    return result(pointer, types.int64, types.int64, types.int64, like), codegen


@intrinsic
def load_one(typingctx, pointer, offset):
    """The element at byte `offset` as a float64."""

    def codegen(context, builder, sig, args):
        base, at = args
        bits = builder.load(_address(builder, base, at, pointer.storage), align=1)
        return _decode(builder, pointer, bits, _F["f8"])

    return types.float64(pointer, types.int64), codegen


@intrinsic
def coefficient(typingctx, value, index, like):
    """Lanes of a coefficient from element `index` on: the number itself, or what a pointer of `like`'s kind holds."""
    result = _result_type(like)

    def codegen(context, builder, sig, args):
        base, i, _ = args
        if not isinstance(value, Pointer):
            return _splat(builder, base)
        offset = builder.mul(i, ir.Constant(_I64, value.itemsize))
        return builder.load(_address(builder, base, offset, _vector(_FLOAT[like])), align=value.itemsize)

    return result(value, types.int64, like), codegen


@intrinsic
def load_int(typingctx, pointer, index):
    """Element `index` of an int64 table."""

    def codegen(context, builder, sig, args):
        base, i = args
        return builder.load(_address(builder, base, builder.shl(i, ir.Constant(_I64, 3)), _I64))

    return types.int64(pointer, types.int64), codegen


# -- stores ------------------------------------------------------------------------------------------------------------
def _scatter(builder, base, offset, step, bits, count):
    """Separate stores, `step` bytes apart, of the first `count` lanes."""

    def body(builder, base, offset, step, bits, count):
        for lane in range(WIDTH):
            index = ir.Constant(_I64, lane)
            with builder.if_then(builder.icmp_signed("<", index, count)):
                one = builder.extract_element(bits, ir.Constant(_I32, lane))
                at = builder.add(offset, builder.mul(index, step))
                builder.store(one, _address(builder, base, at, one.type), align=1)

    args = [base, offset, step, bits, count]
    _outlined(builder, f"numbanorm_scatter_{bits.type.element}", ir.VoidType(), args, body)


def _store_lanes(builder, pointer, base, offset, step, value, count):
    bits = _encode(builder, pointer, value)
    near = builder.icmp_signed("==", step, ir.Constant(_I64, pointer.itemsize))
    with builder.if_else(near, likely=True) as (then, otherwise):
        with then:
            address = _address(builder, base, offset, bits.type)
            if count is None:
                builder.store(bits, address, align=1)
            else:
                mask = _first_lanes(builder, count)
                name = f"llvm.masked.store.{_suffix(bits.type)}.p0"
                _call(builder, name, ir.VoidType(), [bits, address, ir.Constant(_I32, 1), mask])
        with otherwise:
            lanes = ir.Constant(_I64, WIDTH) if count is None else count
            _scatter(builder, base, offset, step, bits, lanes)


@intrinsic
def store(typingctx, pointer, offset, step, lanes):
    """Write WIDTH lanes at byte `offset`, `step` bytes apart, rounded to the pointer's kind."""

    def codegen(context, builder, sig, args):
        base, at, by, value = args
        _store_lanes(builder, pointer, base, at, by, value, None)
        return context.get_dummy_value()

    return types.void(pointer, types.int64, types.int64, lanes), codegen


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
    """Write WIDTH contiguous lanes past the cache. The address must be a multiple of `stream_alignment(pointer)`;
    `stream_fence` makes the stores visible to other threads."""

    def codegen(context, builder, sig, args):
        base, at, value = args
        bits = _encode(builder, pointer, value)
        written = builder.store(bits, _address(builder, base, at, bits.type), align=min(64, WIDTH * pointer.itemsize))
        one = builder.module.add_metadata([ir.Constant(_I32, 1)])
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
        align, size = min(64, WIDTH * pointer.itemsize), pointer.itemsize
        behind = builder.and_(builder.sub(ir.Constant(_I64, 0), builder.add(base, at)), ir.Constant(_I64, align - 1))
        whole = builder.icmp_unsigned("==", builder.and_(behind, ir.Constant(_I64, size - 1)), ir.Constant(_I64, 0))
        head = builder.lshr(behind, ir.Constant(_I64, size.bit_length() - 1))
        return builder.select(whole, head, ir.Constant(_I64, -1))

    return types.int64(pointer, types.int64), codegen


@intrinsic
def store_one(typingctx, pointer, index, value):
    """Write a float64 at element `index`; nothing where None was passed."""

    def codegen(context, builder, sig, args):
        base, i, number = args
        given = builder.icmp_unsigned("!=", base, ir.Constant(_I64, 0))
        with builder.if_then(given) if pointer.optional else nullcontext():
            builder.store(number, _address(builder, base, builder.shl(i, ir.Constant(_I64, 3)), _F["f8"]))
        return context.get_dummy_value()

    return types.void(pointer, types.int64, types.float64), codegen


@intrinsic
def itemsize(typingctx, pointer):
    """Bytes of an element, a constant of the compiled code."""

    def codegen(context, builder, sig, args):
        return ir.Constant(_I64, pointer.itemsize)

    return types.int64(pointer), codegen


@intrinsic
def call(typingctx, address, first, last, table, x, out, weight, bias, eps, center, count, mean, m2):
    """Call the compiled kernel at an address, as Numba calls it: result and error by reference, then the arguments."""

    def codegen(context, builder, sig, args):
        word = _I8.as_pointer()
        values = list(args[1:])
        types_ = [word.as_pointer(), word.as_pointer(), *(value.type for value in values)]
        function = builder.inttoptr(args[0], ir.FunctionType(_I32, types_).as_pointer())
        result, error = (cgutils.alloca_once(builder, word) for _ in range(2))
        builder.call(function, [result, error, *values])
        return context.get_dummy_value()

    arguments = (first, last, table, x, out, weight, bias, eps, center, count, mean, m2)
    return types.void(address, *arguments), codegen


@intrinsic
def absent(typingctx):
    """A pointer of kind "none"."""

    def codegen(context, builder, sig, args):
        return ir.Constant(_I64, 0)

    return Pointer("none")(), codegen


# -- lanes ---------------------------------------------------------------------------------------------------------------
@intrinsic
def splat(typingctx, scalar):
    """A scalar in every lane."""

    def codegen(context, builder, sig, args):
        return _splat(builder, args[0])

    return _result_type(scalar)(scalar), codegen


@intrinsic
def convert(typingctx, value, like):
    """A float64 scalar, or lanes of them, rounded to `like`'s type."""
    result = Lanes(like) if isinstance(value, Lanes) else like

    def codegen(context, builder, sig, args):
        target = context.get_value_type(result)
        if args[0].type == target:
            return args[0]
        narrower = like == types.float32
        return (builder.fptrunc if narrower else builder.fpext)(args[0], target)

    return result(value, like), codegen


@intrinsic
def multiply_add(typingctx, a, b, c):
    """a * b + c of lanes, in one instruction where the processor has it."""

    def codegen(context, builder, sig, args):
        return _call(builder, f"llvm.fmuladd.{_suffix(args[0].type)}", args[0].type, args)

    return a(a, b, c), codegen


@intrinsic
def first(typingctx, lanes, count):
    """Lanes below `count`, zeros above."""

    def codegen(context, builder, sig, args):
        value, n = args
        return builder.select(_first_lanes(builder, n), value, ir.Constant(value.type, None))

    return lanes(lanes, types.int64), codegen


@intrinsic
def total(typingctx, lanes):
    """Sum of all lanes, halved in a fixed order."""

    def codegen(context, builder, sig, args):
        (value,) = args
        width = WIDTH
        while width > 1:
            width //= 2
            low = ir.Constant(ir.VectorType(_I32, width), list(range(width)))
            high = ir.Constant(ir.VectorType(_I32, width), list(range(width, 2 * width)))
            value = builder.fadd(
                builder.shuffle_vector(value, value, low), builder.shuffle_vector(value, value, high)
            )
        return builder.extract_element(value, ir.Constant(_I32, 0))

    return lanes.dtype(lanes), codegen


@intrinsic(prefer_literal=True)
def stack(typingctx, count, like):
    """Room on the stack for a literal `count` of `like`'s type, aligned for lanes."""
    size, kind = count.literal_value, {types.float32: "f4", types.float64: "f8"}[like]

    def codegen(context, builder, sig, args):
        with builder.goto_entry_block():  # not cgutils.alloca_once, which would fill it with zeros at every call
            room = builder.alloca(ir.ArrayType(_F[kind], size))
        room.align = 64
        return builder.ptrtoint(room, _I64)

    return Pointer(kind)(count, like), codegen


_FLOAT_OPS = {operator.add: "fadd", operator.sub: "fsub", operator.mul: "fmul", operator.truediv: "fdiv"}


def _pair(args):
    """The Lanes type of an operation on lanes and lanes, or lanes and a scalar; None if it is neither."""
    lanes = [a for a in args if isinstance(a, Lanes)]
    if len(args) != 2 or not lanes or lanes[0].dtype == types.boolean:
        return None
    return lanes[0]


def _operands(context, builder, sig, args, lanes):
    for value, typ in zip(args, sig.args, strict=True):
        yield value if isinstance(typ, Lanes) else _splat(builder, context.cast(builder, value, typ, lanes.dtype))


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
    _define(_op, lambda builder, a, b, name=_name: getattr(builder, name)(a, b))
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
    return _call(builder, f"llvm.sqrt.{_suffix(value.type)}", value.type, [value])


@intrinsic
def made_in_float32(typingctx, pointer):
    """Whether output of these elements is made in float32: they have at most its digits and range."""

    def codegen(context, builder, sig, args):
        return ir.Constant(_I1, pointer.code in ("f4", "f2", "bf"))

    return types.boolean(pointer), codegen


@intrinsic
def exact_in_float64(typingctx, pointer):
    """Whether a float64 holds the elements with digits to spare: one pass of sums is then as good as two."""

    def codegen(context, builder, sig, args):
        return ir.Constant(_I1, int(pointer.itemsize <= 2 or pointer.code == "f4"))

    return types.boolean(pointer), codegen


@intrinsic
def neutral_one(typingctx, pointer, offset, neutral):
    """The element at byte `offset` as a float64, `neutral` for a pointer of kind "none"."""

    def codegen(context, builder, sig, args):
        base, at, otherwise = args
        if pointer.kind == "none":
            return otherwise
        bits = builder.load(_address(builder, base, at, pointer.storage), align=1)
        return _decode(builder, pointer, bits, _F["f8"])

    return types.float64(pointer, types.int64, types.float64), codegen
