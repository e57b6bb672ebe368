"""The sum with a second tensor after a convolution, over the bytes of one tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from irshrink.backends.tvm.kernels.call import Argument
from irshrink.backends.tvm.kernels.elementwise import has_ties
from irshrink.backends.tvm.kernels.epilogue import clamped
from irshrink.backends.tvm.tir import Buffer, Expr, Function, Parameter, cast, inline, read, scalars
from irshrink.program.ops import Addition


@dataclass(frozen=True)
class Residual:
    """What is added, if anything; an argument of generators.

    ``ties``: some operands sum to half a step, where rounding to even costs instructions.
    """

    present: bool = False
    ties: bool = False
    clamp: bool = False

    @staticmethod
    def of(addition: Addition | None) -> Residual:
        if addition is None:
            return Residual()
        clamp = (addition.low, addition.high) != (-128, 127)
        return Residual(True, has_ties(addition), clamp)

    @property
    def suffix(self) -> str:
        if not self.present:
            return ""
        return f"_add{'_even' if self.ties else ''}{'_clamp' if self.clamp else ''}"

    def _names(self) -> list[str]:
        names = ["add_m_a", "add_m_b", "add_offset", "add_shift", "add_zero_point"]
        names += ["add_mask"] if self.ties else []
        return names + (["add_low", "add_high"] if self.clamp else [])

    def parameters(self) -> list[Parameter]:
        """C parameters, in the order of the second input and :meth:`arguments`."""
        return [read("other", "int8"), *scalars(*self._names())] if self.present else []

    def arguments(self, addition: Addition) -> list[Argument]:
        (ma, mb), (za, zb) = addition.multipliers, addition.zero_points
        offset = ((1 << addition.shift) >> 1) - za * ma - zb * mb
        values: list[Argument] = [ma, mb, offset, addition.shift, addition.zero_point]
        values += [(1 << addition.shift) - 1] if self.ties else []
        return values + ([addition.low, addition.high] if self.clamp else [])

    def emit(
        self, f: Function, given: Sequence[Expr], sums: tuple[Buffer, Expr], y: tuple[Buffer, Expr], n: Expr
    ) -> None:
        """``y[at + k] = a[k] + other[at + k]`` for k < n, both from their offsets on."""
        other, v = given[0], dict(zip(self._names(), given[1:], strict=True))
        (a, a_at), (out, at) = sums, y
        with f.loop("k", n) as k:
            total = cast("int32", a[a_at + k]) * v["add_m_a"] + cast("int32", other[at + k]) * v["add_m_b"]
            total = f.bind("total", total + v["add_offset"])  # which holds half a step
            if self.ties:
                shifted = inline("int32", "irs_shift_to_even", total, v["add_shift"], v["add_mask"])
            else:
                shifted = total >> v["add_shift"]
            q = shifted + v["add_zero_point"]
            if self.clamp:
                f.store(out, at + k, clamped(q, v["add_low"], v["add_high"]))
            else:
                f.store(out, at + k, inline("int8", "irs_saturate", q))
