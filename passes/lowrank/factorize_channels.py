"""A convolution with fewer outputs, then a 1 x 1 convolution back to all of them.

    W[o, n] ~ sum_r U[o, r] B[r, n]

The outputs of a convolution lie near a subspace: projecting them on their r principal axes is the best
approximation of rank r of what it computes, and the projection goes into a 1 x 1 convolution (Zhang, Zou, He
and Sun, *Accelerating very deep convolutional networks for classification and detection*, IEEE TPAMI 2016,
arXiv:1505.06798, sections 3.1 and 3.3: axes of the responses about their mean, and each layer fitted to the
original's responses from the inputs that the layers before it give now). With ``fit = weights`` it is the SVD
of the weights (Denton et al., *Exploiting linear structure within convolutional networks*, NeurIPS 2014).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from irshrink.module import Module
from irshrink.passes.lowrank.factorize import factorize
from irshrink.passes.lowrank.options import RankOptions
from irshrink.passes.lowrank.svd import CHANNELS
from irshrink.pipeline import Context, PassResult


@dataclass(frozen=True)
class FactorizeChannels(RankOptions):
    """Replace convolutions by ones of fewer outputs and a 1 x 1 convolution."""

    name: ClassVar[str] = "factorize-channels"
    lossy: ClassVar[bool] = True

    def run(self, module: Module, ctx: Context) -> PassResult:
        return factorize(self, self.name, [CHANNELS], module, ctx)
