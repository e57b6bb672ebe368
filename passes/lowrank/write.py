"""Factors into the graph: new layers before the old one, which stays as the last of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import (
    add_constant,
    base_name,
    become,
    constant,
    input_of,
    insert_before,
    set_constant,
)
from irshrink.passes.lowrank.form import Factors, Stage
from irshrink.passes.lowrank.layers import Layer

Array = np.ndarray[Any, np.dtype[Any]]


def write_factors(layer: Layer, stages: list[Stage], factors: Factors) -> list[str]:
    """Replace the layer by its factors. Its node becomes the last of them and keeps name, output and bias.

    Returns:
        Names of their nodes.
    """
    node = layer.node
    graph, value, weight = node.graph, node.inputs[0], node.inputs[1]
    assert graph is not None
    assert weight is not None
    dtype = _array(weight).dtype
    base = str(weight.name or base_name(node))
    arrays = [_stored(layer, array, dtype) for array in factors.weights]
    op_type = "Conv" if layer.kernel else node.op_type
    names: list[str] = []
    for number, (stage, array) in enumerate(zip(stages[:-1], arrays[:-1], strict=True), start=1):
        held = add_constant(graph, array, f"{base}_factor{number}")
        attributes = stage_attributes(layer, stage)
        made = insert_before(node, op_type, [value, held], attributes)
        value = made.outputs[0]
        names.append(base_name(made))
    bias = input_of(node, 2)
    kept = stage_attributes(layer, stages[-1])
    if op_type == "Gemm" and "beta" in node.attributes:
        kept["beta"] = node.attributes["beta"].as_float()
    last = add_constant(graph, arrays[-1], f"{base}_factor{len(arrays)}")
    become(node, op_type, [value, last] if bias is None else [value, last, bias], kept)
    return [*names, base_name(node)]


def write_weights(layer: Layer, matrix: Array) -> None:
    """Other weights for a layer that keeps its form, float64 [outputs, n]."""
    from irshrink.calibration.patches import from_rows

    weight = _array(layer.node.inputs[1])
    placed = from_rows(layer.node, matrix[np.newaxis], weight.shape)
    layer.node.attributes.pop("alpha", None)
    set_constant(layer.node, 1, placed.astype(weight.dtype), "weight")


def write_bias(layer: Layer, bias: Array) -> None:
    """Another bias, float64 [outputs], for a layer that has a place for one."""
    assert layer.bias is not None
    node, index = layer.bias
    old = constant(input_of(node, index))
    dtype = _array(layer.node.inputs[1]).dtype if old is None else old.dtype
    shape = (-1,) if old is None or old.size == 1 else old.shape
    scale = node.attributes["beta"].as_float() if "beta" in node.attributes else 1.0
    name = f"{base_name(layer.node)}_bias"
    set_constant(node, index, (bias / (scale or 1.0)).reshape(shape).astype(dtype), name)


def _array(value: ir.Value | None) -> Array:
    array = constant(value)
    assert array is not None, "layers have constant weights"
    return array


def _stored(layer: Layer, array: Array, dtype: Any) -> Array:
    """In the operator's layout: matrices are [outputs, channels] here and lie transposed there."""
    return np.ascontiguousarray(array if layer.kernel else array.T).astype(dtype)


def stage_attributes(layer: Layer, stage: Stage) -> dict[str, Any]:
    """Attributes of the node of a stage; what is the operator's default is left out."""
    if not layer.kernel:
        return {}
    plain = {"strides": 1, "dilations": 1, "pads": 0}
    used = {
        key: held
        for key, held in stage.attributes.items()
        if key not in plain or any(one != plain[key] for one in held)
    }
    return {"kernel_shape": list(stage.shape[2:]), **used}
