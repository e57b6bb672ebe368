"""What fuzzing starts from: small valid models with every operator, and cuts of real ones."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper, numpy_helper

from irshrink.testing.models import random_model

MODELS = Path(__file__).parents[1] / "models"
#: Larger ones only cost time.
_MOST_BYTES = 40_000
#: Nodes of a cut.
_CUT = 8

_TEXTS = (
    """<ir_version: 9, opset_import: ["" : 20]> g (float[1, 4] x, bool b) => (float[1, 4] y) {
        y = If (b) <then_branch = t () => (float[1, 4] p) { p = Relu (x) },
                    else_branch = e () => (float[1, 4] q) { q = Neg (x) }> }""",
    """<ir_version: 9, opset_import: ["" : 20]> g (float[1, 4] x) => (float[1, 4] y)
        <int64 n = {3}, bool c = {1}> {
        y = Loop (n, c, x) <body = b (int64 i, bool k, float[1, 4] s) => (bool ko, float[1, 4] so)
            { ko = Identity (k) so = Mul (s, s) }> }""",
    """<ir_version: 9, opset_import: ["" : 20, "local" : 1]> g (float[1, 4] x) => (float[1, 4] y) {
        a = local.f (x) y = local.h (a) }
        <domain: "local", opset_import: ["" : 20]> f (p) => (q) { q = Relu (p) }
        <domain: "local", opset_import: ["" : 20, "local" : 1]>
        h (p) => (q) { r = local.f (p) q = Neg (r) }""",
    """<ir_version: 9, opset_import: ["" : 20]> g (float[1, 6] x) => (float[2, 3] y) {
        s = Constant <value_ints = [2, 3]> () a = Shape (x) b = Size (x) c = Concat <axis = 0> (s, s)
        d = Slice (c, e, f) e = Constant <value_ints = [0]> () f = Constant <value_ints = [2]> ()
        y = Reshape (x, s) }""",
    """<ir_version: 9, opset_import: ["" : 20]> g (float[2, 3] x) => (float[2, 3] y)
        <int64[2] s = {2, 3}, int64 zero = {0}, int64 six = {6}, int64 one = {1}, int64[1] r = {2}> {
        a = ConstantOfShape (s) b = Range (zero, six, one) c = Cast <to = 1> (b) d = Reshape (c, s)
        e = Add (a, d) f = Tile (one, r) h = Expand (e, s) y = Add (x, h) }""",
    """<ir_version: 9, opset_import: ["" : 20]> g (float[1, 3] x) => (float[1, 2] y)
        <int8[3, 2] w = {1, -2, 3, 4, 5, -6}, float[2] s = {0.5, 0.25}, float t = {0.1}, int8 z = {3}> {
        q = QuantizeLinear (x, t, z) d = DequantizeLinear (q, t, z) v = DequantizeLinear <axis = 1> (w, s)
        m = MatMul (d, v) n = QuantizeLinear (m, t, z) y = DequantizeLinear (n, t, z) }""",
)


def seeds(folder: Path | None = None, *, quick: bool = False) -> list[bytes]:
    """Serialized models, always the same ones.

    Args:
        folder: further ONNX files to take.
        quick: without ONNX's own cases, which take seconds to make.
    """
    models = _models(folder) if quick else chain(_models(folder), _onnx_cases())
    found = [model.SerializeToString(deterministic=True) for model in models]
    return [data for data in found if len(data) <= _MOST_BYTES]


def _models(folder: Path | None) -> Iterator[Any]:
    for text in _TEXTS:
        yield onnx.parser.parse_model(text)
        model = onnx.parser.parse_model(text)
        model.graph.initializer.append(_beside())
        yield model
    rng = random.Random(0)
    for _ in range(300):
        yield random_model(rng.choice, steps=6)
    files = [*sorted(MODELS.glob("*.onnx")), *(sorted(folder.rglob("*.onnx")) if folder else [])]
    for file in files:
        yield from _cuts(onnx.load(file))


def _beside() -> TensorProto:
    """A constant that nobody reads, in ``w.bin`` beside the model."""
    tensor = TensorProto(name="beside", data_type=1, dims=[600], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="w.bin")
    return tensor


def _cuts(model: Any) -> Iterator[Any]:
    """Runs of a few nodes, as models of their own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = onnx.shape_inference.infer_shapes(model)
    known = {v.name: v for v in (*model.graph.value_info, *model.graph.input, *model.graph.output)}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for start in range(0, len(model.graph.node), _CUT):
        nodes = model.graph.node[start : start + _CUT]
        made = {name for node in nodes for name in node.output}
        read = dict.fromkeys(name for node in nodes for name in node.input if name and name not in made)
        inputs = [known[name] for name in read if name in known and name not in constants]
        ends = [name for name in made if not any(name in node.input for node in nodes) and name in known]
        graph = helper.make_graph(
            nodes,
            "cut",
            inputs,
            [known[n] for n in sorted(ends)],
            [constants[n] for n in read if n in constants],
        )
        cut = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
        if cut.ByteSize() <= _MOST_BYTES:
            yield cut


def _onnx_cases() -> Iterator[Any]:
    """The cases that ONNX tests its operators with, as they are and with constants for inputs."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases("")
    for case in cases:
        if case.model is None or case.model.ByteSize() > _MOST_BYTES // 2:
            continue
        yield case.model
        for dynamic in (1, 0):
            constant = _with_constants(case, dynamic)
            if constant is not None:
                yield constant


def _with_constants(case: Any, dynamic: int) -> Any | None:
    """All inputs but the first ``dynamic`` ones become constants; with none left, one is made up."""
    model = onnx.ModelProto.FromString(case.model.SerializeToString())
    graph, arrays = model.graph, case.data_sets[0][0]
    try:
        tensors = [
            numpy_helper.from_array(array, value.name)
            for value, array in list(zip(graph.input, arrays, strict=True))[dynamic:]
        ]
    except (ValueError, TypeError, AttributeError):
        return None  # a sequence or an optional
    if not tensors:
        return None
    graph.initializer.extend(tensors)
    kept = list(graph.input)[:dynamic]
    del graph.input[:]
    graph.input.extend(kept or [helper.make_tensor_value_info("free", 1, [1, 3])])
    if not kept:
        graph.node.append(helper.make_node("Relu", ["free"], ["free_too"]))
        graph.output.append(helper.make_tensor_value_info("free_too", 1, [1, 3]))
    return model
