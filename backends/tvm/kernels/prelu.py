"""PRelu on int8: one of two requantizations, by the sign of the input."""

from __future__ import annotations

from functools import cache

from irshrink.backends.tvm.kernels.call import Argument, Input, KernelCall, Output
from irshrink.backends.tvm.kernels.elements import (
    Broadcast,
    Style,
    binary_body,
    broadcast,
    inputs_like_output,
    style_of,
)
from irshrink.backends.tvm.kernels.epilogue import requantized
from irshrink.backends.tvm.tir import Expr, Function, TirFunction, cast, scalar, scalars, select
from irshrink.program.ops import PReluInt8
from irshrink.program.program import Program
from irshrink.target import Target


def select_prelu(op: PReluInt8, program: Program, target: Target) -> KernelCall:
    """int8, with one slope or several."""
    a, b = (program.tensors[name].shape for name in op.inputs)
    shape, sizes = broadcast(a, b, program.tensors[op.output].shape)
    q, multipliers = op.positive, [float(r.multiplier.reshape(-1)[0]) for r in (op.positive, op.negative)]
    clamp = (q.low, q.high) != (-128, 127)
    arguments: list[Argument] = [Input(0), Input(1), Output(), *sizes]
    arguments += [*op.zero_points, *multipliers, q.zero_point, *([q.low, q.high] if clamp else [])]
    function = _prelu(shape, style_of(target), clamp)
    return KernelCall(function, tuple(arguments), in_place=inputs_like_output(op, program))


@cache
def _prelu(shape: Broadcast, style: Style, clamp: bool) -> TirFunction:
    extra = [*scalars("zero_a", "zero_b"), scalar("positive", "float32"), scalar("negative", "float32")]
    extra += scalars("zero_point", *(("low", "high") if clamp else ()))

    def value(
        a: Expr, b: Expr, zero_a: Expr, zero_b: Expr, positive: Expr, negative: Expr, zero: Expr, *clip: Expr
    ) -> Expr:
        x = cast("int32", a) - zero_a
        acc = select(x >= 0, x, x * (cast("int32", b) - zero_b))
        return requantized(acc, select(x >= 0, positive, negative), zero, *clip)

    with Function(f"prelu_s8{shape.suffix}{'_clamp' if clamp else ''}", "PRelu of int8 tensors.") as f:
        binary_body(f, shape, style, "int8", extra, value)
    return f.result
