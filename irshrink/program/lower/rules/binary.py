"""Add, Sub, Mul, Div, Min, Max and PRelu."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
import onnx_ir as ir

from irshrink.console import plural
from irshrink.program.lower.chains import Sink
from irshrink.program.lower.fitting import broadcast
from irshrink.program.lower.lowering import Lowering, broadcast_constant, int8_codes
from irshrink.program.lower.numbers import OUT_OF_RANGE, addition_multipliers, layer_multiplier, usable
from irshrink.program.lower.rules import integers
from irshrink.program.lower.rules.align import aligned, padded
from irshrink.program.lower.rules.functions import BINARY
from irshrink.program.lower.rules.int16 import wide_addition
from irshrink.program.lower.rules.pointwise import as_table
from irshrink.program.lower.view import View, view_of
from irshrink.program.ops import (
    AddInt8,
    Addition,
    BinaryF32,
    BinaryKind,
    MulInt8,
    Op,
    PReluInt8,
    Requantization,
)
from irshrink.program.program import Quantization


def binary(lowering: Lowering, node: ir.Node) -> None:
    """Two tensors, or a tensor and a constant; NumPy broadcasting. Min, Max and Sum may have more."""
    kind = BINARY[node.op_type]
    if integers.computes_integers(lowering, node):
        integers.binary(lowering, node)
        return
    if len(node.inputs) != 2:
        lowering.float_note(node, f"it has {plural(len(node.inputs), 'input')}")
        lowering.bind(node.outputs[0], _several(lowering, node, kind))
        return
    if wide_addition(lowering, node):
        return
    lowering.takes_int16 = False
    if as_table(lowering, node):
        return
    if _integer(lowering, node, kind):
        return
    arrays = [lowering.constants.array(value) for value in node.inputs]
    for index, array in enumerate(arrays):
        if array is not None and arrays[1 - index] is None:
            _with_constant(lowering, node, kind, index)
            return
    pair = aligned(lowering, lowering.floating(node, 0), lowering.floating(node, 1))
    tensor = lowering.emit(BinaryF32, node, pair.tensors, pair.shape, kind=kind)
    lowering.bind(node.outputs[0], pair.view.on(tensor))


def mean(lowering: Lowering, node: ir.Node) -> None:
    """The sum, divided by the number of inputs."""
    lowering.float_note(node, "it is a mean of tensors")
    total = _several(lowering, node, "add")
    shape = lowering.builder.shape(total.tensor)
    count = np.full((1,) * len(shape), len(node.inputs), np.float32)
    tensor = lowering.emit(BinaryF32, node, [total.tensor], shape, kind="div", constant=count)
    lowering.bind(node.outputs[0], total.on(tensor))


def _several(lowering: Lowering, node: ir.Node, kind: BinaryKind) -> View:
    """All inputs in float32, first to last."""

    def combined(a: View, b: View) -> View:
        pair = aligned(lowering, a, b)
        return pair.view.on(lowering.emit(BinaryF32, node, pair.tensors, pair.shape, kind=kind))

    return reduce(combined, [lowering.floating(node, index) for index in range(len(node.inputs))])


def _integer(lowering: Lowering, node: ir.Node, kind: BinaryKind) -> bool:
    """Emit AddInt8 or MulInt8; False, with a note, when the node must run in float."""
    sink = lowering.sink(node)
    if not all(_is_int8(lowering, node, index) for index in (0, 1)):
        lowering.float_note(node, "its operands are not both quantized")
        return False
    if sink is None:
        lowering.float_note(node, "its output is not quantized")
        return False
    if kind not in ("add", "sub", "mul", "prelu"):
        lowering.float_note(node, "it has no integer form")
        return False
    pair = aligned(lowering, lowering.real(node, 0), lowering.real(node, 1))
    a, b = (lowering.builder.tensors[name].quantization for name in pair.tensors)
    assert a is not None
    assert b is not None
    form = _form(kind, a, b, sink)
    if isinstance(form, str):
        lowering.float_note(node, form)
        return False
    operator, fields = form
    tensor = lowering.emit_int8(operator, node, pair.tensors, pair.shape, sink=sink, **fields)
    lowering.bind(node.outputs[0], pair.view.on(tensor))
    return True


def _form(
    kind: BinaryKind, a: Quantization, b: Quantization, sink: Sink
) -> tuple[type[Op], dict[str, Any]] | str:
    """The integer operator and its fields, or why there is none."""
    if kind in ("add", "sub"):
        addition = _addition(a, b, sink, subtract=kind == "sub")
        return "its scales are too far apart" if addition is None else (AddInt8, {"addition": addition})
    y, zero_points = sink.quantization, (a.zero_point, b.zero_point)
    multiplier = layer_multiplier(a.scale, np.array([b.scale], np.float32), y.scale)
    if not usable(multiplier):
        return OUT_OF_RANGE
    form = Requantization(multiplier=multiplier, zero_point=y.zero_point, low=sink.low, high=sink.high)
    if kind == "mul":
        return MulInt8, {"zero_points": zero_points, "requantization": form}
    same = layer_multiplier(a.scale, np.ones(1, np.float32), y.scale)
    if not usable(same):
        return OUT_OF_RANGE
    return PReluInt8, {
        "zero_points": zero_points,
        "positive": replace(form, multiplier=same),
        "negative": form,
    }


def _addition(a: Quantization, b: Quantization, sink: Sink, *, subtract: bool) -> Addition | None:
    y = sink.quantization
    found = addition_multipliers(a.scale, b.scale, y.scale)
    if found is None:
        return None
    multipliers, shift = found
    return Addition(
        multipliers=(multipliers[0], -multipliers[1] if subtract else multipliers[1]),
        shift=shift,
        zero_points=(a.zero_point, b.zero_point),
        zero_point=y.zero_point,
        low=sink.low,
        high=sink.high,
    )


def _is_int8(lowering: Lowering, node: ir.Node, index: int) -> bool:
    constant = lowering.constants.get(node.inputs[index])
    if constant is not None:
        return constant.codes is not None and int8_codes(constant.codes) is not None
    return lowering.builder.quantization(lowering.real(node, index)) is not None


def _with_constant(lowering: Lowering, node: ir.Node, kind: BinaryKind, index: int) -> None:
    """BinaryF32 whose operand ``index`` is written into the operator."""
    constant = lowering.weights(node, index, "operands").array
    x = lowering.floating(node, 1 - index)
    logical = broadcast(x.shape, constant.shape)
    full = padded(lowering, x, len(logical))
    order = full.order()
    if constant.size == 1 and len(logical) == x.rank:
        source, shape, view = x.tensor, lowering.builder.shape(x.tensor), x
        operand = constant.reshape((1,) * len(shape))
    else:
        if order is None:
            order = tuple(range(full.rank))
        source = lowering.builder.dense(full, order)
        shape = tuple(logical[axis] for axis in order)
        view = view_of(source, logical, order)
        operand = broadcast_constant(constant, len(logical), order)
    tensor = lowering.emit(
        BinaryF32, node, [source], shape, kind=kind, constant=operand, constant_first=index == 0
    )
    lowering.bind(node.outputs[0], view.on(tensor))
