"""Emit machine code of kernels for a level of x86-64, to be shipped in a wheel: `shipped` loads it, without Numba.

All kernels of one kind of data are one image: code and constants that lie as they are loaded, at any address. What it
takes from outside (`sched_yield`, and of Python what the entry needs) it finds in a table of addresses at its end,
which the loader fills in. To pointers within constants it adds where they lie. An object that asks for more is refused.

    python -m numbanorm.cpu.emit x86-64-v3 FOLDER < LIST

compiles the kernels of a list in a process that takes itself for a machine of this level. `write` starts such
processes, and `hatch_build.py` calls it when a wheel is built.
"""

import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from ..engine.interface import Kinds, Variant
from ..walk.slots import NUMBERS, SLOTS
from .processors import available
from .shipped import ENTRY, FORMAT, LEVELS, MANIFEST, SYSTEM, Image, sources, written

ALIGNMENT = 64  # of whatever section
# The only names from outside that code may have: the system's, and Python's for the entry.
OUTSIDE = frozenset({"sched_yield", "memcpy", "memset", "memmove"})
_STUB = 8  # bytes of a jump through the table


# linking ------------------------------------------------------------------------------------------------------------


class _Section(NamedTuple):
    name: str
    kind: int
    flags: int
    data: memoryview
    size: int
    link: int
    info: int
    align: int


_ALLOC, _WRITE, _EXECUTE = 2, 1, 4
_NOBITS, _SYMTAB, _RELA, _UNWIND = 8, 2, 4, 0x70000001
_ADDRESS, _PC32, _PLT32, _GOTPCREL, _GOTPCRELX, _REX_GOTPCRELX = 1, 2, 4, 9, 41, 42
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QIIq")


def linked(made: bytes, names: Sequence[str]) -> tuple[bytes, Image]:
    """An object file of ELF for x86-64 as an image with these entries, and what is to be known of it.

    Raises
    ------
    ValueError
        If it needs more than its own sections and the names that are let in.
    """
    sections = _sections(made)
    places, size = _placed(sections)
    symbols = _symbols(sections)
    outside = sorted({name for name, section, _ in symbols if section == 0 and name})
    size += -size % 16
    stubs = {name: size + _STUB * i for i, name in enumerate(outside)}
    size += _STUB * len(outside)
    size += -size % ALIGNMENT
    slots = {name: size + 8 * i for i, name in enumerate(outside)}
    code = bytearray(size + 8 * len(outside))
    for index, place in places.items():
        code[place : place + sections[index].size] = sections[index].data
    for name, stub in stubs.items():  # jmp *slot(%rip)
        code[stub : stub + 6] = b"\xff\x25" + struct.pack("<i", slots[name] - stub - 6)
    pointers: list[int] = []
    for section in sections:
        if section.kind == _RELA and section.info in places:
            for at, kind, symbol, addend in _relocations(section):
                name, inside, value = symbols[symbol]
                place = places[section.info] + at
                if kind == _ADDRESS and inside in places:
                    code[place : place + 8] = struct.pack("<q", places[inside] + value + addend)
                    pointers.append(place)
                    continue
                if kind in (_GOTPCREL, _GOTPCRELX, _REX_GOTPCRELX) and inside == 0:
                    target = slots[name]
                elif kind in (_PC32, _PLT32) and inside in places:
                    target = places[inside] + value
                elif kind == _PLT32 and inside == 0:
                    target = stubs[name]
                else:
                    raise ValueError(f"relocation {kind} to {name or inside!r} in {section.name} cannot be resolved")
                code[place : place + 4] = struct.pack("<i", target + addend - place)
    offsets = {name: places[inside] + value for name, inside, value in symbols if inside in places and name}
    kernels = {name: offsets[name] for name in names}
    return bytes(code), Image("", sha256(code).hexdigest(), size, outside, pointers, kernels)


def _sections(made: bytes) -> list[_Section]:
    if made[:6] != b"\x7fELF\x02\x01" or struct.unpack_from("<HH", made, 16) != (1, 62):
        raise ValueError("not an object file of ELF for x86-64")
    (start,) = struct.unpack_from("<Q", made, 40)
    width, number, names = struct.unpack_from("<HHH", made, 58)
    heads = [struct.unpack_from("<IIQQQQIIQQ", made, start + width * i) for i in range(number)]
    at = heads[names][4]
    found = []
    for name, kind, flags, _, offset, size, link, info, align, _ in heads:
        text = made[at + name : made.index(b"\0", at + name)].decode()
        found.append(_Section(text, kind, flags, memoryview(made)[offset : offset + size], size, link, info, align))
    return found


