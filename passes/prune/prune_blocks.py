"""Whole blocks of residual networks: the block whose loss matters least is replaced by its shortcut.

A residual block computes x + F(x). Neighbouring blocks refine the same features, so that a network without
one of them still works (Veit, Wilber and Belongie, *Residual networks behave like ensembles of relatively
shallow networks*, NeurIPS 2016). Every sum of two maps is tried, with either side alone in its place: what
the outputs lose on samples held back, for the multiplications that go. The layers behind the gap are
repaired then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from irshrink.analyses.cost import graph_macs
from irshrink.changes import ChangeLog
from irshrink.console import plural
from irshrink.errors import RecipeError
from irshrink.graph.edit import base_name, can_replace, is_constant, is_op, remove, replace_value, same_shape
from irshrink.graph.shapes import infer_shapes
from irshrink.judge import Expected
from irshrink.knobs import Effect, Knob, Level, Wishes
from irshrink.module import Module
from irshrink.passes.prune.dequantize import on_floats
from irshrink.passes.prune.repair.repair import repair_module
from irshrink.passes.prune.scene import Split
from irshrink.passes.quantize.plan import matches, require_matches
from irshrink.pipeline import Context, PassResult

#: Most blocks that plans take out.
_MOST = 3


@dataclass(frozen=True)
class Candidate:
    """A sum of which only one side is left.

    Attributes:
        index: of the Add among the nodes of the graph.
        side: the input that stays, 0 or 1.
        saved: multiply-accumulates that go, a share of the graph's.
        loss: what the model's outputs lose.
    """

    index: int
    side: int
    saved: float
    loss: float


@dataclass(frozen=True)
class PruneBlocks:
    """Replace residual blocks by their shortcuts, and repair what is left.

    Attributes:
        blocks: how many go.
        repair: let the layers behind make up for them.
        exclude: sums that stay, by name or operator type; ``*`` and ``?`` as in file names.
    """

    name: ClassVar[str] = "prune-blocks"
    lossy: ClassVar[bool] = True

    blocks: int = 1
    repair: bool = True
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.blocks < 1:
            raise ValueError(f"blocks is {self.blocks}; it must be at least 1")

    @classmethod
    def knobs(cls, module: Module, wishes: Wishes) -> tuple[Knob, ...]:
        """One block, two, three, of networks that have more."""
        copy = module.clone()
        infer_shapes(copy.model)
        blocks = len({index for index, _, _ in _ways(copy)})
        levels = tuple(
            Level(plural(count, "block"), count, ({"pass": cls.name, "blocks": count},))
            for count in range(1, min(_MOST, blocks - 1) + 1)
        )
        if not levels:
            return ()
        helps: frozenset[Effect] = frozenset({"size", "cost"})
        return (Knob(cls.name, "residual blocks removed", "blocks", helps, levels, 10.0 + blocks),)

    def run(self, module: Module, ctx: Context) -> PassResult:
        with on_floats(module, ctx):
            return self._run(module, ctx)

    def _run(self, module: Module, ctx: Context) -> PassResult:
        if module.calibration is None or len(module.calibration) < 2:
            raise RecipeError("prune-blocks needs at least two calibration samples. Give --calibration.")
        require_matches(module.graph, self.exclude, "exclude")
        infer_shapes(module.model)
        module.keep_original()
        log, before = ChangeLog(module.graph), _macs(module.graph)
        layers = {base_name(node) for node in graph_macs(module.graph)}
        split = Split.of(module.calibration)
        removed: list[str] = []
        for _ in range(self.blocks):
            best = self._cheapest(module, Expected(module, split.held), ctx)
            if best is None:
                ctx.note("there is no residual block left that could go")
                break
            node = list(module.graph)[best.index]
            gone = _bypass(module.graph, best)
            removed.append(base_name(node))
            for name in gone:
                if name in layers:
                    log.because(name, kind="block", detail=f"the block added by '{base_name(node)}'")
        if removed and self.repair:
            repair_module(module, ctx)
        saved = 1 - _macs(module.graph) / before if before else 0.0
        stats = {"blocks": removed, "saved": round(saved, 4), **log.stats(module.graph)}
        return PassResult(bool(removed), stats=stats)

    def _cheapest(self, module: Module, judge: Expected, ctx: Context) -> Candidate | None:
        """The block with the least loss for what it saves."""
        ways = [one for one in _ways(module) if not matches(list(module.graph)[one[0]], self.exclude)]
        whole, found = _macs(module.graph), []
        for done, (index, side, copy) in enumerate(ways, start=1):
            ctx.progress(f"trying block {done:,} of {len(ways):,}")
            saved = 1 - _macs(copy.graph) / whole
            found.append(Candidate(index, side, saved, judge.loss(copy)))
        return min(found, key=lambda one: one.loss / one.saved, default=None)


def _ways(module: Module) -> list[tuple[int, int, Module]]:
    """Every sum that can go: its index among the nodes, the side that stays, the smaller model."""
    whole = _macs(module.graph)
    found = []
    for index, node in enumerate(module.graph):
        for side in (0, 1) if _is_sum(node) else ():
            copy = module.clone()
            _bypass(copy.graph, Candidate(index, side, 0.0, 0.0))
            if _macs(copy.graph) < whole and _still_reads(copy.graph):
                found.append((index, side, copy))
    return found


def _is_sum(node: ir.Node) -> bool:
    """Whether a node adds two maps that vary and either could stand for the sum."""
    if not is_op(node, "Add") or any(value is None or is_constant(value) for value in node.inputs):
        return False
    one, other = node.inputs
    if one is None or other is None or one is other or not same_shape(one, other):
        return False
    return all(can_replace(node.outputs[0], value) for value in (one, other))


def _bypass(graph: ir.Graph, chosen: Candidate) -> list[str]:
    """Put one side in the place of the sum; returns the names of all nodes that go."""
    node = list(graph)[chosen.index]
    stays = node.inputs[chosen.side]
    assert stays is not None, "see _is_sum"
    replace_value(node.outputs[0], stays)
    names = []
    for one in reversed(list(graph)):
        if not any(value.uses() or value.is_graph_output() for value in one.outputs):
            names.append(base_name(one))
            remove(one)
    return names


def _still_reads(graph: ir.Graph) -> bool:
    """Whether all inputs still matter: a network without its first half is no network."""
    return all(value.uses() for value in graph.inputs)


def _macs(graph: ir.Graph) -> int:
    return sum(count or 0 for count in graph_macs(graph).values())
