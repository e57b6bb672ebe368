"""LSTM, GRU, RNN: a hidden unit is a row of every gate and a column of the recurrent weights."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from irshrink.channels.linker import Linker
from irshrink.graph.edit import Refusal, attribute_int, describe, input_of

#: How many gates the weights of an operator stack.
GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}


def recurrent(linker: Linker, node: ir.Node) -> None:
    """X ``[T, N, I]``, W ``[D, gates * H, I]``, R ``[D, gates * H, H]``, B ``[D, 2 * gates * H]``.

    Both directions of a bidirectional operator have one number of units and give up the same ones.
    """
    value, weight, recurrence = node.inputs[0], node.inputs[1], node.inputs[2]
    if value is None or weight is None or recurrence is None or attribute_int(node, "layout", 0):
        raise Refusal(f"{describe(node)} has its batch first")
    for axis in (0, 1):
        linker.block(linker.slots(value, axis), f"{describe(node)} goes along it")
    gates = GATES[node.op_type]
    columns = linker.slots(value, 2)
    linker.tie(linker.slots(weight, 2), columns, linker.reason(node, value))
    linker.read(node, columns)
    units = linker.slots(recurrence, 2)
    if units is None:
        raise Refusal(f"the weights of {describe(node)} are not constant")
    for option, axis, times in (
        (weight, 1, gates),
        (recurrence, 1, gates),
        (input_of(node, 3), 1, 2 * gates),
        (input_of(node, 5), 2, 1),
        (input_of(node, 6), 2, 1),
        (input_of(node, 7), 1, 3),
    ):
        if option is not None:
            reason = linker.reason(node, option)
            linker.tie(np.tile(units, times), linker.slots(option, axis), reason)
    for out, axis in zip(node.outputs, (3, 2, 2), strict=False):
        if out.name:
            linker.give(out, axis, units)
    linker.write(node, units)
