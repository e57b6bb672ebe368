"""Runs of operators that depend on one value alone: nothing between them is rounded.

``x * clip(x + 3, 0, 6) / 6`` is a function of x, however many nodes write it. Quantized node by node it would
be rounded four times, and take four passes over memory; as one function it is a table.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx_ir as ir

from irshrink.graph.edit import constant
from irshrink.passes.quantize.rules import FUSED_ACTIVATIONS, FUSES_ACTIVATION, POINTS, Rule

#: The value that each output is a function of: itself, unless it is in a run.
Bases = dict[ir.Value, ir.Value]


def inside_runs(nodes: Mapping[ir.Node, Rule]) -> set[ir.Value]:
    """Values inside runs among the quantized nodes: whoever reads one is in the same run."""
    ends: set[ir.Value] = set()
    while True:
        bases = _bases(nodes, ends)
        leaving = {value for value, base in bases.items() if base is not value and _leaves(value, bases)}
        if not leaving:
            return {value for value, base in bases.items() if base is not value and _inside(value, bases)}
        ends |= leaving


def _bases(nodes: Mapping[ir.Node, Rule], ends: Collection[ir.Value]) -> Bases:
    bases: Bases = {}
    for node, rule in nodes.items():
        output = node.outputs[0]
        bases[output] = output
        if node.op_type not in POINTS or output in ends or _is_fused(node, nodes, bases):
            continue
        found: set[ir.Value] = set()
        for value in (node.inputs[i] for i in rule.indices(node)):
            array = constant(value)
            if array is None and value is not None:
                found.add(bases.get(value, value))
            elif array is not None and array.size != 1:
                found.clear()
                break
        if len(found) == 1:
            bases[output] = found.pop()
    return bases


def _is_fused(node: ir.Node, nodes: Mapping[ir.Node, Rule], bases: Bases) -> bool:
    """Whether ``node`` is a clamp that the operator in front computes as well."""
    value = node.inputs[0]
    producer = None if value is None else value.producer()
    if value is None or producer is None or producer not in nodes or node.op_type not in FUSED_ACTIVATIONS:
        return False
    whole = producer.op_type in FUSES_ACTIVATION and bases.get(value) is value
    return whole and len(list(value.consumers())) == 1 and not value.is_graph_output()


def _continues(value: ir.Value, reader: ir.Node, bases: Bases) -> bool:
    return bool(reader.outputs) and bases.get(reader.outputs[0]) is bases[value]


def _leaves(value: ir.Value, bases: Bases) -> bool:
    """Whether some readers, but not all, are in the run."""
    readers = [_continues(value, reader, bases) for reader in value.consumers()]
    return any(readers) and (not all(readers) or value.is_graph_output())


def _inside(value: ir.Value, bases: Bases) -> bool:
    readers = [_continues(value, reader, bases) for reader in value.consumers()]
    return bool(readers) and all(readers) and not value.is_graph_output()
