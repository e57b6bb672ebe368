"""QuantizeLinear, DequantizeLinear and Cast: between stored integers and real numbers."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from irshrink.graph import edit
from irshrink.program.lower.chains import parameters
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.numbers import table
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.view import View
from irshrink.program.ops import Quantize, TableInt8
from irshrink.program.program import Quantization


def quantize_linear(lowering: Lowering, node: ir.Node) -> None:
    """Nothing when the value is held in these integers already, a table from other ones, else Quantize."""
    wanted, dtype = parameters(node, lowering.constants)
    x = lowering.real(node, 0)
    held = lowering.builder.quantization(x)
    shape = lowering.builder.shape(x.tensor)
    if held is None:
        scale, zero_point = wanted.scale, wanted.zero_point
        tensor = lowering.emit(
            Quantize, node, [x.tensor], shape, quantization=wanted, scale=scale, zero_point=zero_point
        )
    elif held == wanted:
        tensor = x.tensor
    else:
        change = table(lambda real: real, held, wanted)
        tensor = lowering.emit(TableInt8, node, [x.tensor], shape, quantization=wanted, table=change)
    lowering.bind(node.outputs[0], replace(x, tensor=tensor, stored=dtype))


def dequantize_linear(lowering: Lowering, node: ir.Node) -> None:
    """No bytes move: the real numbers are held in the integers until someone needs float."""
    x = lowering.view(node.inputs[0])
    if x.stored is None:
        raise Refusal("its input is not integers", "Put a QuantizeLinear in front (QDQ format).")
    quantization, _ = parameters(node, lowering.constants, x.stored)
    lowering.bind(node.outputs[0], _read_as(lowering, x, quantization))


def cast(lowering: Lowering, node: ir.Node) -> None:
    """float32 to itself; stored 8-bit integers to float32, which is a DequantizeLinear of scale 1."""
    x = lowering.view(node.inputs[0])
    target = ir.DataType(edit.attribute_int(node, "to", 1))
    if target != ir.DataType.FLOAT:
        raise Refusal(f"it casts to {target.name}", "Only casts to float32 run on the target.")
    if x.stored is not None:
        x = _read_as(lowering, x, Quantization(1.0, -128 if x.stored == "uint8" else 0))
    lowering.bind(node.outputs[0], x)


def _read_as(lowering: Lowering, x: View, quantization: Quantization) -> View:
    tensor = x.tensor
    if lowering.builder.quantization(x) != quantization:
        tensor = lowering.builder.reread(tensor, quantization)
    return x.on(tensor)
