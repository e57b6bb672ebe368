"""Small networks to quantize, and how far off the result is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper

from irshrink import onnxrt
from irshrink.module import Module
from irshrink.pipeline import Pipeline
from irshrink.registry import make_pass
from irshrink.samples import input_specs
from irshrink.samples.random import random_samples
from irshrink.target import load_target
from irshrink.verify import verify_structure

Array = np.ndarray[Any, np.dtype[Any]]
Node = tuple[str, list[str], str, dict[str, Any]]

RESIDUAL: list[Node] = [
    ("Conv", ["x", "w1", "b1"], "c1", {"pads": [1, 1, 1, 1]}),
    ("Clip", ["c1", "zero", "six"], "r1", {}),
    ("Conv", ["r1", "w2", "b2"], "c2", {"pads": [1, 1, 1, 1], "group": 4}),
    ("Add", ["c2", "r1"], "s", {}),
    ("Relu", ["s"], "r2", {}),
    ("GlobalAveragePool", ["r2"], "p", {}),
    ("Flatten", ["p"], "f", {}),
    ("Gemm", ["f", "w3", "b3"], "y", {}),
]
WEIGHTS: dict[str, tuple[int, ...]] = {
    "w1": (4, 3, 3, 3),
    "b1": (4,),
    "w2": (4, 1, 3, 3),
    "b2": (4,),
    "w3": (4, 5),
    "b3": (5,),
}


def small_net(
    nodes: Sequence[Node] = RESIDUAL, seed: int = 0, opset: int = 17, output: Sequence[int] = (1, 5)
) -> Module:
    """A small net with random weights and 16 random calibration samples."""
    rng = np.random.default_rng(seed)
    constants = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in WEIGHTS.items()}
    constants |= {"zero": np.float32(0), "six": np.float32(6)}
    used = {name for _, inputs, _, _ in nodes for name in inputs}
    graph = helper.make_graph(
        [helper.make_node(op, i, [o], name=f"node_{o}", **attributes) for op, i, o, attributes in nodes],
        "net",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info(nodes[-1][2], onnx.TensorProto.FLOAT, list(output))],
        [onnx.numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items() if n in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    module = Module(ir.from_proto(model))
    module.calibration = random_samples(input_specs(module.graph), 16, seed)
    return module


def dense_net(sizes: Sequence[int] = (24, 16, 16, 4), seed: int = 0) -> Module:
    """Gemm and Relu by turns with random weights: layers of one kind, quick to build and to measure."""
    rng = np.random.default_rng(seed)
    nodes, weights, x = [], [], "x"
    for i, (n, o) in enumerate(pairwise(sizes)):
        weights += [(f"w{i}", rng.standard_normal((n, o))), (f"b{i}", rng.standard_normal(o))]
        nodes.append(helper.make_node("Gemm", [x, f"w{i}", f"b{i}"], [f"y{i}"], name=f"node_{i}"))
        nodes.append(helper.make_node("Relu", [f"y{i}"], [x := f"r{i}"]))
    graph = helper.make_graph(
        nodes[:-1],
        "net",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, sizes[0]])],
        [helper.make_tensor_value_info(nodes[-2].output[0], onnx.TensorProto.FLOAT, [1, sizes[-1]])],
        [onnx.numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return Module(ir.from_proto(model))


def quantized(module: Module, **options: Any) -> Module:
    """A copy that went through ``quantize-int8`` with these options."""
    result = module.clone()
    Pipeline([make_pass("quantize-int8", options)], verify=verify_structure).run(result, load_target("host"))
    return result


def outputs(module: Module, optimize: bool = True) -> Array:
    """The first output on all calibration samples, by ONNX Runtime, [samples, ...]."""
    session = onnxrt.session(module.model, optimize=optimize)
    assert module.calibration is not None
    return np.stack([next(iter(onnxrt.run(session, f).values())) for f in module.calibration.feeds()])


def error(module: Module, **options: Any) -> float:
    """Root mean square error of the quantized outputs against the float ones, relative to their spread."""
    expected = outputs(module)
    difference = outputs(quantized(module, **options)) - expected
    return float(np.sqrt(np.square(difference).mean()) / expected.std())