def _placed(sections: Sequence[_Section]) -> tuple[dict[int, int], int]:
    """Where each section lies that is loaded; and the end. How to unwind the stack is left out: nothing throws."""
    places, size = {}, 0
    for index, section in enumerate(sections):
        if not section.flags & _ALLOC or not section.size or section.name == ".eh_frame" or section.kind == _UNWIND:
            continue
        constant = not section.flags & _WRITE or section.name.startswith(".data.rel.ro")  # once pointers are right
        if not constant or section.kind == _NOBITS:
            raise ValueError(f"section {section.name} is data to be written")
        if section.align > ALIGNMENT:
            raise ValueError(f"section {section.name} has to lie at multiples of {section.align}")
        size += -size % ALIGNMENT
        places[index] = size
        size += section.size
    return places, size


def _symbols(sections: Sequence[_Section]) -> list[tuple[str, int, int]]:
    """Name, section and value of each symbol."""
    (table,) = [section for section in sections if section.kind == _SYMTAB]
    names = bytes(sections[table.link].data)
    found = []
    for name, _, _, section, value, _ in _SYMBOL.iter_unpack(table.data):
        found.append((names[name : names.index(b"\0", name)].decode(), section, value))
    return found


def _relocations(section: _Section) -> list[tuple[int, int, int, int]]:
    return list(_RELOCATION.iter_unpack(section.data))


# compiling ----------------------------------------------------------------------------------------------------------


def pretend(level: str) -> None:
    """Let this process take itself for a machine of this level, before Numba and any kernel are imported.

    The code that Numba makes is for the level, and so is what kernels ask of the processor. None of it is run.
    """
    from llvmlite import binding

    os.environ["NUMBA_CPU_NAME"], os.environ["NUMBA_CPU_FEATURES"] = level, ""
    has = dict.fromkeys(["avx2", "fma", "f16c"], True)
    has |= dict.fromkeys(["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"], level == "x86-64-v4")
    binding.get_host_cpu_features = lambda: has


def emitted(variants: Sequence[Variant], level: str, entry: bool) -> tuple[bytes, Image]:
    """Compile kernels, and with them the entry from Python if it is wanted."""
    from llvmlite import binding

    from . import compiled

    kernels = {str(variant): compiled.kernel(variant) for variant in variants}
    if entry:
        kernels["serial"] = compiled.entry()
    symbols, modules = {}, []
    for number, (name, made) in enumerate(kernels.items()):
        module = binding.parse_bitcode(made.library._final_module.as_bitcode())
        symbols[name] = f"kernel_{number}"
        modules.append(_alone(module, made.fndesc.llvm_func_name, symbols[name]))
    if entry:
        modules.append(_optimized(binding.parse_assembly(_trampoline(symbols.pop("serial")))))
        symbols[ENTRY] = ENTRY
    whole = modules[0]
    for module in modules[1:]:
        whole.link_in(module)
    keep = set(symbols.values())
    for function in whole.functions:
        if not function.is_declaration and function.name not in keep:
            function.linkage = "internal"
    machine = _machine(level)
    _drop_unused(whole, machine)
    code, image = linked(machine.emit_object(whole), list(symbols.values()))
    if strange := {name for name in image.outside if not (name in OUTSIDE or (entry and "Py" in name))}:
        raise ValueError(f"kernels for {level} need {sorted(strange)} from outside")
    return code, image._replace(kernels={name: image.kernels[symbol] for name, symbol in symbols.items()})


def _machine(level: str) -> Any:
    from llvmlite import binding

    return binding.Target.from_triple(binding.get_process_triple()).create_target_machine(
        cpu=level, features="", opt=3, reloc="pic", codemodel="small"
    )


def _alone(module: Any, keep: str, name: str) -> Any:
    """A module of which nothing but one function is seen from outside, under another name."""
    for item in (*module.functions, *module.global_variables):
        if not item.is_declaration and item.name != keep:
            item.linkage = "internal"
    module.get_function(keep).name = name
    _drop_unused(module, _machine("x86-64"))
    return module


def _optimized(module: Any) -> Any:
    from llvmlite import binding

    builder = binding.create_pass_builder(_machine("x86-64"), binding.create_pipeline_tuning_options(speed_level=2))
    builder.getModulePassManager().run(module, builder)
    return module


def _drop_unused(module: Any, machine: Any) -> None:
    from llvmlite import binding

    builder = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(speed_level=1))
    passes = binding.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(module, builder)


