"""DepthToSpace and SpaceToDepth: views, no byte moves by itself."""

from __future__ import annotations

import onnx_ir as ir

from irshrink.graph import edit
from irshrink.program.lower.lowering import Lowering
from irshrink.program.lower.refusal import Refusal


def depth_to_space(lowering: Lowering, node: ir.Node) -> None:
    """Channels (block row, block column, c), or in mode CRD (c, block row, block column), into pixels."""
    x, block = lowering.view(node.inputs[0]), edit.attribute_int(node, "blocksize", 1)
    n, c, height, width = x.shape
    if c % (block * block):
        raise Refusal(
            f"{c} channels are no whole blocks of {block}", "The model is damaged; export it again."
        )
    inner = c // (block * block)
    if edit.attribute_string(node, "mode", "DCR") == "CRD":
        split, order = (n, inner, block, block, height, width), (0, 1, 4, 2, 5, 3)
    else:
        split, order = (n, block, block, inner, height, width), (0, 3, 4, 1, 5, 2)
    mixed = lowering.builder.view_as(x, split).transposed(order)
    lowering.bind(node.outputs[0], lowering.builder.view_as(mixed, (n, inner, height * block, width * block)))


def space_to_depth(lowering: Lowering, node: ir.Node) -> None:
    """Pixels into channels (block row, block column, c), or in mode CRD (c, block row, block column)."""
    x, block = lowering.view(node.inputs[0]), edit.attribute_int(node, "blocksize", 1)
    n, c, height, width = x.shape
    if height % block or width % block:
        raise Refusal(f"{height}x{width} are no whole blocks of {block}", "Pad the image.")
    split = lowering.builder.view_as(x, (n, c, height // block, block, width // block, block))
    crd = edit.attribute_string(node, "mode", "DCR") == "CRD"
    mixed = split.transposed((0, 1, 3, 5, 2, 4) if crd else (0, 3, 5, 1, 2, 4))
    shape = (n, c * block * block, height // block, width // block)
    lowering.bind(node.outputs[0], lowering.builder.view_as(mixed, shape))
