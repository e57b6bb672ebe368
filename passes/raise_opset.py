"""One form of every operator: old models are raised to a recent operator set.

Up to opset 17 ReduceMean takes its axes as an attribute, from 18 on as an input; Gelu exists from 20 on,
LayerNormalization from 17 on. After this pass all others need to know one form only. The conversion is
ONNX's own version converter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from irshrink.errors import ModelError
from irshrink.graph.edit import opset
from irshrink.graph.opset import raise_opset
from irshrink.module import Module
from irshrink.pipeline import Context, PassResult

#: The first IR version that may declare each operator set (ONNX's version table).
_IR_VERSIONS = {17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11}


@dataclass(frozen=True)
class RaiseOpset:
    """Convert the model to an operator set of at least ``minimum``.

    Attributes:
        minimum: 17 to 23. 20 is the first one with Gelu; ONNX Runtime reads it from 1.17 on.
    """

    minimum: int = 20

    name: ClassVar[str] = "raise-opset"
    lossy: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.minimum not in _IR_VERSIONS:
            raise ValueError(
                f"minimum must be {min(_IR_VERSIONS)} to {max(_IR_VERSIONS)}, not {self.minimum}"
            )

    def run(self, module: Module, ctx: Context) -> PassResult:
        model, before = module.model, opset(module.graph)
        try:
            changed = raise_opset(module, self.minimum)
        except ModelError as e:
            ctx.note(f"stays at opset {before}: {e}")
            return PassResult(False)
        if not changed:
            return PassResult(False)
        model.ir_version = max(model.ir_version, _IR_VERSIONS[self.minimum])
        return PassResult(True, stats={"from": before, "to": self.minimum})
