"""Casts in a row: when the first one loses nothing, the second one can do the work alone.

A Cast to a type that holds every value of the old one (float32 to float64, int8 to int32, bool to
anything) changes no number, so what follows sees the same numbers without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from irshrink.graph.edit import attribute_type, is_op, remove, rewrite_each
from irshrink.module import Module
from irshrink.pipeline import Context, PassResult


@dataclass(frozen=True)
class FuseCasts:
    """Fuse a Cast with the Cast before it, when that one only widens."""

    name: ClassVar[str] = "fuse-casts"
    lossy: ClassVar[bool] = False

    def run(self, module: Module, ctx: Context) -> PassResult:
        fused = rewrite_each(module.graph, ctx, {"Cast"}, _fuse)
        return PassResult(fused > 0, stats={"fused": fused})


def _fuse(node: ir.Node) -> bool:
    middle = node.inputs[0]
    first = None if middle is None else middle.producer()
    if middle is None or first is None or not is_op(first, "Cast"):
        return False
    source = first.inputs[0]
    if source is None or source.dtype is None or not _widens(source.dtype, _target(first)):
        return False
    node.replace_input_with(0, source)
    if not middle.uses() and not middle.is_graph_output():
        remove(first)
    return True


def _target(cast: ir.Node) -> ir.DataType:
    return attribute_type(cast, "to")


def _widens(narrow: ir.DataType, wide: ir.DataType) -> bool:
    """Whether ``wide`` holds every value of ``narrow``."""
    if narrow in (wide, ir.DataType.BOOL):
        return True
    a, b = narrow.numpy(), wide.numpy()
    if a.kind not in "iuf" or b.kind not in "iuf":
        return False
    if a.kind in "iu" and b.kind == "f":
        digits = np.finfo(b).nmant + 1
        return bool(a.itemsize * 8 - (a.kind == "i") <= digits)
    return bool(np.can_cast(a, b, "safe"))
