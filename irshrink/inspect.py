"""What is in a model, and what a target would make of it: ``irshrink inspect``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir

from irshrink.analyses.cost import graph_macs, graph_parameters
from irshrink.console import count, plural, table
from irshrink.errors import ModelError
from irshrink.frontends.read import read_model
from irshrink.graph.shapes import infer_shapes
from irshrink.module import Module
from irshrink.passes.cleanup import cleanup_steps
from irshrink.pipeline import Pipeline
from irshrink.program.lower import lower, unsupported
from irshrink.registry import backend_for, make_pass
from irshrink.report.layers import float_lines, layer_rows
from irshrink.samples import input_specs
from irshrink.samples.random import random_samples
from irshrink.soundness import require_sound
from irshrink.static_shapes import fix_input_shapes
from irshrink.target import Target, load_target


def inspect_model(
    path: Path,
    *,
    target: str | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    frontend: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Facts about a model as plain data.

    Args:
        target: name of a target or board; its view of the model is added under ``target``.
        shapes: static shapes of inputs.
        frontend: options of the format that the model comes in (docs/frontends.md).

    Raises:
        ModelError: the file cannot be read, or ``target`` is given and a shape is open.
        TargetError: no such target.
    """
    hardware = None if target is None else load_target(target)
    module, imported = read_model(path, frontend)
    notes = _fix_shapes(module, shapes or {}, required=hardware is not None)
    require_sound(module)
    infer_shapes(module.model)
    facts = {**_model_facts(path, module), "format": imported.frontend.title, "notes": notes}
    if hardware is not None:
        facts["target"] = _view(module, hardware)
    return facts


def render(facts: Mapping[str, Any]) -> str:
    """The facts for the terminal."""
    lines = [
        f"{facts['name']}: {plural(facts['nodes'], 'node')}, {plural(facts['parameters'], 'parameter')}, "
        f"{_macs(facts['macs'])}, opset {facts['opset']}"
    ]
    lines += [f"  input   {_port(port)}" for port in facts["inputs"]]
    lines += [f"  output  {_port(port)}" for port in facts["outputs"]]
    lines += [f"  note: {note}" for note in facts["notes"]]
    rows = [(o["op"], str(o["count"]), count(o["macs"]) if o["macs"] else "") for o in facts["operators"]]
    lines += ["", table(rows, ("operator", "nodes", "MACs"))]
    if "target" in facts:
        lines += ["", *_render_view(facts["target"])]
    return "\n".join(lines)


def _fix_shapes(module: Module, shapes: Mapping[str, Sequence[int]], *, required: bool) -> list[str]:
    try:
        return fix_input_shapes(module, shapes)
    except ModelError as e:
        if required:
            raise
        return [str(e)]


def _model_facts(path: Path, module: Module) -> dict[str, Any]:
    graph = module.graph
    macs = graph_macs(graph)
    by_op: dict[str, list[int | None]] = {}
    for node, number in macs.items():
        by_op.setdefault(node.op_type, []).append(number)
    return {
        "name": path.name,
        "opset": graph.opset_imports.get(""),
        "producer": module.model.producer_name or None,
        "nodes": len(graph),
        "parameters": graph_parameters(graph),
        "macs": _total(list(macs.values())),
        "inputs": [_value(v) for v in graph.inputs if v.name not in graph.initializers],
        "outputs": [_value(v) for v in graph.outputs],
        "operators": [
            {"op": op, "count": number, "macs": _total(by_op.get(op, [0]))}
            for op, number in sorted(Counter(_op_name(node) for node in graph).items(), key=_by_count)
        ],
    }


def _view(module: Module, target: Target) -> dict[str, Any]:
    """What would run in integers, in float, or not at all.

    The model goes through the same passes as in a compilation, quantized on made-up samples where it is not
    quantized already: which kernel runs a node depends on the graph, not on the scales.
    """
    Pipeline(cleanup_steps()).run(module, target)
    refused = unsupported(module)
    view: dict[str, Any] = {
        "name": target.board or target.name,
        "nodes_after_cleanup": len(module.graph),
        "integer": [],
        "float": [],
        "unsupported": [
            {"node": r.node, "op": r.op_type, "reason": r.reason, "advice": r.advice} for r in refused
        ],
    }
    if refused:
        return view
    steps = backend_for(target).legalize(target)
    if not any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in module.graph):
        module.calibration = random_samples(input_specs(module.graph), 2)
        steps = [make_pass("quantize-int8"), *steps]
    Pipeline(steps).run(module, target)
    program = lower(module)
    for layer in layer_rows(program, {}, {}):
        row = {key: layer[key] for key in ("name", "op", "origin", "macs", "why_float")}
        view["float" if layer["dtype"] == "float32" else "integer"].append(row)
    return view


def _render_view(view: Mapping[str, Any]) -> list[str]:
    refused = view["unsupported"]
    lines = [f"on {view['name']}, {plural(view['nodes_after_cleanup'], 'node')} after cleanup:"]
    if refused:
        have = "has" if len(refused) == 1 else "have"
        lines.append(f"  cannot be compiled: {plural(len(refused), 'node')} {have} no kernel")
        return lines + [f"    {r['op']} '{r['node']}': {r['reason']}. {r['advice']}" for r in refused]
    whole = sum(row["macs"] for part in ("integer", "float") for row in view[part])
    for part in ("integer", "float"):
        macs = sum(row["macs"] for row in view[part])
        share = f", {100 * macs / whole:.1f} % of the {whole:,} MACs" if whole else ""
        lines.append(f"  {part}: {plural(len(view[part]), 'layer')}{share}")
    return [*lines, *(f"    {line}" for line in float_lines(view["float"]))]


def _macs(number: int | None) -> str:
    if number is None:
        return "multiply-accumulates not known before cleanup"
    return plural(number, "multiply-accumulate")


def _value(value: ir.Value) -> dict[str, Any]:
    dims = None
    if value.shape is not None:
        dims = [d if isinstance(d, int) else d.value for d in value.shape]
    return {
        "name": value.name,
        "dtype": None if value.dtype is None else value.dtype.numpy().name,
        "shape": dims,
    }


def _port(port: Mapping[str, Any]) -> str:
    dims = (
        "unknown" if port["shape"] is None else ", ".join("?" if d is None else str(d) for d in port["shape"])
    )
    return f"{port['name']}: {port['dtype']} [{dims}]"


def _op_name(node: ir.Node) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type


def _by_count(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]


def _total(numbers: Sequence[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None
