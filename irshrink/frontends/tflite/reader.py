"""A ``.tflite`` file into an ONNX model (see the package's docstring)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from irshrink.errors import ModelError, UnsupportedModelError
from irshrink.frontends.tflite.flatbuffer import DAMAGE, Graph, Operator, read_graph

if TYPE_CHECKING:
    from onnx import ModelProto

    from irshrink.frontends.tflite.graph import GraphWriter


def read(path: Path, options: Mapping[str, str]) -> ModelProto:
    """The main graph of a file as ONNX.

    Inputs and outputs keep the names, shapes and element types of the file. Nodes are called after the TFLite
    tensor that their operator writes (``layer``, ``layer/part``); of fused names ``a;b;c`` the first is kept.

    Raises:
        ModelError: damaged, or an operator that does not fit its tensors.
        UnsupportedModelError: operators that cannot be translated; all of them are listed.
        ToolError: the ``tflite`` package is not installed.
    """
    from irshrink.frontends.tflite.graph import GraphWriter
    from irshrink.frontends.tflite.table import OPERATORS

    graph = read_graph(path)
    unknown = Counter(op.kind for op in graph.operators if op.kind not in OPERATORS)
    if unknown:
        listed = ", ".join(f"{kind} ({count})" for kind, count in sorted(unknown.items()))
        raise UnsupportedModelError(
            f"{path}: these TensorFlow Lite operators are not supported: {listed}. Replace them in the "
            "framework, or cut the model before them."
        )
    _require_8_bits(path, graph)
    writer = GraphWriter(graph)
    for op in graph.operators:
        _translate(path, graph, writer, op)
    try:
        return writer.model(path.stem)
    except DAMAGE as e:
        raise ModelError(f"{path}: an output of the model: {e}. Convert it again.") from e


def _require_8_bits(path: Path, graph: Graph) -> None:
    """16-bit activations would be QuantizeLinear to int16, which no kernel here reads."""
    for tensor in graph.tensors:
        if tensor.quantization is not None and tensor.data is None and "16" in tensor.dtype:
            raise UnsupportedModelError(
                f"{path}: tensor '{tensor.name}' is quantized to {tensor.dtype}. Convert the model with "
                "8-bit activations (EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8 gives 16)."
            )


def _translate(path: Path, graph: Graph, writer: GraphWriter, op: Operator) -> None:
    from irshrink.frontends.tflite.table import OPERATORS

    writer.layer = _layer(graph, op)
    try:
        OPERATORS[op.kind](writer, op)
    except DAMAGE as e:
        raise ModelError(
            f"{path}: operator {op.kind} '{writer.layer}' cannot be read: {e}. Convert the model again."
        ) from e


def _layer(graph: Graph, op: Operator) -> str:
    """The name of the first tensor that an operator writes, up to the first part of a fused name."""
    named = [graph.tensors[index].name for index in op.outputs if 0 <= index < len(graph.tensors)]
    return (named[0].partition(";")[0] if named else "") or op.kind.lower()
