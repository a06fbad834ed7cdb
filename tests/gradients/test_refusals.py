"""Wrong input to what goes backward: refused with a message that says what was given and what fits, before it runs."""

import re

import numpy as np
import pytest

import numbanorm as nbn

X = np.ones((4, 6, 5), np.float32)
ONES = np.ones(6, np.float32)
M = nbn.Moments(np.full(6, 20.0), np.zeros(6), np.ones(6))


def by_layout(grad=X, x=X, moments=M, layout="n c w -> c", weight=None, **settings):
    return nbn.normalize_backward(grad, x, moments, layout, weight, **settings)


ROWS = [
    ("grad of another shape", lambda: by_layout(X[:2]), ValueError, [r"\(2, 6, 5\)", r"\(4, 6, 5\)"]),
    ("integer grad", lambda: by_layout(X.astype(int)), TypeError, ["grad", "int64", "astype"]),
    ("integer x", lambda: by_layout(x=X.astype(int)), TypeError, ["x has dtype int64", "astype"]),
    ("integer weight", lambda: by_layout(weight=np.ones(5, int)), TypeError, ["weight", "int64", "astype"]),
    ("boolean weight", lambda: by_layout(weight=np.ones(5, bool)), TypeError, ["weight", "bool"]),
    ("complex grad", lambda: by_layout(X * 1j), TypeError, ["grad", "complex"]),
    ("masked grad", lambda: by_layout(np.ma.masked_array(X)), TypeError, ["grad", "masked", "filled"]),
    ("masked x", lambda: by_layout(x=np.ma.masked_array(X)), TypeError, ["x", "masked", "filled"]),
    ("objects", lambda: by_layout(X.astype(object)), TypeError, ["grad", "object"]),
    ("weight that does not broadcast", lambda: by_layout(weight=np.ones(4)), ValueError, ["weight", r"\(4,\)"]),
    ("moments of other groups", lambda: by_layout(layout="n c w -> n"), ValueError, [r"\(6,\)", "return_moments"]),
    (
        "moments of other values",
        lambda: by_layout(moments=nbn.Moments(np.full(6, 7.0), np.zeros(6), np.ones(6))),
        ValueError,
        ["7 values", "20"],
    ),
    ("an array for moments", lambda: by_layout(moments=np.ones(6)), TypeError, ["Moments", "ndarray"]),
    ("negative eps", lambda: by_layout(eps=-1.0), ValueError, ["eps", "-1"]),
    ("eps of text", lambda: by_layout(eps="a"), TypeError, ["eps"]),
    ("ddof", lambda: by_layout(moments=None, layout="n c w -> n c w", ddof=1), ValueError, ["ddof=1"]),
    ("eps_on", lambda: by_layout(eps_on="mean"), ValueError, ["eps_on", "mean"]),
    ("layout and axis", lambda: by_layout(axis=1), ValueError, ["layout", "axis"]),
    ("a keyword", lambda: by_layout(bias=ONES), TypeError, ["bias", "grad"]),
    ("pattern", lambda: by_layout(layout="n c -> c"), ValueError, ["n c -> c"]),
    ("batch norm without statistics", lambda: nbn.batch_norm_backward(X, X), ValueError, ["running_mean", "training"]),
    (
        "one value a channel",
        lambda: nbn.batch_norm_backward(X[:1, :, :1], X[:1, :, :1], training=True),
        ValueError,
        ["one value"],
    ),
    (
        "wrong channels",
        lambda: nbn.batch_norm_backward(X, X, weight=ONES[:5], training=True),
        ValueError,
        ["weight", "6 channels"],
    ),
    ("training of text", lambda: nbn.batch_norm_backward(X, X, training="no"), TypeError, ["training"]),
    (
        "moments beside stored statistics",
        lambda: nbn.batch_norm_backward(X, X, ONES, ONES, moments=M),
        ValueError,
        ["stored", "leave"],
    ),
    ("num_groups", lambda: nbn.group_norm_backward(X, X, 4), ValueError, ["num_groups=4", "6 channels"]),
    ("normalized_shape", lambda: nbn.layer_norm_backward(X, X, 6), ValueError, ["normalized_shape"]),
    ("layer norm's weight", lambda: nbn.layer_norm_backward(X, X, 5, ONES), ValueError, ["weight", r"\(6,\)"]),
    (
        "moments about a mean",
        lambda: nbn.rms_norm_backward(X, X, 5, moments=nbn.Moments(*(np.full((4, 6), n) for n in (5.0, 1.0, 2.0)))),
        ValueError,
        ["about zero", "return_moments"],
    ),
    ("rho", lambda: nbn.batch_instance_norm_backward(X, X, ONES * 2), ValueError, ["rho", "0 to 1"]),
    ("integer rho", lambda: nbn.batch_instance_norm_backward(X, X, ONES.astype(int)), TypeError, ["rho", "int64"]),
    ("r_max", lambda: nbn.batch_renorm_backward(X, X, ONES, ONES, training=True, r_max=0.5), ValueError, ["r_max"]),
    ("g", lambda: nbn.weight_norm_backward(X, X, ONES), ValueError, ["g has shape", r"\(4,\)"]),
    ("no axis", lambda: nbn.weight_standardize_backward(X, X, axis=3), ValueError, ["axis 3"]),
    ("no axis of rows", lambda: nbn.spectral_norm_backward(X, X, axis=3), ValueError, ["axis 3"]),
    ("u", lambda: nbn.spectral_norm_backward(X, X, np.ones(9)), ValueError, ["u has shape", "9"]),
    ("iterations", lambda: nbn.spectral_norm_backward(X, X, num_iterations=-1), ValueError, ["num_iterations", "-1"]),
]


@pytest.mark.parametrize(("call", "error", "fragments"), [pytest.param(*row[1:], id=row[0]) for row in ROWS])
def test_wrong_input_is_refused(no_kernels, call, error, fragments):
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    for fragment in fragments:
        assert re.search(fragment, message), f"{fragment!r} is not in {message!r}"
    assert len(message.split()) > 5, f"{message!r} says too little"


def test_a_tensor_that_records_gradients_is_refused():
    torch = pytest.importorskip("torch")
    x = torch.ones(4, 5, requires_grad=True)
    with pytest.raises(TypeError, match="detach"):
        nbn.layer_norm_backward(x, x, 5)


def test_arrays_on_the_host_and_on_a_gpu_are_refused_together():
    pytest.importorskip("numba_cuda")
    from numba import cuda

    with pytest.raises(TypeError, match="lies on"):
        nbn.normalize_backward(X, cuda.to_device(X), None, "n c w -> c")
