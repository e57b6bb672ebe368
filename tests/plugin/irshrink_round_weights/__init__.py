"""Weights that keep only some bits of their mantissa: a whole plug-in in one file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from irshrink.knobs import Knob, Level, Wishes
from irshrink.module import Module
from irshrink.pipeline import Context, PassResult


@dataclass(frozen=True)
class RoundWeights:
    """Round float32 weights to ``bits`` bits of mantissa."""

    name: ClassVar[str] = "round-weights"
    lossy: ClassVar[bool] = True

    bits: int = 10

    def __post_init__(self) -> None:
        if not 0 < self.bits <= 23:
            raise ValueError(f"bits is {self.bits}; float32 has 1 to 23")

    @classmethod
    def knobs(cls, module: Module, wishes: Wishes) -> tuple[Knob, ...]:
        """Mantissas so short that compressed files get smaller."""
        levels = tuple(
            Level(f"mantissas of {bits} bits", 23 - bits, ({"pass": cls.name, "bits": bits},))
            for bits in (10, 7, 4)
        )
        return (Knob(cls.name, "bits of mantissas", "weights", frozenset({"size"}), levels, 0.0),)

    def run(self, module: Module, ctx: Context) -> PassResult:
        rounded = 0
        for value in module.graph.initializers.values():
            tensor = value.const_value
            if tensor is None or tensor.dtype != ir.DataType.FLOAT:
                continue
            mantissa, exponent = np.frexp(tensor.numpy())
            steps = np.float32(2 ** (self.bits + 1))
            array = np.ldexp(np.rint(mantissa * steps) / steps, exponent).astype(np.float32)
            value.const_value = ir.tensor(array, name=value.name)
            rounded += 1
        return PassResult(rounded > 0, stats={"rounded": rounded})
