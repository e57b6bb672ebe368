"""Operators that work element by element, and quantization."""

from __future__ import annotations

import onnx_ir as ir

from irshrink.channels.linker import Linker
from irshrink.graph.edit import Refusal, attribute_int, describe, input_of


def along(linker: Linker, node: ir.Node) -> None:
    """The first input's axes are the output's; other inputs are options without channels."""
    value, out = node.inputs[0], node.outputs[0]
    if value is None:
        raise Refusal(f"{describe(node)} reads nothing")
    for axis in range(len(linker.shape(value))):
        linker.give(out, axis, linker.slots(value, axis))


def meeting(linker: Linker, node: ir.Node) -> None:
    """All inputs meet by broadcasting."""
    linker.broadcast(node, [value for value in node.inputs if value is not None], node.outputs[0])


def quantization(linker: Linker, node: ir.Node) -> None:
    """Scales and zero points of an axis go with its channels."""
    value = node.inputs[0]
    if value is None or attribute_int(node, "block_size", 0):
        raise Refusal(f"{describe(node)} has scales by blocks")
    along(linker, node)
    for option in (input_of(node, 1), input_of(node, 2)):
        if option is None or linker.shape(option) in ((), (1,)):
            continue
        axis = attribute_int(node, "axis", 1)
        linker.tie(linker.slots(value, axis), linker.slots(option, 0), linker.reason(node, value))
