"""Weight-only int8, a scale for each output channel: what ``quantize-weights`` does by default.

See :mod:`irshrink.passes.quantize.stored.quantize_weights`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from irshrink.module import Module
from irshrink.passes.quantize.stored.quantize_weights import QuantizeWeights
from irshrink.pipeline import Context, PassResult


@dataclass(frozen=True)
class QuantizeWeightsInt8:
    """Store the weights of MatMul, Gemm, Conv, ConvTranspose, Gather, LSTM, GRU and RNN in int8.

    Attributes:
        min_elements: smaller constants stay float; they save nothing.
        keep_float: nodes whose weights stay float, by name or operator type; ``*`` and ``?`` as in files.
    """

    name: ClassVar[str] = "quantize-weights-int8"
    lossy: ClassVar[bool] = True

    min_elements: int = 1024
    keep_float: tuple[str, ...] = ()

    def run(self, module: Module, ctx: Context) -> PassResult:
        return QuantizeWeights(min_elements=self.min_elements, keep_float=self.keep_float).run(module, ctx)
