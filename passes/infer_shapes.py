"""Shape inference: give every value a type and, where it follows from the inputs, a static shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from irshrink.graph.shapes import infer_shapes
from irshrink.module import Module
from irshrink.pipeline import Context, PassResult


@dataclass(frozen=True)
class InferShapes:
    """ONNX's own shape inference, with the values of small constants propagated."""

    name: ClassVar[str] = "infer-shapes"
    lossy: ClassVar[bool] = False

    def run(self, module: Module, ctx: Context) -> PassResult:
        inferred = infer_shapes(module.model)
        return PassResult(bool(inferred), stats={"values": inferred})
