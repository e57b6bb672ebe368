"""A quantized model as a float one: stored integers become real numbers, rounding in between goes.

A DequantizeLinear of a constant is that constant, ``scale * (q - zero_point)``; a QuantizeLinear and the
DequantizeLinear behind it round an activation, which a float model does not. What the calibration of the
quantized model clipped is not clipped any more. Passes that take channels away do so on such a model; it is
quantized again afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import (
    Refusal,
    add_constant,
    attribute_int,
    can_replace,
    constant,
    describe,
    drop_unread_constants,
    input_of,
    is_constant,
    is_op,
    remove,
    replace_value,
)
from irshrink.graph.shapes import infer_shapes
from irshrink.module import Module
from irshrink.pipeline import Context, PassResult
from irshrink.registry import make_pass

Array = np.ndarray[Any, np.dtype[Any]]

#: What does the same to integers and to the numbers that they stand for.
_MOVES = ("Flatten", "Identity", "MaxPool", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")


@dataclass(frozen=True)
class Dequantize:
    """Make a float model of a QDQ one."""

    name: ClassVar[str] = "dequantize"
    lossy: ClassVar[bool] = True

    def run(self, module: Module, ctx: Context) -> PassResult:
        graph = module.graph
        weights = sum(_fold(graph, node) for node in tuple(graph) if is_op(node, "DequantizeLinear"))
        pairs = 0
        for node in tuple(graph):
            if is_op(node, "QuantizeLinear") and node.graph is graph:
                try:
                    pairs += _bypass(node)
                except Refusal as reason:
                    ctx.note(f"{describe(node)} stays: {reason}")
        drop_unread_constants(graph)
        infer_shapes(module.model)
        return PassResult(weights + pairs > 0, stats={"weights": weights, "activations": pairs})


@contextmanager
def on_floats(module: Module, ctx: Context) -> Iterator[None]:
    """Dequantize a quantized model for what is done to it inside, and quantize it to int8 afterwards."""
    quantized = any(is_op(node, "DequantizeLinear") for node in module.graph)
    if quantized:
        _run("dequantize", module, ctx)
    yield
    if not quantized:
        return
    if module.calibration is None:
        ctx.note("the model came quantized and is float now: quantizing it again needs calibration data")
    elif any(is_op(node, "QuantizeLinear", "DequantizeLinear") for node in module.graph):
        ctx.note("the model came quantized and is float now: its own inputs or outputs are stored integers")
    else:
        _run("quantize-int8", module, ctx)
        ctx.note("the model came quantized: it was dequantized, changed, and quantized to int8 again")


def _run(name: str, module: Module, ctx: Context) -> None:
    inner = ctx.inner(name, module.graph)
    make_pass(name).run(module, inner)
    for note in inner.notes:
        ctx.note(note)


def _fold(graph: ir.Graph, node: ir.Node) -> bool:
    """Stored integers become real numbers."""
    stored, scale, zero = (constant(input_of(node, index)) for index in range(3))
    value = node.inputs[0]
    if stored is None or scale is None or value is None:
        return False
    if input_of(node, 2) is not None and zero is None:
        return False
    real = _real(node, stored, scale, zero)
    output = node.outputs[0]
    if output.is_graph_output() or real is None:
        return False
    name = str(output.name)
    output.name = None
    output.replace_all_uses_with(add_constant(graph, real, name))
    remove(node)
    return True


def _real(node: ir.Node, stored: Array, scale: Array, zero: Array | None) -> Array | None:
    """``scale * (q - zero_point)`` per tensor, along an axis or in blocks of it; None for other forms."""
    axis = attribute_int(node, "axis", 1)
    block = attribute_int(node, "block_size", 0)
    offset = np.zeros_like(scale, np.float64) if zero is None else zero.astype(np.float64)
    wide = scale.astype(np.float64)
    if block:
        size = stored.shape[axis]
        wide, offset = (np.repeat(a, block, axis).take(np.arange(size), axis) for a in (wide, offset))
    elif wide.ndim == 1 and wide.size > 1:
        shape = [1] * stored.ndim
        shape[axis] = wide.size
        wide, offset = wide.reshape(shape), offset.reshape(shape)
    elif wide.size != 1:
        return None
    real = (stored.astype(np.float64) - offset) * wide
    return np.asarray(real.reshape(stored.shape).astype(scale.dtype))


def _bypass(quantize: ir.Node) -> bool:
    """Real numbers that were rounded, moved, and read as real numbers again are just moved and read.

    Raises:
        Refusal: something else reads them.
    """
    source = quantize.inputs[0]
    if source is None or is_constant(source):
        return False
    moved, ends = _behind(quantize)
    for value in moved:
        value.type = source.type
    replace_value(quantize.outputs[0], source)
    remove(quantize)
    for node in ends:
        stored = node.inputs[0]
        assert stored is not None, "a DequantizeLinear reads something"
        replace_value(node.outputs[0], stored)
        remove(node)
    return True


def _behind(quantize: ir.Node) -> tuple[list[ir.Value], list[ir.Node]]:
    """The values that hold the same integers, moved, and the nodes that make real numbers of them.

    Raises:
        Refusal: something else reads them.
    """
    values, ends = [quantize.outputs[0]], []
    for value in values:
        if value.is_graph_output():
            raise Refusal(f"'{value.name}' is an output of the model")
        for node, index in value.uses():
            if is_op(node, "DequantizeLinear") and index == 0:
                if not can_replace(node.outputs[0], value):
                    raise Refusal(f"{describe(node)} gives an output of the model")
                ends.append(node)
            elif is_op(node, *_MOVES) and index == 0:
                values += node.outputs
            else:
                raise Refusal(f"{describe(node)} reads the integers")
    return values, ends
