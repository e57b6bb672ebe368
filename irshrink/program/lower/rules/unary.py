"""Elementwise functions of one value: a table in integers, UnaryF32 in float."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from irshrink.program.lower.chains import bounds
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.numbers import table
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.rules import integers
from irshrink.program.lower.rules.functions import FUNCTIONS, Elementwise
from irshrink.program.lower.rules.pointwise import as_table
from irshrink.program.ops import TableInt8, UnaryF32


def unary(lowering: Lowering, node: ir.Node) -> None:
    """Any operator of ``FUNCTIONS``."""
    if node.op_type in integers.UNARY and integers.computes_integers(lowering, node):
        integers.unary(lowering, node)
        return
    if not as_table(lowering, node):
        apply(lowering, node, FUNCTIONS[node.op_type](node))


def clip(lowering: Lowering, node: ir.Node) -> None:
    """Relu or Clip that no operator in front could absorb."""
    if integers.computes_integers(lowering, node):
        (integers.clip if node.op_type == "Clip" else integers.unary)(lowering, node)
        return
    clamp = bounds(node, lowering.constants)
    if clamp is None:
        raise Refusal("its bounds are computed at run time", "Make them constants of the model.")
    if as_table(lowering, node):
        return
    low, high = clamp.low, clamp.high
    x = lowering.real(node, 0)
    held = lowering.builder.quantization(x)
    if node.op_type == "Relu" and held is not None and lowering.sink(node) is None:
        # zero is a stored integer, so the clamp is exact in the integers of the input
        ramp = np.maximum(np.arange(-128, 128), held.zero_point).astype(np.int8)
        shape = lowering.builder.shape(x.tensor)
        tensor = lowering.emit(TableInt8, node, [x.tensor], shape, quantization=held, table=ramp)
        lowering.bind(node.outputs[0], x.on(tensor))
        return
    apply(lowering, node, Elementwise(clamp.applied, "clip", low, high))


def apply(lowering: Lowering, node: ir.Node, function: Elementwise, index: int = 0) -> None:
    """Apply ``function`` to input ``index`` of a node."""
    x = lowering.real(node, index)
    shape = lowering.builder.shape(x.tensor)
    held, sink = lowering.builder.quantization(x), lowering.sink(node)
    if held is not None and sink is not None:
        entries = table(function.exact, held, sink.quantization, sink.low, sink.high)
        tensor = lowering.emit_int8(TableInt8, node, [x.tensor], shape, sink=sink, table=entries)
    else:
        lowering.float_note(node, f"its {'input' if held is None else 'output'} is not quantized")
        source = lowering.builder.as_float(x).tensor
        kind, alpha, beta = function.kind, function.alpha, function.beta
        tensor = lowering.emit(UnaryF32, node, [source], shape, kind=kind, alpha=alpha, beta=beta)
    lowering.bind(node.outputs[0], x.on(tensor))
