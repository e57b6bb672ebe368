"""How two models differ, in structure and in numbers: ``irshrink diff``."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from irshrink import onnxrt
from irshrink.analyses.cost import graph_macs, graph_parameters
from irshrink.class_names import score_names
from irshrink.console import count, plural, table
from irshrink.errors import ModelError
from irshrink.frontends.read import read_model
from irshrink.graph.edit import base_name, constant, static_shape
from irshrink.graph.quantized import quantization_of
from irshrink.graph.shapes import infer_shapes
from irshrink.graph.text import model_text
from irshrink.module import Module
from irshrink.samples import InputSpec, Reading, input_specs, load_samples
from irshrink.samples.random import Range, random_samples
from irshrink.soundness import require_sound
from irshrink.static_shapes import fix_input_shapes

#: Layers that the terminal lists.
_MOST_LAYERS = 20

Array = np.ndarray[Any, np.dtype[Any]]


def diff_models(
    a: Path,
    b: Path,
    *,
    data: Path | None = None,
    reading: Reading | None = None,
    samples: int = 8,
    seed: int = 0,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, Any]:
    """Compare two models: structure, and outputs where both take and give the same.

    Args:
        data: samples to run both on. When not given, random ones: in the range that a model quantizes an
            input to, if one does, else standard normal.
        reading: what is declared about the data.
        samples: how many.
        shapes: static shapes of inputs.

    Returns:
        Plain data: ``equal_files``, counts of operators and weights, ``layers`` that multiply and differ in
        their sizes or in how many weights are zero, by name, ``text`` (a unified diff, weights as
        digests), and for every output the differences, relative to the largest value of ``a``; or none, and
        the reason in ``not_compared``.

    Raises:
        ModelError: a file cannot be read or run.
        SamplesError: the data does not fit.
    """
    (left, of_left), (right, of_right) = read_model(a), read_model(b)
    for module in (left, right):
        fix_input_shapes(module, shapes or {})
        require_sound(module)
    obstacle = _obstacle(left, right)
    return {
        "a": str(a),
        "b": str(b),
        "equal_files": of_left.sha256 == of_right.sha256,
        "operators": _operators(left, right),
        "parameters": [graph_parameters(module.graph) for module in (left, right)],
        "bytes": [sum(f.stat().st_size for f in of.files) for of in (of_left, of_right)],
        "layers": _layers(left, right),
        "text": _text(left, right),
        "outputs": _numbers(left, right, data, reading, samples, seed) if obstacle is None else [],
        "not_compared": obstacle,
        "samples": str(data) if data else _made_up(left, right, seed),
    }


def render(result: Mapping[str, Any], *, with_text: bool) -> str:
    """The comparison for the terminal."""
    if result["equal_files"]:
        return f"{result['a']} and {result['b']} are the same file, byte for byte"
    lines = [f"a: {result['a']}", f"b: {result['b']}", ""]
    rows = [[o["op"], str(o["a"]), str(o["b"]), _change(o["a"], o["b"])] for o in result["operators"]]
    for name in ("parameters", "bytes"):
        rows.append([name, *(count(number) for number in result[name]), ""])
    lines.append(table(rows, ("", "a", "b", "")))
    lines += _layer_lines(result["layers"])
    if with_text and result["text"]:
        lines += ["", *result["text"]]
    if result["not_compared"]:
        return "\n".join([*lines, "", f"outputs were not compared: {result['not_compared']}"])
    number = plural(result["outputs"][0]["samples"], "sample")
    lines += ["", f"outputs on {number} ({result['samples']}):"]
    for output in result["outputs"]:
        lines.append(f"  {output['name']}: {_sentence(output)}")
    return "\n".join(lines)


def _change(a: int, b: int) -> str:
    return f"{b - a:+d}" if a != b else ""


def _operators(a: Module, b: Module) -> list[dict[str, Any]]:
    counts = [Counter(node.op_type for node in module.graph) for module in (a, b)]
    return [{"op": op, "a": counts[0][op], "b": counts[1][op]} for op in sorted({*counts[0], *counts[1]})]


def _layers(a: Module, b: Module) -> list[dict[str, Any]]:
    """Layers that only one model has, or that are of another size there; null for what there is not."""
    left, right = _sizes(a), _sizes(b)
    return [
        {"layer": name, "a": left.get(name), "b": right.get(name)}
        for name in dict.fromkeys([*left, *right])
        if left.get(name) != right.get(name)
    ]


def _sizes(module: Module) -> dict[str, dict[str, Any]]:
    """What multiplies, by the name of the node."""
    copy, found = module.clone(), {}
    infer_shapes(copy.model)
    for node, macs in graph_macs(copy.graph).items():
        held = [array for value in node.inputs if (array := constant(value)) is not None]
        weights = max(held, key=lambda array: array.size, default=None)
        found[base_name(node)] = {
            "op_type": node.op_type,
            "macs": macs,
            "output_shape": list(static_shape(node.outputs[0]) or ()),
            "zeros": 0 if weights is None else int(weights.size - np.count_nonzero(weights)),
        }
    return found


def _layer_lines(layers: Sequence[Mapping[str, Any]]) -> list[str]:
    """The layers that differ, the first of them by name."""
    if not layers:
        return []
    rows = []
    for row in layers[:_MOST_LAYERS]:
        a, b = row["a"], row["b"]
        shapes = [_dims(one["output_shape"]) if one else "none" for one in (a, b)]
        macs = [count(one["macs"]) if one else "0" for one in (a, b)]
        zeros = [count(one["zeros"]) if one else "0" for one in (a, b)]
        rows.append([row["layer"], *(_pair(*pair) for pair in (shapes, macs, zeros))])
    more = len(layers) - len(rows)
    told = table(rows, ("layer", "output", "MACs", "zero weights"))
    return ["", told, *([f"and {more} more, see --json"] if more else [])]


def _pair(a: str, b: str) -> str:
    return a if a == b else f"{a} -> {b}"


def _dims(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _text(a: Module, b: Module) -> list[str]:
    before, after = (model_text(module.model).splitlines() for module in (a, b))
    return list(difflib.unified_diff(before, after, "a", "b", lineterm="", n=2))


def _obstacle(a: Module, b: Module) -> str | None:
    """Why outputs cannot be compared: what one model takes or gives and the other does not."""
    inputs = [[_port(spec) for spec in input_specs(module.graph)] for module in (a, b)]
    if inputs[0] != inputs[1]:
        return f"a takes {', '.join(inputs[0])}; b takes {', '.join(inputs[1])}"
    outputs = [[str(value.name) for value in module.graph.outputs] for module in (a, b)]
    if outputs[0] != outputs[1]:
        return f"a gives {', '.join(outputs[0])}; b gives {', '.join(outputs[1])}"
    return None


def _port(spec: InputSpec) -> str:
    return f"{spec.name}: {spec.dtype} {list(spec.shape)}"


def _numbers(
    a: Module, b: Module, data: Path | None, reading: Reading | None, samples: int, seed: int
) -> list[dict[str, Any]]:
    specs = input_specs(a.graph)
    names = [str(value.name) for value in a.graph.outputs]
    if data is None:
        within = {name: limits for name, (_, limits) in _ranges(a, b).items()}
        feeds = list(random_samples(specs, samples, seed, within).feeds())
    else:
        known, declared = score_names(a.model), reading or Reading()
        given = load_samples(data, specs, **declared, role="evaluation", class_names=known)
        feeds = list(given.head(samples).feeds())
    sessions = [onnxrt.session(module.model) for module in (a, b)]
    results = [[onnxrt.run(session, feed) for feed in feeds] for session in sessions]
    return [_output(name, (r[name] for r in results[0]), (r[name] for r in results[1])) for name in names]


def _ranges(a: Module, b: Module) -> dict[str, tuple[str, Range]]:
    """For each real input that a model quantizes itself, which one does and the range that it can hold."""
    found: dict[str, tuple[str, Range]] = {}
    for label, module in (("a", a), ("b", b)):
        for value in module.graph.inputs:
            held = quantization_of(value)
            if held is not None and value.name and value.name not in module.graph.initializers:
                found.setdefault(value.name, (label, held.range))
    return found


def _made_up(a: Module, b: Module, seed: int) -> str:
    """What random samples hold, in words."""
    ranges = _ranges(a, b)
    parts = [
        f"'{name}' uniform from {low:.4g} to {high:.4g}, the range that {label} quantizes it to"
        for name, (label, (low, high)) in ranges.items()
    ]
    if any(value.name not in ranges for value in a.graph.inputs):
        parts.append("standard normal, which real inputs may not be: give them with --input")
    return f"random, seed {seed}: {'; '.join(parts)}"


def _output(name: str, left: Iterable[Array], right: Iterable[Array]) -> dict[str, Any]:
    pairs = [(np.asarray(x, np.float64), np.asarray(y, np.float64)) for x, y in zip(left, right, strict=True)]
    for x, y in pairs:
        if x.shape != y.shape:
            raise ModelError(
                f"output '{name}' has the shape {list(x.shape)} in one, {list(y.shape)} in the other."
            )
    worst = max(float(np.abs(x - y).max(initial=0)) for x, y in pairs)
    largest = max(float(np.abs(x).max(initial=0)) for x, _ in pairs)
    same = sum(int(np.argmax(x)) == int(np.argmax(y)) for x, y in pairs)
    return {
        "name": name,
        "samples": len(pairs),
        "max_abs_difference": worst,
        "max_abs_value": largest,
        "same_largest": same,
    }


def _sentence(output: Mapping[str, Any]) -> str:
    if output["max_abs_difference"] == 0:
        return "equal"
    share = (
        f" ({100 * output['max_abs_difference'] / output['max_abs_value']:.3g} % of the largest value)"
        if output["max_abs_value"]
        else ""
    )
    of = plural(output["samples"], "sample")
    return (
        f"largest difference {output['max_abs_difference']:.4g}{share}; "
        f"the largest element is the same one in {output['same_largest']} of {of}"
    )
