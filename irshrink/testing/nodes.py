"""Testing operators: models of a few nodes, and what ONNX Runtime and the lowered program make of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from irshrink import onnxrt
from irshrink.module import Module
from irshrink.pipeline import Pipeline
from irshrink.program.lower import lower
from irshrink.program.program import Program
from irshrink.program.reference import run_program
from irshrink.registry import make_pass
from irshrink.samples import input_specs
from irshrink.samples.random import random_samples
from irshrink.target import load_target

Array = np.ndarray[Any, np.dtype[Any]]
#: Operator, names of inputs, name of the output, attributes.
Node = tuple[str, Sequence[str], str, Mapping[str, Any]]


def model(
    nodes: Sequence[Node], shape: Sequence[int], constants: Mapping[str, Any], opset: int = 20
) -> onnx.ModelProto:
    """From ``x`` of a shape to ``y``; floats among the constants become float32."""
    arrays = {name: np.asarray(value) for name, value in constants.items()}
    arrays = {n: a.astype(np.float32) if a.dtype == np.float64 else a for n, a in arrays.items()}
    graph = helper.make_graph(
        [helper.make_node(op, list(i), [o], name=f"node_{o}", **a) for op, i, o, a in nodes],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return onnx.shape_inference.infer_shapes(made, strict_mode=True)


def floats(seed: int, *shape: int) -> Array:
    """Normal values of deviation 1."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def theirs(proto: onnx.ModelProto | ir.Model, x: Array, *, optimize: bool = True) -> Array:
    """ONNX Runtime's ``y``."""
    data = proto if isinstance(proto, ir.Model) else proto.SerializeToString()
    return next(iter(onnxrt.run(onnxrt.session(data, optimize=optimize), {"x": x}).values()))


def lifted(proto: onnx.ModelProto) -> Module:
    """The nodes as they are, with the one opset and all shapes."""
    module = Module(ir.from_proto(proto))
    passes = [make_pass(name) for name in ("raise-opset", "infer-shapes")]
    Pipeline(passes).run(module, load_target("host"))
    return module


def in_float(proto: onnx.ModelProto) -> Program:
    """The program of the model.

    Raises:
        UnsupportedModelError: a node cannot run.
    """
    return lower(lifted(proto))


def quantized(proto: onnx.ModelProto, **options: Any) -> Module:
    """As quantize-int8 leaves it, calibrated on normal values."""
    module = lifted(proto)
    module.calibration = random_samples(input_specs(module.graph), 8)
    Pipeline([make_pass("quantize-int8", options)]).run(module, load_target("host"))
    return module


def ours(program: Program, x: Array) -> Array:
    """The reference's ``y``."""
    return run_program(program, [x])[0]
