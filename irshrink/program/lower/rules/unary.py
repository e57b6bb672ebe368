"""Elementwise functions of one value: a table in integers, UnaryF32 in float."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from irshrink.graph import edit
from irshrink.program.lower.chains import bounds
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.numbers import Function, table
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.rules import integers
from irshrink.program.ops import TableInt8, UnaryF32, UnaryKind

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Elementwise:
    """A function in both worlds: ``exact`` in float64 for tables, ``kind`` with its parameters in float."""

    exact: Function
    kind: UnaryKind
    alpha: float = 0.0
    beta: float = 0.0


def unary(lowering: Lowering, node: ir.Node) -> None:
    """Any operator of the table below."""
    if node.op_type in integers.UNARY and integers.computes_integers(lowering, node):
        integers.unary(lowering, node)
        return
    apply(lowering, node, FUNCTIONS[node.op_type](node))


def clip(lowering: Lowering, node: ir.Node) -> None:
    """Relu or Clip that no operator in front could absorb."""
    if integers.computes_integers(lowering, node):
        (integers.clip if node.op_type == "Clip" else integers.unary)(lowering, node)
        return
    clamp = bounds(node, lowering.constants)
    if clamp is None:
        raise Refusal("its bounds are computed at run time", "Make them constants of the model.")
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
    apply(lowering, node, Elementwise(lambda v: np.clip(v, low, high), "clip", low, high))


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


def _gelu(node: ir.Node) -> Elementwise:
    if edit.attribute_string(node, "approximate", "none") == "tanh":
        c = np.sqrt(2 / np.pi)
        return Elementwise(lambda x: 0.5 * x * (1 + np.tanh(c * (x + 0.044715 * x**3))), "gelu", 1.0)
    return Elementwise(lambda x: 0.5 * x * (1 + _erf(x / np.sqrt(2.0))), "gelu", 0.0)


def _hardsigmoid(node: ir.Node) -> Elementwise:
    alpha, beta = edit.attribute_float(node, "alpha", 0.2), edit.attribute_float(node, "beta", 0.5)
    return Elementwise(lambda x: np.clip(alpha * x + beta, 0.0, 1.0), "hardsigmoid", alpha, beta)


def _leakyrelu(node: ir.Node) -> Elementwise:
    alpha = edit.attribute_float(node, "alpha", 0.01)
    return Elementwise(lambda x: np.where(x < 0, alpha * x, x), "leakyrelu", alpha)


def _elu(node: ir.Node) -> Elementwise:
    alpha = edit.attribute_float(node, "alpha", 1.0)
    return Elementwise(lambda x: np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x), "elu", alpha)


def _erf(x: F64) -> F64:
    from scipy.special import erf

    result: F64 = erf(x)
    return result


def _plain(kind: UnaryKind, exact: Function) -> Callable[[ir.Node], Elementwise]:
    return lambda node: Elementwise(exact, kind)


FUNCTIONS: dict[str, Callable[[ir.Node], Elementwise]] = {
    "Abs": _plain("abs", np.abs),
    "Ceil": _plain("ceil", np.ceil),
    "Elu": _elu,
    "Erf": _plain("erf", _erf),
    "Exp": _plain("exp", np.exp),
    "Floor": _plain("floor", np.floor),
    "Gelu": _gelu,
    "HardSigmoid": _hardsigmoid,
    "HardSwish": _plain("hardswish", lambda x: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0)),
    "LeakyRelu": _leakyrelu,
    "Neg": _plain("neg", np.negative),
    "Reciprocal": _plain("reciprocal", lambda x: 1.0 / x),
    "Sigmoid": _plain("sigmoid", lambda x: 1.0 / (1.0 + np.exp(-x))),
    "Sqrt": _plain("sqrt", np.sqrt),
    "Tanh": _plain("tanh", np.tanh),
}
