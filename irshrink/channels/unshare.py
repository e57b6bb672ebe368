"""Give every reader its own bias: equal constants, kept once, would tie layers with nothing in common."""

from __future__ import annotations

import onnx_ir as ir

from irshrink.graph.edit import Names, constant, register_constant


def unshare_vectors(graph: ir.Graph) -> int:
    """Copy constants of one axis for each of their readers; larger ones are tied on purpose and stay so.

    Common subexpressions that are equal afterwards can be merged again.

    Returns:
        How many copies were made.
    """
    names = Names(graph)
    copies = 0
    for value in tuple(graph.initializers.values()):
        array = constant(value)
        if array is None or array.ndim != 1 or value.is_graph_output():
            continue
        for node, index in tuple(value.uses())[1:]:
            own = register_constant(graph, array, names.value(str(value.name)))
            node.replace_input_with(index, own)
            copies += 1
    return copies
