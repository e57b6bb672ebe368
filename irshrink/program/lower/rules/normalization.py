"""Softmax, LayerNormalization and BatchNormalization."""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir

from irshrink.graph import edit
from irshrink.program.lower.fitting import broadcasts_to, positive, require
from irshrink.program.lower.lowering import Lowering, broadcast_constant
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.rules.align import elementwise
from irshrink.program.lower.view import View, view_of
from irshrink.program.ops import BinaryF32, LayerNormF32, SoftmaxF32, SoftmaxInt8


def softmax(lowering: Lowering, node: ir.Node) -> None:
    """Along one axis, which becomes the last in memory; before opset 13 along all axes from ``axis`` on."""
    x = lowering.real(node, 0)
    flat = lowering.opset < 13
    axis = edit.attribute_int(node, "axis", 1 if flat else -1)
    axis = axis if flat and axis == x.rank else positive(axis, x.rank)
    shape = x.shape
    if flat:
        x = lowering.builder.view_as(x, (prod(shape[:axis]), prod(shape[axis:])))
        axis = 1
    order = _last(x, axis)
    source = lowering.builder.dense(x, order)
    physical = [x.shape[place] for place in order]
    held, sink = lowering.builder.quantization(x), lowering.sink(node)
    if held is not None and sink is not None and (sink.low, sink.high) == (-128, 127):
        steps = np.arange(256, dtype=np.float64) * -np.float64(np.float32(held.scale))
        tensor = lowering.emit_int8(
            SoftmaxInt8,
            node,
            [source],
            physical,
            sink=sink,
            exp_table=np.exp(steps).astype(np.float32),
            inverse_scale=float(np.float32(1) / np.float32(sink.quantization.scale)),
            zero_point=sink.quantization.zero_point,
        )
    else:
        lowering.float_note(node, f"its {'input' if held is None else 'output'} is not quantized")
        numbers = lowering.builder.as_float(view_of(source, x.shape, order))
        tensor = lowering.emit(SoftmaxF32, node, [numbers.tensor], physical)
    y = lowering.builder.view_as(view_of(tensor, x.shape, order), shape)
    lowering.bind(node.outputs[0], y)


def layer_normalization(lowering: Lowering, node: ir.Node) -> None:
    """Over the last axes, which are seen as one."""
    x = lowering.floating(node, 0)
    axis = positive(edit.attribute_int(node, "axis", -1), x.rank)
    shape, size = x.shape, prod(x.shape[axis:])
    gamma, beta = np.ones(shape[axis:], np.float32), np.zeros(size, np.float32)
    constant = all(lowering.constants.get(value) is not None for value in node.inputs[1:])
    if constant:
        gamma = lowering.weights(node, 1, "scales").array
    if constant and edit.input_of(node, 2) is not None:
        beta = lowering.weights(node, 2, "biases").array
    broadcasts_to(gamma.shape, shape[axis:], "scales")
    require(beta.size in (1, size), f"its {beta.size} biases do not fit {size} values")
    rows = x
    if axis != x.rank - 1:
        rows = lowering.builder.view_as(x, (*shape[:axis], size))
    order = _last(rows, rows.rank - 1)
    lowering.float_note(node, "it has no integer form")
    tensor = lowering.emit(
        LayerNormF32,
        node,
        [lowering.builder.dense(rows, order)],
        [rows.shape[place] for place in order],
        gamma=np.broadcast_to(gamma, shape[axis:]).reshape(-1).copy(),
        beta=np.broadcast_to(beta.reshape(-1), (size,)).copy(),
        epsilon=float(np.float32(edit.attribute_float(node, "epsilon", 1e-5))),
    )
    y = lowering.builder.view_as(view_of(tensor, rows.shape, order), shape)
    for index, kind in () if constant else ((1, "mul"), (2, "add")):
        if edit.input_of(node, index) is not None:
            y = elementwise(
                lowering, node, BinaryF32, [y, lowering.floating(node, index)], "float32", kind=kind
            )
    lowering.bind(node.outputs[0], y)


def batch_normalization(lowering: Lowering, node: ir.Node) -> None:
    """One that could not be folded into a layer: a product and a sum by constants per channel."""
    if edit.attribute_int(node, "training_mode", 0):
        raise Refusal("it is in training mode", "Export the model for inference.")
    x = lowering.floating(node, 0)
    names = ("scales", "biases", "means", "variances")
    gamma, beta, mean, variance = (
        lowering.weights(node, index, name).array.astype(np.float64)
        for index, name in enumerate(names, start=1)
    )
    for name, array in zip(names, (gamma, beta, mean, variance), strict=True):
        require(x.rank > 1 and array.shape == (x.shape[1],), f"its {name} are not one for each channel")
    factor = gamma / np.sqrt(variance + edit.attribute_float(node, "epsilon", 1e-5))
    constants = (("mul", factor), ("add", beta - mean * factor))
    lowering.float_note(node, "it could not be folded into a layer")
    order = x.order() or tuple(range(x.rank))
    tensor = lowering.builder.dense(x, order)
    shape = [x.shape[axis] for axis in order]
    for kind, array in constants:
        channels = array.astype(np.float32).reshape(-1, *(1,) * (x.rank - 2))
        operand = broadcast_constant(channels, x.rank, order)
        tensor = lowering.emit(BinaryF32, node, [tensor], shape, kind=kind, constant=operand)
    lowering.bind(node.outputs[0], view_of(tensor, x.shape, order))


def _last(x: View, axis: int) -> tuple[int, ...]:
    """A memory order whose last axis is ``axis``: the view's own order of the others."""
    order = x.order() or tuple(range(x.rank))
    return (*[place for place in order if place != axis], axis)
