"""From accumulators to int8: requantization, fused clipping, fused residual addition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from irshrink.backends.tvm.kernels.call import Argument, Constant, Input
from irshrink.backends.tvm.tir import Buffer, Expr, Function, Parameter, cast, constant, inline, read, scalars
from irshrink.program.ops import Addition, Requantization


@dataclass(frozen=True)
class Epilogue:
    """What happens to a finished accumulator; a hashable argument of kernel generators."""

    clamp: bool = False
    residual: bool = False
    residual_clamp: bool = False

    @staticmethod
    def of(requantization: Requantization, residual: Addition | None = None) -> Epilogue:
        return Epilogue(
            clamp=(requantization.low, requantization.high) != (-128, 127),
            residual=residual is not None,
            residual_clamp=residual is not None and (residual.low, residual.high) != (-128, 127),
        )

    @property
    def suffix(self) -> str:
        parts = [("_clamp", self.clamp), ("_add", self.residual), ("_addclamp", self.residual_clamp)]
        return "".join(name for name, present in parts if present)

    def parameters(self) -> list[Parameter]:
        """C parameters, in the order of :func:`epilogue_arguments`."""
        names = ["zero_point"]
        if self.clamp:
            names += ["low", "high"]
        residual = [read("other", "int8")] if self.residual else []
        if self.residual:
            names += ["add_m_a", "add_m_b", "add_offset", "add_shift", "add_zero_point"]
        if self.residual_clamp:
            names += ["add_low", "add_high"]
        return [constant("multiplier", "float32"), *residual, *scalars(*names)]

    def emit(self, f: Function, given: Sequence[Any], acc: Expr, channel: Expr, y: Buffer, at: Expr) -> None:
        """Store the int8 result of ``acc`` of ``channel`` at ``y[at]``."""
        values = dict(zip([p.name for p in self.parameters()], given, strict=True))
        clip = (values["low"], values["high"]) if self.clamp else ()
        q = requantized(acc, values["multiplier"][channel], values["zero_point"], *clip)
        if self.residual:
            q = self._added(q, values, at)
        f.store(y, at, q)

    def _added(self, q: Expr, values: dict[str, Any], at: Expr) -> Expr:
        a, b = cast("int32", q), cast("int32", values["other"][at])
        total = a * values["add_m_a"] + b * values["add_m_b"] + values["add_offset"]
        added = inline("int32", "irs_shift_half_even", total, values["add_shift"]) + values["add_zero_point"]
        if self.residual_clamp:
            return clamped(added, values["add_low"], values["add_high"])
        return inline("int8", "irs_saturate", added)


def requantized(acc: Expr, multiplier: Expr, zero_point: Expr, *clip: Expr) -> Expr:
    """``acc`` as int8; with ``low, high`` clipped."""
    q = inline("int8", "irs_requantize", acc, multiplier, zero_point)
    return clamped(q, *clip) if clip else q


def clamped(value: Expr, low: Expr, high: Expr) -> Expr:
    """``value`` between two int8 bounds, as int8."""
    return cast("int8", inline("int32", "irs_clamp_i32", cast("int32", value), low, high))


def epilogue_arguments(
    requantization: Requantization, channels: int, residual: Addition | None = None
) -> list[Argument]:
    """What a kernel with this epilogue is called with."""
    import numpy as np

    epilogue = Epilogue.of(requantization, residual)
    multiplier = np.ascontiguousarray(np.broadcast_to(requantization.multiplier, (channels,)), np.float32)
    arguments: list[Argument] = [Constant("multiplier", multiplier)]
    if residual is not None:
        arguments.append(Input(1))
    arguments.append(requantization.zero_point)
    if epilogue.clamp:
        arguments += [requantization.low, requantization.high]
    if residual is not None:
        (ma, mb), (za, zb) = residual.multipliers, residual.zero_points
        arguments += [ma, mb, -(za * ma + zb * mb), residual.shift, residual.zero_point]
        if epilogue.residual_clamp:
            arguments += [residual.low, residual.high]
    return arguments
