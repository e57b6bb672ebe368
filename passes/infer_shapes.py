"""Shape inference: give every value a type and, where it follows from the inputs, a static shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from irshrink.graph.shapes import infer_shapes
from irshrink.module import Module
from irshrink.pipeline import Context, PassResult


@dataclass(frozen=True)
class InferShapes:
    """ONNX's own shape inference, with the values of small constants propagated."""

    name: ClassVar[str] = "infer-shapes"
    lossy: ClassVar[bool] = False

    def run(self, module: Module, ctx: Context) -> PassResult:
        known = ctx.analyses.get(_known)
        if known.complete:
            return PassResult(False, stats={"values": 0})
        inferred = infer_shapes(module.model)
        known.complete = not inferred
        return PassResult(bool(inferred), stats={"values": inferred})


@dataclass
class _Known:
    """Whether inference has nothing more to find; forgotten, as every analysis, when the graph changes."""

    complete: bool = False


def _known(graph: ir.Graph) -> _Known:
    return _Known()
