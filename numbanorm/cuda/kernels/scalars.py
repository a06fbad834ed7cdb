"""Numbers of any kind, where there are too few to compile a kernel for each kind: statistics and coefficients."""

from ...maths import welford
from .machine import device, load_int, one_loader, one_storer
from .walk import KINDS

FLOATS = ("f8", "f4", "f2", "bf")
KINDS_OF_NUMBERS = (*FLOATS, "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "b1")
CODES = {kind: code for code, kind in enumerate(KINDS_OF_NUMBERS)}  # in tables
KIND_CODES = 16  # two kinds in one entry: the first times this, and the second
NO_SPREAD = 0.0, 0.0, 0.0  # where there is no output
_load = one_loader("f8")


def _make_load(code):
    load = one_loader(KINDS_OF_NUMBERS[code])
    if code + 1 == len(KINDS_OF_NUMBERS):
        return device(lambda address, _: load(address))
    others = _make_load(code + 1)
    return device(lambda address, which: load(address) if which == code else others(address, which))


def _make_store(code):
    store = one_storer(FLOATS[code])
    if code + 1 == len(FLOATS):
        return device(lambda address, which, value: store(address, value))
    others = _make_store(code + 1)

    def store_number(address, which, value):
        if which == code:
            store(address, value)
        else:
            others(address, which, value)

    return device(store_number)


load_number = _make_load(0)  # load_number(address, code): one number of the kind that a code says, as a float64
store_number = _make_store(0)  # store_number(address, code, value): the reverse, of float kinds


@device
def itemsize(code):
    """Bytes of one number of a float kind."""
    return 8 if code == 0 else 4 if code == 1 else 2


@device
def given_statistics(table, states, group, spread):
    """Mean and inverse standard deviation of a group from given states; without counts, m2 is the variance."""
    count, mean, m2, _ = states
    codes = load_int(table, KINDS)
    of_mean, of_m2 = codes // KIND_CODES, codes % KIND_CODES
    n = 1.0
    if count != 0:
        n = _load(count + 8 * group)
    mu = load_number(mean + itemsize(of_mean) * group, of_mean)
    return mu, welford.inverse_std(load_number(m2 + itemsize(of_m2) * group, of_m2), n, spread)
