"""Rows of the table of what pruning, low rank and sparsity took away, from what passes recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from irshrink.changes import STATS_KEY
from irshrink.layer_cost import Cost, Footprint
from irshrink.module import PassRecord

Pair = list[Any]


def change_rows(
    history: Sequence[PassRecord],
    before: Footprint | None,
    layers: Sequence[Mapping[str, Any]],
    size: Mapping[str, Any],
    instructions: int | None,
) -> dict[str, Any] | None:
    """The section ``changes`` of a report; None where no pass took anything away.

    Args:
        before: what the model would have taken without those passes.
        layers, size, instructions: of the report, what was built.
    """
    rows = _merged(history)
    if not rows:
        return None
    counted = _by_node(layers)
    for row in rows:
        names = row["into"] or [row["layer"]]
        row["instructions"] = [_amount(before, row["layer"]), _sum(counted, names)]
    return {
        "layers": rows,
        "predicted_error": None if before is None or before.cost is None else before.cost.error,
        "total": {
            "macs": _macs(rows, layers),
            "weights_bytes": [None if before is None else before.weights_bytes, size["weights_bytes"]],
            "code_bytes": [None if before is None else before.code_bytes, size["code_bytes"]],
            "arena_bytes": [None if before is None else before.arena_bytes, size["arena_bytes"]],
            "instructions": [_whole(None if before is None else before.cost), instructions],
        },
    }


def _merged(history: Sequence[PassRecord]) -> list[dict[str, Any]]:
    """One row a layer of the model as it was given: a layer that several passes changed has several steps."""
    rows: dict[str, dict[str, Any]] = {}
    root: dict[str, str] = {}
    for record in history:
        for change in record.stats.get(STATS_KEY, ()):
            first = root.get(change["layer"], change["layer"])
            before, after = change["before"], change["after"]
            row = rows.setdefault(first, _row(first, change))
            row["steps"].append(
                {"pass": record.name, **{k: change[k] for k in ("kind", "detail", "score", "output_error")}}
            )
            if first == change["layer"]:
                row["into"] = list(change["into"])
            else:  # a part of what the layer became
                row["into"] = [n for old in row["into"] for n in _renamed(old, change)]
            for name in ("bytes", "macs", "output_bytes"):
                if before[name] is not None and after[name] is not None and row[name][1] is not None:
                    row[name][1] += after[name] - before[name]
            for name in change["into"]:
                root[name] = first
    return list(rows.values())


def _row(layer: str, change: Mapping[str, Any]) -> dict[str, Any]:
    before = change["before"]
    return {
        "layer": layer,
        "op_type": change["op_type"],
        "into": [],
        "steps": [],
        **{name: [before[name], before[name]] for name in ("bytes", "macs", "output_bytes")},
    }


def _renamed(name: str, change: Mapping[str, Any]) -> list[str]:
    return list(change["into"]) or [name] if name == change["layer"] else [name]


def _by_node(layers: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Instructions by the node that a layer is named after; nothing where they were not counted."""
    found: dict[str, int] = {}
    for layer in layers:
        if layer["instructions"] is not None and layer["origin"]:
            node = layer["origin"][0]
            found[node] = found.get(node, 0) + layer["instructions"]
    return found


def _sum(counted: Mapping[str, int], names: Sequence[str]) -> int | None:
    """Of all nodes that a layer became; 0 where none is left, None where nothing was counted."""
    return sum(counted.get(name, 0) for name in names) if counted else None


def _amount(before: Footprint | None, layer: str) -> int | None:
    return None if before is None else _whole(before.layers.get(layer))


def _whole(cost: Cost | None) -> int | None:
    return round(cost.amount) if cost is not None and cost.unit == "instructions" else None


def _macs(rows: Sequence[Mapping[str, Any]], layers: Sequence[Mapping[str, Any]]) -> Pair:
    """Of the whole model, before and after."""
    after = sum(layer["macs"] for layer in layers)
    return [after + sum(row["macs"][0] - row["macs"][1] for row in rows if None not in row["macs"]), after]
