"""Whether a Dropout drops anything."""

from __future__ import annotations

import onnx_ir as ir

from irshrink.graph.edit import input_of, scalar


def training_mode(node: ir.Node) -> bool | None:
    """Whether a Dropout trains, which it does not when nothing is said; None where that is computed.

    Its third input says it since opset 12; older ones never train in an inference.
    """
    flag = input_of(node, 2)
    if flag is None:
        return False
    number = scalar(flag)
    return None if number is None else number != 0