# Numbers as `int` and `float` make them; -1 may be an error.
_ENTRY = """
@_Py_NoneStruct = external global i8
@PyLong_Type = external global i8
@PyFloat_Type = external global i8
@PyExc_TypeError = external global ptr
@PyExc_ValueError = external global ptr
@arguments = private constant STRING "a kernel takes 5 arguments, got %zd"
@slots = private constant STRING "size mismatch for tuple, expected $SLOTS element(s) but got %zd"
declare ptr @PyNumber_Long(ptr) nonlazybind
declare ptr @PyNumber_Float(ptr) nonlazybind
declare i64 @PyLong_AsLongLong(ptr) nonlazybind
declare double @PyFloat_AsDouble(ptr) nonlazybind
declare void @Py_IncRef(ptr) nonlazybind
declare void @Py_DecRef(ptr) nonlazybind
declare ptr @PyErr_Occurred() nonlazybind
declare void @PyErr_Clear() nonlazybind
declare ptr @PyErr_Format(ptr, ptr, ...) nonlazybind
declare i64 @PyTuple_Size(ptr) nonlazybind
declare ptr @PyTuple_GetItem(ptr, i64) nonlazybind
declare ptr @PyEval_SaveThread() nonlazybind
declare void @PyEval_RestoreThread(ptr) nonlazybind
declare i32 @$SERIAL($TYPES)
$CONVERSIONS
define internal i64 @word(ptr %object) alwaysinline {
  %place = getelementptr i8, ptr %object, i64 16
  %word = load i64, ptr %place
  ret i64 %word
}
define internal i64 @word_or_0(ptr %object) alwaysinline {
  %none = icmp eq ptr %object, @_Py_NoneStruct
  %word = call i64 @word(ptr %object)
  %or_0 = select i1 %none, i64 0, i64 %word
  ret i64 %or_0
}
define ptr @$NAME(ptr %self, ptr %args, i64 %number) {
start:
  %result = alloca ptr
  %error = alloca ptr
  %five = icmp eq i64 %number, 5
  br i1 %five, label %right, label %wrong
wrong:
  %type_error = load ptr, ptr @PyExc_TypeError
  call ptr (ptr, ptr, ...) @PyErr_Format(ptr %type_error, ptr @arguments, i64 %number)
  ret ptr null
failed:
  ret ptr null
right:
$BODY
  %state = call ptr @PyEval_SaveThread()
  call i32 @$SERIAL($ARGUMENTS)
  call void @PyEval_RestoreThread(ptr %state)
  call void @Py_IncRef(ptr @_Py_NoneStruct)
  ret ptr @_Py_NoneStruct
mismatch:
  call void @PyErr_Clear()
  %value_error = load ptr, ptr @PyExc_ValueError
  call ptr (ptr, ptr, ...) @PyErr_Format(ptr %value_error, ptr @slots, i64 %size)
  ret ptr null
}
"""
_CONVERSION = """
define internal $TYPE @as_$TYPE(ptr %object) {
  %place = getelementptr i8, ptr %object, i64 8
  %type = load ptr, ptr %place
  %exact = icmp eq ptr %type, @Py$CLASS_Type
  br i1 %exact, label %direct, label %convert
direct:
  %read = call $TYPE @$READ(ptr %object)
  ret $TYPE %read
convert:
  %made = call ptr @PyNumber_$CLASS(ptr %object)
  %none = icmp eq ptr %made, null
  br i1 %none, label %failed, label %known
failed:
  ret $TYPE $ERROR
known:
  %number = call $TYPE @$READ(ptr %made)
  call void @Py_DecRef(ptr %made)
  ret $TYPE %number
}
"""
_ERRORS = {"i64": ("icmp eq", "-1"), "double": ("fcmp oeq", "-1.0")}


