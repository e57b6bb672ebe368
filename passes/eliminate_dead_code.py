"""Dead code: nodes, initializers, functions and operator sets that no output depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from onnx_ir.passes import common

from irshrink.module import Module
from irshrink.pipeline import Context, PassResult


@dataclass(frozen=True)
class EliminateDeadCode:
    """Remove what cannot reach an output of the model. Inputs stay: they are the model's signature."""

    name: ClassVar[str] = "eliminate-dead-code"
    lossy: ClassVar[bool] = False

    def run(self, module: Module, ctx: Context) -> PassResult:
        model, graph = module.model, module.graph
        nodes, constants = len(graph), len(graph.initializers)
        changed = False
        for step in (
            common.RemoveUnusedNodesPass(),
            common.RemoveUnusedFunctionsPass(),  # type: ignore[no-untyped-call]
            common.RemoveUnusedOpsetsPass(),
        ):
            changed |= step(model).modified
        stats = {"nodes": nodes - len(graph), "initializers": constants - len(graph.initializers)}
        return PassResult(changed, stats=stats)
