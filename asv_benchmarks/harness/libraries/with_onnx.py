"""How onnxruntime is called: a model of one layer with its weights, in a session with the threads set by now."""

from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidGraph, NotImplemented

import numbanorm as nbn

from ..case import Arrays, Call, Case
from ..contenders import Unfit

OPSET = 23  # the first with RMSNormalization
Nodes = list[Any]
Values = dict[str, Any]  # {name: weight or shape that is part of the model}


def prepare(case: Case, a: Arrays, out: np.ndarray | None) -> Call | None:
    """Make a session; run() was as fast as I/O binding with a new output."""
    if a.x.dtype.name == "bfloat16":
        raise Unfit("its run() takes no bfloat16 arrays")
    if case.last and case.norm not in ("layer_norm", "rms_norm"):
        raise Unfit("its ops take channels on axis 1 only")
    if out is not None:
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = nbn.get_num_threads()
    options.log_severity_level = 3  # errors only
    try:
        session = onnxruntime.InferenceSession(model(case, a), options, providers=["CPUExecutionProvider"])
    except (NotImplemented, InvalidGraph):
        raise Unfit(f"it has no {case.norm.replace('_', ' ')} in {a.x.dtype} for the CPU") from None
    run, wanted, inputs = session.run, ["y"], {"x": a.x}
    return lambda: (run(wanted, inputs)[0],)  # without running statistics, see layer()


def model(case: Case, a: Arrays) -> bytes:
    """Write a case as a model of x -> y."""
    nodes, values = (group_norm if case.norm == "group_norm" else layer)(case, a)
    kind = helper.np_dtype_to_tensor_dtype(a.x.dtype)
    ends = [[helper.make_tensor_value_info(name, kind, case.shape)] for name in ("x", "y")]
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    opset = [helper.make_opsetid("", OPSET)]
    version = helper.find_min_ir_version_for(opset)
    graph = helper.make_graph(nodes, case.norm, *ends, weights)
    return helper.make_model(graph, opset_imports=opset, ir_version=version).SerializeToString()


def layer(case: Case, a: Arrays) -> tuple[Nodes, Values]:
    """Return a node for the case; layer norm over axis 1 with a transpose on both sides, as torch exports it.

    In training its running variance is the biased one: running statistics are not compared.
    """
    weight, bias = {"weight": a.weight}, {"bias": a.bias}
    if case.norm in ("batch_norm", "batch_norm_eval"):
        training = case.norm == "batch_norm"
        values = weight | bias | {"mean": a.mean, "var": a.var}
        results = ["y", "new_mean", "new_var"] if training else ["y"]
        more = {"momentum": 0.9, "training_mode": int(training)}
        return [node("BatchNormalization", ["x", *values], results, epsilon=case.eps, **more)], values
    if case.norm == "instance_norm":
        return [node("InstanceNormalization", ["x", "weight", "bias"], ["y"], epsilon=case.eps)], weight | bias
    if case.norm == "rms_norm":
        return [node("RMSNormalization", ["x", "weight"], ["y"], axis=-1, epsilon=case.eps)], weight
    if case.last:
        return [node("LayerNormalization", ["x", "weight", "bias"], ["y"], axis=-1, epsilon=case.eps)], weight | bias
    axes = len(case.shape)
    there, back = [0, *range(2, axes), 1], [0, axes - 1, *range(1, axes - 1)]
    return [
        node("Transpose", ["x"], ["there"], perm=there),
        node("LayerNormalization", ["there", "weight", "bias"], ["normal"], axis=-1, epsilon=case.eps),
        node("Transpose", ["normal"], ["y"], perm=back),
    ], weight | bias


def group_norm(case: Case, a: Arrays) -> tuple[Nodes, Values]:
    """Write group norm as instance norm of groups, as torch exports it: twice as fast as the op GroupNormalization.

    Instance norm has no float64.
    """
    if a.x.dtype == np.float64:
        more = {"num_groups": case.groups, "epsilon": case.eps, "stash_type": TensorProto.DOUBLE}
        return [node("GroupNormalization", ["x", "weight", "bias"], ["y"], **more)], {
            "weight": a.weight,
            "bias": a.bias,
        }
    channels = (-1, *(1 for _ in case.shape[2:]))
    values = {
        "grouped": np.array([0, case.groups, -1]),
        "whole": np.array(case.shape),
        "ones": np.ones(case.groups, a.x.dtype),
        "zeros": np.zeros(case.groups, a.x.dtype),
        "weight": a.weight.reshape(channels),
        "bias": a.bias.reshape(channels),
    }
    return [
        node("Reshape", ["x", "grouped"], ["groups"]),
        node("InstanceNormalization", ["groups", "ones", "zeros"], ["normal"], epsilon=case.eps),
        node("Reshape", ["normal", "whole"], ["back"]),
        node("Mul", ["back", "weight"], ["scaled"]),
        node("Add", ["scaled", "bias"], ["y"]),
    ], values


node = helper.make_node
