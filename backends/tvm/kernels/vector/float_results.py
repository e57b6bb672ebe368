"""From vectors of float32 or float16 sums to results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from irshrink.backends.tvm.kernels.call import Argument
from irshrink.backends.tvm.kernels.vector.results import Pixel
from irshrink.backends.tvm.tir import Buffer, Expr, Function, Parameter, address, inline, scalar


@dataclass(frozen=True)
class FloatResults:
    """See :class:`~irshrink.backends.tvm.kernels.vector.results.Results`: -0 made 0, then the fused clip.

    ``header``: prefix of the C functions; ``element``: of sums and results.
    """

    header: str
    lanes: int
    low: bool
    high: bool
    element: str = "f32"

    @property
    def suffix(self) -> str:
        return ("_low" if self.low else "") + ("_high" if self.high else "")

    def parameters(self) -> list[Parameter]:
        names = ["low"] * self.low + ["high"] * self.high
        return [scalar(name, "float32") for name in names]

    def arguments(self, low: float, high: float) -> list[Argument]:
        return [bound for bound, has in ((low, self.low), (high, self.high)) if has]

    def begin(self, f: Function, given: Sequence[Any], channel: Expr, channels: int) -> dict[str, Any]:
        return dict(zip([p.name for p in self.parameters()], given, strict=True))

    def together(self, vectors: int) -> int:
        return 1

    def store(self, f: Function, shared: dict[str, Any], pixels: Sequence[Pixel], y: Buffer) -> None:
        bits = int(self.element[1:])
        dtype, form = f"float{bits}x{self.lanes}", f"{self.element}x{self.lanes}"
        vectors = [(at, v, total) for sums, at in pixels for v, total in enumerate(sums)]
        for at, v, total in vectors:
            value = inline(dtype, f"{self.header}_sum_{form}", total)
            for bound, name in (("low", "atleast"), ("high", "atmost")):
                if bound in shared:
                    value = inline(dtype, f"{self.header}_{name}_{form}", value, shared[bound])
            f.call(f"{self.header}_store_{form}", address(y, (at + self.lanes * v) * (bits // 8)), value)
