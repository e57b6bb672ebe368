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
from irshrink.backends.tvm.kernels.vector.results import Pixel
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

#: Results before the clip that may have any zero point added.
_FITS = 1 << 30
_ADDITION = ("add_m_a", "add_m_b", "add_offset", "add_shift", "add_zero_point", "add_low", "add_high")


@dataclass(frozen=True)
class X86Results:
    """See :class:`~irshrink.backends.tvm.kernels.vector.results.Results`.

    Attributes:
        packed: every result before the clip fits int32 with room to spare: four vectors become bytes
            together, and narrowing with saturation is the clip.
        clamp: a further one follows.
        addition: a residual addition follows; its operand is an int8 in 32 bits, not packed.
        ties: its sums can lie exactly between two steps.
    """

    packed: bool
    clamp: bool
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
            largest = (np.maximum(-bounds[0], bounds[1]) * multiplier.astype(np.float64)).max()
            if largest >= _FITS:
                return cls(False, False, False, False), [*arguments, *limits]
            clamp = (form.low, form.high) != (-128, 127)
            return cls(True, clamp, False, False), [*arguments, zero, *([form.low, form.high] * clamp)]
        (ma, mb), (za, zb) = residual.multipliers, residual.zero_points
        half = (1 << residual.shift) >> 1
        numbers = [ma, mb, half - za * ma - zb * mb, residual.shift, residual.zero_point]
        added = [*numbers, residual.low, residual.high]
        return cls(False, False, True, has_ties(residual)), [*arguments, Input(1), *limits, *added]

    @property
    def suffix(self) -> str:
        if self.addition:
            return "_add" + ("_even" if self.ties else "")
        return ("_clamp" if self.clamp else "") if self.packed else "_wide"

    def parameters(self) -> list[Parameter]:
        multiplier = constant("multiplier", "float32")
        if self.packed:
            return [multiplier, *scalars("zero_point", *(("low", "high") if self.clamp else ()))]
        return [
            multiplier,
            *([read("other", "int8")] if self.addition else []),
            *(scalar("zero_point"), scalar("low", "float32"), scalar("high", "float32")),
            *(scalars(*_ADDITION) if self.addition else []),
        ]

    def begin(self, f: Function, given: Sequence[Any], channel: Expr, channels: int) -> _Shared:
        values = dict(zip([p.name for p in self.parameters()], given, strict=True))
        return _Shared(values, channel)

    def together(self, vectors: int) -> int:
        return max(4 // vectors, 1)

    def store(self, f: Function, shared: _Shared, pixels: Sequence[Pixel], y: Buffer) -> None:
        lanes = int(str(pixels[0][0][0].ty).rsplit("x", 1)[1])
        pieces = [
            _Piece(lanes, acc, shared.channel + lanes * v, at + lanes * v)
            for sums, at in pixels
            for v, acc in enumerate(sums)
        ]
        if self.packed:
            return self._pack(f, shared.values, pieces, len(pixels[0][0]), y)
        for piece in pieces:
            f.call(f"irs_x86_store{lanes}", address(y, piece.at), self._wide(shared.values, piece))

    def _pack(
        self, f: Function, values: dict[str, Any], pieces: Sequence[_Piece], vectors: int, y: Buffer
    ) -> None:
        """Up to four vectors, ``vectors`` a pixel; the last one takes the places that are left."""
        n = pieces[0].lanes
        whole = [
            f.bind("q", inline(f"int32x{n}", f"irs_x86_whole{n}", p.sums, p.multiplier(values)))
            for p in pieces
        ]
        four = [*whole, *[whole[-1]] * (4 - len(whole))]
        joined = inline(f"int32x{n}", f"irs_x86_join{n}", *four, values["zero_point"])
        if self.clamp:
            joined = inline(f"int32x{n}", f"irs_x86_clamp{n}", joined, values["low"], values["high"])
        joined = f.bind("bytes", joined)
        for i in range(0, len(pieces), vectors):
            f.call(f"irs_x86_put{n}", address(y, pieces[i].at), joined, i, vectors)

    def _wide(self, values: dict[str, Any], piece: _Piece) -> Expr:
        """Results as int32, clipped."""
        n, limits = piece.lanes, [values[k] for k in ("zero_point", "low", "high")]
        q = inline(f"int32x{n}", f"irs_x86_requantize{n}", piece.sums, piece.multiplier(values), *limits)
        if not self.addition:
            return q
        name = f"irs_x86_residual{n}{'_even' if self.ties else ''}"
        numbers = [values[k] for k in _ADDITION]
        return inline(f"int32x{n}", name, q, address(values["other"], piece.at), *numbers)


@dataclass(frozen=True)
class _Piece:
    """A vector of sums, the channel of its first lane, and where its bytes go."""

    lanes: int
    sums: Expr
    channel: Expr
    at: Expr

    def multiplier(self, values: dict[str, Any]) -> Expr:
        return address(values["multiplier"], self.channel)


@dataclass(frozen=True)
class _Shared:
    values: dict[str, Any]
    channel: Expr
