"""The graph of a model as the report keeps it: what it was, and beside each layer what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import onnx_ir as ir

from irshrink.analyses.dataflow import dataflow
from irshrink.changes import LayerSize, layer_sizes
from irshrink.graph.edit import base_name, is_constant, static_shape
from irshrink.layer_cost import Footprint


def graph_rows(graph: ir.Graph) -> list[dict[str, Any]]:
    """One row a layer, in the graph's order: a node together with what follows it element by element.

    An activation, a reshape and the like, which has no weights and only reads one node that nobody else
    reads, is drawn with that node.

    Returns:
        Rows ``name``, ``nodes``, ``op_types``, ``inputs`` (indices of the rows that it reads),
        ``output_shape`` (None where it is open), ``bytes`` of constants and ``macs`` of an inference.
    """
    sizes, flow = layer_sizes(graph), dataflow(graph)
    rows: list[dict[str, Any]] = []
    row_of: dict[ir.Node, int] = {}
    for node in graph:
        if node.op_type == "Constant":
            continue
        read = [one for one in flow.predecessors(node) if one in row_of]
        index = len(rows)
        if len(read) == 1 and flow.out_degree(read[0]) == 1 and _element_by_element(node, sizes):
            index = row_of[read[0]]
            rows[index]["nodes"].append(base_name(node))
            rows[index]["op_types"].append(node.op_type)
        else:
            rows.append(_row(node, sizes, sorted({row_of[one] for one in read})))
        row_of[node] = index
        rows[index]["output_shape"] = _shape(node)
    return rows


def compared(
    rows: Sequence[Mapping[str, Any]],
    layers: Sequence[Mapping[str, Any]],
    changes: Mapping[str, Any] | None,
    decisions: Sequence[Mapping[str, Any]],
    before: Footprint | None,
) -> list[dict[str, Any]]:
    """The rows with what is left of each layer.

    Args:
        layers, changes: of the report.
        decisions: what passes chose for single layers, ``name`` and ``bits``.
        before: what the model would have taken.
    """
    changed = {row["layer"]: row for row in changes["layers"]} if changes else {}
    decided = {row["name"]: row for row in decisions}
    return [_compared(row, layers, changed, decided, before) for row in rows]


def _compared(
    row: Mapping[str, Any],
    layers: Sequence[Mapping[str, Any]],
    changed: Mapping[str, Mapping[str, Any]],
    decided: Mapping[str, Mapping[str, Any]],
    before: Footprint | None,
) -> dict[str, Any]:
    names = _names(row, changed)
    own = [layer for layer in layers if layer["origin"] and layer["origin"][0] in names]
    steps = [step for name in row["nodes"] if name in changed for step in changed[name]["steps"]]
    bits = next((decided[name].get("bits") for name in names if name in decided), None)
    counted = [layer["instructions"] for layer in own if layer["instructions"] is not None]
    amounts = _before(row, before)
    return {
        "name": row["name"],
        "op_types": row["op_types"],
        "inputs": row["inputs"],
        "output_shape": [row["output_shape"], own[-1]["output_shape"] if own else None],
        "bytes": [row["bytes"], sum(layer["weights_bytes"] for layer in own)],
        "macs": [row["macs"], sum(layer["macs"] for layer in own)],
        "instructions": [amounts, sum(counted) if counted else None],
        "bits": bits,
        "operators": [layer["name"] for layer in own],
        "within": None if own else _within(names, layers),
        "kinds": list(dict.fromkeys(step["kind"] for step in steps if step["kind"])),
        "details": list(dict.fromkeys(step["detail"] for step in steps)),
    }


def _within(names: set[str], layers: Sequence[Mapping[str, Any]]) -> str | None:
    """The operator that computes a layer together with another one."""
    return next((layer["name"] for layer in layers if names & set(layer["origin"])), None)


def _names(row: Mapping[str, Any], changed: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The nodes of a row, or what they became."""
    became = [changed[name]["into"] if name in changed else () for name in row["nodes"]]
    return {*row["nodes"], *(name for names in became for name in names)}


def _before(row: Mapping[str, Any], before: Footprint | None) -> int | None:
    """Predicted instructions of the layer as it was."""
    costs = [] if before is None else [before.layers[name] for name in row["nodes"] if name in before.layers]
    if not costs or costs[0].unit != "instructions":
        return None
    return round(sum(cost.amount for cost in costs))


def _row(node: ir.Node, sizes: Mapping[str, tuple[str, LayerSize]], inputs: list[int]) -> dict[str, Any]:
    name = base_name(node)
    _, size = sizes.get(name, ("", LayerSize()))
    return {
        "name": name,
        "nodes": [name],
        "op_types": [node.op_type],
        "inputs": inputs,
        "bytes": size.bytes,
        "macs": size.macs,
    }


def _element_by_element(node: ir.Node, sizes: Mapping[str, tuple[str, LayerSize]]) -> bool:
    """Whether a node turns each element of its one varying input into one of its output."""
    _, size = sizes.get(base_name(node), ("", LayerSize()))
    varying = [value for value in node.inputs if value is not None and not is_constant(value)]
    if size.macs != 0 or len(varying) != 1 or len(node.outputs) != 1:
        return False
    given, made = static_shape(varying[0]), static_shape(node.outputs[0])
    return given is not None and made is not None and prod(given) == prod(made)


def _shape(node: ir.Node) -> list[int] | None:
    shape = static_shape(node.outputs[0]) if node.outputs else None
    return None if shape is None else list(shape)
