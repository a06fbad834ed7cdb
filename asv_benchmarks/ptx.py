"""Compile every kernel of the CUDA launch table, without a GPU, and say what the compiler made of it.

    python asv_benchmarks/ptx.py                    # a table, for sm_80 and sm_90
    python asv_benchmarks/ptx.py --json FILE
    python asv_benchmarks/ptx.py --arch sm_90

Registers, spills and local memory are what ptxas reports; loads and stores of 128 bits are counted in the PTX and held
against what the launch table asks for. Exits with 1 if a kernel spills, uses local memory, takes more registers than
its bound, or moves its elements in smaller pieces.
"""

import argparse
import json
import os
import re
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from types import SimpleNamespace

os.environ["NUMBA_ENABLE_CUDASIM"] = "0"

from numbanorm import Layout
from numbanorm.arrays.memory import strides_of
from numbanorm.cuda import backward, chosen, plan
from numbanorm.cuda.kernels.constants import DECLARED, ITEMSIZES, NEAR, VECTOR_BYTES
from numbanorm.cuda.shapes import SHAPES
from numbanorm.walk import nest

CAPABILITIES = [(8, 0), (9, 0)]
ARCHITECTURES = {"sm_{}{}".format(*capability): capability for capability in CAPABILITIES}
KINDS = ["f4", "bf", "f2", "f8"]


@dataclass
class Kernel:
    """What became of a kernel."""

    name: str
    capability: str
    registers: int
    bound: int
    local: int  # bytes of local memory, spills among them
    spilled: int  # bytes
    loads: int  # of 128 bits
    stores: int
    expected_loads: int
    expected_stores: int
    kept: int  # loads or stores of 128 bits in shared memory, whichever are fewer
    expected_kept: int
    declared: int  # bytes of shared memory, but for what a launch adds
    allowed: int

    @property
    def faults(self):
        """What is wrong with it."""
        found = []
        if self.registers > self.bound:
            found.append(f"{self.registers} registers")
        if self.spilled or self.local:
            found.append(f"{self.spilled} bytes spilled, {self.local} of local memory")
        if self.loads < self.expected_loads or self.stores < self.expected_stores:
            found.append("narrow loads or stores")
        if self.declared > self.allowed:
            found.append(f"{self.declared} bytes of shared memory")
        if self.kept < self.expected_kept:
            found.append("narrow loads or stores in shared memory")
        return found


def operands(kind, weighted):
    """x, out, weight and bias of one kind, aligned."""
    affine = plan.Operand(kind if weighted else "none", VECTOR_BYTES)
    return (plan.Operand(kind, VECTOR_BYTES),) * 2 + (affine, affine)


def planned(kind, shape, layout, affine_strides=None):
    """Steps over a contiguous array, with weight and bias of these strides or none: of all operations."""
    item = ITEMSIZES[kind]
    strides = strides_of(shape, item)
    affine = affine_strides and tuple(n * item for n in affine_strides)
    loops = nest.build(layout.resolve(shape), [strides, strides, affine, affine])
    of_all = operands(kind, affine_strides is not None)
    return [step for what in ("normalize", "moments", "apply") for step in plan.steps(loops, what, of_all)[0]]


