"""Time of each norm, and of its way back: calls that allocate their output, and such that write into a given one."""

import numpy as np
from harness.libraries import own

import numbanorm as nbn

from .choice import PARAMETERS, cases, number_of, parameters


class _Statistics:
    """A call as users make it.

    asv runs `setup` before every single call, so that each is timed alone: the arrays are made and the kernels compiled
    in the first one. The median is of many calls, since a single one says little.
    """

    norm: str
    param_names = PARAMETERS
    repeat = (5, 3000, 0.4)  # calls, at least and at most, and seconds
    rounds = 2
    ready: tuple = ()

    def setup(self, label, threads):
        if self.ready == (label, threads):
            return
        nbn.set_num_threads(number_of(threads))
        case = cases(self.norm)[label]
        arrays = case.arrays()
        try:
            self.call, self.call_into = self.calls(case, arrays)
        except AttributeError as error:  # an older numbanorm that lacks a function
            raise NotImplementedError(error) from error
        self.call()
        if self.call_into:
            self.call_into()
        self.ready = (label, threads)

    def calls(self, case, arrays):
        into = own.prepare(nbn, case, arrays, np.empty_like(arrays.x))
        return own.prepare(nbn, case, arrays, None), into

    def time_call(self, label, threads):
        self.call()


class _Norm(_Statistics):
    """A norm has an output, which may be given."""

    def time_into(self, label, threads):
        self.call_into()


class BatchNormTraining(_Norm):
    norm = "batch_norm"
    params = parameters(norm)


class BatchNormEvaluation(_Norm):
    norm = "batch_norm_eval"
    params = parameters(norm)


class LayerNorm(_Norm):
    norm = "layer_norm"
    params = parameters(norm)


class RMSNorm(_Norm):
    norm = "rms_norm"
    params = parameters(norm)


class GroupNorm(_Norm):
    norm = "group_norm"
    params = parameters(norm)


class InstanceNorm(_Norm):
    norm = "instance_norm"
    params = parameters(norm)


class Moments(_Statistics):
    norm = "moments"
    params = parameters(norm)


class Backward(_Statistics):
    norm = "backward"
    params = parameters(norm)


class Groups(_Statistics):
    """Labels, segments, masks, weights and holes."""

    norm = "groups"
    params = parameters(norm)

    def calls(self, case, arrays):
        return case.call(nbn, arrays), None


class Containers(_Statistics):
    """Streams, Dask arrays, data frames, scikit-learn's scalers and groups of xarray's arrays."""

    norm = "containers"
    params = parameters(norm)

    def calls(self, case, arrays):
        try:
            return case.call(nbn, arrays), None
        except ImportError as error:  # an older numbanorm, or no such library
            raise NotImplementedError(error) from error
