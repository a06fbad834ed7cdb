"""Numbers of any float kind, where there are too few to compile a kernel for each kind: statistics and coefficients."""



from .. import welford
from .machine import device, load_int, one_loader, one_storer
from .walk import KINDS

CODES = {"f8": 0, "f4": 1, "f2": 2, "bf": 3}  # of kinds, in tables
_load8, _load4, _load2, _load_bf = map(one_loader, CODES)
_store8, _store4, _store2, _store_bf = map(one_storer, CODES)


@device
def load_number(address, code):
    """One number of the kind that a code says, as a float64."""
    if code == 0:
        return _load8(address)
    if code == 1:
        return _load4(address)
    if code == 2:
        return _load2(address)
    return _load_bf(address)


@device
def store_number(address, code, value):
    """The reverse."""
    if code == 0:
        _store8(address, value)
    elif code == 1:
        _store4(address, value)
    elif code == 2:
        _store2(address, value)
    else:
        _store_bf(address, value)


@device
def itemsize(code):
    """Bytes of one number."""
    return 8 if code == 0 else 4 if code == 1 else 2


@device
def load_stored(table, count, mean, m2, group, eps):
    """Mean and inverse standard deviation of a group from given states; without counts, m2 is the variance."""
    codes = load_int(table, KINDS)
    of_mean, of_m2 = codes // 4, codes % 4
    n = 1.0
    if count != 0:
        n = _load8(count + 8 * group)
    mu = load_number(mean + itemsize(of_mean) * group, of_mean)
    return mu, welford.inverse_std(load_number(m2 + itemsize(of_m2) * group, of_m2), n, eps)
