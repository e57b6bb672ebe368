"""Reshapes in a row are one Reshape: all of them keep the elements and their order.

Reshape, Flatten, Squeeze and Unsqueeze differ only in how they write down the new shape. When the shape of
the last one is known (one dimension may be symbolic, it becomes -1), it can read the first one's input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import Refusal, add_constant, become, is_op, remove, rewrite_each
from irshrink.module import Module
from irshrink.pipeline import Context, PassResult

_RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


@dataclass(frozen=True)
class FuseReshapes:
    """Fuse consecutive Reshape, Flatten, Squeeze and Unsqueeze."""

    name: ClassVar[str] = "fuse-reshapes"
    lossy: ClassVar[bool] = False

    def run(self, module: Module, ctx: Context) -> PassResult:
        fused = rewrite_each(module.graph, ctx, _RESHAPES, _fuse)
        return PassResult(fused > 0, stats={"fused": fused})


def _fuse(node: ir.Node) -> bool:
    middle = node.inputs[0]
    first = None if middle is None else middle.producer()
    if middle is None or first is None or not is_op(first, *_RESHAPES):
        return False
    target = _target_shape(node.outputs[0].shape)
    graph = node.graph
    assert graph is not None
    shape = add_constant(graph, np.array(target, np.int64), f"{node.outputs[0].name}_shape")
    become(node, "Reshape", [first.inputs[0], shape])
    if not middle.uses() and not middle.is_graph_output():
        remove(first)
    return True


def _target_shape(shape: ir.Shape | None) -> list[int]:
    if shape is None:
        raise Refusal("the shape of its result is unknown")
    target = [dim if isinstance(dim, int) else -1 for dim in shape]
    if target.count(-1) > 1 or 0 in target:
        raise Refusal(f"the shape of its result, {shape}, cannot be written down as constants")
    return target
