"""QuantizeLinear and DequantizeLinear: between stored integers and real numbers."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from irshrink.program.lower.chains import WIDE, parameters
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.rules.int16 import quantized
from irshrink.program.lower.view import View
from irshrink.program.ops import Quantize, TableInt8
from irshrink.program.program import Quantization


def quantize_linear(lowering: Lowering, node: ir.Node) -> None:
    """Nothing when the value is held in these integers already, a table from other int8, else Quantize."""
    wanted, dtype = parameters(node, lowering.constants)
    x = lowering.real(node, 0)
    held = lowering.builder.quantization(x)
    shape = lowering.builder.shape(x.tensor)
    if dtype == WIDE:
        tensor = quantized(lowering, node, x, wanted)
    elif held is None:
        x = lowering.builder.as_float(x)
        tensor = lowering.emit(
            Quantize,
            node,
            [x.tensor],
            shape,
            quantization=wanted,
            scale=wanted.scale,
            zero_point=wanted.zero_point,
            half_away=lowering.requantize == "tflm",
        )
    elif held == wanted:
        tensor = x.tensor
    else:
        change = lowering.change_of_scale(held, wanted)
        tensor = lowering.emit(TableInt8, node, [x.tensor], shape, quantization=wanted, table=change)
    lowering.bind(node.outputs[0], replace(x, tensor=tensor, stored=dtype))


def dequantize_linear(lowering: Lowering, node: ir.Node) -> None:
    """No bytes move: the real numbers are held in the integers until someone needs float."""
    x = lowering.view(node.inputs[0])
    if x.stored is None:
        raise Refusal("its input is not integers", "Put a QuantizeLinear in front (QDQ format).")
    quantization, dtype = parameters(node, lowering.constants, x.stored)
    if dtype == WIDE and lowering.builder.tensors[x.tensor].dtype != WIDE:
        raise Refusal("its input is int16 from outside the model", "Quantize float32 inside the model.")
    lowering.bind(node.outputs[0], read_as(lowering, x, quantization))


def read_as(lowering: Lowering, x: View, quantization: Quantization) -> View:
    """Stored integers as the real numbers that ``quantization`` says."""
    tensor = x.tensor
    if lowering.builder.tensors[tensor].quantization != quantization:
        tensor = lowering.builder.reread(tensor, quantization)
    return x.on(tensor)
