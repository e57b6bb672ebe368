"""Two layers for one: the leading principal axes of its outputs, then the way back to all of them."""

from __future__ import annotations

from dataclasses import dataclass

from irshrink.passes.lowrank.form import Factors, Ranks, Stage, conv_attributes, steps
from irshrink.passes.lowrank.layers import Layer
from irshrink.passes.lowrank.problem import Problem


@dataclass(frozen=True)
class Svd:
    """Rank r: n -> r -> outputs. Of a Conv the first has the kernel, the second is 1 x 1.

    Attributes:
        name: what reports call it.
        op_types: the operators it is for.
    """

    name: str
    op_types: tuple[str, ...]

    def why_not(self, layer: Layer) -> str | None:
        return None if layer.node.op_type in self.op_types else f"it is no {' or '.join(self.op_types)}"

    def ranks(self, layer: Layer, multiple: int) -> list[Ranks]:
        return [(rank,) for rank in steps(min(layer.rows.shape), multiple)]

    def stages(self, layer: Layer, ranks: Ranks) -> list[Stage]:
        (rank,) = ranks
        if not layer.kernel:
            rows = layer.positions()[0]
            return [
                Stage((rank, layer.channels), rows, {}),
                Stage((layer.outputs, rank), rows, {}),
            ]
        every = tuple(range(len(layer.kernel)))
        size = layer.positions()[1]
        first = conv_attributes(layer, every)
        return [
            Stage((rank, layer.channels, *layer.kernel), size, first),
            Stage((layer.outputs, rank, *[1] * len(every)), size, {}),
        ]

    def errors(self, layer: Layer, problem: Problem, ranks: list[Ranks]) -> list[float]:
        tail = problem.tail()
        return [float(tail[rank]) for (rank,) in ranks]

    def factor(self, layer: Layer, problem: Problem, ranks: Ranks) -> Factors:
        (rank,) = ranks
        first, second = self.stages(layer, ranks)
        out, into = problem.split(rank)
        return Factors((into.reshape(first.shape), out.reshape(second.shape)), out @ into)


CHANNELS = Svd("channels", ("Conv",))
DENSE = Svd("dense", ("Gemm", "MatMul"))
