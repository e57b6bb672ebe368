"""Two thin matrices for one.

    W [outputs, n] ~ A [outputs, r] B [r, n]

The truncated singular value decomposition loses least in the weights (Eckart and Young, 1936). What counts is
the output: with the second moments of the input as metric, the best factors come from the SVD of W L with L
L^T = E[x x^T] (Chen et al., *DRONE*, NeurIPS 2021; Wang et al., *SVD-LLM*, arXiv:2403.07378; closed form in
:mod:`irshrink.passes.lowrank.problem`). What a transformer's layers read lies near few directions even where
their weights do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from irshrink.module import Module
from irshrink.passes.lowrank.factorize import factorize
from irshrink.passes.lowrank.options import RankOptions
from irshrink.passes.lowrank.svd import DENSE
from irshrink.pipeline import Context, PassResult


@dataclass(frozen=True)
class FactorizeDense(RankOptions):
    """Replace Gemm and MatMul by two of fewer values in between."""

    name: ClassVar[str] = "factorize-dense"
    lossy: ClassVar[bool] = True

    def run(self, module: Module, ctx: Context) -> PassResult:
        return factorize(self, self.name, [DENSE], module, ctx)
