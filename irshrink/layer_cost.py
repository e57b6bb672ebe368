"""What layers cost on a target: the seam between passes, which ask, and what can measure on one.

A pass asks ``ctx.costs`` what a node takes as it is, or would take with other channels, and what a whole
model would take; it never imports what answers. Every answer says what it counts, and whether it was measured
or predicted from layers that were. Instructions and estimated cycles rank layers on a core: they are never a
latency. ``ctx.costs`` is None where nothing can tell; fall back to MACs then, and say so with ``ctx.note``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import onnx_ir as ir

from irshrink.module import Module

__all__ = ["Cost", "Footprint", "LayerCosts", "Origin", "Unit", "total"]

Unit = Literal["instructions", "estimated cycles", "seconds"]
Origin = Literal["measured", "predicted"]


@dataclass(frozen=True)
class Cost:
    """What one inference of a layer takes.

    Attributes:
        amount: how many ``unit``.
        origin: ``measured`` on the target or in its emulator, or ``predicted`` from layers that were.
        error: of a prediction, relative: what predictions of such layers were found to be off by.
    """

    amount: float
    unit: Unit
    origin: Origin
    error: float = 0.0


@dataclass(frozen=True)
class Footprint:
    """What a model would take on the target, found without compiling it.

    Attributes:
        weights_bytes: constants in flash; what layers share counts once.
        code_bytes: machine code of the kernels, an estimate; None where nothing was measured.
        arena_bytes: of the real plan.
        cost: of one inference; None where nothing was measured.
        layers: parts of ``cost`` by the name of the node; what is fused into a node is part of its cost.
    """

    weights_bytes: int
    code_bytes: int | None
    arena_bytes: int
    cost: Cost | None
    layers: Mapping[str, Cost] = field(default_factory=dict)


class LayerCosts(Protocol):
    """Costs on one target.

    Deterministic where ``exact``: the same answers whatever was asked before or is cached. The first question
    about a kind of layer measures a few layers of that kind, which takes seconds; those after it are quick.

    Attributes:
        unit: what is counted.
        exact: whether measuring again gives the same; seconds are not.
    """

    @property
    def unit(self) -> Unit: ...

    @property
    def exact(self) -> bool: ...

    def of_node(self, node: ir.Node) -> Cost | None:
        """Of a node by itself, as it stands in its graph; what a layer's C function does besides is no part.

        None where it computes nothing (which is so for a Relu or Clip that is part of the layer before it),
        its shapes are open, or the target has no kernel for it.

        Raises:
            ToolError: the compiler or the emulator failed.
        """

    def of_channels(
        self, node: ir.Node, *, inputs: int | None = None, outputs: int | None = None
    ) -> Cost | None:
        """Of a node with other numbers of channels in its input and its output; None keeps those it has.

        Depthwise layers, and those without weights, have as many outputs as their inputs say. None as above.
        """

    def of_module(self, module: Module) -> Footprint:
        """Of a whole model as it would be compiled; it is not changed, and its ``cost`` is not None.

        A float model is quantized the way that it is going to be, on a few samples: its own, or random ones.

        Raises:
            UnsupportedModelError: the target has no kernel for a node.
            ToolError: the compiler or the emulator failed.
        """


def total(costs: Sequence[Cost]) -> Cost:
    """Their sum, at least one and all of one unit; measured where all are. Errors are taken to add up."""
    measured = all(one.origin == "measured" for one in costs)
    amount = sum(one.amount for one in costs)
    error = sum(one.amount * one.error for one in costs) / amount if amount else 0.0
    return Cost(amount, costs[0].unit, "measured" if measured else "predicted", error)
