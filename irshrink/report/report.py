"""The report of a build as plain data; ``schema.json`` says what is in it and what it means.

It holds no path, clock or host name: the same model, data and recipe give the same bytes anywhere. Wall-clock
seconds are the one thing that cannot be so; they are null unless asked for (docs/decisions/0004-timings.md).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from irshrink import __version__
from irshrink.agreement import OutputScore
from irshrink.backend import Artifact, MemoryPlan, RunResult
from irshrink.changes import STATS_KEY
from irshrink.errors import InternalError
from irshrink.files import write_text
from irshrink.layer_cost import Footprint
from irshrink.module import PassRecord
from irshrink.program.program import Port, Program
from irshrink.report.changes import change_rows
from irshrink.report.graph import compared
from irshrink.report.layers import layer_rows, quantization
from irshrink.target import Target

REPORT_NAME = "report.json"
PAGE_NAME = "report.html"


@dataclass(frozen=True)
class ModelFacts:
    """The model as the user gave it, and as ONNX.

    Attributes:
        name: file name without folder and suffix.
        nbytes: size of its files, external data included.
        parameters: number of weights.
        nodes: number of nodes.
        format: what it came as.
        converter: versions of what turned it into ONNX, by distribution.
    """

    name: str
    sha256: str
    nbytes: int
    parameters: int
    nodes: int
    format: str = "ONNX"
    converter: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class AccuracyFacts:
    """Accuracy before and after.

    Attributes:
        metric: its name in :mod:`irshrink.metrics.table`, or the user's ``file.py:function``.
        title: what people call it.
        share: whether it is a fraction, shown as a percentage.
        samples: how many were scored.
        source: which data they came from.
        max_drop: the accepted drop, None when there was no budget.
        relative_drop: whether that is a fraction of the original's accuracy.
        outputs: every output beside the float model's.
    """

    metric: str
    original: float
    compiled: float
    samples: int
    title: str = ""
    share: bool = True
    source: Literal["eval", "calibration"] = "eval"
    max_drop: float | None = None
    relative_drop: bool = False
    outputs: tuple[OutputScore, ...] = ()


@dataclass(frozen=True)
class DataFacts:
    """A set of samples: how many and the digest of their content."""

    samples: int
    sha256: str


@dataclass(frozen=True)
class VariantFacts:
    """The model on one set of input shapes.

    Attributes:
        name: the word for it in C names; None where there is only one set.
        run: the test vector on the target, its emulator or the host; ``run_inputs`` inferences, of whose
            output bytes ``mismatched_bytes`` differ from the reference (of ``compared_bytes``). None where
            this machine cannot run the build: ``why_not_run`` says why and what to install.
        compressed_sha256, compressed_bytes, compressed_nodes: of its ONNX model in the build.
    """

    name: str | None
    artifact: Artifact
    run: RunResult | None
    run_inputs: int
    mismatched_bytes: int
    compared_bytes: int
    compressed_sha256: str
    compressed_bytes: int
    compressed_nodes: int
    why_not_run: str | None = None

    @property
    def program(self) -> Program:
        return self.artifact.program


@dataclass(frozen=True)
class BuildFacts:
    """Everything a report is made from.

    Attributes:
        history: the passes that ran, in order (on the first variant).
        variants: at least one.
        accuracy: None when there was no data to measure with.
        data: by role, ``calibration`` and ``eval``.
        notes: sentences that the user should read.
        recipe: the resolved recipe without paths.
        before: what the model would have taken without the passes that took something away from it.
        graph: the model as it was, by :func:`irshrink.report.graph.graph_rows`.
        plan: how the recipe was found, an :class:`irshrink.planning.plan.Plan` as plain data; None where
            nothing was searched.
        latency: seconds of an inference on this machine, where that is a budget.
    """

    model: ModelFacts
    target: Target
    history: Sequence[PassRecord]
    variants: Sequence[VariantFacts]
    accuracy: AccuracyFacts | None = None
    data: Mapping[str, DataFacts] = field(default_factory=dict)
    notes: Sequence[str] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    before: Footprint | None = None
    graph: Sequence[Mapping[str, Any]] = ()
    plan: Mapping[str, Any] | None = None
    latency: float | None = None


def build_report(facts: BuildFacts) -> dict[str, Any]:
    """The report, seconds included; :func:`write_report` decides what of it is written."""
    first = facts.variants[0]
    layers, choices = _layers(first), first.artifact.choices
    told = [note for v in facts.variants for note in (*v.program.notes, *v.artifact.notes)]
    size, emulation = _size(facts), _emulation(facts, facts.variants)
    changes = change_rows(facts.history, facts.before, layers, size, emulation["instructions"])
    report = {
        "format": 1,
        "irshrink": __version__,
        "target": facts.target.name,
        "board": facts.target.board,
        "hardware": _hardware(facts.target),
        "model": _model(facts.model, first, layers),
        "size": size,
        "emulation": emulation,
        "latency_seconds": facts.latency,
        "choices": None if choices is None else dataclasses.asdict(choices),
        "accuracy": _accuracy(facts.accuracy),
        "data": {role: {"samples": d.samples, "sha256": d.sha256} for role, d in sorted(facts.data.items())},
        "layers": layers,
        "arena": _arena(first.artifact.plan),
        "variants": [_variant(facts, v) for v in facts.variants] if len(facts.variants) > 1 else [],
        "changes": changes,
        "graph": compared(facts.graph, layers, changes, _decisions(facts), facts.before),
        "plan": facts.plan,
        "passes": [_pass(record) for record in facts.history],
        "notes": list(dict.fromkeys([*told, *facts.notes])),
        "recipe": dict(facts.recipe),
    }
    plain: dict[str, Any] = _plain(report)
    return plain


def write_report(report: dict[str, Any], folder: Path, *, timings: bool = False) -> None:
    """Write ``report.json`` and ``report.html`` into a build.

    Args:
        timings: keep the seconds of passes; two builds then differ.

    Raises:
        OutputError: the folder cannot be written.
    """
    from irshrink.report.page import render_page

    written = report if timings else without_seconds(report)
    text = json.dumps(written, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(folder / REPORT_NAME, text + "\n")
    write_text(folder / PAGE_NAME, render_page(written))


def without_seconds(report: dict[str, Any]) -> dict[str, Any]:
    """The report with null in place of wall-clock seconds."""
    passes = [{**record, "seconds": None} for record in report["passes"]]
    return {**report, "latency_seconds": None, "passes": passes}


def _hardware(target: Target) -> dict[str, Any]:
    return {
        "target": msgspec.to_builtins(target, order="deterministic"),
        "flash_limit_bytes": target.flash_bytes,
        "ram_limit_bytes": target.ram_bytes,
    }


def _layers(variant: VariantFacts) -> list[dict[str, Any]]:
    costs = {cost.op: cost for cost in variant.artifact.costs}
    return layer_rows(variant.program, costs, variant.run.op_instructions if variant.run else {})


def _variant(facts: BuildFacts, variant: VariantFacts) -> dict[str, Any]:
    """A section of its own for one of several variants."""
    artifact, layers = variant.artifact, _layers(variant)
    return {
        "name": variant.name,
        "symbol": artifact.names.symbols[artifact.variant],
        **_graph(variant, layers),
        "arena_bytes": artifact.plan.nbytes,
        "arena_lower_bound_bytes": artifact.plan.lower_bound,
        "stack_bytes": variant.run.stack_bytes if variant.run else None,
        "emulation": _emulation(facts, [variant]),
        "layers": layers,
        "arena": _arena(artifact.plan),
    }


def _model(model: ModelFacts, first: VariantFacts, layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "name": model.name,
        "format": model.format,
        "converter": dict(sorted(model.converter.items())),
        "sha256": model.sha256,
        "bytes": model.nbytes,
        "parameters": model.parameters,
        "nodes": model.nodes,
        **_graph(first, layers),
    }


def _graph(variant: VariantFacts, layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    program = variant.program
    return {
        "macs": sum(layer["macs"] for layer in layers),
        "compressed_sha256": variant.compressed_sha256,
        "compressed_bytes": variant.compressed_bytes,
        "compressed_nodes": variant.compressed_nodes,
        "inputs": [_port(program, port) for port in program.inputs],
        "outputs": [_port(program, port) for port in program.outputs],
    }


def _port(program: Program, port: Port) -> dict[str, Any]:
    tensor = program.tensors[port.tensor]
    return {
        "name": port.name,
        "shape": list(port.shape),
        "dtype": tensor.dtype,
        "quantization": quantization(tensor.quantization),
    }


def _size(facts: BuildFacts) -> dict[str, Any]:
    """Of the whole build; of several variants the arena and the stack that are largest."""
    artifact = facts.variants[0].artifact
    plan = max((v.artifact.plan for v in facts.variants), key=lambda plan: plan.nbytes)
    stacks = [v.run.stack_bytes for v in facts.variants if v.run and v.run.stack_bytes is not None]
    return {
        "flash_bytes": artifact.flash_bytes,
        "weights_bytes": artifact.weights_bytes,
        "code_bytes": artifact.code_bytes,
        "ram_bytes": artifact.ram_bytes,
        "arena_bytes": plan.nbytes,
        "arena_lower_bound_bytes": plan.lower_bound,
        "stack_bytes": max(stacks) if stacks else None,
        "float_weights_bytes": facts.model.parameters * 4,
    }


def _emulation(facts: BuildFacts, variants: Sequence[VariantFacts]) -> dict[str, Any]:
    """Everything that some variants ran; the instructions are those of the first."""
    first = variants[0]
    return {
        "native": facts.target.emulation is None or (first.run is not None and first.run.native),
        "why_not_run": first.why_not_run,
        "instructions": first.run.instructions if first.run else None,
        "inputs": sum(v.run_inputs for v in variants),
        "compared_bytes": sum(v.compared_bytes for v in variants),
        "mismatched_bytes": sum(v.mismatched_bytes for v in variants),
    }


def _accuracy(accuracy: AccuracyFacts | None) -> dict[str, Any]:
    if accuracy is None:
        nothing = dict.fromkeys(("metric", "title", "original", "compiled", "samples", "source", "max_drop"))
        return {**nothing, "share": True, "relative_drop": False, "outputs": []}
    return {
        "metric": accuracy.metric,
        "title": accuracy.title,
        "share": accuracy.share,
        "original": accuracy.original,
        "compiled": accuracy.compiled,
        "samples": accuracy.samples,
        "source": accuracy.source,
        "max_drop": accuracy.max_drop,
        "relative_drop": accuracy.relative_drop,
        "outputs": [dataclasses.asdict(output) for output in accuracy.outputs],
    }


def _decisions(facts: BuildFacts) -> list[Mapping[str, Any]]:
    """What passes chose for single layers; a later one has the last word."""
    return [row for record in facts.history for row in record.stats.get("layer_decisions", ())]


def _arena(plan: MemoryPlan) -> list[dict[str, Any]]:
    return [
        {
            "name": s.name,
            "offset": s.offset,
            "bytes": s.nbytes,
            "first": s.first,
            "last": s.last,
            "rows": s.rows,
        }
        for s in plan.slots
    ]


def _pass(record: PassRecord) -> dict[str, Any]:
    return {
        "name": record.name,
        "changed": record.changed,
        "seconds": round(record.seconds, 6),
        "options": record.options,
        "stats": {name: value for name, value in record.stats.items() if name != STATS_KEY},
        "notes": list(record.notes),
    }


def _plain(value: Any) -> Any:
    """JSON's own types: options and statistics of passes may hold tuples, sets, NumPy numbers, infinities.

    Raises:
        InternalError: anything else.
    """
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((_plain(item) for item in value), key=str)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise InternalError(f"a pass put a {type(value).__name__} into its options or statistics.")
