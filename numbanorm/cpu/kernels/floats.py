"""The floating-point environment of kernels: the default one, whatever the thread that runs them has set.

Libraries built with -ffast-math, and `torch.set_flush_denormal`, let a thread flush subnormal numbers to zero. Others
change how it rounds. As each thread has its own settings, a result would depend on which threads took part.
"""

from contextlib import contextmanager

from llvmlite import ir

I8, I32, I64 = (ir.IntType(bits) for bits in (8, 32, 64))
FLAGS = 0x3F  # of MXCSR: which exceptions there were
MASKED = 0x1F80  # the rest of it by default: no exception traps, round to nearest, keep subnormals


@contextmanager
def plain_floats(builder):
    """Have the code that is built inside run with the default settings, and put the thread's own back behind it."""
    processor = builder.module.triple.partition("-")[0]
    if processor == "x86_64":
        read, write, default = _mxcsr(builder)
    elif processor in ("aarch64", "arm64"):
        read, write, default = _fpcr(builder)
    else:
        yield
        return
    before = read()
    differs = builder.icmp_unsigned("!=", before[0], default)
    with builder.if_then(differs, likely=False):
        write(default)
    yield
    with builder.if_then(differs, likely=False):
        write(before[1])


def _mxcsr(builder):
    """Reading and writing the settings of x86: read() gives what is compared, and all that is to be put back."""
    with builder.goto_entry_block():
        room = builder.alloca(I32)
    place = builder.bitcast(room, I8.as_pointer())
    of_place = ir.FunctionType(ir.VoidType(), [I8.as_pointer()])
    get, put = (
        builder.module.declare_intrinsic(f"llvm.x86.sse.{name}", (), of_place) for name in ("stmxcsr", "ldmxcsr")
    )

    def read():
        builder.call(get, [place])
        word = builder.load(room)
        return builder.and_(word, ir.Constant(I32, ~FLAGS)), word

    def write(word):
        builder.store(word, room)
        builder.call(put, [place])

    return read, write, ir.Constant(I32, MASKED)


def _fpcr(builder):
    """The same of ARM, whose flags are in another register."""

    def read():
        get = ir.InlineAsm(ir.FunctionType(I64, []), "mrs $0, fpcr", "=r", side_effect=True)
        word = builder.call(get, [])
        return word, word

    def write(word):
        put = ir.InlineAsm(ir.FunctionType(ir.VoidType(), [I64]), "msr fpcr, $0", "r", side_effect=True)
        builder.call(put, [word])

    return read, write, ir.Constant(I64, 0)
