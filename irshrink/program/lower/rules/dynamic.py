"""DynamicQuantizeLinear and MatMulInteger: int8 products whose input is quantized at run time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from irshrink.graph import edit
from irshrink.program import elements
from irshrink.program.lower.fitting import require
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.numbers import fits_int32
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.view import View, view_of
from irshrink.program.ops import DenseInteger, DynamicQuantize, DynamicScale, DynamicZeroPoint, Int8
from irshrink.program.reference.dispatch import Array

_UINT8 = elements.codes("uint8")


def dynamic_quantize_linear(lowering: Lowering, node: ir.Node) -> None:
    """The scale, the zero point by it, and the integers by both."""
    x = lowering.floating(node, 0)
    scale = lowering.emit(DynamicScale, node, [x.tensor], (1,))
    zero = lowering.emit(DynamicZeroPoint, node, [x.tensor, scale], (1,), quantization=_UINT8)
    shape = lowering.builder.shape(x.tensor)
    y = lowering.emit(DynamicQuantize, node, [x.tensor, scale, zero], shape, quantization=_UINT8)
    views = (
        replace(x, tensor=y, stored="uint8"),
        lowering.builder.view_as(view_of(scale, (1,)), ()),
        replace(lowering.builder.view_as(view_of(zero, (1,)), ()), stored="uint8"),
    )
    for value, view in zip(node.outputs, views, strict=False):
        lowering.bind(value, view)


def matmul_integer(lowering: Lowering, node: ir.Node) -> None:
    """int8 or uint8 by constant integers [K, N], into int32."""
    x = lowering.view(node.inputs[0])
    if x.stored not in ("int8", "uint8"):
        raise Refusal("its input is not integers of 8 bits", "Put a DynamicQuantizeLinear in front.")
    require(x.rank >= 2, "its input has fewer than 2 axes")
    weight = _weight(lowering, node)
    require(x.shape[-1] == weight.shape[1], f"{list(x.shape)} does not fit {weight.shape[1]} rows of weights")
    tensor = lowering.emit(
        DenseInteger,
        node,
        [lowering.builder.dense(x, range(x.rank)), _zero_point(lowering, node, x)],
        (*x.shape[:-1], len(weight)),
        dtype="int32",
        weight=weight,
    )
    y = view_of(tensor, (*x.shape[:-1], len(weight)))
    lowering.bind(node.outputs[0], replace(y, stored="int32"))


def _weight(lowering: Lowering, node: ir.Node) -> Int8:
    """[N, K], its zero points taken off."""
    stored = lowering.constants.array(edit.input_of(node, 1))
    if stored is None or stored.ndim != 2 or stored.dtype not in (np.int8, np.uint8):
        raise Refusal("its weights are no constant matrix of 8 bits", "Make them one.")
    zero: Array | None = np.zeros(1, np.int8)
    if edit.input_of(node, 3) is not None:
        zero = lowering.constants.array(edit.input_of(node, 3))
    if zero is None or zero.size not in (1, stored.shape[1]):
        raise Refusal("the zero point of its weights is not constant, or not one a column", "Make it so.")
    centred = (stored.astype(np.int64) - zero.reshape(1, -1)).T
    if centred.min(initial=0) < -128 or centred.max(initial=0) > 127:
        raise Refusal("its weights less their zero point need more than 8 bits", "Use symmetric weights.")
    if not fits_int32(0, int(256 * np.abs(centred).sum(axis=1).max(initial=0))):
        raise Refusal("its accumulator could overflow 32 bits", "Use fewer features.")
    return np.ascontiguousarray(centred, np.int8)


def _zero_point(lowering: Lowering, node: ir.Node, x: View) -> str:
    """Of the input, as it is stored."""
    value = edit.input_of(node, 2)
    if value is None:
        number = -128 if x.stored == "uint8" else 0
        return lowering.builder.constant("zero_point", np.array([number], np.int8))
    zero = lowering.view(value)
    require(int(np.prod(zero.shape)) == 1, "it has several zero points for its input")
    return lowering.builder.dense(lowering.builder.view_as(zero, (1,)), (0,))
