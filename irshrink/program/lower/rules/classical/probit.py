"""The transform PROBIT, which nobody computes twice alike: ONNX Runtime's formula, operator by operator.

    probit(v) = sqrt(2) * erfinv(x),  x = 2 v - 1
    erfinv(x) = sign(x) * sqrt(sqrt(u * u - l / 0.147) - u)
    l = log((1 - x) * (1 + x)),  u = 2 / (0.147 pi) + l / 2

S. Winitzki, A handy approximation for the error function and its inverse, 2008; the relative error is 2e-3.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from irshrink.program.lower.lowering import Lowering
from irshrink.program.ops import BinaryF32, BinaryKind, Compare, UnaryF32, UnaryKind, Where

_A = np.float32(0.147)
_OFFSET = float(np.float32(2) / (np.float32(3.14159) * _A))


def probit(lowering: Lowering, node: ir.Node, scores: str) -> str:
    """Elementwise on a tensor of float32."""
    shape = lowering.builder.shape(scores)
    one = (1,) * len(shape)

    def unary(kind: UnaryKind, x: str) -> str:
        return lowering.emit(UnaryF32, node, [x], shape, kind=kind)

    def binary(kind: BinaryKind, a: str, b: str | float, *, first: bool = False) -> str:
        if isinstance(b, str):
            return lowering.emit(BinaryF32, node, [a, b], shape, kind=kind)
        constant = np.full(one, b, np.float32)
        return lowering.emit(BinaryF32, node, [a], shape, kind=kind, constant=constant, constant_first=first)

    x = binary("sub", binary("mul", scores, 2.0), 1.0)
    log = unary("log", binary("mul", binary("sub", x, 1.0, first=True), binary("add", x, 1.0)))
    u = binary("add", binary("mul", log, 0.5), _OFFSET)
    inner = unary("sqrt", binary("sub", binary("mul", u, u), binary("mul", log, float(1 / _A))))
    size = binary("mul", unary("sqrt", binary("sub", inner, u)), float(np.float32(np.sqrt(2))))
    zero = lowering.builder.constant("zero", np.zeros(one, np.float32))
    negative = lowering.emit(Compare, node, [x, zero], shape, dtype="uint8", kind="less")
    return lowering.emit(Where, node, [negative, unary("neg", size), size], shape)
