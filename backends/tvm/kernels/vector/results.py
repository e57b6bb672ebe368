"""From vectors of accumulators to bytes: requantization, clamp, residual addition; 64-bit Arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from irshrink.backends.tvm.kernels.call import Argument, Constant, Input
from irshrink.backends.tvm.kernels.elementwise import has_ties
from irshrink.backends.tvm.kernels.vector.requantize import Int64, integer_scale
from irshrink.backends.tvm.tir import (
    Buffer,
    Expr,
    Function,
    Parameter,
    address,
    constant,
    inline,
    read,
    scalars,
)
from irshrink.program.ops import Addition, Requantization

#: Results before the clip below this, added to any zero point, fit 16 bits whatever float32 rounds.
_FITS_16_BITS = 32000


#: The sums of one pixel, vectors of channels, and the element of the output that the first one is for.
Pixel = tuple[Sequence[Expr], Expr]


class Results(Protocol):
    """How the sums of a tile become bytes; a frozen dataclass, an argument of generators."""

    @property
    def suffix(self) -> str: ...

    def parameters(self) -> list[Parameter]: ...

    def begin(self, f: Function, given: Sequence[Any], channel: Expr, channels: int) -> Any:
        """What all pixels of a tile share; handed to :meth:`store`."""

    def together(self, vectors: int) -> int:
        """How many pixels of so many vectors one :meth:`store` takes at most."""

    def store(self, f: Function, shared: Any, pixels: Sequence[Pixel], y: Buffer) -> None:
        """Store the results of some pixels."""


class Int8Results(Results, Protocol):
    """Requantization, and what is fused behind it."""

    @classmethod
    def of(
        cls, form: Requantization, bounds: tuple[Int64, Int64], residual: Addition | None
    ) -> tuple[Int8Results, list[Argument]]:
        """The code and what it is called with; ``bounds`` are the reachable accumulators of every channel."""


@dataclass(frozen=True)
class _Addition:
    """A fused residual addition; ``shift`` and ``ties`` shape the code."""

    shift: int
    ties: bool
    clamp: bool


@dataclass(frozen=True)
class _Shared:
    values: dict[str, Any]
    multipliers: list[Expr]
    zeros: tuple[Expr, ...]
    clamp: tuple[Expr, ...]


@dataclass(frozen=True)
class NeonResults:
    """16, 8 or 4 channels at a time.

    Attributes:
        form: ``integer`` where requantization is provably a multiplication of integers (by ``shift``),
            ``magic`` where results before the clip fit 16 bits, ``float`` else. The magic form adds
            1.5 * 2^23 + zero point, which leaves the whole number, rounded half to even, in the low bits:
            provided that the zero point is even, or else it would turn even into odd. An odd one is added to
            16 bits, ``odd``.
    """

    form: Literal["integer", "magic", "float"]
    shift: int
    odd: bool
    clamp: bool
    addition: _Addition | None = None

    @classmethod
    def of(
        cls, form: Requantization, bounds: tuple[Int64, Int64], residual: Addition | None = None
    ) -> tuple[NeonResults, list[Argument]]:
        channels = len(bounds[0])
        scale = integer_scale(form, *bounds)
        multiplier = np.ascontiguousarray(np.broadcast_to(form.multiplier, (channels,)), np.float32)
        arguments: list[Argument] = [Constant("multiplier", scale.multiplier if scale else multiplier)]
        clamp = (form.low, form.high) != (-128, 127)
        addition = None
        if residual is not None:
            added_clamp = (residual.low, residual.high) != (-128, 127)
            addition = _Addition(residual.shift, has_ties(residual), added_clamp)
            arguments.append(Input(1))
        arguments += [form.zero_point, *([form.low, form.high] if clamp else [])]
        if residual is not None:
            (ma, mb), (za, zb) = residual.multipliers, residual.zero_points
            half = (1 << residual.shift) >> 1
            arguments += [ma, mb, half - za * ma - zb * mb, residual.zero_point]
            arguments += [residual.low, residual.high] if added_clamp else []
        odd = form.zero_point % 2 != 0
        if scale is not None:
            return cls("integer", scale.shift, odd, clamp, addition), arguments
        largest = (np.maximum(-bounds[0], bounds[1]) * multiplier.astype(np.float64)).max()
        return cls("magic" if largest < _FITS_16_BITS else "float", 0, odd, clamp, addition), arguments

    @property
    def suffix(self) -> str:
        number = self.shift if self.form == "integer" else "odd" if self.odd and self.form == "magic" else ""
        text = f"_{self.form}{number}{'_clamp' if self.clamp else ''}"
        if self.addition is None:
            return text
        a = self.addition
        return f"{text}_add{a.shift}{'_even' if a.ties else ''}{'_addclamp' if a.clamp else ''}"

    def parameters(self) -> list[Parameter]:
        names = ["zero_point", *(("low", "high") if self.clamp else ())]
        other = []
        if self.addition is not None:
            other = [read("other", "int8")]
            names += ["add_m_a", "add_m_b", "add_offset", "add_zero_point"]
            names += ["add_low", "add_high"] if self.addition.clamp else []
        return [
            constant("multiplier", "int32" if self.form == "integer" else "float32"),
            *other,
            *scalars(*names),
        ]

    def begin(self, f: Function, given: Sequence[Any], channel: Expr, channels: int) -> _Shared:
        values = dict(zip([p.name for p in self.parameters()], given, strict=True))
        kind, dtype = ("i32", "int32x4") if self.form == "integer" else ("f32", "float32x4")
        multipliers = [
            f.bind(
                f"m{v}", inline(dtype, f"irs_neon_load_{kind}", address(values["multiplier"], channel + c))
            )
            for v, c in enumerate(range(0, channels, 4))
        ]
        if self.form == "magic":
            zero = inline("float32x4", "irs_neon_magic", 0 if self.odd else values["zero_point"])
            odd = inline("int16x8", "irs_neon_splat16", values["zero_point"]) if self.odd else zero
        else:
            zero = odd = inline("int16x8", "irs_neon_splat16", values["zero_point"])
        zeros = (
            (f.bind("zero", zero), f.bind("odd", odd))
            if self.form == "magic" and self.odd
            else (f.bind("zero", zero),)
        )
        return _Shared(values, multipliers, zeros, self._clamp(f, values, self.clamp, ""))

    def _clamp(self, f: Function, values: dict[str, Any], present: bool, prefix: str) -> tuple[Expr, ...]:
        if not present:
            return ()
        names = (f"{prefix}low", f"{prefix}high")
        return tuple(f.bind(f"v_{n}", inline("int8x16", "irs_neon_splat8", values[n])) for n in names)

    def together(self, vectors: int) -> int:
        return 1

    def store(self, f: Function, shared: _Shared, pixels: Sequence[Pixel], y: Buffer) -> None:
        for sums, at in pixels:
            self._store(f, shared, sums, y, at)

    def _store(self, f: Function, shared: _Shared, sums: Sequence[Expr], y: Buffer, at: Expr) -> None:
        c = 0
        while c < len(sums):
            left = len(sums) - c
            if left >= 4:
                low, high = (self._eight(shared, sums, c + h) for h in (0, 2))
                q = inline("int8x16", "irs_neon_join", low, high)
                f.call("irs_neon_store", address(y, at + 4 * c), self._finish(f, shared, q, at + 4 * c, 16))
                c += 4
                continue
            q = self._eight(shared, sums, c)
            wide = 8 if left >= 2 else 4
            q = self._finish(f, shared, q, at + 4 * c, wide)
            f.call(f"irs_neon_store{wide}", address(y, at + 4 * c), q)
            c += wide // 4

    def _eight(self, shared: _Shared, sums: Sequence[Expr], v: int) -> Expr:
        """Eight bytes from vectors v and v + 1; a vector that stands alone takes both places."""
        w = min(v + 1, len(sums) - 1)
        arguments: list[Expr] = [sums[v], sums[w], shared.multipliers[v], shared.multipliers[w]]
        if self.form == "integer":
            return inline("int8x8", "irs_neon_requantize_integer", *arguments, shared.zeros[0], self.shift)
        if self.form == "float":
            return inline("int8x8", "irs_neon_requantize", *arguments, shared.zeros[0])
        name = "irs_neon_requantize_magic" + ("_odd" if self.odd else "")
        return inline("int8x8", name, *arguments, *shared.zeros)

    def _finish(self, f: Function, shared: _Shared, q: Expr, at: Expr, wide: int) -> Expr:
        """Clamp, then the residual."""
        dtype, n = ("int8x16", "") if wide == 16 else ("int8x8", "8")
        if self.clamp:
            q = inline(dtype, f"irs_neon_clamp{n}", q, *shared.clamp)
        if self.addition is None:
            return q
        v = shared.values
        load = {16: "irs_neon_load", 8: "irs_neon_load8", 4: "irs_neon_load4"}[wide]
        other = inline(dtype, load, address(v["other"], at))
        numbers = [v[k] for k in ("add_m_a", "add_m_b", "add_offset", "add_zero_point")]
        even = "_even" if self.addition.ties else ""
        total = inline(dtype, f"irs_neon_residual{n}{even}", q, other, *numbers, self.addition.shift)
        total = f.bind("total", total)
        if not self.addition.clamp:
            return total
        return inline(dtype, f"irs_neon_clamp{n}", total, *self._clamp(f, v, True, "add_"))
