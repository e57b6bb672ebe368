"""Initializers that are also listed as inputs become constants.

Before IR version 4 every initializer had to be listed as an input. From 4 on that means "a default which the
caller may override" (ONNX IR specification, *Graphs*); exporters still write it (PyTorch's
``keep_initializers_as_inputs``), and nothing could be folded or quantized. A compiled model has its weights
in flash: the defaults are what it computes with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from onnx_ir.passes import common

from irshrink.module import Module
from irshrink.pipeline import Context, PassResult

#: The first IR version in which an initializer need not be an input.
_IR_VERSION = 4


@dataclass(frozen=True)
class RemoveInitializersFromInputs:
    """Take inputs that have a default off the list of inputs; the default becomes a constant."""

    name: ClassVar[str] = "remove-initializers-from-inputs"
    lossy: ClassVar[bool] = False

    def run(self, module: Module, ctx: Context) -> PassResult:
        model, before = module.model, module.model.ir_version
        names = [str(value.name) for value in module.graph.inputs if value.is_initializer()]
        common.RemoveInitializersFromInputsPass()(model)
        model.ir_version = max(before, _IR_VERSION)
        if names and before >= _IR_VERSION:
            shown = ", ".join(f"'{name}'" for name in names[:5]) + (", ..." if len(names) > 5 else "")
            ctx.note(f"inputs with a default value became constants: {shown}")
        return PassResult(bool(names) or before < _IR_VERSION, stats={"inputs": len(names)})
