"""What a layer costs on a target: the seam between passes, which ask, and backends, which can measure.

A pass asks ``ctx.costs`` what a node takes as it is, or would take with other channels; it never imports what
answers. The answer says what it counts and whether it was measured or predicted. Instructions and estimated
cycles rank layers on a core and are never a latency.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import onnx_ir as ir

__all__ = ["Cost", "LayerCosts", "Origin", "Unit"]

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


class LayerCosts(Protocol):
    """Costs on one target. Deterministic: the same answers whatever was measured before or is cached."""

    unit: Unit

    def of_node(self, node: ir.Node) -> Cost | None:
        """Of a node as it stands in its graph; None where it computes nothing or its shapes are open."""
