"""A frame in memory, and the two ways into a kernel: one compilation of each serves all kernels.

A kernel is void(first, last, table, frame): tasks [first, last) of a schedule's table, serially, on the slots of a
frame. It reads a slot by its name, `frame.x`, as a `Pointer` of the kind for which it is compiled.
"""

from llvmlite import ir
from numba import int64, njit, prange, types
from numba.core import cgutils
from numba.core.datamodel import models, register_default
from numba.core.extending import intrinsic
from numba.core.imputils import lower_getattr_generic
from numba.core.typing.templates import AttributeTemplate, infer_getattr

from ...walk.slots import NUMBERS, SLOTS
from .floats import plain_floats
from .intrinsics import Pointer
from .lanes import FLOATS, I8, I32, I64

_NUMBERS = dict(zip(NUMBERS, (types.float64, types.int64, types.float64, types.int64, types.int64), strict=True))
_AT = {name: 8 * i for i, name in enumerate((*SLOTS, *NUMBERS))}  # in bytes
# Of slots whose kind no caller chooses. Nobody may want the states: None stands for their arrays.
_KINDS = dict.fromkeys(SLOTS, "?f8") | {"board": "i8"}
_OPTIONAL = "mean", "m2", "rest", "part_rest"  # of those whose kind is chosen

TABLE = Pointer("i8")
FRAME = types.Tuple([*[Pointer("?u1")] * len(SLOTS), *_NUMBERS.values()])  # as Python passes it: any arrays, or None


class Frame(types.Type):
    """Address of a frame whose slots have these kinds, by name."""

    def __init__(self, kinds):
        self.kinds = _KINDS | kinds | {name: f"?{kinds[name]}" for name in _OPTIONAL if kinds[name] != "none"}
        super().__init__(name=f"Frame({kinds})")


@register_default(Frame)
class _FrameModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, I64)


@infer_getattr
class _FrameAttributes(AttributeTemplate):
    key = Frame

    def generic_resolve(self, frame, name):
        return _NUMBERS.get(name) or Pointer(frame.kinds[name])


@lower_getattr_generic(Frame)
def _slot(context, builder, frame, value, name):
    if frame.kinds.get(name) == "none":  # a constant, and what depends on it is not compiled
        return ir.Constant(I64, 0)
    typ = FLOATS["f8"] if _NUMBERS.get(name) == types.float64 else I64
    return builder.load(builder.inttoptr(builder.add(value, ir.Constant(I64, _AT[name])), typ.as_pointer()))


@intrinsic
def framed(typingctx, frame):
    """Address of a frame on the stack, for as long as the caller runs."""

    def codegen(context, builder, sig, args):
        with builder.goto_entry_block():
            room = builder.alloca(ir.ArrayType(I64, len(_AT)))
        base = builder.ptrtoint(room, I64)
        for i, value in enumerate(cgutils.unpack_tuple(builder, args[0])):
            word = builder.bitcast(value, I64) if value.type == FLOATS["f8"] else value
            builder.store(word, builder.inttoptr(builder.add(base, ir.Constant(I64, 8 * i)), I64.as_pointer()))
        return base

    return types.int64(frame), codegen


@intrinsic
def call(typingctx, address, first, last, table, frame):
    """Call the compiled kernel at an address, as Numba calls it: result and error by reference, then the arguments."""

    def codegen(context, builder, sig, args):
        word = I8.as_pointer()
        function = ir.FunctionType(I32, [word.as_pointer(), word.as_pointer(), *[I64] * 4]).as_pointer()
        result, error = (cgutils.alloca_once(builder, word) for _ in range(2))
        with plain_floats(builder):
            builder.call(builder.inttoptr(args[0], function), [result, error, *args[1:]])
        return context.get_dummy_value()

    return types.void(address, first, last, table, frame), codegen


@njit(nogil=True, error_model="numpy")
def serial(address, first, last, table, frame):
    """Run the kernel at `address` over tasks [first, last), in this thread and without the GIL."""
    call(address, first, last, table, framed(frame))


@njit(parallel=True, nogil=True, error_model="numpy")
def parallel(address, tasks, pieces, table, frame):
    """Run the kernel at `address` over its tasks in `pieces` equal, contiguous shares, one for each thread."""
    words = framed(frame)
    for piece in prange(pieces):
        first = int64(piece) * tasks // pieces
        last = (int64(piece) + 1) * tasks // pieces
        call(address, first, last, table, words)


ENTRY = types.void(types.int64, types.int64, types.int64, TABLE, FRAME)  # of both
