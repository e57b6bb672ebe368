"""Model-local functions become plain nodes: what an exporter packed away, passes and backends can see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from onnx_ir.passes import common

from irshrink.errors import ModelError
from irshrink.graph.shapes import check_proto, proto_without_weights
from irshrink.module import Module
from irshrink.pipeline import Context, PassResult


@dataclass(frozen=True)
class InlineFunctions:
    """Replace every call of a model-local function by its body."""

    name: ClassVar[str] = "inline-functions"
    lossy: ClassVar[bool] = False

    def run(self, module: Module, ctx: Context) -> PassResult:
        functions = len(module.model.functions)
        if not functions:
            return PassResult(False)
        try:
            common.InlinePass()(module.model)
        except ValueError as e:
            raise ModelError(f"its functions cannot be inlined: {e}. Export it without functions.") from e
        module.model.functions.clear()
        _check_bodies(module)
        return PassResult(True, stats={"functions": functions})


def _check_bodies(module: Module) -> None:
    """ONNX's checker looks less closely into functions: what it let pass is a fault of the file."""
    try:
        check_proto(proto_without_weights(module.model))
    except ModelError as e:
        raise ModelError(f"a function of the model is not valid ONNX: {e}. Export it again.") from e
