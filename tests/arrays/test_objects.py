"""Objects that are no arrays: what they are is said, with what to pass instead."""

import collections
import datetime
import decimal
import types

import numpy as np
import pytest

import numbanorm as nbn
from numbanorm.arrays.take import take, view

REFUSED = {
    "None": (None, "is None; pass an array"),
    "a str": ("abc", r"is text \(a str\)"),
    "bytes": (b"abc", r"is text \(a bytes\)"),
    "a dict": ({"a": [1.0]}, r"is a dict.*w\[key\].*list\(w\.values\(\)\)"),
    "a mapping": (types.MappingProxyType({"a": 1.0}), r"is a mappingproxy.*w\[key\]"),
    "a set": ({1.0, 2.0}, "is a set.*no order"),
    "keys": ({1.0: 2.0}.keys(), "is a dict_keys.*no order"),
    "values": ({1.0: 2.0}.values(), r"is a dict_values.*list\(w\)"),
    "a generator": ((i for i in range(3)), r"is a generator.*once.*list\(w\)"),
    "an iterator": (map(float, "12"), r"is a map.*once.*list\(w\)"),
    "a function": (len, "is a builtin_function_or_method.*no array"),
    "a date": (datetime.date(2020, 1, 1), "is a date.*no array"),
    "dates": ([datetime.date(2020, 1, 1)], r"objects \[date\].*NaN"),
    "decimals": ([decimal.Decimal(1), 2.0], r"objects \[Decimal, float\].*np.array\(w, dtype=float\)"),
    "missing": ([1.0, None], r"objects \[NoneType, float\].*NaN"),
    "a number too large": (2**70, "is an int.*no array"),
    "numbers too large": ([2**70], r"objects \[int\]"),
    "dicts": ([{}], r"objects \[dict\]"),
    "numbers and text": ([1.0, "a"], "<U32.*text.*astype"),
    "objects": (np.array([1.0, None]), "dtype object.*None.*astype"),
    "text": (np.array(["1", "2"]), "<U1.*text.*astype"),
    "newer text": (np.array(["1", "2"], np.dtypes.StringDType()), "StringDType.*text.*astype"),
    "dates of NumPy": (np.zeros(2, "M8[s]"), "datetime64.*dates.*timedelta64"),
    "spans of NumPy": (np.zeros(2, "m8[s]"), "timedelta64.*w / np.timedelta64"),
    "complex": (np.zeros(2, complex), r"complex128.*w\.real and w\.imag"),
    "fields": (np.zeros(2, [("a", "f4"), ("b", "f4")]), r"fields.*w\['a'\]"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_array_of_numbers_is_refused_by_its_kind(name):
    x, said = REFUSED[name]
    with pytest.raises(TypeError, match=rf"(?s)^w .*{said}"):
        take(x, "w")


@pytest.mark.parametrize("ragged", [[[1.0], [2.0, 3.0]], (np.zeros(2), np.zeros(3)), [1.0, [2.0]]], ids=str)
def test_rows_of_different_lengths_are_refused_as_such(ragged):
    with pytest.raises(ValueError, match=r"^w \(a (list|tuple)\) has rows of different lengths; pass"):
        take(ragged, "w")


def test_sparse_matrices_are_refused_with_the_mend():
    sparse = pytest.importorskip("scipy.sparse")
    for x in (sparse.eye(3).tocsr(), sparse.coo_array(np.eye(3)), sparse.eye(3).todok(), sparse.eye(3).tolil()):
        with pytest.raises(TypeError, match=rf"^w is sparse \(a {type(x).__name__}\); pass w.toarray\(\)"):
            take(x, "w")
        np.testing.assert_array_equal(view(x.toarray()), np.eye(3))


@pytest.mark.parametrize("wrong", [{}, {1.0}, "text", (i for i in range(3))], ids=lambda wrong: type(wrong).__name__)
def test_every_function_says_it_of_every_argument(wrong, no_kernels):
    x = np.ones((2, 3))
    for name, call in {
        "x": lambda: nbn.layer_norm(wrong, 3),
        "w": lambda: nbn.weight_standardize(wrong),
        "weight": lambda: nbn.layer_norm(x, 3, wrong),
        "bias": lambda: nbn.batch_norm(x, None, None, None, wrong, training=True),
        "running_var": lambda: nbn.batch_norm(x, np.zeros(3), wrong),
    }.items():
        with pytest.raises(TypeError, match=rf"^{name} is .*; pass"):
            call()


def test_an_object_that_cannot_be_read_says_why():
    class Closed:
        def __array__(self, dtype=None, copy=None):
            raise ValueError("the file is closed")

    with pytest.raises(TypeError, match=r"^w is a Closed.*the file is closed"):
        take(Closed(), "w")


def test_what_numpy_reads_is_taken():
    class Stored:
        def __array__(self, dtype=None, copy=None):
            return np.arange(3.0)

    for x in (Stored(), range(3), collections.deque([0, 1, 2]), np.arange(3.0).flat, memoryview(np.arange(3.0))):
        np.testing.assert_array_equal(take(x)[0], [0, 1, 2])
    for number in (2, 2.0, True, np.float32(2)):
        assert take(number)[0].shape == ()
