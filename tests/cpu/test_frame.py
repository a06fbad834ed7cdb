"""A frame in memory: a kernel finds every slot and number by its name, whatever kinds it is compiled for."""

import numpy as np
import pytest
from numba import njit, types

from numbanorm.cpu import launcher
from numbanorm.cpu.kernels import frame as frames
from numbanorm.cpu.kernels.intrinsics import is_present, load_int, load_one, store_one
from numbanorm.engine.interface import Frame, Kinds
from numbanorm.walk.slots import NUMBERS, PARTIAL_STATES, SLOTS, STATES

FREE = "x", "out", "weight", "bias", "running_mean", "running_var"  # what may be of any kind, or left out
ALWAYS = (*STATES, *PARTIAL_STATES, "board")
KINDS = ["f8", "f4", "f2", "bf", ">f4", "i1", "u2", "b1", "i8"]


def kernel(source):
    """A kernel of a frame, made of its source: one statement a line, on `frame` and `table`."""
    lines = "\n".join(f"    {line}" for line in source)
    names = {"is_present": is_present, "load_int": load_int, "load_one": load_one, "store_one": store_one}
    exec(f"def made(first, last, table, frame):\n{lines}\n", names)  # as names of slots cannot be handed over
    return njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)(names["made"])


def address_of(source, kinds):
    signature = types.void(types.int64, types.int64, frames.TABLE, frames.Frame(kinds._asdict()))
    dispatcher = kernel(source)
    dispatcher.compile(signature)
    compiled = dispatcher.overloads[signature.args]
    # Who calls an address keeps its code alive, as dispatchers of the package do.
    return compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name), dispatcher


def test_every_slot_and_number_has_its_own_place():
    """A kernel copies one number of each array, and each number, to `out`."""
    values = {name: np.array([float(i)]) for i, name in enumerate(SLOTS, 1)}
    values["board"] = np.array([99])
    values["out"] = out = np.zeros(len(SLOTS) + len(NUMBERS))
    numbers = {"eps": 0.25, "center": -7, "momentum": 0.75, "ddof": 5}
    source, expected = [], []
    for i, name in enumerate((*SLOTS, *NUMBERS)):
        if name == "out":
            continue
        read = f"float(frame.{name})" if name in NUMBERS else f"load_one(frame.{name}, 0)"
        source.append(f"store_one(frame.out, {i}, {read})")
        expected.append((i, numbers.get(name, values.get(name, [0])[0])))
    address, _ = address_of(source, Kinds(**dict.fromkeys((*FREE, "rest", "part_rest"), "f8")))
    launcher.serial()(address, 0, 1, np.zeros(1, np.int64), Frame(**values, **numbers))
    for i, value in expected:
        assert out[i] == value, (*SLOTS, *NUMBERS)[i]


@pytest.mark.parametrize("slot", FREE)
def test_what_is_left_out_is_a_constant(slot):
    """Whatever the frame holds there: an address that must not be followed is not even read."""
    kinds = Kinds(**{name: "none" if name == slot else "f8" for name in FREE})
    address, _ = address_of([f"store_one(frame.count, 0, 5.0 if is_present(frame.{slot}) else 3.0)"], kinds)
    for there in (None, np.ones(1)):
        count = np.zeros(1)
        launcher.serial()(address, 0, 1, np.zeros(1, np.int64), Frame(count=count)._replace(**{slot: there}))
        assert count == [3.0]


@pytest.mark.parametrize("slot", [*STATES, *PARTIAL_STATES])
def test_states_that_nobody_wants(slot):
    """None is an address of 0, which `is_present` tells from an array, and to which nothing is written."""
    there = f"store_one(frame.out, 0, 1.0 if is_present(frame.{slot}) else 2.0)"
    kinds = Kinds(out="f8", rest="f8", part_rest="f8")
    address, _ = address_of([there, f"store_one(frame.{slot}, 0, 7.0)"], kinds)
    out, state = np.zeros(1), np.zeros(1)
    launcher.serial()(address, 0, 1, np.zeros(1, np.int64), Frame(out=out))
    assert out == [2.0]
    launcher.serial()(address, 0, 1, np.zeros(1, np.int64), Frame(out=out)._replace(**{slot: state}))
    assert (out, state) == ([1.0], [7.0])


@pytest.mark.parametrize("kind", KINDS)
def test_slots_have_the_kinds_of_the_variant(kind):
    """By type, of which `test_intrinsics` reads every one; and read by a kernel."""
    made = frames.Frame(Kinds(**dict.fromkeys(FREE, kind), mean="f4", m2=kind, rest="f8")._asdict())
    assert {name: made.kinds[name] for name in FREE} == dict.fromkeys(FREE, kind)
    assert (made.kinds["mean"], made.kinds["m2"]) == ("?f4", f"?{kind}")
    assert {name: made.kinds[name] for name in ALWAYS if name not in ("mean", "m2")} == {
        **dict.fromkeys(("count", "rest", "part_count", "part_mean", "part_m2"), "?f8"),
        "part_rest": "none",
        "board": "i8",
    }
    assert set(made.kinds) == set(SLOTS)


def test_frames_of_other_kinds_are_other_types():
    frame = frames.Frame(Kinds("f4")._asdict())
    assert frame == frames.Frame(Kinds("f4")._asdict())
    for other in (Kinds("f8"), Kinds("f4", "f4"), Kinds("f4", mean="f4"), Kinds("f4", running_var="f4")):
        assert frame != frames.Frame(other._asdict())


def test_both_entries_hand_over_first_last_and_table():
    """The parallel one in equal, contiguous shares, each task once."""
    source = ["for task in range(first, last):", "    store_one(frame.out, load_int(table, task), float(last - first))"]
    address, _ = address_of(source, Kinds(out="f8"))
    table = np.arange(10)[::-1].copy()
    out = np.zeros(10)
    launcher.serial()(address, 2, 5, table, Frame(out=out))
    assert out.tolist() == [0, 0, 0, 0, 0, 3, 3, 3, 0, 0]
    out[:] = 0
    launcher.launch(address, 10, 4, table, Frame(out=out))
    assert sorted(out.tolist()) == [2, 2, 2, 2, 3, 3, 3, 3, 3, 3]
