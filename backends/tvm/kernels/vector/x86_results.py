"""From vectors of accumulators to bytes on x86: 16 or 8 channels at a time.

A clip between whole numbers and rounding to whole numbers commute: the clamp is done on floats, relative to
the zero point, and also keeps every conversion in range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from irshrink.backends.tvm.kernels.call import Argument, Constant, Input
from irshrink.backends.tvm.kernels.elementwise import has_ties
from irshrink.backends.tvm.kernels.vector.requantize import Int64
from irshrink.backends.tvm.tir import (
    Buffer,
    Expr,
    Function,
    Parameter,
    address,
    constant,
    inline,
    read,
    scalar,
    scalars,
)
from irshrink.program.ops import Addition, Requantization

_ADDITION = ("add_m_a", "add_m_b", "add_offset", "add_shift", "add_zero_point", "add_low", "add_high")


@dataclass(frozen=True)
class X86Results:
    """See :class:`~irshrink.backends.tvm.kernels.vector.results.Results`.

    Attributes:
        addition: a residual addition follows.
        ties: its sums can lie exactly between two steps.
    """

    addition: bool
    ties: bool

    @classmethod
    def of(
        cls, form: Requantization, bounds: tuple[Int64, Int64], residual: Addition | None
    ) -> tuple[X86Results, list[Argument]]:
        channels, zero = len(bounds[0]), form.zero_point
        multiplier = np.ascontiguousarray(np.broadcast_to(form.multiplier, (channels,)), np.float32)
        arguments: list[Argument] = [Constant("multiplier", multiplier)]
        limits: list[Argument] = [zero, float(form.low - zero), float(form.high - zero)]
        if residual is None:
            return cls(False, False), [*arguments, *limits]
        (ma, mb), (za, zb) = residual.multipliers, residual.zero_points
        half = (1 << residual.shift) >> 1
        numbers = [ma, mb, half - za * ma - zb * mb, residual.shift, residual.zero_point]
        added = [*numbers, residual.low, residual.high]
        return cls(True, has_ties(residual)), [*arguments, Input(1), *limits, *added]

    @property
    def suffix(self) -> str:
        return ("_add" if self.addition else "") + ("_even" if self.ties else "")

    def parameters(self) -> list[Parameter]:
        return [
            constant("multiplier", "float32"),
            *([read("other", "int8")] if self.addition else []),
            *(scalar("zero_point"), scalar("low", "float32"), scalar("high", "float32")),
            *(scalars(*_ADDITION) if self.addition else []),
        ]

    def begin(self, f: Function, given: Sequence[Any], channel: Expr, channels: int) -> _Shared:
        values = dict(zip([p.name for p in self.parameters()], given, strict=True))
        return _Shared(values, channel)

    def store(self, f: Function, shared: _Shared, sums: Sequence[Expr], y: Buffer, at: Expr) -> None:
        n = int(str(sums[0].ty).rsplit("x", 1)[1])
        values = shared.values
        limits = [values[k] for k in ("zero_point", "low", "high")]
        for v, acc in enumerate(sums):
            multiplier = address(values["multiplier"], shared.channel + n * v)
            q = inline(f"int32x{n}", f"irs_x86_requantize{n}", acc, multiplier, *limits)
            if self.addition:
                numbers = [values[k] for k in _ADDITION]
                name = f"irs_x86_residual{n}{'_even' if self.ties else ''}"
                q = inline(f"int32x{n}", name, q, address(values["other"], at + n * v), *numbers)
            f.call(f"irs_x86_store{n}", address(y, at + n * v), q)


@dataclass(frozen=True)
class _Shared:
    values: dict[str, Any]
    channel: Expr
