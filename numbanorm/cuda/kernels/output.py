"""Output of one vector: ((x - high) * scale + offset) * weight + bias, in x's precision; see `welford.standardize`."""

import numpy as np

from ...maths import welford
from ...walk.slots import BIAS, LOW, WEIGHT
from .constants import FAR, NEAR, ONE
from .machine import device, folder, load_int, loader, one_loader

UP, DOWN = 2.0**100, 2.0**-100
FAR_FROM_ZERO, MOST = 2.0**27, 3e38  # from there on, values that UP leaves finite are apart or equal; of float32


def make_parameter(kind, mode, vector, wide, neutral):
    """A function load(values, address, step): a vector's weights, or biases, into `values`."""
    real = np.float64 if wide else np.float32
    value = real(neutral)
    one = one_loader(kind if mode in (ONE, FAR) else "f4")
    near = loader(kind if mode == NEAR else "f4", vector)

    fold_vector = folder(vector)

    @device
    def put(i, done, values, address, step):
        values[i] = value
        if mode == FAR:
            values[i] = real(one(address + i * step))
        elif mode == ONE:
            values[i] = values[0] if i > 0 else real(one(address))
        return done

    @device
    def load(values, address, step):
        if mode == NEAR:
            near(values, 0, address)
        else:
            fold_vector(put, 0, (values, address, step))

    return load


def make_affine(code):
    """A function load_affine(table, place, w, b, weights, biases): weight and bias of the vector at a place."""
    wide, kinds = code.wide, code.kinds
    load_weight = make_parameter(kinds.weight, code.weight, code.vector, wide, 1.0)
    load_bias = make_parameter(kinds.bias, code.bias, code.vector, wide, -0.0)

    @device
    def load_affine(table, place, w, b, weights, biases):
        load_weight(weights, w + place[2], load_int(table, LOW + WEIGHT))
        load_bias(biases, b + place[3], load_int(table, LOW + BIAS))

    return load_affine


def make_finish(wide):
    """A function finish(x, coefficients, weight, bias): one element of the output."""

    @device
    def finish(x, coefficients, weight, bias):
        factor, high, scale, offset = coefficients
        if not wide:
            x *= factor
        return welford.scale_and_shift(welford.standardize(x, high, scale, offset), weight, bias)

    return finish


def make_coefficients(wide):
    """A function coefficients(mean, inverse): what `finish` takes.

    The first is 1, or a power of two by which x is multiplied where float32 would overflow or lose its digits.
    """
    real = np.float64 if wide else np.float32

    @device
    def coefficients(mean, inverse):
        factor = 1.0
        if not wide and welford.fits_float32(mean, inverse) == 0.0:
            if inverse <= 1.0:
                factor = DOWN
            elif abs(mean) < FAR_FROM_ZERO:
                factor = UP
            else:  # equal values, and next to no eps
                inverse = min(inverse, MOST)
        mean, inverse = mean * factor, inverse / factor
        high = real(mean)
        return real(factor), high, real(inverse), real((np.float64(high) - mean) * inverse)

    return coefficients