def _trampoline(serial: str) -> str:
    """The entry from Python, as LLVM's text: a vectorcall (address, first, last, table, frame) into `frame.serial`.

    It takes what Numba's own wrapper takes, with the same errors: numbers as `int` and `float` make them; of each array
    the word behind the head of its object; a frame of as many slots. The GIL is let go meanwhile.
    """
    lines: list[str] = []

    def number(name: str, kind: str) -> str:
        compare, error = _ERRORS[kind]
        lines.append(f"""
  %{name} = call {kind} @as_{kind}(ptr %{name}_object)
  %{name}_odd = {compare} {kind} %{name}, {error}
  br i1 %{name}_odd, label %{name}_check, label %{name}_known
{name}_check:
  %{name}_error = call ptr @PyErr_Occurred()
  %{name}_failed = icmp ne ptr %{name}_error, null
  br i1 %{name}_failed, label %failed, label %{name}_known
{name}_known:""")
        return f"{kind} %{name}"

    arguments = ["ptr %result", "ptr %error"]
    for at, name in enumerate(("address", "first", "last", "table", "frame")):
        lines.append(f"  %{name}_place = getelementptr ptr, ptr %args, i64 {at}")
        lines.append(f"  %{name}_object = load ptr, ptr %{name}_place")
    arguments += [number(name, "i64") for name in ("address", "first", "last")]
    lines.append(f"""
  %table = call i64 @word(ptr %table_object)
  %size = call i64 @PyTuple_Size(ptr %frame_object)
  %fits = icmp eq i64 %size, {len(SLOTS) + len(NUMBERS)}
  br i1 %fits, label %frame, label %mismatch
frame:""")
    arguments.append("i64 %table")
    for at, name in enumerate((*SLOTS, *NUMBERS)):
        lines.append(f"  %{name}_object = call ptr @PyTuple_GetItem(ptr %frame_object, i64 {at})")
        if name in SLOTS:
            lines.append(f"  %{name} = call i64 @word_or_0(ptr %{name}_object)")
            arguments.append(f"i64 %{name}")
        else:
            arguments.append(number(name, "double" if name in ("eps", "momentum") else "i64"))
    made = {"i64": ("Long", "PyLong_AsLongLong"), "double": ("Float", "PyFloat_AsDouble")}
    conversions = [
        _CONVERSION.replace("$TYPE", kind).replace("$CLASS", name).replace("$READ", read).replace("$ERROR", error)
        for kind, (name, read) in made.items()
        for _, error in [_ERRORS[kind]]
    ]
    text = _ENTRY.replace("$CONVERSIONS", "".join(conversions)).replace("$BODY", "\n".join(lines))
    text = text.replace("$ARGUMENTS", ", ".join(arguments)).replace("$SERIAL", serial).replace("$NAME", ENTRY)
    text = text.replace("$TYPES", ", ".join(argument.split()[0] for argument in arguments))
    return _sized(text.replace("$SLOTS", str(len(SLOTS) + len(NUMBERS))))


def _sized(text: str) -> str:
    """LLVM's text with the right length of each string."""

    def with_length(found: re.Match[str]) -> str:
        value = found[1]
        return f'constant [{len(value) + 1} x i8] c"{value}\\00"'

    return re.sub(r'constant STRING "([^"]*)"', with_length, text)


# in processes --------------------------------------------------------------------------------------------------------


def write(folder: Path, lists: Mapping[str, Sequence[Variant]], levels: Sequence[str] = tuple(LEVELS)) -> None:
    """Emit an image for each list of kernels and each level, and the manifests: all that `shipped` looks for.

    One of the lists has to be called "entry": it gets the entry from Python.

    Raises
    ------
    RuntimeError
        If kernels could not be emitted.
    """
    names = sorted(lists, key=lambda name: -len(lists[name]))
    jobs = [(level, name) for name in names for level in levels]
    with ThreadPoolExecutor(available()) as pool:
        notes = list(pool.map(lambda job: _image(folder / job[0], job[0], job[1], lists[job[1]]), jobs))
    for level in levels:
        images = [note for note, (of, _) in zip(notes, jobs, strict=True) if of == level]
        text = written([FORMAT, SYSTEM, level, sources()], images).encode()
        (folder / level / MANIFEST).write_bytes(sha256(text).hexdigest().encode() + b"\n" + text)


def _image(folder: Path, level: str, name: str, variants: Sequence[Variant]) -> Image:
    """Emit one image in a process of its own: what the manifest says of it."""
    folder.mkdir(parents=True, exist_ok=True)
    env = {key: value for key, value in os.environ.items() if not key.startswith(("NUMBA_", "NUMBANORM_"))}
    home = str(Path(__file__).parents[2])
    env |= {"PYTHONPATH": os.pathsep.join(filter(None, [home, env.get("PYTHONPATH")]))}
    env |= {"NUMBANORM_CACHE_DIR": os.devnull}  # nothing is kept, and nothing found
    asked = json.dumps({"name": name, "variants": variants, "entry": name == "entry"})
    command = [sys.executable, "-m", __spec__.name if __spec__ else __name__, level, str(folder)]
    done = subprocess.run(command, input=asked, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"kernels for {level} could not be emitted: {done.stderr}")
    return Image(*json.loads(done.stdout))


def main() -> None:
    """Compile the kernels of a list, and write their image with a note of what is in it."""
    level, folder = sys.argv[1], Path(sys.argv[2])
    given = json.load(sys.stdin)
    pretend(level)
    variants = [Variant(operation, family, Kinds(*kinds)) for operation, family, kinds in given["variants"]]
    code, image = emitted(variants, level, given["entry"])
    name = f"{given['name']}.bin"
    (folder / name).write_bytes(code)
    json.dump(image._replace(file=name), sys.stdout)


if __name__ == "__main__":
    main()