def of_table():
    """All kernels that the launch table leads to, for layouts that reach every entry of it."""
    found = {}

    def add(name, steps):
        for step in steps:
            if step.code not in found.values():
                found[f"{name} {step.code.variant.operation}".strip()] = step.code

    for kind in KINDS:
        # The other kinds differ from these two in how they are loaded and stored.
        for team in SHAPES.rows if kind in ("f4", "bf") else (SHAPES.rows[3], SHAPES.rows[-1]):
            held = team.held(kind, 16 // ITEMSIZES[kind], False)
            size = team.threads * held
            label = f"{kind} rows {team.threads}x{held}"
            add(label, planned(kind, (512, size), Layout.layer(1), (0, 1)))
        if kind == "f2":
            continue
        add(f"{kind} group", planned(kind, (64, 8, 4, 32, 32), Layout.axes((2, 3, 4)), (0, 4, 1, 0, 0)))
        add(f"{kind} batch", planned(kind, (64, 512, 16, 16), Layout.batch(), (0, 1, 0, 0)))
        add(f"{kind} large batch", planned(kind, (64, 512, 64, 64), Layout.batch(), (0, 1, 0, 0)))
        add(f"{kind} kept rows", planned(kind, (300, 1 << 14), Layout.layer(1), (0, 1)))
        add(f"{kind} long rows", planned(kind, (300, 1 << 17), Layout.layer(1), (0, 1)))
        add(f"{kind} plain rows", planned(kind, (300, 4096), Layout.layer(1)))
        for team in SHAPES.columns:
            size = max(1, team.threads) * 16 // ITEMSIZES[kind]
            add(f"{kind} columns {team.threads}", planned(kind, (4096, size), Layout.axes(0), (0, 1)))
            rows = 16 * team.block // team.threads
            add(f"{kind} kept columns {team.threads}", planned(kind, (300, rows, size), Layout.axes(1), (0, 0, 1)))
        add(f"{kind} long columns", planned(kind, (4096, 1 << 17), Layout.axes(0), (0, 1)))
        add(f"{kind} kept columns, weights by row", planned(kind, (128, 1 << 17), Layout.axes(0), (1, 0)))
        add(f"{kind} few rows", planned(kind, (16, 1 << 17), Layout.axes(0), (0, 1)))
        add(f"{kind} group, last", planned(kind, (8, 4096, 32, 8), Layout.axes((1, 3)), (0, 0, 8, 1)))
    for kind, name, steps in of_chosen():
        add(f"{kind} {name}", steps)
    for kind, name, steps in of_backward():
        add(f"{kind} {name}", steps)
    add("", [plan.update_running(1, 4, 4, 0), plan.matvec(1, 1, (4, 4, 4), (0, 0))])
    return found


CHOICES = [
    # kind of x; of the weights, and steps of them and of the mask along a table's two axes, in elements; whether NaN is
    # left out, and whether squared weights are added up
    ("f4", None, None, (1, 1), False, False),
    ("f4", "f4", (1, 1), None, True, False),
    ("f4", "f8", (1, 0), (1, 0), True, True),
    ("f8", "f8", (1, 1), (1, 1), True, True),
    ("bf", None, None, (1, 1), True, False),
    ("bf", "f4", (0, 1), None, False, True),
]


def of_chosen():
    """Statistics of what is chosen, in both families: kinds, names and steps; of the first choice for all teams."""
    for number, choice in enumerate(CHOICES):
        kind, of_weights, _, mask, skips, squares = choice
        flags = "mask" * bool(mask), of_weights and f"{of_weights} weights", "skipna" * skips, "squares" * squares
        said, width = ", ".join(filter(None, flags)), VECTOR_BYTES // ITEMSIZES[kind]
        for team in SHAPES.chosen[-1 if number else 0 :]:
            shape = 1024, SHAPES.turns * team.threads * team.held(kind, width, False)
            yield kind, f"chosen rows {team.threads}, {said}", chosen_steps(shape, Layout.layer(1), choice)
        for team in SHAPES.columns[: 1 if number else None]:
            shape = 4096, team.threads * width
            yield kind, f"chosen columns {team.threads}, {said}", chosen_steps(shape, Layout.axes(0), choice)


def chosen_steps(shape, layout, choice):
    """Steps over a contiguous table."""
    kind, of_weights, weights, mask, skips, squares = choice
    operands = tuple(plan.Operand(name or "none", VECTOR_BYTES) for name in (kind, None, of_weights, mask and "b1"))

    def strides(steps, item):
        return steps and (steps[0] * (shape[1] if steps[1] else 1) * item, steps[1] * item)

    both = strides(weights, ITEMSIZES.get(of_weights, 0)), strides(mask, 1)
    given = strides_of(shape, ITEMSIZES[kind]), None, *both
    return chosen.planned(layout.resolve(shape), operands, given, skips, squares).steps


def of_backward():
    """Going backward: all teams of rows and columns, with every way of weights; kinds, names and steps."""
    for kind in KINDS:
        width = VECTOR_BYTES // ITEMSIZES[kind]
        for team in SHAPES.backward if kind in ("f4", "bf") else SHAPES.backward[-2:]:
            size = team.threads * team.held(kind, width, True)
            yield kind, f"back rows {team.threads}", backward_steps(kind, (4096, size), Layout.layer(1), (1, size))
            plain = team.threads * team.held(kind, width, False)
            yield kind, f"back rows {team.threads}, plain", backward_steps(kind, (4096, plain), Layout.layer(1))
        if kind == "f2":
            continue
        pictures, channels = (64, 512, 16, 16), (1, 512, 1, 1)
        yield kind, "back batch", backward_steps(kind, pictures, Layout.batch(), channels)
        yield kind, "back group", backward_steps(kind, (64, 8, 4, 32, 32), Layout.axes((2, 3, 4)), (1, 8, 4, 1, 1))
        yield kind, "back long rows", backward_steps(kind, (300, 1 << 17), Layout.layer(1), (1, 1 << 17))
        yield kind, "back parts of rows", backward_steps(kind, (3, 1 << 20), Layout.layer(1), (1, 1))
        yield kind, "back channels", backward_steps(kind, (8, 320, 4096), Layout.axes(1), (1, 320, 1))
        for team in SHAPES.columns:
            size = team.threads * width
            yield kind, f"back columns {team.threads}", backward_steps(kind, (4096, size), Layout.axes(0), (1, size))
        yield kind, "back few rows", backward_steps(kind, (16, 1 << 17), Layout.axes(0), (1, 1 << 17))
        yield kind, "back many columns", backward_steps(kind, (512, 1 << 17), Layout.axes(0), (1, 1 << 17))
        yield kind, "back group, last", backward_steps(kind, (8, 4096, 32, 8), Layout.axes((1, 3)), (1, 1, 32, 8))


def backward_steps(kind, shape, layout, of_weight=None):
    """Steps over contiguous arrays, with a weight of this shape or none."""
    item = ITEMSIZES[kind]
    strides = strides_of(shape, item)
    one = plan.Operand(kind, VECTOR_BYTES)
    own = of_weight or (1,) * len(shape)
    slots, weight = (nest.stretched("weight", shape, own, strides_of(own, size)) for size in (1, item))
    operands = one, one, one if of_weight else plan.Operand("none", VECTOR_BYTES), one
    axes = backward.axes_of(layout.resolve(shape), [strides, strides, of_weight and weight, strides], slots, operands)
    return [launch.step for launch in backward.planned(axes, True, True).launches]


def expected(code):
    """Loads and stores of 128 bits that a kernel must have, where its vectors are that wide, and both in shared memory.

    One that keeps x reads it in two ways, the last tile for itself; one that does not reads it a second time.
    """
    if code.family == "states" or code.vector * ITEMSIZES[code.kinds.x] != VECTOR_BYTES:
        return 0, 0, 0
    units = code.values // code.vector
    if code.goes_back:
        passes = code.sums + (code.output and not (code.sums and code.whole))
        each = 1 + (code.bias == NEAR) + (code.weight == NEAR and code.inside)
        once = code.weight == NEAR and not code.inside and not code.by_operand and code.output
        return units * passes * each + once, units * code.output, 0
    if code.variant.operation == "chosen":
        each = ITEMSIZES.get(code.kinds.weight, 0) * code.vector / VECTOR_BYTES if code.weight == NEAR else 0
        return units * (1 + int(each)), 0, 0
    wide = sum(way == NEAR for way in (code.weight, code.bias))
    passes = code.statistics + (code.output and not (code.statistics and code.whole))
    rows = code.family == "rows" or code.decode
    loads = units * passes + (units if rows else 1) * wide * code.output
    return loads, units * code.output, units * code.kept


def examine(job):
    """Compile one kernel."""
    import numba.cuda.dispatcher
    from cuda.core import Linker, LinkerOptions, ObjectCode

    from numbanorm.cuda import launcher

    name, code, capability = job
    # Numba asks which device a part of a kernel is for, also where there is none.
    numba.cuda.dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    text, _ = launcher.ptx_of(code, capability)
    linker = Linker(
        ObjectCode.from_ptx(text.encode()),
        options=LinkerOptions(arch="sm_{}{}".format(*capability), ptxas_options=["-v"]),
    )
    linker.link("cubin")
    log = linker.get_info_log()
    found, wide = {}, r"(?:\.\w+)*\.(?:v4\.[bfus]32|v2\.[bfus]64)"
    for access in ("ld.global", "st.global", "ld.shared", "st.shared"):
        found[access] = len(re.findall(re.escape(access) + wide, text))
    declared = sum(map(int, re.findall(r"^\.visible \.shared .*\[(\d+)\];", text, re.MULTILINE)))
    loads, stores, kept = expected(code)
    threads, blocks = (*code.bounds, 1)[:2]
    local = int(re.search(r"(\d+) bytes stack frame", log)[1]) + len(re.findall(r"\.local\b", text))
    return Kernel(
        name=name,
        capability="sm_{}{}".format(*capability),
        registers=int(re.search(r"Used (\d+) registers", log)[1]),
        bound=min(255, 65536 // (threads * blocks)),
        local=local,
        spilled=int(re.search(r"(\d+) bytes spill stores", log)[1]),
        loads=found["ld.global"],
        stores=found["st.global"],
        expected_loads=loads,
        expected_stores=stores,
        kept=min(found["ld.shared"], found["st.shared"]),
        expected_kept=kept,
        declared=declared,
        allowed=DECLARED.get("chosen" if code.variant.operation == "chosen" else code.family, declared),
    )


def examine_all(kernels, capabilities=CAPABILITIES, processes=None):
    """Compile kernels in several processes, in order."""
    jobs = [(name, kernel, capability) for capability in capabilities for name, kernel in kernels.items()]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(examine, jobs)


def main(arguments=None):
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", metavar="FILE", help="write the table to a file, too")
    parser.add_argument("--only", metavar="TEXT", default="", help="kernels whose name has this")
    parser.add_argument("--arch", choices=ARCHITECTURES, help="for this one only")
    parser.add_argument("--processes", type=int)
    options = parser.parse_args(arguments)
    capabilities = [ARCHITECTURES[options.arch]] if options.arch else CAPABILITIES
    kernels = {name: kernel for name, kernel in of_table().items() if options.only in name}
    print(f"{'kernel':36} {'for':6} registers  local  spills  128-bit loads  stores      kept")
    rows = []
    for row in examine_all(kernels, capabilities, options.processes):
        rows.append(row)
        print(
            f"{row.name:36} {row.capability:6} {row.registers:4} of {row.bound:3} {row.local:6} {row.spilled:6}"
            f"  {row.loads:4} of {row.expected_loads:3}  {row.stores:4} of {row.expected_stores:3}"
            f"  {row.kept:4} of {row.expected_kept:3}  {'; '.join(row.faults)}",
            flush=True,
        )
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump([asdict(row) for row in rows], file, indent=1)
    return any(row.faults for row in rows)


if __name__ == "__main__":
    sys.exit(main())
