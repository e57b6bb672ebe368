"""Cast and CastLike."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from irshrink.program import elements
from irshrink.program.lower.fitting import data_type
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.refusal import Refusal
from irshrink.program.lower.rules.quantization import read_as
from irshrink.program.lower.view import View
from irshrink.program.ops import Cast


def cast(lowering: Lowering, node: ir.Node) -> None:
    target = data_type(node, "to", 1)
    _bind_cast(lowering, node, target)


def cast_like(lowering: Lowering, node: ir.Node) -> None:
    target = node.inputs[1].dtype if node.inputs[1] is not None else None
    if target is None:
        raise Refusal("the type that it casts to is not known", "Use Cast.")
    _bind_cast(lowering, node, target)


def _bind_cast(lowering: Lowering, node: ir.Node, target: ir.DataType) -> None:
    element = target.name.lower() if target == ir.DataType.BFLOAT16 else target.numpy().name
    if element not in elements.STORAGE:
        raise Refusal(f"it casts to {target.name}", "Only numbers and truth values run on the target.")
    if elements.is_real(element) and element != "float32":
        lowering.note_width(element)
    lowering.bind(node.outputs[0], converted(lowering, node, lowering.view(node.inputs[0]), element))


def converted(lowering: Lowering, node: ir.Node, x: View, element: str) -> View:
    """The value in another ONNX type; nothing runs where it is stored in the same way."""
    held = None if x.stored is None else elements.codes(x.stored)
    if elements.is_real(element) and (x.stored is None or held is not None):
        return x if held is None else read_as(lowering, x, held)
    if x.stored is None:
        x = lowering.builder.as_float(x)
    if x.stored is not None and _keeps_bits(x.stored, element):
        return replace(x, stored=element)
    low, high = (0, 0) if elements.is_real(element) else elements.limits(element)
    wanted = elements.codes(element)
    tensor = lowering.emit(
        Cast, node, [x.tensor], lowering.builder.shape(x.tensor), dtype=elements.STORAGE[element],
        quantization=wanted, low=low, high=high, input_zero_point=0 if held is None else held.zero_point,
        output_zero_point=0 if wanted is None else wanted.zero_point,
    )  # fmt: skip
    return View(tensor, x.axes, None if elements.is_real(element) else element)


def _keeps_bits(source: str, target: str) -> bool:
    """Both in the same storage, and the target type holds all that the source can (modulo 2**32)."""
    if elements.STORAGE[source] != elements.STORAGE[target]:
        return False
    return source == target or target in ("int32", "uint32", "int64", "uint64")
